"""How people stand before a mirror: arm directions, spine, fingers -> one transform a bone."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from rmgn.data.people.body import BODY_VERTICES, Body, BodyModel, skin
from rmgn.data.people.mesh import Floats
from rmgn.data.rotation import rotation

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Reach:
    """A place before the trunk, for the arm's own side."""

    across: float  # metres from the body's middle, negative on the other side
    height: float  # 0 at the hips, 1 at the shoulders
    away: float = 0.05  # metres from the skin to the middle of the wrist
    pole: Vector = (0.7, 0.25, -1)  # where the elbow points


@dataclass
class Arm:
    """World directions for the left arm (x left, y back, z up); the right arm is mirrored."""

    upper: Vector
    fore: Vector
    hand: Vector | None = None  # None: the hand follows the forearm
    twist: float = 0.0  # degrees about the forearm, positive turns the palm of a hanging hand to the back
    curl: float = 28.0  # degrees by which a finger's middle joint is bent
    close: float = 0.8  # 0: fingers spread, 1: side by side
    fingers: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # factors of curl, from the index on
    thumb: float = 0.0  # degrees by which the thumb closes on the palm
    reach: Reach | None = None  # where the wrist lies before the trunk; `reach_out` then sets upper and fore


@dataclass
class Pose:
    """Two arms, rotations of single bones (axis, degrees), and the name of the pose."""

    name: str
    left: Arm
    right: Arm
    bones: dict[str, tuple[Vector, float]] = field(default_factory=dict)
    left_first: bool = True  # whether the name's first part is the left arm's
    thighs: tuple[Vector, Vector] = ((0.05, 0, -1), (-0.05, 0, -1))  # world directions, left and right


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
    sign = 1.0 if side == "L" else -1.0
    mirror = np.array([sign, 1, 1])

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
    twist = sign * arm.twist
    local[f"lowerarm02.{side}"] = rotation(fore, twist * 0.6)
    local[f"wrist.{side}"] = rotation(fore, twist * 0.4)
    if arm.hand is not None:
        turn_to("wrist", head("finger3-1") - head("wrist"), np.asarray(arm.hand) * mirror, 1.0)
    # An axis mirrors like the hand, the angle about it does not: hence `sign`. A cross product of two axes
    # (`palm`, the thumb's) has changed its side already.
    across = head("finger2-1") - head("finger5-1")
    for finger in "2345":
        # A relaxed hand closes more towards the little finger.
        more = arm.curl * (0.55 + 0.15 * int(finger)) * arm.fingers[int(finger) - 2]
        for joint, share in (("1", 0.6), ("2", 1.0), ("3", 0.7)):
            local[f"finger{finger}-{joint}.{side}"] = rotation(across, -sign * more * share)
    palm = np.cross(head("finger3-1") - head("wrist"), across)
    for finger, spread in (("2", 5.0), ("4", -4.0), ("5", -9.0)):  # the rest pose spreads the fingers
        turn = rotation(palm, -arm.close * spread)
        local[f"finger{finger}-1.{side}"] = turn @ local[f"finger{finger}-1.{side}"]
    thumb = head("finger1-3") - head("finger1-1")
    local[f"finger1-2.{side}"] = rotation(np.cross(across, thumb), 0.4 * arm.curl)
    if arm.thumb:
        local[f"finger1-1.{side}"] = rotation(fore, sign * arm.thumb)


