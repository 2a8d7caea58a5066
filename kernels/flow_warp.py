"""Sampling features by an appearance flow, and composing flows.

A flow is a sampling grid [B, 2, H, W] of (x, y) positions in [-1, 1]: where in the source each pixel
reads. Sampling is bilinear with `align_corners=False`: pixel i of n has its centre at (2i + 1)/n - 1.
Flows and coordinates are float32 even in a half network: half resolves a position no finer than 1/16
pixel in a picture 256 wide.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["border", "zeros"]
PixelRule = Literal["centres", "corners"]


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
    padding: what is read outside, the nearest border value or zero.
    Returns [B, C, H, W] in the dtype of `features`, computed in that of `flow`.
    """
    sampled = F.grid_sample(
        features.to(flow.dtype), flow.permute(0, 2, 3, 1), "bilinear", padding, align_corners=False
    )
    return sampled.to(features.dtype)


def compose_flow(flow: Tensor | None, offset: Tensor, rule: PixelRule = "centres") -> Tensor:
    """Read `flow` (the identity where None) at every pixel moved by `offset`.

    flow: [B, 2, H, W] float32 sampling grid; offset: [B, 2, H, W], (dx, dy) in pixels.
    rule: see `identity_flow`; it also says how long one pixel is in normalised coordinates.
    Returns a float32 sampling grid [B, 2, H, W].
    """
    height, width = offset.shape[-2:]
    offset = offset.float()
    x = _positions(width, rule, offset.device).view(1, 1, 1, width) + offset[:, :1] * _pixel(width, rule)
    y = _positions(height, rule, offset.device).view(1, 1, height, 1) + offset[:, 1:] * _pixel(height, rule)
    moved = torch.cat([x, y], dim=1)
    return moved if flow is None else flow_warp(flow, moved)


def _pixel(size: int, rule: PixelRule) -> float:
    """Length of a pixel along an axis of `size` pixels, in normalised coordinates."""
    return 2 / size if rule == "centres" else 2 / max(size - 1, 1)


def _positions(size: int, rule: PixelRule, device: torch.device | str | None) -> Tensor:
    """Normalised coordinates of the pixels along an axis."""
    index = torch.arange(size, dtype=torch.float32, device=device)
    return (2 * index + 1) / size - 1 if rule == "centres" else index * _pixel(size, rule) - 1
