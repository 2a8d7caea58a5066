"""How fast a data set is read: `python -m benchmarks.reading DIR [--split train] [--size 256x192]`.

Processor time a sample on one core, median and spread over rounds, against decoding the pictures of person
and garment alone in the same run. Prints machine and versions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import line, machine
from rmgn.config import parse_size
from rmgn.data import read
from rmgn.data.augment import Augment
from rmgn.data.datasets import FolderDataset, open_dataset
from rmgn.data.workers import one_thread


def _rounds(work: Callable[[int], object], count: int, rounds: int) -> list[float]:
    """Milliseconds of processor time a sample in each round; one more round warms up."""
    milliseconds = []
    for _ in range(rounds + 1):
        start = time.process_time()
        for index in range(count):
            work(index)
        milliseconds.append((time.process_time() - start) * 1000 / count)
    return milliseconds[1:]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--setting", choices=("paired", "unpaired"), default="paired")
    parser.add_argument("--size", type=parse_size, default=(256, 192), metavar="HxW")
    parser.add_argument("--count", type=int, default=16, help="samples a round")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    one_thread()
    wanted = [("plain", 0, None), ("1 other garment", 1, None), ("1 other, augmented", 1, Augment())]
    try:
        ways = [
            (name, open_dataset(args.folder, args.split, args.setting, args.size, others, augment))
            for name, others, augment in wanted
        ]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    data = ways[0][1]
    if not isinstance(data, FolderDataset):
        print("error: layers are timed by benchmarks/data.py", file=sys.stderr)
        return 2
    count = min(args.count, len(data))
    entries = data.entries

    def decode(index: int) -> None:
        read.picture(entries[index].person)
        read.picture(entries[index].garment)

    base = _rounds(decode, count, args.rounds)
    print(line(machine("torch", "cv2")))
    height, width = args.size
    print(f"{data.layout.name}, {args.split} {args.setting}, {height}x{width}, {count} samples")
    for name, times in [
        ("decode two pictures", base),
        *((n, _rounds(d.__getitem__, count, args.rounds)) for n, d in ways),
    ]:
        middle = statistics.median(times)
        ratio = middle / statistics.median(base)
        print(f"{name:22s} {middle:7.1f} ms ({min(times):.1f} to {max(times):.1f}), {ratio:5.1f} x decoding")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
