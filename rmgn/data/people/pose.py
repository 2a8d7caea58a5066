"""How people stand before a mirror: arm directions, spine, fingers -> one transform a bone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from rmgn.data.people.body import BodyModel
from rmgn.data.people.mesh import Floats

Vector = tuple[float, float, float]


@dataclass
class Arm:
    """World directions for the left arm (x left, y back, z up); the right arm is mirrored."""

    upper: Vector
    fore: Vector
    hand: Vector | None = None  # None: the hand follows the forearm
    twist: float = 0.0  # degrees about the forearm, positive turns the palm to the front
    curl: float = 28.0  # degrees by which a finger's middle joint is bent
    close: float = 0.8  # 0: fingers spread, 1: side by side


@dataclass
class Pose:
    """Two arms, rotations of single bones (axis, degrees), and the name of the pose."""

    name: str
    left: Arm
    right: Arm
    bones: dict[str, tuple[Vector, float]] = field(default_factory=dict)
    left_first: bool = True  # whether the name's first part is the left arm's
    thighs: tuple[Vector, Vector] = ((0.05, 0, -1), (-0.05, 0, -1))  # world directions, left and right


def rotation(axis: Vector | Floats, degrees: float) -> Floats:
    """Rotation matrix about an axis of any length."""
    a = np.asarray(axis, float)
    x, y, z = a / np.linalg.norm(a)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def aim(start: Floats, goal: Floats, share: float = 1.0) -> Floats:
    """The smallest rotation from one direction to the other, or a share of it."""
    start, goal = start / np.linalg.norm(start), goal / np.linalg.norm(goal)
    axis = np.cross(start, goal)
    sine = float(np.linalg.norm(axis))
    if sine < 1e-8:
        return np.eye(3)
    return rotation(axis, share * float(np.degrees(np.arctan2(sine, start @ goal))))


def transforms(model: BodyModel, heads: Floats, pose: Pose) -> Floats:
    """Forward kinematics: bone transforms [bones, 3, 4] that take rest points to posed ones."""
    local = {bone: rotation(axis, degrees) for bone, (axis, degrees) in pose.bones.items()}
    for side, arm in (("L", pose.left), ("R", pose.right)):
        _aim_arm(model, heads, local, side, arm)
    for side, goal in zip("LR", pose.thighs, strict=True):
        thigh, knee = (heads[model.index[f"{b}.{side}"]] for b in ("upperleg01", "lowerleg01"))
        turn = aim(local.get("root", np.eye(3)) @ (knee - thigh), np.asarray(goal))
        local[f"upperleg01.{side}"] = local["root"].T @ turn @ local["root"] if "root" in local else turn
    turned: list[Floats] = []
    placed: list[Floats] = []
    result = np.zeros((len(model.bones), 3, 4))
    for i, bone in enumerate(model.bones):
        parent = model.parents[i]
        own = local.get(bone, np.eye(3))
        if parent < 0:
            turned.append(own)
            placed.append(heads[i])
        else:
            turned.append(turned[parent] @ own)
            placed.append(turned[parent] @ (heads[i] - heads[parent]) + placed[parent])
        result[i, :, :3] = turned[i]
        result[i, :, 3] = placed[i] - turned[i] @ heads[i]
    return result


def _world(model: BodyModel, local: dict[str, Floats], bone: str) -> Floats:
    chain = []
    i = model.index[bone]
    while i >= 0:
        chain.append(model.bones[i])
        i = model.parents[i]
    turn = np.eye(3)
    for name in reversed(chain):
        turn = turn @ local.get(name, np.eye(3))
    return turn


def _aim_arm(model: BodyModel, heads: Floats, local: dict[str, Floats], side: str, arm: Arm) -> None:
    """Aim upper arm, forearm and hand; the shoulder girdle takes its share, as a living one does."""
    mirror = np.array([1.0 if side == "L" else -1.0, 1, 1])

    def head(bone: str) -> Floats:
        return np.asarray(heads[model.index[f"{bone}.{side}"]])

    def turn_to(bone: str, rest: Floats, goal: Floats, share: float) -> None:
        name = f"{bone}.{side}"
        world = _world(model, local, name)
        turn = world.T @ aim(world @ rest, goal, share) @ world
        local[name] = local.get(name, np.eye(3)) @ turn

    upper, fore = head("lowerarm01") - head("upperarm01"), head("wrist") - head("lowerarm01")
    for bone, share in (("clavicle", 0.14), ("shoulder01", 0.25), ("upperarm01", 1.0)):
        turn_to(bone, upper, np.asarray(arm.upper) * mirror, share)
    turn_to("lowerarm01", fore, np.asarray(arm.fore) * mirror, 1.0)
    twist = arm.twist if side == "L" else -arm.twist
    local[f"lowerarm02.{side}"] = rotation(fore, twist * 0.6)
    local[f"wrist.{side}"] = rotation(fore, twist * 0.4)
    if arm.hand is not None:
        turn_to("wrist", head("finger3-1") - head("wrist"), np.asarray(arm.hand) * mirror, 1.0)
    across = head("finger2-1") - head("finger5-1")
    for finger in "2345":
        # A relaxed hand closes more towards the little finger.
        more = arm.curl * (0.55 + 0.15 * int(finger))
        for joint, share in (("1", 0.6), ("2", 1.0), ("3", 0.7)):
            local[f"finger{finger}-{joint}.{side}"] = rotation(across, -more * share)
    palm = np.cross(head("finger3-1") - head("wrist"), across)
    for finger, spread in (("2", 5.0), ("4", -4.0), ("5", -9.0)):  # the rest pose spreads the fingers
        turn = rotation(palm, arm.close * (spread if side == "L" else -spread))
        local[f"finger{finger}-1.{side}"] = turn @ local[f"finger{finger}-1.{side}"]
    thumb = head("finger1-3") - head("finger1-1")
    local[f"finger1-2.{side}"] = rotation(np.cross(across, thumb), 0.4 * arm.curl)


def _hanging(rng: Generator) -> Arm:
    return Arm(
        (rng.uniform(0.10, 0.24), rng.uniform(-0.02, 0.12), -1),
        (rng.uniform(0.03, 0.20), rng.uniform(-0.32, -0.08), -1),
        twist=rng.uniform(-25, 25),
        curl=rng.uniform(15, 40),
    )


def _on_hip(rng: Generator) -> Arm:
    return Arm(
        (rng.uniform(0.65, 0.85), rng.uniform(0.18, 0.32), -0.75),
        (rng.uniform(-0.68, -0.55), rng.uniform(-0.45, -0.3), rng.uniform(-0.7, -0.55)),
        twist=rng.uniform(-20, 20),
        curl=rng.uniform(35, 55),
    )


def _before_belly(rng: Generator) -> Arm:
    """Forearm across the belly, as if holding the other wrist or a small bag."""
    return Arm(
        (rng.uniform(0.24, 0.36), rng.uniform(-0.12, 0.0), -1),
        (rng.uniform(-0.85, -0.6), rng.uniform(-0.85, -0.65), rng.uniform(-0.35, 0.15)),
        twist=rng.uniform(-15, 25),
        curl=rng.uniform(20, 45),
    )


def _before_chest(rng: Generator) -> Arm:
    """The hand before the chest: a phone held up to the mirror, or fingers at the necklace."""
    return Arm(
        (rng.uniform(0.25, 0.45), rng.uniform(-0.35, -0.1), -1),
        (rng.uniform(-0.6, -0.2), rng.uniform(-0.9, -0.6), rng.uniform(0.35, 0.9)),
        twist=rng.uniform(-40, 40),
        curl=rng.uniform(40, 75),
        close=rng.uniform(0.5, 1.2),
    )


def _in_pocket(rng: Generator) -> Arm:
    return Arm(
        (rng.uniform(0.32, 0.44), rng.uniform(0.12, 0.26), -1),
        (rng.uniform(-0.16, -0.05), rng.uniform(-0.45, -0.3), -1),
        twist=rng.uniform(-10, 15),
        curl=rng.uniform(20, 45),
    )


def _behind(rng: Generator) -> Arm:
    return Arm(
        (rng.uniform(0.22, 0.32), rng.uniform(0.25, 0.4), -1),
        (rng.uniform(-0.45, -0.25), rng.uniform(0.1, 0.3), -1),
        twist=rng.uniform(-10, 10),
    )


def _raised(rng: Generator) -> Arm:
    """The hand at the hair, the collar or waving."""
    return Arm(
        (rng.uniform(0.45, 0.8), rng.uniform(-0.45, -0.2), rng.uniform(-0.8, -0.1)),
        (rng.uniform(-0.45, 0.25), rng.uniform(-0.4, -0.1), 1),
        twist=rng.uniform(-60, 40),
        curl=rng.uniform(20, 65),
        close=rng.uniform(0.4, 1.2),
    )


def _spread(rng: Generator) -> Arm:
    """Held away from the body, as when one looks down at a new garment."""
    spread = rng.uniform(0.35, 0.9)
    return Arm(
        (spread, rng.uniform(-0.1, 0.1), -1),
        (spread * rng.uniform(0.5, 1.0), rng.uniform(-0.4, -0.1), -1),
        twist=rng.uniform(-10, 40),
    )


def _folded(rng: Generator) -> tuple[Arm, Arm]:
    """Forearms over one another below the chest, the upper one's hand on the other arm."""
    lift = rng.uniform(-0.05, 0.12)
    over = Arm((0.30, -0.20, -1), (-0.92, -0.42, 0.06 + lift), hand=(-0.9, 0.25, 0.15), curl=22)
    under = Arm((0.30, -0.06, -1), (-0.95, -0.38, lift - 0.06), hand=(-0.95, 0.1, 0.1), curl=25)
    return over, under


