"""Losses and pictures of the samples held out."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn import batches
from rmgn.batches import Source
from rmgn.model import RMGN
from rmgn.stages import Network
from rmgn.task import Task
from rmgn.training_config import TrainConfig
from rmgn.triplets import Triplet, seen_person


def held_out_triplets(
    source: Source, config: TrainConfig, task: Task, batch: int, device: torch.device
) -> Iterator[Triplet]:
    """Triplets of the samples held out, without what a teacher says of them."""
    for sample in batches.held_out_batches(source, config.held_out, batch, device):
        for triplet in task.triplets(sample):
            yield triplet._replace(guide=None)


@torch.no_grad()
def validate(model: Network, source: Source, config: TrainConfig, task: Task) -> dict[str, float]:
    """Mean losses of the averaged weights over the samples held out."""
    stage = task.stage.of(model)
    sums: dict[str, float] = {}
    count = 0
    device = next(model.parameters()).device
    for triplet in held_out_triplets(source, config, task, config.batch, device):
        share = len(triplet.target)
        terms = stage(triplet, 1 / task.set_size)
        sums = {name: sums.get(name, 0.0) + share * value.item() for name, value in terms.items()}
        count += share
    return {name: value / count for name, value in sums.items()}


@torch.no_grad()
def pictures(model: Network, source: Source, config: TrainConfig, task: Task) -> Tensor:
    """A sheet [3, H, W] in [0, 1], one row a triplet.

    Columns: person, garment, warped garment, composite mask, finest regional mask and preserve mask where
    there is one, rendered image, try-on, target.
    """
    device = next(model.parameters()).device
    triplet = next(held_out_triplets(source, config, task, 8, device))
    model.eval()
    flows = model.estimate_flow(triplet.person, model.encode_garment(triplet.garment, triplet.mask))
    extra = {"regional_masks": True} if isinstance(model, RMGN) else {}
    # Where only the coarsest levels are trained, their flow is shown.
    flow = F.interpolate(flows.flows[-1], triplet.garment.shape[-2:], mode="bilinear")
    result = model.generate(triplet.person, triplet.garment, triplet.mask, flow, **extra)
    masks = [result.composite_mask, *result.regional_masks[-1:]]
    if model.config.preserve:
        masks.append(result.preserve_mask)
    columns = [
        seen_person(triplet),
        triplet.garment,
        result.warped_garment,
        *((2 * mask - 1).expand(-1, 3, -1, -1) for mask in masks),
        result.rendered,
        result.tryon,
        triplet.target,
    ]
    rows = torch.cat(columns, dim=3)
    return torch.cat(list(rows), dim=1).add(1).div(2).clamp(0, 1).cpu()
