"""Changes to samples keep pictures, masks, labels, key points and flow consistent."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels import flow_warp
from rmgn.data import augment
from rmgn.data.augment import (
    BEND_POINTS,
    FRAY_POINTS,
    Augment,
    Colour,
    Move,
    colour_maps,
    flip,
    fray,
    recolour,
)
from rmgn.data.sample import LEFT_WRIST, RIGHT_WRIST, Label, Sample, collate, pose_maps, split

HEIGHT, WIDTH = 64, 48
NONE = Augment(*(0.0 for _ in fields(Augment)))
STILL = Move()


def bend(seed: int) -> Tensor:
    return torch.randn(2, *BEND_POINTS, generator=torch.Generator().manual_seed(seed)) * 0.03


moves = st.builds(
    Move,
    degrees=st.floats(-25, 25),
    scale=st.floats(0.8, 1.25),
    right=st.floats(-0.15, 0.15),
    down=st.floats(-0.15, 0.15),
    stretch=st.floats(0.85, 1.15),
    shear=st.floats(-0.15, 0.15),
    bend=st.none() | st.integers(0, 99).map(bend),
)
seeds = st.integers(0, 2**32 - 1)


def _smooth(generator: torch.Generator) -> Tensor:
    """A picture of broad colours, that bilinear sampling hardly blurs."""
    coarse = torch.rand(1, 3, 4, 3, generator=generator) * 1.6 - 0.8
    return F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic", align_corners=False)[0].clamp(-1, 1)


def _random_sample(seed: int) -> Sample:
    """A sample with every part; the person is the garment warped by the flow."""
    g = torch.Generator().manual_seed(seed)
    garment = _smooth(g)
    coarse = torch.rand(1, 2, 3, 3, generator=g) * 0.3 - 0.15
    y, x = torch.meshgrid(
        (torch.arange(HEIGHT) + 0.5) / HEIGHT, (torch.arange(WIDTH) + 0.5) / WIDTH, indexing="ij"
    )
    bend = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
    flow = torch.stack([x, y]) * 1.6 - 0.8 + bend
    person = F.grid_sample(garment[None], flow.permute(1, 2, 0)[None], align_corners=False)[0]
    points = torch.rand(18, 3, generator=g) * torch.tensor([WIDTH, HEIGHT, 1.0])
    points[torch.rand(18, generator=g) < 0.2] = 0

    def labels(count: int) -> Tensor:
        return torch.randint(0, count, (HEIGHT, WIDTH), dtype=torch.uint8, generator=g)

    def mask(*shape: int) -> Tensor:
        return (torch.rand(*shape, HEIGHT, WIDTH, generator=g) > 0.5).float()

    others, other_masks = torch.stack([_smooth(g), _smooth(g)]), mask(2, 1)
    return Sample(
        person, garment, mask(1), True, ("p",), ("g",), labels(len(Label)), points, labels(25), mask(1),
        flow, torch.ones(1, HEIGHT, WIDTH), others, other_masks, _smooth(g)[None],
        torch.ones(1, HEIGHT, WIDTH),
    )  # fmt: skip


def move_person(sample: Sample, move: Move) -> Sample:
    return split(augment.move_person(collate([sample]), [move]))[0]


def move_garment(sample: Sample, move: Move) -> Sample:
    return split(augment.move_garment(collate([sample]), [move]))[0]


def known(part: Tensor | None) -> Tensor:
    """A part that the sample must have."""
    assert part is not None
    return part


def _equal(a: Sample, b: Sample, tolerance: float = 0.0) -> None:
    for f in fields(Sample):
        left, right = getattr(a, f.name), getattr(b, f.name)
        if isinstance(left, Tensor):
            assert left.dtype == right.dtype, f.name
            torch.testing.assert_close(left, right, atol=tolerance, rtol=0, msg=f.name)
        else:
            assert left == right, f.name


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_two_mirrors_show_the_original(seed: int) -> None:
    sample = _random_sample(seed)
    _equal(flip(flip(sample)), sample, tolerance=1e-5)  # width - (width - x) rounds


def test_a_mirror_exchanges_left_and_right() -> None:
    sample = _random_sample(1)
    known(sample.keypoints)[LEFT_WRIST] = torch.tensor([5.0, 20.0, 0.9])
    known(sample.keypoints)[RIGHT_WRIST] = torch.zeros(3)
    known(sample.parse)[20, 5] = Label.LEFT_ARM
    known(sample.dense)[20, 5] = 4
    seen = flip(sample)
    assert known(seen.keypoints)[RIGHT_WRIST].tolist() == pytest.approx([WIDTH - 5, 20, 0.9])
    assert known(seen.keypoints)[LEFT_WRIST].tolist() == [0, 0, 0]
    assert known(seen.parse)[20, WIDTH - 6] == Label.RIGHT_ARM
    assert known(seen.dense)[20, WIDTH - 6] == 3
    for label in Label:  # every label but those of a side is its own image
        known(sample.parse)[:] = label
        name = {"LEFT": "RIGHT", "RIGHT": "LEFT"}.get(label.name.partition("_")[0], "")
        wanted = Label[f"{name}_{label.name.partition('_')[2]}"] if name else label
        assert (known(flip(sample).parse) == wanted).all()
    # DensePose: background, trunk (back, front), then pairs of sides. OpenPose: nose, neck, right arm, left
    # arm, right leg, left leg, eyes, ears.
    parts = [0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23]
    points = [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    for part, other in enumerate(parts):
        known(sample.dense)[:] = part
        assert (known(flip(sample).dense) == other).all()
    known(sample.keypoints)[:] = torch.arange(18)[:, None] + torch.tensor([1.0, 1.0, 1.0])
    assert (known(flip(sample).keypoints)[:, 1] - 1).tolist() == points


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_no_change_changes_nothing(seed: int) -> None:
    sample = _random_sample(seed)
    _equal(NONE(sample, np.random.default_rng(seed)), sample, tolerance=1e-5)
    _equal(move_garment(move_person(sample, STILL), STILL), sample, tolerance=1e-5)


def test_what_a_sample_lacks_stays_away() -> None:
    """Photos without parse maps and true flow, as some data sets have them, move like others."""
    sample = _random_sample(3)
    bare = Sample(sample.person, sample.garment, sample.garment_mask, True, ("p",), ("g",))
    moved, whole = (Augment()(each, np.random.default_rng(0)) for each in (bare, sample))
    assert torch.equal(moved.person, whole.person)
    assert torch.equal(moved.garment, whole.garment)
    added = {f.name for f in fields(Sample) if getattr(bare, f.name) is None is not getattr(moved, f.name)}
    assert added == {"inside"}


def test_what_repeats_the_border_is_known() -> None:
    """Of a person half as large a quarter of the picture, also once more of it has been lost."""
    small = move_person(_random_sample(0), Move(scale=0.5))
    inside = known(small.inside)
    assert inside.mean() == 0.25
    height, width = HEIGHT // 4, WIDTH // 4
    assert inside[:, height : 3 * height, width : 3 * width].min() == 1
    assert known(move_person(small, Move(right=0.5)).inside).mean() == 0.125
    assert known(move_person(small, Move(scale=2)).inside).mean() == 1
    assert known(flip(move_person(small, Move(right=0.25))).inside)[:, :, : WIDTH // 4].mean() == 0.5


def test_the_worn_mask_moves_as_far_as_the_picture() -> None:
    """A third of a pixel: a straight edge's share is where the picture has it."""
    sample = _random_sample(1)
    ramp = ((torch.arange(WIDTH) - WIDTH / 2) / 4 + 0.5).clamp(0, 1).expand(1, HEIGHT, WIDTH).contiguous()
    grey = (ramp * 2 - 1).expand(3, HEIGHT, WIDTH).contiguous()
    moved = move_person(sample.replace(worn_mask=ramp, person=grey), Move(right=1 / 3 / WIDTH))
    torch.testing.assert_close(known(moved.worn_mask), (moved.person[:1] + 1) / 2, atol=1e-5, rtol=0)


