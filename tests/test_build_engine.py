"""The export command as a user runs it."""

import dataclasses
import importlib
import importlib.metadata
import json
import math
import shutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import engines
from engines import EngineError, build_plans, tensorrt_engine
from engines.bundle import sha256
from engines.reference import LIMITS, Limits
from export import build_engine
from export.parity import Difference, compare, report
from export.samples import shipped_samples
from rmgn import RMGN, checkpoint, halve

ROOT = Path(__file__).parent.parent


def test_exports_builds_and_compares(lite: RMGN, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(lite, tmp_path / "lite.safetensors")
    out = tmp_path / "bundle"
    arguments = [
        "--checkpoint",
        str(tmp_path / "lite.safetensors"),
        "--size",
        "64x64",
        "--fp16",
        "--fused",
        "--torch",
        "--out",
        str(out),
    ]
    assert build_engine.main(arguments) == 0
    text = capsys.readouterr().out
    bundle = engines.load_bundle(out)
    assert bundle.precision == "float16"
    assert bundle.provenance["weights"] == "checkpoint lite.safetensors"
    assert {"garment.torch", "tryon.torch"} <= set(bundle.graphs)
    assert (out / "tryon.fused.onnx").is_file()
    for name in ("onnxruntime", "fused", "flow", "rendered", "composite_mask", "tryon", "px"):
        assert name in text
    if "tensorrt_rtx" in tensorrt_engine.installed():
        for graph in ("garment", "tryon"):
            assert tensorrt_engine.read_manifest(bundle, graph, "tensorrt_rtx").precision == "float16"
            assert f"{graph}.tensorrt_rtx.plan" in text


def test_a_report_is_of_the_very_weights_that_it_measured(tmp_path: Path) -> None:
    """A copy is known, new weights in the same place are not; older reports tell the path alone."""
    weights, copy, report = (tmp_path / name for name in ("a.safetensors", "b.safetensors", "report.json"))
    weights.write_bytes(b"first")
    shutil.copy(weights, copy)
    other: dict[str, Any] = {"source": "x", "sha256": None, "paired": {}, "unpaired": {}}
    ours: dict[str, Any] = {
        "source": str(weights),
        "sha256": sha256(weights),
        "paired": {"SSIM": 1},
        "unpaired": {},
    }
    content = {"data": "d", "height": 256, "width": 192, "trials": {}, "contenders": [other, ours]}
    report.write_text(json.dumps(content))
    for file in (weights, copy):
        assert build_engine.read_quality(report, file)["paired"] == {"SSIM": 1}
    weights.write_bytes(b"second")
    with pytest.raises(EngineError, match=r"a.safetensors has changed since .*report.json was made"):
        build_engine.read_quality(report, weights)
    copy.write_bytes(b"third")
    with pytest.raises(EngineError, match=r"does not evaluate .*b.safetensors, but x, .*a.safetensors"):
        build_engine.read_quality(report, copy)
    report.write_text(json.dumps({**content, "contenders": []}))
    with pytest.raises(EngineError, match=r"does not evaluate .*b.safetensors, but nothing"):
        build_engine.read_quality(report, copy)
    strange = json.dumps({**content, "contenders": [{**other, "source": "\0"}]})
    for text in ("[" * 100_000, strange):
        report.write_text(text)
        with pytest.raises(EngineError, match=r"is no report\.json of rmgn\.evaluate"):
            build_engine.read_quality(report, copy)
    del other["sha256"], ours["sha256"]
    report.write_text(json.dumps(content))
    assert build_engine.read_quality(report, weights)["paired"] == {"SSIM": 1}


def test_a_halved_checkpoint_makes_smaller_float32_graphs(
    lite: RMGN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every engine still computes what PyTorch does in float32; notes and foreign files stay.

    The bundle's reference is the project's own try-on, and pictures given are those that are compared.
    """
    whole, halved, out = tmp_path / "whole.safetensors", tmp_path / "half.safetensors", tmp_path / "bundle"
    claims = {"sha256": "123", "weights": "mine", "preset": "x", "exported": "never"}
    checkpoint.save(lite, whole, {"step": "7", **claims})
    assert halve.main([f"--checkpoint={whole}", f"--out={halved}", "--note", "licence=Apache-2.0"]) == 0
    assert halved.stat().st_size < 0.55 * whole.stat().st_size
    before = whole.read_bytes()
    assert halve.main([f"--checkpoint={whole}", f"--out={whole}"]) == 2
    assert whole.read_bytes() == before, "its other half would be lost"
    sizes = []
    for file in (whole, halved):
        assert build_engine.main(["--checkpoint", str(file), "--size", "64x64", "--out", str(out)]) == 0
        sizes.append(sum(path.stat().st_size for path in out.glob("*.onnx")))
        (out / "card.md").write_text("ours")
    assert sizes[1] < 0.7 * sizes[0]
    picture = np.full((96, 96, 3), 120, np.uint8)
    for name in ("person", "garment", "garment_mask"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "photos" / name / "a.png"), picture * (2 if name == "garment_mask" else 1))
    measured = {"source": "x", "sha256": sha256(halved), "paired": {"SSIM": 0.7}, "unpaired": {}}
    content = {"data": "d", "height": 64, "width": 64, "trials": {}, "contenders": [measured]}
    (tmp_path / "report.json").write_text(json.dumps(content))
    compared: list[Any] = []

    def noted(model: RMGN, bundle: engines.Bundle, samples: Any) -> Any:
        compared.extend(samples)
        return report(model, bundle, samples)

    monkeypatch.setattr(build_engine, "report", noted)
    argv = ["--checkpoint", str(halved), "--size", "64x64", "--out", str(out)]
    given = ["--samples", str(tmp_path / "photos"), "--report", str(tmp_path / "report.json")]
    assert build_engine.main([*argv, *given]) == 0
    (sample,) = compared
    np.testing.assert_allclose(sample["person"], 120 / 127.5 - 1, atol=1e-3)
    assert (sample["garment_mask"] == 1).all()
    bundle = engines.load_bundle(out)
    assert set(bundle.graphs) == {"garment", "tryon"}, "more where it is asked for"
    assert bundle.metrics["quality"]["paired"] == {"SSIM": 0.7}
    shown = engines.reference.read(out / engines.reference.FILE)
    own = shipped_samples(64, 64, 1)[0]
    for name in ("person", "garment", "garment_mask"):
        np.testing.assert_allclose(getattr(shown, name), own[name], atol=1 / 255 + 1e-6, err_msg=name)
    assert bundle.provenance["licence"] == "Apache-2.0"
    assert bundle.provenance["step"] == "7"
    measured = {"sha256": sha256(halved), "weights": "checkpoint half.safetensors", "preset": "lite"}
    assert bundle.provenance.items() >= measured.items(), "no note takes its place"
    assert bundle.provenance["exported"]["torch"] == importlib.metadata.version("torch")
    assert (out / "card.md").read_text() == "ours"


def test_without_tensorrt_the_bundle_is_still_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    assert build_engine.main(["--preset=lite", "--size=64x64", "--out", str(tmp_path / "bundle")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "No TensorRT here, so no engine was built (pip install 'rmgn[tensorrt]'" in text
    assert "The ONNX bundle runs with ONNX Runtime or OpenVINO as it is" in text
    assert "exported untrained" in text
    engines.load_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "250x190"], "'250x190' is not HEIGHTxWIDTH in multiples of 32, such as 256x192"),
        (["--size", "big"], "'big' is not HEIGHTxWIDTH"),
        (["--checkpoint", "none.safetensors"], "error: none.safetensors does not exist"),
        (["--checkpoint", "taken"], "error: taken is a folder, not a checkpoint"),
        (["--preset", "huge"], "invalid choice: 'huge'"),
        (["--checkpoint", "x.safetensors", "--preset", "lite"], "give one"),
        (["--compute-capability", "ampere"], "is not a list of compute capabilities such as 8.6,8.9"),
        (["--out", "taken"], "taken exists and is not a bundle; it is left alone"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    result = subprocess.run(
        [sys.executable, ROOT / "export/build_engine.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_library_that_lacks_its_own_libraries_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str) -> None:
        raise OSError(f"libnvinfer.so.10 of {name}: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert tensorrt_engine.installed() == tensorrt_engine.installed() == []
    told = [message for message in caplog.messages if message.startswith("tensorrt is installed, but")]
    assert len(told) == 1
    assert "cannot open shared object file" in told[0]


def test_an_engine_that_computes_something_else_fails_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    rows = [
        Difference("sloppy", "tryon", 1.0, 0.5, float("nan")),
        Difference("good", "tryon", 0.0, 0.0, 60.0),
    ]
    monkeypatch.setattr(build_engine, "report", lambda *_: (rows, {}))
    assert build_engine.main(["--preset=lite", "--size=32x32", "--out", str(tmp_path / "bundle")]) == 2
    assert "error: the results of sloppy differ from PyTorch's" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failed_build_leaves_the_older_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    argv = ["--preset", "lite", "--size", "32x32", "--out", str(tmp_path / "bundle")]
    assert build_engine.main(argv) == 0
    older = (tmp_path / "bundle" / "bundle.json").read_bytes()
    monkeypatch.setitem(LIMITS, "float16", Limits(1000, 0))
    assert build_engine.main([*argv, "--fp16"]) == 2
    assert (tmp_path / "bundle" / "bundle.json").read_bytes() == older
    assert engines.load_bundle(tmp_path / "bundle").precision == "float32"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_compute_capabilities_are_tensorrt_rtxs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plans are built, whatever else is installed; without it the command ends before it exports."""
    argv = ["--preset=lite", "--size=64x64", "--compute-capability=8.6", "--out", str(tmp_path / "bundle")]
    if "tensorrt_rtx" in tensorrt_engine.installed():
        monkeypatch.setattr(tensorrt_engine, "installed", lambda: list(tensorrt_engine.LIBRARIES))
        assert build_engine.main(argv) == 0
        plans = sorted(path.name for path in (tmp_path / "bundle" / "plans").glob("*.plan"))
        assert plans == ["garment.tensorrt_rtx.plan", "tryon.tensorrt_rtx.plan"]
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: ["tensorrt"])
    argv[-1] = str(tmp_path / "other")
    assert build_engine.main(argv) == 2
    assert "TensorRT-RTX, and that is not installed" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_without_a_checkpoint_it_takes_the_weights_that_come_with_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_engine, "report", lambda *_: ([], {}))  # which other tests run
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    assert build_engine.main(["--size", "128x96", "--out", str(tmp_path / "bundle")]) == 0
    shipped = ROOT / "models" / "training" / "lite-256.safetensors"
    assert engines.load_bundle(tmp_path / "bundle").provenance["sha256"] == sha256(shipped)
    text = " ".join(capsys.readouterr().out.split())
    assert "lite-256.safetensors was trained at 256x192: at 128x96" in text
    assert "untrained" not in text
    assert f"--bundle {tmp_path / 'bundle'}" in text


