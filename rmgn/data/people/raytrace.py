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
# Light wraps around hair strands and, a little, around skin and cloth: (red, green, blue) for each material.
_WRAP = np.array(
    [[0.12, 0.12, 0.12], [0.15, 0.07, 0.05], [0.5, 0.5, 0.5], [0.12, 0.12, 0.12], [0.1, 0.1, 0.1]], np.float32
)
_FRESNEL = np.array([0.04, 0.028, 0.035, 0.04, 0.04], np.float32)  # reflectance straight on
_ROUGH = np.array([0.5, 0.42, 0.5, 0.5, 0.3], np.float32)
_LEAK = 0.12  # share of a hidden light that arrives by way of other surfaces
_LAYERS = 8


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

    def __post_init__(self) -> None:
        if not len(self.normals):
            self.normals = vertex_normals(self.vertices, self.triangles)

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

    @functools.cached_property
    def _solid(self) -> Any:
        return _structure([s for s in self.surfaces if s.casts and not s.see_through])

    @functools.cached_property
    def _strands(self) -> Any:
        return _structure(self._hair) if self._hair else None

    def trace(self, camera: Camera, subpixels: int, lights: Lights | None, samples: int) -> Hits:
        """Follow the camera's rays through up to eight layers; without lights nothing is shaded."""
        origin, direction = camera.rays(subpixels)
        count = len(origin)
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
        active = np.arange(count)
        start = origin
        travelled = np.zeros(count, np.float32)
        for _ in range(_LAYERS):
            found = self._all.run(start, direction[active], query="INTERSECT", output=True)
            hit = found["primID"] >= 0
            active = active[hit]
            if not len(active):
                break
            start, toward = start[hit], direction[active]
            which, prim = found["geomID"][hit], found["primID"][hit]
            bary = np.stack([found["u"][hit], found["v"][hit]], axis=1).astype(np.float32)
            step = found["tfar"][hit].astype(np.float32)
            point = start + toward * step[:, None]
            travelled[active] += step
            normal, texel, trimmed = self._look_up(which, prim, bary)
            normal *= np.where(np.einsum("ij,ij->i", normal, toward) > 0, -1, 1)[:, None].astype(np.float32)
            alpha = np.where(trimmed, 0, texel[:, 3])
            weight = through[active] * alpha
            seen = np.flatnonzero(weight > 0.02)
            material = self._materials[which[seen]]
            rays = active[seen]
            hits.cover[rays, material] += weight[seen]
            own = (material != GARMENT) & (material != LOWER)  # cloth gets its colours later
            hits.albedo[rays] += (weight[seen] * own)[:, None] * texel[seen, :3]
            if lights is not None and len(seen):
                shade = (point[seen], normal[seen], -toward[seen], material)
                light, gloss = self._shade(*shade, _subset(rays, camera.width, subpixels), lights, samples)
                hits.light[rays] += weight[seen, None] * light
                hits.gloss[rays] += weight[seen] * gloss
            first = (hits.surface[active] < 0) & (alpha > 0.5)
            k = active[first]
            hits.surface[k], hits.triangle[k] = which[first], prim[first]
            hits.bary[k], hits.depth[k] = bary[first], travelled[k]
            through[active] *= 1 - alpha
            go = through[active] > 0.02
            travelled[active] += 5e-4
            start, active = (point + toward * 5e-4)[go], active[go]
            if not len(active):
                break
        return hits

    @property
    def _materials(self) -> npt.NDArray[np.int64]:
        return np.array([s.material for s in self.surfaces])

    def _look_up(self, which: Ints, prim: Ints, bary: F32) -> tuple[F32, F32, npt.NDArray[np.bool_]]:
        normal = np.empty((len(which), 3), np.float32)
        texel = np.ones((len(which), 4), np.float32)
        trimmed = np.zeros(len(which), bool)
        for g, surface in enumerate(self.surfaces):
            k = np.flatnonzero(which == g)
            if not len(k):
                continue
            normal[k] = interpolate(surface.normals, surface.triangles, prim[k], bary[k])
            if surface.trim is not None:
                edge = interpolate(surface.trim[:, None], surface.triangles, prim[k], bary[k])
                trimmed[k] = edge[:, 0] > 0
            if surface.texture is not None and surface.uv is not None:
                uv = surface.uv[prim[k]].astype(np.float32)
                u, v = bary[k, :1], bary[k, 1:]
                at = uv[:, 0] * (1 - u - v) + uv[:, 1] * u + uv[:, 2] * v
                _bilinear(surface.texture, at, k, texel)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        return normal, texel, trimmed

    def _shade(
        self, point: F32, normal: F32, view: F32, material: Ints, subset: Ints, lights: Lights, samples: int
    ) -> tuple[F32, F32]:
        """Diffuse (RGB) and mirrored light (grey) from `samples` of the lights, others for each subpixel."""
        total = len(lights.directions)
        stride = total // samples
        chosen = (
            np.arange(samples)[None] * stride + (subset[:, None] + 7 * np.arange(samples)[None]) % stride
        ) % total
        origin = point + normal * 2e-3
        visible = np.zeros(chosen.shape, np.float32)
        for s in range(samples):
            toward = lights.directions[chosen[:, s]]
            lit = np.flatnonzero(np.einsum("ij,ij->i", normal, toward) > -0.3)
            start = origin[lit] + toward[lit] * 3e-3
            reach = (self._solid.run(start, toward[lit], query="OCCLUDED") < 0).astype(np.float32)
            if self._strands is not None:
                free = np.flatnonzero(reach > 0)
                found = self._strands.run(start[free], toward[lit][free], query="INTERSECT", output=True)
                behind = np.flatnonzero(found["primID"] >= 0)
                if len(behind):
                    alpha = self._strand_alpha(found, behind)
                    reach[free[behind]] *= 1 - 0.8 * alpha
            visible[lit, s] = reach
        light = np.empty((len(point), 3), np.float32)
        gloss = np.empty(len(point), np.float32)
        _integrate(
            normal, view, material, chosen, visible, lights.directions, lights.radiance, _WRAP, _FRESNEL,
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
    """Number of the subpixel within its pixel: decides which lights it samples."""
    line = width * subpixels
    return np.asarray((rays % line) % subpixels + subpixels * ((rays // line) % subpixels))


def interpolate(
    values: npt.NDArray[np.floating], tris: Ints, prim: npt.NDArray[np.integer], bary: F32
) -> F32:
    """Vertex values [N, K] at barycentric positions [R, 2] of triangles `prim` [R]."""
    corner = tris[prim]
    u, v = bary[:, :1], bary[:, 1:]
    mixed = values[corner[:, 0]] * (1 - u - v) + values[corner[:, 1]] * u + values[corner[:, 2]] * v
    return mixed.astype(np.float32)


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
    normal, view, material, chosen, visible, direction, radiance, wrap, fresnel, rough, leak, light, gloss
):
    count, samples = chosen.shape
    scale = len(direction) / samples
    for i in range(count):
        m = material[i]
        gleam = 0.0
        power = 2 / (rough[m] ** 4 + 1e-3) - 2
        for c in range(3):
            light[i, c] = 0
        for s in range(samples):
            k = chosen[i, s]
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
                vh = max(0.0, (view[i, 0] * hx + view[i, 1] * hy + view[i, 2] * hz) / length)
                f = fresnel[m] + (1 - fresnel[m]) * (1 - vh) ** 5 * 0.6
                white = (radiance[k, 0] + radiance[k, 1] + radiance[k, 2]) / 3
                gleam += min(8.0, f * (power + 8) / (8 * np.pi) * nh**power * cosine) * white * visible[i, s]
        for c in range(3):
            light[i, c] = min(light[i, c] * scale, 4.0)
        gloss[i] = min(gleam * scale, 2.0)
