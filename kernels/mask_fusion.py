"""Regional mask feature fusion, equations (4) to (6) of the RMGN paper."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.onnx_nodes import emits_nodes, node, sizes
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
# Offsets inside a sample are 32-bit, which halves the registers that addresses take; samples start at 64-bit
# offsets.


def instance_norm(h: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Zero mean and unit variance over each plane, without affine.

    h: [B, C, H, W], any float dtype; statistics in float32 (in half they overflow or cancel).
    Returns the dtype of `h`. A plane of one pixel gives 0.
    """
    if not torch.onnx.is_in_onnx_export():
        # One channel a group is the same norm; on a CPU its kernels are several times faster.
        return torch.group_norm(h, h.shape[1], None, None, epsilon)
    # torch.nn.functional has the same calls behind a check that refuses planes of one pixel.
    wide = h if h.dtype == torch.float64 else h.float()
    return torch.instance_norm(wide, None, None, None, None, True, 0.0, epsilon, False).to(h.dtype)


def denormalise(n: Tensor, gamma: Tensor, beta: Tensor, residual: bool) -> Tensor:
    """n·γ + β (equation 4), or n·(1 + γ) + β where `residual` (the released code)."""
    return n * (1 + gamma) + beta if residual else n * gamma + beta


def blend(person: Tensor, garment: Tensor, mask: Tensor) -> Tensor:
    """(1 - M)·hP + M·hI, equation (6)."""
    return person + mask * (garment - person)


def mask_fusion(
    h: Tensor,
    person: tuple[Tensor, Tensor],
    garment: tuple[Tensor, Tensor],
    mask_weight: Tensor,
    mask_bias: Tensor,
    residual: bool = True,
) -> tuple[Tensor, Tensor]:
    """Instance norm, both denormalisations, the regional mask from the normalised h, and the blend.

    h: [B, C, H, W]; person, garment: (γ, β), each [B, C, H, W].
    mask_weight: [1, C, 1, 1], mask_bias: [1]: the 1×1 convolution whose sigmoid is the mask.
    residual: see `denormalise`.
    Returns the fused features [B, C, H, W] and the mask [B, 1, H, W] in [0, 1].
    """
    if runs_on(h):
        fused, mask, _, _ = mask_fusion_op(
            h, *person, *garment, None, mask_weight.flatten(), mask_bias, residual
        )
        return fused, mask
    if emits_nodes():
        weight = mask_weight.flatten()
        return _MaskFusionNodes.apply(h, *person, *garment, weight, mask_bias, residual, sizes(h))  # type: ignore[no-untyped-call]
    return mask_fusion_reference(h, person, garment, mask_weight, mask_bias, residual)


def mask_fusion_reference(
    h: Tensor,
    person: tuple[Tensor, Tensor],
    garment: tuple[Tensor, Tensor],
    mask_weight: Tensor,
    mask_bias: Tensor,
    residual: bool = True,
) -> tuple[Tensor, Tensor]:
    """`mask_fusion` in plain torch: the specification of the kernels."""
    n = instance_norm(h)
    mask = torch.sigmoid(torch.nn.functional.conv2d(n, mask_weight, mask_bias))
    return blend(denormalise(n, *person, residual), denormalise(n, *garment, residual), mask), mask


def fuse_with_mask(
    h: Tensor, person: tuple[Tensor, Tensor], garment: tuple[Tensor, Tensor], mask: Tensor, residual: bool
) -> Tensor:
    """As `mask_fusion` with a mask [B, 1, H, W] computed elsewhere; returns the fused features alone."""
    if runs_on(h):
        return mask_fusion_op(h, *person, *garment, mask, None, None, residual)[0]
    n = instance_norm(h)
    return blend(denormalise(n, *person, residual), denormalise(n, *garment, residual), mask)