@given(moves, st.booleans(), st.floats(0.3, 0.7), st.floats(0.3, 0.7))
@settings(max_examples=40, deadline=None)
def test_key_points_follow_pixels(move: Move, mirror: bool, x: float, y: float) -> None:
    """In a picture whose colours tell places, a key point finds its own colour where it has gone."""
    rows = (torch.arange(HEIGHT)[:, None] + 0.5).expand(HEIGHT, WIDTH) / HEIGHT
    columns = (torch.arange(WIDTH)[None] + 0.5).expand(HEIGHT, WIDTH) / WIDTH
    points = torch.zeros(18, 3)
    points[0] = torch.tensor([x * WIDTH, y * HEIGHT, 1.0])
    person = torch.stack([columns, rows, rows]) * 2 - 1
    sample = _random_sample(0).replace(person=person, keypoints=points)
    moved = move_person(flip(sample) if mirror else sample, move)
    point = known(moved.keypoints)[0]
    inside = bool((point[:2] > 4).all() and point[0] < WIDTH - 4 and point[1] < HEIGHT - 4)
    if inside:  # else the border is repeated, or the point is gone
        at = (point[:2] / torch.tensor([WIDTH, HEIGHT]) * 2 - 1).view(1, 1, 1, 2)
        colour = F.grid_sample(moved.person[None], at, align_corners=False).flatten()
        assert colour[:2].tolist() == pytest.approx([2 * x - 1, 2 * y - 1], abs=2e-3)
        assert pose_maps(point[None], (HEIGHT, WIDTH))[0, int(point[1]), int(point[0])] == 1


