"""The model that comes with the project, on sixteen pairs that no training has seen."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from engines.bundle import load, sha256
from rmgn import ModelConfig, checkpoint
from rmgn.data.generate import Order, generate
from rmgn.evaluate import main

MODELS = Path(__file__).parents[2] / "models"
WHOLE, HALF = MODELS / "lite-256", MODELS / "lite-256-fp16"


@pytest.mark.slow
def test_quality_only_goes_up(tmp_path: Path) -> None:
    """Limits lie a little below what the present weights reach; raise them with better ones.

    They were 0.694, 0.312 and 6.7 px for the same people before tops that are tucked in were whole in their
    shop photos; the weights of that time reach 0.6746, 0.3112 and 6.30 px on today's.
    """
    layers, out = tmp_path / "layers", tmp_path / "report"
    generate(Order(str(layers), 8, seed=2022, split="eval"), progress=False)
    argv = ["--bundle", str(WHOLE), "--bundle", str(HALF), "--engine", "onnxruntime"]
    argv += ["--baseline", "copy", "--baseline", "paste"]
    assert main([*argv, "--data", str(layers), "--setting", "paired", "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["trials"] == {"paired": 16}
    means = {
        c["name"]: {name: value["mean"] for name, value in c["paired"].items()} for c in report["contenders"]
    }
    ours, half, copied, pasted = (means[n] for n in ("lite-256", "lite-256-fp16", "unchanged", "pasted"))
    assert ours["SSIM"] > max(0.672, copied["SSIM"], pasted["SSIM"])
    assert ours["PSNR"] > max(19.7, copied["PSNR"], pasted["PSNR"])
    assert ours["LPIPS-lite0"] < min(0.316, copied["LPIPS-lite0"], pasted["LPIPS-lite0"])
    assert ours["EPE"] < 6.4
    for name, slack in {"SSIM": 1e-3, "PSNR": 0.05, "EPE": 0.05}.items():
        assert half[name] == pytest.approx(ours[name], abs=slack)


def test_the_bundles_are_of_the_checkpoint_beside_them() -> None:
    weights = MODELS / "training" / "lite-256.safetensors"
    model = checkpoint.load(weights)
    for folder, precision in ((WHOLE, "float32"), (HALF, "float16")):
        bundle = load(folder)
        assert bundle.precision == precision
        assert (bundle.height, bundle.width) == (256, 192)
        assert bundle.provenance["sha256"] == sha256(weights)
        assert bundle.provenance["licence"] == "Apache-2.0"
        assert ModelConfig.from_json(json.dumps(bundle.model)) == model.config
        assert bundle.metrics["quality"]["paired"]["SSIM"]["mean"] > 0
    assert sum(file.stat().st_size for file in WHOLE.rglob("*")) < 15e6
    assert sum(file.stat().st_size for file in HALF.rglob("*.onnx")) < 10e6
