"""The forward kernels as TensorRT plugins, for graphs exported with `build_engine.py --fused`.

One plugin for each node of kernels.onnx_nodes: a quick-deploy plugin with an ahead-of-time implementation
(`tensorrt.plugin`, TensorRT >= 10.8). TensorRT asks for the PTX of each node's kernel while it builds; the
plan then runs without Python, Triton or this module. TensorRT-RTX offers no such plugins to Python.

Shapes are fixed in our graphs, so every size and stride is a constant of the compiled kernel. That leaves
pointers as its only arguments, inputs before outputs: the order in which TensorRT passes them.
"""

import importlib
import inspect
import math
import re
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Union

from kernels import compile as ahead
from kernels import mask_fusion_kernels, mask_fusion_op
from kernels.local_correlation import RADIUS, SLOPE
from kernels.onnx_nodes import DOMAIN
from kernels.tiles import plane_tile
from kernels.triton_runtime import AVAILABLE, power_of_two, tl

flow_warp, local_correlation = (
    importlib.import_module(f"kernels.{name}") for name in ("flow_warp", "local_correlation")
)

Shape = tuple[int, ...]
WINDOW = 2 * RADIUS + 1
# Types that features may have, in TensorRT's names and Triton's; statistics and flows are FP32 throughout.
TYPES = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16"}
ANY, FP32 = "|".join(TYPES), "FP32"
EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Launch:
    """One kernel call: the constants that complete it, and the programs along each axis of the grid."""

    function: Any
    constants: dict[str, Any]
    grid: tuple[int, int, int]


@dataclass(frozen=True)
class Plugin:
    """A node of DOMAIN as a plugin.

    inputs, outputs: names and types (ANY follows the features), in the order of node and kernel alike.
    shapes: from the shapes of the inputs to those of the outputs; the sizes may be TensorRT's symbols.
    launch: the kernel call for inputs of these shapes.
    warps: how many a program may have, for TensorRT to choose by time; none of them spills.
    """

    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: Callable[..., list[tuple[Any, ...]]]
    launch: Callable[..., Launch]
    warps: tuple[int, ...] = (4, 8)


def _contiguous(prefix: str, shape: Shape) -> dict[str, int]:
    """Strides of batch, channel, row and column, in the argument names of kernels.flow_warp."""
    _, channels, height, width = shape
    plane = height * width
    strides = {"sb": channels * plane, "sc": plane, "sh": width, "sw": 1, "sp": 1}
    return {f"{prefix}_{axis}": stride for axis, stride in strides.items()}


def _sample(rule: str, padding: str) -> Callable[[Shape, Shape], Launch]:
    """kernels.flow_warp, for features and a flow, or for a flow and an offset."""

    def launch(features: Shape, field: Shape) -> Launch:
        batch, channels, height, width = features
        pixels = field[2] * field[3]
        block = flow_warp.forward_tile(channels, pixels, last=False)
        out = (batch, channels, *field[2:])
        names = {"features": features, "field": field, "out": out}
        strides: dict[str, int] = {}
        for name, shape in names.items():
            strides |= _contiguous(name, shape)
        taken = flow_warp._forward_kernel.arg_names
        constants = {
            "channels": channels, "height": height, "width": width, "pixels": pixels, "out_width": field[3],
            **{name: stride for name, stride in strides.items() if name in taken},
            "BORDER": padding == "border", "OFFSET": rule != "flow", "CORNERS": rule == "corners",
            "ACC": tl.float32, **block,
        }  # fmt: skip
        grid = (_blocks(pixels, block["BLOCK_P"]), _blocks(channels, block["BLOCK_C"]), batch)
        return Launch(flow_warp._forward_kernel, constants, grid)

    return launch


def _correlate(garment: Shape, person: Shape) -> Launch:  # noqa: ARG001 - of the same shape
    batch, channels, height, width = garment
    block = local_correlation.pixel_block(height * width)
    constants = {
        "channels": channels, "height": height, "width": width, "slope": SLOPE, "RADIUS": RADIUS,
        "ACC": tl.float32, "BLOCK_P": block, "BLOCK_D": power_of_two(WINDOW**2),
    }  # fmt: skip
    return Launch(local_correlation._forward_kernel, constants, (_blocks(height * width, block), batch, 1))


def _planes(h: Shape) -> dict[str, Any]:
    """Constants that every kernel of kernels.mask_fusion takes."""
    _, channels, height, width = h
    pixels = height * width
    strides = {"sb": channels * pixels, "sc": pixels, "sp": 1}
    return {"channels": channels, "pixels": pixels, **strides, "ACC": tl.float32}


