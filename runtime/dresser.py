"""Dress one picture: frame -> crop -> network -> composite, in place."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines import EngineError, Session
from runtime import _native, cloth
from runtime.colours import anchor_colours, continue_wall
from runtime.detail import detail_share
from runtime.framing import Crop, Framing
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


@dataclass
class Begun:
    """A picture whose try-on is under way, in the garment worn when it was begun.

    rest: how often nobody had been there before. Nothing of the pictures before a rest holds after it.
    """

    image: Pixels
    scene: int
    crop: Crop
    person: NDArray[np.float32]
    garment: Garment
    rest: int
    collect: Callable[[], dict[str, NDArray[np.float32]]]
    preprocess_ms: float
    outputs: dict[str, NDArray[np.float32]] | None = None  # once they are there
    network_ms: float = 0.0


class Dresser:
    """Puts the garment worn onto pictures of one source. Used by one thread."""

    def __init__(
        self, session: Session, framing: Framing, smoothing: Smoothing | None, idle_s: float | None = None
    ) -> None:
        """idle_s: for how long nobody may be seen until pictures stay as they are; None for ever."""
        self._idle_s = idle_s
        self._session = session
        self._framing = framing
        self._smoothing = smoothing
        self._garment: Garment | None = None
        self._rests = 0
        self._shown: Garment | None = None  # of the last picture finished
        self._when = (0, 0, (0, 0))  # its scene and rest, and the picture's height and width
        self._level: int | None = None  # of the cloth, likewise

    @property
    def ahead(self) -> int:
        """How many further pictures may be begun before the first is computed; 0 where that gains nothing."""
        return self._session.tryon.in_flight - 1

    def wear(self, fitted: Fitted) -> None:
        """Dress all pictures begun from now on in this garment."""
        self._session.wear(fitted.encoded)
        self._garment = fitted.garment

    def reopen(self) -> None:
        """Open the engine anew; see engines.Session.reopen."""
        self._session.reopen()

    def dress(self, image: Pixels, at: float | None = None) -> StageTimes | None:
        """Draw the try-on into `image` (uint8 [H, W, 3] BGR). On an error the image is as it was.

        None where nobody has been there for long. at: when it was taken; see `runtime.framing.Framing.crop`.
        """
        begun = self.begin(image, at=at)
        return None if begun is None else self.finish(begun)

    def begin(self, image: Pixels, scene: int = 0, at: float | None = None) -> Begun | None:
        """Give a picture to the network, which computes beside what comes next on this thread.

        None where nobody has been there for long. scene, at: see `runtime.framing.Framing.crop`.
        """
        if self._garment is None:
            raise RuntimeError("no garment is worn yet")
        if image.ndim != 3:
            raise ValueError(f"a frame must be uint8 [H, W, 3], not {image.dtype} {image.shape}")
        started = time.perf_counter()
        crop = self._framing.crop(image, scene, at)
        if self._idle_s is not None and self._framing.alone_s > self._idle_s:
            self._rests += 1
            return None
        person = np.empty((1, 3, self._session.bundle.height, self._session.bundle.width), np.float32)
        _native.preprocess(image, crop, person)
        preprocess_ms = 1e3 * (time.perf_counter() - started)
        collect = self._session.begin(person)
        return Begun(image, scene, crop, person, self._garment, self._rests, collect, preprocess_ms)

    def wait(self, begun: Begun) -> dict[str, NDArray[np.float32]]:
        """What the network computed of a begun picture, once it has.

        Raises what the engine raises, and EngineError for numbers that would spoil the whole picture.
        """
        if begun.outputs is None:
            outputs = begun.collect()
            begun.network_ms = self._session.tryon.run_ms
            check_finite(outputs)
            begun.outputs = outputs
        return begun.outputs

    def finish(self, begun: Begun) -> StageTimes:
        """Draw the try-on into a begun picture, in the order in which they were begun."""
        person, garment, crop = begun.person, begun.garment, begun.crop
        outputs = self.wait(begun)
        computed = time.perf_counter()
        flow, worn = outputs["flow"], outputs["composite_mask"]
        rendered = anchor_colours(person, outputs["rendered"], worn)
        tryon = outputs["tryon"] + (1 - worn) * (rendered - outputs["rendered"])
        mask = show_through(worn, garment.mask, flow)
        changed = matte(person, rendered, tryon, worn)
        when = (begun.scene, begun.rest, begun.image.shape[:2])  # a camera may change its size
        anew = garment is not self._shown or when != self._when
        if self._smoothing:
            if anew:
                self._smoothing.reset()
            flow, mask, changed = self._smoothing(person, flow, mask, changed)
        self._shown, self._when = garment, when
        changed = fade_inner_edges(changed, crop, *begun.image.shape[:2])
        finer = cloth.reduction(flow, mask, garment.cloths[0].shape[:2], (crop[3], crop[2]))
        self._level = cloth.level(finer, None if anew else self._level, len(garment.cloths))
        pixels = garment.cloths[self._level or 0]
        rendered = continue_wall(person, rendered, changed)
        share = detail_share(person, rendered)
        _native.composite(begun.image, crop, pixels, flow, rendered, person, share, mask, changed)
        done = time.perf_counter()
        return StageTimes(begun.preprocess_ms, begun.network_ms, 1e3 * (done - computed))


def check_finite(outputs: dict[str, NDArray[np.float32]]) -> None:
    """Raise EngineError where what a network drew is not finite, as when it overflows in half precision.

    One such number spreads through blurs over the whole picture. Of the flow, it hides a spot of the garment.
    """
    for name, values in outputs.items():
        finite = np.isfinite(values)
        if not (finite.any() if name == "flow" else finite.all()):
            raise EngineError(
                f"numbers of {name} that the engine computes are infinite or none; take another --engine, or "
                "a float32 bundle"
            )
