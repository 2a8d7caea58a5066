"""Layers dressed ahead give the samples that dressing in training gives."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from engines.sole_writer import sole_writer
from rmgn import PRESETS, RMGN, checkpoint
from rmgn.batches import DressedSource, LayersSource, open_source
from rmgn.data.ahead import SETTINGS, Settings, digests, dress_ahead, main, path, read_settings
from rmgn.data.generated import GeneratedPeople
from rmgn.data.people.assets import assets
from rmgn.train import main as train
from rmgn.training_config import TrainConfig

SIZE = (128, 96)


@pytest.fixture(scope="module")
def dressed(layers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two looks of the first two of three samples, one of the last."""
    folder = tmp_path_factory.mktemp("ahead") / "dressed"
    assert len(dress_ahead(layers_folder, folder, passes=2, held_out=1, size=SIZE)) == 5
    return folder


def test_samples_are_those_of_layers(layers_folder: Path, dressed: Path) -> None:
    layers = LayersSource(GeneratedPeople(layers_folder, size=SIZE))
    ahead = DressedSource(dressed)
    for number, (index, epoch) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]):
        expected, actual = (
            source.batch(source.collate([source.load(*item)]), number, torch.device("cpu"))
            for source, item in ((layers, (index, epoch)), (ahead, (number, 7)))
        )
        for name in ("person", "garment", "other_persons"):
            torch.testing.assert_close(getattr(actual, name), getattr(expected, name), rtol=0, atol=1 / 250)
        for name in ("garment_mask", "visible", "parse", "dense", "keypoints"):
            torch.testing.assert_close(getattr(actual, name), getattr(expected, name))
        assert actual.worn_mask is not None
        assert expected.worn_mask is not None
        torch.testing.assert_close(actual.worn_mask, expected.worn_mask, rtol=0, atol=1 / 500)
        assert actual.flow is not None
        assert expected.flow is not None
        torch.testing.assert_close(actual.flow, expected.flow, rtol=1e-3, atol=1e-4)


