"""Run a TensorRT or TensorRT-RTX plan on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engines.bundle import Bundle
from engines.device import Device
from engines.protocol import Array, Engine, EngineError


class TensorRtEngine(Engine):
    """One plan with its buffers, held for the engine's life.

    Bound inputs (the garment and its pyramid) stay on the device. A run stages what it is fed in page-locked
    memory, and copies, computes and copies back on one stream; after the first run the computation is a
    CUDA graph, TensorRT-RTX's own or a recorded one. The garment may be encoded on another thread while
    frames run.
    """

    backend = "tensorrt"

    def __init__(self, bundle: Bundle, graph: str, plan: Path, trt: Any, device: Device) -> None:
        """plan: a file that engines.tensorrt_engine found to be whole and this bundle's; trt: the library.

        Raises EngineError where the library does not take it. The engine closes `device` with itself.
        """
        self.inputs = bundle.graphs[graph].inputs
        self.outputs = bundle.graphs[graph].outputs
        self._device = device
        self._pointers: dict[str, int] = {}
        self._staged: dict[str, Array] = {}
        self._bound: dict[str, Array] = {}
        self._loaded: set[str] = set()  # bound inputs whose values are on the device
        self._stream: int | None = None
        self._recorded: Any = None
        self._runs = 0
        self._closed = False
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
            config = self._engine.create_runtime_config()
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
        self._stream = self._device.stream()
        for spec in (*self.inputs, *self.outputs):
            self._staged[spec.name] = staged = self._device.pinned(spec.shape)
            self._pointers[spec.name] = self._device.allocate(staged.nbytes)
            if not self._context.set_tensor_address(spec.name, self._pointers[spec.name]):
                raise EngineError(f"{trt.__name__} takes no address for {spec.name} of {plan}")

    def _check_tensors(self, plan: Path, trt: Any) -> None:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        found = {
            name: (tuple(self._engine.get_tensor_shape(name)), self._engine.get_tensor_dtype(name))
            for name in names
        }
        wanted = {spec.name: (spec.shape, trt.float32) for spec in (*self.inputs, *self.outputs)}
        if found != wanted:
            raise EngineError(f"{plan} has other inputs or outputs than its bundle: build it again")

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.check(feeds)
        self._require_open()
        self._bound |= {name: np.array(value) for name, value in feeds.items()}
        self._loaded -= set(feeds)
        with self._device.current():
            self._load_bound(feeds)
            self._device.synchronize(self._handle)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self._require_open()
        self.check(feeds)
        self.require({*self._bound, *feeds})
        with self._device.current():
            self._load_bound(self._bound.keys() - feeds.keys())
            for name, value in feeds.items():
                self._upload(name, value)
            self._loaded -= set(feeds)
            self._compute()
            for spec in self.outputs:
                self._device.download(self._staged[spec.name], self._pointers[spec.name], self._handle)
            self._device.synchronize(self._handle)
        return {spec.name: self._staged[spec.name].copy() for spec in self.outputs}

    @property
    def _handle(self) -> int:
        assert self._stream is not None
        return self._stream

    def _load_bound(self, names: Any) -> None:
        for name in set(names) - self._loaded:
            self._upload(name, self._bound[name])
            self._loaded.add(name)

    def _upload(self, name: str, value: Array) -> None:
        """Every public call ends synchronised, so no copy from this staging memory is still under way."""
        np.copyto(self._staged[name], value)
        self._device.upload(self._pointers[name], self._staged[name], self._handle)

    def _compute(self) -> None:
        if self._records and self._runs == 1:  # the first run allocates, which cannot be recorded
            self._recorded = self._device.record(self._handle, self._enqueue)
            self._records = self._recorded is not None
        self._runs += 1
        if self._recorded is not None:
            self._device.replay(self._recorded, self._handle)
        elif not self._enqueue():
            raise EngineError("TensorRT could not run the network, see its message above")
        if self._runs == 1 and self._cache is not None:
            self._save_cache()

    def _enqueue(self) -> bool:
        return bool(self._context.execute_async_v3(self._handle))

    def _save_cache(self) -> None:
        """Keep what TensorRT-RTX compiled for a quick next start; a read-only folder does not matter."""
        self._device.synchronize(self._handle)
        part = self._cache_file.with_name(f".{self._cache_file.name}.part")
        try:
            part.write_bytes(bytes(self._cache.serialize()))
            part.replace(self._cache_file)
        except OSError:
            part.unlink(missing_ok=True)

    def _require_open(self) -> None:
        if self._closed:
            raise EngineError("this engine is closed")

    def close(self) -> None:
        if self._closed:
            return
        with self._device.current():
            self._device.synchronize(self._handle)
            self._release()
        self._device.close()

    def _release(self) -> None:
        """Context before engine before runtime, as TensorRT asks for; then memory, then the stream."""
        self._closed = True
        if self._recorded is not None:
            self._device.forget(self._recorded)
        for name in ("_recorded", "_cache", "_context", "_engine", "_runtime"):
            setattr(self, name, None)
        for pointer in self._pointers.values():
            self._device.free(pointer)
        for array in self._staged.values():
            self._device.unpin(array)
        self._pointers, self._staged = {}, {}
        if self._stream is not None:
            self._device.destroy(self._stream)
            self._stream = None
