"""Losses against slow loops and cases with known answers."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import identity_flow
from rmgn import losses
from rmgn.perceptual import Vgg19


def test_masked_l1_counts_weighted_pixels_alone() -> None:
    picture, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    picture[..., 0, 0], picture[..., 1, 1] = 0.5, 100
    weight = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert losses.masked_l1(picture, target, weight).item() == pytest.approx(0.25)
    assert losses.masked_l1(picture, target, torch.zeros(1, 1, 2, 2)) == 0


def test_second_order_smoothness_equals_loop() -> None:
    field = torch.randn(2, 2, 5, 7).double()
    values = []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        for y in range(1, 4):
            for x in range(1, 6):
                bend = field[:, :, y - dy, x - dx] + field[:, :, y + dy, x + dx] - 2 * field[:, :, y, x]
                values.append(((bend**2 + 1e-6) ** 0.45).sum(dim=1))
    torch.testing.assert_close(losses.second_order_smoothness(field), torch.stack(values).mean())


def test_an_affine_flow_is_perfectly_smooth() -> None:
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    field = torch.stack([2 * x - y, 3 * y + 1])[None].double()
    assert losses.second_order_smoothness(field).item() == pytest.approx(2 * (1e-6) ** 0.45)
    assert losses.total_variation(field).item() == pytest.approx((1 + 3) / 2 + (2 + 0) / 2)


@pytest.mark.parametrize("level", [1, 2, 8])
def test_endpoint_error_of_a_shift_is_its_length_at_every_level(level: int) -> None:
    truth = identity_flow(32, 16)
    flow = identity_flow(32 // level, 16 // level)
    flow = flow + torch.tensor([3 * 2 / 16, 4 * 2 / 32]).view(1, 2, 1, 1)
    visible = torch.zeros(1, 1, 32, 16)
    visible[:, :, 3:21, 5:11] = 1  # borders that cut through a level's pixels
    truth = torch.where(visible > 0, truth, 7.0)  # what is hidden has no truth
    error = losses.flow_endpoint_error(flow, truth, visible).item()
    # Pixels that are half visible average the truth over their visible half.
    assert error == pytest.approx(5, abs=1e-3 if level == 1 else 0.75)
    assert losses.flow_endpoint_error(flow, truth, torch.zeros_like(visible)) == 0


def test_matching_is_the_cross_entropy_of_the_true_place() -> None:
    """Against numpy, for places that lie on centres of pixels and one halfway between two."""
    person, garment = torch.randn(2, 1, 6, 4, 3).unbind()
    flow = identity_flow(4, 3).flip(-1)
    flow[0, 0, 2, 1] += 1 / 3  # half a pixel
    visible = torch.zeros(1, 1, 4, 3)
    visible[0, 0, 1:] = 1
    p, g = (x[0].flatten(1).double().numpy() for x in (person, garment))
    cosines = (p / np.linalg.norm(p, axis=0)).T @ (g / np.linalg.norm(g, axis=0)) / losses.TEMPERATURE
    log_p = cosines - np.log(np.exp(cosines).sum(axis=1, keepdims=True))
    wanted = []
    for y in range(1, 4):
        for x in range(3):
            at = 3 * y + 2 - x
            places = [at, at + 1] if (y, x) == (2, 1) else [at]
            wanted.append(log_p[3 * y + x, places].mean())
    assert losses.matching_loss(person, garment, flow, visible).item() == pytest.approx(
        -np.mean(wanted), rel=1e-4
    )
    assert losses.matching_loss(person, garment, flow, torch.zeros_like(visible)) == 0


def test_distillation_follows_the_teacher_only_where_it_is_better() -> None:
    def network(value: float) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        pyramid = [torch.full((2, 4, 2**n, 2**n), value) for n in range(5)]
        flows = [torch.full((2, 2, 2**n, 2**n), value) for n in range(5)]
        return pyramid, flows

    student, teacher = network(0.0), network(3.0)
    result = losses.adjustable_distillation(
        student, teacher, student_error=torch.tensor([1.0, 1.0]), teacher_error=torch.tensor([0.5, 2.0])
    )
    assert result.adopted == 0.5
    # Means over the one sample that follows, not over both: that fewer follow does not weaken the lesson.
    assert result.features.item() == pytest.approx(sum((5 - n) * 0.04 * 9 for n in range(5)))
    assert result.flow.item() == pytest.approx(sum((n + 1) * 3 * np.sqrt(2) for n in (2, 3, 4)), rel=1e-5)
    nobody = losses.adjustable_distillation(student, teacher, torch.zeros(2), torch.ones(2))
    assert nobody.features == nobody.flow == nobody.adopted == 0


def test_warp_loss_weighs_levels_and_is_zero_for_the_truth() -> None:
    worn, mask = torch.rand(1, 3, 32, 32) * 2 - 1, torch.ones(1, 1, 32, 32)
    sizes = [4, 8, 16]
    exact = [
        (torch.nn.functional.interpolate(worn, (s, s), mode="area"), torch.ones(1, 1, s, s)) for s in sizes
    ]
    offsets = [torch.zeros(1, 2, s, s) for s in sizes]
    flows = [identity_flow(s, s) for s in sizes]
    best = losses.warp_loss(exact, flows, offsets, worn, mask)
    assert best.pixel == best.mask == best.variation == best.perceptual == 0
    smoothest = (1 + 2 + 3) * losses.SMOOTHNESS * 2 * (1e-6) ** 0.45
    assert best.smoothness.item() == pytest.approx(smoothest, rel=1e-3)
    bent = losses.warp_loss(exact, [flow.square() for flow in flows], offsets, worn, mask)
    assert bent.smoothness > 2 * best.smoothness, "it is the flow that shall be smooth"
    assert bent.variation == 0

    off = [(garment + 0.1, garment_mask) for garment, garment_mask in exact]
    assert losses.warp_loss(off, flows, offsets, worn, mask).pixel.item() == pytest.approx(0.6, rel=1e-4)
    assert losses.warp_loss(off, flows, offsets, worn, mask).total > best.total


def test_losses_have_finite_gradients_at_zero_error() -> None:
    flow = identity_flow(8, 8).requires_grad_()
    loss = losses.flow_endpoint_error(flow, identity_flow(8, 8), torch.ones(1, 1, 8, 8))
    loss = loss + losses.second_order_smoothness(flow) + losses.total_variation(flow)
    (gradient,) = torch.autograd.grad(loss, flow)
    assert gradient.isfinite().all()


def test_skin_counts_only_what_the_true_garment_leaves_bare() -> None:
    before, worn = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    before[..., :3], worn[..., 2:] = 1, 1
    skin = losses.exposed_skin(before, worn)
    assert skin[0, 0].tolist() == [[1, 1, 0, 0]] * 4
    rendered, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    rendered[..., 0], rendered[..., 3] = 0.5, 9
    total = sum(
        abs(float(rendered[0, c, y, x]) - float(target[0, c, y, x])) * float(skin[0, 0, y, x])
        for c in range(3)
        for y in range(4)
        for x in range(4)
    )
    assert losses.skin_loss(rendered, target, skin).item() == pytest.approx(total / (3 * 4 * 4))


def test_the_palettes_loss_is_of_means_under_its_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(2, 3, 2, 3, generator=generator)
    target = torch.rand(2, 3, 8, 12, generator=generator)
    skin = (torch.rand(2, 1, 8, 12, generator=generator) > 0.5).float()
    total = 0.0
    for b, y, x in itertools.product(range(2), range(2), range(3)):
        block = (b, slice(None), slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
        there = skin[block].mean()
        total += float(((colours[b, :, y, x] - target[block].mean(dim=(1, 2))) * there).abs().sum())
    assert losses.palette_loss(colours, target, skin).item() == pytest.approx(
        total / (2 * 3 * 2 * 3), rel=1e-5
    )


def test_the_person_is_kept_where_the_answer_shows_her_too() -> None:
    """Noise of a camera is no difference; a garment's edge is one, for two pixels more than it reaches."""
    generator = torch.Generator().manual_seed(0)
    person = torch.zeros(1, 3, 12, 20) + 0.02 * torch.randn(1, 3, 12, 20, generator=generator)
    target = 0.02 * torch.randn(1, 3, 12, 20, generator=generator)
    target[..., 10:] += 0.8
    kept = losses.agreement(person, target)
    assert kept[0, 0].tolist() == [[1.0] * 8 + [0.0] * 12] * 12
    assert losses.preserve_loss(kept, losses.agreement(person, target)) == 0
    assert losses.preserve_loss(
        torch.zeros_like(kept), losses.agreement(person, target)
    ).item() == pytest.approx(8 / 20)


