"""The fused kernels against torch eager and torch.compile, at the shapes that the model calls them with.

    python -m benchmarks.kernels --out benchmarks/results/h100           # on a GPU
    python -m benchmarks.kernels --dtype float16 --size 256x192 --batch 1 --operation mask_fusion    # minutes
    TRITON_INTERPRET=1 python -m benchmarks.kernels --interpret --tiny   # anywhere: does every case run?

Run as a module, from the root: as a script this file would itself be found as `kernels`.

Writes kernels.json, kernels.md and kernels.svg: median times, ratios, bytes moved (each operand read once,
each result written once) and their share of the bandwidth of a copy of 1 GB, measured in the same run. What
fits the GPU's cache (50 MB on an H100 or H200) is read from there run after run, so that its share says
little about memory; the ratios compare like with like. Forward is timed as CUDA graphs, as engines run it,
so that small shapes do not measure Python. Nothing is timed until the results agree with eager torch, in
float32 without TF32; a case that does not is told, left out, and makes the exit status 1. Files are written
after every case.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from benchmarks.common import line, machine
from kernels.flow_warp import compose_flow_reference, flow_warp_op, flow_warp_reference, identity_flow
from kernels.local_correlation import local_correlation_op, local_correlation_reference
from kernels.mask_fusion import blend, denormalise, instance_norm
from kernels.mask_fusion_op import mask_fusion_op
from kernels.triton_runtime import AVAILABLE, INTERPRETED, triton
from rmgn import PRESETS, ModelConfig
from rmgn.config import parse_size

Call = Callable[..., Any]
LAYOUTS = ("NCHW", "NHWC")
OPERATIONS = ("mask_fusion", "flow_warp", "compose_flow", "local_correlation")
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
# Of coordinates in float32: a rounding of theirs, times hundreds of pixels, times what changes in one.
FLOW_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One operation at one shape: our call and eager torch's on the same inputs."""

    operation: str
    shape: tuple[int, ...]
    layout: str  # of the features: NCHW or NHWC
    ours: Call
    eager: Call
    inputs: list[Tensor]
    bytes_forward: int


@dataclass(frozen=True)
class Row:
    """Median milliseconds of one case, and the ratios that matter."""

    operation: str
    shape: tuple[int, ...]
    layout: str
    dtype: str
    direction: str
    megabytes: float
    ours_ms: float
    eager_ms: float
    compiled_ms: float
    over_eager: float
    over_compiled: float
    gigabytes_per_second: float
    share_of_copy: float


