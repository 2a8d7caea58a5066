"""The first CUDA GPU, through cuda-python, or pycuda where that alone is installed.

Nothing is imported before `open_device`. Pointers and stream handles are plain numbers, as TensorRT takes
them. All work happens inside `with device.current():`, on whichever thread; the context is the primary one,
which TensorRT shares. It is made when the device first becomes current, so asking for the compute capability
takes no GPU memory. Whoever waits for an event sleeps: the mirror needs its cores.
"""

import atexit
import contextlib
import ctypes
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from engines.protocol import Array, EngineError

INSTALL = "pip install cuda-python, or pycuda"


class Device(ABC):
    """Memory, page-locked host memory, streams, events and CUDA graphs of one GPU."""

    compute_capability: tuple[int, int]

    @abstractmethod
    def current(self) -> contextlib.AbstractContextManager[None]:
        """Make this device the calling thread's while the `with` block lasts."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Device memory of `size` bytes. Raises EngineError where there is too little."""

    @abstractmethod
    def free(self, pointer: int) -> None:
        """Give back what `allocate` returned."""

    @abstractmethod
    def pinned(self, shape: tuple[int, ...]) -> Array:
        """A page-locked float32 array, from and to which copies run beside other work."""

    @abstractmethod
    def unpin(self, array: Array) -> None:
        """Give back what `pinned` returned; the array must not be used afterwards."""

    @abstractmethod
    def stream(self) -> int:
        """A new stream that waits for no other."""

    @abstractmethod
    def destroy(self, stream: int) -> None:
        """Give back a stream."""

    @abstractmethod
    def upload(self, pointer: int, array: Array, stream: int) -> None:
        """Begin to copy a whole array to the device."""

    @abstractmethod
    def download(self, array: Array, pointer: int, stream: int) -> None:
        """Begin to fill a whole array from the device."""

    @abstractmethod
    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Begin to copy `size` bytes from one place on the device to another."""

    @abstractmethod
    def synchronize(self, stream: int) -> None:
        """Wait until everything begun on the stream is done."""

    @abstractmethod
    def event(self) -> int:
        """A new event: a mark that can be set on a stream and waited for."""

    @abstractmethod
    def mark(self, event: int, stream: int) -> None:
        """Set the event behind everything begun on the stream so far."""

    @abstractmethod
    def follow(self, stream: int, event: int) -> None:
        """Let all that is begun on the stream from now on wait for the event's mark."""

    @abstractmethod
    def wait(self, event: int) -> None:
        """Wait until what lies before the event's mark is done."""

    @abstractmethod
    def drop(self, event: int) -> None:
        """Give back an event."""

    @abstractmethod
    def record(self, stream: int, work: Callable[[], bool]) -> Any:
        """A CUDA graph of what `work` puts on the stream; None where that cannot be recorded."""

    @abstractmethod
    def replay(self, graph: Any, stream: int) -> None:
        """Begin the work of a CUDA graph."""

    @abstractmethod
    def forget(self, graph: Any) -> None:
        """Give back a CUDA graph."""

    @abstractmethod
    def close(self) -> None:
        """Release the device."""


def open_device() -> Device:
    """The first GPU. Raises EngineError where there is none, or no binding of CUDA to Python."""
    for kind in (CudaPythonDevice, PyCudaDevice):
        try:
            return kind()
        except ImportError:
            continue
    raise EngineError(f"neither cuda-python nor pycuda is installed ({INSTALL})")


def compute_capability() -> tuple[int, int] | None:
    """Compute capability of the first GPU, such as (8, 6); None without a GPU, driver or Python binding."""
    try:
        device = open_device()
    except EngineError:
        return None
    device.close()
    return device.compute_capability


@functools.cache
def _pycuda_context() -> Any:
    """The primary context, once a process and to its end.

    pycuda's detach() of a context that is not current would leave the released context current on the
    calling thread, and does nothing on any other thread than the one that made it.
    """
    import pycuda.driver as cuda

    context = cuda.Device(0).retain_primary_context()
    atexit.register(context.detach)  # its destructor would call what is for other contexts, and complain
    return context