class _MaskFusionNodes(torch.autograd.Function):
    """PlaneStatistics, RegionalMask and Blend or BlendResidual in an ONNX graph."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ARG004
        h: Tensor,
        gamma_person: Tensor,
        beta_person: Tensor,
        gamma_garment: Tensor,
        beta_garment: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual: bool,
        shape: list[int],  # noqa: ARG004
    ) -> tuple[Tensor, Tensor]:
        person, garment = (gamma_person, beta_person), (gamma_garment, beta_garment)
        return mask_fusion_reference(h, person, garment, weight.view(1, -1, 1, 1), bias, residual)

    @staticmethod
    def symbolic(graph: Any, h: Any, *rest: Any) -> Any:
        *maps, weight, bias, residual, shape = rest
        planes, pixels = shape[:2], [shape[0], 1, *shape[2:]]
        mean, rstd = node(graph, "PlaneStatistics", [h], planes, planes, dtype=torch.float32)
        mask = node(graph, "RegionalMask", [h, mean, rstd, weight, bias], pixels)
        name = "BlendResidual" if residual else "Blend"
        return node(graph, name, [h, *maps, mask, mean, rstd], shape), mask


@jit
def _statistics_kernel(
    h,  # [B, C, P] by strides
    mean,  # [B, parts, C]
    rstd,  # [B, parts, C]
    channels: constexpr,
    pixels,
    share,
    epsilon,
    sb,
    sc,
    sp: constexpr,
    WHOLE: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Mean and 1/√(σ² + ε) of WHOLE planes; else, of each over a share of its pixels, mean and Σ (h - mean)².

    Welford's form in every lane, then Chan's merge of the lanes: loads wait for no sum, since the lanes of a
    program meet but once, behind the loop.
    """
    channel = (tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)).to(tl.int64)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    begin = part * share
    end = tl.minimum(begin + share, pixels)
    at = h + batch * sb + channel[:, None] * sc
    step = tl.zeros([1, 1], dtype=ACC)
    centre = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    squares = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    for start in range(begin, end, BLOCK_P):
        pixel = start + tl.arange(0, BLOCK_P)
        inside = pixel < end
        both = some[:, None] & inside[None, :]
        value = tl.load(at + pixel[None, :] * sp, mask=both, other=0.0).to(ACC)
        step += 1.0  # what every lane that is inside has seen
        delta = tl.where(inside[None, :], value - centre, 0.0)
        centre += delta * (1.0 / step)
        squares += delta * (value - centre)
    count = ((end - begin - tl.arange(0, BLOCK_P) + BLOCK_P - 1) // BLOCK_P).to(ACC)
    size = (end - begin).to(ACC)
    whole = tl.sum(count[None, :] * centre, axis=1) / size
    off = centre - whole[:, None]
    total = tl.sum(squares + count[None, :] * off * off, axis=1)
    if WHOLE:
        total = 1.0 / tl.sqrt(total / size + epsilon)
    out = (batch * tl.num_programs(1) + part) * channels + channel
    tl.store(mean + out, whole, mask=some)
    tl.store(rstd + out, total, mask=some)


@jit
def _merge_kernel(
    means,  # [B, parts, C]
    deviations,  # [B, parts, C]
    mean,  # [B, C]
    rstd,  # [B, C]
    channels: constexpr,
    pixels,
    parts,
    share,
    epsilon,
    ACC: constexpr,
    BLOCK_N: constexpr,
    BLOCK_C: constexpr,
):
    """Statistics of whole planes from those of their parts (Chan), a program for all parts of some planes."""
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(1).to(tl.int64)
    part = tl.arange(0, BLOCK_N)
    some = channel < channels
    both = (part < parts)[:, None] & some[None, :]
    at = (batch * parts + part)[:, None] * channels + channel[None, :]
    count = tl.minimum(tl.maximum(pixels - part * share, 0), share).to(ACC)[:, None]
    centre = tl.load(means + at, mask=both, other=0.0)
    squares = tl.load(deviations + at, mask=both, other=0.0)
    whole = tl.sum(count * centre, axis=0) / pixels
    off = centre - whole[None, :]
    total = tl.sum(squares + count * off * off, axis=0)
    out = batch * channels + channel
    tl.store(mean + out, whole, mask=some)
    tl.store(rstd + out, 1.0 / tl.sqrt(total / pixels + epsilon), mask=some)


@jit
def _mask_kernel(
    h,
    mean,
    rstd,
    weight,  # [C]
    bias,  # [1]
    mask,  # [B, P]
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """σ(Σ w·n + b), the sum over channels of the normalised h."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    logit = tl.zeros([BLOCK_P], dtype=ACC)
    for start in range(0, channels, BLOCK_C):
        channel = start + tl.arange(0, BLOCK_C)
        some = channel < channels
        mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
        r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
        w = tl.load(weight + channel, mask=some, other=0.0).to(ACC)
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        value = tl.load(h + at, mask=some[:, None] & inside[None, :], other=0.0).to(ACC)
        logit += tl.sum((value - mu[:, None]) * (w * r)[:, None], axis=0)
    logit += tl.load(bias).to(ACC)
    m = 1.0 / (1.0 + tl.exp(-logit))
    tl.store(mask + batch * pixels + pixel, m.to(mask.dtype.element_ty), mask=inside)


@jit
def _load_affine(gamma_person, beta_person, gamma_garment, beta_garment, at, some, ACC):
    """γP, βP, γI, βI at the offsets `at`."""
    scale_person = tl.load(gamma_person + at, mask=some, other=0.0).to(ACC)
    shift_person = tl.load(beta_person + at, mask=some, other=0.0).to(ACC)
    scale_garment = tl.load(gamma_garment + at, mask=some, other=0.0).to(ACC)
    shift_garment = tl.load(beta_garment + at, mask=some, other=0.0).to(ACC)
    return scale_person, shift_person, scale_garment, shift_garment


@jit
def _blended(n, m, scale_person, shift_person, scale_garment, shift_garment, RESIDUAL):
    """Equations (4) and (6) for normalised features n under the mask m."""
    if RESIDUAL:
        scale_person += 1.0
        scale_garment += 1.0
    person = n * scale_person + shift_person
    garment = n * scale_garment + shift_garment
    return person + m * (garment - person)


@jit
def _blend_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,  # [B, P]
    mean,
    rstd,
    out,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Equations (4) and (6) from statistics and mask; one read of every operand, one write."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    inside = pixel < pixels
    both = some[:, None] & inside[None, :]
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)[None, :]
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    n = (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu[:, None]) * r[:, None]
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, both, ACC
    )
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=both)


@jit
def _fused_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    weight,  # [C]
    bias,  # [1]
    mean,
    rstd,
    mask,  # [B, P]
    out,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """Mask and blend of some pixels whose channels one program holds: h is read once for both."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    batch = tl.program_id(1).to(tl.int64)
    some = channel < channels
    inside = pixel < pixels
    both = some[:, None] & inside[None, :]
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
    w = tl.load(weight + channel, mask=some, other=0.0).to(ACC)
    b = tl.load(bias).to(ACC)
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    # All loads are under way before the sum over channels, at which the threads of a program meet.
    value = tl.load(h + at, mask=both, other=0.0).to(ACC)
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, both, ACC
    )
    n = (value - mu[:, None]) * r[:, None]
    logit = tl.sum(n * w[:, None], axis=0) + b
    m = (1.0 / (1.0 + tl.exp(-logit))).to(mask.dtype.element_ty)
    tl.store(mask + batch * pixels + pixel, m, mask=inside)
    m = m.to(ACC)[None, :]  # as the backward reads it
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=both)


