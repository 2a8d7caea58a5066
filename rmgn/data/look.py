"""Everything that is drawn anew each time a sample is dressed, as arrays of fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.backdrops import draw_backdrop
from rmgn.data.canvas import Canvas
from rmgn.data.fabrics import draw_bold, draw_colour, draw_denim, draw_palette, draw_tile, linear
from rmgn.data.people.layers import Sample
from rmgn.data.prints import add_bars, add_inset, add_print
from rmgn.data.rooms import someone
from rmgn.data.sewn import add_hoodie_front, add_placket, add_pocket, add_zip, lower_overlay
from rmgn.data.stock import Stock

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

# sRGB tones of human skin from lightest to darkest, about equal steps of lightness apart (CIE L* 82 to 25):
# tones are drawn evenly along this line.
_SKIN = np.array(
    [(232, 198, 178), (221, 180, 155), (207, 161, 132), (189, 142, 112), (168, 122, 94), (146, 102, 77),
     (124, 83, 62), (102, 66, 49), (82, 53, 41)], np.float32,
) / 255  # fmt: skip
_HAIR = np.array(
    [(.012, .010, .009), (.03, .018, .012), (.07, .035, .018), (.13, .07, .035), (.22, .13, .06),
     (.4, .28, .14), (.14, .04, .015), (.25, .24, .23)], np.float32,
)  # fmt: skip

# sRGB of light skirts and trousers: white, cream, beige, rose, pale blue, lemon.
_LIGHT = np.array(
    [(246, 245, 242), (240, 234, 220), (224, 208, 184), (236, 214, 212), (208, 220, 232), (244, 226, 140)],
    np.float32,
) / 255  # fmt: skip


@dataclass
class GarmentLook:
    """A top's colours. `numbers` are named by `NUMBERS`."""

    tile: U8  # [3, 256, 256]
    palette: F32  # [3, 3] linear
    band: F32  # [3] linear colour of neck, hem and cuff bands
    overlay: U8  # [4, 384, 320]
    numbers: F32  # [len(NUMBERS)]


# Widths in metres; shares in [0, 1].
NUMBERS = (
    "neck_band", "hem_band", "cuff_band", "stitch", "gloss", "turn", "scale", "sleeve_contrast", "block_low",
    "block_high", "seam_line", "collar_contrast", "reverse", "label", "label_wide", "label_at", "label_tone",
)  # fmt: skip


@dataclass
class Look:
    """One draw of all looks of a sample."""

    garments: tuple[GarmentLook, GarmentLook]
    skin: F32  # [3] linear
    skin_power: float  # contrast of the skin's texture
    hair: F32
    lower_tile: U8
    lower_palette: F32
    lower_overlay: U8
    backdrop: U8  # [H, W, 3]
    camera: F32  # [len(CAMERA)]
    shop: F32  # [2, len(SHOP)]
    grain: npt.NDArray[np.int64]  # [2] where noise begins, of the person's and of the shop's pictures


CAMERA = (
    "exposure", "red", "blue", "contrast", "saturation", "blur", "noise", "jpeg", "shadow", "shadow_x",
    "blotch", "fade", "coarse",
)  # fmt: skip
SHOP = ("white", "tint", "shadow", "exposure", "blur", "noise")


def draw_skin(rng: Generator) -> F32:
    """A linear skin tone, evenly from very light to very dark, warmer or cooler."""
    t = rng.uniform(0, len(_SKIN) - 1)
    k = min(int(t), len(_SKIN) - 2)
    tone = _SKIN[k] * (1 - t + k) + _SKIN[k + 1] * (t - k)
    return linear(np.clip(tone * (1 + rng.normal(0, 0.02, 3)) * rng.uniform(0.94, 1.04), 0.05, 0.98))


def draw_hair(rng: Generator, age: float, dark: bool) -> F32:
    """A linear hair colour: mostly dark, grey with age, now and then dyed."""
    if rng.random() < 0.03:
        return linear(draw_colour(rng))
    chance = np.array([0.3, 0.24, 0.15, 0.1, 0.08, 0.06, 0.05, 0.02])
    if dark:
        chance[3:7] *= 0.15
    if age > 0.8:
        chance[7] = 0.35 if age < 0.88 else 0.8
    return np.asarray(
        _HAIR[rng.choice(len(_HAIR), p=chance / chance.sum())] * rng.uniform(0.8, 1.25), np.float32
    )


