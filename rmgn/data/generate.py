"""Make generated people: `python -m rmgn.data.generate --out DIR --count 1000 --assets ASSETS`.

Writes layers (`000000.zip`, …) that `rmgn.data.generated.GeneratedPeople` trains from, or, with
`--as pictures`, dressed pictures with their truth in a plain layout. Deterministic
for a seed, whatever the number of workers; started again after a kill it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from engines.bundle import sha256
from engines.program import Parser, run
from engines.sole_writer import sole_writer
from engines.whole_file import check_folder, whole_file, write_whole
from rmgn.data.people import layers

if TYPE_CHECKING:
    from rmgn.data.video import ClipOrder

SIZES = {"256x192": (256, 192), "512x384": (512, 384)}
ORDER = "order.json"  # what was asked for
MANIFEST = "manifest.jsonl"


@dataclass(frozen=True)
class Order:
    """What to make; equal orders make equal files."""

    out: str
    count: int
    size: tuple[int, int] = (256, 192)
    seed: int = 0
    assets: str | None = None
    split: str = "train"
    hard: float = 0.0  # share of samples that are of what try-on gets wrong first
    subpixels: int = 3  # of a pixel, each way


def _make(order: Order, index: int) -> list[str]:
    """Make one sample unless it is there; the reasons for which earlier draws were rejected."""
    from rmgn.data.people.assets import assets
    from rmgn.data.people.inspection import first_accepted
    from rmgn.data.people.scene import make_sample
    from rmgn.data.stock import part

    path = Path(order.out) / layers.file_name(index)
    if path.exists():
        return list(read_meta(path)["rejected"])  # type: ignore[call-overload]
    available = assets(Path(order.assets) if order.assets else None)
    rooms = part(available.surroundings, order.split)
    # A number of its own: what is drawn for a sample stays the same without hard ones. Five words, as a
    # sequence of fewer is filled up with zeros and would begin as the first attempt's.
    hard = bool(np.random.default_rng([order.seed, index, 0, 0, 1]).random() < order.hard)

    def draw(attempt: int) -> layers.Sample:
        rng = np.random.default_rng([order.seed, index, attempt, int(order.split == "eval")])
        return make_sample(rng, order.size, available, rooms, hard, order.subpixels)

    sample, attempt, reasons = first_accepted(draw, f"sample {index}")
    sample.meta.update(index=index, seed=order.seed, attempt=attempt, rejected=reasons)
    layers.save(path, sample)
    return reasons


def read_meta(path: Path) -> dict[str, object]:
    """The `meta.json` of a layers file. Raises ValueError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            meta = json.loads(archive.read("meta.json"))
            return {"rejected": meta["rejected"], **meta}
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it, and the same command makes it anew"
        ) from error


def generate(order: Order, workers: int = 1, progress: bool = True) -> Counter[str]:
    """Make the layers of an order and their manifest; counts of rejected draws by reason.

    Raises `ValueError` if the folder already holds another order's samples.
    """
    from rmgn.data.workers import each, processes

    out = Path(order.out)
    _claim(out, order)
    rejected: Counter[str] = Counter()
    with (
        sole_writer(out),
        processes(workers) as executor,
        tqdm(total=order.count, disable=not progress, unit="sample", smoothing=0.05) as bar,
    ):
        for reasons in each(executor, _make, [(order, index) for index in range(order.count)]):
            rejected.update(reasons)
            bar.set_postfix(rejected=sum(rejected.values()), refresh=False)
            bar.update()
        write_manifest(out)
    return rejected


