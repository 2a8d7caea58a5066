"""Trials of a folder of photos; a file that is missing is said before the first."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch.utils.data import DataLoader, Subset

from rmgn.data.datasets import SIZE, FolderDataset, recognise
from rmgn.data.layout import Entry
from rmgn.data.read import check_picture
from rmgn.data.sample import Sample, collate
from rmgn.data.video import check_people
from rmgn.data.workers import begin_worker
from rmgn.trials import DataError, Question, Setting, Trial, name_of, span

LONGEST_NAME = 220  # bytes of a trial's: files end at 255, and a report's have more in theirs


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
        self.name = name_of(folder)
        self.questions: dict[Setting, list[Question]] = {}
        self._batch, self._workers = batch, workers
        self._parts: dict[Setting, Subset[Sample]] = {}
        if pairs is not None and "unpaired" not in settings:
            raise DataError(f"{pairs} is a list of unpaired try-ons, which are not asked for (--setting)")
        check_people(folder)
        layout = recognise(folder)
        for setting in settings:
            listed = layout.pairs("test", pairs if pairs is not None and setting == "unpaired" else setting)
            # Another garment a sample brings the person in it, where the set shows that.
            exchanged = setting == "paired" and all(entry.other for entry in listed.entries)
            found = FolderDataset(layout, listed, size or SIZE, others=int(exchanged))
            part = span(len(found), first, last)
            entries = [found.entries[n] for n in part]
            asked = [_ask(entry, setting, layout.subject(entry.person_name), exchanged) for entry in entries]
            _require_names(folder, asked)
            _require_files(folder, entries, exchanged, found.size)
            self.questions[setting] = asked
            self._parts[setting] = Subset(found, part)

    def __len__(self) -> int:
        return sum(map(len, self.questions.values()))

    def __iter__(self) -> Iterator[Trial]:
        for setting, part in self._parts.items():
            loader: DataLoader[Sample] = DataLoader(
                part, self._batch, num_workers=self._workers, collate_fn=collate, worker_init_fn=begin_worker
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
    """Refuse two trials of one name: one's result would be written over the other's, and read for both.

    And names of which, with what is added to them, no file could be called.
    """
    found: dict[str, Question] = {}
    for question in questions:
        if len(os.fsencode(question.name)) > LONGEST_NAME:
            raise DataError(
                f"{folder}: the names of {question.person} and {question.garment} together are too long for "
                "a file of the report: rename one"
            )
        other = found.setdefault(question.name, question)
        if other is not question:
            raise DataError(
                f"{folder}: {other.person} in {other.garment} and {question.person} in {question.garment} "
                f"are both called {question.name}: rename a picture, or ask for one of the two alone"
            )


def _require_files(folder: Path, entries: Sequence[Entry], exchanged: bool, size: tuple[int, int]) -> None:
    """Say now, not hours later, that a file of a trial is not there, or a photo no picture of this shape."""
    files: dict[Path, None] = {}  # in order, each once
    for entry in entries:
        files |= dict.fromkeys(value for value in vars(entry).values() if isinstance(value, Path))
        if exchanged and entry.other:
            files |= dict.fromkeys((entry.other.person, entry.other.garment, entry.other.mask))
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", nor {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: no such file{more}; `rmgn check {folder}` lists what is wrong")
    worn = [entry.other if exchanged and entry.other else entry for entry in entries]
    for photo in dict.fromkeys(file for e in (*entries, *worn) for file in (e.person, e.garment, e.mask)):
        check_picture(photo, size)


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
