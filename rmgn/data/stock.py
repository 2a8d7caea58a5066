"""What prints and backdrops are taken from, in two parts that share nothing: to train on and to test on."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ImageFont

from engines.program import warn_once
from rmgn.data.people.assets import FEW, assets
from rmgn.data.people.light import read_surroundings

U8 = npt.NDArray[np.uint8]
T = TypeVar("T")

_WORDS = (
    "CLUB", "STUDIO", "SPORT", "LOVE", "CITY", "WEST", "HAPPY", "OCEAN", "NORTH", "DREAM", "1984",
    "77", "TEAM", "RIVER", "WILD", "SUNNY", "COFFEE", "PARIS", "TOKYO", "OSLO", "AMORE", "VIDA", "HELLO",
    "NOVA", "GOOD DAY", "Привет", "Αγάπη", "Ελλάδα", "Москва", "слово", "Ωκεανός", "свобода",
)  # fmt: skip


# OpenCV's drawn fonts, the same everywhere; the first are held back for `eval`.
_FACES = (4, 6, 0, 1, 2, 3, 5, 7)
_HELD_BACK = 2


@dataclass(frozen=True)
class Stock:
    """Photographs (sRGB [h, w, 3]) to print and to stand before, fonts, and words."""

    photos: Sequence[U8] = ()
    fonts: Sequence[str] = ()  # TrueType files
    faces: Sequence[int] = _FACES  # OpenCV's own
    words: Sequence[str] = _WORDS
    recolour: bool = False  # stand before photographs in other colours than their own, too
    extras: bool = False  # what training alone draws: bars, insets, and the inside of the back


def part(items: Sequence[T], split: str) -> Sequence[T]:
    """Every fourth item is held back for `eval`, the others are for `train`; all of them if there are few."""
    if len(items) < FEW:
        return items
    return [item for k, item in enumerate(items) if (k % 4 == 3) == (split == "eval")]


def find_fonts() -> list[str]:
    """TrueType fonts on this machine, without those that are damaged, which the log names."""
    places = [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        Path.home() / ".fonts",
        Path("/Library/Fonts"),
    ]
    found = sorted(f for place in places if place.is_dir() for f in place.rglob("*.ttf"))
    return [str(f) for f in found if not re.search("Symbol|Emoji", str(f)) and _is_font(f)]


def _is_font(file: Path) -> bool:
    if file.name.startswith("."):  # as the archives of a Mac hold beside each file
        return False
    try:
        ImageFont.truetype(file, 48)
    except OSError as error:
        warn_once(f"the font {file} is left out: {error}")
        return False
    return True


@functools.lru_cache(maxsize=4)
def stock(root: Path | None, split: str = "train") -> Stock:
    """The stock of an assets folder (or None), and of this machine's fonts.

    `eval` has no fonts of the machine: its pictures must be the same on every one. They also stay as they are
    when `train` learns to draw more.
    """
    photos = []
    for path in part(assets(root).surroundings, split):
        picture = read_surroundings(path)
        level = float(np.median(picture[picture.shape[0] // 3 : -picture.shape[0] // 4]))
        display = np.clip(picture * 0.3 / max(level, 1e-6), 0, 1) ** (1 / 2.2)
        photos.append(np.round(display * 255).astype(np.uint8))
    if split == "eval":
        return Stock(photos, (), _FACES[:_HELD_BACK], part(_WORDS, split))
    return Stock(photos, find_fonts(), _FACES[_HELD_BACK:], part(_WORDS, split), recolour=True, extras=True)
