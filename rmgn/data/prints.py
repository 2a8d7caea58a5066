"""On the front of a garment: letters, pictures, figures, marks, bars, insets of other cloth."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from rmgn.data.canvas import U8, WIDTH, Canvas
from rmgn.data.fabrics import BOLD, TEXEL, TILE, draw_colour, draw_palette, draw_tile
from rmgn.data.stock import Stock

F32 = npt.NDArray[np.float32]

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


def _word(rng: Generator, stock: Stock, ascii_only: bool) -> str:
    word = str(rng.choice(stock.words))
    if rng.random() < 0.5 or (ascii_only and not word.isascii()):
        word = "".join(rng.choice(_SYLLABLES, rng.integers(1, 4)))
        word = word.upper() if rng.random() < 0.6 else word.capitalize()
    return word


def text_mask(rng: Generator, stock: Stock, width: int, height: int) -> U8:
    """A word that fills a box as large as its proportions allow: uint8 [height, width]."""
    faces = stock.fonts
    if faces and rng.random() < 0.85:
        word = _word(rng, stock, ascii_only=False)
        face = faces[int(rng.integers(len(faces)))]
        if not word.isascii():  # few fonts have Greek and Cyrillic letters; this family has
            known = [f for f in faces if "DejaVuSans" in f]
            face, word = (known[0], word) if known else (face, _word(rng, stock, ascii_only=True))
        font = ImageFont.truetype(face, 48)
        left, top, right, bottom = font.getbbox(word)
        image = Image.new("L", (max(1, int(right - left) + 4), max(1, int(bottom - top) + 4)))
        ImageDraw.Draw(image).text((2 - left, 2 - top), word, fill=255, font=font)
        drawn = np.asarray(image, np.uint8)
    else:
        word = _word(rng, stock, ascii_only=True)
        face_number, thick = int(rng.choice(stock.faces)), int(rng.integers(2, 7))
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


def picture(rng: Generator, size: int, photos: Sequence[U8]) -> F32:
    """A square picture in [0, 1] to print: a photograph if there are any, else drawn shapes."""
    if photos and rng.random() < 0.5:
        photo = photos[int(rng.integers(len(photos)))]
        short = min(photo.shape[:2])
        side = int(rng.integers(min(96, short - 1), short))
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


def add_print(canvas: Canvas, rng: Generator, length: float, stock: Stock, ground: F32) -> None:
    """A print on the chest of a garment `length` metres long in front."""
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
        mask = _figure(rng, size) if rng.random() < 0.6 else text_mask(rng, stock, 2 * size, size)
        canvas.paint_box(mask, (WIDTH // 2 + int(0.075 / TEXEL), middle[1]), first)
    elif kind == "picture":
        size = int(wide * rng.uniform(0.8, 1.15))
        tall = int(min(size * rng.uniform(0.8, 1.3), 0.7 * length / TEXEL))
        image = np.asarray(cv2.resize(picture(rng, 128, stock.photos), (size, tall)), np.float32)
        mask = np.full((tall, size), 255, np.uint8)
        if rng.random() < 0.3:
            mask = np.asarray(cv2.resize(_figure(rng, 96), (size, tall)), np.uint8)
        down = (middle[0], middle[1] + tall // 3)
        canvas.paint_box(mask, down, image)
        if rng.random() < 0.4:
            canvas.paint_box(
                text_mask(rng, stock, wide, wide // 4), (middle[0], down[1] + tall // 2 + wide // 6), second
            )
    elif kind == "figure":
        size = int(wide * rng.uniform(0.7, 1.1))
        canvas.paint_box(_figure(rng, size), (middle[0], middle[1] + size // 4), first)
        canvas.paint_box(
            _figure(rng, max(16, size // 2)), (middle[0], middle[1] + size // 4), second, rng.uniform(-30, 30)
        )
        if rng.random() < 0.5:
            canvas.paint_box(text_mask(rng, stock, size, size // 4), (middle[0], middle[1] + size), second)
    else:
        tall = int(wide * rng.uniform(0.2, 0.6))
        turn = float(rng.choice([0.0, rng.normal(0, 8)], p=[0.8, 0.2]))
        if kind == "boxed":
            canvas.paint_box(np.full((tall + 8, wide + 12), 255, np.uint8), middle, second)
        rows = int(rng.integers(2, 5)) if kind == "lines" else 1
        for row in range(rows):
            high = tall if rows == 1 else max(12, int(tall * 0.6))
            mask = text_mask(rng, stock, wide, high)
            canvas.paint_box(
                mask, (middle[0], middle[1] + row * (high + 4)), first if row % 2 == 0 else second, turn
            )


def add_bars(canvas: Canvas, rng: Generator, length: float, ground: F32) -> None:
    """Bars across, down or around the front of a garment `length` metres long: printed, or sewn on.

    A bright bar at the waist looks like a belt, which lies before a garment; networks have to see both.
    """
    thick = max(2, int(rng.choice([rng.uniform(0.004, 0.012), rng.uniform(0.012, 0.05)]) / TEXEL))
    colour = _ink(rng, ground)
    kind = rng.random()
    if kind < 0.2:  # a frame
        wide = int(rng.uniform(0.14, 0.3) / TEXEL)
        tall = int(rng.uniform(0.08, max(0.09, 0.6 * length)) / TEXEL)
        frame = np.full((tall, wide), 255, np.uint8)
        inner = frame[thick:-thick, thick:-thick]
        inner[:] = 0
        canvas.paint_box(frame, (WIDTH // 2, int(rng.uniform(0.3, 0.6) * length / TEXEL)), colour)
        return
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    pitch = thick + max(3, int(thick * rng.uniform(0.4, 2.5)))
    if kind < 0.3:  # down the front, beside its middle or on it
        first = WIDTH // 2 + int(rng.uniform(-0.15, 0.15) / TEXEL)
        for k in range(count):
            canvas.paint(np.full((int(length / TEXEL), thick), 255, np.uint8), (first + k * pitch, 0), colour)
        return
    wide = WIDTH if rng.random() < 0.35 else int(rng.uniform(0.08, 0.34) / TEXEL)
    first = int(rng.uniform(0.12, max(0.13, length - 0.02)) / TEXEL)
    turn = float(rng.choice([0.0, rng.normal(0, 12)], p=[0.8, 0.2]))
    for k in range(count):
        canvas.paint_box(np.full((thick, wide), 255, np.uint8), (WIDTH // 2, first - k * pitch), colour, turn)


def add_inset(canvas: Canvas, rng: Generator, ground: F32, skin: F32) -> None:
    """Lace, sheer or other cloth let in below the neckline: a V, a U or a yoke; sRGB colours [3] in [0, 1].

    Skin behind lace looks like a bare neck, which stays in front of a garment; networks have to see both.
    """
    wide, tall = int(rng.uniform(0.1, 0.34) / TEXEL), int(rng.uniform(0.05, 0.24) / TEXEL)
    mask = np.zeros((tall, wide), np.uint8)
    kind = rng.random()
    if kind < 0.45:
        corners = np.array([(0, 0), (wide - 1, 0), (wide // 2, tall - 1)], np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA)
    elif kind < 0.75:
        cv2.ellipse(mask, (wide // 2, 0), (wide // 2, tall - 1), 0, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        mask[:] = 255
    tile, _ = draw_tile(rng, BOLD[int(rng.integers(len(BOLD)))] if rng.random() < 0.8 else "plain")
    cloth = rng.random()
    palette = draw_palette(rng)
    if cloth < 0.75:  # what is seen through it, and its threads
        palette[0] = skin if cloth < 0.5 else (skin + ground) / 2
        palette[1] = ground if rng.random() < 0.6 else _ink(rng, palette[0])
    shares = tile[:2].astype(np.float32) / 255
    picture = palette[0] + shares[0, :, :, None] * (palette[1] - palette[0])
    picture = picture + shares[1, :, :, None] * (palette[2] - picture)
    y, x = (np.arange(n) + int(rng.integers(TILE)) for n in (tall, wide))
    canvas.paint_box(mask, (WIDTH // 2, tall // 2), picture[y[:, None] % TILE, x % TILE])
