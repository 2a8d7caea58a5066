"""Regional mask feature fusion, equations (4) to (6) of the RMGN paper."""

from typing import Any

import torch
from torch import Tensor

from kernels.mask_fusion_op import EPSILON, mask_fusion_op
from kernels.onnx_nodes import emits_nodes, node, sizes
from kernels.triton_runtime import runs_on


def instance_norm(h: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Zero mean and unit variance over each plane, without affine.

    h: [B, C, H, W], any float dtype; statistics in float32 (in half they overflow or cancel).
    Returns the dtype of `h`. A plane of one pixel gives 0.
    """
    if not torch.onnx.is_in_onnx_export():
        # One channel a group is the same norm; on a CPU its kernels are several times faster. With channels
        # last, the CPU's take the mean square for the variance, which cancels where the mean is large.
        layout = torch.channels_last
        if h.device.type == "cpu" and not h.is_contiguous() and h.is_contiguous(memory_format=layout):
            return instance_norm(h.contiguous(), epsilon).contiguous(memory_format=layout)
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
