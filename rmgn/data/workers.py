"""Processes that make samples side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor

import torch


def pool(workers: int) -> ProcessPoolExecutor:
    """An executor of processes with one thread each, which end when this process does, however it ends."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start)


def told(error: BaseException) -> str:
    """What an error says, without the traceback that a DataLoader puts before it when a worker raised it."""
    text = str(error)
    return text.rstrip().rpartition("\n")[2].partition(": ")[2] if text.startswith("Caught ") else text


def _start() -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # An executor's workers wait for work forever if the process that would send it was killed.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
