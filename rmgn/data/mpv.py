"""MPV (multi-pose virtual try-on).

    all_poseA_poseB_clothes.txt    person, the same person otherwise, garment, train or test; apart by tabs
    MPV_192_256/                   SC321E00D/SC321E00D-O11@13=person_half_front.jpg
    all_parsing/, all_person_clothes_keypoints/, all_densepose/    the same paths
    cloth_mask/                    the garments' paths, ending in _mask.png

The second release calls the list ..._0607.txt and the pictures all/. MPV itself has no garment masks: make
them and put them into cloth_mask/. Both persons of a line wear its garment. Front views alone are used, as
the paper does; its MPV-Sub is a further choice by a list (`subset`).
"""

from __future__ import annotations

from pathlib import Path

from engines.pair_lists import read_columns, read_pairs
from rmgn.data import labels
from rmgn.data.layout import (
    Entry,
    Layout,
    Names,
    expected,
    first_with,
    needed,
    stem,
)

_LISTS = ("all_poseA_poseB_clothes.txt", "all_poseA_poseB_clothes_0607.txt")
_PICTURES = ("MPV_192_256", "MPV_256_192", "all")
_KEYPOINTS = ("all_person_clothes_keypoints", "all_keypoints")
_UNPAIRED = "test_unpaired_images.txt"


class Mpv(Layout):
    """MPV's layout."""

    name = "MPV"
    known_by = _LISTS[0]
    labels = labels.LIP

    @classmethod
    def find(cls, path: Path) -> Path | None:
        return first_with(path, ("lip_mpv_dataset",), *_LISTS)

    def _rows(self) -> list[list[str]]:
        listed = next(self.home / name for name in _LISTS if (self.home / name).is_file())
        rows = read_columns(listed, 4)
        wrong = next((row for row in rows if row[3] not in ("train", "test")), None)
        if wrong:
            raise ValueError(f"{listed}: {' '.join(wrong)}: the last word is neither train nor test")
        return rows

    def splits(self) -> tuple[str, ...]:
        there = {row[3] for row in self._rows()}
        return tuple(s for s in ("train", "test") if s in there)

    def entry(self, split: str, person: str, garment: str) -> Entry:  # noqa: ARG002
        photos = next((self.home / f for f in _PICTURES if (self.home / f).is_dir()), self.home)
        name, cloth = stem(person), stem(garment)
        return Entry(
            person,
            garment,
            person=photos / person,
            garment=photos / garment,
            mask=needed(self.home, ["cloth_mask"], f"{cloth}_mask.png", f"{cloth}.png", f"{cloth}.jpg"),
            parse=expected(self.home, ["all_parsing"], f"{name}.png"),
            keypoints=expected(self.home, _KEYPOINTS, f"{name}_keypoints.json"),
            dense=expected(self.home, ["all_densepose"], f"{name}_IUV.png", f"{name}.png", f"{name}.npy"),
        )

    def subject(self, person: str) -> str:
        """Who is on a picture: its folder, which holds all views of one person in one garment."""
        return Path(person).parent.name or super().subject(person)

    def paired(self, split: str) -> list[Names]:
        worn: dict[str, str] = {}
        for row in self._rows():
            *persons, garment, part = row[:4]
            for person in persons:
                if part == split and "front" in person:
                    worn.setdefault(person, garment)
        return list(worn.items())

    def unpaired(self, split: str) -> list[Names]:
        listed = self.home / _UNPAIRED
        return read_pairs(listed) if split == "test" and listed.is_file() else super().unpaired(split)
