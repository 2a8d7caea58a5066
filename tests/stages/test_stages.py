"""Losses of whole stages: the set of fake persons, distillation, processes, precision."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from kernels import instance_norm
from rmgn import RMGN, checkpoint
from rmgn.checkpoint import CheckpointError
from rmgn.data.sample import collate
from rmgn.generator import MaskFusion
from rmgn.stages import TryOnStage
from rmgn.task import Task
from rmgn.teacher import ParserBased
from rmgn.trainer import add_gradients
from rmgn.triplets import Taught


def gradients(task: Task) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in task.stage.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("fakes", [1, 3])
def test_gradients_of_a_set_add_up_to_the_joint_one(synthetic: ModuleType, fakes: int) -> None:
    """Reference: equations (2) and (8) for the whole set in one graph, one backward pass."""
    samples = [collate([synthetic.make_sample(2 * k), synthetic.make_sample(2 * k + 1)]) for k in range(2)]
    task = synthetic.make("pf-full", fakes)
    add_gradients(Accelerator(cpu=True), task.stage, task, samples)
    lean = gradients(task)

    task = synthetic.make("pf-full", fakes)
    warp_names = {"guide_features", "guide_flow"}
    objective = torch.zeros(())
    for sample in samples:
        terms = [task.stage(triplet) for triplet in task.triplets(sample)]
        assert len(terms) == fakes
        for name in set(terms[0]) - {"total"}:
            values = torch.stack([t[name] for t in terms])
            warp = name.startswith("warp_") or name in warp_names
            objective = objective + (values.mean() if warp else values.sum()) / len(samples)
    torch.autograd.backward(objective)
    joint = gradients(task)
    assert lean.keys() == joint.keys()
    for name, value in joint.items():
        torch.testing.assert_close(lean[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
def test_two_processes_take_the_step_of_one(synthetic: ModuleType, tmp_path: Path) -> None:
    file = Path(__file__).parent / "synthetic.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(file),
    ]
    subprocess.run([*command, str(tmp_path / "two.pt")], check=True, capture_output=True, timeout=300)
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    one = synthetic.gradients_of_four_batches()
    assert one.keys() == two.keys()
    assert all(value.abs().max() > 0 for name, value in one.items() if name.endswith("weight"))
    # Part by part: smoothness is steep where a flow is nearly smooth, and single weights feel its roundings.
    for part in sorted({".".join(name.split(".")[:3]) for name in one}):
        mine, theirs = (
            torch.cat([gradients[name].flatten() for name in one if name.startswith(part)])
            for gradients in (one, two)
        )
        assert (mine - theirs).norm() < 0.01 * mine.norm() + 1e-5, part


@pytest.mark.parametrize("stage", ["pb-warp", "pb-full", "pf-warp", "pf-full", "distill"])
def test_every_stage_lowers_its_loss_and_only_the_warp_stages_leave_the_generator(
    synthetic: ModuleType, stage: str
) -> None:
    task = synthetic.make(stage)
    triplet = next(task.triplets(collate([synthetic.make_sample(0), synthetic.make_sample(1)])))
    trained = [p for p in task.stage.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    history = []
    for _ in range(15):
        terms = task.stage(triplet)
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        history.append(terms["total"].item())
    assert history[-1] < 0.97 * history[0]
    reached = any(p.grad is not None for p in task.stage.model.generator.parameters())
    assert reached == (not stage.endswith("warp"))


def test_bfloat16_keeps_the_losses(synthetic: ModuleType) -> None:
    """Gradients are compared loosely: that of the smoothness is nearly the sign of tiny offsets."""
    samples = [collate([synthetic.make_sample(0), synthetic.make_sample(1)])]
    losses, found = [], []
    for precision in ("no", "bf16"):
        task = synthetic.make("pf-full")
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        losses.append(add_gradients(accelerator, accelerator.prepare(task.stage), task, samples))
        found.append(torch.cat([g.flatten() for g in gradients(task).values()]))
        AcceleratorState._reset_state(reset_partial_state=True)
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=0.02), name
    assert not torch.equal(found[0], found[1]), "bfloat16 was not used"
    assert F.cosine_similarity(found[0], found[1], dim=0) > 0.7


def test_a_student_equal_to_its_teacher_learns_nothing_from_it(synthetic: ModuleType) -> None:
    torch.manual_seed(0)
    teacher = RMGN(synthetic.TINY)
    student = RMGN(synthetic.TINY)
    student.load_state_dict(teacher.state_dict())
    (triplet,) = Taught(teacher)(collate([synthetic.make_sample(0)]))
    terms = TryOnStage(student.eval(), whole=True, guide_width=synthetic.TINY.pyramid_width)(triplet)
    for name in ("guide_features", "pixel", "composite"):
        assert terms[name].item() == pytest.approx(0, abs=1e-5), name
    assert terms["guide_flow"].item() < 1e-4  # the root of its ε


def test_a_student_of_other_widths_learns_through_adapters(synthetic: ModuleType) -> None:
    torch.manual_seed(0)
    teacher = RMGN(dataclasses.replace(synthetic.TINY, pyramid_width=7))
    student = RMGN(synthetic.TINY)
    (triplet,) = Taught(teacher)(collate([synthetic.make_sample(0)]))
    stage = TryOnStage(student, whole=True, guide_width=7)
    assert len(stage.adapters) == 5
    stage(triplet)["guide_features"].backward()
    assert all(a.weight.grad is not None for a in stage.adapters)
    assert student.warp.person_pyramid.smooth[0].weight.grad is not None


def test_the_better_teacher_is_followed_the_worse_is_not(synthetic: ModuleType) -> None:
    task = synthetic.make("pf-warp")
    triplet = next(task.triplets(collate([synthetic.make_sample(0), synthetic.make_sample(1)])))
    assert triplet.guide is not None
    never = triplet._replace(guide=triplet.guide._replace(error=torch.full((2,), 9.0)))
    always = triplet._replace(guide=triplet.guide._replace(error=torch.zeros(2)))
    assert task.stage(never)["guide_flow"] == 0
    assert task.stage(never)["guide_features"] == 0
    assert task.stage(always)["guide_flow"] > 0


def test_a_network_of_the_other_kind_is_refused(synthetic: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    checkpoint.save(ParserBased(synthetic.TINY), file)
    again = checkpoint.load_as(ParserBased, file)
    assert again.config == ParserBased(synthetic.TINY).config
    with pytest.raises(CheckpointError, match="holds a parser-based network, a parser-free one is needed"):
        checkpoint.load(file)


def test_without_regional_masks_both_maps_count_alike(synthetic: ModuleType) -> None:
    """Column B of table 3: the fused feature is the mean of the two denormalised ones."""
    config = dataclasses.replace(synthetic.TINY, regional_mask=False, residual_gamma=False)
    torch.manual_seed(0)
    fusion = MaskFusion(4, 3, config)
    h, person, garment = torch.randn(1, 4, 8, 8), torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    fused, mask = fusion(h, person, garment)
    n = instance_norm(h)
    of_person = n * fusion.gamma_person(person) + fusion.beta_person(person)
    of_garment = n * fusion.gamma_garment(garment) + fusion.beta_garment(garment)
    torch.testing.assert_close(fused, (of_person + of_garment) / 2)
    assert (mask == 0.5).all()
    assert not any("mask" in name for name in RMGN(config).state_dict())
