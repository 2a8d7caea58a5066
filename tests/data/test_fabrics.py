"""Fabrics, prints and backdrops: shapes, ranges, seamless tiles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from rmgn.data import canvas as field
from rmgn.data import prints, sewn
from rmgn.data.backdrops import draw_backdrop
from rmgn.data.dress import _sample_overlay
from rmgn.data.fabrics import (
    _PATTERNS,
    TEXEL,
    TILE,
    draw_colour,
    draw_denim,
    draw_mistakable,
    draw_palette,
    draw_tile,
    linear,
)
from rmgn.data.look import NUMBERS, draw_garment, draw_skin
from rmgn.data.people import layers
from rmgn.data.rooms import someone
from rmgn.data.stock import Stock, part, stock


@pytest.mark.parametrize("kind", list(_PATTERNS))
def test_tiles_repeat_without_a_seam(kind: str) -> None:
    """Neighbours across the tile's edge differ no more than neighbours inside it."""
    for seed in range(4):
        tile, name = draw_tile(np.random.default_rng(seed), kind)
        assert name == kind
        assert tile.shape == (3, TILE, TILE)
        share = tile[:2].astype(float)
        for axis in (1, 2):
            inside = np.abs(np.diff(share, axis=axis)).mean(axis=(0, 3 - axis)).max()
            seam = np.abs(share.take(0, axis) - share.take(-1, axis)).mean()
            assert seam <= inside * 1.5 + 4
        assert (tile[0].astype(int) + tile[1]).max() <= 256


def test_colours_differ_enough_to_be_seen() -> None:
    for seed in range(50):
        palette = draw_palette(np.random.default_rng(seed))
        assert palette.shape == (3, 3)
        assert palette.min() >= 0.02
        assert palette.max() <= 0.98


