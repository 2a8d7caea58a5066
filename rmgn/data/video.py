"""Clips: one person who moves before a fixed camera, in two garments, with the truth of every frame.

A clip is a folder of layers whose samples are its frames, so whatever reads layers reads clips:
`clip.json`, `000000.zip`, `000001.zip`, … and, dressed in one look, `a.mp4`, `b.mp4`, `garment_a.png`,
`garment_mask_a.png` and likewise `_b`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from numpy.random import Generator
from torch.utils.data import Dataset
from tqdm import tqdm

from engines.picture_files import opencv_name
from engines.program import InputError
from engines.whole_file import whole_file, write_whole
from rmgn.data.dress import dress
from rmgn.data.files import to_bgr
from rmgn.data.generated import Batch, auto_exposure, tensors
from rmgn.data.look import draw_look
from rmgn.data.people import layers
from rmgn.data.stock import part, stock
from rmgn.data.workers import each, processes
from rmgn.gallery import Bgr, write_picture

F32 = npt.NDArray[np.float32]
CLIP = "clip.json"
NOTED = ("fps", "frames", "index", "split", "problems")  # what it must tell
PICTURES = "pictures"  # folder of a clip's frames as pictures


@dataclass(frozen=True)
class ClipOrder:
    """What to make; equal orders make equal frames."""

    out: str
    frames: int = 125
    fps: float = 25.0
    size: tuple[int, int] = (256, 192)
    seed: int = 0
    index: int = 0  # of the clip
    assets: str | None = None
    split: str = "train"

    def random(self, attempt: int, purpose: int) -> Generator:
        """Random numbers of one draw of this clip for one purpose."""
        return np.random.default_rng([self.seed, self.index, attempt, int(self.split == "eval"), 1 + purpose])


@functools.lru_cache(maxsize=1)
def _stage(order: ClipOrder) -> tuple[Any, Any, int, tuple[str, ...]]:
    """The first moment, the motion, the attempt that gave them and why those before did not."""
    from rmgn.data.people.assets import assets
    from rmgn.data.people.inspection import first_accepted
    from rmgn.data.people.motion import draw_motion
    from rmgn.data.people.scene import free_pose, make_stage

    available = assets(Path(order.assets) if order.assets else None)
    rooms = part(available.surroundings, order.split)

    def draw(attempt: int) -> Any:
        return make_stage(order.random(attempt, 0), order.size, available, rooms)

    stage, attempt, reasons = first_accepted(draw, f"clip {order.index}")
    body, rng = stage.person.body, order.random(attempt, 1)
    other = functools.partial(free_pose, rng, stage.model, body)
    motion = draw_motion(rng, stage.model, body, stage.pose, other, order.frames, order.fps)
    return stage, motion, attempt, tuple(reasons)


def _people(order: ClipOrder) -> list[Any]:
    """The person of each frame."""
    from rmgn.data.people.motion import moved_bones
    from rmgn.data.people.wear import moved

    stage, motion, _, _ = _stage(order)
    person = stage.person
    return [
        moved(stage.model, person.body, bones, person.lower)
        for bones in moved_bones(stage.model, person.body, motion)
    ]


def _simulate(order: ClipOrder, side: int) -> F32:
    """One garment's vertices in every frame [T, N, 3]."""
    from rmgn.data.people.motion import follow

    stage, _, attempt, _ = _stage(order)
    top = stage.worked[side]
    moving = follow(stage.model, _people(order), top.style, top.worn, order.random(attempt, 2 + side))
    return np.stack(list(moving)).astype(np.float32)


def _render(order: ClipOrder, frame: int, cloths: Sequence[F32]) -> str | None:
    """Write one frame's layers from both garments' vertices [N, 3]; what is wrong with it, if anything."""
    path = Path(order.out) / layers.file_name(frame)
    if not path.exists():
        layers.save(path, _moment(order, frame, cloths))
    return "; ".join(_problems(order, layers.load(path), cloths)) or None


