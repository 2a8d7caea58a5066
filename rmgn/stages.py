"""What each training stage asks of the network, as one module from a batch to named losses."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import flow_warp
from rmgn import losses
from rmgn.batches import Pairs
from rmgn.model import RMGN, TryOn
from rmgn.perceptual import Perceptual
from rmgn.warp import Flows

Stage = Literal["pf-warp", "pf-full"]
Losses = dict[str, Tensor]

# The paper's weights are in losses.py; these belong to supervision that only true pairs allow.
FLOW = 0.1  # a pixel of end-point error, times the level's n + 1
RENDERED = 1.0  # the rendered image is also the answer wherever the garment is not


class PairStage(nn.Module):
    """Parser-free training on true pairs: person in b, garment a -> person in a, flow known.

    "pf-warp" trains the flow alone, "pf-full" all of equation (9) with the truth in the teacher's place.
    """

    def __init__(self, model: RMGN, stage: Stage, perceptual: Perceptual | None) -> None:
        super().__init__()
        self.model, self.stage, self.perceptual = model, stage, perceptual

    def forward(self, batch: Pairs) -> Losses:
        """Named losses; "total" is the one to minimise."""
        pyramid = self.model.encode_garment(batch.garment, batch.mask)
        flows = self.model.estimate_flow(batch.person, pyramid)
        terms = self.warp_terms(batch, flows)
        if self.stage == "pf-full":
            result = self.model.generate(batch.person, batch.garment, batch.mask, flows.flows[-1])
            terms |= self.generator_terms(batch, result)
        terms["total"] = torch.stack(list(terms.values())).sum()
        with torch.no_grad():
            terms["endpoint_px"] = losses.flow_endpoint_error(flows.flows[-1], batch.flow, batch.visible)
        return terms

    def warp_terms(self, batch: Pairs, flows: Flows) -> Losses:
        """Paper's warp losses and the flow's end-point error, over all levels."""
        garment = batch.garment * batch.mask
        warped = []
        endpoint = garment.new_zeros(())
        for n, flow in enumerate(flows.flows):
            size = flow.shape[-2:]
            small, small_mask = (F.interpolate(x, size, mode="area") for x in (garment, batch.mask))
            warped.append((flow_warp(small, flow), flow_warp(small_mask, flow, "zeros")))
            endpoint = endpoint + (n + 1) * FLOW * losses.flow_endpoint_error(flow, batch.flow, batch.visible)
        worn = batch.target * batch.worn_mask
        terms = losses.warp_loss(warped, flows.offsets, worn, batch.worn_mask)
        return {
            "flow": endpoint,
            "warp_pixel": terms.pixel,
            "warp_mask": terms.mask,
            "warp_smoothness": terms.smoothness,
            "warp_variation": terms.variation,
        }

    def generator_terms(self, batch: Pairs, result: TryOn) -> Losses:
        """Equation (7): pixels and perception; the composite mask; the rendered image off the garment."""
        terms = {
            "pixel": losses.TRYON_PIXEL * F.l1_loss(result.tryon, batch.target),
            "rendered": RENDERED * losses.masked_l1(result.rendered, batch.target, 1 - batch.worn_mask),
            "composite": losses.COMPOSITE * F.l1_loss(result.composite_mask, batch.worn_mask),
        }
        if self.perceptual is not None:
            terms["perceptual"] = losses.PERCEPTUAL * self.perceptual(result.tryon, batch.target)
        return terms
