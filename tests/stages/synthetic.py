"""A tiny network and random samples for tests of the stages; also the program of one process of several.

Run by torchrun, it writes the gradients of one step over four batches, shared out between the processes.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from rmgn import RMGN, ModelConfig
from rmgn.batches import training_batches
from rmgn.data.sample import Label, Sample, collate
from rmgn.task import Task, make_task
from rmgn.teacher import ParserBased
from rmgn.trainer import add_gradients
from rmgn.training_config import TrainConfig

SIZE = 96  # the least whose coarsest level has neighbours on all sides
TINY = ModelConfig(
    encoder_widths=(4, 4, 6, 6, 8),
    pyramid_width=4,
    flow_widths=(4, 4),
    coarse_flow_widths=(4, 4),
    finest_flow_widths=(4, 4),
    extractor_widths=(4, 4, 6, 6, 8),
    fusion_widths=(8, 8, 6, 6, 4),
    unet_widths=(4, 4, 6, 6, 8),
)


def make_sample(seed: int, others: int = 3) -> Sample:
    """A person of random blocks."""
    random = torch.Generator().manual_seed(seed)

    def blocks(*shape: int, top: int = 0) -> Tensor:
        coarse = torch.rand(*shape, SIZE // 8, SIZE // 8, generator=random)
        fine = coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)
        return (fine * top).to(torch.uint8) if top else fine

    points = torch.rand(18, 3, generator=random) * torch.tensor([SIZE, SIZE, 1.0])
    garment = blocks(3) * 2 - 1
    parse = blocks(top=len(Label))
    return Sample(
        person=blocks(3) * 2 - 1,
        garment=garment,
        garment_mask=(blocks(1) > 0.3).float(),
        paired=True,
        person_name=(str(seed),),
        garment_name=(str(seed),),
        parse=parse,
        keypoints=points,
        dense=blocks(top=25),
        worn_mask=(parse == Label.UPPER)[None].float(),
        other_garments=blocks(others, 3) * 2 - 1,
        other_masks=(blocks(others, 1) > 0.3).float(),
    )


class Synthetic:
    """A source of such samples."""

    per_item = 1

    def __init__(self) -> None:
        self.reads = ["synthetic"]

    def __len__(self) -> int:
        return 10

    def load(self, index: int, epoch: int) -> Sample:
        return make_sample(100 * epoch + index)

    def collate(self, items: list[Sample]) -> Sample:
        return collate(items)

    def batch(self, items: Sample, noise_seed: int, device: torch.device) -> Sample:  # noqa: ARG002
        return items.to(device)


def make(stage: str, fakes: int = 1, **settings: Any) -> Task:
    """A task on tiny networks of fixed weights."""
    config = TrainConfig(stage=stage, fakes=fakes, model=dataclasses.asdict(TINY), **settings)
    torch.manual_seed(1)
    teacher = RMGN(TINY) if stage == "distill" else None if stage[:2] == "pb" else ParserBased(TINY)
    student = ParserBased(TINY) if stage[:2] == "pb" else RMGN(TINY)
    task = make_task(student, config, teacher)
    task.stage.train()
    return task


def gradients_of_four_batches() -> dict[str, Tensor]:
    """Of one step, this process's share of the batches added up."""
    accelerator = Accelerator(cpu=True)
    task = make("pf-full", fakes=2)
    stage = accelerator.prepare(task.stage)
    processes = accelerator.num_processes
    feed = training_batches(
        Synthetic(), 0, batch=2, seed=0, start=accelerator.process_index, workers=0, stride=processes
    )
    samples = [next(feed) for _ in range(4 // processes)]
    add_gradients(accelerator, stage, task, samples)
    return {name: p.grad for name, p in task.stage.model.named_parameters() if p.grad is not None}


if __name__ == "__main__":
    gradients = gradients_of_four_batches()
    if torch.distributed.get_world_size() != 2:
        sys.exit("meant for two processes")
    if torch.distributed.get_rank() == 0:
        torch.save(gradients, Path(sys.argv[1]))
    torch.distributed.destroy_process_group()
