"""Capture and try-on, each in its own thread, over slots that hold one frame."""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.dresser import Begun, Dresser, Fitted, StageTimes
from runtime.garment import Garment
from runtime.notices import Notices
from runtime.slot import Closed, Slot
from runtime.sources import Camera, Frame, Source, SourceLost
from runtime.view import View
from runtime.wardrobe import Wardrobe

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

RETRY_S = 0.5
FAILING_S, REOPEN_S = 3.0, 10.0  # of an engine, until it is opened anew; between two tries
CLOSING_S = 12.0  # for threads to end, of which a stream takes up to ten to be opened and give up
DARK = 12  # of 255: as bright as the brightest spot of a covered lens gets


@dataclass(frozen=True)
class Result:
    """A frame as the camera saw it and as it was dressed.

    image, camera: uint8 [H, W, 3] BGR. at: when it was taken, in seconds of its film or else of the monotonic
    clock, of which captured_at always is. times: None where `image` is the camera's, since the try-on
    `failed` or nobody was there. latency_ms: from capture to composited.
    """

    index: int
    image: Pixels
    camera: Pixels
    garment: Garment | None
    times: StageTimes | None
    captured_at: float
    at: float
    latency_ms: float
    failed: bool = False


class Pipeline:
    """Frames of a source, dressed, in `results`.

    lossless: every frame is dressed and the source waits; otherwise the newest frame wins, older ones drop.
    view: turns and cuts every frame first.
    Trouble that may pass (camera gone, engine error, broken garment) stands in `notices` and does not end it.
    """

    def __init__(
        self,
        source: Source,
        dresser: Dresser,
        wardrobe: Wardrobe,
        notices: Notices,
        lossless: bool,
        view: View | None = None,
    ) -> None:
        self.results: Slot[Result] = Slot()
        self.notices = notices
        self._frames: Slot[Frame] = Slot()
        self._source = source
        self._dresser = dresser
        self._wardrobe = wardrobe
        self._lossless = lossless
        self._view = view or View()
        self._fitted: Fitted | None = None  # to be put on with the next frame
        self._garment: Garment | None = None
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._failing_since: float | None = None
        self._reopened = -REOPEN_S
        # Daemons, since a driver or a network drive may never return from a call.
        capture = functools.partial(self._guard, self._capture, self._frames)
        try_on = functools.partial(self._guard, self._try_on, self.results)
        self._threads = [
            threading.Thread(target=capture, name="capture", daemon=True),
            threading.Thread(target=try_on, name="try-on", daemon=True),
        ]

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were dressed or shown."""
        return self._frames.dropped + self.results.dropped

    def start(self) -> None:
        """Start all threads."""
        self._wardrobe.start()
        for thread in self._threads:
            thread.start()

    def next(self, timeout_s: float) -> Result | None:
        """The next result, None when none came in time.

        Raises Closed after the last one, and the cause where a thread has died.
        """
        try:
            return self.results.get(timeout_s)
        except Closed:
            if self._failure is not None:
                raise self._failure from None
            raise

    def stop(self) -> None:
        """Stop and join all threads that do not hang; close the source. Stopping twice is harmless."""
        self._stopping.set()
        self._frames.close()
        self.results.close()
        latest = time.monotonic() + CLOSING_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, latest - time.monotonic()))
        self._wardrobe.close()
        if self.hangs:
            log.warning("%s does not answer: the end does not wait for it", " and ".join(self.hangs))
        if "capture" not in self.hangs:
            self._source.close()

    @property
    def hangs(self) -> list[str]:
        """Names of the threads that have not ended although they were stopped."""
        return [thread.name for thread in self._threads if self._stopping.is_set() and thread.is_alive()]

    def _guard(self, work: Callable[[], None], output: Slot[Frame] | Slot[Result]) -> None:
        """Run a thread's work; however it ends, the next stage learns of it at once."""
        try:
            work()
        except Closed:
            pass  # the stage before has ended, or everything is stopping
        except BaseException as error:
            self._failure = error
        finally:
            output.close()

    def _capture(self) -> None:
        leave = self._frames.put_when_free if self._lossless else self._frames.put
        while not self._stopping.is_set():
            try:
                frame = self._source.read()
            except SourceLost as lost:
                self.notices.set("camera", str(lost))
                self._stopping.wait(RETRY_S)
                continue
            self.notices.clear("camera")
            if frame is None:
                return
            if isinstance(self._source, Camera) and frame.image[::16, ::16].max() <= DARK:
                self.notices.set("light", "the picture is black: is the lens covered, or its shutter closed?")
            else:
                self.notices.clear("light")
            frame.image = self._view(frame.image)
            leave(frame)

    def _try_on(self) -> None:
        """Frames in their order. One that waits is begun before the last is drawn, or where the engine takes
        several at a time, before the last is computed."""
        leave = self.results.put_when_free if self._lossless else self.results.put
        underway: deque[_Underway] = deque()
        while True:
            if not underway:
                self._revive()
                frame = self._frames.get()
                assert frame is not None  # without a timeout
                underway.append(self._begin(frame))
            self._begin_waiting(underway)
            computed = self._computed(underway.popleft())
            if not underway:
                self._begin_waiting(underway)  # lest the engine rests while this one is drawn
            leave(self._finish(computed))

    def _begin_waiting(self, underway: deque["_Underway"]) -> None:
        """Give the engine frames that wait, as many as it takes; none ahead while it fails."""
        if self._failing_since is not None:  # nothing may be under way when it is opened anew
            return
        while len(underway) <= self._dresser.ahead and (frame := self._waiting()) is not None:
            underway.append(self._begin(frame))

    def _waiting(self) -> Frame | None:
        """The frame that waits, if one does."""
        try:
            return self._frames.get(0)
        except Closed:  # what is under way still counts
            return None

    def _begin(self, frame: Frame) -> "_Underway":
        camera = frame.image.copy()
        try:
            self._fitted = self._wardrobe.take() or self._fitted
            if self._fitted is not None:
                self._dresser.wear(self._fitted)
                self._garment, self._fitted = self._fitted.garment, None
            begun = self._dresser.begin(frame.image, frame.scene, _time(frame))
            return _Underway(frame, camera, self._garment, begun)
        except Exception as error:  # whatever an engine raises: the plain camera is shown, and it goes on
            return _Underway(frame, camera, self._garment, None, error)

    def _computed(self, underway: "_Underway") -> "_Underway":
        """The same once the network is done with it. What went wrong is told now, in the frames' order."""
        try:
            if underway.error is not None:
                raise underway.error
            if underway.begun is not None:
                self._dresser.wait(underway.begun)
        except Exception as error:
            self._failed(error)
            return replace(underway, begun=None, error=error)
        return underway

    def _finish(self, underway: "_Underway") -> Result:
        frame, times, failed = underway.frame, None, underway.error is not None
        try:
            if underway.begun is not None:
                times = self._dresser.finish(underway.begun)
            if times is not None:  # where nobody was there, the engine has shown nothing
                self._failing_since = None
                self.notices.clear("try-on")
        except Exception as error:
            self._failed(error)
            failed = True
        latency_ms = 1e3 * (time.monotonic() - frame.captured_at)
        image = frame.image if times else underway.camera
        return Result(
            frame.index,
            image,
            underway.camera,
            underway.garment,
            times,
            frame.captured_at,
            _time(frame),
            latency_ms,
            failed,
        )

    def _failed(self, error: Exception) -> None:
        log.debug("try-on failed", exc_info=True)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self.notices.set("try-on", f"try-on failed: {error}")

    def _revive(self) -> None:
        """Open an engine anew that has failed for a while: a driver that was reset, a GPU that is gone."""
        now = time.monotonic()
        if self._failing_since is None or now - self._failing_since < FAILING_S:
            return
        if now - self._reopened < REOPEN_S:
            return
        self._reopened = now
        try:
            self._dresser.reopen()
            log.warning("try-on failed for %.0f s: the engine was opened anew", now - self._failing_since)
            self._failing_since = None  # nor is it opened again before it has failed again
        except Exception as error:  # whatever a library raises: the camera is shown, and it is tried again
            self._failed(error)


@dataclass(frozen=True)
class _Underway:
    """A frame given to the engine; `begun` is None where that failed, or nobody was there."""

    frame: Frame
    camera: Pixels
    garment: Garment | None
    begun: Begun | None
    error: Exception | None = None


def _time(frame: Frame) -> float:
    """When it was taken, in seconds of a clock that goes with what it shows."""
    return frame.captured_at if frame.at is None else frame.at
