"""Cloth as particles with distance constraints (XPBD), draped over a body, and laid flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.spatial import cKDTree

from rmgn.data.people.mesh import Floats, Ints, edges, ends_sorted, unique_pairs

STRETCH, SHEAR, BEND = 0, 1, 2
_STREAMS = 8  # constraints in a row that share no vertex: the processor then works on all of them at once


class Constraints(NamedTuple):
    """Pairs of vertices [C, 2], their rest lengths in metres [C] and kinds [C]."""

    pairs: npt.NDArray[np.int32]
    lengths: Floats
    kinds: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Material:
    """How a fabric resists: compliances, smaller is stiffer."""

    stretch: float = 1e-8
    shear: float = 2e-7
    bend: float = 4e-6


@dataclass(frozen=True)
class Obstacle:
    """Points with outward normals that some of the cloth must stay `thickness` away from."""

    points: Floats
    normals: Floats
    thickness: Floats
    cloth: Ints  # the cloth vertices that this obstacle stops
    reach: float = np.inf  # metres beyond which a point is no obstacle


def constraints(vertices: Floats, quads: Ints) -> Constraints:
    """Edges, diagonals and, over every edge, the pair of vertices two steps apart."""
    lines, _ = edges(quads)
    diagonals = np.concatenate([quads[:, [0, 2]], quads[:, [1, 3]]])
    pairs = np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2)
    # The neighbours of an edge's two ends within the quad, in the order of the edge's sorted ends.
    far = np.stack([np.roll(quads, 1, axis=1), np.roll(quads, -2, axis=1)], axis=2).reshape(-1, 2)
    flipped = pairs[:, 0] > pairs[:, 1]
    pairs[flipped], far[flipped] = pairs[flipped, ::-1], far[flipped, ::-1]
    order = np.argsort(pairs[:, 0] * len(vertices) + pairs[:, 1], kind="stable")
    pairs, far = pairs[order], far[order]
    shared = np.flatnonzero((pairs[1:] == pairs[:-1]).all(axis=1))
    across = np.concatenate([np.stack([far[shared, k], far[shared + 1, k]], axis=1) for k in (0, 1)])
    across = unique_pairs(ends_sorted(across)).pairs
    across = across[across[:, 0] != across[:, 1]]
    every = np.concatenate([lines, diagonals, across])
    kinds = np.repeat(np.array([STRETCH, SHEAR, BEND], np.int8), [len(lines), len(diagonals), len(across)])
    lengths = np.linalg.norm(vertices[every[:, 0]] - vertices[every[:, 1]], axis=1)
    order = np.argsort(
        np.minimum(every[:, 0], every[:, 1]), kind="stable"
    )  # neighbours in memory, for the cache
    order = interleaved(order)
    return Constraints(every[order].astype(np.int32), lengths[order], kinds[order])


def interleaved(order: Ints) -> Ints:
    """One from each of `_STREAMS` distant parts of the order in turn.

    Gauss-Seidel along a line of neighbours waits for each result; this is 2.5 times as fast.
    """
    rows = -(-len(order) // _STREAMS)
    place = np.arange(rows * _STREAMS).reshape(_STREAMS, rows).T.ravel()
    return order[place[place < len(order)]]


@njit(cache=True, fastmath=True)
def _substeps(  # type: ignore[no-untyped-def]
    x, velocity, pairs, lengths, share, steps, passes, dt, gravity, damping, pin, goal, near, point,
    normal, thick, friction,
):  # fmt: skip
    """Advance the cloth; `near` [N, M] is the obstacle point for each vertex and obstacle, -1 for none."""
    count = len(x)
    before = np.empty_like(x)
    for _ in range(steps):
        for i in range(count):
            for j in range(3):
                before[i, j] = x[i, j]
                velocity[i, j] *= damping
            velocity[i, 2] -= gravity * dt
            for j in range(3):
                x[i, j] += dt * velocity[i, j]
        for _pass in range(passes):
            for k in range(len(pairs)):
                a, b = pairs[k, 0], pairs[k, 1]
                dx, dy, dz = x[a, 0] - x[b, 0], x[a, 1] - x[b, 1], x[a, 2] - x[b, 2]
                move = share[k] * (1.0 - lengths[k] / (np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-12))
                x[a, 0] -= move * dx
                x[a, 1] -= move * dy
                x[a, 2] -= move * dz
                x[b, 0] += move * dx
                x[b, 1] += move * dy
                x[b, 2] += move * dz
        for i in range(count):
            if pin[i] > 0:
                for j in range(3):
                    x[i, j] += pin[i] * (goal[i, j] - x[i, j])
            for m in range(near.shape[1]):
                o = near[i, m]
                if o < 0:
                    continue
                depth = thick[o]
                for j in range(3):
                    depth -= (x[i, j] - point[o, j]) * normal[o, j]
                if depth > 0:
                    along = 0.0
                    for j in range(3):
                        x[i, j] += depth * normal[o, j]
                        along += (x[i, j] - before[i, j]) * normal[o, j]
                    for j in range(3):
                        x[i, j] -= friction * ((x[i, j] - before[i, j]) - along * normal[o, j])
        for i in range(count):
            for j in range(3):
                velocity[i, j] = (x[i, j] - before[i, j]) / dt


def drape(
    start: Floats,
    cons: Constraints,
    material: Material,
    obstacles: list[Obstacle],
    pin: Floats,
    rounds: int,
    steps: int,
    passes: int = 1,
    gravity: float = 9.8,
    damping: float = 0.985,
    friction: float = 0.35,
    dt: float = 1 / 240,
) -> Floats:
    """Let cloth fall from `start` [N, 3] for `rounds` × `steps` substeps; contacts are searched each round.

    pin: [N] share by which a vertex is drawn back to its start each substep. Returns positions [N, 3].
    """
    kinds = np.array([material.stretch, material.shear, material.bend])
    share = 1 / (2 + kinds[cons.kinds] / dt**2)  # of its error that a constraint mends at either end
    x, velocity = start.copy(), np.zeros_like(start)
    point = np.concatenate([o.points for o in obstacles])
    normal = np.concatenate([o.normals for o in obstacles])
    thick = np.concatenate([o.thickness for o in obstacles])
    trees = [cKDTree(o.points) for o in obstacles]
    base = np.cumsum([0] + [len(o.points) for o in obstacles])
    near = np.full((len(x), len(obstacles)), -1)
    for _ in range(rounds):
        for m, (obstacle, tree) in enumerate(zip(obstacles, trees, strict=True)):
            gap, k = tree.query(x[obstacle.cloth], distance_upper_bound=obstacle.reach)
            near[obstacle.cloth, m] = np.where(np.isfinite(gap), base[m] + k, -1)
        _substeps(
            x, velocity, cons.pairs, cons.lengths, share, steps, passes, dt, gravity, damping, pin,
            start, near, point, normal, thick, friction,
        )  # fmt: skip
    return x


@njit(cache=True, fastmath=True)
def _lay(x, pairs, lengths, share, front, rounds, depth, give):  # type: ignore[no-untyped-def]
    for _ in range(rounds):
        for k in range(len(pairs)):
            a, b = pairs[k, 0], pairs[k, 1]
            dx, dy, dz = x[a, 0] - x[b, 0], x[a, 1] - x[b, 1], x[a, 2] - x[b, 2]
            move = 0.5 * share[k] * (1.0 - lengths[k] / (np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-12))
            if move < 0:
                move *= give
            x[a, 0] -= move * dx
            x[a, 1] -= move * dy
            x[a, 2] -= move * dz
            x[b, 0] += move * dx
            x[b, 1] += move * dy
            x[b, 2] += move * dz
        for i in range(len(x)):
            if front[i]:
                x[i, 1] = max(min(x[i, 1], -0.001), -depth[i])
            else:
                x[i, 1] = min(max(x[i, 1], 0.001), depth[i])


def lay(
    x: Floats,
    cons: Constraints,
    front: npt.NDArray[np.bool_],
    rounds: int,
    depth: Floats,
    bend: float = 0.25,
    give: float = 0.15,
) -> Floats:
    """Relax cloth to its rest lengths, front half within [-depth, 0) and back half within (0, depth] in y.

    give: how much of its force cloth has against being pushed together; little, for a body's curves must go.
    """
    share = np.array([1.0, 0.6, bend])[cons.kinds]
    x = x.copy()
    _lay(x, cons.pairs, cons.lengths, share, front, rounds, depth, give)
    return x
