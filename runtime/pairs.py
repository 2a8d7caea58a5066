"""Which person wears which garment with which mask, where there are many."""

from pathlib import Path

from runtime import pictures
from runtime.failure import InputError

Pair = tuple[Path, Path]  # person and garment


def pair_up(person: Path, garment: Path, pairs: Path | None) -> list[Pair]:
    """Who wears what: the lines of `pairs`, or everybody everything. Raises InputError."""
    if pairs is None:
        people = pictures.listing(person) if person.is_dir() else [person]
        garments = pictures.listing(garment) if garment.is_dir() else [garment]
        return [(one, cloth) for one in people for cloth in garments]
    if not (person.is_dir() and garment.is_dir()):
        raise InputError("--pairs names files of two folders: give folders as --person and --garment")
    try:
        lines = pairs.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {pairs}: {error}") from error
    named = []
    for number, line in enumerate(map(str.strip, lines), 1):
        # Between tabs a name may have spaces.
        names = [name for part in line.split("\t" if "\t" in line else None) if (name := part.strip())]
        if names and len(names) != 2:
            raise InputError(
                f"{pairs}, line {number}: {line!r} is not `person.jpg garment.jpg`; "
                "where a name has spaces, put a tab between the two"
            )
        if names:
            named.append((person / names[0], garment / names[1]))
    if not named:
        raise InputError(f"{pairs} is empty; it should have a line `person.jpg garment.jpg` for each picture")
    return named


def result_name(person: Path, garment: Path) -> str:
    """Name of a result among many."""
    return f"{person.stem}_{garment.stem}.png"


def check_names(pairs: list[Pair]) -> None:
    """Raise InputError where a file is missing, or where one result would overwrite another's."""
    made: dict[str, Pair] = {}
    for pair in pairs:
        for path in pair:
            if not path.is_file():
                raise InputError(f"{path} does not exist")
        name = result_name(*pair)
        if made.setdefault(name, pair) != pair:
            both = " and ".join(f"{person.name} in {garment.name}" for person, garment in (made[name], pair))
            raise InputError(f"{both} would both be written as {name}; rename one of the files")


def find_masks(garments: set[Path], mask: Path | None) -> dict[Path, Path | None]:
    """The mask file of each garment: the one given, or of that folder the one with the garment's name."""
    if mask is None or not mask.is_dir():
        return dict.fromkeys(garments, mask)
    named = {path.stem: path for path in reversed(pictures.listing(mask))}
    lacking = sorted(garment.stem for garment in garments if garment.stem not in named)
    if lacking:
        raise InputError(f"{mask} holds no mask named {lacking[0]}")
    return {garment: named[garment.stem] for garment in garments}
