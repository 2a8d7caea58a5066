"""Files that appear whole or not at all, and whether they can be written, told before any work is done."""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engines.program import InputError


def partial_path(path: Path) -> Path:
    """Where a file is written before it takes its name: beside it, hidden, with the same suffix."""
    return path.with_name(f".{path.stem}.partial{path.suffix}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives the path to write to; that file takes the name `path` once the block ends, or goes if it fails.

    A symbolic link stays, and the file that it names is replaced. It takes the name once it is on the disk: a
    machine that loses its power has the old file or the new one. One process writes a file at a time. Raises
    OSError, which names the file.
    """
    target = path.resolve()
    partial = partial_path(target)
    try:
        if _is_special(target):
            raise FileExistsError(errno.EEXIST, "is no regular file", str(path))
        yield partial
        put_on_disk(partial)
        partial.replace(target)
    except BaseException as error:
        _name(error, path)
        with suppress(OSError):  # a read-only file system refuses this too
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError of the block that names no file is of `path`."""
    try:
        yield
    except OSError as error:
        _name(error, path)
        raise


def _name(error: BaseException, path: Path) -> None:
    """What fails while something is written, as on a full disk, does not say where."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def put_on_disk(file: Path) -> None:
    """Wait until what was written to a file would outlast a loss of power. Raises OSError."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OSError."""
    with whole_file(path) as partial:
        partial.write_bytes(data)


def check_writable(path: Path) -> None:
    """Raise InputError where no file can be written to `path`."""
    try:
        target = path.resolve()
        if target.is_dir():
            raise InputError(f"{path} is a folder, not a file to write")
        if _is_special(target):
            raise InputError(f"{path} is no regular file and would be replaced by one; write to another name")
        if not target.parent.is_dir():
            parent = target.parent if path.is_symlink() else path.parent
            raise InputError(f"cannot write {path}: there is no folder {parent}")
        with suppress(FileNotFoundError):  # only looked at: another program may be writing it
            partial_path(target).lstat()  # a name too long is none
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    except RuntimeError as error:  # before Python 3.13, of links that lead round in a circle
        raise InputError(f"cannot write {path}: {error}") from error


def _is_special(path: Path) -> bool:
    """Whether it is a device, a pipe or a socket, which a file would replace."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_folder(folder: Path) -> None:
    """Raise InputError where `folder` cannot be made, or no file written into it; makes nothing itself."""
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise InputError(f"cannot write into {folder}: {there} is a file")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}") from error


def check_apart(targets: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise InputError where a target is one of the files read, under whatever name, or another target."""
    targets = list(targets)
    names = set()
    for path in targets:
        name = os.path.realpath(path)  # unlike `Path.resolve`, takes links that lead round in a circle
        if name in names:
            raise InputError(f"{path} would be written twice; give each its own name")
        names.add(name)
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
