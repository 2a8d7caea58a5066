"""Small things that a try-on must leave alone: glasses, a necklace, a watch, a phone in the hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import Floats, Ints, normalised, triangles
from rmgn.data.people.raytrace import Surface
from rmgn.data.people.wear import Wearer

_METALS = [(0.75, 0.58, 0.25), (0.7, 0.7, 0.7), (0.03, 0.03, 0.03), (0.5, 0.25, 0.15)]


@dataclass(frozen=True)
class Accessories:
    """What is worn; colours are linear."""

    glasses: bool = False
    necklace: float = 0.0  # how deep it hangs in front, metres; 0 for none
    watch: str = ""  # L, R or none
    phone: str = ""  # the hand that holds it, L, R or none
    colour: tuple[float, float, float] = (0.03, 0.03, 0.03)


def draw_accessories(rng: Generator, sides: tuple[str, str]) -> Accessories:
    """Draw them; a phone only for a hand before the chest. sides: name of the left and the right arm."""
    up = [side for side, name in zip("LR", sides, strict=True) if name == "phone"]
    chest = [side for side, name in zip("LR", sides, strict=True) if name == "chest" and rng.random() < 0.25]
    return Accessories(
        glasses=bool(rng.random() < 0.15),
        necklace=float(rng.uniform(0.03, 0.12)) if rng.random() < 0.15 else 0.0,
        watch=str(rng.choice(["L", "R"])) if rng.random() < 0.2 else "",
        phone=(up or chest or [""])[0],
        colour=_METALS[int(rng.integers(len(_METALS)))],
    )


def _tube(line: Floats, radius: float, closed: bool, around: int = 6) -> tuple[Floats, Ints]:
    """A tube along points [N, 3]."""
    ahead = np.roll(line, -1, axis=0) - np.roll(line, 1, axis=0) if closed else np.gradient(line, axis=0)
    ahead = normalised(ahead)
    side = normalised(np.cross(ahead, [0.13, 0.31, 0.94]))
    over = np.cross(ahead, side)
    angle = np.arange(around) / around * 2 * np.pi
    circle = side[:, None] * np.cos(angle)[:, None] + over[:, None] * np.sin(angle)[:, None]
    vertices = (line[:, None] + radius * circle).reshape(-1, 3)
    grid = np.arange(len(vertices)).reshape(-1, around)
    first, second = (grid, np.roll(grid, -1, axis=0)) if closed else (grid[:-1], grid[1:])
    quads = np.stack([first, second, np.roll(second, -1, axis=1), np.roll(first, -1, axis=1)], axis=2)
    quads = quads.reshape(-1, 4)
    return vertices, triangles(quads)


def _surface(vertices: Floats, tris: Ints, colour: tuple[float, float, float], label: str) -> Surface:
    return Surface.plain(vertices, tris, colour, label=LABELS[label])


def accessory_surfaces(model: BodyModel, person: Wearer, worn: Accessories) -> list[Surface]:
    """The surfaces on a posed body."""
    result = []
    if worn.glasses:
        result += _glasses(model, person, worn.colour)
    if worn.necklace:
        result.append(_necklace(model, person, worn))
    if worn.watch:
        result.append(_watch(model, person, worn))
    if worn.phone:
        result.append(_phone(model, person, worn.phone))
    return result


def _posed(model: BodyModel, person: Wearer, points: Floats, bone: str) -> Floats:
    transform = person.bones[model.index[bone]]
    return np.asarray(points @ transform[:, :3].T + transform[:, 3])


def _glasses(model: BodyModel, person: Wearer, colour: tuple[float, float, float]) -> list[Surface]:
    rest = person.body.vertices
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    parts = []
    for side, sign in (("l", 1), ("r", -1)):
        eye = rest[np.unique(model.groups[f"helper-{side}-eye"])]
        centre = eye.mean(axis=0) + np.array([sign * 0.002, 0, -0.003])
        front = float(eye[:, 1].min()) - 0.014
        ring = centre + np.stack([0.025 * np.cos(angle), 0 * angle, 0.020 * np.sin(angle)], axis=1)
        ring[:, 1] = front
        parts.append(_tube(ring, 0.0014, closed=True))
        outer = np.array([centre[0] + sign * 0.025, front, centre[2] + 0.005])
        ear = np.array([sign * 0.075, front + 0.10, centre[2] + 0.005])
        parts.append(_tube(np.linspace(outer, ear, 8), 0.0013, closed=False))
        if sign > 0:
            bridge = np.array([[x, front - 0.001, centre[2] + 0.006] for x in np.linspace(-0.008, 0.008, 4)])
            parts.append(_tube(bridge, 0.0013, closed=False))
    return [_surface(_posed(model, person, v, "head"), t, colour, "face") for v, t in parts]


def _necklace(model: BodyModel, person: Wearer, worn: Accessories) -> Surface:
    """A chain around the base of the neck, laid onto the body."""
    neck = person.body.heads[model.index["neck01"]]
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    front = np.clip((1 + np.cos(angle)) / 2, 0, 1)
    line = neck + np.stack(
        [0.068 * np.sin(angle), -0.075 * np.cos(angle), 0.02 - worn.necklace * front**2], axis=1
    )
    rest = person.body.vertices[:BODY_VERTICES]
    near = cKDTree(rest).query(line, k=4)[1]
    on_skin = person.vertices[near].mean(axis=1) + 0.003 * person.normals[near].mean(axis=1)
    for _ in range(4):
        on_skin = 0.5 * on_skin + 0.25 * (np.roll(on_skin, 1, axis=0) + np.roll(on_skin, -1, axis=0))
    return _surface(*_tube(on_skin + 0.002 * np.array([0, -1, 0]), 0.0016, closed=True), worn.colour, "face")


def _watch(model: BodyModel, person: Wearer, worn: Accessories) -> Surface:
    wrist, elbow = (person.body.heads[model.index[f"{b}.{worn.watch}"]] for b in ("wrist", "lowerarm01"))
    along = normalised((wrist - elbow)[None])[0]
    centre = wrist - 0.025 * along
    side = normalised(np.cross(along, [0.0, 1.0, 0.0])[None])[0]
    over = np.cross(along, side)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)[:, None]
    rest = person.body.vertices[:BODY_VERTICES]
    slice_ = np.abs((rest - centre) @ along) < 0.012
    radial = (rest - centre)[slice_ & (np.linalg.norm(rest - centre, axis=1) < 0.06)]
    reach = [float(np.abs(radial @ axis).max()) + 0.002 if len(radial) else 0.03 for axis in (side, over)]
    ring = centre + reach[0] * np.cos(angle) * side + reach[1] * np.sin(angle) * over
    label = "left arm" if worn.watch == "L" else "right arm"
    vertices, tris = _tube(ring, 0.005, closed=True)
    return _surface(_posed(model, person, vertices, f"lowerarm02.{worn.watch}"), tris, worn.colour, label)


def _phone(model: BodyModel, person: Wearer, side: str) -> Surface:
    """An upright phone between the fingers and the camera's side of the hand."""
    centre = model.joint(f"finger3-1.{side}", person.body, person.bones) + np.array([0.0, -0.03, 0.02])
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [
        0.037,
        0.0045,
        0.074,
    ]
    tilt = np.deg2rad(12 if side == "L" else -12)
    c, s = np.cos(tilt), np.sin(tilt)
    corners = corners @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    # Faces of their own vertices: a box has edges.
    vertices = centre + corners[np.array(faces).ravel()]
    quads = np.arange(24).reshape(6, 4)
    phone = _surface(vertices, triangles(quads), (0.03, 0.03, 0.035), "background")
    phone.normals = normalised((vertices - centre) * [2.0, 150.0, 2.0])  # rounded edges: no glint along them
    return phone
