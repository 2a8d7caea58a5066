"""Fabrics drawn at load time: a palette, and a repeating tile that says where which colour goes.

A tile is uint8 [3, 256, 256]: shares of the second and third palette colour, and weave (brightness around
128). One texel is 2 mm; the tile repeats without a seam.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

TILE = 256
TEXEL = 0.002  # metres

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

# sRGB colours that clothes are sold in, and how often: black, white, navy and grey lead, few are bright.
_SOLD = np.array(
    [
        (18, 18, 20, 8), (28, 28, 32, 6), (40, 40, 43, 3), (245, 245, 243, 7), (250, 247, 240, 4),
        (232, 232, 230, 3), (28, 35, 60, 5), (22, 28, 48, 4), (38, 48, 78, 2), (120, 122, 125, 2.5),
        (170, 172, 175, 3), (75, 78, 84, 3), (210, 190, 158, 2.5), (228, 216, 195, 2.5), (150, 110, 80, 1.5),
        (95, 70, 55, 2), (130, 160, 190, 2), (190, 210, 228, 3), (70, 98, 138, 2), (45, 85, 160, 1.5),
        (110, 25, 40, 2.5), (165, 32, 42, 2), (225, 190, 190, 2), (235, 205, 205, 2), (190, 120, 125, 1),
        (90, 98, 76, 2.5), (60, 75, 60, 2), (165, 175, 155, 1.5), (40, 90, 85, 1.2), (215, 160, 60, 1.2),
        (236, 214, 130, 1), (150, 125, 170, 1), (90, 60, 110, 0.8), (220, 110, 90, 1), (205, 95, 50, 0.8),
    ],
    np.float32,
)  # fmt: skip
_COLOURS, _OFTEN = _SOLD[:, :3] / 255, _SOLD[:, 3].astype(np.float64) / _SOLD[:, 3].sum(dtype=np.float64)
_QUIET = 16  # the first of them go with everything


def linear(srgb: npt.NDArray[np.floating]) -> F32:
    """sRGB in [0, 1] to linear reflectance."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _of_hue(hue: float, saturation: float, value: float) -> F32:
    """The sRGB colour [3] of a hue in degrees, saturation and value in [0, 1]."""
    hsv = np.array([[[hue, saturation, value]]], np.float32)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0], np.float32)


def draw_colour(rng: Generator, quiet: float = 0.0) -> F32:
    """One sRGB colour [3] in [0, 1], as clothes are sold; `quiet`: the chance that it must be a muted one."""
    if rng.random() < quiet:
        colour = _COLOURS[rng.choice(_QUIET, p=_OFTEN[:_QUIET] / _OFTEN[:_QUIET].sum())]
    elif rng.random() < 0.82:
        colour = _COLOURS[rng.choice(len(_COLOURS), p=_OFTEN)]
    else:  # any hue, most often a dull one
        saturation = rng.beta(1.6, 3.2)
        colour = _of_hue(rng.uniform(0, 360), saturation, rng.uniform(0.15, 0.95))
    colour = colour * rng.uniform(0.9, 1.06) + rng.normal(0, 0.012, 3)
    return np.clip(colour, 0.02, 0.98).astype(np.float32)


def draw_mistakable(rng: Generator) -> F32:
    """One sRGB colour [3] in [0, 1] that is sold seldom and mistaken where it was not learnt.

    Plain sleeves from rose to mustard, red and brown too, stay on arms as if they were skin, and vivid ones
    stay at the wrists.
    """
    if rng.random() < 0.6:
        hue, saturation, value = rng.normal(20, 20) % 360, rng.uniform(0.25, 0.95), rng.uniform(0.2, 0.95)
    else:
        hue, saturation, value = rng.uniform(0, 360), rng.uniform(0.6, 1.0), rng.uniform(0.25, 0.95)
    return np.clip(_of_hue(hue, saturation, value), 0.02, 0.98)


