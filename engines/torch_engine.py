"""PyTorch: runs the torch.export programs of a bundle made with `build_engine.py --torch`."""

from collections.abc import Mapping

import torch

import kernels  # noqa: F401 - registers the operators that a program may call
from engines.bundle import Bundle
from engines.protocol import Array, Engine, EngineError


class TorchEngine(Engine):
    """One program on the CPU."""

    backend = "torch"

    def __init__(self, bundle: Bundle, graph: str) -> None:
        program = f"{graph}.torch"
        if program not in bundle.graphs:
            raise EngineError(f"{bundle.folder} holds no torch programs; export it again with --torch")
        self.inputs = bundle.graphs[program].inputs
        self.outputs = bundle.graphs[program].outputs
        self._bound: dict[str, torch.Tensor] = {}
        try:
            self._module: torch.nn.Module | None = torch.export.load(bundle.path(program)).module()
        except Exception as error:  # whatever torch raises for a program of another version
            raise EngineError(
                f"PyTorch {torch.__version__} cannot load {bundle.path(program)} ({error}); "
                "export the bundle again"
            ) from error

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.check(feeds)
        self._bound = {**self._bound, **{name: torch.from_numpy(value) for name, value in feeds.items()}}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._module is None:
            raise EngineError("this engine is closed")
        self.check(feeds)
        merged = {**self._bound, **{name: torch.from_numpy(value) for name, value in feeds.items()}}
        self.require(merged)
        with torch.inference_mode():
            results = self._module(*(merged[spec.name] for spec in self.inputs))
        return {spec.name: result.numpy() for spec, result in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        self._module = None


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load the torch program of `graph`."""
    return TorchEngine(bundle, graph)
