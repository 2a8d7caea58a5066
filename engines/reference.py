"""A bundle's reference: one try-on and its results, by which an engine shows that it computes what it should.

Libraries have sampled the nearest pixel where bilinear was asked for, or let half precision overflow, without
a word. So every session runs it before it is used, on the machine that will use it.
"""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.protocol import Array

FILE = "reference.npz"
STEP = 2  # of results every second pixel each way is kept: as telling, and a quarter of the bytes


@dataclass(frozen=True)
class Limits:
    """What a precision may differ from the graph in float32, on every sample."""

    psnr: float  # of the try-on picture, in dB, at least
    flow_pixels: float  # mean error of the flow, at most


# float32: a GPU may round factors to TF32; CPU engines are at 100 dB. Half: what a viewer cannot see.
# INT8: a little beyond the worst picture seen (36 dB, 0.11 px) on a barely trained lite network.
LIMITS = {"float32": Limits(60, 0.01), "float16": Limits(45, 0.05), "int8": Limits(33, 0.25)}


class Reference(NamedTuple):
    """What to run and what comes of it: `results` are `flow` and `tryon` of a session, every STEPth pixel.

    person, garment: float32 [1, 3, H, W] in [-1, 1]; garment_mask: [1, 1, H, W] in {0, 1}.
    """

    person: Array
    garment: Array
    garment_mask: Array
    results: Mapping[str, Array]


def inputs_of(person: Array, garment: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Pictures rounded to what the file holds: 8 bits a channel."""
    return _picture(_bytes(person)), _picture(_bytes(garment)), (mask > 0.5).astype(np.float32)


def write(path: Path, inputs: tuple[Array, Array, Array], results: Mapping[str, Array]) -> None:
    """Write inputs of `inputs_of` and the results that belong to them; [1, C, H, W] each."""
    person, garment, mask = inputs
    np.savez_compressed(
        path,
        person=_bytes(person),
        garment=_bytes(garment),
        garment_mask=mask > 0.5,
        flow=results["flow"][..., ::STEP, ::STEP],
        tryon=results["tryon"][..., ::STEP, ::STEP].astype(np.float16),  # 80 dB
    )


def read(path: Path) -> Reference:
    """Raises ValueError, KeyError or OSError where the file is not one of `write`."""
    try:
        return _read(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(str(error)) from error


def _read(path: Path) -> Reference:
    with path.open("rb") as data, np.load(data, allow_pickle=False) as file:  # NumPy leaves broken ones open
        results = {name: file[name].astype(np.float32) for name in ("flow", "tryon")}
        person, garment = (_picture(file[name]) for name in ("person", "garment"))
        return Reference(person, garment, file["garment_mask"].astype(np.float32), results)


def complaint(expected: Mapping[str, Array], actual: Mapping[str, Array], limits: Limits) -> str | None:
    """What is wrong with the results of an engine, at full size, or None."""
    flow, tryon = (actual[name][..., ::STEP, ::STEP] for name in ("flow", "tryon"))
    level = psnr(tryon, expected["tryon"])
    height, width = actual["flow"].shape[-2:]
    pixels = flow_error(flow, expected["flow"], height, width)
    if level >= limits.psnr and pixels <= limits.flow_pixels:  # false of NaN
        return None
    return (
        f"its results are not the reference's: try-on {level:.0f} dB ({limits.psnr:.0f} at least), "
        f"flow {pixels:.2g} px off ({limits.flow_pixels} at most)"
    )


def psnr(actual: Array, expected: Array, span: float = 2.0) -> float:
    """Peak signal-to-noise ratio in dB; span: of the value range, from least to greatest."""
    mean_square = float(np.mean((actual.astype(np.float64) - expected) ** 2))
    return float("inf") if mean_square == 0 else float(10 * np.log10(span**2 / mean_square))


def flow_error(actual: Array, expected: Array, height: int | None = None, width: int | None = None) -> float:
    """Mean length of the difference of two flows [B, 2, h, w], in pixels of height x width (h x w)."""
    size = (width or expected.shape[-1], height or expected.shape[-2])
    error = (actual.astype(np.float64) - expected) * np.array(size).reshape(1, 2, 1, 1) / 2
    return float(np.mean(np.hypot(error[:, 0], error[:, 1])))


def _bytes(picture: Array) -> NDArray[np.uint8]:
    return np.rint((picture + 1) * 127.5).clip(0, 255).astype(np.uint8)


def _picture(stored: NDArray[np.uint8]) -> Array:
    return stored.astype(np.float32) / np.float32(127.5) - 1
