"""Trials of generated layers, and the groups that their people belong to."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from rmgn.data.dress import dress
from rmgn.data.generated import GeneratedPeople
from rmgn.data.video import check_people
from rmgn.data.workers import begin_worker
from rmgn.trials import DataError, Groups, Question, Setting, Trial, join, name_of, span


class GeneratedTrials:
    """Layers of rmgn.data.generate, each sample dressed once and for all, whatever the batch.

    Paired: the person in b puts on a, and the other way round, with true flow. Unpaired: the person in a
    and in b puts on a and b of the sample before (the first those of the last). Looks are of the
    evaluation split, which training never sees.
    """

    def __init__(
        self,
        folder: Path,
        settings: Sequence[Setting] = ("paired", "unpaired"),
        *,
        batch: int = 4,
        assets: Path | None = None,
        first: int | None = None,
        last: int | None = None,
        workers: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        check_people(folder)
        self.name = name_of(folder)
        self._people = _Dressed(folder, assets, size)
        self._range = span(len(self._people), first, last)
        if "unpaired" in settings and len(self._range) < 2:
            raise DataError(f"{folder}: unpaired try-ons need two samples, there is one")
        self._batch, self._workers = batch, workers
        stems = [self._people.people.files[n].stem for n in self._range]
        pairs = zip(stems, [stems[-1], *stems[:-1]], strict=True)
        asked: dict[Setting, list[Question]] = {
            "paired": [question for stem in stems for question in _ask_paired(stem)],
            "unpaired": [question for pair in pairs for question in _ask_unpaired(*pair)],
        }
        self.questions = {setting: asked[setting] for setting in settings}

    def __len__(self) -> int:
        return sum(map(len, self.questions.values()))

    def __iter__(self) -> Iterator[Trial]:
        loader: DataLoader[_Person] = DataLoader(
            Subset(self._people, self._range),
            batch_size=None,
            num_workers=self._workers,
            worker_init_fn=begin_worker,
        )
        waiting: dict[Setting, list[Trial]] = {setting: [] for setting in self.questions}

        def add(trial: Trial, flush: bool = False) -> Iterator[Trial]:
            queue = waiting[trial.setting]
            queue.append(trial)
            if flush or (len(queue) + 1) * 2 > self._batch:  # a sample gives two
                yield join(queue)
                queue.clear()

        opening: _Person | None = None
        before: _Person | None = None
        person: _Person
        for person in loader:
            if "paired" in self.questions:
                yield from add(_paired(person))
            if "unpaired" in self.questions and before is not None:
                yield from add(_unpaired(person, before))
            opening, before = opening or person, person
        if "unpaired" in self.questions and opening is not None and before is not None:
            yield from add(_unpaired(opening, before), flush=True)
        if waiting.get("paired"):
            yield join(waiting["paired"])


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

    def __init__(self, folder: Path, assets: Path | None, size: tuple[int, int] | None) -> None:
        self.people = GeneratedPeople(folder, flip=False, assets=assets, split="eval", size=size)

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


def _ask_paired(p: str) -> tuple[Question, Question]:
    return Question(f"{p}_a", p, f"{p}_b", f"{p}_a"), Question(f"{p}_b", p, f"{p}_a", f"{p}_b")


def _ask_unpaired(p: str, other: str) -> tuple[Question, Question]:
    a, b = (Question(f"{p}_{k}_{other}_{k}", p, f"{p}_{k}", f"{other}_{k}") for k in "ab")
    return a, b


def _paired(p: _Person) -> Trial:
    return Trial(
        setting="paired",
        questions=_ask_paired(p.stem),
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
        questions=_ask_unpaired(p.stem, other.stem),
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