def test_no_untrained_bundle_is_made_by_accident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the project was installed without its models."""
    monkeypatch.setattr(build_engine, "LITE_256", tmp_path / "lite-256.safetensors")
    assert build_engine.main(["--size", "128x96", "--out", str(tmp_path / "bundle")]) == 2
    said = capsys.readouterr().err
    assert "error: give --checkpoint FILE, since" in said
    assert "or --preset for random weights" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_size_of_the_training_is_the_bundles(
    lite: RMGN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_engine, "report", lambda *_: ([], {}))  # which other tests run
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: None)
    file = tmp_path / "small.safetensors"
    checkpoint.save(lite, file, {"size": "128x96"})
    assert checkpoint.trained_size(file) == (128, 96)
    for size in ("100x75", "0x0", "large"):  # which no network was trained on
        checkpoint.save(lite, tmp_path / "odd.safetensors", {"size": size})
        assert checkpoint.trained_size(tmp_path / "odd.safetensors") is None
        halved = ["--checkpoint", str(file), "--out", str(tmp_path / "half.safetensors")]
        assert halve.main([*halved, "--note", f"size={size}"]) == 2
    assert build_engine.main(["--checkpoint", str(file), "--out", str(tmp_path / "bundle")]) == 0
    bundle = engines.load_bundle(tmp_path / "bundle")
    assert (bundle.height, bundle.width) == (128, 96)


@pytest.mark.skipif(
    tensorrt_engine.RTX not in tensorrt_engine.installed(), reason="TensorRT-RTX is not installed"
)
def test_plans_of_a_bundle_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bundle that comes with the project gets plans where no PyTorch is; they belong to it."""
    folder = tmp_path / "lite"
    shutil.copytree(ROOT / "models" / "lite-256-fp16", folder, ignore=shutil.ignore_patterns("plans"))
    assert build_plans.main([str(folder), "--compute-capability", "8.9"]) == 0
    assert "plans/tryon.tensorrt_rtx.plan: " in capsys.readouterr().out
    bundle = engines.load_bundle(folder)
    for graph in ("garment", "tryon"):
        manifest = tensorrt_engine.read_manifest(bundle, graph, tensorrt_engine.RTX)
        assert manifest.compute_capabilities == ("8.9",)

    assert build_plans.main([str(folder), "--compute-capability", "3.5"]) == 2
    assert "does not build for compute capability 3.5" in capsys.readouterr().err
    tensorrt_engine.read_manifest(bundle, "tryon", tensorrt_engine.RTX)  # the older plan is still whole


