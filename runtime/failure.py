"""How a program of this package ends when its input is at fault: one sentence on stderr, exit code 2."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import cv2

from engines import EngineError

EXIT_BAD_INPUT = 2


class InputError(Exception):
    """Something the user gave cannot be used; the message is one sentence that says what and why."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors, without the usage text before them."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help explains)")


def run(program: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> int:
    """Run a command line program and return its exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    quiet_opencv()
    try:
        program(argv)
    except (InputError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except OSError as error:  # no access, a name too long, a full disk: it names the file
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def quiet_opencv() -> None:
    """Keep OpenCV and FFmpeg from waiting long, and from writing lines: our messages say what failed."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")  # seconds until a dead camera is noticed
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