def _lightness(linear_rgb: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """CIE L* of linear colours [N, 3]."""
    luminance = linear_rgb @ [0.2126, 0.7152, 0.0722]
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_skin_is_even_over_the_range_of_human_tones() -> None:
    rng = np.random.default_rng(0)
    tones = _lightness(np.array([draw_skin(rng) for _ in range(1200)]))
    assert tones.min() < 30
    assert tones.max() > 78
    sixths = np.histogram(tones, 6, (26, 82))[0] / len(tones)
    assert sixths.min() > 0.10
    assert sixths.max() < 0.23


def test_clothes_have_the_colours_that_shops_sell() -> None:
    rng = np.random.default_rng(0)
    colours = np.array([draw_colour(rng) for _ in range(2000)])
    value, gap = colours.max(axis=1), np.ptp(colours, axis=1)
    saturation = gap / value
    assert ((saturation > 0.75) & (value > 0.75)).mean() < 0.03, "neon"
    assert 0.4 < (saturation < 0.25).mean() < 0.75, "black, white, grey, beige"
    assert (value < 0.25).mean() > 0.2
    quiet = np.array([draw_colour(rng, quiet=1.0) for _ in range(200)])
    assert (np.ptp(quiet, axis=1)[quiet.max(axis=1) > 0.5] < 0.35).all()


def test_overlays_are_premultiplied() -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        canvas = field.Canvas()
        prints.add_print(canvas, rng, 0.6, Stock(), np.full(3, 0.5, np.float32))
        sewn.add_placket(canvas, rng, 0.5)
        overlay = canvas.result()
        assert overlay.shape == (4, field.HEIGHT, field.WIDTH)
        assert (overlay[:3] <= overlay[3].astype(int) + 1).all()
        assert overlay[3].max() > 100


def test_bars_lie_on_the_garment() -> None:
    """Across, down and around, thin and wide."""
    shares, tall = [], int(0.5 / TEXEL)
    for seed in range(60):
        canvas = field.Canvas()
        prints.add_bars(canvas, np.random.default_rng(seed), 0.5, np.full(3, 0.5, np.float32))
        opacity = canvas.result()[3]
        assert opacity.max() > 250
        assert opacity[:tall].sum() > 0.5 * opacity.sum(), "below the hem"
        shares.append((opacity[:tall] > 0).mean())
    assert 0 < min(shares) < 0.01
    assert 0.08 < max(shares) < 0.5


@pytest.mark.parametrize("length", [0.08, 0.13])
def test_short_garments_can_be_printed_too(length: float) -> None:
    """Of cropped tops with a low neckline: a frame of bars may be longer than their front."""
    style: dict[str, object] = {"kind": "tee", "collar": "none", "placket": "none", "seam": "set-in"}
    for seed in range(150):
        draw_garment(np.random.default_rng(seed), style, length, Stock(extras=True))


def test_insets_begin_at_the_neckline_and_show_skin_behind_their_pattern() -> None:
    skin, shapes, near = np.array([0.8, 0.6, 0.5], np.float32), set(), 0
    for seed in range(60):
        canvas = field.Canvas()
        prints.add_inset(canvas, np.random.default_rng(seed), np.full(3, 0.1, np.float32), skin)
        drawn = canvas.result()
        opacity = drawn[3]
        rows, columns = opacity.any(axis=1), opacity.any(axis=0)
        assert rows[0]
        assert 0.04 < rows.sum() * TEXEL < 0.25
        assert 0.09 < columns.sum() * TEXEL < 0.35
        inside = opacity == 255
        near += bool((np.abs(drawn[:3, inside] - 255 * skin[:, None]).max(axis=0) < 3).mean() > 0.02)
        shapes.add(round(float((opacity[rows][:, columns] > 128).mean()), 1))
    assert near > 20
    assert {0.5, 0.8, 1.0} <= shapes, "V, U and yoke"


def test_extras_are_drawn_for_training_alone() -> None:
    """Bars, insets and the inside of the back; pictures of `eval` stay what they were."""
    assert stock(None).extras
    assert not stock(None, "eval").extras
    style: dict[str, object] = {"kind": "blouse", "collar": "none", "placket": "none", "seam": "set-in"}
    inside = [NUMBERS.index(name) for name in ("reverse", "label")]
    plain, drawn = (
        [draw_garment(np.random.default_rng(seed), style, 0.5, Stock(extras=extras)) for seed in range(60)]
        for extras in (False, True)
    )
    assert not any(garment.numbers[inside].any() for garment in plain)
    assert sum(garment.numbers[inside].any() for garment in drawn) > 30
    sewn_on, with_insets = (sum(garment.overlay.any() for garment in part) for part in (plain, drawn))
    assert sewn_on < 6, "a pocket now and then"
    assert sewn_on < with_insets < 20


def test_colours_taken_for_skin_are_near_it_or_vivid() -> None:
    rng = np.random.default_rng(0)
    colours = np.stack([draw_mistakable(rng) for _ in range(400)])
    assert colours.min() >= 0.02
    assert colours.max() <= 0.98
    hue, saturation, _ = cv2.cvtColor(colours[None], cv2.COLOR_RGB2HSV)[0].T
    like_skin = np.abs((hue + 168) % 360 - 180) < 40
    assert like_skin.mean() > 0.55
    assert (saturation[~like_skin] > 0.55).mean() > 0.95
    assert np.histogram(hue[~like_skin], 8, (60, 330))[0].min() > 2, "of all hues"


@pytest.mark.parametrize("colour", [0.9, 0.4])
def test_a_print_in_the_cloths_own_colour_has_no_rim(colour: float) -> None:
    canvas = field.Canvas()
    canvas.disc((0.0, 0.1), 0.03, np.full(3, colour))
    across = torch.linspace(-0.05, 0.05, 400)
    overlay = torch.from_numpy(canvas.result())[None]
    ink, opacity = _sample_overlay(overlay, slice(0, 1), across, torch.full((400,), -0.1))
    cloth = float(linear(np.array(colour)))
    shown = cloth * (1 - opacity) + ink * opacity
    assert opacity.max() > 0.99
    assert across[opacity > 0.5].abs().max() == pytest.approx(0.03, abs=TEXEL)
    torch.testing.assert_close(shown, torch.full_like(shown, cloth), atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", ["jeans", "trousers", "skirt", "shorts"])
def test_lower_clothes_have_their_details(kind: str) -> None:
    assert sewn.lower_overlay(np.random.default_rng(0), kind)[3].max() > 60
    assert draw_denim(np.random.default_rng(0)).shape == (3, TILE, TILE)


def test_text_is_drawn_without_fonts() -> None:
    assert prints.text_mask(np.random.default_rng(0), Stock(fonts=()), 120, 40).max() == 255


def test_nothing_is_both_for_training_and_for_testing() -> None:
    items = [f"font {k}" for k in range(21)]
    assert set(part(items, "train")).isdisjoint(part(items, "eval"))
    assert set(part(items, "train")) | set(part(items, "eval")) == set(items)
    assert part(items[:2], "eval") == items[:2]


@pytest.mark.parametrize("shape", [(2, 2), (64, 128), (96, 97), (97, 96), (256, 512)])
def test_prints_take_photos_of_any_size(shape: tuple[int, int]) -> None:
    photo = np.full((*shape, 3), 200, np.uint8)
    drawn = [prints.picture(np.random.default_rng(seed), 64, [photo]) for seed in range(6)]
    assert all(picture.shape == (64, 64, 3) for picture in drawn)
    assert any((np.abs(picture - 200 / 255) < 1e-3).all() for picture in drawn)


def test_backdrops_fill_the_picture() -> None:
    for seed in range(20):
        assert draw_backdrop(np.random.default_rng(seed), (64, 48), []).shape == (64, 48, 3)
    photo = np.full((64, 128, 3), 90, np.uint8)
    assert draw_backdrop(np.random.default_rng(3), (64, 48), [photo]).dtype == np.uint8


def test_only_training_shows_surroundings_in_other_colours() -> None:
    """A grey photograph is coloured then, and no other backdrop changes."""
    assert not stock(None, "eval").recolour
    assert stock(None, "train").recolour
    photo = np.full((64, 128, 3), 120, np.uint8)

    def spread(recolour: bool, seed: int) -> float:
        seen = draw_backdrop(np.random.default_rng(seed), (64, 48), [photo], None, recolour)
        return float((seen.max(axis=2).astype(int) - seen.min(axis=2)).mean())

    photographs = [s for s in range(60) if np.random.default_rng(s).random() >= 0.72]
    assert len(photographs) > 10
    assert all(spread(False, seed) < 12 for seed in photographs)
    coloured = [spread(True, seed) for seed in photographs]
    assert sum(value > 12 for value in coloured) > len(coloured) / 2
    for seed in set(range(20)) - set(photographs):
        assert spread(True, seed) == spread(False, seed)


def test_somebody_stands_in_the_back(layers_folder: Path) -> None:
    sample = layers.load(layers_folder / "000000.zip")
    rng = np.random.default_rng(1)
    person = someone(rng, sample, draw_skin(rng), np.full(3, 0.02, np.float32))
    assert person.shape == (256, 192, 4)
    assert np.isfinite(person).all()
    assert (person[..., :3] <= person[..., 3:] + 1e-6).all()
    changed = 0
    for seed in range(10):
        alone = draw_backdrop(np.random.default_rng(seed), (256, 192), [])
        changed += bool((draw_backdrop(np.random.default_rng(seed), (256, 192), [], person) != alone).any())
    assert changed >= 8