def draw_garment(rng: Generator, style: dict[str, object], length: float, stock: Stock) -> GarmentLook:
    """Fabric, print and trims that suit the cut."""
    kind, collar, placket = str(style["kind"]), str(style["collar"]), str(style["placket"])
    knit = kind in ("jumper", "hoodie")
    formal = kind in ("shirt", "blouse")
    tile, pattern = draw_tile(rng, coarse=1.0 if knit else 0.0)
    palette = draw_palette(rng)
    canvas = Canvas()
    chance = 0.42 if kind in ("tee", "long", "tank") else 0.25 if knit else 0.0
    quiet = pattern in ("plain", "heather")
    if rng.random() < (chance / 0.55 if quiet else 0.05 * (not formal)):
        add_print(canvas, rng, length, stock, palette[0])
    if stock.extras and rng.random() < 0.12:
        add_inset(canvas, rng, palette[0], draw_skin(rng) ** (1 / 2.2))
    if stock.extras and not formal and rng.random() < (0.2 if quiet else 0.06):
        add_bars(canvas, rng, length, palette[0])
    if placket == "zip":
        add_zip(canvas, rng, length)
    elif placket != "none":
        add_placket(canvas, rng, length if placket == "full" else rng.uniform(0.12, 0.17))
    if rng.random() < (0.35 if kind in ("shirt", "polo") else 0.05):
        add_pocket(canvas, rng)
    if kind == "hoodie":
        add_hoodie_front(canvas, rng, length)
    banded = rng.random()
    neck = rng.uniform(0.012, 0.024) if kind in ("tee", "long", "jumper", "tank") and banded < 0.7 else 0.0
    ends = (
        rng.uniform(0.04, 0.06)
        if knit and rng.random() < 0.7
        else rng.uniform(0.015, 0.03)
        if banded < 0.15
        else 0.0
    )
    own = rng.random() < 0.7
    band = (
        palette[0] * rng.uniform(0.85, 1.0) if own else palette[1] if rng.random() < 0.7 else draw_colour(rng)
    )
    blocks = rng.random() < 0.06 and not formal
    low = rng.uniform(0.3, 0.65) if blocks else 2.0
    high = low - rng.uniform(0.08, 0.25) if blocks and rng.random() < 0.5 else low
    satin = rng.random() < (0.25 if kind == "blouse" else 0.03)
    numbers = {
        "neck_band": neck,
        "hem_band": ends,
        "cuff_band": ends,
        "stitch": float(rng.choice([0.0, rng.uniform(0.014, 0.03)], p=[0.3, 0.7])),
        "gloss": rng.uniform(1.5, 3.0) if satin else rng.uniform(0.05, 0.8),
        "turn": float(rng.choice([0.0, rng.normal(0, 0.02), np.pi / 4], p=[0.7, 0.27, 0.03])),
        "scale": rng.uniform(0.75, 1.3) if pattern != "plain" else 1.0,
        "sleeve_contrast": float(rng.random() < (0.5 if style["seam"] == "raglan" else 0.06)),
        "block_low": low,
        "block_high": high,
        "seam_line": rng.uniform(0.05, 0.35),
        "collar_contrast": float(rng.random() < (0.25 if kind == "polo" else 0.07)),
    } | _inside(rng, stock.extras)
    if collar in ("fold", "hood"):
        numbers["neck_band"] = 0.0
    values = np.array([numbers[n] for n in NUMBERS], np.float32)
    band = linear(np.clip(band, 0.02, 0.98))
    return GarmentLook(tile, linear(palette), band, canvas.result(), values)


def _inside(rng: Generator, drawn: bool) -> dict[str, float]:
    """The inside of the back at the neck, which shop photos show and people hide: its reverse, a label."""
    if not drawn:
        return dict.fromkeys(("reverse", "label", "label_wide", "label_at", "label_tone"), 0.0)
    return {
        "reverse": rng.uniform(0, 0.5) if rng.random() < 0.5 else 0.0,
        "label": rng.uniform(0.01, 0.035) if rng.random() < 0.6 else 0.0,
        "label_wide": rng.uniform(0.02, 0.06),
        "label_at": rng.uniform(0.0, 0.015),
        "label_tone": float(rng.choice([0.03, 0.85, rng.uniform(0.03, 0.85)], p=[0.35, 0.35, 0.3])),
    }


def draw_look(
    rng: Generator, meta: dict[str, object], size: tuple[int, int], stock: Stock, behind: Sample | None = None
) -> Look:
    """Draw the looks of one sample from its parameters; `behind` may stand in the back."""
    garments = meta["garments"]
    assert isinstance(garments, list)
    tops = [draw_garment(rng, g["style"], g["front"][1] - g["front"][0], stock) for g in garments]
    shape, lower = meta["shape"], meta["lower"]
    assert isinstance(shape, dict)
    assert isinstance(lower, dict)
    skin = draw_skin(rng)
    dark = bool(skin.mean() < 0.15)
    kind = str(lower["kind"])
    tile, palette = _draw_lower(rng, kind, bool(meta.get("hard")))
    camera = _draw_camera(rng)
    shop = [_draw_shop(rng) for _ in range(2)]
    person = None
    if behind is not None:
        person = someone(rng, behind, draw_skin(rng), _HAIR[rng.integers(len(_HAIR))])
    return Look(
        (tops[0], tops[1]),
        skin,
        float(rng.uniform(0.8, 1.2)),
        draw_hair(rng, float(shape["age"]), dark),
        tile,
        linear(np.clip(palette, 0.02, 0.95)),
        lower_overlay(rng, kind),
        draw_backdrop(rng, size, stock.photos, person, stock.recolour),
        np.array([camera[n] for n in CAMERA], np.float32),
        np.array([[s[n] for n in SHOP] for s in shop], np.float32),
        rng.integers(0, 2**31, 2),
    )


