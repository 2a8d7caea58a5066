"""Pictures as bytes, and files by their names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor


def quantise(picture: Tensor) -> Tensor:
    """[-1, 1] to uint8, as a picture file holds it."""
    return ((picture + 1) * 127.5).round().clamp(0, 255).byte()


def to_bgr(picture: Tensor) -> npt.NDArray[np.uint8]:
    """[3, H, W] in [-1, 1] to uint8 [H, W, 3] as OpenCV writes it."""
    return np.ascontiguousarray(quantise(picture).permute(1, 2, 0).cpu().numpy()[:, :, ::-1])


def names_and_sizes(files: Iterable[Path]) -> list[str]:
    """A line for each file, which tells most others from it without reading any."""
    return [f"{file.name} {file.stat().st_size}" for file in files]


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines of text, in hexadecimal. Names of files may hold what is no text."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
