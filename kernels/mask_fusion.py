"""Regional mask feature fusion, equations (4) to (6) of the RMGN paper."""

import torch
from torch import Tensor

EPSILON = 1e-5


def instance_norm(h: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Zero mean and unit variance over each plane, without affine.

    h: [B, C, H, W], any float dtype; statistics in float32 (in half they overflow or cancel).
    Returns the dtype of `h`. A plane of one pixel gives 0.
    """
    # torch.nn.functional.instance_norm is this call behind a check that refuses planes of one pixel.
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
    n = instance_norm(h)
    mask = torch.sigmoid(torch.nn.functional.conv2d(n, mask_weight, mask_bias))
    return blend(denormalise(n, *person, residual), denormalise(n, *garment, residual), mask), mask
