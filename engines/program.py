"""How every program ends: what the user can mend is one sentence on stderr, and the exit code says which end.

0: done. 1: done, and what was compared or checked is not as it should be. 2: something given cannot be used.
130: interrupted, by Ctrl-C or SIGTERM.
"""

import argparse
import functools
import io
import itertools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from engines.protocol import EngineError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

log = logging.getLogger(__name__)


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that says what and why."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors, without the usage text before them."""

    command: ClassVar[str | None] = None  # how the program was called, where `rmgn` calls it

    def __init__(self, **options: Any) -> None:
        """options: argparse's own; line breaks of the description are kept."""
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("prog", Parser.command or _module())
        super().__init__(**options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does. Raises InputError for an empty value, as of a variable that is not set."""
        given = sys.argv[1:] if args is None else list(args)
        for before, value in itertools.pairwise(["", *given]):
            if not value:
                raise InputError(f"{before if before.startswith('-') else 'an argument'} has an empty value")
            if re.fullmatch(r"--[\w-]+=", value):
                raise InputError(f"{value[:-1]} has an empty value")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (--help explains)")


def _module() -> str | None:
    """`python -m MODULE` where the program was called so; None leaves the name to argparse."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {spec.name}" if spec else None


def run(
    program: Callable[[Sequence[str] | None], int | None],
    argv: Sequence[str] | None = None,
    known: tuple[type[Exception], ...] = (),
    memory: str = "close other programs",
) -> int:
    """Run a command line program and return its exit code, by default 0.

    known: errors, beside InputError, EngineError and OSError, whose message is for the user. memory: what to
    do where it runs out.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # a service may have closed them
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for as long as it lives
    # A file or pipe on Windows takes 256 kinds of characters.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    here = threading.current_thread() is threading.main_thread()  # which alone may choose
    if here and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # that would leave what is half-written
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = program(argv) or 0
        _flush()
        return code
    except KeyboardInterrupt as error:  # its text, if any, says how to go on
        print("; ".join(["interrupted", *map(str, error.args)]), file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        return tell_end(error, known, memory)
    finally:  # behind --help and errors, too: Python would try it at its end, and exit with a code of its own
        with suppress(OSError):
            _flush()


def _flush() -> None:
    """Raise OSError where standard output takes no more, unless that is since nobody reads it."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence(sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            error.filename = "standard output"
            raise


def tell_end(
    error: Exception, known: tuple[type[Exception], ...] = (), memory: str = "close other programs"
) -> int:
    """Print the error that ended a program and return the exit code; raises one that is not for the user.

    known, memory: as of `run`.
    """
    # An OSError, as of no access, a name too long or a full disk, names the file.
    sentence = _out_of_memory(error, memory)
    if sentence is None and not isinstance(error, (InputError, EngineError, OSError, *known)):
        raise error
    with suppress(OSError):  # of a terminal that is closed: the exit code still tells
        print(f"error: {sentence or told(error)}", file=sys.stderr)
    return EXIT_BAD_INPUT


def say(sentence: str) -> None:
    """Print to standard output, unless nobody reads that any more or its disk is full."""
    try:
        print(sentence, flush=True)
    except OSError:  # nor is the rest tried again when Python ends
        silence(sys.stdout.fileno())


def silence(*streams: int) -> None:
    """Let what is written to these file descriptors go nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


def end_at_once(_signal: int, _frame: object) -> None:
    """Ctrl-C while a program is still imported: nothing is begun yet, and Python's imports may hang on it."""
    os.write(2, b"interrupted\n")
    os._exit(EXIT_INTERRUPTED)


@functools.cache
def warn_once(sentence: str) -> None:
    """Write a sentence to the log, unless it was written before or is empty."""
    if sentence:
        log.warning("%s", sentence)


def pasted(path: Path) -> str:
    """A path as a part of a command to be pasted, in shells of all systems."""
    return f'"{path}"' if " " in str(path) else str(path)


def told(error: BaseException) -> str:
    """What an error says, without the traceback that a DataLoader puts before it when a worker raised it."""
    text = str(error)
    caught = re.match(r"Caught (\w+) in .*\n", text)
    if caught is None:
        return text
    behind = text.rpartition('\n  File "')[2]  # the traceback's last entry, then the error
    message = re.search(rf"^(?:[\w.]+\.)?{caught[1]}: (.*)", behind, re.MULTILINE | re.DOTALL)
    return message[1].rstrip() if message else text.rstrip().rpartition("\n")[2]


def _out_of_memory(error: Exception, advice: str) -> str | None:
    """A sentence for an error that tells of too little memory, None for any other."""
    # By name, since a program that runs without PyTorch does not import it for its errors.
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return f"the GPU has too little memory ({str(error).partition('. ')[0]}): {advice}"
    # PyTorch's and OpenCV's own words for what the system does not give.
    if isinstance(error, MemoryError) or re.search(r"can't allocate memory|Insufficient memory", str(error)):
        return f"there is too little memory: {advice}"
    if re.search(r"unable to allocate shared memory|DataLoader timed out", str(error)):
        return (
            "processes of --workers hand nothing on, as where shared memory (/dev/shm) is full: give it more "
            "(docker run --shm-size=1g), or take --workers 0 or 1"
        )
    # The system kills a process of many gigabytes without a reason given.
    if isinstance(error, BrokenProcessPool) or re.match(r"DataLoader worker .*(killed|exited)", str(error)):
        return f"a process of --workers was killed, as where memory runs out: take fewer, or {advice}"
    return None
