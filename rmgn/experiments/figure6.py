r"""Figure 6: where the generator takes its features from, as heat maps of all regional masks.

    python -m rmgn.experiments.figure6 --checkpoint runs/full/best.safetensors --data eval-256 --out figure6

Bright is the warped garment (M = 1), dark the person (M = 0), equation (6). Writes one sheet a try-on, every
mask over the person and over the warped garment, coarsest first; and figure6.md, the masks' means on the
garment and off it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.program import Parser, run, warn_once
from engines.whole_file import check_folder
from rmgn import checkpoint
from rmgn.config import parse_size
from rmgn.data.files import to_bgr
from rmgn.gallery import Bgr, caption, write_picture, write_text
from rmgn.generator import RegionalMaskGenerator, RegionalMaskResBlock
from rmgn.model import RMGN, TryOn
from rmgn.open_trials import open_trials
from rmgn.report import table
from rmgn.trials import DataError, Trial, Trials, name_of, one

COLUMNS = 9
SHARE = 0.65  # of the heat map in what is shown


class MaskMean(NamedTuple):
    """Means of one regional mask over the pixels where the warped garment is, and where it is not."""

    name: str
    on_garment: float
    elsewhere: float


def names_of(model: RMGN) -> list[str]:
    """What each regional mask is called: its block, its place in the block, and its size."""
    generator = model.generator
    assert isinstance(generator, RegionalMaskGenerator)
    names = []
    for n, (block, level) in enumerate(zip(generator.blocks, generator.levels, strict=True)):
        places = ["1", "2", "shortcut"] if cast(RegionalMaskResBlock, block).changes_width else ["1", "2"]
        names += [f"block {n + 1}, {place}, 1/{16 >> level}" for place in places]
    return names


def heat_map(mask: Tensor, under: Bgr) -> Bgr:
    """A mask [1, h, w] in [0, 1] in colours over a grey picture [H, W, 3]."""
    height, width = under.shape[:2]
    large = F.interpolate(mask[None], (height, width), mode="bilinear", align_corners=False)[0, 0]
    levels = (large.clamp(0, 1) * 255).round().byte().cpu().numpy()
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(cv2.cvtColor(under, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.addWeighted(colours, SHARE, grey, 1 - SHARE, 0), np.uint8)


def sheet(trial: Trial, result: TryOn, names: Sequence[str]) -> Bgr:
    """Inputs and result of the first try-on, then all masks over the person and over the warped garment."""
    person, warped = to_bgr(trial.person[0]), to_bgr(result.warped_garment[0])
    height, width = person.shape[:2]
    blank = np.full((height, width, 3), 255, np.uint8)
    composite = np.repeat((result.composite_mask[0, 0] * 255).byte().cpu().numpy()[:, :, None], 3, axis=2)
    first = {
        "person": person,
        "garment": to_bgr(trial.garment[0]),
        "warped garment": warped,
        "rendered": to_bgr(result.rendered[0]),
        "composite mask": composite,
        "try-on": to_bgr(result.tryon[0]),
    }
    rows = [row(list(first), [*first.values()], blank)]
    for under in (person, warped):
        maps = [heat_map(mask[0], under) for mask in result.regional_masks]
        rows += [
            row(names[n : n + COLUMNS], maps[n : n + COLUMNS], blank) for n in range(0, len(maps), COLUMNS)
        ]
    return np.ascontiguousarray(np.vstack(rows))


def row(names: Sequence[str], pictures: Sequence[Bgr], blank: Bgr) -> Bgr:
    """Captioned pictures side by side, filled up to COLUMNS."""
    width = blank.shape[1]
    missing = COLUMNS - len(pictures)
    head = [caption(name, width) for name in names] + [caption("", width)] * missing
    return np.vstack([np.hstack(head), np.hstack([*pictures, *[blank] * missing])])


def mask_means(result: TryOn) -> list[tuple[float, float]]:
    """Mean of each regional mask over the warped garment and elsewhere, of one try-on; NaN over nothing."""
    means = []
    for mask in result.regional_masks:
        garment = F.interpolate(result.warped_mask, mask.shape[-2:], mode="area")
        inside = (mask * garment).sum() / garment.sum()
        outside = (mask * (1 - garment)).sum() / (1 - garment).sum()
        means.append((inside.item(), outside.item()))
    return means


@torch.no_grad()
def draw(model: RMGN, trials: Trials, out: Path, count: int) -> list[MaskMean]:
    """Write the sheets of the first `count` try-ons; returns the masks' means over them."""
    names = names_of(model)
    found: list[list[tuple[float, float]]] = []
    for batch in trials:
        for n in range(len(batch.names)):
            if len(found) == count:
                break
            trial = one(batch, n)
            result = model(trial.person, trial.garment, trial.mask, regional_masks=True)
            write_picture(out / f"{trial.names[0]}.png", sheet(trial, result, names))
            found.append(mask_means(result))
        if len(found) == count:
            break
    means = np.ma.masked_invalid(found).mean(axis=0).filled(np.nan)
    return [MaskMean(name, *values) for name, values in zip(names, means, strict=True)]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="weights")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="layers of rmgn.data.generate"
    )
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="of the try-ons (the training's)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the figure")
    parser.add_argument("--count", type=int, default=8, help="try-ons to show (8)")
    args = parser.parse_args(argv)
    if args.count < 1:
        parser.error(f"--count must be at least 1, not {args.count}")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    check_folder(args.out)
    model = checkpoint.load(args.checkpoint)
    if model.config.generator != "rmgn":
        raise DataError(f"{args.checkpoint} holds the PF-AFN generator, which has no regional masks")
    trained = checkpoint.trained_size(args.checkpoint)
    size = args.size or trained
    if size and (told := checkpoint.other_size(args.checkpoint, trained, size)):
        warn_once(f"{told}, and so do its masks (--size)")
    trials = open_trials(args.data, batch=2, assets=args.assets, size=size)
    means = draw(model, trials, args.out, args.count)
    rows = [["Regional mask", "mean on the garment", "mean elsewhere"]]
    rows += [[m.name, f"{m.on_garment:.3f}", f"{m.elsewhere:.3f}"] for m in means]
    count = min(args.count, len(trials))
    text = f"# Regional masks\n\nFirst {count} try-ons of {name_of(args.data)}.\n\n{table(rows)}\n"
    write_text(args.out / "figure6.md", text)
    print(text)


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError,))


if __name__ == "__main__":
    sys.exit(main())
