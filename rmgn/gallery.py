"""Pictures of an evaluation to look at: a contact sheet and a page, of the first trials, none chosen."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt

from engines.whole_file import write_whole

Bgr = npt.NDArray[np.uint8]
LINE = 18  # height of a caption
WIDEST, TALLEST = 3200, 65000  # of a sheet, in pixels; JPEG ends at 65535


def write_picture(file: Path, picture: Bgr, quality: int = 90) -> None:
    """Write a PNG or JPEG; it appears under its name when it is complete.

    Raises ValueError for a picture that is larger than its format knows.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if file.suffix in (".jpg", ".jpeg") else []
    written, data = cv2.imencode(file.suffix, picture, options)
    if not written:
        raise ValueError(f"{file}: {picture.shape[1]}x{picture.shape[0]} pixels are too many for its format")
    write_whole(file, data.tobytes())


def write_text(file: Path, text: str) -> None:
    """Write text; it appears under its name when it is complete. Names of files may hold what is no text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, text.encode(errors="backslashreplace"))


@dataclass
class Entry:
    """One trial's pictures, in the order shown: person, garment, each contender's, and the truth if known."""

    name: str
    setting: str
    pictures: list[Bgr]
    values: list[dict[str, float]] = field(default_factory=list)  # one a contender; empty without truth


def caption(text: str, width: int) -> Bgr:
    """A white strip with text, cut where it does not fit."""
    strip = np.full((LINE, width, 3), 255, np.uint8)
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(strip, plain, (3, LINE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def contact_sheet(entries: Sequence[Entry], titles: Sequence[str]) -> Bgr:
    """Entries of one setting side by side and below one another, the first ones where not all find room.

    titles: of each entry's pictures.
    """
    scale = -(-192 // entries[0].pictures[0].shape[1])  # captions need room
    entries = [
        replace(e, pictures=[np.kron(p, np.ones((scale, scale, 1), np.uint8)) for p in e.pictures])
        for e in entries
    ]
    height, width = entries[0].pictures[0].shape[:2]
    group = len(entries[0].pictures) * width
    columns = max(1, min(len(entries), (WIDEST + LINE) // (group + LINE)))
    gap = np.full((height, LINE, 3), 255, np.uint8)

    def across(parts: Sequence[Bgr]) -> Bgr:
        gaps = [gap[: parts[0].shape[0]]] * len(parts)
        return np.hstack([x for pair in zip(parts, gaps, strict=True) for x in pair][:-1])

    head = np.hstack([caption(title, width) for title in titles])
    rows = [across([head] * columns)]
    blank = np.full((height, group, 3), 255, np.uint8)
    for start in range(0, min(len(entries), (TALLEST - LINE) // height * columns), columns):
        tiles = [np.hstack(entry.pictures) for entry in entries[start : start + columns]]
        rows.append(across(tiles + [blank] * (columns - len(tiles))))
    return np.ascontiguousarray(np.vstack(rows))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body {{ font: 14px system-ui, sans-serif; margin: 1rem; }}
 table {{ border-collapse: collapse; }} td, th {{ padding: 2px; text-align: left; vertical-align: top; }}
 th {{ position: sticky; top: 0; background: #fff; }} img {{ display: block; max-width: 22vw; }}
 small {{ color: #555; font-variant-numeric: tabular-nums; }}
</style>
<h1>{title}</h1>
<p>{note}</p>
<p><label>Order: <select id="order"><option value="">as in the data</option>{orders}</select></label></p>
<table><thead><tr><th></th>{heads}</tr></thead><tbody>
{rows}
</tbody></table>
<script>
const body = document.querySelector("tbody"), rows = [...body.rows];
document.getElementById("order").onchange = (event) => {{
  if (!event.target.value) {{ body.append(...rows); return; }}
  const [key, worst] = JSON.parse(event.target.value);
  const value = (row) => JSON.parse(row.dataset.values)[key];
  const known = rows.filter((row) => value(row) !== undefined);
  const rest = rows.filter((row) => value(row) === undefined);
  body.append(...known.sort((a, b) => (value(a) - value(b)) * (worst === "low" ? 1 : -1)), ...rest);
}};
</script>
</html>
"""


def write_page(
    file: Path,
    title: str,
    note: str,
    entries: Sequence[Entry],
    titles: Sequence[str],
    contenders: Sequence[str],
) -> None:
    """An HTML page with the entries' pictures in a folder `pictures` beside it; works without a server."""
    rows, measures = [], []
    for entry in entries:
        names = [f"pictures/{entry.setting}_{entry.name}_{n}.jpg" for n in range(len(entry.pictures))]
        for name, picture in zip(names, entry.pictures, strict=True):
            write_picture(file.parent / name, picture)
        cells = []
        for n, name in enumerate(names):
            values = entry.values[n - 2] if 2 <= n < 2 + len(entry.values) else {}
            said = " · ".join(f"{k} {v:.3g}" for k, v in values.items() if v == v)
            address = quote(os.fsencode(name))  # of the file's own bytes, which may be no text
            cells.append(
                f'<td><img loading="lazy" src="{html.escape(address)}" alt=""><small>{said}</small></td>'
            )
        flat = {
            f"{c}: {k}": v for c, own in zip(contenders, entry.values, strict=False) for k, v in own.items()
        }
        measures += [key for key in flat if key not in measures]
        data = html.escape(json.dumps({k: round(v, 5) for k, v in flat.items() if v == v}))
        missing = "<td></td>" * (len(titles) - len(names))
        rows.append(
            f'<tr data-values="{data}"><td>{html.escape(entry.name)}<br><small>{entry.setting}</small></td>'
            f"{''.join(cells)}{missing}</tr>"
        )
    orders = "".join(
        f'<option value="{html.escape(json.dumps([m, worst]))}">{html.escape(m)}, worst first</option>'
        for m in measures
        for worst in ["low" if m.endswith(("SSIM", "PSNR")) else "high"]
    )
    heads = "".join(f"<th>{html.escape(t)}</th>" for t in titles)
    page = _PAGE.format(
        title=html.escape(title), note=html.escape(note), orders=orders, heads=heads, rows="\n".join(rows)
    )
    write_text(file, page)
