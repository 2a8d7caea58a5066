"""Dressing: ranges, determinism, mirrors, and truth that agrees with the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rmgn.data.dress as dressing
from rmgn.data.develop import jpeg
from rmgn.data.dress import Dressed, dress
from rmgn.data.generated import Batch, GeneratedPeople, tensors
from rmgn.data.look import NUMBERS, draw_look
from rmgn.data.people import layers
from rmgn.data.stock import Stock
from rmgn.data.transform import mirror


@pytest.fixture(scope="module")
def batch(layers_folder: Path) -> Batch:
    people = GeneratedPeople(layers_folder, flip=False)
    return people.collate([people[i] for i in range(len(people))])


@pytest.fixture(scope="module")
def dressed(batch: Batch) -> Dressed:
    return dress(batch, noise_seed=3)


def test_ranges_and_shapes(dressed: Dressed) -> None:
    n = dressed.person.shape[0]
    assert dressed.person.shape == dressed.garment.shape == (n, 2, 3, 256, 192)
    assert dressed.flow.shape == (n, 2, 2, 256, 192)
    assert dressed.visible.dtype == torch.bool
    for picture in (dressed.person, dressed.garment):
        assert torch.isfinite(picture).all()
        assert picture.min() >= -1
        assert picture.max() <= 1
    assert torch.isfinite(dressed.flow).all()
    assert set(np.unique(dressed.garment_mask.numpy())) == {0.0, 1.0}
    assert 0.05 < dressed.worn_mask.mean() < 0.6


def test_visible_flow_falls_on_the_garment(dressed: Dressed) -> None:
    """Where a worn pixel's cloth is visible in the shop photo, the flow hits the photo's mask."""
    flow = dressed.flow.flatten(0, 1).permute(0, 2, 3, 1)
    mask = torch.nn.functional.max_pool2d(dressed.garment_mask.flatten(0, 1), 3, 1, 1)
    hit = torch.nn.functional.grid_sample(mask, flow, mode="nearest", align_corners=False)
    visible = dressed.visible.flatten(0, 1)
    assert flow.permute(0, 3, 1, 2)[visible.expand(-1, 2, -1, -1)].abs().max() <= 1
    assert hit[visible].mean() > 0.995
    assert visible.sum() > 0.6 * (dressed.worn_mask > 0.5).sum()


def test_the_same_draw_gives_the_same_picture(layers_folder: Path) -> None:
    first, second = (GeneratedPeople(layers_folder, seed=5) for _ in range(2))
    one, other = dress(first.collate([first[1]])), dress(second.collate([second[1]]))
    assert torch.equal(one.person, other.person)
    assert torch.equal(one.flow, other.flow)
    second.set_epoch(1)
    assert not torch.equal(one.garment, dress(second.collate([second[1]])).garment)


def test_both_ways_to_group_pixels_agree(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Picture by picture, as on a CPU, and all together, as on a GPU."""
    one_by_one = dress(batch)
    monkeypatch.setattr(dressing, "_groups", dressing._together)
    monkeypatch.setattr(dressing, "_CACHED", 1 << 30)
    together = dress(batch)
    for name, one, other in zip(one_by_one._fields, one_by_one, together, strict=True):
        if one.is_floating_point():
            gap = (one - other).abs()
            assert gap.mean() < 1e-5, name
            assert gap.flatten().quantile(0.999) < 1e-3, name  # JPEG rounds a few to another step
        else:
            assert torch.equal(one, other), name


@pytest.mark.gpu
def test_a_gpu_dresses_alike(batch: Batch) -> None:
    here = dress(batch)
    there = dress({name: planes.cuda() for name, planes in batch.items()})
    for name, one, other in zip(here._fields, here, there, strict=True):
        assert other.is_cuda, name
        assert (one.float() - other.cpu().float()).abs().mean() < 1e-3, name


def test_persons_differ_only_where_garments_do(batch: Batch, dressed: Dressed) -> None:
    """One backdrop, one skin, one camera: far from both garments the two pictures agree."""
    del dressed
    plain = dress(batch, camera=False)
    cloth = plain.worn_mask.amax(dim=1)
    far = torch.nn.functional.max_pool2d(cloth, 41, 1, 20) == 0
    gap = (plain.person[:, 0] - plain.person[:, 1]).abs().amax(dim=1, keepdim=True)
    assert far.float().mean() > 0.05
    assert gap[far].mean() < 0.02


def test_the_inside_of_the_back_shows_in_shop_photos_alone(batch: Batch) -> None:
    names = ("reverse", "label", "label_wide", "label_tone")
    drawn = batch["numbers"].clone()
    drawn[..., [NUMBERS.index(name) for name in names]] = torch.tensor([0.4, 0.03, 0.05, 0.9])
    without, with_label = dress(batch, camera=False), dress({**batch, "numbers": drawn}, camera=False)
    photos, people = (
        (getattr(with_label, name) - getattr(without, name)).abs().amax(dim=2) > 0.1
        for name in ("garment", "person")
    )
    assert (photos.flatten(2).sum(dim=2) > 20).float().mean() > 0.6
    assert people.sum() < 0.1 * photos.sum()


