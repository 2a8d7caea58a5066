"""Bodies, poses and garments: geometry that later stages rely on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from rmgn.data.people.accessories import Accessories, accessory_surfaces, draw_accessories
from rmgn.data.people.body import BODY_VERTICES, Body, body_model, skin
from rmgn.data.people.camera import Camera
from rmgn.data.people.cloth import constraints
from rmgn.data.people.collar import make_collar
from rmgn.data.people.garment import CUFF, HEM, NECK, make_garment
from rmgn.data.people.lower import LowerStyle, make_lower
from rmgn.data.people.mesh import boundary_loops, subdivision, unique_pairs
from rmgn.data.people.pose import Arm, Pose, draw_pose, transforms
from rmgn.data.people.setting import draw_shape
from rmgn.data.people.style import Style, draw_style
from rmgn.data.people.wear import refine, settle, wearer
from rmgn.data.people.worked import shop_camera

Floats = npt.NDArray[np.floating]


def test_zero_pose_leaves_the_body_alone() -> None:
    model = body_model()
    body = model.rest({})
    bones = np.tile(np.eye(3, 4), (len(model.bones), 1, 1))
    np.testing.assert_allclose(skin(body.vertices, model.weights, bones), body.vertices, atol=1e-5)


def test_arms_point_where_they_are_aimed() -> None:
    model = body_model()
    body = model.rest({})
    arm = Arm((0.5, -0.5, -0.7), (0.0, -1.0, 0.3))
    bones = transforms(model, body.heads, Pose("aimed", arm, arm))
    for side, mirror in (("L", 1), ("R", -1)):
        joints = [model.index[f"{b}.{side}"] for b in ("upperarm01", "lowerarm01", "wrist")]
        at = [bones[i, :, :3] @ body.heads[i] + bones[i, :, 3] for i in joints]
        for start, end, goal in ((at[0], at[1], arm.upper), (at[1], at[2], arm.fore)):
            wanted = np.array(goal) * [mirror, 1, 1]
            cosine = (end - start) @ wanted / np.linalg.norm(end - start) / np.linalg.norm(wanted)
            assert cosine > 0.99


@pytest.mark.parametrize(
    "hand",
    [
        {},
        {"curl": 60.0},
        {"close": 0.0},
        {"close": 1.5},
        {"thumb": 20.0},
        {"twist": 40.0, "fingers": (0.4, 1, 1.6, 1)},
    ],
)
def test_the_right_arm_is_the_left_ones_mirror_image(hand: dict[str, Any]) -> None:
    model = body_model()
    body = model.rest({})
    arm = Arm((0.3, 0.0, -1), (0.2, -0.2, -1), **hand)
    posed = skin(body.vertices, model.weights, transforms(model, body.heads, Pose("both", arm, arm)))
    rest, posed = body.vertices[:BODY_VERTICES], posed[:BODY_VERTICES]
    other = cKDTree(rest).query(rest * [-1, 1, 1])[1]
    np.testing.assert_allclose(posed[other] * [-1, 1, 1], posed, atol=5e-4)


def test_hands_close_on_the_palm() -> None:
    model = body_model()
    body = model.rest({})

    def gap(first: str, second: str, **hand: float) -> list[float]:
        """Metres between two joints of both hands."""
        arm = Arm((0.3, 0.0, -1), (0.2, -0.2, -1), **hand)  # type: ignore[arg-type]
        bones = transforms(model, body.heads, Pose("both", arm, arm))
        at = [[model.joint(f"{joint}.{side}", body, bones) for joint in (first, second)] for side in "LR"]
        return [float(np.linalg.norm(one - two)) for one, two in at]

    for side in (0, 1):
        assert gap("finger3-3", "wrist", curl=60)[side] < gap("finger3-3", "wrist", curl=20)[side] - 0.02
        spread, closed = (gap("finger2-3", "finger5-3", close=close)[side] for close in (0, 1))
        assert closed < spread - 0.003
        assert gap("finger1-3", "finger5-1", thumb=20)[side] < gap("finger1-3", "finger5-1")[side] - 0.005


def test_knees_bend_backwards() -> None:
    model = body_model()
    body = model.rest({})
    for seed in range(60):
        pose = draw_pose(np.random.default_rng(seed))
        bones = transforms(model, body.heads, pose)
        for side in "LR":
            names = ("upperleg01", "lowerleg01", "foot")
            hip, knee, ankle = (model.joint(f"{name}.{side}", body, bones) for name in names)
            thigh, shin = (np.arctan2(part[1], -part[2]) for part in (knee - hip, ankle - knee))
            assert shin > thigh  # y leads backwards


def winding_numbers(points: Floats, corners: Floats) -> Floats:
    """How often a surface of triangles [T, 3, 3] goes around each point [N, 3]: its solid angle by 4 pi
    (van Oosterom and Strackee)."""
    a, b, c = np.moveaxis(corners[None] - points[:, None, None], 2, 0)
    la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    volume = (a * np.cross(b, c)).sum(-1)
    rest = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return np.asarray(np.arctan2(volume, rest).sum(axis=1) / (2 * np.pi))


def test_settled_hands_are_outside_the_trunk() -> None:
    """Of poses that are drawn, and of hands that were put into the belly."""
    model = body_model()
    trunk = model.bone_weight("spine", "root", "pelvis", "breast", "upperleg")[:BODY_VERTICES] > 0.6
    triangles = model.triangles[trunk[model.triangles].all(axis=1)]
    hands = model.bone_weight("wrist", "finger")[:BODY_VERTICES] > 0.6

    def deepest(body: Body, pose: Pose) -> float:
        posed = skin(body.vertices, model.weights, transforms(model, body.heads, pose))
        return float(winding_numbers(posed[:BODY_VERTICES][hands][::7], posed[triangles]).max())

    settled = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        body = model.rest(draw_shape(rng))
        pose = settle(model, body, draw_pose(rng))
        if pose is not None:
            settled += 1
            assert deepest(body, pose) < 0.5, seed
    assert settled >= 5

    body = model.rest({})
    left, right = (Arm((0.3, 0.0, -1), (-0.9, -0.35, -0.2)) for _ in range(2))
    into = Pose("inside", left, right)
    assert deepest(body, into) > 0.5
    out = settle(model, body, into)
    assert out is not None
    assert deepest(body, out) < 0.5


@pytest.mark.parametrize(
    "style",
    [
        Style(),
        Style(kind="tank", sleeve=0.0, strap=0.12, neck="scoop", neck_width=0.09, neck_depth=0.12),
        Style(kind="shirt", sleeve=0.98, collar="fold", hem=-0.08, tail=0.04, oversize=0.03),
    ],
    ids=["tee", "tank", "shirt"],
)
def test_garments_have_their_openings(style: Style) -> None:
    model = body_model()
    garment = make_garment(model, model.rest({}), style)
    inside = garment.outline.max(axis=1) < 0
    assert inside.mean() > 0.8
    hip = model.rest({}).heads[model.index["upperleg01.L"]][2]
    lowest = garment.vertices[inside, 2].min()
    assert abs(lowest - hip - style.hem) < 0.03
    for column in (NECK, HEM, CUFF):
        assert (garment.outline[:, column] > 0).any()
    # Left and right agree.
    assert abs(garment.vertices[inside, 0].max() + garment.vertices[inside, 0].min()) < 0.02
    assert ((garment.seam > 0).any()) == (style.sleeve > 0)
    fine, matrix = refine(garment)
    np.testing.assert_allclose(np.asarray(matrix.sum(axis=1)).ravel(), 1, atol=1e-9)
    collar = make_collar(fine, style)
    assert (collar is not None) == (style.collar == "fold")
    if collar is not None:
        points = collar.flat(fine.vertices)
        assert np.isfinite(points).all()
        assert len(points) == len(collar.edge)


def test_styles_stay_in_their_range() -> None:
    for seed in range(200):
        style = draw_style(np.random.default_rng(seed), seed % 2 == 0)
        assert 0 <= style.sleeve <= 1
        assert style.neck_depth < 0.2
        assert style.strap > style.neck_width or style.sleeve > 0


def test_bending_pairs_span_two_quads() -> None:
    """In a strip of two quads the vertices beyond the shared edge are joined."""
    v = np.array([[x, y, 0.0] for x in range(3) for y in range(2)])
    quads = np.array([[0, 2, 3, 1], [2, 4, 5, 3]])
    cons = constraints(v, quads)
    assert {(0, 4), (1, 5)} == {tuple(sorted(p)) for p in cons.pairs[cons.kinds == 2].tolist()}
    np.testing.assert_allclose(cons.lengths[cons.kinds == 2], 2)


def test_mesh_tools() -> None:
    pairs = np.array([[3, 1], [0, 2], [3, 1]])
    found = unique_pairs(pairs)
    assert found.pairs.tolist() == [[0, 2], [3, 1]]
    assert found.counts.tolist() == [1, 2]
    quads = np.array([[0, 1, 2, 3]])
    matrix, finer = subdivision(4, quads)
    assert matrix.shape == (9, 4)
    assert len(finer) == 4
    assert [len(loop) for loop in boundary_loops(finer)] == [8]


def test_projection_inverts_rays() -> None:
    camera = Camera.look(np.array([0.3, -2.0, 1.0]), np.array([0.0, 0.0, 0.8]), 0.3, (64, 48), roll=5.0)
    origin, direction = camera.rays()
    pixels, depth = camera.project(origin + 1.7 * direction.astype(np.float64))
    x, y = np.meshgrid(np.arange(48) + 0.5, np.arange(64) + 0.5)
    np.testing.assert_allclose(pixels, np.stack([x.ravel(), y.ravel()], axis=1), atol=1e-3)
    assert depth.min() > 1
    assert BODY_VERTICES == 13380


def test_accessories_lie_where_they_belong() -> None:
    model = body_model()
    body = model.rest({})
    arm = Arm((0.35, -0.2, -1), (-0.4, -0.8, 0.6))
    lower = make_lower(model, body, LowerStyle(), np.random.default_rng(0))
    person = wearer(model, body, Pose("chest-chest", arm, arm), lower)
    worn = Accessories(glasses=True, necklace=0.08, watch="L", phone="R")
    surfaces = accessory_surfaces(model, person, worn)
    skin_points = cKDTree(person.vertices[:BODY_VERTICES])
    assert len(surfaces) == 5 + 3
    for surface in surfaces:
        assert np.isfinite(surface.vertices).all()
        assert surface.triangles.max() < len(surface.vertices)
        assert skin_points.query(surface.vertices)[0].max() < 0.12
    drawn = [draw_accessories(np.random.default_rng(k), ("hanging",) * 2) for k in range(40)]
    assert not any(d.phone for d in drawn)


@pytest.mark.parametrize("roll", [-6.0, 0.0, 4.0])
def test_shop_photos_hold_the_whole_garment(roll: float) -> None:
    points = np.random.default_rng(0).uniform(-0.4, 0.4, (400, 3)) * [1, 0.1, 1.3] + [0.1, 0, 0.3]
    pixels, _ = shop_camera(points, (256, 192), 1.03, roll).project(points)
    assert pixels.min() > 0
    assert (pixels.max(axis=0) < [192, 256]).all()
