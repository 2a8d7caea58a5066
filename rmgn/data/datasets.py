"""Every data set behind one type: `open_dataset(path)` recognises the layout and gives `Sample`s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from engines.pair_lists import read_columns
from rmgn.data import read
from rmgn.data.dress import dress
from rmgn.data.dresscode import DressCode
from rmgn.data.generated import GeneratedPeople
from rmgn.data.labels import GENERATED
from rmgn.data.layout import Entry, Layout, Pairs
from rmgn.data.mpv import Mpv
from rmgn.data.people import layers
from rmgn.data.plain import Generated, Plain
from rmgn.data.sample import Label, Sample, mask_of
from rmgn.data.viton import RmgnRelease, Viton
from rmgn.data.viton_hd import VitonHD

LAYOUTS: tuple[type[Layout], ...] = (Viton, RmgnRelease, VitonHD, Mpv, DressCode, Generated, Plain)
SIZE = (256, 192)

Change = Callable[[Sample, np.random.Generator], Sample]


class TryOnDataset(Dataset[Sample]):
    """Samples by index. What is random in them depends on the seed, the epoch and the index alone."""

    def __init__(self, seed: int, augment: Change | None) -> None:
        self._seed, self._augment, self._epoch = seed, augment, 0

    def set_epoch(self, epoch: int) -> None:
        """Draw other garments, looks and changes from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        raise NotImplementedError

    def _rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._epoch, index])

    def _changed(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return self._augment(sample, rng) if self._augment else sample


class FolderDataset(TryOnDataset):
    """Pairs that lie as files in a known layout.

    others: K garments besides, drawn from the pairs' other garments, for fake triplets. held_out: so many
    pairs at the end are for validation, and their garments drawn for these alone.
    """

    def __init__(
        self,
        layout: Layout,
        pairs: Pairs,
        size: tuple[int, int] = SIZE,
        others: int = 0,
        augment: Change | None = None,
        seed: int = 0,
        held_out: int = 0,
    ) -> None:
        super().__init__(seed, augment)
        self.layout, self.entries, self.paired = layout, pairs.entries, pairs.paired
        self.size, self._others = size, others
        shown = max(0, len(pairs.entries) - held_out)
        _require_whole_people(layout, pairs.entries, shown)
        # Those that are shown come first, those held out behind them.
        by_name = {entry.garment_name: (entry.garment, entry.mask) for entry in pairs.entries}
        self._garments = list(by_name.items())
        self._shown, self._shown_garments = shown, len({e.garment_name for e in pairs.entries[:shown]})
        if others > max(self._shown_garments - 1, 0):
            raise ValueError(f"{others} other garments wanted of a set of {self._shown_garments}")

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry, rng = self.entries[index], self._rng(index)
        sample = Sample(
            person=read.rgb(entry.person, self.size),
            garment=read.rgb(entry.garment, self.size),
            garment_mask=read.mask(entry.mask, self.size),
            paired=self.paired,
            person_name=(entry.person_name,),
            garment_name=(entry.garment_name,),
        )
        sample = sample.replace(**self._truth(entry), **self._other_garments(index, rng))
        return self._changed(sample, rng)

    def _truth(self, entry: Entry) -> dict[str, Tensor]:
        known: dict[str, Tensor] = {}
        if entry.parse:
            tables = [table for table in (self.layout.labels, self.layout.worn) if table is not None]
            maps = read.parse(entry.parse, self.size, *tables)
            known["parse"], known["worn_mask"] = maps[0], mask_of(maps[-1], [Label.UPPER])
        if entry.keypoints:
            own = self.layout.point_size or read.picture_size(entry.person)
            known["keypoints"] = read.keypoints(entry.keypoints, own, self.size)
        if entry.dense:
            known["dense"] = read.dense(entry.dense, self.size)
        if entry.flow:
            known["flow"], known["visible"] = read.flow(entry.flow, self.size)
        return known

    def _other_garments(self, index: int, rng: np.random.Generator) -> dict[str, Tensor]:
        if not self._others:
            return {}
        entry = self.entries[index]
        pool = self._shown_garments if index < self._shown else len(self._garments)
        own = {entry.garment_name}
        chosen = []
        known: dict[str, Tensor] = {}
        if entry.other:
            own.add(entry.other.garment_name)
            chosen.append((entry.other.garment, entry.other.mask))
            known["other_persons"] = read.rgb(entry.other.person, self.size)[None]
        # A few more than needed, so that those of `own` can be left out without a look at the whole list.
        draws = rng.choice(pool, min(self._others + 2, pool), replace=False)
        chosen += [self._garments[i][1] for i in draws if self._garments[i][0] not in own]
        chosen = chosen[: self._others]
        known["other_garments"] = torch.stack([read.rgb(g, self.size) for g, _ in chosen])
        known["other_masks"] = torch.stack([read.mask(m, self.size) for _, m in chosen])
        return known


def _require_whole_people(layout: Layout, entries: Sequence[Entry], shown: int) -> None:
    """Raise ValueError where one person is among the `shown` entries and among those held out."""
    subjects = [layout.subject(entry.person_name) for entry in entries]
    both = set(subjects[:shown]) & set(subjects[shown:])
    if not both:
        return
    first: dict[str, int] = {}
    for number, subject in enumerate(subjects):
        first.setdefault(subject, number)
    begin = shown
    while (earlier := min(first[subject] for subject in subjects[begin:])) < begin:
        begin = earlier
    advice = f"hold out {len(entries) - begin}" if begin else "group its list by person"
    raise ValueError(
        f"held_out {len(entries) - shown} would show {min(both)} in training and in validation: {advice}"
    )


class LayersDataset(TryOnDataset):
    """Generated layers dressed one by one: sample 2i is person i in garment a, 2i + 1 in b.

    Unpaired, the garment is the one that the person does not wear. The person's other garment comes first
    among the others; further ones cost as much as a sample each.
    """

    def __init__(
        self,
        people: GeneratedPeople,
        paired: bool = True,
        others: int = 0,
        augment: Change | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed, augment)
        if others > len(people):
            raise ValueError(f"{others} other garments wanted of {len(people)} people")
        self.people, self.paired, self._others = people, paired, others

    def set_epoch(self, epoch: int) -> None:
        """Draw other looks from now on."""
        super().set_epoch(epoch)
        self.people.set_epoch(epoch)

    def __len__(self) -> int:
        return 2 * len(self.people)

    def __getitem__(self, index: int) -> Sample:
        number, side = divmod(index, 2)
        item = self.people[number]
        dressed = dress(self.people.collate([item]), noise_seed=number)
        wanted = side if self.paired else 1 - side
        parse = torch.from_numpy(GENERATED)[dressed.parse[0, side].long()]
        sample = Sample(
            person=dressed.person[0, side],
            garment=dressed.garment[0, wanted],
            garment_mask=dressed.garment_mask[0, wanted].float(),
            paired=self.paired,
            person_name=(f"{self.people.files[number].stem}_{'ab'[side]}",),
            garment_name=(f"{self.people.files[number].stem}_{'ab'[wanted]}",),
            parse=parse,
            keypoints=torch.from_numpy(read.openpose_order(item["keypoints"].numpy())),
            dense=dressed.parts[0].byte(),
            worn_mask=dressed.worn_mask[0, side].float(),
        )
        if self.paired:
            sample = sample.replace(flow=dressed.flow[0, side], visible=dressed.visible[0, side].float())
        rng = self._rng(index)
        if self._others:
            garments, masks = [dressed.garment[0, 1 - side]], [dressed.garment_mask[0, 1 - side].float()]
            draws = rng.permutation(len(self.people))[: self._others]
            for other in [int(d) for d in draws if d != number][: self._others - 1]:
                more = dress(self.people.collate([self.people[other]]), noise_seed=other)
                which = int(rng.integers(2))
                garments.append(more.garment[0, which])
                masks.append(more.garment_mask[0, which].float())
            sample = sample.replace(
                other_garments=torch.stack(garments),
                other_masks=torch.stack(masks),
                other_persons=dressed.person[0, 1 - side][None],
            )
        return self._changed(sample, rng)


def recognise(path: Path) -> Layout:
    """The layout of a folder; `ValueError` that says what was looked for."""
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder")
    for layout in LAYOUTS:
        home = layout.find(path)
        if home is not None:
            return layout(home)
    known = "; ".join(f"{layout.name}: {layout.known_by}" for layout in LAYOUTS)
    raise ValueError(f"{path}: no data set that is known. Looked for {known}; generated layers: 000000.zip")


def open_dataset(
    path: Path | str,
    split: str = "train",
    pairs: str | Path = "paired",
    size: tuple[int, int] = SIZE,
    others: int = 0,
    augment: Change | None = None,
    seed: int = 0,
    subset: Path | None = None,
    assets: Path | None = None,
    held_out: int = 0,
) -> TryOnDataset:
    """Open a data set of any known layout; see docs/datasets.md.

    split: "train" or "test". pairs: "paired", "unpaired" or a list of pairs (person and garment a line).
    size: (height, width) of the samples. others: garments besides, for fake triplets. augment: such as
    `rmgn.data.augment.Augment`. subset: a list of persons, one a line; the rest is left out (MPV-Sub).
    assets: for generated layers alone, see docs/data.md. held_out: see `FolderDataset`.
    Raises `ValueError`, one line, for a folder that is not understood or lacks what is asked for.
    """
    path = Path(path)
    if layers.present(path):
        if subset is not None or pairs not in ("paired", "unpaired"):
            raise ValueError(f"{path}: generated layers take no lists")
        if split not in _LOOK:
            raise ValueError(f"{path}: generated layers have a train and a test look, no {split}")
        people = GeneratedPeople(path, seed, split == "train", assets, _LOOK[split], size)
        return LayersDataset(people, pairs == "paired", others, augment, seed)
    layout = recognise(path)
    found_pairs = layout.pairs(split, pairs)
    if subset is not None:
        found_pairs = _chosen(found_pairs, subset)
    return FolderDataset(layout, found_pairs, size, others, augment, seed, held_out)


_LOOK = {"train": "train", "test": "eval"}


def _chosen(pairs: Pairs, subset: Path) -> Pairs:
    names = {line[0] for line in read_columns(subset, 1)}
    entries = [entry for entry in pairs.entries if entry.person_name in names]
    unknown = sorted(names - {entry.person_name for entry in entries})
    if unknown:
        raise ValueError(
            f"{subset}: {len(unknown)} of {len(names)} persons are not in this split, such as {unknown[0]}; "
            f"one of it is {pairs.entries[0].person_name}"
        )
    return pairs._replace(entries=entries)
