"""Hair that is built rather than fitted: locks over the shoulder, fringes, buns and curls.

Built hair is ribbons and shells with a texture of strands; ribbons are laid outside of what they fall over.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.assets import F32
from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.face import hairy
from rmgn.data.people.mesh import (
    Floats,
    Ints,
    averaging,
    boundary_edges,
    edges,
    grid_quads,
    normalised,
    triangles,
    used,
    vertex_normals,
)
from rmgn.data.people.raytrace import HAIR, Surface
from rmgn.data.people.wear import Wearer


@functools.lru_cache(maxsize=1)
def lock_texture() -> F32:
    """A lock of hair, roots at the top: opaque in the middle, single strands at the rims and the tip."""
    h, w = 256, 128
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(h, w)).astype(np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.9, sigmaY=40, borderType=cv2.BORDER_REFLECT)
    broad = cv2.GaussianBlur(noise, (0, 0), sigmaX=5, sigmaY=60, borderType=cv2.BORDER_REFLECT)
    fine, broad = fine / fine.std(), broad / broad.std()
    x = np.abs(np.linspace(-1, 1, w, dtype=np.float32))[None]
    y = np.linspace(0, 1, h, dtype=np.float32)[:, None]
    room = np.clip((1 - x) / 0.45, 0, 1) * np.clip((1 - y) / 0.22, 0, 1)
    texture = np.ones((h, w, 4), np.float32)
    texture[:, :, :3] = np.clip(1 + 0.22 * fine + 0.16 * broad, 0.3, 2)[:, :, None]
    texture[:, :, 3] = np.clip((room * 2.2 + 0.5 * fine - 0.5) * 1.6, 0, 1)
    return texture


@functools.lru_cache(maxsize=1)
def curl_texture() -> F32:
    """Curls, tiled: round spots of light and shade, open between them."""
    size = 256
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(size, size)).astype(np.float32)

    def band(sigma: float) -> F32:
        wrapped = np.tile(noise, (2, 2))
        soft = cv2.GaussianBlur(wrapped, (0, 0), sigma) - cv2.GaussianBlur(wrapped, (0, 0), 2 * sigma)
        part = soft[size // 2 : size // 2 + size, size // 2 : size // 2 + size]
        return np.asarray(part / part.std(), np.float32)

    curls, coarse = band(2.0), band(6.0)
    texture = np.ones((size, size, 4), np.float32)
    texture[:, :, :3] = np.clip(1 + 0.35 * curls + 0.2 * coarse, 0.15, 2.2)[:, :, None]
    texture[:, :, 3] = np.clip(0.55 + 0.4 * curls + 0.3 * coarse, 0, 1)
    return texture


def ribbons(lines: Floats, across: Floats, width: Floats) -> tuple[Floats, Ints, Floats]:
    """Ribbons along lines [R, N, 3], `width` [R, N] in the direction `across` [R, N, 3].

    Returns vertices [V, 3], triangles [T, 3] and the corners' texture coordinates [T, 3, 2].
    """
    count, length, _ = lines.shape
    side = np.linspace(-0.5, 0.5, 3)
    v = lines[:, :, None] + side[:, None] * across[:, :, None] * width[:, :, None, None]
    quads = 3 * length * np.arange(count)[:, None, None] + grid_quads(length, 3)
    uv = np.empty((count, length, 3, 2))
    uv[..., 0], uv[..., 1] = side + 0.5, np.linspace(1, 0, length)[:, None]
    tris = triangles(quads.reshape(-1, 4))
    return v.reshape(-1, 3), tris, uv.reshape(-1, 2)[tris]


def push_out(points: Floats, solid: Floats, normals: Floats, gap: npt.NDArray[np.floating] | float) -> Floats:
    """Move points [N, 3] to at least `gap` metres outside of a surface given by points and normals."""
    near = cKDTree(solid).query(points)[1]
    height = ((points - solid[near]) * normals[near]).sum(axis=1)
    return np.asarray(points + np.clip(gap - height, 0, 0.12)[:, None] * normals[near])


def locks(
    model: BodyModel, person: Wearer, solid: tuple[Floats, Floats], sides: str, length: float, wave: float,
    seed: int,
) -> Surface:  # fmt: skip
    """Locks of long hair before the shoulders, `length` metres below the chin, laid on `solid`."""
    rng = np.random.default_rng(seed)
    turn = person.bones[model.index["head"], :, :3]
    head = model.joint("head", person.body, person.bones)
    spine = person.bones[model.index["spine01"], :, :3]
    lines, across, widths = [], [], []
    for side in sides:
        sign = 1 if side == "L" else -1
        for k in range(13):
            share = k / 12
            start = head + turn @ np.array([sign * (0.062 + 0.008 * share), 0.045 + 0.03 * share, 0.015])
            start = start + rng.normal(0, 0.004, 3)
            mid = head + turn @ np.array([sign * (0.075 + 0.02 * share), 0.025 + 0.03 * share, -0.05])
            fall = np.array([sign * (0.125 - 0.08 * (1 - share)), -0.075 - 0.03 * (1 - share), 0.0])
            shoulder = head + spine @ (fall + [0, 0, -0.15])
            end = head + spine @ (fall * [0.95, 1.15, 0]) - [0, 0, 0.04 + length * rng.uniform(0.7, 1.05)]
            knots = np.array([start, mid, shoulder, end])
            at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
            t = np.linspace(0, 1, 26)
            line = np.stack([np.interp(t * at[-1], at, knots[:, a]) for a in range(3)], axis=1)
            for _ in range(6):
                line[1:-1] = 0.5 * line[1:-1] + 0.25 * (line[2:] + line[:-2])
            swing = (
                wave * np.sin(t * at[-1] / 0.075 * 2 * np.pi + rng.uniform(0, 6.28)) * np.clip(t * 2, 0, 1)
            )
            line = line + swing[:, None] * (spine @ np.array([1.0, 0.3, 0]))
            lines.append(line)
            wide = 0.03 * rng.uniform(0.8, 1.3) * (1 - 0.45 * t**3)
            widths.append(wide)
            across.append(np.tile(normalised((spine @ np.array([sign * 1.0, -0.25, 0]))[None]), (26, 1)))
    line = np.stack(lines)
    layer = np.tile(0.004 + 0.0012 * rng.permutation(13)[:, None] + 0 * t, (len(sides), 1))
    solid_points, solid_normals = solid
    flat = line.reshape(-1, 3)
    for _ in range(2):
        flat = push_out(flat, solid_points, solid_normals, layer.ravel() + 0.004)
        smooth = flat.reshape(line.shape).copy()
        smooth[:, 1:-1] = 0.5 * smooth[:, 1:-1] + 0.25 * (smooth[:, 2:] + smooth[:, :-2])
        flat = smooth.reshape(-1, 3)
    v, tris, uv = ribbons(flat.reshape(line.shape), np.stack(across), np.stack(widths))
    v = push_out(v, solid_points, solid_normals, 0.004)
    return Surface(v, tris, HAIR, uv=uv, texture=lock_texture())


def fringe(model: BodyModel, person: Wearer, length: float, part: float, seed: int) -> Surface:
    """Hair over the forehead, `length` metres long, parted at `part` (-1 to 1)."""
    rng = np.random.default_rng(seed)
    i = model.index["head"]
    turn, head = person.bones[i, :, :3], person.body.heads[i]
    rest = person.body.vertices[:BODY_VERTICES]
    normals = vertex_normals(rest, model.triangles)
    top = float(rest[:, 2].max())
    count = 26
    place = np.linspace(-1, 1, count)
    t = np.linspace(0, 1, 12)
    lines = np.empty((count, 12, 3))
    for k, x in enumerate(place):
        root = np.array([x * 0.055, head[1] - 0.055 + 0.035 * x * x, top - 0.028 - 0.02 * x * x])
        lean = 0.35 * (x - part) * length
        tip = root + [lean + 0.012 * x, -0.03 + 0.03 * x * x, -length * rng.uniform(0.85, 1.08)]
        lines[k] = root + t[:, None] * (tip - root) + np.outer(np.sin(t * np.pi), [0, -0.02, 0.008])
    flat = push_out(lines.reshape(-1, 3), rest, normals, 0.006)
    across = np.tile([1.0, 0, 0], (count, 12, 1))
    v, tris, uv = ribbons(flat.reshape(lines.shape), across, np.full((count, 12), 0.017))
    v = push_out(v, rest, normals, 0.004)
    transform = person.bones[i]
    return Surface(v @ turn.T + transform[:, 3], tris, HAIR, uv=uv, texture=lock_texture())


def _scalp(model: BodyModel, least: float) -> tuple[Ints, Ints]:
    """Quads of the scalp at least so far inside the hairline, and their body vertices."""
    inside = hairy()["scalp"][model.quads] > least
    return used(model.quads[inside.all(axis=1)], BODY_VERTICES)


def curls(model: BodyModel, person: Wearer, size: float, drop: float, seed: int) -> list[Surface]:
    """A head of curls up to an afro: shells of curls around the scalp, `size` metres deep."""
    rng = np.random.default_rng(seed)
    quads, source = _scalp(model, 0.3)
    rest = person.body.vertices[source]
    even = averaging(len(source), edges(quads)[0])
    smooth = rest.copy()
    for _ in range(12):
        smooth = 0.4 * smooth + 0.6 * (even @ smooth)
    rim = np.zeros(len(source))
    rim[boundary_edges(quads)] = 1
    for _ in range(8):
        rim = np.maximum(rim, 0.92 * (even @ rim))
    centre = person.body.heads[model.index["head"]] + [0, 0.02, 0.075]
    away = normalised(smooth - centre)
    away[:, 2] -= drop * rim
    away = normalised(away)
    tris = triangles(quads)
    around = np.arctan2(away[:, 0], away[:, 1]) / (2 * np.pi)
    uv = np.stack([around * 5, np.arcsin(np.clip(away[:, 2], -1, 1))], axis=1)[tris]
    uv[:, :, 0] -= 5 * np.round((uv[:, :, 0] - uv[:, :1, 0]) / 5)
    lumps = rng.normal(size=len(source))
    for _ in range(3):
        lumps = even @ lumps
    lumps /= lumps.std()
    surfaces = []
    i = model.index["head"]
    for depth, open_ in ((0.62, 0.9), (0.8, 0.35), (0.92, 0.1), (1.0, -0.1)):
        texture = curl_texture().copy()
        texture[:, :, 3] = np.clip(texture[:, :, 3] + open_, 0, 1)
        v = smooth + away * (size * depth * (1 + 0.05 * lumps) * (1 - 0.45 * rim))[:, None] + 0.004 * away
        v = v @ person.bones[i, :, :3].T + person.bones[i, :, 3]
        surfaces.append(Surface(v, tris, HAIR, uv=uv + 0.13 * depth, texture=texture, casts=depth < 0.7))
    return surfaces


def bun(model: BodyModel, person: Wearer, size: float, high: float) -> Surface:
    """A knot of hair: at the nape for `high` 0, on top of the head for 1."""
    i = model.index["head"]
    rest = person.body.vertices[:BODY_VERTICES]
    head = person.body.heads[i]
    angle = np.deg2rad(-5 + 80 * high)
    centre = head + [0, 0.03, 0.085]
    toward = np.array([0, np.cos(angle), np.sin(angle)])
    skull = rest[(rest[:, 2] > head[2]) & (np.abs(rest[:, 0]) < 0.03)]
    reach = float(((skull - centre) @ toward).max())
    place = centre + toward * (reach + 0.55 * size)
    u, w = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(-np.pi / 2, np.pi / 2, 13), indexing="ij")
    twist = 1 + 0.06 * np.sin(3 * u + 5 * w)
    ball = (
        np.stack([np.cos(w) * np.cos(u), np.cos(w) * np.sin(u), 0.8 * np.sin(w)], axis=2)
        * (twist * size)[..., None]
    )
    uv = np.stack([0.3 + 0.4 * (0.5 + 0.5 * np.sin(u)), 0.45 + 0.2 * np.sin(2 * w)], axis=2).reshape(-1, 2)
    tris = triangles(grid_quads(*u.shape))
    v = (ball.reshape(-1, 3) + place) @ person.bones[i, :, :3].T + person.bones[i, :, 3]
    texture = lock_texture().copy()
    texture[:, :, 3] = 1
    return Surface(v, tris, HAIR, uv=uv[tris], texture=texture)


def cloth_texture(rng: Generator, colour: Floats) -> F32:
    """Woven or knitted cloth in one colour, linear, with a little life."""
    noise = rng.normal(size=(128, 128)).astype(np.float32)
    broad = cv2.GaussianBlur(np.tile(noise, (2, 2)), (0, 0), 4)[64:192, 64:192]
    texture = np.ones((128, 128, 4), np.float32)
    texture[:, :, :3] = colour * np.clip(1 + 0.06 * noise + 0.08 * broad / broad.std(), 0.5, 1.6)[:, :, None]
    return texture
