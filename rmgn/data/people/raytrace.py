"""Ray casting with embree: what each subpixel sees, layer behind layer, and the light that reaches it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from rmgn.data.people.camera import Camera
from rmgn.data.people.light import Lights
from rmgn.data.people.mesh import Ints, vertex_normals

F32 = npt.NDArray[np.float32]

GARMENT, SKIN, HAIR, LOWER, OTHER = range(5)  # materials
CLOTH_SHINE = 0.2  # of OTHER, which mirrors as glasses and leather do: what is cloth of it
# Light wraps around hair strands and, a little, around skin and cloth: (red, green, blue) for each material.
_WRAP = np.array(
    [[0.12, 0.12, 0.12], [0.15, 0.07, 0.05], [0.5, 0.5, 0.5], [0.12, 0.12, 0.12], [0.1, 0.1, 0.1]], np.float32
)
_FRESNEL = np.array([0.04, 0.028, 0.035, 0.04, 0.04], np.float32)  # reflectance straight on
_ROUGH = np.array([0.5, 0.42, 0.5, 0.5, 0.3], np.float32)
_LEAK = 0.12  # share of a hidden light that arrives by way of other surfaces
_LAYERS = 10
_STEP = np.float32(5e-4)  # metres from a layer to where the ray goes on


@dataclass
class Surface:
    """A mesh with a material. `values` [N, K] are interpolated and handed back for every hit."""

    vertices: npt.NDArray[np.floating]
    triangles: Ints
    material: int
    values: npt.NDArray[np.floating] | None = None
    uv: npt.NDArray[np.floating] | None = None  # [T, 3, 2] texture coordinates of the corners, v up
    texture: F32 | None = None  # [h, w, 4] albedo relative to the material's own and opacity
    trim: npt.NDArray[np.floating] | None = None  # [N] the surface ends where this is positive
    casts: bool = True  # False for what is too thin to cast a shadow
    label: int | None = None  # parse label, if not that of its material
    normals: npt.NDArray[np.floating] = field(default_factory=lambda: np.empty(0))
    shine: float = 1.0  # share of the light that its material mirrors

    def __post_init__(self) -> None:
        if not len(self.normals):
            self.normals = vertex_normals(self.vertices, self.triangles)

    @classmethod
    def plain(
        cls,
        vertices: npt.NDArray[np.floating],
        triangles: Ints,
        colour: tuple[float, float, float],
        casts: bool = True,
        label: int | None = None,
        normals: npt.NDArray[np.floating] | None = None,
    ) -> Surface:
        """Anything in one linear colour, which is its own and not drawn when a sample is dressed."""
        texture = np.ones((1, 1, 4), np.float32)
        texture[0, 0, :3] = colour
        uv = np.full((len(triangles), 3, 2), 0.5)
        given = np.empty(0) if normals is None else normals
        return cls(
            vertices, triangles, OTHER, uv=uv, texture=texture, casts=casts, label=label, normals=given
        )

    @property
    def see_through(self) -> bool:
        """True if some of it lets light pass."""
        return self.material == HAIR


@dataclass
class Hits:
    """Sums over a subpixel's layers, each weighted by what the layers before let through; all [rays, ...]."""

    cover: F32  # [rays, materials]
    light: F32  # [rays, 3] weighted by cover
    gloss: F32  # [rays]
    albedo: F32  # [rays, 3] of what is not cloth
    surface: npt.NDArray[np.int16]  # first surface that is mostly opaque, -1 for none
    triangle: npt.NDArray[np.int32]
    bary: F32  # [rays, 2]
    depth: F32  # [rays] distance along the ray


