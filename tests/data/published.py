"""Folders in published layouts, made from generated pictures, for the tests of their readers.

What is written here follows the sets' documentation and their users' code, not our readers: names, label
numbers, orders of key points and codings are spelled out once more.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

U8 = npt.NDArray[np.uint8]
Point = tuple[float, float, float]

# COCO goes from left to right part by part; OpenPose lists the whole right arm or leg, then the left one.
COCO = ["nose", *(f"{side}_{part}" for part in ("eye", "ear") for side in ("left", "right"))]
COCO += [
    f"{s}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for s in ("left", "right")
]
ARMS = [f"{side}_{part}" for side in ("right", "left") for part in ("shoulder", "elbow", "wrist")]
LEGS = [f"{side}_{part}" for side in ("right", "left") for part in ("hip", "knee", "ankle")]
HEAD = ["right_eye", "left_eye", "right_ear", "left_ear"]
FEET = [f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")]
OPENPOSE_18 = ["nose", "neck", *ARMS, *LEGS, *HEAD]
OPENPOSE_25 = ["nose", "neck", *ARMS, "mid_hip", *LEGS, *HEAD, *FEET]

# Generated labels, which are VITON's: background, hair, garment, the top under an open front, lower, left and
# right leg, left arm, face, right arm.
GENERATED = (0, 1, 4, 7, 8, 9, 10, 11, 12, 13)
TO_LIP = dict(zip(GENERATED, (0, 2, 5, 5, 9, 16, 17, 14, 13, 15), strict=True))
TO_ATR = dict(zip(GENERATED, (0, 2, 4, 4, 6, 12, 13, 14, 11, 15), strict=True))


class Source:
    """Generated pictures: number n is person n // 2 in garment a or b."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stems = sorted(p.stem for p in (folder / "person").iterdir())

    def person(self, n: int) -> Path:
        return self.folder / "person" / f"{self.stems[n]}.jpg"

    def garment(self, n: int) -> Path:
        return self.folder / "garment" / f"{self.stems[n]}.jpg"

    def mask(self, n: int) -> U8:
        return np.asarray(Image.open(self.folder / "garment_mask" / f"{self.stems[n]}.png"))

    def parse(self, n: int) -> U8:
        return np.asarray(Image.open(self.folder / "parse" / f"{self.stems[n]}.png"))

    def parts(self, n: int) -> U8:
        return np.asarray(Image.open(self.folder / "bodyparts" / f"{self.stems[n][:-2]}.png"))

    def points(self, n: int, scale: float = 1.0) -> dict[str, Point]:
        """By name; those not seen are left out."""
        listed = json.loads((self.folder / "keypoints" / f"{self.stems[n][:-2]}.json").read_text())
        named = {
            name: (x * scale, y * scale, v)
            for name, (x, y, v) in zip(COCO, listed, strict=True)
            if v > 0 and x > 0 and y > 0
        }
        if "left_shoulder" in named and "right_shoulder" in named:
            (lx, ly, lv), (rx, ry, rv) = named["left_shoulder"], named["right_shoulder"]
            named["neck"] = ((lx + rx) / 2, (ly + ry) / 2, (lv + rv) / 2)
        return named


def _flat(points: dict[str, Point], order: list[str]) -> list[float]:
    return [value for name in order for value in points.get(name, (0.0, 0.0, 0.0))]


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _json(path: Path, content: object) -> None:
    _file(path).write_text(json.dumps(content))


def _numbers(path: Path, numbers: U8) -> None:
    Image.fromarray(numbers).save(_file(path))


def _translate(numbers: U8, table: dict[int, int]) -> U8:
    out = np.full_like(numbers, 255)
    for old, new in table.items():
        out[numbers == old] = new
    assert (out < 255).all()
    return out


def _jpeg(path: Path, pixels: U8) -> None:
    cv2.imwrite(str(_file(path)), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])


def _twice(numbers: U8) -> U8:
    return numbers.repeat(2, axis=0).repeat(2, axis=1)


def viton(source: Source, root: Path) -> Path:
    """PF-AFN's training and test data; the persons' numbers are the samples' numbers."""
    train, test = root / "VITON_traindata", root / "VITON_test"
    for n in range(len(source.stems)):
        name = f"{n:06d}"
        shutil.copy(source.person(n), _file(train / "train_img" / f"{name}_0.jpg"))
        shutil.copy(source.garment(n), _file(train / "train_color" / f"{name}_1.jpg"))
        _jpeg(train / "train_edge" / f"{name}_1.jpg", source.mask(n))
        _numbers(train / "train_label" / f"{name}_0.png", source.parse(n))
        flat = _flat(source.points(n), OPENPOSE_18)
        _json(train / "train_pose" / f"{name}_0_keypoints.json", {"people": [{"pose_keypoints": flat}]})
        np.save(_file(train / "train_densepose" / f"{name}_0.npy"), source.parts(n))
        shutil.copy(source.person(n), _file(test / "test_img" / f"{name}_0.jpg"))
        shutil.copy(source.garment(n), _file(test / "test_clothes" / f"{name}_1.jpg"))
        _jpeg(test / "test_edge" / f"{name}_1.jpg", source.mask(n))
    (test / "test_pairs.txt").write_text("000000_0.jpg 000003_1.jpg\n000002_0.jpg 000001_1.jpg\n")
    return root