def _problems(order: ClipOrder, sample: layers.Sample, cloths: Sequence[F32]) -> Iterator[str]:
    """Why a frame would have been rejected as a single sample."""
    from rmgn.data.people.inspection import Rejected, inspect
    from rmgn.data.people.wear import TORN, torn

    stage, *_ = _stage(order)
    for side, worn, top, cloth in zip("ab", sample.worn, stage.worked, cloths, strict=True):
        if side in sample.meta.get("left_out", {}):
            yield f"{side}: without bag, scarf and belt: {sample.meta['left_out'][side]}"
        if torn(top.garment, cloth.astype(np.float64)) > TORN:
            yield f"{side}: cloth torn"
        try:
            inspect(worn)
        except Rejected as reason:
            yield f"{side}: {reason}"


def _moment(order: ClipOrder, frame: int, cloths: Sequence[F32]) -> layers.Sample:
    from rmgn.data.people.motion import moved_bones
    from rmgn.data.people.wear import moved

    stage, motion, attempt, reasons = _stage(order)
    now = replace(motion, poses=motion.poses[frame : frame + 1], moves=motion.moves[frame : frame + 1])
    body = stage.person.body
    person = moved(stage.model, body, next(moved_bones(stage.model, body, now)), stage.person.lower)
    left_out: dict[str, str] = {}
    noting = replace(stage, surfaces=functools.partial(_surfaces, stage, left_out))
    sample: layers.Sample = noting.render(person, [cloth.astype(np.float64) for cloth in cloths])
    sample.meta.update(
        index=frame, clip=order.index, seed=order.seed, attempt=attempt, rejected=list(reasons)
    )
    if left_out:
        sample.meta["left_out"] = left_out
    return sample


def _surfaces(stage: Any, left_out: dict[str, str], person: Any) -> Callable[[Any], Any]:
    """As the stage's own, but it notes by garment why bag, scarf and belt are left out, where they are."""
    from rmgn.data.people.inspection import Rejected

    sides = iter("ab")  # garments are rendered in this order

    def wearing(worked: Any) -> Any:
        side = next(sides)
        try:
            return fitting(worked)
        except Rejected as reason:
            left_out[side] = str(reason)
            return stage.surfaces(person)(worked)

    fitting = stage.surfaces(person, strict=True)
    return wearing


def make_clip(order: ClipOrder, workers: int = 1, progress: bool = True) -> dict[str, Any]:
    """Make a clip's layers and `clip.json`, and return what that holds; frames that are there are left."""
    out = Path(order.out)
    out.mkdir(parents=True, exist_ok=True)
    note = out / CLIP
    if note.exists() and all((out / layers.file_name(k)).exists() for k in range(order.frames)):
        return read_note(note)
    with processes(workers) as executor:
        cloths = list(each(executor, _simulate, [(order, side) for side in (0, 1)]))
        tasks = [(order, k, [cloth[k] for cloth in cloths]) for k in range(order.frames)]
        rendered = each(executor, _render, tasks)
        problems = list(tqdm(rendered, total=order.frames, disable=not progress, unit="frame"))
    described = {
        "fps": order.fps, "frames": order.frames, "size": list(order.size), "seed": order.seed,
        "index": order.index, "split": order.split, "assets": order.assets is not None,
        "problems": {str(k): problem for k, problem in enumerate(problems) if problem},
    }  # fmt: skip
    write_whole(note, (json.dumps(described, indent=1) + "\n").encode())
    return described


