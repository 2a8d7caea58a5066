"""mask_fusion as an operator of PyTorch: how its kernels are launched, forward and backward."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.mask_fusion_kernels import (
    affine_gradient_kernel,
    blend_kernel,
    fused_kernel,
    input_gradient_kernel,
    mask_gradient_kernel,
    mask_kernel,
    merge_kernel,
    plane_kernel,
    statistics_kernel,
)
from kernels.shapes import check_shape
from kernels.tiles import (
    BLOCK_CHANNELS,
    BLOCK_PIXELS,
    ROW_CHANNELS,
    ROW_ELEMENTS,
    Tile,
    pixel_block,
    row_tile,
    tile,
)
from kernels.triton_runtime import accumulator, on_its_device, power_of_two, triton

EPSILON = 1e-5
# A plane of NCHW up to this many pixels is held by one program, which then reads h once.
WHOLE_PLANE, PLANE_WARPS = 4096, 16
# Sums over planes load more at a time than other programs, since each waits for its loads. On an H200 four
# warps are 9 to 23 % faster than eight, at every size.
SUM_ELEMENTS, SUM_WARPS = 4096, 4
# In NHWC a program can take all channels of a pixel. Half the elements and warps are up to 14 % faster there.
FUSED_CHANNELS, FUSED_ELEMENTS, FUSED_WARPS = 1024, 2048, 4
GRADIENT_WARPS = 8  # with 4 a thread's share of four gradients and three sums spills
# Programs that sums over planes are spread over: a few for each multiprocessor of a large GPU.
PROGRAMS, MOST_PARTS = 512, 512


def _layout(h: Tensor) -> torch.memory_format:
    last = h.shape[1] > 1 and h.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _strides(h: Tensor) -> tuple[int, int, int]:
    """Strides of batch, channel and pixel: both layouts number their pixels in one run."""
    channels, pixels = h.shape[1], h.shape[2] * h.shape[3]
    if _layout(h) == torch.channels_last:
        return channels * pixels, 1, channels
    return channels * pixels, pixels, 1


def sum_tile(channels: int, pixels: int, last: bool, elements: int) -> Tile:
    """Of a program that sums over planes: at most `elements` at a time. last: channels last."""
    if last:
        return row_tile(channels, pixels, elements)
    return {"BLOCK_P": pixel_block(pixels, elements), "BLOCK_C": 1}


def mask_tile(batch: int, channels: int, pixels: int, last: bool) -> Tile:
    """Pixels of a program that sums over the channels, and channels at a time. last: channels last.

    Small planes make few programs: each then takes fewer pixels, and more channels at once.
    """
    if last or triton.cdiv(pixels, BLOCK_PIXELS) * batch >= PROGRAMS // 2:
        return tile(channels, pixels, last)
    return {"BLOCK_P": 16, "BLOCK_C": min(ROW_CHANNELS, power_of_two(channels))}


def fused_tile(channels: int, pixels: int) -> Tile:
    """Pixels of a program that takes all their channels, in NHWC."""
    row = power_of_two(channels)
    return {"BLOCK_P": min(FUSED_ELEMENTS // row, 512, max(4, power_of_two(pixels))), "BLOCK_C": row}


class _Parts(NamedTuple):
    """How sums over the planes of a batch are spread over programs."""

    grid: tuple[int, int, int]  # blocks of channels, parts of a plane, samples
    share: int  # pixels of a part
    tile: Tile


def _parts(h: Tensor, elements: int) -> _Parts:
    """As many programs as fill a large GPU, as long as each has two blocks of pixels to sum over.

    elements: at most, of what a program loads at a time.
    """
    batch, channels, pixels = h.shape[0], h.shape[1], h.shape[2] * h.shape[3]
    block = sum_tile(channels, pixels, _layout(h) == torch.channels_last, elements)
    blocks, block_p = triton.cdiv(channels, block["BLOCK_C"]), block["BLOCK_P"]
    parts = min(MOST_PARTS, triton.cdiv(PROGRAMS, max(1, blocks * batch)), triton.cdiv(pixels, 2 * block_p))
    share = triton.cdiv(triton.cdiv(pixels, parts), block_p) * block_p
    return _Parts((blocks, triton.cdiv(pixels, share), batch), share, block)


def _statistics(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation [B, C] of the planes of h, in the accumulator's dtype."""
    batch, channels, pixels = h.shape[0], h.shape[1], h.shape[2] * h.shape[3]
    (blocks, parts, _), share, block = _parts(h, SUM_ELEMENTS)
    mean, rstd = _empty_statistics(h)
    of_parts = (mean, rstd) if parts == 1 else mean.new_empty(2, batch, parts, channels).unbind()
    flags = {"ACC": accumulator(h.dtype)}
    statistics_kernel[(blocks, parts, batch)](
        h, *of_parts, channels, pixels, share, EPSILON, *_strides(h), WHOLE=parts == 1, **flags, **block,
        num_warps=SUM_WARPS,
    )  # fmt: skip
    if parts > 1:
        merge_kernel[(triton.cdiv(channels, BLOCK_CHANNELS), batch)](
            *of_parts, mean, rstd, channels, pixels, parts, share, EPSILON, **flags,
            BLOCK_N=power_of_two(parts), BLOCK_C=BLOCK_CHANNELS,
        )  # fmt: skip
    return mean, rstd


