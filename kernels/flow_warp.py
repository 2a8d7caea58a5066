"""Sampling features by an appearance flow, and composing flows.

A flow is a sampling grid [B, 2, H, W] of (x, y) positions in [-1, 1]: where in the source each pixel
reads. Sampling is bilinear with `align_corners=False`: pixel i of n has its centre at (2i + 1)/n - 1.
Flows and coordinates are float32 even in a half network: half resolves a position no finer than 1/16
pixel in a picture 256 wide.
"""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.onnx_nodes import emits_nodes, node, sizes
from kernels.shapes import check_shape
from kernels.tiles import BLOCK_PIXELS, Tile, plane_tile, row_tile
from kernels.triton_runtime import (
    accumulator,
    constexpr,
    jit,
    on_its_device,
    runs_on,
    tl,
    triton,
)

Padding = Literal["border", "zeros"]
PixelRule = Literal["centres", "corners"]

WARPS = 8  # with 4 a thread's share of four corners spills on some targets
ROW_WARPS = 4  # in NHWC, where a thread of fewer loads 16 bytes of a corner


def identity_flow(
    height: int, width: int, rule: PixelRule = "centres", device: torch.device | str | None = None
) -> Tensor:
    """The flow [1, 2, height, width], float32, in which every pixel reads itself.

    rule: "centres" places pixel i of n at (2i + 1)/n - 1, as sampling does. "corners" places it at
    i / ((n - 1)/2) - 1, the align_corners=True rule, which the released RMGN and PF-AFN weights were
    trained with although they sample with align_corners=False.
    """
    x = _positions(width, rule, device).view(1, 1, 1, width).expand(1, 1, height, width)
    y = _positions(height, rule, device).view(1, 1, height, 1).expand(1, 1, height, width)
    return torch.cat([x, y], dim=1)


def flow_warp(features: Tensor, flow: Tensor, padding: Padding = "border") -> Tensor:
    """Sample `features` where `flow` points, bilinear.

    features: [B, C, h, w], any float dtype; flow: [B, 2, H, W], float32 (x, y) in [-1, 1].
    padding: what is read outside, the nearest border value or zero. A position that is not a number reads the
    first pixel; with zeros, plain torch gives NaN there and the kernel 0.
    Returns [B, C, H, W] in the dtype of `features`, computed in that of `flow`.
    """
    if runs_on(features):
        return flow_warp_op(features, flow, padding, "flow")
    if emits_nodes():
        return _FlowWarpNode.apply(features, flow, padding, sizes(features)[:2] + sizes(flow)[2:])  # type: ignore[no-untyped-call]
    return flow_warp_reference(features, flow, padding)


def compose_flow(flow: Tensor | None, offset: Tensor, rule: PixelRule = "centres") -> Tensor:
    """Read `flow` (the identity where None) at every pixel moved by `offset`.

    flow: [B, 2, H, W] float32 sampling grid; offset: [B, 2, H, W], (dx, dy) in pixels.
    rule: see `identity_flow`; it also says how long one pixel is in normalised coordinates.
    Returns a float32 sampling grid [B, 2, H, W].
    """
    if flow is not None and runs_on(offset):
        return flow_warp_op(flow, offset.float(), "border", rule)
    if flow is not None and emits_nodes():
        return _ComposeFlowNode.apply(flow, offset.float(), rule, sizes(flow))  # type: ignore[no-untyped-call]
    return compose_flow_reference(flow, offset, rule)


def flow_warp_reference(features: Tensor, flow: Tensor, padding: Padding = "border") -> Tensor:
    """`flow_warp` in plain torch: the specification of the kernel."""
    sampled = F.grid_sample(
        features.to(flow.dtype), flow.permute(0, 2, 3, 1), "bilinear", padding, align_corners=False
    )
    return sampled.to(features.dtype)


def compose_flow_reference(flow: Tensor | None, offset: Tensor, rule: PixelRule = "centres") -> Tensor:
    """`compose_flow` in plain torch: the specification of the kernel."""
    height, width = offset.shape[-2:]
    offset = offset if offset.dtype == torch.float64 else offset.float()
    x = _positions(width, rule, offset.device).view(1, 1, 1, width) + offset[:, :1] * _pixel(width, rule)
    y = _positions(height, rule, offset.device).view(1, 1, height, 1) + offset[:, 1:] * _pixel(height, rule)
    moved = torch.cat([x, y], dim=1)
    return moved if flow is None else flow_warp_reference(flow, moved)