def test_a_stopped_folder_is_finished_as_it_would_have_been(
    layers_folder: Path, dressed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one program at a time."""
    files = [path(dressed, number) for number in (1, 4)]
    before = [file.read_bytes() for file in files]
    files[0].unlink()
    files[1].write_bytes(before[1][:1000])
    arguments = ["--data", str(layers_folder), "--out", str(dressed), "--passes", "2", "--held-out", "1"]
    arguments += ["--size", "128x96", "--workers", "1"]
    with sole_writer(dressed):
        assert main(arguments) == 2
    assert "another program is writing into" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"001\.safetensors is missing: go on"):
        read_settings(dressed)
    assert main(arguments) == 0
    assert files[0].read_bytes() == before[0]
    with pytest.raises(ValueError, match=r"004\.safetensors is damaged .*: delete it and go on"):
        DressedSource(dressed).load(4, 0)
    files[1].write_bytes(before[1])


def test_other_settings_are_refused(
    layers_folder: Path, dressed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(batch=2, held_out=1)
    with pytest.raises(ValueError, match="was dressed with height 128, the configuration has 256"):
        open_source(dressed, config)
    with pytest.raises(ValueError, match="was dressed ahead, in its surroundings: --assets are for layers"):
        open_source(dressed, config, tmp_path)
    for changed, message in (
        (["--passes", "3"], "begun with other passes"),
        (["--held-out", "3"], "--held-out must be between 1 and 2"),
        (["--workers", "0"], "count from 1"),
        (["--seed", "-1"], "--seed from 0"),
    ):
        arguments = ["--passes", "2", "--held-out", "1", "--size", "128x96", "--workers", "1", *changed]
        assert main(["--data", str(layers_folder), "--out", str(dressed), *arguments]) == 2
        assert message in capsys.readouterr().err
    arguments = ["--data", str(layers_folder), "--out", str(tmp_path / "new"), "--held-out", "1"]
    assert main([*arguments, "--assets", str(tmp_path)]) == 2
    assert "no assets in" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    others = tmp_path / "others"
    shutil.copytree(layers_folder, others)
    (others / "000002.zip").write_bytes((others / "000001.zip").read_bytes())
    arguments = ["--passes", "2", "--held-out", "1", "--size", "128x96", "--workers", "1"]
    assert main(["--data", str(others), "--out", str(dressed), *arguments]) == 2
    assert "begun with other files" in capsys.readouterr().err
    note = dressed / "dressed.json"
    before = note.read_text()
    note.write_text('{"passes": 2}')
    with pytest.raises(ValueError, match="another version: dress anew"):
        read_settings(dressed)
    note.write_text("")
    assert main(["--data", str(layers_folder), "--out", str(dressed), "--held-out", "1"]) == 2
    assert "dressed.json is damaged" in capsys.readouterr().err
    note.write_text(before)
    (tmp_path / "mine.txt").touch()
    assert main(["--data", str(layers_folder), "--out", str(tmp_path), "--held-out", "1"]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert json.loads((dressed / "dressed.json").read_text())["passes"] == 2


def test_layers_of_an_equal_listing_are_told_apart(
    layers_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the manifest's SHA-256; folders begun when names and sizes were all that counted are finished."""
    data, out = tmp_path / "layers", tmp_path / "out"
    shutil.copytree(layers_folder, data)
    manifest = data / "manifest.jsonl"
    listing = "\n".join(f"{file.name} {file.stat().st_size}" for file in sorted(data.glob("*.zip")))
    former = hashlib.sha256(listing.encode()).hexdigest()[:16]
    note = Settings(3, 1, 1, 0, 128, 96, former, assets=False)
    arguments = ["--data", str(data), "--out", str(out), "--passes", "1", "--held-out", "1"]
    arguments += ["--size", "128x96", "--workers", "1"]
    assert main(arguments) == 0
    assert read_settings(out).files != former
    (out / SETTINGS).write_text(json.dumps(asdict(note)))
    path(out, 0).unlink()
    assert main(arguments) == 0
    assert read_settings(out) == note
    shutil.rmtree(out)
    assert main(arguments) == 0
    room = tmp_path / "assets" / "hdri" / "room.exr"
    room.parent.mkdir(parents=True)
    found = set()
    for content in (b"morning", b"evening sun"):
        room.write_bytes(content)
        assets.cache_clear()
        found.add(digests(data, sorted(data.glob("*.zip")), tmp_path / "assets")[0])
    assert len(found | {read_settings(out).files}) == 3, "surroundings count too"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    lines[1]["sha256"] = 64 * "0"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(arguments) == 2
    assert "begun with other files" in capsys.readouterr().err


def test_training_reads_them_and_keeps_what_is_held(dressed: Path, tmp_path: Path) -> None:
    config = tmp_path / "held.toml"
    config.write_text(
        'stage = "pf-warp"\nheight = 128\nwidth = 96\nbatch = 2\nsteps = 2\nheld_out = 1\nflow_levels = 2\n'
        "held_stages = 2\nema = 0.0\nlearning_rate = 1e-3\nwarmup = 0\n"
    )
    first = tmp_path / "first.safetensors"
    checkpoint.save(RMGN(PRESETS["lite"]), first)
    out = tmp_path / "run"
    arguments = ["--config", str(config), "--data", str(dressed), "--out", str(out), "--workers", "0"]
    assert train([*arguments, "--init", str(first)]) == 0
    before, after = (checkpoint.load(file).warp for file in (first, out / "last.safetensors"))
    for old, new in (
        (before.person_encoder, after.person_encoder),
        (before.garment_encoder, after.garment_encoder),
    ):
        moved = [
            any(not torch.equal(value, y.state_dict()[name]) for name, value in x.state_dict().items())
            for x, y in zip(old.stages, new.stages, strict=True)
        ]
        assert moved == [False, False, True, True, True]
