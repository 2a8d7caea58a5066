"""The warp module's losses against their published formulas, with the weights written out as numbers."""

from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import flow_warp
from rmgn import RMGN, losses, warp
from rmgn.stages import TryOnStage
from rmgn.triplets import Guide, Triplet
from rmgn.warp import Flows

HEIGHT, WIDTH = 128, 96


@pytest.fixture
def model(synthetic: ModuleType) -> RMGN:
    """Its flows are no identities, as they are in the beginning."""
    torch.manual_seed(0)
    made = RMGN(synthetic.TINY).eval()
    for head in [*made.warp.flow_net.match, *made.warp.flow_net.refine]:
        torch.nn.init.normal_(head[-1].weight, std=0.3)
    return made


@pytest.fixture
def triplet() -> Triplet:
    random = torch.Generator().manual_seed(1)

    def noise(channels: int) -> Tensor:
        return torch.rand(3, channels, HEIGHT, WIDTH, generator=random) * 2 - 1

    mask = (noise(1) > -0.2).float()
    worn_mask = (F.avg_pool2d(noise(1), 15, 1, 7) > 0).float()
    target = noise(3)
    return Triplet(noise(3), noise(3), mask, target, target * worn_mask, worn_mask, worn_mask)


def flows_of(model: RMGN, triplet: Triplet) -> Flows:
    with torch.no_grad():
        return model.estimate_flow(triplet.person, model.encode_garment(triplet.garment, triplet.mask))


def sampled(picture: Tensor, flow: Tensor, padding: str) -> Tensor:
    grid = flow.permute(0, 2, 3, 1)
    return F.grid_sample(picture, grid, padding_mode=padding, align_corners=False)


def smoothness(flow: Tensor) -> Tensor:
    """Equation (1), by convolution with second differences."""
    kernels = torch.zeros(4, 1, 3, 3)
    kernels[:, 0, 1, 1] = -2
    for kernel, (before, after) in zip(
        kernels, [((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0))], strict=True
    ):
        kernel[0][before] = kernel[0][after] = 1
    components = [(F.conv2d(flow[:, c : c + 1], kernels) ** 2 + 1e-6).pow(0.45).mean() for c in (0, 1)]
    return torch.stack(components).sum()


def summed(values: list[Tensor]) -> float:
    return float(torch.stack(values).sum())


def test_the_warp_losses_are_the_published_ones(model: RMGN, triplet: Triplet) -> None:
    flows = flows_of(model, triplet)
    pixel, mask, smooth, variation = [], [], [], []
    for n, (flow, offset) in enumerate(zip(flows.flows, flows.offsets, strict=True)):
        size = flow.shape[-2:]
        garment, garment_mask, worn, worn_mask = (
            F.interpolate(x, size, mode="area")
            for x in (triplet.garment * triplet.mask, triplet.mask, triplet.worn, triplet.worn_mask)
        )
        pixel.append((n + 1) * (sampled(garment, flow, "border") - worn).abs().mean())
        mask.append((n + 1) * 2.0 * (sampled(garment_mask, flow, "zeros") - worn_mask).abs().mean())
        smooth.append((n + 1) * 6.0 * smoothness(flow))
        steps = [head.diff(dim=d).abs().mean() for head in (offset[:, :2], offset[:, 2:]) for d in (2, 3)]
        variation.append((n + 1) * 0.01 * torch.stack(steps).sum() / 2)
    with torch.no_grad():
        terms = TryOnStage(model, whole=False)(triplet)
    expected = {
        "warp_pixel": summed(pixel),
        "warp_mask": summed(mask),
        "warp_smoothness": summed(smooth),
        "warp_variation": summed(variation),
    }
    assert {name: float(terms[name]) for name in expected} == pytest.approx(expected, rel=1e-4)
    assert float(terms["total"]) == pytest.approx(sum(expected.values()), rel=1e-4)


