"""One sample: a drawn person in a drawn pose, before a drawn camera, in two drawn garments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import scipy.sparse as sp
from numpy.random import Generator
from scipy.spatial import cKDTree

from rmgn.data.people.accessories import accessory_surfaces, draw_accessories
from rmgn.data.people.assets import Assets
from rmgn.data.people.body import BODY_VERTICES, Body, BodyModel, body_model, skin
from rmgn.data.people.camera import Camera
from rmgn.data.people.carried import Carried, Mask, Unfit, carried_surfaces, cloth_of, draw_carried
from rmgn.data.people.collar import Collar, make_collar
from rmgn.data.people.face import eye_surface, gaze_angles, mouth_surfaces
from rmgn.data.people.garment import NECK, Garment, make_garment
from rmgn.data.people.hair import locks
from rmgn.data.people.head import LONG, HeadStyle, draw_head, skin_surface, strand_surfaces
from rmgn.data.people.keypoints import keypoints
from rmgn.data.people.layers import LABELS, LEAST_GARMENT, VISIBLE, Sample, Shop, Worn
from rmgn.data.people.light import Lights, make_lights, read_surroundings, shop_lights, studio
from rmgn.data.people.lower import draw_lower, make_lower, shoe_surfaces
from rmgn.data.people.mesh import Floats, vertex_normals
from rmgn.data.people.planes import ShopDepth, parts_plane, shop_planes, worn_planes
from rmgn.data.people.pose import Pose, draw_pose, reach_out
from rmgn.data.people.raytrace import GARMENT, LOWER, OTHER, Surface, Tracer
from rmgn.data.people.shop import Presentation, draw_presentation, lay_out, sleeve_lift
from rmgn.data.people.style import Style, draw_hard_pair, draw_style
from rmgn.data.people.wear import TORN, Wearer, put_on, refine, settle, torn, wearer

SUBPIXELS, SAMPLES = 3, 6  # 54 of 72 lights for every pixel
# Millimetres nearer than the cloth (strands and straps lie close on it), or farther: not what is beneath.
_ON_TOP, _BEHIND = {LABELS["hair"]: 0, LABELS["background"]: 4}, 60


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
    inner_rest: Floats | None = None


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


def draw_camera(rng: Generator, vertices: Floats, size: tuple[int, int]) -> tuple[Camera, dict[str, object]]:
    """From the whole body to head and waist, off the middle, turned up to 40 degrees.

    From afar as in shops, near as a webcam, or a phone held high or low; the frame may cut arms and hair.
    """
    turn = float(np.clip(rng.normal(0, 17), -40, 40))
    kind = str(rng.choice(["shop", "webcam", "phone"], p=[0.55, 0.25, 0.2]))
    near = {"shop": (2.2, 4.0), "webcam": (0.9, 1.8), "phone": (1.2, 2.6)}[kind]
    framing = rng.choice(4, p=[0.14, 0.62, 0.12, 0.12])
    # Metres of height that the picture shows at the person: waist up, thigh up, knee up, whole body.
    extent = rng.uniform(*[(0.62, 0.82), (0.82, 1.2), (1.2, 1.5), (1.85, 2.3)][framing])
    distance = max(float(rng.uniform(*near)), 0.9 * extent if kind == "webcam" else 1.2 * extent)
    skin = vertices[:BODY_VERTICES]
    top = float(skin[:, 2].max())
    above = rng.uniform(-0.06, 0.0) if framing < 2 and rng.random() < 0.12 else rng.uniform(0.015, 0.11)
    middle = top + extent * above - extent / 2
    if framing == 3:
        middle = float(skin[:, 2].min() + top) / 2 + rng.normal(0, 0.02)
    height = middle + {
        "shop": rng.normal(0, 0.12), "webcam": rng.uniform(-0.25, 0.45), "phone": rng.uniform(-0.5, 0.7)
    }[kind]  # fmt: skip
    off = rng.normal(0, 0.03) if rng.random() < 0.6 else rng.uniform(-0.17, 0.17) * extent
    angle = np.deg2rad(turn)
    aside = off * np.array([np.cos(angle), np.sin(angle), 0])
    at = np.array([float(np.median(skin[:, 0])), float(np.median(skin[:, 1])), middle]) + aside
    eye = at + distance * np.array([np.sin(angle), -np.cos(angle), 0])
    eye[2] = height
    roll = float(rng.normal(0, 2.5)) if kind == "phone" else float(rng.normal(0, 0.5))
    camera = Camera.look(eye, at, extent / 2 / distance, size, roll=roll)
    return camera, {
        "kind": kind, "turn": turn, "distance": distance, "extent": extent, "height": float(height - middle),
        "aside": float(off), "roll": roll,
    }  # fmt: skip


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
    if torn(fine, worn) > TORN:
        raise Rejected("cloth torn")
    roll = float(rng.normal(0, 2)) if rng.random() < 0.3 else 0.0
    collar = make_collar(fine, style)
    shown = flat[fine.inside]
    strips: dict[str, Any] = {}
    if collar is not None:
        strips["collar_worn"] = _worn_collar(model, person, collar, worn)
        strips["collar_flat"] = collar.flat(flat)
        shown = np.concatenate([shown, strips["collar_flat"]])
    if style.opening > 0:
        strips["inner_hides"], strips["inner"], strips["inner_rest"] = inner_top(model, person, fine, rng)
    camera = shop_camera(shown, size, float(rng.uniform(1.02, 1.12)), roll)
    return Worked(style, fine, worn, flat, camera, roll, show, collar, **strips)


def move_worked(model: BodyModel, person: Wearer, worked: Worked, worn: Floats) -> Worked:
    """The garment worn as `worn` [N, 3] by the person in another pose, with all that hangs on it."""
    moved = replace(worked, worn=worn)
    if worked.collar is not None:
        moved.collar_worn = _worn_collar(model, person, worked.collar, worn)
    if worked.inner is not None and worked.inner_hides is not None and worked.inner_rest is not None:
        vertices = skin(worked.inner_rest, worked.inner_hides.weights, person.bones)
        normals = vertex_normals(vertices, worked.inner.triangles)
        moved.inner = replace(worked.inner, vertices=vertices, normals=normals)
    return moved


def _worn_collar(model: BodyModel, person: Wearer, collar: Collar, worn: Floats) -> Floats:
    neck, head = (model.joint(b, person.body, person.bones) for b in ("neck01", "head"))
    return collar.worn(worn, head - neck, person.vertices[:BODY_VERTICES], person.normals)


def inner_top(
    model: BodyModel, person: Wearer, over: Garment, rng: Generator
) -> tuple[Garment, Surface, Floats]:
    """A close plain top under the open garment `over`: its cut, its surface on the body, its rest vertices.

    Below the cloth it is sunk in, as is the body that it hides: nothing can then poke through.
    """
    hip = person.body.heads[model.index["upperleg01.L"]][2]
    neck = str(rng.choice(["crew", "scoop", "v"]))
    style = Style(
        kind="tank", neck=neck, neck_width=0.075, neck_depth=0.06 if neck == "crew" else 0.11, sleeve=0.0,
        strap=0.13, hem=float(person.lower.waist - hip - 0.03), ease=0.002,
    )  # fmt: skip
    garment, matrix = refine(make_garment(model, person.body, style))
    garment = replace(garment, weights=sp.csr_matrix(matrix @ garment.weights))
    tone = rng.choice([0.75, 0.6, 0.25, 0.03], p=[0.5, 0.15, 0.15, 0.2])
    colour = np.append(tone * (1 + rng.normal(0, 0.03, 3)), 1.0).astype(np.float32)
    tris = garment.trimmed()
    gap, near = cKDTree(over.vertices).query(garment.vertices)
    under = np.clip(-over.outline.max(axis=1)[near] / 0.015, 0, 1) * (gap < 0.09)
    normals = vertex_normals(garment.vertices, garment.triangles)
    sunk = garment.vertices + (0.001 - 0.011 * under)[:, None] * normals
    surface = Surface(
        skin(sunk, garment.weights, person.bones),
        tris,
        OTHER,
        uv=np.zeros((len(tris), 3, 2)),
        texture=np.broadcast_to(colour, (1, 1, 4)).copy(),
        trim=garment.outline.max(axis=1),
        label=LABELS["inner"],
    )
    return garment, surface, sunk


def _under(points: Floats, garment: Garment, above: float = 0.0) -> Floats:
    """How far inside a garment's outline rest points lie, metres; 0 for those not under it.

    above: the neckline counts as that much higher, for what a collar or the neckline's edge hides.
    """
    gap, near = cKDTree(garment.vertices).query(points, distance_upper_bound=0.09)
    outline = garment.outline - above * (np.arange(3) == NECK)
    inside = np.append(-outline.max(axis=1), 0.0)
    return np.asarray(np.where(gap < 0.09, np.clip(inside[near], 0, None), 0))


def _drawn_in(vertices: Floats, normals: Floats, under: Floats) -> Floats:
    """What lies under cloth, up to 7 mm thinner: drawn cloth then covers it, and edges show no step."""
    return np.asarray(vertices - np.clip(0.5 * under, 0, 0.007)[:, None] * normals)


def dressed_surfaces(
    model: BodyModel, person: Wearer, worked: Worked, strands: list[Surface], head: HeadStyle, assets: Assets,
    carried: Carried,
) -> list[Surface]:  # fmt: skip
    """All surfaces of the person in one garment."""
    rest = person.body.vertices[:BODY_VERTICES]
    arm = model.bone_weight("upperarm", "lowerarm", "wrist", "finger", "meta")[:BODY_VERTICES] > 0.5
    style = worked.style
    hides = {"none": 0.0, "stand": 0.6 * style.collar_height, "turtle": 0.6 * style.collar_height}
    under = _under(rest, worked.garment, hides.get(style.collar, 0.008))
    if worked.inner is not None and worked.inner_hides is not None:
        strands = [*strands, worked.inner]
        under = np.maximum(under, _under(rest, worked.inner_hides, 0.006))
    hidden = under > np.where(arm, 0.018, 0.03)
    covered = (rest[:, 2] < person.lower.waist - 0.03) & (rest[:, 2] > person.lower.bottom + 0.04)
    hidden = hidden | covered & ~arm
    lower = person.lower
    lower_under = (
        np.zeros(len(lower.vertices)) if worked.style.tuck else _under(lower.vertices, worked.garment)
    )
    shown = ~(lower_under > 0.022)[lower.triangles].all(axis=1)
    cloth = np.column_stack([lower.cloth[:, 0], lower.facing, lower.cloth[:, 1]])
    below = Surface(
        _drawn_in(person.lower_vertices, person.lower_normals, lower_under),
        lower.triangles[shown],
        LOWER,
        values=cloth,
        normals=person.lower_normals,
    )
    body = skin_surface(model, person, head, assets, hidden)
    body.vertices = _drawn_in(person.vertices[:BODY_VERTICES], person.normals, under)
    if worked.style.sleeve > 0.6:  # a long sleeve covers the watch
        strands = [s for s in strands if s.label not in (LABELS["left arm"], LABELS["right arm"])]
    garment = garment_surfaces(worked, flat=False)
    if head.locks:
        strands = [*strands, _locks(model, person, worked, head, under < 0.01)]
    g = worked.garment
    trunk = cloth_of(worked.worn, g.triangles, g.seam, g.outline)
    beneath = (under > 0.01, lower_under > 0.01)
    things = carried_surfaces(model, person, carried, trunk, worked.style.tuck, beneath)
    return [body, below, *garment, *strands, *things]


def _locks(model: BodyModel, person: Wearer, worked: Worked, head: HeadStyle, bare: Mask) -> Surface:
    """Long hair over the shoulders, laid on this garment and on bare skin."""
    g = worked.garment
    kept = g.outline.max(axis=1) < 0
    points = np.concatenate([person.vertices[:BODY_VERTICES][bare], worked.worn[kept]])
    normals = np.concatenate([person.normals[bare], vertex_normals(worked.worn, g.triangles)[kept]])
    return locks(model, person, (points, normals), head.locks, head.lock_length, head.wave, head.seed)


@dataclass
class Stage:
    """A sample and what other moments of it are made from."""

    sample: Sample
    model: BodyModel
    person: Wearer
    pose: Pose
    camera: Camera
    lights: Lights
    worked: list[Worked]  # both garments
    depths: list[ShopDepth]
    surfaces: Callable[[Wearer], Callable[[Worked], list[Surface]]]  # all, for the person in another pose
    subpixels: int

    def render(self, person: Wearer, cloths: Sequence[Floats]) -> Sample:
        """The sample with the person moved, and both garments' vertices [N, 3]."""
        wearing = self.surfaces(person)
        worn = []
        for worked, cloth, depth in zip(self.worked, cloths, self.depths, strict=True):
            tracer = Tracer(wearing(move_worked(self.model, person, worked, cloth)))
            worn.append(
                worn_planes(self.model, tracer, self.camera, self.lights, self.subpixels, SAMPLES, depth)
            )
        parts = parts_plane(self.model, person.vertices, person.normals, self.camera)
        meta = {**self.sample.meta, "keypoints": keypoints(self.model, person, self.camera)}
        return replace(self.sample, worn=(worn[0], worn[1]), parts=parts, meta=meta)


