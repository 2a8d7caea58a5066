"""Table 3, figures 5 and 6 on a few steps: the right networks, taught the right way, in one table."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from rmgn import PRESETS, RMGN, checkpoint
from rmgn.experiments import figure5, figure6, lab, table3
from rmgn.experiments.figure6 import names_of
from rmgn.experiments.lab import QUICK, Lab
from rmgn.scores import Row, Scores
from rmgn.task import TrainingError
from rmgn.trainer import check_processes
from rmgn.training_config import TrainConfig
from rmgn.trials import DataError, Question

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_ablation_trains_what_its_columns_say(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assets = tmp_path / "assets"
    (assets / "hdri").mkdir(parents=True)
    for number in range(4):
        room = np.full((8, 16, 3), 0.1 * number, np.float32)
        cv2.imwrite(str(assets / "hdri" / f"{number}.hdr"), room)
    common = ["--data", str(layers_folder), "--quick", "--steps", "1", "--held-out", "2", "--workers", "0"]
    common += ["--seed", "5", "--batch", "4"]
    assert table3.main([*common, "--out", str(tmp_path)]) == 0
    runs = tmp_path / "runs"
    students = ("pfafn-1", "no-mask-1", "full-1", "full-3")
    config = {r: json.loads((runs / r / "config.json").read_text()) for r in (*students, "warp-3")}
    assert [config[r]["fakes"] for r in students] == [1, 1, 1, 3]
    assert config["warp-3"]["stage"] == "pf-warp"
    assert all(made["seed"] == 5 for made in config.values())
    a, b, c, d = (checkpoint.load(runs / r / "best.safetensors").config for r in students)
    assert a.generator == "pfafn"
    assert (b.generator, b.regional_mask) == ("rmgn", False)
    assert c == d == dataclasses.replace(PRESETS["lite"], preserve=False)
    assert not a.preserve
    assert a.palette == c.palette == 0

    text = (tmp_path / "table3.md").read_text()
    assert "| FID ↓ (published, VITON 512×384) | 11.57 | 10.73 | 10.45 | 9.93 |" in text
    content = json.loads((tmp_path / "table3" / "report.json").read_text())
    report = {c["name"]: c for c in content["contenders"]}
    means = [report[r]["paired"]["SSIM"] for r in "ABCD"]
    ssim = " | ".join(f"{m['mean']:.4f} ± {m['ci95']:.4f}" for m in means)
    assert f"| SSIM ↑ (here) | {ssim} |" in text
    assert len({m["mean"] for m in means}) >= 3, "the variants are different networks"
    lasts = [str(runs / r / "last.safetensors") for r in students]
    assert [report[r]["source"] for r in "ABCD"] == lasts, "none chosen on what they are compared on"
    assert (content["arguments"]["held_out"], content["arguments"]["seed"]) == (2, 5)

    # Other settings do not mix with what is there.
    capsys.readouterr()
    assert table3.main([*common, "--out", str(tmp_path), "--batch", "8"]) == 2
    assert "was trained with other settings" in capsys.readouterr().err
    assert table3.main([*common, "--out", str(tmp_path), "--assets", str(assets)]) == 2
    assert "other settings, data or assets" in capsys.readouterr().err
    others = tmp_path / "others"
    shutil.copytree(layers_folder, others)
    assert table3.main([*common, "--out", str(tmp_path), "--data", str(others)]) == 2
    assert "other settings, data or assets" in capsys.readouterr().err


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
TWO_PROCESSES = """
import sys
from pathlib import Path
from rmgn.experiments.lab import QUICK, Lab, is_first

if __name__ == "__main__":
    changes = {**QUICK, "steps": 1, "held_out": 2, "batch": 2}
    Lab(Path(sys.argv[1]), Path(sys.argv[2]), changes, workers=0).teacher()
    Path(sys.argv[2], "first" if is_first() else "other").touch()
