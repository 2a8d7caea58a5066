"""Which person wears which garment with which mask, where there are many."""

import os
from pathlib import Path

from engines.pair_lists import read_pairs
from engines.program import InputError
from engines.whole_file import partial_path
from runtime import pictures

Pair = tuple[Path, Path]  # person and garment

LONGEST = 255  # bytes of a file's name, on nearly all drives


def pair_up(person: Path, garment: Path, pairs: Path | None) -> list[Pair]:
    """Who wears what: the lines of `pairs`, or everybody everything. Raises InputError."""
    if pairs is None:
        people = pictures.listing(person) if person.is_dir() else [person]
        garments = pictures.listing(garment) if garment.is_dir() else [garment]
        return [(one, cloth) for one in people for cloth in garments]
    if not (person.is_dir() and garment.is_dir()):
        raise InputError("--pairs names files of two folders: give folders as --person and --garment")
    named = read_pairs(pairs)
    if not named:
        raise InputError(f"{pairs} is empty; it should have a line `person.jpg garment.jpg` for each picture")
    return [(person / one, garment / cloth) for one, cloth in named]


def result_name(person: Path, garment: Path) -> str:
    """Name of a result among many."""
    return f"{person.stem}_{garment.stem}.png"


def check_names(pairs: list[Pair]) -> None:
    """Raise InputError where a file is missing, a result's name too long, or one would overwrite another."""
    made: dict[str, Pair] = {}
    for pair in pairs:
        for path in pair:
            if not path.is_file():
                raise InputError(f"{path} does not exist")
        name = result_name(*pair)
        if len(os.fsencode(partial_path(Path(name)))) > LONGEST:
            raise InputError(f"{name} would be too long a name: rename {pair[0].name} or {pair[1].name}")
        if made.setdefault(name, pair) != pair:
            both = " and ".join(f"{person.name} in {garment.name}" for person, garment in (made[name], pair))
            raise InputError(f"{both} would both be written as {name}; rename one of the files")


def find_masks(garments: set[Path], mask: Path | None) -> dict[Path, Path | None]:
    """The mask file of each garment: the one given, or of that folder the one with the garment's name.

    Raises InputError where that folder lacks one, and where there is one mask for several garments.
    """
    if mask is None or not mask.is_dir():
        if mask is not None and len(garments) > 1:
            is_one = "is one garment's" if mask.exists() else "does not exist"
            raise InputError(f"--mask {mask} {is_one}; for a folder of garments give a folder of masks")
        return dict.fromkeys(garments, mask)
    named = {path.stem: path for path in reversed(pictures.listing(mask))}
    lacking = sorted(garment.stem for garment in garments if garment.stem not in named)
    if lacking:
        raise InputError(f"{mask} holds no mask named {lacking[0]}")
    return {garment: named[garment.stem] for garment in garments}
