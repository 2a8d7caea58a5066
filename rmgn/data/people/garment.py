"""Tops: their style, and the rest mesh cut from the body's outline by neckline, sleeve and hem."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.spatial import ConvexHull, cKDTree

from rmgn.data.people.body import BODY_VERTICES, Body, BodyModel
from rmgn.data.people.cloth import Constraints, constraints
from rmgn.data.people.mesh import (
    Floats,
    Ints,
    boundary_loops,
    cut,
    largest_component,
    normalised,
    smoothing,
    subdivision,
    triangles,
    used,
    vertex_normals,
)
from rmgn.data.people.style import Style

NECK, HEM, CUFF = 0, 1, 2  # columns of a garment's outline


@dataclass
class Garment:
    """A top's mesh, at rest around the body in its rest pose.

    The mesh reaches a little beyond the cloth: `outline` says where the cloth ends, so that edges are smooth
    curves although the mesh is coarse.
    """

    vertices: Floats  # [N, 3]
    quads: Ints  # [F, 4]
    weights: sp.csr_matrix  # [N, bones]
    outline: Floats  # [N, 3] signed metres to neckline, hem, cuff or armhole; positive is cut away
    seam: Floats  # [N] signed metres to the seam between torso and sleeve, positive on the sleeve
    facing: Floats  # [N] negative on the front half, positive on the back half
    tucked: Floats  # [N] metres below the line where it goes into a waistband; -1 where it does not

    @functools.cached_property
    def triangles(self) -> Ints:
        return triangles(self.quads)

    @functools.cached_property
    def even(self) -> sp.csr_matrix:
        return smoothing(len(self.vertices), self.quads)

    @functools.cached_property
    def constraints(self) -> Constraints:
        return constraints(self.vertices, self.quads)

    @functools.cached_property
    def inside(self) -> npt.NDArray[np.bool_]:
        """[N] whether a vertex lies within the outline."""
        return self.outline.max(axis=1) < 0

    @property
    def worn_outline(self) -> Floats:
        """[N, 3] `outline` of what a person shows of it: what is tucked in is cut away too."""
        neck, hem, cuff = self.outline.T
        return np.stack([neck, np.maximum(hem, self.tucked), cuff], axis=1)

    def trimmed(self, outline: Floats) -> Ints:
        """The triangles without those that lie wholly beyond an outline [N, 3]."""
        outside = outline.max(axis=1) > 0
        return self.triangles[~outside[self.triangles].all(axis=1)]


@dataclass
class _Landmarks:
    """Bone positions of the left side that patterns are measured from."""

    shoulder: Floats
    elbow: Floats
    wrist: Floats
    neck: Floats
    hip: Floats

    @classmethod
    def of(cls, model: BodyModel, body: Body) -> _Landmarks:
        names = ("upperarm01.L", "lowerarm01.L", "wrist.L", "neck01", "upperleg01.L")
        return cls(*(body.heads[model.index[name]] for name in names))


@functools.lru_cache(maxsize=1)
def shell(model: BodyModel) -> tuple[Ints, sp.csr_matrix, sp.csr_matrix]:
    """The body's tight outline, once subdivided: quads, matrix from base vertices, skin weights."""
    quads, source = used(model.groups["helper-tights"], len(model.uv))
    template = model.rest({}).vertices
    matrix, finer = subdivision(len(source), quads)
    pick = sp.csr_matrix(
        (np.ones(len(source)), (np.arange(len(source)), source)), (len(source), len(template))
    )
    nearest = cKDTree(template[:BODY_VERTICES]).query(template[source])[1]
    return finer, sp.csr_matrix(matrix @ pick), sp.csr_matrix(matrix @ model.weights[nearest])


def arm_weight(model: BodyModel, vertices: Floats, weights: sp.csr_matrix) -> Floats:
    """Share of the arm bones; the smaller of both mirror points, for weights reach over to the torso."""
    arm = np.array(
        [any(w in b for w in ("upperarm", "lowerarm", "wrist", "finger", "meta")) for b in model.bones]
    )
    share = np.asarray(weights @ arm.astype(float))
    mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])[1]
    return np.minimum(share, share[mirror])


def _along_arm(marks: _Landmarks, vertices: Floats) -> tuple[Floats, float]:
    """Distance from the shoulder joint along upper arm and forearm, and the whole arm's length."""
    p = np.column_stack([np.abs(vertices[:, 0]), vertices[:, 1:]])
    upper, fore = marks.elbow - marks.shoulder, marks.wrist - marks.elbow
    first, second = float(np.linalg.norm(upper)), float(np.linalg.norm(fore))
    along = (p - marks.shoulder) @ upper / first
    beyond = np.clip((p - marks.elbow) @ fore / second, 0, None)
    return np.minimum(along, first) + beyond * (along > 0.9 * first), first + second


