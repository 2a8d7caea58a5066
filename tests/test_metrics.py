"""Measures against independent references and cases known by hand."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

pytest.importorskip("torchmetrics", reason="evaluation needs torchmetrics (pip install 'rmgn[evaluate]')")

from kernels import identity_flow
from rmgn import metrics
from rmgn.generated_trials import skin_tone
from rmgn.metrics import Lpips, MetricError, SetComparison
from rmgn.perceptual import EfficientNetLite0


@pytest.fixture(scope="module")
def lite0() -> EfficientNetLite0:
    return EfficientNetLite0()


def picture(seed: int, n: int = 2, size: int = 48) -> Tensor:
    """Smooth coloured noise, uint8."""
    coarse = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (size, size + 16), mode="bicubic")
    return (smooth * 60 + 127).clamp(0, 255).byte()


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. (2004), equation 13, with Gaussian windows, written with SciPy."""

    def mean(v: np.ndarray) -> np.ndarray:
        return np.asarray(ndimage.gaussian_filter(v, (0, 1.5, 1.5), mode="mirror", truncate=3.5))

    x, y = x.astype(np.float64) / 255, y.astype(np.float64) / 255
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(np.mean((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))))


def test_ssim_is_the_published_formula() -> None:
    x = picture(0)
    y = (
        (x.float() + 12 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))
        .clamp(0, 255)
        .byte()
    )
    wanted = [reference_ssim(a.numpy(), b.numpy()) for a, b in zip(x, y, strict=True)]
    assert 0.3 < wanted[0] < 0.97
    torch.testing.assert_close(metrics.ssim(x, y), torch.tensor(wanted), atol=2e-5, rtol=0)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(2))


def test_psnr_of_a_constant_difference() -> None:
    x = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    wanted = 20 * math.log10(255 / 16)
    assert metrics.psnr(x, x + 16).item() == pytest.approx(wanted, abs=1e-4)
    assert metrics.psnr(x, x).item() == metrics.IDENTICAL_DB


@pytest.mark.parametrize(("height", "width"), [(256, 192), (128, 96), (512, 384)])
def test_flow_error_is_in_pixels_of_256x192(height: int, width: int) -> None:
    truth = identity_flow(height, width).repeat(2, 1, 1, 1)
    offset = torch.tensor([3 * 2 / 192, 4 * 2 / 256]).view(1, 2, 1, 1)  # 3 right, 4 down: 5 away
    visible = torch.zeros(2, 1, height, width)
    visible[0, :, : height // 2] = 1
    wrong = truth + torch.where(visible > 0, offset, torch.tensor(7.0))
    error = metrics.endpoint_error(wrong, truth, visible)
    assert error[0].item() == pytest.approx(5, abs=1e-3)
    assert error[1].isnan(), "nothing is visible there"


def test_patch_distance_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    x = [torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 6, 2, 2, generator=generator)]
    y = [torch.randn(v.shape, generator=generator) for v in x]
    heads = [torch.rand(3, generator=generator), torch.rand(6, generator=generator)]
    wanted = torch.zeros(2)
    for b in range(2):
        for u, v, w in zip(x, y, heads, strict=True):
            places = [(i, j) for i in range(u.shape[2]) for j in range(u.shape[3])]
            for i, j in places:
                a, c = u[b, :, i, j], v[b, :, i, j]
                wanted[b] += (w * (a / a.norm() - c / c.norm()) ** 2).sum() / len(places)
    torch.testing.assert_close(metrics.patch_distance(x, y, heads), wanted)
    # Without heads it is the mean of 1 - cos.
    cos = [
        torch.nn.functional.cosine_similarity(u, v, dim=1).mean(dim=(1, 2)) for u, v in zip(x, y, strict=True)
    ]
    torch.testing.assert_close(metrics.patch_distance(x, y), 1 - torch.stack(cos).mean(dim=0))


