"""Cuts of tops and their shop photos: what must hold whatever was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from rmgn.data.people.accessories import Accessories, accessory_surfaces
from rmgn.data.people.assets import assets
from rmgn.data.people.body import BODY_VERTICES, BodyModel, body_model
from rmgn.data.people.carried import Carried
from rmgn.data.people.cloth import interleaved
from rmgn.data.people.collar import make_collar
from rmgn.data.people.dressed import _under, dressed_surfaces
from rmgn.data.people.garment import HEM, NECK, Garment, make_garment
from rmgn.data.people.head import HeadStyle
from rmgn.data.people.layers import BACK, EDGE_UNIT, LABELS, OUTLINE, PANEL, TORSO
from rmgn.data.people.light import shop_lights
from rmgn.data.people.lower import LowerStyle, make_lower
from rmgn.data.people.mesh import vertex_normals
from rmgn.data.people.planes import shop_planes
from rmgn.data.people.pose import Arm, Pose
from rmgn.data.people.raytrace import Surface, Tracer
from rmgn.data.people.shop import Presentation, draw_presentation, lay_out
from rmgn.data.people.style import Style, draw_hard_pair, draw_pair, draw_style, tucked_in, worn_alike
from rmgn.data.people.wear import refine, wearer
from rmgn.data.people.worked import Worked, garment_surfaces, inner_top, make_worked

JACKET = Style(kind="jacket", sleeve=0.98, collar="fold", opening=0.05, oversize=0.01, placket="zip")


@pytest.fixture(scope="module")
def model() -> BodyModel:
    return body_model()


def _cut(model: BodyModel, style: Style) -> Garment:
    return make_garment(model, model.rest({}), style)


@given(st.integers(0, 300))
def test_interleaving_loses_nothing(count: int) -> None:
    order = interleaved(np.arange(count))
    np.testing.assert_array_equal(np.sort(order), np.arange(count))


@pytest.mark.parametrize("kind", ["flat", "hung", "ghost"])
def test_hems_of_shop_photos_are_straight(model: BodyModel, kind: str) -> None:
    """The hem's line lies within 4 mm of a parabola, the back's not visibly below the front's."""
    style = Style(crease=0.03, oversize=0.01)
    body = model.rest({})
    coarse = make_garment(model, body, style)
    fine, matrix = refine(coarse)
    flat = lay_out(model, body, coarse, fine, matrix, style, Presentation(kind, 0.5, 0.04, 0.002, 1))
    rim = (np.abs(fine.outline[:, HEM]) < 0.01) & (fine.seam < 0)
    x, end = flat[:, 0], flat[:, 2] + fine.outline[:, HEM]
    middle = rim & (np.abs(x) < 0.9 * np.abs(x[rim]).max())
    front, back = middle & (fine.facing < 0), middle & (fine.facing > 0)
    curve = np.polynomial.Polynomial.fit(x[front], end[front], 2)
    assert np.abs(end[front] - curve(x[front])).max() < 0.004
    assert np.percentile(end[back] - curve(x[back]), 5) > -0.002


def test_presentations_keep_their_ranges() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        show = draw_presentation(rng, draw_style(rng, seed % 2 == 0))
        assert show.kind in ("flat", "hung", "ghost")
        assert (show.volume == 0) == (show.kind == "flat") or show.kind == "hung"
        assert 0.03 < show.spread < 0.7


def test_short_sleeves_of_hard_samples_lie_close(model: BodyModel) -> None:
    """A tee is less wide for its height, and nothing but the sleeves is drawn otherwise."""
    style = Style(sleeve=0.33)
    body = model.rest({})
    coarse = make_garment(model, body, style)
    fine, matrix = refine(coarse)

    def shape(show: Presentation) -> float:
        flat = lay_out(model, body, coarse, fine, matrix, style, show)[fine.inside]
        return float(np.ptp(flat[:, 0]) / np.ptp(flat[:, 2]))

    for seed in range(3):
        usual, close = (
            draw_presentation(np.random.default_rng(seed), style, close) for close in (False, True)
        )
        assert replace(close, spread=usual.spread) == usual
        assert shape(close) < shape(usual) - 0.03