def _neckline(style: Style, marks: _Landmarks, v: Floats) -> Floats:
    """Positive inside the neck opening."""
    x = np.abs(v[:, 0])
    top = marks.neck[2] + 0.015
    if style.neck == "off":  # a line below the shoulders, over the arms too
        line = marks.shoulder[2] - style.neck_depth - 0.25 * np.clip(0.12 - x, 0, 1) ** 1.5
        return np.asarray(v[:, 2] - line)
    if style.neck == "one":  # a line from beside the neck to below the other armpit
        fall = (style.neck_depth + 0.13) / (style.neck_width + marks.shoulder[0])
        return np.asarray((v[:, 2] - top - (v[:, 0] - style.neck_width) * fall) / np.hypot(1, fall))
    front = 1 / (1 + np.exp((v[:, 1] - marks.neck[1] - 0.02) / 0.012))
    power = {"crew": 2.2, "scoop": 2.4, "v": 1.05, "boat": 2.5, "square": 7.0}[style.neck]
    width = style.neck_width
    low = top - style.neck_depth * np.clip(1 - (x / width) ** power, -9, 1)
    high = top - style.back_depth * np.clip(1 - (x / width) ** 2, -9, 1)
    line = front * low + (1 - front) * high
    # A neck wider than the opening stands out of it: what is above lies on its sides, not on the shoulders.
    beside = np.maximum(-1e-3 - (x - width) * 0.5, v[:, 2] - top - np.clip(x - width, 0, 0.02))
    inside = np.where(x < width, v[:, 2] - line, beside)
    return np.where(v[:, 2] > marks.neck[2] + 0.06, 0.05, inside)


def _front_gap(style: Style, marks: _Landmarks, v: Floats) -> Floats:
    """Positive in the gap of an open front, which widens downwards."""
    down = np.clip((marks.neck[2] - v[:, 2]) / max(0.1, marks.neck[2] - marks.hip[2] - style.hem), 0, 1)
    gap = 0.016 + (style.opening - 0.016) * down
    return np.where(v[:, 1] < marks.neck[1], gap - np.abs(v[:, 0]), -1)


def _armhole(style: Style, marks: _Landmarks, v: Floats, arm: Floats) -> Floats:
    """Zero on the seam between torso and sleeve, positive on the sleeve, in metres near the seam."""
    if style.seam == "raglan":  # a straight line from beside the neck to the underarm
        start = np.array([style.neck_width * 0.8, marks.neck[2] - 0.01])
        end = np.array([marks.shoulder[0] + 0.015, marks.shoulder[2] - 0.13])
        along = (end - start) / np.linalg.norm(end - start)
        right = np.stack([-along[1], along[0]])
        side = (np.stack([np.abs(v[:, 0]), v[:, 2]], axis=1) - start) @ right
        return np.where(arm > 0.9, np.maximum(side, 0.02), side)
    level = {"set-in": 0.42, "drop": 0.75}[style.seam]
    return np.asarray((arm - level) * 0.15)


def _sleeveless(style: Style, marks: _Landmarks, v: Floats) -> Floats:
    """Positive beyond the armhole of a top without sleeves: a curve from the strap to the underarm."""
    top, low = marks.neck[2], marks.shoulder[2] - style.armhole
    down = np.clip((top - v[:, 2]) / (top - low), 0, 1)
    outer = style.strap + (marks.shoulder[0] + 0.012 - style.strap) * down**2.5
    # Below the underarm it fades: a step would leave a nub of cloth there.
    return np.clip(np.abs(v[:, 0]) - outer, -0.1, 0.05) - 5 * np.clip(low - v[:, 2], 0, 0.2)


