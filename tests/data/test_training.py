"""Training on generated pairs: resumable to the bit, and refusing what cannot work."""

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from engines.sole_writer import sole_writer
from kernels import flow_warp
from rmgn import PRESETS, RMGN, batches, checkpoint, evaluate, trainer
from rmgn.batches import Batches, Endless, LayersSource, open_source, training_batches
from rmgn.data import ahead
from rmgn.data.augment import FOR_LAYERS
from rmgn.data.generated import GeneratedPeople
from rmgn.data.sample import Sample
from rmgn.look_pool import reused_batches
from rmgn.run_folder import WEIGHTS
from rmgn.task import TrainingError, first_model, make_task
from rmgn.teacher import ParserBased
from rmgn.train import main
from rmgn.trainer import has_accelerator, schedule
from rmgn.training_config import FOLDER, TrainConfig, load_config
from rmgn.triplets import true_pairs
from rmgn.validation import held_out_triplets, pictures

SETTINGS = """
preset = "lite"
height = 128
width = 96
batch = 2
steps = 4
held_out = 1
validate_steps = 4
learning_rate = 1e-3
save_minutes = 0.0
"""
TINY = """
constant = 1.0
[model]
encoder_widths = [4, 4, 6, 6, 8]
pyramid_width = 4
flow_widths = [4, 4]
coarse_flow_widths = [4, 4]
finest_flow_widths = [4, 4]
extractor_widths = [4, 4, 6, 6, 8]
fusion_widths = [8, 8, 6, 6, 4]
unet_widths = [4, 4, 6, 6, 8]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SETTINGS)
    return file


def test_every_epoch_shuffles_all_items_anew(layers_folder: Path) -> None:
    source = LayersSource(GeneratedPeople(layers_folder))
    made = Batches(source, length=10, size=3, seed=5)
    items = [item for number in range(10) for item in made.items(number)]
    epochs = [[index for index, epoch in items if epoch == e] for e in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_processes_share_the_batches_of_one() -> None:
    shares = [itertools.islice(Endless(rank, stride=3), 4) for rank in range(3)]
    assert [n for together in zip(*shares, strict=True) for n in together] == list(range(12))


def test_batches_do_not_depend_on_stops_or_workers(layers_folder: Path) -> None:
    def batch(start: int, index: int, workers: int) -> Sample:
        source = LayersSource(GeneratedPeople(layers_folder), augment=FOR_LAYERS)
        feed = training_batches(source, 1, batch=2, seed=7, start=start, workers=workers)
        return next(itertools.islice(feed, index, None))

    expected = batch(0, 3, 0)
    for other in (batch(2, 1, 0), batch(3, 0, 1)):
        for name, value in vars(expected).items():
            same = torch.equal(getattr(other, name), value) if isinstance(value, torch.Tensor) else True
            assert same, name


@pytest.mark.parametrize("size", [2, 4])
def test_reused_looks_do_not_depend_on_stops_or_workers(layers_folder: Path, size: int) -> None:
    def batch(start: int, index: int, workers: int, stride: int = 1) -> Sample:
        source = LayersSource(GeneratedPeople(layers_folder, size=(128, 96)), augment=FOR_LAYERS)
        feed = reused_batches(
            source, 1, batch=4, seed=7, start=start, workers=workers, reuse=2, size=size, stride=stride
        )
        return next(itertools.islice(feed, index, None))

    expected = batch(0, 6, 0)
    for other in (batch(5, 1, 0), batch(6, 0, 1), batch(6, 0, 0)):
        for name, value in vars(expected).items():
            assert not isinstance(value, torch.Tensor) or torch.equal(getattr(other, name), value), name
    for other in (batch(1, 2, 0, stride=2), batch(0, 5, 0)):
        assert not torch.equal(other.person, expected.person)


def test_reused_looks_are_loaded_once(layers_folder: Path) -> None:
    """Three batches draw on what one loads, each in other places; nothing is drawn that was not loaded."""

    class Counting(LayersSource):
        loaded: ClassVar[list[tuple[int, int]]] = []

        def load(self, index: int, epoch: int) -> dict[str, torch.Tensor]:
            self.loaded.append((index, epoch))
            return super().load(index, epoch)

    source = Counting(GeneratedPeople(layers_folder, size=(128, 96)))
    feed = reused_batches(source, 1, batch=2, seed=0, start=0, workers=0, reuse=3, size=3)
    persons = [next(feed).person for _ in range(9)]
    assert len(source.loaded) == 3
    assert all(torch.equal(person, persons[0]) for person in persons[1:3]), "one look, drawn three times"
    assert len({float(person.sum()) for person in persons}) <= 3
    source = Counting(GeneratedPeople(layers_folder, size=(128, 96)), augment=FOR_LAYERS)
    feed = reused_batches(source, 1, batch=2, seed=0, start=0, workers=0, reuse=3, size=3)
    assert not torch.equal(next(feed).person, next(feed).person), "moved anew each time"


def test_reuse_is_for_generated_people(published: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="reuse is for generated people"):
        open_source(published("viton"), TrainConfig(stage="pb-warp", reuse=2))


def test_layers_give_both_directions_with_their_truth(layers_folder: Path) -> None:
    source = LayersSource(GeneratedPeople(layers_folder), others=2)
    items = source.collate([source.load(0, 0), source.load(1, 0)])
    batch = source.batch(items, 0, torch.device("cpu"))
    assert batch.other_persons is not None
    assert batch.other_garments is not None
    assert torch.equal(batch.other_persons[:, 0], batch.person[[2, 3, 0, 1]]), "b in the place of a, a of b"
    assert torch.equal(batch.other_garments[:, 0], batch.garment[[2, 3, 0, 1]])
    assert torch.equal(batch.other_garments[:, 1], batch.garment[[3, 0, 1, 2]])
    assert batch.flow is not None
    assert batch.visible is not None
    warped = flow_warp(batch.garment, batch.flow)
    off = (warped - batch.person).abs().mean(dim=1, keepdim=True)[batch.visible > 0]
    assert off.mean() < 0.35, "the garment lies where the person wears it, up to light"


@pytest.mark.parametrize("stage", ["pf-warp", "pf-full"])
def test_a_few_steps_lower_every_main_loss(layers_folder: Path, stage: str) -> None:
    source = LayersSource(GeneratedPeople(layers_folder, flip=False, size=(128, 96)))
    batch = next(training_batches(source, 1, batch=2, seed=0, start=0, workers=0))
    (triplet,) = true_pairs(batch)
    torch.manual_seed(0)
    module = make_task(RMGN(PRESETS["lite"]), TrainConfig(stage=stage), None).stage.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-4)
    history = []
    for _ in range(12):
        terms = module(triplet)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    main_terms = ["total", "flow"] + (["pixel", "composite", "skin"] if stage == "pf-full" else [])
    for name in main_terms:
        assert history[-1][name] < 0.9 * history[0][name], (name, history[0][name], history[-1][name])


def test_schedule_rises_holds_and_falls() -> None:
    config = TrainConfig(steps=1000, constant=0.5)
    assert schedule(0, config) == pytest.approx(1 / 200)
    assert schedule(400, config) == 1
    assert schedule(750, config) == pytest.approx(0.5)
    assert schedule(1000, config) == 0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rmgn.train", "--workers", "0", *map(str, arguments)]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(
    layers_folder: Path, settings: Path, tmp_path: Path
) -> None:
    def arguments(out: Path) -> list[str]:
        return command("--config", settings, "--data", layers_folder, "--out", out)

    subprocess.run(arguments(tmp_path / "whole"), check=True, capture_output=True)
    killed = subprocess.Popen(
        arguments(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed" / "steps").glob("0*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (reached,) = (tmp_path / "killed" / "steps").glob("0*")
    assert reached.name < "00000004", "the kill came too late to prove anything"
    subprocess.run(arguments(tmp_path / "killed"), check=True, capture_output=True)
    for name in ("last.safetensors", "best.safetensors", "steps/00000004/model.safetensors"):
        whole, again = (checkpoint.load(tmp_path / run / name).state_dict() for run in ("whole", "killed"))
        assert all(torch.equal(whole[key], again[key]) for key in whole), name


def test_a_loss_that_is_not_finite_stops_the_run(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = RMGN(PRESETS["lite"])
    with torch.no_grad():
        model.get_parameter("warp.flow_net.refine.0.0.weight").fill_(float("nan"))
    checkpoint.save(model, tmp_path / "nan.safetensors")
    out = tmp_path / "run"
    arguments = command("--config", settings, "--data", layers_folder, "--out", out, "--init")[3:]
    out.mkdir()
    with sole_writer(out):  # as of the same run, begun twice
        assert main([*arguments, str(tmp_path / "nan.safetensors")]) == 2
    assert f"another program is writing into {out}" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "nan.safetensors")]) == 2
    assert "the loss is not finite at step 0; the batch lies in" in capsys.readouterr().err
    (saved,) = torch.load(out / "not_finite_0.pt", weights_only=True)
    assert saved["person"].shape == (2, 3, 128, 96)
    assert not (out / "steps").exists()


def test_gradients_that_are_not_finite_stop_the_run(
    layers_folder: Path,
    settings: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where the loss of another process is not finite: this one's is, but not the exchanged gradients."""
    add = trainer.add_gradients

    def add_infinite(accelerator: Accelerator, stage: nn.Module, *rest: Any) -> Any:
        terms = add(accelerator, stage, *rest)
        gradient = next(p.grad for p in stage.parameters() if p.grad is not None)
        gradient.view(-1)[0] = float("inf")
        return terms

    monkeypatch.setattr(trainer, "add_gradients", add_infinite)
    out = tmp_path / "run"
    arguments = command("--config", settings, "--data", layers_folder, "--out", out)[3:]
    assert main(arguments) == 2
    assert "the gradients are not finite at step 0" in capsys.readouterr().err
    assert not (out / "steps").exists()