class PyCudaDevice(Device):
    """Through pycuda, which offers no CUDA graphs: `record` gives None."""

    def __init__(self) -> None:
        import pycuda.driver as cuda

        self._cuda = cuda
        try:
            cuda.init()
            major, minor = cuda.Device(0).compute_capability()
        except cuda.Error as error:
            raise _missing(error) from error
        self.compute_capability = int(major), int(minor)
        self._allocated: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        try:
            _pycuda_context().push()
            try:
                yield
            finally:
                self._cuda.Context.pop()
        except self._cuda.Error as error:
            raise EngineError(f"the GPU failed: {error}") from error

    def allocate(self, size: int) -> int:
        try:
            memory = self._cuda.mem_alloc(size)
        except self._cuda.MemoryError as error:
            raise EngineError(str(error)) from error
        self._allocated[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        self._allocated.pop(pointer).free()

    def pinned(self, shape: tuple[int, ...]) -> Array:
        array: Array = self._cuda.pagelocked_empty(shape, np.float32)
        return array

    def unpin(self, array: Array) -> None:
        """The array frees itself with its last reference."""

    def stream(self) -> int:
        stream = self._cuda.Stream(1)  # CU_STREAM_NON_BLOCKING
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def destroy(self, stream: int) -> None:
        del self._streams[stream]

    def upload(self, pointer: int, array: Array, stream: int) -> None:
        self._cuda.memcpy_htod_async(pointer, array, self._streams[stream])

    def download(self, array: Array, pointer: int, stream: int) -> None:
        self._cuda.memcpy_dtoh_async(array, pointer, self._streams[stream])

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._cuda.memcpy_dtod_async(target, source, size, self._streams[stream])

    def synchronize(self, stream: int) -> None:
        self._streams[stream].synchronize()

    def event(self) -> int:
        flags = self._cuda.event_flags
        event = self._cuda.Event(flags.DISABLE_TIMING | flags.BLOCKING_SYNC)
        self._events[id(event)] = event
        return id(event)

    def mark(self, event: int, stream: int) -> None:
        self._events[event].record(self._streams[stream])

    def follow(self, stream: int, event: int) -> None:
        self._streams[stream].wait_for_event(self._events[event])

    def wait(self, event: int) -> None:
        self._events[event].synchronize()

    def drop(self, event: int) -> None:
        del self._events[event]

    def record(self, stream: int, work: Callable[[], bool]) -> Any:  # noqa: ARG002
        return None

    def replay(self, graph: Any, stream: int) -> None:
        raise NotImplementedError

    def forget(self, graph: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """The context stays, see `_pycuda_context`."""


class CudaPythonDevice(Device):
    """Through cuda-python's bindings of the driver."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver
        attribute = driver.CUdevice_attribute
        kinds = (
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
        try:
            self._call("cuInit", 0)
            self._device = self._call("cuDeviceGet", 0)
            major, minor = (self._call("cuDeviceGetAttribute", kind, self._device) for kind in kinds)
        except (RuntimeError, EngineError) as error:  # RuntimeError where libcuda cannot be loaded
            raise _missing(error) from error
        self.compute_capability = int(major), int(minor)
        self._context: Any = None

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the driver: its one result, or None. Raises EngineError."""
        error, *results = getattr(self._driver, name)(*arguments)
        if int(error):
            _, text = self._driver.cuGetErrorString(error)
            raise EngineError(f"{name} failed: {text.decode() if text else error}")
        return results[0] if results else None

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        if self._context is None:  # first, before other threads come to know the device
            self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def allocate(self, size: int) -> int:
        return int(self._call("cuMemAlloc", size))

    def free(self, pointer: int) -> None:
        self._call("cuMemFree", pointer)

    def pinned(self, shape: tuple[int, ...]) -> Array:
        size = int(np.prod(shape, dtype=np.int64)) * 4
        memory = ctypes.cast(int(self._call("cuMemHostAlloc", size, 0)), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(memory, shape)

    def unpin(self, array: Array) -> None:
        self._call("cuMemFreeHost", array.ctypes.data)

    def stream(self) -> int:
        return int(self._call("cuStreamCreate", self._driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value))

    def destroy(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def upload(self, pointer: int, array: Array, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def download(self, array: Array, pointer: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def synchronize(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def event(self) -> int:
        flags = self._driver.CUevent_flags
        chosen = flags.CU_EVENT_DISABLE_TIMING.value | flags.CU_EVENT_BLOCKING_SYNC.value
        return int(self._call("cuEventCreate", chosen))

    def mark(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def follow(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def wait(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def drop(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    def record(self, stream: int, work: Callable[[], bool]) -> Any:
        # Thread-local: another thread may load the next garment's engine while this one records.
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        try:
            done = work()
        finally:
            error, graph = self._driver.cuStreamEndCapture(stream)
        if int(error):
            return None
        if not done:
            self._call("cuGraphDestroy", graph)
            return None
        error, executable = self._driver.cuGraphInstantiate(graph, 0)
        self._call("cuGraphDestroy", graph)
        return None if int(error) else executable

    def replay(self, graph: Any, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def forget(self, graph: Any) -> None:
        self._call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        if self._context is not None:
            self._call("cuDevicePrimaryCtxRelease", self._device)
            self._context = None


def _missing(error: Exception) -> EngineError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return EngineError(f"no NVIDIA GPU is usable here ({reason})")
