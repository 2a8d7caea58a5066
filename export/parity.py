"""Compare what engines compute from bundles with the float32 PyTorch model they were made from.

python export/parity.py --checkpoint rmgn.safetensors bundles/rmgn-fp32 bundles/rmgn-fp16
python export/parity.py --checkpoint rmgn.safetensors --samples photos --samples layers bundles/rmgn-int8
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

import engines
from engines import onnxruntime_engine
from engines.program import Parser, run
from engines.protocol import Array
from engines.reference import LIMITS, Limits, flow_error, psnr
from export.graphs import TRYON_OUTPUTS, sample_inputs
from export.samples import Sample, read_samples, shipped_samples
from rmgn import RMGN
from rmgn.checkpoint import load

Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Difference:
    """One output of one engine against float32 PyTorch: |Δ| in the output's units, PSNR in dB.

    Over several samples: the greatest |Δ|, the mean |Δ|, the worst sample's PSNR and flow error.
    """

    engine: str
    output: str
    max: float
    mean: float
    psnr: float
    mean_pixels: float | None = None  # for the flow: mean length of the error in pixels

    def within(self, limits: Limits) -> bool:
        """Whether try-on and flow keep to `limits`; the other outputs are parts of them and always do."""
        if self.output == "tryon":
            return self.psnr >= limits.psnr
        return self.mean_pixels is None or self.mean_pixels <= limits.flow_pixels


def reference(model: RMGN, inputs: Inputs) -> dict[str, Array]:
    """Outputs of the float32 PyTorch model for person, garment and garment_mask."""
    person, garment, mask = (torch.from_numpy(inputs[k]) for k in ("person", "garment", "garment_mask"))
    with torch.no_grad():
        result = model(person, garment, mask)
    return {name: getattr(result, name).numpy() for name in TRYON_OUTPUTS}


def compare(engine: str, expected: Mapping[str, Array], actual: Mapping[str, Array]) -> list[Difference]:
    """Differences of every output, in the order of `expected`. NaN in `actual` gives NaN."""
    rows = []
    for name, wanted in expected.items():
        error = np.abs(actual[name].astype(np.float64) - wanted)
        span = 1.0 if name == "composite_mask" else 2.0  # of the value range
        pixels = flow_error(actual[name], wanted) if name == "flow" else None
        level = psnr(actual[name], wanted, span)
        rows.append(Difference(engine, name, float(error.max()), float(error.mean()), level, pixels))
    return rows


def worst(rows: Iterable[Difference]) -> list[Difference]:
    """Rows of several samples as one for each engine and output, in order of appearance."""
    groups: dict[tuple[str, str], list[Difference]] = {}
    for row in rows:
        groups.setdefault((row.engine, row.output), []).append(row)
    return [
        replace(
            group[0],
            max=float(np.max([row.max for row in group])),
            mean=float(np.mean([row.mean for row in group])),
            psnr=float(np.min([row.psnr for row in group])),  # NaN stays
            mean_pixels=None
            if group[0].mean_pixels is None
            else float(np.max([row.mean_pixels for row in group])),
        )
        for group in groups.values()
    ]


def run_engine(bundle: engines.Bundle, backend: str, inputs: Inputs) -> dict[str, Array]:
    """Outputs of a bundle on one backend. Raises EngineError where it cannot run here."""
    with engines.open(bundle, backend, verify=False) as session:
        return _try_on(session, inputs)


def run_fused(bundle: engines.Bundle, inputs: Inputs) -> dict[str, Array]:
    """Outputs of the bundle's fused try-on graph, its function bodies run by ONNX Runtime."""
    with _open_fused(bundle) as session:
        return _try_on(session, inputs)


def _open_fused(bundle: engines.Bundle) -> engines.Session:
    garment, tryon = (onnxruntime_engine.open_engine(bundle, graph) for graph in ("garment", "tryon.fused"))
    return engines.Session(bundle, "onnxruntime", garment, tryon, "the fused graph")


