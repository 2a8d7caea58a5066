"""What an evaluation asks: persons, garments and, where they are known, the answers.

A paired trial dresses a person in a garment that a photo of the same person shows; an unpaired one in a
garment from another sample, and has no answer.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from rmgn.data.datasets import SIZE, open_dataset, recognise
from rmgn.data.dress import dress
from rmgn.data.generated import GeneratedPeople
from rmgn.data.sample import Sample, collate

Setting = Literal["paired", "unpaired"]
Groups = dict[str, str]  # an attribute of the person or garment -> its value


class DataError(ValueError):
    """The data cannot be evaluated on; the message says what is wrong, where, and what to do."""


@dataclass(frozen=True)
class Trial:
    """A batch of B questions. Pictures [B, 3, H, W] RGB in [-1, 1], masks [B, 1, H, W] in [0, 1]."""

    setting: Setting
    names: tuple[str, ...]  # B, unique; the stem of a result's file
    subjects: tuple[str, ...]  # B; trials of one subject are not independent of each other
    groups: tuple[Groups, ...]  # B
    person: Tensor
    garment: Tensor
    mask: Tensor  # of the garment, 0 or 1
    truth: Tensor | None = None  # the person in the garment
    worn_mask: Tensor | None = None  # where the garment belongs; unpaired: where the old one is
    flow: Tensor | None = None  # [B, 2, H, W] true sampling grid, see kernels.flow_warp
    visible: Tensor | None = None  # where `flow` is true, 0 or 1

    def to(self, device: torch.device) -> Trial:
        """The trial on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class Trials(Protocol):
    """A data set as trials, in a fixed order."""

    name: str
    settings: tuple[Setting, ...]

    def __len__(self) -> int:
        """How many trials of one picture there are, all settings together."""

    def __iter__(self) -> Iterator[Trial]:
        """Batches."""


def join(trials: Sequence[Trial]) -> Trial:
    """Trials of one setting as one batch."""
    first = trials[0]

    def cat(name: str) -> Tensor | None:
        parts = [getattr(trial, name) for trial in trials]
        return None if parts[0] is None else torch.cat(parts)

    tensors = ("person", "garment", "mask", "truth", "worn_mask", "flow", "visible")
    values: dict[str, Any] = {name: cat(name) for name in tensors}
    for name in ("names", "subjects", "groups"):
        values[name] = tuple(x for trial in trials for x in getattr(trial, name))
    return replace(first, **values)


def one(trial: Trial, n: int) -> Trial:
    """The n-th of a batch, as a batch of one."""
    values: dict[str, Any] = {f.name: getattr(trial, f.name) for f in fields(trial)}
    chosen = {k: v[n : n + 1] for k, v in values.items() if k != "setting" and v is not None}
    return replace(trial, **chosen)


def _part(count: int, first: int | None, last: int | None) -> range:
    begin = 0 if last is None else max(0, count - last)
    return range(begin, count if first is None else min(count, first))


