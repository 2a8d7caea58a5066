"""Lists of names in text files: who wears what, as data sets and users write it."""

from pathlib import Path

from engines.picture_files import SUFFIXES
from engines.program import InputError


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """A list of pairs: person and garment a line, apart by blanks, or by a tab where names hold blanks.

    What some data sets say in a third column is left aside. Raises InputError as `read_columns`, and for a
    line of more than two pictures, which is one of names with blanks and without a tab.
    """
    pairs = []
    for number, line in _lines(path):
        names = _words(line, 2)
        if len(names) < 2 or any(Path(name).suffix.lower() in SUFFIXES for name in names[2:]):
            raise InputError(
                f"{path}, line {number}: {line!r} is not `person.jpg garment.jpg`; "
                "where a name has spaces, put a tab between the two"
            )
        pairs.append((names[0], names[1]))
    return pairs


def read_columns(path: Path, least: int) -> list[list[str]]:
    """Words of every line that is not empty; InputError for a line of fewer than `least`.

    Words are apart by tabs where that gives enough of them, so that they may hold blanks, else by blanks.
    """
    rows = []
    for number, line in _lines(path):
        words = _words(line, least)
        if len(words) < least:
            raise InputError(f"{path}, line {number}: {len(words)} names instead of {least}")
        rows.append(words)
    return rows


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows writes a mark before it
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable list: {error}") from error
    stripped = (line.strip() for line in text.splitlines())
    return [(number, line) for number, line in enumerate(stripped, 1) if line]


def _words(line: str, least: int) -> list[str]:
    words = [word.strip() for word in line.split("\t") if word.strip()]
    return words if "\t" in line and len(words) >= least else line.split()
