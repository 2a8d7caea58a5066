"""Dress one picture: frame -> crop -> network -> composite, in place."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import Session
from runtime import _native
from runtime.colours import anchor_colours
from runtime.framing import Framing
from runtime.garment import Garment
from runtime.matte import fade_inner_edges, matte, show_through
from runtime.smoothing import Smoothing

Pixels = NDArray[np.uint8]


class StageTimes(NamedTuple):
    """How long each stage of one frame took, in milliseconds."""

    preprocess: float
    network: float
    composite: float


@dataclass(frozen=True)
class Fitted:
    """A garment and what the network computes from it alone."""

    garment: Garment
    encoded: dict[str, NDArray[np.float32]]


def fit(session: Session, garment: Garment) -> Fitted:
    """Encode a garment. May run in another thread than the frames."""
    return Fitted(garment, session.encode(garment.image, garment.mask))


class Dresser:
    """Puts the garment worn onto pictures of one source. Used by one thread."""

    def __init__(self, session: Session, framing: Framing, smoothing: Smoothing | None) -> None:
        self._session = session
        self._framing = framing
        self._smoothing = smoothing
        self._garment: Garment | None = None

    def wear(self, fitted: Fitted) -> None:
        """Dress all following pictures in this garment."""
        self._session.wear(fitted.encoded)
        self._garment = fitted.garment
        if self._smoothing:
            self._smoothing.reset()

    def dress(self, image: Pixels) -> StageTimes:
        """Draw the try-on into `image` (uint8 [H, W, 3] BGR). On an error the image is as it was."""
        if self._garment is None:
            raise RuntimeError("no garment is worn yet")
        started = time.perf_counter()
        crop = self._framing.crop(image)
        person = np.empty((1, 3, self._session.bundle.height, self._session.bundle.width), np.float32)
        _native.preprocess(image, crop, person)
        prepared = time.perf_counter()
        outputs = self._session.run(person)
        computed = time.perf_counter()
        flow, worn = outputs["flow"], outputs["composite_mask"]
        rendered = anchor_colours(person, outputs["rendered"], worn)
        tryon = outputs["tryon"] + (1 - worn) * (rendered - outputs["rendered"])
        mask = show_through(worn, self._garment.mask, flow)
        changed = matte(person, tryon, worn)
        if self._smoothing:
            flow, mask, changed = self._smoothing(person, flow, mask, changed)
        changed = fade_inner_edges(changed, crop, *image.shape[:2])
        _native.composite(image, crop, self._garment.cloth, flow, rendered, mask, changed)
        done = time.perf_counter()
        return StageTimes(1e3 * (prepared - started), 1e3 * (computed - prepared), 1e3 * (done - computed))
