"""Evaluation from layers to report: the same numbers whatever the batch, and every kind of contender."""

import dataclasses
import html
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from engines import EngineError, load_bundle
from engines.program import InputError
from export.build_engine import read_quality
from kernels import flow_warp
from rmgn import PRESETS, RMGN, checkpoint
from rmgn.contenders import Network, Paste, Results, box, load_network
from rmgn.data.files import digest
from rmgn.evaluate import main, open_contenders, parse_args
from rmgn.folder_trials import FolderTrials
from rmgn.gallery import Entry, write_page, write_text
from rmgn.generated_trials import GeneratedTrials
from rmgn.open_trials import open_trials
from rmgn.trials import DataError, Question, Setting, Trial


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    checkpoint.save(RMGN(PRESETS["lite"]), file)
    return file


def collect(trials: GeneratedTrials, setting: Setting) -> dict[str, tuple[torch.Tensor, ...]]:
    found: dict[str, tuple[torch.Tensor, ...]] = {}
    for trial in trials:
        if trial.setting == setting:
            for n, name in enumerate(trial.names):
                found[name] = (trial.person[n], trial.garment[n], trial.mask[n])
    return found


def test_trials_do_not_depend_on_batch_or_workers(layers_folder: Path) -> None:
    one, many = GeneratedTrials(layers_folder, batch=2), GeneratedTrials(layers_folder, batch=8, workers=1)
    assert len(one) == len(many) == 12
    for setting in one.questions:
        first, second = collect(one, setting), collect(many, setting)
        assert sorted(first) == sorted(second)
        assert len(first) == 6
        assert sorted(first) == sorted(question.name for question in one.questions[setting])
        for name, tensors in first.items():
            assert all(torch.equal(a, b) for a, b in zip(tensors, second[name], strict=True)), name


def test_true_flow_brings_the_garment_to_the_truth(layers_folder: Path) -> None:
    """The paired question's parts belong together: garment, flow, truth; the person wears the other one."""
    trials: list[Trial] = list(GeneratedTrials(layers_folder, ["paired"], batch=6))
    (trial,) = trials
    assert trial.truth is not None
    assert trial.flow is not None
    assert trial.visible is not None
    warped = flow_warp(trial.garment, trial.flow)
    seen = trial.visible.expand_as(warped) > 0

    def likeness(picture: torch.Tensor) -> float:
        return float(np.corrcoef(warped[seen].numpy(), picture[seen].numpy())[0, 1])

    assert likeness(trial.truth) > 0.75
    assert likeness(trial.truth) > likeness(trial.person) + 0.3
    assert torch.equal(trial.truth, trial.person.view(3, 2, *trial.person.shape[1:]).flip(1).flatten(0, 1))


def test_unpaired_garments_come_from_others_each_once(layers_folder: Path) -> None:
    names = collect(GeneratedTrials(layers_folder, ["unpaired"]), "unpaired")
    person, other = zip(*((n[:6], n[9:15]) for n in names), strict=True)
    assert sorted(person) == sorted(other)
    assert all(p != o for p, o in zip(person, other, strict=True))


def test_viton_by_its_list_of_pairs(published: Callable[[str], Path], tmp_path: Path) -> None:
    """The set's own test_pairs.txt, and a list given; paired is the person in what she wears."""
    root = published("viton")
    (listed,) = root.rglob("test_pairs.txt")
    wanted = [line.split()[:2] for line in listed.read_text().splitlines()]
    trials = open_trials(root, batch=4)
    assert list(trials.questions) == ["unpaired"]
    found = [name for trial in trials for name in trial.names]
    assert found == [f"{Path(p).stem}_{Path(g).stem}" for p, g in wanted]
    assert len(trials) == len(found)

    own = tmp_path / "own.txt"
    own.write_text(" ".join(wanted[1]) + "\n")
    (trial,) = open_trials(root, ["unpaired"], pairs=own)
    assert trial.names == (found[1],)
    assert trial.truth is None

    (trial, *_) = open_trials(root, ["paired"], first=2)
    assert trial.truth is not None
    assert torch.equal(trial.truth, trial.person)


