"""Looks of generated people kept where the network trains, each drawn for several batches.

A GPU trains faster than a few processor cores read layers and draw looks. So that it does not wait, a pool on
it holds the newest looks, packed as `rmgn.data.ahead` packs them; every batch is drawn from all of the pool
and moved anew, and one batch in `reuse` brings in as many new looks (data echoing, Choi et al., 2019).
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rmgn.batches import Batches, Source
from rmgn.data.ahead import unpack
from rmgn.data.dress import Dressed
from rmgn.data.generated import Batch
from rmgn.data.sample import Sample


class LookSource(Source, Protocol):
    """Generated people as training reads them."""

    def looks(self, items: Batch, noise_seed: int, device: torch.device) -> Batch:
        """What `rmgn.data.ahead` keeps of a batch, on the device but for the key points."""

    def sample(self, dressed: Dressed, keypoints: Tensor, noise_seed: int) -> Sample:
        """A batch of two samples a look, moved as drawn from the seed. keypoints: on the CPU."""


class LookPool:
    """A ring of packed looks on a device, 1.4 MB each at 256×192: the newest `size`.

    added: how many others came before, where the sequence is entered later than at its beginning.
    """

    def __init__(self, size: int, added: int = 0) -> None:
        self.size, self.added = size, added
        self._looks: Batch = {}

    def __len__(self) -> int:
        return min(self.added, self.size)

    def add(self, looks: Batch) -> None:
        """Take in packed looks (tensors [N, ...]), in the place of the oldest."""
        count = len(looks["person"])
        if not self._looks:
            self._looks = {
                name: value.new_empty(self.size, *value.shape[1:]) for name, value in looks.items()
            }
        slots = torch.arange(self.added, self.added + count) % self.size
        for name, value in looks.items():
            self._looks[name][slots.to(value.device)] = value
        self.added += count

    def draw(self, numbers: Tensor) -> Batch:
        """Packed looks by their places in the pool, [N] in [0, len(self))."""
        return {name: value[numbers.to(value.device)] for name, value in self._looks.items()}


def reused_batches(
    source: LookSource,
    held_out: int,
    *,
    batch: int,
    seed: int,
    start: int,
    workers: int,
    device: torch.device | str = "cpu",
    stride: int = 1,
    reuse: int,
    size: int,
) -> Generator[Sample, None, None]:
    """As `rmgn.batches.training_batches`, each batch drawn from a pool of the last `size` looks.

    The n-th batch of a process is the same wherever the sequence was entered: on the way in the pool is
    filled with what it would hold.
    """
    rank, first = start % stride, start // stride
    looks = max(1, batch // source.per_item)  # a batch
    kept = max(1, size // looks)  # batches of looks in the pool
    loaded = max(0, first // reuse - kept + 1)
    made = Batches(source, len(source) - held_out, looks, seed, ready=False)
    device = torch.device(device)
    pool = LookPool(kept * looks, loaded * looks)  # so that every look has the place that it would have had
    with made.arriving(rank + loaded * stride, stride, workers, device.type != "cpu") as arriving:
        for index in itertools.count(first):
            while loaded <= index // reuse:
                noise_seed = made.noise_seed(rank + loaded * stride)
                pool.add(source.looks(next(arriving), noise_seed, device))
                loaded += 1
            number = rank + index * stride
            rng = np.random.default_rng([seed, number])
            drawn = pool.draw(torch.from_numpy(rng.choice(len(pool), looks, replace=False)))
            yield source.sample(unpack(drawn), drawn["keypoints"].cpu(), made.noise_seed(number))
