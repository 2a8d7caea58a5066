"""Scores of contenders, gathered trial by trial."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor

from rmgn import metrics
from rmgn.contenders import Answer, Contender
from rmgn.data.files import quantise
from rmgn.metrics import PatchSimilarity, SetComparison, SetFeatures
from rmgn.trials import DataError, Groups, Question, Setting, Trial


class Measure(NamedTuple):
    """How a measure is printed."""

    title: str
    better: str  # "up" or "down"
    digits: int
    factor: float = 1.0

    def text(self, value: float | None, sign: str = "-") -> str:
        """A value as tables show it; sign: as in a format, "+" to show either."""
        return "–" if value is None else f"{value * self.factor:{sign}.{self.digits}f}"

    def interval(self, mean: Mean | None, sign: str = "-") -> str:
        """A mean and half its interval as tables show them."""
        if mean is None:
            return "–"
        half = "" if mean.ci95 is None else f" ± {self.text(mean.ci95)}"
        return self.text(mean.mean, sign) + half


MEASURES = {
    "SSIM": Measure("SSIM ↑", "up", 4),
    "PSNR": Measure("PSNR, dB ↑", "up", 2),
    "LPIPS": Measure("LPIPS ↓", "down", 4),
    "LPIPS-lite0": Measure("LPIPS-lite0 ↓", "down", 4),
    "EPE": Measure("flow error, px ↓", "down", 2),
    "FID": Measure("FID ↓", "down", 2),
    "KID": Measure("KID ×10³ ↓", "down", 2, 1000),
    "FID-lite0": Measure("FID-lite0 ↓", "down", 2),
    "KID-lite0": Measure("KID-lite0 ×10³ ↓", "down", 2, 1000),
}
# InceptionV3 has 2048 features: with far fewer pictures FID's covariances are of low rank. VITON's test list,
# on which the paper measures, has 2032.
FID_PICTURES = 2000
KID_PICTURES = 50  # below, KID too says more of these people than of the try-ons


@dataclass(frozen=True)
class Mean:
    """A mean with half its 95% confidence interval, over `subjects` independent people; one has none."""

    mean: float
    ci95: float | None
    subjects: int


def mean_of(values: Sequence[float], subjects: Sequence[str]) -> Mean | None:
    """Mean over subjects of the mean of each; values that are not numbers are left out."""
    own: dict[str, list[float]] = defaultdict(list)
    for value, subject in zip(values, subjects, strict=True):
        if not math.isnan(value):
            own[subject].append(value)
    if not own:
        return None
    means = np.array([np.mean(v) for v in own.values()])
    return Mean(float(means.mean()), half_interval(means), len(means))


def half_interval(values: npt.ArrayLike) -> float | None:
    """Half the 95% confidence interval of the mean of independent values, t·s/√n; None of one alone."""
    count = np.size(values)
    return float(stats.t.ppf(0.975, count - 1) * stats.sem(values)) if count > 1 else None


@dataclass
class Row:
    """One trial's measures: none where it has no answer."""

    setting: Setting
    question: Question
    groups: Groups
    values: dict[str, float]


@dataclass
class Scores:
    """One contender's results."""

    name: str
    source: str
    sha256: str | None = None  # see `Contender`
    rows: list[Row] = field(default_factory=list)
    sets: dict[str, float] = field(default_factory=dict)  # FID, KID, of unpaired trials

    def measures(self) -> list[str]:
        """What was measured, in the order of MEASURES."""
        known = {name for row in self.rows for name in row.values} | set(self.sets)
        return [name for name in MEASURES if name in known]

    def mean(self, measure: str, axis: str | None = None, group: str | None = None) -> Mean | None:
        """Over all trials that were measured, or those of one group."""
        rows = [r for r in self.rows if measure in r.values and (axis is None or r.groups.get(axis) == group)]
        return mean_of([r.values[measure] for r in rows], [r.question.subject for r in rows])

    def difference(self, first: Scores, measure: str) -> Mean | None:
        """How much larger a measure is than `first` has it, trial by trial on those of both, as `mean_of`.

        People who are hard for one contender are hard for all: what they add to either's interval is not in
        that of the difference.
        """
        theirs = {r.question.name: r.values[measure] for r in first.rows if measure in r.values}
        rows = [r for r in self.rows if measure in r.values and r.question.name in theirs]
        values = [r.values[measure] - theirs[r.question.name] for r in rows]
        return mean_of(values, [r.question.subject for r in rows])

    def groups(self) -> dict[str, list[str]]:
        """Attributes and the values that occur among the trials that were measured."""
        found: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            for axis, group in row.groups.items() if row.values else ():
                found[axis].add(group)
        return {axis: sorted(values, key=_group_order) for axis, values in found.items()}

    def to_json(self, first: Scores) -> dict[str, Any]:
        """All of it as JSON values. first: the contender that others are compared with."""

        def means(mean: Callable[[str], Mean | None]) -> dict[str, Any]:
            return {m: asdict(found) for m in self.measures() if (found := mean(m)) is not None}

        return {
            "name": self.name,
            "source": self.source,
            "sha256": self.sha256,
            "paired": means(self.mean),
            "difference": {} if self is first else means(partial(self.difference, first)),
            "unpaired": self.sets,
            "groups": {
                axis: {group: means(partial(self.mean, axis=axis, group=group)) for group in values}
                for axis, values in self.groups().items()
            },
            "pictures": len(self.rows),
            "trials": self.trials(),
        }

    def trials(self) -> list[dict[str, Any]]:
        """Each trial's setting, question and measures."""
        return [
            {"setting": r.setting, **r.question._asdict(), **{k: _finite(v) for k, v in r.values.items()}}
            for r in self.rows
        ]


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


