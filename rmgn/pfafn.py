"""The PF-AFN generator (Ge et al., CVPR 2021): a residual U-Net, the baseline of the paper's ablation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmgn.config import ModelConfig
from rmgn.generator import Drawing


def conv3x3(width_in: int, width_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width_in, width_out, 3, stride=stride, padding=1, bias=False)


class ResidualBlock(nn.Module):
    """Post-activation residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3x3(width, width), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = conv3x3(width, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(h)))


class UNetLevel(nn.Module):
    """One level of the U-Net around the next coarser one."""

    def __init__(self, width_in: int, widths: tuple[int, ...], width_out: int, outermost: bool) -> None:
        super().__init__()
        width, coarser = widths[0], widths[1:]
        innermost = not coarser
        self.down = conv3x3(width_in, width, stride=2)
        self.down_norm: nn.Module = nn.Identity() if outermost or innermost else nn.BatchNorm2d(width)
        self.down_blocks = nn.Sequential(ResidualBlock(width), ResidualBlock(width))
        self.inner = None if innermost else UNetLevel(width, coarser, width, outermost=False)
        self.up = conv3x3(width if innermost else 2 * width, width_out)
        self.up_norm: nn.Module = nn.Identity() if outermost else nn.BatchNorm2d(width_out)
        self.up_blocks: nn.Module = (
            nn.Identity() if outermost else nn.Sequential(ResidualBlock(width_out), ResidualBlock(width_out))
        )
        self.outermost = outermost

    def forward(self, x: Tensor) -> Tensor:
        h = self.down_blocks(F.relu(self.down_norm(self.down(x))))
        if self.inner is not None:
            h = self.inner(h)
        h = self.up(F.interpolate(h, scale_factor=2, mode="nearest"))
        if self.outermost:
            return h
        h = self.up_blocks(F.relu(self.up_norm(h)))
        return torch.cat([x, h], dim=1)


class UNetGenerator(nn.Module):
    """Takes and gives what `RegionalMaskGenerator` does; it has no regional masks."""

    def __init__(self, config: ModelConfig, person_channels: int = 3) -> None:
        super().__init__()
        channels = person_channels + 4  # and the warped garment with its mask
        self.unet = UNetLevel(channels, config.unet_widths, config.output_channels, outermost=True)

    def forward(self, person: Tensor, garment: Tensor, mask: Tensor) -> Drawing:
        return Drawing(self.unet(torch.cat([person, garment, mask], dim=1)), [])
