r"""Every engine that runs here against PyTorch eager, for each preset, size and precision, in one run.

    python -m benchmarks.engines --out benchmarks/results/engines
    python -m benchmarks.engines --presets lite --checkpoint rmgn.safetensors \
        --precisions float32 int8 --calibration layers

Run as a module, from the root: as a script this file would itself be found as `engines`.

Writes engines.json, engines.md and engines.svg: time a frame with the garment encoded, from person to
pictures, load time, memory, size of the graphs, and by how much the results differ from float32 PyTorch.
On a GPU, TensorRT's plans and PyTorch's programs are measured too; eager, the yardstick, stays on the CPU.
Each engine lives in a process of its own; all take turns, a few frames each, so that what else the machine
does falls on all. Median and p95 are of the clock on the wall; "CPU" is the least processor time of a frame,
over all threads, which other programs disturb least.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

import engines
from benchmarks.common import line, machine
from engines import tensorrt_engine
from engines.protocol import Array
from export.parity import as_inputs, compare, random_sample, reference
from export.samples import Sample, read_samples
from export.write_bundle import write_bundle
from rmgn import PRESETS, RMGN
from rmgn.checkpoint import load
from rmgn.config import parse_size

EAGER = "torch eager"
FRAMES = 3  # in a turn


@dataclass(frozen=True)
class Row:
    """One engine on one bundle; times in milliseconds, memory and sizes in MB."""

    preset: str
    size: str
    precision: str
    engine: str
    median_ms: float
    p95_ms: float
    cpu_ms: float
    over_eager: float  # eager's median over this one's
    over_eager_cpu: float
    load_s: float
    memory_mb: float
    graphs_mb: float
    tryon_psnr: float
    flow_pixels: float


class Runner:
    """One engine in a process of its own, which sleeps while others run."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self._process.start()
        other.close()
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.outputs: dict[str, Array]
        try:
            first = self._pipe.recv()
        except EOFError:
            raise engines.EngineError("its process ended while loading") from None
        if isinstance(first, str):
            self.close()
            raise engines.EngineError(first)
        self.load_s, self.memory_mb, self.outputs = first

    def turn(self) -> None:
        """Run a few frames and keep their times in milliseconds."""
        self._pipe.send(FRAMES)
        wall, cpu = self._pipe.recv()
        self.wall += wall
        self.cpu += cpu

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def serve(pipe: Connection, make: Callable[[], tuple[Callable[[], dict[str, Array]], float, float]]) -> None:
    """In the child: report what loading took, then run frames until the pipe closes."""
    run, load_s, memory_mb = make()
    pipe.send((load_s, memory_mb, run()))
    try:
        while True:
            wall, cpu = [], []
            for _ in range(pipe.recv()):
                start, used = time.perf_counter(), time.process_time()
                run()
                wall.append(1000 * (time.perf_counter() - start))
                cpu.append(1000 * (time.process_time() - used))
            pipe.send((wall, cpu))
    except EOFError:
        pass


def serve_engine(pipe: Connection, folder: Path, backend: str, inputs: dict[str, Array]) -> None:
    """A bundle on one backend."""

    def make() -> tuple[Callable[[], dict[str, Array]], float, float]:
        before, start = resident_mb(), time.perf_counter()
        session = engines.open(folder, backend)
        session.wear(session.encode(inputs["garment"], inputs["garment_mask"]))
        session.run(inputs["person"])
        load_s = time.perf_counter() - start
        return lambda: session.run(inputs["person"]), load_s, resident_mb() - before

    try:
        serve(pipe, make)
    except engines.EngineError as error:
        pipe.send(str(error))


