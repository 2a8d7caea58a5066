"""DressCode, upper body.

    upper_body/{images,label_maps,keypoints,dense}/     048392_0.jpg person, _1.jpg garment, _4.png parse,
                                                        _2.json key points at 384x512, _5.png body parts
    upper_body/{train_pairs,test_pairs_paired,test_pairs_unpaired}.txt

Garment masks, which others added later, are named as the garments: masks/, cloth_mask/ (PNG), edge/ (JPEG).
"""

from __future__ import annotations

from pathlib import Path

from rmgn.data import labels
from rmgn.data.layout import Entry, Layout, Names, expected, known_pairs, needed, stem

_MASKS = ("masks", "cloth_mask", "edge")


class DressCode(Layout):
    """DressCode's layout, its upper-body part."""

    name = "DressCode (upper body)"
    known_by = "upper_body/images/"
    labels = labels.ATR
    point_size = (512, 384)

    @classmethod
    def find(cls, path: Path) -> Path | None:
        if (path / "upper_body" / "images").is_dir():
            return path / "upper_body"
        return path if path.name == "upper_body" and (path / "images").is_dir() else None

    def splits(self) -> tuple[str, ...]:
        return tuple(s for s in ("train", "test") if any(self.home.glob(f"{s}_pairs*.txt")))

    def entry(self, split: str, person: str, garment: str) -> Entry:  # noqa: ARG002
        number = stem(person).removesuffix("_0")
        return Entry(
            person,
            garment,
            person=self.home / "images" / person,
            garment=self.home / "images" / garment,
            mask=needed(self.home, _MASKS, f"{stem(garment)}.png", garment),
            parse=expected(self.home, ["label_maps"], f"{number}_4.png"),
            keypoints=expected(self.home, ["keypoints"], f"{number}_2.json"),
            dense=expected(self.home, ["dense"], f"{number}_5.png"),
        )

    def paired(self, split: str) -> list[Names]:
        return known_pairs(self.home / ("train_pairs.txt" if split == "train" else "test_pairs_paired.txt"))

    def unpaired(self, split: str) -> list[Names]:
        if split == "train":
            return super().unpaired(split)
        return known_pairs(self.home / "test_pairs_unpaired.txt")
