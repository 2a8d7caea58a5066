"""The warp module (section 4.1): an appearance flow that bends the garment to the body."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import compose_flow, flow_warp, local_correlation
from rmgn.config import ModelConfig

Pyramid = tuple[Tensor, ...]  # feature maps [B, C, h, w], coarsest first


class Downsample(nn.Module):
    """Pre-activation stride-2 convolution."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width_in)
        self.conv = nn.Conv2d(width_in, width_out, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.norm(x)))


class ResBlock(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(h)))


class Encoder(nn.Module):
    """Picture to one feature map a stage, each at half the resolution of the last."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(Downsample(width_in, width), ResBlock(width), ResBlock(width))
            for width_in, width in itertools.pairwise((channels, *widths))
        )
        # The first ReLU sees the picture itself. Training begins with two standard deviations of light let
        # through: from zero, all that is darker than the mean would be lost until the bias has grown.
        nn.init.constant_(self.stages[0][0].norm.bias, 2.0)  # type: ignore[index]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections (FPN); levels are kept coarsest first."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width_in, width, 1) for width_in in reversed(widths))
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in widths)

    def forward(self, features: list[Tensor], depth: int | None = None) -> Pyramid:
        """features: finest first; depth: how many levels, from the coarsest on (all)."""
        levels: list[Tensor] = []
        parts = zip(reversed(features), self.lateral, self.smooth, strict=True)
        for feature, lateral, smooth in itertools.islice(parts, depth):
            level = lateral(feature)
            if levels:
                level = level + F.interpolate(levels[-1], scale_factor=2, mode="nearest")
            levels.append(smooth(level))
        return tuple(levels)


def flow_head(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """3×3 convolutions from features to an offset (dx, dy) in pixels."""
    layers: list[nn.Module] = []
    for width_in, width in itertools.pairwise((channels, *widths)):
        layers += [nn.Conv2d(width_in, width, 3, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 2, 3, padding=1))


class Flows(NamedTuple):
    """One entry a level, coarsest first."""

    flows: list[Tensor]  # [B, 2, 2h, 2w] float32 sampling grids, already upsampled twofold
    offsets: list[Tensor]  # [B, 4, h, w], what the level added: (dx, dy) in its pixels of both heads
    person: Pyramid  # features that they were estimated from


class FlowNet(nn.Module):
    """Two pyramids to a flow, refined from the coarsest level to the finest."""

    correlate: Callable[[Tensor, Tensor, int], Tensor]  # an export may put an equal operation here

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.correlate = local_correlation
        self.radius = config.correlation_radius
        self.pixel_rule = config.pixel_rule
        window = (2 * config.correlation_radius + 1) ** 2
        levels = [config.flow_widths] * len(config.encoder_widths)
        levels[:2], levels[-1] = [config.coarse_flow_widths] * len(levels[:2]), config.finest_flow_widths
        self.match = nn.ModuleList(flow_head(window, widths) for widths in levels)
        self.refine = nn.ModuleList(flow_head(2 * config.pyramid_width, widths) for widths in levels)

    def forward(self, person: Pyramid, garment: Pyramid) -> Flows:
        flows: list[Tensor] = []
        offsets: list[Tensor] = []
        flow: Tensor | None = None
        depth = len(person)
        for level_person, level_garment, match, refine in zip(
            person, garment, self.match[:depth], self.refine[:depth], strict=True
        ):
            start = None if flow is None else flow.detach()
            warped = level_garment if start is None else flow_warp(level_garment, start)
            matched = match(self.correlate(warped, level_person, self.radius))
            flow = compose_flow(flow, matched, self.pixel_rule)

            warped = flow_warp(level_garment, flow)
            refined = refine(torch.cat([warped, level_person], dim=1))
            flow = compose_flow(flow, refined, self.pixel_rule)

            flow = F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
            flows.append(flow)
            offsets.append(torch.cat([matched, refined], dim=1))
        return Flows(flows, offsets, person)


class Warp(nn.Module):
    """Person and garment to the flow between them (AFWM)."""

    depth: int | None = None  # levels of pyramids and flow, from the coarsest on; `train_coarsest` sets it

    def __init__(self, config: ModelConfig, person_channels: int = 3) -> None:
        super().__init__()
        self.person_encoder = Encoder(person_channels, config.encoder_widths)
        self.person_pyramid = FeaturePyramid(config.encoder_widths, config.pyramid_width)
        self.garment_encoder = Encoder(3, config.encoder_widths)
        self.garment_pyramid = FeaturePyramid(config.encoder_widths, config.pyramid_width)
        self.flow_net = FlowNet(config)

    def encode_person(self, person: Tensor) -> Pyramid:
        """Pyramid of a person photo [B, 3, H, W] in [-1, 1]."""
        return self.person_pyramid(self.person_encoder(person), self.depth)

    def encode_garment(self, garment: Tensor) -> Pyramid:
        """Pyramid of a masked garment photo I·E [B, 3, H, W] in [-1, 1]."""
        return self.garment_pyramid(self.garment_encoder(garment), self.depth)

    def train_coarsest(self, depth: int) -> None:
        """Compute and train this many levels alone; flows then end at their resolution."""
        self.depth = depth
        for pyramid in (self.person_pyramid, self.garment_pyramid):
            for finer in (*pyramid.lateral[depth:], *pyramid.smooth[depth:]):
                finer.requires_grad_(False)
        for finer in (*self.flow_net.match[depth:], *self.flow_net.refine[depth:]):
            finer.requires_grad_(False)

    def hold_coarsest(self, depth: int) -> None:
        """Train the finer levels alone: encoders and this many levels of pyramids and flow stay."""
        for encoder in (self.person_encoder, self.garment_encoder):
            encoder.requires_grad_(False)
        for pyramid in (self.person_pyramid, self.garment_pyramid):
            for coarser in (*pyramid.lateral[:depth], *pyramid.smooth[:depth]):
                coarser.requires_grad_(False)
        for coarser in (*self.flow_net.match[:depth], *self.flow_net.refine[:depth]):
            coarser.requires_grad_(False)

    def hold_stages(self, count: int) -> None:
        """Train all but the finest stages of both encoders."""
        for encoder in (self.person_encoder, self.garment_encoder):
            encoder.stages[:count].requires_grad_(False)

    def forward(self, person: Tensor, garment_pyramid: Pyramid) -> Flows:
        """Flows of all levels; the last has the resolution of `person`."""
        return self.flow_net(self.encode_person(person), garment_pyramid)
