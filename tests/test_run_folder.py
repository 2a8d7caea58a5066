"""The folder of a training run."""

import errno
import os
from pathlib import Path

import pytest

from engines.program import InputError
from rmgn import PRESETS, RMGN, checkpoint
from rmgn.run_folder import RunFolder


def test_a_step_is_saved_once(tmp_path: Path) -> None:
    """A stop that is asked for during the save would else remove the only checkpoint to write it again."""
    model = RMGN(PRESETS["lite"])
    folder = RunFolder(tmp_path, {"size": "256x192"})
    saved = folder.save(3, model, model, {"step": 3})
    about = saved.stat()
    assert folder.save(3, model, model, {"step": 3}) == saved
    assert saved.stat() == about
    later = folder.save(4, model, model, {"step": 4})
    assert list((tmp_path / "steps").iterdir()) == [later]
    assert folder.newest() == later
    assert checkpoint.read_notes(tmp_path / "last.safetensors") == {"size": "256x192", "step": "4"}


def test_settings_are_written_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", {})
    folder.write_config({"steps": 1})
    assert (tmp_path / "run" / "config.json").read_text() == '{\n  "steps": 1\n}\n'
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_a_save_that_fails_at_its_end_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = RMGN(PRESETS["lite"])
    folder = RunFolder(tmp_path, {})
    first = folder.save(3, model, model, {"step": 3})
    save = checkpoint.save

    def full(network: RMGN, path: Path, notes: dict[str, str] | None = None) -> None:
        if path.name == "last.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(network, path, notes)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        folder.save(4, model, model, {"step": 4})
    assert folder.newest() == first
    monkeypatch.undo()
    later = folder.save(4, model, model, {"step": 4})
    assert folder.newest() == later
    assert checkpoint.read_notes(tmp_path / "last.safetensors") == {"step": "4"}


def test_folders_of_other_names_are_left_alone(tmp_path: Path) -> None:
    """As copies of checkpoints."""
    model = RMGN(PRESETS["lite"])
    folder = RunFolder(tmp_path, {})
    others = [tmp_path / "steps" / name for name in ("00000003-kept", "2026-notes", "1")]
    for other in others:
        other.mkdir(parents=True)
    assert folder.newest() is None
    folder.save(3, model, model, {"step": 3})
    later = folder.save(4, model, model, {"step": 4})
    assert folder.newest() == later
    assert set((tmp_path / "steps").iterdir()) == {later, *others}


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
def test_weights_that_are_read_are_not_overwritten(tmp_path: Path, name: str) -> None:
    run, weights = RunFolder(tmp_path / "run", {}), tmp_path / "run" / name
    run.check_apart(None, tmp_path / "other.safetensors")
    weights.parent.mkdir()
    weights.touch()
    with pytest.raises(InputError, match=rf"{name} is of no run begun here"):
        run.check_apart(None)
    run.write_config({})
    run.check_apart(None)
    with pytest.raises(InputError, match=rf"{name} is read here and would be overwritten"):
        run.check_apart(weights)
