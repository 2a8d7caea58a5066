"""How a person moves before a fixed camera: poses over time, and cloth that goes along."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import Generator
from scipy.ndimage import gaussian_filter1d

from rmgn.data.people.body import Body, BodyModel
from rmgn.data.people.cloth import Material, drape
from rmgn.data.people.garment import make_garment, pins
from rmgn.data.people.mesh import Floats
from rmgn.data.people.pose import Arm, Pose, transforms
from rmgn.data.people.style import Style
from rmgn.data.people.wear import Wearer, creased, find_obstacles, finish, refine, settle
from rmgn.data.rotation import rotation

# Arms that can leave their place without passing through the body or a pocket.
_FREE = {"hanging", "hip", "spread", "raised", "chest", "belly", "across", "phone"}
_PREROLL = 12  # frames in which cloth comes to rest before the first one shown


@dataclass
class Motion:
    """One pose, and one place and heading of the whole body, a frame."""

    poses: list[Pose]
    moves: Floats  # [T, 3, 4]


def draw_motion(
    rng: Generator, model: BodyModel, body: Body, start: Pose, other: Callable[[], Pose | None], frames: int,
    fps: float,
) -> Motion:  # fmt: skip
    """Gestures from `start` to poses that `other` draws and between them, with sway, turns and breath."""
    keys = [start]
    while len(keys) < 2 + frames / fps / 2:
        drawn = other()
        if drawn is not None:
            keys.append(_with_arms(keys[-1], drawn))
    # Hold, go, hold, go …: a movement of about a second is calm and natural.
    times = [0.0]
    for _ in keys[1:]:
        times += [times[-1] + rng.uniform(0.3, 1.0), 0.0]
        times[-1] = times[-2] + rng.uniform(0.8, 1.5)
    wander = _Wander(rng, fps)
    poses = []
    for frame in range(frames):
        now = frame / fps
        leg = next((k for k in range(len(keys) - 1) if now < times[2 * k + 2]), len(keys) - 2)
        share = float(np.clip((now - times[2 * leg + 1]) / (times[2 * leg + 2] - times[2 * leg + 1]), 0, 1))
        share = share**3 * (10 - 15 * share + 6 * share**2)  # minimum jerk
        poses.append(wander.alive(between(keys[leg], keys[leg + 1], share), frame))
    return Motion(_clear(model, body, poses), np.stack([wander.place(frame) for frame in range(frames)]))


def _with_arms(before: Pose, after: Pose) -> Pose:
    """The pose before with those arms of the other that are free to go there."""
    names = [_arm_names(p) for p in (before, after)]
    arms = [
        new if {old_name, new_name} <= _FREE else old
        for old, new, old_name, new_name in zip(
            (before.left, before.right), (after.left, after.right), *names, strict=True
        )
    ]
    kept = [new if {old, new} <= _FREE else old for old, new in zip(*names, strict=True)]
    return replace(before, name="-".join(kept), left=arms[0], right=arms[1], left_first=True)


def _arm_names(pose: Pose) -> tuple[str, str]:
    first, second = pose.name.split("-")
    return (first, second) if pose.left_first else (second, first)


def between(one: Pose, other: Pose, share: float) -> Pose:
    """The pose on the way from one to the other; they differ in their arms alone."""
    arms = [_arm_between(getattr(one, s), getattr(other, s), share) for s in ("left", "right")]
    return replace(one, left=arms[0], right=arms[1], bones=dict(one.bones))


def _arm_between(one: Arm, other: Arm, share: float) -> Arm:
    if one is other or share == 0:
        return copy.copy(one)
    mixed: dict[str, Any] = {}
    for f in fields(Arm):
        a, b = getattr(one, f.name), getattr(other, f.name)
        if f.name == "hand" and (a is None) != (b is None):
            a, b = (fore if hand is None else hand for hand, fore in ((a, one.fore), (b, other.fore)))
        if f.name in ("upper", "fore", "hand") and a is not None:
            mixed[f.name] = _slerp(np.asarray(a, float), np.asarray(b, float), share)
        elif isinstance(a, tuple):
            mixed[f.name] = tuple((1 - share) * np.asarray(a) + share * np.asarray(b))
        elif isinstance(a, float | int) and isinstance(b, float | int):
            mixed[f.name] = (1 - share) * a + share * b
    return Arm(**mixed)


def _slerp(a: Floats, b: Floats, share: float) -> tuple[float, float, float]:
    """Between two directions at even speed, over the front where they are opposite."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    if a @ b < -0.95:
        middle = np.array([0.0, -1.0, 0.0]) + 0.5 * (a + b)
        return _slerp(a, middle, 2 * share) if share < 0.5 else _slerp(middle, b, 2 * share - 1)
    angle = float(np.arccos(np.clip(a @ b, -1, 1)))
    if angle < 1e-6:
        mixed = a
    else:
        mixed = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


