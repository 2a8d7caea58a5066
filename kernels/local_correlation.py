"""Correlation of two feature maps over a window of displacements, as optical-flow networks use it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.onnx_nodes import emits_nodes, node, sizes
from kernels.shapes import check_shape
from kernels.triton_runtime import (
    accumulator,
    constexpr,
    jit,
    on_its_device,
    power_of_two,
    runs_on,
    tl,
    triton,
)

RADIUS, SLOPE = 3, 0.1  # of the published network

# Pixels of a program. A program holds all displacements of its pixels, 64 x 64 sums for the 7x7 window.
BLOCK_PIXELS, FEW_PIXELS = 64, 2048
WARPS = 8  # with 4 a thread would hold more sums than it has registers
_TILE = 8  # pixels, along both axes, that a matrix product on a CPU takes together
BACKWARD_CHANNELS = 32  # of a backward program, which reads the window's gradients once for all of them


def local_correlation(garment: Tensor, person: Tensor, radius: int = RADIUS, slope: float = SLOPE) -> Tensor:
    """LeakyReLU of the mean over channels of garment(y, x) · person(y + dy, x + dx).

    garment, person: [B, C, H, W]; `person` is zero outside the picture.
    radius: displacements run over -radius … radius, dy outer, dx inner.
    slope: of the LeakyReLU for negative values.
    Returns [B, (2·radius + 1)², H, W] in the dtype of the inputs.
    """
    if runs_on(garment):
        return local_correlation_op(garment, person, radius, slope)
    if emits_nodes() and (radius, slope) == (RADIUS, SLOPE):
        return _LocalCorrelationNode.apply(garment, person, sizes(garment))  # type: ignore[no-untyped-call]
    # Tiles would become constants of a traced graph.
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return local_correlation_reference(garment, person, radius, slope)
    return local_correlation_tiled(garment, person, radius, slope)


def local_correlation_reference(
    garment: Tensor, person: Tensor, radius: int = RADIUS, slope: float = SLOPE
) -> Tensor:
    """`local_correlation` in plain torch: the specification of the kernel."""
    height, width = garment.shape[-2:]
    window = 2 * radius + 1
    padded = F.pad(person, [radius] * 4)
    products = [
        (garment * padded[:, :, dy : dy + height, dx : dx + width]).mean(dim=1)
        for dy in range(window)
        for dx in range(window)
    ]
    return F.leaky_relu(torch.stack(products, dim=1), slope)


def local_correlation_tiled(
    garment: Tensor, person: Tensor, radius: int = RADIUS, slope: float = SLOPE
) -> Tensor:
    """`local_correlation` as matrix products, where the kernel does not run.

    Each tile of pixels is multiplied with all that their windows reach, of which a quarter is wanted: two to
    five times as fast, with its gradient, as 49 shifted products, seven times in bfloat16.
    """
    batch, channels, height, width = garment.shape
    window, side = 2 * radius + 1, _TILE + 2 * radius
    below, right = -height % _TILE, -width % _TILE
    rows, columns = (height + below) // _TILE, (width + right) // _TILE
    # Divided first: sums over channels leave the range of half.
    tiles = F.pad(garment / channels, (0, right, 0, below)).view(batch, channels, rows, _TILE, columns, _TILE)
    tiles = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, _TILE**2, channels)
    padded = F.pad(person, (radius, radius + right, radius, radius + below))
    reach = padded.unfold(2, side, _TILE).unfold(3, side, _TILE).permute(0, 2, 3, 1, 4, 5)
    products = tiles @ reach.reshape(-1, channels, side**2)
    # A pixel's window begins one further in its tile's reach than that of the pixel before it.
    wanted = products.as_strided(
        (products.shape[0], _TILE, _TILE, window, window),
        ((_TILE * side) ** 2, _TILE * side**2 + side, side**2 + 1, side, 1),
    )
    sums = wanted.reshape(batch, rows, columns, _TILE, _TILE, window**2).permute(0, 5, 1, 3, 2, 4)
    whole = sums.reshape(batch, window**2, rows * _TILE, columns * _TILE)
    return F.leaky_relu(whole[..., :height, :width], slope)


class _LocalCorrelationNode(torch.autograd.Function):
    """LocalCorrelation in an ONNX graph, for the published radius and slope."""

    @staticmethod
    def forward(ctx: Any, garment: Tensor, person: Tensor, shape: list[int]) -> Tensor:  # noqa: ARG004
        return local_correlation_reference(garment, person)

    @staticmethod
    def symbolic(graph: Any, garment: Any, person: Any, shape: list[int]) -> Any:
        batch, _, *plane = shape
        return node(graph, "LocalCorrelation", [garment, person], [batch, (2 * RADIUS + 1) ** 2, *plane])


@jit
def _forward_kernel(
    garment,  # [B, C, H, W] contiguous
    person,  # [B, C, H, W] contiguous
    out,  # [B, WINDOW², H, W] contiguous
    channels,
    height,
    width,
    slope,
    RADIUS: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_D: constexpr,
):
    WINDOW: constexpr = 2 * RADIUS + 1
    pixels = height * width
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    shift = tl.arange(0, BLOCK_D)
    inside = pixel < pixels
    y = (pixel // width)[None, :] + (shift // WINDOW - RADIUS)[:, None]
    x = (pixel % width)[None, :] + (shift % WINDOW - RADIUS)[:, None]
    wanted = (shift < WINDOW * WINDOW)[:, None] & inside[None, :]
    there = wanted & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    total = tl.zeros([BLOCK_D, BLOCK_P], dtype=ACC)
    # Few programs hide no wait for memory behind one another's work, so each has several loads under way.
    UNROLL: constexpr = 4 if BLOCK_P == 16 else 1
    for channel in tl.range(0, channels, loop_unroll_factor=UNROLL):
        plane = (batch * channels + channel) * pixels
        a = tl.load(garment + plane + pixel, mask=inside, other=0.0).to(ACC)
        b = tl.load(person + plane + y * width + x, mask=there, other=0.0).to(ACC)
        total += a[None, :] * b
    total = total / channels
    total = tl.where(total > 0, total, total * slope)
    at = out + (batch * (WINDOW * WINDOW) + shift.to(tl.int64)[:, None]) * pixels + pixel[None, :]
    tl.store(at, total.to(out.dtype.element_ty), mask=wanted)


@jit
def _backward_kernel(
    grad,  # [B, WINDOW², H, W] contiguous
    out,  # [B, WINDOW², H, W] contiguous, for the sign of what went into the LeakyReLU
    other,  # [B, C, H, W] contiguous, the operand that is not differentiated
    into,  # [B, C, H, W] contiguous
    channels,
    height,
    width,
    slope,
    SIGN: constexpr,  # 1: gradient of garment, read at the displacement; -1: of person, against it
    RADIUS: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_D: constexpr,
    BLOCK_C: constexpr,
):
    WINDOW: constexpr = 2 * RADIUS + 1
    pixels = height * width
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    first = tl.program_id(1) * BLOCK_C
    batch = tl.program_id(2).to(tl.int64)
    shift = tl.arange(0, BLOCK_D)
    inside = pixel < pixels
    y = (pixel // width)[None, :] + SIGN * (shift // WINDOW - RADIUS)[:, None]
    x = (pixel % width)[None, :] + SIGN * (shift % WINDOW - RADIUS)[:, None]
    there = (shift < WINDOW * WINDOW)[:, None] & inside[None, :]
    there = there & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    neighbour = y * width + x
    # The output that joins this pixel with its neighbour lies at the garment's pixel.
    where = pixel[None, :] + tl.zeros([BLOCK_D, 1], dtype=tl.int32) if SIGN == 1 else neighbour
    at = (batch * (WINDOW * WINDOW) + shift.to(tl.int64)[:, None]) * pixels + where
    g = tl.load(grad + at, mask=there, other=0.0).to(ACC)
    o = tl.load(out + at, mask=there, other=0.0).to(ACC)
    g = tl.where(o > 0, g, g * slope) / channels
    for channel in range(first, tl.minimum(first + BLOCK_C, channels)):
        plane = (batch * channels + channel) * pixels
        value = tl.load(other + plane + neighbour, mask=there, other=0.0).to(ACC)
        total = tl.sum(g * value, axis=0)
        tl.store(into + plane + pixel, total.to(into.dtype.element_ty), mask=inside)


def pixel_block(pixels: int) -> int:
    """Pixels of a program: few at coarse levels, where else a handful of programs would do all the work."""
    return 16 if pixels <= FEW_PIXELS else BLOCK_PIXELS


def _sizes(tensor: Tensor, radius: int) -> dict[str, Any]:
    pixels = tensor.shape[2] * tensor.shape[3]
    return {
        "RADIUS": radius,
        "ACC": accumulator(tensor.dtype),
        "BLOCK_P": pixel_block(pixels),
        "BLOCK_D": power_of_two((2 * radius + 1) ** 2),
    }


@torch.library.custom_op("rmgn::local_correlation", mutates_args=())
@on_its_device
def local_correlation_op(garment: Tensor, person: Tensor, radius: int, slope: float) -> Tensor:
    """`local_correlation` as an operator. Raises ValueError for two shapes."""
    check_shape("person", person, garment.shape)
    garment, person = garment.contiguous(), person.contiguous()
    batch, channels, height, width = garment.shape
    out = garment.new_empty(batch, (2 * radius + 1) ** 2, height, width)
    sizes = _sizes(garment, radius)
    grid = (triton.cdiv(height * width, sizes["BLOCK_P"]), batch)
    _forward_kernel[grid](garment, person, out, channels, height, width, slope, **sizes, num_warps=WARPS)
    return out


@local_correlation_op.register_fake
def _(garment: Tensor, person: Tensor, radius: int, slope: float) -> Tensor:  # noqa: ARG001
    batch, _, height, width = garment.shape
    return garment.new_empty(batch, (2 * radius + 1) ** 2, height, width)


@torch.library.custom_op("rmgn::local_correlation_backward", mutates_args=())
@on_its_device
def local_correlation_backward_op(
    grad: Tensor, out: Tensor, garment: Tensor, person: Tensor, radius: int, slope: float
) -> tuple[Tensor, Tensor]:
    """Gradients of `rmgn::local_correlation` for garment and person."""
    grad, out, garment, person = (t.contiguous() for t in (grad, out, garment, person))
    batch, channels, height, width = garment.shape
    sizes = _sizes(garment, radius)
    grid = (triton.cdiv(height * width, sizes["BLOCK_P"]), triton.cdiv(channels, BACKWARD_CHANNELS), batch)
    results = []
    for sign, other in ((1, person), (-1, garment)):
        into = torch.empty_like(other)
        _backward_kernel[grid](
            grad, out, other, into, channels, height, width, slope,
            SIGN=sign, **sizes, BLOCK_C=BACKWARD_CHANNELS, num_warps=WARPS,
        )  # fmt: skip
        results.append(into)
    return results[0], results[1]


@local_correlation_backward_op.register_fake
def _(
    grad: Tensor, out: Tensor, garment: Tensor, person: Tensor, radius: int, slope: float  # noqa: ARG001
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return garment.new_empty(garment.shape), person.new_empty(person.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    garment, person, ctx.radius, ctx.slope = inputs
    ctx.save_for_backward(output, garment, person)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
    out, garment, person = ctx.saved_tensors
    return (*local_correlation_backward_op(grad, out, garment, person, ctx.radius, ctx.slope), None, None)


local_correlation_op.register_autograd(_backward, setup_context=_setup)
