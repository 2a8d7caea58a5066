"""One sample: a drawn person in a drawn pose, before a drawn camera, in two drawn garments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.random import Generator

from rmgn.data.people.accessories import draw_accessories
from rmgn.data.people.assets import Assets
from rmgn.data.people.body import Body, BodyModel, body_model
from rmgn.data.people.camera import Camera
from rmgn.data.people.carried import draw_carried
from rmgn.data.people.dressed import Outfit
from rmgn.data.people.head import LONG, draw_head
from rmgn.data.people.inspection import Rejected, exposed, inspect
from rmgn.data.people.keypoints import keypoints
from rmgn.data.people.layers import Sample, Shop, Worn
from rmgn.data.people.light import Lights, shop_lights
from rmgn.data.people.lower import draw_lower, make_lower
from rmgn.data.people.mesh import Floats
from rmgn.data.people.planes import ShopDepth, parts_plane, shop_planes, worn_planes
from rmgn.data.people.pose import Pose, draw_pose, reach_out
from rmgn.data.people.raytrace import Surface, Tracer
from rmgn.data.people.setting import draw_camera, draw_light, draw_shape
from rmgn.data.people.style import draw_hard_pair, draw_pair
from rmgn.data.people.wear import Wearer, settle, wearer
from rmgn.data.people.worked import Worked, garment_meta, garment_surfaces, make_worked, move_worked

SUBPIXELS, SAMPLES = 3, 6  # 54 of 72 lights for every pixel


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
    outfit = Outfit(model, head, assets, lower_style.shoe, worn_things, carried, camera)
    lights, light_name = draw_light(rng, assets.surroundings if rooms is None else rooms, -camera.forward)
    worn: list[Worn] = []
    shops: list[Shop] = []
    made: list[dict[str, Any]] = []
    tops: list[Worked] = []
    depths: list[ShopDepth] = []
    wearing = outfit.surfaces(person, strict=True)
    for style in (draw_hard_pair if hard else draw_pair)(rng, feminine, lower_style.waist):
        worked = make_worked(model, person, style, rng, size, close=hard)
        flat = Tracer(garment_surfaces(worked, flat=True))
        shop, depth = shop_planes(flat, worked.camera, shop_lights(rng), subpixels, 4)
        layer = worn_planes(model, Tracer(wearing(worked)), camera, lights, subpixels, SAMPLES, depth)
        inspect(layer)
        exposed(layer)
        tops.append(worked)
        depths.append(depth)
        worn.append(layer)
        shops.append(shop)
        made.append(garment_meta(worked))
    joints = keypoints(model, person, camera)
    meta = {
        "size": list(size), "shape": shape, "pose": pose.name, "camera": view, "light": light_name,
        "head": asdict(head), "accessories": asdict(worn_things), "carried": asdict(carried),
        "lower": asdict(lower_style), "garments": made, "keypoints": joints,
        **({"hard": True} if hard else {}),
    }  # fmt: skip
    parts = parts_plane(model, person.vertices, person.normals, camera)
    sample = Sample((worn[0], worn[1]), (shops[0], shops[1]), parts, meta)
    return Stage(sample, model, person, pose, camera, lights, tops, depths, outfit.surfaces, subpixels)
