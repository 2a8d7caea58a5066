r"""Table 2: a user study. People choose the more realistic of two results, ours and a baseline's.

    python -m rmgn.evaluate --checkpoint ours.safetensors --checkpoint pfafn.safetensors --name PF-AFN \
        --data eval-256 --setting unpaired --keep --out report
    python -m rmgn.experiments.table2 page report --ours ours --baseline PF-AFN --out study
    python -m rmgn.experiments.table2 count study votes/*.json

`page` writes study/index.html, which opens without a server: every participant sees the questions in another
order with sides exchanged by chance, and saves the votes as a JSON file. `count` prints the table. Hand
participants the folder without study/key.json: it tells which picture is whose.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import stats

from engines import picture_files
from engines.program import InputError, Parser, run
from engines.whole_file import check_apart, check_folder, check_writable
from rmgn.gallery import write_picture, write_text
from rmgn.kept import INPUTS
from rmgn.report import table
from rmgn.scores import half_interval

TEMPLATE = Path(__file__).with_name("study.html")

# Data, baseline, height, share of votes for the baseline and for RMGN in per cent, as published.
PUBLISHED = (
    ("VITON", "CP-VTON", 256, 8.6, 91.4),
    ("VITON", "CP-VTON+", 256, 6.3, 93.7),
    ("VITON", "ACGPN", 256, 14.9, 85.1),
    ("VITON", "PF-AFN", 512, 23.7, 76.3),
    ("MPV-Sub", "WUTON", 256, 18.3, 81.7),
    ("MPV-Sub", "PF-AFN", 256, 24.4, 75.6),
)


class StudyError(InputError):
    """The study cannot be made or counted; the message says why."""


class Tally(NamedTuple):
    """Votes between ours and one baseline."""

    baseline: str
    ours: int
    votes: int
    by_person: tuple[float, ...]  # share of each participant's votes for ours


def write_study(
    report: Path, ours: str, baselines: Sequence[str], out: Path, count: int, setting: str, seed: int
) -> int:
    """Write the page for `count` try-ons a baseline, drawn at random; returns the number of questions.

    report: the folder of an evaluation with --keep. Raises StudyError.
    """
    if ours in baselines:
        raise StudyError(f"{ours} cannot be its own baseline")
    if len(set(baselines)) < len(baselines):
        raise StudyError("a --baseline is given twice: its questions would be asked and counted twice")
    check_folder(out)
    if out.exists() and any(out.iterdir()):
        raise StudyError(f"{out} is not empty: a study's folder is made once, votes belong to it")
    data, kept, common = _read_report(report, setting)
    for name in (ours, *baselines):
        if name not in kept:
            others = f", but of {', '.join(kept)}" if kept else ""
            raise StudyError(f"{report} has no pictures of {name}{others}: evaluate {name} with --keep")
    if not common:
        raise StudyError(f"{report} has no {setting} try-ons: evaluate with --setting {setting} --keep")
    systems = {name: kept[name] / setting for name in (ours, *baselines)}
    rng = np.random.default_rng(seed)
    # The study's name depends on all that is shown, so that votes on other pictures do not count for it.
    digest = hashlib.sha256(repr((ours, tuple(baselines), common, count, seed)).encode())
    questions: list[dict[str, str]] = []
    key: dict[str, dict[str, str]] = {}
    height = 0
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        work = Path(temporary) / out.name
        for baseline in baselines:
            chosen = rng.choice(len(common), min(count, len(common)), replace=False)
            for trial in (common[n] for n in sorted(chosen)):
                name = f"q{len(questions):04d}"
                first = (ours, baseline) if rng.random() < 0.5 else (baseline, ours)
                files = {
                    "person": report / INPUTS / "person" / setting / f"{trial}.png",
                    "garment": report / INPUTS / "garment" / setting / f"{trial}.png",
                    "a": systems[first[0]] / f"{trial}.png",
                    "b": systems[first[1]] / f"{trial}.png",
                }
                question = {"id": name}
                for part, file in files.items():
                    picture = picture_files.decoded(file, cv2.IMREAD_COLOR)
                    if picture is None:
                        raise StudyError(f"{file} is missing or no picture")
                    digest.update(picture.tobytes())
                    height = picture.shape[0]
                    question[part] = f"pictures/{name}_{part}.png"
                    write_picture(work / question[part], np.asarray(picture, np.uint8))
                questions.append(question)
                key[name] = {"baseline": baseline, "trial": trial, "a": first[0], "b": first[1]}
        study = digest.hexdigest()[:12]
        page = json.dumps({"id": study, "questions": questions}).replace("<", "\\u003c")
        write_text(work / "index.html", TEMPLATE.read_text(encoding="utf-8").replace("STUDY", page, 1))
        content = {"id": study, "data": data, "height": height, "ours": ours, "questions": key}
        write_text(work / "key.json", json.dumps(content, indent=1) + "\n")
        out.mkdir(exist_ok=True)
        for part in ("pictures", "key.json", "index.html"):
            (work / part).rename(out / part)
    return len(questions)


def _read_report(report: Path, setting: str) -> tuple[str, dict[str, Path], list[str]]:
    """The data's name, each contender's folder of pictures, and the names of a setting's trials.

    What else lies in the folders is of no evaluation, or of an older one.
    """
    try:
        content = json.loads((report / "report.json").read_text(encoding="utf-8"))
        if isinstance(content, dict) and "kept" not in content:
            raise StudyError(
                f"{report} is of an older version: evaluate again with --keep, into another --out"
            )
        kept = {name: report / folder for name, folder in content["kept"].items()}
        trials = [t["name"] for t in content["contenders"][0]["trials"] if t["setting"] == setting]
        return str(content["data"]), kept, sorted(trials)
    except StudyError:  # a ValueError too
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(f"{report} holds no finished evaluation: report.json: {error!r}") from error


def read_key(study: Path) -> dict[str, Any]:
    """The study's key.json. Raises StudyError."""
    file = study / "key.json"
    try:
        key: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for name in ("id", "data", "height", "ours"):
            key[name]
        for asked in key["questions"].values():
            if {asked["a"], asked["b"]} != {asked["baseline"], key["ours"]}:
                raise ValueError(f"{asked} does not ask for {key['ours']}")
    except FileNotFoundError:
        raise StudyError(f"{file} does not exist: give the folder that `page` wrote") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{file} is damaged ({error!r}): write the study again, with the same command and another --out, "
            "and take that one's"
        ) from error
    return key