class _Wander:
    """Slow changes that a living body always makes: sums of sines, zero at the start."""

    def __init__(self, rng: Generator, fps: float) -> None:
        self._fps = fps
        self._phase = rng.uniform(0, 2 * np.pi, (24, 3))
        self._pace = rng.uniform(0.08, 0.45, (24, 3))
        self._turn = rng.uniform(4, 14)
        self._aside = rng.uniform(0.005, 0.02)
        self._breath = rng.uniform(0.22, 0.32)

    def _value(self, which: int, frame: int) -> float:
        angle = 2 * np.pi * self._pace[which] * frame / self._fps
        return float((np.sin(angle + self._phase[which]) - np.sin(self._phase[which])).mean())

    def alive(self, pose: Pose, frame: int) -> Pose:
        """The pose with a little movement of spine, neck and head, and breath."""
        for k, bone in enumerate(sorted(pose.bones)):
            axis, degrees = pose.bones[bone]
            reach = 6.0 if bone.startswith(("neck", "head")) else 0.0 if "leg" in bone else 1.5
            pose.bones[bone] = (axis, degrees + reach * self._value(k, frame))
        axis, degrees = pose.bones.get("spine01", ((1.0, 0.0, 0.0), 0.0))
        breath = np.sin(2 * np.pi * self._breath * frame / self._fps)
        pose.bones["spine01"] = (axis, degrees - 0.7 * float(breath))
        return pose

    def place(self, frame: int) -> Floats:
        """A turn about the vertical and a step aside [3, 4]."""
        turn = rotation((0, 0, 1), self._turn * self._value(22, frame))
        aside = [self._aside * self._value(23, frame), 0.0, 0.0]
        return np.column_stack([turn, aside])


def _clear(model: BodyModel, body: Body, poses: list[Pose]) -> list[Pose]:
    """Move arms out of the body as `settle` does, but smoothly: pushes are spread over frames."""
    pushes = np.zeros((len(poses), 12))
    for t, pose in enumerate(poses):
        moved = settle(model, body, copy.deepcopy(pose))
        if moved is None:
            pushes[t] = pushes[t - 1] if t else 0
            continue
        pushes[t] = _directions(moved) - _directions(pose)
    size = np.abs(pushes).sum(axis=1)
    reach = 5
    wide = np.stack([
        pushes[low + int(size[low : t + reach + 1].argmax())]
        for t in range(len(poses))
        for low in [max(0, t - reach)]
    ])  # fmt: skip
    smooth = gaussian_filter1d(wide, 2.5, axis=0, mode="nearest")
    for pose, push in zip(poses, smooth, strict=True):
        goal = (_directions(pose) + push).reshape(4, 3).tolist()
        pose.left.upper, pose.left.fore, pose.right.upper, pose.right.fore = ((x, y, z) for x, y, z in goal)
    return poses


def _directions(pose: Pose) -> Floats:
    return np.concatenate([pose.left.upper, pose.left.fore, pose.right.upper, pose.right.fore])


def moved_bones(model: BodyModel, body: Body, motion: Motion) -> Iterator[Floats]:
    """Bone transforms [bones, 3, 4] of each frame."""
    for pose, move in zip(motion.poses, motion.moves, strict=True):
        bones = transforms(model, body.heads, pose)
        yield np.concatenate(
            [move[:, :3] @ bones[:, :, :3], move[:, :3] @ bones[:, :, 3:] + move[:, 3:]], axis=2
        )


def follow(
    model: BodyModel, people: Sequence[Wearer], style: Style, worn: Floats, rng: Generator
) -> Iterator[Floats]:
    """Cloth worn at the first of `people` [N, 3] simulated on through the others: one [N, 3] for each.

    It is carried along with the bones from frame to frame and relaxes there, so its folds shift and stay.
    """
    body = people[0].body
    fine, _ = refine(make_garment(model, body, style))
    cons = creased(fine, style, rng)
    material, held = Material(bend=style.bend * 0.1), 0.5 * pins(fine, style)
    places = _Places(fine.weights, people[0])
    x = worn.copy()
    at_rest = places.local(x)
    for number, person in enumerate([people[0]] * _PREROLL + list(people)):
        obstacles = find_obstacles(model, person, fine, style)
        carried, places = _carry(places, x, fine.weights, person)
        goal = places.world(at_rest)
        start = carried + np.where(held > 0, 1.0, 0.0)[:, None] * (goal - carried)
        x = drape(
            start, cons, material, obstacles, held, rounds=2, steps=4, passes=3, gravity=5.0, damping=0.96
        )  # fmt: skip
        if number >= _PREROLL:
            yield finish(fine, x, obstacles)


class _Places:
    """Each cloth vertex in the frame of the bones that carry it."""

    def __init__(self, weights: sp.csr_matrix, person: Wearer) -> None:
        mixed = np.asarray(weights @ person.bones.reshape(len(person.bones), 12)).reshape(-1, 3, 4)
        self._turn, self._shift = mixed[:, :, :3], mixed[:, :, 3]

    def local(self, points: Floats) -> Floats:
        return np.asarray(np.linalg.solve(self._turn, (points - self._shift)[:, :, None])[:, :, 0])

    def world(self, local: Floats) -> Floats:
        return np.asarray(np.einsum("vij,vj->vi", self._turn, local) + self._shift)


def _carry(before: _Places, x: Floats, weights: sp.csr_matrix, person: Wearer) -> tuple[Floats, _Places]:
    after = _Places(weights, person)
    return after.world(before.local(x)), after
