"""What is behind the person: uint8 sRGB [H, W, 3], from surroundings or drawn."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from rmgn.data.rooms import add_mirror, draw_room, place_someone, wall_colour

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
    picture = _gradient(rng, size, wall_colour(rng), rng.uniform(0.05, 0.4))
    noise = rng.standard_normal(size, dtype=np.float32)
    picture *= 1 + (cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.6, 3)) * rng.uniform(0, 0.05))[:, :, None]
    return picture


def _photo(rng: Generator, size: tuple[int, int], pictures: Sequence[U8], recolour: bool) -> F32:
    """A view into surroundings, in their own colours or in others."""
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
    picture = seen.astype(np.float32) / np.float32(255)
    if recolour:
        picture = _recoloured(rng, picture)
    return np.asarray(picture * rng.uniform(0.6, 1.5), np.float32)


def _recoloured(rng: Generator, picture: F32) -> F32:
    """Another saturation, gamma and white balance: a few surroundings are to stand for all that there are."""
    grey = picture.mean(axis=2, keepdims=True)
    coloured = np.clip(grey + rng.uniform(0.3, 1.7) * (picture - grey), 0, None)
    coloured = coloured ** np.exp(rng.normal(0, 0.3)) * np.exp(rng.normal(0, 0.2, 3))
    return np.asarray(coloured, np.float32)


def draw_backdrop(
    rng: Generator,
    size: tuple[int, int],
    pictures: Sequence[U8],
    person: F32 | None = None,
    recolour: bool = False,
) -> U8:
    """A backdrop [H, W, 3]; `pictures` are surroundings, possibly none.

    person: somebody else to stand in the back, premultiplied sRGB and opacity [h, w, 4] in [0, 1].
    recolour: show surroundings in other colours than their own, too.
    """
    kind = rng.random()
    plain = kind < 0.52
    if kind < 0.40:
        picture = _studio(rng, size)
    elif plain:
        picture = _wall(rng, size)
    elif kind < 0.72 or not pictures:
        picture = draw_room(rng, size)
    else:
        picture = _photo(rng, size, pictures, recolour and rng.random() < 0.7)
    if person is not None:
        picture = place_someone(rng, picture, person)
    if not plain and rng.random() < 0.2:
        picture = add_mirror(rng, picture)
    if not plain or person is not None:  # in focus, nearly, or not
        fine = size[0] / 256
        sigma = rng.choice([0.0, rng.uniform(0.4, 1.5), rng.uniform(1.5, 6.0)], p=[0.35, 0.3, 0.35]) * fine
        if sigma > 0.3:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