def test_views_of_one_person_count_as_one(published: Callable[[str], Path], tmp_path: Path) -> None:
    """MPV has a folder for each person; files of results may have the picture's name all the same."""
    trials = open_trials(published("mpv"), ["paired"])
    (first, *_) = trials.questions["paired"]
    assert first.subject == Path(first.person).parent.name == "SC421E00D"
    for question in trials.questions["paired"]:
        file = tmp_path / "paired" / f"{Path(question.person).stem}.png"
        file.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(file), np.zeros((64, 48, 3), np.uint8))
    assert Results("all", tmp_path, trials.questions)


def test_pictures_of_another_size_are_told_once(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = GeneratedTrials(layers_folder, ["paired"], batch=2, size=(128, 96))
    for question in trials.questions["paired"]:
        cv2.imwrite(str(tmp_path / f"{question.name}.png"), np.zeros((64, 48, 3), np.uint8))
    rival = Results("small", tmp_path, trials.questions)
    for trial in trials:
        rival(trial)
    said = capsys.readouterr().err
    assert said.count("holds pictures of 64x48: they are measured at 128x96") == 1


def test_generated_pictures_ask_as_their_layers_do(layers_folder: Path, pictures_folder: Path) -> None:
    (stored,) = open_trials(pictures_folder, ["paired"], batch=6)
    (dressed,) = open_trials(layers_folder, ["paired"], batch=6)
    assert [
        q._replace(person=Path(q.person).stem, garment=Path(q.garment).stem) for q in stored.questions
    ] == [*dressed.questions]
    assert stored.flow is not None
    assert dressed.flow is not None
    assert dressed.visible is not None
    seen = (dressed.visible > 0).expand_as(dressed.flow)
    assert (stored.flow - dressed.flow)[seen].abs().max() < 1e-3  # stored in half precision
    assert stored.truth is not None
    # The person wears the other garment: next in the list, the same person, another picture.
    pairs = stored.truth.view(3, 2, *stored.truth.shape[1:])
    assert torch.equal(stored.person.view_as(pairs), pairs.flip(1))


def test_real_photos(real_photos: Path, tmp_path: Path) -> None:
    data = real_photos / "viton"
    pairs = data / "pairs.txt"
    argv = ["--data", str(data), "--pairs", str(pairs), "--baseline", "copy", "--out", str(tmp_path)]
    assert main(argv) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["trials"] == {"unpaired": len(pairs.read_text().split()) // 2}
    assert (tmp_path / "sheet.jpg").is_file()


def test_boxes_and_pasting() -> None:
    mask = torch.zeros(1, 1, 32, 64)
    mask[..., 8:24, 16:32] = 1
    assert box(mask)[0, :, :, 0, 0].tolist() == [[-0.5, -0.5], [0.0, 0.5]]
    garment = torch.full((1, 3, 32, 64), -1.0)
    garment[..., 8:24, 16:24], garment[..., 8:24, 24:32] = 0.2, 0.6  # left and right half
    worn = torch.zeros(1, 1, 32, 64)
    worn[..., 4:12, 32:64] = 1
    person = torch.full((1, 3, 32, 64), 0.9)
    question = Question("x", "x", "x", "x")
    trial = Trial("paired", (question,), ({},), person, garment, mask, worn_mask=worn)
    pasted = Paste()(trial).tryon
    torch.testing.assert_close(pasted[..., 5:11, 34:46], torch.full((1, 3, 6, 12), 0.2))
    torch.testing.assert_close(pasted[..., 5:11, 50:62], torch.full((1, 3, 6, 12), 0.6))
    outside = worn.expand_as(person) == 0
    assert (pasted[outside] - 0.9).abs().max() < 1e-6


@pytest.mark.slow
def test_report_of_all_contenders(layers_folder: Path, weights: Path, bundle32: Path, tmp_path: Path) -> None:
    """At 128x96: a checkpoint, pictures, a bundle, and three baselines, in one pass."""
    common = ["--data", str(layers_folder), "--size", "128x96", "--batch", "6"]
    own = tmp_path / "own"
    assert main([*common, "--checkpoint", str(weights), "--name", "A B", "--keep", "--out", str(own)]) == 0
    out = tmp_path / "all"
    argv = [
        *common,
        "--checkpoint",
        str(weights),
        "--results",
        str(own / "results" / "A_B"),
        "--name",
        "files",
    ]
    argv += ["--bundle", str(bundle32), "--engine", "onnxruntime", "--name", "engine"]
    argv += ["--baseline", "untrained", "--baseline", "copy", "--baseline", "paste", "--out", str(out)]
    assert main(argv) == 0

    report = json.loads((out / "report.json").read_text())
    by_name = {c["name"]: c for c in report["contenders"]}
    assert list(by_name) == ["small", "files", "engine", "untrained", "unchanged", "pasted"]
    assert report["trials"] == {"paired": 6, "unpaired": 6}
    quality = read_quality(out / "report.json", weights)
    assert quality["paired"] == by_name["small"]["paired"]
    with pytest.raises(EngineError, match=r"other.safetensors does not exist"):
        read_quality(out / "report.json", tmp_path / "other.safetensors")
    assert (report["arguments"]["data"], report["arguments"]["batch"]) == (str(layers_folder), 6)
    assert by_name["engine"]["sha256"] == load_bundle(bundle32).digest()
    # What files measure differs from what the network does in nothing but their missing flow.
    assert by_name["files"]["difference"]["SSIM"] == {"mean": 0, "ci95": 0, "subjects": 3}
    assert (out / "trials.csv").read_text().count("\n") == 1 + 6 * 12
    # The pictures written measure what the network's answers did.
    for measure in ("SSIM", "PSNR", "LPIPS-lite0"):
        assert by_name["files"]["paired"][measure] == by_name["small"]["paired"][measure]
    assert by_name["files"]["unpaired"] == by_name["small"]["unpaired"]
    assert "EPE" not in by_name["files"]["paired"]
    # bundle32 is the untrained network of seed 0, as the baseline is.
    assert by_name["engine"]["paired"]["EPE"]["mean"] == pytest.approx(
        by_name["untrained"]["paired"]["EPE"]["mean"], abs=0.05
    )
    assert by_name["unchanged"]["unpaired"]["FID-lite0"] < 0.1
    assert by_name["pasted"]["paired"]["SSIM"]["mean"] > by_name["untrained"]["paired"]["SSIM"]["mean"]
    people = [v["SSIM"]["subjects"] for v in by_name["small"]["groups"]["build"].values()]
    assert sum(people) == 3
    assert len(by_name["small"]["trials"]) == 12

    text = (out / "report.md").read_text()
    assert "| VITON | RMGN (published) | 9.90 | 9.93 |" in text
    assert "FID-lite0" in text
    assert "| FID ↓" not in text, "what was measured on other features is not called FID"
    sheet = cv2.imread(str(out / "sheet.jpg"))
    assert sheet is not None
    assert sheet.shape[1] >= 9 * 192
    page = (out / "index.html").read_text()
    assert all((out / name).is_file() for name in set(_links(page)))
    assert len(_links(page)) == 6 * 9 + 6 * 8

    # An older evaluation's pictures would pass for those of a new one.
    argv[-1] = str(own)
    assert main(argv) == 2
    shutil.rmtree(own / "results")
    shutil.rmtree(own / "inputs")
    folder = own / "lr0.001"
    folder.mkdir()
    cv2.imwrite(str(folder / "000000.png"), np.zeros((128, 96, 3), np.uint8))
    only = [*common, "--results", str(folder), "--setting", "paired", "--first", "1", "--out", str(own)]
    if len(open_trials(layers_folder, ["paired"], first=1)) > 1:
        only += ["--baseline", "copy"]
    cv2.imwrite(str(folder / "000000_a.png"), np.zeros((128, 96, 3), np.uint8))
    cv2.imwrite(str(folder / "000000_b.png"), np.zeros((128, 96, 3), np.uint8))
    others = [own / "sheet_music.jpg", own / "pictures" / "repaired_bike_1.jpg"]
    for other in others:
        other.touch()
    assert main(only) == 0
    assert all(other.is_file() for other in others), "pictures that are no report's stay"
    assert "| lr0.001 |" in (own / "report.md").read_text()
    assert not list(own.glob("*unpaired*"))
    assert not list(own.glob("pictures/unpaired*"))


def _links(page: str) -> list[str]:
    return [unquote(html.unescape(part.split('"')[0])) for part in page.split('src="')[1:]]


def test_pages_find_pictures_of_any_name(tmp_path: Path) -> None:
    picture = np.zeros((4, 3, 3), np.uint8)
    file = tmp_path / "index.html"
    write_page(file, "Try-on", "", [Entry("50% #1?&", "paired", [picture] * 2)], ["person", "garment"], [])
    page = file.read_text()
    assert all((tmp_path / name).is_file() for name in _links(page))
    assert len(_links(page)) == 2
    assert not any(mark in part.split('"')[0] for part in page.split('src="')[1:] for mark in "#?&")


@pytest.mark.parametrize("baseline_first", [True, False])
def test_untrained_has_the_first_checkpoints_architecture(
    baseline_first: bool, layers_folder: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(PRESETS["lite"], generator="pfafn")
    checkpoint.save(RMGN(config), tmp_path / "own.safetensors")
    pairs = [["--baseline", "untrained"], ["--checkpoint", str(tmp_path / "own.safetensors")]]
    argv = [word for pair in (pairs if baseline_first else pairs[::-1]) for word in pair]
    entrants = parse_args([*argv, "--data", "x", "--out", "y"]).entrants
    rivals = open_contenders(entrants, GeneratedTrials(layers_folder), "auto", torch.device("cpu"))
    assert [rival.name for rival in rivals] == [entrant.name for entrant in entrants]
    assert all(isinstance(rival, Network) and rival.model.config == config for rival in rivals)


def test_another_size_than_the_trainings_is_told_once(
    layers_folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sized.safetensors"
    checkpoint.save(checkpoint.load(weights), file, {"size": "256x192"})
    rival = load_network("sized", file, torch.device("cpu"))
    (trial,) = GeneratedTrials(layers_folder, ["paired"], batch=6, last=1)
    rival(trial)
    assert capsys.readouterr().err == ""
    (small,) = GeneratedTrials(layers_folder, ["paired"], batch=6, last=1, size=(128, 96))
    rival(small)
    assert "was trained at 256x192: at 128x96 garments miss their place" in capsys.readouterr().err
    rival(small)
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_line(
    layers_folder: Path,
    pictures_folder: Path,
    weights: Path,
    bundle32: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = ["--data", str(layers_folder), "--out", str(tmp_path / "out")]
    wide, shared, broken, damaged = (tmp_path / name for name in ("wide", "shared", "broken", "damaged"))
    for folder, names, size in ((wide, ("_a", "_b"), (60, 60)), (shared, ("",), (64, 48))):
        folder.mkdir()
        for name in names:
            cv2.imwrite(str(folder / f"000000{name}.png"), np.zeros((*size, 3), np.uint8))
    one = ["--setting", "paired", "--first", "1"]
    shutil.copytree(pictures_folder, broken)
    (broken / "garment_mask" / "000002_b.png").unlink()
    shutil.copytree(pictures_folder, damaged)
    (damaged / "garment_mask" / "000002_b.png").write_bytes(b"no picture")
    photos = ["--data", str(broken), "--out", str(tmp_path / "out")]
    worse = ["--data", str(damaged), "--out", str(tmp_path / "out")]
    for argv, message in (
        (["--checkpoint", str(tmp_path / "none.safetensors"), *data], "does not exist"),
        (["--bundle", str(bundle32), "--engine", "onnxruntime", *data], "--size 128x96"),
        (["--baseline", "copy", "--assets", str(tmp_path), *photos], "surroundings of their own"),
        (["--results", str(tmp_path), *data], "000000_a.png or 000000.png, or .jpg, nor those of 11 more"),
        (
            ["--baseline", "copy", "--data", str(tmp_path), "--out", str(tmp_path)],
            "no data set that is known",
        ),
        (["--checkpoint", str(weights), "--checkpoint", str(weights), *data], "give each a --name"),
        (
            ["--checkpoint", str(weights), "--name", "A B", "--results", str(wide), "--name", "a_b"]
            + [*data, *one],
            "too similar names, A B and a_b",
        ),
        (["--baseline", "copy", "--inception", "none.pth", *data], "pt_inception"),
        (["--baseline", "copy", "--workers", "-1", *data], "--workers must be 0 or more, not -1"),
        (["--baseline", "copy", "--device", "meta", *data], "on cpu or cuda, not on meta"),
        (["--baseline", "copy", "--device", "cuda:99", *data], "there is no cuda:99 here"),
        (["--baseline", "copy", *data, "--out", str(weights)], f"{weights} is a file"),
        (["--baseline", "copy", *data, "--out", str(weights / "below")], f"{weights} is a file"),
        (["--results", str(wide), *data, *one], "000000_a.png: 60x60 is not of the shape"),
        (["--results", str(shared), "--setting", "paired", *data], "000000.png answers paired 000000_a and"),
        (["--baseline", "copy", "--setting", "paired", "--pairs", "x", *photos], "which are not asked for"),
        (["--baseline", "copy", *photos], "000002_b.png: no such file"),
        (["--baseline", "copy", "--workers", "1", *worse], "000002_b.png: not a picture, or damaged"),
    ):
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        assert said.strip().splitlines()[-1].startswith("error: ")
        assert message in said.strip().splitlines()[-1]
    for argv in (
        ["--data", "x", "--out", "y"],
        ["--name", "x", *data],
        ["--checkpoint", "x", "--checkpoint", "y", "--name", "x", "--name", "y", *data],
        ["--baseline", "copy", "--size", "100x100", *data],
        ["--baseline", "copy", "--device", "toaster", *data],
    ):
        with pytest.raises(InputError):
            parse_args(argv)


def test_names_that_are_no_text_cost_no_report(tmp_path: Path) -> None:
    """As of files from old archives: it is written last."""
    write_text(tmp_path / "report.md", "a\udcff.jpg, ü.jpg")
    assert (tmp_path / "report.md").read_text("utf-8") == r"a\udcff.jpg, ü.jpg"
    entry = Entry("a\udcff", "paired", [np.zeros((8, 6, 3), np.uint8)])
    write_page(tmp_path / "index.html", "title", "note", [entry], ["person"], [])
    assert "pictures/paired_a%FF_0.jpg" in (tmp_path / "index.html").read_text()
    assert (tmp_path / "pictures" / "paired_a\udcff_0.jpg").is_file()
    assert digest(["a\udcff 1"]) != digest(["a 1"])


def test_names_too_long_for_a_report_are_told_at_once(pictures_folder: Path, tmp_path: Path) -> None:
    """Not after the last trial."""
    folder = tmp_path / "own"
    for part in ("person", "garment", "garment_mask"):
        shutil.copytree(pictures_folder / part, folder / part)
    person = min((folder / "person").iterdir())
    long = person.rename(person.with_name("p" * 230 + person.suffix))
    (tmp_path / "pairs.txt").write_text(f"{long.name} {next((folder / 'garment').iterdir()).name}\n")
    with pytest.raises(DataError, match="too long for a file of the report"):
        FolderTrials(folder, ["unpaired"], pairs=tmp_path / "pairs.txt")
