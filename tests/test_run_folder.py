"""The folder of a training run."""

from pathlib import Path

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
