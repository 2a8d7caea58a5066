"""How fast generated people are made and dressed, each way against a baseline of the same run.

    python -m benchmarks.data --layers layers --assets assets --out benchmarks/results/data
    python -m benchmarks.data --layers layers --device cuda --out benchmarks/results/data-gpu
    python -m benchmarks.data --make 8                          # also how long layers take

Run as a module, from the root: as a script it would find the benchmark `kernels.py` instead of the package.
Seconds are of processor time, and on a GPU of the clock, a sample (two garments: two training pairs); medians
over rounds in which the ways take turns, so that a busy machine slows all of them. Writes data.json and
data.md with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import in_turns, machine
from rmgn.data.dress import Dressed, dress
from rmgn.data.generated import Batch, GeneratedPeople
from rmgn.data.people import layers
from rmgn.data.people.assets import assets
from rmgn.data.people.inspection import Rejected
from rmgn.data.people.scene import make_sample

FULL, HALF = (256, 192), (128, 96)


@dataclass(frozen=True)
class Row:
    """One way's median, least and greatest seconds a sample, and how many times as fast as its baseline."""

    name: str
    seconds: float
    least: float
    most: float
    baseline: str
    ratio: float


def clock(device: str) -> Callable[[], float]:
    """Seconds: of this process on a CPU, where others share the machine; of the wall, with a GPU awaited."""
    if device == "cpu":
        return time.process_time

    def awaited() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return awaited


def rows(seconds: dict[str, list[float]], baselines: dict[str, str]) -> list[Row]:
    """Medians, and the median ratio of rounds to the baseline's same rounds."""
    result = []
    for name, own in seconds.items():
        base = baselines.get(name, name)
        ratio = statistics.median(b / s for b, s in zip(seconds[base], own, strict=True))
        result.append(Row(name, statistics.median(own), min(own), max(own), base, ratio))
    return result


def dressing(folder: Path, root: Path | None, batch: int, rounds: int, device: str) -> list[Row]:
    """Decode, draw and dress: full size, half size, both ways to come to half size; alone and in batches."""
    people = {size: GeneratedPeople(folder, assets=root, size=size) for size in (FULL, HALF)}

    def load(size: tuple[int, int], number: int) -> Batch:
        people[size].set_epoch(number)
        start = number * batch
        return people[size].collate([people[size][(start + k) % len(people[size])] for k in range(batch)])

    def on_device(items: Batch) -> Batch:
        return {name: planes.to(device) for name, planes in items.items()}

    def dressed(size: tuple[int, int], number: int) -> Dressed:
        return dress(on_device(load(size, number)))

    def reduced_afterwards(number: int) -> list[torch.Tensor]:
        return [F.avg_pool2d(p.flatten(0, 1).float(), 2) for p in dressed(FULL, number)[:5]]

    kept = {size: on_device(load(size, 0)) for size in (FULL, HALF)}
    alone = [{name: planes[k : k + 1] for name, planes in kept[FULL].items()} for k in range(batch)]
    ways: dict[str, Callable[[int], object]] = {
        "decode, draw, dress at 256x192": lambda n: dressed(FULL, n),
        "the same, then reduced to 128x96": reduced_afterwards,
        "reduced to 128x96, then dressed": lambda n: dressed(HALF, n),
        "decode and draw alone, 256x192": lambda n: load(FULL, n),
        "decode and draw alone, 128x96": lambda n: load(HALF, n),
        "dress alone, one by one, 256x192": lambda _: [dress(one) for one in alone],
        f"dress alone, batches of {batch}, 256x192": lambda _: dress(kept[FULL]),
        f"dress alone, batches of {batch}, 128x96": lambda _: dress(kept[HALF]),
    }
    names = list(ways)
    baselines = {names[2]: names[1], names[4]: names[3], names[6]: names[5], names[7]: names[5]}
    taken = in_turns(ways, rounds, clock(device))
    a_sample = {name: [seconds / batch for seconds in times] for name, times in taken.items()}
    return rows(a_sample, baselines)


def making(root: Path | None, count: int) -> Row:
    """Processor seconds to make a sample of layers at 256x192, rejected draws included."""

    def draw(seed: int) -> layers.Sample | None:
        try:
            return make_sample(np.random.default_rng(seed), FULL, assets(root))
        except Rejected:
            return None

    draw(0)  # compile and load
    seconds = []
    for index in range(count):
        start, attempt = time.process_time(), 1
        while (sample := draw(1000 * index + attempt)) is None:
            attempt += 1
        with tempfile.TemporaryDirectory() as folder:
            layers.save(Path(folder) / "000000.zip", sample)
        seconds.append(time.process_time() - start)
    name = "layers of a sample, both garments"
    return Row(name, statistics.median(seconds), min(seconds), max(seconds), name, 1.0)


def markdown(found: Sequence[Row], about: dict[str, Any]) -> str:
    """The result as a page."""
    lines = ["# Generated people: speed", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += [
        "| what | seconds a sample (least to greatest) | samples a second | times as fast as | |",
        "|---|---|---|---|---|",
    ]
    for r in found:
        against = (f"{r.ratio:.2f}", r.baseline) if r.baseline != r.name else ("", "")
        spread = f"{r.seconds:.4f} ({r.least:.4f} to {r.most:.4f})"
        lines.append(f"| {r.name} | {spread} | {1 / r.seconds:.1f} | {against[0]} | {against[1]} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=Path, help="folder of layers at 256x192 to dress")
    parser.add_argument("--make", type=int, default=0, metavar="COUNT", help="also make so many samples")
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="where to write .json and .md")
    args = parser.parse_args(argv)
    if args.layers is None and args.make < 1:
        print("benchmarks.data: error: give --layers, --make or both", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    found = []
    try:
        if args.make:
            found.append(making(args.assets, args.make))
        if args.layers is not None:
            found += dressing(args.layers, args.assets, args.batch, args.rounds, args.device)
    except ValueError as error:
        print(f"benchmarks.data: error: {error}", file=sys.stderr)
        return 2
    what = "one core, one thread; seconds are of processor time" if args.device == "cpu" else "one GPU"
    about = {**machine("torch", "numpy", "cv2"), "measured": what}
    page = markdown(found, about)
    print(page, end="")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".md").write_text(page)
        content = {**about, "rows": [asdict(r) for r in found]}
        args.out.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
