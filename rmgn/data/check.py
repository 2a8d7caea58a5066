"""Validate a data set: `python -m rmgn.data.check DIR`, generated (layers or pictures) or any known layout.

`--checksums FILE` says whether layers are the very ones that the file was made from.
Prints one line a problem and a summary; exit status 1 if there is any problem, 2 for a bad argument.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from engines.bundle import sha256
from engines.picture_files import decoded
from engines.program import InputError, Parser, run
from engines.whole_file import check_apart, check_writable, write_whole
from rmgn.data import read
from rmgn.data.datasets import recognise
from rmgn.data.folder_check import check_folder
from rmgn.data.generate import MANIFEST, ORDER, read_manifest
from rmgn.data.people import layers
from rmgn.data.people.layers import EDGE_UNIT, LABELS, PANEL, VISIBLE, Sample
from rmgn.data.pictures import FOLDERS
from rmgn.data.plain import Generated
from rmgn.data.video import CLIP, read_note

_KNOWN = np.array(sorted(LABELS.values()))


def sample_problems(sample: Sample) -> Iterator[str]:
    """What is wrong with one sample of layers; nothing if it is sound."""
    height, width = sample.meta["size"]
    if sample.parts.shape != (height, width) or sample.parts.max() > 24:
        yield "parts: wrong shape or number"
    if len(sample.meta["keypoints"]) != 17:
        yield "keypoints: not COCO's 17"
    for side, worn, shop in zip("ab", sample.worn, sample.shop, strict=True):
        if not np.isin(worn.labels, _KNOWN).all():
            yield f"{side}/labels: unknown label"
        total = worn.cover.sum(axis=2, dtype=int) + worn.garment[..., 0]
        if total.max() > 258:
            yield f"{side}/cover: shares add up to {total.max()} of 255"
        covered = worn.garment[..., 0] > 0
        if covered.mean() < layers.LEAST_GARMENT or (shop.garment[..., 0] > 127).mean() < 0.08:
            yield f"{side}: hardly any garment"
        if (worn.place[covered][:, :2] == 0).any():
            yield f"{side}/place: garment without a place"
        if (worn.garment[..., 1] & PANEL).max() > layers.COLLAR:
            yield f"{side}/garment: unknown panel"
        yield from _flow_problems(side, sample, covered & (worn.garment[..., 1] & VISIBLE > 0))


def _flow_problems(side: str, sample: Sample, visible: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Visible places must lie inside the shop photo's mask and on the same half of the garment."""
    if not visible.any():
        yield f"{side}: nothing of the garment is visible"
        return
    k = "ab".index(side)
    made = sample.meta["garments"][k]["shop"]
    height, width = visible.shape
    metres = (sample.worn[k].place[visible][:, :2].astype(float) - layers.PLACE_ZERO) * layers.PLACE_UNIT
    dx, dz = ((metres - made["centre"]) / made["half_height"]).T
    roll = np.deg2rad(made["roll"])
    c, s = np.cos(roll), np.sin(roll)
    x = ((c * dx + s * dz) * height / width + 1) / 2 * width
    y = (1 + s * dx - c * dz) / 2 * height
    if not ((x > 0) & (x < width) & (y > 0) & (y < height)).all():
        yield f"{side}: flow leaves the shop photo"
        return
    mask = cv2.dilate(sample.shop[k].garment[..., 0], np.ones((3, 3), np.uint8))
    outside = (mask[y.astype(int), x.astype(int)] == 0).mean()
    if outside > 0.005:
        yield f"{side}: {outside:.1%} of the visible flow misses the shop photo's garment"
    far = sample.worn[k].garment[..., 2].max() * EDGE_UNIT
    if far <= 0:
        yield f"{side}/garment: no distance to the outline"