def test_lower_clothes_of_hard_samples_are_bold_or_light(layers_folder: Path) -> None:
    """Bold skirts, which networks draw as their mean, and plain light cloth, which they take for the top."""
    meta = layers.load(layers_folder / "000001.zip").meta

    def drawn(kind: str, hard: bool) -> tuple[int, int]:
        sample = {**meta, "lower": {**meta["lower"], "kind": kind}, "hard": hard}
        looks = [draw_look(np.random.default_rng(k), sample, (64, 48), Stock()) for k in range(60)]
        plain = [np.ptp(look.lower_tile[:2].astype(int), axis=(1, 2)).max() < 8 for look in looks]
        light = [look.lower_palette[0].mean() > 0.5 for look in looks]
        return sum(not flat for flat in plain), sum(map(bool, np.logical_and(plain, light)))

    (usual, _), (bold, light) = drawn("skirt", hard=False), drawn("skirt", hard=True)
    assert bold > 1.6 * usual
    assert light > 5
    (_, usual), (_, light) = drawn("trousers", hard=False), drawn("trousers", hard=True)
    assert light > usual + 5


def test_mirrored_layers_give_mirrored_truth(layers_folder: Path) -> None:
    sample = layers.load(layers_folder / "000001.zip")
    look = draw_look(np.random.default_rng(0), sample.meta, (256, 192), Stock())
    people = GeneratedPeople(layers_folder)
    straight = dress(people.collate([tensors(sample, look)]), camera=False)
    turned = dress(people.collate([tensors(mirror(sample), look)]), camera=False)
    assert torch.equal(turned.garment_mask, straight.garment_mask.flip(-1))
    assert torch.equal(turned.visible, straight.visible.flip(-1))
    negated = straight.flow.flip(-1) * torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
    torch.testing.assert_close(turned.flow, negated, atol=2e-5, rtol=0)
    left, right = layers.LABELS["left arm"], layers.LABELS["right arm"]
    assert torch.equal(turned.parse == left, straight.parse.flip(-1) == right)
    other_side = [0, 1, 2, *(part + 1 if part % 2 else part - 1 for part in range(3, 25))]  # DensePose's
    assert torch.equal(turned.parts, torch.tensor(other_side)[straight.parts.flip(-1)])
    assert {23, 24} <= set(straight.parts.flatten().tolist()), "both halves of the head are seen"
    twice = mirror(mirror(sample))
    np.testing.assert_array_equal(twice.worn[0].place, sample.worn[0].place)
    np.testing.assert_array_equal(twice.worn[1].garment, sample.worn[1].garment)
    assert twice.meta["garments"] == sample.meta["garments"]


def test_jpeg_is_gentle_when_weak_and_blocky_when_strong() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 6, 5), (50, 42), mode="bicubic").clamp(0, 1)
    weak, strong = jpeg(smooth, torch.full((2,), 0.05)), jpeg(smooth, torch.ones(2))
    assert weak.shape == smooth.shape
    assert (weak - smooth).abs().mean() < 0.01 < (strong - smooth).abs().mean()
    assert (strong - smooth).abs().mean() < 0.06


def test_a_folder_without_layers_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make some with `rmgn generate`"):
        GeneratedPeople(tmp_path)


@pytest.mark.parametrize("toned", [dressing.SKIN, dressing.HAIR])
def test_no_rim_where_a_tone_borders_something_dark(batch: Batch, toned: int) -> None:
    """A pixel that shows half of each lies between its neighbours, though their mean albedo suits neither."""
    relative, absolute, middle = 1.0, 0.01, 96
    cover = torch.zeros_like(batch["cover"])
    cover[..., :middle, toned], cover[..., middle + 1 :, dressing.OTHER] = 255, 255
    cover[..., middle, toned], cover[..., middle, dressing.OTHER] = 128, 127
    albedo = np.empty((256, 192, 3), np.float32)
    albedo[:, :middle], albedo[:, middle + 1 :] = relative, absolute
    albedo[:, middle] = (relative + absolute) / 2
    flat = {name: torch.zeros_like(batch[name]) for name in ("garment", "gloss")}
    flat["light"] = torch.full_like(batch["light"], 128)
    flat["albedo"] = torch.from_numpy(layers.pack_light(albedo)).expand_as(batch["albedo"])
    tones = {name: torch.full_like(batch[name], 0.03) for name in ("skin", "hair")}
    person = dress({**batch, **flat, **tones, "cover": cover}, camera=False).person
    left, rim, right = (person[..., 8:-8, middle + k] for k in (-1, 0, 1))
    assert (rim <= torch.maximum(left, right) + 0.02).all()
    assert (rim >= torch.minimum(left, right) - 0.02).all()
