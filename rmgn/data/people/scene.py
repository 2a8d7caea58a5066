"""One sample: a drawn person in a drawn pose, before a drawn camera, in two drawn garments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.accessories import accessory_surfaces, draw_accessories
from rmgn.data.people.assets import Assets
from rmgn.data.people.body import BODY_VERTICES, BodyModel, body_model, skin
from rmgn.data.people.camera import Camera
from rmgn.data.people.collar import Collar, make_collar
from rmgn.data.people.garment import Garment, make_garment
from rmgn.data.people.head import HeadStyle, draw_head, eye_surface, skin_surface, strand_surfaces
from rmgn.data.people.keypoints import keypoints
from rmgn.data.people.layers import LABELS, VISIBLE, Sample, Shop, Worn
from rmgn.data.people.light import Lights, make_lights, read_surroundings, shop_lights, studio
from rmgn.data.people.lower import LowerStyle, draw_lower, make_lower
from rmgn.data.people.mesh import Floats, vertex_normals
from rmgn.data.people.planes import parts_plane, shop_planes, worn_planes
from rmgn.data.people.pose import draw_pose
from rmgn.data.people.raytrace import GARMENT, LOWER, OTHER, Surface, Tracer
from rmgn.data.people.shop import Presentation, draw_presentation, lay_out, sleeve_lift
from rmgn.data.people.style import Style, draw_style
from rmgn.data.people.wear import Wearer, put_on, refine, settle, torn, wearer

SUBPIXELS, SAMPLES = 3, 6  # 54 of 72 lights for every pixel


class Rejected(Exception):  # noqa: N818 - not an error, the next draw takes its place
    """A sample that would teach nonsense; the message is the reason."""


@dataclass
class Worked:
    """A garment made for a person: worn and flat fine vertices, and its camera."""

    style: Style
    garment: Garment
    worn: Floats
    flat: Floats
    camera: Camera
    roll: float  # of the shop photo, degrees
    show: Presentation
    collar: Collar | None = None
    collar_worn: Floats | None = None
    collar_flat: Floats | None = None
    inner: Surface | None = None  # what is worn below an open front
    inner_hides: Garment | None = None


def draw_shape(rng: Generator) -> dict[str, float]:
    """anny's shape parameters: builds, ages from 16 to 80, both sexes, all origins mixed."""
    feminine = rng.random() < 0.65
    origin = rng.dirichlet([0.7, 0.7, 0.7])
    weight = rng.choice(
        [rng.uniform(0.2, 0.45), rng.uniform(0.45, 0.65), rng.uniform(0.65, 0.95)], p=[0.5, 0.3, 0.2]
    )
    age = rng.choice([rng.uniform(0.58, 0.74), rng.uniform(0.74, 0.95)], p=[0.7, 0.3])
    return {
        "gender": 1 - rng.uniform(0, 0.08) if feminine else rng.uniform(0, 0.1),
        "age": float(age),
        "muscle": rng.uniform(0.3, 0.6) if feminine else rng.uniform(0.4, 0.8),
        "weight": float(weight),
        "height": rng.uniform(0.35, 0.85),
        "proportions": rng.uniform(0.6, 1.0),
        "cupsize": rng.uniform(0.25, 0.7),
        "firmness": rng.uniform(0.4, 0.9),
        "african": float(origin[0]),
        "asian": float(origin[1]),
        "caucasian": float(origin[2]),
    }


def draw_camera(rng: Generator, vertices: Floats, size: tuple[int, int]) -> tuple[Camera, dict[str, float]]:
    """Head to thigh with jitter; turned up to 40 degrees; from far at chest height or near as a webcam."""
    turn = float(np.clip(rng.normal(0, 17), -40, 40))
    near = rng.random() < 0.3
    distance = rng.uniform(1.1, 1.9) if near else rng.uniform(2.2, 4.0)
    extent = rng.uniform(0.82, 1.2)
    skin = vertices[:BODY_VERTICES]
    top = float(skin[:, 2].max())
    middle = top + extent * rng.uniform(-0.03, 0.09) - extent / 2
    height = middle + (rng.uniform(-0.15, 0.45) if near else rng.normal(0, 0.12))
    aside = float(np.median(skin[:, 0])) + rng.normal(0, 0.03)
    angle = np.deg2rad(turn)
    at = np.array([aside, float(np.median(skin[:, 1])), middle])
    eye = at + distance * np.array([np.sin(angle), -np.cos(angle), 0])
    eye[2] = height
    camera = Camera.look(eye, at, extent / 2 / distance, size)
    return camera, {"turn": turn, "distance": distance, "extent": extent, "height": float(height - middle)}


