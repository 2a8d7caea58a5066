"""ONNX Runtime on the CPU: runs every portable graph anywhere; the reference for other engines."""

from collections.abc import Mapping

import onnxruntime as ort

from engines.bundle import Bundle
from engines.protocol import Array, Engine, EngineError, HostEngine


class OnnxRuntimeEngine(HostEngine):
    """One graph in an ONNX Runtime session."""

    def __init__(self, bundle: Bundle, graph: str) -> None:
        super().__init__(bundle.graphs[graph].inputs, bundle.graphs[graph].outputs)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Threads that spin between layers take the cores that capture and display need: on two busy cores
        # a frame then takes nearly twice as long.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        try:
            # The last option also changes the floating-point mode of the thread that makes a process's first
            # session, for good: not the caller's, whose own numbers may be small.
            self._session: ort.InferenceSession | None = self._thread.submit(
                ort.InferenceSession, str(bundle.path(graph)), options, providers=["CPUExecutionProvider"]
            ).result()
        except Exception as error:  # ONNX Runtime's own exception classes share no public base
            raise EngineError(f"ONNX Runtime cannot load {bundle.path(graph)}: {error}") from error

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self._session is not None
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def free(self) -> None:
        self._session = None


def open_engine(bundle: Bundle, graph: str) -> Engine:
    """Load `graph` of `bundle`."""
    return OnnxRuntimeEngine(bundle, graph)