def test_generator_loss_equals_its_sum_of_means() -> None:
    tryon, rendered, target = (torch.rand(2, 3, 4, 5) * 2 - 1 for _ in range(3))
    mask, worn, skin = torch.rand(2, 1, 4, 5), (torch.rand(2, 1, 4, 5) > 0.5).float(), torch.rand(2, 1, 4, 5)

    def perceptual(picture: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (picture - other).square().mean()

    terms = losses.generator_loss((tryon, rendered, mask), target, worn, skin, perceptual)  # type: ignore[arg-type]
    assert terms.pixel.item() == pytest.approx(5 * np.abs((tryon - target).numpy()).mean(), rel=1e-5)
    assert terms.composite.item() == pytest.approx(np.abs((mask - worn).numpy()).mean(), rel=1e-5)
    outside = np.broadcast_to((1 - worn).numpy(), rendered.shape) > 0
    off = np.abs((rendered - target).numpy())[outside].mean()
    assert terms.rendered.item() == pytest.approx(off, rel=1e-5)
    difference = ((rendered - target) * skin).numpy()
    bare = 30 * np.abs(difference).mean() + 0.4 * (difference**2).mean()
    assert terms.skin.item() == pytest.approx(bare, rel=1e-5)
    assert terms.perceptual.item() == pytest.approx(0.2 * ((tryon - target) ** 2).mean().item(), rel=1e-5)
    assert terms.total.item() == pytest.approx(sum(t.item() for t in terms[1:]), rel=1e-5)
    heavier = losses.generator_loss((tryon, rendered, mask), target, worn, composite_weight=6.0)
    without = losses.generator_loss((tryon, rendered, mask), target, worn)
    torch.testing.assert_close(heavier.composite, 6 * without.composite)
    torch.testing.assert_close(heavier.total - without.total, 5 * without.composite)
    assert without.skin == without.perceptual == 0
    surer = losses.generator_loss((tryon, rendered, mask), target, worn, composite_entropy=0.3)
    p = 1e-4 + (1 - 2e-4) * mask.double().numpy()
    wanted = without.composite.item() - 0.3 * np.where(worn.numpy() > 0, np.log(p), np.log(1 - p)).mean()
    assert surer.composite.item() == pytest.approx(wanted, rel=1e-5)


def test_cross_entropy_moves_a_mask_that_is_sure_and_wrong() -> None:
    """Where ‖m - M‖ does not; and neither is infinite or too steep for half precision there."""

    def slope(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], log_odds: float) -> float:
        logit = torch.full((1, 1, 4, 4), log_odds, requires_grad=True)
        loss(torch.sigmoid(logit), torch.ones(1, 1, 4, 4)).backward()  # type: ignore[no-untyped-call]
        return float(logit.grad.abs().sum())  # type: ignore[union-attr]

    assert slope(losses.composite_loss, -7.0) < 0.002
    assert slope(losses.composite_entropy_loss, -7.0) > 0.85
    assert slope(losses.composite_entropy_loss, -12.0) > 0.05
    assert torch.isfinite(losses.composite_entropy_loss(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)))