def test_an_error_in_a_step_ends_the_run_and_its_workers(
    layers_folder: Path, settings: Path, tmp_path: Path
) -> None:
    """Any that is not foreseen, as of a driver: a process that waits for workers would hold its GPU."""
    code = """
import sys
from rmgn import train, trainer

def broken(*_):
    raise RuntimeError("the driver is gone")

trainer.add_gradients = broken
sys.exit(train.main(sys.argv[1:]))
"""
    wanted = ["--config", settings, "--data", layers_folder, "--out", tmp_path / "run", "--workers", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, wanted)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: the driver is gone" in done.stderr


def test_a_shallow_pyramid_trains(layers_folder: Path, settings: Path, tmp_path: Path) -> None:
    """No level of it is so coarse that features could be matched."""
    settings.write_text(
        SETTINGS + TINY.replace("encoder_widths = [4, 4, 6, 6, 8]", "encoder_widths = [4, 4]")
    )
    arguments = command("--config", settings, "--data", layers_folder, "--out", tmp_path / "run")[3:]
    assert main([*arguments, "--steps", "1"]) == 0
    assert (tmp_path / "run" / "last.safetensors").is_file()


@pytest.mark.parametrize("reuse", ["1", "2"])
def test_a_damaged_sample_ends_the_training(
    layers_folder: Path, settings: Path, tmp_path: Path, reuse: str
) -> None:
    """With the worker that read it, which leaves signals to its parent and was waited for without end."""
    settings.write_text(SETTINGS + TINY)
    data = shutil.copytree(layers_folder, tmp_path / "data")
    for file in sorted(data.glob("*.zip"))[:-1]:
        file.write_bytes(file.read_bytes()[:20000])
    arguments = command("--config", settings, "--data", data, "--out", tmp_path / "run", "--reuse", reuse)
    done = subprocess.run([*arguments, "--workers", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert re.search(r"error: .*\.zip", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_clip_is_no_training_set(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its one person would be held out of nothing."""
    data = shutil.copytree(layers_folder, tmp_path / "data")
    (data / "clip.json").write_text("{}")
    arguments = command("--config", settings, "--data", data, "--out", tmp_path / "run")[3:]
    assert main(arguments) == 2
    assert ahead.main(["--data", str(data), "--out", str(tmp_path / "dressed"), "--held-out", "1"]) == 2
    assert evaluate.main(["--baseline", "copy", "--data", str(data), "--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err.count(f"error: {data} is a clip of one person") == 3


def test_nor_are_its_frames_as_pictures(
    pictures_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would be a person of its own."""
    data = shutil.copytree(pictures_folder, tmp_path / "clip" / "pictures")
    (tmp_path / "clip" / "clip.json").write_text("{}")
    assert main(command("--config", settings, "--data", data, "--out", tmp_path / "run")[3:]) == 2
    assert evaluate.main(["--baseline", "copy", "--data", str(data), "--out", str(tmp_path / "report")]) == 2
    assert capsys.readouterr().err.count(f"error: {data} is a clip of one person") == 2


@pytest.mark.skipif(not Path(batches.SHARED_MEMORY).exists(), reason="Linux has it")
def test_little_shared_memory_is_told(
    layers_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose batch finds no room there prints that, and training would wait for it."""
    source = LayersSource(GeneratedPeople(layers_folder, size=(128, 96)))
    monkeypatch.setattr(batches, "LEAST_SHARED", 1 << 60)
    for workers, lines in ((0, 0), (1, 1)):
        with Batches(source, 2, 1, 0).arriving(0, 1, workers, on_gpu=False) as arriving:
            next(arriving)
        assert len(caplog.messages) == lines
    assert "MB are free in /dev/shm" in caplog.text


@pytest.mark.parametrize("name", ["state.pt", "ema.safetensors"])
def test_a_damaged_checkpoint_is_told(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """As after a power cut."""
    settings.write_text(SETTINGS + TINY)
    arguments = command("--config", settings, "--data", layers_folder, "--out", tmp_path / "run")[3:]
    assert main([*arguments, "--steps", "1"]) == 0
    (newest,) = (tmp_path / "run" / "steps").iterdir()
    of_stage = ["--config", "pb-warp", "--data", str(layers_folder), "--out", str(tmp_path / "run")]
    assert main([*of_stage, "--held-out", "1"]) == 2
    assert "was begun with other values of stage" in capsys.readouterr().err, "and is not called damaged"
    (newest / name).write_bytes((newest / name).read_bytes()[:1000])
    assert main([*arguments, "--steps", "2"]) == 2
    said = capsys.readouterr().err
    assert f"error: the checkpoint {newest} is damaged (" in said
    assert f"with --init {tmp_path / 'run' / 'last.safetensors'} to go on from its weights" in said


def test_pictures_of_a_validation_stand_in_their_order(layers_folder: Path) -> None:
    """What the docs say of TensorBoard's sheet, for a network with a preserve mask."""
    source = LayersSource(GeneratedPeople(layers_folder, flip=False, size=(128, 96)))
    config = TrainConfig(stage="pf-full", held_out=1)
    model = RMGN(PRESETS["lite"]).eval()
    task = make_task(model, config, None)
    sheet = pictures(model, source, config, task)
    triplet = next(held_out_triplets(source, config, task, 8, torch.device("cpu")))
    count = len(triplet.target)
    assert sheet.shape == (3, count * 128, 9 * 96)
    columns = sheet.view(3, count, 128, 9, 96).permute(3, 1, 0, 2, 4)
    person, garment, _, composite, regional, preserve, rendered, tryon, target = columns
    for shown, picture in ((person, triplet.person), (garment, triplet.garment), (target, triplet.target)):
        torch.testing.assert_close(shown, picture / 2 + 0.5)
    with torch.no_grad():
        result = model(triplet.person, triplet.garment, triplet.mask)
    for shown, mask in ((composite, result.composite_mask), (preserve, result.preserve_mask)):
        torch.testing.assert_close(shown, mask.expand(-1, 3, -1, -1), atol=1e-4, rtol=0)
    for shown, picture in ((rendered, result.rendered), (tryon, result.tryon)):
        torch.testing.assert_close(shown, (picture / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=0)
    assert (regional == regional[:, :1]).all()
    assert regional.std() > 0


def test_named_configurations_are_valid() -> None:
    names = [path.stem for path in FOLDER.glob("*.toml")]
    assert len(names) >= 3
    for name in names:
        assert load_config(name, {"steps": 7}).steps == 7


def test_mistakes_are_one_sentence(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: object) -> str:
        assert main(["--data", str(layers_folder), "--out", str(tmp_path / "run"), *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "no training configuration nothing; named ones are distill, pairs-full" in error(
        "--config", "nothing"
    )
    settings.write_bytes("# für".encode("latin-1"))
    assert f"{settings} is not TOML: " in error("--config", settings)
    assert "--workers must be 0 or more, not -1" in error("--workers", -1)
    settings.write_text("colour = 1")
    assert "unknown settings colour" in error("--config", settings)
    settings.write_text('stage = "pf-full"\nflow_levels = 3')
    assert "flow_levels goes with stages that train the warp module alone" in error("--config", settings)
    settings.write_text('stage = "pf-warp"\ncomposite_weight = 6.0')
    assert "composite_weight goes with stages that train the generator" in error("--config", settings)
    settings.write_text('stage = "pf-warp"\nflow_levels = 6')
    assert "flow_levels must be 0 to 5" in error("--config", settings)
    settings.write_text('stage = "pf-warp"\nflow_levels = 2\nheld_levels = 2')
    assert "held_levels must be 0, or fewer than the levels" in error("--config", settings)
    settings.write_text('steps = "many"')
    assert "steps must be of type int, not 'many'" in error("--config", settings)
    assert "no data set that is known" in error("--data", tmp_path)
    for name in ("pairs-warp-long", "pairs-warp-fine", "pairs-generator"):
        assert "holds a part of the network as it is: give its weights, --init" in error(
            "--config", name, "--held-out", 1
        )
    file = tmp_path / "file"
    file.touch()
    assert f"cannot write into {file}: {file} is a file" in error("--out", file, "--held-out", 1)
    settings.write_text(SETTINGS.replace("held_out = 1", "held_out = 99"))
    assert "of which 99 would be held out" in error("--config", settings)
    settings.write_text('stage = "pf_warp"')
    assert "stage must be one of pb-warp, pb-full, pf-warp, pf-full, distill, not pf_warp" in error(
        "--config", settings
    )
    settings.write_text("reuse = 2\npool = 4")
    assert "pool must fill a batch of 8 where looks are reused, not 4" in error("--config", settings)
    for name in ("batch", "accumulate", "steps", "reuse", "held_out", "log_steps", "validate_steps"):
        settings.write_text(f"{name} = 0")
        assert f"{name} must be at least 1, not 0" in error("--config", settings)
    for line, message in (
        ("learning_rate = -1.0", "learning_rate must be at least 0 and at most 1, not -1.0"),
        ("constant = 3.0", "constant must be at least 0 and at most 1, not 3.0"),
        ("seed = -1", "seed must be at least 0 and at most 1e+12, not -1"),
        ("seed = 100000000000000000000", "seed must be at least 0 and at most 1e+12, not 1000"),
        ("seed = true", "seed must be of type int, not True"),
        ('precision = "float16"', "precision must be one of no, bf16, fp16, not float16"),
    ):
        settings.write_text(line)
        assert message in error("--config", settings)
    for flag in ("--batch", "--accumulate", "--held-out"):
        assert f"error: {flag} must be at least 1, not 0\n" == error("--config", settings, flag, 0)
    settings.write_text(SETTINGS)
    said = "error: the width of --size must be a multiple of 32, at least 96, not 64\n"
    assert said == error("--config", settings, "--size", "128x64")
    settings.write_text(SETTINGS.replace("batch = 2", "batch = 3"))
    assert "a batch of 3 does not go with generated people" in error("--config", settings)
    settings.write_text('[model]\nskip = "sum"')
    assert "unknown skip 'sum'" in error("--config", settings)
    settings.write_text('[model]\nencoder_widths = [1, "x"]')
    assert "encoder_widths must be a list of whole numbers above 0" in error("--config", settings)
    for widths, fault in (
        ("flow_widths = []", "flow_widths must have 1 to 99 widths, not 0"),
        ("fusion_widths = [8, 8, 8, 8]", "fusion_widths must have 5 widths, not 4"),
        ("encoder_widths = [8, 8, 8, 8, 8, 8]", "encoder_widths must have 1 to 5 widths, not 6"),
    ):
        settings.write_text(f"[model]\n{widths}")
        assert f"{settings}: model has a fault: {fault}" in error("--config", settings)
    settings.write_text('stage = "pf-warp"\nheld_levels = 4\n[model]\nencoder_widths = [8, 8, 8]')
    assert "held_levels must be 0, or fewer than the levels" in error("--config", settings)
    settings.write_text(SETTINGS)
    assert "no perceptual distance vgg19: give" in error("--config", settings, "--perceptual", "vgg19")
    assert "does not hold torchvision's VGG-19" in error("--config", settings, "--perceptual", settings)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    assert "does not hold" in error("--config", settings, "--perceptual", tmp_path / "other.pth")
    if not has_accelerator():
        assert "precision fp16 is for GPUs" in error("--config", settings, "--precision", "fp16")


def test_a_run_refuses_other_settings_and_samples(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(SETTINGS.replace("steps = 4", "steps = 1"))
    out = tmp_path / "run"
    base = command("--config", settings, "--data", layers_folder, "--out", out)[3:]
    assert main(base) == 0
    more = tmp_path / "more"
    shutil.copytree(layers_folder, more)
    shutil.copy(more / "000000.zip", more / "000099.zip")
    capsys.readouterr()
    assert main([*base, "--learning-rate", "0.5"]) == 2
    assert "was begun with other values of learning_rate" in capsys.readouterr().err
    assert main([*base, "--data", str(more), "--steps", "2"]) == 2
    assert "samples and" in capsys.readouterr().err
    (more / "000000.zip").unlink()  # as many as before, of which another is held out
    assert main([*base, "--data", str(more), "--steps", "2"]) == 2
    assert "was begun with other samples than those of" in capsys.readouterr().err
    (more / "000099.zip").rename(more / "000000.zip")
    entries = [json.loads(line) for line in (more / "manifest.jsonl").read_text().splitlines()]
    entries[1]["sha256"] = 64 * "0"  # other people of the same names and sizes
    (more / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert main([*base, "--data", str(more), "--steps", "2"]) == 2
    assert "was begun with other samples than those of" in capsys.readouterr().err
    (more / "manifest.jsonl").write_bytes((layers_folder / "manifest.jsonl").read_bytes())
    checkpoint.save(checkpoint.load(out / "last.safetensors"), tmp_path / "other.safetensors")
    assert main([*base, "--steps", "2"]) == 0
    assert main([*base, "--init", str(tmp_path / "other.safetensors"), "--steps", "3"]) == 2
    assert "did not begin with" in capsys.readouterr().err
    assert main([*base, "--data", str(more), "--steps", "3"]) == 0, "the same people at another place"
    (file,) = out.glob("steps/00000003/state.pt")
    state = torch.load(file, weights_only=True)
    torch.save({**state, "processes": 8}, file)
    assert main([*base, "--steps", "4"]) == 2
    assert "was begun with 8 processes" in capsys.readouterr().err
    torch.save(state, file)
    config = checkpoint.load(out / "last.safetensors").config
    for name in WEIGHTS:
        other = RMGN(dataclasses.replace(config, flow_widths=(8,)))
        checkpoint.save(other, file.parent / f"{name}.safetensors")
    assert main([*base, "--steps", "4"]) == 2
    assert f"another network lite; choose another --out, with --init {out}" in capsys.readouterr().err


def test_a_run_of_an_older_version_goes_on(layers_folder: Path, settings: Path, tmp_path: Path) -> None:
    """Settings that a checkpoint does not know had their defaults when it was made."""
    out = tmp_path / "run"
    base = command("--config", settings, "--data", layers_folder, "--out", out, "--steps")[3:]
    settings.write_text(SETTINGS + TINY)
    assert main([*base, "1"]) == 0
    (file,) = out.glob("steps/*/state.pt")
    state = torch.load(file, weights_only=True)
    for name in ("fakes", "augment", "epochs", "warmup"):
        del state["config"][name]
    del state["adapters"], state["teacher"], state["processes"]
    names = "\n".join(file.name for file in sorted(layers_folder.glob("*.zip")))
    state["reads"] = hashlib.sha256(names.encode()).hexdigest()
    torch.save(state, file)
    assert main([*base, "2"]) == 0
    assert (out / "steps" / "00000002").is_dir()


DEVICES = [
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param("cpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is used instead")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", ["pf-warp", "pf-full"])
def test_a_run_on_reused_looks_goes_on(
    layers_folder: Path, settings: Path, tmp_path: Path, device: str, stage: str
) -> None:
    """Stopped half way and not; on a CPU to the same weights."""
    settings.write_text(SETTINGS + TINY)
    base = ["--config", settings, "--stage", stage, "--data", layers_folder, "--reuse", 2, "--out"]
    for out, steps in (("whole", 4), ("halves", 2), ("halves", 4)):
        assert main([str(a) for a in (*base, tmp_path / out, "--steps", steps)]) == 0
    whole, halves = (
        checkpoint.load(tmp_path / out / "last.safetensors").state_dict() for out in ("whole", "halves")
    )
    assert all(value.isfinite().all() for value in whole.values())
    if device == "cpu":
        for name, value in whole.items():
            assert torch.equal(halves[name], value), name


@pytest.mark.slow
def test_each_stage_feeds_the_next_and_goes_on_exactly(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The four stages and distillation; one of each kind is also stopped half way and taken up again."""
    settings.write_text(SETTINGS.replace("batch = 2", "batch = 4") + TINY)

    def run(stage: str, out: str, steps: int, *arguments: object) -> int:
        base = ["--config", settings, "--stage", stage, "--data", layers_folder, "--steps", steps]
        return main([str(a) for a in (*base, "--workers", 0, "--out", tmp_path / out, *arguments)])

    def best(stage: str) -> Path:
        return tmp_path / stage / "best.safetensors"

    chain: list[tuple[str, list[object]]] = [
        ("pb-warp", []),
        ("pb-full", ["--init", best("pb-warp")]),
        ("pf-warp", ["--teacher", best("pb-full"), "--fakes", 2]),
        ("pf-full", ["--teacher", best("pb-full"), "--fakes", 2, "--init", best("pf-warp")]),
        ("distill", ["--teacher", tmp_path / "wide.safetensors"]),
    ]
    config = load_config(str(settings), {}).network()
    checkpoint.save(RMGN(dataclasses.replace(config, pyramid_width=6)), tmp_path / "wide.safetensors")
    for stage, arguments in chain:
        stopped = stage in ("pb-full", "pf-full", "distill")
        assert run(stage, stage, 2 if stopped else 1, *arguments) == 0, capsys.readouterr().err
        if not stopped:
            continue
        assert run(stage, f"{stage}-stopped", 1, *arguments) == 0
        assert run(stage, f"{stage}-stopped", 2, *arguments) == 0
        network = ParserBased if stage.startswith("pb") else RMGN
        files = (
            tmp_path / folder / "steps/00000002/model.safetensors" for folder in (stage, f"{stage}-stopped")
        )
        whole, again = (checkpoint.load_as(network, file).state_dict() for file in files)
        assert all(torch.equal(whole[key], again[key]) for key in whole), stage
    (state,) = (tmp_path / "distill").glob("steps/*/state.pt")
    assert len(torch.load(state, weights_only=True)["adapters"]) == 10, "five adapters, weights and biases"
    capsys.readouterr()
    assert run("pf-full", "pf-full-stopped", 3, "--teacher", best("pb-warp"), "--fakes", 2) == 2
    assert "was begun with other values of teacher" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals to groups are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_asked_to_stop_leaves_a_checkpoint(
    number: signal.Signals, layers_folder: Path, settings: Path, tmp_path: Path
) -> None:
    settings.write_text(SETTINGS.replace("validate_steps = 4", "validate_steps = 1") + TINY)
    settings.write_text(settings.read_text().replace("save_minutes = 0.0", "save_minutes = 60.0"))
    out = tmp_path / "run"
    arguments = command("--config", settings, "--data", layers_folder, "--out", out, "--steps", "100000")
    arguments[arguments.index("--workers") + 1] = "1"
    stopped = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (out / "best.safetensors").is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(stopped.pid, number)  # workers too, as a terminal and a scheduler do
        _, said = stopped.communicate(timeout=120)
    finally:
        stopped.kill()
    assert stopped.returncode == 130, said
    (reached,) = (out / "steps").glob("0*")
    assert f"the same command goes on from step {int(reached.name)}, the newest checkpoint in {out}" in said
    assert checkpoint.trained_size(out / "last.safetensors") == (128, 96)


def test_the_papers_way_on_photos_in_a_published_layout(
    published: Callable[[str], Path], settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """VITON's folder, of which a list chooses persons: a teacher, its fakes, a student of the student."""
    viton = published("viton")
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("\n".join(sorted(p.name for p in viton.glob("**/train_img/*"))[:5]))
    settings.write_text(SETTINGS.replace("steps = 4", "steps = 1") + TINY)

    def run(stage: str, *arguments: object) -> Path:
        base = ["--config", settings, "--stage", stage, "--data", viton, "--workers", 0]
        assert main([str(a) for a in (*base, "--out", tmp_path / stage, *arguments)]) == 0, (
            capsys.readouterr().err
        )
        return tmp_path / stage / "last.safetensors"

    teacher = run("pb-full", "--subset", chosen)
    (state,) = (tmp_path / "pb-full").glob("steps/*/state.pt")
    assert torch.load(state, weights_only=True)["samples"] == 5
    student = run("pf-full", "--teacher", teacher, "--fakes", 2)
    run("distill", "--teacher", student, "--size", "256x192", "--held-out", 2, "--seed", 5)
    written = json.loads((tmp_path / "distill" / "config.json").read_text())
    assert [written[name] for name in ("height", "width", "held_out", "seed")] == [256, 192, 2, 5]
    base = ["--config", settings, "--stage", "pb-full", "--data", viton, "--out", tmp_path / "pb-full"]
    assert main([str(a) for a in (*base, "--steps", 2, "--workers", 0)]) == 2
    assert "was begun with 5 samples" in capsys.readouterr().err


def test_unfit_teachers_are_named(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(SETTINGS + TINY)
    free = tmp_path / "free.safetensors"
    checkpoint.save(RMGN(load_config(str(settings), {}).network()), free)

    def error(*arguments: object) -> str:
        base = ["--config", settings, "--data", layers_folder, "--out", tmp_path / "run", "--workers", 0]
        assert main([str(a) for a in (*base, *arguments)]) == 2
        return capsys.readouterr().err

    assert "distillation needs --teacher" in error("--stage", "distill")
    assert "holds a parser-free network, a parser-based one is needed" in error("--teacher", free)
    assert "pb-warp trains a teacher and takes none" in error("--stage", "pb-warp", "--teacher", free)
    assert "2 fake persons need --teacher" in error("--fakes", 2, "--batch", 4)
    settings.write_text('flow_levels = 2\nstage = "pf-warp"\n' + SETTINGS + TINY)
    assert "flow_levels is for data that know the flow" in error("--teacher", free)
    settings.write_text(SETTINGS + TINY)
    assert "fakes must be at least 1 and at most 3, not 4" in error("--fakes", 4)
    assert "2 fake persons of layers need a batch of at least 3" in error("--fakes", 2, "--teacher", free)


def test_the_warp_module_alone_is_taken_for_another_generator(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns of the ablation share one warp module."""
    settings.write_text(SETTINGS + TINY)
    first = RMGN(load_config(str(settings), {}).network())
    checkpoint.save(first, tmp_path / "first.safetensors")
    settings.write_text(SETTINGS.replace("learning_rate = 1e-3", "learning_rate = 1e-12") + TINY)
    settings.write_text(settings.read_text() + 'generator = "pfafn"\n')
    base = ["--config", settings, "--data", layers_folder, "--out", tmp_path / "run", "--workers", 0]
    assert main([str(a) for a in (*base, "--steps", 1, "--init", tmp_path / "first.safetensors")]) == 0
    assert "gives the warp module" in capsys.readouterr().out
    trained = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert trained.config.generator == "pfafn"
    key = "warp.flow_net.match.0.0.weight"
    torch.testing.assert_close(trained.state_dict()[key], first.state_dict()[key])


def test_the_coarsest_levels_train_alone_and_lead_to_all(
    layers_folder: Path, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of two levels, stopped and taken up again, then one of the whole network on its result."""
    settings.write_text(SETTINGS + TINY)
    torch.manual_seed(0)
    first = RMGN(load_config(str(settings), {}).network())
    checkpoint.save(first, tmp_path / "first.safetensors")
    common = ["--data", layers_folder, "--workers", 0]
    coarse = ["--config", tmp_path / "coarse.toml", "--out", tmp_path / "coarse", *common]
    coarse += ["--init", tmp_path / "first.safetensors"]
    (tmp_path / "coarse.toml").write_text('flow_levels = 2\nstage = "pf-warp"\n' + SETTINGS + TINY)
    for steps in (1, 2):
        assert main([str(a) for a in (*coarse, "--steps", steps)]) == 0, capsys.readouterr().err
    trained = checkpoint.load(tmp_path / "coarse" / "last.safetensors")
    before, after = first.state_dict(), trained.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"warp.flow_net.match.1.0.weight", "warp.garment_pyramid.smooth.1.weight"} <= moved
    of_a_level = re.compile(r"(lateral|smooth|match|refine)\.([2-4])\.|^generator")
    assert not {name for name in moved if of_a_level.search(name)}
    whole = ["--config", settings, "--out", tmp_path / "whole", *common, "--steps", 1]
    whole += ["--init", tmp_path / "coarse" / "last.safetensors"]
    assert main([str(a) for a in whole]) == 0, capsys.readouterr().err
    assert checkpoint.load(tmp_path / "whole" / "last.safetensors").warp.depth is None


def test_going_on_keeps_what_was_logged(layers_folder: Path, settings: Path, tmp_path: Path) -> None:
    settings.write_text(
        "log_steps = 1\n" + SETTINGS.replace("validate_steps = 4", "validate_steps = 2") + TINY
    )
    base = command("--config", settings, "--data", layers_folder, "--out", tmp_path / "run", "--steps")[3:]
    for steps in ("2", "4", "4"):
        assert main([*base, steps]) == 0
    logged = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    logged.Reload()
    assert [event.step for event in logged.Scalars("train/total")] == [1, 2, 3, 4]
    assert [event.step for event in logged.Scalars("validation/total")] == [2, 4]


@pytest.mark.parametrize("part", ["warp_factor", "batch_statistics"])
def test_what_a_setting_holds_still_stays(
    layers_folder: Path, settings: Path, tmp_path: Path, part: str
) -> None:
    """At 0, `warp_factor` holds the warp module, its norms too, and `batch_statistics` the running ones."""
    settings.write_text(f"{part} = 0.0\n" + SETTINGS + TINY)
    torch.manual_seed(0)
    first = RMGN(load_config(str(settings), {}).network())
    checkpoint.save(first, tmp_path / "first.safetensors")
    base = ["--config", settings, "--data", layers_folder, "--out", tmp_path / "run", "--workers", 0]
    assert main([str(a) for a in (*base, "--steps", 2, "--init", tmp_path / "first.safetensors")]) == 0
    before, after = first.state_dict(), checkpoint.load(tmp_path / "run" / "last.safetensors").state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "generator.final.weight" in moved
    held = ("warp.",) if part == "warp_factor" else ("running_mean", "running_var", "num_batches_tracked")
    assert not {name for name in moved if any(word in name for word in held)}
    assert part == "warp_factor" or any(name.startswith("warp.") for name in moved)


def test_the_benchmark_of_a_step_runs(layers_folder: Path, settings: Path) -> None:
    """Each part of a step is timed, through torch.compile too, as Accelerate is told to."""
    command = [sys.executable, "-m", "benchmarks.training", "--workers", "0", "--steps", "1"]
    command += ["--data", str(layers_folder), "--config", str(settings)]
    compiled = {**os.environ, "ACCELERATE_DYNAMO_BACKEND": "EAGER"}
    ran = subprocess.run(command, env=compiled, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "samples a second" in ran.stdout
    wrong = subprocess.run([*command[:-1], "nowhere"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1), wrong.stderr
    lacking = subprocess.run([*command, "--teacher", "nowhere"], capture_output=True, text=True, check=False)
    assert (lacking.returncode, lacking.stderr.count("\n")) == (2, 1), lacking.stderr


def test_weights_of_another_shape_are_told_with_what_to_write(tmp_path: Path) -> None:
    """With those lines in its table the configuration takes them."""
    file = tmp_path / "small.safetensors"
    small = dataclasses.replace(PRESETS["lite"], encoder_widths=(4, 4, 6, 6, 8), regional_mask=False)
    checkpoint.save(RMGN(small), file)
    with pytest.raises(TrainingError) as error:
        first_model(TrainConfig(stage="pf-full", preset="lite"), file)
    lines = re.search(r"a line each of (.*) in the table", str(error.value))
    assert lines
    written = tmp_path / "own.toml"
    table = re.split(r", (?=[a-z_]+ = )", lines[1])
    written.write_text("\n".join(['stage = "pf-full"', 'preset = "lite"', "[model]", *table]))
    first_model(load_config(str(written), {}), file)
