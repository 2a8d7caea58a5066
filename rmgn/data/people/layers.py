"""The format between the slow and the fast stage: one file a sample, a zip of PNG planes and a `meta.json`.

See docs/data.md for the meaning of every plane. Planes hold shapes, coordinates and light, never a fabric's,
skin's or hair's colour: those are drawn when the sample is dressed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from engines.whole_file import write_whole

VERSION = 1
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]

# Bits of the `code` plane.
PANEL = 0b00000111  # torso, left sleeve, right sleeve, collar, ...
BACK = 0b00001000  # the back half of its panel
VISIBLE = 0b00010000  # this spot is also seen in the shop photo
LEAST_GARMENT = 0.035  # of the picture: less is rejected
OUTLINE = 0b01100000  # which outline `edge` is measured from: neck, hem, cuff
OUTLINE_SHIFT = 5
TORSO, SLEEVE_LEFT, SLEEVE_RIGHT, COLLAR = range(4)

PLACE_UNIT = 1e-4  # metres a step of `place`
PLACE_ZERO = 32768
EDGE_UNIT = 2.5e-4  # metres a step of `edge` and `seam`
LIGHT_MAX = 4.0  # light, gloss and albedo are (v / 255)² · 4

# Of planes, as their files are called: the channels of those with several, and which have 16 bits.
CHANNELS = {"cover": 4, "garment": 4, "place": 4, "light": 3, "albedo": 3, "shop_garment": 4}
WIDE = ("place", "depth")
NOTES = ("keypoints", "garments", "shape", "lower")  # what `meta.json` must tell

LABELS = {
    "background": 0, "hair": 1, "garment": 4, "lower": 8, "left leg": 9, "right leg": 10, "left arm": 11,
    "face": 12, "right arm": 13, "inner": 7,
}  # fmt: skip


@dataclass
class Worn:
    """A person in one garment."""

    cover: U8  # [H, W, 4] share of the pixel that is skin, hair, lower clothes, anything else
    garment: U8  # [H, W, 4] share that is garment, code, edge, seam
    place: U16  # [H, W, 4] garment's flat x and z, lower clothes' x and z; 0 where there is none
    light: U8  # [H, W, 3] diffuse light that the visible surface receives
    gloss: U8  # [H, W] light that it mirrors
    albedo: U8  # [H, W, 3] colour of skin and hair relative to their tone, of other things absolute
    labels: U8  # [H, W] parse map, `LABELS`
    depth: U16  # [H, W] millimetres from the camera, 0 for background


@dataclass
class Shop:
    """A garment's shop photo."""

    garment: U8  # [H, W, 4] coverage, code, edge, seam
    light: U8  # [H, W]
    gloss: U8  # [H, W]


@dataclass
class Sample:
    """One body, pose, camera and light in two garments, and both garments' shop photos."""

    worn: tuple[Worn, Worn]
    shop: tuple[Shop, Shop]
    parts: U8  # [H, W] body parts under the clothes, numbered as DensePose does
    meta: dict[str, Any]


def file_name(number: int) -> str:
    """What the file of a sample is called."""
    return f"{number:06d}.zip"


def files(folder: Path) -> list[Path]:
    """Samples in a folder, by number; files of other names are no samples, such as `2024-backup.zip`."""
    return sorted(_files(folder))


def present(folder: Path) -> bool:
    """Whether a folder is there and holds samples."""
    return next(_files(folder), None) is not None


def _files(folder: Path) -> Iterator[Path]:
    return folder.glob("[0-9]" * 6 + ".zip")


def pack_light(light: npt.NDArray[np.floating]) -> U8:
    """Square-root coding: fine steps in the shadows, up to `LIGHT_MAX`."""
    return np.round(255 * np.sqrt(np.clip(light / LIGHT_MAX, 0, 1))).astype(np.uint8)


def unpack_light(coded: U8) -> npt.NDArray[np.float32]:
    """What `pack_light` packed."""
    return np.square(coded, dtype=np.float32) * np.float32(LIGHT_MAX / 255**2)


def pack_place(metres: npt.NDArray[np.floating]) -> U16:
    """Flat coordinates in steps of `PLACE_UNIT` around `PLACE_ZERO`."""
    return np.clip(np.round(metres / PLACE_UNIT) + PLACE_ZERO, 1, 65535).astype(np.uint16)


def _encode(plane: npt.NDArray[Any]) -> bytes:
    if plane.ndim == 3:
        plane = np.ascontiguousarray(plane[:, :, [2, 1, 0, 3][: plane.shape[2]]])
    how = [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):
        how += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
    return bytes(cv2.imencode(".png", plane, how)[1])


def _decode(name: str, data: bytes) -> npt.NDArray[Any]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ValueError(f"{name} is not a picture")
    plane = np.asarray(decoded)
    if plane.ndim == 3:
        plane = cv2.cvtColor(plane, cv2.COLOR_BGRA2RGBA if plane.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return plane


def save(path: Path, sample: Sample) -> None:
    """Write a sample; the file appears whole or not at all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name), data)  # a fixed date: the same sample, the same bytes

        add("meta.json", json.dumps({"version": VERSION, **sample.meta}, sort_keys=True).encode())
        add("parts.png", _encode(sample.parts))
        for side, worn, shop in zip("ab", sample.worn, sample.shop, strict=True):
            for f in fields(worn):
                add(f"{side}/{f.name}.png", _encode(getattr(worn, f.name)))
            for f in fields(shop):
                add(f"{side}/shop_{f.name}.png", _encode(getattr(shop, f.name)))
    write_whole(path, buffer.getvalue())


def load(path: Path) -> Sample:
    """Read a sample; `ValueError` if the file is damaged or of another version."""
    data = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            meta = json.loads(archive.read("meta.json"))
            if meta.get("version") != VERSION:
                raise ValueError(f"{path}: layers of version {meta.get('version')}, expected {VERSION}")

            if missing := [name for name in NOTES if name not in meta]:
                raise ValueError(f"meta.json is without {', '.join(missing)}")

            parts = _decode("parts.png", archive.read("parts.png"))

            def plane(side: str, name: str) -> npt.NDArray[Any]:
                file = f"{side}{name}.png"
                decoded = _decode(file, archive.read(file))
                shape = (*parts.shape, *([CHANNELS[name]] if name in CHANNELS else []))
                kind = np.dtype(np.uint16 if name in WIDE else np.uint8)
                if (decoded.shape, decoded.dtype) != (shape, kind):
                    found = f"{decoded.dtype} {decoded.shape}"
                    raise ValueError(f"{file} is {found} and should be {kind} {shape}")
                return decoded

            worn = [Worn(**{f.name: plane(f"{s}/", f.name) for f in fields(Worn)}) for s in "ab"]
            shop = [Shop(**{f.name: plane(f"{s}/", f"shop_{f.name}") for f in fields(Shop)}) for s in "ab"]
            return Sample((worn[0], worn[1]), (shop[0], shop[1]), parts, meta)
    except Exception as error:  # whatever an archive, its JSON or its pictures raise
        if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
            raise  # the file is not to blame
        said = str(error)
        named = said if said.startswith(str(path)) else f"{path} is not a layers file: {said}"
        raise ValueError(f"{named}; delete it, and the command that made it makes it anew") from error
