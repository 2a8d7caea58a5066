"""Calms flow, mask and matte over time where the person is still, and not at all where they move."""

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.matte import smoothstep

Planes = NDArray[np.float32]

KEPT_AT_REST = 0.6  # of the frame before
STILL = 0.04  # mean change of a pixel's neighbourhood, in [-1, 1] units: camera noise
MOVING = 0.12


class Smoothing:
    """An exponential average whose strength falls, pixel by pixel, as frames disagree."""

    def __init__(self) -> None:
        self._person: Planes | None = None
        self._smooth: tuple[Planes, ...] = ()

    def reset(self) -> None:
        """Forget the past, as when the garment changes."""
        self._person = None

    def __call__(self, person: Planes, *planes: Planes) -> tuple[Planes, ...]:
        """The smoothed planes of this frame.

        person: [1, 3, H, W], the network's input. planes: [1, C, H, W] each, the same ones in every call.
        """
        if self._person is not None:
            change = cv2.blur(np.abs(person - self._person)[0].mean(axis=0), (7, 7))
            keep = KEPT_AT_REST * (1 - smoothstep(STILL, MOVING, change))
            planes = tuple(blend(new, old, keep) for new, old in zip(planes, self._smooth, strict=True))
        self._person, self._smooth = person, planes
        return planes


def blend(new: Planes, old: Planes, keep: Planes) -> Planes:
    """`keep` of the old and the rest of the new. Where the old overflowed, the new: NaN times 0 is NaN."""
    kept = np.where(np.isfinite(old), old, new)
    return np.asarray(new + keep * (kept - new), np.float32)
