r"""Layers dressed ahead of a training and read many times: a machine of few cores then draws nothing twice.

    python -m rmgn.data.ahead --data layers --out dressed --passes 8
    python -m rmgn.train --config pairs-warp-coarse --data dressed --out runs/coarse

A file holds one person in two garments, each `Dressed` field in the smallest type that keeps it. First come
`passes` looks of every sample but the last `held_out`, then these in one look each: no training on the folder
dresses the people that it is validated on, though the first of them stands in a few backgrounds. Run the same
command again to go on after a stop.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from engines.program import Parser, run
from engines.sole_writer import sole_writer
from engines.whole_file import check_folder, write_whole
from rmgn.config import parse_size
from rmgn.data.dress import Dressed, dress
from rmgn.data.files import digest, names_and_sizes, quantise
from rmgn.data.generate import read_manifest
from rmgn.data.generated import Batch, GeneratedPeople
from rmgn.data.people.assets import announce
from rmgn.data.people.assets import assets as known_assets
from rmgn.data.video import check_people
from rmgn.data.workers import begin_worker

SETTINGS = "dressed.json"


@dataclass(frozen=True)
class Settings:
    """What a folder holds, or will once it is complete."""

    layers: int  # samples of the folder of layers
    passes: int
    held_out: int
    seed: int
    height: int
    width: int
    files: str  # what tells these layers from others, digested
    assets: bool  # whether there were any

    def __len__(self) -> int:
        return self.passes * (self.layers - self.held_out) + self.held_out

    def item(self, number: int) -> tuple[int, int]:
        """(index of the layers, epoch) of a file."""
        shown = self.layers - self.held_out
        if number < self.passes * shown:
            return number % shown, number // shown
        return number - (self.passes - 1) * shown, 0


def read_settings(folder: Path) -> Settings:
    """Settings of a complete folder; ValueError where files are missing."""
    settings = _read_note(folder)
    missing = next((n for n in range(len(settings)) if not path(folder, n).is_file()), None)
    if missing is not None:
        raise ValueError(f"{path(folder, missing)} is missing: go on with the `rmgn dress-ahead` of before")
    return settings


def _read_note(folder: Path) -> Settings:
    try:
        return Settings(**json.loads((folder / SETTINGS).read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / SETTINGS} is damaged or of another version: dress anew") from error


def digests(data: Path, files: Sequence[Path], root: Path | None) -> list[str]:
    """What tells layers and surroundings from others, then the less that a folder may have been begun with.

    Bytes count by the SHA-256 in the manifest, where there is one, so that nothing is read for it.
    """
    listed = read_manifest(data)
    names, around = names_and_sizes(files), names_and_sizes(known_assets(root).surroundings)
    known = [listed[file.name] for file in files if file.name in listed]
    whole = known if len(known) == len(files) else []
    return [digest(lines)[:16] for lines in ([*names, *whole, *around], [*names, *around], names)]


def path(folder: Path, number: int) -> Path:
    """Where a sample lies."""
    return folder / f"{number // 1000:04d}" / f"{number % 1000:03d}.safetensors"


def pack(dressed: Dressed, keypoints: Tensor) -> Batch:
    """Compact tensors of a batch. Flows lose up to 0.05 pixels of 192, pictures what 8 bits do not show."""
    return {
        "person": quantise(dressed.person),
        "garment": quantise(dressed.garment),
        "garment_mask": dressed.garment_mask.bool(),
        "worn_mask": (dressed.worn_mask * 255).round().byte(),
        "flow": dressed.flow.half(),
        "visible": dressed.visible,
        "parse": dressed.parse.byte(),
        "parts": dressed.parts.byte(),
        "keypoints": keypoints,
    }


def unpack(items: Batch) -> Dressed:
    """Inverse of `pack`; depth is not kept and is zero."""
    return Dressed(
        person=items["person"].float() / 127.5 - 1,
        garment=items["garment"].float() / 127.5 - 1,
        garment_mask=items["garment_mask"].float(),
        worn_mask=items["worn_mask"].float() / 255,
        flow=items["flow"].float(),
        visible=items["visible"],
        parse=items["parse"].long(),
        parts=items["parts"].long(),
        depth=torch.zeros(items["parse"].shape, device=items["parse"].device),
    )


def read(file: Path) -> Batch:
    """What `pack` made of one sample, without the dimension of the batch. Raises ValueError."""
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file} is damaged ({error}): delete it and go on with `rmgn dress-ahead`"
        ) from error


class _Dresser(Dataset[int]):
    """Writes the file of a number when it is asked for it."""

    def __init__(self, people: GeneratedPeople, settings: Settings, folder: Path, todo: list[int]) -> None:
        self.people, self.settings, self.folder, self.todo = people, settings, folder, todo

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, position: int) -> int:
        number = self.todo[position]
        index, epoch = self.settings.item(number)
        self.people.set_epoch(epoch)
        items = self.people.collate([self.people[index]])
        packed = pack(dress(items, number), items["keypoints"])
        file = path(self.folder, number)
        file.parent.mkdir(exist_ok=True)
        write_whole(file, save({name: tensor[0].contiguous() for name, tensor in packed.items()}))
        return number


def dress_ahead(
    data: Path,
    out: Path,
    *,
    passes: int,
    held_out: int = 32,
    seed: int = 0,
    size: tuple[int, int] = (256, 192),
    assets: Path | None = None,
    workers: int = 0,
) -> Settings:
    """Write, or finish, a folder of dressed layers.

    size: (height, width). workers: processes beside this one.
    Raises ValueError where `out` was begun with other settings, and for a clip.
    """
    check_people(data)
    people = GeneratedPeople(data, seed, assets=assets, size=size)
    if not 0 < held_out < len(people):
        raise ValueError(
            f"{data} has {len(people)} samples: --held-out must be between 1 and {len(people) - 1}"
        )
    known_as = digests(data, people.files, assets)
    settings = Settings(len(people), passes, held_out, seed, *size, known_as[0], assets is not None)
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    note = out / SETTINGS
    if note.is_file():
        begun = asdict(_read_note(out))
        if begun["files"] in known_as:
            settings = replace(settings, files=begun["files"])
        changed = [name for name, value in asdict(settings).items() if begun[name] != value]
        if changed:
            raise ValueError(f"{out} was begun with other {', '.join(changed)}; choose another --out")
    elif any(out.iterdir()):
        raise ValueError(f"{out} holds other files; choose another --out")
    else:
        write_whole(note, json.dumps(asdict(settings), indent=1).encode())
    with sole_writer(out):
        todo = [number for number in range(len(settings)) if not path(out, number).is_file()]
        dresser = _Dresser(people, settings, out, todo)
        loader = DataLoader(dresser, batch_size=None, num_workers=workers, worker_init_fn=begin_worker)
        for _ in tqdm(loader, initial=len(settings) - len(todo), total=len(settings), unit="sample"):
            pass
    return settings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="generated layers")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write or to finish")
    parser.add_argument("--passes", type=int, default=8, help="looks of each sample, 1.4 MB each (8)")
    parser.add_argument("--held-out", type=int, default=32, help="as in the training's configuration (32)")
    parser.add_argument("--seed", type=int, default=0, help="of looks (0)")
    parser.add_argument(
        "--size", type=parse_size, default=(256, 192), metavar="HxW", help="of the pictures (256x192)"
    )
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (one a core)")
    args = parser.parse_args(argv)
    if args.passes < 1 or args.workers < 1 or args.seed < 0:
        parser.error("--passes and --workers count from 1, --seed from 0")
    return args


def command(argv: Sequence[str] | None) -> None:
    args = parse_args(argv)
    announce(args.assets)
    try:
        settings = dress_ahead(
            args.data,
            args.out,
            passes=args.passes,
            held_out=args.held_out,
            seed=args.seed,
            size=args.size,
            assets=args.assets,
            workers=args.workers,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command finishes {args.out}") from None
    print(f"{args.out}: {len(settings)} samples")


def main(argv: Sequence[str] | None = None) -> int:
    return run(command, argv, (ValueError,))


if __name__ == "__main__":
    sys.exit(main())