@pytest.mark.parametrize("older", [False, True])
def test_interrupted_half_way_no_plan_stands_alone(
    older: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = engines.load_bundle(ROOT / "models" / "lite-256-fp16")
    plans = tmp_path / "plans"
    plans.mkdir()
    monkeypatch.setattr(
        tensorrt_engine, "plan_path", lambda _, graph, library: plans / f"{graph}.{library}.plan"
    )

    def build(_: engines.Bundle, graph: str, library: str, *__: object) -> None:
        if graph == "tryon":
            raise KeyboardInterrupt
        (plans / f"{graph}.{library}.plan").write_bytes(b"new")

    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    names = sorted(f"{graph}.{tensorrt_engine.RTX}.plan" for graph in build_plans.GRAPHS)
    for name in names if older else []:
        (plans / name).write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        build_plans.build_plans(bundle, [(8, 9)], build_plans._bar)
    assert sorted(path.name for path in plans.glob("*")) == (names if older else [])
    assert all(path.read_bytes() == b"older" for path in plans.glob("*")), "no pair of two builds"
    assert plans.exists() is older


def test_plans_need_a_bundle_and_a_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_engine, "installed", lambda: [tensorrt_engine.RTX])
    assert build_plans.main([str(tmp_path)]) == 2
    assert "is not a bundle" in capsys.readouterr().err
    eighths = tmp_path / "int8"
    shutil.copytree(ROOT / "models" / "lite-256", eighths, ignore=shutil.ignore_patterns("plans"))
    described = json.loads((eighths / "bundle.json").read_text())
    (eighths / "bundle.json").write_text(json.dumps({**described, "precision": "int8"}))
    assert build_plans.main([str(eighths)]) == 2
    assert "is INT8, made for OpenVINO on a CPU: take a float16 bundle" in capsys.readouterr().err
    assert not (eighths / "plans").exists()
    monkeypatch.setattr(tensorrt_engine, "installed", list)
    assert build_plans.main([str(ROOT / "models" / "lite-256-fp16")]) == 2
    assert "there is no TensorRT here (pip install" in capsys.readouterr().err