class GeneratedTrials:
    """Layers of rmgn.data.generate, each sample dressed once and for all, whatever the batch.

    Paired: the person in b puts on a, and the other way round, with true flow. Unpaired: the person in a
    and in b puts on a and b of the sample before (the first those of the last). Looks are of the
    evaluation split, which training never sees.
    """

    def __init__(
        self,
        layers: Path,
        settings: Sequence[Setting] = ("paired", "unpaired"),
        batch: int = 4,
        assets: Path | None = None,
        first: int | None = None,
        last: int | None = None,
        workers: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.name = layers.name
        self.settings = tuple(settings)
        self._people = _Dressed(layers, assets, size)
        self._range = _part(len(self._people), first, last)
        if "unpaired" in settings and len(self._range) < 2:
            raise DataError(f"{layers}: unpaired try-ons need two samples, there is one")
        self._batch, self._workers = batch, workers

    def __len__(self) -> int:
        return 2 * len(self.settings) * len(self._range)

    def __iter__(self) -> Iterator[Trial]:
        loader: DataLoader[_Person] = DataLoader(
            Subset(self._people, self._range), batch_size=None, num_workers=self._workers
        )
        waiting: dict[Setting, list[Trial]] = {setting: [] for setting in self.settings}

        def add(trial: Trial, flush: bool = False) -> Iterator[Trial]:
            queue = waiting[trial.setting]
            queue.append(trial)
            if flush or len(queue) * 2 >= self._batch:
                yield join(queue)
                queue.clear()

        opening: _Person | None = None
        before: _Person | None = None
        person: _Person
        for person in loader:
            if "paired" in self.settings:
                yield from add(_paired(person))
            if "unpaired" in self.settings and before is not None:
                yield from add(_unpaired(person, before))
            opening, before = opening or person, person
        if "unpaired" in self.settings and opening is not None and before is not None:
            yield from add(_unpaired(opening, before), flush=True)
        if waiting.get("paired"):
            yield join(waiting["paired"])


class FolderTrials:
    """A data set of photos in a layout that `rmgn.data.datasets` knows, its test split.

    Unpaired: `pairs`, a list of person and garment a line, or the set's own. Paired: every person with the
    garment that she wears already, so that a parser-free network sees the answer; sets with pictures of one
    person in two garments ask for the one garment on the picture in the other.
    """

    def __init__(
        self,
        folder: Path,
        settings: Sequence[Setting] = ("unpaired",),
        batch: int = 4,
        pairs: Path | None = None,
        first: int | None = None,
        last: int | None = None,
        workers: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.name = folder.name
        self.settings = tuple(settings)
        self._batch, self._workers = batch, workers
        self._parts: dict[Setting, Subset[Sample]] = {}
        if pairs is not None and "unpaired" not in self.settings:
            raise DataError(f"{pairs} is a list of unpaired try-ons, which are not asked for (--setting)")
        self._subject = recognise(folder).subject
        for setting in self.settings:
            which = pairs if pairs is not None and setting == "unpaired" else setting
            # Another garment a sample brings the person in it, where the set shows that.
            found = open_dataset(folder, "test", which, size or SIZE, others=int(setting == "paired"))
            self._parts[setting] = Subset(found, _part(len(found), first, last))

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts.values())

    def __iter__(self) -> Iterator[Trial]:
        for setting, part in self._parts.items():
            loader: DataLoader[Sample] = DataLoader(
                part, self._batch, num_workers=self._workers, collate_fn=collate
            )
            sample: Sample
            for sample in loader:
                subjects = tuple(self._subject(name) for name in sample.person_name)
                yield _photographed(sample, setting, subjects)


def _photographed(s: Sample, setting: Setting, subjects: tuple[str, ...]) -> Trial:
    people, garments = ([Path(n).stem for n in names] for names in (s.person_name, s.garment_name))
    paired = setting == "paired"
    names = people if paired else [f"{p}_{g}" for p, g in zip(people, garments, strict=True)]
    return Trial(
        setting=setting,
        names=tuple(names),
        subjects=subjects,
        groups=tuple({} for _ in people),
        person=s.person if not paired or s.other_persons is None else s.other_persons[:, 0],
        garment=s.garment,
        mask=s.garment_mask,
        truth=s.person if paired else None,
        worn_mask=s.worn_mask,
        flow=s.flow if paired else None,
        visible=s.visible if paired else None,
    )


def has_layers(folder: Path) -> bool:
    """Whether a folder holds layers of rmgn.data.generate."""
    return folder.is_dir() and any(folder.glob("[0-9]*.zip"))


def open_trials(
    folder: Path,
    settings: Sequence[Setting] | None = None,
    batch: int = 4,
    pairs: Path | None = None,
    assets: Path | None = None,
    first: int | None = None,
    last: int | None = None,
    workers: int = 0,
    size: tuple[int, int] | None = None,
) -> Trials:
    """Trials of generated layers, or of a folder of photos in any known layout.

    settings: by default both for layers and "unpaired" for photos. size: (height, width), by default the
    layers' own and 256x192 for photos. Raises ValueError for a folder that lacks what is asked for.
    """
    if has_layers(folder):
        if pairs is not None:
            raise DataError(f"{folder}: generated layers take no list of pairs")
        known = settings or ("paired", "unpaired")
        return GeneratedTrials(folder, known, batch, assets, first, last, workers, size)
    return FolderTrials(folder, settings or ("unpaired",), batch, pairs, first, last, workers, size)


@dataclass(frozen=True)
class _Person:
    """A person in garments a and b; tensors [2, C, H, W], index 0 is a."""

    stem: str
    groups: Groups
    kinds: tuple[str, str]
    person: Tensor
    garment: Tensor
    mask: Tensor
    worn_mask: Tensor
    flow: Tensor
    visible: Tensor


class _Dressed(Dataset[_Person]):
    """Samples of layers in their one evaluation look."""

    def __init__(self, layers: Path, assets: Path | None, size: tuple[int, int] | None) -> None:
        self.people = GeneratedPeople(layers, flip=False, assets=assets, split="eval", size=size)

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, index: int) -> _Person:
        item = self.people[index]
        dressed = dress(self.people.collate([item]))
        file = self.people.files[index]
        with zipfile.ZipFile(file) as archive:
            meta = json.loads(archive.read("meta.json"))
        a, b = (str(garment["style"]["kind"]) for garment in meta["garments"])
        return _Person(
            stem=file.stem,
            groups={
                "skin tone": skin_tone(item["skin"]),
                "build": build(meta["shape"]["weight"]),
                "sex": "female" if meta["shape"]["gender"] > 0.5 else "male",
                "pose": str(meta["pose"]),
            },
            kinds=(a, b),
            person=dressed.person[0],
            garment=dressed.garment[0],
            mask=dressed.garment_mask[0].float(),
            worn_mask=dressed.worn_mask[0].float(),
            flow=dressed.flow[0],
            visible=dressed.visible[0].float(),
        )