def _try_on(session: engines.Session, inputs: Inputs) -> dict[str, Array]:
    session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
    return session.run(inputs["person"])


def report(
    model: RMGN, bundle: engines.Bundle, samples: Sequence[Inputs] = ()
) -> tuple[list[Difference], dict[str, str]]:
    """Compare every backend that runs here; the second value says why each other one was skipped.

    samples: each person, garment and garment_mask; smooth random pictures where there are none.
    """
    samples = samples or [random_sample(bundle.height, bundle.width)]
    expected = [reference(model, sample) for sample in samples]
    rows: list[Difference] = []
    skipped: dict[str, str] = {}

    def compared(name: str, session: engines.Session) -> list[Difference]:
        with session:
            results = [_try_on(session, sample) for sample in samples]
        pairs = zip(expected, results, strict=True)
        return [row for wanted, result in pairs for row in compare(name, wanted, result)]

    for backend in engines.BACKENDS:
        try:
            # Not refused, but compared: an engine that computes something else is what this is to find.
            rows += compared(backend, engines.open(bundle, backend, verify=False))
        except Exception as error:  # whatever a library raises: the others may work
            skipped[backend] = str(error) or type(error).__name__
    if "tryon.fused" in bundle.graphs:
        rows += compared("onnxruntime, fused graph", _open_fused(bundle))
    return worst(rows), skipped


def random_sample(height: int, width: int) -> dict[str, Array]:
    """The pictures of `sample_inputs` that no graph was traced with."""
    return as_inputs(sample_inputs(height, width, seed=1))


def as_inputs(sample: Sample) -> dict[str, Array]:
    """A sample as what engines take."""
    return {name: value.numpy() for name, value in sample.items()}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="folders made from it")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="trained weights")
    parser.add_argument(
        "--samples",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="layers, or folders person, garment, garment_mask; may be repeated (the project's clip and "
        "garments)",
    )
    parser.add_argument("--count", type=int, default=6, metavar="N", help="samples of each folder (6)")
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error("--count must be at least 1")
    return args


def command(argv: Sequence[str] | None) -> int:
    """1 where a bundle is beyond its limits, or no engine runs it here."""
    args = parse_args(argv)
    kept = True
    model = load(args.checkpoint)
    bundles = [engines.load_bundle(folder) for folder in args.bundles]
    print("| bundle | precision | engine | output | max | mean | PSNR dB | flow px |")
    print("|---|---|---|---|---|---|---|---|")
    for folder, bundle in zip(args.bundles, bundles, strict=True):
        size = bundle.height, bundle.width
        samples = [s for source in args.samples for s in read_samples(source, *size, args.count)]
        if not args.samples:
            samples = shipped_samples(*size, args.count)
        rows, skipped = report(model, bundle, [as_inputs(sample) for sample in samples])
        for row in rows:
            pixels = "" if row.mean_pixels is None else f"{row.mean_pixels:.4f}"
            print(
                f"| {folder.name} | {bundle.precision} | {row.engine} | {row.output} | {row.max:.1e} | "
                f"{row.mean:.1e} | {row.psnr:.1f} | {pixels} |"
            )
        for backend, reason in skipped.items():
            print(f"{folder.name}: not compared: {backend}: {reason}", file=sys.stderr)
        beyond = [row for row in rows if not row.within(LIMITS[bundle.precision])]
        for row in beyond:
            limits = LIMITS[bundle.precision]
            print(
                f"{folder.name}: {row.engine}: {row.output} differs by more than {bundle.precision} may "
                f"(try-on {limits.psnr:.0f} dB, flow {limits.flow_pixels} px)",
                file=sys.stderr,
            )
        if not rows:
            print(f"{folder.name}: no engine runs here, so nothing was compared", file=sys.stderr)
        kept = kept and bool(rows) and not beyond
    return 0 if kept else 1


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
