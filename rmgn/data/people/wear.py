"""From a garment's rest mesh to the garment worn in a pose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.body import BODY_VERTICES, Body, BodyModel, skin
from rmgn.data.people.cloth import STRETCH, Constraints, Material, Obstacle, drape
from rmgn.data.people.garment import CUFF, HEM, Garment, pins
from rmgn.data.people.lower import Lower
from rmgn.data.people.mesh import Floats, smoothing, subdivision, vertex_normals
from rmgn.data.people.pose import Pose, transforms
from rmgn.data.people.style import Style


@dataclass
class Wearer:
    """A posed body and what it wears below."""

    body: Body
    bones: Floats  # [bones, 3, 4]
    vertices: Floats  # [19158, 3] posed
    normals: Floats  # [13380, 3]
    lower: Lower
    lower_vertices: Floats  # [L, 3] posed
    lower_normals: Floats


def settle(model: BodyModel, body: Body, pose: Pose, gap: float = 0.016) -> Pose | None:
    """Move forearms and hands out of the trunk, `gap` metres for cloth between; None if they stay in."""
    limbs = {s: np.flatnonzero(_limb(model, s)) for s in "LR"}
    trunk = np.flatnonzero(
        model.bone_weight("spine", "root", "pelvis", "breast", "upperleg")[:BODY_VERTICES] > 0.6
    )
    trunk_weights = model.weights[trunk]
    for _ in range(14):
        bones = transforms(model, body.heads, pose)
        posed = skin(body.vertices[trunk], trunk_weights, bones)
        tree = cKDTree(posed)
        normals = vertex_normals(
            skin(body.vertices[:BODY_VERTICES], model.weights[:BODY_VERTICES], bones), model.triangles
        )
        free = True
        for side, arm in (("L", pose.left), ("R", pose.right)):
            points = skin(body.vertices[limbs[side]], model.weights[limbs[side]], bones)
            distance, near = tree.query(points)
            height = ((points - posed[near]) * normals[trunk[near]]).sum(axis=1)
            if not ((height < gap) & (distance < 0.12)).any():
                continue
            free = False
            before = arm.fore[1] < -0.5
            push = (0.015, -0.07, 0.0) if before else (0.055, -0.015, 0.0)
            arm.fore = (arm.fore[0] + push[0], arm.fore[1] + push[1], arm.fore[2])
            arm.upper = (arm.upper[0] + 0.03, arm.upper[1] - 0.02 * before, arm.upper[2])
        if free:
            return pose
    return None


def _limb(model: BodyModel, side: str) -> npt.NDArray[np.bool_]:
    names = tuple(f"{b}.{side}" for b in ("lowerarm02", "wrist"))
    fingers = np.array(
        [b.endswith(f".{side}") and ("finger" in b or "meta" in b or b in names) for b in model.bones]
    )
    return np.asarray(model.weights[:BODY_VERTICES] @ fingers.astype(float)) > 0.6


def wearer(model: BodyModel, body: Body, pose: Pose, lower: Lower) -> Wearer:
    """Pose a body and its lower clothes."""
    return moved(model, body, transforms(model, body.heads, pose), lower)


def moved(model: BodyModel, body: Body, bones: Floats, lower: Lower) -> Wearer:
    """Body and lower clothes taken along by bone transforms [bones, 3, 4]."""
    vertices = skin(body.vertices, model.weights, bones)
    normals = vertex_normals(vertices[:BODY_VERTICES], model.triangles)
    below = skin(lower.vertices, lower.weights, bones)
    return Wearer(body, bones, vertices, normals, lower, below, vertex_normals(below, lower.triangles))


def find_obstacles(model: BodyModel, person: Wearer, garment: Garment, style: Style) -> list[Obstacle]:
    """Body and lower clothes, told apart so that arms push sleeves only and hands nothing."""
    rest = person.body.vertices[:BODY_VERTICES]
    arm = model.bone_weight("upperarm", "lowerarm", "wrist", "finger", "meta")[:BODY_VERTICES] > 0.5
    hand = model.bone_weight("wrist", "finger", "meta")[:BODY_VERTICES] > 0.5
    points, normals = person.vertices[:BODY_VERTICES], person.normals
    thickness = np.full(len(points), 0.005 if style.tuck is None else 0.004)
    if style.tuck is None:  # below the waistband it is the trousers that the cloth touches
        bare = ~((rest[:, 2] < person.lower.waist - 0.005) & ~arm)
        count = len(person.lower_vertices)
        points = np.concatenate([points[bare], person.lower_vertices])
        normals = np.concatenate([normals[bare], person.lower_normals])
        thickness = np.concatenate([thickness[bare], np.full(count, 0.007)])
        arm, hand = (np.concatenate([part[bare], np.zeros(count, bool)]) for part in (arm, hand))
    torso = garment.seam < -0.03
    sleeve = garment.seam > 0.04
    before = _arms_before_torso(model, person, torso)
    groups = ((torso, ~arm), (sleeve, arm & ~hand), (~torso & ~sleeve, ~hand))
    return [
        Obstacle(points[solid], normals[solid], thickness[solid], np.flatnonzero(cloth))
        for cloth, solid in groups
        if cloth.any()
    ] + before


def _arms_before_torso(model: BodyModel, person: Wearer, torso: npt.NDArray[np.bool_]) -> list[Obstacle]:
    """Hands and forearms press the torso's cloth towards the body, so that they stay on top of it."""
    limb = model.bone_weight("lowerarm02", "wrist", "finger", "meta")[:BODY_VERTICES] > 0.6
    trunk = model.bone_weight("spine", "root", "pelvis", "breast", "upperleg")[:BODY_VERTICES] > 0.6
    points = person.vertices[:BODY_VERTICES]
    gap, near = cKDTree(points[trunk]).query(points[limb])
    close = gap < 0.08
    if not close.any() or not torso.any():
        return []
    outward = person.normals[trunk][near][close]
    return [
        Obstacle(
            points[limb][close], -outward, np.full(int(close.sum()), 0.003), np.flatnonzero(torso), reach=0.02
        )
    ]


