r"""Measure try-on results, of one system or of several on the same pictures.

    python -m rmgn.evaluate --checkpoint runs/full/best.safetensors --data eval-256 --out report
    python -m rmgn.evaluate --checkpoint ours.safetensors --checkpoint pfafn.safetensors --name PF-AFN \
        --baseline untrained --baseline copy --baseline paste --data eval-256 --out report
    python -m rmgn.evaluate --bundle bundles/fp16 --engine onnxruntime --data eval-256 --out report

Writes to --out: report.json, report.md (a table in the paper's form), trials.csv, index.html (a gallery) and
sheet.jpg. See docs/evaluation.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from tqdm import tqdm

from engines import BACKENDS
from engines.program import Parser, run
from engines.whole_file import check_folder
from rmgn import contenders
from rmgn.config import PRESETS, parse_size
from rmgn.contenders import Answer, Contender
from rmgn.data.files import to_bgr
from rmgn.gallery import Entry, contact_sheet, write_page, write_picture, write_text
from rmgn.kept import Kept, require_empty, require_folders
from rmgn.open_trials import open_trials
from rmgn.perceptual import EfficientNetLite0
from rmgn.report import markdown, trials_csv
from rmgn.scores import Scorer, Scores
from rmgn.trials import Setting, Trial, Trials, name_of

OWN_PICTURES = re.compile(r"sheet(_(un)?paired)?\.jpg|pictures/(un)?paired_.+_\d+\.jpg")  # of a report
SETTINGS: dict[str, tuple[Setting, ...]] = {
    "paired": ("paired",),
    "unpaired": ("unpaired",),
    "both": ("paired", "unpaired"),
}


class Entrant(NamedTuple):
    """A contender as the command line names it."""

    kind: str  # checkpoint, bundle, results, baseline
    what: str  # file, folder or baseline
    name: str


def evaluate(
    trials: Trials,
    rivals: Sequence[Contender],
    scorer: Scorer,
    out: Path,
    device: torch.device,
    shown: int = 32,
    keep: bool = False,
    arguments: Mapping[str, object] | None = None,
) -> list[Scores]:
    """One pass over the trials; writes the report and returns the scores.

    shown: how many of each setting go into the gallery. keep: write every picture too, see `Kept`.
    arguments: what was asked for, to be told in report.json.
    """
    require_empty(out)
    if keep:  # an older report would else tell of pictures that are not its own, should this one not finish
        (out / "report.json").unlink(missing_ok=True)
    kept = Kept(out, [rival.name for rival in rivals]) if keep else None
    entries: dict[Setting, list[Entry]] = {setting: [] for setting in trials.questions}
    counts: dict[Setting, int] = dict.fromkeys(trials.questions, 0)
    size = (0, 0)
    with tqdm(total=len(trials), unit="picture") as bar:
        for trial in trials:
            trial = trial.to(device)
            size = (trial.person.shape[-2], trial.person.shape[-1])
            answers = [rival(trial) for rival in rivals]
            values = scorer.add(trial, answers)
            first = entries[trial.setting]
            first += _entries(trial, answers, values)[: shown - len(first)]
            counts[trial.setting] += len(trial.names)
            if kept:
                kept.add(trial, [answer.tryon for answer in answers])
            bar.update(len(trial.names))
    scores = scorer.finish()
    report = {
        "data": trials.name,
        "height": size[0],
        "width": size[1],
        "trials": counts,
        "arguments": {} if arguments is None else arguments,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "torchmetrics": version("torchmetrics"),
        "python": platform.python_version(),
        "kept": kept.folders if kept else {},
        "contenders": [score.to_json(scores[0]) for score in scores],
    }
    text = json.dumps(report, indent=1, allow_nan=False, default=str)  # of arguments, files and the device
    write_text(out / "report.json", text + "\n")
    write_text(out / "report.md", markdown(trials.name, size, counts, scores, "Evaluation"))
    write_text(out / "trials.csv", trials_csv(scores))
    _write_pictures(out, trials.name, entries, [rival.name for rival in rivals])
    return scores


def _entries(
    trial: Trial, answers: Sequence[Answer], values: Sequence[Sequence[dict[str, float]]]
) -> list[Entry]:
    made = []
    for n, name in enumerate(trial.names):
        pictures = [trial.person[n], trial.garment[n], *(answer.tryon[n] for answer in answers)]
        if trial.truth is not None:
            pictures.append(trial.truth[n])
        own = [v[n] for v in values] if trial.truth is not None else []
        made.append(Entry(name, trial.setting, [to_bgr(picture) for picture in pictures], own))
    return made


def _write_pictures(out: Path, data: str, entries: dict[Setting, list[Entry]], rivals: Sequence[str]) -> None:
    for older in [*out.glob("*.jpg"), *out.glob("pictures/*.jpg")]:
        if OWN_PICTURES.fullmatch(older.relative_to(out).as_posix()):
            older.unlink()
    for setting, shown in entries.items():
        if shown:
            titles = ["person", "garment", *rivals, *(["truth"] if setting == "paired" else [])]
            suffix = "" if setting == next(iter(entries)) else f"_{setting}"
            write_picture(out / f"sheet{suffix}.jpg", contact_sheet(shown, titles), quality=88)
    every = [entry for shown in entries.values() for entry in shown]
    note = f"The first {len(every)} try-ons of {data}, none chosen."
    titles = ["person", "garment", *rivals, "truth"]
    write_page(out / "index.html", f"Try-on: {data}", note, every, titles, rivals)


def open_contenders(
    entrants: Sequence[Entrant], trials: Trials, engine: str, device: torch.device
) -> list[Contender]:
    """The contenders in their order. Raises CheckpointError, EngineError, DataError."""
    rivals: list[Contender] = []
    networks = {
        entrant: contenders.load_network(entrant.name, Path(entrant.what), device)
        for entrant in entrants
        if entrant.kind == "checkpoint"
    }
    for entrant in entrants:
        kind, what, name = entrant
        if kind == "checkpoint":
            rivals.append(networks[entrant])
        elif kind == "bundle":
            rivals.append(contenders.Bundle(name, Path(what), engine))
        elif kind == "results":
            rivals.append(contenders.Results(name, Path(what), trials.questions))
        elif what == "copy":
            rivals.append(contenders.Copy())
        elif what == "paste":
            rivals.append(contenders.Paste())
        else:
            config = next((network.model.config for network in networks.values()), PRESETS["lite"])
            rivals.append(contenders.untrained(config, device))
    require_folders([rival.name for rival in rivals])
    return rivals


def make_scorer(
    rivals: Sequence[Contender], inception: Path | None, alexnet: Path | None, device: torch.device
) -> Scorer:
    """Measures with the networks whose weights are at hand. Raises MetricError, ImportError."""
    from rmgn import metrics

    lite0 = EfficientNetLite0().to(device) if inception is None or alexnet is None else None
    patches: metrics.PatchSimilarity
    features: metrics.SetFeatures
    if alexnet is not None:
        patches = metrics.Lpips(alexnet).to(device)
    else:
        assert lite0 is not None
        patches = metrics.LpipsLite0(lite0)
    if inception is not None:
        features = metrics.InceptionFeatures(inception, device)
    else:
        assert lite0 is not None
        features = metrics.Lite0Features(lite0)
    return Scorer(rivals, patches, features)


class _AddEntrant(argparse.Action):
    """Collects contenders of all kinds in the order of the command line."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        entrants: list[Entrant] = getattr(namespace, "entrants", None) or []
        if option == "--name":
            if not entrants or entrants[-1].kind == "baseline":
                parser.error("--name stands after the --checkpoint, --bundle or --results that it names")
            if getattr(namespace, "named", None) == len(entrants):
                parser.error(
                    f"--name {values} is a second name of {entrants[-1].what}: each has its own behind it"
                )
            entrants[-1] = entrants[-1]._replace(name=values)
            namespace.named = len(entrants)
        else:
            kind = str(option).removeprefix("--")
            path = Path(values)
            stem = path.stem if kind == "checkpoint" else name_of(path)
            if kind == "checkpoint" and stem in ("best", "last"):  # known by the run
                stem = name_of(path.parent)
            entrants = [*entrants, Entrant(kind, values, stem or path.name)]
        namespace.entrants = entrants


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text!r} is no device; cpu, cuda and cuda:1 are") from None
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"networks are measured on cpu or cuda, not on {device.type}")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"there is no {device} here, of {torch.cuda.device_count()} devices")
    return device


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    who = parser.add_argument_group("what to evaluate, one or more")
    who.add_argument("--checkpoint", action=_AddEntrant, metavar="FILE", help="weights, run in PyTorch")
    who.add_argument("--bundle", action=_AddEntrant, metavar="DIR", help="a bundle, run on --engine")
    who.add_argument("--results", action=_AddEntrant, metavar="DIR", help="another system's pictures")
    who.add_argument("--name", action=_AddEntrant, help="name of the one before, for the tables")
    who.add_argument(
        "--baseline",
        action=_AddEntrant,
        choices=contenders.BASELINES,
        help="copy: the person unchanged; paste: the garment stretched into its true box; untrained: random "
        "weights of the first checkpoint's architecture",
    )
    who.add_argument("--engine", default="auto", choices=["auto", *BACKENDS], help="backend of the bundles")
    data = parser.add_argument_group("on what")
    data.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="layers of rmgn.data.generate, or a data set in a layout of docs/datasets.md",
    )
    data.add_argument("--pairs", type=Path, metavar="FILE", help="person and garment a line, for photos")
    data.add_argument("--setting", choices=list(SETTINGS), help="both for layers, unpaired for photos")
    data.add_argument("--first", type=_count, metavar="N", help="only the first N samples")
    data.add_argument("--last", type=_count, metavar="N", help="only the last N samples")
    data.add_argument(
        "--size", type=parse_size, metavar="HxW", help="size of the try-ons: the layers' own, photos 256x192"
    )
    data.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds")
    how = parser.add_argument_group("how")
    how.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report")
    how.add_argument("--inception", type=Path, metavar="FILE", help="InceptionV3's weights, for FID and KID")
    how.add_argument("--alexnet", type=Path, metavar="FILE", help="AlexNet's weights, for LPIPS")
    how.add_argument("--batch", type=_count, default=4, help="try-ons at once (4); of layers 2 or more")
    how.add_argument("--workers", type=int, default=0, help="processes that read and dress the data (0)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how.add_argument("--device", type=_device, default=device, help="of checkpoints and measures (the GPU)")
    how.add_argument("--show", type=_count, default=32, metavar="N", help="try-ons in gallery and sheet (32)")
    how.add_argument("--keep", action="store_true", help="write every result as a picture too")
    args = parser.parse_args(argv)
    if not getattr(args, "entrants", None):
        parser.error("nothing to evaluate: give a --checkpoint, --bundle, --results or --baseline")
    if args.workers < 0:
        parser.error(f"--workers must be 0 or more, not {args.workers}")
    if args.first and args.last:
        parser.error("--first and --last exclude each other")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    check_folder(args.out)  # now rather than after the last trial
    require_empty(args.out)
    cv2.setNumThreads(1)
    rivals: list[Contender] = []
    try:
        settings = SETTINGS.get(args.setting)
        trials = open_trials(
            args.data,
            settings,
            batch=args.batch,
            pairs=args.pairs,
            assets=args.assets,
            first=args.first,
            last=args.last,
            workers=args.workers,
            size=args.size,
        )
        rivals = open_contenders(args.entrants, trials, args.engine, args.device)
        scorer = make_scorer(rivals, args.inception, args.alexnet, args.device)
        own = ("entrants", "named")  # which the report tells by contender
        asked = {name: v for name, v in vars(args).items() if v is not None and name not in own}
        evaluate(trials, rivals, scorer, args.out, args.device, args.show, args.keep, asked)
    finally:
        for rival in rivals:
            if isinstance(rival, contenders.Bundle):
                rival.session.close()
    print((args.out / "report.md").read_text(encoding="utf-8").split("\n## ")[0])
    print(f"more in {args.out}: report.md, report.json, trials.csv, index.html, sheet.jpg")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError, ImportError), memory="take a smaller --batch")


if __name__ == "__main__":
    sys.exit(main())
