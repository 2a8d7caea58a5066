r"""Train the network on generated pairs.

    python -m rmgn.train --config pairs-warp-half --data layers --out runs/warp
    python -m rmgn.train --config pairs-full-half --data layers --out runs/half \
        --init runs/warp/best.safetensors
    python -m rmgn.train --config pairs-full --data layers --out runs/full --init runs/half/best.safetensors

Run the same command again to go on after a stop, from the newest checkpoint in --out, exactly as if there had
been none. `accelerate launch -m rmgn.train …` spreads a run over several GPUs.
"""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rmgn import batches, checkpoint
from rmgn.batches import Pairs
from rmgn.checkpoint import CheckpointError
from rmgn.config import PRESETS
from rmgn.data.generated import GeneratedPeople
from rmgn.model import RMGN
from rmgn.perceptual import EfficientNetLite0, Perceptual, Vgg19
from rmgn.run_folder import RunFolder
from rmgn.stages import PairStage
from rmgn.training_config import TrainConfig, load_config

STAGES = ("pf-warp", "pf-full")


class TrainingError(RuntimeError):
    """The run cannot start or go on; the message says why and what to do."""


def train(
    config: TrainConfig, data: Path, out: Path, init: Path | None, workers: int, assets: Path | None
) -> None:
    """Run or resume the training that `config` describes."""
    people = GeneratedPeople(data, config.seed, assets=assets, size=(config.height, config.width))
    if len(people) <= config.held_out:
        raise TrainingError(f"{data} has {len(people)} samples, of which {config.held_out} would be held out")
    accelerator = Accelerator(mixed_precision=config.precision, gradient_accumulation_steps=config.accumulate)
    torch.manual_seed(config.seed)
    run = RunFolder(out)
    model = first_model(config, init)
    averaging = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    ema = cast(RMGN, average.module)
    stage = PairStage(model, config.stage, make_perceptual(config.perceptual))  # type: ignore[arg-type]
    optimizer = make_optimizer(model, config)
    step, best = 0, math.inf
    resumed = run.newest()
    if resumed is not None:
        state = torch.load(resumed / "state.pt", map_location="cpu", weights_only=True)
        check_same(state["config"], config, out)
        model.load_state_dict(checkpoint.load(resumed / "model.safetensors").state_dict())
        ema.load_state_dict(checkpoint.load(resumed / "ema.safetensors").state_dict())
        average.n_averaged.fill_(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        step, best = state["step"], state["best"]
    elif accelerator.is_main_process:
        run.write_config(dataclasses.asdict(config))
    stage.train()
    stage, optimizer = accelerator.prepare(stage, optimizer)
    average.to(accelerator.device)

    def save() -> None:
        if accelerator.is_main_process:
            state = {
                "step": step,
                "best": best,
                "averaged": int(average.n_averaged),
                "optimizer": optimizer.state_dict(),
            }
            run.save(step, model, ema, {**state, "config": dataclasses.asdict(config)})

    writer = SummaryWriter(str(out / "tensorboard"), purge_step=step) if accelerator.is_main_process else None
    bar = tqdm(total=config.steps, initial=step, unit="step", disable=not accelerator.is_main_process)
    # Each process draws its own part of the data.
    seed = config.seed + accelerator.process_index
    feed = training_feed(people, config, seed, step * config.accumulate, workers, accelerator.device)
    saved_at = time.monotonic()
    while step < config.steps:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * schedule(step, config)
        for _ in range(config.accumulate):
            batch = next(feed)
            with accelerator.accumulate(stage), accelerator.autocast():
                terms: dict[str, Tensor] = stage(batch)
                accelerator.backward(terms["total"])
        if not torch.isfinite(terms["total"]):
            torch.save(batch._asdict(), out / f"not_finite_{step}.pt")
            raise TrainingError(
                f"the loss is not finite at step {step}; the batch lies in {out / f'not_finite_{step}.pt'}, "
                "the last good checkpoint is kept. Try a lower learning_rate, or clip."
            )
        if config.clip:
            accelerator.clip_grad_norm_(stage.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        step += 1
        bar.update()

        if writer and step % config.log_steps == 0:
            for name, value in terms.items():
                writer.add_scalar(f"train/{name}", value.item(), step)
            bar.set_postfix(total=f"{terms['total'].item():.3f}", px=f"{terms['endpoint_px'].item():.2f}")
        if step % config.validate_steps == 0 or step == config.steps:
            if accelerator.is_main_process:
                result = validate(ema, people, config, accelerator.device)
                if writer:
                    for name, loss in result.items():
                        writer.add_scalar(f"validation/{name}", loss, step)
                    writer.add_image("validation/pictures", pictures(ema, people, config), step)
                    writer.flush()
                tqdm.write(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in result.items()))
                if result["total"] < best:
                    best = result["total"]
                    run.save_best(ema, step, best)
            accelerator.wait_for_everyone()
        if time.monotonic() - saved_at > 60 * config.save_minutes or step == config.steps:
            save()
            saved_at = time.monotonic()
    bar.close()
    if writer:
        writer.close()


def first_model(config: TrainConfig, init: Path | None) -> RMGN:
    """Fresh weights of the preset, or those of a checkpoint of the same architecture."""
    if init is None:
        return RMGN(PRESETS[config.preset])
    model = checkpoint.load(init)
    if model.config != PRESETS[config.preset]:
        raise TrainingError(f"{init} is not of the preset {config.preset}: its widths or formulas differ")
    return model


def make_perceptual(name: str) -> Perceptual | None:
    """The measure that a configuration names."""
    if name == "none":
        return None
    return EfficientNetLite0() if name == "lite0" else Vgg19(Path(name))


def make_optimizer(model: RMGN, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam, with the warp module at its own rate."""
    rates = {"warp": config.learning_rate * config.warp_factor, "generator": config.learning_rate}
    if config.stage == "pf-warp":
        rates = {"warp": config.learning_rate}
        model.generator.requires_grad_(False)
    groups = [
        {"params": list(getattr(model, part).parameters()), "lr": rate, "base_lr": rate}
        for part, rate in rates.items()
    ]
    return torch.optim.Adam(groups, betas=(config.beta1, config.beta2))


def schedule(step: int, config: TrainConfig) -> float:
    """Constant, then linear to zero; the first 200 steps rise, since Adam's estimates begin empty."""
    start = config.constant * config.steps
    falling = 1 - max(0.0, step - start) / max(1.0, config.steps - start)
    return min(1.0, (step + 1) / 200) * falling


def training_feed(
    people: Any, config: TrainConfig, seed: int, start: int, workers: int, device: torch.device
) -> Iterator[Pairs]:
    """Batches of the configured size on the device."""
    size = (config.height, config.width)
    for batch in batches.training_batches(people, config.held_out, config.batch, seed, start, workers):
        yield Pairs(*(tensor.to(device) for tensor in batches.resize(batch, size)))


@torch.no_grad()
def validate(
    model: torch.nn.Module, people: Any, config: TrainConfig, device: torch.device
) -> dict[str, float]:
    """Mean losses of the averaged weights over the held-out samples."""
    stage = PairStage(model, config.stage, None).eval()  # type: ignore[arg-type]
    sums: dict[str, float] = {}
    count = 0
    for batch in batches.held_out_batches(people, config.held_out, config.batch, workers=0):
        small = Pairs(*(t.to(device) for t in batches.resize(batch, (config.height, config.width))))
        terms = stage(small)
        share = len(small.person)
        sums = {name: sums.get(name, 0.0) + share * value.item() for name, value in terms.items()}
        count += share
    return {name: value / count for name, value in sums.items()}


@torch.no_grad()
def pictures(model: torch.nn.Module, people: Any, config: TrainConfig) -> Tensor:
    """A sheet [3, H, W] in [0, 1], one row a pair: person, garment, warped, mask, try-on, target."""
    device = next(model.parameters()).device
    batch = next(iter(batches.held_out_batches(people, config.held_out, 8, workers=0)))
    batch = Pairs(*(t.to(device) for t in batches.resize(batch, (config.height, config.width))))
    result = model.eval()(batch.person, batch.garment, batch.mask)
    mask = (2 * result.composite_mask - 1).expand(-1, 3, -1, -1)
    columns = [batch.person, batch.garment, result.warped_garment, mask, result.tryon, batch.target]
    rows = torch.cat(columns, dim=3)
    return torch.cat(list(rows), dim=1).add(1).div(2).clamp(0, 1).cpu()


def check_same(saved: dict[str, Any], config: TrainConfig, out: Path) -> None:
    """Raise TrainingError where a run would go on under other settings than it began with."""
    free = {"steps", "log_steps", "validate_steps", "save_minutes"}
    changed = [k for k, v in dataclasses.asdict(config).items() if k not in free and saved.get(k) != v]
    if changed:
        raise TrainingError(
            f"{out} was begun with other values of {', '.join(changed)}; choose another --out"
        )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rmgn.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", default="pairs-full", metavar="NAME", help="named configuration, or a TOML file"
    )
    parser.add_argument("--stage", choices=STAGES, help="what to train")
    parser.add_argument("--preset", choices=list(PRESETS), help="architecture")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="layers of rmgn.data.generate"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of the run; resumed where begun"
    )
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to begin with, .safetensors")
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds")
    parser.add_argument("--steps", type=int, help="steps of the optimizer")
    parser.add_argument("--batch", type=int, help="pairs a step")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", choices=["no", "bf16", "fp16"])
    parser.add_argument("--workers", type=int, default=1, help="processes that decode and draw (1)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    names = ("stage", "preset", "steps", "batch", "learning_rate", "precision")
    try:
        config = load_config(args.config, {name: getattr(args, name) for name in names})
        train(config, args.data, args.out, args.init, args.workers, args.assets)
    except (TrainingError, CheckpointError, ValueError, OSError) as error:
        print(f"rmgn.train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from the newest checkpoint in {args.out}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
