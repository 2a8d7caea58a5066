"""Where a training step's time goes: `python -m benchmarks.training --data layers [--config NAME]`.

Runs the real stage on real batches and prints the median, spread and share of every part of a step: loading
and dressing in the main process, what a teacher makes, forward, backward, optimizer and averaging. Then the
same with worker processes: the share of a step that still waits for data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel

from benchmarks.common import line, machine
from rmgn.batches import open_source
from rmgn.data.sample import Sample
from rmgn.task import first_model, load_teacher, make_optimizer, make_task
from rmgn.trainer import set_batch_norms, training_feed
from rmgn.training_config import load_config

T = TypeVar("T")
PARTS = ("data", "triplets", "forward", "backward", "optimizer")


class Stopwatch:
    """Seconds of named parts, a list a part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = {name: [] for name in PARTS}

    def time(self, name: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name].append(time.perf_counter() - begun)
        return result


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--config", default="pairs-full", metavar="NAME")
    parser.add_argument("--teacher", type=Path, metavar="FILE")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=["no", "bf16"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    overrides = {name: getattr(args, name) for name in ("batch", "precision")}
    try:
        config = load_config(args.config, overrides | {"held_out": 1})
        source = open_source(args.data, config)
        model = first_model(config, None)
        teacher, _ = load_teacher(config, args.teacher)
        task = make_task(model, config, teacher)
    except (ValueError, OSError) as error:
        print(f"benchmarks.training: {error}", file=sys.stderr)
        return 2

    accelerator = Accelerator(mixed_precision=config.precision)
    device = accelerator.device
    size = f"{config.height}x{config.width}"
    print(f"{args.config}, {config.stage}, {config.preset}, {size}, batch {config.batch}")
    print(f"on {device.type}, {torch.get_num_threads()} threads: {line(machine('torch'))}")

    average = AveragedModel(model).to(device)
    if teacher is not None:
        teacher.to(device)
    optimizer = make_optimizer(task.stage, config)
    stage, optimizer = accelerator.prepare(task.stage.train(), optimizer)
    set_batch_norms(stage, learning=config.batch_statistics > 0)

    def step(watch: Stopwatch, feed: Iterator[Sample]) -> None:
        sample = watch.time("data", lambda: next(feed))
        made = task.triplets(sample)
        for _ in range(task.set_size):
            with accelerator.autocast():
                triplet = watch.time("triplets", partial(next, made))
                terms = watch.time("forward", partial(stage, triplet, 1 / task.set_size))
            watch.time("backward", partial(accelerator.backward, terms["total"]))

        def update() -> None:
            if config.clip:
                accelerator.clip_grad_norm_(stage.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)

        watch.time("optimizer", update)

    def measure(workers: int) -> Stopwatch:
        feed = training_feed(source, config, 0, workers, accelerator)
        for _ in range(3):  # compiles, and records what it replays, where Accelerate is told to
            step(Stopwatch(device), feed)
        watch = Stopwatch(device)
        for _ in range(args.steps):
            step(watch, feed)
        return watch

    alone = measure(0)
    totals = {name: sum(values) / args.steps for name, values in alone.seconds.items()}
    whole = sum(totals.values())
    print(f"\none process: {whole:.3f} s a step, {config.batch / whole:.2f} samples a second")
    for name, values in alone.seconds.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"  {name:10s} {statistics.median(values):7.3f} s ({spread})  {totals[name] / whole:6.1%}")
    if args.workers:
        helped = {k: sum(v) / args.steps for k, v in measure(args.workers).seconds.items()}
        together = sum(helped.values())
        waits = helped["data"] / together
        print(f"{args.workers} workers: {together:.3f} s a step, {waits:.1%} of it waiting and dressing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
