"""The fused operations against slow loops, and properties of the flow."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import compose_flow, flow_warp, identity_flow, instance_norm, local_correlation, mask_fusion
from kernels.flow_warp import Padding, PixelRule
from kernels.local_correlation import local_correlation_reference, local_correlation_tiled

SHAPES = [(1, 1), (1, 7), (5, 4), (13, 9)]  # one pixel, one row, even and odd sides


@pytest.mark.parametrize(("height", "width"), SHAPES)
def test_identity_flow_reads_every_pixel_itself(height: int, width: int) -> None:
    features = torch.randn(2, 3, height, width)
    warped = flow_warp(features, identity_flow(height, width).expand(2, -1, -1, -1))
    torch.testing.assert_close(warped, features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rule", ["centres", "corners"])
def test_offset_of_whole_pixels_shifts(rule: PixelRule) -> None:
    """By the centres rule exactly; by the corners rule stretched by (n - 1)/n, the released quirk."""
    features = torch.arange(20.0).view(1, 1, 1, 20)
    offset = torch.zeros(1, 2, 1, 20)
    offset[:, 0] = 3
    moved = flow_warp(features, compose_flow(None, offset, rule))[0, 0, 0]
    position = torch.arange(20.0) + 3
    if rule == "corners":
        position = position * 20 / 19 - 0.5
    torch.testing.assert_close(moved, position.clamp(0, 19), atol=1e-4, rtol=0)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.5, 1.5, 100.0]),
    padding=st.sampled_from(["border", "zeros"]),
)
def test_flow_warp_equals_bilinear_loop(
    height: int, width: int, seed: int, spread: float, padding: Padding
) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, 2, height, width, generator=generator)
    flow = spread * (2 * torch.rand(1, 2, 4, 5, generator=generator) - 1)
    actual = flow_warp(features, flow, padding)[0].numpy()
    assert np.isfinite(actual).all()
    for row in range(4):
        for column in range(5):
            expected = _bilinear(features[0].numpy(), flow[0, :, row, column].tolist(), padding)
            np.testing.assert_allclose(actual[:, row, column], expected, atol=2e-4)


def _bilinear(features: np.ndarray, point: list[float], padding: str) -> np.ndarray:
    _, height, width = features.shape
    x, y = ((point[0] + 1) * width - 1) / 2, ((point[1] + 1) * height - 1) / 2
    if padding == "border":
        x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    total = np.zeros(len(features))
    for j in (int(np.floor(y)), int(np.floor(y)) + 1):
        for i in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= j < height and 0 <= i < width:
                total += features[:, j, i] * (1 - abs(x - i)) * (1 - abs(y - j))
    return total


def test_flow_warp_keeps_coordinates_in_float32_for_half_features() -> None:
    features = torch.randn(1, 4, 8, 2048)
    flow = identity_flow(8, 2048) + 1e-4  # a tenth of a pixel, less than half can tell near 1
    exact = flow_warp(features.half().float(), flow)
    half = flow_warp(features.half(), flow)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), exact, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("radius", [1, 3])
def test_local_correlation_equals_loop(height: int, width: int, radius: int) -> None:
    garment, person = torch.randn(2, 2, 5, height, width).double().unbind()
    actual = local_correlation(garment, person, radius)
    window = range(-radius, radius + 1)
    for channel, (dy, dx) in enumerate((dy, dx) for dy in window for dx in window):
        for y in range(height):
            for x in range(width):
                inside = 0 <= y + dy < height and 0 <= x + dx < width
                product = (garment[:, :, y, x] * person[:, :, y + dy, x + dx]).mean(1) if inside else None
                value = torch.zeros(2).double() if product is None else product
                torch.testing.assert_close(
                    actual[:, channel, y, x], torch.where(value > 0, value, 0.1 * value)
                )


@pytest.mark.parametrize(("height", "width"), [*SHAPES, (17, 8)])
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_local_correlation_in_tiles_has_the_same_values_and_gradient(
    height: int, width: int, radius: int
) -> None:
    maps = torch.randn(2, 2, 5, height, width).double().requires_grad_()
    wanted = local_correlation_reference(maps[0], maps[1], radius)
    actual = local_correlation_tiled(maps[0], maps[1], radius)
    torch.testing.assert_close(actual, wanted)
    up = torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(actual, maps, up), torch.autograd.grad(wanted, maps, up))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_local_correlation_in_tiles_rounds_no_worse_than_the_reference(dtype: torch.dtype) -> None:
    """Features so large that their sum over channels leaves the range of half."""
    maps = (20 + torch.randn(2, 1, 256, 9, 12)).to(dtype)
    exact = local_correlation_reference(maps[0].double(), maps[1].double())
    errors = [
        (f(maps[0], maps[1]).double() - exact).abs().max()
        for f in (local_correlation_reference, local_correlation_tiled)
    ]
    assert errors[1] <= 2 * errors[0]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("height", "width"), [(2, 3), (13, 9)])
def test_mask_fusion_equals_numpy(height: int, width: int, residual: bool) -> None:
    h, gamma_p, beta_p, gamma_i, beta_i = torch.randn(5, 2, 6, height, width).unbind()
    weight, bias = torch.randn(1, 6, 1, 1), torch.randn(1)
    fused, mask = mask_fusion(h, (gamma_p, beta_p), (gamma_i, beta_i), weight, bias, residual)

    x = h.numpy().astype(np.float64)
    n = (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5)
    m = 1 / (1 + np.exp(-((n * weight[0].numpy()).sum(1, keepdims=True) + bias.item())))
    one = 1 if residual else 0
    h_person = n * (one + gamma_p.numpy()) + beta_p.numpy()
    h_garment = n * (one + gamma_i.numpy()) + beta_i.numpy()
    np.testing.assert_allclose(mask.numpy(), m, atol=1e-5)
    np.testing.assert_allclose(fused.numpy(), (1 - m) * h_person + m * h_garment, atol=1e-4)


def test_instance_norm_of_half_uses_float32_statistics() -> None:
    """A plane around 300: its sum and its squares overflow in half."""
    h = (300 + torch.randn(1, 2, 64, 64)).half()
    expected = torch.nn.functional.instance_norm(h.double())
    torch.testing.assert_close(instance_norm(h).double(), expected, atol=4e-3, rtol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_instance_norm_does_not_cancel(layout: torch.memory_format) -> None:
    """Values far from zero beside their deviation, in both layouts."""
    h = (300 + torch.randn(2, 4, 32, 24)).contiguous(memory_format=layout).requires_grad_()
    weights = torch.randn(h.shape)
    exact = h.detach().double().requires_grad_()
    expected = torch.nn.functional.instance_norm(exact)
    normed = instance_norm(h)
    assert normed.is_contiguous(memory_format=layout)
    torch.testing.assert_close(normed.double(), expected, atol=1e-3, rtol=0)
    (normed * weights).sum().backward()  # type: ignore[no-untyped-call]
    (expected * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert h.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(h.grad.double(), exact.grad, atol=1e-3, rtol=0)


def test_instance_norm_of_one_pixel_is_zero() -> None:
    """Up to the rounding of its mean, multiplied by 1/sqrt(epsilon)."""
    assert instance_norm(torch.randn(2, 3, 1, 1)).abs().max() < 1e-4