def _paired(p: _Person) -> Trial:
    return Trial(
        setting="paired",
        names=(f"{p.stem}_a", f"{p.stem}_b"),
        subjects=(p.stem, p.stem),
        groups=tuple({**p.groups, "garment": kind} for kind in p.kinds),
        person=p.person.flip(0),
        garment=p.garment,
        mask=p.mask,
        truth=p.person,
        worn_mask=p.worn_mask,
        flow=p.flow,
        visible=p.visible,
    )


def _unpaired(p: _Person, other: _Person) -> Trial:
    return Trial(
        setting="unpaired",
        names=(f"{p.stem}_a_{other.stem}_a", f"{p.stem}_b_{other.stem}_b"),
        subjects=(p.stem, p.stem),
        groups=tuple({**p.groups, "garment": kind} for kind in other.kinds),
        person=p.person,
        garment=other.garment,
        mask=other.mask,
        worn_mask=p.worn_mask,
    )


def skin_tone(albedo: Tensor) -> str:
    """The group of a skin's linear RGB albedo [3] by its individual typology angle.

    ITA = atan((L* - 50) / b*) in degrees, CIELAB under D65; bounds of Chardon et al. (1991) and
    Del Bino et al. (2006), "very light" being counted as light.
    """
    to_xyz = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    white = torch.tensor([0.9505, 1.0, 1.089])
    ratio = to_xyz @ albedo.float() / white
    f = torch.where(ratio > 216 / 24389, ratio.clamp(min=1e-9) ** (1 / 3), (ratio * 24389 / 27 + 16) / 116)
    lightness, b = (116 * f[1] - 16).item(), (200 * (f[1] - f[2])).item()
    angle = math.degrees(math.atan2(lightness - 50, b))
    bounds = ((41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"))
    return next((name for bound, name in bounds if angle > bound), "dark")


def build(weight: float) -> str:
    """The group of a body by MakeHuman's weight parameter in [0, 1], average at 0.5."""
    return "slim" if weight < 0.35 else "average" if weight < 0.6 else "heavy"
