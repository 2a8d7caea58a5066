"""A contact sheet of layers: `python -m rmgn.data.sheet LAYERS --out sheet.jpg [--show truth]`.

Shows consecutive samples, nothing chosen. `--show people` has one dressed picture a sample, `shop` both shop
photos, `truth` for both garments the shop photo, the person, the photo warped by the true flow, the parse.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from engines.picture_files import check_suffix
from engines.program import Parser, run
from engines.whole_file import check_writable
from rmgn.data.dress import Dressed, dress
from rmgn.data.files import to_bgr
from rmgn.data.generated import GeneratedPeople
from rmgn.gallery import write_picture

_UNSEEN = torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1)  # magenta: garment that the shop photo does not show
_COLOURS = np.random.default_rng(4).uniform(-1, 1, (256, 3))


def _truth(dressed: Dressed, k: int) -> list[npt.NDArray[np.uint8]]:
    photo, person = dressed.garment[0, k], dressed.person[0, k]
    grid = dressed.flow[0, k].permute(1, 2, 0)[None]
    warped = F.grid_sample(photo[None], grid, align_corners=False)[0]
    around = torch.where(dressed.worn_mask[0, k] > 0.5, _UNSEEN, torch.ones_like(warped))
    warped = torch.where(dressed.visible[0, k], warped, around)
    parse = torch.from_numpy(_COLOURS[dressed.parse[0, k].numpy()]).permute(2, 0, 1).float()
    return [to_bgr(p) for p in (photo, person, warped, parse)]


def contact_sheet(
    people: GeneratedPeople, count: int, columns: int, show: str = "people"
) -> npt.NDArray[np.uint8]:
    """The first `count` samples as one BGR picture, `columns` tiles wide."""
    tiles = []
    for index in range(min(count, len(people))):
        dressed = dress(people.collate([people[index]]), noise_seed=index)
        if show == "people":
            tiles.append(to_bgr(dressed.person[0, index % 2]))
        elif show == "shop":
            tiles += [to_bgr(dressed.garment[0, k]) for k in (0, 1)]
        else:
            tiles += [tile for k in (0, 1) for tile in _truth(dressed, k)]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return np.ascontiguousarray(np.vstack(rows))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("layers", type=Path, help="folder of generated layers, or a clip's")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="picture to write, a .jpg or .png",
    )
    parser.add_argument("--count", type=int, default=48, help="samples shown, from the folder's first (48)")
    parser.add_argument("--columns", type=int, default=12, help="pictures side by side (12)")
    parser.add_argument(
        "--show", choices=("people", "shop", "truth"), default="people",
        help="dressed people (default), shop photos, or both with the flow and parse map",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of fabrics, tones and backdrops (0)")
    parser.add_argument("--assets", type=Path, help="folder with hdri/ for backdrops (see docs/data.md)")
    args = parser.parse_args(argv)
    if args.count < 1 or args.columns < 1 or args.seed < 0:
        parser.error("--count and --columns count from 1, --seed from 0")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    check_suffix(args.out)
    check_writable(args.out)
    people = GeneratedPeople(args.layers, seed=args.seed, flip=False, assets=args.assets)
    sheet = contact_sheet(people, args.count, args.columns, args.show)
    write_picture(args.out, sheet, quality=85)
    print(f"{args.out}: {min(args.count, len(people))} samples")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError,))


if __name__ == "__main__":
    sys.exit(main())
