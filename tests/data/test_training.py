"""Training on generated pairs: resumable to the bit, and refusing what cannot work."""

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kernels import flow_warp, identity_flow
from rmgn import PRESETS, RMGN, checkpoint
from rmgn.batches import Pairs, StepSampler, resize, training_batches
from rmgn.data.generated import GeneratedPeople
from rmgn.stages import PairStage
from rmgn.train import main, schedule
from rmgn.training_config import FOLDER, TrainConfig, load_config

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


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(SETTINGS)
    return file


@pytest.mark.parametrize("start", [0, 3, 10, 27])
def test_sampler_starts_anywhere(start: int) -> None:
    whole = list(itertools.islice(StepSampler(10, seed=5), 40))
    assert list(itertools.islice(StepSampler(10, seed=5, start=start), 40 - start)) == whole[start:]
    assert sorted(n % 10 for n in whole[:10]) == list(range(10))
    assert whole[10:20] != [10 + n for n in whole[:10]], "epochs are shuffled anew"


def test_batches_do_not_depend_on_stops_or_workers(layers_folder: Path) -> None:
    def batch(start: int, index: int, workers: int) -> Pairs:
        people = GeneratedPeople(layers_folder)
        feed = training_batches(people, 1, 2, seed=7, start_step=start, workers=workers)
        return next(itertools.islice(feed, index, None))

    expected = batch(0, 3, 0)
    for other in (batch(2, 1, 0), batch(3, 0, 1)):
        for name, value, wanted in zip(expected._fields, other, expected, strict=True):
            assert torch.equal(value, wanted), name


def test_reduced_flow_samples_the_same_spots() -> None:
    """An affine flow and a linear picture: reducing both, then warping, is warping, then reducing."""
    flow = 0.5 * identity_flow(32, 64) + 0.1
    garment = identity_flow(32, 64)[:, :1].expand(1, 3, 32, 64)
    ones = torch.ones(1, 1, 32, 64)
    visible = ones.clone()
    visible[..., :6] = 0
    batch = Pairs(
        garment, garment, ones, flow_warp(garment, flow), ones, torch.where(visible > 0, flow, 9), visible
    )
    small = resize(batch, (16, 32))
    warped = flow_warp(small.garment, small.flow)
    seen = small.visible[0, 0] > 0
    assert seen.sum() == 16 * (32 - 3)
    torch.testing.assert_close(warped[0, 0][seen], small.target[0, 0][seen], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="32x64 cannot be reduced to 24x48"):
        resize(batch, (24, 48))


@pytest.mark.parametrize("stage", ["pf-warp", "pf-full"])
def test_a_few_steps_lower_every_main_loss(layers_folder: Path, stage: str) -> None:
    people = GeneratedPeople(layers_folder, flip=False)
    batch = resize(next(training_batches(people, 1, 2, seed=0, start_step=0, workers=0)), (128, 96))
    torch.manual_seed(0)
    module = PairStage(RMGN(PRESETS["lite"]), stage, None).train()  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3)
    history = []
    for _ in range(12):
        terms = module(batch)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    main_terms = ["total", "flow"] + (["pixel", "composite"] if stage == "pf-full" else [])
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
    assert main([*arguments, str(tmp_path / "nan.safetensors")]) == 2
    assert "the loss is not finite at step 0; the batch lies in" in capsys.readouterr().err
    saved = torch.load(out / "not_finite_0.pt", weights_only=True)
    assert saved["person"].shape == (2, 3, 128, 96)
    assert not (out / "steps").exists()


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

    assert "no training configuration nothing; named ones are pairs-full" in error("--config", "nothing")
    settings.write_text("colour = 1")
    assert "unknown settings colour" in error("--config", settings)
    settings.write_text('steps = "many"')
    assert "steps must be of type int, not 'many'" in error("--config", settings)
    assert "no layers in" in error("--data", tmp_path)
    settings.write_text(SETTINGS.replace("held_out = 1", "held_out = 99"))
    assert "of which 99 would be held out" in error("--config", settings)


def test_a_run_refuses_other_settings(layers_folder: Path, settings: Path, tmp_path: Path) -> None:
    settings.write_text(SETTINGS.replace("steps = 4", "steps = 1"))
    out = tmp_path / "run"
    base = command("--config", settings, "--data", layers_folder, "--out", out)[3:]
    assert main(base) == 0
    assert main([*base, "--learning-rate", "0.5"]) == 2
    config = dataclasses.asdict(load_config(str(settings), {}))
    assert config["learning_rate"] == 1e-3
