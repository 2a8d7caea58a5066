"""The whole network can learn what it is shown: eight generated pairs, through the stage `pf-full`."""

from operator import itemgetter
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor

from export.parity import report
from export.write_bundle import write_bundle
from rmgn import RMGN
from rmgn.batches import LayersSource
from rmgn.data.generated import GeneratedPeople
from rmgn.data.sample import Sample
from rmgn.task import make_optimizer, make_task
from rmgn.trainer import add_gradients, schedule
from rmgn.training_config import TrainConfig

SIZE = (128, 96)
LOOKS = 8  # to choose from, of each of the three people


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Of each picture, dB; pictures in [-1, 1]."""
    return -10 * ((pictures - truth) / 2).square().mean(dim=(1, 2, 3)).log10()


def eight_pairs(folder: Path) -> Sample:
    """Pairs without detail finer than the generator's finest feature maps, at half of the picture's size.

    Of many looks of each person the smoothest, and the next of whoever has it.
    """
    source = LayersSource(GeneratedPeople(folder, flip=False, size=SIZE))
    found = []
    for index in range(len(source)):
        looks = []
        for epoch in range(LOOKS):
            item = source.load(index, epoch)
            person = source.batch(source.collate([item]), 0, torch.device("cpu")).person
            blurred = F.interpolate(F.avg_pool2d(person, 2), scale_factor=2, mode="bilinear")
            looks.append((psnr(blurred, person).min().item(), index, epoch))
        found += sorted(looks, reverse=True)[:2]
    firsts, seconds = found[::2], sorted(found[1::2], reverse=True)
    chosen = [*firsts, seconds[0]]
    items = source.collate([source.load(index, epoch) for _, index, epoch in chosen])
    return source.batch(items, 0, torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # minutes of one core, more where it is shared
def test_eight_pairs_are_learnt_and_exported(layers_folder: Path, tmp_path: Path) -> None:
    pairs = eight_pairs(layers_folder)
    assert pairs.other_persons is not None
    config = TrainConfig(
        stage="pf-full", steps=150, warmup=20, learning_rate=3e-3, warp_factor=0.35, beta1=0.9, beta2=0.99
    )
    torch.manual_seed(0)
    model = RMGN(config.network())
    task = make_task(model, config, None)
    task.stage.train()
    optimizer = make_optimizer(task.stage, config)
    accelerator = Accelerator(cpu=True)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * schedule(step, config)
        some = pairs.map(itemgetter(torch.randperm(8)[:4]))
        add_gradients(accelerator, task.stage, task, [some])
        optimizer.step()
        optimizer.zero_grad()

    model.eval()
    with torch.no_grad():
        result = model(pairs.other_persons[:, 0], pairs.garment, pairs.garment_mask)
    reached = psnr(result.tryon, pairs.person)
    assert reached.mean() >= 28, reached.tolist()

    bundle = write_bundle(model, tmp_path / "bundle", *SIZE)
    for k in (0, 5):
        inputs = {"person": pairs.other_persons[k, :1], "garment": pairs.garment[k : k + 1]}
        inputs["garment_mask"] = pairs.garment_mask[k : k + 1]
        rows, skipped = report(model, bundle, [{name: value.numpy() for name, value in inputs.items()}])
        assert rows, skipped
        for row in rows:
            assert row.psnr > 60, row
            assert row.mean_pixels is None or row.mean_pixels < 0.01, row
