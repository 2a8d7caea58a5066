"""Half precision keeps its pixels at both resolutions, in both sizes of the network, on photos too."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import engines
from engines.protocol import Array
from engines.reference import LIMITS, Limits
from export import parity, samples
from export.parity import Difference, random_sample, report, worst
from export.samples import SHIPPED, read_samples, shipped_samples
from export.write_bundle import write_bundle
from rmgn import PRESETS, RMGN, checkpoint


def _samples(height: int, width: int) -> list[dict[str, Array]]:
    """Smooth random pictures, and one real pair where RMGN_REALDATA names photos."""
    photos = Path(os.environ.get("RMGN_REALDATA", "")) / "viton"
    real = read_samples(photos, height, width, 1) if photos.is_dir() else []
    found = [{name: value.numpy() for name, value in sample.items()} for sample in real]
    return [random_sample(height, width), *found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "height", "width"), [("lite", 256, 192), ("lite", 512, 384), ("paper", 512, 384)]
)
def test_half_precision_keeps_its_pixels(
    preset: str,
    height: int,
    width: int,
    lite: RMGN,
    released_state: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """45 dB and a twentieth of a pixel, for the published widths on the fastest engine here alone."""
    from rmgn.convert import released

    model = lite
    if preset == "paper":
        model = released(released_state("rmgn_warp"), released_state("rmgn_generator"))
        assert model.config == PRESETS["paper"]
        monkeypatch.delitem(engines.BACKENDS, "onnxruntime")
        pytest.importorskip("openvino")
    bundle = write_bundle(model, tmp_path / "bundle", height, width, half=True)
    rows, _ = report(model, bundle, _samples(height, width))
    assert rows
    assert all(row.within(LIMITS["float16"]) for row in rows), rows


def test_limits_are_those_that_were_promised() -> None:
    assert LIMITS["float16"] == Limits(psnr=45, flow_pixels=0.05)


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        (Difference("e", "tryon", 0, 0, 45.0), True),
        (Difference("e", "tryon", 0, 0, 44.9), False),
        (Difference("e", "tryon", 0, 0, float("nan")), False),
        (Difference("e", "flow", 0, 0, 10.0, 0.05), True),
        (Difference("e", "flow", 0, 0, 90.0, 0.051), False),
        (Difference("e", "flow", 0, 0, 90.0, float("nan")), False),
        (Difference("e", "rendered", 1, 1, 10.0), True),
    ],
)
def test_limits_hold_for_try_on_and_flow(row: Difference, kept: bool) -> None:
    assert row.within(LIMITS["float16"]) is kept


def test_worst_of_several_samples() -> None:
    rows = [
        Difference("a", "flow", 0.1, 0.01, 60.0, 0.2),
        Difference("b", "flow", 9.0, 9.00, 10.0, 9.0),
        Difference("a", "flow", 0.3, 0.03, 50.0, 0.1),
    ]
    assert worst(rows) == [Difference("a", "flow", 0.3, 0.02, 50.0, 0.2), rows[1]]
    spoilt = worst([rows[0], Difference("a", "flow", 0.3, 0.03, float("nan"), float("nan"))])[0]
    assert np.isnan(spoilt.psnr)
    assert not spoilt.within(LIMITS["float32"])


def test_the_projects_own_samples_have_their_colours() -> None:
    """The clip's first frame and the first garment, at about their own means, red first."""
    (sample,) = shipped_samples(64, 48, 1)
    _, frame = cv2.VideoCapture(str(SHIPPED / "clip.mp4")).read()
    garment = cv2.imread(str(min((SHIPPED / "garments").glob("*.webp"))))
    assert garment is not None
    for name, picture in (("person", frame), ("garment", garment)):
        expected = picture.mean(axis=(0, 1))[::-1] / 127.5 - 1
        np.testing.assert_allclose(sample[name].mean(dim=(0, 2, 3)), expected, atol=0.01, err_msg=name)


def test_a_shops_own_photo_among_the_projects_garments_is_no_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror's default folder holds them too; without transparency they have no mask."""
    expected = shipped_samples(64, 48, 2)
    shutil.copytree(SHIPPED / "garments", tmp_path / "garments")
    shutil.copy(SHIPPED / "clip.mp4", tmp_path)
    for name, channels in (("0-mine", 3), ("1-mine", 1)):
        cv2.imwrite(str(tmp_path / "garments" / f"{name}.webp"), np.zeros((64, 48, channels), np.uint8))
    monkeypatch.setattr(samples, "SHIPPED", tmp_path)
    for sample, same in zip(shipped_samples(64, 48, 2), expected, strict=True):
        for name, value in sample.items():
            assert torch.equal(value, same[name])
    for photo in (tmp_path / "garments").glob("[1-9]-*.webp"):
        photo.unlink()
    assert shipped_samples(64, 48, 2) == []


def test_command_compares_the_pictures_it_is_given(
    lite: RMGN, bundle32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "lite.safetensors"
    checkpoint.save(lite, weights)
    flags = []
    for folder, grey in (("dark", 50), ("light", 200)):
        for name, level in (("person", grey), ("garment", grey), ("garment_mask", 255)):
            (tmp_path / folder / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / folder / name / "a.png"), np.full((64, 48, 3), level, np.uint8))
        flags += ["--samples", str(tmp_path / folder)]
    seen: list[float] = []

    def noted(_model: RMGN, _bundle: engines.Bundle, samples: Any) -> Any:
        seen.extend(float(sample["person"].mean()) for sample in samples)
        return [], {}

    monkeypatch.setattr(parity, "report", noted)
    parity.main(["--checkpoint", str(weights), "--count", "1", *flags, str(bundle32)])
    assert seen == pytest.approx([50 / 127.5 - 1, 200 / 127.5 - 1], abs=1e-5)


def test_command_compares_bundles(
    lite: RMGN,
    bundle32: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = tmp_path / "lite.safetensors"
    checkpoint.save(lite, weights)
    command = ["--checkpoint", str(weights), "--count", "1", str(bundle32)]
    assert parity.main(command) == 0
    found = capsys.readouterr()
    assert "| fp32 | float32 | onnxruntime | tryon |" in found.out
    other = RMGN(PRESETS["lite"]).eval()
    checkpoint.save(other, weights)
    assert parity.main(command) == 1
    assert "onnxruntime: tryon differs by more than float32 may (try-on 60 dB" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(engines, "BACKENDS", {"tensorrt": "engines.no_such_module"})
        assert parity.main(command) == 1
    assert "no engine runs here" in capsys.readouterr().err
    assert parity.main(["--checkpoint", str(tmp_path / "none"), str(bundle32)]) == 2
    assert "error: " in capsys.readouterr().err