def rmgn_release(source: Source, root: Path) -> Path:
    """The RMGN release's test set; its list may name a garment with a folder."""
    for n in range(len(source.stems)):
        folder = "women_top_cloth_test"
        shutil.copy(source.person(n), _file(root / "women_top_reference_person_test" / f"{n:06d}_0.jpg"))
        shutil.copy(source.garment(n), _file(root / folder / ("new" if n == 3 else "") / f"{n:06d}_1.jpg"))
        _jpeg(root / "women_top_cloth_mask_test" / f"{n:06d}_1.jpg", source.mask(n))
    (root / "demo.txt").write_text("000000_0.jpg new/000003_1.jpg\n000002_0.jpg 000001_1.jpg\n")
    return root


def viton_hd(source: Source, root: Path) -> Path:
    """VITON-HD, twice as large as the samples: palette parse maps, 25 key points, rendered dense pose."""
    names = [f"{n:05d}_00" for n in range(len(source.stems))]
    for n, name in enumerate(names):
        for split in ("train", "test"):
            folder = root / split
            for kind, path in (("image", source.person(n)), ("cloth", source.garment(n))):
                large = Image.open(path).resize((384, 512), Image.Resampling.BICUBIC)
                large.save(_file(folder / kind / f"{name}.jpg"), quality=95)
            _jpeg(folder / "cloth-mask" / f"{name}.jpg", _twice(source.mask(n)))
            parse = Image.fromarray(_twice(_translate(source.parse(n), TO_LIP))).convert("P")
            parse.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
            parse.save(_file(folder / "image-parse-v3" / f"{name}.png"))
            flat = _flat(source.points(n, scale=2), OPENPOSE_25)
            content = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": flat}]}
            _json(folder / "openpose_json" / f"{name}_keypoints.json", content)
            parts = _twice(source.parts(n))
            shown = cv2.applyColorMap((parts * (255 / 24)).astype(np.uint8), cv2.COLORMAP_PARULA)
            _jpeg(
                folder / "image-densepose" / f"{name}.jpg",
                np.asarray(shown * (parts > 0)[:, :, None], np.uint8),
            )
    pairs = "".join(f"{name}.jpg {names[(n + 1) % len(names)]}.jpg\n" for n, name in enumerate(names))
    (root / "test_pairs.txt").write_text(pairs)
    (root / "train_pairs.txt").write_text("".join(f"{name}.jpg {name}.jpg\n" for name in names))
    return root


def mpv(source: Source, root: Path) -> Path:
    """MPV with the first four samples for training: folders below folders, tabs, IUV pictures."""
    rows = []
    for n in range(len(source.stems)):
        code = f"SC{n}21E00D"
        person = f"{code}/{code}-O11@13=person_half_front"
        back = f"{code}/{code}-O11@15=person_whole_back"
        cloth = f"{code}/{code}-O11@12.1=cloth_front"
        for name, path in ((person, source.person(n)), (back, source.person(n)), (cloth, source.garment(n))):
            shutil.copy(path, _file(root / "MPV_192_256" / f"{name}.jpg"))
        _numbers(root / "cloth_mask" / f"{cloth}_mask.png", source.mask(n))
        _numbers(root / "all_parsing" / f"{person}.png", _translate(source.parse(n), TO_LIP))
        flat = _flat(source.points(n), OPENPOSE_18)
        content = {"people": [{"pose_keypoints": flat}]}
        _json(root / "all_person_clothes_keypoints" / f"{person}_keypoints.json", content)
        parts = source.parts(n)
        uv = np.random.default_rng(n).integers(1, 255, (*parts.shape, 2), np.uint8) * (parts > 0)[:, :, None]
        iuv = np.concatenate([parts[:, :, None], uv], axis=2)  # as OpenCV writes it: the part is blue
        cv2.imwrite(str(_file(root / "all_densepose" / f"{person}_IUV.png")), iuv)
        split = "train" if n < 4 else "test"
        rows.append(f"{person}.jpg\t{back}.jpg\t{cloth}.jpg\t{split}")
    (root / "all_poseA_poseB_clothes.txt").write_text("\n".join(rows))
    return root


def dresscode(source: Source, root: Path) -> Path:
    """DressCode's upper body; key points at 384x512 whatever the pictures' size."""
    folder = root / "upper_body"
    names = [f"{48390 + n:06d}" for n in range(len(source.stems))]
    for n, name in enumerate(names):
        shutil.copy(source.person(n), _file(folder / "images" / f"{name}_0.jpg"))
        shutil.copy(source.garment(n), _file(folder / "images" / f"{name}_1.jpg"))
        _numbers(folder / "masks" / f"{name}_1.png", source.mask(n))
        _numbers(folder / "label_maps" / f"{name}_4.png", _translate(source.parse(n), TO_ATR))
        _numbers(folder / "dense" / f"{name}_5.png", source.parts(n))
        points = source.points(n, scale=2)
        rows = [[*points[k], i] if (k := p) in points else [-1, -1, 0, -1] for i, p in enumerate(OPENPOSE_18)]
        _json(folder / "keypoints" / f"{name}_2.json", {"keypoints": rows})
    pairs = "".join(f"{name}_0.jpg\t{name}_1.jpg\n" for name in names)
    (folder / "train_pairs.txt").write_text(pairs)
    (folder / "test_pairs_paired.txt").write_text(pairs)
    others = names[1:] + names[:1]
    unpaired = "".join(f"{a}_0.jpg\t{b}_1.jpg\n" for a, b in zip(names, others, strict=True))
    (folder / "test_pairs_unpaired.txt").write_text(unpaired)
    return root
