"""What an evaluation leaves in its folder."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from rmgn.contenders import Contender, Copy, Results
from rmgn.evaluate import evaluate
from rmgn.experiments.table2 import StudyError, write_study
from rmgn.kept import plain, require_folders
from rmgn.metrics import LpipsLite0
from rmgn.open_trials import open_trials
from rmgn.perceptual import EfficientNetLite0
from rmgn.scores import Scorer
from rmgn.trials import DataError


class Colours:
    """The mean colour as features."""

    suffix, width = "-colours", 3

    def __call__(self, pictures: Tensor) -> Tensor:
        return pictures.float().mean(dim=(2, 3)) / 255


def run(folder: Path, out: Path, keep: bool) -> None:
    """Evaluate copies of two persons, and pictures named "A B"."""
    trials = open_trials(folder, size=(32, 24))
    rivals: list[Contender] = [Copy(), Results("A B", folder / "person", trials.questions)]
    scorer = Scorer(rivals, LpipsLite0(EfficientNetLite0()), Colours())
    evaluate(trials, rivals, scorer, out, torch.device("cpu"), keep=keep, arguments={"data": folder})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for n, part in enumerate(("person", "garment", "garment_mask")):
        (folder / part).mkdir(parents=True)
        for k, name in enumerate("xy"):
            cv2.imwrite(str(folder / part / f"{name}.png"), np.full((32, 24, 3), 200 + n + k, np.uint8))
    return folder


def test_a_study_takes_what_its_evaluation_kept(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(photos, out, keep=True)
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == {"unchanged": "results/unchanged", "A B": "results/A_B"}
    assert report["arguments"] == {"data": str(photos)}
    wanted = {"setting": "unpaired", "name": "x_x", "subject": "x", "person": "x.png", "garment": "x.png"}
    assert report["contenders"][1]["trials"][0] == wanted
    assert (out / "trials.csv").read_text().splitlines()[1:3] == [
        "unchanged,unpaired,x_x,x,x.png,x.png",
        "unchanged,unpaired,y_y,y,y.png,y.png",
    ]
    for name in ("x_x", "y_y"):
        files = [out / "inputs" / "person", out / "results" / "A_B"]
        person, answer = (cv2.imread(str(f / "unpaired" / f"{name}.png")) for f in files)
        assert person is not None
        assert answer is not None
        assert np.array_equal(person, answer)
    assert write_study(out, "A B", ["unchanged"], tmp_path / "study", 9, "unpaired", seed=0) == 2

    for keep in (True, False):
        with pytest.raises(DataError, match="results has pictures of an older evaluation: delete it, or"):
            run(photos, out, keep)
    without = tmp_path / "without"
    run(photos, without, keep=False)
    with pytest.raises(StudyError, match=r"no pictures of A B: evaluate A B with --keep"):
        write_study(without, "A B", ["unchanged"], tmp_path / "other", 9, "unpaired", seed=0)


def test_contenders_have_folders_of_their_own() -> None:
    require_folders(["A B", "A-B", "ours", "ours, FP16"])
    for names in (["A B", "A_B"], ["ours", "Ours"], ["x/y", "x y"]):
        with pytest.raises(DataError, match=r"two contenders have too similar names, .*: give each a --name"):
            require_folders(names)
    with pytest.raises(DataError, match="two contenders have the name ours"):
        require_folders(["ours", "ours"])
    assert (plain(".."), plain("a/../b"), plain("PF-AFN 1.0")) == ("_", "a_.._b", "PF-AFN_1.0")