def draw_palette(rng: Generator, quiet: float = 0.0) -> F32:
    """Three sRGB colours [3, 3]: the ground, and two that stand out from it or go along with it."""
    ground = draw_colour(rng, quiet)
    palette = [ground]
    for _ in range(2):
        kind = rng.random()
        if kind < 0.3:  # a shade of the ground
            other = np.clip(ground * rng.uniform(0.55, 1.5) + rng.uniform(-0.05, 0.08), 0, 1)
        elif kind < 0.5:
            other = np.full(3, 0.95 if ground.mean() < 0.55 else 0.06) + rng.normal(0, 0.015, 3)
        else:
            other = draw_colour(rng)
        if np.abs(other - ground).mean() < 0.1:
            other = np.clip(ground + (0.45 if ground.mean() < 0.5 else -0.45), 0.03, 0.96)
        palette.append(np.clip(other, 0.02, 0.98))
    return np.stack(palette).astype(np.float32)


@functools.lru_cache(maxsize=256)
def _noise_bank(sigma_x: float, sigma_y: float, number: int) -> F32:
    """Smooth periodic noise of unit deviation [TILE, TILE]."""
    white = np.random.default_rng(number).standard_normal((TILE, TILE), dtype=np.float32)
    pad = min(TILE - 1, int(4 * max(sigma_x, sigma_y)) + 2)
    smooth = cv2.GaussianBlur(np.pad(white, pad, mode="wrap"), (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    smooth = smooth[pad:-pad, pad:-pad]
    return np.asarray(smooth / max(float(smooth.std()), 1e-6), np.float32)


def _noise(rng: Generator, sigma: float, sigma_y: float | None = None) -> F32:
    """Smooth periodic noise of unit deviation [TILE, TILE]: one of a bank, shifted."""
    field = _noise_bank(float(f"{sigma:.2g}"), float(f"{sigma_y or sigma:.2g}"), int(rng.integers(8)))
    return np.roll(field, tuple(rng.integers(0, TILE, 2)), axis=(0, 1))


def _lines(rng: Generator, repeats: int, horizontal: bool) -> tuple[F32, F32]:
    """Stripes of both other colours across one tile."""
    phase = (np.arange(TILE) + 0.5) / TILE * repeats % 1
    wide = rng.uniform(0.08, 0.6)

    def band(start: float, width: float) -> F32:
        soft = repeats / TILE
        return np.asarray(
            np.clip(np.minimum(phase - start, start + width - phase) / soft + 0.5, 0, 1), np.float32
        )

    first = band(0.1, wide)
    second = (
        band(0.1 + wide + 0.05, rng.uniform(0.04, 0.2)) if rng.random() < 0.3 else np.zeros(TILE, np.float32)
    )
    shape = (TILE, TILE)
    if horizontal:
        return np.broadcast_to(first[:, None], shape), np.broadcast_to(second[:, None], shape)
    return np.broadcast_to(first[None], shape), np.broadcast_to(second[None], shape)


def _plain(rng: Generator) -> tuple[F32, F32]:  # noqa: ARG001
    return np.zeros((TILE, TILE), np.float32), np.zeros((TILE, TILE), np.float32)


def _heather(rng: Generator) -> tuple[F32, F32]:
    flecks = np.clip(0.28 + 0.28 * _noise(rng, 1.4, 0.7), 0, 1)
    return flecks * rng.uniform(0.4, 1.0), np.zeros_like(flecks)


def _stripes(rng: Generator) -> tuple[F32, F32]:
    repeats = int(rng.choice([4, 6, 8, 11, 16, 24, 32]))
    return _lines(rng, repeats, rng.random() < 0.8)


def _pinstripes(rng: Generator) -> tuple[F32, F32]:
    first = np.zeros((TILE, TILE), np.float32)
    first[:, :: int(rng.choice([8, 16, 32]))] = rng.uniform(0.4, 1)
    return first, np.zeros_like(first)


def _checks(rng: Generator) -> tuple[F32, F32]:
    repeats = int(rng.choice([4, 6, 8, 12, 20]))
    (a, c), (b, d) = _lines(rng, repeats, True), _lines(rng, repeats, False)
    if rng.random() < 0.5:  # woven: colours mix where bands cross
        return np.asarray((a + b) / 2, np.float32), np.asarray(np.clip(c + d, 0, 1) * 0.7, np.float32)
    return np.maximum(a, b), np.clip(c + d, 0, 1)


def _scattered(rng: Generator, draw: Callable[[U8, tuple[int, int], Generator], None], count: int) -> F32:
    """Call `draw` at random places of a canvas that wraps around; it reaches at most 32 texels."""
    reach = 32
    canvas = np.zeros((TILE + 2 * reach, TILE + 2 * reach), np.uint8)
    for x, y in (rng.integers(0, TILE, (count, 2)) + reach).tolist():
        draw(canvas, (x, y), rng)
    for _ in range(2):  # what crosses an edge comes in on the other side
        canvas[TILE : TILE + reach] = np.maximum(canvas[TILE : TILE + reach], canvas[:reach])
        canvas[reach : 2 * reach] = np.maximum(canvas[reach : 2 * reach], canvas[-reach:])
        canvas = canvas.T
    return np.asarray(canvas[reach:-reach, reach:-reach] / np.float32(255), np.float32)


def _dots(rng: Generator) -> tuple[F32, F32]:
    step, radius = int(rng.choice([8, 16, 32, 64])), rng.uniform(0.15, 0.38)
    y, x = np.mgrid[: 2 * step, :step].astype(np.float32)
    shift = (y // step) * step / 2
    distance = np.hypot((x + shift) % step - step / 2, y % step - step / 2)
    dots = np.clip(radius * step - distance + 0.5, 0, 1)
    return np.tile(dots, (TILE // (2 * step), TILE // step)), np.zeros((TILE, TILE), np.float32)


def _florals(rng: Generator) -> tuple[F32, F32]:
    size = rng.uniform(3, 13)
    petals = int(rng.integers(4, 7))

    def flower(canvas: U8, at: tuple[int, int], r: Generator) -> None:
        turn, own = r.uniform(0, 6.28), size * r.uniform(0.6, 1.3)
        for k in range(petals):
            angle = turn + k * 2 * np.pi / petals
            spot = (round(at[0] + own * np.cos(angle)), round(at[1] + own * np.sin(angle)))
            axes = (max(1, round(own * 0.8)), max(1, round(own * 0.45)))
            cv2.ellipse(canvas, spot, axes, float(np.degrees(angle)), 0, 360, 255, -1, cv2.LINE_AA)

    def leaf(canvas: U8, at: tuple[int, int], r: Generator) -> None:
        axes = (max(1, round(size * r.uniform(0.8, 1.6))), max(1, round(size * 0.3)))
        cv2.ellipse(canvas, at, axes, r.uniform(0, 360), 0, 360, 255, -1, cv2.LINE_AA)

    count = int(np.clip(rng.uniform(1500, 5000) / size**1.6, 12, 130))
    return _scattered(rng, flower, count), _scattered(rng, leaf, count)


def _blobs(rng: Generator) -> tuple[F32, F32]:
    """Animal spots, camouflage, marble."""
    field = _noise(rng, rng.uniform(2.5, 14))
    level = rng.uniform(-0.3, 0.6)
    spots = np.clip((field - level) * 6, 0, 1)
    ring = np.clip(1 - np.abs(field - level - 0.45) * 5, 0, 1) if rng.random() < 0.5 else np.zeros_like(spots)
    return spots, ring


def _zigzag(rng: Generator) -> tuple[F32, F32]:
    repeats, teeth = int(rng.choice([6, 10, 16])), int(rng.choice([8, 16, 32]))
    x = np.arange(TILE, dtype=np.float32) / TILE
    wave = (x[:, None] * repeats + 0.8 * np.abs((x * teeth) % 1 - 0.5)) % 1
    first = np.clip((0.25 - np.abs(wave - 0.5)) * TILE / repeats + 0.5, 0, 1)
    return first.astype(np.float32), np.zeros((TILE, TILE), np.float32)


def _leopard(rng: Generator) -> tuple[F32, F32]:
    """Broken dark rings around darker middles."""
    size = rng.uniform(3.5, 8)
    field = _noise(rng, size)
    ring = np.clip((0.3 - np.abs(field - 0.5)) * 8, 0, 1) * np.clip(1 + _noise(rng, size) * 2, 0, 1)
    return ring, np.clip((field - 0.6) * 8, 0, 1) * (1 - ring)


def _zebra(rng: Generator) -> tuple[F32, F32]:
    """Stripes that wander, part and end."""
    y = np.arange(TILE, dtype=np.float32)[:, None] / TILE
    wander = rng.uniform(1.5, 3) * _noise(rng, rng.uniform(10, 22))
    wave = np.sin(2 * np.pi * int(rng.integers(8, 20)) * y + wander) + 0.25 * _noise(rng, 6)
    return np.clip(wave * 4 + 0.5, 0, 1), np.zeros_like(wave)


_PATTERNS: dict[str, tuple[Callable[[Generator], tuple[F32, F32]], float]] = {
    "plain": (_plain, 0.44),
    "heather": (_heather, 0.08),
    "stripes": (_stripes, 0.14),
    "pinstripes": (_pinstripes, 0.02),
    "checks": (_checks, 0.08),
    "dots": (_dots, 0.05),
    "florals": (_florals, 0.11),
    "blobs": (_blobs, 0.05),
    "zigzag": (_zigzag, 0.03),
    "leopard": (_leopard, 0.0),
    "zebra": (_zebra, 0.0),
}

# What a bold skirt or inset may have, each as often; animals, for them alone, in their own colours or others.
BOLD = ("leopard", "zebra", "florals", "blobs", "checks", "stripes", "dots")
ANIMALS = {
    "leopard": ((205, 160, 100), (25, 20, 18), (150, 95, 50)),
    "zebra": ((240, 238, 232), (22, 22, 24), (22, 22, 24)),
}  # sRGB


def _weave(rng: Generator, coarse: float) -> F32:
    """Brightness of the cloth's surface: threads, knit ribs, slub."""
    weave = _noise(rng, 0.7) * np.float32(rng.uniform(0.01, 0.04))
    x, y = np.arange(TILE, dtype=np.float32), np.arange(TILE, dtype=np.float32)[:, None]
    kind = rng.random()
    if kind < 0.15 * (1 + 3 * coarse):  # ribs along the grain
        weave = weave + rng.uniform(0.04, 0.14) * np.sin(x * 2 * np.pi / rng.choice([2.0, 4.0, 8.0]))
    elif kind < 0.25 * (1 + coarse):  # knit
        knit = np.sin(y[:4] * np.pi / 2 + np.abs((x[:8] % 8) - 4))
        weave = weave + rng.uniform(0.03, 0.1) * np.tile(knit, (TILE // 4, TILE // 8))
    elif kind < 0.35:
        weave = weave + _noise(rng, 5, 0.8) * 0.03
    return np.asarray(weave, np.float32)


def _soft(share: F32) -> F32:
    """Edges a little softer than a texel, against aliasing."""
    if not share.any():
        return share
    soft = cv2.GaussianBlur(np.pad(share, 1, mode="wrap").astype(np.float32), (3, 3), 0.6)
    return np.ascontiguousarray(soft[1:-1, 1:-1], np.float32)


def draw_tile(rng: Generator, kind: str | None = None, coarse: float = 0.0) -> tuple[U8, str]:
    """A tile and the name of its pattern; `coarse` in [0, 1] makes knits likelier."""
    if kind is None:
        names = list(_PATTERNS)
        kind = names[int(rng.choice(len(names), p=[chance for _, chance in _PATTERNS.values()]))]
    first, second = _PATTERNS[kind][0](rng)
    first, second = _soft(first), _soft(second)
    tile = np.zeros((3, TILE, TILE), np.uint8)
    tile[0] = np.round(255 * np.clip(first * (1 - second), 0, 1))
    tile[1] = np.round(255 * np.clip(second, 0, 1))
    tile[2] = np.clip(128 * (1 + _weave(rng, coarse)), 0, 255)
    return tile, kind


def draw_bold(rng: Generator, palette: F32) -> tuple[U8, F32]:
    """A strongly patterned tile, and its palette: an animal's own colours, mostly, or those given."""
    tile, kind = draw_tile(rng, BOLD[int(rng.integers(len(BOLD)))])
    if kind in ANIMALS and rng.random() < 0.7:
        palette = np.array(ANIMALS[kind], np.float32) / 255 * np.float32(rng.uniform(0.85, 1.1))
    return tile, np.clip(palette, 0.02, 0.98)


def draw_denim(rng: Generator) -> U8:
    """A tile for jeans: streaks, and washed patches towards the second colour."""
    tile = np.zeros((3, TILE, TILE), np.uint8)
    tile[0] = np.clip(
        40 + 25 * _noise(rng, 22, 40) * rng.uniform(0.3, 1.2) + 14 * _noise(rng, 0.6, 3.0), 0, 255
    )
    tile[2] = np.clip(128 * (1 + 0.05 * _noise(rng, 0.6)), 0, 255)
    return tile