"""


@pytest.mark.slow
def test_stages_follow_each_other_in_several_processes(layers_folder: Path, tmp_path: Path) -> None:
    """Plain torchrun on a CPU: they work together, and each stage finds what the one before wrote."""
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    out = tmp_path / "out"
    done = subprocess.run(
        [*TORCHRUN, str(tmp_path / "two.py"), str(layers_folder), str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"runs", "first", "other"}
    assert "2 processes, 4 samples per step" in done.stdout
    for stage in ("teacher-warp", "teacher"):
        (newest,) = (out / "runs" / stage / "steps").iterdir()
        assert torch.load(newest / "state.pt", weights_only=True)["processes"] == 2


MACHINE_OF_ITS_OWN = """
import os
import sys
from rmgn.train import main

if __name__ == "__main__":
    sys.exit(main([argument.replace("@", os.environ["RANK"]) for argument in sys.argv[1:]]))
"""


@pytest.mark.slow
def test_machines_that_share_no_run_are_refused(layers_folder: Path, tmp_path: Path) -> None:
    """One would go on and the others begin anew: two trainings whose gradients are averaged."""
    (tmp_path / "machine.py").write_text(MACHINE_OF_ITS_OWN)
    command = [*TORCHRUN, str(tmp_path / "machine.py")]
    command += ["--stage", "pf-warp", "--preset", "lite", "--size", "128x96"]
    command += ["--batch", "2", "--held-out", "2", "--perceptual", "none", "--workers", "0", "--fakes", "1"]
    command += ["--data", str(layers_folder), "--out", str(tmp_path / "machine@")]
    settings: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    first = subprocess.run([*command, "--steps", "1"], **settings)
    assert first.returncode == 0, first.stderr
    again = subprocess.run([*command, "--steps", "2"], **settings)
    assert again.returncode != 0
    assert "machine0 is at step 1 for this process, and at another for others" in again.stderr
    assert "machine1 is at step 0 for this process, and at another for others" in again.stderr


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    check_processes(3)
    with pytest.raises(TrainingError, match="3 processes were launched and 1 would train"):
        check_processes(1)


def test_what_cannot_be_evaluated_is_not_trained(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", str(layers_folder), "--quick", "--steps", "1", "--out", str(tmp_path)]
    for change, message in (
        (["--held-out", "1"], "unpaired try-ons need two samples"),
        (["--held-out", "2", "--inception", "none.pth"], "none.pth does not exist"),
        (["--held-out", "2", "--alexnet", "none.pth"], "none.pth does not exist"),
        (["--held-out", "2", "--test", str(tmp_path)], "no data set that is known"),
    ):
        assert table3.main([*common, *change]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_stages_begin_where_others_ended(
    layers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: dict[str, tuple[str, str | None, str | None]] = {}

    def train(
        config: TrainConfig,
        _data: Path,
        *,
        out: Path,
        init: Path | None,
        teacher_file: Path | None,
        **_: object,
    ) -> None:
        before, teacher = (file.parent.name if file else None for file in (init, teacher_file))
        begun[out.name] = (config.stage, before, teacher)

    monkeypatch.setattr(lab, "train", train)
    experiment = Lab(layers_folder, tmp_path, QUICK | {"held_out": 1})
    experiment.student("full", 3)
    experiment.student("pfafn", 3, generator="pfafn")
    assert begun == {
        "teacher-warp": ("pb-warp", None, None),
        "teacher": ("pb-full", "teacher-warp", None),
        "warp-3": ("pf-warp", None, "teacher"),
        "full-3": ("pf-full", "warp-3", "teacher"),
        "pfafn-3": ("pf-full", "warp-3", "teacher"),
    }


def photos(folder: Path, people: int) -> Path:
    """Plain pictures of some people and one garment."""
    grey = np.full((128, 96, 3), 90, np.uint8)
    files = [f"person/{n}.png" for n in range(people)] + ["garment/0.png", "garment_mask/0.png"]
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / file), grey)
    return folder


def test_assets_are_for_whatever_is_layers(
    layers_folder: Path, pictures_folder: Path, tmp_path: Path
) -> None:
    assets = tmp_path / "assets"
    experiment = Lab(layers_folder, tmp_path, {"held_out": 2}, assets=assets)
    assert len(experiment.trials(photos(tmp_path / "two", 2), (128, 96))) == 2
    with pytest.raises(DataError, match=f"--assets {assets} are for generated layers, and no data"):
        Lab(pictures_folder, tmp_path, {"held_out": 2}, assets=assets).trials(None, (128, 96))
    with pytest.raises(DataError, match="one unpaired try-on, on which nothing can be measured"):
        experiment.trials(photos(tmp_path / "one", 1), (128, 96))


def test_generated_pictures_are_evaluated_on_those_held_out(pictures_folder: Path, tmp_path: Path) -> None:
    experiment = Lab(pictures_folder, tmp_path, {"held_out": 2})
    assert {name for trial in experiment.trials(None, (128, 96)) for name in trial.names} == {
        "000002_a_000002_b",
        "000002_b_000002_a",
    }


def test_figure5_table_and_chart() -> None:
    scores = [
        Scores(f"{n} fake", "", sets={"FID": v, "KID": v / 1000}) for n, v in ((1, 10.4), (2, 10.2), (3, 9.9))
    ]
    for value, s in zip((0.5, 0.6, 0.7), scores, strict=True):
        s.rows = [
            Row("paired", Question(p, p, p, p), {}, {"SSIM": value + d})
            for p, d in (("p", 0.01), ("q", -0.01))
        ]
    text = figure5.markdown("VITON", (512, 384), scores)
    assert "| Fake persons | FID ↓ | KID ×10³ ↓ | SSIM ↑ |" in text
    assert "| 3 | 9.90 | 9.90 | 0.7000 ± 0.1271 |" in text
    assert figure5.charted(scores) == "KID", "FID depends on the number of pictures"
    paired = list(scores[0].rows)
    scores[0].rows += [Row("unpaired", Question("x", "x", "x", "x"), {}, {})] * 2048
    assert figure5.charted(scores) == "KID", "many try-ons, and one photo to compare them with"
    people = [Question(str(n), str(n), str(n), "x") for n in range(2048)]
    scores[0].rows = paired + [Row("unpaired", person, {}, {}) for person in people]
    assert figure5.charted(scores) == "FID"
    assert "the fewer of both: 2048" in figure5.markdown("VITON", (512, 384), scores)
    picture = figure5.chart([10.4, 10.2, 9.9], "FID", 2)
    heights = [float(y) for y in re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', picture)]
    assert heights[0] < heights[1] < heights[2], "a lower value stands lower"
    between = (heights[1] - heights[0]) / (heights[2] - heights[0])
    assert between == pytest.approx((10.4 - 10.2) / (10.4 - 9.9), abs=0.01)


@pytest.mark.slow
def test_figure5_compares_students_by_their_fake_persons(
    layers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of students that are not trained here, each with other weights."""

    def student(_: Lab, kind: str, fakes: int) -> Path:
        file = tmp_path / "runs" / f"{kind}-{fakes}" / "last.safetensors"
        file.parent.mkdir(parents=True)
        torch.manual_seed(fakes)
        checkpoint.save(RMGN(PRESETS["lite"]), file)
        return file

    monkeypatch.setattr(Lab, "student", student)
    argv = ["--data", str(layers_folder), "--quick", "--held-out", "2", "--out", str(tmp_path)]
    assert figure5.main(argv) == 0
    report = json.loads((tmp_path / "figure5" / "report.json").read_text())
    names = [Path(each["source"]).parent.name for each in report["contenders"]]
    assert names == ["full-1", "full-2", "full-3"]
    assert "assets" in report["arguments"]
    values = [each["unpaired"]["KID-lite0"] * 1000 for each in report["contenders"]]
    assert len(set(values)) == 3
    picture = (tmp_path / "figure5.svg").read_text()
    assert re.findall(r">(-?[\d.]+)</text><text[^>]*>(\d)<", picture) == [
        (f"{value:.2f}", str(number)) for number, value in enumerate(values, 1)
    ]
    for number, each in enumerate(report["contenders"], 1):
        row = rf"\| {number} \|.* {each['paired']['SSIM']['mean']:.4f} "
        assert re.search(row, (tmp_path / "figure5.md").read_text())


