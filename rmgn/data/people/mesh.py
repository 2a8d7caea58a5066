"""Small tools for quad and triangle meshes: vertices float [N, 3], faces int [F, 4] or [F, 3]."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Cut(NamedTuple):
    """A mesh cut along the zero line of a function: `source` says which old vertex each new one was."""

    vertices: Floats
    quads: Ints
    source: Ints


def triangles(quads: Ints) -> Ints:
    """Split quads [F, 4] into triangles [2F, 3]; triangle f and f + F come from quad f."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def grid_quads(rows: int, columns: int) -> Ints:
    """Quads [F, 4] of a grid whose vertices are numbered row by row."""
    grid = np.arange(rows * columns).reshape(rows, columns)
    return np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2).reshape(-1, 4)


def vertex_normals(vertices: npt.NDArray[np.floating], tris: Ints) -> Floats:
    """Area-weighted unit normals, one a vertex."""
    a, b, c = (vertices[tris[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    total = np.zeros((len(vertices), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(
            tris.T.ravel(), np.broadcast_to(face[:, axis], (3, len(tris))).ravel(), len(vertices)
        )
    return normalised(total)


def normalised(vectors: npt.NDArray[np.floating]) -> Floats:
    """Rows scaled to unit length; zero rows stay zero."""
    return np.asarray(
        vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float64
    )


class _Unique(NamedTuple):
    pairs: Ints
    inverse: Ints
    counts: Ints


def unique_pairs(pairs: Ints) -> _Unique:
    """Rows [P, 2] once each, in order; as one integer a row, which sorts ten times faster than `axis=0`."""
    span = int(pairs.max(initial=0)) + 1
    keys, inverse, counts = np.unique(
        pairs[:, 0] * span + pairs[:, 1], return_inverse=True, return_counts=True
    )
    return _Unique(np.stack([keys // span, keys % span], axis=1), inverse, counts)


def edges(faces: Ints) -> tuple[Ints, Ints]:
    """Every edge once, ends sorted, and how many faces share it."""
    pairs = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    found = unique_pairs(ends_sorted(pairs))
    return found.pairs, found.counts


def ends_sorted(pairs: Ints) -> Ints:
    """Pairs [P, 2] with the smaller index first."""
    a, b = pairs[:, 0], pairs[:, 1]
    return np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1)


def boundary_edges(faces: Ints) -> Ints:
    """Edges that only one face has."""
    unique, counts = edges(faces)
    return unique[counts == 1]


def boundary_loops(faces: Ints) -> list[Ints]:
    """Closed boundary lines as vertex indices in the order in which the faces run along them."""
    pairs = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    found = unique_pairs(ends_sorted(pairs))
    follow = {int(a): int(b) for a, b in pairs[found.counts[found.inverse] == 1]}
    loops = []
    while follow:
        start, vertex = follow.popitem()
        loop = [start]
        while vertex != start and vertex in follow:
            loop.append(vertex)
            vertex = follow.pop(vertex)
        loops.append(np.asarray(loop))
    return sorted(loops, key=len, reverse=True)


def averaging(count: int, lines: Ints) -> sp.csr_matrix:
    """Sparse matrix that replaces each vertex by the mean of its neighbours along `lines` [E, 2]."""
    both = np.concatenate([lines, lines[:, ::-1]])
    matrix = sp.csr_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(count, count))
    degree = np.asarray(matrix.sum(axis=1)).ravel()
    lonely = sp.diags((degree == 0).astype(float))
    return sp.csr_matrix(sp.diags(1 / np.maximum(degree, 1)) @ matrix + lonely)


def smoothing(count: int, faces: Ints) -> sp.csr_matrix:
    """Averaging in which the boundary only listens to the boundary, so that outlines stay where they are."""
    rim = boundary_edges(faces)
    on_rim = np.zeros(count)
    on_rim[rim] = 1
    inner = averaging(count, edges(faces)[0])
    return sp.csr_matrix(sp.diags(1 - on_rim) @ inner + sp.diags(on_rim) @ averaging(count, rim))


def subdivision(count: int, quads: Ints) -> tuple[sp.csr_matrix, Ints]:
    """Matrix from old vertices to new ones, and the new quads: each old quad becomes four."""
    unique, inverse, _ = unique_pairs(
        ends_sorted(np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2))
    )
    middle = count + inverse.reshape(quads.shape)
    centre = count + len(unique) + np.arange(len(quads))
    rows = np.arange(len(unique))
    halves = sp.csr_matrix(
        (np.full(2 * len(rows), 0.5), (np.tile(rows, 2), unique.T.ravel())), shape=(len(unique), count)
    )
    rows = np.arange(len(quads))
    means = sp.csr_matrix(
        (np.full(4 * len(rows), 0.25), (np.tile(rows, 4), quads.T.ravel())), shape=(len(quads), count)
    )
    finer = [np.stack([quads[:, k], middle[:, k], centre, middle[:, k - 1]], axis=1) for k in range(4)]
    return sp.csr_matrix(sp.vstack([sp.identity(count), halves, means])), np.concatenate(finer)


def used(quads: Ints, count: int) -> tuple[Ints, Ints]:
    """Renumber faces to the vertices that they use: (new faces, old index of each new vertex)."""
    source = np.unique(quads)
    number = np.full(count, -1)
    number[source] = np.arange(len(source))
    return number[quads], source


def largest_component(quads: Ints, count: int) -> Ints:
    """The faces of the largest connected piece."""
    graph = averaging(count, edges(quads)[0])
    _, label = sp.csgraph.connected_components(graph, directed=False)
    return quads[label[quads[:, 0]] == np.bincount(label[quads[:, 0]]).argmax()]


def cut(vertices: Floats, quads: Ints, outside: Floats) -> Cut:
    """Keep what has `outside` <= 0; vertices near the line are moved onto it, so the edge runs clean."""
    lines, _ = edges(quads)
    a, b = outside[lines[:, 0]], outside[lines[:, 1]]
    crossing = (a > 0) != (b > 0)
    lines, a, b = lines[crossing], a[crossing], b[crossing]
    share = a / (a - b)
    point = vertices[lines[:, 0]] * (1 - share)[:, None] + vertices[lines[:, 1]] * share[:, None]
    vertices, outside = vertices.copy(), outside.copy()
    moved = np.zeros(len(vertices), bool)
    for k in np.argsort(np.minimum(share, 1 - share)):
        vertex = lines[k, 0] if share[k] < 0.5 else lines[k, 1]
        if not moved[vertex]:
            vertices[vertex], outside[vertex], moved[vertex] = point[k], 0, True
    kept = largest_component(quads[(outside[quads] <= 0).all(axis=1)], len(vertices))
    kept, source = used(kept, len(vertices))
    return Cut(vertices[source], kept, source)
