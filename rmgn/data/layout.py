"""What a published folder layout has to tell: where a pair's files lie. One subclass a layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from engines import picture_files
from engines.pair_lists import read_pairs
from rmgn.data.labels import Table

Names = tuple[str, str]  # person, garment


class NoSuchPairsError(ValueError):
    """This data set does not tell who wears what, or what to put on; nothing is broken."""


def known_pairs(listed: Path) -> list[Names]:
    """Pairs of a set's own list. Raises NoSuchPairsError where it has none, otherwise as `read_pairs`."""
    if not listed.is_file():
        raise NoSuchPairsError(f"{listed}: no such file")
    return read_pairs(listed)


@dataclass(frozen=True)
class Entry:
    """The files of one pair. What the data set does not have is None; a path may still lead to no file."""

    person_name: str
    garment_name: str
    person: Path
    garment: Path
    mask: Path
    parse: Path | None = None
    keypoints: Path | None = None
    dense: Path | None = None
    flow: Path | None = None
    other: Entry | None = None  # the same person in another garment


class Pairs(NamedTuple):
    """Pairs of a data set and whether the persons wear the garments."""

    entries: list[Entry]
    paired: bool


class Layout(ABC):
    """A folder in a published layout.

    home: where the layout begins, as `find` gave it.
    """

    name: ClassVar[str]
    known_by: ClassVar[str]  # what a folder of this layout contains, for messages
    labels: ClassVar[Table]
    worn: ClassVar[Table | None] = None  # what of the parse map is the garment, where it is not all UPPER
    point_size: ClassVar[tuple[int, int] | None] = None  # (height, width) of key points if not the picture's

    def __init__(self, home: Path) -> None:
        self.home = home

    @classmethod
    @abstractmethod
    def find(cls, path: Path) -> Path | None:
        """The folder that has this layout: `path` or one just below it; None if there is none."""

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Which of "train" and "test" are there."""

    @abstractmethod
    def entry(self, split: str, person: str, garment: str) -> Entry:
        """Where the files of one pair lie."""

    def subject(self, person: str) -> str:
        """Who is on a person's picture: its name without suffix, where the set does not tell more."""
        return Path(person).stem

    @abstractmethod
    def paired(self, split: str) -> list[Names]:
        """Every person with the garment it wears; `NoSuchPairsError` where that is not known."""

    def unpaired(self, split: str) -> list[Names]:
        """Every person with a garment to put on: the set's own list, or else garments passed around."""
        return exchange(self.paired(split))

    def pairs(self, split: str, pairs: str | Path) -> Pairs:
        """The pairs of a split: "paired", "unpaired", or those of a list (person and garment a line)."""
        if split not in self.splits():
            has = " and ".join(self.splits()) or "nothing"
            raise ValueError(f"{self.home}: {self.name} has {has} here, no {split}")
        if pairs in ("paired", "unpaired"):
            names = self.paired(split) if pairs == "paired" else self.unpaired(split)
            paired = pairs == "paired"
        else:
            names = read_pairs(Path(pairs))
            paired = set(names) <= self._worn(split)
        if not names:
            raise ValueError(f"{self.home}: no {pairs} pairs of {split} in this {self.name} folder")
        return Pairs([self.entry(split, *pair) for pair in names], paired)

    def _worn(self, split: str) -> set[Names]:
        try:
            return set(self.paired(split))
        except NoSuchPairsError:
            return set()


def exchange(pairs: Sequence[Names]) -> list[Names]:
    """Give every person the garment of the person half the list away, or the next one that differs."""
    count = len(pairs)
    exchanged = []
    for index, (person, own) in enumerate(pairs):
        order = (pairs[(index + count // 2 + step) % count][1] for step in range(count))
        other = next((garment for garment in order if garment != own), None)
        if other is None:
            raise NoSuchPairsError("unpaired samples need at least two garments")
        exchanged.append((person, other))
    return exchanged


def expected(home: Path, folders: Iterable[str], *names: str) -> Path | None:
    """Where a file should be: in the first of `folders` that exists, by the first of `names` that does, its
    suffix in any case.

    Without any of the folders None; without any of the names the path of the first.
    """
    folder = next((home / f for f in folders if (home / f).is_dir()), None)
    if folder is None:
        return None
    found = (picture_files.like(folder / name) for name in names)
    return next(filter(None, found), folder / names[0])


def needed(home: Path, folders: Sequence[str], *names: str) -> Path:
    """As `expected`, for what every set must have: without the folder, the path in the first of them."""
    return expected(home, folders, *names) or home / folders[0] / names[0]


def pictures(folder: Path) -> list[str]:
    """Names of the pictures in a folder, sorted; none if it is not there. The log tells what is left out."""
    return [path.name for path in picture_files.listing(folder)] if folder.is_dir() else []


def stem(name: str) -> str:
    """A name without its suffix; its folders stay."""
    return name.rpartition(".")[0] or name


def first_with(path: Path, below: Iterable[str], *marks: str) -> Path | None:
    """`path`, or the first of the folders `below` it, that contains one of `marks`."""
    for home in (path, *(path / name for name in below)):
        if any((home / mark).exists() for mark in marks):
            return home
    return None