def reach_out(model: BodyModel, body: Body, pose: Pose) -> Pose:
    """Bend the arms that have a `reach` so that their wrists lie there."""
    arms = {"L": pose.left, "R": pose.right}
    if not any(arm.reach for arm in arms.values()):
        return pose
    trunk = np.flatnonzero(model.bone_weight("spine", "root", "pelvis", "breast")[:BODY_VERTICES] > 0.6)
    weights = model.weights[trunk]
    for _ in range(3):  # the shoulder moves with the arm
        bones = transforms(model, body.heads, pose)
        skinned = skin(body.vertices[trunk], weights, bones)
        joint = functools.partial(model.joint, body=body, bones=bones)
        hips = (joint("upperleg01.L") + joint("upperleg01.R")) / 2
        shoulders = (joint("upperarm01.L") + joint("upperarm01.R")) / 2
        for side, arm in arms.items():
            if arm.reach is None:
                continue
            sign = 1.0 if side == "L" else -1.0
            goal = hips + arm.reach.height * (shoulders - hips) + [sign * arm.reach.across, 0, 0]
            gap = np.hypot(skinned[:, 0] - goal[0], skinned[:, 2] - goal[2])
            goal[1] = float(skinned[gap < max(0.05, float(gap.min()) + 0.02), 1].min()) - arm.reach.away
            shoulder, elbow, wrist = (joint(f"{b}.{side}") for b in ("upperarm01", "lowerarm01", "wrist"))
            upper, fore = two_bones(
                goal - shoulder,
                float(np.linalg.norm(elbow - shoulder)),
                float(np.linalg.norm(wrist - elbow)),
                np.array(arm.reach.pole) * [sign, 1, 1],
            )
            arm.upper = (sign * float(upper[0]), float(upper[1]), float(upper[2]))
            arm.fore = (sign * float(fore[0]), float(fore[1]), float(fore[2]))
    return pose


def two_bones(goal: Floats, first: float, second: float, pole: Floats) -> tuple[Floats, Floats]:
    """Unit directions of two bones that reach from the origin to `goal`, the joint towards `pole`."""
    distance = float(np.clip(np.linalg.norm(goal), abs(first - second) + 0.02, (first + second) * 0.995))
    along = goal / np.linalg.norm(goal)
    side = pole - (pole @ along) * along
    side = side / np.linalg.norm(side)
    cosine = float(np.clip((first**2 + distance**2 - second**2) / (2 * first * distance), -1, 1))
    upper = cosine * along + np.sqrt(1 - cosine**2) * side
    fore = distance * along - first * upper
    return upper, fore / np.linalg.norm(fore)


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


def _akimbo(rng: Generator) -> Arm:
    """The elbow out, the hand at the hip before the body, or behind the waist."""
    if rng.random() < 0.6:
        reach = Reach(
            rng.uniform(0.11, 0.17), rng.uniform(-0.05, 0.3), rng.uniform(0.03, 0.06),
            (1, rng.uniform(-0.1, 0.6), rng.uniform(-0.4, 0.1)),
        )  # fmt: skip
        return _reaching(rng, reach, (-0.6, rng.uniform(-0.2, 0.3), rng.uniform(-0.9, -0.1)), (25, 60))
    return Arm(
        (rng.uniform(0.45, 0.8), rng.uniform(0.1, 0.4), -0.75),
        (rng.uniform(-0.85, -0.6), rng.uniform(-0.1, 0.2), rng.uniform(-0.7, -0.25)),
        twist=rng.uniform(-20, 20),
        curl=rng.uniform(25, 55),
    )


def _reaching(
    rng: Generator, reach: Reach, hand: Vector | None = None, curl: tuple[float, float] = (20, 50)
) -> Arm:
    """An arm before the trunk; its directions follow from the reach."""
    return Arm(
        (0.3, -0.1, -1),
        (-0.6, -0.8, 0.1),
        hand,
        twist=rng.uniform(-20, 30) if hand is None else 0.0,
        curl=rng.uniform(*curl),
        close=rng.uniform(0.8, 1.5),
        reach=reach,
    )


def _before_belly(rng: Generator) -> Arm:
    """A hand before the belly, as if holding the other wrist, the hem or a small bag."""
    reach = Reach(rng.uniform(0.0, 0.13), rng.uniform(0.05, 0.45), rng.uniform(0.045, 0.12))
    return _reaching(rng, reach, None if rng.random() < 0.5 else (-0.8, -0.25, rng.uniform(-0.6, 0.2)))


