"""Training batches from generated people: the same layers dressed anew each time, resumable at any step."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, Subset

from rmgn.data.dress import dress
from rmgn.data.generated import GeneratedPeople


class Pairs(NamedTuple):
    """Try-on with known answers. Pictures [B, 3, H, W] in [-1, 1], masks [B, 1, H, W] in [0, 1]."""

    person: Tensor  # wears another garment
    garment: Tensor  # shop photo
    mask: Tensor  # of the garment, 0 or 1
    target: Tensor  # the same person in the garment
    worn_mask: Tensor  # where `target` shows the garment
    flow: Tensor  # [B, 2, H, W] true sampling grid
    visible: Tensor  # where `flow` is true


class StepSampler(Sampler[int]):
    """An endless sequence of shuffled epochs that can start at any position; the same for one seed."""

    def __init__(self, length: int, seed: int, start: int = 0) -> None:
        self.length, self.seed, self.position = length, seed, start

    def __iter__(self) -> Iterator[int]:
        while True:
            epoch, offset = divmod(self.position, self.length)
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            for index in torch.randperm(self.length, generator=generator).tolist()[offset:]:
                self.position += 1
                yield epoch * self.length + index


class Freshly(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Layers by a running number: number n is sample n mod length, in the look of epoch n // length."""

    def __init__(self, people: GeneratedPeople, held_out: int) -> None:
        self.people, self.length = people, len(people) - held_out

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        epoch, index = divmod(number, self.length)
        self.people.set_epoch(epoch)
        return self.people[index]


def training_batches(
    people: GeneratedPeople, held_out: int, batch: int, seed: int, start_step: int, workers: int
) -> Iterator[Pairs]:
    """Endless batches of `batch` pairs; those from `start_step` on are the same as without a stop before it.

    Each sample of layers gives two pairs, b to a and a to b. The last `held_out` samples are left out.
    """
    samples = max(1, batch // 2)
    fresh = Freshly(people, held_out)
    sampler = StepSampler(fresh.length, seed, start_step * samples)
    loader = DataLoader(
        fresh, samples, sampler=sampler, num_workers=workers, collate_fn=people.collate, drop_last=True
    )
    for step, items in enumerate(loader, start_step):
        yield pairs(items, noise_seed=seed + step)


def held_out_batches(people: GeneratedPeople, held_out: int, batch: int, workers: int) -> Iterator[Pairs]:
    """The last `held_out` samples in one fixed look."""
    people.set_epoch(0)
    subset = Subset(people, range(len(people) - held_out, len(people)))
    loader = DataLoader(subset, max(1, batch // 2), num_workers=workers, collate_fn=people.collate)
    for step, items in enumerate(loader):
        yield pairs(items, noise_seed=step)


def pairs(items: dict[str, Tensor], noise_seed: int) -> Pairs:
    """Dress collated layers: both directions of every sample, B = 2·samples."""
    dressed = dress(items, noise_seed)

    def both(pair: Tensor) -> Tensor:
        return torch.cat([pair[:, 0], pair[:, 1]])

    return Pairs(
        person=torch.cat([dressed.person[:, 1], dressed.person[:, 0]]),
        garment=both(dressed.garment),
        mask=both(dressed.garment_mask).float(),
        target=both(dressed.person),
        worn_mask=both(dressed.worn_mask).float(),
        flow=both(dressed.flow),
        visible=both(dressed.visible).float(),
    )


def resize(batch: Pairs, size: tuple[int, int]) -> Pairs:
    """The batch at a size that divides its own by a whole number; flows are averaged where they are true."""
    height, width = batch.person.shape[-2:]
    scale = height // size[0]
    if (size[0] * scale, size[1] * scale) != (height, width):
        raise ValueError(f"{height}x{width} cannot be reduced to {size[0]}x{size[1]} by a whole number")
    if scale == 1:
        return batch
    pooled = {name: F.avg_pool2d(value, scale) for name, value in batch._asdict().items()}
    share = pooled["visible"]
    pooled["flow"] = F.avg_pool2d(batch.flow * batch.visible, scale) / share.clamp(min=1e-6)
    pooled["visible"] = (share > 0.5).float()
    pooled["mask"] = (pooled["mask"] > 0.5).float()
    return Pairs(**pooled)
