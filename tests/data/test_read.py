"""Single files of data sets, as they should be read and as they should be refused."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from rmgn.data import labels, read
from rmgn.data.sample import Label


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_red_is_the_first_channel(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"red{suffix}"
    Image.new("RGB", (6, 8), (255, 0, 0)).save(path)
    assert (read.picture(path)[0, 0].astype(int) - (255, 0, 0)).max() <= 2
    torch.testing.assert_close(
        read.rgb(path, (8, 6))[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]), atol=0.02, rtol=0
    )


def test_smaller_pictures_are_means_of_larger_ones(tmp_path: Path) -> None:
    """A pattern of single pixels becomes grey, no other pattern."""
    y, x = np.mgrid[:32, :24]
    Image.fromarray(((x + y) % 2 * 255).astype(np.uint8)).convert("RGB").save(tmp_path / "checks.png")
    assert read.rgb(tmp_path / "checks.png", (8, 6)).abs().max() < 0.02


def test_another_shape_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (200, 256)).save(tmp_path / "wide.png")
    with pytest.raises(ValueError, match=r"wide\.png: 256x200 is not of the shape of 256x192: crop it first"):
        read.rgb(tmp_path / "wide.png", (256, 192))
    assert read.rgb(tmp_path / "wide.png", (128, 100)).shape == (3, 128, 100)


def test_labels_are_whole_numbers_below_256(tmp_path: Path) -> None:
    path = tmp_path / "labels.tif"
    for value, kind in ((300, np.uint16), (-3, np.int32), (5.7, np.float32), (np.nan, np.float32)):
        Image.fromarray(np.full((8, 6), value, kind)).save(path)
        with pytest.raises(ValueError, match=r"labels\.tif: numbers from .*; labels are whole, 0 to 255"):
            read.numbers(path)
    Image.fromarray(np.full((8, 6), 13, np.uint16)).save(path)
    assert (read.numbers(path) == 13).all()
    for mode, colour in (("LA", (13, 255)), ("RGBA", (13, 13, 13, 255))):
        Image.new(mode, (6, 8), colour).save(path)
        assert (read.numbers(path) == 13).all(), mode


def test_unknown_labels_are_things_worn_not_ground(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    Image.fromarray(np.full((8, 6), 200, np.uint8)).save(path)
    (parse,) = read.parse(path, (8, 6), labels.VITON)
    assert (parse == Label.ACCESSORY).all()


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array(5), r"its shape is \(\)"),
        (np.zeros(0), r"its shape is \(0,\)"),
        (np.zeros((0, 0)), r"its shape is \(0, 0\)"),
        (np.full((8, 6), 3.7), "not all of it are whole numbers"),
        (np.full((8, 6), -1), "DensePose has 0 to 24"),
    ],
)
def test_body_parts_are_a_picture_of_whole_numbers(array: Any, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "parts.npy", array)
    with pytest.raises(ValueError, match=rf"parts\.npy: .*{says}"):
        read.dense_parts(tmp_path / "parts.npy")


def test_flow_of_nothing_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "flow.npz", flow=np.zeros((2, 0, 0)), visible=np.zeros((0, 0)))
    with pytest.raises(ValueError, match=r"flow\.npz: .* do not belong together"):
        read.flow(tmp_path / "flow.npz", (8, 6))


def test_smaller_flow_is_the_mean_of_what_is_visible(tmp_path: Path) -> None:
    """What is not visible counts nowhere, and half of a pixel is not enough."""
    visible = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
    flow = np.where(visible, 0.25, 9.0).repeat(2).reshape(4, 4, 2).transpose(2, 0, 1)
    flow[0, 0, 0] = 0.55
    np.savez(tmp_path / "flow.npz", flow=flow, visible=visible)
    grid, seen = read.flow(tmp_path / "flow.npz", (2, 2))
    assert seen.tolist() == [[[1, 0], [0, 0]]]
    torch.testing.assert_close(grid[:, 0, 0], torch.tensor([0.35, 0.25]), atol=1e-6, rtol=0)


def _coco(**seen: tuple[float, float, float]) -> list[list[float]]:
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder"]
    table = [[0.0, 0.0, 0.0] for _ in range(17)]
    for name, point in seen.items():
        table[names.index(name)] = list(point)
    return table


def test_the_neck_needs_both_shoulders_and_a_point_a_place(tmp_path: Path) -> None:
    """As some estimators write what they do not see: at 0, 0 with a score."""
    path = tmp_path / "points.json"
    left, right = (40.0, 60.0, 0.9), (20.0, 50.0, 0.7)
    path.write_text(json.dumps(_coco(left_shoulder=left, right_shoulder=right, nose=(0, 0, 0.9))))
    both = read.points(path)
    np.testing.assert_allclose(both[1], (30, 55, 0.8), rtol=1e-6)
    np.testing.assert_allclose(both[[2, 5]], (right, left), rtol=1e-6)
    assert not both[0].any(), "nobody's nose is at 0, 0"
    path.write_text(json.dumps(_coco(left_shoulder=left)))
    one = read.points(path)
    assert not one[1].any()
    np.testing.assert_allclose(one[5], left, rtol=1e-6)


def test_the_first_of_several_people_counts(tmp_path: Path) -> None:
    path = tmp_path / "points.json"
    people = [{"pose_keypoints_2d": [x, 10.0, 1.0] * 18} for x in (5.0, 7.0)]
    path.write_text(json.dumps({"people": people}))
    assert (read.points(path)[:, 0] == 5).all()


def test_masks_are_cut_at_one_half(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), np.array([[127, 128], [0, 255]], np.uint8))
    assert read.mask(tmp_path / "mask.png", (2, 2)).tolist() == [[[0, 1], [0, 1]]]


def test_a_picture_of_more_pixels_than_opencv_takes_is_told(tmp_path: Path) -> None:
    """Its header alone says so."""
    file = tmp_path / "bomb.png"
    cv2.imwrite(str(file), np.zeros((8, 8, 3), np.uint8))
    data = bytearray(file.read_bytes())
    data[16:24] = (40000).to_bytes(4, "big") + (30000).to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"bomb\.png: not a picture, damaged, or too large"):
        read.picture(file)