def test_points_that_leave_are_not_seen() -> None:
    sample = _random_sample(2)
    known(sample.keypoints)[:] = torch.tensor([2.0, 30.0, 1.0])
    assert (known(move_person(sample, Move(right=-0.1)).keypoints) == 0).all()


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_a_batch_changes_as_its_samples_do_alone(seed: int) -> None:
    change = Augment(
        person_shape=0.1, garment_shape=0.1, person_bend=0.03, garment_bend=0.03, garment_fray=0.3
    )
    samples = [_random_sample(seed + k) for k in range(3)]
    together = split(change.batch(collate(samples), np.random.default_rng(seed)))
    rng = np.random.default_rng(seed)
    for one, sample in zip(together, samples, strict=True):
        _equal(one, change(sample, rng), tolerance=1e-5)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_masks_stay_binary_and_labels_stay_labels(seed: int) -> None:
    sample = _random_sample(seed)
    changed = Augment()(sample, np.random.default_rng(seed))
    for name in ("garment_mask", "visible", "inside", "other_masks"):
        assert set(getattr(changed, name).unique().tolist()) <= {0, 1}, name
    assert 0 <= known(changed.worn_mask).min() <= known(changed.worn_mask).max() <= 1
    for name, count in (("parse", len(Label)), ("dense", 25)):
        assert getattr(changed, name).dtype == torch.uint8
        assert getattr(changed, name).max() < count
    for name in ("person", "garment", "other_garments", "other_persons"):
        assert getattr(changed, name).shape == getattr(sample, name).shape
        assert getattr(changed, name).abs().max() <= 1
    _equal(changed, Augment()(sample, np.random.default_rng(seed)))


@given(seeds, moves, moves, st.booleans())
@settings(max_examples=30, deadline=None)
def test_flow_stays_true(seed: int, of_person: Move, of_garment: Move, mirror: bool) -> None:
    """The garment, wherever it went, warped by the changed flow is the person, wherever that went."""
    sample = _random_sample(seed)
    changed = move_garment(move_person(flip(sample) if mirror else sample, of_person), of_garment)
    grid = known(changed.flow).permute(1, 2, 0)[None]
    warped = F.grid_sample(changed.garment[None], grid, align_corners=False)[0]
    seen = (known(changed.visible) > 0).expand_as(warped)
    difference = (warped - changed.person)[seen].abs()
    assert seen.float().mean() > 0.2
    # The flow is moved to the nearest pixel: half a pixel of broad colours.
    assert difference.mean() < 0.03
    assert difference.quantile(0.95) < 0.1


