"""Compile the kernels ahead of time, on a machine without a GPU.

    python -m kernels.compile --compute-capability 7.5,8.0,8.6,8.7,8.9,9.0,10.0,12.0 --out DIR

Arguments are specialised as Triton does when it launches: innermost strides are the constant 1, pointers
and other strides multiples of 16, features in NCHW or (`_nhwc`) NHWC. Writes a PTX and a cubin for each
kernel, dtype and target, and `manifest.json` with registers, shared memory and spills as read from the
cubins. Fails where a kernel spills.
"""

import argparse
import importlib
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from kernels import mask_fusion_kernels as device
from kernels import mask_fusion_op as fusion
from kernels import tiles
from kernels.triton_runtime import AVAILABLE, INTERPRETED, tl, triton

# The package's names are its functions, so the modules behind them are asked for by path.
flow_warp, local_correlation = (
    importlib.import_module(f"kernels.{name}") for name in ("flow_warp", "local_correlation")
)
LEAST = 70  # Triton's code for older GPUs is refused by its assembler, after a dump of it
TARGETS = (75, 80, 86, 87, 89, 90, 100, 120)
PIXELS = 1 << 16  # of a plane as large as tiles ask for
WARPS = 4  # Triton's default, where a kernel's module names no other number
LAYOUTS = ("", "_nhwc")
# Flows and gradients are contiguous whatever layout the features have.
_FLOWS = {"field_sp", "grad_sp", "into_sw"}
INNERMOST = {"": _FLOWS | {"features_sw", "out_sp", "sp"}, "_nhwc": _FLOWS | {"features_sc", "out_sc", "sc"}}
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Variant:
    """One kernel for one dtype: Triton's signature of its arguments, and its constants."""

    name: str
    function: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int
    multiples: tuple[str, ...] = ()  # arguments that are multiples of 16


@dataclass(frozen=True)
class Compiled:
    """What a compiled kernel needs; sizes in bytes."""

    kernel: str
    sm: int
    entry: str
    warps: int
    shared: int
    registers: int
    spilled: int
    ptx: str
    cubin: str
    signature: dict[str, str]
    constants: dict[str, Any]


def variants() -> Iterator[Variant]:
    """Every kernel in every dtype that the model calls it with."""
    forward, backward = flow_warp._forward_kernel, flow_warp._backward_kernel
    for dtype in DTYPES:
        float32 = {"field", "grad_field", "grad_features"}
        for padding, layout in itertools.product(("border", "zeros"), LAYOUTS):
            flags = {"BORDER": padding == "border", "OFFSET": False, "CORNERS": False, "ACC": tl.float32}
            tile = flow_warp.forward_tile(tiles.ROW_CHANNELS, PIXELS, bool(layout))
            warps = flow_warp.ROW_WARPS if layout else flow_warp.WARPS
            name = f"flow_warp_{padding}"
            yield _variant(f"{name}{layout}", forward, dtype, {**flags, **tile}, float32, warps, layout)
            tile, warps = tiles.plane_tile(tiles.ROW_CHANNELS, PIXELS), flow_warp.WARPS
            name = f"{name}_backward{layout}"
            yield _variant(name, backward, dtype, {**flags, **tile}, float32, warps, layout)
        for suffix, pixels in (("", local_correlation.FEW_PIXELS + 1), ("_coarse", 1)):
            yield from _correlation_variants(dtype, suffix, local_correlation.pixel_block(pixels))
        for layout in LAYOUTS:
            yield from _mask_fusion_variants(dtype, layout)
    for rule in ("centres", "corners"):  # flows are float32
        flags = {"BORDER": True, "OFFSET": True, "CORNERS": rule == "corners", "ACC": tl.float32}
        sizes = tiles.plane_tile(2, PIXELS)
        for name, kernel in (("", forward), ("_backward", backward)):
            yield _variant(
                f"compose_flow_{rule}{name}", kernel, "fp32", {**flags, **sizes}, set(), flow_warp.WARPS
            )


def _correlation_variants(dtype: str, suffix: str, block: int) -> Iterator[Variant]:
    window = {"RADIUS": 3, "ACC": tl.float32, "BLOCK_P": block, "BLOCK_D": 64}
    warps = local_correlation.WARPS
    name = f"local_correlation{suffix}"
    yield _variant(name, local_correlation._forward_kernel, dtype, window, set(), warps)
    for sign, operand in ((1, "garment"), (-1, "person")):
        constants = {"SIGN": sign, **window, "BLOCK_C": local_correlation.BACKWARD_CHANNELS}
        name = f"local_correlation_backward_{operand}{suffix}"
        yield _variant(name, local_correlation._backward_kernel, dtype, constants, set(), warps)