def serve_eager(pipe: Connection, preset: str, checkpoint: Path | None, inputs: dict[str, Array]) -> None:
    """The network as it was trained, in PyTorch."""

    def make() -> tuple[Callable[[], dict[str, Array]], float, float]:
        before, start = resident_mb(), time.perf_counter()
        model = network(preset, checkpoint)
        person, garment, mask = (
            torch.from_numpy(inputs[name]) for name in ("person", "garment", "garment_mask")
        )

        @torch.inference_mode()
        def run() -> dict[str, Array]:
            result = model(person, garment, mask, pyramid)
            names = ("flow", "rendered", "composite_mask", "tryon")
            return {name: getattr(result, name).numpy() for name in names}

        with torch.inference_mode():
            pyramid = model.encode_garment(garment, mask)
        run()
        return run, time.perf_counter() - start, resident_mb() - before

    serve(pipe, make)


def resident_mb() -> float:
    """Memory of this process that is in use."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        if entry.startswith("VmRSS"):
            return int(entry.split()[1]) / 1000
    raise RuntimeError("/proc/self/status has no VmRSS")


def network(preset: str, checkpoint: Path | None) -> RMGN:
    """Trained weights, or the same random ones in every process."""
    if checkpoint:
        return load(checkpoint)
    torch.manual_seed(0)
    return RMGN(PRESETS[preset]).eval()


def measure(
    preset: str,
    height: int,
    width: int,
    precisions: Sequence[str],
    checkpoint: Path | None,
    calibration: Sequence[Sample],
    measured: Sample | None,
    rounds: int,
) -> list[Row]:
    """All engines and precisions of one preset at one size, on `measured` or a random sample."""
    model = network(preset, checkpoint)
    inputs = as_inputs(measured) if measured else random_sample(height, width)
    expected = reference(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        runners: dict[tuple[str, str], Runner] = {
            ("float32", EAGER): Runner(serve_eager, preset, checkpoint, inputs)
        }
        sizes = {"float32": 0.0}
        for precision in precisions:
            for_gpu = torch.cuda.is_available() and precision != "int8"
            bundle = write_bundle(
                model,
                Path(folder) / precision,
                height,
                width,
                half=precision == "float16",
                torch_programs=for_gpu,
                fused=for_gpu,
                calibration=calibration if precision == "int8" else (),
                example=measured,  # a trained network strays on random pictures
            )
            if for_gpu:
                build_plans(bundle)
            graphs = (bundle.path(graph) for graph in ("garment", "tryon"))
            sizes[precision] = sum(path.stat().st_size for path in graphs) / 1e6
            for backend in engines.BACKENDS:
                try:
                    runners[precision, backend] = Runner(serve_engine, bundle.folder, backend, inputs)
                except engines.EngineError as error:
                    print(f"not measured: {preset} {precision}: {error}", file=sys.stderr)
        for _ in range(rounds):
            for runner in runners.values():
                runner.turn()
        for runner in runners.values():
            runner.close()
    eager = runners["float32", EAGER]
    rows = []
    for (precision, engine), runner in runners.items():
        differences = {row.output: row for row in compare(engine, expected, runner.outputs)}
        median = float(np.median(runner.wall))
        rows.append(
            Row(
                preset,
                f"{height}x{width}",
                precision,
                engine,
                median,
                float(np.percentile(runner.wall, 95)),
                min(runner.cpu),
                float(np.median(eager.wall)) / median,
                min(eager.cpu) / min(runner.cpu),
                runner.load_s,
                runner.memory_mb,
                0.0 if engine == EAGER else sizes[precision],
                differences["tryon"].psnr,
                differences["flow"].mean_pixels or 0.0,
            )
        )
    return rows


def build_plans(bundle: engines.Bundle) -> None:
    """TensorRT's plans for the GPU here, with every library that is installed."""
    for library in tensorrt_engine.installed():
        try:
            for graph in ("garment", "tryon"):
                tensorrt_engine.build_plan(bundle, graph, library)
        except engines.EngineError as error:
            print(f"no plan: {library}: {error}", file=sys.stderr)