def draw_light(rng: Generator, rooms: Sequence[Path], towards_camera: Floats) -> tuple[Lights, str]:
    """A studio, or one of the surroundings turned at random."""
    if rooms and rng.random() < 0.45:
        path = rooms[int(rng.integers(len(rooms)))]
        room = read_surroundings(path)
        room = np.roll(room, int(rng.integers(room.shape[1])), axis=1)
        return make_lights(room, towards_camera, rng), path.stem
    return make_lights(studio(rng, towards_camera), towards_camera, rng), "studio"


def garment_surfaces(worked: Worked, flat: bool) -> list[Surface]:
    """The garment, laid out or worn, with its collar; values have the columns that `planes` names."""
    g = worked.garment
    columns = [worked.flat, g.facing[:, None], g.seam[:, None], np.zeros((len(g.vertices), 1)), g.outline]
    vertices = worked.flat if flat else worked.worn
    level = vertices + sleeve_lift(g, worked.style, worked.show) if flat else vertices  # lifting is no slope
    cloth = Surface(
        vertices,
        g.trimmed(),
        GARMENT,
        values=np.column_stack(columns).astype(np.float32),
        trim=g.outline.max(axis=1),
        normals=vertex_normals(level, g.triangles),
    )
    collar, collar_worn, collar_flat = worked.collar, worked.collar_worn, worked.collar_flat
    if collar is None or collar_worn is None or collar_flat is None:
        return [cloth]
    far = np.full(len(collar_flat), -1.0)
    columns = [collar_flat, collar.facing[:, None], np.column_stack([far, -far, -collar.edge, far, far])]
    strip = Surface(
        collar_flat if flat else collar_worn,
        collar.triangles,
        GARMENT,
        values=np.column_stack(columns).astype(np.float32),
    )
    return [cloth, strip]


def shop_camera(shown: Floats, size: tuple[int, int], margin: float, roll: float) -> Camera:
    """An orthographic camera that has all points `shown` in its picture, tilted by `roll` degrees."""
    centre = (shown.min(axis=0) + shown.max(axis=0)) / 2
    c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    x, z = (shown - centre)[:, [0, 2]].T
    wide, tall = np.abs(c * x + s * z).max(), np.abs(c * z - s * x).max()
    extent = max(tall, wide * size[0] / size[1]) * margin
    return Camera.look(centre - [0, 2, 0], centre, float(extent), size, orthographic=True, roll=roll)


def make_worked(
    model: BodyModel, person: Wearer, style: Style, rng: Generator, size: tuple[int, int]
) -> Worked:
    """Cut, drape and lay out a garment; rejects torn cloth."""
    coarse = make_garment(model, person.body, style)
    fine, matrix = refine(coarse)
    worn = put_on(model, person, coarse, fine, matrix, style, rng)
    show = draw_presentation(rng, style)
    flat = lay_out(model, person.body, coarse, fine, matrix, style, show)
    if not (np.isfinite(worn).all() and np.isfinite(flat).all()):
        raise Rejected("cloth exploded")
    if torn(fine, worn) > 250:
        raise Rejected("cloth torn")
    roll = float(rng.normal(0, 2)) if rng.random() < 0.3 else 0.0
    collar = make_collar(fine, style)
    shown = flat[fine.inside]
    strips: dict[str, Any] = {}
    if collar is not None:
        neck, head = (model.index[b] for b in ("neck01", "head"))
        at = [person.bones[i, :, :3] @ person.body.heads[i] + person.bones[i, :, 3] for i in (neck, head)]
        body = person.vertices[:BODY_VERTICES]
        strips["collar_worn"] = collar.worn(worn, at[1] - at[0], body, person.normals)
        strips["collar_flat"] = collar.flat(flat)
        shown = np.concatenate([shown, strips["collar_flat"]])
    if style.opening > 0:
        strips["inner_hides"], strips["inner"] = inner_top(model, person, fine, rng)
    camera = shop_camera(shown, size, float(rng.uniform(1.02, 1.12)), roll)
    return Worked(style, fine, worn, flat, camera, roll, show, collar, **strips)