@jit
def _plane_kernel(
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,
    mean,
    rstd,
    out,
    channels: constexpr,
    pixels,
    epsilon,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
):
    """Statistics and blend of a whole plane that one program holds; the mask is given."""
    channel = tl.program_id(0).to(tl.int64)
    batch = tl.program_id(1).to(tl.int64)
    pixel = tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    at = batch * sb + channel * sc + pixel * sp
    value = tl.load(h + at, mask=inside, other=0.0).to(ACC)
    mu = tl.sum(value, axis=0) / pixels
    off = tl.where(inside, value - mu, 0.0)
    r = 1.0 / tl.sqrt(tl.sum(off * off, axis=0) / pixels + epsilon)
    tl.store(mean + batch * channels + channel, mu)
    tl.store(rstd + batch * channels + channel, r)
    n = off * r
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)
    scale_p, shift_p, scale_g, shift_g = _load_affine(
        gamma_person, beta_person, gamma_garment, beta_garment, at, inside, ACC
    )
    value = _blended(n, m, scale_p, shift_p, scale_g, shift_g, RESIDUAL)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@jit
def _mask_gradient_kernel(
    grad,
    grad_mask,  # [B, P], or any pointer where HAS_GRAD_MASK is false
    h,
    gamma_person,
    beta_person,
    gamma_garment,
    beta_garment,
    mask,
    mean,
    rstd,
    into,  # [B, P] in the accumulator's dtype
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    HAS_GRAD_MASK: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """dL/dM = Σ over channels of dL/dout·(hI - hP); with LOGIT times M·(1 - M), before the sigmoid."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    batch = tl.program_id(1).to(tl.int64)
    inside = pixel < pixels
    total = tl.zeros([BLOCK_P], dtype=ACC)
    for start in range(0, channels, BLOCK_C):
        channel = start + tl.arange(0, BLOCK_C)
        some = channel < channels
        both = some[:, None] & inside[None, :]
        mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)
        r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        n = (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu[:, None]) * r[:, None]
        scale = tl.load(gamma_garment + at, mask=both, other=0.0).to(ACC)
        scale -= tl.load(gamma_person + at, mask=both, other=0.0).to(ACC)
        shift = tl.load(beta_garment + at, mask=both, other=0.0).to(ACC)
        shift -= tl.load(beta_person + at, mask=both, other=0.0).to(ACC)
        total += tl.sum(tl.load(grad + at, mask=both, other=0.0).to(ACC) * (n * scale + shift), axis=0)
    where = batch * pixels + pixel
    if HAS_GRAD_MASK:
        total += tl.load(grad_mask + where, mask=inside, other=0.0).to(ACC)
    if LOGIT:
        m = tl.load(mask + where, mask=inside, other=0.0).to(ACC)
        total *= m * (1.0 - m)
    tl.store(into + where, total, mask=inside)


@jit
def _normalised_gradient(
    grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
    channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
):  # fmt: skip
    """Of a tile: n, the gradients of both sides, of the logit, and of n; 0 outside; then rstd of its planes.

    dL/dn = g·((1 - M)·sP + M·sI) + dL/dlogit·w.
    """
    some = channel < channels
    inside = pixel < pixels
    mu = tl.load(mean + batch * channels + channel, mask=some, other=0.0)[:, None]
    r = tl.load(rstd + batch * channels + channel, mask=some, other=0.0)[:, None]
    n = tl.where(both, (tl.load(h + at, mask=both, other=0.0).to(ACC) - mu) * r, 0.0)
    g = tl.load(grad + at, mask=both, other=0.0).to(ACC)
    m = tl.load(mask + batch * pixels + pixel, mask=inside, other=0.0).to(ACC)[None, :]
    g_person = g * (1.0 - m)
    g_garment = g * m
    dn = g_person * tl.load(gamma_person + at, mask=both, other=0.0).to(ACC)
    dn += g_garment * tl.load(gamma_garment + at, mask=both, other=0.0).to(ACC)
    if RESIDUAL:
        dn += g
    d = tl.zeros_like(m)
    if LOGIT:
        d = tl.load(grad_logit + batch * pixels + pixel, mask=inside, other=0.0)[None, :]
        dn += d * tl.load(weight + channel, mask=some, other=0.0).to(ACC)[:, None]
    return n, g_person, g_garment, d, dn, r


@jit
def _affine_gradient_kernel(
    grad,
    h,
    gamma_person,
    gamma_garment,
    mask,
    mean,
    rstd,
    grad_logit,  # [B, P], or any pointer where LOGIT is false
    weight,  # [C], likewise
    grad_gamma_person,
    grad_beta_person,
    grad_gamma_garment,
    grad_beta_garment,
    sums,  # [3, B, parts, C] in the accumulator's dtype
    channels: constexpr,
    pixels,
    share,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """The gradients of γ and β, and over a share of each plane Σ dn, Σ dn·n and Σ dL/dlogit·n."""
    channel = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    begin = part * share
    end = tl.minimum(begin + share, pixels)
    sum_dn = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    sum_dn_n = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    sum_weight = tl.zeros([BLOCK_C, BLOCK_P], dtype=ACC)
    for start in range(begin, end, BLOCK_P):
        pixel = start + tl.arange(0, BLOCK_P)
        both = (channel < channels)[:, None] & (pixel < end)[None, :]
        at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
        n, g_person, g_garment, d, dn, _r = _normalised_gradient(
            grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
            channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
        )  # fmt: skip
        tl.store(grad_beta_person + at, g_person.to(grad_beta_person.dtype.element_ty), mask=both)
        tl.store(grad_beta_garment + at, g_garment.to(grad_beta_garment.dtype.element_ty), mask=both)
        tl.store(grad_gamma_person + at, (g_person * n).to(grad_gamma_person.dtype.element_ty), mask=both)
        tl.store(grad_gamma_garment + at, (g_garment * n).to(grad_gamma_garment.dtype.element_ty), mask=both)
        sum_dn += tl.where(both, dn, 0.0)
        sum_dn_n += dn * n
        sum_weight += d * n
    some = channel < channels
    into = sums + (batch * tl.num_programs(1) + part) * channels + channel
    step = tl.num_programs(2).to(tl.int64) * tl.num_programs(1) * channels
    tl.store(into, tl.sum(sum_dn, axis=1), mask=some)
    tl.store(into + step, tl.sum(sum_dn_n, axis=1), mask=some)
    tl.store(into + 2 * step, tl.sum(sum_weight, axis=1), mask=some)


@jit
def _input_gradient_kernel(
    grad,
    h,
    gamma_person,
    gamma_garment,
    mask,
    mean,
    rstd,
    grad_logit,
    weight,
    sums,  # [3, B, C]: of whole planes
    grad_h,
    channels: constexpr,
    pixels,
    sb,
    sc,
    sp: constexpr,
    RESIDUAL: constexpr,
    LOGIT: constexpr,
    ACC: constexpr,
    BLOCK_P: constexpr,
    BLOCK_C: constexpr,
):
    """dL/dh = rstd·(dn - mean(dn) - n·mean(dn·n)), with dn of `_normalised_gradient`."""
    pixel = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    batch = tl.program_id(2).to(tl.int64)
    some = channel < channels
    both = some[:, None] & (pixel < pixels)[None, :]
    at = batch * sb + channel[:, None] * sc + pixel[None, :] * sp
    n, _gp, _gg, _d, dn, r = _normalised_gradient(
        grad, h, gamma_person, gamma_garment, mask, grad_logit, weight, mean, rstd, batch, channel, pixel,
        channels, pixels, at, both, RESIDUAL, LOGIT, ACC,
    )  # fmt: skip
    plane = sums + batch * channels + channel
    mean_dn = tl.load(plane, mask=some, other=0.0) / pixels
    mean_dn_n = tl.load(plane + tl.num_programs(2) * channels, mask=some, other=0.0) / pixels
    value = r * (dn - mean_dn[:, None] - n * mean_dn_n[:, None])
    tl.store(grad_h + at, value.to(grad_h.dtype.element_ty), mask=both)


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
    parts = min(MOST_PARTS, triton.cdiv(PROGRAMS, blocks * batch), triton.cdiv(pixels, 2 * block_p))
    share = triton.cdiv(triton.cdiv(pixels, parts), block_p) * block_p
    return _Parts((blocks, triton.cdiv(pixels, share), batch), share, block)


def _statistics(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation [B, C] of the planes of h, in the accumulator's dtype."""
    batch, channels, pixels = h.shape[0], h.shape[1], h.shape[2] * h.shape[3]
    (blocks, parts, _), share, block = _parts(h, SUM_ELEMENTS)
    mean, rstd = _empty_statistics(h)
    of_parts = (mean, rstd) if parts == 1 else mean.new_empty(2, batch, parts, channels).unbind()
    flags = {"ACC": accumulator(h.dtype)}
    _statistics_kernel[(blocks, parts, batch)](
        h, *of_parts, channels, pixels, share, EPSILON, *_strides(h), WHOLE=parts == 1, **flags, **block,
        num_warps=SUM_WARPS,
    )  # fmt: skip
    if parts > 1:
        _merge_kernel[(triton.cdiv(channels, BLOCK_CHANNELS), batch)](
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
    reciprocal deviation [B, C] of the planes of h, float32 or float64.
    """
    if h[0].numel() >= 2**31:
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
        _plane_kernel[(channels, batch)](
            h, *maps, mask.contiguous(), mean, rstd, out, channels, pixels, EPSILON, *strides,
            RESIDUAL=residual, ACC=acc, BLOCK_P=max(16, power_of_two(pixels)), num_warps=PLANE_WARPS,
        )  # fmt: skip
        return out, h.new_empty(0), mean, rstd
    mean, rstd = _statistics(h)
    if mask is not None:
        used, computed = mask.contiguous(), h.new_empty(0)
    else:
        assert mask_weight is not None
        assert mask_bias is not None
        mask_weight = mask_weight.contiguous()
        used = computed = torch.empty(batch, 1, height, width, dtype=h.dtype, device=h.device)
        if last and channels <= FUSED_CHANNELS:
            block = fused_tile(channels, pixels)
            _fused_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), batch)](
                h, *maps, mask_weight, mask_bias, mean, rstd, used, out, channels, pixels, *strides,
                RESIDUAL=residual, ACC=acc, **block, num_warps=FUSED_WARPS,
            )  # fmt: skip
            return out, computed, mean, rstd
        block = mask_tile(batch, channels, pixels, last)
        _mask_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), batch)](
            h, mean, rstd, mask_weight, mask_bias, used, channels, pixels, *strides, ACC=acc, **block,
        )  # fmt: skip
    block = tile(channels, pixels, last)
    _blend_kernel[(triton.cdiv(pixels, block["BLOCK_P"]), triton.cdiv(channels, block["BLOCK_C"]), batch)](
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
    _mask_gradient_kernel[(triton.cdiv(pixels, by_pixel["BLOCK_P"]), batch)](
        grad, mask if grad_mask is None else grad_mask.contiguous(), h, *maps, mask, mean, rstd, through_mask,
        channels, pixels, *strides, HAS_GRAD_MASK=grad_mask is not None, LOGIT=logit, ACC=acc,
        **by_pixel,
    )  # fmt: skip
    grads = [torch.empty_like(h, memory_format=layout) for _ in range(5)]
    weights = mean if mask_weight is None else mask_weight.contiguous()  # any pointer where it is not read
    common = grad, h, maps[0], maps[2], mask, mean, rstd, through_mask, weights
    spread, flags = _parts(h, ROW_ELEMENTS), {"RESIDUAL": residual, "LOGIT": logit, "ACC": acc}
    parts = torch.empty(3, batch, spread.grid[1], channels, dtype=mean.dtype, device=h.device)
    _affine_gradient_kernel[spread.grid](
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
    _input_gradient_kernel[grid](*common, sums, grads[0], channels, pixels, *strides, **flags, **block)
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
