"""Try-on for photos.

    python -m runtime.tryon --person p.jpg --garment g.jpg --out out.png
    python -m runtime.tryon --person people/ --garment shop/ [--pairs pairs.txt] --out results/

Folders: every person in every garment, or the pairs of a file of `person.jpg garment.jpg` lines, with a tab
between them where names have spaces; results are named `person_garment.png`. Files that cannot be used are
told and left out, and the exit code is then 2. A photo keeps its size and aspect; the network sees what the
mirror would see.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

import engines
from engines.program import InputError, Parser, warn_once
from engines.sizes import parse_size
from engines.whole_file import check_apart
from runtime import bundles, pictures
from runtime.dresser import Dresser, Fitted, fit
from runtime.failure import run
from runtime.framing import MODES, Framing
from runtime.garment import add_options, load
from runtime.pairs import Pair, check_names, find_masks, pair_up, result_name

Pixels = NDArray[np.uint8]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """See `--help`."""
    parser = Parser(description=__doc__)
    parser.add_argument("--person", type=Path, required=True, metavar="PATH", help="photo, or folder")
    parser.add_argument("--garment", type=Path, required=True, metavar="PATH", help="shop photo, or folder")
    parser.add_argument("--mask", type=Path, metavar="PATH", help="garment mask, or folder")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="which person wears which garment")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="picture or folder to write")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="the network, or a folder of several")
    parser.add_argument("--engine", default="auto", choices=["auto", *engines.BACKENDS], help="what runs it")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="the network's input size")
    parser.add_argument("--framing", choices=MODES, default="auto", help="what the network sees")
    add_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError and EngineError for what the user can mend."""
    args = parse_args(argv)
    many = args.person.is_dir() or args.garment.is_dir()
    pairs = pair_up(args.person, args.garment, args.pairs)
    pictures.check_results(args.out, many)
    if many:
        check_names(pairs)
    masks = find_masks({garment for _, garment in pairs}, args.mask)
    results = {pair: args.out / result_name(*pair) if many else args.out for pair in pairs}
    check_apart(results.values(), {*chain(*pairs), *filter(None, (*masks.values(), args.pairs))})
    bundle = bundles.choose(args.bundle, args.size)
    written = 0
    with engines.open(bundle, args.engine) as session, logging_redirect_tqdm():

        def prepare(photo: Path) -> Fitted:
            return fit(session, load(photo, masks[photo], bundle.height, bundle.width, args.light, args.fill))

        # Sorted by garment, so that each is loaded and encoded once.
        order = tqdm(sorted(results, key=lambda pair: pair[1]), unit="photo", disable=not many)
        for pair, picture in dressed(session, order, prepare, args.framing, leave_out=many):
            if many:
                pictures.make_folder(args.out)
            pictures.write(results[pair], picture)
            written += 1
    if written < len(results):
        left_out = len(results) - written
        raise InputError(f"{written} of {len(results)} written in {args.out}, {left_out} left out")
    print(f"{written} pictures in {args.out}" if many else f"{args.out}")


def dressed(
    session: engines.Session,
    pairs: Iterable[Pair],
    prepare: Callable[[Path], Fitted],
    framing: str,
    leave_out: bool,
) -> Iterator[tuple[Pair, Pixels]]:
    """Each pair with its picture.

    prepare: a garment, of its photo; framing: see `Framing`.
    leave_out: a file that cannot be used is told once, and the pairs without it are made; otherwise it raises
    InputError.
    """

    def tell(error: InputError) -> None:
        if not leave_out:
            raise error
        warn_once(f"left out: {error}")

    worn: Path | None = None
    fitted: Fitted | None = None
    for person, garment in pairs:
        if garment != worn:
            worn, fitted = garment, None
            try:
                fitted = prepare(garment)
            except InputError as error:
                tell(error)
        if fitted is None:
            continue
        try:
            photo = pictures.read_on_white(person)
        except InputError as error:
            tell(error)
            continue
        # A framing of its own, since one photo is not the next frame of another.
        seen = Framing(framing, session.bundle.width / session.bundle.height)
        dresser = Dresser(session, seen, None)
        dresser.wear(fitted)
        dresser.dress(photo)
        if framing == "auto" and not seen.found_face:
            warn_once(f"{person}: no face found, so its middle was dressed")
        yield (person, garment), photo


if __name__ == "__main__":
    sys.exit(run(main))
