"""One program at a time fills a folder: a second training of the same run would ruin both."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.program import InputError

if sys.platform != "win32":  # which locks no folders
    import fcntl

_held: set[int] = set()  # descriptors of the folders that this process writes into


def lock(descriptor: int) -> bool:
    """Keep what is open from other programs until it is closed; False where one has it.

    Windows and some network drives know no such locks: True.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a folder, which is there, for the block. Raises InputError where another program has it.

    The system lets go of it however the program ends. On Windows, and on drives that know no locks, nothing
    is held.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        if not lock(descriptor):
            raise InputError(
                f"another program is writing into {folder}: wait for its end, or take another folder"
            )
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _let_go() -> None:
    """In a worker, which may outlive the program that was killed."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)
