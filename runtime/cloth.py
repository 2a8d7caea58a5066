"""The garment's cloth as fine as it is seen: fine patterns sampled from a larger photo would shimmer."""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]

SMALLEST = 64  # pixels, the shorter side
STAY = 0.75  # octaves off until another level is taken, so that it does not change back and forth
EVERY = 4  # pixels of the flow: it is smooth


def pyramid(cloth: Pixels) -> tuple[Pixels, ...]:
    """The cloth, uint8 [H, W, 4], and halves of halves of it, each the mean of what it stands for."""
    levels = [cloth]
    while min(levels[-1].shape[:2]) >= 2 * SMALLEST:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return tuple(levels)


def reduction(
    flow: Planes, shown: Planes, cloth: tuple[int, int], frame: tuple[float, float]
) -> float | None:
    """How many octaves finer the cloth is than the frame, the median over where it shows; None where nowhere.

    It is log₂ √|det J| for the Jacobian J of cloth pixels by frame pixels.
    flow: [1, 2, h, w] sampling grid in [-1, 1]; shown: [1, 1, h, w] in [0, 1]; cloth: its height and width in
    pixels; frame: height and width of what the network saw, in the frame's pixels.
    """
    x, y = flow[0, :, ::EVERY, ::EVERY]
    height, width = flow.shape[-2:]
    # Cloth pixels by frame pixels: a half cloth for each unit of the flow, over EVERY pixels of the network.
    across, down = cloth[1] / 2 * width / frame[1] / EVERY, cloth[0] / 2 * height / frame[0] / EVERY
    right, below = (
        np.diff(np.stack([x, y]), axis=axis)[:, : len(x) - 1, : x.shape[1] - 1] for axis in (2, 1)
    )
    area = right[0] * below[1] - below[0] * right[1]
    seen = np.abs(area[shown[0, 0, ::EVERY, ::EVERY][:-1, :-1] > 0.5]) * across * down
    seen = seen[np.isfinite(seen) & (seen > 0)]
    return float(np.log2(np.median(seen)) / 2) if seen.size else None


def level(octaves: float | None, before: int | None, levels: int) -> int | None:
    """Which of `levels` to show: the nearest one, or that of the frame before where it is near enough.

    octaves: of `reduction`; None where nothing shows, and what was before stays. None: nothing has shown yet.
    """
    if octaves is None:
        return before
    if before is not None and abs(octaves - before) < STAY:
        return before
    return min(max(round(octaves), 0), levels - 1)
