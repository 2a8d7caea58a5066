"""Trousers, skirts and shorts: what try-on must leave alone, and what a top falls over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.random import Generator

from rmgn.data.people.body import Body, BodyModel
from rmgn.data.people.garment import arm_weight, extend, run_of, shell
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


@dataclass(frozen=True)
class LowerStyle:
    """Measures in metres."""

    kind: str = "trousers"  # trousers, jeans, shorts, skirt
    waist: float = 0.06  # height of the waistband's top above the hip joint
    ease: float = 0.006
    width: float = 0.0  # extra width per metre below the seat
    length: float = 1.0  # below the hip joint; what hangs lower is cut
    folds: float = 0.004  # depth of the folds around seat and knee


@dataclass
class Lower:
    """A mesh at rest; `cloth` [N, 2]: fabric coordinates in metres, x and height above the waist's top."""

    vertices: Floats
    triangles: Ints
    weights: sp.csr_matrix
    cloth: Floats
    facing: Floats  # negative in front
    waist: float  # world height of the top in the rest pose


def draw_lower(rng: Generator, feminine: bool) -> LowerStyle:
    """Draw a style; skirts mostly for women."""
    kinds, chances = ["trousers", "jeans", "shorts", "skirt"], [0.36, 0.4, 0.08, 0.16 if feminine else 0.01]
    kind = str(rng.choice(kinds, p=np.array(chances) / sum(chances)))
    waist = rng.uniform(0.05, 0.17) if feminine else rng.uniform(0.04, 0.1)
    wide = rng.choice([0.0, rng.uniform(0, 0.05), rng.uniform(0.05, 0.16)], p=[0.4, 0.35, 0.25])
    length = {"shorts": rng.uniform(0.12, 0.35), "skirt": rng.uniform(0.22, 0.7)}.get(kind, 1.0)
    return LowerStyle(kind, float(waist), float(rng.uniform(0.004, 0.009)), float(wide), float(length),
                      float(rng.uniform(0.001, 0.006)))  # fmt: skip


def make_lower(model: BodyModel, body: Body, style: LowerStyle, rng: Generator) -> Lower:
    """Cut from the body's outline, smooth over crotch and seat, push out and fold."""
    hip = body.heads[model.index["upperleg01.L"]][2]
    quads, matrix, weights = shell(model)
    v = np.asarray(matrix @ body.vertices)
    top, bottom = hip + style.waist, hip - style.length
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
    offset = style.ease + np.clip(below * 0.03, 0, 0.02) + (0 if skirt else style.width * below)
    offset = offset + style.folds * _folds(v, hip, rng) * np.clip((top - 0.05 - v[:, 2]) / 0.05, 0, 1)
    offset = offset + 0.004 * np.clip((v[:, 2] - top + 0.05) / 0.03, 0, 1)  # a waistband is stiff and doubled
    v = v + normalised(normal) * offset[:, None]
    keep = np.ones(len(v))
    keep[boundary_edges(quads)] = 0
    for _ in range(2):
        v += 0.3 * keep[:, None] * (even @ v - v)
    return Lower(v, tris, weights, np.stack([v[:, 0], v[:, 2] - top], axis=1), normal[:, 1], float(top))


def _folds(v: Floats, hip: float, rng: Generator) -> Floats:
    """Creases that fan out from the crotch and lie across the knees, [N] around zero."""
    crotch = np.array([0.0, hip - 0.09])
    x, z = np.abs(v[:, 0]) - crotch[0], v[:, 2] - crotch[1]
    angle, radius = np.arctan2(z, x + 0.02), np.hypot(x, z)
    fan = np.sin(angle * rng.uniform(9, 16) + np.sign(v[:, 0]) * rng.uniform(0, 1) + rng.uniform(0, 6))
    fan = fan * np.exp(-((radius / 0.14) ** 2)) * np.clip(radius / 0.03, 0, 1)
    noise = np.zeros(len(v))
    for _ in range(5):
        wave = rng.normal(size=3) * [18, 10, 45]
        noise += np.sin(v @ wave + rng.uniform(0, 6)) / 5
    knee = np.exp(-(((z + 0.36) / 0.12) ** 2))
    return np.asarray(fan + noise * (0.25 + knee))
