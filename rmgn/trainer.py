"""A training run: its networks, its optimizer, where it stands, and its steps."""

import contextlib
import dataclasses
import math
import os
import signal
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from engines.bundle import sha256
from rmgn import batches, checkpoint
from rmgn.batches import Source
from rmgn.data.sample import Sample
from rmgn.look_pool import LookSource, reused_batches
from rmgn.run_folder import WEIGHTS, RunFolder
from rmgn.speedometer import Speedometer
from rmgn.stages import Losses, Network
from rmgn.stop_request import stop_request
from rmgn.task import Task, TrainingError, first_model, load_teacher, make_optimizer, make_task
from rmgn.training_config import TrainConfig
from rmgn.validation import pictures, validate


def has_accelerator() -> bool:
    """Whether PyTorch has a GPU or the like here. Without one, several processes have to be told so."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def check_processes(working: int) -> None:
    """Raise TrainingError where more processes were launched than work together."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != working:
        raise TrainingError(
            f"{launched} processes were launched and {working} would train, each on its own: "
            "see several GPUs or machines in docs/training.md"
        )


class Trainer:
    """Trains what `config` describes on `source`; goes on where the run folder `out` has a checkpoint.

    init: weights to begin with. teacher_file: network to learn from, where the stage wants one.
    Raises TrainingError, CheckpointError and OSError for what the user can mend.
    """

    def __init__(
        self, config: TrainConfig, source: Source, out: Path, init: Path | None, teacher_file: Path | None
    ) -> None:
        if config.precision == "fp16" and not has_accelerator():  # Accelerate would train in float32
            raise TrainingError("precision fp16 is for GPUs: on a CPU take bf16, or no for float32")
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=not has_accelerator())
        check_processes(self.accelerator.num_processes)
        if self.accelerator.num_processes > 1:  # one that waits for others hears Python's handlers too late
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        samples_an_epoch = (len(source) - config.held_out) * source.per_item
        self.config = config = config.in_steps(samples_an_epoch, self.accelerator.num_processes)
        self.source, self.out = source, out
        torch.manual_seed(config.seed)
        self.folder = RunFolder(out, {"size": f"{config.height}x{config.width}"})
        self.model = first_model(config, init)
        averaging = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        teacher, self.taught_by = load_teacher(config, teacher_file)
        self.task = make_task(self.model, config, teacher)
        self.adapters = self.task.stage.adapters
        self.optimizer = make_optimizer(self.task.stage, config)
        self.step, self.best = 0, math.inf
        # What tells these samples and first weights from others, for runs that go on.
        self.reads = source.reads
        self.begins = sha256(init) if init and init.is_file() else None
        resumed = self.folder.newest()
        if resumed is not None:
            self._resume(resumed, init)
        elif self.is_main:
            self.folder.write_config(dataclasses.asdict(config))
        self._check_others()
        self.task.stage.train()
        self.stage, self.optimizer = self.accelerator.prepare(self.task.stage, self.optimizer)
        self.average.to(self.accelerator.device)
        if teacher is not None:
            teacher.to(self.accelerator.device)
        self.writer: SummaryWriter | None = None  # since `run` begins

    @property
    def is_main(self) -> bool:
        """Whether this process, of several, writes and prints."""
        return bool(self.accelerator.is_main_process)

    @property
    def ema(self) -> Network:
        """The averaged weights, which are validated and kept."""
        return cast(Network, self.average.module)

    def run(self, workers: int) -> None:
        """Train to the last step. Raises KeyboardInterrupt, behind a checkpoint, where asked to stop."""
        config, accelerator = self.config, self.accelerator
        if self.step >= config.steps and self.is_main:
            print(
                f"{self.out} is at step {self.step} of {config.steps}: nothing is left to do; "
                "--steps takes it further"
            )
        if self.is_main:
            self.writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)
        if accelerator.num_processes > 1 and self.is_main:
            samples = config.batch * config.accumulate * accelerator.num_processes
            print(f"{accelerator.num_processes} processes, {samples} samples per step")
        feed = training_feed(self.source, config, self.step, workers, accelerator)
        speed = Speedometer(config.batch * config.accumulate * accelerator.num_processes, accelerator.device)
        saved_at = time.monotonic()
        # One process alone can end by itself; others would wait for it.
        alone = accelerator.num_processes == 1
        # Its workers wait for it, and would for ever if an error left it open.
        with (
            contextlib.closing(feed),
            tqdm(total=config.steps, initial=self.step, unit="step", disable=not self.is_main) as bar,
            stop_request() if alone else contextlib.nullcontext(lambda: False) as stop_asked,
        ):
            while self.step < config.steps:
                samples = [next(feed) for _ in range(config.accumulate)]
                speed.data_came()
                terms = self._take_step(samples)
                bar.update()
                speed.step_done()
                if self.writer and self.step % config.log_steps == 0:
                    measured = speed.read()
                    self._log("train", terms)
                    self._log("speed", measured)
                    bar.set_postfix(status(terms, measured))
                if self.step % config.validate_steps == 0 or self.step == config.steps:
                    if self.is_main:
                        self._validate()
                    accelerator.wait_for_everyone()
                    speed.restart()
                if time.monotonic() - saved_at > 60 * config.save_minutes or self.step == config.steps:
                    self._save()
                    saved_at = time.monotonic()
                    speed.restart()
                if stop_asked() and self.step < config.steps:
                    self._save()
                    raise KeyboardInterrupt
        if self.writer:
            self.writer.close()
        accelerator.wait_for_everyone()  # until what was written last is there for all

    def _take_step(self, samples: list[Sample]) -> Losses:
        """One step of the optimizer on these batches; returns their mean losses."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * schedule(self.step, config)
        set_batch_norms(self.stage, learning=self.step < config.batch_statistics * config.steps)
        terms = add_gradients(self.accelerator, self.stage, self.task, samples)
        if not torch.isfinite(terms["total"]):
            file = self.out / f"not_finite_{self.step}.pt"
            save_samples(samples, file)
            raise TrainingError(
                f"the loss is not finite at step {self.step}; the batch lies in {file}, "
                "the last good checkpoint is kept. Try a lower learning_rate, or clip."
            )
        norm = self.accelerator.clip_grad_norm_(self.stage.parameters(), config.clip or math.inf)
        # One number for all processes: where another's loss is not finite, this one must not step either.
        # With half precision the scaler leaves such a step out.
        if norm is not None and not self.accelerator.scaler and not torch.isfinite(norm):
            raise TrainingError(
                f"the gradients are not finite at step {self.step}; the last good checkpoint is kept. "
                "Try a lower learning_rate."
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.model)
        self.step += 1
        return terms

    def _validate(self) -> None:
        """Losses on what is held out, told and logged; the best weights are kept."""
        result = validate(self.ema, self.source, self.config, self.task)
        self._log("validation", result)
        if self.writer:
            shown = pictures(self.ema, self.source, self.config, self.task)
            self.writer.add_image("validation/pictures", shown, self.step)
            self.writer.flush()
        tqdm.write(f"step {self.step}: " + ", ".join(f"{k} {v:.4f}" for k, v in result.items()))
        if result["total"] < self.best:
            self.best = result["total"]
            self.folder.save_best(self.ema, self.step, self.best)

    def _log(self, group: str, values: Mapping[str, Any]) -> None:
        """A group of this step's numbers, by name."""
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name}", float(value), self.step)

    def _save(self) -> None:
        """Write a checkpoint to go on from."""
        if not self.is_main:
            return
        state = {
            "step": self.step,
            "best": self.best,
            "averaged": int(self.average.n_averaged),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "samples": len(self.source),
            "reads": self.reads[0],
            "processes": self.accelerator.num_processes,
            "begins": self.begins,
            "adapters": self.adapters.state_dict(),
            "teacher": self.taught_by,
            "config": dataclasses.asdict(self.config),
        }
        self.folder.save(self.step, self.model, self.ema, state)

    def _check_others(self) -> None:
        """Raise TrainingError where other processes, on machines of their own, have another run or data."""
        states = gather_object([(self.step, self.reads[0])])
        steps, reads = (set(each) for each in zip(*states, strict=True))
        if len(steps) > 1:
            raise TrainingError(
                f"{self.out} is at step {self.step} for this process, and at another for others: machines "
                "need one --out, on a drive that they share"
            )
        if len(reads) > 1:
            raise TrainingError("--data or --assets hold other samples for other processes: copy them anew")

    def _resume(self, resumed: Path, init: Path | None) -> None:
        """Take everything up from a checkpoint's folder."""
        out, count = self.out, len(self.source)
        with reading(resumed):
            state = torch.load(resumed / "state.pt", map_location="cpu", weights_only=True)
        check_same(state, self.config, self.taught_by, out)
        with reading(resumed):
            kept = [checkpoint.load_as(type(self.model), resumed / f"{name}.safetensors") for name in WEIGHTS]
        if state.get("samples", count) != count:
            raise TrainingError(
                f"{out} was begun with {state['samples']} samples and --data has {count}: others would "
                "be held out. Choose another --out, with --init to go on from these weights"
            )
        if state.get("reads", self.reads[0]) not in self.reads:
            raise TrainingError(
                f"{out} was begun with other samples than those of --data, or with other --assets, so others "
                "would be held out. Choose another --out, with --init to go on from these weights"
            )
        processes = self.accelerator.num_processes
        if state.get("processes", processes) != processes:
            raise TrainingError(
                f"{out} was begun with {state['processes']} processes, and a step is of all their samples: "
                f"go on with as many, not {processes}"
            )
        if self.begins is not None and state.get("begins", self.begins) != self.begins:
            raise TrainingError(f"{out} did not begin with {init}; choose another --out, or leave --init out")
        self.begins = state.get("begins", self.begins)
        for network, weights in zip((self.model, self.ema), kept, strict=True):
            if weights.config != network.config:
                raise TrainingError(
                    f"{out} was begun by a version with another network {self.config.preset}; choose another "
                    f"--out, with --init {out / 'last.safetensors'} to go on from its weights"
                )
            network.load_state_dict(weights.state_dict())
        self.adapters.load_state_dict(state.get("adapters", {}))
        self.average.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.best = state["step"], state["best"]


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
) -> Generator[Sample, None, None]:
    """Batches on the device. Closed, it ends its workers.

    Of one sequence each process takes every num_processes-th batch: two processes take the steps of one that
    accumulates twice as many.
    """
    shared: dict[str, Any] = {
        "batch": config.batch,
        "seed": config.seed,
        "start": step * config.accumulate * accelerator.num_processes + accelerator.process_index,
        "workers": workers,
        "device": accelerator.device,
        "stride": accelerator.num_processes,
    }
    if config.reuse == 1:
        return batches.training_batches(source, config.held_out, **shared)
    looks = cast(LookSource, source)  # `open_source` refuses to reuse others
    return reused_batches(looks, config.held_out, reuse=config.reuse, size=config.pool, **shared)


@contextlib.contextmanager
def reading(resumed: Path) -> Iterator[None]:
    """Raise TrainingError where a checkpoint's folder cannot be read."""
    try:
        yield
    except Exception as error:  # damaged files make torch's readers stumble in every way
        raise TrainingError(
            f"the checkpoint {resumed} is damaged ({str(error) or type(error).__name__}): begin anew in "
            f"another --out, with --init {resumed.parents[1] / 'last.safetensors'} to go on from its weights"
        ) from error


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
