"""Build one plan, as a program of its own: engines.tensorrt_engine starts it and reads its progress.

    python -m engines.tensorrt_build portable tensorrt_rtx tryon.onnx tryon.plan 8.6,8.9

First which of FORMS is built; then what and where to; at last for which GPUs, if not the one at hand.

A builder that dies takes only this process along, and its memory goes back. Progress goes to
stdout, a JSON list [phase, steps done, steps in all] a line; the last line of a failure is {"error": "..."}.
What the library says goes to stderr.
"""

import importlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# How `build` configures the builder. Plans say so, and are built again once it changes: change both together.
OPTIONS = "strongly typed, no TF32"
# Of a try-on graph, from the fastest to the last that is tried: with nodes of the project's own, which become
# plugins (`build_engine.py --fused`); with standard operators; and with GridSample spelled out.
FORMS = ("fused", "portable", "gathered")


class BuildError(Exception):
    """TensorRT refused; the message says what."""


def build(
    form: str, library: str, onnx: Path, plan: Path, capabilities: Sequence[tuple[int, int]] = ()
) -> None:
    """Write the plan of `onnx` in one of FORMS; without capabilities, for the GPU at hand.

    Raises BuildError.
    """
    trt = importlib.import_module(library)
    named = f"{library} {trt.__version__}"
    logger = _logger(trt)
    builder = trt.Builder(logger)
    # TensorRT 11 knows no other networks; 10.x must be told.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    graphs = {"fused": _with_plugins, "portable": Path.read_bytes, "gathered": _gathered}
    if not parser.parse(graphs[form](onnx)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise BuildError(f"{named} cannot read {onnx}: {errors}")
    config = builder.create_builder_config()
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for index, (major, minor) in enumerate(capabilities):
            if not hasattr(trt.ComputeCapability, f"SM{major}{minor}"):
                raise BuildError(f"{named} does not build for compute capability {major}.{minor}")
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), index)
    # A float32 graph is computed in float32: TF32, on by default, puts a flow 0.01 px off.
    config.clear_flag(trt.BuilderFlag.TF32)
    monitor = _monitor(trt)
    config.progress_monitor = monitor
    # How fast each kernel was, for the next build; without a GPU there is nothing to time, and TensorRT-RTX
    # breaks over it.
    timings = plan.with_name(f"{library}.timings") if library == "tensorrt" else None
    if timings is not None:
        known = timings.read_bytes() if timings.is_file() else b""
        cache = config.create_timing_cache(known)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):  # another version's
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise BuildError(f"{named} could not build {onnx}; its messages are above")
    if timings is not None:
        timings.write_bytes(bytes(config.get_timing_cache().serialize()))
    plan.write_bytes(bytes(built))


def _with_plugins(path: Path) -> bytes:
    """A fused graph for the parser, with the plugins registered that its nodes are to become.

    Without the function bodies: some versions of TensorRT would prefer those to the plugins.
    """
    import onnx

    from engines.device import compute_capability
    from kernels import tensorrt_plugins

    here = compute_capability()
    if here is None:
        raise BuildError("plugins are compiled for the GPU at hand, and there is none")
    tensorrt_plugins.register(importlib.import_module("tensorrt.plugin"), 10 * here[0] + here[1])
    model = onnx.load(path)
    del model.functions[:]
    graph: bytes = model.SerializeToString()
    return graph


def _gathered(path: Path) -> bytes:
    try:
        import onnx

        from engines.gathered_sampling import gather_samples
    except ImportError:
        raise BuildError("a warp of gathers takes the package onnx (pip install 'onnx>=1.21,<2')") from None
    try:
        graph: bytes = gather_samples(onnx.load(path)).SerializeToString()
    except ValueError as error:
        raise BuildError(f"{path}: {error}") from error
    return graph


def _logger(trt: Any) -> Any:
    """Errors to stderr: TensorRT's own logger would write between the progress on stdout.

    A build that succeeds has some too, of tactics that do not fit into memory.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                print(f"{trt.__name__}: {message}", file=sys.stderr, flush=True)

    return Logger()


def _monitor(trt: Any) -> Any:
    """Prints the progress of the outermost phase."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.outermost, self.steps = "", 1

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.outermost, self.steps = phase, steps
                self.tell(0)

        def step_complete(self, phase: str, step: int) -> bool:
            if phase == self.outermost:
                self.tell(step + 1)
            return True

        def phase_finish(self, phase: str) -> None:
            if phase == self.outermost:
                self.tell(self.steps)

        def tell(self, done: int) -> None:
            print(json.dumps([self.outermost, done, self.steps]), flush=True)

    return Monitor()


def main(argv: Sequence[str]) -> int:
    # Ctrl-C is for the program that started this one, which ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    form, library, onnx, plan, *rest = argv
    targets = [item.split(".") for item in rest[0].split(",")] if rest else []
    try:
        numbers = [(int(major), int(minor)) for major, minor in targets]
        build(form, library, Path(onnx), Path(plan), numbers)
    except (BuildError, OSError) as error:  # what it asks for; a full disk
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
