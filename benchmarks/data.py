"""How fast generated people are made and dressed: `python benchmarks/data.py [--assets DIR] [--device cuda]`.

Prints the median and spread over rounds, with machine and versions. Generation is timed on one core and given
for one; dressing in one process, decoding and drawing of looks apart from torch.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from rmgn.data.dress import dress
from rmgn.data.generated import GeneratedPeople
from rmgn.data.people import layers
from rmgn.data.people.assets import assets
from rmgn.data.people.scene import Rejected, make_sample


def _report(name: str, seconds: list[float], per: str) -> None:
    middle = statistics.median(seconds)
    spread = f"{min(seconds):.4f} to {max(seconds):.4f}"
    print(f"{name:34s} {middle:8.4f} s a {per} ({spread}), {1 / middle:.2f} a second")


def time_generation(folder: Path, root: Path | None, count: int, size: tuple[int, int]) -> None:
    """Make `count` samples, rejected draws included in the time."""
    make_sample_or_reject(0, size, root)  # compile and load
    seconds, sizes = [], []
    for index in range(count):
        start = time.perf_counter()
        attempt = 1
        while (sample := make_sample_or_reject(1000 * index + attempt, size, root)) is None:
            attempt += 1
        seconds.append(time.perf_counter() - start)
        path = folder / f"{index:06d}.zip"
        layers.save(path, sample)
        sizes.append(path.stat().st_size / 1000)
    _report("layers, one core", seconds, "sample")
    print(
        f"{'size of a sample':34s} {statistics.median(sizes):8.0f} kB ({min(sizes):.0f} to {max(sizes):.0f})"
    )


def make_sample_or_reject(seed: int, size: tuple[int, int], root: Path | None) -> layers.Sample | None:
    """One draw, None if it is rejected."""
    try:
        return make_sample(np.random.default_rng(seed), size, assets(root))
    except Rejected:
        return None


def time_dressing(folder: Path, root: Path | None, batch: int, rounds: int, device: str) -> None:
    """Decode, draw and dress batches."""
    people = GeneratedPeople(folder, assets=root)
    loading, dressing = [], []
    for number in range(rounds + 1):
        people.set_epoch(number)
        start = time.perf_counter()
        items = people.collate([people[k % len(people)] for k in range(batch)])
        middle = time.perf_counter()
        result = dress({k: v.to(device) for k, v in items.items()}, noise_seed=number)
        if device != "cpu":
            torch.cuda.synchronize()
        end = time.perf_counter()
        assert result.person.shape[0] == batch
        if number:  # the first round warms up
            loading.append((middle - start) / batch)
            dressing.append((end - middle) / batch)
    _report("decode and draw, one core", loading, "sample")
    _report(f"dress on {device}, one thread", dressing, "sample")
    _report("both, one core", [a + b for a, b in zip(loading, dressing, strict=True)], "sample")


def main() -> None:
    """Run both benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--assets", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(f"commit {commit.stdout.strip()}, torch {torch.__version__}, {platform.machine()}, {args.device}")
    with tempfile.TemporaryDirectory() as folder:
        time_generation(Path(folder), args.assets, args.count, (256, 192))
        time_dressing(Path(folder), args.assets, args.batch, args.rounds, args.device)


if __name__ == "__main__":
    main()
