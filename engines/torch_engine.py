"""PyTorch: runs the torch.export programs of a bundle made with `build_engine.py --torch`.

On an NVIDIA GPU where there is one; `--torch --fused` makes the program for it that calls the Triton kernels.
"""

import logging
from collections.abc import Mapping

import torch
from torch.export import ExportedProgram

from engines.bundle import Bundle
from engines.protocol import Array, Engine, EngineError, HostEngine, TensorSpec
from engines.torch_cuda import TorchCudaEngine
from kernels import triton_runtime  # kernels also registers the operators that a fused program calls

log = logging.getLogger(__name__)


class TorchEngine(HostEngine):
    """One program on the CPU."""

    def __init__(
        self, program: ExportedProgram, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        super().__init__(inputs, outputs)
        self._module: torch.nn.Module | None = program.module()

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self._module is not None
        with torch.inference_mode():
            results = self._module(*(torch.from_numpy(feeds[spec.name]) for spec in self.inputs))
        return {spec.name: result.numpy() for spec, result in zip(self.outputs, results, strict=True)}

    def free(self) -> None:
        self._module = None


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load the torch program of `graph`; on a GPU the fused one, where there is one and Triton.

    `engines.open` has seen that the bundle holds programs.
    """
    name = f"{graph}.torch"
    if not torch.cuda.is_available():
        specs = bundle.graphs[name]
        return TorchEngine(_load(bundle, name), specs.inputs, specs.outputs)
    if triton_runtime.AVAILABLE and f"{name}.fused" in bundle.graphs:
        try:
            return _on_gpu(bundle, f"{name}.fused")
        except EngineError as error:  # as where Triton finds no C compiler to launch its kernels with
            log.warning("%s; PyTorch's own operators take their place", error)
    return _on_gpu(bundle, name)


def _load(bundle: Bundle, name: str) -> ExportedProgram:
    try:
        return torch.export.load(bundle.path(name))
    except Exception as error:  # whatever torch raises for a program of another version
        raise EngineError(
            f"PyTorch {torch.__version__} cannot load {bundle.path(name)} ({error}); export the bundle again"
        ) from error


def _on_gpu(bundle: Bundle, name: str) -> Engine:
    program, specs = _load(bundle, name), bundle.graphs[name]
    try:
        return TorchCudaEngine(program, specs.inputs, specs.outputs)
    except Exception as error:  # too little memory, a GPU that this build of PyTorch does not know, …
        raise EngineError(
            f"PyTorch {torch.__version__} cannot run {bundle.path(name)} on "
            f"{torch.cuda.get_device_name()}: {error}"
        ) from error
