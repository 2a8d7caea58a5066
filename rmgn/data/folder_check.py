"""What is missing or broken in a data set's folder, by file: `rmgn.data.check` for all but generated data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmgn.data import read
from rmgn.data.labels import UNKNOWN
from rmgn.data.layout import Entry, Layout, NoSuchPairsError
from rmgn.data.sample import Label

SHAPE = 4 / 3  # height / width of every picture
_KINDS = ("paired", "unpaired")
_OPTIONAL = {"parse": "parse maps", "keypoints": "key points", "dense": "dense pose"}


@dataclass
class Report:
    """What a check found: one line a problem, and one line a split that says what is there."""

    problems: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)


def check_folder(layout: Layout, progress: Callable[[list[Entry]], Iterator[Entry]] = iter) -> Report:
    """Look at every file of every pair of every split once."""
    report = Report()
    seen: set[Path] = set()
    if not layout.splits():
        report.problems.append(f"{layout.home}: neither train nor test pairs")
    for split in layout.splits():
        entries: dict[tuple[str, str], Entry] = {}
        counts, lacking = [], []
        for kind in _KINDS:
            try:
                found = layout.pairs(split, kind).entries
            except NoSuchPairsError as error:
                lacking.append(str(error))
                continue
            except ValueError as error:
                report.problems.append(str(error))
                continue
            entries.update({(entry.person_name, entry.garment_name): entry for entry in found})
            counts.append(f"{len(found)} {kind}")
        if len(lacking) == len(_KINDS):
            report.problems.extend(lacking)
        for entry in progress(list(entries.values())):
            report.problems.extend(_entry_problems(layout, entry, seen))
        has = {name: any(getattr(e, part) for e in entries.values()) for part, name in _OPTIONAL.items()}
        maps = [name if there else f"no {name}" for name, there in has.items()]
        report.summary.append(f"{layout.name}, {split}: {', '.join(counts) or 'no pairs'}; {', '.join(maps)}")
    report.problems = list(dict.fromkeys(report.problems))
    return report


def _entry_problems(layout: Layout, entry: Entry, seen: set[Path]) -> Iterator[str]:
    """Problems of a pair's files, those left out that were looked at before."""
    tests: list[tuple[Path | None, Callable[[Path], Iterator[str]]]] = [
        (entry.person, _picture),
        (entry.garment, _picture),
        (entry.mask, _mask),
        (entry.parse, lambda path: _parse(path, layout)),
        (entry.keypoints, lambda path: _keypoints(path, layout, entry.person)),
        (entry.dense, _dense),
    ]
    for path, test in tests:
        if path is None or path in seen:
            continue
        seen.add(path)
        if not path.parent.is_dir():
            if path.parent not in seen:
                seen.add(path.parent)
                yield f"{path.parent}: no such folder"
            continue
        try:
            yield from test(path)
        except ValueError as error:
            yield str(error)


def _shape(path: Path, size: tuple[int, ...]) -> Iterator[str]:
    if abs(size[0] / size[1] / SHAPE - 1) > 0.02:
        yield f"{path}: {size[0]}x{size[1]} is not of the shape 4:3 (height to width)"


def _picture(path: Path) -> Iterator[str]:
    yield from _shape(path, read.picture(path).shape)


def _mask(path: Path) -> Iterator[str]:
    level = read.mask_levels(path)
    yield from _shape(path, level.shape)
    between = ((level > 40) & (level < 215)).mean()
    if between > 0.05:
        yield f"{path}: {between:.0%} of it is neither black nor white"
    share = (level >= 128).mean()
    if not 0.02 < share < 0.95:
        yield f"{path}: {share:.1%} of it is garment"
    elif (level[[0, -1]][:, [0, -1]] >= 128).all():
        yield f"{path}: all corners are garment: black and white exchanged?"


def _parse(path: Path, layout: Layout) -> Iterator[str]:
    numbers = read.numbers(path)
    yield from _shape(path, numbers.shape)
    labels = layout.labels[numbers]
    unknown = labels == UNKNOWN
    if unknown.any():
        strange = ", ".join(str(n) for n in np.unique(numbers[unknown])[:5])
        yield f"{path}: labels that {layout.name} does not have: {strange} ({unknown.mean():.1%} of it)"
    if (labels == Label.UPPER).mean() < 0.005:
        yield f"{path}: hardly any upper clothes"


def _keypoints(path: Path, layout: Layout, person: Path) -> Iterator[str]:
    points = read.points(path)
    there = points[points[:, 2] > 0]
    if not len(there):
        yield f"{path}: no key point seen"
        return
    try:
        height, width = layout.point_size or read.picture_size(person)
    except ValueError:
        return  # said of the person already
    outside = (there[:, 0] > width) | (there[:, 1] > height)
    if outside.any() and not any(_shape(person, (height, width))):
        yield f"{path}: {outside.sum()} key points outside of {height}x{width}"


def _dense(path: Path) -> Iterator[str]:
    parts = read.dense_parts(path)
    yield from _shape(path, parts.shape)
    if not parts.any():
        yield f"{path}: nobody in it"
