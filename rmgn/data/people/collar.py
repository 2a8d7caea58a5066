"""Collars: strips that grow out of the neckline, standing, rolled or folded over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from rmgn.data.people.garment import NECK, Garment
from rmgn.data.people.mesh import Floats, Ints, normalised, triangles
from rmgn.data.people.style import Style

_AROUND = 80  # points along the neckline
_STAND = 4  # rows of the part that stands
_LEAF = 7  # rows of the part that falls over it
_WIDEST_GAP = 0.4  # radians of a neckline where the mesh shows none
FOLDED = ("fold", "hood")


@dataclass
class Collar:
    """A strip's topology and what does not depend on the pose."""

    ring: (
        sp.csr_matrix
    )  # [80, N] neckline points from the garment's vertices, front over left and back to front
    angle: Floats  # [80] 0 and 2π in front, π in the back
    triangles: Ints
    edge: Floats  # [rows · 80] metres to the strip's free edge
    facing: Floats  # [rows · 80]
    style: Style

    def worn(self, garment_vertices: Floats, neck_axis: Floats, body: Floats, normals: Floats) -> Floats:
        """Vertices around a posed neck: kept off the body (points and normals) and off the garment."""
        ring = self.ring @ garment_vertices
        cloth = garment_vertices[:: max(1, len(garment_vertices) // 6000)]
        up = neck_axis / np.linalg.norm(neck_axis)
        out = ring - ring.mean(axis=0)
        out = normalised(out - (out @ up)[:, None] * up)
        rows = self._rows(ring, up, out, gap=0.006)
        near_body = cKDTree(body)
        near_cloth = cKDTree(cloth)
        for k, points in enumerate(rows):
            k_near = near_body.query(points)[1]
            depth = 0.004 - ((points - body[k_near]) * normals[k_near]).sum(axis=1)
            lift = np.clip(depth, 0, 0.03)[:, None] * normals[k_near]
            if k > _STAND and self.style.collar in FOLDED:  # the leaf lies on the shoulders
                c_near = near_cloth.query(points)[1]
                away = normalised(out + 0.8 * up)
                over = 0.007 - ((points - cloth[c_near]) * away).sum(axis=1)
                lift = lift + np.clip(over, 0, 0.02)[:, None] * away
            rows[k] = points + lift
        return _even(rows, _closed(self.style))

    def flat(self, garment_flat: Floats) -> Floats:
        """Vertices of the collar in the shop photo."""
        ring = self.ring @ garment_flat
        out = np.stack([np.sin(self.angle), -0.4 * np.cos(self.angle), np.zeros(_AROUND)], axis=1)
        up = np.array([0.0, 0.0, 1.0])
        lean = -0.7 + 0.6 * self.style.unbuttoned
        return _even(self._rows(ring, up, out, gap=0.012, lean=lean, fall=0.9), _closed(self.style))

    def _rows(
        self, ring: Floats, up: Floats, out: Floats, gap: float, lean: float = -0.12, fall: float = 0.34
    ) -> list[Floats]:
        style, front = self.style, np.cos(self.angle)
        height = style.collar_height * (1 - 0.25 * np.clip(front, 0, 1))[:, None]
        steps = np.linspace(0, 1, _STAND + 1)
        lean = lean if style.collar == "fold" else 0.4 * lean
        rows = [ring + height * s * (up + lean * s * out) for s in steps]
        if style.collar not in FOLDED:  # its edge is level, though the neckline is not
            level = ring @ up
            even = np.clip(0.7 * (np.median(level) - level)[:, None], -0.5 * height, 0.5 * height)
            return [row + s * even * up for row, s in zip(rows, steps, strict=True)]
        top = rows[-1]
        opening = np.clip((front - 0.75) / 0.25, 0, 1)  # towards the points
        length = (style.leaf * (1 + 0.55 * opening**1.5))[:, None]
        # The points spread to both sides of the opening.
        side = np.where(self.angle < np.pi, 1.0, -1.0)[:, None] * np.cross(up, out)
        if style.collar == "hood":  # thick and long behind, lying on the shoulders
            length = (style.leaf * (0.75 - 0.55 * front))[:, None]
            gap, opening = 0.02, 0.4 * opening
        down = normalised(-0.94 * up + fall * out + (0.28 * opening)[:, None] * side)
        bulge = [gap * np.sin(np.pi / 2 * min(1.0, 3 * s + 0.2)) for s in np.linspace(0, 1, _LEAF)]
        leaf = [
            top + b * out + length * s * down for b, s in zip(bulge, np.linspace(0, 1, _LEAF), strict=True)
        ]
        return rows + leaf


def _closed(style: Style) -> bool:
    """Whether the strip's ends are sewn together."""
    return style.collar not in FOLDED and style.opening == 0


def _even(rows: list[Floats], closed: bool) -> Floats:
    """Smooth along the neckline; rows stay apart, and so do the ends of one that is not closed."""
    points = np.stack(rows)
    for _ in range(3):
        change = 0.25 * (np.roll(points, 1, axis=1) + np.roll(points, -1, axis=1) - 2 * points)
        if not closed:
            change[:, [0, -1]] = 0
        points[1:] += change[1:]
    return points.reshape(-1, 3)


def make_collar(garment: Garment, style: Style) -> Collar | None:
    """The collar of a style, or None if it has none or its neckline is no closed line."""
    if style.collar == "none":
        return None
    ring, angle = _neckline_points(garment, style)
    if ring is None or angle is None:
        return None
    folded = style.collar in FOLDED
    rows = _STAND + 1 + (_LEAF if folded else 0)
    grid = np.arange(rows * _AROUND).reshape(rows, _AROUND)
    closed = _closed(style)
    right = np.roll(grid, -1, axis=1) if closed else grid[:, 1:]
    left = grid if closed else grid[:, :-1]
    quads = np.stack([left[:-1], right[:-1], right[1:], left[1:]], axis=2).reshape(-1, 4)
    leaf = style.leaf if folded else 0.0
    along = np.concatenate([np.full(_STAND + 1, leaf + 0.02), leaf * (1 - np.linspace(0, 1, _LEAF))])[:rows]
    if not folded:
        along = style.collar_height * (1 - np.linspace(0, 1, rows))
    edge = np.repeat(along, _AROUND)
    facing = np.tile(-np.cos(angle), rows)
    return Collar(ring, angle, triangles(quads), edge, facing, style)


def _neckline_points(garment: Garment, style: Style) -> tuple[sp.csr_matrix | None, Floats | None]:
    """Evenly spaced points of the line where the neck's outline distance is zero, as weights of vertices."""
    level = garment.outline[:, NECK]
    quads = garment.quads
    a, b = quads.ravel(), np.roll(quads, -1, axis=1).ravel()
    one_way = (level[a] <= 0) & (level[b] > 0)
    a, b = a[one_way], b[one_way]
    if len(a) < 20:
        return None, None
    share = level[a] / (level[a] - level[b])
    points = garment.vertices[a] * (1 - share)[:, None] + garment.vertices[b] * share[:, None]
    if style.opening > 0:  # the line runs on down the front's edges
        high = points[:, 2] > points[:, 2].max() - style.neck_depth - 0.02
        if high.sum() < 20:
            return None, None
        a, b, share, points = a[high], b[high], share[high], points[high]
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    angle = np.arctan2(points[:, 0] - centre[0], -(points[:, 1] - centre[1])) % (2 * np.pi)
    order = np.argsort(angle)
    a, b, share, angle, points = a[order], b[order], share[order], angle[order], points[order]
    if style.opening == 0:  # around to where it began
        if np.diff(angle, append=angle[0] + 2 * np.pi).max() > _WIDEST_GAP:
            return None, None
        a, b, share, points = (np.concatenate([x, x[:1]]) for x in (a, b, share, points))
        angle = np.append(angle, angle[0] + 2 * np.pi)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    # Edges of an open front do not overlap; others meet, or skin would show between them.
    margin = 0.004 if style.opening > 0 else 1e-4
    front = float(np.interp(2 * np.pi, angle, length)) % length[-1]  # 0, its beginning, of an open line
    wanted = (front + np.linspace(margin, length[-1] - margin, _AROUND)) % length[-1]
    k = np.clip(np.searchsorted(length, wanted) - 1, 0, len(length) - 2)
    t = np.clip((wanted - length[k]) / np.maximum(length[k + 1] - length[k], 1e-9), 0, 1)
    rows = np.arange(len(a))
    crossing = sp.csr_matrix(
        (np.concatenate([1 - share, share]), (np.tile(rows, 2), np.concatenate([a, b]))),
        shape=(len(a), len(garment.vertices)),
    )
    rows = np.arange(_AROUND)
    pick = sp.csr_matrix(
        (np.concatenate([1 - t, t]), (np.tile(rows, 2), np.concatenate([k, k + 1]))), (_AROUND, len(a))
    )
    return sp.csr_matrix(pick @ crossing), (angle[k] * (1 - t) + angle[k + 1] * t) % (2 * np.pi)
