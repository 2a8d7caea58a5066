"""Every picture of an evaluation as a file, for other programs: what was asked, and what was answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from rmgn.data.files import to_bgr
from rmgn.gallery import write_picture
from rmgn.trials import DataError, Trial

INPUTS, RESULTS = "inputs", "results"


class Kept:
    """Writes OUT/results/CONTENDER/SETTING/NAME.png and OUT/inputs/{person,garment}/SETTING/NAME.png.

    folders: where each contender's results are, below `out`, see `require_empty`.
    """

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self.out = out
        self.folders = {name: f"{RESULTS}/{plain(name)}" for name in names}

    def add(self, trial: Trial, tryons: Sequence[Tensor]) -> None:
        """Write a batch with every contender's try-ons [B, 3, H, W], in order."""
        folders = dict(zip(self.folders.values(), tryons, strict=True))
        folders |= {f"{INPUTS}/person": trial.person, f"{INPUTS}/garment": trial.garment}
        for folder, pictures in folders.items():
            for name, picture in zip(trial.names, pictures, strict=True):
                write_picture(self.out / folder / trial.setting / f"{name}.png", to_bgr(picture))


def require_empty(out: Path) -> None:
    """Raise DataError where an older evaluation's pictures are: they would pass for those of a new one."""
    for folder in (out / RESULTS, out / INPUTS):
        if folder.is_dir() and any(folder.iterdir()):
            raise DataError(
                f"{folder} has pictures of an older evaluation: delete it, or choose another --out"
            )


def plain(name: str) -> str:
    """A contender's name as that of a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).lstrip(".") or "_"


def require_folders(names: Sequence[str]) -> None:
    """Refuse two contenders of one folder, be it on a disk that takes capitals for small letters."""
    found: dict[str, str] = {}
    for name in names:
        folder = plain(name).casefold()
        if folder in found:
            both = (
                f"the name {name}"
                if found[folder] == name
                else f"too similar names, {found[folder]} and {name}"
            )
            raise DataError(f"two contenders have {both}: give each a --name of its own, a baseline once")
        found[folder] = name
