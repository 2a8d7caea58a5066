"""The regional mask guided generator (section 4.2)."""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import instance_norm, mask_fusion
from kernels.mask_fusion import blend, denormalise, fuse_with_mask
from rmgn.config import ModelConfig
from rmgn.palette import Palette


class Drawing(NamedTuple):
    """What a generator makes of a person and a warped garment, before `rmgn.model.compose`."""

    logits: Tensor  # [B, 3 to 5, H, W], before tanh and sigmoid
    regional_masks: list[Tensor]  # [B, 1, h, w] in [0, 1], coarsest first
    colours: Tensor | None = None  # [B, 3, H/4, W/4] in [-1, 1], of `Palette`


class FeatureExtractor(nn.Module):
    """Multi-level feature extractor: a picture to five feature maps, at 1/16, 1/8, 1/4, 1/2 and 1/1."""

    def __init__(self, channels: int, widths: tuple[int, ...], skip: str) -> None:
        super().__init__()
        self.skip = skip
        joined = 2 if skip == "concat" else 1
        self.down = nn.ModuleList(
            nn.Conv2d(width_in, width, 4, stride=2, padding=1, bias=False)
            for width_in, width in itertools.pairwise((channels, *widths))
        )
        up_widths = widths[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width_in * (joined if level else 1), width, 4, stride=2, padding=1, bias=False)
            for level, (width_in, width) in enumerate(itertools.pairwise(up_widths))
        )
        self.widths = tuple(width * joined for width in up_widths[1:])
        self.widths += self.widths[-1:]

    def forward(self, x: Tensor) -> list[Tensor]:
        encoded = []
        for conv in self.down:
            x = F.leaky_relu(instance_norm(conv(x)), 0.1)
            encoded.append(x)
        maps: list[Tensor] = []
        for deconv, skipped in zip(self.up, reversed(encoded[:-1]), strict=True):
            x = F.leaky_relu(instance_norm(deconv(x)), 0.1)
            x = torch.cat([x, skipped], dim=1) if self.skip == "concat" else x + skipped
            maps.append(x)
        return [*maps, upsample(x)]


