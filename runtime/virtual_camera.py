"""A camera of the system that shows what the mirror makes, for video calls and streaming programs. Linux.

The kernel's module v4l2loopback makes the device: what is written to it, other programs see as a camera.
"""

import os
import re
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError
from runtime import pictures

if sys.platform == "linux":
    import fcntl

Pixels = NDArray[np.uint8]

# linux/videodev2.h, as 64-bit systems lay it out.
FORMAT = struct.Struct("I4x2I4s9I152x")  # kind of buffer, width, height, pixel format, the driver's answers
GET_FORMAT, SET_FORMAT = (3 << 30 | FORMAT.size << 16 | ord("V") << 8 | number for number in (4, 5))
OUTPUT = 2  # the kind of buffer
I420 = b"YU12"  # what every program reads: planes of Y, and of U and V at half the size


def device(text: str) -> Path:
    """The device that is meant by its number or its path."""
    return Path(f"/dev/video{text}" if re.fullmatch(r"\d+", text) else text)


class VirtualCamera:
    """Pictures into a device; the first one decides its size. Used by one thread."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where `path` takes no pictures."""
        if sys.platform != "linux":
            raise InputError("--virtual-camera needs Linux; elsewhere use --web and OBS (docs/mirror.md)")
        if not path.exists():
            number = path.name.removeprefix("video")
            load = f"sudo modprobe v4l2loopback video_nr={number if number.isdigit() else 9} exclusive_caps=1"
            raise InputError(f"there is no {path}; {load}")
        self.path = path
        self._size: tuple[int, int] | None = None  # that of the first picture, or the device's own
        try:
            self._file = os.open(path, os.O_RDWR)
        except OSError as error:
            raise InputError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            # Not the capabilities: v4l2loopback no longer tells of this one once it was written to.
            fcntl.ioctl(self._file, GET_FORMAT, FORMAT.pack(OUTPUT, 0, 0, b"", *[0] * 9))
        except OSError:
            os.close(self._file)
            raise InputError(f"{path} takes no pictures: it is not v4l2loopback's device") from None

    def show(self, image: Pixels) -> None:
        """Show a picture, uint8 [H, W, 3] BGR. Raises InputError where the device does not take it."""
        try:
            if self._size is None:
                self._size = self._accepted(*pictures.even_size(image))
            fitted = pictures.fit_inside(image, *self._size)
            os.write(self._file, cv2.cvtColor(fitted, cv2.COLOR_BGR2YUV_I420).data)
        except OSError as error:
            raise InputError(f"{self.path} takes no pictures any more: {error.strerror}") from error

    def close(self) -> None:
        """Leave the device to others."""
        os.close(self._file)

    def _accepted(self, width: int, height: int) -> tuple[int, int]:
        """The size that the device takes where it is asked for this one, as it may have one already."""
        wanted = FORMAT.pack(OUTPUT, width, height, I420, 1, width, width * height * 3 // 2, *[0] * 6)
        _, width, height, pixels, *_ = FORMAT.unpack(fcntl.ioctl(self._file, SET_FORMAT, wanted))
        if pixels != I420 or width % 2 or height % 2:
            code = pixels.decode(errors="replace")
            raise InputError(f"{self.path} takes pictures of {width}x{height} in {code} alone, not in I420")
        return width, height
