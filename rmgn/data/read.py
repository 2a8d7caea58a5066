"""Read one file of a data set. Every function raises a `ValueError` that names the file and its fault.

`size` is always (height, width) of what is returned; pictures of another shape than that (by more than 2 %)
are refused rather than stretched.
"""

from __future__ import annotations

import functools
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import Tensor

from rmgn.data.labels import UNKNOWN, Table
from rmgn.data.sample import DENSE_PARTS, POINTS, Label

Size = tuple[int, int]
U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

_BODY_25 = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]  # OpenPose's 25 points to its 18
_SURE = 8  # a colour's distance that JPEG causes within a part; parts are at least 12 apart
_MIXED = 255
_COCO = [0, 0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]  # COCO's 17 likewise; the neck is made


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def picture(path: Path) -> U8:
    """A picture, upright as its orientation tag says: [H, W, 3] RGB."""
    try:
        decoded = cv2.imdecode(np.frombuffer(_bytes(path) or b"\0", np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # more pixels than CV_IO_MAX_IMAGE_PIXELS
        raise ValueError(f"{path}: not a picture, damaged, or too large for OpenCV") from error
    if decoded is None:
        raise ValueError(f"{path}: not a picture, or damaged")
    return np.ascontiguousarray(decoded[:, :, ::-1])


def picture_size(path: Path) -> Size:
    """Height and width of a picture as `picture` turns it, from its header alone."""
    data = _bytes(path)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.format == "TIFF":  # which some versions of Pillow have turned by now, and others not
                height, width = picture(path).shape[:2]
                return height, width
            size = opened.height, opened.width
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # from 5 on, sides change places
            return size[::-1] if turned else size
    except Exception as error:  # whatever a decoder raises, also for a header of absurd numbers
        raise ValueError(f"{path}: not a picture, or damaged") from error


def rgb(path: Path, size: Size) -> Tensor:
    """A picture as float32 [3, H, W] in [-1, 1]."""
    pixels = picture(path)
    if pixels.shape[:2] != size:
        _same_shape(path, pixels.shape[:2], size)
        smaller = pixels.shape[0] > size[0]
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=how), np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1


def mask(path: Path, size: Size) -> Tensor:
    """A mask as float32 [1, H, W], 0 or 1; grey edges (JPEG) are cut at one half.

    What is transparent is outside. One without any white is refused: it may be stored as 0 and 1, or as the
    transparency of black.
    """
    level = mask_levels(path)
    if level.shape != size:
        _same_shape(path, level.shape, size)
        level = np.asarray(cv2.resize(level, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.uint8)
    return torch.from_numpy(level >= 128).float()[None]


def mask_levels(path: Path) -> U8:
    """A mask at its own size, uint8 [H, W], 255 on the garment; of the rest as `mask`."""
    level = picture(path)[:, :, 0]
    if level.min(initial=255) >= 128:  # then all of it is in its transparency, if in anything
        level = np.minimum(level, _transparency(path, level.shape))
    if level.max(initial=0) < 128:
        raise ValueError(
            f"{path}: no garment in this mask: it must be white (255) there; highest is {level.max()}"
        )
    return level


def check_picture(path: Path, size: Size) -> Size:
    """The size of a picture, by its header; ValueError for a file that is none of the shape of `size`."""
    own = picture_size(path)
    _same_shape(path, own, size)
    return own


def _transparency(path: Path, shape: tuple[int, ...]) -> U8:
    """What of a picture is opaque, 0 to 255: [H, W]; all of it where it does not tell."""
    stored = cv2.imdecode(np.frombuffer(_bytes(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 3 or stored.shape[2] != 4 or stored.shape[:2] != shape:
        return np.full(shape, 255, np.uint8)
    return np.asarray(stored[:, :, 3] // (257 if stored.dtype == np.uint16 else 1), np.uint8)


def numbers(path: Path) -> U8:
    """A map of numbers, such as labels: [H, W]. A palette's colours are for looking at and are left aside."""
    data = _bytes(path)
    try:
        with Image.open(io.BytesIO(data)) as opened:
            values = np.asarray(opened)
    except Exception as error:
        raise ValueError(f"{path}: not a picture, or damaged") from error
    if values.ndim == 3:
        colours = values[:, :, :3] if values.shape[2] > 2 else values[:, :, :1]  # two: grey and transparency
        if (colours != values[:, :, :1]).any():
            raise ValueError(f"{path}: a coloured picture instead of one number a pixel")
        values = values[:, :, 0]
    with np.errstate(invalid="ignore"):  # such as of NaN
        labels = values.astype(np.uint8)
    if (labels != values).any():
        raise ValueError(f"{path}: numbers from {values.min()} to {values.max()}; labels are whole, 0 to 255")
    return labels


def parse(path: Path, size: Size, *tables: Table) -> list[Tensor]:
    """A parse map by each table: uint8 [H, W] of `Label`s; numbers that it does not know are accessories."""
    found = _nearest(path, numbers(path), size)
    maps = [table[found] for table in tables]
    for labels in maps:
        labels[labels == UNKNOWN] = Label.ACCESSORY
    return [torch.from_numpy(labels) for labels in maps]


def dense_parts(path: Path) -> U8:
    """DensePose's parts 0 to 24 as the file has them: [H, W].

    Understood are NumPy arrays and one-channel pictures of parts, DensePose's `_IUV` pictures (part in blue,
    as OpenCV writes them) and detectron2's rendering `dp_segm` at alpha 1 (parula colours on black).
    """
    if path.suffix == ".npy":
        data = _bytes(path)
        try:
            parts = np.load(io.BytesIO(data), allow_pickle=False)
            if parts.ndim < 2 or not parts.size:
                raise ValueError(f"its shape is {parts.shape}")
            parts = parts.reshape(parts.shape[-2:])
            if not np.isfinite(parts).all():
                raise ValueError("not all of it are numbers")
            if (parts != np.rint(parts)).any():
                raise ValueError("not all of it are whole numbers")
        except Exception as error:  # NumPy evaluates the header, of which damage makes anything
            raise ValueError(f"{path}: not a NumPy array of body parts: {error}") from error
    else:
        pixels = picture(path)
        blue = pixels[:, :, 2]
        coded = blue.max(initial=0) < DENSE_PARTS
        try:
            parts = blue if coded else _from_colours(pixels)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    if parts.max(initial=0) >= DENSE_PARTS or parts.min(initial=0) < 0:
        raise ValueError(f"{path}: body parts up to {parts.max():g}, DensePose has 0 to {DENSE_PARTS - 1}")
    return np.asarray(parts, np.uint8)


def dense(path: Path, size: Size) -> Tensor:
    """DensePose's parts as uint8 [H, W]."""
    return torch.from_numpy(_nearest(path, dense_parts(path), size).copy())


@functools.cache
def _colour_parts() -> U8:
    """The part of every colour in steps of 4, [64, 64, 64] by red, green, blue; `_MIXED` if none is near."""
    scale = (np.arange(DENSE_PARTS, dtype=np.float32) * (255 / (DENSE_PARTS - 1))).astype(np.uint8)
    colours = cv2.applyColorMap(scale[:, None], cv2.COLORMAP_PARULA)[:, 0, ::-1].astype(np.float32)
    colours[0] = 0
    steps = np.arange(2, 256, 4, dtype=np.float32)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    distances = np.stack([((grid - colour) ** 2).sum(axis=-1) for colour in colours])
    return np.where(distances.min(axis=0) < _SURE**2, distances.argmin(axis=0), _MIXED).astype(np.uint8)


def _from_colours(pixels: U8) -> U8:
    """The part whose colour in detectron2's rendering is nearest.

    Where parts meet, JPEG mixes their colours to a third part's: what is far from all colours takes the part
    of the nearest pixel that is not.
    """
    red, green, blue = np.moveaxis(pixels >> 2, 2, 0)
    parts = _colour_parts()[red, green, blue]
    mixed = parts == _MIXED
    if mixed.all():
        raise ValueError("not in the colours of detectron2's parts")
    kind = cv2.DIST_LABEL_PIXEL
    nearest = cv2.distanceTransformWithLabels(mixed.astype(np.uint8), cv2.DIST_L2, 5, labelType=kind)[1]
    part_of = np.zeros(nearest.max() + 1, np.uint8)
    part_of[nearest[~mixed]] = parts[~mixed]
    return np.asarray(part_of[nearest])


def points(path: Path) -> F32:
    """Key points as the file has them, in OpenPose's order: [18, 3], x, y, confidence; 0 where not seen.

    Understood are OpenPose's JSON with 18 or 25 points (nobody in it: no point seen), DressCode's, and COCO's
    17 points as a plain list.
    """
    data = _bytes(path)
    try:
        content: Any = json.loads(data)
        if isinstance(content, dict) and "people" in content:
            content = _openpose(content["people"])
        elif isinstance(content, dict):
            content = content["keypoints"]
        table = np.asarray(content, np.float32)
    except Exception as error:
        raise ValueError(f"{path}: not a file of key points: {error}") from error
    if table.ndim != 2 or len(table) not in (17, POINTS, 25) or table.shape[1] < 3:
        raise ValueError(f"{path}: key points of shape {table.shape}; expected 17, 18 or 25 of x, y, score")
    if not np.isfinite(table).all():
        raise ValueError(f"{path}: key points that are not numbers")
    return openpose_order(table)


def openpose_order(table: F32) -> F32:
    """COCO's 17, OpenPose's 25 or 18 points [N, 3 or more] in the order of the 18; what was not seen is 0."""
    seen = (table[:, 2] > 0) & (table[:, :2] > 0).all(axis=1)
    table = np.where(seen[:, None], table[:, :3], 0).astype(np.float32)
    if len(table) == 25:
        return table[_BODY_25]
    return _from_coco(table) if len(table) == 17 else table


def _openpose(people: Any) -> Any:
    if not people:
        return np.zeros((POINTS, 3), np.float32)
    first = people[0]
    flat = first["pose_keypoints_2d"] if "pose_keypoints_2d" in first else first["pose_keypoints"]
    return np.asarray(flat, np.float32).reshape(-1, 3)


def _from_coco(coco: F32) -> F32:
    """COCO's 17 points as OpenPose's 18; the neck is midway between the shoulders."""
    table = coco[_COCO]
    shoulders = coco[[5, 6]]
    table[1] = shoulders.mean(axis=0) if (shoulders[:, 2] > 0).all() else 0
    return table


def keypoints(path: Path, own: Size, size: Size) -> Tensor:
    """Key points as float32 [18, 3] for a picture of `size`; `own` is the size that they were measured at."""
    scale = np.array([size[1] / own[1], size[0] / own[0], 1], np.float32)
    return torch.from_numpy(points(path) * scale)


def flow_arrays(path: Path) -> tuple[F32, npt.NDArray[np.bool_]]:
    """True flow as the file has it: grid [2, H, W] and where it is visible [H, W]."""
    data = _bytes(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            flow, visible = file["flow"].astype(np.float32), file["visible"].astype(bool)
    except Exception as error:  # of an archive, of NumPy's headers in it
        raise ValueError(f"{path}: not a file of flow: {error}") from error
    if flow.ndim != 3 or flow.shape != (2, *visible.shape) or not visible.size:
        raise ValueError(f"{path}: flow {flow.shape} and visible {visible.shape} do not belong together")
    return flow, visible


def flow(path: Path, size: Size) -> tuple[Tensor, Tensor]:
    """True flow as float32 [2, H, W] and where it is visible as float32 [1, H, W], 0 or 1."""
    grid, visible = flow_arrays(path)
    if visible.shape != size:
        _same_shape(path, visible.shape, size)
        grid, visible = _resize_flow(grid, visible, size)
    return torch.from_numpy(grid), torch.from_numpy(visible).float()[None]


def _resize_flow(grid: F32, visible: npt.NDArray[np.bool_], size: Size) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Flow averaged over the visible pixels of each new one; visible where most of them are."""
    how = cv2.INTER_AREA if visible.shape[0] > size[0] else cv2.INTER_LINEAR
    planes = np.stack([*(grid * visible), visible.astype(np.float32)], axis=2)
    planes = cv2.resize(planes, (size[1], size[0]), interpolation=how)
    share = planes[:, :, 2]
    resized = (planes[:, :, :2] / np.maximum(share, 1e-6)[:, :, None]).transpose(2, 0, 1)
    return np.ascontiguousarray(resized), share > 0.5


def _nearest(path: Path, values: U8, size: Size) -> U8:
    if values.shape != size:
        _same_shape(path, values.shape, size)
        values = np.asarray(cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT))
    return values


def _same_shape(path: Path, own: tuple[int, ...], size: Size) -> None:
    if abs(own[0] * size[1] / (own[1] * size[0]) - 1) > 0.02:
        raise ValueError(
            f"{path}: {own[0]}x{own[1]} is not of the shape of {size[0]}x{size[1]}: crop it first"
        )
