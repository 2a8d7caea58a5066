"""Export a checkpoint as a bundle of ONNX graphs and build its TensorRT engine.

python export/build_engine.py --fp16                              # lite-256, which comes with the project
python export/build_engine.py --checkpoint rmgn.safetensors --fp16 --out bundles/rmgn
python export/build_engine.py --checkpoint rmgn.safetensors --int8 --calibration layers   # for OpenVINO
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from engines import Bundle, EngineError, tensorrt_engine
from engines.build_plans import build_plans, capabilities, require_rtx
from engines.bundle import sha256
from engines.program import Parser, pasted, run
from engines.reference import LIMITS
from engines.whole_file import check_folder
from export.parity import Difference, as_inputs, report
from export.samples import SHIPPED, Sample, read_samples, shipped_samples
from export.write_bundle import check_out, write_bundle
from rmgn import PRESETS, RMGN
from rmgn.checkpoint import load, other_size, read_notes, trained_size
from rmgn.config import parse_size

CHECKED = 2  # given samples that engines are compared with PyTorch on
LITE_256 = SHIPPED / "training" / "lite-256.safetensors"
SIZE = (256, 192)  # where neither --size nor the checkpoint says another
CALIBRATION_SAMPLES = 32
FEW = 16  # samples below which INT8 is calibrated on chance


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="trained weights, .safetensors (those of lite-256)"
    )
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="an architecture with random weights, without --checkpoint"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="picture size (that of the training, or 256x192)"
    )
    parser.add_argument("--fp16", action="store_true", help="float16 graphs with float32 islands")
    parser.add_argument(
        "--int8", action="store_true", help="INT8 convolutions for OpenVINO on a CPU, with --calibration"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="DIR",
        help="pictures to calibrate INT8 with: layers, or folders person, garment, garment_mask",
    )
    parser.add_argument(
        "--calibration-samples", type=int, metavar="N", help=f"how many of them ({CALIBRATION_SAMPLES})"
    )
    parser.add_argument(
        "--samples",
        type=Path,
        metavar="DIR",
        help="pictures to compare engines on, as for --calibration (the clip and garments of the project)",
    )
    parser.add_argument("--torch", action="store_true", help="also write programs for the torch engine")
    parser.add_argument(
        "--fused",
        action="store_true",
        help="also write the try-on graph with fused kernels, for GPUs: TensorRT builds them as plugins",
    )
    parser.add_argument(
        "--compute-capability",
        type=capabilities,
        metavar="LIST",
        help="GPUs of a TensorRT-RTX engine: 8.6,8.9",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="report.json of an evaluation of --checkpoint, for the bundle",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the bundle (bundles/NAME-SIZE-PRECISION)"
    )
    args = parser.parse_args(argv)
    if args.checkpoint and args.preset:
        parser.error("--preset names an architecture without weights; --checkpoint brings its own: give one")
    if args.report and not args.checkpoint:
        parser.error("--report is an evaluation of --checkpoint: give both")
    if args.int8 != bool(args.calibration):
        parser.error("--int8 and --calibration DIR belong together")
    if args.int8 and (args.fp16 or args.fused):
        parser.error("--int8 goes with neither --fp16 nor --fused: build two bundles")
    if args.int8 and args.compute_capability:
        parser.error("--compute-capability is of TensorRT-RTX engines, which --int8 builds none of")
    if args.calibration_samples is not None and not args.int8:
        parser.error("--calibration-samples goes with --int8")
    if args.calibration_samples is None:
        args.calibration_samples = CALIBRATION_SAMPLES
    if args.calibration_samples < 1:
        parser.error("--calibration-samples must be at least 1")
    if not args.checkpoint and not args.preset:
        if not LITE_256.is_file():  # installed without the checkout's models
            parser.error(
                f"give --checkpoint FILE, since {LITE_256} is missing (install from a checkout with "
                "`pip install -e`), or --preset for random weights"
            )
        args.checkpoint = LITE_256
    return args


def build(args: argparse.Namespace, console: Console) -> Bundle:
    """Write the bundle, build every TensorRT plan that can be built, and print the parity table."""

    def say(message: str) -> None:
        console.print(message, markup=False, soft_wrap=True)

    trained = trained_size(args.checkpoint) if args.checkpoint else None
    height, width = args.size or trained or SIZE
    name = args.checkpoint.stem if args.checkpoint else args.preset
    precision = "int8" if args.int8 else "fp16" if args.fp16 else "fp32"
    require_rtx(args.compute_capability)
    out = args.out or Path("bundles") / f"{name}-{height}x{width}-{precision}"
    check_out(out)
    check_folder(out.parent)
    quality = read_quality(args.report, args.checkpoint) if args.report else None
    # On random pictures a trained network strays.
    shipped = shipped_samples(height, width, CHECKED) if args.checkpoint else []
    calibration, checked = _calibration(args, height, width) if args.int8 else ([], shipped)
    if args.samples:
        checked = read_samples(args.samples, height, width, CHECKED)
    model, provenance = _model(args)
    for warning in _warnings(args, trained, (height, width), len(calibration)):
        say(warning)

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("export", total=None)

        def check(bundle: Bundle) -> None:
            progress.update(task, description="ONNX bundle", total=1, completed=1)
            built = _int8_messages(bundle) if args.int8 else _plan_messages(bundle, args, progress)
            for message in built:
                say(message)
            comparing = progress.add_task("comparing engines with PyTorch", total=1)
            rows, skipped = report(model, bundle, [as_inputs(sample) for sample in checked])
            progress.advance(comparing)
            console.print(_table(rows))
            for backend, reason in skipped.items():
                reason = reason.replace(str(bundle.folder), str(out))  # where it will be
                say(f"not compared: {backend}: {reason}")
            _require_parity(rows, out, bundle.precision)

        bundle = write_bundle(
            model,
            out,
            height,
            width,
            args.fp16,
            torch_programs=args.torch,
            fused=args.fused,
            provenance=provenance,
            progress=lambda step: progress.update(task, description=step),
            calibration=calibration,
            quality=quality,
            example=shipped[0] if shipped else None,
            check=check,
        )

    graphs = [bundle.path(graph) for graph in ("garment", "tryon")]
    megabytes = sum(path.stat().st_size for path in graphs) / 1e6
    say(
        f"{out}: {bundle.precision}, {megabytes:.1f} MB of graphs. "
        f"Try it: rmgn mirror --camera 0 --bundle {pasted(out)}"
    )
    return bundle


def _model(args: argparse.Namespace) -> tuple[RMGN, dict[str, str]]:
    """The network to export, and where its weights come from."""
    if not args.checkpoint:
        torch.manual_seed(0)
        weights = f"preset {args.preset} with random weights"
        return RMGN(PRESETS[args.preset]).eval(), {"weights": weights, "preset": args.preset}
    model = load(args.checkpoint)
    broken = next((name for name, each in model.state_dict().items() if not torch.isfinite(each).all()), None)
    if broken is not None:
        raise EngineError(f"{args.checkpoint} holds weights that are not finite, such as {broken}")
    preset = next((name for name, config in PRESETS.items() if config == model.config), "none")
    origin = {"weights": f"checkpoint {args.checkpoint.name}", "sha256": sha256(args.checkpoint)}
    return model, {**read_notes(args.checkpoint), **origin, "preset": preset}


def _warnings(
    args: argparse.Namespace, trained: tuple[int, int] | None, size: tuple[int, int], calibration: int
) -> Iterator[str]:
    """What the user may not have meant. calibration: with how many samples."""
    if not args.checkpoint:
        yield f"No --checkpoint: the {args.preset} network is exported untrained, its pictures will be noise."
    if args.checkpoint and (told := other_size(args.checkpoint.name, trained, size)):
        yield f"{told}. Train at that size, or leave --size out."
    if 0 < calibration < FEW:
        yield f"INT8 is calibrated with {calibration} samples; fewer than {FEW} may miss its limits."


def _require_parity(rows: list[Difference], out: Path, precision: str) -> None:
    """Raise EngineError where an engine is further from PyTorch than its precision may be."""
    limits = LIMITS[precision]
    wrong = sorted({row.engine for row in rows if not row.within(limits)})
    if wrong:
        advice = (
            "Other or more pictures to calibrate with may help."
            if precision == "int8"
            else "Another version of that library, or other pictures (--samples DIR), may help."
        )
        raise EngineError(
            f"the results of {' and '.join(wrong)} differ from PyTorch's by more than {precision} may "
            f"(try-on {limits.psnr:.0f} dB, flow {limits.flow_pixels} px, see the table), so {out} was not "
            f"written. {advice}"
        )


def read_quality(report: Path, checkpoint: Path) -> dict[str, Any]:
    """What `rmgn.evaluate` measured of a checkpoint, from its report.json. Raises EngineError.

    The checkpoint is known by its SHA-256, wherever it lay; in reports that have none, by its path.
    """
    try:
        content = json.loads(report.read_text(encoding="utf-8"))
        sources = [(str(c["source"]), c.get("sha256")) for c in content["contenders"]]
        measured = [{k: c[k] for k in ("paired", "unpaired")} for c in content["contenders"]]
        size = f"{content['height']}x{content['width']}"
        data = {"data": content["data"], "size": size, "trials": content["trials"]}
        at_path = [Path(source).resolve() == checkpoint.resolve() for source, _ in sources]
    except FileNotFoundError:
        raise EngineError(f"{report} does not exist") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EngineError(f"{report} is no report.json of rmgn.evaluate ({error})") from error
    if not checkpoint.is_file():
        raise EngineError(f"{checkpoint} does not exist")
    found = at_path
    if any(known for _, known in sources):
        own = sha256(checkpoint)
        found = [known == own for _, known in sources]
    if not any(found):
        if any(at_path):
            raise EngineError(f"{checkpoint} has changed since {report} was made: evaluate it again")
        names = ", ".join(source for source, _ in sources) or "nothing"
        raise EngineError(f"{report} does not evaluate {checkpoint}, but {names}")
    return {**data, **measured[found.index(True)]}


def _calibration(args: argparse.Namespace, height: int, width: int) -> tuple[list[Sample], list[Sample]]:
    """What to calibrate with, and what to check with: other samples where there are more than two."""
    samples = read_samples(args.calibration, height, width, args.calibration_samples + CHECKED)
    apart = len(samples) > CHECKED
    return samples[:-CHECKED] if apart else samples, samples[-CHECKED:]


def _int8_messages(bundle: Bundle) -> list[str]:
    measured = bundle.metrics["int8"]
    kept = ", ".join(measured["kept_in_float32"]) or "none"
    return [
        f"INT8: {measured['share_of_candidates']:.0%} of the arithmetic of wide convolutions; "
        f"kept in float32 by measurement: {kept}",
        "No TensorRT engine is built from an INT8 bundle: it is made for OpenVINO on a CPU.",
    ]


def _plan_messages(bundle: Bundle, args: argparse.Namespace, progress: Progress) -> list[str]:
    if not tensorrt_engine.installed():
        return [
            f"No TensorRT here, so no engine was built ({tensorrt_engine.INSTALL}). "
            "The ONNX bundle runs with ONNX Runtime or OpenVINO as it is."
        ]

    @contextlib.contextmanager
    def watch(label: str) -> Iterator[tensorrt_engine.Progress]:
        task = progress.add_task(label, total=None)

        def update(phase: str, done: int, total: int) -> None:
            progress.update(task, description=f"{label}: {phase}", completed=done, total=total)

        try:
            yield update
        except EngineError:
            progress.remove_task(task)
            raise

    built, failed = build_plans(bundle, args.compute_capability, watch)
    return built + failed


def _table(rows: list[Difference]) -> Table:
    table = Table("engine", "output", "max |Δ|", "mean |Δ|", "PSNR dB", title="against PyTorch float32")
    for row in rows:
        mean = f"{row.mean:.2e}" + (f" ({row.mean_pixels:.3f} px)" if row.mean_pixels is not None else "")
        table.add_row(row.engine, row.output, f"{row.max:.2e}", mean, f"{row.psnr:.1f}")
    return table


def command(argv: Sequence[str] | None) -> None:
    build(parse_args(argv), Console())


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, memory="take a smaller --size")


if __name__ == "__main__":
    sys.exit(main())