def inner_top(model: BodyModel, person: Wearer, over: Garment, rng: Generator) -> tuple[Garment, Surface]:
    """A close plain top under the open garment `over`, posed with the body: its cut, and its surface.

    Below the cloth it is sunk in, as is the body that it hides: nothing can then poke through.
    """
    hip = person.body.heads[model.index["upperleg01.L"]][2]
    neck = str(rng.choice(["crew", "scoop", "v"]))
    style = Style(
        kind="tank", neck=neck, neck_width=0.075, neck_depth=0.06 if neck == "crew" else 0.11, sleeve=0.0,
        strap=0.13, hem=float(person.lower.waist - hip - 0.03), ease=0.002,
    )  # fmt: skip
    garment = make_garment(model, person.body, style)
    tone = rng.choice([0.75, 0.6, 0.25, 0.03], p=[0.5, 0.15, 0.15, 0.2])
    colour = np.append(tone * (1 + rng.normal(0, 0.03, 3)), 1.0).astype(np.float32)
    tris = garment.trimmed()
    gap, near = cKDTree(over.vertices).query(garment.vertices)
    under = np.clip(-over.outline.max(axis=1)[near] / 0.015, 0, 1) * (gap < 0.09)
    normals = vertex_normals(garment.vertices, garment.triangles)
    sunk = garment.vertices - (0.001 + 0.009 * under)[:, None] * normals
    surface = Surface(
        skin(sunk, garment.weights, person.bones),
        tris,
        OTHER,
        uv=np.zeros((len(tris), 3, 2)),
        texture=np.broadcast_to(colour, (1, 1, 4)).copy(),
        trim=garment.outline.max(axis=1),
        label=LABELS["inner"],
    )
    return garment, surface


def _hidden(points: Floats, garment: Garment, margin: float) -> npt.NDArray[np.bool_]:
    """Which rest points lie well under a garment: left out, so that nothing can poke through."""
    gap, near = cKDTree(garment.vertices).query(points, distance_upper_bound=0.09)
    outline = np.append(garment.outline.max(axis=1), 1.0)
    return np.asarray((gap < 0.09) & (outline[near] < -margin))


def dressed_surfaces(
    model: BodyModel, person: Wearer, worked: Worked, strands: list[Surface], head: HeadStyle, assets: Assets,
    lower_style: LowerStyle,
) -> list[Surface]:  # fmt: skip
    """All surfaces of the person in one garment."""
    rest = person.body.vertices[:BODY_VERTICES]
    arm = model.bone_weight("upperarm", "lowerarm", "wrist", "finger", "meta")[:BODY_VERTICES] > 0.5
    hidden = _hidden(rest, worked.garment, 0.03)
    strands = [*strands, worked.inner] if worked.inner is not None else strands
    if worked.inner_hides is not None:
        hidden |= _hidden(rest, worked.inner_hides, 0.03)
    hip = person.body.heads[model.index["upperleg01.L"]][2]
    bottom = hip - lower_style.length + 0.04
    hidden = hidden | (rest[:, 2] < person.lower.waist - 0.03) & (rest[:, 2] > bottom) & ~arm
    lower = person.lower
    shown = np.asarray(~_hidden(lower.vertices, worked.garment, 0.022)[lower.triangles].all(axis=1))
    if worked.style.tuck:
        shown[:] = True
    cloth = np.column_stack([lower.cloth[:, 0], lower.facing, lower.cloth[:, 1]])
    below = Surface(
        person.lower_vertices, lower.triangles[shown], LOWER, values=cloth, normals=person.lower_normals
    )
    body = skin_surface(model, person, head, assets, hidden)
    eyes = eye_surface(model, person, head)
    if worked.style.sleeve > 0.6:  # a long sleeve covers the watch
        strands = [s for s in strands if s.label not in (LABELS["left arm"], LABELS["right arm"])]
    return [body, below, *garment_surfaces(worked, flat=False), eyes, *strands]


