"""Dressed samples as plain files: pictures, masks, flow, parse maps, key points, depth and body parts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from engines.whole_file import write_whole
from rmgn.data.dress import dress
from rmgn.data.files import to_bgr
from rmgn.data.generated import Batch

FOLDERS = {
    "person": "jpg", "garment": "jpg", "garment_mask": "png", "flow": "npz", "parse": "png", "depth": "png",
}  # fmt: skip


def _image(suffix: str, picture: npt.NDArray[np.generic]) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == "jpg" else []
    return bytes(cv2.imencode(f".{suffix}", np.asarray(picture), options)[1])


class Dressable(Protocol):
    """A data set whose collated items `dress` takes: `GeneratedPeople`, or the frames of a clip."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Batch: ...
    def collate(self, items: list[Batch]) -> Batch: ...


def write_pictures(people: Dressable, out: Path, progress: bool = True) -> None:
    """Dress every sample once and write it below `out`; what is there already is left."""
    for name in (*FOLDERS, "bodyparts", "keypoints"):
        (out / name).mkdir(parents=True, exist_ok=True)
    with tqdm(range(len(people)), disable=not progress, unit="sample") as numbers:
        for index in numbers:
            if not _last(out, index).exists():
                _write(people, index, out)


def _last(out: Path, index: int) -> Path:
    """The file of a sample that is written after all its others."""
    return out / "keypoints" / f"{index:06d}.json"


def _write(people: Dressable, index: int, out: Path) -> None:
    item = people[index]
    dressed = dress(people.collate([item]))
    for k, side in enumerate("ab"):
        stem = f"{index:06d}_{side}"
        flow = io.BytesIO()
        np.savez_compressed(
            flow,
            flow=dressed.flow[0, k].numpy().astype(np.float16),
            visible=dressed.visible[0, k, 0].numpy(),
        )
        content = {
            "person": _image("jpg", to_bgr(dressed.person[0, k])),
            "garment": _image("jpg", to_bgr(dressed.garment[0, k])),
            "garment_mask": _image("png", (dressed.garment_mask[0, k, 0] * 255).byte().numpy()),
            "flow": flow.getvalue(),
            "parse": _image("png", dressed.parse[0, k].byte().numpy()),
            "depth": _image("png", (dressed.depth[0, k] * 1000).round().numpy().astype(np.uint16)),
        }
        for name, data in content.items():
            write_whole(out / name / f"{stem}.{FOLDERS[name]}", data)
    write_whole(out / "bodyparts" / f"{index:06d}.png", _image("png", dressed.parts[0].byte().numpy()))
    write_whole(_last(out, index), json.dumps(item["keypoints"].tolist()).encode())