def _pixel(size: int, rule: PixelRule) -> float:
    """Length of a pixel along an axis of `size` pixels, in normalised coordinates."""
    return 2 / size if rule == "centres" else 2 / max(size - 1, 1)


def _positions(size: int, rule: PixelRule, device: torch.device | str | None) -> Tensor:
    """Normalised coordinates of the pixels along an axis."""
    index = torch.arange(size, dtype=torch.float32, device=device)
    return (2 * index + 1) / size - 1 if rule == "centres" else index * _pixel(size, rule) - 1


class _FlowWarpNode(torch.autograd.Function):
    """FlowWarpBorder or FlowWarpZeros in an ONNX graph."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, flow: Tensor, padding: Padding, shape: list[int]) -> Tensor:  # noqa: ARG004
        return flow_warp_reference(features, flow, padding)

    @staticmethod
    def symbolic(graph: Any, features: Any, flow: Any, padding: Padding, shape: list[int]) -> Any:
        return node(graph, f"FlowWarp{padding.capitalize()}", [features, flow], shape)


class _ComposeFlowNode(torch.autograd.Function):
    """ComposeFlowCentres or ComposeFlowCorners in an ONNX graph."""

    @staticmethod
    def forward(ctx: Any, flow: Tensor, offset: Tensor, rule: PixelRule, shape: list[int]) -> Tensor:  # noqa: ARG004
        return compose_flow_reference(flow, offset, rule)

    @staticmethod
    def symbolic(graph: Any, flow: Any, offset: Any, rule: PixelRule, shape: list[int]) -> Any:
        return node(graph, f"ComposeFlow{rule.capitalize()}", [flow, offset], shape)


@jit
def _source_position(
    field, batch, pixel, inside, field_sb, field_sc, field_sp, height, width, out_width, CORNERS, OFFSET, ACC
):
    """Source coordinates (in pixels, unclamped) of output pixels, and d(coordinate)/d(field)."""
    at = field + batch * field_sb + pixel * field_sp
    x = tl.load(at, mask=inside, other=0.0).to(ACC)
    y = tl.load(at + field_sc, mask=inside, other=0.0).to(ACC)
    if OFFSET:  # the field holds pixels to move by: compose_flow, whose output has the source's size
        x += (pixel % out_width).to(ACC)
        y += (pixel // out_width).to(ACC)
        scale_x = 1.0
        scale_y = 1.0
        if CORNERS:  # i / ((n - 1)/2) - 1, read back as pixel centres
            scale_x = width / tl.maximum(width - 1, 1)
            scale_y = height / tl.maximum(height - 1, 1)
            x = x * scale_x - 0.5
            y = y * scale_y - 0.5
    else:
        scale_x = width * 0.5
        scale_y = height * 0.5
        x = (x + 1.0) * scale_x - 0.5
        y = (y + 1.0) * scale_y - 0.5
    return x, y, scale_x, scale_y


@jit
def _top_left(x, y, height, width, BORDER):
    """The corner of a position's four with the least coordinates, and the weights of those opposite it."""
    margin = 0.0 if BORDER else 2.0  # farther out all corners are outside; this keeps the integers finite
    x = tl.minimum(tl.maximum(x, -margin), width - 1.0 + margin)
    y = tl.minimum(tl.maximum(y, -margin), height - 1.0 + margin)
    left = tl.floor(x)
    top = tl.floor(y)
    return left.to(tl.int64), top.to(tl.int64), x - left, y - top


