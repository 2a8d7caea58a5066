"""Which files of a folder are pictures: one answer for training, evaluation, export and the mirror."""

import functools
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
# Pictures all the same, but not for every version of OpenCV.
OTHERS = frozenset({".avif", ".dng", ".gif", ".heic", ".heif", ".jxl", ".svg"})
NAMED = 5  # of the files left out

log = logging.getLogger(__name__)


def decoded(path: Path, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any] | None:
    """A picture as OpenCV decodes it by its flags, by default as stored; None where it is missing or none.

    On Windows `cv2.imread` finds no file with other letters than ASCII's in its path.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, flags) if data.size else None


def opencv_name(name: str | Path) -> str:
    """A path or an address for OpenCV to open. Raises InputError for bytes that are no text.

    Such names, as of archives and drives of older systems, end the process inside OpenCV.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{str(name)!r} has bytes that are not UTF-8, which OpenCV cannot open: rename it, or its folder"
        ) from error
    return str(name)


def check_suffix(path: Path) -> None:
    """Raise InputError where OpenCV writes no pictures with this suffix."""
    suffix = path.suffix.lower()
    # OpenCV writes no bytes to .exr, and raises where it is switched off, as it is until one is read. What it
    # writes to .pfm are numbers of another scale.
    if not suffix.isascii() or suffix in (".exr", ".pfm") or not cv2.haveImageWriter(f"picture{suffix}"):
        raise InputError(f"{path} has no picture suffix such as .png or .jpg")


def like(path: Path) -> Path | None:
    """The file of this path, or the one beside it whose suffix differs in upper and lower case alone."""
    if path.is_file():
        return path
    try:
        names = _by_suffix(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:  # there is no such folder
        return None
    name = names.get((path.stem, path.suffix.lower()))
    return path.with_name(name) if name else None


@functools.lru_cache(maxsize=16)
def _by_suffix(folder: Path, changed: int) -> dict[tuple[str, str], str]:  # noqa: ARG001 - tells states apart
    """Names of a folder's files by stem and suffix in lower case."""
    return {(path.stem, path.suffix.lower()): path.name for path in folder.iterdir() if is_file(path)}


def is_file(path: Path) -> bool:
    """Whether it is a file that can be looked at: one that cannot hides no other of its folder."""
    try:
        return path.is_file()
    except OSError:
        return False


def listing(folder: Path) -> list[Path]:
    """The pictures in a folder as `find` finds them; those left out are told in the log."""
    found, left_out = find(folder)
    if left_out:
        log.warning("%s", left_out)
    return found


def find(folder: Path) -> tuple[list[Path], str]:
    """The pictures in a folder, by name, without hidden ones; and what to say of those in other formats.

    What to say is one sentence, empty where nothing is left out. Raises OSError for a folder that cannot be
    read.
    """
    files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_file(path))
    found = [path for path in files if path.suffix.lower() in SUFFIXES]
    others = [path.name for path in files if path.suffix.lower() in OTHERS]
    if not others:
        return found, ""
    more = f" and {len(others) - NAMED} more" if len(others) > NAMED else ""
    return found, f"left out of {folder}: {', '.join(others[:NAMED])}{more}; save as JPEG or PNG"
