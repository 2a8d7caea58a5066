r"""Train the network: on generated people alone, or the paper's way with a parser-based teacher.

    python -m rmgn.train --config pairs-warp-coarse --data layers --out runs/coarse
    python -m rmgn.train --config pairs-warp --data layers --out runs/warp --init runs/coarse/best.safetensors
    python -m rmgn.train --config pairs-full --data layers --out runs/full --init runs/warp/best.safetensors

    python -m rmgn.train --stage pb-warp --data VITON --out runs/pb-warp
    python -m rmgn.train --stage pb-full --data VITON --out runs/pb --init runs/pb-warp/best.safetensors
    python -m rmgn.train --stage pf-warp --data VITON --out runs/pf-warp --teacher runs/pb/best.safetensors
    python -m rmgn.train --stage pf-full --data VITON --out runs/pf --teacher runs/pb/best.safetensors \
        --init runs/pf-warp/best.safetensors
    python -m rmgn.train --stage distill --data VITON --out runs/lite --teacher runs/pf/best.safetensors

Ctrl-C and SIGTERM stop a run of one process behind the step, with a checkpoint. Run the same command again to
go on from the newest checkpoint in --out, exactly as if there had been no stop. `accelerate launch -m
rmgn.train …` spreads a run over several GPUs.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from rmgn import batches, checkpoint
from rmgn.batches import Source
from rmgn.checkpoint import CheckpointError
from rmgn.config import PRESETS, parse_size
from rmgn.data.files import sha256
from rmgn.data.sample import Sample
from rmgn.data.workers import told
from rmgn.look_pool import LookSource, reused_batches
from rmgn.run_folder import RunFolder
from rmgn.speedometer import Speedometer
from rmgn.stages import Losses, Network
from rmgn.stop_request import stop_request
from rmgn.task import Task, TrainingError, first_model, load_teacher, make_optimizer, make_task
from rmgn.training_config import PRECISIONS, STAGES, TrainConfig, load_config
from rmgn.validation import pictures, validate


def train(
    config: TrainConfig,
    data: Path,
    out: Path,
    init: Path | None,
    workers: int,
    assets: Path | None,
    teacher_file: Path | None = None,
    subset: Path | None = None,
) -> None:
    """Run or resume the training that `config` describes."""
    source = batches.open_source(data, config, assets, subset)
    reads = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    begins = sha256(init) if init and init.is_file() else None
    if len(source) <= config.held_out:
        raise TrainingError(f"{data} has {len(source)} samples, of which {config.held_out} would be held out")
    accelerator = Accelerator(mixed_precision=config.precision)
    config = config.in_steps((len(source) - config.held_out) * source.per_item, accelerator.num_processes)
    torch.manual_seed(config.seed)
    run = RunFolder(out, {"size": f"{config.height}x{config.width}"})
    model = first_model(config, init)
    averaging = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    ema = cast(Network, average.module)
    teacher, taught_by = load_teacher(config, teacher_file)
    task = make_task(model, config, teacher)
    stage, adapters = task.stage, task.stage.adapters
    optimizer = make_optimizer(stage, config)
    step, best = 0, math.inf
    resumed = run.newest()
    if resumed is not None:
        state = torch.load(resumed / "state.pt", map_location="cpu", weights_only=True)
        check_same(state, config, taught_by, out)
        if state.get("samples", len(source)) != len(source):
            raise TrainingError(
                f"{out} was begun with {state['samples']} samples and {data} has {len(source)}: others would "
                "be held out. Choose another --out, with --init to go on from these weights"
            )
        if state.get("reads", reads) != reads:
            raise TrainingError(
                f"{out} was begun with other samples than those of {data}, so others would be held out. "
                "Choose another --out, with --init to go on from these weights"
            )
        if begins is not None and state.get("begins", begins) != begins:
            raise TrainingError(f"{out} did not begin with {init}; choose another --out, or leave --init out")
        begins = state.get("begins", begins)
        saved = (
            checkpoint.load_as(type(model), resumed / f"{name}.safetensors") for name in ("model", "ema")
        )
        for network, weights in zip((model, ema), saved, strict=True):
            if weights.config != network.config:
                raise TrainingError(
                    f"{out} was begun by a version with other widths of {config.preset}; choose another --out"
                )
            network.load_state_dict(weights.state_dict())
        adapters.load_state_dict(state.get("adapters", {}))
        average.n_averaged.fill_(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        if accelerator.scaler and state.get("scaler"):
            accelerator.scaler.load_state_dict(state["scaler"])
        step, best = state["step"], state["best"]
        if step >= config.steps and accelerator.is_main_process:
            print(
                f"{out} is at step {step} of {config.steps}: nothing is left to do; --steps takes it further"
            )
    elif accelerator.is_main_process:
        run.write_config(dataclasses.asdict(config))
    stage.train()
    stage, optimizer = accelerator.prepare(stage, optimizer)
    average.to(accelerator.device)
    if teacher is not None:
        teacher.to(accelerator.device)

    def save() -> None:
        if accelerator.is_main_process:
            state = {
                "step": step,
                "best": best,
                "averaged": int(average.n_averaged),
                "optimizer": optimizer.state_dict(),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler else {},
                "samples": len(source),
                "reads": reads,
                "begins": begins,
                "adapters": adapters.state_dict(),
                "teacher": taught_by,
            }
            run.save(step, model, ema, {**state, "config": dataclasses.asdict(config)})

    writer = (
        SummaryWriter(str(out / "tensorboard"), purge_step=step + 1) if accelerator.is_main_process else None
    )
    bar = tqdm(total=config.steps, initial=step, unit="step", disable=not accelerator.is_main_process)
    feed = training_feed(source, config, step, workers, accelerator)
    speed = Speedometer(config.batch * config.accumulate * accelerator.num_processes, accelerator.device)
    saved_at = time.monotonic()
    # One process alone can end by itself; others would wait for it.
    with (
        stop_request()
        if accelerator.num_processes == 1
        else contextlib.nullcontext(lambda: False) as stop_asked
    ):
        while step < config.steps:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * schedule(step, config)
            set_batch_norms(stage, learning=step < config.batch_statistics * config.steps)
            samples = [next(feed) for _ in range(config.accumulate)]
            speed.data_came()
            terms = add_gradients(accelerator, stage, task, samples)
            if not torch.isfinite(terms["total"]):
                file = out / f"not_finite_{step}.pt"
                save_samples(samples, file)
                raise TrainingError(
                    f"the loss is not finite at step {step}; the batch lies in {file}, "
                    "the last good checkpoint is kept. Try a lower learning_rate, or clip."
                )
            if config.clip:
                accelerator.clip_grad_norm_(stage.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)
            step += 1
            bar.update()
            speed.step_done()

            if writer and step % config.log_steps == 0:
                measured = speed.read()
                for name, value in terms.items():
                    writer.add_scalar(f"train/{name}", value.item(), step)
                for name, number in measured.items():
                    writer.add_scalar(f"speed/{name}", number, step)
                bar.set_postfix(status(terms, measured))
            if step % config.validate_steps == 0 or step == config.steps:
                if accelerator.is_main_process:
                    result = validate(ema, source, config, task)
                    if writer:
                        for name, loss in result.items():
                            writer.add_scalar(f"validation/{name}", loss, step)
                        writer.add_image("validation/pictures", pictures(ema, source, config, task), step)
                        writer.flush()
                    tqdm.write(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in result.items()))
                    if result["total"] < best:
                        best = result["total"]
                        run.save_best(ema, step, best)
                accelerator.wait_for_everyone()
                speed.restart()
            if time.monotonic() - saved_at > 60 * config.save_minutes or step == config.steps:
                save()
                saved_at = time.monotonic()
                speed.restart()
            if stop_asked() and step < config.steps:
                save()
                raise KeyboardInterrupt
    bar.close()
    if writer:
        writer.close()


def add_gradients(accelerator: Accelerator, stage: nn.Module, task: Task, samples: list[Sample]) -> Losses:
    """Add the gradients of one step, the mean over batches, to the parameters; returns the mean losses.

    Fake persons of a set pass one after the other, so memory holds one of them; their gradients add up to the
    whole set's. Processes exchange gradients once, at the last. stage: `task.stage`, prepared.
    """
    passes = len(samples) * task.set_size
    sums: Losses = {}
    done = 0
    for sample in samples:
        made = task.triplets(sample)
        for _ in range(task.set_size):
            done += 1
            with contextlib.nullcontext() if done == passes else accelerator.no_sync(stage):
                with accelerator.autocast():
                    terms: Losses = stage(next(made), 1 / task.set_size)
                accelerator.backward(terms["total"] / len(samples))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
    return {name: value / passes for name, value in sums.items()}


def status(terms: Losses, measured: dict[str, float]) -> dict[str, str]:
    """What the progress bar shows."""
    shown = {"total": f"{terms['total'].item():.3f}"}
    if "endpoint_px" in terms:
        shown["px"] = f"{terms['endpoint_px'].item():.2f}"
    shown["samples/s"] = f"{measured['samples_per_second']:.1f}"
    shown["data"] = f"{measured['data_share']:.0%}"
    shown["GB"] = f"{measured['memory_gb']:.1f}"
    return shown


def save_samples(samples: list[Sample], file: Path) -> None:
    """Keep batches for inspection: a list of dictionaries of tensors."""
    content = [{k: v.cpu() for k, v in vars(s).items() if isinstance(v, Tensor)} for s in samples]
    torch.save(content, file)


def schedule(step: int, config: TrainConfig) -> float:
    """What the learning rate is multiplied with: rises, is constant, then falls linearly to zero."""
    start = config.constant * config.steps
    falling = 1 - max(0.0, step - start) / max(1.0, config.steps - start)
    return min(1.0, (step + 1) / max(1, config.warmup)) * falling


def set_batch_norms(stage: nn.Module, learning: bool) -> None:
    """Let batch norms use and learn their batch's statistics, or the running ones as they are in use.

    Statistics of a few samples tell a network more about them than it will know in use; the end of a
    training without them lets it forget to rely on that. Norms of parts that are held stay as they are.
    """
    for module in stage.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(learning and module.weight.requires_grad)


def training_feed(
    source: Source, config: TrainConfig, step: int, workers: int, accelerator: Accelerator
) -> Iterator[Sample]:
    """Batches on the device.

    Of one sequence each process takes every num_processes-th batch: two processes take the steps of one that
    accumulates twice as many.
    """
    start = step * config.accumulate * accelerator.num_processes + accelerator.process_index
    of_run = config.held_out, config.batch, config.seed, start, workers
    here = accelerator.device, accelerator.num_processes
    if config.reuse == 1:
        return batches.training_batches(source, *of_run, *here)
    looks = cast(LookSource, source)  # `open_source` refuses to reuse others
    return reused_batches(looks, *of_run, *here, reuse=config.reuse, size=config.pool)


def check_same(state: dict[str, Any], config: TrainConfig, teacher: str | None, out: Path) -> None:
    """Raise TrainingError where a run would go on under other settings than it began with."""
    free = {"steps", "epochs", "log_steps", "validate_steps", "save_minutes"}
    began = TrainConfig.completed(state["config"]) | {"teacher": state.get("teacher")}
    now = dataclasses.asdict(config) | {"teacher": teacher}
    changed = [name for name, value in now.items() if name not in free and began[name] != value]
    if changed:
        raise TrainingError(
            f"{out} was begun with other values of {', '.join(changed)}; choose another --out"
        )


def what_is_left(out: Path) -> str:
    """What a run that was stopped can go on with."""
    newest = RunFolder(out, {}).newest()
    if newest is None:
        return f"there is no checkpoint in {out} yet: the same command begins anew"
    return f"the same command goes on from step {int(newest.name)}, the newest checkpoint in {out}"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rmgn.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", metavar="NAME", help="named configuration, or a TOML file (that of the stage)"
    )
    parser.add_argument("--stage", choices=STAGES, help="what to train")
    parser.add_argument("--preset", choices=list(PRESETS), help="architecture")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="generated layers, or a data set's folder"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder of the run; resumed where begun"
    )
    parser.add_argument("--init", type=Path, metavar="FILE", help="weights to begin with, .safetensors")
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="network to learn from: pb-full's, for distill any other"
    )
    parser.add_argument("--assets", type=Path, metavar="DIR", help="surroundings for backgrounds of layers")
    parser.add_argument(
        "--subset", type=Path, metavar="FILE", help="persons of a data set to train on, one a line (MPV-Sub)"
    )
    parser.add_argument(
        "--size", type=parse_size, metavar="HxW", help="of the pictures (that of the configuration: 256x192)"
    )
    parser.add_argument("--held-out", type=int, metavar="N", help="samples at the end for validation (32)")
    parser.add_argument("--seed", type=int, help="of weights, order and looks (0)")
    parser.add_argument("--steps", type=int, help="steps of the optimizer")
    parser.add_argument("--batch", type=int, help="samples a step and process")
    parser.add_argument("--accumulate", type=int, help="batches a step and process (1)")
    parser.add_argument("--reuse", type=int, help="batches that draw on each look of generated people (1)")
    parser.add_argument("--fakes", type=int, help="fake persons a sample, 1 to 3")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument(
        "--perceptual", metavar="NAME", help="none, lite0, or the file of torchvision's VGG-19 weights"
    )
    parser.add_argument("--precision", choices=PRECISIONS)
    parser.add_argument("--workers", type=int, default=1, help="processes that decode and draw (1)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    of_network = ("stage", "preset", "fakes", "learning_rate", "perceptual", "precision")
    of_data = ("steps", "batch", "accumulate", "reuse", "held_out", "seed")
    try:
        overrides = {name: getattr(args, name) for name in (*of_network, *of_data)}
        if args.size is not None:
            overrides["height"], overrides["width"] = args.size
        if args.steps is not None:
            overrides["epochs"] = 0
        config = load_config(args.config or args.stage or "pairs-full", overrides)
        train(config, args.data, args.out, args.init, args.workers, args.assets, args.teacher, args.subset)
    except (TrainingError, CheckpointError, ValueError, OSError) as error:
        print(f"rmgn.train: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {what_is_left(args.out)}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
