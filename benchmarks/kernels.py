"""The fused kernels against torch eager and torch.compile, at the shapes that the model calls them with.

    python -m benchmarks.kernels --out benchmarks/results/h100           # on a GPU
    TRITON_INTERPRET=1 python -m benchmarks.kernels --interpret --tiny   # anywhere: does every case run?

Run as a module, from the root: as a script this file would itself be found as `kernels`.

Writes kernels.json and kernels.md: median times, ratios, bytes moved (each operand read once, each result
written once) and their share of the copy bandwidth measured in the same run. Nothing is timed until the
results agree with eager torch.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.flow_warp import flow_warp_op, flow_warp_reference, identity_flow
from kernels.local_correlation import local_correlation_op, local_correlation_reference
from kernels.mask_fusion import blend, denormalise, instance_norm, mask_fusion_op
from kernels.triton_runtime import AVAILABLE, INTERPRETED, triton
from rmgn import PRESETS, ModelConfig

Call = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One operation at one shape: our call and eager torch's on the same inputs."""

    operation: str
    shape: tuple[int, ...]
    ours: Call
    eager: Call
    inputs: list[Tensor]
    bytes_forward: int


@dataclass(frozen=True)
class Row:
    """Median milliseconds of one case, and the ratios that matter."""

    operation: str
    shape: tuple[int, ...]
    dtype: str
    direction: str
    ours_ms: float
    eager_ms: float
    compiled_ms: float
    over_eager: float
    over_compiled: float
    gigabytes_per_second: float
    share_of_copy: float


def cases(
    config: ModelConfig, height: int, width: int, batch: int, dtype: torch.dtype, device: str
) -> Iterator[Case]:
    """Every distinct shape of one pass through the network."""

    def features(channels: int, scale: int) -> Tensor:
        return torch.randn(batch, channels, height // scale, width // scale, device=device, dtype=dtype)

    size = torch.finfo(dtype).bits // 8
    for level in range(len(config.encoder_widths)):
        scale = 2 ** (level + 1)
        a, b = features(config.pyramid_width, scale), features(config.pyramid_width, scale)
        window = (2 * config.correlation_radius + 1) ** 2
        moved = (2 * a.numel() + a.numel() // config.pyramid_width * window) * size
        radius = config.correlation_radius
        yield Case(
            "local_correlation", tuple(a.shape),
            lambda x, y, r=radius: local_correlation_op(x, y, r, 0.1),
            lambda x, y, r=radius: local_correlation_reference(x, y, r, 0.1),
            [a, b], moved,
        )  # fmt: skip
        still = identity_flow(a.shape[2], a.shape[3], device=device)
        flow = still + 0.05 * torch.randn(batch, 2, *a.shape[2:], device=device)
        yield Case(
            "flow_warp", tuple(a.shape),
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
            "mask_fusion", tuple(maps[0].shape),
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


def check(case: Case) -> None:
    """Stop where our results and eager torch's differ by more than rounding."""
    ours, eager = (call(*case.inputs) for call in (case.ours, case.eager))
    if isinstance(ours, Tensor):
        ours, eager = (ours,), (eager,)
    for mine, theirs in zip(ours, eager, strict=True):
        wide = theirs.float()
        error = (mine.float() - wide).abs().max().item() / max(1.0, wide.abs().max().item())
        if not error < 20 * torch.finfo(theirs.dtype).eps:
            raise SystemExit(f"{case.operation} {case.shape}: relative error {error:.2e}; not timed")


def copy_bandwidth() -> float:
    """Bytes a second that a large device-to-device copy reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    milliseconds = triton.testing.do_bench(lambda: target.copy_(source), return_mode="median")
    return 2 * source.numel() / (milliseconds / 1000)


def measure(case: Case, dtype: str, copy: float) -> list[Row]:
    """Forward, then forward and backward, of one case on the GPU."""
    rows = []
    calls = (case.ours, case.eager, torch.compile(case.eager))
    for direction, prepare in (("forward", forward_alone), ("forward+backward", both_directions)):
        ours, eager, fused = (
            triton.testing.do_bench(prepare(call, case.inputs), warmup=50, rep=200, return_mode="median")
            for call in calls
        )
        rate = case.bytes_forward / (ours / 1000) if direction == "forward" else float("nan")
        ratios = eager / ours, fused / ours, rate / 1e9, rate / copy
        rows.append(Row(case.operation, case.shape, dtype, direction, ours, eager, fused, *ratios))
    return rows


def write(rows: list[Row], copy: float, out: Path) -> None:
    """kernels.json and kernels.md."""
    out.mkdir(parents=True, exist_ok=True)
    head = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": datetime.date.today().isoformat(),
        "copy_gigabytes_per_second": copy / 1e9,
    }
    (out / "kernels.json").write_text(
        json.dumps({**head, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    )
    lines = [
        f"{head['device']}, torch {head['torch']}, Triton {head['triton']}, {head['date']}; "
        f"copy {copy / 1e9:.0f} GB/s",
        "",
        "| operation | shape | dtype | direction | ms | x eager | x compile | GB/s | of copy |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.operation} | {'x'.join(map(str, r.shape))} | {r.dtype} | {r.direction} | {r.ours_ms:.3f} | "
        f"{r.over_eager:.1f} | {r.over_compiled:.1f} | "
        + (f"{r.gigabytes_per_second:.0f} | {r.share_of_copy:.0%} |" if r.direction == "forward" else "| |")
        for r in rows
    ]
    (out / "kernels.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


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
    parser.add_argument("--tiny", action="store_true", help="the lite preset at 64x32")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    runnable = INTERPRETED if args.interpret else torch.cuda.is_available()
    if not (AVAILABLE and runnable):
        message = "benchmarks.kernels: needs Triton, and a GPU or TRITON_INTERPRET=1 with --interpret"
        print(message, file=sys.stderr)
        return 2
    config = PRESETS["lite" if args.tiny else "paper"]
    sizes = [(64, 32)] if args.tiny else [(256, 192), (512, 384)]
    batches = [1] if args.tiny else [1, 8]
    if args.interpret:
        count = 0
        for case in cases(config, *sizes[0], batches[0], torch.float32, "cpu"):
            check(case)
            both_directions(case.ours, case.inputs)()
            count += 1
        print(f"{count} cases agree with eager torch")
        return 0
    copy, rows = copy_bandwidth(), []
    for dtype in (torch.float16, torch.float32):
        for height, width in sizes:
            for batch in batches:
                for case in cases(config, height, width, batch, dtype, "cuda"):
                    check(case)
                    rows += measure(case, str(dtype).removeprefix("torch."), copy)
                    print(
                        f"{case.operation} {case.shape} {dtype}: {rows[-2].over_eager:.1f} x eager",
                        flush=True,
                    )
    write(rows, copy, args.out)
    print(args.out / "kernels.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
