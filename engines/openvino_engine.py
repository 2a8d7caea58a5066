"""OpenVINO on the CPU: the faster of the CPU engines where it is installed."""

from collections.abc import Mapping

import numpy as np
import openvino as ov

from engines.bundle import Bundle
from engines.openvino_winograd import use_winograd
from engines.protocol import Array, Engine, EngineError, HostEngine

# As exported: on CPUs with bfloat16 instructions OpenVINO would else compute in those, flow arithmetic
# included, which moves the garment by half a pixel (docs/engines.md).
OPTIONS: dict[str, str | bool] = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "CPU_DENORMALS_OPTIMIZATION": True,
}


class OpenVinoEngine(HostEngine):
    """One graph compiled for the CPU, tuned for the latency of a single frame."""

    def __init__(self, bundle: Bundle, graph: str) -> None:
        super().__init__(bundle.graphs[graph].inputs, bundle.graphs[graph].outputs)
        try:
            # Compiling replaces its thread's alternative signal stack by one that dies with the model;
            # on the main thread the next signal that Python handles would then crash the process.
            compiled = self._thread.submit(_compile, str(bundle.path(graph))).result()
            self._request: ov.InferRequest | None = compiled.create_infer_request()
        except Exception as error:  # OpenVINO raises plain RuntimeErrors of many kinds
            raise EngineError(f"OpenVINO cannot load {bundle.path(graph)}: {error}") from error

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self._request is not None
        results = self._request.infer(dict(feeds), share_inputs=True)
        return {spec.name: np.array(results[spec.name]) for spec in self.outputs}

    def free(self) -> None:
        self._request = None


def _compile(path: str) -> ov.CompiledModel:
    core = ov.Core()
    model = core.read_model(path)
    use_winograd(model)
    return core.compile_model(model, "CPU", OPTIONS)


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Compile `graph` of `bundle`."""
    return OpenVinoEngine(bundle, graph)
