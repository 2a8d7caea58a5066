"""Where frames come from: a camera, a video file, a stream, pictures. `open_source("0")`."""

import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.picture_files import opencv_name
from engines.program import InputError
from runtime import pictures

Pixels = NDArray[np.uint8]

log = logging.getLogger(__name__)

DEVICES = Path("/sys/class/video4linux")  # where Linux lists cameras
LONGEST_GAP_S = 2.0  # of a film: a picture that stands longer is held for so long
BROKEN = 5  # pictures in a row until a camera counts as gone


@dataclass
class Frame:
    """A picture, uint8 [H, W, 3] BGR, its number, and when it was taken (monotonic clock, seconds).

    scene: another number than the frame before has nothing in common with it. at: seconds since its film
    began, where it is of one, however fast that is read.
    """

    image: Pixels
    index: int
    captured_at: float = field(default_factory=time.monotonic)
    scene: int = 0
    at: float | None = None


class SourceLost(Exception):  # noqa: N818 - it may pass
    """Nothing comes just now; reading again later may succeed. The message is for the screen."""


class Source(ABC):
    """Frames one after another. Read by one thread; `close` may come from another one while it reads.

    `fps` is the pace of the frames, `length` their number; None where that is not known. `copies`: how often
    a recording that takes every frame holds each; None where the frames' times tell.
    """

    fps: float | None = None
    length: int | None = None
    copies: int | None = None

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, None at the end. Raises SourceLost."""

    def close(self) -> None:  # noqa: B027 - nothing to free is common
        """Free the device or file."""


class Camera(Source):
    """A camera or network stream; opened again whenever it was lost."""

    def __init__(self, address: int | str, called: str | None = None) -> None:
        """address: an index, or an RTSP or HTTP address. Raises InputError where nothing answers.

        called: a part of its name, by which it is found again should its index have changed.
        """
        self.name = public_name(address) if isinstance(address, str) else f"camera {called or address}"
        self._address = address
        self._called = called
        self._index = 0
        self._times: deque[float] = deque(maxlen=60)
        self._lock = threading.Lock()
        self._capture = self._open()
        if self._capture is None:
            raise InputError(f"{self.name} cannot be opened: it is missing, in use, or not allowed{listed()}")
        # How many an address holds that is no camera's but a film's.
        self.frames = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if isinstance(address, str) else 0

    @property
    def measured_fps(self) -> float | None:
        """The rate at which frames really come; what cameras claim is often wrong."""
        times = self._times.copy()  # the reading thread may empty it at any time
        if len(times) < 10 or times[-1] <= times[0]:
            return None
        return (len(times) - 1) / (times[-1] - times[0])

    def read(self) -> Frame:
        with self._lock:
            if self._capture is None:
                self._capture = self._open()
            if self._capture is None:
                raise SourceLost(f"{self.name} is gone, trying again")
            frame = self._picture(self._capture)
            if frame is None:
                self._capture.release()
                self._capture = None
                self._times.clear()
                raise SourceLost(f"{self.name} is gone, trying again")
        self._index += 1
        self._times.append(frame.captured_at)
        return frame

    def _picture(self, capture: cv2.VideoCapture) -> Frame | None:
        """The next picture that can be decoded; None where none comes, or only broken ones."""
        for _ in range(BROKEN):
            with suppress(cv2.error):  # as of an empty buffer where a picture should be
                if not capture.grab():
                    return None
                taken = time.monotonic()  # what the camera compressed is decoded after that
                got, image = capture.retrieve()
                if got and image is not None and image.size:
                    return Frame(np.asarray(image, np.uint8), self._index, taken)
        return None

    def close(self) -> None:
        with self._lock:
            if self._capture is not None:
                self._capture.release()
                self._capture = None

    def _open(self) -> cv2.VideoCapture | None:
        if self._called is not None and cameras():
            found = cameras_called(self._called)
            if not found:  # whatever has its index now is another one
                return None
            self._address = found[0]
        if isinstance(self._address, str):
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
            capture = cv2.VideoCapture(opencv_name(self._address), cv2.CAP_FFMPEG, limits)
        else:
            # OpenCV takes the hundreds of a number for a backend, unless told one: 203 would be camera 3.
            backend = cv2.CAP_ANY if self._address < 100 else cv2.CAP_V4L2
            capture = cv2.VideoCapture(self._address, backend)
            # Uncompressed frames of more than 640x480 do not fit through USB 2 at full rate.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, 1280)
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, 720)
        # With one alone, the driver has nowhere to put the frame that comes while the last is decoded.
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 2)
        if capture.isOpened():
            return capture
        capture.release()
        return None


class VideoFile(Source):
    """A video file: every frame as fast as it is taken, or in real time, slower where decoding is.

    A frame's time is what the file says, since phones and screen recorders keep no constant rate.
    """

    def __init__(self, path: Path, realtime: bool) -> None:
        """Raises InputError where the file is no video."""
        self._path = path
        # Absolute, since FFmpeg takes what stands before a colon for a protocol: 12:30.mp4.
        self._capture = cv2.VideoCapture(opencv_name(path.absolute()))
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = rate if 1 <= rate <= 1000 else 30.0
        self._position: float | None = None  # of the last frame decoded, in seconds, as the file tells
        self._began = 0.0  # the first one's
        self._gap = 1 / self.fps  # between the last two
        self._at = 0.0
        self._ahead: deque[tuple[Pixels, float]] = deque()  # two frames, to see whether the second is due
        self._decode()
        if not self._ahead:
            begin = b"?"
            if path.is_file():  # what a pipe holds might never come
                with path.open("rb") as file:
                    begin = file.read(12)
            raise InputError(f"{path} {pictures.unread(begin, video=True)}")
        self._decode()
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.length = count if count > 0 else None
        self._realtime = realtime
        self._started: float | None = None
        self._index = 0
        self._lock = threading.Lock()

    def read(self) -> Frame | None:
        with self._lock:
            if self._realtime:
                self._keep_pace()
            if not self._ahead:
                self._tell_missing()
                return None
            image, at = self._ahead.popleft()
            frame = Frame(image, self._index, at=at)
            self._index += 1
            self._decode()
            return frame

    def close(self) -> None:
        with self._lock:
            self._ahead.clear()
            self._capture.release()

    def _keep_pace(self) -> None:
        """Wait until the next frame is due, or the end; leave out those whose successors are due too."""
        now = time.monotonic()
        if self._started is None:
            self._started = now
        due = self._ahead[0][1] if self._ahead else self._at + min(self._gap, LONGEST_GAP_S)
        early = self._started + due - now
        if early > 0:
            time.sleep(early)
        while len(self._ahead) > 1 and self._started + self._ahead[1][1] < now:
            self._ahead.popleft()
            self._index += 1
            before = now
            self._decode()
            now = time.monotonic()
            lasts = self._ahead[1][1] - self._ahead[0][1] if len(self._ahead) > 1 else 0.0
            if now - before > lasts:  # frames left out are decoded too: where that is slow, so is the video
                self._started += max(0.0, now - self._started - self._ahead[0][1])
                break

    def _tell_missing(self) -> None:
        """Say so where the file is damaged: both frames and time are missing at its end.

        Where its length is held in seconds alone, its number of frames is an estimate.
        """
        if self.fps is None or self.length is None or self._position is None:
            return
        missing = self.length / self.fps - (self._position - self._began)
        if self._index < self.length - 1 and missing > 2.5 * max(self._gap, 1 / self.fps):
            log.warning("%s ends after %d of %d frames: it is damaged", self._path, self._index, self.length)

    def _decode(self) -> None:
        """Put the next frame with its time behind those decoded, unless the file ends."""
        got, image = self._capture.read()
        if not got:
            return
        assert self.fps is not None
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3
        if self._position is None:
            self._began = self._position = position
        else:
            rises = position > self._position  # otherwise the file does not tell
            self._gap = position - self._position if rises else 1 / self.fps
            self._position += self._gap
            self._at += min(self._gap, LONGEST_GAP_S)
        self._ahead.append((np.asarray(image, np.uint8), self._at))


class Stills(Source):
    """Pictures: each once, or (`realtime`) a slide show that starts again at its end.

    One that cannot be read, or no longer, is left out, with a line in the log.
    """

    SECONDS_EACH = 3.0
    RATE = 10.0

    def __init__(self, paths: list[Path], realtime: bool) -> None:
        """Raises InputError where none of them can be read."""
        self._paths = paths
        self._realtime = realtime
        self._turned = 0  # how many of the paths have had their turn
        self._left_out: dict[Path, InputError] = {}
        self._index = 0
        # A recording holds copies: at a third of a frame a second, some players show the first picture alone.
        self.fps = self.RATE
        self.copies = None if realtime else round(self.RATE * self.SECONDS_EACH)
        self.length = None if realtime else len(paths)
        self._picture = self._turn()
        if self._picture is None:
            raise self._left_out[paths[0]]

    def read(self) -> Frame | None:
        if self._picture is None:
            return None
        # A slide show gives the same picture again and again, so that a change of garment shows at once.
        if self._realtime and self._index:
            time.sleep(1 / self.RATE)
            if len(self._paths) > 1 and self._index % round(self.RATE * self.SECONDS_EACH) == 0:
                following = self._turn()
                self._picture = self._picture if following is None else following
        frame = Frame(self._picture.copy(), self._index, scene=self._turned, at=self._index / self.RATE)
        self._index += 1
        if not self._realtime:
            self._picture = self._turn()
        return frame

    def _turn(self) -> Pixels | None:
        """The next picture that can be read; None where no other can."""
        last = self._turned + len(self._paths) if self._realtime else len(self._paths)
        while self._turned < last:
            path = self._paths[self._turned % len(self._paths)]
            self._turned += 1
            try:
                return pictures.read_on_white(path)
            except InputError as error:
                # Of one alone it is the error raised.
                if path not in self._left_out and len(self._paths) > 1:
                    log.warning("left out: %s", error)
                self._left_out[path] = error
        return None


def files(text: str) -> list[Path]:
    """The files that a source reads, where it is a file or a folder of pictures; see `open_source`."""
    path = Path(text)
    if path.is_dir():
        return [file for file in path.iterdir() if file.is_file()]
    return [path]


def public_name(address: str) -> str:
    """An address for everybody's eyes: protocol and host, since all the rest may be secret.

    The protocol alone where an @ comes late: nobody knows whether a password has a slash or a path has the @.
    """
    protocol, mark, rest = address.partition("://")
    if not mark:
        return address
    host, *later = re.split(r"[/?#]", rest, maxsplit=1)
    return f"{protocol} stream" if "@" in "".join(later) else protocol + mark + host.rpartition("@")[2]


def cameras() -> dict[int, str]:
    """Names of the cameras by their index, where the system tells them, as Linux does."""
    found = {}
    for device in DEVICES.glob("video*"):
        number = device.name.removeprefix("video")
        with suppress(OSError, ValueError):  # a camera just pulled out
            # A camera's second device gives no pictures but what is known about them.
            if int((device / "index").read_text()) == 0:
                found[int(number)] = (device / "name").read_text().strip()
    return dict(sorted(found.items()))


def cameras_called(text: str) -> list[int]:
    """Indices of the cameras with this text in their names, whatever its case, or of this device's path."""
    device = re.fullmatch(r"/dev/video(\d+)", os.path.realpath(text))
    if device:  # also by a link, as /dev/v4l/by-path has for the camera of each socket
        return [int(device[1])]
    return [index for index, name in cameras().items() if text.casefold() in name.casefold()]


