"""Run a TensorRT or TensorRT-RTX plan on the GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engines.bundle import Bundle
from engines.device import Device
from engines.protocol import Array, EngineError, PipelinedEngine, Run
from engines.whole_file import write_whole


@dataclass
class _Run(Run):
    """What one run under way has to itself, so that the copies of another can pass it."""

    uploaded: int  # events
    computed: int
    downloaded: int
    staged: dict[str, Array] = field(default_factory=dict)  # page-locked
    pointers: dict[str, int] = field(default_factory=dict)  # where copies come and go on the device


class TensorRtEngine(PipelinedEngine[_Run]):
    """One plan with its buffers, held for the engine's life.

    Bound inputs (the garment and its pyramid) stay on the device. What a run is fed goes through page-locked
    memory. Three streams, one that uploads, one that computes and one that downloads, meet in events: the
    copies of a run pass beside the computation of the one begun before or after it. After the first run the
    computation is a CUDA graph, TensorRT-RTX's own or a recorded one. The garment may be encoded on another
    thread while frames run.
    """

    in_flight = 2

    def __init__(self, bundle: Bundle, graph: str, plan: Path, trt: Any, device: Device) -> None:
        """plan: a file that engines.tensorrt_engine found to be whole and this bundle's; trt: the library.

        Raises EngineError where the library does not take it. The engine closes `device` with itself.
        """
        self.inputs = bundle.graphs[graph].inputs
        self.outputs = bundle.graphs[graph].outputs
        self._shapes = {spec.name: spec.shape for spec in (*self.inputs, *self.outputs)}
        self._device = device
        self._pointers: dict[str, int] = {}  # of what the plan reads and writes
        self._bound: dict[str, Array] = {}  # page-locked
        self._loaded: set[str] = set()  # bound inputs whose values are on the device
        self._runs: list[_Run] = []
        self._streams: list[int] = []
        self._recorded: Any = None
        self._begun = 0
        self._cache_file = plan.with_suffix(".cache")
        self._cache: Any = None
        with device.current():
            try:
                self._open(plan, trt)
            except BaseException:
                self._release()
                raise

    def _open(self, plan: Path, trt: Any) -> None:
        self._logger = trt.Logger(trt.Logger.ERROR)  # TensorRT keeps referring to it
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{trt.__name__} {trt.__version__} refuses {plan}, see its message above: build it again"
            )
        self._check_tensors(plan, trt)
        self._records = not hasattr(trt, "CudaGraphStrategy")
        if self._records:
            self._context = self._engine.create_execution_context()
        else:  # TensorRT-RTX compiles for the GPU at hand when it loads, and records by itself
            self._config = config = self._engine.create_runtime_config()
            config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._cache = config.create_runtime_cache()
            if self._cache_file.is_file():
                self._cache.deserialize(
                    self._cache_file.read_bytes()
                )  # False, and empty, where it is foreign
            config.set_runtime_cache(self._cache)
            self._context = self._engine.create_execution_context(config)
        if self._context is None:
            raise EngineError(f"{trt.__name__} cannot run {plan}: too little GPU memory?")
        for _ in range(3):
            self._streams.append(self._device.stream())
        self._upload, self._compute, self._download = self._streams
        for name in self._shapes:
            self._pointers[name] = self._allocate(name)
            if not self._context.set_tensor_address(name, self._pointers[name]):
                raise EngineError(f"{trt.__name__} takes no address for {name} of {plan}")
        for _ in range(self.in_flight):
            run = _Run(self._device.event(), self._device.event(), self._device.event())
            self._runs.append(run)
            for spec in self.outputs:
                self._stage(run, spec.name)

    def _check_tensors(self, plan: Path, trt: Any) -> None:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        found = {
            name: (tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name))
            for name in names
        }
        if found != {name: (shape, trt.float32) for name, shape in self._shapes.items()}:
            raise EngineError(f"{plan} has other inputs or outputs than its bundle: build it again")

    def _bytes(self, name: str) -> int:
        return int(np.prod(self._shapes[name], dtype=np.int64)) * 4

    def _allocate(self, name: str) -> int:
        return self._device.allocate(self._bytes(name))

    def _stage(self, run: _Run, name: str) -> None:
        """Give a run its own memory for an input or output. Only what is fed needs it, so not all inputs."""
        if name not in run.staged:
            run.staged[name] = self._device.pinned(self._shapes[name])
        if name not in run.pointers:
            run.pointers[name] = self._allocate(name)

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.check(feeds)
        self.require_open()
        with self._device.current():
            for name, value in feeds.items():
                if name not in self._bound:
                    self._bound[name] = self._device.pinned(self._shapes[name])
                np.copyto(self._bound[name], value)  # no copy from it is under way, see `_load_bound`
            self._loaded -= set(feeds)
            self._load_bound(feeds)

    def launch(self, run: _Run, feeds: Mapping[str, Array]) -> None:
        with self._device.current():
            self._load_bound(self._bound.keys() - feeds.keys())
            try:
                self._begin(run, feeds)
            except BaseException:  # pycuda's errors too, which become EngineError further out
                self._finish()  # what was begun still reads the memory that the next run will write
                raise
            if self._begun == 1 and self._cache is not None:
                self._save_cache()

    def _begin(self, run: _Run, feeds: Mapping[str, Array]) -> None:
        """Nothing of this run's own memory is in use: its last results have been collected."""
        device = self._device
        for name, value in feeds.items():
            self._stage(run, name)
            np.copyto(run.staged[name], value)
            device.upload(run.pointers[name], run.staged[name], self._upload)
        device.mark(run.uploaded, self._upload)
        device.follow(self._compute, run.uploaded)
        for name in feeds:
            device.copy(self._pointers[name], run.pointers[name], self._bytes(name), self._compute)
        self._loaded -= set(feeds)
        self._execute()
        for spec in self.outputs:
            device.copy(
                run.pointers[spec.name], self._pointers[spec.name], self._bytes(spec.name), self._compute
            )
        device.mark(run.computed, self._compute)
        device.follow(self._download, run.computed)
        for spec in self.outputs:
            device.download(run.staged[spec.name], run.pointers[spec.name], self._download)
        device.mark(run.downloaded, self._download)

    def wait(self, run: _Run) -> dict[str, Array]:
        with self._device.current():
            try:
                self._device.wait(run.downloaded)
            except BaseException:
                self._finish()
                raise
        return {spec.name: run.staged[spec.name].copy() for spec in self.outputs}

    def _load_bound(self, names: Iterable[str]) -> None:
        """Bring bound inputs to where the plan reads them, behind the runs begun before, and wait for it."""
        if missing := set(names) - self._loaded:
            for name in missing:
                self._device.upload(self._pointers[name], self._bound[name], self._compute)
            self._device.synchronize(self._compute)
            self._loaded |= missing

    def _execute(self) -> None:
        if self._records and self._begun == 1:  # the first run allocates, which cannot be recorded
            self._recorded = self._device.record(self._compute, self._enqueue)
            self._records = self._recorded is not None
        if self._recorded is not None:
            self._device.replay(self._recorded, self._compute)
        elif not self._enqueue():
            raise EngineError("TensorRT could not run the network, see its message above")
        self._begun += 1

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._compute))

    def _save_cache(self) -> None:
        """Keep what TensorRT-RTX compiled for a quick next start; a read-only folder does not matter."""
        self._device.synchronize(self._compute)
        with suppress(OSError):
            write_whole(self._cache_file, bytes(self._cache.serialize()))

    def close(self) -> None:
        if self._closed:
            return
        try:
            with self._device.current():
                try:
                    self._finish()  # fails where the GPU has failed, which is no reason to keep its memory
                finally:
                    self._release()
        finally:
            self._device.close()

    def _finish(self) -> None:
        for stream in self._streams:
            self._device.synchronize(stream)

    def _release(self) -> None:
        """Context before its cache, before engine, before runtime, as TensorRT asks for; then all memory.

        All of it also where the GPU, failing, refuses to take one thing back.
        """
        self._closed = True
        device = self._device
        with ExitStack() as last:  # the last one in it is the first to go
            for stream in self._streams:
                last.callback(device.destroy, stream)
            for array in self._bound.values():
                last.callback(device.unpin, array)
            for pointer in self._pointers.values():
                last.callback(device.free, pointer)
            for run in self._runs:
                for event in (run.uploaded, run.computed, run.downloaded):
                    last.callback(device.drop, event)
                for array in run.staged.values():
                    last.callback(device.unpin, array)
                for pointer in run.pointers.values():
                    last.callback(device.free, pointer)
            last.callback(self._forget_network)
            if self._recorded is not None:
                last.callback(device.forget, self._recorded)
        self._pointers, self._bound, self._runs, self._streams = {}, {}, [], []

    def _forget_network(self) -> None:
        for name in ("_recorded", "_context", "_config", "_cache", "_engine", "_runtime"):
            setattr(self, name, None)
