"""The parser-based network (section 3): it dresses a person of whom a parser has left face, hair and pose.

It teaches the parser-free network and is never used afterwards. Warp module as in the student, PF-AFN's U-Net
as generator; both see the person through a parse map, body parts and key points instead of the photo.
"""

import dataclasses

import torch
from torch import Tensor, nn

from kernels import flow_warp
from rmgn.config import ModelConfig
from rmgn.data.sample import (
    DENSE_PARTS,
    HEAD,
    OTHER_CLOTHES,
    POINTS,
    Label,
    Sample,
    dense_one_hot,
    mask_of,
    pose_maps,
)
from rmgn.model import TryOn, compose
from rmgn.pfafn import UNetGenerator
from rmgn.warp import Flows, Pyramid, Warp

WARP_CHANNELS = 2 + DENSE_PARTS + POINTS  # head and other clothes, body parts, pose
PERSON_CHANNELS = WARP_CHANNELS + 4  # and what of the photo is kept, and the arms
HANDS, ARMS = (3, 4), range(15, 23)  # DensePose parts


class ParserBased(nn.Module):
    """PB-Warp and PB-Generator. Has the methods of `RMGN`, with a `describe_person` in the person's place."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        # It sees no photo that it could preserve or take colours from.
        config = config or ModelConfig()
        self.config = dataclasses.replace(config, generator="pfafn", preserve=False)
        self.warp = Warp(self.config, WARP_CHANNELS)
        self.generator = UNetGenerator(self.config, person_channels=4)

    def encode_garment(self, garment: Tensor, mask: Tensor) -> Pyramid:
        """Feature pyramid of a garment [B, 3, H, W] in [-1, 1] and its mask [B, 1, H, W]."""
        return self.warp.encode_garment(garment * mask)

    def estimate_flow(self, person: Tensor, pyramid: Pyramid) -> Flows:
        """Flows of all levels for a described person [B, 49, H, W]."""
        return self.warp(person[:, :WARP_CHANNELS], pyramid)

    def generate(self, person: Tensor, garment: Tensor, mask: Tensor, flow: Tensor) -> TryOn:
        """Everything after the flow [B, 2, H, W]. The warped garment hides the arms below it."""
        warped_garment = flow_warp(garment * mask, flow)
        warped_mask = flow_warp(mask, flow, padding="zeros")
        kept, arms = person[:, WARP_CHANNELS:-1], person[:, -1:]
        seen = torch.cat([kept, arms * (1 - warped_mask)], dim=1)
        logits = self.generator(seen, warped_garment, warped_mask).logits
        return compose(logits, warped_garment, warped_mask, flow)

    def forward(self, person: Tensor, garment: Tensor, mask: Tensor) -> TryOn:
        """Dress a described person [B, 49, H, W] in `garment`."""
        flow = self.estimate_flow(person, self.encode_garment(garment, mask)).flows[-1]
        return self.generate(person, garment, mask, flow)


def describe_person(sample: Sample) -> Tensor:
    """What the parser-based network sees of a batch of persons: [B, 49, H, W].

    Masks of the head and of the other clothes, body parts one-hot, pose maps: 45 channels for the warp
    module. Then RGB of what try-on keeps (head, other clothes, hands) and the bare arms, for the generator.
    Raises ValueError where the data set lacks parse maps, body parts or key points.
    """
    parse, dense, keypoints = sample.parse, sample.dense, sample.keypoints
    if parse is None or dense is None or keypoints is None:
        missing = [name for name in ("parse", "dense", "keypoints") if getattr(sample, name) is None]
        raise ValueError(
            f"parser-based networks need parse maps, body parts and key points; this data set has no "
            f"{', '.join(missing)}"
        )
    head, other = mask_of(parse, HEAD), mask_of(parse, OTHER_CLOTHES)
    hands = mask_of(parse, (Label.LEFT_ARM, Label.RIGHT_ARM)) * _any_part(dense, HANDS)
    kept = sample.person * (head + other + hands).clamp(max=1)
    pose = pose_maps(keypoints, (parse.shape[-2], parse.shape[-1]))
    return torch.cat([head, other, dense_one_hot(dense), pose, kept, _any_part(dense, ARMS)], dim=1)


def _any_part(dense: Tensor, parts: range | tuple[int, ...]) -> Tensor:
    """Where [B, H, W] body parts are one of `parts`: [B, 1, H, W]."""
    return torch.isin(dense, torch.tensor(list(parts), device=dense.device, dtype=dense.dtype))[
        :, None
    ].float()
