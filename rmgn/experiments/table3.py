r"""Table 3, the ablation: PF-AFN's generator, + extractor, + regional mask, + posture awareness loss.

    python -m rmgn.experiments.table3 --data layers --quick --out table3
    python -m rmgn.experiments.table3 --data VITON --inception inception.pth --out table3

Trains a parser-based teacher, then A to D on its fake persons: A to C on one a sample, D on three of one
posture. Writes table3.md and the report of rmgn.evaluate in table3/; begun again, it goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from rmgn import checkpoint
from rmgn.experiments.lab import NOTE, Lab, measures_of, run, size_of
from rmgn.report import note_of_sets, table
from rmgn.scores import MEASURES, Scores, text_of
from rmgn.trials import name_of


class Variant(NamedTuple):
    """A column of the table."""

    modules: tuple[bool, bool, bool, bool]
    kind: str  # of the run's name
    fakes: int
    model: dict[str, Any]
    published: float  # FID on VITON at 512x384


MODULES = ("Baseline", "Multi-level feature extractor", "Regional mask", "Posture awareness loss")
VARIANTS = {
    "A": Variant((True, False, False, False), "pfafn", 1, {"generator": "pfafn"}, 11.57),
    "B": Variant((True, True, False, False), "no-mask", 1, {"regional_mask": False}, 10.73),
    "C": Variant((True, True, True, False), "full", 1, {}, 10.45),
    "D": Variant((True, True, True, True), "full", 3, {}, 9.93),
}


def markdown(data: str, size: tuple[int, int], scores: Sequence[Scores], parameters: Sequence[int]) -> str:
    """The paper's table with what was measured here below."""
    rows = [["Modules", *VARIANTS]]
    for n, module in enumerate(MODULES):
        rows.append([module, *("✓" if v.modules[n] else "" for v in VARIANTS.values())])
    rows.append(["FID ↓ (published, VITON 512×384)", *(f"{v.published:.2f}" for v in VARIANTS.values())])
    rows += [[f"{MEASURES[m].title} (here)", *(text_of(s, m) for s in scores)] for m in measures_of(scores)]
    rows.append(["Parameters, million", *(f"{p / 1e6:.2f}" for p in parameters)])
    note = f"Here: {data} at {size[0]}×{size[1]}. {NOTE} {note_of_sets(scores)}"
    return f"# Table 3: ablation\n\n{note}\n\n{table(rows)}\n"


def experiment(lab: Lab, args: argparse.Namespace) -> str:
    """Train and compare all variants; the table."""
    students = {name: lab.student(v.kind, v.fakes, **v.model) for name, v in VARIANTS.items()}
    scores = lab.compare("table3", students, args.test, size_of(lab), args.inception, args.alexnet)
    sizes = [sum(p.numel() for p in checkpoint.load(f).parameters()) for f in students.values()]
    return markdown(name_of(args.test or args.data), size_of(lab), scores, sizes)


def main(argv: Sequence[str] | None = None) -> int:
    return run("table3", __doc__, experiment, argv)


if __name__ == "__main__":
    sys.exit(main())
