"""What table 3 and figure 5 share: one teacher, several students, one evaluation of them all."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from engines.program import InputError, Parser
from engines.program import run as run_program
from rmgn import contenders
from rmgn.batches import open_source
from rmgn.config import parse_size
from rmgn.data.people import layers
from rmgn.data.plain import Generated
from rmgn.evaluate import evaluate, make_scorer
from rmgn.gallery import write_text
from rmgn.open_trials import open_trials
from rmgn.scores import Scores
from rmgn.task import TrainingError
from rmgn.train import train
from rmgn.trainer import has_accelerator
from rmgn.training_config import TrainConfig, load_config
from rmgn.trials import DataError, Trials

# Some minutes on two CPU cores: all of it runs, but nothing is learnt well enough to tell variants apart.
QUICK: dict[str, Any] = {
    "preset": "lite",
    "height": 128,
    "width": 96,
    "batch": 6,
    "epochs": 0,
    "steps": 40,
    "learning_rate": 1e-3,
    "warp_factor": 1.0,
    "beta1": 0.9,
    "clip": 10.0,
    "ema": 0.9,
    "perceptual": "none",
    "held_out": 4,
    "validate_steps": 40,
    "log_steps": 10,
}

NOTE = (
    "Names in -lite0 are not those of FID, KID and LPIPS. ± is half a 95% confidence interval over people; "
    "what chance does in the trainings, other seeds tell (`--seed`)."
)


@dataclass(frozen=True)
class Lab:
    """Trains the networks of an experiment below `out`; what is trained already is not trained again.

    changes: to the published configurations, by names of TrainConfig.
    """

    data: Path
    out: Path
    changes: Mapping[str, Any]
    workers: int = 1
    assets: Path | None = None

    def teacher(self) -> Path:
        """The parser-based network, stages 1 and 2."""
        warp = self._run("teacher-warp", "pb-warp")
        return self._run("teacher", "pb-full", init=warp)

    def student(self, kind: str, fakes: int, **model: Any) -> Path:
        """A parser-free network, stages 3 and 4, taught on `fakes` fake persons a sample.

        kind: what its changes to the preset, `model`, are called. Students of equal `fakes` share their warp
        module's stage, and experiments with the same `out` what they have in common.
        """
        teacher = self.teacher()
        model = {"preserve": False, **model}  # which the paper does not have
        warp = self._run(f"warp-{fakes}", "pf-warp", teacher=teacher, fakes=fakes)
        return self._run(f"{kind}-{fakes}", "pf-full", init=warp, teacher=teacher, fakes=fakes, model=model)

    def _run(
        self, name: str, stage: str, init: Path | None = None, teacher: Path | None = None, **own: Any
    ) -> Path:
        folder = self.out / "runs" / name
        note = folder / "finished.json"
        config = load_config(stage, {**self.changes, **own})
        reads = open_source(self.data, config, self._assets_of(self.data)).reads
        about = {"data": str(self.data.resolve()), "reads": reads[0]}
        # As JSON has it, so that a note that was read can be compared.
        made: dict[str, Any] = json.loads(json.dumps({**dataclasses.asdict(config), **about}))
        if note.is_file():
            noted = TrainConfig.completed(json.loads(note.read_text("utf-8")))
            # As a run goes on with any of `reads`; older notes have none.
            if noted.get("reads", reads[0]) not in reads or {**noted, "reads": reads[0]} != made:
                raise TrainingError(
                    f"{folder} was trained with other settings, data or assets; choose another --out"
                )
        else:
            print(f"{name} ({stage})")
            train(
                config,
                self.data,
                out=folder,
                init=init,
                workers=self.workers,
                assets=self._assets_of(self.data),
                teacher_file=teacher,
            )
            if is_first():
                write_text(note, json.dumps(made, sort_keys=True) + "\n")
        # Not the best: that was chosen on the samples held out, which students are compared on.
        return folder / "last.safetensors"

    def trials(self, tests: Path | None, size: tuple[int, int]) -> Trials:
        """What to evaluate on: `tests`, or of the training's data what it did not see.

        That is the samples held out, of data sets that have no test split of their own. Raises ValueError,
        also where nothing could be measured.
        """
        if self.assets and not any(map(layers.present, filter(None, (self.data, tests)))):
            raise DataError(f"--assets {self.assets} are for generated layers, and no data here are such")
        undivided = layers.present(self.data) or Generated.find(self.data) is not None
        last = self.changes["held_out"] if tests is None and undivided else None
        try:
            tested = tests or self.data
            trials = open_trials(tested, assets=self._assets_of(tested), last=last, size=size)
        except ValueError as error:
            if tests is not None:
                raise
            raise ValueError(f"{error} (--test names other data to evaluate on)") from error
        unpaired = trials.questions.get("unpaired", [])
        if not trials.questions.get("paired") and len({question.person for question in unpaired}) < 2:
            raise DataError(f"{tested} gives one unpaired try-on, on which nothing can be measured")
        return trials

    def _assets_of(self, data: Path) -> Path | None:
        """Photos, and what was dressed ahead, have surroundings already."""
        return self.assets if layers.present(data) else None

    def compare(
        self,
        experiment: str,
        students: Mapping[str, Path],
        tests: Path | None,
        size: tuple[int, int],
        inception: Path | None,
        alexnet: Path | None,
    ) -> list[Scores]:
        """Evaluate checkpoints by name, in one report in `out`/`experiment`.

        tests: as for `trials`. inception, alexnet: as for `make_scorer`. Of several processes that trained
        together the first one does it; the others end here.
        """
        if not is_first():
            raise SystemExit(0)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        trials = self.trials(tests, size)
        rivals = [contenders.load_network(name, file, device) for name, file in students.items()]
        scorer = make_scorer(rivals, inception, alexnet, device)
        own = {"data": self.data, "test": tests, "assets": self.assets}
        asked = {**own, "inception": inception, "alexnet": alexnet, **self.changes}
        return evaluate(trials, rivals, scorer, self.out / experiment, device, arguments=asked)


def is_first() -> bool:
    """Whether this process, of those that train together, writes and evaluates."""
    return bool(PartialState(cpu=not has_accelerator()).is_main_process)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of an experiment that trains."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="generated layers, or a data set"
    )
    parser.add_argument("--test", type=Path, metavar="DIR", help="data to evaluate on (samples held out)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="goes on if begun")
    parser.add_argument(
        "--quick", action="store_true", help="minutes on a CPU: lite, 128x96, 40 steps a stage"
    )
    parser.add_argument("--preset", help="architecture (paper)")
    parser.add_argument("--size", type=parse_size, metavar="HxW", help="size of the pictures (512x384)")
    parser.add_argument("--batch", type=int, help="samples a batch and process (4)")
    parser.add_argument("--accumulate", type=int, help="batches a step and process (1)")
    parser.add_argument("--steps", type=int, help="steps of every stage, instead of the published epochs")
    parser.add_argument("--held-out", type=int, help="samples kept from training")
    parser.add_argument("--perceptual", metavar="NAME", help="none, lite0, or the file of VGG-19's weights")
    parser.add_argument(
        "--seed", type=int, help="of the networks' first weights and the order of samples (0)"
    )
    parser.add_argument("--inception", type=Path, metavar="FILE", help="InceptionV3's weights, for FID")
    parser.add_argument("--alexnet", type=Path, metavar="FILE", help="AlexNet's weights, for LPIPS")
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds of layers")
    parser.add_argument("--workers", type=int, default=1, help="processes that read the data (1)")


def open_lab(args: argparse.Namespace) -> Lab:
    """The lab that a command line asks for."""
    changes: dict[str, Any] = dict(QUICK) if args.quick else {"height": 512, "width": 384, "held_out": 32}
    if args.size:
        changes["height"], changes["width"] = args.size
    if args.steps:
        changes["epochs"] = 0
    for name in ("preset", "batch", "accumulate", "steps", "held_out", "perceptual", "seed"):
        if getattr(args, name) is not None:
            changes[name] = getattr(args, name)
    changes["validate_steps"] = min(changes.get("validate_steps", 1000), changes.get("steps", 1000))
    if args.workers < 0:
        raise InputError(f"--workers must be 0 or more, not {args.workers}")
    return Lab(args.data, args.out, changes, args.workers, args.assets)


def size_of(lab: Lab) -> tuple[int, int]:
    """Height and width of the pictures."""
    return lab.changes["height"], lab.changes["width"]


def run(
    name: str,
    description: str | None,
    experiment: Callable[[Lab, argparse.Namespace], str],
    argv: Sequence[str] | None,
) -> int:
    """The command line of an experiment that trains: writes and prints the Markdown it gives; exit status."""

    def command(argv: Sequence[str] | None) -> None:
        parser = Parser(description=description)
        add_arguments(parser)
        args = parser.parse_args(argv)
        lab = open_lab(args)
        # Fail now rather than after the last training.
        lab.trials(args.test, size_of(lab))
        make_scorer((), args.inception, args.alexnet, torch.device("cpu"))
        try:
            text = experiment(lab, args)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the same command goes on in {args.out}") from None
        write_text(args.out / f"{name}.md", text)
        print(text)

    return run_program(command, argv, (ValueError, ImportError), memory="take a smaller --batch")


def measures_of(scores: Sequence[Scores]) -> list[str]:
    """What was measured of any of them, FID first."""
    found = [m for s in scores for m in s.measures()]
    order = sorted(dict.fromkeys(found), key=lambda m: (not m.startswith("FID"), not m.startswith("KID")))
    return list(order)