def free_pose(
    rng: Generator, model: BodyModel, body: Body, stride: float = 1.0, hard: bool = False
) -> Pose | None:
    """A drawn pose whose arms do not pass through the body; None if they do."""
    return settle(model, body, reach_out(model, body, draw_pose(rng, stride, hard)))


def make_sample(
    rng: Generator,
    size: tuple[int, int],
    assets: Assets,
    rooms: Sequence[Path] | None = None,
    hard: bool = False,
    subpixels: int = SUBPIXELS,
) -> Sample:
    """Draw and render a sample, size (height, width); raises `Rejected`.

    rooms: the surroundings that may light it; by default all of the assets.
    hard: draw what try-on gets wrong first: elbows out, long sleeves, a midriff bare in one garment alone,
        patterned skirts.
    subpixels: of a pixel, each way.
    """
    return make_stage(rng, size, assets, rooms, hard, subpixels).sample


def make_stage(
    rng: Generator,
    size: tuple[int, int],
    assets: Assets,
    rooms: Sequence[Path] | None = None,
    hard: bool = False,
    subpixels: int = SUBPIXELS,
) -> Stage:
    """Draw and render a sample as `make_sample` does, and keep what it was made from."""
    model = body_model()
    shape = draw_shape(rng)
    feminine = shape["gender"] > 0.5
    head = draw_head(rng, assets, feminine, shape["age"])
    body = model.rest(shape, head.features, head.expression.actions)
    lower_style = draw_lower(rng, feminine, hard)
    stride = 0.4 if lower_style.kind == "skirt" else 1.0
    pose = free_pose(rng, model, body, stride, hard)
    if pose is None:
        raise Rejected("arm through the body")
    person = wearer(model, body, pose, make_lower(model, body, lower_style, rng))
    camera, view = draw_camera(rng, person.vertices, size)
    names = pose.name.split("-")
    arms = (names[0], names[1]) if pose.left_first else (names[1], names[0])
    worn_things = draw_accessories(rng, arms)
    carried = draw_carried(rng, arms)
    if head.locks or head.hair in LONG:  # long hair would hide most of a scarf
        carried = replace(carried, scarf=0.0)

    def surfaces(person: Wearer, strict: bool = False) -> Callable[[Worked], list[Surface]]:
        gaze = gaze_angles(model, person, head.expression, camera.eye)
        strands = [
            eye_surface(model, person, head.iris, gaze),
            *(mouth_surfaces(model, person) if head.expression.actions.get("jawOpen", 0) > 0 else []),
            *strand_surfaces(model, person, head, assets),
            *accessory_surfaces(model, person, worn_things),
            *shoe_surfaces(model, person.body, person.bones, lower_style.shoe),
        ]

        def wearing(worked: Worked) -> list[Surface]:
            try:
                return dressed_surfaces(model, person, worked, strands, head, assets, carried)
            except Unfit as reason:
                if strict:
                    raise Rejected(str(reason)) from reason
                # In a clip a moment without the bag is better than none.
                return dressed_surfaces(model, person, worked, strands, head, assets, Carried())

        return wearing

    lights, light_name = draw_light(rng, assets.surroundings if rooms is None else rooms, -camera.forward)
    worn: list[Worn] = []
    shops: list[Shop] = []
    made: list[dict[str, Any]] = []
    tops: list[Worked] = []
    depths: list[ShopDepth] = []
    wearing = surfaces(person, strict=True)
    pair = draw_hard_pair(rng, feminine, lower_style.waist) if hard else None
    for k in range(2):
        style = pair[k] if pair else draw_style(rng, feminine, tuck=bool(rng.random() < 0.3))
        if style.tuck:
            style = replace(style, hem=lower_style.waist - 0.018, tail=0.0, opening=0.0)
        worked = make_worked(model, person, style, rng, size)
        flat = Tracer(garment_surfaces(worked, flat=True))
        shop, depth = shop_planes(flat, worked.camera, shop_lights(rng), subpixels, 4)
        layer = worn_planes(model, Tracer(wearing(worked)), camera, lights, subpixels, SAMPLES, depth)
        inspect(layer)
        tops.append(worked)
        depths.append(depth)
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
        "head": asdict(head), "accessories": asdict(worn_things), "carried": asdict(carried),
        "lower": asdict(lower_style), "garments": made, "keypoints": joints,
        **({"hard": True} if hard else {}),
    }  # fmt: skip
    parts = parts_plane(model, person.vertices, person.normals, camera)
    sample = Sample((worn[0], worn[1]), (shops[0], shops[1]), parts, meta)
    return Stage(sample, model, person, pose, camera, lights, tops, depths, surfaces, subpixels)


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


