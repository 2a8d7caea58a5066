"""What is worn or carried over the garment: bags and their straps, scarves, belts.

They lie on the garment that is really worn, so they are made anew for each; the try-on has to keep them.
Colours are absolute ("other" in the layers): they are not drawn anew when a sample is dressed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.spatial import ConvexHull

from rmgn.data.fabrics import draw_colour, linear
from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.hair import cloth_texture, push_out, ribbons
from rmgn.data.people.layers import LABELS
from rmgn.data.people.mesh import Floats, Ints, grid_quads, normalised, triangles, vertex_normals
from rmgn.data.people.raytrace import CLOTH_SHINE, OTHER, Surface
from rmgn.data.people.wear import Wearer

Colour = tuple[float, float, float]
Mask = npt.NDArray[np.bool_]
_LEATHER: list[Colour] = [
    (0.015, 0.014, 0.014), (0.10, 0.045, 0.02), (0.22, 0.11, 0.05), (0.35, 0.27, 0.19), (0.55, 0.5, 0.45),
]  # fmt: skip


class Unfit(Exception):  # noqa: N818 - another draw takes its place
    """A strap that cannot be laid on this garment; the message is the reason."""


@dataclass(frozen=True)
class Carried:
    """Names of what is carried and its measures, metres."""

    bag: str = ""  # crossbody, shoulder, hand, backpack
    side: str = "L"  # shoulder or hand
    strap: float = 0.025
    size: tuple[float, float, float] = (0.24, 0.17, 0.07)  # width, height, depth
    scarf: float = 0.0  # thickness around the neck, 0 for none
    scarf_end: float = 0.3
    belt: float = 0.0  # width
    colour: Colour = (0.02, 0.02, 0.02)
    scarf_colour: Colour = (0.2, 0.2, 0.2)
    seed: int = 0


def draw_carried(rng: Generator, arms: tuple[str, str]) -> Carried:
    """Draw bags and the like; arms: names of the left and the right arm's pose."""
    colour = _LEATHER[int(rng.integers(len(_LEATHER)))]
    if rng.random() < 0.35:
        colour = _cloth(rng)
    bag, side = "", str(rng.choice(["L", "R"]))
    holding = [s for s, arm in zip("LR", arms, strict=True) if arm in ("hanging", "belly", "clasped")]
    chance = rng.random()
    if "strap" in arms:
        side = "L" if arms[0] == "strap" else "R"
        bag = str(rng.choice(["shoulder", "backpack", "crossbody"]))
    elif chance < 0.09:
        bag = "crossbody"
    elif chance < 0.14:
        bag = "shoulder"
    elif chance < 0.18:
        bag = "backpack"
    elif chance < 0.26 and holding:
        bag, side = "hand", str(rng.choice(holding))
    small = bag == "crossbody" or rng.random() < 0.4
    size = (
        rng.uniform((0.16, 0.11, 0.05), (0.27, 0.20, 0.09))
        if small
        else rng.uniform((0.27, 0.24, 0.08), (0.4, 0.38, 0.14))
    )
    return Carried(
        bag=bag,
        side=side,
        strap=float(rng.uniform(0.008, 0.04)) if bag != "backpack" else float(rng.uniform(0.045, 0.06)),
        size=(float(size[0]), float(size[1]), float(size[2])),
        scarf=float(rng.uniform(0.016, 0.032)) if rng.random() < 0.06 else 0.0,
        scarf_end=float(rng.choice([0.0, rng.uniform(0.15, 0.5)], p=[0.35, 0.65])),
        belt=float(rng.uniform(0.022, 0.042)) if rng.random() < 0.35 else 0.0,
        colour=colour,
        scarf_colour=_cloth(rng),
        seed=int(rng.integers(1 << 30)),
    )


def _cloth(rng: Generator) -> Colour:
    r, g, b = 0.9 * linear(np.clip(draw_colour(rng), 0.05, 0.85))
    return float(r), float(g), float(b)


@dataclass(frozen=True)
class _Trunk:
    """What straps lie on: points and normals of garment, lower clothes and bare trunk; joints by name."""

    points: Floats
    normals: Floats
    joints: dict[str, Floats]


