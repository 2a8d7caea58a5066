"""PyTorch on an NVIDIA GPU: a program, channels last, recorded as a CUDA graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.passes import move_to_device_pass

from engines.protocol import Array, PipelinedEngine, Run, TensorSpec

WARM_UP = 3  # runs before the recording, in which Triton compiles and cuDNN tries its algorithms


def _sleeping_event() -> torch.cuda.Event:
    """An event whose waiter leaves the cores to the mirror."""
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]


@dataclass
class _Run(Run):
    """Page-locked memory of one run under way, so that the caller may fill in the next meanwhile."""

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor] = field(default_factory=dict)  # of what is fed, not bound
    done: torch.cuda.Event = field(default_factory=_sleeping_event)


class TorchCudaEngine(PipelinedEngine[_Run]):
    """One program with its buffers, held for the engine's life.

    Bound inputs (the garment and its pyramid) stay on the device. Weights and features lie channels last, in
    the dtype that the program was exported in; one exported with `--fused` calls the Triton kernels. Runs
    follow each other on one stream, and the host waits for none that it does not collect.
    """

    in_flight = 2

    def __init__(
        self, program: ExportedProgram, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._bound: dict[str, Tensor] = {}  # on the device
        self._stale: set[str] = set()  # bound inputs that are not where the program reads them
        # With its index, since the program asserts devices and "cuda" is not equal to "cuda:0".
        self._device = f"cuda:{torch.cuda.current_device()}"
        module = move_to_device_pass(program, self._device).module()
        self._module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._inputs = {spec.name: torch.zeros(spec.shape, device=self._device) for spec in inputs}
        self._runs = [
            _Run({spec.name: torch.empty(spec.shape, pin_memory=True) for spec in outputs})
            for _ in range(self.in_flight)
        ]
        self._graph = torch.cuda.CUDAGraph()
        self._stream.wait_stream(torch.cuda.current_stream())
        # A float32 program stays float32: TF32 has the mantissa of a half.
        fastest = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.no_grad(), fastest:
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UP):
                    self._module(*self._inputs.values())
            self._stream.synchronize()
            # Another thread may be using another engine of this process, which this mode allows.
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                results = self._module(*self._inputs.values())
        self._results = {spec.name: result for spec, result in zip(outputs, results, strict=True)}

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.require_open()
        self.check(feeds)
        with torch.cuda.stream(self._stream):
            for name, value in feeds.items():
                self._bound[name] = torch.from_numpy(np.array(value)).to(self._device)
        self._stale |= feeds.keys()

    def launch(self, run: _Run, feeds: Mapping[str, Array]) -> None:
        with torch.cuda.stream(self._stream):
            for name in self._stale - feeds.keys():
                self._inputs[name].copy_(self._bound[name])
            for name, value in feeds.items():
                if name not in run.inputs:
                    run.inputs[name] = torch.empty(value.shape, pin_memory=True)
                np.copyto(run.inputs[name].numpy(), value)
                self._inputs[name].copy_(run.inputs[name], non_blocking=True)
            self._graph.replay()
            for name, result in self._results.items():
                run.outputs[name].copy_(result, non_blocking=True)
            run.done.record()
        self._stale = self._bound.keys() & feeds.keys()

    def wait(self, run: _Run) -> dict[str, Array]:
        run.done.synchronize()
        return {name: result.numpy().copy() for name, result in run.outputs.items()}

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._stream.synchronize()
        finally:  # also where the GPU has failed
            for name in ("_graph", "_module", "_inputs", "_bound", "_results", "_runs"):
                setattr(self, name, None)
