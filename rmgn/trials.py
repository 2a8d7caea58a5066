"""What an evaluation asks: persons, garments and, where they are known, the answers.

A paired trial dresses a person in a garment that a photo of the same person shows; an unpaired one in a
garment from another sample, and has no answer.
"""

from __future__ import annotations

import itertools
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from engines.program import InputError
from rmgn.data.datasets import SIZE, FolderDataset, recognise
from rmgn.data.dress import dress
from rmgn.data.generated import GeneratedPeople
from rmgn.data.layout import Entry
from rmgn.data.people import layers
from rmgn.data.sample import Sample, collate

Setting = Literal["paired", "unpaired"]
Groups = dict[str, str]  # an attribute of the person or garment -> its value


class DataError(InputError):
    """The data cannot be evaluated on; the message says what is wrong, where, and what to do."""


class Question(NamedTuple):
    """What one trial is called and shows, known before any picture is read."""

    name: str  # unique in its setting; the stem of a result's file
    subject: str  # who is asked; trials of one subject are not independent of each other
    person: str  # the person's picture
    garment: str  # the garment's


@dataclass(frozen=True)
class Trial:
    """A batch of B questions. Pictures [B, 3, H, W] RGB in [-1, 1], masks [B, 1, H, W] in [0, 1]."""

    setting: Setting
    questions: tuple[Question, ...]  # B
    groups: tuple[Groups, ...]  # B
    person: Tensor
    garment: Tensor
    mask: Tensor  # of the garment, 0 or 1
    truth: Tensor | None = None  # the person in the garment
    worn_mask: Tensor | None = None  # where the garment belongs; unpaired: where the old one is
    flow: Tensor | None = None  # [B, 2, H, W] true sampling grid, see kernels.flow_warp
    visible: Tensor | None = None  # where `flow` is true, 0 or 1

    @property
    def names(self) -> tuple[str, ...]:
        """Of the questions."""
        return tuple(question.name for question in self.questions)

    def to(self, device: torch.device) -> Trial:
        """The trial on a device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


class Trials(Protocol):
    """A data set as trials, in a fixed order."""

    name: str
    questions: dict[Setting, list[Question]]  # all that will be asked, not always in the order of the trials

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
    for name in ("questions", "groups"):
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
        *,
        batch: int = 4,
        assets: Path | None = None,
        first: int | None = None,
        last: int | None = None,
        workers: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.name = layers.name
        self._people = _Dressed(layers, assets, size)
        self._range = _part(len(self._people), first, last)
        if "unpaired" in settings and len(self._range) < 2:
            raise DataError(f"{layers}: unpaired try-ons need two samples, there is one")
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
            Subset(self._people, self._range), batch_size=None, num_workers=self._workers
        )
        waiting: dict[Setting, list[Trial]] = {setting: [] for setting in self.questions}

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
            if "paired" in self.questions:
                yield from add(_paired(person))
            if "unpaired" in self.questions and before is not None:
                yield from add(_unpaired(person, before))
            opening, before = opening or person, person
        if "unpaired" in self.questions and opening is not None and before is not None:
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
        *,
        batch: int = 4,
        pairs: Path | None = None,
        first: int | None = None,
        last: int | None = None,
        workers: int = 0,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.name = folder.name
        self.questions: dict[Setting, list[Question]] = {}
        self._batch, self._workers = batch, workers
        self._parts: dict[Setting, Subset[Sample]] = {}
        if pairs is not None and "unpaired" not in settings:
            raise DataError(f"{pairs} is a list of unpaired try-ons, which are not asked for (--setting)")
        layout = recognise(folder)
        for setting in settings:
            listed = layout.pairs("test", pairs if pairs is not None and setting == "unpaired" else setting)
            # Another garment a sample brings the person in it, where the set shows that.
            exchanged = setting == "paired" and all(entry.other for entry in listed.entries)
            found = FolderDataset(layout, listed, size or SIZE, others=int(exchanged))
            part = _part(len(found), first, last)
            entries = [found.entries[n] for n in part]
            asked = [_ask(entry, setting, layout.subject(entry.person_name), exchanged) for entry in entries]
            _require_names(folder, asked)
            _require_files(folder, entries, exchanged)
            self.questions[setting] = asked
            self._parts[setting] = Subset(found, part)

    def __len__(self) -> int:
        return sum(map(len, self.questions.values()))

    def __iter__(self) -> Iterator[Trial]:
        for setting, part in self._parts.items():
            loader: DataLoader[Sample] = DataLoader(
                part, self._batch, num_workers=self._workers, collate_fn=collate
            )
            asked = iter(self.questions[setting])
            sample: Sample
            for sample in loader:
                questions = tuple(itertools.islice(asked, len(sample.person_name)))
                yield _photographed(sample, setting, questions)


def _ask(entry: Entry, setting: Setting, subject: str, exchanged: bool) -> Question:
    person, garment = Path(entry.person_name).stem, Path(entry.garment_name).stem
    return Question(
        name=person if setting == "paired" else f"{person}_{garment}",
        subject=subject,
        person=entry.other.person_name if exchanged and entry.other else entry.person_name,
        garment=entry.garment_name,
    )


def _require_names(folder: Path, questions: Sequence[Question]) -> None:
    """Refuse two trials of one name: one's result would be written over the other's, and read for both."""
    found: dict[str, Question] = {}
    for question in questions:
        other = found.setdefault(question.name, question)
        if other is not question:
            raise DataError(
                f"{folder}: {other.person} in {other.garment} and {question.person} in {question.garment} "
                f"are both called {question.name}: rename a picture, or ask for one of the two alone"
            )


def _require_files(folder: Path, entries: Sequence[Entry], exchanged: bool) -> None:
    """Say now, not hours later, that a file of a trial is not there."""
    files: dict[Path, None] = {}  # in order, each once
    for entry in entries:
        files |= dict.fromkeys(value for value in vars(entry).values() if isinstance(value, Path))
        if exchanged and entry.other:
            files |= dict.fromkeys((entry.other.person, entry.other.garment, entry.other.mask))
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]}: no such file{more}; python -m rmgn.data.check {folder} lists what is wrong"
        )


def _photographed(s: Sample, setting: Setting, questions: tuple[Question, ...]) -> Trial:
    paired = setting == "paired"
    return Trial(
        setting=setting,
        questions=questions,
        groups=tuple({} for _ in questions),
        person=s.person if not paired or s.other_persons is None else s.other_persons[:, 0],
        garment=s.garment,
        mask=s.garment_mask,
        truth=s.person if paired else None,
        worn_mask=s.worn_mask,
        flow=s.flow if paired else None,
        visible=s.visible if paired else None,
    )


def open_trials(
    folder: Path,
    settings: Sequence[Setting] | None = None,
    *,
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
    if layers.present(folder):
        if pairs is not None:
            raise DataError(f"{folder}: generated layers take no list of pairs")
        known = settings or ("paired", "unpaired")
        return GeneratedTrials(
            folder, known, batch=batch, assets=assets, first=first, last=last, workers=workers, size=size
        )
    known = settings or ("unpaired",)
    return FolderTrials(
        folder, known, batch=batch, pairs=pairs, first=first, last=last, workers=workers, size=size
    )


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