def _claim(out: Path, order: Order | ClipOrder) -> None:
    """Note what a folder holds; `ValueError` if it already holds another order's samples."""
    out.mkdir(parents=True, exist_ok=True)
    note = out / ORDER
    wanted = {k: v for k, v in asdict(order).items() if k not in ("out", "count", "assets")}
    wanted = {**json.loads(json.dumps(wanted)), "assets": _asset_files(order.assets)}
    if isinstance(order, Order):  # folders from before there was a choice have no such entries
        for name in ("hard", "subpixels"):
            if wanted[name] == getattr(Order, name):
                del wanted[name]
    if not note.exists():
        if layers.present(out):
            raise ValueError(
                f"{out} holds samples, but not the order.json that says which: choose another folder"
            )
        write_whole(note, (json.dumps(wanted) + "\n").encode())
        return
    text = note.read_text(encoding="utf-8", errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"{note} is damaged ({error}): choose another folder, or, if this very command made what lies in "
            f"this one, let the file hold {json.dumps(wanted)}"
        ) from error
    if isinstance(found, dict) and found.get("assets") is True and order.assets:
        found["assets"] = wanted["assets"]  # of before, when nobody noted which
    if found != wanted and not layers.present(out):
        raise ValueError(
            f"{out} was begun, without a sample yet, as another order, or of other assets ({text}): "
            f"delete {note}, or choose another folder"
        )
    if found != wanted:
        raise ValueError(
            f"{out} holds samples of another order, or of other assets ({text}): choose another folder"
        )


def _asset_files(root: str | None) -> str | bool:
    """What tells a folder's assets from others; False for none."""
    if root is None:
        return False
    from rmgn.data.files import digest, names_and_sizes
    from rmgn.data.people.assets import assets

    return digest(names_and_sizes(assets(Path(root)).files()))[:16]


def generate_clips(args: argparse.Namespace) -> None:
    """Make `--count` clips, dressed as videos, and as pictures if they are asked for."""
    from rmgn.data.pictures import write_pictures
    from rmgn.data.video import PICTURES, ClipFrames, ClipOrder, make_clip, write_clip

    assets = str(args.assets) if args.assets else None
    frames = round(args.seconds * args.fps)
    for index in range(args.count):
        folder = args.out / f"clip-{index:06d}"
        order = ClipOrder(
            str(folder), frames, args.fps, SIZES[args.size], args.seed, index, assets, args.split
        )
        _claim(folder, order)
        with sole_writer(folder):
            clip = make_clip(order, args.workers)
            write_clip(folder, args.seed, args.assets)
        print(f"{frames} frames in {folder}; {len(clip['problems'])} with a fault")
        for frame, problem in clip["problems"].items():
            print(f"  frame {frame}: {problem}")
        if args.form == "pictures":
            write_pictures(ClipFrames(folder, args.seed, args.assets), folder / PICTURES)


