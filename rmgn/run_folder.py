"""The folder of a training run: checkpoints that appear whole, the newest and the best kept.

RUN/config.json                 the settings
RUN/steps/00001234/             model.safetensors, ema.safetensors, state.pt: all that a resume needs
RUN/best.safetensors            averaged weights of the lowest validation loss
RUN/last.safetensors            averaged weights of the newest checkpoint
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from engines.program import InputError
from engines.whole_file import check_apart, whole_file, write_whole
from rmgn import checkpoint
from rmgn.stages import Network

WEIGHTS = ("model", "ema")


class RunFolder:
    """Saves and finds the checkpoints of one run.

    notes: what best and last say of themselves besides, see `rmgn.checkpoint.read_notes`.
    """

    def __init__(self, folder: Path, notes: dict[str, str]) -> None:
        self.folder, self.notes = folder, notes
        self.steps, self.config = folder / "steps", folder / "config.json"

    def check_apart(self, *read: Path | None) -> None:
        """Raise InputError where weights of no run, or that are read for this one, would be overwritten."""
        kept = [self.folder / f"{name}.safetensors" for name in ("best", "last")]
        check_apart(kept, filter(None, read))
        if not self.config.exists() and (there := [file for file in kept if file.exists()]):
            raise InputError(
                f"{there[0]} is of no run begun here, and would be overwritten: choose another --out"
            )

    def write_config(self, config: dict[str, Any]) -> None:
        """Record the settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.config, (json.dumps(config, indent=2) + "\n").encode())

    def newest(self) -> Path | None:
        """The newest whole checkpoint; a folder gets its name only when it is whole."""
        return max(self._saved(), default=None)

    def _saved(self) -> list[Path]:
        """The checkpoints' folders; of other names are the user's own, such as copies."""
        return [path for path in self.steps.glob("*") if re.fullmatch(r"\d{8}", path.name)]

    def save(self, step: int, model: Network, ema: Network, state: dict[str, Any]) -> Path:
        """Write a checkpoint, unless this step has one, then drop the older ones."""
        target = self.steps / f"{step:08d}"
        if target.exists():  # a stop was asked for while it was written
            return target
        self.steps.mkdir(parents=True, exist_ok=True)
        older = self._saved()
        partial = self.steps / ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for network, name in zip((model, ema), WEIGHTS, strict=True):
            checkpoint.save(network, partial / f"{name}.safetensors")
        with whole_file(partial / "state.pt") as file:
            torch.save(state, file)
        # First, since a step that has its folder is not saved again.
        checkpoint.save(ema, self.folder / "last.safetensors", {**self.notes, "step": str(step)})
        partial.rename(target)
        for path in older:
            shutil.rmtree(path)
        return target

    def save_best(self, ema: Network, step: int, loss: float) -> None:
        """Keep these averaged weights as the best so far."""
        notes = {**self.notes, "step": str(step), "loss": f"{loss:.6f}"}
        checkpoint.save(ema, self.folder / "best.safetensors", notes)