@given(seeds, moves)
@settings(max_examples=15, deadline=None)
def test_parse_and_masks_move_with_the_picture(seed: int, move: Move) -> None:
    """A person whose colour tells the label still tells it after any move, but at the labels' borders."""
    g = torch.Generator().manual_seed(seed)
    parse = torch.randint(0, len(Label), (4, 3), dtype=torch.uint8, generator=g)
    parse = parse.repeat_interleave(HEIGHT // 4, 0).repeat_interleave(WIDTH // 3, 1)
    level = parse.float() / (len(Label) - 1) * 2 - 1
    sample = _random_sample(seed).replace(
        parse=parse,
        dense=parse,
        worn_mask=(parse == Label.UPPER).float()[None],
        person=level.expand(3, -1, -1),
    )
    moved = move_person(sample, move)
    told = ((moved.person[0] + 1) / 2 * (len(Label) - 1)).round().byte()
    labels = known(moved.parse)
    assert (told == labels).float().mean() > 0.8
    assert torch.equal(labels, known(moved.dense))
    share = known(moved.worn_mask)[0]
    sure = (share < 0.01) | (share > 0.99)  # elsewhere an edge lies within the pixel
    assert sure.float().mean() > 0.8
    assert torch.equal(share[sure] > 0.5, (labels == Label.UPPER)[sure])


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_a_colour_changes_alike_in_all_pictures(seed: int) -> None:
    """The worn garment keeps the colour of its photo, whatever happens to the colours."""
    sample = _random_sample(seed)
    colour = torch.tensor([0.4, -0.3, 0.1]).view(3, 1, 1)
    sample = sample.replace(
        person=colour.expand(3, HEIGHT, WIDTH), garment=colour.expand(3, HEIGHT, WIDTH),
        other_persons=colour.expand(1, 3, HEIGHT, WIDTH),
    )  # fmt: skip
    changed = Augment(garment_brightness=0)(sample, np.random.default_rng(seed))
    torch.testing.assert_close(changed.person, changed.garment, atol=1e-5, rtol=0)
    torch.testing.assert_close(changed.person, known(changed.other_persons)[0], atol=1e-5, rtol=0)
    assert (changed.person - sample.person).abs().max() > 1e-3


@given(seeds)
@settings(max_examples=15, deadline=None)
def test_dyed_garments_are_worn_as_they_are_shown(seed: int) -> None:
    """The photo's garment has the colour's mean; warped, it is still the worn one; the rest stays."""
    samples = [_random_sample(seed + k) for k in range(3)]
    batch = collate([s.replace(garment=s.garment / 4, person=s.person / 4) for s in samples])
    mask, flow = batch.garment_mask, known(batch.flow)
    worn = flow_warp(mask, flow)
    colours = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    colours[1] = torch.nan
    garment, person = augment.dye(batch.garment, mask, batch.person, worn, colours)
    mean = (garment * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3))
    torch.testing.assert_close(mean[[0, 2]], colours[[0, 2]], atol=1e-4, rtol=0)
    assert torch.equal(garment[1], batch.garment[1])
    assert torch.equal(person[1], batch.person[1])
    assert torch.equal((garment * (1 - mask)), batch.garment * (1 - mask))
    assert torch.equal((person * (worn == 0)), batch.person * (worn == 0))
    torch.testing.assert_close(flow_warp(garment, flow), person, atol=1e-4, rtol=0)


def test_colours_do_what_their_names_say() -> None:
    def one(colour: Colour, picture: Tensor) -> Tensor:
        return recolour(picture[None], colour_maps([colour]))[0]

    picture = _smooth(torch.Generator().manual_seed(3)) * 0.5
    grey = picture.new_tensor([0.299, 0.587, 0.114])
    assert one(Colour(brightness=1.2), picture).mean() > picture.mean()
    flat = one(Colour(saturation=0), picture)
    torch.testing.assert_close(flat[0], flat[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(flat[0], torch.einsum("c,chw->hw", grey, picture), atol=1e-5, rtol=0)
    assert one(Colour(contrast=0.5), picture).std() < picture.std()
    third = one(Colour(hue=120), torch.tensor([0.5, -0.5, -0.5]).view(3, 1, 1))
    assert third[1] > third[0], "a third of a turn makes red green"
    torch.testing.assert_close(one(Colour(hue=360), picture), picture, atol=1e-5, rtol=0)


@settings(deadline=None)
@given(seed=seeds, strength=st.floats(0, 0.5))
def test_frayed_masks_differ_along_their_outlines(seed: int, strength: float) -> None:
    """By up to six pixels either way, the more the stronger; the second mask of the batch is left alone."""
    mask = torch.zeros(2, 1, 256, 192)
    mask[..., 60:200, 40:150] = 1
    by = torch.randn(2, 1, *FRAY_POINTS, generator=torch.Generator().manual_seed(seed))
    by *= torch.tensor([strength, 0]).view(2, 1, 1, 1)
    frayed = fray(mask, by)
    assert ((frayed == 0) | (frayed == 1)).all()
    assert torch.equal(frayed[1], mask[1])
    assert frayed[..., 66:194, 46:144].all()
    frayed[..., 54:206, 34:156] = 0
    assert not frayed.any()


def test_stronger_frays_move_outlines_further() -> None:
    mask = torch.zeros(1, 1, 256, 192)
    mask[..., 60:200, 40:150] = 1
    by = torch.randn(1, 1, *FRAY_POINTS, generator=torch.Generator().manual_seed(3))
    changed = [float((fray(mask, share * by) != mask).sum() / mask.sum()) for share in (0, 0.1, 0.2, 0.3)]
    assert changed == sorted(changed)
    assert changed[0] == 0
    assert 0.01 < changed[1] < 0.03
    assert 0.04 < changed[3] < 0.09