def read_note(note: Path) -> dict[str, Any]:
    """What `clip.json` tells. Raises ValueError where it is damaged."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        return {name: told[name] for name in NOTED} | told
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{note} is damaged ({error}): delete it, and the same command writes it anew"
        ) from error


def check_people(folder: Path) -> None:
    """Raise ValueError for a clip: its frames show one person, and would be taken for so many."""
    place = folder.absolute()
    within = (
        place.name == PICTURES and (place.parent / CLIP).is_file()
    )  # as `--as pictures` writes its frames
    if within or (place / CLIP).is_file():
        raise ValueError(
            f"{folder} is a clip of one person: train and evaluate on people, made without --video"
        )


class ClipFrames(Dataset[Batch]):
    """The frames of a clip, all in one look; noise alone differs from frame to frame.

    Feed collated frames to `rmgn.data.dress.dress`. Raises `ValueError` for a folder without a clip.
    """

    def __init__(self, folder: Path, seed: int = 0, assets: Path | None = None) -> None:
        note = folder / CLIP
        if not note.is_file():
            raise ValueError(f"no clip in {folder}: make one with `rmgn generate --video`")
        clip = read_note(note)
        self.fps = float(clip["fps"])
        self.files = [folder / layers.file_name(k) for k in range(int(clip["frames"]))]
        first = layers.load(self.files[0])
        height, width = first.parts.shape
        rng = np.random.default_rng([seed, int(clip["index"]), 7])
        self.look = draw_look(rng, first.meta, (height, width), stock(assets, str(clip["split"])))
        self._gain = auto_exposure(first)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frame: int) -> Batch:
        look = replace(self.look, grain=self.look.grain + frame * np.array([1, 0]))
        items = tensors(layers.load(self.files[frame]), look)
        items["gain"] = torch.tensor(self._gain)  # a fixed camera's exposure does not follow the pose
        return items

    @staticmethod
    def collate(items: list[Batch]) -> Batch:
        """Stack frames into a batch."""
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}


def write_clip(folder: Path, seed: int = 0, assets: Path | None = None) -> None:
    """Dress a clip's frames in one look and write both videos, garments and masks into its folder.

    Raises InputError where a video cannot be written whole, OSError for the pictures; what was there stays.
    """
    frames = ClipFrames(folder, seed, assets)
    # Absolute, since FFmpeg takes what stands before a colon for a protocol.
    a, b = (folder.absolute() / f"{side}.mp4" for side in "ab")
    with whole_file(a) as partial_a, whole_file(b) as partial_b:
        partial = (partial_a, partial_b)
        garments = _write_videos(folder, frames, partial)
        for path, video in zip(partial, (a, b), strict=True):
            if not _shows(path, len(frames)):
                raise InputError(f"cannot write {video} whole: is its disk full?")
        for name, picture in garments.items():
            write_picture(folder / name, picture)


def _write_videos(folder: Path, frames: ClipFrames, videos: Sequence[Path]) -> dict[str, Bgr]:
    """Write both videos; returns the pictures of their garments and masks, by their files' names."""
    garments: dict[str, Bgr] = {}
    writers: list[cv2.VideoWriter] = []
    try:
        for number in range(len(frames)):
            dressed = dress(frames.collate([frames[number]]))
            pictures = [to_bgr(dressed.person[0, k]) for k in (0, 1)]
            if not writers:
                size = (pictures[0].shape[1], pictures[0].shape[0])
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writers = [cv2.VideoWriter(opencv_name(path), code, frames.fps, size) for path in videos]
                if not all(writer.isOpened() for writer in writers):
                    raise InputError(f"cannot write videos into {folder}: this OpenCV has no MPEG-4 encoder")
                for k, side in enumerate("ab"):
                    garments[f"garment_{side}.png"] = to_bgr(dressed.garment[0, k])
                    mask = (dressed.garment_mask[0, k, 0] * 255).byte().numpy()
                    garments[f"garment_mask_{side}.png"] = mask
            for writer, picture in zip(writers, pictures, strict=True):
                writer.write(picture)
    finally:
        for writer in writers:
            writer.release()
    return garments


def _shows(path: Path, count: int) -> bool:
    """Whether a video has so many frames: OpenCV does not say while it writes that a disk is full."""
    video = cv2.VideoCapture(opencv_name(path))
    try:
        return video.isOpened() and round(video.get(cv2.CAP_PROP_FRAME_COUNT)) == count
    finally:
        video.release()
