"""VITON-HD.

    {train,test}/{image,cloth,cloth-mask,image-parse-v3,openpose_json,image-densepose}/
    train_pairs.txt, test_pairs.txt       a person and a garment to put on

The person 00006_00.jpg wears the garment of its own name. The first release's names (image-parse and
openpose-json) are understood as well.
"""

from __future__ import annotations

from pathlib import Path

from engines.pair_lists import read_pairs
from rmgn.data import labels
from rmgn.data.layout import Entry, Layout, Names, expected, first_with, needed, pictures, stem

_HOMES = ("zalando-hd-resized", "VITON-HD")


class VitonHD(Layout):
    """VITON-HD's layout."""

    name = "VITON-HD"
    known_by = "train/cloth/ or test/cloth/"
    labels = labels.LIP

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return first_with(path, _HOMES, "train/cloth", "test/cloth")

    def splits(self) -> tuple[str, ...]:
        return tuple(s for s in ("train", "test") if (self.home / s / "cloth").is_dir())

    def entry(self, split: str, person: str, garment: str) -> Entry:
        folder, name = self.home / split, stem(person)
        return Entry(
            person,
            garment,
            person=folder / "image" / person,
            garment=folder / "cloth" / garment,
            mask=needed(folder, ["cloth-mask"], garment, f"{stem(garment)}.png"),
            parse=expected(folder, ["image-parse-v3", "image-parse"], f"{name}.png"),
            keypoints=expected(folder, ["openpose_json", "openpose-json"], f"{name}_keypoints.json"),
            dense=expected(folder, ["image-densepose"], person, f"{name}.png"),
        )

    def paired(self, split: str) -> list[Names]:
        listed = self.home / f"{split}_pairs.txt"
        there = listed.is_file()
        persons = [p for p, _ in read_pairs(listed)] if there else pictures(self.home / split / "image")
        return [(person, person) for person in dict.fromkeys(persons)]  # a list may name each several times

    def unpaired(self, split: str) -> list[Names]:
        listed = self.home / f"{split}_pairs.txt"
        # In the training list both columns are the same.
        return read_pairs(listed) if split == "test" and listed.is_file() else super().unpaired(split)