def test_what_is_tucked_in_is_whole_in_its_shop_photo(model: BodyModel) -> None:
    """Its photo is that of one that hangs; worn, it ends in the waistband."""
    waist = 0.1
    style = Style(hem=-0.05, oversize=0.03)
    body = model.rest({})
    arm = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    lower = make_lower(model, body, LowerStyle(waist=waist), np.random.default_rng(0))
    person = wearer(model, body, Pose("test", arm, arm), lower)
    worked = [
        make_worked(model, person, each, np.random.default_rng(0), (256, 192))
        for each in (style, tucked_in(style, waist))
    ]
    hangs, tucked = ([s[0] for s in (garment_surfaces(w, True), garment_surfaces(w, False))] for w in worked)

    def lowest(surface: Surface) -> float:
        assert surface.trim is not None
        return float(np.asarray(surface.vertices)[surface.trim < 0, 2].min())

    np.testing.assert_array_equal(tucked[0].vertices, hangs[0].vertices)
    np.testing.assert_array_equal(tucked[0].triangles, hangs[0].triangles)
    assert lowest(hangs[1]) < lower.waist - 0.1
    assert lower.waist - 0.03 < lowest(tucked[1]) < lower.waist


def test_jackets_and_short_tops_are_not_tucked_in() -> None:
    for style in (JACKET, Style(kind="cardigan"), Style(hem=0.2), Style(hem=0.06, tail=0.05)):
        assert tucked_in(style, 0.1) == style
    assert tucked_in(Style(opening=0.05), 0.1).opening == 0


def test_both_garments_are_tucked_in_or_neither() -> None:
    rng = np.random.default_rng(0)
    pairs = [draw_pair(rng, feminine=False, waist=0.1) for _ in range(300)]
    tucked = [[style.tuck is not None for style in pair] for pair in pairs]
    assert 60 < sum(map(any, tucked)) < 120
    for pair, which in zip(pairs, tucked, strict=True):
        for style in pair:
            hangs = style.kind in ("cardigan", "jacket")
            assert hangs or (style.tuck is not None) == any(which), (
                "a short top shows a waistband that is low"
            )
    short, long = Style(hem=0.2), Style()
    for waist in (0.1, 0.17):
        assert worn_alike(short, long, waist, True) == worn_alike(short, long, waist, False)
        assert [style.tuck is None for style in worn_alike(long, short, waist, True)] == [waist < 0.13, True]


def test_open_fronts_are_open_in_front_alone(model: BodyModel) -> None:
    garment = _cut(model, JACKET)
    v = garment.vertices[garment.inside]
    chest = v[np.abs(v[:, 2] - v[:, 2].mean()) < 0.1]
    front = chest[chest[:, 1] < chest[:, 1].mean()]
    assert np.abs(front[:, 0]).min() > 0.012
    assert np.abs(chest[chest[:, 1] > chest[:, 1].mean(), 0]).min() < 0.01
    collar = make_collar(refine(garment)[0], JACKET)
    assert collar is not None
    assert np.abs(np.sin(collar.angle[[0, -1]])).min() > 0.1  # its ends stand apart


def test_below_an_open_front_there_is_a_top(model: BodyModel) -> None:
    body = model.rest({})
    rng = np.random.default_rng(0)
    arm = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    person = wearer(model, body, Pose("test", arm, arm), make_lower(model, body, LowerStyle(), rng))
    garment, surface, _ = inner_top(model, person, _cut(model, JACKET), rng)
    assert surface.label == LABELS["inner"]
    assert np.isfinite(surface.vertices).all()
    assert garment.vertices[garment.inside, 2].min() < person.lower.waist  # it ends in the waistband


