"""The report of an evaluation in Markdown, with the published figures of the paper beside, and its trials."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rmgn.contenders import Copy
from rmgn.scores import FID_PICTURES, KID_PICTURES, MEASURES, Scores, compared_pictures, text_of, value_of
from rmgn.trials import Setting

# Table 1 of the paper: FID by data set and method, at 256×192 and 512×384.
PUBLISHED: tuple[tuple[str, str, float, float | None], ...] = (
    ("VITON", "CP-VTON", 24.45, 59.06),
    ("VITON", "CP-VTON+", 21.04, 51.03),
    ("VITON", "ACGPN", 16.73, 47.76),
    ("VITON", "PF-AFN", 10.16, 11.57),
    ("VITON", "RMGN", 9.90, 9.93),
    ("MPV-Sub", "WUTON", 10.89, None),
    ("MPV-Sub", "PF-AFN", 10.01, None),
    ("MPV-Sub", "RMGN", 9.36, None),
)


def markdown(
    data: str, size: tuple[int, int], counts: dict[Setting, int], scores: Sequence[Scores], title: str
) -> str:
    """The report: what was measured, the paper's table with these rows in it, and the groups."""
    said = ", ".join(f"{count} {setting}" for setting, count in counts.items())
    parts = [f"# {title}", f"{data} at {size[0]}×{size[1]}: {said} try-ons."]
    parts.append(table(_main_rows(scores)))
    notes = []
    used = {m for s in scores for m in s.measures()}
    if any(m.endswith("-lite0") for m in used):
        notes.append(
            "Names in -lite0 are measured on EfficientNet-Lite0's features and cannot be compared with FID, "
            "KID or LPIPS."
        )
    if used & {"FID", "KID", "FID-lite0", "KID-lite0"}:
        notes.append(note_of_sets(scores))
    notes.append("± is half a 95% confidence interval over people.")
    parts.append("\n".join(notes))
    differences = _difference_rows(scores)
    if differences:
        note = (
            "Mean over people of each one's difference in the same try-ons. People who are hard for one are "
            "mostly hard for all, which does not count here: contenders whose intervals above overlap may "
            "well differ. Where ± is smaller than the difference, chance alone is unlikely, "
            "though one in twenty such figures is chance: look for several that agree."
        )
        parts += [f"## Difference from {scores[0].name}", table(differences), note]
    parts += ["## Beside the paper's table 1 (FID)", table(_paper_rows(data, size, scores))]
    if "FID" not in used:
        parts.append("FID itself was not measured: it needs InceptionV3's weights (`--inception FILE`).")
    grouped = [s for s in scores if s.groups()]
    if grouped:
        parts.append("## By group")
        for s in grouped:
            parts += [f"### {s.name}", table(_group_rows(s))]
    return "\n\n".join(parts) + "\n"


def note_of_sets(scores: Sequence[Scores]) -> str:
    """What FID and KID compare here, and of how many pictures, since FID depends on that."""
    count = compared_pictures(scores)
    note = (
        f"FID and KID compare the unpaired try-ons with the photos of the same people (the fewer of both: "
        f"{count}): what changes people less comes out better, and leaving them unchanged, which gives those "
        "very photos, best."
    )
    if count < KID_PICTURES:
        return f"{note} Of {count} pictures, both say little: take {KID_PICTURES} or more."
    if count < FID_PICTURES:
        return f"{note} FID depends on the number of pictures, and this one is small: read KID."
    return note


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def _main_rows(scores: Sequence[Scores]) -> list[list[str]]:
    names = [m for m in MEASURES if any(m in s.measures() for s in scores)]
    rows = [["Method", *(MEASURES[m].title for m in names)]]
    best = {}
    for m in names:
        values = [v for s in scores if (v := value_of(s, m)) is not None]
        if any(m in s.sets for s in scores):
            values = [
                v for s in scores if s.name != Copy.name and (v := value_of(s, m)) is not None
            ] or values
        if values:
            best[m] = max(values) if MEASURES[m].better == "up" else min(values)
    for s in scores:
        row = [s.name]
        for m in names:
            value, text = value_of(s, m), text_of(s, m)
            wins = (
                value is not None
                and value == best[m]
                and len(scores) > 1
                and not (m in s.sets and s.name == Copy.name)
            )
            number, plus_minus, half = text.partition(" ± ")
            row.append(f"**{number}**{plus_minus}{half}" if wins else text)
        rows.append(row)
    return rows


def _difference_rows(scores: Sequence[Scores]) -> list[list[str]]:
    """Of every contender from the first; none where nothing was measured of both."""
    first, *others = scores
    found = {s.name: {m: s.difference(first, m) for m in MEASURES} for s in others}
    names = [m for m in MEASURES if any(means[m] for means in found.values())]
    if not names:
        return []
    rows = [[name, *(MEASURES[m].interval(means[m], "+") for m in names)] for name, means in found.items()]
    return [["Method", *(MEASURES[m].title for m in names)], *rows]


def trials_csv(scores: Sequence[Scores]) -> str:
    """A line a contender and trial with what was measured of it; unpaired trials have no measures."""
    names = [m for m in MEASURES if any(m in r.values for s in scores for r in s.rows)]
    text = io.StringIO()
    head = ["contender", "setting", "trial", "subject", "person", "garment", *names]
    writer = csv.DictWriter(text, head, restval="", lineterminator="\n")
    writer.writeheader()
    for s in scores:
        for trial in s.trials():
            writer.writerow({"contender": s.name, "trial": trial.pop("name"), **trial})
    return text.getvalue()


def _paper_rows(data: str, size: tuple[int, int], scores: Sequence[Scores]) -> list[list[str]]:
    sizes = [(256, 192), (512, 384)]
    if size not in sizes:
        sizes.append(size)
    rows = [["Data", "Method", *(f"{h}×{w}" for h, w in sizes)]]
    for dataset, method, small, large in PUBLISHED:
        cells = [f"{v:.2f}" if v is not None else "–" for v in (small, large)]
        rows.append([dataset, f"{method} (published)", *cells, *["–"] * (len(sizes) - 2)])
    for s in scores:
        text = f"{s.sets['FID']:.2f}" if "FID" in s.sets else "–"
        rows.append([data, f"{s.name} (here)", *(text if size == wanted else "–" for wanted in sizes)])
    return rows


def _group_rows(s: Scores) -> list[list[str]]:
    names = [m for m in MEASURES if any(m in r.values for r in s.rows)]
    rows = [["", "Group", "People", *(MEASURES[m].title for m in names)]]
    for axis, groups in s.groups().items():
        for n, group in enumerate(groups):
            means = [s.mean(m, axis, group) for m in names]
            people = max((m.subjects for m in means if m), default=0)
            cells = [MEASURES[m].interval(v) for m, v in zip(names, means, strict=True)]
            rows.append([axis if n == 0 else "", group, str(people), *cells])
    return rows