def carried_surfaces(
    model: BodyModel, person: Wearer, carried: Carried, cloth: tuple[Floats, Floats], belted: bool,
    covered: tuple[Mask, Mask] | None = None,
) -> list[Surface]:  # fmt: skip
    """The surfaces for a person in a garment whose trunk part has the points and normals `cloth`.

    Raises `Unfit`, so that both garments of a sample are worn with the same things.
    covered: which vertices of the skin [13380] and of the lower clothes lie under the garment; a strap takes
    the nearest surface for what it lies on, and that must not be what is hidden below loose cloth.
    """
    rng = np.random.default_rng(carried.seed)
    names = ("upperleg01", "upperarm01", "finger3-1", "wrist")
    joints = {
        name: model.joint(name, person.body, person.bones)
        for name in ("neck01", "head", "spine01", *(f"{n}.{s}" for n in names for s in "LR"))
    }
    bare = model.bone_weight("spine", "root", "pelvis", "breast", "upperleg", "clavicle", "shoulder", "neck")
    kept, below = bare[:BODY_VERTICES] > 0.6, np.ones(len(person.lower_vertices), bool)
    if covered is not None:
        kept, below = kept & ~covered[0], ~covered[1]
    trunk = _Trunk(
        np.concatenate([person.vertices[:BODY_VERTICES][kept], person.lower_vertices[below], cloth[0]]),
        np.concatenate([person.normals[kept], person.lower_normals[below], cloth[1]]),
        joints,
    )
    result: list[Surface] = []
    if carried.bag == "crossbody":
        result += _crossbody(trunk, carried, rng)
    elif carried.bag == "shoulder":
        result += _shoulder_bag(trunk, carried, rng)
    elif carried.bag == "backpack":
        for sign in (1.0, -1.0):
            result.append(_upright_loop(trunk, carried, rng, sign, 0.55, 0.30, carried.strap, 0.4))
    elif carried.bag == "hand":
        result += _hand_bag(trunk, carried, rng)
    if carried.scarf:
        result += _scarf(trunk, carried, rng)
    if carried.belt and belted:
        result += _belt(person, carried, rng)
    return result


def _hull_loop(
    points: Floats, centre: Floats, first: Floats, second: Floats, angles: Floats, gap: float
) -> Floats | None:
    """A taut band around points that lie near a plane: its places [A, 3] at `angles` from `first`."""
    flat = np.stack([(points - centre) @ first, (points - centre) @ second], axis=1)
    if len(flat) < 8:
        return None
    hull = ConvexHull(flat)
    normal, offset = hull.equations[:, :2], hull.equations[:, 2]
    ray = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    slope = ray @ normal.T
    reach = np.where(slope > 1e-6, -offset / np.maximum(slope, 1e-6), np.inf).min(axis=1) + gap
    if not np.isfinite(reach).all() or (reach < 0).any():
        return None
    return np.asarray(centre + reach[:, None] * (ray[:, :1] * first + ray[:, 1:] * second))


def _band(
    points: Floats, centre: Floats, first: Floats, second: Floats, width: float, gap: float, rng: Generator,
    colour: Colour,
) -> Surface:  # fmt: skip
    """A closed strap around points, in the plane of `first` and `second`; raises `Unfit`."""
    normal = np.cross(first, second)
    angles = np.linspace(0, 2 * np.pi, 97)
    lines = []
    for shift in (-0.5, 0.0, 0.5):
        middle = centre + shift * width * normal
        near = points[np.abs((points - middle) @ normal) < 0.012]
        line = _hull_loop(near, middle, first, second, angles, gap)
        if line is None:
            raise Unfit("strap that does not fit")
        lines.append(line)
    v = np.stack(lines, axis=1)
    v[:, [0, 2]] -= 0.15 * gap * normalised(v[:, [0, 2]] - centre)  # edges are rounded
    return _surface(v.reshape(-1, 3), triangles(grid_quads(*v.shape[:2])), rng, colour, 8.0)


def _surface(
    v: Floats, tris: Ints, rng: Generator, colour: Colour, scale: float = 5.0, shine: float = 1.0
) -> Surface:
    """Something in one colour with the look of cloth or leather."""
    uv = scale * np.stack([v[:, 0] + 0.4 * v[:, 1], v[:, 2] + 0.3 * v[:, 1]], axis=1)[tris]
    return Surface(
        v, tris, OTHER, uv=uv, texture=cloth_texture(rng, np.array(colour)), label=LABELS["background"],
        shine=shine,
    )  # fmt: skip


