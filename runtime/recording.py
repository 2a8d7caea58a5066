"""Write a video; it gets its name when it is whole."""

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.picture_files import opencv_name
from engines.program import InputError
from engines.sole_writer import lock
from engines.whole_file import check_writable, partial_path, put_on_disk
from runtime import pictures

Pixels = NDArray[np.uint8]

# A camera that was away longer leaves a cut: what fills a gap is written in one go, which takes its time.
LONGEST_GAP_S = 2.0
RESERVE_BYTES = 64 << 20  # of the disk; a recording ends before, while its index can still be written
LONGEST_MPEG4 = 8191  # pixels
CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


class Recorder:
    """Frames into a video file of constant rate and the size of the first frame. Used by one thread."""

    def __init__(self, path: Path, fps: float, copies: int | None) -> None:
        """copies: how often each frame is written; None: as often, or not, as keeps the time.

        Raises InputError where the file cannot be written.
        """
        check_target(path)
        self.path = path
        self._target = path.resolve()  # a symbolic link stays
        self._fps = writable_rate(fps)
        self._copies = copies
        # Absolute, since FFmpeg takes what stands before a colon for a protocol: 12:30.mp4.
        self._whole = partial_path(self._target)
        self._writer: cv2.VideoWriter | None = None
        self._claim: IO[bytes] | None = None  # on the file, while it is written
        self._size = (0, 0)
        self._started = 0.0
        self._written = 0
        self._last: Pixels | None = None  # as recorded

    def add(self, image: Pixels, at: float | None = None) -> None:
        """Write a frame, uint8 [H, W, 3] BGR, taken `at` this time in seconds; by default, now.

        Raises InputError where it cannot be written; `finish` keeps what came before.
        """
        at = time.monotonic() if at is None else at
        if self._writer is None:
            self._claim = claim(self._whole, self.path)
            self._started = at
            self._size = pictures.even_size(image)
            codec = cv2.VideoWriter.fourcc(*CODECS[self._target.suffix.lower()])
            self._writer = cv2.VideoWriter(str(self._whole), codec, self._fps, self._size)
            if not self._writer.isOpened():
                self.abandon()
                raise InputError(f"{self.path} cannot be written: {self._refused()}")
        copies = self._copies
        if copies is None:
            due = (at - self._started) - self._written / self._fps
            self._started += max(0.0, due - LONGEST_GAP_S)
            copies = max(0, round((at - self._started) * self._fps) + 1 - self._written)
        if free_bytes(self._target) < RESERVE_BYTES:
            raise InputError(f"{self.path} ends here: its disk has less than {RESERVE_BYTES >> 20} MB free")
        latest = pictures.fit_inside(image, *self._size)
        before = latest if self._last is None or self._copies is not None else self._last
        for k in range(copies):
            self._writer.write(latest if k == copies - 1 else before)
        self._written += copies
        self._last = latest

    def _refused(self) -> str:
        """Why the video cannot be begun."""
        if max(self._size) > LONGEST_MPEG4 and CODECS[self._target.suffix.lower()] == "mp4v":
            width, height = self._size
            return f"MPEG-4 ends at {LONGEST_MPEG4} pixels a side, and this has {width}x{height}; take .avi"
        return "OpenCV has no video encoder for it"

    def finish(self) -> Path | None:
        """Close the video and give it its name; None where it has no frame. Finishing twice is harmless.

        Raises InputError where the file is not whole, since OpenCV does not say so while it writes, or cannot
        take its name, as when its folder has vanished.
        """
        if self._writer is None:
            return None
        if not self._written:
            self.abandon()
            return None
        self._writer.release()
        if not self._is_whole():
            self.abandon()
            raise InputError(f"cannot write {self.path} whole: is its disk full, or its folder gone?")
        try:
            put_on_disk(self._whole)
            self._whole.replace(self._target)
        except OSError as error:
            kept = f"; the video is kept as {self._whole}" if self._whole.exists() else ""
            raise InputError(f"cannot write {self.path}: {error.strerror}{kept}") from error
        finally:
            self._let_go()
        self._writer = None
        return self.path

    def _is_whole(self) -> bool:
        video = cv2.VideoCapture(str(self._whole))
        # Cut short, an AVI lacks the count, Matroska the last frame, and MP4 does not open. Where the length
        # is held in seconds alone the count may be off by one.
        count = video.get(cv2.CAP_PROP_FRAME_COUNT) if video.isOpened() else 0
        whole = (
            0 < self._written <= count + 1
            and video.set(cv2.CAP_PROP_POS_FRAMES, count - 1)
            and video.read()[0]
        )
        video.release()
        return whole

    def abandon(self) -> None:
        """Leave nothing behind."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            with suppress(OSError):  # a disk that has failed, or became read-only, refuses this too
                self._whole.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def claim(file: Path, path: Path) -> IO[bytes] | None:
    """Keep other programs from recording into `file`, which is to become `path`, until it is closed.

    Raises InputError where one does. Windows has no locks that FFmpeg could write past: None.
    """
    if sys.platform == "win32":
        return None
    try:
        held = file.open("ab")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    if not lock(held.fileno()):
        held.close()
        raise InputError(f"{path} is being recorded by another program; write to another name")
    return held


def writable_rate(fps: float) -> float:
    """The rate with as many decimals as every format takes: MP4's is a fraction of numbers up to 65535."""
    return round(fps, 3 if fps < 65 else 2 if fps < 655 else 1)


def check_target(path: Path) -> None:
    """Raise InputError where no video can be written to `path`."""
    if path.suffix.lower() not in CODECS:
        raise InputError(f"{path} is no video name; use one of {', '.join(CODECS)}")
    check_writable(path)
    target = path.resolve()
    if target.suffix.lower() not in CODECS:
        raise InputError(f"{path} leads to {target}, which is no video name; use one of {', '.join(CODECS)}")
    opencv_name(target)
    if free_bytes(target) < RESERVE_BYTES:
        raise InputError(f"cannot record {path}: its disk has less than {RESERVE_BYTES >> 20} MB free")


def free_bytes(file: Path) -> int:
    """What is free of the disk that a file will lie on, or all that is needed where its folder is gone."""
    try:
        return shutil.disk_usage(file.parent).free
    except OSError:  # which `Recorder.finish` says
        return RESERVE_BYTES
