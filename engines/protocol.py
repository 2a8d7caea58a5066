"""What every engine offers, so that no caller needs to know which backend it holds."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class EngineError(RuntimeError):
    """A bundle or backend cannot be used; the message says which one, why, and what to do."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph. All are float32, NCHW, batch 1; `low` and `high` bound the values."""

    name: str
    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    dtype: str = "float32"


class Engine(ABC):
    """Runs one graph of a bundle.

    An engine is used by one thread at a time; two engines may run in two threads.
    """

    in_flight = 1  # how many runs may be begun before the first one's results are collected
    run_ms = 0.0  # how long the run took whose results were collected last
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    _closed = False

    @abstractmethod
    def bind(self, feeds: Mapping[str, Array]) -> None:
        """Keep these inputs for all following runs (a GPU engine copies them to the device once)."""

    @abstractmethod
    def begin(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Begin a run, and compute while the caller does other things.

        The function returned waits for what `run` returns, and is called once. Inputs bound before it hold
        for this run, later ones for later runs; `feeds` stay as they are until the results are there. An
        engine with `in_flight` above 1 copies beside the computation of another run.
        """

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs from the bound inputs and `feeds`, which go first.

        The returned arrays are the caller's own. Raises ValueError where an input is missing, unknown,
        or of another shape or dtype than its spec.
        """
        return self.begin(feeds)()

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds; it cannot run afterwards. Closing twice is harmless."""

    def check(self, feeds: Mapping[str, Array]) -> None:
        """Raise ValueError for a feed that does not fit its spec."""
        specs = {spec.name: spec for spec in self.inputs}
        for name, value in feeds.items():
            if name not in specs:
                raise ValueError(f"unknown input {name!r}; this graph takes {', '.join(specs)}")
            is_array = isinstance(value, np.ndarray)
            if not is_array or value.dtype != np.float32 or value.shape != specs[name].shape:
                found = f"{value.dtype} of shape {value.shape}" if is_array else type(value).__name__
                raise ValueError(f"input {name!r} must be float32 of shape {specs[name].shape}, not {found}")

    def require(self, names: Collection[str]) -> None:
        """Raise ValueError where an input of the graph is not among `names`."""
        missing = [spec.name for spec in self.inputs if spec.name not in names]
        if missing:
            raise ValueError(f"missing input {', '.join(missing)}: bind it or feed it")

    def require_open(self) -> None:
        """Raise EngineError once the engine is closed."""
        if self._closed:
            raise EngineError("this engine is closed")


class HostEngine(Engine):
    """An engine whose inputs stay in host memory: what the CPU backends share.

    `_thread`: where its runs compute, one after the other, and where a library's own state of a thread stays.
    """

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._bound: dict[str, Array] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._process = os.getpid()

    @abstractmethod
    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Compute all outputs from complete, checked feeds; never called once closed."""

    @abstractmethod
    def free(self) -> None:
        """Let go of what the library holds; nothing runs any more."""

    def require_open(self) -> None:
        super().require_open()
        if os.getpid() != self._process:  # a fork has no copy of the thread, and would wait for it forever
            raise EngineError("this engine was opened by another process: open the bundle in this one")

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.require_open()
        self.check(feeds)
        # Copies, since the caller's arrays may change.
        copies = {name: np.array(value, order="C") for name, value in feeds.items()}
        self._bound = {**self._bound, **copies}

    def begin(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        self.require_open()
        self.check(feeds)
        merged = {**self._bound, **{name: np.ascontiguousarray(value) for name, value in feeds.items()}}
        self.require(merged)
        run = self._thread.submit(self._timed, merged)

        def collect() -> dict[str, Array]:
            results, self.run_ms = run.result()
            return results

        return collect

    def _timed(self, feeds: Mapping[str, Array]) -> tuple[dict[str, Array], float]:
        started = time.perf_counter()
        return self.infer(feeds), 1e3 * (time.perf_counter() - started)

    def close(self) -> None:
        self._closed = True
        if os.getpid() == self._process:  # nor can a library end threads that are not here
            self._thread.shutdown()
            self.free()


@dataclass(kw_only=True)
class Run:
    """What one run under way has to itself; a backend adds its memory."""

    ticket: object | None = None  # of whoever began it, until the results are collected


R = TypeVar("R", bound=Run)


class PipelinedEngine(Engine, Generic[R]):
    """An engine that computes on a device with several runs in flight: what the GPU backends share."""

    _runs: Sequence[R]
    _bound: Mapping[str, Any]

    @abstractmethod
    def launch(self, run: R, feeds: Mapping[str, Array]) -> None:
        """Begin to compute with checked feeds; nothing of this run's own memory is in use."""

    @abstractmethod
    def wait(self, run: R) -> dict[str, Array]:
        """Wait for a run's results; they are the caller's own. Where it fails, the run's memory is free."""

    def begin(self, feeds: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        self.require_open()
        self.check(feeds)
        self.require({*self._bound, *feeds})
        run = next((run for run in self._runs if run.ticket is None), None)
        if run is None:
            raise EngineError(f"{self.in_flight} runs are under way: collect the results of one first")
        began = time.perf_counter()
        self.launch(run, feeds)
        ticket = run.ticket = object()
        return lambda: self._collect(run, ticket, began)

    def _collect(self, run: R, ticket: object, began: float) -> dict[str, Array]:
        self.require_open()
        if run.ticket is not ticket:  # the memory may be another run's by now
            raise EngineError("the results of this run have been collected already")
        try:
            results = self.wait(run)
            self.run_ms = 1e3 * (time.perf_counter() - began)  # with its wait for the run before
            return results
        finally:
            run.ticket = None