def _empty_statistics(h: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if h.dtype == torch.float64 else torch.float32
    mean, rstd = (torch.empty(h.shape[:2], dtype=wide, device=h.device) for _ in range(2))
    return mean, rstd


@torch.library.custom_op("rmgn::mask_fusion", mutates_args=())
@on_its_device
def mask_fusion_op(
    h: Tensor,
    gamma_person: Tensor,
    beta_person: Tensor,
    gamma_garment: Tensor,
    beta_garment: Tensor,
    mask: Tensor | None,
    mask_weight: Tensor | None,
    mask_bias: Tensor | None,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fusion as an operator: with `mask` [B, 1, H, W], or with mask_weight [C] and mask_bias [1].

    Returns fused [B, C, H, W], the computed mask [B, 1, H, W] (empty where it was given), and mean and
    reciprocal deviation [B, C] of the planes of h, float32 or float64. Raises ValueError for other shapes.
    """
    for name, each in zip(
        ("γP", "βP", "γI", "βI"), (gamma_person, beta_person, gamma_garment, beta_garment), strict=True
    ):
        check_shape(name, each, h.shape)
    if mask is not None:
        check_shape("mask", mask, (h.shape[0], 1, *h.shape[2:]))
    elif mask_weight is None or mask_bias is None:
        raise ValueError("mask fusion needs a mask, or the weight and the bias that it comes of")
    else:
        check_shape("mask_weight", mask_weight, h.shape[1:2])
        check_shape("mask_bias", mask_bias, (1,))
    if h.shape[1:].numel() >= 2**31:
        raise ValueError(
            f"a sample of {tuple(h.shape[1:])} has more elements than the kernel's 32-bit offsets"
        )
    layout = _layout(h)
    last = layout == torch.channels_last
    maps = [
        t.contiguous(memory_format=layout) for t in (gamma_person, beta_person, gamma_garment, beta_garment)
    ]
    h = h.contiguous(memory_format=layout)
    batch, channels, height, width = h.shape
    pixels = height * width
    out = torch.empty_like(h, memory_format=layout)
    strides, acc = _strides(h), accumulator(h.dtype)
    if mask is not None and pixels <= WHOLE_PLANE and not last:
        mean, rstd = _empty_statistics(h)
        plane_kernel[(channels, batch)](
            h, *maps, mask.contiguous(), mean, rstd, out, channels, pixels, EPSILON, *strides,
            RESIDUAL=residual, ACC=acc, BLOCK_P=max(16, power_of_two(pixels)), num_warps=PLANE_WARPS,
        )  # fmt: skip
        return out, h.new_empty(0), mean, rstd
    mean, rstd = _statistics(h)
    if mask is not None:
        used, computed = mask.contiguous(), h.new_empty(0)
    else:
        assert mask_weight is not None
        mask_weight = mask_weight.contiguous()
        used = computed = torch.empty(batch, 1, height, width, dtype=h.dtype, device=h.device)
        if last and channels <= FUSED_CHANNELS:
            block = fused_tile(channels, pixels)
            fused_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), batch)](
                h, *maps, mask_weight, mask_bias, mean, rstd, used, out, channels, pixels, *strides,
                RESIDUAL=residual, ACC=acc, **block, num_warps=FUSED_WARPS,
            )  # fmt: skip
            return out, computed, mean, rstd
        block = mask_tile(batch, channels, pixels, last)
        mask_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), batch)](
            h, mean, rstd, mask_weight, mask_bias, used, channels, pixels, *strides, ACC=acc, **block,
        )  # fmt: skip
    block = tile(channels, pixels, last)
    blend_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), triton.cdiv(channels, block["BLOCK_C"]), batch)](
        h, *maps, used, mean, rstd, out, channels, pixels, *strides, RESIDUAL=residual, ACC=acc, **block,
    )  # fmt: skip
    return out, computed, mean, rstd


@mask_fusion_op.register_fake
def _(
    h: Tensor,
    gamma_person: Tensor,  # noqa: ARG001
    beta_person: Tensor,  # noqa: ARG001
    gamma_garment: Tensor,  # noqa: ARG001
    beta_garment: Tensor,  # noqa: ARG001
    mask: Tensor | None,
    mask_weight: Tensor | None,  # noqa: ARG001
    mask_bias: Tensor | None,  # noqa: ARG001
    residual: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, _, height, width = h.shape
    mean, rstd = _empty_statistics(h)
    computed = h.new_empty(batch, 1, height, width) if mask is None else h.new_empty(0)
    return torch.empty_like(h, memory_format=_layout(h)), computed, mean, rstd


@torch.library.custom_op("rmgn::mask_fusion_backward", mutates_args=())
@on_its_device
def mask_fusion_backward_op(
    grad: Tensor,
    grad_mask: Tensor | None,
    h: Tensor,
    gamma_person: Tensor,
    beta_person: Tensor,
    gamma_garment: Tensor,
    beta_garment: Tensor,
    mask: Tensor,
    mask_weight: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `rmgn::mask_fusion`: h, γP, βP, γI, βI, mask [B, 1, H, W], weight [C], bias [1].

    mask_weight None means that the mask was given: weight and bias then come back empty, otherwise the
    mask's gradient does.
    """
    layout = _layout(h)
    last = layout == torch.channels_last
    h, grad = h.contiguous(memory_format=layout), grad.contiguous(memory_format=layout)
    maps = [
        t.contiguous(memory_format=layout) for t in (gamma_person, beta_person, gamma_garment, beta_garment)
    ]
    mask = mask.contiguous()
    batch, channels, height, width = h.shape
    pixels = height * width
    strides, acc = _strides(h), accumulator(h.dtype)
    logit = mask_weight is not None
    through_mask = torch.empty(batch, 1, height, width, dtype=mean.dtype, device=h.device)
    by_pixel = mask_tile(batch, channels, pixels, last)
    mask_gradient_kernel[(triton.cdiv(pixels, by_pixel["BLOCK_P"]), batch)](
        grad, mask if grad_mask is None else grad_mask.contiguous(), h, *maps, mask, mean, rstd, through_mask,
        channels, pixels, *strides, HAS_GRAD_MASK=grad_mask is not None, LOGIT=logit, ACC=acc,
        **by_pixel,
    )  # fmt: skip
    grads = [torch.empty_like(h, memory_format=layout) for _ in range(5)]
    weights = mean if mask_weight is None else mask_weight.contiguous()  # any pointer where it is not read
    common = grad, h, maps[0], maps[2], mask, mean, rstd, through_mask, weights
    spread, flags = _parts(h, ROW_ELEMENTS), {"RESIDUAL": residual, "LOGIT": logit, "ACC": acc}
    parts = torch.empty(3, batch, spread.grid[1], channels, dtype=mean.dtype, device=h.device)
    affine_gradient_kernel[spread.grid](
        *common,
        *grads[1:],
        parts,
        channels,
        pixels,
        spread.share,
        *strides,
        **flags,
        **spread.tile,
        num_warps=GRADIENT_WARPS,
    )
    sums = parts.sum(2) if spread.grid[1] > 1 else parts[:, :, 0]
    block = tile(channels, pixels, last)
    grid = triton.cdiv(pixels, block["BLOCK_P"]), triton.cdiv(channels, block["BLOCK_C"]), batch
    input_gradient_kernel[grid](*common, sums, grads[0], channels, pixels, *strides, **flags, **block)
    empty = h.new_empty(0)
    if mask_weight is None:
        return (
            grads[0],
            grads[1],
            grads[2],
            grads[3],
            grads[4],
            through_mask.to(mask.dtype),
            empty,
            empty.clone(),
        )
    weight, bias = sums[2].sum(0).to(mask_weight.dtype), through_mask.sum().view(1).to(mask_weight.dtype)
    return grads[0], grads[1], grads[2], grads[3], grads[4], empty, weight, bias


@mask_fusion_backward_op.register_fake
def _(
    grad: Tensor,  # noqa: ARG001
    grad_mask: Tensor | None,  # noqa: ARG001
    h: Tensor,
    gamma_person: Tensor,  # noqa: ARG001
    beta_person: Tensor,  # noqa: ARG001
    gamma_garment: Tensor,  # noqa: ARG001
    beta_garment: Tensor,  # noqa: ARG001
    mask: Tensor,
    mask_weight: Tensor | None,
    mean: Tensor,  # noqa: ARG001
    rstd: Tensor,  # noqa: ARG001
    residual: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d, e = (torch.empty_like(h, memory_format=_layout(h)) for _ in range(5))
    if mask_weight is None:
        return a, b, c, d, e, mask.new_empty(mask.shape), h.new_empty(0), h.new_empty(0)
    return a, b, c, d, e, h.new_empty(0), mask_weight.new_empty(mask_weight.shape), mask_weight.new_empty(1)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, mask, weight, _bias, ctx.residual = inputs
    _, computed, mean, rstd = output
    ctx.given = mask is not None
    ctx.save_for_backward(*tensors, mask if ctx.given else computed, weight, mean, rstd)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_mask: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    *tensors, mask, weight, mean, rstd = ctx.saved_tensors
    if grad is None:
        grad = torch.zeros_like(tensors[0])
    *grads, to_mask, to_weight, to_bias = mask_fusion_backward_op(
        grad, None if ctx.given else grad_mask, *tensors, mask, weight, mean, rstd, ctx.residual
    )
    if ctx.given:
        return (*grads, to_mask, None, None, None)
    return (*grads, None, to_weight, to_bias, None)


mask_fusion_op.register_autograd(_backward, setup_context=_setup)