class MaskFusion(nn.Module):
    """Regional mask feature fusion: features, person map and garment map to fused features."""

    def __init__(self, width: int, map_width: int, config: ModelConfig) -> None:
        super().__init__()
        self.residual = config.residual_gamma
        self.from_normalised = config.mask_source == "normalised"
        self.gamma_person = nn.Conv2d(map_width, width, 1)
        self.beta_person = nn.Conv2d(map_width, width, 1)
        self.gamma_garment = nn.Conv2d(map_width, width, 1)
        self.beta_garment = nn.Conv2d(map_width, width, 1)
        self.mask: nn.Conv2d | None = None
        if config.regional_mask:
            self.mask = nn.Conv2d(width if self.from_normalised else 2 * width, 1, 1)

    def forward(self, h: Tensor, person: Tensor, garment: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, C, H, W], maps [B, C', H, W] -> fused [B, C, H, W], regional mask [B, 1, H, W] in [0, 1].

        Without a regional mask both are averaged: the mask is 1/2 everywhere.
        """
        affine_person = affine(self.gamma_person, self.beta_person, person)
        affine_garment = affine(self.gamma_garment, self.beta_garment, garment)
        if self.mask is not None and self.from_normalised:
            assert self.mask.bias is not None
            return mask_fusion(
                h, affine_person, affine_garment, self.mask.weight, self.mask.bias, self.residual
            )
        if self.mask is None:
            mask = torch.full_like(h[:, :1], 0.5)
            return fuse_with_mask(h, affine_person, affine_garment, mask, self.residual), mask
        n = instance_norm(h)
        h_person = denormalise(n, *affine_person, self.residual)
        h_garment = denormalise(n, *affine_garment, self.residual)
        mask = torch.sigmoid(self.mask(torch.cat([h_person, h_garment], dim=1)))
        return blend(h_person, h_garment, mask), mask


def affine(gamma: nn.Conv2d, beta: nn.Conv2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """γ(x) and β(x); for training by one convolution, since at this width reading x is most of the work.

    Not on a GPU: halves of a common result would be copied before each kernel, forward and backward.
    """
    if x.is_cuda or not torch.is_grad_enabled():
        return gamma(x), beta(x)
    assert gamma.bias is not None
    assert beta.bias is not None
    weight, bias = torch.cat([gamma.weight, beta.weight]), torch.cat([gamma.bias, beta.bias])
    g, b = F.conv2d(x, weight, bias).chunk(2, dim=1)
    return g, b


class RegionalMaskResBlock(nn.Module):
    """RM-ResBlk: two fusions with convolutions, and a shortcut that is fused too where widths change."""

    def __init__(self, width_in: int, width_out: int, map_width: int, config: ModelConfig) -> None:
        super().__init__()
        middle = min(width_in, width_out)
        self.fusion1 = MaskFusion(width_in, map_width, config)
        self.conv1 = nn.Conv2d(width_in, middle, 3, padding=1)
        self.fusion2 = MaskFusion(middle, map_width, config)
        self.conv2 = nn.Conv2d(middle, width_out, 3, padding=1)
        self.changes_width = width_in != width_out
        if self.changes_width:
            self.fusion_shortcut = MaskFusion(width_in, map_width, config)
            self.shortcut = nn.Conv2d(width_in, width_out, 3, padding=1)

    def forward(self, x: Tensor, person: Tensor, garment: Tensor) -> tuple[Tensor, list[Tensor]]:
        h, mask1 = self.fusion1(x, person, garment)
        h, mask2 = self.fusion2(self.conv1(F.relu(h)), person, garment)
        h = self.conv2(F.relu(h))
        if not self.changes_width:
            return x + h, [mask1, mask2]
        s, mask_shortcut = self.fusion_shortcut(x, person, garment)
        return self.shortcut(F.relu(s)) + h, [mask1, mask2, mask_shortcut]


PALETTE_BLOCK = 3  # the first at 1/4, the wider of the two


class RegionalMaskGenerator(nn.Module):
    """Person, warped garment and warped mask to rendered image and masks, before their tanh and sigmoid."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.person_extractor = FeatureExtractor(3, config.extractor_widths, config.skip)
        self.garment_extractor = FeatureExtractor(4, config.extractor_widths, config.skip)
        maps = self.person_extractor.widths
        w0, w1, w2, w3, w4 = config.fusion_widths
        self.head = nn.Conv2d(2 * maps[0], w0, 3, padding=1)
        # (width in, width out, level of the maps); the features are upsampled when the level rises.
        plan = [(w0, w0, 0), (w0, w1, 0), (w1, w2, 1), (w2, w2, 2), (w2, w3, 2), (w3, w4, 3), (w4, w4, 4)]
        self.levels = [level for _, _, level in plan]
        self.blocks = nn.ModuleList(
            RegionalMaskResBlock(width_in, width_out, maps[level], config)
            for width_in, width_out, level in plan
        )
        self.final = nn.Conv2d(w4, config.output_channels, 3, padding=1)
        self.palette: Palette | None = None
        if config.palette:
            self.palette = Palette(w2, maps[2], config.palette)

    def forward(self, person: Tensor, garment: Tensor, mask: Tensor) -> Drawing:
        """Pictures [B, 3, H, W] in [-1, 1], mask [B, 1, H, W] -> logits, all regional masks, colours."""
        person_maps = self.person_extractor(person)
        garment_maps = self.garment_extractor(torch.cat([garment, mask], dim=1))
        h = self.head(torch.cat([person_maps[0], garment_maps[0]], dim=1))
        masks: list[Tensor] = []
        colours: Tensor | None = None
        level = 0
        for n, (block, next_level) in enumerate(zip(self.blocks, self.levels, strict=True)):
            if next_level != level:
                h, level = upsample(h), next_level
            h, block_masks = block(h, person_maps[level], garment_maps[level])
            masks += block_masks
            if self.palette is not None and n == PALETTE_BLOCK:
                colours = self.palette(h, person_maps[level], person)
        return Drawing(self.final(h), masks, colours)


def upsample(x: Tensor) -> Tensor:
    """Twice the size, bilinear, align_corners=True as the generator was trained with."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
