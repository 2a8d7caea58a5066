"""What is wrong with a folder of photos or of results is said before the first trial."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from rmgn import PRESETS
from rmgn.contenders import Results, untrained
from rmgn.open_trials import open_trials
from rmgn.trials import DataError, Question, Trial


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Plain pictures of 32x24: two persons, two garments."""
    for folder in ("person", "garment", "garment_mask"):
        (tmp_path / folder).mkdir()
        for name in "xy":
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.full((32, 24, 3), 255, np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    "pairs",
    ["a/x.png g.png\nb/x.png g.png", "x.png g.png\nx.jpg g.png", "a_b.png c.png\na.png b_c.png"],
)
def test_no_two_trials_have_one_name(photos: Path, pairs: str) -> None:
    """As --keep would write one result over the other, and --results answer two trials with one picture."""
    (photos / "pairs.txt").write_text(pairs)
    first, second = (line.split()[0] for line in pairs.splitlines())
    with pytest.raises(DataError, match=rf"{first} in .* and {second} in .* are both called"):
        open_trials(photos)


def test_a_missing_photo_is_said_before_the_first_trial(photos: Path) -> None:
    (photos / "person" / "y.png").unlink()
    (photos / "pairs.txt").write_text("x.png y.png\ny.png x.png")
    with pytest.raises(DataError, match=r"person/y.png: no such file"):
        open_trials(photos)
    (trial,) = open_trials(photos, first=1, size=(32, 24))
    assert trial.questions == (Question("x_y", "x", "x.png", "y.png"),)


def test_missing_results_are_said_before_the_first_trial(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x_y.png"), np.zeros((32, 24, 3), np.uint8))
    asked = [Question(f"{p}_{g}", p, p, g) for p, g in ("xy", "yx", "yy")]
    with pytest.raises(DataError, match=r"no picture y_x.png or y.png, or .jpg, nor those of 1 more"):
        Results("files", tmp_path, {"unpaired": asked})


def test_small_results_are_enlarged_smoothly(tmp_path: Path) -> None:
    """As everything else that is enlarged, and not by doubling pixels."""
    ramp = np.broadcast_to(np.arange(12, dtype=np.uint8)[None, :, None] * 20, (16, 12, 3))
    cv2.imwrite(str(tmp_path / "x_y.png"), ramp)
    question = Question("x_y", "x", "x", "y")
    blank = torch.zeros(1, 3, 32, 24)
    trial = Trial("unpaired", (question,), ({},), blank, blank, blank[:, :1])
    line = Results("files", tmp_path, {"unpaired": [question]})(trial).tryon[0, 0, 0]
    torch.testing.assert_close(line[1:-1].diff() * 127.5, torch.full((21,), 10.0))


def test_results_of_any_known_format_are_found(tmp_path: Path) -> None:
    """Of two, the picture without loss."""
    question = Question("x_y", "x", "x", "y")
    blank = torch.zeros(1, 3, 32, 24)
    trial = Trial("unpaired", (question,), ({},), blank, blank, blank[:, :1])
    for name, grey in (("x_y.webp", 0), ("x_y.png", 255)):
        cv2.imwrite(str(tmp_path / name), np.full((32, 24, 3), grey, np.uint8))
        answer = Results("files", tmp_path, {"unpaired": [question]})(trial).tryon
        assert (answer + 1).abs().max() < 0.05 if grey == 0 else (answer - 1).abs().max() < 0.05


def test_results_are_looked_at_before_the_first_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, not the first of a batch: other sizes are told, other shapes refused."""
    questions = [Question(name, name, name, "g") for name in ("a", "b")]
    blank = torch.zeros(1, 3, 32, 24)
    trial = Trial("unpaired", (questions[0],), ({},), blank, blank, blank[:, :1])
    cv2.imwrite(str(tmp_path / "a.PNG"), np.zeros((32, 24, 3), np.uint8))
    for height, width, said in (
        (32, 24, ""),
        (16, 12, "holds pictures of 16x12: they are measured at 32x24"),
        (24, 24, r"b\.png: 24x24 is not of the shape of 32x24"),
    ):
        cv2.imwrite(str(tmp_path / "b.png"), np.zeros((height, width, 3), np.uint8))
        rival = Results("files", tmp_path, {"unpaired": questions})
        if width == height:
            with pytest.raises(ValueError, match=said):
                rival(trial)
        else:
            for _ in range(2):
                rival(trial)
            assert capsys.readouterr().err.count("measured at") == int(bool(said))


def test_a_photo_of_another_shape_is_said_before_the_first_trial(photos: Path) -> None:
    assert len(open_trials(photos, size=(32, 24)).questions["unpaired"]) == 2
    cv2.imwrite(str(photos / "person" / "y.png"), np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"y\.png: 32x32 is not of the shape of 32x24: crop it first"):
        open_trials(photos, size=(32, 24))
    (photos / "person" / "y.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"y\.png: not a picture, or damaged"):
        open_trials(photos, size=(32, 24))


def test_photos_of_any_known_format_are_asked(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("z.webp", "z.bmp", "z.tif"):
        cv2.imwrite(str(photos / "person" / name), np.full((32, 24, 3), 255, np.uint8))
        questions = open_trials(photos).questions["unpaired"]
        assert name in [question.person for question in questions]
        (photos / "person" / name).unlink()
    (photos / "person" / "z.heic").touch()
    assert len(open_trials(photos).questions["unpaired"]) == 2
    assert "person: z.heic; save as JPEG or PNG" in caplog.text


def test_the_last_persons_of_a_folder(photos: Path) -> None:
    """Without a list the garments go round; `last` asks about the end."""
    cv2.imwrite(str(photos / "person" / "z.png"), np.full((32, 24, 3), 255, np.uint8))
    names = [question.name for question in open_trials(photos, size=(32, 24)).questions["unpaired"]]
    assert names == ["x_x", "y_y", "z_x"]
    trials = open_trials(photos, last=1, size=(32, 24))
    assert [question.name for question in trials.questions["unpaired"]] == ["z_x"]
    assert [trial.questions[0].person for trial in trials] == ["z.png"]
    for path in (photos / "garment").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="garment: no pictures"):
        open_trials(photos)


def test_the_untrained_network_is_always_the_same() -> None:
    """Whatever was drawn before, and as it would be used."""
    torch.manual_seed(1)
    first, second = (untrained(PRESETS["lite"], torch.device("cpu")).model for _ in range(2))
    state = second.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    assert not any(module.training for module in first.modules())
