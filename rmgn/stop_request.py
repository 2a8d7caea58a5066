"""Ctrl-C and SIGTERM as a request to end in order, which the main loop looks at between its steps."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # of a terminal; of a job scheduler or container


@contextlib.contextmanager
def stop_request() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether a stop was asked for; the same signal again stops at once.

    Signals that are ignored stay so, as Ctrl-C is in the background of a script. Outside the main thread,
    which alone may handle signals, nothing is asked.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal asked
        asked = True
        print("stopping behind this step; once more stops at once", file=sys.stderr)
        signal.signal(number, before[signal.Signals(number)])

    before = {}
    if threading.current_thread() is threading.main_thread():
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_to_parent(worker: int) -> None:  # noqa: ARG001 - the number that a DataLoader gives
    """Let a worker process outlive signals to its whole group: the parent ends it when it is done."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