class Tracer:
    """Acceleration structures for a set of surfaces."""

    def __init__(self, surfaces: list[Surface]) -> None:
        self.surfaces = surfaces
        self._all = _structure(surfaces)
        self._hair = [s for s in surfaces if s.casts and s.see_through]
        sizes = [len(s.vertices) for s in surfaces]
        base = np.cumsum([0, *sizes[:-1]])
        # All surfaces as one table, so that one loop serves the hits of all of them.
        self._first = np.cumsum([0, *[len(s.triangles) for s in surfaces[:-1]]])
        self._corners = np.concatenate([s.triangles + k for s, k in zip(surfaces, base, strict=True)])
        self._normals = np.concatenate([s.normals for s in surfaces]).astype(np.float32)
        trims = [np.full(n, -1.0) if s.trim is None else s.trim for s, n in zip(surfaces, sizes, strict=True)]
        self._trim = np.concatenate(trims).astype(np.float32)
        self._materials = np.array([s.material for s in surfaces])
        self._shine = np.array([s.shine for s in surfaces], np.float32)

    @functools.cached_property
    def _solid(self) -> Any:
        solid = [s for s in self.surfaces if s.casts and not s.see_through]
        return self._all if len(solid) == len(self.surfaces) else _structure(solid)

    @functools.cached_property
    def _strands(self) -> Any:
        return _structure(self._hair) if self._hair else None

    def trace(self, camera: Camera, subpixels: int, lights: Lights | None, samples: int) -> Hits:
        """Follow the camera's rays through up to ten layers; without lights nothing is shaded."""
        start, direction = camera.rays(subpixels)
        count = len(start)
        hits = Hits(
            np.zeros((count, 5), np.float32),
            np.zeros((count, 3), np.float32),
            np.zeros(count, np.float32),
            np.zeros((count, 3), np.float32),
            np.full(count, -1, np.int16),
            np.zeros(count, np.int32),
            np.zeros((count, 2), np.float32),
            np.zeros(count, np.float32),
        )
        through = np.ones(count, np.float32)
        travelled = np.zeros(count, np.float32)
        active, toward = np.arange(count), direction
        for layer in range(_LAYERS):
            found = self._all.run(start, toward, query="INTERSECT", output=True)
            hit = np.flatnonzero(found["primID"] >= 0)
            if not len(hit):
                break
            active, toward = active[hit], toward[hit]
            which, prim = found["geomID"][hit], found["primID"][hit]
            bary = np.stack([found["u"][hit], found["v"][hit]], axis=1).astype(np.float32)
            point, normal, texel = _meet(
                hit, start, toward, found["tfar"], which, prim, bary, self._first, self._corners,
                self._normals, self._trim,
            )  # fmt: skip
            self._paint(which, prim, bary, texel)
            if layer == _LAYERS - 1:  # many thin strands are no hole that shows the background
                texel[:, 3] = texel[:, 3] > 0
            shaded = _collect(
                active, which, prim, bary, texel, found["tfar"][hit], self._materials, through, travelled,
                hits.cover, hits.albedo, hits.surface, hits.triangle, hits.bary, hits.depth,
            )  # fmt: skip
            seen = np.flatnonzero(shaded > 0)
            if lights is not None and len(seen):
                rays = active[seen]
                subset = _subset(rays, camera.width, subpixels)
                shade = (point[seen], normal[seen], -toward[seen], self._materials[which[seen]])
                light, gloss = self._shade(*shade, subset, lights, samples)
                hits.light[rays] += shaded[seen, None] * light
                hits.gloss[rays] += shaded[seen] * gloss * self._shine[which[seen]]
            go = np.flatnonzero(through[active] > 0.02)
            if not len(go):
                break
            active, toward = active[go], toward[go]
            start = point[go] + toward * _STEP
            travelled[active] += _STEP
        return hits

    def _paint(self, which: Ints, prim: Ints, bary: F32, texel: F32) -> None:
        """Fill in the textures' colours and opacities, [R, 4], where a surface has one."""
        for g, surface in enumerate(self.surfaces):
            if surface.texture is None or surface.uv is None:
                continue
            k = np.flatnonzero(which == g)
            if len(k):
                uv = surface.uv[prim[k]].astype(np.float32)
                u, v = bary[k, :1], bary[k, 1:]
                at = uv[:, 0] * (1 - u - v) + uv[:, 1] * u + uv[:, 2] * v
                _bilinear(surface.texture, at, k, texel)

    def _shade(
        self, point: F32, normal: F32, view: F32, material: Ints, subset: Ints, lights: Lights, samples: int
    ) -> tuple[F32, F32]:
        """Diffuse (RGB) and mirrored light (grey) from `samples` of the lights, others for each subpixel."""
        visible = np.zeros((len(point), samples), np.float32)
        origin, toward = np.empty_like(point), np.empty_like(point)
        rows = np.empty(len(point), np.int64)
        for s in range(samples):
            count = _aim(
                point, normal, material, subset, s, samples, lights.directions, _WRAP, rows, origin, toward
            )
            lit, start, way = rows[:count], origin[:count], toward[:count]
            reach = (self._solid.run(start, way, query="OCCLUDED") < 0).astype(np.float32)
            if self._strands is not None:
                free = np.flatnonzero(reach > 0)
                found = self._strands.run(start[free], way[free], query="INTERSECT", output=True)
                behind = np.flatnonzero(found["primID"] >= 0)
                if len(behind):
                    alpha = self._strand_alpha(found, behind)
                    reach[free[behind]] *= 1 - 0.8 * alpha
            visible[lit, s] = reach
        light = np.empty((len(point), 3), np.float32)
        gloss = np.empty(len(point), np.float32)
        _integrate(
            normal, view, material, subset, visible, lights.directions, lights.radiance, _WRAP, _FRESNEL,
            _ROUGH, _LEAK, light, gloss,
        )  # fmt: skip
        return light, gloss

    def _strand_alpha(self, found: dict[str, npt.NDArray[np.generic]], k: Ints) -> F32:
        texel = np.zeros((len(k), 4), np.float32)
        which, prim = np.asarray(found["geomID"])[k], np.asarray(found["primID"])[k]
        u, v = np.asarray(found["u"])[k][:, None], np.asarray(found["v"])[k][:, None]
        for g, surface in enumerate(self._hair):
            own = np.flatnonzero(which == g)
            if len(own) and surface.uv is not None and surface.texture is not None:
                uv = surface.uv[prim[own]].astype(np.float32)
                at = uv[:, 0] * (1 - u[own] - v[own]) + uv[:, 1] * u[own] + uv[:, 2] * v[own]
                _bilinear(surface.texture, at.astype(np.float32), own, texel)
        return texel[:, 3]


