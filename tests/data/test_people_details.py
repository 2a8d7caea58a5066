"""Faces, hair, reaching arms and carried things: where they are and what they leave alone."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from rmgn.data.people.assets import Assets, assets
from rmgn.data.people.body import BODY_VERTICES, HEAD_KEYS, Body, body_model, skin
from rmgn.data.people.carried import Carried, carried_surfaces, draw_carried
from rmgn.data.people.dressed import waistband_seen
from rmgn.data.people.face import BEARDS, Expression, draw_expression, draw_features, gaze_angles, hairy
from rmgn.data.people.hair import locks
from rmgn.data.people.head import HeadStyle, draw_head, strand_surfaces
from rmgn.data.people.inspection import Rejected, exposed, through_cloth
from rmgn.data.people.layers import LABELS, Worn, pack_light
from rmgn.data.people.lower import LowerStyle, make_lower, shoe_surfaces
from rmgn.data.people.planes import body_parts, nearest_corner
from rmgn.data.people.pose import (
    _BOTH,
    _SINGLE,
    Arm,
    Pose,
    Reach,
    draw_pose,
    reach_out,
    transforms,
    two_bones,
)
from rmgn.data.people.raytrace import interpolate
from rmgn.data.people.style import Style
from rmgn.data.people.wear import Wearer, wearer

BEFORE = {"belly", "chest", "across", "phone", "strap", "clasped", "folded"}  # arms before the garment


@pytest.fixture(scope="module")
def standing() -> Wearer:
    model = body_model()
    body = model.rest({})
    arm = Arm((0.2, 0.05, -1), (0.1, -0.2, -1))
    lower = make_lower(model, body, LowerStyle(), np.random.default_rng(0))
    return wearer(model, body, Pose("hanging-hanging", arm, arm), lower)


def _moved(one: Body, two: Body) -> np.ndarray:
    return np.asarray(np.linalg.norm(one.vertices - two.vertices, axis=1)[:BODY_VERTICES])


def test_expressions_and_features_move_the_face_alone() -> None:
    model = body_model()
    calm = model.rest({})
    low = calm.vertices[:BODY_VERTICES, 2] < calm.heads[model.index["spine01"]][2]
    for seed in range(4):
        rng = np.random.default_rng(seed)
        features, expression = draw_features(rng), draw_expression(rng)
        assert set(HEAD_KEYS) <= set(features)
        moved = _moved(calm, model.rest({}, features, expression.actions))
        assert moved.max() > 0.001
        assert moved[low].max() < 0.1 * moved.max()
    smile = model.rest({}, None, {"mouthSmileLeft": 1.0})
    side = calm.vertices[:BODY_VERTICES, 0]
    moved = _moved(calm, smile)
    assert moved[side > 0.01].max() > 5 * moved[side < -0.03].max()


def test_eyes_look_at_the_camera(standing: Wearer) -> None:
    model = body_model()
    ahead = standing.body.heads[model.index["head"]] + [0, -2, 0.07]
    straight = gaze_angles(model, standing, Expression(), ahead)
    np.testing.assert_allclose(straight, 0, atol=6)
    left, _ = gaze_angles(model, standing, Expression(), ahead + [0.5, 0, 0])
    assert left > straight[0] + 8
    assert gaze_angles(model, standing, Expression(at_camera=False), ahead + [0.5, 0, 0]) == (0.0, 0.0)


def test_hair_grows_where_it_should() -> None:
    model = body_model()
    rest = model.rest({}).vertices[:BODY_VERTICES]
    eyes = np.concatenate([model.rest({}).vertices[np.unique(model.groups[f"helper-{s}-eye"])] for s in "lr"])
    grown = hairy()
    top = rest[:, 2].argmax()
    assert grown["scalp"][top] == 1
    near_eyes = cKDTree(eyes).query(rest)[0] < 0.01
    for name in (*BEARDS, "scalp"):
        values = grown[name]
        assert values.min() >= 0
        assert values.max() <= 1
        assert (values > 0.5).sum() > 20
        assert values[near_eyes].max() < 0.05
        # Left and right agree.
        assert abs(values[rest[:, 0] > 0.001].sum() / values[rest[:, 0] < -0.001].sum() - 1) < 0.05
    for name in BEARDS:
        assert grown[name][top] == 0


@settings(max_examples=60, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0.2, 0.4), st.floats(0.2, 0.4))
def test_two_bones_reach_their_goal(x: float, y: float, z: float, first: float, second: float) -> None:
    goal = np.array([x, y, z])
    distance = float(np.linalg.norm(goal))
    assume(abs(first - second) + 0.03 < distance < 0.99 * (first + second) and abs(z) <= 0.95 * distance)
    upper, fore = two_bones(goal, first, second, np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(np.linalg.norm(upper), 1, atol=1e-6)
    np.testing.assert_allclose(first * upper + second * fore, goal, atol=1e-6)
    # The elbow hangs below the foot of its height over the line from shoulder to goal.
    foot = (distance**2 + first**2 - second**2) / (2 * distance)
    assert (first * upper)[2] <= goal[2] * foot / distance + 1e-9


def test_wrists_lie_where_they_reach() -> None:
    model = body_model()
    body = model.rest({})
    reach = Reach(0.05, 0.4, 0.06)
    pose = Pose("belly-hanging", Arm((0, 0, -1), (0, 0, -1), reach=reach), Arm((0.2, 0, -1), (0.1, 0, -1)))
    pose = reach_out(model, body, pose)
    bones = transforms(model, body.heads, pose)
    i, hip = model.index["wrist.L"], body.heads[model.index["upperleg01.L"]]
    wrist = bones[i, :, :3] @ body.heads[i] + bones[i, :, 3]
    trunk = skin(body.vertices, model.weights, bones)[:BODY_VERTICES]
    trunk = trunk[model.bone_weight("spine", "root", "pelvis", "breast")[:BODY_VERTICES] > 0.6]
    assert abs(wrist[0] - 0.05) < 0.02
    assert wrist[2] > hip[2] + 0.1
    assert 0.03 < cKDTree(trunk).query(wrist)[0] < 0.09


def test_a_third_of_the_poses_have_an_arm_before_the_garment() -> None:
    poses = [draw_pose(np.random.default_rng(k)) for k in range(400)]
    share = np.mean([bool(set(p.name.split("-")) & BEFORE) for p in poses])
    assert 0.28 < share < 0.5
    names = {part for p in poses for part in p.name.split("-")}
    assert names == (set(_SINGLE) | set(_BOTH)) - {"akimbo"}
    assert set(_BOTH) < BEFORE


def test_elbows_point_outwards_in_half_of_the_hard_poses() -> None:
    rng = np.random.default_rng(0)
    poses = [draw_pose(rng, hard=True) for _ in range(400)]
    assert 0.45 < np.mean(["akimbo" in p.name for p in poses]) < 0.65


def test_carried_things_lie_outside_the_cloth(standing: Wearer) -> None:
    model = body_model()
    trunk = model.bone_weight("spine", "breast")[:BODY_VERTICES] > 0.6
    cloth = standing.vertices[:BODY_VERTICES][trunk] + 0.01 * standing.normals[trunk], standing.normals[trunk]
    tree = cKDTree(cloth[0])
    kinds = {
        "crossbody": 3, "backpack": 2, "hand": 2, "shoulder": 2, "": 0,
    }  # fmt: skip
    for bag, least in kinds.items():
        carried = Carried(bag=bag, side="L", scarf=0.02 if not bag else 0.0, belt=0.03, seed=3)
        surfaces = carried_surfaces(model, standing, carried, cloth, belted=True)
        assert len(surfaces) >= least + (not bag)
        for surface in surfaces:
            assert np.isfinite(surface.vertices).all()
            assert surface.triangles.max() < len(surface.vertices)
        if bag == "crossbody":  # others close through the trunk
            strap = surfaces[0].vertices
            near = tree.query(strap)
            height = ((strap - cloth[0][near[1]]) * cloth[1][near[1]]).sum(axis=1)
            assert np.quantile(height[near[0] < 0.03], 0.03) > -0.002
    hung = carried_surfaces(model, standing, Carried(bag="shoulder", side="L", seed=3), cloth, belted=False)
    strap, body = hung[0].vertices, hung[1].vertices
    low = strap[strap[:, 2].argmin()]
    assert body[:, 2].min() < low[2] < body[:, 2].max() + 0.01, "the bag hangs on its strap"
    assert np.linalg.norm(low - body, axis=1).min() < 0.06
    untucked = carried_surfaces(model, standing, Carried(belt=0.03), cloth, belted=False)
    assert untucked == []
    drawn = [draw_carried(np.random.default_rng(k), ("behind", "strap")) for k in range(20)]
    assert all(d.bag and d.side == "R" for d in drawn)


@pytest.mark.parametrize("build", [{}, {"height": 0.1, "age": 1.0}, {"height": 0.9, "proportions": 0.2}])
def test_a_waistband_is_seen_below_a_garment_that_ends_above_it(build: dict[str, float]) -> None:
    """Hems and waists are measured from hip joints, which are not at the same height in all bodies."""
    model = body_model()
    body = model.rest(build)
    lower = make_lower(model, body, LowerStyle(waist=0.12), np.random.default_rng(0))
    arm = Arm((0.2, 0.05, -1), (0.1, -0.2, -1))
    person = wearer(model, body, Pose("hanging-hanging", arm, arm), lower)
    for hem, seen in ((-0.03, False), (0.105, False), (0.115, True), (0.2, True)):
        assert waistband_seen(model, person, Style(hem=hem)) is seen
    assert waistband_seen(model, person, Style(hem=-0.03, tuck=True))
    assert waistband_seen(model, person, Style(hem=-0.03, opening=0.05))


def test_every_kind_of_hair_is_a_surface(standing: Wearer) -> None:
    model = body_model()
    none = assets(None)
    styles = [
        HeadStyle(hair="sleek", bun=0.04, fringe=0.06),
        HeadStyle(hair="curls", volume=0.01),
        HeadStyle(hair="bald", beard="full", beard_length=0.005),
        HeadStyle(hair="cropped"),
        *(draw_head(np.random.default_rng(k), none, k % 2 == 0, 0.7) for k in range(6)),
    ]
    head = standing.body.heads[model.index["head"]]
    for style in styles:
        surfaces = strand_surfaces(model, standing, style, none)
        assert surfaces or (style.hair == "bald" and style.beard == "none"), style
        for surface in surfaces:
            assert np.isfinite(surface.vertices).all()
            assert surface.triangles.max() < len(surface.vertices)
            assert np.linalg.norm(surface.vertices - head, axis=1).max() < 0.6


def test_flipped_hair_of_assets_is_a_mirror_image(tmp_path: Path) -> None:
    """Hair that is its own mirror image stays what it is, where one arm takes the shoulder along too."""
    model = body_model()
    body = model.rest({})
    folder = tmp_path / "hair" / "own"
    folder.mkdir(parents=True)
    low = body.heads[model.index["upperarm01.L"]][2] - 0.05
    number = np.cumsum(body.vertices[:BODY_VERTICES, 2] > low)
    cards = model.triangles[(body.vertices[model.triangles, 2] > low).all(axis=1)]
    corners = np.flatnonzero(body.vertices[:BODY_VERTICES, 2] > low)
    lines = ["v 0 0 0"] * len(corners) + [f"f {a} {b} {c}" for a, b, c in number[cards]]
    (folder / "own.obj").write_text("\n".join(lines))
    (folder / "own.mhclo").write_text("\n".join(["obj_file own.obj", "verts 0", *map(str, corners)]))

    arms = Arm((0.7, -0.3, -0.3), (0, -0.2, 1)), Arm((0.2, 0, -1), (0.1, -0.1, -1))
    person = wearer(
        model, body, Pose("raised", *arms), make_lower(model, body, LowerStyle(), np.random.default_rng(0))
    )
    plain, flipped = (
        strand_surfaces(model, person, HeadStyle(hair="own", flip=flip), Assets(tmp_path))[1]
        for flip in (False, True)
    )
    far = cKDTree(plain.vertices).query(flipped.vertices)[0]
    assert far.max() < 2e-3


def test_locks_fall_outside_of_what_they_lie_on(standing: Wearer) -> None:
    model = body_model()
    solid = standing.vertices[:BODY_VERTICES], standing.normals
    hair = locks(model, standing, solid, "LR", 0.2, 0.0, 1)
    near = cKDTree(solid[0]).query(hair.vertices)[1]
    height = ((hair.vertices - solid[0][near]) * solid[1][near]).sum(axis=1)
    assert np.quantile(height, 0.02) > 0
    assert hair.vertices[:, 2].min() < standing.body.heads[model.index["head"]][2] - 0.15


def test_scalps_are_hair_and_beards_are_face(standing: Wearer) -> None:
    model = body_model()
    for hair in ("sleek", "cropped", "curls"):
        style = HeadStyle(hair=hair, volume=0.01, beard="full", beard_length=0.005)
        *scalp, beard = strand_surfaces(model, standing, style, assets(None))
        assert scalp
        assert all(s.label in (None, LABELS["hair"]) for s in scalp)  # None: that of its material, hair
        assert beard.label == LABELS["face"]


def test_a_hit_is_of_the_corner_nearest_to_it() -> None:
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], 1000)
    bary = weights[:, 1:].astype(np.float32)
    only = np.zeros(1000, np.int64)
    np.testing.assert_allclose(interpolate(np.eye(3), np.array([[0, 1, 2]]), only, bary), weights, atol=1e-6)
    np.testing.assert_array_equal(nearest_corner(bary), weights.argmax(axis=1))


def test_heads_have_a_left_and_a_right_half() -> None:
    model = body_model()
    parts = body_parts(model)[1]
    rest = model.rest({}).vertices[:BODY_VERTICES]
    head = np.isin(parts, (23, 24))
    assert head[rest[:, 2].argmax()]
    np.testing.assert_array_equal(parts[head] == 24, rest[head, 0] > 0)


@pytest.mark.parametrize(
    ("label", "nearer", "rejected"),
    [
        ("left arm", 0, True), ("left arm", 30, False), ("lower", -12, True), ("lower", -150, False),
        ("hair", -20, True), ("hair", 8, False), ("background", 0, True), ("background", 8, False),
        ("face", 4, True),
    ],
)  # fmt: skip
def test_depth_tells_what_pokes_through_the_cloth(label: str, nearer: int, rejected: bool) -> None:
    """A patch in the cloth, by how many millimetres it is nearer than the cloth around it."""
    empty = {f.name: np.zeros(1, np.uint8) for f in fields(Worn)}
    labels = np.full((256, 192), LABELS["garment"], np.uint8)
    depth = np.full((256, 192), 1500, np.uint16) + (np.arange(256, dtype=np.uint16)[:, None] // 4 * 4)
    labels[100:106, 80:90] = LABELS[label]
    depth[100:106, 80:90] -= np.uint16(nearer % 65536)
    worn = Worn(**{**empty, "labels": labels, "depth": depth})
    assert bool(list(through_cloth(worn))) == rejected


@pytest.mark.parametrize(("light", "rejected"), [(1.0, False), (0.4, False), (0.1, True), (3.0, True)])
def test_garments_that_light_hardly_shows_are_rejected(light: float, rejected: bool) -> None:
    empty: dict[str, Any] = {f.name: np.zeros(1, np.uint8) for f in fields(Worn)}
    garment = np.zeros((64, 48, 4), np.uint8)
    garment[10:50, 10:40, 0] = 255
    lit = pack_light(np.full((64, 48, 3), light, np.float32))
    lit[:10] = 0  # beside the garment it may be as it likes
    worn = Worn(**{**empty, "garment": garment, "light": lit})
    if rejected:
        with pytest.raises(Rejected, match="too dark or too bright"):
            exposed(worn)
    else:
        exposed(worn)


def test_shoes_hold_the_feet(standing: Wearer) -> None:
    model = body_model()
    shoes = shoe_surfaces(model, standing.body, standing.bones, (0.1, 0.1, 0.1))
    assert len(shoes) == 2
    floor = standing.vertices[:BODY_VERTICES, 2].min()
    for shoe in shoes:
        assert floor - 0.04 < shoe.vertices[:, 2].min() < floor