_ORDER = ("light", "intermediate", "tan", "brown", "dark", "slim", "average", "heavy")


def _group_order(group: str) -> tuple[int, str]:
    return (_ORDER.index(group) if group in _ORDER else len(_ORDER), group)


class Scorer:
    """Measures all contenders on the same trials."""

    def __init__(self, rivals: Iterable[Contender], patches: PatchSimilarity, features: SetFeatures) -> None:
        self.scores = [Scores(rival.name, rival.source, rival.sha256) for rival in rivals]
        self.patches, self.features = patches, features
        self.sets = [SetComparison(features.width) for _ in self.scores]
        self._photos: set[str] = set()  # persons' pictures that are among the real ones

    def add(self, trial: Trial, answers: Sequence[Answer]) -> list[list[dict[str, float]]]:
        """Take the answers of all contenders, in order. Returns each one's measures, trial by trial.

        Raises DataError for an answer that is not finite, as of half precision that overflows: left out of
        means it would make a contender better.
        """
        new = self._new(trial) if trial.setting == "unpaired" else []
        real = self.features(quantise(trial.person[new])) if new else None
        truths = None if trial.truth is None else quantise(trial.truth)
        wanted = [] if truths is None else self.patches.features(truths)
        measured = []
        for scores, answer in zip(self.scores, answers, strict=True):
            _require_finite(scores.name, trial, answer)
        for scores, collected, answer in zip(self.scores, self.sets, answers, strict=True):
            pictures = quantise(answer.tryon)
            if real is not None:
                collected.add(real, real=True)
            if trial.setting == "unpaired":
                collected.add(self.features(pictures), real=False)
            values = self._values(trial, answer, pictures, truths, wanted)
            rows = zip(trial.questions, trial.groups, values, strict=True)
            scores.rows += [Row(trial.setting, *row) for row in rows]
            measured.append(values)
        return measured

    def _new(self, trial: Trial) -> list[int]:
        """Which persons' pictures were in no trial before.

        A picture that is several times among the real ones would be taken for as many that are all alike,
        and KID, which leaves out a picture's likeness with itself, would be too high.
        """
        new = []
        for n, question in enumerate(trial.questions):
            if question.person not in self._photos:
                self._photos.add(question.person)
                new.append(n)
        return new

    def _values(
        self, trial: Trial, answer: Answer, pictures: Tensor, truths: Tensor | None, wanted: list[Tensor]
    ) -> list[dict[str, float]]:
        if truths is None:
            return [{} for _ in trial.names]
        found = {
            "SSIM": metrics.ssim(pictures, truths),
            "PSNR": metrics.psnr(pictures, truths),
            self.patches.name: self.patches.distance(self.patches.features(pictures), wanted),
        }
        if answer.flow is not None and trial.flow is not None and trial.visible is not None:
            found["EPE"] = metrics.endpoint_error(answer.flow, trial.flow, trial.visible)
        table = torch.stack([v.cpu() for v in found.values()], dim=1).tolist()
        return [dict(zip(found, row, strict=True)) for row in table]

    def finish(self) -> list[Scores]:
        """Compute what needs all trials."""
        for scores, collected in zip(self.scores, self.sets, strict=True):
            distances = collected.compute()
            if distances is not None:
                suffix = self.features.suffix
                scores.sets = {f"FID{suffix}": distances.fid, f"KID{suffix}": distances.kid}
        return self.scores


def _require_finite(name: str, trial: Trial, answer: Answer) -> None:
    maps = {"a picture": answer.tryon.isfinite()}
    if answer.flow is not None and trial.visible is not None:
        maps["a flow"] = answer.flow.isfinite() | (trial.visible == 0)
    for what, finite in maps.items():
        broken = ~finite.flatten(1).all(dim=1)
        if broken.any():
            asked = trial.names[int(broken.nonzero()[0])]
            raise DataError(f"{name} answers {asked} with {what} that is not finite: it cannot be measured")


def compared_pictures(scores: Sequence[Scores]) -> int:
    """Pictures in the smaller of the two sets that FID and KID compare, try-ons and photos."""
    asked = [row.question for row in scores[0].rows if row.setting == "unpaired"]
    return min(len(asked), len({question.person for question in asked}))


def value_of(s: Scores, measure: str) -> float | None:
    """A measure over all that it was measured on; None where it was not."""
    if measure in s.sets:
        return s.sets[measure]
    found = s.mean(measure)
    return None if found is None else found.mean


def text_of(s: Scores, measure: str) -> str:
    """A measure as tables show it, with its interval where it is a mean over people."""
    how = MEASURES[measure]
    return how.text(s.sets[measure]) if measure in s.sets else how.interval(s.mean(measure))