def test_what_is_worn_with_a_garment(model: BodyModel) -> None:
    """A strap lies on the top below an open front; a watch is hidden by a sleeve that reaches it alone."""
    rng = np.random.default_rng(0)
    arm = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    body = model.rest({})
    person = wearer(model, body, Pose("test", arm, arm), make_lower(model, body, LowerStyle(), rng))
    watch = accessory_surfaces(model, person, Accessories(watch="L"))

    def surfaces(worked: Worked, bag: str = "") -> list[Surface]:
        return dressed_surfaces(model, person, worked, watch, HeadStyle(), assets(None), Carried(bag=bag))

    def shows_watch(sleeve: float) -> bool:
        worked = make_worked(model, person, Style(sleeve=sleeve), rng, (256, 192))
        return any(surface is watch[0] for surface in surfaces(worked))

    assert [shows_watch(sleeve) for sleeve in (0.3, 0.72, 0.97)] == [True, True, False]

    jacket = make_worked(model, person, replace(JACKET, opening=0.09), rng, (256, 192))
    inner = jacket.inner
    assert inner is not None
    assert inner.trim is not None
    kept = inner.trim < 0
    plain = len(surfaces(jacket))
    strap = surfaces(jacket, "crossbody")[plain].vertices
    chest = person.body.heads[model.index["neck01"]][2] - 0.12
    crossing = strap[(np.abs(strap[:, 0]) < 0.03) & (strap[:, 1] < 0) & (strap[:, 2] < chest)]
    assert len(crossing) > 4
    near = cKDTree(inner.vertices[kept]).query(crossing)[1]
    above = ((crossing - inner.vertices[kept][near]) * inner.normals[kept][near]).sum(axis=1)
    assert above.min() > 0


def test_bare_shoulders(model: BodyModel) -> None:
    shoulder = model.rest({}).heads[model.index["upperarm01.L"]]
    off = _cut(model, Style(neck="off", neck_width=0.1, neck_depth=0.04))
    assert off.vertices[off.inside, 2].max() < shoulder[2] - 0.02
    one = _cut(
        model, Style(kind="tank", neck="one", neck_width=0.06, neck_depth=0.07, sleeve=0.0, strap=0.11)
    )
    high = one.vertices[one.inside & (one.vertices[:, 2] > shoulder[2])]
    assert len(high) > 10
    assert high[:, 0].min() > -0.08
    assert high[:, 0].max() > 0.08


def test_hems_may_dip_and_slant(model: BodyModel) -> None:
    dip = _cut(model, Style(dip=0.06))
    ends = dip.vertices[np.abs(dip.outline[:, HEM]) < 0.006]
    back = ends[:, 1] > ends[:, 1].mean()
    assert ends[~back, 2].mean() - ends[back, 2].mean() > 0.03
    slant = _cut(model, Style(slant=0.05))
    ends = slant.vertices[np.abs(slant.outline[:, HEM]) < 0.006]
    assert ends[ends[:, 0] > 0.1, 2].mean() - ends[ends[:, 0] < -0.1, 2].mean() > 0.04
    assert (slant.outline[:, NECK] > 0).any()


def test_an_unbuttoned_collar_shows_its_inside(model: BodyModel) -> None:
    rng = np.random.default_rng(0)
    body = model.rest({})
    arm = Arm((0.2, 0, -1), (0.1, -0.2, -1))
    person = wearer(model, body, Pose("test", arm, arm), make_lower(model, body, LowerStyle(), rng))

    def inside(style: Style) -> int:
        """Pixels of the shop photo that show the inside of the back at the neck."""
        worked = make_worked(model, person, style, np.random.default_rng(1), (256, 192))
        tracer = Tracer(garment_surfaces(worked, flat=True))
        camera = replace(worked.camera, width=192, height=256)
        planes = shop_planes(tracer, camera, shop_lights(np.random.default_rng(2)), 1, 1)[0].garment
        code, edge = planes[..., 1], planes[..., 2]
        neck = (planes[..., 0] > 127) & ((code & OUTLINE) == 0) & (edge * EDGE_UNIT < 0.06)
        return int((neck & ((code & BACK) > 0) & ((code & PANEL) == TORSO)).sum())

    closed = Style(kind="polo", collar="fold", placket="short", neck_width=0.064, neck_depth=0.045)
    opened = replace(closed, neck="v", neck_width=0.075, neck_depth=0.1, collar_height=0.02, unbuttoned=0.8)
    assert inside(opened) > 1.05 * inside(replace(opened, unbuttoned=0.0)) > 2 * inside(closed)