def _statistics(h: Shape) -> Launch:
    """A program a plane: a plugin is one kernel, which leaves no parts to merge."""
    pixels = h[2] * h[3]
    constants = {
        **_planes(h), "share": pixels, "epsilon": mask_fusion_op.EPSILON,
        "WHOLE": True, **mask_fusion_op.sum_tile(h[1], pixels, False, mask_fusion_op.SUM_ELEMENTS),
    }  # fmt: skip
    return Launch(mask_fusion_kernels.statistics_kernel, constants, (h[1], 1, h[0]))


def _regional_mask(h: Shape, *_: Shape) -> Launch:
    tile = mask_fusion_op.mask_tile(h[0], h[1], h[2] * h[3], last=False)
    grid = (_blocks(h[2] * h[3], tile["BLOCK_P"]), h[0], 1)
    return Launch(mask_fusion_kernels.mask_kernel, {**_planes(h), **tile}, grid)


def _blend(residual: bool) -> Callable[..., Launch]:
    def launch(h: Shape, *_: Shape) -> Launch:
        tile = plane_tile(h[1], h[2] * h[3])
        grid = (_blocks(h[2] * h[3], tile["BLOCK_P"]), _blocks(h[1], tile["BLOCK_C"]), h[0])
        return Launch(mask_fusion_kernels.blend_kernel, {**_planes(h), "RESIDUAL": residual, **tile}, grid)

    return launch


def _blocks(items: int, block: int) -> int:
    return math.ceil(items / block)


def _flow_warp(padding: str) -> Plugin:
    return Plugin(
        inputs={"features": ANY, "flow": FP32},
        outputs={"out": ANY},
        shapes=lambda features, flow: [(features[0], features[1], flow[2], flow[3])],
        launch=_sample("flow", padding),
    )


def _compose_flow(rule: str) -> Plugin:
    return Plugin(
        inputs={"flow": FP32, "offset": FP32},
        outputs={"out": FP32},
        shapes=lambda flow, _: [tuple(flow)],
        launch=_sample(rule, "border"),
    )


def _masked_blend(residual: bool) -> Plugin:
    maps = ("h", "gamma_person", "beta_person", "gamma_garment", "beta_garment", "mask")
    return Plugin(
        inputs={**dict.fromkeys(maps, ANY), "mean": FP32, "rstd": FP32},
        outputs={"out": ANY},
        shapes=lambda h, *_: [tuple(h)],
        launch=_blend(residual),
    )


PLUGINS = {
    "FlowWarpBorder": _flow_warp("border"),
    "FlowWarpZeros": _flow_warp("zeros"),
    "ComposeFlowCentres": _compose_flow("centres"),
    "ComposeFlowCorners": _compose_flow("corners"),
    "LocalCorrelation": Plugin(
        inputs={"garment": ANY, "person": ANY},
        outputs={"out": ANY},
        shapes=lambda garment, _: [(garment[0], WINDOW**2, garment[2], garment[3])],
        launch=_correlate,
        warps=(local_correlation.WARPS,),
    ),
    "PlaneStatistics": Plugin(
        inputs={"h": ANY},
        outputs={"mean": FP32, "rstd": FP32},
        shapes=lambda h: [(h[0], h[1])] * 2,
        launch=_statistics,
    ),
    "RegionalMask": Plugin(
        inputs={"h": ANY, "mean": FP32, "rstd": FP32, "weight": ANY, "bias": ANY},
        outputs={"mask": ANY},
        shapes=lambda h, *_: [(h[0], 1, h[2], h[3])],
        launch=_regional_mask,
    ),
    "Blend": _masked_blend(residual=False),
    "BlendResidual": _masked_blend(residual=True),
}


def variant(name: str, launch: Launch, dtype: str, warps: int) -> ahead.Variant:
    """The kernel of a launch as kernels.compile takes it. dtype: of the features, a value of TYPES."""
    plugin = PLUGINS[name]
    kinds = iter([*plugin.inputs.values(), *plugin.outputs.values()])
    signature = {
        argument: "constexpr" if argument in launch.constants
        else f"*{dtype if next(kinds) == ANY else 'fp32'}"
        for argument in launch.function.arg_names
    }  # fmt: skip
    return ahead.Variant(name, launch.function, signature, launch.constants, warps)


def compile_ptx(kernel: ahead.Variant, sm: int) -> tuple[str, str, int]:
    """Entry point, PTX and bytes of shared memory of a kernel that takes pointers alone."""
    compiled = ahead.compile_variant(kernel, sm, ptx_version=ptx_version(sm))
    pointers = sum(kind != "constexpr" for kind in kernel.signature.values())
    entry = compiled.metadata.name
    return entry, without_scratch(compiled.asm["ptx"], entry, pointers), compiled.metadata.shared