def write_manifest(out: Path) -> None:
    """`manifest.jsonl`: every parameter drawn and the SHA-256 of each sample that is there, one a line."""
    with whole_file(out / MANIFEST) as partial, partial.open("w") as file:
        for path in layers.files(out):
            file.write(json.dumps({**read_meta(path), "sha256": sha256(path)}, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> dict[str, str]:
    """SHA-256 by the name of each file that a folder's manifest lists; none without a manifest.

    Raises ValueError where it is damaged.
    """
    path, listed = folder / MANIFEST, {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            listed[layers.file_name(entry["index"])] = str(entry["sha256"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number} is damaged ({error!r}): delete it and run the `generate` of before"
            ) from error
    return listed


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line. Raises InputError."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to fill; goes on if it holds some already"
    )
    parser.add_argument(
        "--count", type=int, required=True, help="number of samples, each a person in two garments"
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="256x192", help="height x width")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same samples (0)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    parser.add_argument("--assets", type=Path, help="folder with makehuman/ and hdri/ (see docs/data.md)")
    parser.add_argument(
        "--split", choices=("train", "eval"), default="train", help="eval: what training never sees"
    )
    parser.add_argument(
        "--hard", type=float, default=0.0, metavar="SHARE",
        help="share of samples with elbows out, long sleeves, skin to cover, bold skirts (0)",
    )  # fmt: skip
    parser.add_argument(
        "--subpixels", type=int, default=Order.subpixels, metavar="N",
        help="rays a pixel, N x N (3); 2 is a fifth faster, its edges coarser",
    )  # fmt: skip
    parser.add_argument(
        "--as", dest="form", choices=("layers", "pictures"), default="layers",
        help="pictures: also write dressed pictures with their truth",
    )  # fmt: skip
    parser.add_argument(
        "--video", action="store_true", help="clips of one moving person each instead of single samples"
    )
    parser.add_argument("--seconds", type=float, help="length of a clip (5)")
    parser.add_argument("--fps", type=float, help="frames a second of a clip (25)")
    args = parser.parse_args(argv)
    for name, value in (("seconds", 5.0), ("fps", 25.0)):
        if getattr(args, name) is None:
            setattr(args, name, value)
        elif not args.video:
            parser.error(f"--{name} is of clips: give --video as well")
    if args.count < 1 or args.count > 1_000_000:
        parser.error(f"--count must be between 1 and 1000000, not {args.count}")
    if args.workers < 1:
        parser.error(f"--workers must be at least 1, not {args.workers}")
    if not 1 <= args.fps <= 120:
        parser.error(f"--fps must be between 1 and 120, not {args.fps:g}")
    if args.fps > 65 and round(args.fps, 2) != args.fps:
        parser.error(f"--fps above 65 takes two decimals, as MPEG-4 does, not {args.fps:g}")
    if not 0 < args.seconds <= 600 or round(args.seconds * args.fps) < 1:
        parser.error(f"--seconds must be above 0 and at most 600, not {args.seconds:g}")
    if not 0 <= args.hard <= 1:
        parser.error(f"--hard must be between 0 and 1, not {args.hard:g}")
    if not 1 <= args.subpixels <= 3:
        parser.error(f"--subpixels must be between 1 and 3, not {args.subpixels}")
    for name in ("hard", "subpixels"):
        if args.video and getattr(args, name) != getattr(Order, name):
            parser.error(f"--{name} is for single samples, not for --video")
    if args.seed < 0:
        parser.error(f"--seed must not be negative, not {args.seed}")
    if args.assets is not None and not args.assets.is_dir():
        parser.error(f"no such folder: --assets {args.assets}")
    check_folder(args.out)
    return args


def generate_samples(args: argparse.Namespace) -> None:
    """Make `--count` samples, as pictures too if they are asked for, and say what was rejected."""
    pictures = args.form == "pictures"
    folder = args.out / "layers" if pictures else args.out
    assets = str(args.assets) if args.assets else None
    order = Order(
        str(folder), args.count, SIZES[args.size], args.seed, assets, args.split, args.hard, args.subpixels
    )
    rejected = generate(order, args.workers)
    drawn = args.count + sum(rejected.values())
    print(f"{args.count} samples in {folder}; rejected {sum(rejected.values())} of {drawn} draws")
    for reason, number in rejected.most_common():
        print(f"  {number:6d}  {reason}")
    if pictures:
        from rmgn.data.generated import GeneratedPeople
        from rmgn.data.pictures import write_pictures

        people = GeneratedPeople(folder, seed=args.seed, flip=False, assets=args.assets, split=args.split)
        write_pictures(people, args.out)
        print(f"pictures in {args.out}")


def _sweep(out: Path) -> None:
    """Remove what workers were writing when they were stopped, and nothing that may be somebody's own."""
    for path in [*out.glob(".*.partial.zip"), *out.glob("*/.*.partial.zip")]:
        if re.fullmatch(r"\.[0-9]{6}\.partial\.zip", path.name):
            path.unlink(missing_ok=True)


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    try:
        from rmgn.data.people.assets import announce

        announce(args.assets)
        if args.video:
            generate_clips(args)
        else:
            generate_samples(args)
    except KeyboardInterrupt:
        _sweep(args.out)
        raise KeyboardInterrupt("the same command goes on") from None


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError, ImportError))


if __name__ == "__main__":
    sys.exit(main())