@pytest.mark.parametrize("followed", [(True, False, True), (True, True, True)])
def test_distillation_is_the_published_one(model: RMGN, triplet: Triplet, followed: tuple[bool, ...]) -> None:
    """Where the teacher's garment is nearer to the truth; everywhere, where nobody knows the truth."""
    flows = flows_of(model, triplet)
    torch.manual_seed(2)
    taught = [flow + 0.1 * torch.randn_like(flow) for flow in flows.flows]
    features = [feature + torch.randn_like(feature) for feature in flows.person]
    garment = sampled(triplet.garment * triplet.mask, flows.flows[-1], "border")
    own = (garment - triplet.worn).abs().mean((1, 2, 3))
    use = torch.tensor(followed).float()
    error = None if all(followed) else own + 0.1 - 0.2 * use
    with torch.no_grad():
        stage = TryOnStage(model, whole=False, guide_width=model.config.pyramid_width)
        terms = stage(triplet._replace(guide=Guide(tuple(features), tuple(taught), error)))
    feature_terms, flow_terms = [], []
    for n in range(5):
        squares = (features[n] - flows.person[n]).square().mean((1, 2, 3))
        feature_terms.append((5 - n) * 0.04 * (squares * use).sum() / use.sum())
        if n >= 2:
            lengths = (taught[n] - flows.flows[n]).norm(dim=1).mean((1, 2))
            flow_terms.append((n + 1) * (lengths * use).sum() / use.sum())
    assert float(terms["guide_features"]) == pytest.approx(summed(feature_terms), rel=1e-4)
    assert float(terms["guide_flow"]) == pytest.approx(summed(flow_terms), rel=1e-4)


def test_a_known_flow_is_learnt_at_every_level_and_smoothed_less(model: RMGN, triplet: Triplet) -> None:
    flows = flows_of(model, triplet)
    shift = torch.tensor([0.25, -0.125]).view(1, 2, 1, 1)  # of half sides, everywhere
    truth = F.interpolate(flows.flows[0], (HEIGHT, WIDTH), mode="nearest") + shift
    visible = torch.ones_like(triplet.mask)
    with torch.no_grad():
        terms = TryOnStage(model, whole=False, true_flow=True)(triplet._replace(flow=truth, visible=visible))
    errors = []
    for n, flow in enumerate(flows.flows):
        under = F.avg_pool2d(truth, HEIGHT // flow.shape[-2])
        across, down = (flow - under).unbind(dim=1)
        errors.append((n + 1) * torch.hypot(across * WIDTH / 2, down * HEIGHT / 2).mean())
    assert float(errors[0]) == pytest.approx((0.25**2 * 48**2 + 0.125**2 * 64**2) ** 0.5, rel=1e-4)
    assert float(terms["flow"]) == pytest.approx(summed(errors), rel=1e-4)
    with torch.no_grad():
        garment_pyramid = model.encode_garment(triplet.garment, triplet.mask)
        matching = [
            losses.matching_loss(person, garment, truth, visible)
            for person, garment in zip(flows.person, garment_pyramid, strict=True)
            if person.shape[-2] * person.shape[-1] <= 32 * 32
        ]
    assert len(matching) == 4, "all but the finest of 64x48"
    assert float(terms["matching"]) == pytest.approx(20 * summed(matching), rel=1e-4)
    smooth = [(n + 1) * smoothness(flow) for n, flow in enumerate(flows.flows)]
    assert float(terms["warp_smoothness"]) == pytest.approx(summed(smooth), rel=1e-4)


def test_each_level_matches_on_a_flow_that_it_does_not_train(
    model: RMGN, triplet: Triplet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first warp of a level takes the coarser flow as given; the second trains the level's own."""
    trained: list[bool] = []

    def noted(features: Tensor, flow: Tensor) -> Tensor:
        trained.append(flow.requires_grad)
        return flow_warp(features, flow)

    monkeypatch.setattr(warp, "flow_warp", noted)
    model.train()
    model.estimate_flow(triplet.person, model.encode_garment(triplet.garment, triplet.mask))
    assert trained == [True, *4 * [False, True]], "the coarsest level has nothing to begin with"