def ptx_version(sm: int) -> int:
    """The least PTX version that knows a target, since TensorRT hands the PTX to a driver of any age.

    Of NVIDIA's PTX manual: 8.0 Hopper, 8.7 Blackwell, 8.8 its later parts (B300, DGX Spark), 9.0 Thor.
    """
    if sm <= 90:
        return 80
    return {103: 88, 110: 90, 121: 88}.get(sm, 87)


def without_scratch(ptx: str, entry: str, arguments: int) -> str:
    """PTX whose entry point takes its first `arguments` parameters alone.

    Triton appends pointers to scratch memory, which its own launcher fills. TensorRT passes none, and a
    launch would read past its list of arguments. Raises ValueError where the kernel uses them.
    """
    head = re.search(rf"\.entry {entry}\(([^)]*)\)", ptx)
    if head is None:
        raise ValueError(f"the PTX has no entry point {entry}")
    parameters = head[1].split(",")
    rest = ptx[head.end() :]
    for parameter in parameters[arguments:]:
        if re.search(rf"\b{parameter.split()[-1]}\b", rest):
            raise ValueError(f"{entry} uses {parameter.split()[-1]}, which TensorRT does not pass")
    if len(parameters) < arguments:
        raise ValueError(f"{entry} has {len(parameters)} parameters, not {arguments}")
    return ptx[: head.start(1)] + ",".join(parameters[:arguments]) + "\n" + ptx[head.end(1) :]


def register(trtp: types.ModuleType, sm: int) -> None:
    """Register all of PLUGINS with TensorRT, in the namespace DOMAIN; once a process.

    trtp: the module `tensorrt.plugin`. sm: compute capability to compile for, such as 86.
    Raises RuntimeError where Triton, which compiles the kernels, is not installed.
    """
    if not AVAILABLE:
        raise RuntimeError(
            "plugins are compiled by Triton, which is not installed (pip install 'rmgn[kernels]')"
        )
    for name, plugin in PLUGINS.items():
        _register(trtp, name, plugin, sm)


def _register(trtp: Any, name: str, plugin: Plugin, sm: int) -> None:
    """Describe one plugin: TensorRT reads names and annotations from the functions' signatures."""
    trt = importlib.import_module("tensorrt")
    features = {trt.float32: "fp32", trt.float16: "fp16", trt.bfloat16: "bf16"}
    names, count = list(plugin.inputs), len(plugin.inputs)
    described: Any = types.GenericAlias(tuple, (trtp.TensorDesc,) * len(plugin.outputs))

    def describe(*inputs: Any) -> Any:
        shapes = plugin.shapes(*(tensor.shape_expr for tensor in inputs))
        return tuple(
            trtp.from_shape_expr(tuple(shape), inputs[0].dtype if kind == ANY else trt.float32)
            for shape, kind in zip(shapes, plugin.outputs.values(), strict=True)
        )

    def combinations(*_: Any) -> Any:
        kinds = ", ".join([*plugin.inputs.values(), *plugin.outputs.values()])
        return [trtp.AutoTuneCombination(kinds, "LINEAR", list(plugin.warps))]

    def implement(*arguments: Any) -> Any:
        inputs, tactic = arguments[:count], arguments[-1]
        shapes = [tuple(int(size) for size in tensor.shape) for tensor in inputs]
        launch = plugin.launch(*shapes)
        warps = tactic or plugin.warps[0]  # TensorRT's default tactic is 0
        entry, ptx, shared = compile_ptx(variant(name, launch, features[inputs[0].dtype], warps), sm)
        x, y, z = launch.grid
        parameters = trtp.KernelLaunchParams(
            grid_x=x, grid_y=y, grid_z=z, block_x=32 * warps, shared_mem=shared
        )
        return entry, ptx, parameters, trtp.SymIntExprs(0)

    text = Union[str, bytes]  # noqa: UP007 - as TensorRT's own checks spell it
    _sign(describe, names, described, annotation=trtp.TensorDesc)
    _sign(combinations, [*names, "outputs"])
    result = tuple[text, text, trtp.KernelLaunchParams, trtp.SymIntExprs]
    _sign(implement, [*names, "outputs", "tactic"], result)
    trtp.register(f"{DOMAIN}::{name}")(describe)
    trtp.autotune(f"{DOMAIN}::{name}")(combinations)
    trtp.aot_impl(f"{DOMAIN}::{name}")(implement)


def _sign(function: Any, names: Sequence[str], returns: Any = EMPTY, annotation: Any = EMPTY) -> None:
    """Give a function of *arguments the signature that `inspect` shows of it."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=annotation) for name in names]
    function.__signature__ = inspect.Signature(parameters, return_annotation=returns)