def test_lpips_lite0_orders_distortions(lite0: EfficientNetLite0) -> None:
    measure = metrics.LpipsLite0(lite0)
    x = picture(2, size=64)
    blurred = torch.nn.functional.avg_pool2d(x.float(), 3, 1, 1).byte()
    wanted = measure.features(x)
    same, near, far = (
        measure.distance(measure.features(y), wanted) for y in (x, blurred, picture(3, size=64))
    )
    assert same.abs().max() < 1e-5
    assert (near > 0.005).all()
    assert (near < far).all()


def test_networks_see_pictures_from_minus_one_to_one(lite0: EfficientNetLite0) -> None:
    """As EfficientNet-Lite0 was trained, and for the set's features without a pattern that reducing makes."""
    for level in (0, 128, 255):
        grey = torch.full((1, 3, 64, 64), level, dtype=torch.uint8)
        wanted = lite0.features(torch.full((1, 3, 64, 64), level / 127.5 - 1))
        for found, feature in zip(metrics.LpipsLite0(lite0).features(grey), wanted, strict=True):
            torch.testing.assert_close(found, feature, rtol=1e-3, atol=1e-3)
    noise = torch.randn(1, 3, 672, 672, generator=torch.Generator().manual_seed(5))
    large = (noise * 60 + 127).clamp(0, 255).byte()
    mean = torch.nn.functional.avg_pool2d(large.float(), 3).round().byte()
    found, of_means, of_every_third = map(metrics.Lite0Features(lite0), (large, mean, large[..., 1::3, 1::3]))
    alike = torch.nn.functional.cosine_similarity
    assert alike(found, of_means).item() > 0.5 * (1 + alike(found, of_every_third).item())


def test_lpips_is_the_published_one(tmp_path: Path) -> None:
    """Against torchmetrics' own LPIPS on torchvision's AlexNet, filled with the same numbers."""
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3)}
    rng = np.random.Generator(np.random.PCG64(7))
    state = {}
    for key, shape in {**shapes, 10: (256, 256, 3, 3)}.items():
        weight = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) / 2)
        state[f"features.{key}.weight"] = torch.from_numpy(weight.astype(np.float32))
        bias = 0.1 * rng.standard_normal(shape[0])
        state[f"features.{key}.bias"] = torch.from_numpy(bias.astype(np.float32))
    torch.save(state, tmp_path / "alexnet.pth")
    y, x = np.mgrid[0:96, 0:64] / 96
    waves = [
        np.sin(2 * np.pi * (fx * x + fy * y)) for fx, fy in ((1, 2), (3, 1), (2, 5), (7, 3), (4, 4), (1, 9))
    ]
    first, second = (
        torch.from_numpy(np.round((np.stack(part) + 1) * 127.5).astype(np.uint8))[None]
        for part in (waves[:3], waves[3:])
    )
    measure = Lpips(tmp_path / "alexnet.pth")
    found = measure.distance(measure.features(first), measure.features(second))
    assert found.item() == pytest.approx(0.1110724, abs=1e-6)  # torchmetrics 1.9.0, torchvision 0.28.0


def exact_gaussian(mean: list[float], deviation: list[float], n: int, seed: int) -> Tensor:
    """n points whose sample mean and sample covariance are exactly these (diagonal)."""
    z = np.random.default_rng(seed).standard_normal((n, len(mean)))
    z = z - z.mean(axis=0)
    z = z @ np.linalg.inv(np.linalg.cholesky(np.cov(z.T))).T
    return torch.from_numpy(z * deviation + mean).float()


def test_fid_of_known_gaussians() -> None:
    """‖Δμ‖² + Σ (σ₁ - σ₂)² for diagonal covariances."""
    comparison = SetComparison(3)
    real = exact_gaussian([0, 1, 2], [1, 2, 0.5], 400, 0)
    fake = exact_gaussian([1, 1, 0], [1.5, 2, 1.5], 300, 1)
    for part in torch.split(real, 64):
        comparison.add(part, real=True)
    for part in torch.split(fake, 50):
        comparison.add(part, real=False)
    found = comparison.compute()
    assert found is not None
    assert found.fid == pytest.approx(1 + 0 + 4 + 0.25 + 0 + 1, rel=1e-3)