def rounded_box(
    size: npt.NDArray[np.floating] | tuple[float, float, float], axes: Floats, centre: Floats
) -> tuple[Floats, Ints]:
    """A box with soft edges: size along the rows of `axes` [3, 3]."""
    u, w = np.meshgrid(np.linspace(-np.pi, np.pi, 41), np.linspace(-np.pi / 2, np.pi / 2, 25), indexing="ij")

    def power(x: Floats, p: float) -> Floats:
        return np.asarray(np.sign(x) * np.abs(x) ** p)

    p = 0.28
    ball = np.stack(
        [
            power(np.cos(w), p) * power(np.cos(u), p),
            power(np.sin(w), p),
            power(np.cos(w), p) * power(np.sin(u), p),
        ],
        axis=2,
    )
    v = centre + (ball.reshape(-1, 3) * np.array(size) / 2) @ axes
    return v, triangles(grid_quads(*u.shape))


def _bag(centre: Floats, out: Floats, carried: Carried, rng: Generator) -> list[Surface]:
    """A bag whose face looks along `out`, with a flap's edge and a clasp."""
    up = np.array([0.0, 0.0, 1.0])
    out = normalised((out * [1, 1, 0])[None])[0]
    axes = np.stack([np.cross(up, out), up, out])
    v, tris = rounded_box(carried.size, axes, centre)
    parts = [_surface(v, tris, rng, carried.colour)]
    width, height, depth = carried.size
    if rng.random() < 0.6:
        dark: Colour = (0.7 * carried.colour[0], 0.7 * carried.colour[1], 0.7 * carried.colour[2])
        flap = rng.uniform(0.35, 0.75)
        place = centre + axes[2] * depth * 0.16 + axes[1] * height * (0.5 - flap / 2 + 0.03)
        parts.append(
            _surface(*rounded_box((width * 1.01, height * flap, depth * 0.75), axes, place), rng, dark)
        )
        metal = centre + axes[2] * (depth * 0.55) + axes[1] * height * (0.5 - flap + 0.08)
        parts.append(_surface(*rounded_box((0.03, 0.018, 0.008), axes, metal), rng, (0.6, 0.5, 0.3)))
    return parts


def _crossbody(trunk: _Trunk, carried: Carried, rng: Generator) -> list[Surface]:
    sign = 1.0 if carried.side == "L" else -1.0
    other = "R" if carried.side == "L" else "L"
    j = trunk.joints
    top = j["neck01"] + 0.55 * (j[f"upperarm01.{carried.side}"] - j["neck01"]) + [0, 0, 0.03]
    hip = j[f"upperleg01.{other}"] + [-sign * 0.07, 0, rng.uniform(-0.02, 0.14)]
    along = normalised(((hip - top) * [1, 0, 1])[None])[0]
    depth = np.array([0.0, -1.0, 0.0])
    span = (trunk.points - top) @ along
    length = float((hip - top) @ along)
    points = trunk.points[(span > -0.08) & (span < length + 0.03)]
    centre = top + 0.5 * length * along
    centre[1] = float(np.median(points[:, 1]))
    strap = _band(points, centre, along, depth, carried.strap, 0.005, rng, carried.colour)
    out = np.array([-sign * rng.uniform(0.35, 1.0), -1.0, 0.0])
    out = out / np.linalg.norm(out)
    near = np.abs(trunk.points[:, 2] - hip[2]) < carried.size[1] / 2
    reach = float(((trunk.points[near] - centre) @ out).max()) if near.any() else 0.15
    place = np.array([centre[0], centre[1], 0]) + out * (reach + carried.size[2] / 2 - 0.01)
    place[2] = hip[2] - 0.3 * carried.size[1]
    return [strap, *_bag(place, out, carried, rng)]


