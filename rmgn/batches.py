"""Training batches of any data set, the same after a stop at any step, shared out between processes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Generator, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from engines.program import warn_once
from rmgn.data import ahead
from rmgn.data.augment import FOR_LAYERS, Augment, draw_dyes, dye
from rmgn.data.datasets import FolderDataset, open_dataset
from rmgn.data.dress import Dressed, dress
from rmgn.data.files import digest
from rmgn.data.generated import GeneratedPeople
from rmgn.data.labels import GENERATED
from rmgn.data.people import layers
from rmgn.data.read import openpose_order
from rmgn.data.sample import Sample, collate
from rmgn.data.video import check_people
from rmgn.data.workers import one_thread
from rmgn.stop_request import leave_to_parent
from rmgn.training_config import TrainConfig

SHARED_MEMORY, LEAST_SHARED = "/dev/shm", 256 << 20  # bytes: three batches of eight, and their garments
SILENT_S = 300.0  # without a batch, workers are taken for stuck


class Source(Protocol):
    """A data set as training reads it: parts are loaded by workers and made a batch in the main process."""

    per_item: int  # samples that one item gives
    reads: list[str]  # digests of what is read, in its order: a run goes on with what has one of them alone

    def __len__(self) -> int: ...

    def load(self, index: int, epoch: int) -> Any:
        """One item, in the look or augmentation of an epoch."""

    def collate(self, items: list[Any]) -> Any:
        """What workers send."""

    def batch(self, items: Any, noise_seed: int, device: torch.device) -> Sample:
        """A batch of `per_item` times as many samples on the device."""


class GeneratedSource:
    """Generated people; each item gives a in the place of b, and b in that of a.

    others: garments for fake persons a sample; the first is the one that `other_persons` shows, the rest are
    other samples' of the batch.
    augment: what moves persons and garments in their pictures once they are dressed; garments are dyed then.
    described: with parse maps, key points and body parts, which only teachers see.
    """

    per_item = 2

    def __init__(self, others: int = 1, augment: Augment | None = None, described: bool = True) -> None:
        self.others, self.augment, self.described = others, augment, described

    def sample(self, dressed: Dressed, keypoints: Tensor, noise_seed: int) -> Sample:
        """Twice as many samples as there are persons. keypoints: [B, 17, 3], COCO's, on the CPU."""

        def both(pair: Tensor) -> Tensor:
            return torch.cat([pair[:, 0], pair[:, 1]])

        garment, mask = both(dressed.garment), both(dressed.garment_mask).float()
        person, worn = both(dressed.person), both(dressed.worn_mask).float()
        count = len(garment)
        rng = np.random.default_rng(noise_seed)
        if self.augment is not None:
            garment, person = dye(garment, mask, person, worn, draw_dyes(rng, count))
        names = tuple(f"{k}{side}" for side in "ab" for k in range(count // 2))
        batch = Sample(
            person=person,
            garment=garment,
            garment_mask=mask,
            paired=True,
            person_name=names,
            garment_name=names,
            worn_mask=worn,
            flow=both(dressed.flow),
            visible=both(dressed.visible).float(),
            other_persons=person.roll(count // 2, dims=0)[:, None],
        )
        if self.others:
            others, masks = _others(garment, self.others), _others(mask, self.others)
            batch = batch.replace(other_garments=others, other_masks=masks)
        if self.described:
            table = torch.from_numpy(GENERATED).to(person.device)
            points = torch.stack([torch.from_numpy(openpose_order(coco.numpy())) for coco in keypoints])
            points = points.to(person.device)
            batch = batch.replace(
                parse=table[both(dressed.parse)],
                keypoints=torch.cat([points, points]),
                dense=torch.cat([dressed.parts, dressed.parts]).byte(),
            )
        if self.augment is None:
            return batch
        return self.augment.batch(batch, rng)


class LayersSource(GeneratedSource):
    """Generated layers, dressed anew each epoch.

    digests: what tells these layers and their surroundings from others; their names alone did formerly.
    """

    def __init__(
        self,
        people: GeneratedPeople,
        others: int = 1,
        augment: Augment | None = None,
        described: bool = True,
        digests: Sequence[str] = (),
    ) -> None:
        super().__init__(others, augment, described)
        self.people = people
        self.reads = [*digests, digest(file.name for file in people.files)]

    def __len__(self) -> int:
        return len(self.people)

    def load(self, index: int, epoch: int) -> dict[str, Tensor]:
        self.people.set_epoch(epoch)
        return self.people[index]

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return self.people.collate(items)

    def batch(self, items: dict[str, Tensor], noise_seed: int, device: torch.device) -> Sample:
        return self.sample(self._dress(items, noise_seed, device), items["keypoints"], noise_seed)

    def looks(self, items: dict[str, Tensor], noise_seed: int, device: torch.device) -> dict[str, Tensor]:
        """What `rmgn.data.ahead` keeps of a batch, on the device but for the key points."""
        return ahead.pack(self._dress(items, noise_seed, device), items["keypoints"])

    def _dress(self, items: dict[str, Tensor], noise_seed: int, device: torch.device) -> Dressed:
        return dress({name: value.to(device) for name, value in items.items()}, noise_seed)


class DressedSource(GeneratedSource):
    """A complete folder of `rmgn.data.ahead`: its own looks, moved anew each epoch."""

    def __init__(
        self, folder: Path, others: int = 1, augment: Augment | None = None, described: bool = True
    ) -> None:
        super().__init__(others, augment, described)
        self.folder, self.settings = folder, ahead.read_settings(folder)
        self.reads = [digest([f"{self.settings.files} {self.settings.seed}"])]

    def __len__(self) -> int:
        return len(self.settings)

    def load(self, index: int, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002
        return ahead.read(ahead.path(self.folder, index))

    def collate(self, items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        batch: dict[str, Tensor] = default_collate(items)
        return batch

    def batch(self, items: dict[str, Tensor], noise_seed: int, device: torch.device) -> Sample:
        dressed = ahead.unpack(self.looks(items, noise_seed, device))
        return self.sample(dressed, items["keypoints"], noise_seed)

    def looks(self, items: dict[str, Tensor], noise_seed: int, device: torch.device) -> dict[str, Tensor]:  # noqa: ARG002
        return {name: value if name == "keypoints" else value.to(device) for name, value in items.items()}


class FolderSource:
    """Pairs that lie as files in a known layout."""

    per_item = 1

    def __init__(self, dataset: FolderDataset) -> None:
        self.dataset = dataset
        self.reads = [digest(f"{entry.person_name} {entry.garment_name}" for entry in dataset.entries)]

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, index: int, epoch: int) -> Sample:
        self.dataset.set_epoch(epoch)
        return self.dataset[index]

    def collate(self, items: list[Sample]) -> Sample:
        return collate(items)

    def batch(self, items: Sample, noise_seed: int, device: torch.device) -> Sample:  # noqa: ARG002
        return items.to(device)


def open_source(
    folder: Path,
    config: TrainConfig,
    assets: Path | None = None,
    subset: Path | None = None,
    teacher: bool = False,
) -> Source:
    """Generated layers, also dressed ahead, or the training split of a data set in any known layout.

    subset: a list of persons of a data set, one a line; the rest is left out (MPV-Sub).
    teacher: whether one dresses fake persons; without, true pairs of generated people need less of them.
    Raises ValueError for a folder that is not understood or lacks what the stage needs.
    """
    others = 0 if config.stage.startswith("pb-") else 1 if config.stage == "distill" else config.fakes
    size = (config.height, config.width)
    check_people(folder)
    is_dressed = (folder / ahead.SETTINGS).is_file()
    if is_dressed or layers.present(folder):
        if subset is not None:
            raise ValueError(f"{folder}: generated layers take no lists")
        if config.batch % GeneratedSource.per_item:
            raise ValueError(
                f"a batch of {config.batch} does not go with generated people, who give two samples each: "
                "take an even one"
            )
        if others >= config.batch:
            raise ValueError(f"{others} fake persons of layers need a batch of at least {others + 1}")
        taught = teacher and config.stage.startswith("pf-")
        fakes, described = config.fakes if taught else 0, taught or config.stage.startswith("pb-")
        augment = FOR_LAYERS if config.augment else None
        if not is_dressed:
            people = GeneratedPeople(folder, config.seed, assets=assets, size=size)
            # With the manifest's checksums and, as long as generation runs, without.
            known_as = ahead.digests(folder, people.files, assets)[:2]
            return LayersSource(people, fakes, augment, described, known_as)
        if assets is not None:
            raise ValueError(
                f"{folder} was dressed ahead, in its surroundings: --assets are for layers as generated"
            )
        source = DressedSource(folder, fakes, augment, described)
        for name in ("height", "width", "held_out"):
            have, want = getattr(source.settings, name), getattr(config, name)
            if have != want:
                raise ValueError(f"{folder} was dressed with {name} {have}, the configuration has {want}")
        return source
    if assets is not None:
        raise ValueError(
            f"{folder}: photos have surroundings of their own, --assets are for generated layers"
        )
    if config.reuse > 1:
        raise ValueError(f"reuse is for generated people, whose looks are drawn; {folder} holds photos")
    augment = Augment() if config.augment else None
    dataset = open_dataset(
        folder,
        size=size,
        others=others,
        augment=augment,
        seed=config.seed,
        subset=subset,
        held_out=config.held_out,
    )
    return FolderSource(cast(FolderDataset, dataset))


def _others(values: Tensor, count: int) -> Tensor:
    """Other garments of a batch [N, C, H, W], a-sides then b-sides: [N, count, C, H, W].

    Each sample's partner first, then the rest of the batch, and again where that is too small.
    """
    half = len(values) // 2
    shifts = [half, *(k for k in range(1, len(values)) if k != half)]
    return torch.stack([values.roll(shifts[k % len(shifts)], dims=0) for k in range(count)], dim=1)


class Batches(Dataset[Any]):
    """Batches of an endless sequence of shuffled epochs, by their number.

    The n-th depends on length, size and seed alone, so any number of processes, workers and stops shares the
    sequence out. ready: make the whole batch, as is best in workers; else leave the rest to the GPU.
    """

    def __init__(self, source: Source, length: int, size: int, seed: int, ready: bool = True) -> None:
        self.source, self.length, self.size, self.seed, self.ready = source, length, size, seed, ready

    def items(self, number: int) -> list[tuple[int, int]]:
        """(index, epoch) of every item of a batch."""
        positions = range(number * self.size, (number + 1) * self.size)
        places = (divmod(position, self.length) for position in positions)
        return [(_permutation(self.length, self.seed, epoch)[offset], epoch) for epoch, offset in places]

    def __getitem__(self, number: int) -> Any:
        parts = self.source.collate([self.source.load(*item) for item in self.items(number)])
        return self.finish(number, parts) if self.ready else parts

    def finish(self, number: int, parts: Any, device: torch.device | str = "cpu") -> Sample:
        """Make a batch of what `ready=False` leaves."""
        return self.source.batch(parts, self.noise_seed(number), torch.device(device))

    def noise_seed(self, number: int) -> int:
        """Of what is drawn for a batch beside its items."""
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

    @contextlib.contextmanager
    def arriving(self, start: int, stride: int, workers: int, on_gpu: bool) -> Iterator[Iterator[Any]]:
        """What workers make of the start-th batch, and of each stride-th from there on."""
        loader: DataLoader[Any] = DataLoader(
            self,
            batch_size=None,
            sampler=Endless(start, stride),
            num_workers=workers,
            pin_memory=on_gpu,
            worker_init_fn=_begin,
            timeout=SILENT_S if workers else 0,
        )
        if workers:
            warn_of_shared_memory()
        arriving: Any = iter(loader)
        try:
            yield arriving
        finally:
            # An error of theirs holds the iterator in a cycle. Left alive, workers that leave signals to this
            # process would be waited for at its end, for ever.
            if workers:
                arriving._shutdown_workers()


def warn_of_shared_memory() -> None:
    """Write to the log where batches may not fit: a worker that cannot hand one on goes on without a word."""
    with contextlib.suppress(OSError):  # other systems have none
        free = shutil.disk_usage(SHARED_MEMORY).free
        if free < LEAST_SHARED:
            warn_once(
                f"only {free >> 20} MB are free in {SHARED_MEMORY}, through which --workers hand batches on: "
                "give it more (docker run --shm-size=1g), or take --workers 0"
            )


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(length, generator=generator).tolist()
    return order


class Endless(Sampler[int]):
    """start, start + stride, …"""

    def __init__(self, start: int, stride: int) -> None:
        self.start, self.stride = start, stride

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start, self.stride)


def _begin(worker: int) -> None:
    leave_to_parent(worker)
    one_thread()


def training_batches(
    source: Source,
    held_out: int,
    *,
    batch: int,
    seed: int,
    start: int,
    workers: int,
    device: torch.device | str = "cpu",
    stride: int = 1,
) -> Generator[Sample, None, None]:
    """Endless batches of `batch` samples: the start-th, and each stride-th from there on.

    They do not depend on `workers`, nor on where the sequence was entered. The last `held_out` items of the
    source are left out.
    """
    on_gpu = torch.device(device).type != "cpu"
    size = max(1, batch // source.per_item)
    made = Batches(source, len(source) - held_out, size, seed, ready=not on_gpu)
    with made.arriving(start, stride, workers, on_gpu) as arriving:
        for number, parts in zip(Endless(start, stride), arriving, strict=False):
            yield made.finish(number, parts, device) if on_gpu else parts


def held_out_batches(
    source: Source, held_out: int, batch: int, device: torch.device | str = "cpu"
) -> Iterator[Sample]:
    """The last `held_out` items, in one fixed look."""
    size = max(1, batch // source.per_item)
    indices = list(range(len(source) - held_out, len(source)))
    for step, begin in enumerate(range(0, held_out, size)):
        items = [source.load(index, 0) for index in indices[begin : begin + size]]
        yield source.batch(source.collate(items), step, torch.device(device))
