"""The layers format: what is stored, that it survives a round trip, and that damage is noticed."""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rmgn.data import read
from rmgn.data.check import sample_problems
from rmgn.data.dress import flows, worn_place
from rmgn.data.people import layers
from rmgn.data.people.layers import Shop, Worn


@pytest.fixture(scope="module")
def sample(layers_folder: Path) -> layers.Sample:
    return layers.load(layers_folder / "000000.zip")


def test_samples_are_sound(layers_folder: Path) -> None:
    for path in sorted(layers_folder.glob("*.zip")):
        assert list(sample_problems(layers.load(path))) == []


def test_visible_cloth_is_what_the_shop_photo_shows(layers_folder: Path) -> None:
    """Front or back, trunk or sleeve: as in the pixel that the flow points to, or one beside it."""
    wrong = seen = 0
    for path in sorted(layers_folder.glob("*.zip")):
        sample = layers.load(path)
        for worn, shop, garment in zip(sample.worn, sample.shop, sample.meta["garments"], strict=True):
            place = torch.from_numpy((worn.place ^ layers.PLACE_ZERO).view(np.int16))[None]
            view = garment["shop"]
            placed = [*view["centre"], view["half_height"], np.deg2rad(view["roll"])]
            flow, visible = flows(
                *worn_place(place), torch.from_numpy(worn.garment)[None], torch.tensor([placed])
            )
            rows, columns = np.nonzero(visible[0, 0].numpy())
            height, width = visible.shape[-2:]
            x, y = flow[0, :, rows, columns].numpy()
            x = np.clip(((x + 1) / 2 * width).astype(int), 1, width - 2)
            y = np.clip(((y + 1) / 2 * height).astype(int), 1, height - 2)
            own = worn.garment[rows, columns, 1] & (layers.BACK | layers.PANEL)
            around = [
                shop.garment[y + down, x + right, 1] & (layers.BACK | layers.PANEL)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
            ]
            wrong += int((np.stack(around) != own).all(axis=0).sum())
            seen += len(own)
    assert seen > 20_000
    assert wrong < 1e-3 * seen


def test_a_sample_fits_in_400_kb(layers_folder: Path) -> None:
    assert max(p.stat().st_size for p in layers_folder.glob("*.zip")) < 400_000


def test_round_trip(sample: layers.Sample, tmp_path: Path) -> None:
    layers.save(tmp_path / "1.zip", sample)
    again = layers.load(tmp_path / "1.zip")
    for one, other in zip(sample.worn, again.worn, strict=True):
        for f in fields(Worn):
            np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name))
    for one_shop, other_shop in zip(sample.shop, again.shop, strict=True):
        for f in fields(Shop):
            np.testing.assert_array_equal(getattr(one_shop, f.name), getattr(other_shop, f.name))
    assert again.meta == json.loads(json.dumps(sample.meta))
    layers.save(tmp_path / "2.zip", again)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_damage_and_foreign_versions_are_refused(sample: layers.Sample, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(ValueError, match="not a layers file"):
        layers.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.json", json.dumps({"version": 99}))
    with pytest.raises(ValueError, match="version 99"):
        layers.load(path)
    assert sample.meta["version"] == layers.VERSION


def _again(source: Path, path: Path, name: str, data: bytes | None) -> None:
    """A layers file with other data in one member, or without it."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
            elif data is not None:
                new.writestr(member, data)


def _png(shape: tuple[int, ...], kind: type = np.uint8) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros(shape, kind))[1])


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a/light.png", _png((256, 192)), r"a/light.png is uint8 \(256, 192\) and should be .*, 3\)"),
        ("b/depth.png", _png((256, 192)), r"b/depth.png is uint8 .* should be uint16"),
        ("b/shop_gloss.png", _png((128, 96)), r"b/shop_gloss.png is uint8 \(128, 96\) and should be"),
        ("parts.png", b"no picture", "parts.png is not a picture"),
        ("a/place.png", None, "a/place.png"),
        ("meta.json", b'{"version": 1, "shape": {}}', "meta.json is without keypoints, garments, lower"),
    ],
)  # fmt: skip
def test_what_is_wrong_within_a_file_is_named(
    layers_folder: Path, tmp_path: Path, name: str, data: bytes | None, says: str
) -> None:
    path = tmp_path / "000000.zip"
    _again(layers_folder / path.name, path, name, data)
    with pytest.raises(ValueError, match=f"000000.zip is not a layers file: .*{says}.*; delete it"):
        layers.load(path)


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate"), cv2.error("Insufficient memory")])
def test_a_file_is_not_to_blame_for_too_little_memory(
    layers_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    if isinstance(error, cv2.error):
        error.code = cv2.Error.StsNoMem

    def decode(*_: object) -> None:
        raise error

    monkeypatch.setattr(layers, "_decode", decode)
    with pytest.raises(type(error), match=str(error)):
        layers.load(layers_folder / "000000.zip")


def test_no_damage_is_more_than_one_sentence(sample: layers.Sample, tmp_path: Path) -> None:
    """Whatever bit of a file has turned: it reads, or a ValueError names it."""
    path, flow = tmp_path / "x.zip", tmp_path / "x.npz"
    layers.save(path, sample)
    np.savez_compressed(flow, flow=np.zeros((2, 8, 6), np.float16), visible=np.ones((8, 6), bool))
    rng = np.random.default_rng(0)
    for file, load in ((path, layers.load), (flow, read.flow_arrays)):
        sound = file.read_bytes()
        for _ in range(150):
            damaged = bytearray(sound)
            damaged[rng.integers(min(300, len(sound)))] ^= 1 << rng.integers(8)
            damaged[-rng.integers(1, 400)] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            said = str(file)
            try:
                load(file)
            except ValueError as error:
                said = str(error)
            assert str(file) in said


def test_both_garments_share_body_pose_and_camera(sample: layers.Sample) -> None:
    a, b = sample.worn
    both_skin = (a.labels == layers.LABELS["face"]) & (b.labels == layers.LABELS["face"])
    assert both_skin.sum() > 200
    gap = np.abs(a.depth[both_skin].astype(int) - b.depth[both_skin])
    assert np.percentile(gap, 95) <= 8  # millimetres


def test_light_coding_keeps_shadows_and_highlights() -> None:
    light = np.array([0.0, 0.01, 0.1, 1.0, 3.9])
    back = (layers.pack_light(light) / 255.0) ** 2 * layers.LIGHT_MAX
    np.testing.assert_allclose(back, light, rtol=0.07, atol=1e-3)


def test_other_archives_are_no_samples(layers_folder: Path, tmp_path: Path) -> None:
    assert layers.present(layers_folder)
    assert [path.name for path in layers.files(layers_folder)] == [layers.file_name(k) for k in range(3)]
    for name in ("2024-backup.zip", "1.zip", "0000001.zip", "000001.zip.part"):
        (tmp_path / name).touch()
    for folder in (tmp_path, tmp_path / "1.zip", tmp_path / "none"):
        assert not layers.present(folder)
        assert layers.files(folder) == []
