"""Trousers, skirts and shorts: what try-on must leave alone, and what a top falls over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.random import Generator
from scipy.spatial import ConvexHull

from rmgn.data.people.body import BODY_VERTICES, Body, BodyModel
from rmgn.data.people.garment import arm_weight, extend, run_of, shell
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import (
    Floats,
    Ints,
    boundary_edges,
    boundary_loops,
    cut,
    normalised,
    smoothing,
    triangles,
    vertex_normals,
)
from rmgn.data.people.raytrace import Surface


@dataclass(frozen=True)
class LowerStyle:
    """Measures in metres."""

    kind: str = "trousers"  # trousers, jeans, shorts, skirt
    waist: float = 0.06  # height of the waistband's top above the hip joint
    ease: float = 0.006
    width: float = 0.0  # extra width per metre below the seat
    length: float = 1.0  # below the hip joint; what hangs lower is cut
    folds: float = 0.004  # depth of the folds around seat, knee and ankle
    crease: float = 0.0  # depth of a pressed crease along the front
    hem: float = 0.0  # how far trousers end above the ankle
    shoe: tuple[float, float, float] = (0.05, 0.05, 0.05)  # linear colour


@dataclass
class Lower:
    """A mesh at rest; `cloth` [N, 2]: fabric coordinates in metres, x and height above the waist's top."""

    vertices: Floats
    triangles: Ints
    weights: sp.csr_matrix
    cloth: Floats
    facing: Floats  # negative in front
    waist: float  # world height of the top in the rest pose
    bottom: float  # likewise of the hem


def draw_lower(rng: Generator, feminine: bool, hard: bool = False) -> LowerStyle:
    """Draw a style; skirts mostly for women. hard: more of them, and waists up to the natural one."""
    skirts = (0.8 if hard else 0.16) if feminine else 0.01
    kinds, chances = ["trousers", "jeans", "shorts", "skirt"], [0.36, 0.4, 0.08, skirts]
    kind = str(rng.choice(kinds, p=np.array(chances) / sum(chances)))
    low, high = (0.05, 0.26 if hard else 0.17) if feminine else (0.04, 0.1)
    waist = rng.uniform(low, high)
    wide = rng.choice([0.0, rng.uniform(0, 0.05), rng.uniform(0.05, 0.16)], p=[0.4, 0.35, 0.25])
    length = {"shorts": rng.uniform(0.12, 0.35), "skirt": rng.uniform(0.22, 0.7)}.get(kind, 1.0)
    tone = float(rng.choice([0.02, 0.06, 0.2, 0.65])) * rng.uniform(0.7, 1.2, 3) ** 0.5
    return LowerStyle(
        kind,
        float(waist),
        float(rng.uniform(0.004, 0.009)),
        float(wide),
        float(length),
        float(rng.uniform(0.002, 0.009)),
        float(rng.uniform(0.002, 0.005)) if kind == "trousers" and rng.random() < 0.4 else 0.0,
        float(rng.choice([rng.uniform(-0.02, 0.03), rng.uniform(0.03, 0.18)], p=[0.7, 0.3])),
        (float(tone[0]), float(tone[1]), float(tone[2])),
    )