def _draw_lower(rng: Generator, kind: str, hard: bool) -> tuple[U8, F32]:
    """Tile and sRGB palette of trousers or a skirt.

    hard: bold patterns, which networks draw as their mean, and plain light cloth, taken for the top.
    """
    palette = draw_palette(rng, quiet=0.3 if kind == "skirt" else 0.7)
    bold, light = (0.7, 0.2) if kind == "skirt" else (0.0, 0.3)
    drawn = rng.random() if hard and kind != "jeans" else 1.0
    if kind == "jeans":
        tile = draw_denim(rng)
        ground = np.array(
            [(28, 40, 70), (52, 74, 112), (96, 122, 156), (150, 170, 190), (25, 26, 30), (70, 72, 76)]
        )
        palette[0] = ground[rng.integers(len(ground))] / 255 * rng.uniform(0.85, 1.15)
        palette[1] = palette[0] * 0.5 + 0.4
    elif drawn < bold:
        tile, palette = draw_bold(rng, palette)
    elif drawn < bold + light:
        tile, _ = draw_tile(rng, "plain")
        palette[0] = _LIGHT[rng.integers(len(_LIGHT))] * rng.uniform(0.88, 1.03)
    else:
        wild = 0.5 if kind == "skirt" else 0.15
        tile, _ = draw_tile(rng, None if rng.random() < wild else "plain")
    return tile, palette


def _draw_camera(rng: Generator) -> dict[str, float]:
    camera = {
        "exposure": rng.normal(0.06, 0.2),
        "red": rng.normal(0, 0.045),
        "blue": rng.normal(0, 0.06),
        "contrast": rng.normal(0.06, 0.07),
        "saturation": rng.normal(1.0, 0.1),
        "blur": float(
            rng.choice(
                [rng.uniform(0.25, 0.5), rng.uniform(0.5, 0.9), rng.uniform(0.9, 1.4)], p=[0.6, 0.33, 0.07]
            )
        ),
        "noise": float(rng.choice([rng.uniform(0.001, 0.006), rng.uniform(0.006, 0.02)], p=[0.75, 0.25])),
        "jpeg": float(rng.choice([0.0, rng.uniform(0.15, 1.0)], p=[0.6, 0.4])),
        "shadow": rng.uniform(0, 0.35) if rng.random() < 0.6 else 0.0,
        "shadow_x": rng.normal(0, 0.06),
        "blotch": float(rng.choice([0.0, rng.uniform(0.3, 1.0)], p=[0.6, 0.4])),
        "fade": float(rng.choice([0.0, rng.uniform(0.01, 0.08)], p=[0.7, 0.3])),
        "coarse": 0.0,
    }
    if rng.random() < 0.15:  # a poor webcam: few pixels, much noise, strong compression
        camera["coarse"] = rng.uniform(0.5, 1.0)
        camera["noise"] = rng.uniform(0.01, 0.03)
        camera["jpeg"] = rng.uniform(0.4, 1.0)
        camera["saturation"] *= rng.uniform(0.75, 1.0)
    return camera


def _draw_shop(rng: Generator) -> dict[str, float]:
    return {
        "white": float(rng.choice([1.0, rng.uniform(0.9, 1.0)], p=[0.5, 0.5])),
        "tint": rng.normal(0, 0.006),
        "shadow": rng.uniform(0.05, 0.3) if rng.random() < 0.4 else 0.0,
        "exposure": rng.normal(0.0, 0.08),
        "blur": rng.uniform(0.2, 0.6),
        "noise": rng.uniform(0.0, 0.006),
    }


def texture_for(height: int, texture: U8) -> U8:
    """A texture [C, H, W] as fine as pictures of that height can show: no aliasing, less memory."""
    factor = 1 << max(0, (512 // height).bit_length() - 1)
    if factor == 1:
        return np.ascontiguousarray(texture)
    size = (texture.shape[2] // factor, texture.shape[1] // factor)
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in texture])


def scaled(numbers: F32, names: Sequence[str], scale: int) -> F32:
    """Numbers [..., len(names)] of a camera whose pixels are `scale` times as large."""
    numbers = np.array(numbers, np.float32)
    for name in ("blur", "noise", "jpeg", "coarse"):
        if name in names:
            numbers[..., names.index(name)] /= scale
    return numbers