def inspect(worn: Worn) -> None:
    """Reject what shows too little of the garment, or something that pokes through it."""
    garment = worn.garment
    covered = garment[..., 0] > 127
    if covered.mean() < LEAST_GARMENT:
        raise Rejected("garment hardly in the picture")
    seen = (garment[..., 1] & VISIBLE) > 0
    if (seen & covered).sum() < 0.6 * covered.sum():
        raise Rejected("mostly unseen in the shop photo")
    for reason in through_cloth(worn):
        raise Rejected(reason)


def through_cloth(worn: Worn) -> Iterator[str]:
    """What pokes through the garment or shows through a hole in it, from small islands within the garment.

    Depth tells: a hand, hair or a bag before the garment is well nearer than the cloth around it, what is
    seen between arm and trunk well farther; what pokes through meets the cloth, and a hole shows what lies
    beneath.
    """
    cloth = worn.labels == LABELS["garment"]
    count, island, stats, _ = cv2.connectedComponentsWithStats((~cloth).astype(np.uint8), connectivity=4)
    for k in range(1, count):
        x, y, w, h, area = stats[k]
        rim = x == 0 or y == 0 or x + w == cloth.shape[1] or y + h == cloth.shape[0]
        if rim or area < 5e-5 * cloth.size or area > 8e-3 * cloth.size:
            continue
        near = np.s_[y - 1 : y + h + 1, x - 1 : x + w + 1]
        own, depth, label = island[near] == k, worn.depth[near].astype(float), worn.labels[near]
        steps = []  # of depth, from a pixel of the island out to its neighbour
        for axis, way in ((0, 1), (0, -1), (1, 1), (1, -1)):
            outward = own & ~np.roll(own, way, axis)
            steps.append((np.roll(depth, way, axis) - depth)[outward])
        name = int(np.bincount(label[own]).argmax())
        solid = depth[own] > 0
        if not solid.any():
            continue  # the background between arm and trunk
        nearer = float(np.median(np.concatenate(steps)))
        if nearer >= _ON_TOP.get(name, 8) or nearer <= -_BEHIND:
            continue
        if name in (LABELS["left arm"], LABELS["right arm"]):
            yield "hand through the cloth"
        elif name == LABELS["background"]:
            yield "belt or strap through the cloth"
        else:
            yield "body or trousers through the cloth"
