"""Our checkpoints: safetensors with the model's configuration in their metadata."""

import argparse
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised

from engines.program import InputError
from engines.whole_file import write_whole
from rmgn.config import ModelConfig, parse_size
from rmgn.model import RMGN
from rmgn.teacher import ParserBased

N = TypeVar("N", bound=RMGN | ParserBased)
NAMES: dict[object, str] = {
    RMGN: "parser-free",
    ParserBased: "parser-based",
}  # in metadata and messages
OWN = ("network", "config")  # metadata that `save` writes itself


class CheckpointError(InputError):
    """A checkpoint cannot be read; the message says which file, why, and what to do."""


def save(
    model: RMGN | ParserBased,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write weights and configuration. The file appears under its name only when it is complete.

    metadata: notes to keep beside them. half: round weights of convolutions to float16, half the size;
    raises CheckpointError where one is too large for that.
    """
    path = Path(path)
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in model.state_dict().items()}
    for name in [name for name, tensor in tensors.items() if half and tensor.dim() > 1]:
        if not tensors[name].abs().max() <= torch.finfo(torch.float16).max:  # nor is NaN
            raise CheckpointError(f"{name} is too large for float16, or not finite; {path} is not written")
        tensors[name] = tensors[name].half()
    path.parent.mkdir(parents=True, exist_ok=True)
    own = {"network": NAMES[type(model)], "config": model.config.to_json()}
    # Not by its save_file, whose files nobody else may read.
    write_whole(path, serialised(tensors, metadata={**(metadata or {}), **own}))


def load(path: str | Path) -> RMGN:
    """Read a parser-free checkpoint of `save`, in evaluation mode on the CPU. Raises CheckpointError."""
    return load_as(RMGN, path)


def read_notes(path: str | Path) -> dict[str, str]:
    """What a checkpoint says of itself beside its configuration, such as its step. Empty if nothing.

    Raises CheckpointError.
    """
    with _opened(Path(path)) as file:
        return {name: text for name, text in (file.metadata() or {}).items() if name not in OWN}


def trained_size(path: str | Path) -> tuple[int, int] | None:
    """Height and width of the pictures that the weights were trained on; None where the file names none.

    A network is of little use at another size: filters and levels of its pyramid are tied to a person's size
    in pixels. Raises CheckpointError.
    """
    try:
        return parse_size(read_notes(path).get("size", ""))
    except argparse.ArgumentTypeError:
        return None


def other_size(source: object, trained: tuple[int, int] | None, size: tuple[int, int]) -> str | None:
    """What to tell where weights of `trained_size` see pictures of another; None where they do not."""
    if trained in (None, size):
        return None
    before, now = (f"{height}x{width}" for height, width in (trained, size))
    return f"{source} was trained at {before}: at {now} garments miss their place"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path} is a folder, not a checkpoint" if path.is_dir() else f"{path} does not exist"
        )
    with path.open("rb"):  # safetensors says of a file that may not be read that there is none
        pass
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a safetensors file ({error}). Released .pth files are converted with "
            "`rmgn convert --warp warp.pth --generator gen.pth --out rmgn.safetensors`."
        ) from error


def load_as(network: type[N], path: str | Path) -> N:
    """Read a checkpoint of `save` that holds this network, as `load` does."""
    path = Path(path)
    with _opened(path) as file:
        metadata = file.metadata() or {}
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "config" not in metadata:
        raise CheckpointError(f"{path} holds no model configuration: it was not written by this project.")
    found = metadata.get("network", NAMES[RMGN])
    if found != NAMES[network]:
        raise CheckpointError(f"{path} holds a {found} network, a {NAMES[network]} one is needed here")
    try:
        model = network(ModelConfig.from_json(metadata["config"]))
        model.load_state_dict(tensors)
        model.eval()
    except (ValueError, TypeError, RuntimeError) as error:
        first, *rest = [line.strip() for line in str(error).splitlines()]
        why = f"{rest[0]} ({len(rest)} such)" if rest else first  # torch gives a line a tensor
        raise CheckpointError(f"{path} does not fit this version of the network: {why}") from error
    return model