def _structure(surfaces: list[Surface]) -> Any:
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise ImportError("rendering needs `embreex`: pip install rmgn[datagen]") from error
    scene = EmbreeScene()
    for s in surfaces:
        TriangleMesh(
            scene, np.ascontiguousarray(s.vertices, np.float32), np.ascontiguousarray(s.triangles, np.int32)
        )
    return scene


def _subset(rays: Ints, width: int, subpixels: int) -> Ints:
    """Number of the subpixel within its pixel: decides which lights it samples.

    Fewer than nine count in larger steps: the lights that they take then lie as far apart as those of nine.
    """
    line = width * subpixels
    number = (rays % line) % subpixels + subpixels * ((rays // line) % subpixels)
    return np.asarray(number * -(-9 // subpixels**2))


def interpolate(
    values: npt.NDArray[np.floating], tris: Ints, prim: npt.NDArray[np.integer], bary: F32
) -> F32:
    """Vertex values [N, K] at barycentric positions [R, 2] of triangles `prim` [R]."""
    mixed = np.empty((len(prim), values.shape[1]), np.float32)
    _mix(values, tris, prim, bary, mixed)
    return mixed


@njit(cache=True, fastmath=True)
def _mix(values, tris, prim, bary, out):  # type: ignore[no-untyped-def]
    for i in range(len(prim)):
        a, b, c = tris[prim[i], 0], tris[prim[i], 1], tris[prim[i], 2]
        u, v = bary[i, 0], bary[i, 1]
        w = 1 - u - v
        for j in range(values.shape[1]):
            out[i, j] = values[a, j] * w + values[b, j] * u + values[c, j] * v


@njit(cache=True, fastmath=True)
def _meet(hit, start, toward, far, which, prim, bary, first, corners, normals, trim):  # type: ignore[no-untyped-def]
    """Where rays meet surfaces: points, unit normals towards the ray, and white texels, clear if trimmed."""
    count = len(hit)
    point = np.empty((count, 3), np.float32)
    normal = np.empty((count, 3), np.float32)
    texel = np.ones((count, 4), np.float32)
    for i in range(count):
        t = first[which[i]] + prim[i]
        a, b, c = corners[t, 0], corners[t, 1], corners[t, 2]
        u, v = bary[i, 0], bary[i, 1]
        w = 1 - u - v
        square = 1e-18
        along = 0.0
        for j in range(3):
            point[i, j] = start[hit[i], j] + toward[i, j] * far[hit[i]]
            n = normals[a, j] * w + normals[b, j] * u + normals[c, j] * v
            normal[i, j] = n
            square += n * n
            along += n * toward[i, j]
        scale = (-1.0 if along > 0 else 1.0) / np.sqrt(square)
        for j in range(3):
            normal[i, j] *= scale
        if trim[a] * w + trim[b] * u + trim[c] * v > 0:
            texel[i, 3] = 0
    return point, normal, texel


@njit(cache=True, fastmath=True)
def _collect(  # type: ignore[no-untyped-def]
    active, which, prim, bary, texel, far, materials, through, travelled, cover, albedo, surface, triangle,
    at, depth,
):  # fmt: skip
    """Add one layer to the sums of its rays; the share with which each of its hits is to be lit."""
    shaded = np.zeros(len(active), np.float32)
    for i in range(len(active)):
        ray, alpha, material = active[i], texel[i, 3], materials[which[i]]
        travelled[ray] += far[i]
        weight = through[ray] * alpha
        if weight > 0.02:
            shaded[i] = weight
            cover[ray, material] += weight
            if material != GARMENT and material != LOWER:  # cloth gets its colours later
                for j in range(3):
                    albedo[ray, j] += weight * texel[i, j]
        if surface[ray] < 0 and alpha > 0.5:
            surface[ray], triangle[ray], depth[ray] = which[i], prim[i], travelled[ray]
            at[ray, 0], at[ray, 1] = bary[i, 0], bary[i, 1]
        through[ray] *= 1 - alpha
    return shaded


@njit(cache=True)
def _light(subset, s, samples, total):  # type: ignore[no-untyped-def]
    """Number of the light that a subpixel takes as its sample s."""
    stride = total // samples
    return (s * stride + (subset + 7 * s) % stride) % total


@njit(cache=True, fastmath=True)
def _aim(point, normal, material, subset, s, samples, direction, wrap, rows, origin, toward):  # type: ignore[no-untyped-def]
    """Shadow rays of sample s for all points that its light can reach; how many there are."""
    count = 0
    for i in range(len(point)):
        k = _light(subset[i], s, samples, len(direction))
        m = material[i]
        cosine = 0.0
        for j in range(3):
            cosine += normal[i, j] * direction[k, j]
        if cosine + max(wrap[m, 0], wrap[m, 1], wrap[m, 2]) <= 0:
            continue
        rows[count] = i
        for j in range(3):
            origin[count, j] = point[i, j] + normal[i, j] * 2e-3 + direction[k, j] * 3e-3
            toward[count, j] = direction[k, j]
        count += 1
    return count


@njit(cache=True, fastmath=True)
def _bilinear(texture, at, rows, out):  # type: ignore[no-untyped-def]
    h, w, channels = texture.shape
    for k in range(len(rows)):
        x, y = at[k, 0] * w - 0.5, (1 - at[k, 1]) * h - 0.5
        x0, y0 = int(np.floor(x)), int(np.floor(y))
        fx, fy = x - x0, y - y0
        for c in range(channels):
            top = texture[y0 % h, x0 % w, c] * (1 - fx) + texture[y0 % h, (x0 + 1) % w, c] * fx
            low = texture[(y0 + 1) % h, x0 % w, c] * (1 - fx) + texture[(y0 + 1) % h, (x0 + 1) % w, c] * fx
            out[rows[k], c] = top * (1 - fy) + low * fy


@njit(cache=True, fastmath=True)
def _integrate(  # type: ignore[no-untyped-def]
    normal, view, material, subset, visible, direction, radiance, wrap, fresnel, rough, leak, light, gloss
):
    count, samples = visible.shape
    scale = len(direction) / samples
    for i in range(count):
        m = material[i]
        gleam = 0.0
        power = 2 / (rough[m] ** 4 + 1e-3) - 2
        for c in range(3):
            light[i, c] = 0
        for s in range(samples):
            k = _light(subset[i], s, samples, len(direction))
            cosine = 0.0
            for j in range(3):
                cosine += normal[i, j] * direction[k, j]
            reach = visible[i, s] + leak * (1 - visible[i, s])
            for c in range(3):
                w = wrap[m, c]
                light[i, c] += max(0.0, (cosine + w) / ((1 + w) * (1 + w))) / np.pi * radiance[k, c] * reach
            if visible[i, s] > 0 and cosine > 0:
                hx, hy, hz = (
                    direction[k, 0] + view[i, 0], direction[k, 1] + view[i, 1], direction[k, 2] + view[i, 2]
                )  # fmt: skip
                length = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
                nh = max(0.0, (normal[i, 0] * hx + normal[i, 1] * hy + normal[i, 2] * hz) / length)
                if nh < 0.5:  # no material mirrors that widely
                    continue
                vh = max(0.0, (view[i, 0] * hx + view[i, 1] * hy + view[i, 2] * hz) / length)
                f = fresnel[m] + (1 - fresnel[m]) * (1 - vh) ** 5 * 0.6
                white = (radiance[k, 0] + radiance[k, 1] + radiance[k, 2]) / 3
                gleam += min(8.0, f * (power + 8) / (8 * np.pi) * nh**power * cosine) * white * visible[i, s]
        for c in range(3):
            light[i, c] = min(light[i, c] * scale, 4.0)
        gloss[i] = min(gleam * scale, 2.0)
