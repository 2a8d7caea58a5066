"""What is minimised: one module from a triplet to named losses, for every stage of training."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import flow_warp
from rmgn import losses
from rmgn.model import RMGN, TryOn
from rmgn.perceptual import Perceptual
from rmgn.teacher import ParserBased
from rmgn.triplets import Guide, Triplet
from rmgn.warp import Flows, Pyramid

Network = RMGN | ParserBased
Losses = dict[str, Tensor]


class TryOnStage(nn.Module):
    """Losses of a network, parser-based or parser-free, on one triplet.

    whole: the generator as well, equation (9); else the warp module alone.
    perceptual: for what the generator makes; warp_perceptual: for the warped garments of all levels.
    true_flow: learn the flow itself where the triplet knows it.
    learns_warp: whether the losses of the warp module count; without them it is used as it is.
    composite_weight, composite_entropy: of the composite mask's losses.
    guide_width: of the features of a teacher; where the network's own differ, a 1×1 convolution a level
        stands between them, trained along and not part of the network.
    """

    def __init__(
        self,
        model: Network,
        whole: bool,
        perceptual: Perceptual | None = None,
        warp_perceptual: Perceptual | None = None,
        true_flow: bool = False,
        guide_width: int | None = None,
        learns_warp: bool = True,
        composite_weight: float = losses.COMPOSITE,
        composite_entropy: float = 0.0,
    ) -> None:
        super().__init__()
        self.learns_warp = learns_warp
        self.composite_weight, self.composite_entropy = composite_weight, composite_entropy
        self.model, self.whole, self.true_flow = model, whole, true_flow
        self.perceptual, self.warp_perceptual = perceptual, warp_perceptual
        own = model.config.pyramid_width
        self.adapters = nn.ModuleList()
        if guide_width is not None and guide_width != own:
            self.adapters.extend(nn.Conv2d(own, guide_width, 1) for _ in model.config.encoder_widths)

    def of(self, model: Network) -> "TryOnStage":
        """The same losses of another network, without perceptual distances and adapters: to validate it."""
        return TryOnStage(
            model,
            self.whole,
            true_flow=self.true_flow,
            learns_warp=self.learns_warp,
            composite_weight=self.composite_weight,
            composite_entropy=self.composite_entropy,
        ).eval()

    def forward(self, triplet: Triplet, share: float = 1.0) -> Losses:
        """Named losses, weighted; "total" is the one to minimise.

        share: 1 / the number of fake persons in the triplet's set. Equation (2) takes the mean of the warp
        losses over the set, equation (8) the sum of the generator's.
        """
        pyramid = self.model.encode_garment(triplet.garment, triplet.mask)
        flows = self.model.estimate_flow(triplet.person, pyramid)
        terms: Losses = {}
        total = triplet.target.new_zeros(())
        if self.learns_warp:
            terms = self.warp_terms(triplet, pyramid, flows)
            total = share * torch.stack(list(terms.values())).sum()
        if self.whole:
            result = self.model.generate(triplet.person, triplet.garment, triplet.mask, flows.flows[-1])
            generator = self.generator_terms(triplet, result)
            total = total + torch.stack(list(generator.values())).sum()
            terms |= generator
        terms["total"] = total
        if triplet.flow is not None and triplet.visible is not None:
            with torch.no_grad():
                error = losses.flow_endpoint_error(flows.flows[-1], triplet.flow, triplet.visible)
                terms["endpoint_px"] = error
        return terms

    def warp_terms(self, triplet: Triplet, garment_pyramid: Pyramid, flows: Flows) -> Losses:
        """The terms of equation (2) over all levels; the flow's error and matching where it is learnt."""
        garment, shown = triplet.garment * triplet.mask, triplet.shown
        warped = [warp_to_level(garment, triplet.mask, flow) for flow in flows.flows]
        warped = [(shown(each), shown(mask)) for each, mask in warped]
        terms: Losses = {}
        smoothness = losses.SMOOTHNESS
        if self.true_flow and triplet.flow is not None and triplet.visible is not None:
            smoothness = losses.KNOWN_SMOOTHNESS
            errors = [losses.flow_endpoint_error(f, triplet.flow, triplet.visible) for f in flows.flows]
            terms["flow"] = torch.stack([(n + 1) * losses.FLOW * e for n, e in enumerate(errors)]).sum()
            matching = [
                losses.matching_loss(person, garment_level, triplet.flow, triplet.visible)
                for person, garment_level in zip(flows.person, garment_pyramid, strict=True)
                if person.shape[-2] * person.shape[-1] <= losses.MATCHING_PIXELS
            ]
            if matching:  # a shallow pyramid has no level so coarse
                terms["matching"] = losses.MATCHING * torch.stack(matching).sum()
        warp = losses.warp_loss(
            warped,
            flows.flows,
            flows.offsets,
            shown(triplet.worn),
            shown(triplet.worn_mask),
            self.warp_perceptual,
            smoothness,
        )
        terms |= {
            "warp_pixel": warp.pixel,
            "warp_mask": warp.mask,
            "warp_smoothness": warp.smoothness,
            "warp_variation": warp.variation,
        }
        if self.warp_perceptual is not None:
            terms["warp_perceptual"] = warp.perceptual
        if triplet.guide is not None:
            error = (warped[-1][0] - shown(triplet.worn)).abs().mean(dim=(1, 2, 3)).detach()
            terms |= self.guidance(triplet.guide, flows, error)
        return terms

    def guidance(self, guide: Guide, flows: Flows, error: Tensor) -> Losses:
        """L_d: features and flows of the teacher. error: [B], of the warped garments."""
        own: Sequence[Tensor] = flows.person
        if self.adapters:
            own = [adapter(feature) for adapter, feature in zip(self.adapters, own, strict=True)]
        teacher_error = torch.full_like(error, -1) if guide.error is None else guide.error
        terms = losses.adjustable_distillation(
            (own, flows.flows), (guide.pyramid, guide.flows), error, teacher_error
        )
        return {"guide_features": terms.features, "guide_flow": terms.flow}

    def generator_terms(self, triplet: Triplet, result: TryOn) -> Losses:
        """The terms of equation (8)."""
        shown = triplet.shown
        terms = losses.generator_loss(
            (shown(result.tryon), shown(result.rendered), shown(result.composite_mask)),
            shown(triplet.target),
            shown(triplet.composite_mask),
            triplet.skin,
            self.perceptual,
            self.composite_weight,
            self.composite_entropy,
        )
        named = {"pixel": terms.pixel, "rendered": terms.rendered, "composite": terms.composite}
        if self.model.config.preserve:
            same = losses.agreement(triplet.person, triplet.target)
            preserve = losses.preserve_loss(shown(result.preserve_mask), shown(same))
            named["preserve"] = losses.PRESERVE * preserve
        if triplet.skin is not None:
            named["skin"] = terms.skin
            if result.colours is not None:
                named["palette"] = losses.PALETTE * losses.palette_loss(
                    result.colours, triplet.target, shown(triplet.skin)
                )
        if self.perceptual is not None:
            named["perceptual"] = terms.perceptual
        return named


def warp_to_level(garment: Tensor, mask: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """A masked garment [B, 3, H, W] and its mask, both at the size of a level's flow and warped by it."""
    size = flow.shape[-2:]
    small, small_mask = (F.interpolate(x, size, mode="area") for x in (garment, mask))
    return flow_warp(small, flow), flow_warp(small_mask, flow, "zeros")