def cases(
    config: ModelConfig, height: int, width: int, batch: int, dtype: torch.dtype, device: str, layout: str
) -> Iterator[Case]:
    """Every distinct shape of one pass through the network, features in NCHW or NHWC.

    In NHWC without what has but one layout: the correlation, and flows of two channels.
    """
    last = layout == "NHWC"

    def features(channels: int, scale: int) -> Tensor:
        size = (batch, channels, height // scale, width // scale)
        made = torch.randn(size, device=device, dtype=dtype)
        return made.contiguous(memory_format=torch.channels_last) if last else made

    size = torch.finfo(dtype).bits // 8
    for level in range(len(config.encoder_widths)):
        scale = 2 ** (level + 1)
        a, b = features(config.pyramid_width, scale), features(config.pyramid_width, scale)
        window = (2 * config.correlation_radius + 1) ** 2
        moved = (2 * a.numel() + a.numel() // config.pyramid_width * window) * size
        radius, rule = config.correlation_radius, config.pixel_rule
        if not last:
            yield Case(
                "local_correlation", tuple(a.shape), layout,
                lambda x, y, r=radius: local_correlation_op(x, y, r, 0.1),
                lambda x, y, r=radius: local_correlation_reference(x, y, r, 0.1),
                [a, b], moved,
            )  # fmt: skip
        still = identity_flow(a.shape[2], a.shape[3], device=device)
        flow = still + 0.05 * torch.randn(batch, 2, *a.shape[2:], device=device)
        if not last and dtype == torch.float32:  # flows are float32 in every network
            offset = torch.randn(batch, 2, *a.shape[2:], device=device)
            yield Case(
                "compose_flow", tuple(flow.shape), layout,
                lambda f, o, r=rule: flow_warp_op(f, o, "border", r),
                lambda f, o, r=rule: compose_flow_reference(f, o, r),
                [flow, offset], 3 * flow.numel() * 4,
            )  # fmt: skip
        yield Case(
            "flow_warp", tuple(a.shape), layout,
            lambda x, f: flow_warp_op(x, f, "border", "flow"),
            lambda x, f: flow_warp_reference(x, f, "border"),
            [a, flow], 2 * a.numel() * size + flow.numel() * 4,
        )  # fmt: skip
    w0, w1, w2, w3, w4 = config.fusion_widths
    stages = ((w0, 16), (w1, 16), (w1, 8), (w2, 8), (w2, 4), (w3, 4), (w3, 2), (w4, 2), (w4, 1))
    for channels, scale in stages:
        maps = [features(channels, scale) for _ in range(5)]
        weight = torch.randn(channels, device=device, dtype=dtype) / channels
        bias = torch.randn(1, device=device, dtype=dtype)
        yield Case(
            "mask_fusion", tuple(maps[0].shape), layout,
            lambda *t: mask_fusion_op(*t[:5], None, *t[5:], True)[:2],
            _eager_fusion,
            [*maps, weight, bias], (6 * maps[0].numel() + maps[0].numel() // channels) * size,
        )  # fmt: skip


def _eager_fusion(
    h: Tensor, gp: Tensor, bp: Tensor, gi: Tensor, bi: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The reference as the model would run it without the kernel, also on a GPU."""

    n = instance_norm(h)
    mask = torch.sigmoid(torch.nn.functional.conv2d(n, weight.view(1, -1, 1, 1), bias))
    return blend(denormalise(n, gp, bp, True), denormalise(n, gi, bi, True), mask), mask


def forward_alone(call: Call, inputs: list[Tensor]) -> Callable[[], None]:
    """Forward as inference runs it."""

    def run() -> None:
        with torch.no_grad():
            call(*inputs)

    return run


def both_directions(call: Call, inputs: list[Tensor]) -> Callable[[], None]:
    """Forward and backward as one call."""
    leaves = [t.detach().requires_grad_() for t in inputs]

    def run() -> None:
        out = call(*leaves)
        out = out[0] if isinstance(out, tuple) else out
        torch.autograd.grad(out, leaves, torch.ones_like(out), allow_unused=True)

    return run


def difference(case: Case) -> str | None:
    """Where our results and eager torch's differ by more than rounding, by how much."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, eager = (call(*case.inputs) for call in (case.ours, case.eager))
    if isinstance(ours, Tensor):
        ours, eager = (ours,), (eager,)
    for mine, theirs in zip(ours, eager, strict=True):
        wide = theirs.float()
        error = (mine.float() - wide).abs().max().item() / max(1.0, wide.abs().max().item())
        allowed = 20 * torch.finfo(theirs.dtype).eps
        if case.operation in ("flow_warp", "compose_flow"):
            allowed = max(allowed, FLOW_TOLERANCE)
        if not error < allowed:
            return f"relative error {error:.2e} > {allowed:.0e}"
    return None


def copy_bandwidth() -> float:
    """Bytes a second that a large device-to-device copy reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    milliseconds = triton.testing.do_bench(lambda: target.copy_(source), return_mode="median")
    return 2 * source.numel() / (milliseconds / 1000)


def milliseconds(run: Callable[[], None], direction: str) -> float:
    """Median of many runs; forward alone, of a CUDA graph of them."""
    if direction == "forward":
        run()  # compiles, which cannot be recorded
        return float(triton.testing.do_bench_cudagraph(run, rep=100, return_mode="median"))
    return float(triton.testing.do_bench(run, warmup=50, rep=200, return_mode="median"))


def measure(case: Case, dtype: str, copy: float) -> list[Row]:
    """Forward, then forward and backward, of one case on the GPU."""
    rows = []
    torch._dynamo.reset()  # it gives up on a function after eight shapes, and would go on in eager
    calls = (case.ours, case.eager, torch.compile(case.eager, fullgraph=True, dynamic=False))
    for direction, prepare in (("forward", forward_alone), ("forward+backward", both_directions)):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            ours, eager, fused = (milliseconds(prepare(call, case.inputs), direction) for call in calls)
        rate = case.bytes_forward / (ours / 1000) if direction == "forward" else float("nan")
        ratios = eager / ours, fused / ours, rate / 1e9, rate / copy
        about = case.operation, case.shape, case.layout, dtype, direction, case.bytes_forward / 1e6
        rows.append(Row(*about, ours, eager, fused, *ratios))
    return rows


def write(rows: list[Row], copy: float, about: Mapping[str, Any], out: Path) -> None:
    """kernels.json, kernels.md and kernels.svg; `about` is what `machine` says, its GPU among it."""
    out.mkdir(parents=True, exist_ok=True)
    head = {**about, "copy_gigabytes_per_second": copy / 1e9}
    (out / "kernels.json").write_text(
        json.dumps({**head, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    )
    lines = [
        f"{line(about)}; copy {copy / 1e9:.0f} GB/s",
        "",
        "| operation | shape | layout | dtype | direction | ms | x eager | x compile | GB/s | of copy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.operation} | {'x'.join(map(str, r.shape))} | {r.layout} | {r.dtype} | {r.direction} | "
        f"{r.ours_ms:.3f} | "
        f"{r.over_eager:.1f} | {r.over_compiled:.1f} | "
        + (f"{r.gigabytes_per_second:.0f} | {r.share_of_copy:.0%} |" if r.direction == "forward" else "| |")
        for r in rows
    ]
    (out / "kernels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    forward = [row for row in rows if row.direction == "forward"]
    (out / "kernels.svg").write_text(plot(forward, copy / 1e9, str(about["GPU"])), encoding="utf-8")


def plot(rows: Sequence[Row], copy: float, device: str) -> str:
    """An SVG of the roofline: GB/s of each case over the bytes it moves, beneath the copy's GB/s."""
    colours = {
        "mask_fusion": "#1b6ca8", "flow_warp": "#c8553d",
        "compose_flow": "#6a994e", "local_correlation": "#7b2d8b",
    }  # fmt: skip
    left, top, width, height = 60, 40, 640, 320
    low = math.floor(math.log10(min(row.megabytes for row in rows)))
    high = max(low + 1, math.ceil(math.log10(max(row.megabytes for row in rows))))
    peak = 1.1 * max(copy, *(row.gigabytes_per_second for row in rows))

    def x(megabytes: float) -> float:
        return left + width * (math.log10(megabytes) - low) / (high - low)

    def y(rate: float) -> float:
        return top + height * (1 - rate / peak)

    def text(at_x: float, at_y: float, content: str, anchor: str = "middle") -> str:
        return f'<text x="{at_x:.0f}" y="{at_y:.0f}" text-anchor="{anchor}">{content}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 20}" height="{top + height + 60}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>',
        text(left, 20, f"{escape(device)}: forward, GB/s over megabytes moved", "start"),
        f'<path d="M{left} {top}v{height}h{width}" fill="none" stroke="black"/>',
        f'<path d="M{left} {y(copy):.0f}h{width}" stroke="grey" stroke-dasharray="4"/>',
        text(left + width, y(copy) - 5, f"copy, {copy:.0f} GB/s", "end"),
    ]
    parts += [text(x(10.0**power), top + height + 18, f"{10.0**power:g}") for power in range(low, high + 1)]
    parts += [text(left - 6, y(peak * part / 4) + 4, f"{peak * part / 4:.0f}", "end") for part in range(5)]
    for row in rows:
        about = f"{row.operation} {'x'.join(map(str, row.shape))} {row.layout} {row.dtype}"
        parts.append(
            f'<circle cx="{x(row.megabytes):.1f}" cy="{y(row.gigabytes_per_second):.1f}" r="4" '
            f'fill="{colours[row.operation]}" fill-opacity="0.7"><title>{about}</title></circle>'
        )
    for place, (operation, colour) in enumerate(colours.items()):
        at = left + 160 * place
        parts.append(f'<circle cx="{at + 5}" cy="{top + height + 42}" r="4" fill="{colour}"/>')
        parts.append(text(at + 15, top + height + 46, operation, "start"))
    return "\n".join([*parts, "</svg>", ""])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/kernels"), metavar="DIR", help="folder to write"
    )
    parser.add_argument(
        "--interpret", action="store_true", help="run each case once on the CPU, time nothing"
    )
    parser.add_argument("--tiny", action="store_true", help="the lite preset at 32x32")
    for name, choices in (("operation", OPERATIONS), ("dtype", tuple(DTYPES)), ("layout", LAYOUTS)):
        parser.add_argument(f"--{name}", action="append", choices=choices, help="these alone (all)")
    parser.add_argument("--size", action="append", type=parse_size, metavar="HxW", help="(256x192, 512x384)")
    parser.add_argument("--batch", action="append", type=int, metavar="N", help="(1, 8)")
    args = parser.parse_args(argv)
    args.operation = args.operation or list(OPERATIONS)
    args.dtype = args.dtype or list(DTYPES)
    args.layout = args.layout or list(LAYOUTS)
    args.size = args.size or [(256, 192), (512, 384)]
    args.batch = args.batch or [1, 8]
    if args.tiny:
        args.size, args.batch = [(32, 32)], [1]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    runnable = INTERPRETED if args.interpret else torch.cuda.is_available()
    if not (AVAILABLE and runnable):
        message = "benchmarks.kernels: needs Triton, and a GPU or TRITON_INTERPRET=1 with --interpret"
        print(message, file=sys.stderr)
        return 2
    config = PRESETS["lite" if args.tiny else "paper"]
    return interpret(config, args) if args.interpret else benchmark(config, args)


def interpret(config: ModelConfig, args: argparse.Namespace) -> int:
    """Run every case once on the CPU."""
    count = wrong = 0
    (height, width), batch = args.size[0], args.batch[0]
    for dtype, layout in zip((torch.float32, torch.bfloat16), LAYOUTS, strict=True):
        for case in cases(config, height, width, batch, dtype, "cpu", layout):
            if case.operation not in args.operation:
                continue
            wrong += not tell(case, difference(case))
            if dtype == torch.float32:
                both_directions(case.ours, case.inputs)()
            count += 1
    print(f"{count - wrong} cases agree with eager torch")
    return 1 if wrong else 0


def benchmark(config: ModelConfig, args: argparse.Namespace) -> int:
    """Time what was asked for."""
    copy, rows, wrong = copy_bandwidth(), [], 0
    about = machine("torch", "triton")
    for dtype, layout, (height, width), batch in itertools.product(
        args.dtype, args.layout, args.size, args.batch
    ):
        for case in cases(config, height, width, batch, DTYPES[dtype], "cuda", layout):
            if case.operation not in args.operation:
                continue
            if not tell(case, difference(case)):
                wrong += 1
                continue
            try:
                rows += measure(case, dtype, copy)
            except RuntimeError as error:  # of CUDA or Inductor: the other cases may still run
                wrong += not tell(case, str(error).splitlines()[0])
                continue
            write(rows, copy, about, args.out)
            done = f"{case.operation} {case.shape} {layout} {dtype}"
            print(f"{done}: {rows[-2].over_eager:.1f} x eager", flush=True)
    print(args.out / "kernels.md")
    return 1 if wrong or not rows else 0


def tell(case: Case, wrong: str | None) -> bool:
    """Whether a case agrees with eager torch; says so on stderr where it does not."""
    if wrong:
        print(f"{case.operation} {case.shape} {case.layout}: {wrong}; not timed", file=sys.stderr)
    return wrong is None


if __name__ == "__main__":
    sys.exit(main())
