"""Our checkpoints: safetensors with the model's configuration in their metadata."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rmgn.config import ModelConfig
from rmgn.model import RMGN


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message says which file, why, and what to do."""


def save(model: RMGN, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write weights and configuration. The file appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={**(metadata or {}), "config": model.config.to_json()})
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: str | Path) -> RMGN:
    """Read a checkpoint of `save`, in evaluation mode on the CPU. Raises CheckpointError."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}). Released .pth files are converted with "
            "`python -m rmgn.convert --warp warp.pth --generator gen.pth --out rmgn.safetensors`."
        ) from error
    if "config" not in metadata:
        raise CheckpointError(f"{path} holds no model configuration: it was not written by this project.")
    try:
        model = RMGN(ModelConfig.from_json(metadata["config"]))
        model.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not fit this version of the network: {error}") from error
    return model.eval()
