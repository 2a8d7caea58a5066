"""Correlation of two feature maps over a window of displacements, as optical-flow networks use it."""

import torch
import torch.nn.functional as F
from torch import Tensor


def local_correlation(garment: Tensor, person: Tensor, radius: int = 3, slope: float = 0.1) -> Tensor:
    """LeakyReLU of the mean over channels of garment(y, x) · person(y + dy, x + dx).

    garment, person: [B, C, H, W]; `person` is zero outside the picture.
    radius: displacements run over -radius … radius, dy outer, dx inner.
    slope: of the LeakyReLU for negative values.
    Returns [B, (2·radius + 1)², H, W] in the dtype of the inputs.
    """
    height, width = garment.shape[-2:]
    window = 2 * radius + 1
    padded = F.pad(person, [radius] * 4)
    products = [
        (garment * padded[:, :, dy : dy + height, dx : dx + width]).mean(dim=1)
        for dy in range(window)
        for dx in range(window)
    ]
    return F.leaky_relu(torch.stack(products, dim=1), slope)