def _before_chest(rng: Generator) -> Arm:
    """The hand before the chest: at a button, the necklace, or talking."""
    reach = Reach(rng.uniform(-0.02, 0.15), rng.uniform(0.5, 0.95), rng.uniform(0.045, 0.22))
    return _reaching(rng, reach, None if rng.random() < 0.6 else (-0.6, -0.1, rng.uniform(0, 0.8)), (25, 75))


def _across(rng: Generator) -> Arm:
    """The forearm across the trunk, at any height, the hand at the other side or on the other arm."""
    reach = Reach(
        rng.uniform(-0.16, -0.04), rng.uniform(0.15, 0.75), rng.uniform(0.045, 0.08), (0.8, 0.0, -1)
    )
    return _reaching(rng, reach, (-0.95, rng.uniform(-0.05, 0.3), rng.uniform(-0.2, 0.25)), (28, 50))


def _phone(rng: Generator) -> Arm:
    """A phone held up to the mirror or looked at."""
    reach = Reach(rng.uniform(0.0, 0.14), rng.uniform(0.55, 1.1), rng.uniform(0.14, 0.28))
    arm = _reaching(rng, reach, (-0.25, -0.3, 0.9), (45, 65))
    arm.twist = rng.uniform(-20, 20)
    return arm


def _strap(rng: Generator) -> Arm:
    """The hand at a strap before the own shoulder."""
    reach = Reach(rng.uniform(0.10, 0.15), rng.uniform(0.62, 0.85), rng.uniform(0.045, 0.06), (0.9, 0.2, -1))
    return _reaching(rng, reach, (-0.35, 0.0, 0.9), (65, 95))


