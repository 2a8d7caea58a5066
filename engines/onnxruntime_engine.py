"""ONNX Runtime on the CPU: runs every portable graph anywhere; the reference for other engines."""

from collections.abc import Mapping

import onnxruntime as ort

from engines.bundle import Bundle
from engines.protocol import Array, Engine, EngineError


class OnnxRuntimeEngine(Engine):
    """One graph in an ONNX Runtime session."""

    backend = "onnxruntime"

    def __init__(self, bundle: Bundle, graph: str) -> None:
        self.inputs = bundle.graphs[graph].inputs
        self.outputs = bundle.graphs[graph].outputs
        self._bound: dict[str, Array] = {}
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session: ort.InferenceSession | None = ort.InferenceSession(
                str(bundle.path(graph)), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exception classes share no public base
            raise EngineError(f"ONNX Runtime cannot load {bundle.path(graph)}: {error}") from error

    def bind(self, feeds: Mapping[str, Array]) -> None:
        self.check(feeds)
        self._bound = {**self._bound, **feeds}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        if self._session is None:
            raise EngineError("this engine is closed")
        self.check(feeds)
        merged = {**self._bound, **feeds}
        self.require(merged)
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, merged), strict=True))

    def close(self) -> None:
        self._session = None


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load `graph` of `bundle`."""
    return OnnxRuntimeEngine(bundle, graph)
