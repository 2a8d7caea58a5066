"""Drawn rooms: a wall and a floor, furniture, pictures, lamps, mirrors, garments on rails, and people.

Pictures are sRGB float32 [H, W, 3] in about [0, 1]; sizes are shares of the picture's height.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.fabrics import draw_colour
from rmgn.data.people.layers import Sample, unpack_light

F32 = npt.NDArray[np.float32]
_WOOD = np.array([(92, 64, 44), (140, 100, 66), (186, 148, 108), (215, 190, 158), (60, 44, 36)]) / 255


def wall_colour(rng: Generator) -> F32:
    """Most walls are white, cream or grey, some are painted in a quiet colour."""
    level = rng.uniform(0.3, 0.95) ** 0.7
    share = rng.uniform(0, 0.12) if rng.random() < 0.7 else rng.uniform(0.12, 0.4)
    tint = draw_colour(rng)
    colour = level * (1 - share) + share * tint + rng.normal(0, 0.012, 3)
    return np.clip(colour, 0.05, 1).astype(np.float32)


def _furniture_colour(rng: Generator) -> F32:
    kind = rng.random()
    if kind < 0.45:
        colour = _WOOD[rng.integers(len(_WOOD))] * rng.uniform(0.7, 1.15)
    elif kind < 0.8:
        colour = np.full(3, rng.choice([0.93, 0.15, 0.45, 0.7])) + rng.normal(0, 0.02, 3)
    else:
        colour = draw_colour(rng)
    return np.clip(colour, 0.03, 1).astype(np.float32)


def _box(picture: F32, corner: tuple[int, int], size: tuple[int, int], colour: F32, fall: float) -> None:
    """A box [x, y], [wide, tall] that gets darker downwards by the share `fall`."""
    h, w = picture.shape[:2]
    (x, y), (wide, tall) = corner, size
    left, top, right, bottom = max(0, x), max(0, y), min(w, x + wide), min(h, y + tall)
    if left < right and top < bottom:
        down = (np.arange(top, bottom, dtype=np.float32) - y) / max(1, tall)
        picture[top:bottom, left:right] = colour * (1 - fall * down)[:, None, None]


def _cupboard(rng: Generator, picture: F32) -> None:
    h = picture.shape[0]
    wide, tall = (int(h * rng.uniform(low, high)) for low, high in ((0.12, 0.4), (0.25, 0.95)))
    x, y = int(rng.uniform(-0.15, 0.75) * h), h - tall - int(rng.uniform(-0.1, 0.12) * h)
    colour = _furniture_colour(rng)
    _box(picture, (x, y), (wide, tall + h), colour, rng.uniform(0, 0.3))
    doors = int(rng.integers(1, 5))
    for k in range(doors + 1):  # gaps between doors or shelves
        if rng.random() < 0.5:
            _box(picture, (x + k * wide // doors, y), (max(1, h // 160), tall), colour * 0.6, 0)
        else:
            _box(picture, (x, y + k * tall // doors), (wide, max(1, h // 160)), colour * 0.6, 0)
    if rng.random() < 0.4:  # books, boxes
        for k in range(rng.integers(4, 14)):
            thick = int(rng.uniform(0.008, 0.03) * h) + 1
            up = int(rng.uniform(0.04, 0.09) * h)
            _box(picture, (x + 2 + k * thick, y - up), (thick, up), draw_colour(rng), 0.2)


def _door_or_window(rng: Generator, picture: F32) -> None:
    h = picture.shape[0]
    wide, tall = (int(h * rng.uniform(low, high)) for low, high in ((0.2, 0.35), (0.4, 0.75)))
    x = int(rng.uniform(-0.15, 0.7) * h)
    bright = rng.random() < 0.6
    y = int(rng.uniform(0, 0.15) * h) if bright else h - tall
    frame = max(2, h // 60)
    _box(picture, (x, y), (wide, tall), np.full(3, rng.choice([0.95, 0.3]), np.float32), 0.1)
    pane = (
        np.array([0.85, 0.93, 1.0], np.float32) * rng.uniform(0.7, 1.3) if bright else _furniture_colour(rng)
    )
    panes = int(rng.integers(1, 3))
    for k in range(panes):
        left = x + frame + k * (wide - frame) // panes
        _box(picture, (left, y + frame), ((wide - frame) // panes - frame, tall - 2 * frame), pane, 0.25)
    if bright and rng.random() < 0.5:  # curtains, with folds
        cloth = wall_colour(rng)
        for side in (x - wide // 4, x + wide - wide // 8):
            for k in range(wide // 3):
                fold = 0.82 + 0.18 * np.sin(k * rng.uniform(0.5, 0.9))
                _box(picture, (side + k, max(0, y - h // 40)), (1, h), cloth * fold, 0.1)


def _framed(rng: Generator, picture: F32) -> None:
    h = picture.shape[0]
    wide, tall = int(h * rng.uniform(0.06, 0.22)), int(h * rng.uniform(0.06, 0.22))
    x, y = int(rng.uniform(-0.05, 0.7) * h), int(rng.uniform(0.0, 0.35) * h)
    edge = max(1, h // 100)
    _box(picture, (x, y), (wide, tall), np.full(3, rng.choice([0.08, 0.95, 0.5]), np.float32), 0)
    inside = (wide - 2 * edge, tall - 2 * edge)
    _box(picture, (x + edge, y + edge), inside, draw_colour(rng), rng.uniform(0, 0.5))
    _box(picture, (x + wide // 3, y + tall // 3), (wide // 3, tall // 3), draw_colour(rng), 0)


def _lamp(rng: Generator, picture: F32) -> None:
    h = picture.shape[0]
    at = (int(rng.uniform(0, 0.75) * h), int(rng.uniform(0.02, 0.35) * h))
    size = max(2, int(rng.uniform(0.015, 0.05) * h))
    glow = np.zeros(picture.shape[:2], np.float32)
    cv2.circle(glow, at, size, 1.0, -1, cv2.LINE_AA)
    glow += 3 * cv2.GaussianBlur(glow, (0, 0), 2.5 * size)
    picture += glow[:, :, None] * np.array([0.6, 0.55, 0.45], np.float32)


def _rail(rng: Generator, picture: F32) -> None:
    """Garments on a rail, or folded in heaps."""
    h = picture.shape[0]
    x, y = int(rng.uniform(-0.2, 0.5) * h), int(rng.uniform(0.15, 0.45) * h)
    _box(picture, (x, y), (int(0.4 * h), max(1, h // 130)), np.full(3, 0.35, np.float32), 0)
    for _ in range(rng.integers(5, 16)):
        wide, tall = int(rng.uniform(0.015, 0.05) * h) + 1, int(rng.uniform(0.2, 0.4) * h)
        _box(picture, (x, y + h // 100), (wide, tall), draw_colour(rng), rng.uniform(0.1, 0.5))
        x += wide


def _plant(rng: Generator, picture: F32) -> None:
    h = picture.shape[0]
    foot = (int(rng.uniform(0, 0.75) * h), int(rng.uniform(0.6, 1.0) * h))
    for _ in range(rng.integers(9, 22)):
        green = (rng.uniform(0.1, 0.35), rng.uniform(0.25, 0.5), rng.uniform(0.08, 0.25))
        tip = (foot[0] + int(rng.normal(0, 0.07) * h), foot[1] - int(rng.uniform(0.1, 0.35) * h))
        middle = ((foot[0] + 2 * tip[0]) // 3, (foot[1] + 2 * tip[1]) // 3)
        angle = float(np.degrees(np.arctan2(tip[1] - foot[1], tip[0] - foot[0])))
        cv2.ellipse(
            picture, middle, (int(0.06 * h), int(0.016 * h) + 1), angle, 0, 360, green, -1, cv2.LINE_AA
        )


_THINGS: tuple[Callable[[Generator, F32], None], ...] = (
    _cupboard, _cupboard, _door_or_window, _framed, _framed, _lamp, _rail, _plant,
)  # fmt: skip


def draw_room(rng: Generator, size: tuple[int, int]) -> F32:
    """A wall, a floor where the camera sees it, and two to seven things."""
    h, w = size
    colour = wall_colour(rng)
    side = (1 + rng.normal(0, 0.2) * (np.arange(w, dtype=np.float32) / w - 0.5))[None, :, None]
    picture = np.ascontiguousarray(np.broadcast_to(colour * side, (h, w, 3)), np.float32)
    if rng.random() < 0.5:
        ground = int(rng.uniform(0.6, 0.98) * h)
        _box(picture, (0, ground), (w, h - ground), _furniture_colour(rng), -0.2)
        _box(picture, (0, ground - h // 60), (w, max(1, h // 60)), np.clip(colour * 1.15, 0, 1), 0.3)
    for _ in range(rng.integers(2, 8)):
        _THINGS[rng.integers(len(_THINGS))](rng, picture)
    return picture


def someone(rng: Generator, sample: Sample, skin: F32, hair: F32) -> F32:
    """Another sample's person as premultiplied sRGB and opacity [H, W, 4], for behind; tones are linear."""
    worn = sample.worn[int(rng.integers(2))]
    share = worn.cover.astype(np.float32) / 255
    garment = worn.garment[..., 0].astype(np.float32)[..., None] / 255
    detail = unpack_light(worn.albedo)
    top, below = draw_colour(rng) ** 2.2, draw_colour(rng, quiet=0.7) ** 2.2
    colour = detail * (share[..., :1] * skin + share[..., 1:2] * hair + share[..., 3:])
    colour += share[..., 2:3] * below + garment * top
    lit = np.clip(colour * unpack_light(worn.light) * rng.uniform(0.6, 1.2), 0, 1)
    opacity = np.clip(share.sum(axis=-1, keepdims=True) + garment, 0, 1)
    shown = np.clip(lit / np.maximum(opacity, 1e-3), 0, 1) ** (1 / 2.2) * opacity
    return np.concatenate([shown, opacity], axis=-1).astype(np.float32)


