"""How a program of this package ends: as all do, `engines.program`, and OpenCV keeps quiet meanwhile."""

import os
from collections.abc import Callable, Sequence

import cv2

from engines import program


def run(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Run a command line program and return its exit code."""
    quiet_opencv()
    return program.run(main, argv)


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from waiting long, and from writing lines: our messages say what failed."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")  # seconds until a dead camera is noticed
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