@jit
def _forward_kernel(
    features,  # [B, C, h, w]
    field,  # [B, 2, H, W] flow or offset
    out,  # [B, C, H, W]
    channels,
    height,
    width,
    pixels,
    out_width,
    features_sb,
    features_sc,
    features_sh,
    features_sw,
    field_sb,
    field_sc,
    field_sp,
    out_sb,
    out_sc,
    out_sp,
    BORDER: constexpr,
    OFFSET: constexpr,
    CORNERS: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(2).to(tl.int64)
    inside = pixel < pixels
    x, y, _sx, _sy = _source_position(
        field, batch, pixel.to(tl.int64), inside, field_sb, field_sc, field_sp, height, width, out_width,
        CORNERS, OFFSET, ACC,
    )  # fmt: skip
    left, top, wx, wy = _top_left(x, y, height, width, BORDER)
    base = features + batch * features_sb + channel.to(tl.int64)[:, None] * features_sc
    some = (channel < channels)[:, None] & inside[None, :]
    total = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    for corner in tl.static_range(4):
        i = left + corner % 2
        j = top + corner // 2
        weight = (wx if corner % 2 else 1 - wx) * (wy if corner // 2 else 1 - wy)
        there = (i >= 0) & (i < width) & (j >= 0) & (j < height)
        at = base + (j * features_sh + i * features_sw)[None, :]
        value = tl.load(at, mask=some & there[None, :], other=0.0).to(ACC)
        total += value * weight[None, :]
    at = out + batch * out_sb + channel.to(tl.int64)[:, None] * out_sc + pixel.to(tl.int64)[None, :] * out_sp
    tl.store(at, total.to(out.dtype.element_ty), mask=some)


@jit
def _backward_kernel(
    grad,  # [B, C, H, W]
    features,  # [B, C, h, w]
    field,  # [B, 2, H, W]
    grad_features,  # [B, C, h, w] zeros in the accumulator's dtype
    grad_field,  # [B, 2, H, W]
    channels,
    height,
    width,
    pixels,
    out_width,
    grad_sb,
    grad_sc,
    grad_sp,
    features_sb,
    features_sc,
    features_sh,
    features_sw,
    field_sb,
    field_sc,
    field_sp,
    into_sb,
    into_sc,
    into_sh,
    into_sw,
    BORDER: constexpr,
    OFFSET: constexpr,
    CORNERS: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    pixel = pixel.to(tl.int64)
    x, y, scale_x, scale_y = _source_position(
        field, batch, pixel, inside, field_sb, field_sc, field_sp, height, width, out_width,
        CORNERS, OFFSET, ACC,
    )  # fmt: skip
    free_x = (x > 0) & (x < width - 1.0)  # a clamped coordinate does not move
    free_y = (y > 0) & (y < height - 1.0)
    left, top, wx, wy = _top_left(x, y, height, width, BORDER)
    slope_x = tl.zeros([BLOCK_P], dtype=ACC)
    slope_y = tl.zeros([BLOCK_P], dtype=ACC)
    for start in range(0, channels, BLOCK_C):
        channel = (start + tl.arange(0, BLOCK_C)).to(tl.int64)
        some = (channel < channels)[:, None] & inside[None, :]
        at = grad + batch * grad_sb + channel[:, None] * grad_sc + pixel[None, :] * grad_sp
        g = tl.load(at, mask=some, other=0.0).to(ACC)
        for corner in tl.static_range(4):
            i = left + corner % 2
            j = top + corner // 2
            weight_x = wx if corner % 2 else 1 - wx
            weight_y = wy if corner // 2 else 1 - wy
            there = some & ((i >= 0) & (i < width) & (j >= 0) & (j < height))[None, :]
            at = batch * features_sb + channel[:, None] * features_sc
            at += (j * features_sh + i * features_sw)[None, :]
            value = tl.load(features + at, mask=there, other=0.0).to(ACC)
            moment = tl.sum(g * value, axis=0)
            slope_x += moment * weight_y * (1.0 if corner % 2 else -1.0)
            slope_y += moment * weight_x * (1.0 if corner // 2 else -1.0)
            into = batch * into_sb + channel[:, None] * into_sc + (j * into_sh + i * into_sw)[None, :]
            # Relaxed: only the sum matters, and none of the threads reads it.
            part = g * (weight_x * weight_y)[None, :]
            tl.atomic_add(grad_features + into, part, mask=there, sem="relaxed")
    if BORDER:
        slope_x = tl.where(free_x, slope_x, 0.0)
        slope_y = tl.where(free_y, slope_y, 0.0)
    at = grad_field + batch * 2 * pixels + pixel
    tl.store(at, (slope_x * scale_x).to(grad_field.dtype.element_ty), mask=inside)
    tl.store(at + pixels, (slope_y * scale_y).to(grad_field.dtype.element_ty), mask=inside)


def _flags(field: Tensor, padding: str, rule: str) -> dict[str, Any]:
    return {
        "BORDER": padding == "border",
        "OFFSET": rule != "flow",
        "CORNERS": rule == "corners",
        "ACC": accumulator(field.dtype),
    }


def forward_tile(channels: int, pixels: int, last: bool) -> Tile:
    """Pixels of a program, and channels that one gather of positions serves. last: channels last."""
    return row_tile(channels, min(pixels, BLOCK_PIXELS)) if last else plane_tile(channels, pixels)


@torch.library.custom_op("rmgn::flow_warp", mutates_args=())
@on_its_device
def flow_warp_op(features: Tensor, field: Tensor, padding: str, rule: str) -> Tensor:
    """`flow_warp` (rule "flow") and `compose_flow` (rule "centres" or "corners") as one operator.

    features: [B, C, h, w], any strides; field: [B, 2, H, W], float32 or float64, flow or offset.
    Raises ValueError for other shapes and for names that are none.
    """
    if padding not in get_args(Padding) or rule not in ("flow", *get_args(PixelRule)):
        raise ValueError(f"there is no padding {padding!r}, or no rule {rule!r}")
    check_shape("the flow", field, (features.shape[0], 2, *field.shape[2:]))
    if rule != "flow":  # an offset of each of its pixels
        check_shape("the offset", field, features.shape)
    batch, channels, height, width = features.shape
    field = field.contiguous()
    channels_last = channels > 1 and features.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (batch, channels, *field.shape[2:])
    out = torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=layout)
    pixels = field.shape[2] * field.shape[3]
    tile = forward_tile(channels, pixels, channels_last)
    grid = (triton.cdiv(pixels, tile["BLOCK_P"]), triton.cdiv(channels, tile["BLOCK_C"]), batch)
    _forward_kernel[grid](
        features, field, out, channels, height, width, pixels, field.shape[3], *features.stride(),
        *field.stride()[:2], 1, out.stride(0), out.stride(1), out.stride(3),
        **_flags(field, padding, rule), **tile, num_warps=ROW_WARPS if channels_last else WARPS,
    )  # fmt: skip
    return out


@flow_warp_op.register_fake
def _(features: Tensor, field: Tensor, padding: str, rule: str) -> Tensor:  # noqa: ARG001
    channels_last = features.shape[1] > 1 and features.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    shape = (*features.shape[:2], *field.shape[2:])
    return torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=layout)


@torch.library.custom_op("rmgn::flow_warp_backward", mutates_args=())
@on_its_device
def flow_warp_backward_op(
    grad: Tensor, features: Tensor, field: Tensor, padding: str, rule: str
) -> tuple[Tensor, Tensor]:
    """Gradients of `rmgn::flow_warp` for features and field."""
    batch, channels, height, width = features.shape
    field, grad = field.contiguous(), grad.contiguous()
    into = torch.zeros(features.shape, dtype=field.dtype, device=features.device)
    grad_field = torch.empty(field.shape, dtype=field.dtype, device=field.device)
    pixels = field.shape[2] * field.shape[3]
    tile = plane_tile(channels, pixels)  # gradients are contiguous
    grid = (triton.cdiv(pixels, tile["BLOCK_P"]), batch)
    _backward_kernel[grid](
        grad, features, field, into, grad_field, channels, height, width, pixels, field.shape[3],
        grad.stride(0), grad.stride(1), 1, *features.stride(), *field.stride()[:2], 1, *into.stride(),
        **_flags(field, padding, rule), **tile, num_warps=WARPS,
    )  # fmt: skip
    return into.to(features.dtype), grad_field


@flow_warp_backward_op.register_fake
def _(
    grad: Tensor, features: Tensor, field: Tensor, padding: str, rule: str  # noqa: ARG001
) -> tuple[Tensor, Tensor]:  # fmt: skip
    into = torch.empty(features.shape, dtype=features.dtype, device=features.device)
    return into, torch.empty(field.shape, dtype=field.dtype, device=field.device)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    features, field, ctx.padding, ctx.rule = inputs
    ctx.save_for_backward(features, field)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    features, field = ctx.saved_tensors
    return (*flow_warp_backward_op(grad, features, field, ctx.padding, ctx.rule), None, None)


flow_warp_op.register_autograd(_backward, setup_context=_setup)
