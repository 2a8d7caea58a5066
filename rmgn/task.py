"""What a configuration trains: network, teacher, losses, triplets, optimizer."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from engines.bundle import sha256
from engines.program import InputError
from rmgn import checkpoint
from rmgn.model import RMGN
from rmgn.perceptual import EfficientNetLite0, Perceptual, Vgg19
from rmgn.stages import Network, TryOnStage
from rmgn.teacher import ParserBased
from rmgn.training_config import TrainConfig
from rmgn.triplets import FakePersons, Maker, Taught, described, true_pairs


class TrainingError(InputError):
    """The run cannot start or go on; the message says why and what to do."""


@dataclass(frozen=True)
class Task:
    """What a stage minimises, and on what."""

    stage: TryOnStage
    triplets: Maker
    set_size: int = 1  # triplets that `triplets` makes of a batch


def make_task(model: Network, config: TrainConfig, teacher: Network | None) -> Task:
    """The losses of a stage, and where its triplets come from."""
    perceptual = make_perceptual(config.perceptual)
    whole, pairs = not config.stage.endswith("-warp"), False
    triplets: Maker
    set_size = 1
    if config.stage.startswith("pb-"):
        triplets = described
    elif config.stage == "distill":
        triplets = Taught(cast(RMGN, teacher))
    elif teacher is not None:
        triplets, set_size = FakePersons(cast(ParserBased, teacher), config.fakes), config.fakes
    else:
        triplets, pairs = true_pairs, True
    stage = TryOnStage(
        model,
        whole,
        perceptual,
        warp_perceptual=None if pairs else perceptual,  # pairs know the flow itself
        true_flow=teacher is None,
        guide_width=teacher.config.pyramid_width if teacher is not None else None,
        learns_warp=not whole or config.warp_factor > 0,
        composite_weight=config.composite_weight,
        composite_entropy=config.composite_entropy,
    )
    return Task(stage, triplets, set_size)


def first_model(config: TrainConfig, init: Path | None) -> Network:
    """Fresh weights of the configured architecture, or those of a checkpoint; the warp module channels last.

    Its many channels are faster so, the generator's instance norms and few channels slower.

    A checkpoint whose generator alone is of another kind gives its warp module. One without a
    palette gives all: untrained, that changes nothing.
    """
    network: type[Network] = ParserBased if config.stage.startswith("pb-") else RMGN
    model: Network = network(config.network())
    model.warp.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.flow_levels:
        model.warp.train_coarsest(config.flow_levels)
    if config.held_levels:
        model.warp.hold_coarsest(config.held_levels)
    model.warp.hold_stages(config.held_stages)
    if init is None:
        return model
    found: Network = checkpoint.load_as(network, init)
    if found.config == model.config:
        model.load_state_dict(found.state_dict())
    elif found.config == dataclasses.replace(model.config, palette=0):
        model.load_state_dict(found.state_dict(), strict=False)
        print(f"{init} has no palette: its {model.config.palette} colours begin at each picture's mean")
    elif found.config.warp_part() == model.config.warp_part():
        model.warp.load_state_dict(found.warp.state_dict())
        print(f"{init} gives the warp module; its generator is of another kind and begins anew")
    else:
        theirs, ours = dataclasses.asdict(found.config), dataclasses.asdict(model.config)
        # JSON of such values is TOML.
        changed = [name for name in ours if theirs[name] != ours[name]]
        other = ", ".join(f"{name} = {json.dumps(theirs[name])}" for name in changed)
        raise TrainingError(
            f"{init} differs from the preset {config.preset}: take another --preset, or a line each of "
            f"{other} in the table [model] of the configuration"
        )
    return model


def load_teacher(config: TrainConfig, file: Path | None) -> tuple[Network | None, str | None]:
    """The teacher that a stage learns from and the SHA-256 of its file."""
    if file is None:
        if config.stage == "distill":
            raise TrainingError("distillation needs --teacher, the checkpoint of a trained network")
        if config.fakes > 1:
            raise TrainingError(f"{config.fakes} fake persons need --teacher, a checkpoint of pb-full")
        return None, None
    if config.flow_levels:
        raise TrainingError("flow_levels is for data that know the flow, and goes without --teacher")
    if config.stage.startswith("pb-"):
        raise TrainingError(f"{config.stage} trains a teacher and takes none")
    teacher: Network = checkpoint.load_as(RMGN if config.stage == "distill" else ParserBased, file)
    levels = len(teacher.config.encoder_widths)
    if levels != len(config.network().encoder_widths):
        raise TrainingError(f"{file} has {levels} levels of flow, the student another number")
    return teacher, sha256(file)


def make_perceptual(name: str) -> Perceptual | None:
    """The measure that a configuration names."""
    if name == "none":
        return None
    return EfficientNetLite0() if name == "lite0" else Vgg19(Path(name))


def make_optimizer(stage: TryOnStage, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam, with the warp module at its own rate; a part without one stays as it is."""
    rates = {"warp": config.learning_rate * config.warp_factor, "generator": config.learning_rate}
    if not stage.whole:
        rates = {"warp": config.learning_rate}
        stage.model.generator.requires_grad_(False)
    elif not config.warp_factor:
        del rates["warp"]
        stage.model.warp.requires_grad_(False)
    groups = [
        {"params": list(getattr(stage.model, part).parameters()), "lr": rate, "base_lr": rate}
        for part, rate in rates.items()
    ]
    if not stage.learns_warp:
        stage.adapters.requires_grad_(False)
    elif len(stage.adapters):
        rate = config.learning_rate
        groups.append({"params": list(stage.adapters.parameters()), "lr": rate, "base_lr": rate})
    return torch.optim.Adam(groups, betas=(config.beta1, config.beta2))