def _upright_loop(
    trunk: _Trunk, carried: Carried, rng: Generator, sign: float, share: float, drop: float, width: float,
    outward: float = 0.0,
) -> Surface:  # fmt: skip
    """A strap over one shoulder, down in front and behind, `drop` metres deep.

    outward: by how much it runs towards the arm for each metre down, as a backpack's does.
    """
    side = "L" if sign > 0 else "R"
    top = trunk.joints["neck01"] + share * (trunk.joints[f"upperarm01.{side}"] - trunk.joints["neck01"])
    normal = normalised(np.array([[1.0, 0.0, outward * sign]]))[0]
    first, second = np.array([0.0, -1.0, 0.0]), normalised(np.cross(normal, [0.0, -1.0, 0.0])[None])[0]
    aside = sign * (trunk.points[:, 0] - trunk.joints["neck01"][0])
    level = trunk.points[:, 2] - top[2]
    high = (level > -drop) & (level < 0.05) & (aside > 0.05)  # without the neck
    points = trunk.points[high]
    centre = top + 0.5 * drop * np.array([outward * sign, 0, -1])
    near = points[np.abs((points - centre) @ normal) < 0.03]
    if len(near):
        centre[1] = float((near[:, 1].min() + near[:, 1].max()) / 2)
    return _band(points, centre, first, second, width, 0.006, rng, carried.colour)


def _shoulder_bag(trunk: _Trunk, carried: Carried, rng: Generator) -> list[Surface]:
    sign = 1.0 if carried.side == "L" else -1.0
    drop = rng.uniform(0.3, 0.42)
    strap = _upright_loop(trunk, carried, rng, sign, rng.uniform(0.75, 0.9), drop, min(carried.strap, 0.03))
    low = strap.vertices[strap.vertices[:, 2] < strap.vertices[:, 2].min() + 0.03].mean(axis=0)
    out = np.array([sign, -0.15, 0])
    centre = low + out * (0.005 + carried.size[2] / 2) - [0, 0, carried.size[1] / 2 - 0.02]
    return [strap, *_bag(centre, out, carried, rng)]


def _hand_bag(trunk: _Trunk, carried: Carried, rng: Generator) -> list[Surface]:
    """Two handles from the fingers down to a bag."""
    hand = trunk.joints[f"finger3-1.{carried.side}"]
    sign = 1.0 if carried.side == "L" else -1.0
    drop = rng.uniform(0.08, 0.22)
    before = hand[1] < trunk.joints["spine01"][1] - 0.16 and abs(hand[0] - trunk.joints["spine01"][0]) < 0.2
    out = np.array([0.15 * sign, -1.0, 0]) if before else np.array([sign, -0.3 * rng.random(), 0])
    out = out / np.linalg.norm(out)
    across = np.cross([0.0, 0.0, 1.0], out)
    top = hand - [0, 0, drop + 0.03] + out * 0.02
    parts = _bag(top - [0, 0, carried.size[1] / 2], out, carried, rng)
    t = np.linspace(-1, 1, 25)
    lines, sides = [], []
    for shift in (-0.4, 0.4):
        line = (
            top
            + np.outer(t * 0.3 * carried.size[0], across)
            + shift * carried.size[2] * out * np.abs(t)[:, None]
        )
        lines.append(line + np.outer((1 - np.abs(t) ** 2.2) * (drop + 0.02), [0, 0, 1]))
        sides.append(np.tile(out, (25, 1)))
    v, tris, _ = ribbons(np.stack(lines), np.stack(sides), np.full((2, 25), 0.014))
    return [*parts, _surface(v, tris, rng, carried.colour)]


