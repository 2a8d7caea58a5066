r"""Train the network: on generated people alone, or the paper's way with a parser-based teacher.

    python -m rmgn.train --config pairs-warp-coarse --data layers --out runs/coarse
    python -m rmgn.train --config pairs-warp --data layers --out runs/warp --init runs/coarse/best.safetensors
    python -m rmgn.train --config pairs-full --data layers --out runs/full --init runs/warp/best.safetensors

    python -m rmgn.train --stage pb-warp --data VITON --out runs/pb-warp
    python -m rmgn.train --stage pb-full --data VITON --out runs/pb --init runs/pb-warp/best.safetensors
    python -m rmgn.train --stage pf-warp --data VITON --out runs/pf-warp --teacher runs/pb/best.safetensors
    python -m rmgn.train --stage pf-full --data VITON --out runs/pf --teacher runs/pb/best.safetensors \
        --init runs/pf-warp/best.safetensors
    python -m rmgn.train --stage distill --data VITON --out runs/lite --teacher runs/pf/best.safetensors

Ctrl-C and SIGTERM stop a run of one process behind the step, with a checkpoint. Run the same command again to
go on from the newest checkpoint in --out, exactly as if there had been no stop. `accelerate launch -m
rmgn.train …` spreads a run over several GPUs.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engines.program import InputError, Parser, run
from engines.sole_writer import sole_writer
from engines.whole_file import check_folder
from rmgn import batches
from rmgn.config import PRESETS, parse_size
from rmgn.run_folder import RunFolder
from rmgn.task import TrainingError
from rmgn.trainer import Trainer
from rmgn.training_config import PRECISIONS, STAGES, TrainConfig, load_config


def train(
    config: TrainConfig,
    data: Path,
    *,
    out: Path,
    init: Path | None,
    workers: int,
    assets: Path | None,
    teacher_file: Path | None = None,
    subset: Path | None = None,
) -> None:
    """Run or resume the training that `config` describes."""
    check_folder(out)
    RunFolder(out, {}).check_apart(init, teacher_file, subset)
    if config.holds_a_part and init is None and RunFolder(out, {}).newest() is None:
        raise TrainingError(
            "this configuration holds a part of the network as it is: give its weights, --init"
        )
    source = batches.open_source(data, config, assets, subset, teacher_file is not None)
    if len(source) <= config.held_out:
        raise TrainingError(f"{data} has {len(source)} samples, of which {config.held_out} would be held out")
    out.mkdir(parents=True, exist_ok=True)
    first = os.environ.get("RANK", "0") == "0"  # of several processes, the one that writes
    with sole_writer(out) if first else contextlib.nullcontext():
        Trainer(config, source, out, init, teacher_file).run(workers)


def what_is_left(out: Path) -> str:
    """What a run that was stopped can go on with."""
    newest = RunFolder(out, {}).newest()
    if newest is None:
        return f"there is no checkpoint in {out} yet: the same command begins anew"
    return f"the same command goes on from step {int(newest.name)}, the newest checkpoint in {out}"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--config", metavar="NAME", help="named configuration, or a TOML file (that of the stage)"
    )
    parser.add_argument("--stage", choices=STAGES, help="what to train")
    parser.add_argument("--preset", choices=list(PRESETS), help="architecture")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="generated layers, or a data set's folder"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of the run; resumed where begun"
    )
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to begin with, .safetensors")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="network to learn from: pb-full's, for distill any other"
    )
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds of layers")
    parser.add_argument(
        "--subset", type=Path, metavar="FILE", help="persons of a data set to train on, one a line (MPV-Sub)"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="of the pictures (that of the configuration: 256x192)"
    )
    parser.add_argument("--held-out", type=int, metavar="N", help="samples at the end for validation (32)")
    parser.add_argument("--seed", type=int, help="of weights, order and looks (0)")
    parser.add_argument("--steps", type=int, help="steps of the optimizer")
    parser.add_argument("--batch", type=int, help="samples a step and process")
    parser.add_argument("--accumulate", type=int, help="batches a step and process (1)")
    parser.add_argument("--reuse", type=int, help="batches that draw on each look of generated people (1)")
    parser.add_argument("--fakes", type=int, help="fake persons a sample, 1 to 3")
    parser.add_argument("--learning-rate", type=float, help="of Adam, before it falls")
    parser.add_argument(
        "--perceptual", metavar="NAME", help="none, lite0, or the file of torchvision's VGG-19 weights"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="of the forward pass; no is float32")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode and draw (1)")
    args = parser.parse_args(argv)
    if args.workers < 0:
        raise InputError(f"--workers must be 0 or more, not {args.workers}")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    of_network = ("stage", "preset", "fakes", "learning_rate", "perceptual", "precision")
    of_data = ("steps", "batch", "accumulate", "reuse", "held_out", "seed")
    overrides = {name: getattr(args, name) for name in (*of_network, *of_data)}
    if args.size is not None:
        overrides["height"], overrides["width"] = args.size
    if args.steps is not None:
        overrides["epochs"] = 0
    config = load_config(args.config or args.stage or "pairs-full", overrides)
    try:
        train(
            config,
            args.data,
            out=args.out,
            init=args.init,
            workers=args.workers,
            assets=args.assets,
            teacher_file=args.teacher,
            subset=args.subset,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what_is_left(args.out)) from None


def main(argv: Sequence[str] | None = None) -> int:
    lighter = "take a smaller --batch, with a larger --accumulate to make up for it"
    return run(command, argv, (ValueError,), memory=lighter)


if __name__ == "__main__":
    sys.exit(main())
