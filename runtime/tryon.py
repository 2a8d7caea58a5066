"""Try-on for photos.

    python -m runtime.tryon --person p.jpg --garment g.jpg --out out.png
    python -m runtime.tryon --person people/ --garment shop/ [--pairs pairs.txt] --out results/

Folders: every person in every garment, or the pairs of a file of `person.jpg garment.jpg` lines; results are
named `person_garment.png`. A photo keeps its size and aspect; the network sees what the mirror would see.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

import engines
from runtime import bundles, pictures
from runtime.dresser import Dresser, fit
from runtime.failure import InputError, Parser, run
from runtime.framing import MODES, Framing
from runtime.garment import load
from runtime.recording import check_writable


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """See `--help`."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--person", type=Path, required=True, metavar="PATH", help="photo, or folder")
    parser.add_argument("--garment", type=Path, required=True, metavar="PATH", help="shop photo, or folder")
    parser.add_argument("--mask", type=Path, metavar="PATH", help="garment mask, or folder")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="which person wears which garment")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="picture or folder to write")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the network, or a folder of several")
    parser.add_argument("--engine", default="auto", help=f"auto, {', '.join(engines.BACKENDS)}")
    parser.add_argument("--size", metavar="HxW", help="the network's input size, such as 256x192")
    parser.add_argument("--framing", choices=MODES, default="auto", help="what the network sees")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError and EngineError for what the user can mend."""
    args = parse_args(argv)
    many = args.person.is_dir() or args.garment.is_dir()
    pairs = pair_up(args.person, args.garment, args.pairs)
    if many and args.out.exists() and not args.out.is_dir():
        raise InputError(f"{args.out} is a file; many results need a folder")
    if args.mask is not None and args.mask.is_file() and args.garment.is_dir():
        raise InputError(
            f"--mask {args.mask} is one garment's; for a folder of garments give a folder of masks"
        )
    if many:
        check_names(pairs)
    else:
        check_writable(args.out)
    bundle = bundles.choose(args.bundle, bundles.parse_size(args.size) if args.size else None)
    with engines.open(bundle, args.engine) as session:
        # Sorted by garment, so that each is loaded and encoded once.
        worn: Path | None = None
        for person, garment in tqdm(sorted(pairs, key=lambda pair: pair[1]), unit="photo", disable=not many):
            photo = pictures.read(person)
            # A framing of its own, since one photo is not the next frame of another.
            dresser = Dresser(session, Framing(args.framing, bundle.width / bundle.height), None)
            if garment != worn:
                fitted = fit(session, load(garment, mask_of(garment, args.mask), bundle.height, bundle.width))
                worn = garment
            dresser.wear(fitted)
            dresser.dress(photo)
            if many:
                try:
                    args.out.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InputError(f"cannot write {args.out}: {error.strerror}") from error
            pictures.write(args.out / result_name(person, garment) if many else args.out, photo)
    print(f"{len(pairs)} pictures in {args.out}" if many else f"{args.out}")


def pair_up(person: Path, garment: Path, pairs: Path | None) -> list[tuple[Path, Path]]:
    """Who wears what: the lines of `pairs`, or everybody everything. Raises InputError."""
    if pairs is None:
        people = pictures.listing(person) if person.is_dir() else [person]
        garments = pictures.listing(garment) if garment.is_dir() else [garment]
        return [(one, cloth) for one in people for cloth in garments]
    if not (person.is_dir() and garment.is_dir()):
        raise InputError("--pairs names files of two folders: give folders as --person and --garment")
    try:
        lines = [line.split() for line in pairs.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {pairs}: {error}") from error
    wrong = next((number for number, line in enumerate(lines, 1) if len(line) != 2), None)
    if wrong is not None or not lines:
        raise InputError(f"{pairs} is not a list of `person.jpg garment.jpg` lines (see line {wrong or 1})")
    return [(person / line[0], garment / line[1]) for line in lines]


def result_name(person: Path, garment: Path) -> str:
    """Name of a result among many."""
    return f"{person.stem}_{garment.stem}.png"


def check_names(pairs: list[tuple[Path, Path]]) -> None:
    """Raise InputError where a file is missing, or where one result would overwrite another's."""
    made: dict[str, tuple[Path, Path]] = {}
    for pair in pairs:
        for path in pair:
            if not path.is_file():
                raise InputError(f"{path} does not exist")
        name = result_name(*pair)
        if made.setdefault(name, pair) != pair:
            both = " and ".join(f"{person.name} in {garment.name}" for person, garment in (made[name], pair))
            raise InputError(f"{both} would both be written as {name}; rename one of the files")


def mask_of(garment: Path, mask: Path | None) -> Path | None:
    """The mask file of a garment: the one given, or of that folder the one with the garment's name."""
    if mask is None or not mask.is_dir():
        return mask
    found = [path for path in pictures.listing(mask) if path.stem == garment.stem]
    if not found:
        raise InputError(f"{mask} holds no mask named {garment.stem}")
    return found[0]


if __name__ == "__main__":
    sys.exit(run(main))
