"""Fabrics, prints and backdrops: shapes, ranges, seamless tiles."""

from __future__ import annotations

import numpy as np
import pytest

from rmgn.data import canvas as field
from rmgn.data import prints, sewn
from rmgn.data.backdrops import draw_backdrop
from rmgn.data.fabrics import _PATTERNS, TILE, draw_denim, draw_palette, draw_tile
from rmgn.data.look import draw_skin
from rmgn.data.stock import Stock, part


@pytest.mark.parametrize("kind", list(_PATTERNS))
def test_tiles_repeat_without_a_seam(kind: str) -> None:
    """Neighbours across the tile's edge differ no more than neighbours inside it."""
    for seed in range(4):
        tile, name = draw_tile(np.random.default_rng(seed), kind)
        assert name == kind
        assert tile.shape == (4, TILE, TILE)
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


def test_skin_covers_the_range_of_human_tones() -> None:
    rng = np.random.default_rng(0)
    tones = np.array([draw_skin(rng).mean() for _ in range(300)])
    assert tones.min() < 0.04
    assert tones.max() > 0.5
    quarter = np.histogram(np.log(tones), 4)[0]
    assert quarter.min() > 30


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


@pytest.mark.parametrize("kind", ["jeans", "trousers", "skirt", "shorts"])
def test_lower_clothes_have_their_details(kind: str) -> None:
    assert sewn.lower_overlay(np.random.default_rng(0), kind)[3].max() > 60
    assert draw_denim(np.random.default_rng(0)).shape == (4, TILE, TILE)


def test_text_is_drawn_without_fonts() -> None:
    assert prints.text_mask(np.random.default_rng(0), Stock(fonts=()), 120, 40).max() == 255


def test_nothing_is_both_for_training_and_for_testing() -> None:
    items = [f"font {k}" for k in range(21)]
    assert set(part(items, "train")).isdisjoint(part(items, "eval"))
    assert set(part(items, "train")) | set(part(items, "eval")) == set(items)
    assert part(items[:2], "eval") == items[:2]


def test_backdrops_fill_the_picture() -> None:
    for seed in range(20):
        assert draw_backdrop(np.random.default_rng(seed), (64, 48), []).shape == (64, 48, 3)
    photo = np.full((64, 128, 3), 90, np.uint8)
    assert draw_backdrop(np.random.default_rng(3), (64, 48), [photo]).dtype == np.uint8