def make_lower(model: BodyModel, body: Body, style: LowerStyle, rng: Generator) -> Lower:
    """Cut from the body's outline, smooth over crotch and seat, push out and fold."""
    hip = model.hip(body)
    quads, matrix, weights = shell(model)
    v = np.asarray(matrix @ body.vertices)
    ankle = float(body.heads[model.index["foot.L"]][2])
    top, bottom = hip + style.waist, max(hip - style.length, ankle + style.hem)
    arm = arm_weight(model, v, weights)
    skirt = style.kind == "skirt"
    level = np.maximum(v[:, 2] - top, (hip + 0.01 if skirt else bottom) - v[:, 2])
    piece = cut(v, quads, np.where(arm > 0.3, 1.0, level))
    v, quads, weights = piece.vertices, piece.quads, sp.csr_matrix(weights[piece.source])
    if skirt:
        rim = run_of(quads, min(boundary_loops(quads), key=lambda loop: float(v[loop, 2].mean())))
        new, faces, source = extend(style.width * 1.6 - 0.02, v, rim, bottom)
        v, quads = np.concatenate([v, new]), np.concatenate([quads, faces])
        weights = sp.csr_matrix(sp.vstack([weights, weights[source]]))
    even = smoothing(len(v), quads)
    for _ in range(14):
        v = 0.5 * v + 0.5 * (even @ v)
    for _ in range(20 if skirt else 4):
        weights = sp.csr_matrix(0.5 * weights + 0.5 * (even @ weights))
    tris = triangles(quads)
    normal = vertex_normals(v, tris)
    for _ in range(5):
        normal = even @ normal
    below = np.clip(hip - 0.05 - v[:, 2], 0, None)
    offset = (
        style.ease + np.clip(below * 0.03, 0, 0.02) + (0 if skirt else np.minimum(style.width * below, 0.055))
    )
    offset = offset + style.folds * _folds(v, hip, rng) * np.clip((top - 0.05 - v[:, 2]) / 0.05, 0, 1)
    if style.crease:
        leg = np.abs(np.abs(v[:, 0]) - np.interp(v[:, 2], [bottom, hip], [0.09, 0.085]))
        ridge = np.exp(-((leg / 0.008) ** 2)) * (normal[:, 1] < 0)
        offset = offset + style.crease * ridge * np.clip((hip - 0.05 - v[:, 2]) / 0.1, 0, 1)
    offset = offset + 0.004 * np.clip((v[:, 2] - top + 0.05) / 0.03, 0, 1)  # a waistband is stiff and doubled
    v = v + normalised(normal) * offset[:, None]
    keep = np.ones(len(v))
    keep[boundary_edges(quads)] = 0
    for _ in range(2):
        v += 0.3 * keep[:, None] * (even @ v - v)
    return Lower(v, tris, weights, np.stack([v[:, 0], v[:, 2] - top], axis=1), normal[:, 1], float(top),
                 float(bottom))  # fmt: skip


def _folds(v: Floats, hip: float, rng: Generator) -> Floats:
    """Creases around the crotch, along the thighs, across the knees and above the feet, [N] around zero."""
    crotch = np.array([0.0, hip - 0.09])
    x, z = np.abs(v[:, 0]) - crotch[0], v[:, 2] - crotch[1]
    side = np.sign(v[:, 0])
    angle, radius = np.arctan2(z, x + 0.02), np.hypot(x, z)
    fan = np.sin(angle * rng.uniform(9, 16) + side * rng.uniform(0, 1) + rng.uniform(0, 6))
    fan = fan * np.exp(-((radius / 0.16) ** 2)) * np.clip(radius / 0.03, 0, 1)
    noise = np.zeros(len(v))
    for _ in range(5):
        wave = rng.normal(size=3) * [18, 10, 45]
        noise += np.sin(v @ wave + rng.uniform(0, 6)) / 5
    slant = z + side * rng.uniform(-0.5, 0.5) * v[:, 0] + 0.3 * v[:, 1]
    phase = side * rng.uniform(0, 3) + rng.uniform(0, 6)
    across = 1 - 2 * np.abs(np.sin(slant * np.pi / rng.uniform(0.05, 0.08) + noise * 1.5 + phase)) ** 0.7
    knee = np.exp(-(((z + 0.36) / 0.10) ** 2))
    ankle = np.clip((-0.52 - z) / 0.15, 0, 1)
    along = np.sin(v[:, 0] * 90 + v[:, 1] * 50 + 2 * noise + rng.uniform(0, 6)) * np.clip(-z / 0.2, 0, 1)
    return np.asarray(fan + noise * (0.3 + knee) + across * (0.7 * knee + 0.8 * ankle) + 0.25 * along)


def shoe_surfaces(
    model: BodyModel, body: Body, bones: Floats, colour: tuple[float, float, float]
) -> list[Surface]:
    """Plain shoes: the hull of each foot, a little larger, on a sole."""
    result = []
    for side, label in (("L", "left leg"), ("R", "right leg")):
        i = model.index[f"foot.{side}"]
        low = body.vertices[:BODY_VERTICES, 2] < body.heads[i][2] - 0.005
        foot = body.vertices[:BODY_VERTICES][
            low & (body.vertices[:BODY_VERTICES, 0] * (1 if side == "L" else -1) > 0)
        ]
        hull = ConvexHull(foot)
        points = foot[hull.vertices]
        points = points + 0.007 * normalised(points - points.mean(axis=0))
        points[:, 2] -= 0.012 * (points[:, 2] < foot[:, 2].min() + 0.03)
        hull = ConvexHull(points)
        tris = hull.simplices.astype(np.int64)
        v = points @ bones[i, :, :3].T + bones[i, :, 3]
        normals = normalised((points - points.mean(axis=0)) * [1, 0.4, 1]) @ bones[i, :, :3].T
        result.append(Surface.plain(v, tris, colour, label=LABELS[label], normals=normals))
    return result