def test_equal_sets_have_no_distance(lite0: EfficientNetLite0) -> None:
    features = metrics.Lite0Features(lite0)(picture(4, n=6))
    assert features.shape == (6, 1280)
    comparison = SetComparison(1280)
    comparison.add(features, real=True)
    comparison.add(features.flip(0), real=False)
    found = comparison.compute()
    assert found is not None
    assert found.fid < 1e-2
    assert found.kid <= 0, "unbiased: a set against itself lies below zero"


def test_kid_of_drawn_subsets_is_always_the_same() -> None:
    """The larger side is drawn from; what was drawn before makes no difference."""
    found = []
    for seed in range(2):
        torch.manual_seed(seed)
        comparison = SetComparison(4)
        comparison.add(exact_gaussian([0] * 4, [1] * 4, 30, 0), real=True)
        comparison.add(exact_gaussian([0.5] * 4, [1] * 4, 20, 1), real=False)
        found.append(comparison.compute())
    assert found[0] == found[1]


def test_kid_by_hand() -> None:
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    y = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    comparison = SetComparison(4)
    comparison.add(x, real=True)
    comparison.add(y, real=False)
    found = comparison.compute()

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 4 + 1) ** 3)

    n = range(7)
    same = sum(kernel(v[i], v[j]) for v in (x, y) for i in n for j in n if i != j) / (7 * 6)
    cross = sum(kernel(x[i], y[j]) for i in n for j in n) / 7**2
    assert found is not None
    assert found.kid == pytest.approx(same - 2 * cross, rel=1e-4)


def test_kid_of_few_photos_and_many_try_ons() -> None:
    """Against the unbiased estimate for sets of unequal size (Gretton et al., 2012, equation 3)."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 4, generator=generator), 1 + torch.randn(200, 4, generator=generator)
    comparison = SetComparison(4)
    comparison.add(x, real=True)
    comparison.add(y, real=False)
    found = comparison.compute()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / 4 + 1) ** 3

    own = [float(kernel(v, v).sum() - kernel(v, v).trace()) / (len(v) * (len(v) - 1)) for v in (x, y)]
    wanted = sum(own) - 2 * kernel(x, y).mean().item()
    assert found is not None
    assert found.kid == pytest.approx(wanted, rel=0.05)


def test_too_few_pictures_have_no_set_distance() -> None:
    comparison = SetComparison(4)
    comparison.add(torch.zeros(1, 4), real=True)
    comparison.add(torch.zeros(1, 4), real=False)
    assert comparison.compute() is None


def test_missing_and_foreign_weights_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="does not exist; it should hold AlexNet"):
        Lpips(tmp_path / "none.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MetricError, match="does not hold torchvision's AlexNet"):
        Lpips(tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(MetricError, match="cannot be read"):
        Lpips(tmp_path / "text.pth")


def test_skin_tones_follow_the_typology_angle() -> None:
    """Against OpenCV's CIELAB, over a line of tones that crosses all bounds."""
    light, dark = np.array([232, 198, 178]) / 255, np.array([68, 47, 37]) / 255
    bounds = {
        "light": (41, 90),
        "intermediate": (28, 41),
        "tan": (10, 28),
        "brown": (-30, 10),
        "dark": (-90, -30),
    }
    found = set()
    for share in np.linspace(0, 1, 40):
        srgb = (light * (1 - share) + dark * share).astype(np.float32)
        lightness, _, b = cv2.cvtColor(srgb[None, None], cv2.COLOR_RGB2LAB)[0, 0]
        angle = math.degrees(math.atan2(lightness - 50, b))
        linear = torch.from_numpy(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4))
        group = skin_tone(linear)
        low, high = bounds[group]
        assert low - 0.1 < angle < high + 0.1
        found.add(group)
    assert found == set(bounds)
