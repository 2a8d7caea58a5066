"""What an evaluation asks: persons, garments and, where they are known, the answers.

A paired trial dresses a person in a garment that a photo of the same person shows; an unpaired one in a
garment from another sample, and has no answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from engines.program import InputError

Setting = Literal["paired", "unpaired"]
Groups = dict[str, str]  # an attribute of the person or garment -> its value


class DataError(InputError):
    """The data cannot be evaluated on; the message says what is wrong, where, and what to do."""


def name_of(folder: Path) -> str:
    """A folder's own name, also of `.` and `..`."""
    return folder.name if folder.name not in ("", "..") else folder.resolve().name


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


def span(count: int, first: int | None, last: int | None) -> range:
    """Numbers of the `first` or the `last` so many of `count`; all where neither is asked for."""
    begin = 0 if last is None else max(0, count - last)
    return range(begin, count if first is None else min(count, first))
