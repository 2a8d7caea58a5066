r"""Figure 5: how the number of fake persons in the posture awareness loss tells on the result.

    python -m rmgn.experiments.figure5 --data layers --quick --out figure5

Trains a parser-based teacher, then one student each on 1, 2 and 3 fake persons a sample. Writes figure5.md,
figure5.svg and the report of rmgn.evaluate in figure5/; begun again, it goes on where it was stopped. With
the --out of table 3 it takes over what both have in common, all but the student of 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rmgn.experiments.lab import NOTE, Lab, measures_of, run, size_of
from rmgn.gallery import write_text
from rmgn.report import note_of_sets, table
from rmgn.scores import FID_PICTURES, MEASURES, Scores, compared_pictures, text_of, value_of
from rmgn.trials import name_of

NUMBERS = (1, 2, 3)
WIDTH, HEIGHT, MARGIN = 360, 240, 40


def markdown(data: str, size: tuple[int, int], scores: Sequence[Scores]) -> str:
    """A row a number of fake persons."""
    names = measures_of(scores)
    rows = [["Fake persons", *(MEASURES[m].title for m in names)]]
    for number, s in zip(NUMBERS, scores, strict=True):
        rows.append([str(number), *(text_of(s, m) for m in names)])
    note = f"{data} at {size[0]}×{size[1]}. {NOTE} {note_of_sets(scores)}"
    return f"# Figure 5: number of fake persons\n\n{note}\n\n{table(rows)}\n"


def charted(scores: Sequence[Scores]) -> str:
    """The measure of the chart: FID, which the paper draws, or KID where FID has too few pictures."""
    few = compared_pictures(scores) < FID_PICTURES
    return next(m for m in measures_of(scores) if not (few and m.startswith("FID")))


def chart(values: Sequence[float], title: str, digits: int) -> str:
    """Values over NUMBERS as an SVG picture: points joined by lines, from the least to the greatest value."""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = (WIDTH - 2 * MARGIN) / (len(values) - 1)
    points = [
        (MARGIN + n * step, HEIGHT - MARGIN - (v - low) / span * (HEIGHT - 2 * MARGIN))
        for n, v in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        f'<text x="{x:.1f}" y="{y - 10:.1f}">{v:.{digits}f}</text>'
        f'<text x="{x:.1f}" y="{HEIGHT - 12}">{number}</text>'
        for (x, y), v, number in zip(points, values, NUMBERS, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" text-anchor="middle"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{WIDTH / 2}" y="16">{title} by number of fake persons</text>'
        f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>{marks}</svg>\n'
    )


def experiment(lab: Lab, args: argparse.Namespace) -> str:
    """Train and compare a student for each number; writes figure5.svg, and gives the table."""
    students = {f"{n} fake": lab.student("full", n) for n in NUMBERS}
    scores = lab.compare("figure5", students, args.test, size_of(lab), args.inception, args.alexnet)
    measure = charted(scores)
    values = [v for s in scores if (v := value_of(s, measure)) is not None]
    how = MEASURES[measure]
    write_text(args.out / "figure5.svg", chart([v * how.factor for v in values], how.title, how.digits))
    return markdown(name_of(args.test or args.data), size_of(lab), scores)


def main(argv: Sequence[str] | None = None) -> int:
    return run("figure5", __doc__, experiment, argv)


if __name__ == "__main__":
    sys.exit(main())