def extend(flare: float, v: Floats, rim: Ints, bottom: float) -> tuple[Floats, Ints, Ints]:
    """Hang rows of cloth below the line `rim` down to height `bottom`: vertices, quads, their rim vertex."""
    line = v[rim]
    centre = line[:, :2].mean(axis=0)
    drop = line[:, 2] - bottom
    rows = max(1, round(float(drop.mean()) / 0.013))
    # Convex all around: cloth hangs from hips and seat in a curve and does not follow the crotch.
    hull = line[ConvexHull(line[:, :2]).vertices][:, :2] - centre
    angle = np.arctan2(line[:, 1] - centre[1], line[:, 0] - centre[0])
    order = np.argsort(np.arctan2(hull[:, 1], hull[:, 0]))
    hull_angle, hull_radius = np.arctan2(hull[:, 1], hull[:, 0])[order], np.linalg.norm(hull, axis=1)[order]
    radius = np.interp(angle, hull_angle, hull_radius, period=2 * np.pi)
    own = np.linalg.norm(line[:, :2] - centre, axis=1)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    made, ring, faces = [], rim, []
    for k in range(1, rows + 1):
        share = k / rows
        reach = np.maximum(own, radius) * min(1.0, k / 3) + own * max(0.0, 1 - k / 3) + flare * share * drop
        made.append(np.column_stack([centre + direction * reach[:, None], line[:, 2] - drop * share]))
        below = len(v) + (k - 1) * len(rim) + np.arange(len(rim))
        faces.append(np.stack([ring, below, np.roll(below, -1), np.roll(ring, -1)], axis=1))
        ring = below
    return np.concatenate(made), np.concatenate(faces), np.tile(rim, rows)


def run_of(quads: Ints, loop: Ints) -> Ints:
    """The loop, so that faces hung from it by `extend` look the same way as the others."""
    a, b = quads.ravel(), np.roll(quads, -1, axis=1).ravel()
    # The mesh runs along the edge in one sense, the quad that `extend` hangs there in the other.
    return loop if ((a == loop[0]) & (b == loop[1])).any() else loop[::-1]


def signed_distance(v: Floats, quads: Ints, level: Floats) -> Floats:
    """[N] distance to the line where `level` is zero, with the sign of `level`; ±1 where there is no line."""
    a, b = quads, np.roll(quads, -1, axis=1)
    crossing = (level[a] > 0) != (level[b] > 0)
    crossing &= (crossing.sum(axis=1) == 2)[:, None]
    if not crossing.any():
        return np.sign(level) + (level == 0)
    ends = np.argwhere(crossing).reshape(-1, 2, 2)
    points = []
    for k in (0, 1):
        i, j = a[ends[:, k, 0], ends[:, k, 1]], b[ends[:, k, 0], ends[:, k, 1]]
        share = (level[i] / (level[i] - level[j]))[:, None]
        points.append(v[i] * (1 - share) + v[j] * share)
    line = np.concatenate([points[0] * (1 - t) + points[1] * t for t in (0, 0.2, 0.4, 0.6, 0.8)])
    return np.asarray(cKDTree(line).query(v)[0] * np.where(level > 0, 1, -1))


def make_garment(model: BodyModel, body: Body, style: Style) -> Garment:
    """Cut the style from the body's outline, smooth it and push it out by its ease."""
    marks = _Landmarks.of(model, body)
    quads, matrix, weights = shell(model)
    v = np.asarray(matrix @ body.vertices)
    arm = arm_weight(model, v, weights)
    along, arm_length = _along_arm(marks, v)

    if style.sleeve <= 0:
        cuff = np.maximum(_sleeveless(style, marks, v), (arm - 0.5) * 0.15)
    else:
        length = style.sleeve * (arm_length - 0.005)
        cuff = np.minimum(along - length, (arm - 0.5) * 0.3 + np.clip(along - length, 0, 0.05))
    neck = _neckline(style, marks, v)
    hem = marks.hip[2] + style.hem
    bottom = hem - 0.012 - max(style.dip, abs(style.slant))
    lowest = max(bottom, marks.hip[2] + 0.03)
    piece = cut(v, quads, np.where(arm > 0.4, -1, lowest - v[:, 2]))
    v, quads, weights = piece.vertices, piece.quads, weights[piece.source]
    arm, neck, cuff = arm[piece.source], neck[piece.source], cuff[piece.source]
    if bottom < lowest - 0.004:
        rim = run_of(quads, min(boundary_loops(quads), key=lambda loop: float(v[loop, 2].mean())))
        new, faces, source = extend(style.flare, v, rim, bottom)
        v, quads = np.concatenate([v, new]), np.concatenate([quads, faces])
        weights = sp.csr_matrix(sp.vstack([weights, weights[source]]))
        arm, neck, cuff = (np.concatenate([f, f[source]]) for f in (arm, neck, cuff))
    x = np.clip(v[:, 0] / 0.17, -1, 1)
    behind = 1 / (1 + np.exp(-(v[:, 1] - marks.hip[1]) / 0.03))
    line = hem + style.tail * x**2 + style.slant * x - style.dip * behind
    below = np.where(arm > 0.4, -1, line - v[:, 2])
    if style.opening > 0:
        neck = np.maximum(neck, _front_gap(style, marks, v))
    outline = np.stack([signed_distance(v, quads, level) for level in (neck, below, cuff)], axis=1)
    tucked = np.full(len(v), -1.0)
    if style.tuck is not None:
        tucked = np.where(arm > 0.4, -1.0, marks.hip[2] + style.tuck - v[:, 2])

    even = smoothing(len(v), quads)
    for _ in range(12):
        v = 0.5 * v + 0.5 * (even @ v)
    quads = quads[(outline[quads].max(axis=2) < 0).any(axis=1)]
    quads, source = used(largest_component(quads, len(v)), len(v))
    v, weights, outline, tucked = v[source], sp.csr_matrix(weights[source]), outline[source], tucked[source]
    even = smoothing(len(v), quads)
    for _ in range(8):
        weights = sp.csr_matrix(0.5 * weights + 0.5 * (even @ weights))
    v = _push_out(style, marks, model, v, quads, weights, even, tucked)
    arm = arm_weight(model, v, weights)
    for _ in range(6):
        arm = even @ arm
    seam = _armhole(style, marks, v, arm) if style.sleeve > 0 else np.full(len(v), -1.0)
    facing = vertex_normals(v, triangles(quads))[:, 1]
    for _ in range(6):
        facing = even @ facing
    return Garment(v, quads, weights, outline, signed_distance(v, quads, seam), facing, tucked)