def refine(garment: Garment) -> tuple[Garment, sp.csr_matrix]:
    """Subdivide once; also the matrix that takes vertex values along."""
    matrix, quads = subdivision(len(garment.vertices), garment.quads)
    even = smoothing(matrix.shape[0], quads)
    blend = 0.65 * sp.identity(matrix.shape[0]) + 0.35 * even
    matrix = sp.csr_matrix(blend @ (blend @ matrix))
    fine = replace(
        garment,
        vertices=np.asarray(matrix @ garment.vertices),
        quads=quads,
        weights=sp.csr_matrix(matrix @ garment.weights),
        outline=np.asarray(matrix @ garment.outline),
        seam=np.asarray(matrix @ garment.seam),
        facing=np.asarray(matrix @ garment.facing),
        tucked=np.asarray(matrix @ garment.tucked),
    )
    return fine, matrix


def creased(garment: Garment, style: Style, rng: Generator) -> Constraints:
    """Let the cloth be a little longer here than there: it then buckles into small folds, and ruffles."""
    cons = garment.constraints
    middle = 0.5 * (garment.vertices[cons.pairs[:, 0]] + garment.vertices[cons.pairs[:, 1]])
    noise = np.zeros(len(middle))
    for _ in range(6):
        noise += np.sin(middle @ (rng.normal(size=3) / 0.06) + rng.uniform(0, 2 * np.pi))
    longer = 1 + style.crease * (1 + 0.25 * noise)
    if style.ruffle > 0:
        rim = np.abs(garment.outline[:, [HEM, CUFF]]).min(axis=1)
        longer += style.ruffle * np.clip(1 - rim[cons.pairs].mean(axis=1) / 0.05, 0, 1)
    return cons._replace(lengths=cons.lengths * longer)


def put_on(
    model: BodyModel, person: Wearer, coarse: Garment, fine: Garment, matrix: sp.csr_matrix, style: Style,
    rng: Generator,
) -> Floats:  # fmt: skip
    """Drape the coarse cloth from its skinned position, then the fine one: worn fine vertices."""
    start = skin(coarse.vertices, coarse.weights, person.bones)
    x = drape(
        start,
        coarse.constraints,
        Material(bend=style.bend),
        find_obstacles(model, person, coarse, style),
        pins(coarse, style),
        rounds=20,
        steps=12,
    )
    cons = creased(fine, style, rng)
    obstacles = find_obstacles(model, person, fine, style)
    x = drape(
        np.asarray(matrix @ x),
        cons,
        Material(bend=style.bend * 0.1),
        obstacles,
        0.5 * pins(fine, style),
        rounds=8,
        steps=10,
        passes=3,
        gravity=5.0,
        damping=0.96,
    )
    return finish(fine, x, obstacles)


def finish(fine: Garment, x: Floats, obstacles: list[Obstacle]) -> Floats:
    """Draped cloth [N, 3] without the roughness of single vertices, and outside of what it lies on."""
    even = fine.even
    for _ in range(2):  # Taubin: take the roughness of single vertices, not the folds
        x = x + 0.45 * (even @ x - x)
        x = x - 0.47 * (even @ x - x)
    for obstacle in obstacles:
        if np.isfinite(obstacle.reach):
            continue
        near = cKDTree(obstacle.points).query(x[obstacle.cloth])[1]
        away = obstacle.normals[near]
        depth = obstacle.thickness[near] - ((x[obstacle.cloth] - obstacle.points[near]) * away).sum(axis=1)
        x[obstacle.cloth] += np.clip(depth, 0, 0.02)[:, None] * away
    return x


TORN = 250  # edges of `torn`: with more, the cloth counts as torn


def torn(garment: Garment, x: Floats) -> int:
    """How many edges that are seen are stretched by more than half and 4 mm."""
    lines = garment.constraints
    pairs, rest = lines.pairs[lines.kinds == STRETCH], lines.lengths[lines.kinds == STRETCH]
    inside = (garment.worn_outline.max(axis=1) < 0)[pairs].all(axis=1)
    length = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    return int((inside & (length > 1.5 * rest + 0.004)).sum())