def _mask_fusion_variants(dtype: str, layout: str) -> Iterator[Variant]:
    float32 = {"mean", "rstd", "means", "deviations", "grad_logit", "sums", "into"}
    acc = {"ACC": tl.float32}
    warps, gradient_warps = fusion.SUM_WARPS, fusion.GRADIENT_WARPS
    channels = tiles.ROW_CHANNELS  # a constant of the kernels, and so is a pixel's stride
    last = bool(layout)
    tile = tiles.tile(channels, PIXELS, last)
    few, many = (
        fusion.sum_tile(channels, PIXELS, last, elements)
        for elements in (tiles.ROW_ELEMENTS, fusion.SUM_ELEMENTS)
    )

    def variant(name: str, function: Any, constants: dict[str, Any], warps: int = WARPS) -> Variant:
        sizes = {"channels": channels, **({"sp": channels} if layout else {})}
        constants = {**acc, **sizes, **constants}
        return _variant(f"{name}{layout}", function, dtype, constants, float32, warps, layout)

    for suffix, whole in (("", True), ("_of_parts", False)):
        constants = {"WHOLE": whole, **many}
        yield variant(f"plane_statistics{suffix}", device.statistics_kernel, constants, warps)
    if not layout and dtype == "fp32":  # of statistics, which have one layout and one dtype
        merge = {"BLOCK_N": fusion.MOST_PARTS, "BLOCK_C": tiles.BLOCK_CHANNELS}
        yield variant("merge_statistics", device.merge_kernel, merge)
    for suffix, small in (("", PIXELS), ("_small", 1)):
        pixels = fusion.mask_tile(1, channels, small, last)
        yield variant(f"regional_mask{suffix}", device.mask_kernel, pixels)
        constants = {"HAS_GRAD_MASK": False, "LOGIT": True, **pixels}
        yield variant(f"mask_gradient{suffix}", device.mask_gradient_kernel, constants)
    for residual in (False, True):
        form = {"RESIDUAL": residual}
        suffix = "_residual" if residual else ""
        yield variant(f"blend{suffix}", device.blend_kernel, {**form, **tile})
        backward = {**form, "LOGIT": True}
        affine = {**backward, **few}
        yield variant(f"affine_gradient{suffix}", device.affine_gradient_kernel, affine, gradient_warps)
        yield variant(f"input_gradient{suffix}", device.input_gradient_kernel, {**backward, **tile})
        if not layout:
            plane = {**form, "BLOCK_P": fusion.WHOLE_PLANE}
            yield variant(f"whole_plane{suffix}", device.plane_kernel, plane, fusion.PLANE_WARPS)
            continue
        for row in (8, channels, fusion.FUSED_CHANNELS):
            fused = {**form, **fusion.fused_tile(row, PIXELS), "channels": row, "sp": row}
            yield variant(f"fused{suffix}_{row}", device.fused_kernel, fused, fusion.FUSED_WARPS)


def _variant(
    name: str,
    function: Any,
    dtype: str,
    constants: dict[str, Any],
    float32: set[str],
    warps: int = WARPS,
    layout: str = "",
) -> Variant:
    """Arguments by their names: sizes and strides are int32, slope and epsilon float, the others pointers."""
    signature = {}
    constants = dict(constants)
    multiples = []
    innermost = INNERMOST[layout]
    for argument in function.arg_names:
        if argument in innermost:
            constants[argument] = 1
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in ("slope", "epsilon"):
            signature[argument] = "fp32"
        elif argument in ("height", "width", "out_width", "parts"):
            signature[argument] = "i32"
        elif argument in ("channels", "pixels", "share") or re.search(r"(^|_)s[bchwp]$", argument):
            signature[argument] = "i32"
            multiples.append(argument)
        else:
            signature[argument] = "*fp32" if argument in float32 else f"*{dtype}"
            multiples.append(argument)
    name = f"{name}_{DTYPES[dtype]}"
    return Variant(name, function, signature, constants, warps, tuple(multiples))


