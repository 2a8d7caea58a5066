"""A GPU and a TensorRT of host memory, as late as real ones: nothing happens before its stream is awaited.

So a test sees what a missing wait, a reused buffer, a freed pointer or a second release would do. The network
itself is run by ONNX Runtime from the same bundle, and the plan file holds the graph's name. Every method of
TensorRT's that stands in here exists in the real bindings: a test sees to that.
"""

import contextlib
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from engines import Session
from engines.bundle import Bundle
from engines.device import Device
from engines.onnxruntime_engine import OnnxRuntimeEngine
from engines.protocol import Array, EngineError
from engines.tensorrt_engine import plan_path
from engines.tensorrt_run import TensorRtEngine


class Mark:
    """An event's place on a stream."""

    def __init__(self, stream: int) -> None:
        self.stream, self.passed = stream, False

    def __call__(self) -> None:
        self.passed = True


class LazyDevice(Device):
    """Counts what it hands out; an address is a number that means nothing to the host."""

    def __init__(self, records: bool = True) -> None:
        self.compute_capability = (8, 6)
        self.memory: dict[int, np.ndarray] = {}
        self.waiting: dict[int, list[Callable[[], Any]]] = {}
        self.arrays: dict[int, Array] = {}
        self.events: dict[int, Mark | None] = {}
        self.records = records
        self.recording: list[Callable[[], Any]] | None = None
        self.graphs = 0
        self.uploads: list[int] = []
        self.replays = 0
        self.closed = False
        self._current = threading.local()
        self._next = 4096

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        assert not self.closed
        self._current.depth = getattr(self._current, "depth", 0) + 1
        yield
        self._current.depth -= 1

    def _check(self) -> None:
        assert getattr(self._current, "depth", 0) > 0, "used on a thread where it is not current"

    def _number(self) -> int:
        self._check()
        self._next += 4096
        return self._next

    def allocate(self, size: int) -> int:
        number = self._number()
        self.memory[number] = np.full(size // 4, np.nan, np.float32)
        return number

    def free(self, pointer: int) -> None:
        self._check()
        del self.memory[pointer]

    def pinned(self, shape: tuple[int, ...]) -> Array:
        self._check()
        array = np.full(shape, np.nan, np.float32)
        self.arrays[id(array)] = array
        return array

    def unpin(self, array: Array) -> None:
        del self.arrays[id(array)]

    def stream(self) -> int:
        number = self._number()
        self.waiting[number] = []
        return number

    def destroy(self, stream: int) -> None:
        assert not self.waiting.pop(stream), "destroyed before its work was done"

    def later(self, stream: int, work: Callable[[], Any]) -> None:
        self._check()
        (self.waiting[stream] if self.recording is None else self.recording).append(work)

    def upload(self, pointer: int, array: Array, stream: int) -> None:
        assert id(array) in self.arrays, "not page-locked"
        self.uploads.append(array.nbytes)
        self.later(stream, lambda: np.copyto(self.memory[pointer], array.ravel()))

    def download(self, array: Array, pointer: int, stream: int) -> None:
        assert id(array) in self.arrays, "not page-locked"
        self.later(stream, lambda: np.copyto(array, self.memory[pointer].reshape(array.shape)))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        assert size == self.memory[target].nbytes == self.memory[source].nbytes
        self.later(stream, lambda: np.copyto(self.memory[target], self.memory[source]))

    def synchronize(self, stream: int) -> None:
        self._check()
        while self.waiting[stream]:
            self.waiting[stream].pop(0)()

    def event(self) -> int:
        number = self._number()
        self.events[number] = None
        return number

    def mark(self, event: int, stream: int) -> None:
        self.events[event] = mark = Mark(stream)
        self.later(stream, mark)

    def follow(self, stream: int, event: int) -> None:
        mark = self.events[event]
        self.later(stream, lambda: self._reach(mark))

    def wait(self, event: int) -> None:
        self._check()
        self._reach(self.events[event])

    def _reach(self, mark: Mark | None) -> None:
        while mark is not None and not mark.passed:
            self.waiting[mark.stream].pop(0)()

    def drop(self, event: int) -> None:
        self._check()
        del self.events[event]

    def record(self, stream: int, work: Callable[[], bool]) -> Any:  # noqa: ARG002
        if not self.records:
            return None
        self.recording = []
        done, recorded = work(), self.recording
        self.recording = None
        self.graphs += done
        return recorded if done else None

    def replay(self, graph: Any, stream: int) -> None:
        self.replays += 1
        self.waiting[stream] += graph

    def forget(self, graph: Any) -> None:  # noqa: ARG002
        self.graphs -= 1

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


class Context:
    """IExecutionContext."""

    def __init__(self, device: LazyDevice, engine: OnnxRuntimeEngine) -> None:
        self.device, self.engine = device, engine
        self.addresses: dict[str, int] = {}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.device.later(stream_handle, self._compute)
        return True

    def _compute(self) -> None:
        memory = self.device.memory
        feeds = {s.name: memory[self.addresses[s.name]].reshape(s.shape) for s in self.engine.inputs}
        for name, value in self.engine.infer(feeds).items():
            np.copyto(memory[self.addresses[name]], value.ravel())


class CudaEngine:
    """ICudaEngine."""

    def __init__(self, device: LazyDevice, engine: OnnxRuntimeEngine) -> None:
        self.device, self.engine = device, engine
        self.specs = {spec.name: spec for spec in (*engine.inputs, *engine.outputs)}
        self.num_io_tensors = len(self.specs)

    def get_tensor_name(self, index: int) -> str:
        return list(self.specs)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.specs[name].shape

    def get_tensor_dtype(self, name: str) -> str:  # noqa: ARG002
        return "float32"

    def create_runtime_config(self) -> Any:
        return RuntimeConfig()

    def create_execution_context(self, runtime_config: Any = None) -> Context:
        if runtime_config is not None:
            assert runtime_config.cuda_graph_strategy == "whole graph"
            assert runtime_config.cache is not None
        return Context(self.device, self.engine)


class RuntimeCache:
    """IRuntimeCache."""

    def __init__(self) -> None:
        self.content = b""

    def serialize(self) -> bytes:
        return b"compiled" + self.content

    def deserialize(self, blob: bytes) -> bool:
        self.content = blob
        return True


class RuntimeConfig:
    """IRuntimeConfig."""

    cuda_graph_strategy = "none"
    cache: RuntimeCache | None = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class Logger:
    """The library's logger."""

    ERROR = 1

    def __init__(self, severity: int) -> None: ...


def tensorrt(bundle: Bundle, device: LazyDevice, rtx: bool = False) -> Any:
    """The library: a module with TensorRT's names."""

    class Runtime:
        def __init__(self, logger: Any) -> None: ...

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> CudaEngine | None:
            try:
                return CudaEngine(device, OnnxRuntimeEngine(bundle, serialized_engine.decode()))
            except (EngineError, KeyError, UnicodeDecodeError):
                return None

    trt = types.SimpleNamespace(
        __name__="tensorrt_rtx" if rtx else "tensorrt",
        __version__="0",
        Logger=Logger,
        Runtime=Runtime,
        float32="float32",
    )
    if rtx:
        trt.CudaGraphStrategy = types.SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole graph")
    return trt


def write_plans(bundle: Bundle, library: str) -> None:
    """Plans that hold their graphs' names."""
    for graph in ("garment", "tryon"):
        plan = plan_path(bundle, graph, library)
        plan.parent.mkdir(exist_ok=True)
        plan.write_text(graph)


def open_session(bundle: Bundle, rtx: bool = False, records: bool = True) -> tuple[Session, list[LazyDevice]]:
    """A bundle opened on its plans, and the devices of both graphs."""
    devices = [LazyDevice(records) for _ in range(2)]
    library = "tensorrt_rtx" if rtx else "tensorrt"
    garment, tryon = (
        TensorRtEngine(
            bundle, graph, plan_path(bundle, graph, library), tensorrt(bundle, device, rtx), device
        )
        for graph, device in zip(("garment", "tryon"), devices, strict=True)
    )
    return Session(bundle, "tensorrt", garment, tryon, "a test"), devices
