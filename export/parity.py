"""Compare what engines compute from a bundle with the PyTorch model it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

import engines
from engines import onnxruntime_engine
from engines.protocol import Array
from export.graphs import TRYON_OUTPUTS, sample_inputs
from rmgn import RMGN


@dataclass(frozen=True)
class Difference:
    """One output of one engine against float32 PyTorch: |Δ| in the output's units, PSNR in dB."""

    engine: str
    output: str
    max: float
    mean: float
    psnr: float
    mean_pixels: float | None = None  # for the flow: mean length of the error in pixels


def reference(model: RMGN, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the float32 PyTorch model for person, garment and garment_mask."""
    person, garment, mask = (torch.from_numpy(inputs[k]) for k in ("person", "garment", "garment_mask"))
    with torch.no_grad():
        result = model(person, garment, mask)
    return {name: getattr(result, name).numpy() for name in TRYON_OUTPUTS}


def compare(engine: str, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> list[Difference]:
    """Differences of every output, in the order of `expected`. NaN in `actual` gives NaN."""
    rows = []
    for name, wanted in expected.items():
        error = actual[name].astype(np.float64) - wanted
        span = 1.0 if name == "composite_mask" else 2.0  # of the value range
        mean_square = float(np.mean(error**2))
        psnr = float("inf") if mean_square == 0 else float(10 * np.log10(span**2 / mean_square))
        pixels = None
        if name == "flow":
            height, width = wanted.shape[-2:]
            in_pixels = error * np.array([width / 2, height / 2]).reshape(1, 2, 1, 1)
            pixels = float(np.mean(np.hypot(in_pixels[:, 0], in_pixels[:, 1])))
        rows.append(
            Difference(engine, name, float(np.abs(error).max()), float(np.abs(error).mean()), psnr, pixels)
        )
    return rows


def run_engine(bundle: engines.Bundle, backend: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a bundle on one backend. Raises EngineError where it cannot run here."""
    return _run(engines.open(bundle, backend), inputs)


def run_fused(bundle: engines.Bundle, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of the bundle's fused try-on graph, its function bodies run by ONNX Runtime."""
    garment, tryon = (onnxruntime_engine.open_engine(bundle, graph) for graph in ("garment", "tryon.fused"))
    return _run(engines.Session(bundle, "onnxruntime", garment, tryon, "the fused graph"), inputs)


def _run(session: engines.Session, inputs: Mapping[str, Array]) -> dict[str, Array]:
    with session:
        session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
        return session.run(inputs["person"])


def report(
    model: RMGN, bundle: engines.Bundle, inputs: Mapping[str, Array] | None = None
) -> tuple[list[Difference], dict[str, str]]:
    """Compare every backend that runs here; the second value says why each other one was skipped."""
    if inputs is None:
        inputs = {k: v.numpy() for k, v in sample_inputs(bundle.height, bundle.width, seed=1).items()}
    expected = reference(model, inputs)
    rows: list[Difference] = []
    skipped: dict[str, str] = {}
    for backend in engines.BACKENDS:
        try:
            rows += compare(backend, expected, run_engine(bundle, backend, inputs))
        except engines.EngineError as error:
            skipped[backend] = str(error)
    if "tryon.fused" in bundle.graphs:
        rows += compare("onnxruntime, fused graph", expected, run_fused(bundle, inputs))
    return rows, skipped