def check_layers(folder: Path) -> Iterator[str]:
    """Problems of a folder of layers: samples that are lost, exchanged or not sound."""
    yield from _lost_or_exchanged(folder)
    for path in layers.files(folder):
        try:
            sample = layers.load(path)
        except ValueError as error:
            yield str(error)
            continue
        try:
            for problem in sample_problems(sample):
                yield f"{path.name}: {problem}"
        except (KeyError, IndexError, TypeError, ValueError) as error:  # what the file says of itself
            yield f"{path.name}: meta.json is damaged: {type(error).__name__}: {error}"


def check_pictures(folder: Path) -> Iterator[str]:
    """Problems of a folder in the plain layout."""
    numbers = picture_numbers(folder)
    yield from _gaps(numbers)
    for number in numbers:
        points = folder / "keypoints" / f"{number}.json"
        parts = folder / "bodyparts" / f"{number}.png"
        for path in (points, parts):
            if not path.is_file():
                yield f"{number}: no {path.parent.name}"
        if points.is_file():
            yield from _points_problems(points)
        if parts.is_file():
            yield from _parts_problems(parts, folder / "person" / f"{number}_a.jpg")
        for side in "ab":
            stem = f"{number}_{side}"
            missing = [n for n, suffix in FOLDERS.items() if not (folder / n / f"{stem}.{suffix}").is_file()]
            if missing:
                yield f"{stem}: no {', '.join(missing)}"
                continue
            yield from _picture_problems(folder, stem)


def _points_problems(path: Path) -> Iterator[str]:
    try:
        table = np.asarray(json.loads(path.read_bytes()), np.float32)
    except (OSError, ValueError, TypeError) as error:
        yield f"{path}: not a file of key points: {error}"
        return
    if table.shape != (17, 3) or not np.isfinite(table).all():
        yield f"{path}: not COCO's 17 key points of x, y, score"


def _parts_problems(path: Path, person: Path) -> Iterator[str]:
    try:
        shape = read.dense_parts(path).shape
        if person.is_file() and shape != read.picture_size(person):
            yield f"{path}: not of the size of {person.name}"
    except ValueError as error:
        yield str(error)


def picture_numbers(folder: Path) -> list[str]:
    """Numbers of the samples in the plain layout, also of those that were not finished."""
    people = {path.stem.rpartition("_")[0] for path in (folder / "person").glob("[!.]*_[ab].*")}
    return sorted(people | {path.stem for path in (folder / "keypoints").glob("[!.]*.json")})


def _picture_problems(folder: Path, stem: str) -> Iterator[str]:
    person = decoded(folder / "person" / f"{stem}.jpg")
    mask = decoded(folder / "garment_mask" / f"{stem}.png")
    parse = decoded(folder / "parse" / f"{stem}.png")
    garment = decoded(folder / "garment" / f"{stem}.jpg")
    depth = decoded(folder / "depth" / f"{stem}.png")
    if person is None or mask is None or parse is None or garment is None or depth is None:
        yield f"{stem}: unreadable picture"
        return
    if not np.isin(mask, (0, 255)).all():
        yield f"{stem}: garment mask is not binary"
    if not np.isin(parse, _KNOWN).all():
        yield f"{stem}: unknown parse label"
    try:
        flow, visible = read.flow_arrays(folder / "flow" / f"{stem}.npz")
    except ValueError as error:
        yield str(error)
        return
    size = person.shape[:2]
    shapes = garment.shape[:2], mask.shape, parse.shape, depth.shape, flow.shape[1:], visible.shape
    if any(shape != size for shape in shapes):
        yield f"{stem}: pictures and truth differ in size"
    elif not np.isfinite(flow).all() or np.abs(flow[:, visible]).max(initial=0) > 1:
        yield f"{stem}: flow outside [-1, 1]"