def compile_variant(variant: Variant, sm: int, **options: Any) -> Any:
    """Triton's compiled kernel of one variant for one target, such as 86; needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # One rounding for a·b + c, by name: the default changes with Triton's versions.
    options = {"num_warps": variant.warps, "enable_fp_fusion": True, **options}
    names = list(variant.signature)
    multiples = {(names.index(name),): [["tt.divisibility", 16]] for name in variant.multiples}
    source = ASTSource(variant.function, variant.signature, variant.constants, multiples)
    return triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)


def compile_kernel(variant: Variant, sm: int, out: Path) -> Compiled:
    """Compile one variant for one target and write its PTX and cubin."""
    kernel = compile_variant(variant, sm)
    stem = f"{variant.name}.sm{sm}"
    (out / f"{stem}.ptx").write_text(kernel.asm["ptx"])
    (out / f"{stem}.cubin").write_bytes(kernel.asm["cubin"])
    registers, spilled = _resources(out / f"{stem}.cubin")
    return Compiled(
        kernel=variant.name,
        sm=sm,
        entry=kernel.metadata.name,
        warps=kernel.metadata.num_warps,
        shared=kernel.metadata.shared,
        registers=registers,
        spilled=spilled,
        ptx=f"{stem}.ptx",
        cubin=f"{stem}.cubin",
        signature=variant.signature,
        constants={name: str(value) for name, value in variant.constants.items()},
    )


def _resources(cubin: Path) -> tuple[int, int]:
    """Registers of a thread, and bytes of local memory, where spilled registers go."""
    from triton.knobs import nvidia

    command = [nvidia.cuobjdump.path, "--dump-resource-usage", str(cubin)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", report)
    if used is None:
        raise RuntimeError(f"{nvidia.cuobjdump.path} reports no registers for {cubin}:\n{report}")
    return int(used[1]), int(used[2]) + int(used[3])


def compile_all(targets: Sequence[int], out: Path) -> list[Compiled]:
    """Compile every variant for every target into `out`, with a manifest."""
    out.mkdir(parents=True, exist_ok=True)
    compiled = [compile_kernel(variant, sm, out) for sm in targets for variant in variants()]
    manifest = {"triton": triton.__version__, "kernels": [asdict(kernel) for kernel in compiled]}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return compiled


class UsageError(Exception):
    """The command line asks for what cannot be; the message is one sentence that says what and why."""


class Parser(argparse.ArgumentParser):
    """Its complaints are UsageErrors, without the usage text before them."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help explains)")


def capabilities(text: str) -> list[int]:
    """Parse "8.6,12.0" into Triton's targets, 86 and 120; what is named twice counts once."""
    if not re.fullmatch(r"\d+\.\d(,\d+\.\d)*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of compute capabilities such as 8.6,8.9")
    targets = list(dict.fromkeys(int(item.replace(".", "")) for item in text.split(",")))
    if min(targets) < LEAST:
        raise argparse.ArgumentTypeError(
            f"Triton compiles for compute capability {LEAST / 10} and later, not {min(targets) / 10}"
        )
    return targets


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m kernels.compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--compute-capability",
        type=capabilities,
        default=TARGETS,
        metavar="LIST",
        help="GPUs to compile for: 8.6,8.9 (every one that the first line names)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    return parser.parse_args(argv)


def command(argv: Sequence[str] | None) -> int:
    args = parse_args(argv)
    if not AVAILABLE:
        raise UsageError("Triton is not installed (pip install triton)")
    if INTERPRETED:
        raise UsageError("unset TRITON_INTERPRET; the interpreter does not compile")
    try:
        compiled = compile_all(args.compute_capability, args.out)
    except triton.runtime.errors.PTXASError as error:
        reason = re.search(r"fatal\s*:\s*(.*)", str(error))
        raise UsageError(f"Triton's assembler refuses: {reason[1] if reason else error}") from error
    spilling = [kernel for kernel in compiled if kernel.spilled]
    for kernel in spilling:
        print(f"{kernel.kernel} spills {kernel.spilled} bytes on sm_{kernel.sm}", file=sys.stderr)
    targets = ", ".join(f"{sm / 10:.1f}" for sm in args.compute_capability)
    print(f"{len(compiled)} kernels for compute capability {targets} in {args.out}")
    return 1 if spilling else 0


def main(argv: Sequence[str] | None = None) -> int:
    """End as `engines.program` does, which this package does not import: it has no need of the others."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return command(argv)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
