"""From linear light to the picture a camera delivers: exposure, tone, blur, noise, JPEG; batched in torch."""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn.data.look import CAMERA

_BANK = 2**21 + 9  # more than two pictures of 512 × 384


def linear(srgb: Tensor) -> Tensor:
    """sRGB in [0, 1] to linear."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def display(light: Tensor) -> Tensor:
    """Linear to sRGB in [0, 1]."""
    light = light.clamp(0, 1)
    curve = light.pow(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(light <= 0.0031308, light * 12.92, curve)


def develop(picture: Tensor, numbers: Tensor) -> Tensor:
    """Exposure, white balance, a soft shoulder and contrast: linear to sRGB in [0, 1]."""
    n = len(picture)
    value = {name: numbers[:, k].view(n, 1, 1, 1) for k, name in enumerate(CAMERA)}
    gains = torch.cat([1 + value["red"], torch.ones_like(value["red"]), 1 + value["blue"]], dim=1)
    picture = (picture * (gains * torch.exp(value["exposure"] + math.log(0.92)))).clamp_min_(0)
    knee = 0.75  # highlights roll off above
    over = (knee - picture).clamp_max_(0)
    picture = picture.clamp_max_(knee).sub_(torch.expm1(over.div_(1 - knee)), alpha=1 - knee)
    grey = picture.mean(dim=1, keepdim=True)
    shown = display(torch.lerp(grey, picture, value["saturation"]))
    curve = (3 - 2 * shown).mul_(shown).mul_(shown)
    shown = torch.lerp(shown, curve, value["contrast"])
    return (shown * (1 - value["fade"]) + value["fade"]).clamp_(0, 1)


@functools.lru_cache(maxsize=2)
def _noise_bank(device: torch.device) -> Tensor:
    return torch.randn(_BANK, generator=torch.Generator().manual_seed(0)).to(device)


def grain(start: Tensor, like: Tensor) -> Tensor:
    """White noise of deviation 1 for pairs of pictures: start int64 [B], where in a fixed bank it begins.

    The same on every device and in every batch; like [2B, C, H, W].
    """
    count = like.numel() // len(start)
    windows = _noise_bank(like.device).unfold(0, count, 1)
    return windows.index_select(0, start * 7919 % len(windows)).view(like.shape)


def through_camera(picture: Tensor, numbers: Tensor, noise: Tensor) -> Tensor:
    """Blur, sensor noise [N, 3, H, W] and JPEG, each in its own strength for every picture."""
    n = len(picture)
    value = {name: numbers[:, k] for k, name in enumerate(CAMERA)}
    picture = _coarse(blur(picture, value["blur"]), value["coarse"].view(n, 1, 1, 1))
    # Denoisers leave blotches: noise of neighbours in common.
    noise = torch.lerp(noise, 2 * F.avg_pool2d(noise, 3, 1, 1), value["blotch"].view(n, 1, 1, 1))
    strength = value["noise"].view(n, 1, 1, 1) * (0.5 + picture.clamp_min(0).sqrt())
    picture = torch.addcmul(picture, noise, strength).clamp_(0, 1)
    lossy = value["jpeg"] > 0
    if lossy.any():
        picture = picture.clone()
        picture[lossy] = jpeg(picture[lossy], value["jpeg"][lossy])
    return picture


def _coarse(picture: Tensor, amount: Tensor) -> Tensor:
    """Towards a picture of half the pixels each way, enlarged; amount [N, 1, 1, 1] in [0, 1]."""
    few = F.interpolate(F.avg_pool2d(picture, 2), picture.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(picture, few, amount)


def blur(picture: Tensor, sigma: Tensor, reach: int = 3) -> Tensor:
    """Gaussian blur with one sigma [N] in pixels, up to half of `reach`, a picture [N, C, H, W]."""
    steps = torch.arange(-reach, reach + 1, device=picture.device).float()
    kernel = torch.exp(-0.5 * (steps / sigma.view(-1, 1)).square())
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    for axis, pad in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        size = picture.shape[axis]
        wide = F.pad(picture, pad, mode="replicate")
        picture = wide.narrow(axis, reach, size) * kernel[:, reach].view(-1, 1, 1, 1)
        for k in range(reach):  # faster than a convolution of so few channels
            both = wide.narrow(axis, k, size) + wide.narrow(axis, 2 * reach - k, size)
            picture = torch.addcmul(picture, both, kernel[:, k].view(-1, 1, 1, 1))
    return picture


def jpeg(picture: Tensor, strength: Tensor) -> Tensor:
    """What JPEG does to pictures [N, 3, H, W] in [0, 1]: cosine blocks, quantised; strength [N] in (0, 1]."""
    n, _, h, w = picture.shape
    k = torch.arange(8, device=picture.device).float()
    cosine = torch.cos((2 * k.view(1, 8) + 1) * k.view(8, 1) * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    r, g, b = picture.unbind(1)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    planes = torch.stack([luma, (b - luma) * 0.564, (r - luma) * 0.713], dim=1)
    planes = F.pad(planes, (0, -w % 8, 0, -h % 8), mode="replicate")
    blocks = planes.unfold(2, 8, 8).unfold(3, 8, 8)
    spectrum = cosine @ blocks @ cosine.T
    # Standard tables rise about linearly with frequency; chroma is cut harder.
    steep = torch.tensor([1.0, 2.2, 2.2], device=picture.device).view(1, 3, 1, 1, 1, 1)
    table = (0.012 + 0.011 * (k.view(8, 1) + k.view(1, 8))) * steep * strength.view(n, 1, 1, 1, 1, 1) * 1.8
    spectrum = torch.round(spectrum / table) * table
    blocks = cosine.T @ spectrum @ cosine
    rows, columns = blocks.shape[2:4]
    planes = blocks.permute(0, 1, 2, 4, 3, 5).reshape(n, 3, rows * 8, columns * 8)[:, :, :h, :w]
    luma, blue, red = planes.unbind(1)
    r, b = luma + red / 0.713, luma + blue / 0.564
    return torch.stack([r, (luma - 0.299 * r - 0.114 * b) / 0.587, b], dim=1).clamp(0, 1)