def place_someone(rng: Generator, picture: F32, person: F32) -> F32:
    """The picture with a person farther away than the one in front."""
    h, w = picture.shape[:2]
    scale = rng.uniform(0.3, 0.75)
    small = cv2.resize(person, (int(w * scale), int(h * scale)), interpolation=cv2.INTER_AREA)
    x, y = rng.uniform(-0.5, 1.0 - 0.4 * scale) * w, (1 - scale) * h * rng.uniform(0.3, 1.0)
    # Cut off below by the layers' picture: whatever stands there ends with the picture, or behind a counter.
    move = np.array([[1, 0, x], [0, 1, y]], np.float32)
    placed = cv2.warpAffine(small, move, (w, h), flags=cv2.INTER_LINEAR)
    below = int(y + small.shape[0])
    if below < h:
        counter = _furniture_colour(rng)
        _box(picture, (0, below - 1), (w, h - below + 1), counter, 0.3)
    return np.asarray(picture * (1 - placed[..., 3:]) + placed[..., :3], np.float32)


def add_mirror(rng: Generator, picture: F32) -> F32:
    """A framed mirror on the wall that shows the room from the other side, a little darker."""
    h, w = picture.shape[:2]
    wide, tall = int(rng.uniform(0.15, 0.4) * h), int(rng.uniform(0.35, 0.85) * h)
    x, y = int(rng.uniform(-0.1, 0.6) * h), int(rng.uniform(0.02, 0.3) * h)
    seen = cv2.resize(
        np.ascontiguousarray(picture[:, ::-1]), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA
    )
    seen = np.roll(seen, int(rng.integers(seen.shape[1])), axis=1) * rng.uniform(0.75, 1.0)
    frame = max(1, int(rng.uniform(0.005, 0.03) * h))
    _box(picture, (x - frame, y - frame), (wide + 2 * frame, tall + 2 * frame), _furniture_colour(rng), 0.1)
    left, top, right, bottom = max(0, x), max(0, y), min(w, x + wide), min(h, y + tall)
    cut = seen[: bottom - top, : right - left]
    picture[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return picture