def test_figure6_shows_every_mask(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = RMGN(PRESETS["lite"])
    names = names_of(model)
    picture = torch.zeros(1, 3, 64, 32)
    masks = model.eval()(picture, picture, torch.ones(1, 1, 64, 32), regional_masks=True)
    sizes = [mask.shape[-2] for mask in masks.regional_masks]
    assert [64 // int(name.rpartition("/")[2]) for name in names] == sizes
    assert len(names) == 18

    # A mask that follows its bias: all garment in the first fusion, all person in the second.
    for place, bias in (("fusion1", 20.0), ("fusion2", -20.0)):
        mask = model.get_submodule(f"generator.blocks.0.{place}.mask")
        assert isinstance(mask, torch.nn.Conv2d)
        assert mask.bias is not None
        torch.nn.init.zeros_(mask.weight)
        torch.nn.init.constant_(mask.bias, bias)
    file = tmp_path / "model.safetensors"
    checkpoint.save(model, file)
    argv = ["--data", str(layers_folder), "--size", "128x96", "--count", "99", "--out", str(tmp_path / "out")]
    assert figure6.main(["--checkpoint", str(file), *argv]) == 0
    lines = (tmp_path / "out" / "figure6.md").read_text().splitlines()
    assert f"First 12 try-ons of {layers_folder.name}." in lines, "there are no more"
    assert "| block 1, 1, 1/16 | 1.000 | 1.000 |" in lines
    assert "| block 1, 2, 1/16 | 0.000 | 0.000 |" in lines
    sheet = cv2.imread(str(tmp_path / "out" / "000000_a.png"))
    assert sheet is not None
    row = 128 + 18
    assert sheet.shape == (5 * row, 9 * 96, 3)
    bright, dark = (sheet[row + 18 : 2 * row, n * 96 : (n + 1) * 96].mean() for n in (0, 1))
    assert bright > dark + 60

    # Without --size it is the training's.
    checkpoint.save(model, file, {"size": "64x32"})
    assert figure6.main(["--checkpoint", str(file), *argv[:2], "--count", "1", *argv[-2:]]) == 2
    assert "cannot be reduced to 64x32" in capsys.readouterr().err
    assert figure6.main(["--checkpoint", str(file), *argv]) == 0
    assert "was trained at 64x32: at 128x96 garments miss their place" in caplog.text

    checkpoint.save(RMGN(dataclasses.replace(PRESETS["lite"], generator="pfafn")), file)
    assert figure6.main(["--checkpoint", str(file), *argv]) == 2
    assert "no regional masks" in capsys.readouterr().err


def test_a_finished_stage_stays_finished_once_a_manifest_comes(
    layers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run itself goes on then: nobody has changed the samples."""
    data = shutil.copytree(layers_folder, tmp_path / "data")
    manifest = (data / "manifest.jsonl").rename(tmp_path / "manifest.jsonl")
    trained = []

    def train(*_: object, out: Path, **__: object) -> None:
        trained.append(out.name)

    monkeypatch.setattr(lab, "train", train)
    changes = {**QUICK, "held_out": 1}
    for _ in range(2):
        Lab(data, tmp_path / "out", changes, workers=0).teacher()
        if manifest.exists():
            manifest.replace(data / "manifest.jsonl")
    assert len(trained) == len(set(trained))