def _push_out(
    style: Style, marks: _Landmarks, model: BodyModel, v: Floats, quads: Ints, weights: sp.csr_matrix,
    even: sp.csr_matrix, tucked: Floats,
) -> Floats:  # fmt: skip
    """Offset along smooth normals: little at the neck, more towards hem and cuffs."""
    tris = triangles(quads)
    normal = vertex_normals(v, tris)
    for _ in range(6):
        normal = even @ normal
    arm = arm_weight(model, v, weights)
    lower = np.clip((marks.neck[2] - 0.12 - v[:, 2]) / 0.35, 0, 1)
    offset = style.ease + style.oversize * (0.35 + 0.65 * np.maximum(lower, arm))
    near_neck = np.clip((v[:, 2] - marks.neck[2] + 0.06) / 0.06, 0, 1) * (1 - arm)
    offset = offset * (1 - near_neck) + 0.004 * near_neck
    down = np.clip(
        (np.abs(v[:, 0]) - marks.shoulder[0]) / max(1e-3, marks.wrist[0] - marks.shoulder[0]), 0, 1
    )
    down = np.where(arm > 0.5, down, 0)
    offset = offset * (1 - (0.75 - style.sleeve_flare * 10) * down**2 * (style.sleeve > 0.6))
    offset = offset + style.sleeve_flare * down * (0.3 + down)
    if style.puff:
        offset = offset + style.puff * np.sin(np.pi * np.clip(down / style.sleeve, 0, 1)) ** 2 * (arm > 0.5)
    upward = np.clip((normalised(normal)[:, 2] - 0.2) / 0.5, 0, 1)
    offset = offset * (1 - 0.75 * upward) + 0.004 * upward  # cloth rests on the shoulders
    inside = np.clip((tucked + 0.06) / 0.04, 0, 1)  # what goes into the waistband lies close
    offset = offset * (1 - inside) + 0.003 * inside
    return np.asarray(v + normalised(normal) * offset[:, None])


def pins(garment: Garment, style: Style) -> Floats:
    """[N] how firmly a vertex is held: at the neck, on the shoulders, in the waistband."""
    v = garment.vertices
    neck, _, cuff = np.abs(garment.outline).T
    up = vertex_normals(v, garment.triangles)[:, 2]
    torso = np.clip(0.5 - garment.seam / 0.06, 0, 1)
    top = float(v[neck < 0.02, 2].max())
    result = 0.06 * np.clip((up - 0.45) / 0.3, 0, 1) * torso * (v[:, 2] > top - 0.12)
    low = 0.16 if style.opening > 0 else 0.3  # an open front hangs free
    result = np.maximum(result, 0.25 * (neck < 0.012) * np.clip((v[:, 2] - top + low) / 0.03, 0, 1))
    if style.sleeve > 0.6:
        result = np.maximum(result, 0.04 * (cuff < 0.012))
    return np.maximum(result, 0.3 * (garment.tucked > -0.02))