_SINGLE = {
    "hanging": _hanging,
    "hip": _on_hip,
    "belly": _before_belly,
    "chest": _before_chest,
    "pocket": _in_pocket,
    "behind": _behind,
    "raised": _raised,
    "spread": _spread,
}
# Pairs of arms and how often they are seen; shop photos and mirrors show hanging arms most.
_PAIRS = [
    (("hanging", "hanging"), 0.32),
    (("hip", "hanging"), 0.10),
    (("hip", "hip"), 0.06),
    (("pocket", "pocket"), 0.07),
    (("pocket", "hanging"), 0.06),
    (("belly", "hanging"), 0.07),
    (("belly", "hip"), 0.03),
    (("chest", "hanging"), 0.09),
    (("chest", "belly"), 0.02),
    (("behind", "behind"), 0.04),
    (("raised", "hanging"), 0.06),
    (("raised", "hip"), 0.02),
    (("spread", "spread"), 0.05),
    (("folded", "folded"), 0.04),
]


def draw_pose(rng: Generator) -> Pose:
    """Draw arms, weight on one leg, a lean, a turned and tilted head."""
    chances = np.array([chance for _, chance in _PAIRS])
    first, second = _PAIRS[rng.choice(len(_PAIRS), p=chances / chances.sum())][0]
    arms = _folded(rng) if first == "folded" else (_SINGLE[first](rng), _SINGLE[second](rng))
    left_first = bool(rng.random() < 0.5)
    if not left_first:
        arms = arms[::-1]
    sway = float(rng.normal(0, 3.5))  # contrapposto: the hip tilts, the spine undoes it
    apart, step = rng.uniform(-0.01, 0.10), rng.normal(0, 0.07)
    thighs = ((apart + rng.uniform(0, 0.04), step, -1.0), (-apart - rng.uniform(0, 0.04), -step, -1.0))
    bones: dict[str, tuple[Vector, float]] = {
        "root": ((0, 1, 0), sway),
        "spine05": ((0, 1, 0), -sway * 0.6),
        "spine04": ((0, 1, 0), -sway * 0.5 + float(rng.normal(0, 1.5))),
        "spine03": ((0, 1, 0), -sway * 0.3),
        "spine02": ((0, 0, 1), float(rng.normal(0, 6))),
        "spine01": ((1, 0, 0), float(rng.normal(1, 2.5))),
        "neck01": ((0, 0, 1), float(rng.normal(0, 10))),
        "neck02": ((1, 0, 0), float(rng.normal(0, 4))),
        "head": ((float(rng.normal()), float(rng.normal()), float(rng.normal())), float(rng.normal(0, 7))),
    }
    return Pose(f"{first}-{second}", arms[0], arms[1], bones, left_first, thighs)