def test_half_an_engine_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mirror needs plans of both graphs, and takes a bundle that has any before others."""
    folder = tmp_path / "lite"
    shutil.copytree(ROOT / "models" / "lite-256-fp16", folder, ignore=shutil.ignore_patterns("plans"))

    def build(*arguments: object) -> None:
        _, _, onnx, plan, *_ = arguments
        if "tryon" in str(onnx):
            raise EngineError("too little memory")
        assert isinstance(plan, Path)
        plan.write_bytes(b"a plan")

    monkeypatch.setattr(tensorrt_engine, "installed", lambda: [tensorrt_engine.RTX])
    monkeypatch.setattr(tensorrt_engine, "_import", lambda _: types.SimpleNamespace(__version__="1"))
    monkeypatch.setattr(tensorrt_engine, "_build", build)
    assert build_plans.main([str(folder)]) == 2
    assert not (folder / "plans").exists()
    assert "error: tensorrt_rtx: no engine: tryon: too little memory" in capsys.readouterr().err

    bundle = engines.load_bundle(folder)
    (folder / "plans").mkdir()
    older = [
        file
        for graph in build_plans.GRAPHS
        for file in tensorrt_engine.plan_files(tensorrt_engine.plan_path(bundle, graph, tensorrt_engine.RTX))
    ]
    for file in older:
        file.write_text(file.name)
    assert build_plans.main([str(folder)]) == 2, "nothing was built"
    assert {file: file.read_text() for file in (folder / "plans").iterdir()} == {f: f.name for f in older}


def test_parity_counts_what_it_says() -> None:
    """A flow that is off by one pixel in x, a mask that is off by a tenth."""
    flow, mask = np.zeros((1, 2, 4, 8), np.float32), np.zeros((1, 1, 4, 8), np.float32)
    shifted = flow.copy()
    shifted[:, 0] += 2 / 8
    wrong = {"flow": shifted, "composite_mask": mask + np.float32(0.1)}
    rows = compare("x", {"flow": flow, "composite_mask": mask}, wrong)
    assert dataclasses.replace(rows[0], psnr=0) == Difference("x", "flow", 0.25, 0.125, 0, 1.0)
    assert rows[0].psnr == pytest.approx(10 * np.log10(2**2 / 0.03125))
    assert rows[1].psnr == pytest.approx(20, abs=1e-4)


def test_weights_that_are_not_finite_are_refused_at_once(
    lite: RMGN, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Engines would differ in what they make of them, and be blamed for it."""
    name, weight = next(iter(lite.named_parameters()))
    with torch.no_grad():
        before = weight.clone()
        weight.view(-1)[0] = math.nan
        checkpoint.save(lite, tmp_path / "broken.safetensors")
        weight.copy_(before)
    given = ["--checkpoint", str(tmp_path / "broken.safetensors"), "--out", str(tmp_path / "bundle")]
    assert build_engine.main(given) == 2
    said = capsys.readouterr().err
    assert f"broken.safetensors holds weights that are not finite, such as {name}" in said
    assert not (tmp_path / "bundle").exists()
