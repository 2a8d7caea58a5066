"""Settings of a training run: named TOML files in rmgn/configs, overridden from the command line."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast, on what."""

    stage: str = "pf-full"
    preset: str = "lite"
    height: int = 256
    width: int = 192
    batch: int = 8  # pairs a step
    accumulate: int = 1  # batches a step of the optimizer
    steps: int = 100_000  # steps of the optimizer
    constant: float = 0.5  # share of the steps before the learning rate falls linearly to 0
    learning_rate: float = 5e-5
    warp_factor: float = 1.0  # learning rate of the warp module relative to the generator's
    beta1: float = 0.5
    beta2: float = 0.999
    clip: float = 0.0  # largest gradient norm; 0: none
    ema: float = 0.999
    perceptual: str = "none"  # none, lite0 (EfficientNet-Lite0), or the file of VGG-19's weights
    precision: str = "no"  # no (float32), bf16, fp16
    held_out: int = 32  # samples at the end of the data set for validation
    seed: int = 0
    log_steps: int = 50
    validate_steps: int = 1000
    save_minutes: float = 10.0


def load_config(name: str, overrides: dict[str, Any]) -> TrainConfig:
    """Read a named or own TOML file and lay `overrides` over it. Raises ValueError for unknown settings."""
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise ValueError(f"there is no training configuration {name}; named ones are {known}")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not TOML: {error}") from error
    values |= {key: value for key, value in overrides.items() if value is not None}
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    unknown = set(values) - set(fields)
    if unknown:
        raise ValueError(
            f"{file} has unknown settings {', '.join(sorted(unknown))}; known are {', '.join(fields)}"
        )
    for key, value in values.items():
        wanted = type(getattr(TrainConfig, key))
        if not isinstance(value, (int, float) if wanted is float else wanted):
            raise ValueError(f"{file}: {key} must be of type {wanted.__name__}, not {value!r}")
    return TrainConfig(**values)
