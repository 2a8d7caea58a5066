"""What is printed or sewn onto the front: letters, pictures, logos, plackets, buttons, pockets, flies, belts.

An overlay is uint8 [4, 384, 320], premultiplied sRGB colour and opacity, over a field of 0.64 m × 0.768 m
(2 mm a texel): its middle column is the garment's middle, its first row the neckline (or the waist).
"""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.fabrics import TEXEL, draw_colour

HEIGHT, WIDTH = 384, 320
F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

_SYLLABLES = (
    "la",
    "mo",
    "ne",
    "ri",
    "ta",
    "so",
    "vel",
    "kan",
    "or",
    "be",
    "lu",
    "fin",
    "dar",
    "es",
    "po",
    "wil",
    "ka",
)
_WORDS = (
    "CLUB", "STUDIO", "SPORT", "LOVE", "CITY", "WEST", "HAPPY", "OCEAN", "NORTH", "DREAM", "1984",
    "77", "TEAM", "RIVER", "WILD", "SUNNY", "COFFEE", "PARIS", "TOKYO", "OSLO", "AMORE", "VIDA", "HELLO",
    "NOVA", "GOOD DAY",
)  # fmt: skip
_SCRIPTS = ("Привет", "Αγάπη", "Ελλάδα", "Москва", "слово", "Ωκεανός")
_HERSHEY = (0, 1, 2, 3, 4, 5, 6, 7)


@functools.lru_cache(maxsize=1)
def fonts() -> list[str]:
    """TrueType fonts on this machine; without any (or without Pillow) Hershey's strokes are drawn."""
    try:
        import PIL.ImageFont  # noqa: F401
    except ImportError:
        return []
    places = [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path.home() / ".fonts",
        Path("/Library/Fonts"),
    ]
    found = sorted(str(f) for place in places if place.is_dir() for f in place.rglob("*.ttf"))
    return [f for f in found if "Symbol" not in f and "Emoji" not in f]


def _word(rng: Generator, latin: bool) -> str:
    kind = rng.random()
    if not latin and kind < 0.15:
        return str(rng.choice(_SCRIPTS))
    if kind < 0.5:
        return str(rng.choice(_WORDS))
    word = "".join(rng.choice(_SYLLABLES, rng.integers(1, 4)))
    return word.upper() if rng.random() < 0.6 else word.capitalize()


def text_mask(rng: Generator, width: int, height: int) -> U8:
    """A word that fills a box as large as its proportions allow: uint8 [height, width]."""
    faces = fonts()
    if faces and rng.random() < 0.85:
        from PIL import Image, ImageDraw, ImageFont

        word = _word(rng, latin=False)
        face = faces[rng.integers(len(faces))]
        if not word.isascii():
            face = next((f for f in faces if "DejaVu" in f), face)
        font = ImageFont.truetype(face, 48)
        left, top, right, bottom = font.getbbox(word)
        image = Image.new("L", (max(1, int(right - left) + 4), max(1, int(bottom - top) + 4)))
        ImageDraw.Draw(image).text((2 - left, 2 - top), word, fill=255, font=font)
        drawn = np.asarray(image, np.uint8)
    else:
        word = _word(rng, latin=True)
        face_number, thick = int(rng.choice(_HERSHEY)), int(rng.integers(2, 7))
        (w, h), base = cv2.getTextSize(word, face_number, 2.0, thick)
        drawn = np.zeros((h + base + 8, w + 8), np.uint8)
        cv2.putText(drawn, word, (4, h + 4), face_number, 2.0, 255, thick, cv2.LINE_AA)
    scale = min(width / drawn.shape[1], height / drawn.shape[0])
    small = cv2.resize(
        drawn,
        (max(1, int(drawn.shape[1] * scale)), max(1, int(drawn.shape[0] * scale))),
        interpolation=cv2.INTER_AREA,
    )
    box = np.zeros((height, width), np.uint8)
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    box[y : y + small.shape[0], x : x + small.shape[1]] = small
    return box


