"""Ctrl-C and SIGTERM as a request to end in order, which the main loop looks at between its steps."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # of a terminal; of a job scheduler or container


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether a stop was asked for; a second request stops at once.

    Outside the main thread, which alone may handle signals, nothing is asked.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    handles = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ask) for number in SIGNALS} if handles else {}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_to_parent(worker: int) -> None:  # noqa: ARG001 - the number that a DataLoader gives
    """Let a worker process outlive a Ctrl-C in its terminal: the parent ends it when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