def test_vgg_maps_are_those_behind_the_first_convolution_of_each_block(tmp_path: Path) -> None:
    """Against the network written out: ImageNet's normalisation, 3x3 convolutions, ReLU, halving."""
    generator = torch.Generator().manual_seed(0)
    blocks = [[64, 64], [128, 128], [256] * 4, [512] * 4, [512]]
    state: dict[str, Tensor] = {}
    index, channels = 0, 3
    layers: list[list[tuple[Tensor, Tensor]]] = []
    for block in blocks:
        layers.append([])
        for width in block:
            weight = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
            bias = torch.randn(width, generator=generator) * 0.1
            state |= {f"features.{index}.weight": weight, f"features.{index}.bias": bias}
            layers[-1].append((weight, bias))
            channels, index = width, index + 2  # a ReLU between
        index += 1  # the pooling
    torch.save({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg19.pth")
    vgg = Vgg19(tmp_path / "vgg19.pth")
    picture = torch.rand(2, 3, 32, 48, generator=generator) * 2 - 1
    x = (picture + 1) / 2
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    maps = []
    for number, block_layers in enumerate(layers):
        x = F.max_pool2d(x, 2) if number else x
        for depth, (weight, bias) in enumerate(block_layers):
            x = F.conv2d(x, weight, bias, padding=1).relu()
            if depth == 0:
                maps.append(x)
    seen = vgg.features(picture)
    assert len(seen) == len(maps) == 5
    for found, expected in zip(seen, maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    other = picture.flip(3)
    distance = sum(
        w * (a - b).abs().mean()
        for w, a, b in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), seen, vgg.features(other), strict=True)
    )
    torch.testing.assert_close(vgg(picture, other), distance, rtol=1e-4, atol=1e-4)
    assert set(vgg.state_dict()) == {name.replace("features", "layers") for name in state}