def _scarf(trunk: _Trunk, carried: Carried, rng: Generator) -> list[Surface]:
    """A scarf around the neck with folds, and an end that hangs down in front."""
    base, head = trunk.joints["neck01"], trunk.joints["head"]
    angles = np.linspace(0, 2 * np.pi, 73)
    first, second = np.array([0.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    level = base + 0.35 * (head - base)
    near = trunk.points[(np.abs(trunk.points[:, 2] - level[2]) < 0.02)]
    near = near[np.hypot(*(near - level)[:, :2].T) < 0.11]
    line = _hull_loop(near, level, first, second, angles, 0.004)
    if line is None:
        return []
    thick = carried.scarf
    front = (1 + np.cos(angles)) / 2
    drape = rng.uniform(0.015, 0.05) * front**2
    around = np.linspace(0, 2 * np.pi, 17)
    away = normalised((line - level) * [1, 1, 0])
    phase = rng.uniform(0, 6.28, 4)
    folds = 1 + 0.16 * np.sin(3 * around[None] + 4 * angles[:, None] + phase[0])
    folds += 0.10 * np.sin(7 * around[None] - 2 * angles[:, None] + phase[1])
    deep = thick * (1 + 0.35 * front)[:, None] * folds
    centre = line + away * (0.75 * thick + 0.4 * drape)[:, None] - np.outer(drape, [0, 0, 1.0])
    v = centre[:, None] + away[:, None] * (deep * np.cos(around))[..., None]
    v = v + np.array([0, 0, 1.0]) * (1.7 * deep * np.sin(around))[..., None]
    v = v.reshape(-1, 3)
    result = [_surface(v, triangles(grid_quads(73, 17)), rng, carried.scarf_colour, shine=CLOTH_SHINE)]
    if carried.scarf_end:
        signs = (-1.0, 1.0) if rng.random() < 0.5 else (float(rng.choice([-1.0, 1.0])),)
        result += [_scarf_end(trunk, carried, rng, centre[0], sign) for sign in signs]
    return result


def _scarf_end(trunk: _Trunk, carried: Carried, rng: Generator, start: Floats, sign: float) -> Surface:
    rows, columns = 28, 15
    length, width = carried.scarf_end * rng.uniform(0.85, 1.15), rng.uniform(0.09, 0.16)
    t, s = np.linspace(0, 1, rows)[:, None], np.linspace(-0.5, 0.5, columns)[None]
    spread = width * (0.55 + 0.45 * np.clip(2 * t, 0, 1))
    x = start[0] + sign * (0.03 + 0.02 * t) + s * spread
    z = start[2] - 0.01 - t * length + 0 * s
    v = np.stack([x, np.full(x.shape, start[1] + 0.02), z], axis=2).reshape(-1, 3)
    front = trunk.normals[:, 1] < 0.2
    for _ in range(3):  # what is pushed away from one fold may lie behind the next
        v = push_out(v, trunk.points[front], trunk.normals[front], 0.012)
        grid = v.reshape(rows, columns, 3)
        grid[1:-1, 1:-1] += 0.2 * (
            grid[2:, 1:-1] + grid[:-2, 1:-1] + grid[1:-1, 2:] + grid[1:-1, :-2] - 4 * grid[1:-1, 1:-1]
        )
    wave = np.sin(s * 2 * np.pi * rng.uniform(1.5, 3) + 1.5 * t + rng.uniform(0, 6.28))
    v[:, 1] -= (0.006 * (1 + wave) * np.clip(2 * t, 0.3, 1)).ravel()
    return _surface(v, triangles(grid_quads(rows, columns)), rng, carried.scarf_colour, shine=CLOTH_SHINE)


def _belt(person: Wearer, carried: Carried, rng: Generator) -> list[Surface]:
    """A belt in the waistband, with a buckle."""
    v = person.lower_vertices
    top = v[person.lower.cloth[:, 1] > -0.006]
    if len(top) < 30:
        return []
    middle = top.mean(axis=0) - [0, 0, 0.012 + carried.belt / 2]
    # The plane of the waist, which tilts with the hips.
    _, _, axes = np.linalg.svd(top - top.mean(axis=0), full_matrices=False)
    normal = axes[2] * np.sign(axes[2][2])
    first = normalised((np.array([0.0, -1.0, 0.0]) + normal * normal[1])[None])[0]
    near = v[np.abs((v - middle) @ normal) < 0.05]
    belt = _band(near, middle, first, np.cross(normal, first), carried.belt, 0.004, rng, carried.colour)
    ahead = belt.vertices[
        np.argmin(
            np.abs(belt.vertices @ np.cross(normal, first) - middle @ np.cross(normal, first))
            + 10 * ((belt.vertices - middle) @ first < 0)
        )
    ]
    ahead = ahead + normal * ((middle - ahead) @ normal)
    axes = np.stack([np.cross(normal, first), normal, first])
    buckle = rounded_box((carried.belt * 1.3, carried.belt * 1.15, 0.006), axes, ahead + 0.003 * first)
    return [belt, _surface(*buckle, rng, (0.6, 0.55, 0.42) if rng.random() < 0.5 else (0.5, 0.5, 0.5))]


def cloth_of(points: Floats, tris: Ints, seam: Floats, outline: Floats) -> tuple[Floats, Floats]:
    """The worn garment's trunk part with its shoulders, not its sleeves: points and normals."""
    kept = (outline.max(axis=1) < 0) & (seam < 0.05)
    return points[kept], vertex_normals(points, tris)[kept]
