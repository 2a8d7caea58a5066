"""VITON as PF-AFN arranged it (ACGPN, FS-VTON and DM-VTON use the same), and the RMGN release's test set.

    VITON_traindata/train_{img,color,edge,label,pose,densepose}/    000003_0.jpg wears 000003_1.jpg
    VITON_test/test_{img,clothes or color,edge}/  test_pairs.txt    garments to put on

A `train_pairs.txt` or `test_pairs_same.txt`, where there is one, says who wears what; otherwise names do.
"""

from __future__ import annotations

from pathlib import Path

from engines.pair_lists import read_pairs
from rmgn.data import labels
from rmgn.data.layout import (
    Entry,
    Layout,
    Names,
    NoSuchPairsError,
    expected,
    first_with,
    needed,
    pictures,
    stem,
)

_HOMES = ("VITON_traindata", "VITON_test", "dataset")


class Viton(Layout):
    """PF-AFN's layout; its home holds both splits or the folders of both."""

    name = "VITON"
    known_by = "train_img/ or test_img/"
    labels = labels.VITON

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return path if first_with(path, _HOMES, "train_img", "test_img") else None

    def _folder(self, split: str) -> Path:
        return first_with(self.home, _HOMES, f"{split}_img") or self.home

    def splits(self) -> tuple[str, ...]:
        return tuple(s for s in ("train", "test") if (self._folder(s) / f"{s}_img").is_dir())

    def entry(self, split: str, person: str, garment: str) -> Entry:
        folder, name = self._folder(split), stem(person)
        return Entry(
            person,
            garment,
            person=folder / f"{split}_img" / person,
            garment=needed(folder, [f"{split}_color", f"{split}_clothes"], garment),
            mask=needed(folder, [f"{split}_edge"], garment, f"{stem(garment)}.png"),
            parse=expected(folder, [f"{split}_label"], f"{name}.png", f"{name}.jpg"),
            keypoints=expected(folder, [f"{split}_pose"], f"{name}_keypoints.json", f"{name}.json"),
            dense=expected(folder, [f"{split}_densepose"], f"{name}.npy", f"{name}.png"),
        )

    def paired(self, split: str) -> list[Names]:
        folder = self._folder(split)
        listed = folder / ("train_pairs.txt" if split == "train" else "test_pairs_same.txt")
        if listed.is_file():
            return read_pairs(listed)
        named = _by_name(folder / f"{split}_img")
        if split == "train":
            return named
        return _those_worn(self.home, [p for p in named if self.entry(split, *p).garment.is_file()])

    def unpaired(self, split: str) -> list[Names]:
        listed = _list(self._folder(split), "test_pairs.txt", "demo.txt") if split == "test" else None
        return read_pairs(listed) if listed else super().unpaired(split)


class RmgnRelease(Layout):
    """The test set that the released RMGN code reads: three folders and a list of pairs."""

    name = "the RMGN release's test set"
    known_by = "women_top_reference_person_test/"
    labels = labels.VITON
    _person, _garment = "women_top_reference_person_test", "women_top_cloth_test"
    _mask = "women_top_cloth_mask_test"
    _lists = ("test_pairs.txt", "demo.txt")

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return first_with(path, ("dataset",), cls._person)

    def splits(self) -> tuple[str, ...]:
        return ("test",)

    def entry(self, split: str, person: str, garment: str) -> Entry:  # noqa: ARG002
        return Entry(
            person,
            garment,
            person=self.home / self._person / person,
            garment=self.home / self._garment / garment,
            # The list may name garments with a folder; masks lie flat.
            mask=needed(self.home, [self._mask], Path(garment).name, f"{Path(stem(garment)).name}.png"),
        )

    def paired(self, split: str) -> list[Names]:  # noqa: ARG002
        named = _by_name(self.home / self._person)
        return _those_worn(self.home, [p for p in named if (self.home / self._garment / p[1]).is_file()])

    def unpaired(self, split: str) -> list[Names]:  # noqa: ARG002
        listed = _list(self.home, *self._lists)
        if listed is None:
            raise NoSuchPairsError(f"{self.home}: no list of pairs ({' or '.join(self._lists)})")
        return read_pairs(listed)


def _list(folder: Path, *names: str) -> Path | None:
    # PF-AFN's code has its list beside the folder, where other data sets may have theirs.
    places = (folder, folder.parent) if folder.name in _HOMES else (folder,)
    return next((p for place in places for name in names if (p := place / name).is_file()), None)


def _by_name(persons: Path) -> list[Names]:
    """000003_0.jpg wears 000003_1.jpg; a person without the number wears the garment of the same name."""

    def worn(person: str) -> str:
        name = stem(person)
        return f"{name[:-2]}_1{person[len(name) :]}" if name.endswith("_0") else person

    return [(person, worn(person)) for person in pictures(persons)]


def _those_worn(home: Path, pairs: list[Names]) -> list[Names]:
    """A test set need not hold the garments that its persons wear."""
    if not pairs:
        raise NoSuchPairsError(
            f"{home}: the garments that the persons wear are not there; ask for unpaired samples"
        )
    return pairs
