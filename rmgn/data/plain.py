"""Own pictures in three folders, and the generated set as pictures.

person/  garment/  garment_mask/ (or mask/)  pairs.txt    own pictures; the list may be left out
and parse/  flow/  keypoints/  bodyparts/                 generated: 000000_a.jpg and 000000_b.jpg are one
                                                          person in two garments
"""

from __future__ import annotations

from pathlib import Path

from engines.pair_lists import read_pairs
from rmgn.data import labels
from rmgn.data.layout import Entry, Layout, Names, NoSuchPairsError, needed, pictures, stem


class Plain(Layout):
    """Persons and garments without any truth. Without a list persons get the garments in turn."""

    name = "plain pictures"
    known_by = "person/ and garment/"
    labels = labels.VITON

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return path if (path / "person").is_dir() and (path / "garment").is_dir() else None

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def entry(self, split: str, person: str, garment: str) -> Entry:  # noqa: ARG002
        mask = needed(self.home, ["garment_mask", "mask"], garment, f"{stem(garment)}.png")
        return Entry(person, garment, self.home / "person" / person, self.home / "garment" / garment, mask)

    def paired(self, split: str) -> list[Names]:  # noqa: ARG002
        raise NoSuchPairsError(
            f"{self.home}: plain pictures do not tell who wears what; ask for unpaired samples"
        )

    def unpaired(self, split: str) -> list[Names]:  # noqa: ARG002
        if (self.home / "pairs.txt").is_file():
            return read_pairs(self.home / "pairs.txt")
        persons, garments = pictures(self.home / "person"), pictures(self.home / "garment")
        if not garments:
            raise ValueError(f"{self.home / 'garment'}: no pictures")
        return [(person, garments[index % len(garments)]) for index, person in enumerate(persons)]


class Generated(Layout):
    """`python -m rmgn.data.generate --as pictures`. Unpaired: the other garment of the same person."""

    name = "generated pictures"
    known_by = "person/, garment/, flow/ and keypoints/"
    worn = labels.GENERATED_GARMENT
    labels = labels.GENERATED

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return path if all((path / f).is_dir() for f in ("person", "garment", "flow", "keypoints")) else None

    def splits(self) -> tuple[str, ...]:
        return ("train", "test")  # the folder does not tell: it is what its maker calls it

    def entry(self, split: str, person: str, garment: str) -> Entry:  # noqa: ARG002
        return self._entry(stem(person), stem(garment), with_other=True)

    def _entry(self, person: str, garment: str, with_other: bool) -> Entry:
        number, twin = person.rpartition("_")[0], _twin(person)
        return Entry(
            f"{person}.jpg",
            f"{garment}.jpg",
            person=self.home / "person" / f"{person}.jpg",
            garment=self.home / "garment" / f"{garment}.jpg",
            mask=self.home / "garment_mask" / f"{garment}.png",
            parse=self.home / "parse" / f"{person}.png",
            keypoints=self.home / "keypoints" / f"{number}.json",
            dense=self.home / "bodyparts" / f"{number}.png",
            flow=self.home / "flow" / f"{person}.npz" if garment == person else None,
            other=self._entry(twin, twin, with_other=False) if with_other else None,
        )

    def subject(self, person: str) -> str:
        return stem(person).rpartition("_")[0]

    def paired(self, split: str) -> list[Names]:  # noqa: ARG002
        return [(name, name) for name in pictures(self.home / "person")]

    def unpaired(self, split: str) -> list[Names]:
        return [(person, f"{_twin(stem(person))}.jpg") for person, _ in self.paired(split)]


def _twin(name: str) -> str:
    """000000_a and 000000_b are the same person."""
    return f"{name[:-1]}{'b' if name[-1] == 'a' else 'a'}"
