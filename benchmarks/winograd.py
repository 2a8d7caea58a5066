"""Convolutions of OpenVINO as they are and in Winograd's form, in turns: where `choose` draws its line.

    python -m benchmarks.winograd --out benchmarks/results/winograd
    python -m benchmarks.winograd --bundle bundles/paper            # also that bundle's try-on graph

Run as a module, from the root: as a script it would find the benchmark `kernels.py` instead of the package.
Milliseconds are medians of the clock. A convolution stands between a 1x1 convolution with ReLU and another,
so that OpenVINO holds features as it does within a network; "around" is those alone, with nothing between.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from tqdm import tqdm

import engines
from benchmarks.common import in_turns, line, machine
from engines.openvino_engine import OPTIONS
from engines.openvino_winograd import LARGE, SMALL, Filtering, Rule, choose, use_winograd

# (channels in, channels out, height, width), of the published network at 256x192 and around the lines drawn.
CONVOLUTIONS = (
    (512, 128, 128, 96), (256, 256, 64, 48), (64, 256, 128, 96), (128, 128, 64, 48), (128, 64, 128, 96),
    (64, 64, 256, 192), (64, 64, 128, 96), (1024, 1024, 16, 12), (512, 512, 16, 12), (256, 256, 16, 12),
)  # fmt: skip
RULES: dict[str, Rule] = {
    "direct": lambda *_: None,
    "tiles of 4x4": lambda *_: LARGE,
    "tiles of 2x2": lambda *_: SMALL,
}


def network(width_in: int, width_out: int, height: int, width: int, size: int) -> ov.Model:
    """1x1 convolution, ReLU, the convolution in question (size 3, or 0 for none), ReLU, 1x1 convolution."""
    rng = np.random.default_rng(0)

    def convolved(x: ov.Output, kernel: int, widths: tuple[int, int]) -> ov.Node:
        weight = rng.standard_normal((*widths, kernel, kernel), np.float32)
        weight /= kernel * np.sqrt(np.float32(widths[1]))
        padding = [kernel // 2] * 2
        return ops.convolution(x, ops.constant(weight), [1, 1], padding, padding, [1, 1])

    x = ops.parameter([1, width_in, height, width], np.float32, name="x")
    y = ops.relu(convolved(x.output(0), 1, (width_in, width_in)))
    if size:
        y = ops.relu(convolved(y.output(0), size, (width_out, width_in)))
    y = convolved(y.output(0), 1, (1, width_out if size else width_in))
    return ov.Model([y], [x], "convolution")


def prepare(model: ov.Model) -> Callable[[int], object]:
    """A function that runs the model, compiled as the engine compiles it, on random inputs."""
    compiled = ov.Core().compile_model(model, "CPU", OPTIONS)
    rng = np.random.default_rng(0)
    feeds = [rng.uniform(-1, 1, tuple(port.shape)).astype(np.float32) for port in compiled.inputs]
    request = compiled.create_infer_request()
    return lambda _: request.infer(feeds)


def medians(ways: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Each way's median milliseconds."""
    taken = in_turns(ways, rounds, warm_up=2)
    return {name: 1000 * statistics.median(seconds) for name, seconds in taken.items()}


def convolution(shape: tuple[int, int, int, int], rounds: int) -> dict[str, float]:
    """Milliseconds of one convolution in each form, and of what stands around it."""
    ways = {"around": prepare(network(*shape, size=0))}
    for name, rule in RULES.items():
        model = network(*shape, size=3)
        use_winograd(model, rule)
        ways[name] = prepare(model)
    return medians(ways, rounds)


def only_large(width_in: int, width_out: int, height: int, width: int) -> Filtering | None:
    """Tiles of 4x4 where `choose` takes them, and none of 2x2."""
    chosen = choose(width_in, width_out, height, width)
    return chosen if chosen is LARGE else None


def graph(path: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of a whole graph as it is, with 4x4 tiles alone, and as it is run."""
    rules: dict[str, Rule] = {"direct": RULES["direct"], "tiles of 4x4": only_large, "as chosen": choose}
    ways = {}
    for name, rule in rules.items():
        model = ov.Core().read_model(path)
        use_winograd(model, rule)
        ways[name] = prepare(model)
    return medians(ways, rounds)


def markdown(about: dict[str, Any], rows: dict[str, dict[str, float]], whole: dict[str, float] | None) -> str:
    """The result as a page."""
    lines = [line(about), ""]
    lines += ["| convolution | in·out / (in + out) | around, ms | " + " | ".join(RULES) + " | chosen |"]
    lines += ["|---|---|---|" + "---|" * len(RULES) + "---|"]
    for (width_in, width_out, height, width), (name, times) in zip(CONVOLUTIONS, rows.items(), strict=True):
        chosen = choose(width_in, width_out, height, width)
        ratio = width_in * width_out / (width_in + width_out)
        cells = [f"{times['direct']:.2f}"]
        cells += [f"{times[r]:.2f}, {times['direct'] / times[r]:.2f}×" for r in RULES if r != "direct"]
        tile = f"{chosen.tile}x{chosen.tile}" if chosen else "direct"
        lines += [f"| {name} | {ratio:.0f} | {times['around']:.2f} | " + " | ".join(cells) + f" | {tile} |"]
    if whole:
        parts = (f"{name} {ms:.0f} ms ({whole['direct'] / ms:.2f}×)" for name, ms in whole.items())
        lines += ["", "The whole graph: " + ", ".join(parts) + "."]
    return "\n".join(lines) + "\n"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="also time its try-on graph")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="(20)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/winograd"), metavar="DIR", help="folder to write"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    about = machine("openvino", "numpy")
    rows = {}
    for shape in tqdm(CONVOLUTIONS, unit="convolution"):
        width_in, width_out, height, width = shape
        rows[f"{width_in} to {width_out}, {height}×{width}"] = convolution(shape, args.rounds)
    whole = None
    if args.bundle:
        try:
            whole = graph(engines.load_bundle(args.bundle).path("tryon"), args.rounds)
        except engines.EngineError as error:
            print(f"winograd: {error}", file=sys.stderr)
            return 2
    args.out.mkdir(parents=True, exist_ok=True)
    content = {**about, "milliseconds": rows, "graph": whole}
    (args.out / "winograd.json").write_text(json.dumps(content, indent=1) + "\n")
    page = markdown(about, rows, whole)
    (args.out / "winograd.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
