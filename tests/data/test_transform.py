"""Layers at a smaller size: the same picture, the same truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rmgn.data.dress import Dressed, dress
from rmgn.data.generated import GeneratedPeople
from rmgn.data.people import layers
from rmgn.data.people.layers import BACK, PANEL, Sample, Shop, Worn
from rmgn.data.transform import mirror, shrink

SMALL = (128, 96)


@pytest.fixture(scope="module")
def sample(layers_folder: Path) -> Sample:
    return layers.load(layers_folder / "000000.zip")


@pytest.fixture(scope="module")
def both(layers_folder: Path) -> tuple[Dressed, Dressed]:
    """All samples in the same looks at full and at half size, without camera."""
    dressed = []
    for size in (None, SMALL):
        people = GeneratedPeople(layers_folder, flip=False, size=size)
        dressed.append(dress(people.collate([people[k] for k in range(len(people))]), camera=False))
    return dressed[0], dressed[1]


def test_half_size_is_the_full_one_box_downsampled(both: tuple[Dressed, Dressed]) -> None:
    full, half = both
    assert half.person.shape[-2:] == SMALL
    for name in ("person", "garment"):
        gap = getattr(half, name).flatten(0, 1) - F.avg_pool2d(getattr(full, name).flatten(0, 1), 2)
        # Textures are coarser too, so edges of fine stripes differ a little; what is around them does not.
        assert 127.5 * gap.abs().mean() < 3, name
        assert 127.5 * F.avg_pool2d(gap, 8).abs().mean() < 1.5, name
        assert 127.5 * F.avg_pool2d(gap, 8).abs().amax() < 20, name
    shares = F.avg_pool2d(full.worn_mask.flatten(0, 1), 2)
    torch.testing.assert_close(half.worn_mask.flatten(0, 1), shares, atol=0.5 / 255 + 1e-6, rtol=0)


def test_half_size_flow_is_true(both: tuple[Dressed, Dressed]) -> None:
    """It is the mean of the four where all lie on one piece, and never between pieces."""
    full, half = both
    flow, visible = half.flow.flatten(0, 1), half.visible.flatten(0, 1)[:, 0]
    four = F.pixel_unshuffle(full.flow.flatten(0, 1), 2).view(-1, 2, 4, *SMALL)
    there = F.pixel_unshuffle(full.worn_mask.flatten(0, 1), 2) > 0
    pixels = torch.tensor([96 / 2, 128 / 2]).view(1, 2, 1, 1)
    spread = (four.amax(dim=2) - four.amin(dim=2)) * pixels
    inside = visible & there.all(dim=1) & (spread.amax(dim=1) < 1.5)
    assert inside.sum() > 0.7 * visible.sum()
    gap = ((flow - four.mean(dim=2)) * pixels).abs().amax(dim=1)
    assert gap[inside].quantile(0.98) < 0.05
    assert gap[inside].max() < 1.5
    low, high = (torch.where(there.unsqueeze(1), four, end) for end in (9.0, -9.0))
    between = (flow >= low.amin(dim=2) - 1e-3) & (flow <= high.amax(dim=2) + 1e-3)
    assert between.all(dim=1)[half.worn_mask.flatten(0, 1)[:, 0] > 0.02].all()
    mask = F.max_pool2d(half.garment_mask.flatten(0, 1), 3, 1, 1)
    hit = F.grid_sample(mask, flow.permute(0, 2, 3, 1), mode="nearest", align_corners=False)[:, 0]
    assert hit[visible].mean() > 0.99


@pytest.mark.parametrize("scale", [2, 4])
def test_values_are_never_mixed_over_edges(sample: Sample, scale: int) -> None:
    small = shrink(sample, scale)
    height, width = sample.parts.shape
    assert small.meta["size"] == [height // scale, width // scale]
    assert small.meta["keypoints"][0][0] == pytest.approx(sample.meta["keypoints"][0][0] / scale, abs=0.01)
    for worn, tiny in zip(sample.worn, small.worn, strict=True):
        for name in ("labels", "depth"):
            plane, little = getattr(worn, name), getattr(tiny, name)
            squares = plane.reshape(height // scale, scale, width // scale, scale)
            assert (squares == little[:, None, :, None]).any(axis=(1, 3)).all(), name
        covered = tiny.garment[..., 0] > 0
        assert (tiny.place[covered][:, :2] > 0).all()
        assert not tiny.garment[~covered].any()
        # Only codes that occur in the square, most often from its best covered pixel.
        code = (worn.garment[..., 1] & (PANEL | BACK)).reshape(height // scale, scale, width // scale, scale)
        found = (code == (tiny.garment[..., 1] & (PANEL | BACK))[:, None, :, None]).any(axis=(1, 3))
        assert found[covered].all()
        total = tiny.cover.sum(axis=2, dtype=int) + tiny.garment[..., 0]
        assert total.max() <= 259


def test_shrinking_and_mirroring_commute(sample: Sample) -> None:
    one, other = mirror(shrink(sample, 2)), shrink(mirror(sample), 2)
    first: list[Worn | Shop] = [*one.worn, *one.shop]
    second: list[Worn | Shop] = [*other.worn, *other.shop]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.garment[..., 0], b.garment[..., 0])
        np.testing.assert_allclose(a.light.astype(int), b.light.astype(int), atol=1)
    # Ties are told apart by order, so single pixels may differ.
    same = one.worn[0].labels == other.worn[0].labels
    assert same.mean() > 0.98


def test_shrinking_by_one_changes_nothing(sample: Sample) -> None:
    assert shrink(sample, 1) is sample


def test_sizes_that_do_not_divide_are_refused(layers_folder: Path, sample: Sample) -> None:
    with pytest.raises(ValueError, match="256x192 cannot be reduced to 100x75"):
        GeneratedPeople(layers_folder, size=(100, 75))
    with pytest.raises(ValueError, match="256x192 cannot be reduced to 512x384"):
        GeneratedPeople(layers_folder, size=(512, 384))
    with pytest.raises(ValueError, match="cannot be reduced"):
        shrink(sample, 7)


def test_pictures_do_not_depend_on_the_batch(layers_folder: Path) -> None:
    people = GeneratedPeople(layers_folder, flip=False, size=SMALL)
    items = [people[k] for k in range(len(people))]
    together, turned = dress(people.collate(items)), dress(people.collate(items[::-1]))
    for k, item in enumerate(items):
        alone = dress(people.collate([item]))
        for name, one, many, other in zip(alone._fields, alone, together, turned, strict=True):
            assert torch.equal(one[0], many[k]), name
            assert torch.equal(one[0], other[len(items) - 1 - k]), name
