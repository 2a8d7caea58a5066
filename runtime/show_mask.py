"""Show where the mirror sees the garment in a shop photo.

    python -m runtime.show_mask --garment shirt.jpg --out seen.png

What is left out lies under a chequerboard. A garment that shows through there, or ground that does not, wants
a better photo or a mask of its own.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.program import Parser
from engines.whole_file import check_apart
from runtime import garment, pictures
from runtime.failure import run

Pixels = NDArray[np.uint8]

SQUARES = 48  # along the longer side
SHADES = (35, 65)  # added to ground at half its brightness


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program. Raises InputError for what the user can mend."""
    parser = Parser(description=__doc__)
    parser.add_argument("--garment", type=Path, required=True, metavar="FILE", help="shop photo")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="its mask, otherwise found")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="picture to write")
    args = parser.parse_args(argv)
    pictures.check_picture(args.out)
    check_apart([args.out], filter(None, (args.garment, args.mask)))
    pictures.write(args.out, chequered(*garment.read(args.garment, args.mask)))
    print(args.out)


def chequered(photo: Pixels, silhouette: Pixels) -> Pixels:
    """The photo, uint8 [H, W, 3], with its ground, where `silhouette` [H, W] is 0, under a chequerboard."""
    height, width = silhouette.shape
    side = max(1, max(height, width) // SQUARES)
    odd = (np.arange(height)[:, None] // side + np.arange(width) // side) % 2
    ground = photo // 2 + np.array(SHADES, np.uint8)[odd, None]
    return np.where(silhouette[..., None] > 0, photo, ground)


if __name__ == "__main__":
    sys.exit(run(main))
