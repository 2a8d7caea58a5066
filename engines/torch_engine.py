"""PyTorch: runs the torch.export programs of a bundle made with `build_engine.py --torch`."""

from collections.abc import Mapping

import torch

import kernels  # noqa: F401 - registers the operators that a program may call
from engines.bundle import Bundle
from engines.protocol import Array, Engine, EngineError, HostEngine


class TorchEngine(HostEngine):
    """One program on the CPU."""

    backend = "torch"

    def __init__(self, bundle: Bundle, graph: str) -> None:
        program = f"{graph}.torch"
        if program not in bundle.graphs:
            raise EngineError(f"{bundle.folder} holds no torch programs; export it again with --torch")
        super().__init__(bundle.graphs[program].inputs, bundle.graphs[program].outputs)
        try:
            self._module: torch.nn.Module | None = torch.export.load(bundle.path(program)).module()
        except Exception as error:  # whatever torch raises for a program of another version
            raise EngineError(
                f"PyTorch {torch.__version__} cannot load {bundle.path(program)} ({error}); "
                "export the bundle again"
            ) from error

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self._module is not None
        with torch.inference_mode():
            results = self._module(*(torch.from_numpy(feeds[spec.name]) for spec in self.inputs))
        return {spec.name: result.numpy() for spec, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        super().close()
        self._module = None


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load the torch program of `graph`."""
    return TorchEngine(bundle, graph)