def _clasped(rng: Generator) -> tuple[Arm, Arm]:
    """One hand in the other before the body, low or high."""
    height, away = rng.uniform(0.0, 0.6), rng.uniform(0.05, 0.10)
    lean = rng.uniform(-0.5, 0.1)
    over = Reach(rng.uniform(0.02, 0.06), height + 0.02, away + 0.035)
    under = Reach(rng.uniform(0.05, 0.09), height - 0.02, away)
    return (
        _reaching(rng, over, (-0.95, 0.05, lean), (25, 45)),
        _reaching(rng, under, (-0.95, -0.15, lean), (20, 40)),
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
    """Forearms on one another below the chest, the hands on the other arms."""
    height, away = rng.uniform(0.42, 0.6), rng.uniform(0.045, 0.06)
    pole = (0.9, rng.uniform(-0.15, 0.1), -1.0)
    over = Reach(rng.uniform(-0.10, -0.05), height + 0.03, away + rng.uniform(0.055, 0.07), pole)
    under = Reach(rng.uniform(-0.08, -0.03), height - rng.uniform(0.0, 0.05), away, pole)
    return (
        _reaching(rng, over, (-0.8, 0.4, rng.uniform(0.0, 0.4)), (28, 48)),
        _reaching(rng, under, (-0.8, 0.4, 0.2), (28, 48)),
    )


_SINGLE = {
    "hanging": _hanging,
    "hip": _on_hip,
    "akimbo": _akimbo,
    "belly": _before_belly,
    "chest": _before_chest,
    "pocket": _in_pocket,
    "behind": _behind,
    "raised": _raised,
    "spread": _spread,
    "across": _across,
    "phone": _phone,
    "strap": _strap,
}
_BOTH = {"folded": _folded, "clasped": _clasped}
# Pairs of arms and how often they are drawn. Hanging arms are what shop photos and mirrors show most; arms
# before the garment are what a try-on gets wrong first, so they are drawn more often than they are seen.
_PAIRS = [
    (("hanging", "hanging"), 0.24),
    (("hip", "hanging"), 0.07),
    (("hip", "hip"), 0.05),
    (("pocket", "pocket"), 0.05),
    (("pocket", "hanging"), 0.06),
    (("behind", "behind"), 0.03),
    (("raised", "hanging"), 0.05),
    (("raised", "hip"), 0.02),
    (("raised", "raised"), 0.02),
    (("spread", "spread"), 0.04),
    (("belly", "hanging"), 0.04),
    (("belly", "hip"), 0.02),
    (("chest", "hanging"), 0.04),
    (("chest", "pocket"), 0.02),
    (("chest", "belly"), 0.02),
    (("across", "hanging"), 0.05),
    (("across", "pocket"), 0.01),
    (("phone", "hanging"), 0.04),
    (("phone", "hip"), 0.02),
    (("phone", "across"), 0.01),
    (("strap", "hanging"), 0.03),
    (("strap", "pocket"), 0.01),
    (("clasped", "clasped"), 0.05),
    (("folded", "folded"), 0.06),
]
_HARD_PAIRS = [
    (("akimbo", "akimbo"), 0.35),
    (("akimbo", "hanging"), 0.2),
    (("hip", "hip"), 0.1),
    (("pocket", "pocket"), 0.1),
    (("hanging", "hanging"), 0.15),
    (("folded", "folded"), 0.05),
    (("raised", "raised"), 0.05),
]


def draw_pose(rng: Generator, stride: float = 1.0, hard: bool = False) -> Pose:
    """Draw arms, fingers, weight on one leg or a step, a lean, a turned and tilted head.

    stride: factor of the steps; a narrow skirt allows but small ones. hard: elbows out most of the time.
    """
    pairs = _HARD_PAIRS if hard else _PAIRS
    chances = np.array([chance for _, chance in pairs])
    first, second = pairs[rng.choice(len(pairs), p=chances / chances.sum())][0]
    arms = _BOTH[first](rng) if first in _BOTH else (_SINGLE[first](rng), _SINGLE[second](rng))
    for arm in arms:
        if rng.random() < 0.7:
            factors = np.clip(rng.normal(1, 0.3), 0.4, 1.6) * np.clip(rng.normal(1, 0.18, 4), 0.3, 1.7)
            arm.fingers = (float(factors[0]), float(factors[1]), float(factors[2]), float(factors[3]))
        arm.thumb = float(np.clip(rng.normal(6, 8), -8, 22))
    left_first = bool(rng.random() < 0.5)
    if not left_first:
        arms = arms[::-1]
    walking = rng.random() < 0.15
    leaning = rng.random() < 0.25
    sway = float(rng.normal(0, 6.5 if leaning else 3.5))  # contrapposto: the hip tilts, the spine undoes it
    apart = rng.uniform(-0.01, 0.10)
    step = stride * (rng.choice([-1, 1]) * rng.uniform(0.15, 0.36) if walking else rng.normal(0, 0.07))
    thighs = ((apart + rng.uniform(0, 0.04), step, -1.0), (-apart - rng.uniform(0, 0.04), -step, -1.0))
    undone = rng.uniform(0.3, 0.9) if leaning else 1.0
    bones: dict[str, tuple[Vector, float]] = {
        "root": ((0, 1, 0), sway),
        "spine05": ((0, 1, 0), -sway * 0.6 * undone),
        "spine04": ((0, 1, 0), -sway * 0.5 * undone + float(rng.normal(0, 1.5))),
        "spine03": ((0, 1, 0), -sway * 0.3 * undone),
        "spine02": ((0, 0, 1), float(rng.normal(0, 6))),
        "spine01": ((1, 0, 0), float(rng.normal(1, 4 if leaning else 2.5))),
        "neck01": ((0, 0, 1), float(rng.normal(0, 10))),
        "neck02": ((1, 0, 0), float(rng.normal(0, 5))),
        "head": ((float(rng.normal()), float(rng.normal()), float(rng.normal())), float(rng.normal(0, 7))),
    }
    back = "L" if step > 0 else "R"
    bones[f"lowerleg01.{back}"] = ((1, 0, 0), float(min(40.0, 110 * abs(step) * rng.uniform(0.5, 1.2))))
    return Pose(f"{first}-{second}", arms[0], arms[1], bones, left_first, thighs)
