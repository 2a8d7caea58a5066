"""Show where the mirror sees the garment in a shop photo, or write that mask.

    python -m runtime.show_mask --garment shirt.jpg --out seen.png
    python -m runtime.show_mask --garment shop/ --mask-out masks/

What is left out lies under a chequerboard. A garment that shows through there, or ground that does not, wants
a better photo or a mask of its own: one that was written, mended in any drawing program.

Pictures of a folder are named like the garments. Photos that cannot be used are told and left out, and the
exit code is then 2.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from engines.program import InputError, Parser, warn_once
from engines.whole_file import check_apart
from runtime import garment, pictures
from runtime.failure import run
from runtime.pairs import find_masks

Pixels = NDArray[np.uint8]

SQUARES = 48  # along the longer side
SHADES = (35, 65)  # added to ground at half its brightness


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError for what the user can mend."""
    parser = Parser(description=__doc__)
    parser.add_argument("--garment", type=Path, required=True, metavar="PATH", help="shop photo, or folder")
    parser.add_argument("--mask", type=Path, metavar="PATH", help="its mask, or folder; otherwise found")
    parser.add_argument("--out", type=Path, metavar="PATH", help="picture or folder to write, chequered")
    parser.add_argument("--mask-out", type=Path, metavar="PATH", help="mask, or folder of masks, to write")
    args = parser.parse_args(argv)
    outs = [out for out in (args.out, args.mask_out) if out is not None]
    if not outs:
        raise InputError("nothing to write: give --out, --mask-out or both")
    many = args.garment.is_dir()
    for out in outs:
        pictures.check_results(out, many)
    photos = pictures.listing(args.garment) if many else [args.garment]
    masks = find_masks(set(photos), args.mask)

    def target(out: Path, photo: Path) -> Path:
        return out / f"{photo.stem}.png" if many else out  # no JPEG: its greys would be none of the garment

    targets = [target(out, photo) for photo in photos for out in outs]
    check_apart(targets, {*photos, *filter(None, masks.values())})
    written = 0
    with logging_redirect_tqdm():
        for photo in tqdm(photos, unit="photo", disable=not many):
            try:
                shown, silhouette = garment.read(photo, masks[photo])
            except InputError as error:
                if not many:
                    raise
                warn_once(f"left out: {error}")
                continue
            written += 1
            for out in outs:
                if many:
                    pictures.make_folder(out)
                mask = out == args.mask_out
                picture = of_size_of(photo, silhouette) if mask else chequered(shown, silhouette)
                pictures.write(target(out, photo), picture)
    if written < len(photos):
        raise InputError(f"{written} of {len(photos)} garments written, {len(photos) - written} left out")
    print(*outs, sep="\n")


def of_size_of(photo: Path, silhouette: Pixels) -> Pixels:
    """A mask as `garment.read` takes one: it finds them in large photos when these are reduced."""
    height, width = pictures.read(photo).shape[:2]
    return np.asarray(cv2.resize(silhouette, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def chequered(photo: Pixels, silhouette: Pixels) -> Pixels:
    """The photo, uint8 [H, W, 3], with its ground, where `silhouette` [H, W] is 0, under a chequerboard."""
    height, width = silhouette.shape
    side = max(1, max(height, width) // SQUARES)
    odd = (np.arange(height)[:, None] // side + np.arange(width) // side) % 2
    ground = photo // 2 + np.array(SHADES, np.uint8)[odd, None]
    return np.where(silhouette[..., None] > 0, photo, ground)


if __name__ == "__main__":
    sys.exit(run(main))
