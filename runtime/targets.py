"""Where results may be written: told before any work is done."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2

from engines.program import InputError
from engines.whole_file import check_writable


def check_picture(path: Path) -> None:
    """Raise InputError where no picture can be written to `path`."""
    if not cv2.haveImageWriter(path.name):
        raise InputError(f"{path} has no picture suffix such as .png or .jpg")
    check_writable(path)


def check_apart(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError where a target is one of the files read, under whatever name, or another target."""
    targets = list(targets)
    if len({path.absolute() for path in targets}) < len(targets):
        raise InputError(f"{targets[0]} would be written twice; give each its own name")
    read = {file for _, file in _present(inputs)}
    for path, file in _present(targets):
        if file in read:
            raise InputError(f"{path} is read here and would be overwritten; write to another name")


def _present(paths: Iterable[Path]) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Those of the paths that are there, and what `Path.samefile` knows each by."""
    for path in paths:
        with suppress(OSError):  # such as an address; what should be there is told where it is opened
            about = path.stat()
            yield path, (about.st_dev, about.st_ino)