@pytest.mark.parametrize(("collar", "height"), [("turtle", 0.07), ("stand", 0.05), ("none", 0.0)])
def test_collars_hide_the_neck_alone(model: BodyModel, collar: str, height: float) -> None:
    """The chin is as near to a neckline as the neck is."""
    style = Style(collar=collar, collar_height=height)
    rest = model.rest({}).vertices[:BODY_VERTICES]
    under = _under(rest, _cut(model, style), 0.6 * height)
    head = model.bone_weight("head", "jaw")[:BODY_VERTICES] > 0.5
    neck = model.bone_weight("neck")[:BODY_VERTICES] > 0.5
    assert head.sum() > 1000
    assert under[head].max() < 0.005
    if height:
        assert under[neck].max() > 0.3 * height


def test_standing_collars_are_level_and_open_with_the_front(model: BodyModel) -> None:
    fine, _ = refine(_cut(model, Style(collar="turtle", collar_height=0.06)))
    made = make_collar(fine, Style(collar="turtle", collar_height=0.06))
    assert made is not None
    strip = made.flat(fine.vertices).reshape(-1, len(made.angle), 3)[:, :, 2]
    assert np.ptp(strip[-1]) < 0.75 * np.ptp(strip[0])
    jacket = replace(JACKET, collar="stand", collar_height=0.05)
    fine, _ = refine(_cut(model, jacket))
    opened = make_collar(fine, jacket)
    assert opened is not None
    around = len(opened.angle)
    ends = opened.triangles % around
    joined = (ends == 0).any(axis=1) & (ends == around - 1).any(axis=1)
    assert not joined.any()
    assert (
        (made.triangles % around == 0).any(axis=1) & (made.triangles % around == around - 1).any(axis=1)
    ).any()


@pytest.mark.parametrize("neck", ["crew", "v"])
def test_a_folded_collars_points_spread(model: BodyModel, neck: str) -> None:
    """To either side of the opening, as far on the left as on the right."""
    style = Style(kind="polo", collar="fold", neck=neck, neck_width=0.066, neck_depth=0.06)
    fine, _ = refine(_cut(model, style))
    made = make_collar(fine, style)
    assert made is not None
    assert made.angle[0] == pytest.approx(2 * np.pi - made.angle[-1], abs=0.02)
    rest = model.rest({}).vertices[:BODY_VERTICES]
    normals = vertex_normals(rest, model.triangles)
    worn = made.worn(fine.vertices, np.array([0.0, 0.0, 1.0]), rest, normals)
    for strip in (made.flat(fine.vertices), worn):
        x = strip.reshape(-1, len(made.angle), 3)[:, :, 0]
        left, right = x[-1, 0] - x[0, 0], x[-1, -1] - x[0, -1]
        assert left > 0.005
        assert right < -0.005
        assert left == pytest.approx(-right, abs=0.004)


@pytest.mark.parametrize("width", [0.058, 0.066, 0.08])
@pytest.mark.parametrize("muscle", [0.2, 1.0])
def test_cloth_does_not_climb_the_neck(model: BodyModel, width: float, muscle: float) -> None:
    """However wide the neck is: a crew neck's cloth ends at its foot, and its line goes once around."""
    style = Style(neck_width=width, neck_depth=0.05)
    body = model.rest({"gender": 0.0, "muscle": muscle, "weight": 0.8})
    fine, _ = refine(make_garment(model, body, style))
    foot = body.heads[model.index["neck01"]][2]
    assert fine.vertices[fine.inside, 2].max() < foot + 0.035
    collar = make_collar(fine, replace(style, collar="turtle", collar_height=0.05))
    assert collar is not None
    ring = collar.ring @ fine.vertices
    assert np.linalg.norm(np.diff(ring, axis=0), axis=1).sum() < 0.62
    assert (np.diff(np.unwrap(collar.angle)) > 0).all()


def test_hard_pairs_have_open_collars() -> None:
    rng = np.random.default_rng(0)
    styles = [style for _ in range(300) for style in draw_hard_pair(rng, feminine=False, waist=0.1)]
    folded = [style for style in styles if style.collar == "fold" and not style.opening]
    assert 0.5 < np.mean([style.unbuttoned > 0 for style in folded]) < 0.9
    assert all(style.collar == "fold" for style in styles if style.unbuttoned)
    assert not any(draw_style(rng, True).unbuttoned for _ in range(50)), "eval-256 stays as it is"