def write(rows: Sequence[Row], about: dict[str, Any], out: Path) -> None:
    """engines.json, engines.md and engines.svg."""
    out.mkdir(parents=True, exist_ok=True)
    content = {**about, "rows": [asdict(row) for row in rows]}
    (out / "engines.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        line(about),
        "",
        "| preset | size | precision | engine | median ms | p95 ms | CPU ms | × eager | × eager, CPU "
        "| load s | memory MB | graphs MB | try-on dB | flow px |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.preset} | {r.size} | {r.precision} | {r.engine} | {r.median_ms:.1f} | {r.p95_ms:.1f} | "
        f"{r.cpu_ms:.1f} | {r.over_eager:.2f} | {r.over_eager_cpu:.2f} | {r.load_s:.1f} | "
        f"{r.memory_mb:.0f} | {r.graphs_mb:.1f} | {r.tryon_psnr:.0f} | {r.flow_pixels:.3f} |"
        for r in rows
    ]
    (out / "engines.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "engines.svg").write_text(chart(rows, on_gpu="GPU" in about), encoding="utf-8")


def chart(rows: Sequence[Row], on_gpu: bool = False) -> str:
    """Bars of how many times as fast as eager each engine is, by processor time, or by the clock on a GPU.

    On a CPU that others use too, processor time repeats best; a GPU's work does not show in it.
    """
    measure = "time" if on_gpu else "processor time"
    bars = [(r.over_eager, r.median_ms) if on_gpu else (r.over_eager_cpu, r.cpu_ms) for r in rows]
    spacing, left, unit = 18, 300, 90
    width = left + unit * (1 + int(max(ratio for ratio, _ in bars)))
    parts = []
    for index, (row, (ratio, milliseconds)) in enumerate(zip(rows, bars, strict=True)):
        y = 30 + index * spacing
        label = f"{row.preset} {row.size} {row.precision} {row.engine}"
        fill = "#999" if row.engine == EAGER else "#2a6f97"
        parts.append(f'<text x="{left - 8}" y="{y + 12}" text-anchor="end">{label}</text>')
        length = unit * ratio
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="14" fill="{fill}"/>')
        parts.append(
            f'<text x="{left + length + 4:.0f}" y="{y + 12}">{ratio:.1f}× ({milliseconds:.3g} ms)</text>'
        )
    height = 40 + len(rows) * spacing
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width + 60}" height="{height}" '
        'font-family="sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="18">times as fast as PyTorch eager, by {measure} of a frame</text>'
        + "".join(parts)
        + "</svg>\n"
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["lite", "paper"])
    parser.add_argument(
        "--sizes", nargs="+", type=parse_size, default=[(256, 192), (512, 384)], metavar="HxW"
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=["float32", "float16", "int8"],
        default=["float32", "float16"],
        help="int8 needs --calibration",
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="trained weights of the one preset")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="as of export/build_engine.py")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help=f"turns of {FRAMES} frames (20)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/engines"), metavar="DIR", help="folder to write"
    )
    args = parser.parse_args(argv)
    if args.checkpoint and len(args.presets) > 1:
        parser.error("--checkpoint holds the weights of one preset: name it with --presets")
    if "int8" in args.precisions and not args.calibration:
        parser.error("int8 needs --calibration DIR")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    here, rows = machine("torch", "onnxruntime", "openvino"), []
    try:
        for preset in args.presets:
            for height, width in args.sizes:
                samples = read_samples(args.calibration, height, width, 9) if args.calibration else []
                # The last one is kept from the calibration, whose budget INT8 meets by construction.
                measured = samples.pop() if len(samples) > 1 else None
                rows += measure(
                    preset, height, width, args.precisions, args.checkpoint, samples, measured, args.rounds
                )
                write(rows, here, args.out)
                print(f"{preset} {height}x{width}: measured", flush=True)
    except (engines.EngineError, ValueError, OSError) as error:
        print(f"benchmarks.engines: {error}", file=sys.stderr)
        return 2
    print(args.out / "engines.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