def listed() -> str:
    """The end of a sentence about cameras: those that there are, as far as the system tells."""
    found = [f"{index} ({name})" for index, name in cameras().items()]
    return f"; there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else ""


def _stream(address: str) -> Camera:
    camera = Camera(address)
    if camera.frames > 0:  # read as fast as they come, again and again
        camera.close()
        raise InputError(
            f"{camera.name} sends a film of {camera.frames} frames, no live stream: give it as a file"
        )
    return camera


def open_source(text: str, realtime: bool) -> Source:
    """Open a camera by index or name, a live stream (RTSP or HTTP), a video, a picture, or a folder of them.

    realtime: files play at their own pace, as for a screen, instead of as fast as their frames are taken.
    Raises InputError.
    """
    if re.fullmatch(r"\d{1,9}", text):
        return Camera(int(text))
    if re.fullmatch(r"-?\d+", text):
        raise InputError(f"there is no camera {text}: cameras are numbered from 0")
    if re.match(r"(rtsp|rtsps|http|https)://", text, re.IGNORECASE):
        return _stream(text)
    path = Path(text)
    if path.is_dir():
        return Stills(pictures.listing(path), realtime)
    if not path.is_file():
        found = cameras_called(text)
        if len(found) == 1:
            return Camera(found[0], called=text)
        count = "is no camera, file or folder" if not found else "are several cameras called"
        raise InputError(f"there {count} {text}{listed()}")
    if path.suffix.lower() in pictures.SUFFIXES:
        return Stills([path], realtime)
    return VideoFile(path, realtime)
