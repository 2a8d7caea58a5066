"""Settings of a training run: named TOML files in rmgn/configs, overridden from the command line."""

import dataclasses
import json
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from rmgn.config import PRESETS, ModelConfig

PRECISIONS = ("no", "bf16", "fp16")
# Least and greatest values of settings.
BOUNDS = {
    **dict.fromkeys(
        ("batch", "accumulate", "steps", "reuse", "pool", "held_out", "log_steps", "validate_steps"),
        (1, math.inf),
    ),
    **dict.fromkeys(("composite_weight", "composite_entropy", "clip"), (0, math.inf)),
    **dict.fromkeys(("epochs", "warmup", "save_minutes"), (0, math.inf)),
    "seed": (0, 10**12),  # PyTorch's generators take 64 bits, of which epochs take some
    **dict.fromkeys(("constant", "warp_factor", "ema", "batch_statistics", "learning_rate"), (0, 1)),
    **dict.fromkeys(("beta1", "beta2"), (0, 0.9999999)),
    "fakes": (1, 3),
}
STAGES = ("pb-warp", "pb-full", "pf-warp", "pf-full", "distill")
FOLDER = Path(__file__).parent / "configs"
FLAGS = {
    "height": "the height of --size",
    "width": "the width of --size",
}  # the others are called as settings


@dataclass(frozen=True)
class TrainConfig:
    """How long, how fast, on what."""

    stage: str = "pf-full"  # one of STAGES
    preset: str = "lite"
    model: dict[str, Any] = field(default_factory=dict)  # changes to the preset, by names of ModelConfig
    fakes: int = 1  # fake persons a sample, 1 to 3: the set of equation (2); needs a teacher
    augment: bool = False  # move, mirror, tint samples; layers, mirrored anyway, move, bend, dye, tint
    height: int = 256
    width: int = 192
    batch: int = 8  # samples a batch
    accumulate: int = 1  # batches a step of the optimizer, in each process
    steps: int = 100_000  # steps of the optimizer
    epochs: int = 0  # passes over the training data instead of `steps`, where not 0
    warmup: int = 200  # steps in which the learning rate rises, since Adam's estimates begin empty
    constant: float = 0.5  # share of the steps before the learning rate falls linearly to 0
    learning_rate: float = 5e-5
    flow_levels: int = 0  # of a "-warp" stage: the coarsest alone, which are cheap and decide most; 0: all
    held_levels: int = 0  # coarsest levels of the flow that stay as they are, and both encoders with them
    held_stages: int = 0  # finest stages of the warp module's encoders that stay as they are
    warp_factor: float = 1.0  # learning rate of the warp module relative to the generator's; 0: it stays
    beta1: float = 0.5
    beta2: float = 0.999
    clip: float = 0.0  # largest gradient norm; 0: none
    ema: float = 0.999
    batch_statistics: float = 1.0  # share of the steps in which batch norms use them; then running ones
    composite_weight: float = 1.0  # of the composite mask's L1
    composite_entropy: float = 0.0  # of its cross-entropy, which moves a mask that is sure and wrong
    perceptual: str = "none"  # none, lite0 (EfficientNet-Lite0), or the file of VGG-19's weights
    precision: str = "no"  # no (float32), bf16, fp16
    reuse: int = 1  # batches that draw on each look of generated people, from a pool; 1: none
    pool: int = 2048  # looks in it, on the device, 1.4 MB each at 256x192
    held_out: int = 32  # samples at the end of the data set for validation
    seed: int = 0
    log_steps: int = 50
    validate_steps: int = 1000
    save_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Raise ValueError, which begins with the setting's name, for a value that cannot be."""
        for each in dataclasses.fields(self):
            wanted = dict if each.default is dataclasses.MISSING else type(each.default)
            value = getattr(self, each.name)
            fits = isinstance(value, (int, float) if wanted is float else wanted)
            if not fits or (isinstance(value, bool) and wanted is not bool):
                raise ValueError(f"{each.name} must be of type {wanted.__name__}, not {value!r}")
        for name, (least, most) in BOUNDS.items():
            number = getattr(self, name)
            if not least <= number <= most:
                most_said = "" if math.isinf(most) else f" and at most {most:g}"
                raise ValueError(f"{name} must be at least {least:g}{most_said}, not {number}")
        for name, choices in (("stage", STAGES), ("precision", PRECISIONS), ("preset", tuple(PRESETS))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)}")
        for name in ("height", "width"):
            if getattr(self, name) % 32 or getattr(self, name) < 96:
                raise ValueError(f"{name} must be a multiple of 32, at least 96, not {getattr(self, name)}")
        try:
            levels = len(self.network().encoder_widths)
        except ValueError as error:
            raise ValueError(f"model has a fault: {error}") from error
        if self.flow_levels and not self.stage.endswith("-warp"):
            raise ValueError("flow_levels goes with stages that train the warp module alone")
        for name in ("warp_factor", "composite_weight", "composite_entropy"):
            if self.stage.endswith("-warp") and getattr(self, name) != getattr(TrainConfig, name):
                raise ValueError(f"{name} goes with stages that train the generator")
        if not 0 <= self.flow_levels <= levels:
            raise ValueError(f"flow_levels must be 0 to {levels}")
        if not 0 <= self.held_levels < (self.flow_levels or levels):
            raise ValueError("held_levels must be 0, or fewer than the levels of flow that are trained")
        if not 0 <= self.held_stages < levels:
            raise ValueError(f"held_stages must be 0 to {levels - 1}")
        if self.reuse > 1 and self.pool < self.batch:
            raise ValueError(
                f"pool must fill a batch of {self.batch} where looks are reused, not {self.pool}"
            )

    def network(self) -> ModelConfig:
        """The architecture: the preset with the changes of `model`."""
        return ModelConfig.from_json(json.dumps(dataclasses.asdict(PRESETS[self.preset]) | self.model))

    @property
    def holds_a_part(self) -> bool:
        """Whether weights stay as they are, which had better not be random ones."""
        whole = not self.stage.endswith("-warp")
        return bool(self.held_levels or self.held_stages) or (whole and not self.warp_factor)

    @staticmethod
    def completed(saved: dict[str, Any]) -> dict[str, Any]:
        """Settings that an older version wrote: what it did not know had its default."""
        return dataclasses.asdict(TrainConfig()) | saved

    def in_steps(self, samples: int, processes: int) -> "TrainConfig":
        """With `epochs` over this many samples expressed in steps of the optimizer."""
        if not self.epochs:
            return self
        step = self.batch * self.accumulate * processes
        return dataclasses.replace(self, steps=math.ceil(self.epochs * samples / step))


def load_config(name: str, overrides: dict[str, Any]) -> TrainConfig:
    """Read a named or own TOML file and lay `overrides`, of a command line's flags, over it.

    Raises ValueError for a setting that is unknown or cannot be so, and says whether file or flag has it.
    """
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not file.is_file():
        named = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise ValueError(f"there is no training configuration {name}; named ones are {named}")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not TOML: {error}") from error
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{file} has unknown settings {', '.join(unknown)}; known are {', '.join(known)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return TrainConfig(**{**values, **given})
    except ValueError as error:
        setting, _, fault = str(error).partition(" ")
        flag = FLAGS.get(setting, f"--{setting.replace('_', '-')}")
        raise ValueError(f"{flag if setting in given else f'{file}: {setting}'} {fault}") from error
