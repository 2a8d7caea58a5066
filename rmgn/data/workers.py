"""Processes that make samples side by side."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import cv2
import torch

T = TypeVar("T")


def pool(workers: int) -> ProcessPoolExecutor:
    """An executor of processes with one thread each, which end when this process does, however it ends."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)


@contextmanager
def processes(workers: int) -> Iterator[Executor | None]:
    """Processes for `each`, None for one worker; Ctrl-C ends them at once, whatever they are at."""
    if workers <= 1:
        one_thread()  # as in a worker
        yield None
        return
    others = set(multiprocessing.active_children())
    executor = pool(workers)
    try:
        yield executor
    except KeyboardInterrupt:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def each(executor: Executor | None, call: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> Iterator[T]:
    """Results of the calls in the order of their arguments, made by processes or, without them, here."""
    if executor is None:
        yield from (call(*task) for task in tasks)
        return
    with _deaf():  # a pool starts its processes as it is given work
        futures = [executor.submit(call, *task) for task in tasks]
    for future in futures:
        yield future.result()


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within ignore Ctrl-C, which is for the one that prints; else each has a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def one_thread() -> None:
    """Leave the other cores to this process's neighbours: PyTorch and OpenCV would each take all of them."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def begin_worker(worker: int) -> None:  # noqa: ARG001 - the number that a DataLoader gives
    """Begin a DataLoader's worker: one thread, and no word where its whole group is told to end."""
    one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # else the parent tells of a worker that was killed


def _start() -> None:
    one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # An executor's workers wait for work forever if the process that would send it was killed.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
