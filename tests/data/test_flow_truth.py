"""The promise of the data set: the shop photo, warped by the true flow, is the worn garment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rmgn.data.develop import display
from rmgn.data.dress import Cloth, fabric_colour, flows, shop_place, worn_place
from rmgn.data.fabrics import draw_palette, draw_tile, linear
from rmgn.data.look import NUMBERS
from rmgn.data.people.assets import assets
from rmgn.data.people.body import body_model
from rmgn.data.people.camera import Camera
from rmgn.data.people.layers import PLACE_ZERO
from rmgn.data.people.light import make_lights, shop_lights, studio
from rmgn.data.people.lower import LowerStyle, make_lower
from rmgn.data.people.planes import shop_planes, worn_planes
from rmgn.data.people.pose import Arm, Pose
from rmgn.data.people.raytrace import Tracer
from rmgn.data.people.setting import draw_shape
from rmgn.data.people.style import Style
from rmgn.data.people.wear import wearer
from rmgn.data.people.worked import garment_surfaces, make_worked

SIZE = (256, 192)


def _colours(
    planes: torch.Tensor, x: torch.Tensor, z: torch.Tensor, look: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Unlit sRGB colours [3, H, W] of garment planes [H, W, 4], 0 elsewhere."""
    there = planes[..., 0] > 0
    cloth = Cloth(
        slice(0, 1), x[there], z[there], planes[there][:, 1].int(),
        planes[there][:, 2] * 2.5e-4, planes[there][:, 3] * 2.5e-4,
    )  # fmt: skip
    picture = torch.zeros(*there.shape, 3)
    picture[there] = display(fabric_colour(cloth, look)).T
    return picture.permute(2, 0, 1)


@pytest.mark.parametrize("pattern", ["stripes", "florals", "plain"])
def test_warped_shop_photo_is_the_worn_garment(pattern: str) -> None:
    model = body_model()
    rng = np.random.default_rng(4)
    body = model.rest(draw_shape(rng))
    arm = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    person = wearer(model, body, Pose("test", arm, arm), make_lower(model, body, LowerStyle(), rng))
    camera = Camera.look(np.array([0.4, -3.0, 0.5]), np.array([0.0, 0.0, 0.45]), 0.19, SIZE)
    worked = make_worked(model, person, Style(neck="scoop", neck_width=0.09, neck_depth=0.1), rng, SIZE)
    flat = Tracer(garment_surfaces(worked, flat=True))
    lights = make_lights(studio(rng, -camera.forward), -camera.forward, rng)
    tracer = Tracer(garment_surfaces(worked, flat=False))
    fine = replace(worked.camera, width=768, height=1024)
    shop, depth = shop_planes(flat, fine, shop_lights(rng), 1, 1)
    worn = worn_planes(model, tracer, camera, lights, 3, 1, depth)

    tile, _ = draw_tile(rng, pattern)
    numbers = {**dict.fromkeys(NUMBERS, 0.0), "scale": 1.0, "block_low": 2.0, "stitch": 0.02}
    place = torch.tensor([[worked.camera.eye[0], worked.camera.eye[2], worked.camera.half_height, 0.0]])
    look = {
        "tile": torch.from_numpy(tile)[None],
        "palette": torch.from_numpy(linear(draw_palette(rng)))[None],
        "band": torch.zeros(1, 3),
        "overlay": torch.zeros(1, 4, 384, 320, dtype=torch.uint8),
        "numbers": torch.tensor([[numbers[n] for n in NUMBERS]]),
        "front": torch.tensor([[0.0, 0.6]]),
        "sleeve_angle": torch.tensor([0.4]),
    }
    place = torch.cat([place[:, :3].float(), torch.deg2rad(torch.tensor([[worked.roll]])).float()], dim=1)
    planes, photo_planes = torch.from_numpy(worn.garment), torch.from_numpy(shop.garment)
    x, z = worn_place(torch.from_numpy((worn.place ^ PLACE_ZERO).view(np.int16))[None])
    truth = _colours(planes, x[0], z[0], look)
    flat_x, flat_z = shop_place(photo_planes[None, ..., 0], place)
    photo = _colours(photo_planes, flat_x[0], flat_z[0], look)
    flow, visible = flows(x, z, planes[None], place)
    warped = torch.nn.functional.grid_sample(photo[None], flow.permute(0, 2, 3, 1), align_corners=False)[0]
    shown = visible[0, 0]
    error = 255 * (warped - truth).abs().mean(dim=0)[shown]
    assert shown.sum() > 0.85 * (planes[..., 0] > 127).sum()
    assert error.mean() < 2
    assert truth[:, shown].std() > 0.005 or pattern == "plain"


def test_assets_are_optional() -> None:
    nothing = assets(None)
    assert not nothing.hair
    assert not nothing.surroundings
