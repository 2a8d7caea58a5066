"""Calms flow, mask and matte over time where the person is still, and not at all where they move."""

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.matte import smoothstep

Planes = NDArray[np.float32]

KEPT_AT_REST = 0.6  # of the frame before
STILL = 0.04  # mean change of a pixel's neighbourhood, in [-1, 1] units: camera noise
MOVING = 0.12
# Mean change of a neighbourhood's flow, in pixels of the garment's photo at the network's size. A camera's
# noise makes half a pixel; plain clothes move without a change of the picture within them.
FLOW_STILL, FLOW_MOVING = 0.7, 2.0
WILDEST = 10.0  # pixels; a single one that is off does not stand for its neighbours
AROUND = (7, 7)


class Smoothing:
    """An exponential average whose strength falls, pixel by pixel, as frames disagree."""

    def __init__(self) -> None:
        self._person: Planes | None = None
        self._smooth: tuple[Planes, ...] = ()

    def reset(self) -> None:
        """Forget the past, as when the garment changes."""
        self._person = None

    @np.errstate(invalid="ignore")  # of a flow that overflows twice
    def __call__(self, person: Planes, flow: Planes, *others: Planes) -> tuple[Planes, ...]:
        """The smoothed planes of this frame, the flow first.

        person: [1, 3, H, W], the network's input. flow: [1, 2, H, W], a sampling grid in [-1, 1]. others:
        [1, C, H, W] each, the same ones in every call.
        """
        planes = flow, *others
        if self._person is not None:
            change = cv2.blur(np.abs(person - self._person)[0].mean(axis=0), AROUND)
            moved = np.asarray(cv2.blur(distance(flow, self._smooth[0]), AROUND), np.float32)
            still = (1 - smoothstep(STILL, MOVING, change)) * (1 - smoothstep(FLOW_STILL, FLOW_MOVING, moved))
            keep = KEPT_AT_REST * still
            planes = tuple(blend(new, old, keep) for new, old in zip(planes, self._smooth, strict=True))
        self._person, self._smooth = person, planes
        return planes


def distance(flow: Planes, old: Planes) -> Planes:
    """How far apart two flows [1, 2, H, W] are, in pixels, [H, W]; 0 where one is not known."""
    height, width = flow.shape[-2:]
    right, down = (flow - old)[0] / 2
    length = np.hypot(right * width, down * height)
    return np.asarray(np.where(np.isfinite(length), np.minimum(length, WILDEST), 0), np.float32)


def blend(new: Planes, old: Planes, keep: Planes) -> Planes:
    """`keep` of the old and the rest of the new. Where the old overflowed, the new: NaN times 0 is NaN."""
    kept = np.where(np.isfinite(old), old, new)
    return np.asarray(new + keep * (kept - new), np.float32)