def make_sample(
    rng: Generator, size: tuple[int, int], assets: Assets, rooms: Sequence[Path] | None = None
) -> Sample:
    """Draw and render a sample, size (height, width); raises `Rejected`.

    rooms: the surroundings that may light it; by default all of the assets.
    """
    model = body_model()
    shape = draw_shape(rng)
    feminine = shape["gender"] > 0.5
    body = model.rest(shape)
    lower_style = draw_lower(rng, feminine)
    pose = settle(model, body, draw_pose(rng))
    if pose is None:
        raise Rejected("arm through the body")
    person = wearer(model, body, pose, make_lower(model, body, lower_style, rng))
    camera, view = draw_camera(rng, person.vertices, size)
    head = draw_head(rng, assets, feminine, shape["age"])
    names = pose.name.split("-")
    worn_things = draw_accessories(
        rng, pose.name, (names[0], names[1]) if pose.left_first else (names[1], names[0])
    )
    strands = [*strand_surfaces(model, person, head, assets), *accessory_surfaces(model, person, worn_things)]
    lights, light_name = draw_light(rng, assets.surroundings if rooms is None else rooms, -camera.forward)
    worn: list[Worn] = []
    shops: list[Shop] = []
    made: list[dict[str, Any]] = []
    for _ in range(2):
        tuck = bool(rng.random() < 0.3)
        style = draw_style(rng, feminine, tuck)
        if tuck:
            style = replace(style, hem=lower_style.waist - 0.018, tail=0.0, opening=0.0)
        worked = make_worked(model, person, style, rng, size)
        flat = Tracer(garment_surfaces(worked, flat=True))
        shop, depth = shop_planes(flat, worked.camera, shop_lights(rng), SUBPIXELS, 4)
        surfaces = dressed_surfaces(model, person, worked, strands, head, assets, lower_style)
        layer = worn_planes(model, Tracer(surfaces), camera, lights, SUBPIXELS, SAMPLES, depth)
        _inspect(layer)
        worn.append(layer)
        shops.append(shop)
        half = worked.camera.half_height
        made.append({
            "style": asdict(style),
            "shop": {"centre": worked.camera.eye[[0, 2]].tolist(), "half_height": half, "roll": worked.roll,
                     **asdict(worked.show)},
            "sleeve_angle": _sleeve_angle(worked),
            "front": _front_extent(worked),
        })  # fmt: skip
    joints = keypoints(model, person, camera)
    meta = {
        "size": list(size), "shape": shape, "pose": pose.name, "camera": view, "light": light_name,
        "head": asdict(head), "accessories": asdict(worn_things), "lower": asdict(lower_style),
        "garments": made, "keypoints": joints,
    }  # fmt: skip
    parts = parts_plane(model, person.vertices, person.normals, camera)
    return Sample((worn[0], worn[1]), (shops[0], shops[1]), parts, meta)


def _sleeve_angle(worked: Worked) -> float:
    """Degrees by which the left sleeve hangs from the vertical in the flat garment: its fabric's grain."""
    sleeve = (worked.garment.seam > 0.01) & (worked.flat[:, 0] > 0)
    if sleeve.sum() < 20:
        return 0.0
    points = worked.flat[sleeve][:, [0, 2]]
    from_seam = worked.garment.seam[sleeve]
    high, low = (
        points[from_seam < np.quantile(from_seam, 0.3)],
        points[from_seam > np.quantile(from_seam, 0.7)],
    )
    along = low.mean(axis=0) - high.mean(axis=0)
    return float(np.degrees(np.arctan2(along[0], -along[1])))


def _front_extent(worked: Worked) -> list[float]:
    """Flat z of hem and neckline in the middle of the front: where prints and plackets go."""
    g = worked.garment
    middle = (g.facing < 0) & (np.abs(worked.flat[:, 0]) < worked.style.opening + 0.03) & g.inside
    z = worked.flat[middle, 2]
    return [float(z.min()), float(z.max())]


def _inspect(worn: Worn) -> None:
    """Reject what shows too little of the garment, or something that pokes through it."""
    garment = worn.garment
    covered = garment[..., 0] > 127
    if covered.mean() < 0.05:
        raise Rejected("garment hardly in the picture")
    seen = (garment[..., 1] & VISIBLE) > 0
    if (seen & covered).sum() < 0.6 * covered.sum():
        raise Rejected("mostly unseen in the shop photo")
    other = (worn.labels != LABELS["garment"]).astype(np.uint8)
    count, island, stats, _ = cv2.connectedComponentsWithStats(other, connectivity=4)
    for k in range(1, count):
        x, y, w, h, area = stats[k]
        rim = x == 0 or y == 0 or x + w == other.shape[1] or y + h == other.shape[0]
        if rim or area < 5e-5 * other.size or area > 8e-3 * other.size:
            continue
        label = np.bincount(worn.labels[island == k]).argmax()
        if label in (LABELS["left arm"], LABELS["right arm"]):
            raise Rejected("hand through the cloth")
        if label != LABELS["background"]:
            raise Rejected("body or trousers through the cloth")