class Canvas:
    """An overlay that grows by painting colours through masks; only the painted box is touched each time."""

    def __init__(self) -> None:
        self._rgba = np.zeros((HEIGHT, WIDTH, 4), np.float32)
        self._blank = True

    def paint(
        self, mask: U8, corner: tuple[int, int], colour: npt.NDArray[np.floating], strength: float = 1.0
    ) -> None:
        """Lay a colour [3] or picture [h, w, 3] in [0, 1] through a mask [h, w], its upper left at (x, y)."""
        x, y = corner
        left, top = max(0, -x), max(0, -y)
        part = mask[top : max(0, HEIGHT - y), left : max(0, WIDTH - x)]
        if not part.size:
            return
        if colour.ndim == 3:
            colour = colour[top : top + part.shape[0], left : left + part.shape[1]]
        box = self._rgba[y + top : y + top + part.shape[0], x + left : x + left + part.shape[1]]
        opacity = np.asarray(part[:, :, None] * np.float32(strength / 255), np.float32)
        box *= 1 - opacity
        box[:, :, :3] += opacity * np.asarray(colour, np.float32)
        box[:, :, 3:] += opacity
        self._blank = False

    def paint_box(
        self, mask: U8, centre: tuple[int, int], colour: npt.NDArray[np.floating], turn: float = 0.0
    ) -> None:
        """Lay a small mask (and picture) with its middle at `centre` (x, y), turned by degrees."""
        h, w = mask.shape
        if turn:
            side = int(np.hypot(h, w)) + 2
            move = cv2.getRotationMatrix2D((w / 2, h / 2), turn, 1.0)
            move = np.add(move, [[0, 0, (side - w) / 2], [0, 0, (side - h) / 2]])
            mask = np.asarray(cv2.warpAffine(mask, move, (side, side)), np.uint8)
            if colour.ndim == 3:
                spread = cv2.warpAffine(
                    colour.astype(np.float32), move, (side, side), borderMode=cv2.BORDER_REPLICATE
                )
                colour = np.asarray(spread, np.float32)
            h = w = side
        self.paint(mask, (centre[0] - w // 2, centre[1] - h // 2), colour)

    def line(self, points: npt.NDArray[np.floating], metres: float, strength: float) -> None:
        """Darken along a polyline [N, 2] in metres (x from the middle, y down): a seam or an edge."""
        at = points / TEXEL + [WIDTH / 2, 0]
        low = np.floor(at.min(axis=0)).astype(int) - 4
        size = np.ceil(at.max(axis=0)).astype(int) + 5 - low
        mask = np.zeros((int(size[1]), int(size[0])), np.uint8)
        fixed = np.round((at - low) * 16).astype(np.int32)
        cv2.polylines(mask, [fixed], False, 255, max(1, round(metres / TEXEL)), cv2.LINE_AA, 4)
        self.paint(mask, (int(low[0]), int(low[1])), np.zeros(3), strength)

    def disc(
        self,
        centre: tuple[float, float],
        radius: float,
        colour: npt.NDArray[np.floating],
        strength: float = 1.0,
    ) -> None:
        """A round spot; centre (x from the middle, y down) and radius in metres."""
        x, y = centre[0] / TEXEL + WIDTH / 2, centre[1] / TEXEL
        reach = int(radius / TEXEL) + 2
        left, top = int(x) - reach, int(y) - reach
        grid_y, grid_x = np.mgrid[: 2 * reach + 1, : 2 * reach + 1]
        distance = np.hypot(grid_x + 0.5 + left - x, grid_y + 0.5 + top - y)
        mask = np.clip(255 * (radius / TEXEL - distance + 0.5), 0, 255).astype(np.uint8)
        self.paint(mask, (left, top), colour, strength)

    def result(self) -> U8:
        """uint8 [4, HEIGHT, WIDTH], premultiplied."""
        if self._blank:
            return np.zeros((4, HEIGHT, WIDTH), np.uint8)
        return np.ascontiguousarray(cv2.convertScaleAbs(self._rgba, alpha=255).transpose(2, 0, 1))


def picture(rng: Generator, size: int, photos: list[U8]) -> F32:
    """A square picture in [0, 1] to print: a photograph if there are any, else drawn shapes."""
    if photos and rng.random() < 0.5:
        photo = photos[rng.integers(len(photos))]
        side = int(rng.integers(96, min(photo.shape[:2])))
        y, x = rng.integers(photo.shape[0] - side + 1), rng.integers(photo.shape[1] - side + 1)
        cut = cv2.resize(photo[y : y + side, x : x + side], (size, size))
        return np.asarray(cut / np.float32(255), np.float32)
    sky, ground = draw_colour(rng), draw_colour(rng)
    ramp = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    image = np.ascontiguousarray(np.broadcast_to(sky * (1 - ramp) + ground * ramp, (size, size, 3)))
    for _ in range(rng.integers(3, 14)):
        colour = tuple(float(c) for c in draw_colour(rng))
        at = tuple(int(v) for v in rng.integers(0, size, 2))
        reach = int(rng.uniform(0.05, 0.35) * size)
        kind = rng.integers(4)
        if kind == 0:
            cv2.circle(image, at, reach, colour, -1, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(
                image, at, (reach, max(1, reach // 3)), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA
            )
        elif kind == 2:
            corners = rng.integers(0, size, (int(rng.integers(3, 6)), 2)).astype(np.int32)
            cv2.fillPoly(image, [corners], colour, cv2.LINE_AA)
        else:
            cv2.line(
                image,
                at,
                tuple(int(v) for v in rng.integers(0, size, 2)),
                colour,
                int(rng.integers(1, 8)),
                cv2.LINE_AA,
            )
    return image


def _figure(rng: Generator, size: int) -> U8:
    """The outline of a badge, star, heart, ring or creature."""
    mask = np.zeros((size, size), np.uint8)
    c, kind = size // 2, rng.integers(5)
    if kind == 0:
        cv2.circle(mask, (c, c), c - 2, 255, -1 if rng.random() < 0.5 else max(2, size // 12), cv2.LINE_AA)
    elif kind == 1:
        points, turn = int(rng.integers(5, 9)), rng.uniform(0, 6)
        angle = turn + np.arange(2 * points) * np.pi / points
        reach = np.where(np.arange(2 * points) % 2, 0.45, 1.0) * (c - 2)
        cv2.fillPoly(
            mask,
            [np.stack([c + reach * np.cos(angle), c + reach * np.sin(angle)], axis=1).astype(np.int32)],
            255,
            cv2.LINE_AA,
        )
    elif kind == 2:
        t = np.linspace(0, 2 * np.pi, 60)
        heart = np.stack(
            [16 * np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t))], axis=1
        )
        cv2.fillPoly(mask, [(c + heart * (c - 2) / 17).astype(np.int32)], 255, cv2.LINE_AA)
    else:  # something rounded with limbs: reads as an animal or a hand-drawn figure
        t = np.linspace(0, 2 * np.pi, 90)
        radius = (
            0.62 + sum(rng.normal(0, 0.5 / k) * np.sin(k * t + rng.uniform(0, 6)) for k in range(2, 9)) * 0.22
        )
        blob = np.stack([np.cos(t), np.sin(t)], axis=1) * np.clip(radius, 0.2, 1)[:, None]
        cv2.fillPoly(mask, [(c + blob * (c - 2)).astype(np.int32)], 255, cv2.LINE_AA)
        for _ in range(rng.integers(1, 4)):
            at = tuple(int(v) for v in rng.integers(size // 4, 3 * size // 4, 2))
            cv2.circle(mask, at, max(2, size // 16), 0, -1, cv2.LINE_AA)
    return mask


def _ink(rng: Generator, ground: F32) -> F32:
    """A colour that is read on the ground; now and then tone in tone."""
    for _ in range(6):
        ink = draw_colour(rng)
        if np.abs(ink - ground).max() > (0.35 if rng.random() < 0.9 else 0.1):
            return ink
    return np.full(3, 0.96 if ground.mean() < 0.5 else 0.05, np.float32)


def add_print(canvas: Canvas, rng: Generator, length: float, photos: list[U8], ground: F32) -> str:
    """A print on the chest of a garment `length` metres long in front; the name of its kind."""
    kind = str(
        rng.choice(
            ["text", "boxed", "picture", "figure", "chest", "lines"], p=[0.3, 0.1, 0.22, 0.16, 0.12, 0.1]
        )
    )
    middle = (WIDTH // 2 + int(rng.normal(0, 2)), int(min(rng.uniform(0.10, 0.18), 0.45 * length) / TEXEL))
    wide = int(rng.uniform(0.16, 0.31) / TEXEL)
    first, second = _ink(rng, ground), _ink(rng, ground)
    if kind == "chest":  # a small mark over the heart
        size = int(rng.integers(12, 30))
        mask = _figure(rng, size) if rng.random() < 0.6 else text_mask(rng, 2 * size, size)
        canvas.paint_box(mask, (WIDTH // 2 + int(0.075 / TEXEL), middle[1]), first)
    elif kind == "picture":
        size = int(wide * rng.uniform(0.8, 1.15))
        tall = int(min(size * rng.uniform(0.8, 1.3), 0.7 * length / TEXEL))
        image = np.asarray(cv2.resize(picture(rng, 128, photos), (size, tall)), np.float32)
        mask = np.full((tall, size), 255, np.uint8)
        if rng.random() < 0.3:
            mask = np.asarray(cv2.resize(_figure(rng, 96), (size, tall)), np.uint8)
        down = (middle[0], middle[1] + tall // 3)
        canvas.paint_box(mask, down, image)
        if rng.random() < 0.4:
            canvas.paint_box(
                text_mask(rng, wide, wide // 4), (middle[0], down[1] + tall // 2 + wide // 6), second
            )
    elif kind == "figure":
        size = int(wide * rng.uniform(0.7, 1.1))
        canvas.paint_box(_figure(rng, size), (middle[0], middle[1] + size // 4), first)
        canvas.paint_box(
            _figure(rng, max(16, size // 2)), (middle[0], middle[1] + size // 4), second, rng.uniform(-30, 30)
        )
        if rng.random() < 0.5:
            canvas.paint_box(text_mask(rng, size, size // 4), (middle[0], middle[1] + size), second)
    else:
        tall = int(wide * rng.uniform(0.2, 0.6))
        turn = float(rng.choice([0.0, rng.normal(0, 8)], p=[0.8, 0.2]))
        if kind == "boxed":
            canvas.paint_box(np.full((tall + 8, wide + 12), 255, np.uint8), middle, second)
        rows = int(rng.integers(2, 5)) if kind == "lines" else 1
        for row in range(rows):
            high = tall if rows == 1 else max(12, int(tall * 0.6))
            mask = text_mask(rng, wide, high)
            canvas.paint_box(
                mask, (middle[0], middle[1] + row * (high + 4)), first if row % 2 == 0 else second, turn
            )
    return kind


def add_placket(canvas: Canvas, rng: Generator, depth: float) -> None:
    """A strip with buttons from the neck down to `depth` metres."""
    half = rng.uniform(0.011, 0.016)
    edge = np.array([[half, 0.0], [half, depth]])
    canvas.line(edge, 0.0025, 0.45)
    canvas.line(edge * [-1, 1], 0.002, rng.uniform(0.1, 0.3))
    if depth < 0.3:
        canvas.line(np.array([[-half, depth], [half, depth]]), 0.002, 0.4)
    colour = np.full(3, rng.choice([0.92, 0.1, 0.6])) if rng.random() < 0.7 else draw_colour(rng)
    step = rng.uniform(0.06, 0.1) if depth > 0.3 else rng.uniform(0.035, 0.06)
    radius = rng.uniform(0.0045, 0.0065)
    for down in np.arange(0.012, depth - 0.01, step):
        canvas.disc((0, down), radius + 0.001, np.zeros(3), 0.35)
        canvas.disc((0, down), radius, colour)


def add_pocket(canvas: Canvas, rng: Generator) -> None:
    """A patch pocket over the heart."""
    x, y, w, h = 0.045, rng.uniform(0.1, 0.14), rng.uniform(0.09, 0.11), rng.uniform(0.1, 0.12)
    tip = rng.choice([0, 0.015])
    box = np.array([[x, y], [x, y + h], [x + w / 2, y + h + tip], [x + w, y + h], [x + w, y], [x, y]])
    canvas.line(box, 0.002, 0.35)
    canvas.line(np.array([[x, y + 0.018], [x + w, y + 0.018]]), 0.002, 0.2)


def add_hoodie_front(canvas: Canvas, rng: Generator, length: float) -> None:
    """Drawstrings from the hood and a pouch pocket above the hem."""
    tone = draw_colour(rng) if rng.random() < 0.5 else np.full(3, 0.93, np.float32)
    for side in (-1, 1):
        end = rng.uniform(0.09, 0.17)
        sway = rng.normal(0, 0.006)
        for down in np.arange(0.0, end, 0.003):
            canvas.disc((side * 0.028 + sway * down / end, down), 0.003, tone)
    if rng.random() < 0.75:
        low, high, wide = length - 0.055, length - rng.uniform(0.2, 0.25), rng.uniform(0.1, 0.13)
        pouch = np.array([[-wide, low], [-wide, low - 0.05], [-0.65 * wide, high], [0.65 * wide, high],
                          [wide, low - 0.05], [wide, low]])  # fmt: skip
        canvas.line(pouch, 0.003, 0.4)


def lower_overlay(rng: Generator, kind: str) -> U8:
    """Fly, pockets, waistband, belt and seams of trousers, shorts or a skirt."""
    canvas = Canvas()
    band = rng.uniform(0.03, 0.045)
    thread = rng.uniform(0.15, 0.4)
    dress_belt = kind != "skirt" and rng.random() < 0.35
    canvas.line(np.array([[-0.4, band], [0.4, band]]), 0.003, 0.45)
    if kind != "skirt":
        canvas.line(np.array([[0, 0], [0, 0.3]]), 0.003, 0.5)
        fly = np.array([[0.028, band], [0.03, 0.11], [0.022, 0.15], [0.0, 0.175]])
        canvas.line(fly, 0.002, thread)
        slant = rng.uniform(0.02, 0.05) if kind == "jeans" else rng.uniform(0.0, 0.03)
        for side in (-1, 1):
            start = 0.085 + slant
            pocket = np.array([[start, band], [start + 0.012, 0.075], [start + 0.04, 0.105], [0.19, 0.115]])
            if kind != "jeans":
                pocket = np.array([[start + 0.01, band], [0.165, 0.17]])
            canvas.line(pocket * [side, 1], 0.003, 0.45)
        canvas.disc((0, band / 2), 0.008, np.full(3, rng.uniform(0.3, 0.75)))
    if kind == "jeans" or rng.random() < 0.2:
        for loop in (-0.1, 0.1):
            canvas.line(np.array([[loop, 0], [loop, band + 0.004]]), 0.01, 0.4)
    if dress_belt:
        colour = np.array([[0.08, 0.07, 0.07], [0.32, 0.2, 0.12], [0.55, 0.4, 0.27], [0.9, 0.9, 0.88]])[
            rng.integers(4)
        ]
        canvas.paint(np.full((max(3, int(band / TEXEL) - 3), WIDTH), 255, np.uint8), (0, 2), colour)
        buckle = np.zeros((14, 18), np.uint8)
        cv2.rectangle(buckle, (2, 1), (15, 12), 255, 2)
        canvas.paint_box(buckle, (WIDTH // 2, int(band / 2 / TEXEL)), np.full(3, 0.7))
    return canvas.result()
