"""How far two right answers are apart: `python -m benchmarks.twins --assets assets --count 40`.

One garment is put on one person twice, cut alike, of cloths and creases that its kind may have; pose, camera,
light, fabric and everything else are the same, and so is the shop photo. No try-on can know which of
the two it is to give, so that their distance bounds what a measure against one truth can reach.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.random import Generator
from tqdm import tqdm

from rmgn import metrics
from rmgn.data.dress import dress
from rmgn.data.files import quantise
from rmgn.data.generated import GeneratedPeople, tensors
from rmgn.data.look import draw_look
from rmgn.data.stock import part, stock
from rmgn.scores import MEASURES, mean_of

if TYPE_CHECKING:
    from rmgn.data.people.layers import Sample
    from rmgn.data.people.style import Style

SIZE = (256, 192)
LOOK = ("tile", "palette", "band", "overlay", "numbers", "shop")  # what a pair draws for each garment


def another_cloth(style: Style, rng: Generator, feminine: bool) -> Style:
    """The same cut of another cloth that is usual for its kind: stiffness, and excess length that creases."""
    from rmgn.data.people.style import draw_style

    while (other := draw_style(rng, feminine)).kind != style.kind:
        pass
    return dataclasses.replace(style, bend=other.bend, crease=other.crease)


def make_twins(seed: int, folder: Path | None, index: int) -> Sample:
    """A sample whose garments a and b are one garment in two cloths."""
    from rmgn.data.people.assets import assets
    from rmgn.data.people.inspection import Rejected, inspect
    from rmgn.data.people.scene import make_stage
    from rmgn.data.people.worked import make_worked

    available = assets(folder)
    rooms = part(available.surroundings, "eval")
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, index, attempt, 1])
        attempt += 1
        try:
            stage = make_stage(rng, SIZE, available, rooms)
            model, person, worked = stage.model, stage.person, stage.worked[0]
            feminine = stage.sample.meta["shape"]["gender"] > 0.5
            style = another_cloth(worked.style, rng, feminine)
            cloth = make_worked(model, person, style, rng, SIZE).worn
            made, shop = stage.sample.meta["garments"][0], stage.sample.shop[0]
            meta = {**stage.sample.meta, "garments": [made, made]}
            stage.sample = dataclasses.replace(stage.sample, shop=(shop, shop), meta=meta)
            stage.worked, stage.depths = [worked, worked], [stage.depths[0]] * 2
            sample = stage.render(person, [worked.worn, cloth])
            for worn in sample.worn:
                inspect(worn)
        except Rejected:
            continue
        return sample


def compare(sample: Sample, seed: int, folder: Path | None) -> list[float]:
    """SSIM, PSNR in dB and the flow's difference in pixels between a sample's a and b, in one look."""
    look = draw_look(np.random.default_rng(seed), sample.meta, SIZE, stock(folder, "eval"))
    batch = GeneratedPeople.collate([tensors(sample, look)])
    for name in LOOK:
        batch[name][:, 1] = batch[name][:, 0]
    dressed = dress(batch)
    pictures = quantise(dressed.person[0])
    one, two = pictures[:1], pictures[1:]
    both = dressed.visible[:, 0] & dressed.visible[:, 1]
    flow = metrics.endpoint_error(dressed.flow[:, 0], dressed.flow[:, 1], both.float())
    return [value.item() for value in (metrics.ssim(one, two), metrics.psnr(one, two), flow)]


def one_pair(index: int, seed: int, folder: Path | None) -> list[float]:
    """Make a pair and compare it."""
    torch.set_num_threads(1)
    return compare(make_twins(seed, folder, index), index, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="pairs, each of another person")
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--assets", type=Path, metavar="DIR", help="folder with makehuman/ and hdri/")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    args = parser.parse_args()
    work = functools.partial(one_pair, seed=args.seed, folder=args.assets)
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        rows = list(tqdm(pool.imap(work, range(args.count)), total=args.count, unit="pair"))
    print(f"{args.count} pairs, mean ± half a 95% confidence interval")
    people = [str(index) for index in range(args.count)]
    for name, values in zip(("SSIM", "PSNR", "EPE"), zip(*rows, strict=True), strict=True):
        measure, mean = MEASURES[name], mean_of(values, people)
        if mean is not None:
            print(f"{measure.title} {measure.interval(mean)}")


if __name__ == "__main__":
    main()