def _check_layout(folder: Path) -> int:
    report = check_folder(recognise(folder), lambda entries: iter(tqdm(entries, unit="pair", leave=False)))
    print(*report.problems, *report.summary, f"{len(report.problems)} problems", sep="\n")
    return 1 if report.problems else 0


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each layers file by its name."""
    return {path.name: sha256(path) for path in layers.files(folder)}


def write_checksums(folder: Path, file: Path) -> None:
    """One line a sample, as `sha256sum` writes and reads it: 64 hexadecimal digits, two spaces, the name."""
    text = "".join(f"{digest}  {name}\n" for name, digest in digests(folder).items())
    write_whole(file, text.encode())


def checksum_problems(folder: Path, file: Path) -> Iterator[str]:
    """How a folder of layers differs from the checksums in a file; `ValueError` if that holds others."""
    wanted = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the checksums {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is no file of checksums: {error}") from error
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([0-9]+\.zip)", line)
        if match is None:
            raise ValueError(f"{file}, line {number}: not a checksum and a name: {line[:80]!r}")
        wanted[match[2]] = match[1]
    yield from _differences(digests(folder), wanted, file.name)


def _differences(found: dict[str, str], wanted: dict[str, str], source: str) -> Iterator[str]:
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"{name}: missing"
        elif name not in wanted:
            yield f"{name}: not in {source}"
        elif found[name] != wanted[name]:
            yield f"{name}: differs from {source}"


def _lost_or_exchanged(folder: Path) -> Iterator[str]:
    """What the numbering of layers tells, and the manifest that `generate` wrote beside them, if it did."""
    names = {path.name for path in layers.files(folder)}
    try:
        listed = read_manifest(folder)
    except ValueError as error:
        yield str(error)
        listed = {}
    if listed:
        yield from _differences(digests(folder), listed, MANIFEST)
    behind = set()  # the number after a clip's last frame
    if (folder / CLIP).is_file():
        try:
            behind = {layers.file_name(int(read_note(folder / CLIP)["frames"]))}
        except (ValueError, TypeError) as error:
            yield str(error)
    yield from _gaps(name.removesuffix(".zip") for name in names | listed.keys() | behind)


def _gaps(numbers: Iterable[str]) -> Iterator[str]:
    """Runs of numbers that are missing below the highest."""
    there = {int(number) for number in numbers if re.fullmatch(r"[0-9]{6}", number)}
    missing = sorted(set(range(max(there, default=0))) - there)
    for _, together in groupby(enumerate(missing), lambda item: item[1] - item[0]):
        first, *others = (number for _, number in together)
        last = f" to {others[-1]:06d}" if others else ""
        yield f"{first:06d}{last}: missing in the numbering"


def command(argv: Sequence[str] | None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="layers, or a data set in a known layout")
    parser.add_argument("--checksums", type=Path, metavar="FILE", help="also compare layers with this file")
    parser.add_argument(
        "--write-checksums", type=Path, metavar="FILE", help="write such a file, if all is well"
    )
    args = parser.parse_args(argv)
    return _check(args.folder, args.checksums, args.write_checksums)


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError,))


def _check(folder: Path, checksums: Path | None, new_checksums: Path | None) -> int:
    pictures, samples = Generated.find(folder) is not None, layers.files(folder)
    if not samples and (checksums or new_checksums):
        raise InputError(f"checksums are of layers; {folder} holds none")
    if not pictures and not samples:
        return _check_layout(folder)
    if new_checksums:
        check_writable(new_checksums)  # now rather than after the last sample
        own = [folder / name for name in (MANIFEST, ORDER, CLIP)]
        check_apart([new_checksums], [*layers.files(folder), *own])
    problems = list(check_pictures(folder) if pictures else check_layers(folder))
    if checksums:
        problems += checksum_problems(folder, checksums)
    if new_checksums and not problems:
        write_checksums(folder, new_checksums)
    for problem in problems:
        print(problem)
    count = len(picture_numbers(folder)) if pictures else len(samples)
    print(f"{count} samples, {len(problems)} problems")
    if not pictures and not (folder / MANIFEST).is_file() and not (folder / CLIP).is_file():
        print(f"without {MANIFEST}, which `rmgn generate` writes at its end, exchanged samples pass unseen")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