def count_votes(study: Path, files: Sequence[Path]) -> tuple[dict[str, Any], list[Tally]]:
    """The study's key and the tally of each baseline. Raises StudyError for votes that do not belong."""
    key = read_key(study)
    seen: dict[str, Path] = {}
    # baseline -> participant -> whether each vote is for ours
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        try:
            votes = json.loads(file.read_text(encoding="utf-8"))
            person = votes["participant"]
            if not isinstance(person, str):
                raise ValueError(f"its participant is {person}")
            answers = {str(v["question"]): str(v["chosen"]) for v in votes["votes"]}
            own = votes["study"] == key["id"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise StudyError(f"{file} is not a file of votes: {error}") from error
        if not own:
            raise StudyError(f"{file} belongs to another study")
        if person in seen:
            raise StudyError(f"{file} and {seen[person]} are of one participant: count one of them")
        seen[person] = file
        if missing := key["questions"].keys() - answers.keys():
            raise StudyError(f"{file} lacks {len(missing)} of {len(key['questions'])} votes: leave it out")
        for question, chosen in answers.items():
            if question not in key["questions"] or chosen not in ("a", "b"):
                raise StudyError(f"{file} has a vote that the study does not: {question}, {chosen}")
            asked = key["questions"][question]
            found[asked["baseline"]][person].append(asked[chosen] == key["ours"])
    tallies = []
    for baseline in dict.fromkeys(asked["baseline"] for asked in key["questions"].values()):
        votes_of = list(found[baseline].values())
        tallies.append(
            Tally(
                baseline,
                sum(map(sum, votes_of)),
                sum(map(len, votes_of)),
                tuple(float(np.mean(v)) for v in votes_of),
            )
        )
    return key, tallies


def vote_interval(ours: int, votes: int) -> tuple[float, float]:
    """95% Wilson interval of the share of votes, as if every vote were independent."""
    interval = stats.binomtest(ours, votes).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def person_interval(shares: Sequence[float]) -> tuple[float, float] | None:
    """95% t interval of the mean share over participants, whose votes are not independent.

    None where it would be nothing but the mean: of one participant, or where all have the same share.
    """
    error = half_interval(shares)
    if error is None or len(set(shares)) == 1:
        return None
    mean = float(np.mean(shares))
    return max(0.0, mean - error), min(1.0, mean + error)


def markdown(key: dict[str, Any], tallies: Sequence[Tally]) -> str:
    """The paper's table 2 with this study below."""
    head = ["Data", "Baseline (A)", "Height", "A / B", "95% over votes", "95% over people", "votes", "people"]
    rows = [head]
    for data, baseline, height, theirs, ours in PUBLISHED:
        shares = f"{theirs:.1f}% / **{ours:.1f}%**"
        rows.append([data, f"{baseline} (published)", str(height), shares, "–", "–", "–", "20"])
    for tally in tallies:
        share = tally.ours / tally.votes
        people = person_interval(tally.by_person)
        rows.append(
            [
                str(key["data"]),
                f"{tally.baseline} (here)",
                str(key["height"]),
                f"{100 * (1 - share):.1f}% / {100 * share:.1f}%",
                _range(vote_interval(tally.ours, tally.votes)),
                _range(people) if people else "–",
                str(tally.votes),
                str(len(tally.by_person)),
            ]
        )
    note = (
        f"A: the baseline, B: RMGN, here {key['ours']}. Intervals are of B's share; the one over people (t\n"
        "distribution) allows for one person's votes being alike, the one over votes (Wilson) does not.\n"
        "Both are for these questions: other pictures would give other shares."
    )
    return f"# User study\n\n{note}\n\n{table(rows)}\n"


def _range(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}%"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page", help="write the page that asks")
    page.add_argument("report", type=Path, help="folder of an evaluation with --keep")
    page.add_argument("--ours", required=True, metavar="NAME", help="contender of the report")
    page.add_argument(
        "--baseline", action="append", required=True, metavar="NAME", help="another; repeatable"
    )
    page.add_argument("--count", type=int, default=30, help="questions a baseline (30)")
    page.add_argument(
        "--setting", choices=["paired", "unpaired"], default="unpaired", help="of the try-ons (unpaired)"
    )
    page.add_argument("--seed", type=int, default=0, help="of the choice and order of questions (0)")
    page.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the page")
    tally = commands.add_parser("count", help="print the table")
    tally.add_argument("study", type=Path, help="folder that `page` wrote")
    tally.add_argument("votes", type=Path, nargs="+", help="files that participants saved")
    tally.add_argument("--out", type=Path, metavar="FILE", help="write the table there too")
    args = parser.parse_args(argv)
    if args.command == "page" and (args.count < 1 or args.seed < 0):
        parser.error("--count counts from 1, --seed from 0")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    if args.command == "page":
        count = write_study(
            args.report, args.ours, args.baseline, args.out, args.count, args.setting, args.seed
        )
        print(f"{count} questions in {args.out / 'index.html'}; keep {args.out / 'key.json'} to yourself")
    else:
        if args.out:
            check_writable(args.out)
            check_apart([args.out], [*args.votes, args.study / "key.json", args.study / "index.html"])
        text = markdown(*count_votes(args.study, args.votes))
        print(text)
        if args.out:
            write_text(args.out, text)


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
