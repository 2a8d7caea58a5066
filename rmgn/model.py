"""The whole network: warp the garment, then generate the person wearing it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import flow_warp
from rmgn.config import ModelConfig
from rmgn.generator import RegionalMaskGenerator
from rmgn.palette import SPOT
from rmgn.pfafn import UNetGenerator
from rmgn.warp import Flows, Pyramid, Warp


class TryOn(NamedTuple):
    """What one pass computes. Pictures are RGB in [-1, 1], masks in [0, 1], all at full resolution."""

    tryon: Tensor  # [B, 3, H, W] = m·warped_garment + (1 - m)·rendered
    rendered: Tensor  # [B, 3, H, W]; of a network that preserves, k·person + (1 - k)·drawn
    composite_mask: Tensor  # [B, 1, H, W], m above
    preserve_mask: Tensor  # [B, 1, H, W], k above; 0 in networks without it
    warped_garment: Tensor  # [B, 3, H, W]
    warped_mask: Tensor  # [B, 1, H, W]
    flow: Tensor  # [B, 2, H, W], float32 sampling grid, see kernels.flow_warp
    regional_masks: tuple[Tensor, ...]  # [B, 1, h, w], coarsest first, where asked for
    colours: Tensor | None = None  # [B, 3, H/4, W/4] around which is drawn, of networks with a palette


class RMGN(nn.Module):
    """Regional mask guided network; `config` also chooses the PF-AFN baseline generator."""

    def __init__(self, config: ModelConfig | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        self.warp = Warp(self.config)
        generators = {"rmgn": RegionalMaskGenerator, "pfafn": UNetGenerator}
        self.generator = generators[self.config.generator](self.config)

    def encode_garment(self, garment: Tensor, mask: Tensor) -> Pyramid:
        """Feature pyramid of a garment, which depends on the garment alone: compute it once.

        garment: [B, 3, H, W], RGB in [-1, 1]; mask: [B, 1, H, W], 1 on the garment and 0 elsewhere.
        H and W must be multiples of 32. Returns 5 levels [B, C, H/32 … H/2, …], coarsest first.
        """
        check_size(garment)
        return self.warp.encode_garment(self._cast(garment * mask))

    def forward(
        self,
        person: Tensor,
        garment: Tensor,
        mask: Tensor,
        pyramid: Pyramid | None = None,
        regional_masks: bool = False,
    ) -> TryOn:
        """Dress `person` in `garment`.

        person, garment: [B, 3, H, W], RGB in [-1, 1]; mask: [B, 1, H, W] in {0, 1}. H and W must be
        multiples of 32. pyramid: of `encode_garment`, computed here where None.
        Raises ValueError for a size that is no multiple of 32, or where sizes differ, the pyramid's too.
        """
        check_size(person)
        if person.shape != garment.shape or mask.shape != garment[:, :1].shape:
            raise ValueError(
                f"person {tuple(person.shape)}, garment {tuple(garment.shape)} and mask {tuple(mask.shape)} "
                "must have the same batch, height and width"
            )
        if pyramid is None:
            pyramid = self.encode_garment(garment, mask)
        batch, _, height, width = pyramid[-1].shape
        if (batch, 2 * height, 2 * width) != (len(person), *person.shape[-2:]):
            raise ValueError(
                f"the pyramid is of {batch} garments of {2 * height}x{2 * width}, persons are "
                f"{tuple(person.shape)}: encode as many garments, as large"
            )
        flow = self.estimate_flow(person, pyramid).flows[-1]
        return self.generate(person, garment, mask, flow, regional_masks)

    def estimate_flow(self, person: Tensor, pyramid: Pyramid) -> Flows:
        """Flows of all levels from a person photo [B, 3, H, W] and a garment's pyramid."""
        return self.warp(self._cast(person), pyramid)

    def generate(
        self, person: Tensor, garment: Tensor, mask: Tensor, flow: Tensor, regional_masks: bool = False
    ) -> TryOn:
        """Everything after the flow [B, 2, H, W], with inputs as in `forward`."""
        warped_garment = flow_warp(garment * mask, flow)
        warped_mask = flow_warp(mask, flow, padding="zeros")

        drawing = self.generator(self._cast(person), self._cast(warped_garment), self._cast(warped_mask))
        return compose(
            drawing.logits,
            warped_garment,
            warped_mask,
            flow,
            preserved=person if self.config.preserve else None,
            regional_masks=tuple(drawing.regional_masks) if regional_masks else (),
            colours=drawing.colours,
        )

    def _cast(self, x: Tensor) -> Tensor:
        """To the dtype of the weights: a half model takes and gives float32 pictures."""
        return x.to(next(self.parameters()).dtype)


def compose(
    logits: Tensor,
    warped_garment: Tensor,
    warped_mask: Tensor,
    flow: Tensor,
    preserved: Tensor | None = None,
    regional_masks: tuple[Tensor, ...] = (),
    colours: Tensor | None = None,
) -> TryOn:
    """Blend what a generator drew, logits [B, 3 to 5, H, W], with the warped garment and the person.

    preserved: the person [B, 3, H, W], where the last channel says how much of her pixels stays.
    colours: [B, 3, H/4, W/4], around which is drawn; None: the mean of `preserved`.
    Blends are made in the dtype of the pictures: half would cost the result its last bit.
    """
    logits = logits.to(warped_garment.dtype)
    drawn, masks = logits[:, :3], torch.sigmoid(logits[:, 3:])
    composite_mask = preserve_mask = 0 * warped_mask  # in a graph, zeros would be those of a batch of one
    if masks.shape[1] > int(preserved is not None):
        composite_mask = masks[:, :1] * warped_mask
    if preserved is None:
        rendered = torch.tanh(drawn)
    else:
        centre, spread = colour_range(preserved, colours)
        preserve_mask = masks[:, -1:]
        rendered = preserve_mask * preserved + (1 - preserve_mask) * torch.tanh(centre + spread * drawn)
    tryon = composite_mask * warped_garment + (1 - composite_mask) * rendered
    return TryOn(
        tryon,
        rendered,
        composite_mask,
        preserve_mask,
        warped_garment,
        warped_mask,
        flow,
        regional_masks,
        colours,
    )


def colour_range(picture: Tensor, around: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Centre c and deviation σ of each channel of a picture in [-1, 1], before a tanh.

    c: `around` [B, 3, H/4, W/4], enlarged; None: the picture's mean, [B, 3, 1, 1].
    Returns atanh(c) and σ/(1 - c²): tanh(atanh(c) + σ/(1 - c²)·x) is c + σ·x to first order.
    """
    mean = picture.mean(dim=(2, 3), keepdim=True)
    deviation = (picture - mean).square().mean(dim=(2, 3), keepdim=True).sqrt()
    c = mean
    if around is not None:
        # Not to the picture's size, which a graph would keep with its batch.
        c = F.interpolate(around.to(picture.dtype), scale_factor=SPOT, mode="bilinear", align_corners=False)
    c = c.clamp(-0.95, 0.95)
    centre = ((1 + c) / (1 - c)).log() / 2  # atanh, which the exporter does not know
    return centre, deviation / (1 - c * c)


def check_size(picture: Tensor) -> None:
    """Raise ValueError unless height and width of [B, C, H, W] are multiples of 32."""
    height, width = picture.shape[-2:]
    if height % 32 or width % 32:
        raise ValueError(f"height and width must be multiples of 32, not {height}x{width}")
