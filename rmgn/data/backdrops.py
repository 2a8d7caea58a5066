"""What is behind the person: uint8 sRGB [H, W, 3], from surroundings or drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.fabrics import draw_colour

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]


def _gradient(rng: Generator, size: tuple[int, int], colour: F32, depth: float) -> F32:
    """An even wall, a little darker towards one side and the corners."""
    y, x = (np.arange(n, dtype=np.float32) / n - 0.5 for n in size)
    slope = rng.normal(0, 1, 2)
    slope *= depth / np.linalg.norm(slope)
    corners = depth * rng.uniform(0, 1.2)
    field = (1 + slope[1] * y - corners * y**2)[:, None] + (slope[0] * x - corners * x**2)
    return np.asarray(colour * field[:, :, None], np.float32)


def _studio(rng: Generator, size: tuple[int, int]) -> F32:
    grey = rng.uniform(0.78, 0.99) if rng.random() < 0.82 else rng.uniform(0.3, 0.78)
    colour = (grey + rng.normal(0, 0.008, 3)).astype(np.float32)
    return _gradient(rng, size, colour, rng.uniform(0, 0.15))


def _wall(rng: Generator, size: tuple[int, int]) -> F32:
    colour = draw_colour(rng) * 0.5 + rng.uniform(0.2, 0.5)
    picture = _gradient(rng, size, np.clip(colour, 0, 1), rng.uniform(0.05, 0.4))
    noise = rng.standard_normal(size, dtype=np.float32)
    picture *= 1 + (cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.6, 3)) * rng.uniform(0, 0.05))[:, :, None]
    return picture


def _room(rng: Generator, size: tuple[int, int]) -> F32:
    """Wall, furniture, pictures, curtains, lamps, a rack of clothes, someone else far behind."""
    h, w = size
    picture = _wall(rng, size)
    for _ in range(rng.integers(2, 9)):
        colour = tuple(float(c) for c in draw_colour(rng) * rng.uniform(0.4, 1.0))
        kind = rng.integers(5)
        x, y = int(rng.uniform(-0.1, 1) * w), int(rng.uniform(0, 1) * h)
        if kind == 0:  # cupboard, door, window
            tall = int(rng.uniform(0.3, 1.0) * h)
            cv2.rectangle(picture, (x, h - tall), (x + int(rng.uniform(0.15, 0.5) * w), h), colour, -1)
        elif kind == 1:  # a picture on the wall
            wide, tall = int(rng.uniform(0.08, 0.3) * w), int(rng.uniform(0.08, 0.25) * h)
            cv2.rectangle(picture, (x, y // 2), (x + wide, y // 2 + tall), colour, -1)
            cv2.rectangle(picture, (x, y // 2), (x + wide, y // 2 + tall), (0.1, 0.1, 0.1), 2)
        elif kind == 2:  # garments on a rail
            for k in range(rng.integers(3, 9)):
                cloth = tuple(float(c) for c in draw_colour(rng))
                left = x + k * int(0.05 * w)
                cv2.rectangle(
                    picture,
                    (left, int(0.3 * h)),
                    (left + int(0.045 * w), int(rng.uniform(0.6, 0.85) * h)),
                    cloth,
                    -1,
                )
        elif kind == 3:  # a lamp
            cv2.circle(
                picture, (x, y // 3), int(rng.uniform(0.02, 0.07) * w), (1.0, 0.97, 0.88), -1, cv2.LINE_AA
            )
        else:  # a person in the back
            scale = rng.uniform(0.35, 0.7) * h
            feet = int(rng.uniform(0.8, 1.2) * h)
            cv2.ellipse(
                picture,
                (x, feet - int(0.55 * scale)),
                (int(0.13 * scale), int(0.3 * scale)),
                0,
                0,
                360,
                colour,
                -1,
                cv2.LINE_AA,
            )
            cv2.circle(
                picture, (x, feet - int(0.93 * scale)), int(0.075 * scale), (0.6, 0.45, 0.36), -1, cv2.LINE_AA
            )
    sigma = rng.choice([rng.uniform(0.5, 1.5), rng.uniform(1.5, 6.0)])
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def _photo(rng: Generator, size: tuple[int, int], pictures: Sequence[U8]) -> F32:
    """A view into surroundings, in focus or not."""
    h, w = size
    source = pictures[int(rng.integers(len(pictures)))]
    rows, columns = source.shape[:2]
    view = np.deg2rad(rng.uniform(30, 75)) / 2
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.08)
    x, y = np.meshgrid(
        np.linspace(-1, 1, w, dtype=np.float32) * w / h, np.linspace(-1, 1, h, dtype=np.float32)
    )
    x, y = x * np.tan(view), y * np.tan(view) + np.tan(tilt)
    around = (np.arctan2(x, 1) + turn) / (2 * np.pi) * columns
    polar = (np.arctan2(y, np.hypot(x, 1)) / np.pi + 0.5) * rows
    seen = cv2.remap(
        source,
        (around % columns).astype(np.float32),
        polar.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    picture = seen.astype(np.float32) / 255 * rng.uniform(0.6, 1.5)
    sigma = rng.choice([0.0, rng.uniform(0.5, 2.0), rng.uniform(2.0, 7.0)], p=[0.25, 0.35, 0.4])
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.3 else picture, np.float32)


def draw_backdrop(rng: Generator, size: tuple[int, int], pictures: Sequence[U8]) -> U8:
    """A backdrop [H, W, 3]; `pictures` are surroundings, possibly none."""
    kind = rng.random()
    if kind < 0.45:
        picture = _studio(rng, size)
    elif kind < 0.57:
        picture = _wall(rng, size)
    elif kind < 0.69 or not pictures:
        picture = _room(rng, size)
    else:
        picture = _photo(rng, size, pictures)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
