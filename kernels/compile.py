"""Compile the kernels ahead of time, on a machine without a GPU.

    python -m kernels.compile --sm 75,80,86,87,89,90,100,120 --out DIR

Writes a PTX and a cubin for each kernel, dtype and target, and `manifest.json` with registers, shared memory
and spills as read from the cubins. Fails where a kernel spills.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kernels.triton_runtime import AVAILABLE, INTERPRETED, tl, triton

# The package's names are its functions, so the modules behind them are asked for by path.
flow_warp, local_correlation, mask_fusion = (
    importlib.import_module(f"kernels.{name}") for name in ("flow_warp", "local_correlation", "mask_fusion")
)
TARGETS = (75, 80, 86, 87, 89, 90, 100, 120)
WARPS = 4  # Triton's default, where a kernel's module names no other number
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Variant:
    """One kernel for one dtype: Triton's signature of its arguments, and its constants."""

    name: str
    function: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int


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
        for padding in ("border", "zeros"):
            flags = {"BORDER": padding == "border", "OFFSET": False, "CORNERS": False, "ACC": tl.float32}
            sizes = {"BLOCK_P": flow_warp.BLOCK_PIXELS, "BLOCK_C": flow_warp.BLOCK_CHANNELS}
            yield _variant(f"flow_warp_{padding}", forward, dtype, {**flags, **sizes}, float32)
            yield _variant(f"flow_warp_{padding}_backward", backward, dtype, {**flags, **sizes}, float32)
        window = {
            "RADIUS": 3,
            "ACC": tl.float32,
            "BLOCK_P": local_correlation.BLOCK_PIXELS,
            "BLOCK_D": 64,
        }
        warps = local_correlation.WARPS
        yield _variant("local_correlation", local_correlation._forward_kernel, dtype, window, set(), warps)
        channels = {"BLOCK_C": local_correlation.BACKWARD_CHANNELS}
        for sign, operand in ((1, "garment"), (-1, "person")):
            constants = {"SIGN": sign, **window, **channels}
            name = f"local_correlation_backward_{operand}"
            yield _variant(name, local_correlation._backward_kernel, dtype, constants, set(), warps)
        yield from _mask_fusion_variants(dtype)
    for rule in ("centres", "corners"):  # flows are float32
        flags = {"BORDER": True, "OFFSET": True, "CORNERS": rule == "corners", "ACC": tl.float32}
        sizes = {"BLOCK_P": flow_warp.BLOCK_PIXELS, "BLOCK_C": 2}
        yield _variant(f"compose_flow_{rule}", forward, "fp32", {**flags, **sizes}, set())
        yield _variant(f"compose_flow_{rule}_backward", backward, "fp32", {**flags, **sizes}, set())


def _mask_fusion_variants(dtype: str) -> Iterator[Variant]:
    float32 = {"mean", "rstd", "grad_logit", "grad_weight", "into"}
    acc, plane = {"ACC": tl.float32}, {"BLOCK_P": 1024}
    tile = {"BLOCK_P": mask_fusion.BLOCK_PIXELS, "BLOCK_C": mask_fusion.BLOCK_CHANNELS}
    yield _variant("plane_statistics", mask_fusion._statistics_kernel, dtype, {**acc, **plane}, float32)
    yield _variant("regional_mask", mask_fusion._mask_kernel, dtype, {**acc, **tile}, float32)
    for residual in (False, True):
        form = {"RESIDUAL": residual}
        suffix = "_residual" if residual else ""
        yield _variant(f"blend{suffix}", mask_fusion._blend_kernel, dtype, {**form, **acc, **tile}, float32)
        whole = {**form, **acc, "BLOCK_P": mask_fusion.WHOLE_PLANE}
        warps = mask_fusion.PLANE_WARPS
        yield _variant(f"whole_plane{suffix}", mask_fusion._plane_kernel, dtype, whole, float32, warps)
        constants = {**form, "LOGIT": True, **acc, **plane}
        name = f"mask_fusion_backward{suffix}"
        yield _variant(name, mask_fusion._backward_kernel, dtype, constants, float32)
    constants = {"HAS_GRAD_MASK": False, "LOGIT": True, **acc, **tile}
    yield _variant("mask_gradient", mask_fusion._mask_gradient_kernel, dtype, constants, float32)


def _variant(
    name: str, function: Any, dtype: str, constants: dict[str, Any], float32: set[str], warps: int = WARPS
) -> Variant:
    """Arguments by their names: sizes and strides are int32, slope and epsilon float, the others pointers."""
    signature = {}
    for argument in function.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in ("slope", "epsilon"):
            signature[argument] = "fp32"
        elif argument in ("channels", "height", "width", "pixels", "out_width") or re.search(
            r"(^|_)s[bchwp]$", argument
        ):
            signature[argument] = "i32"
        else:
            signature[argument] = "*fp32" if argument in float32 else f"*{dtype}"
    return Variant(f"{name}_{DTYPES[dtype]}", function, signature, constants, warps)


def compile_variant(variant: Variant, sm: int, **options: Any) -> Any:
    """Triton's compiled kernel of one variant for one target, such as 86; needs no GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    # One rounding for a·b + c, by name: the default changes with Triton's versions.
    options = {"num_warps": variant.warps, "enable_fp_fusion": True, **options}
    source = ASTSource(variant.function, variant.signature, variant.constants)
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


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m kernels.compile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sm", default=",".join(map(str, TARGETS)), metavar="LIST", help="targets: 80,86,90")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    args = parser.parse_args(argv)
    if not re.fullmatch(r"\d+(,\d+)*", args.sm):
        parser.error(f"--sm {args.sm} is not a list of targets such as 80,86,90")
    args.sm = [int(sm) for sm in args.sm.split(",")]
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if not AVAILABLE:
        print("kernels.compile: Triton is not installed (pip install triton)", file=sys.stderr)
        return 2
    if INTERPRETED:
        print("kernels.compile: unset TRITON_INTERPRET; the interpreter does not compile", file=sys.stderr)
        return 2
    compiled = compile_all(args.sm, args.out)
    spilling = [kernel for kernel in compiled if kernel.spilled]
    for kernel in spilling:
        print(f"{kernel.kernel} spills {kernel.spilled} bytes on sm_{kernel.sm}", file=sys.stderr)
    print(f"{len(compiled)} kernels for sm {', '.join(map(str, args.sm))} in {args.out}")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
