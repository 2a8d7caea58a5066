"""Measures of try-on results: picture against picture, flow against flow, set against set.

FID, KID and LPIPS are numbers of particular networks (InceptionV3 and AlexNet with their published weights).
Where those weights are missing the same formulas are computed on EfficientNet-Lite0, which installs from
the package index, under names of their own: FID-lite0, KID-lite0, LPIPS-lite0. The two kinds cannot be
compared with each other.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.program import InputError
from rmgn.perceptual import EfficientNetLite0

try:
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )
    from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3
    from torchmetrics.image.kid import KernelInceptionDistance
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "evaluation needs torchmetrics: pip install 'rmgn[evaluate]'", name=error.name
    ) from error

IDENTICAL_DB = 100.0  # PSNR of equal pictures, which is infinite


class MetricError(InputError):
    """A measure cannot be computed; the message says which file or package is missing."""


def ssim(pictures: Tensor, truths: Tensor) -> Tensor:
    """Structural similarity of uint8 [B, 3, H, W], one value a picture (Wang et al., 2004).

    Gaussian window with σ = 1.5 (11×11), K = 0.01 and 0.03, mean over colours and pixels, edges reflected.
    """
    x, y = pictures.float() / 255, truths.float() / 255  # double would be 13 times slower for the 5th digit
    value = structural_similarity_index_measure(x, y, sigma=1.5, data_range=1.0, reduction="none")
    assert isinstance(value, Tensor)
    return value


def psnr(pictures: Tensor, truths: Tensor) -> Tensor:
    """Peak signal to noise ratio of uint8 [B, 3, H, W] in dB, one a picture; at most 100."""
    value = peak_signal_noise_ratio(
        pictures.double(), truths.double(), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    return value.clamp(max=IDENTICAL_DB).float()


def endpoint_error(flow: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Mean length of the flow's error over visible pixels, in pixels of a 256×192 picture; [B].

    flow, truth: [B, 2, H, W] sampling grids in [-1, 1]; visible: [B, 1, H, W]. NaN where nothing is visible.
    """
    pixels = (flow - truth) * flow.new_tensor([192 / 2, 256 / 2]).view(1, 2, 1, 1)
    length = pixels.square().sum(dim=1, keepdim=True).sqrt()
    length = torch.where(visible > 0, length, 0.0)  # elsewhere a flow may be anything, also infinite
    return (length * visible).sum(dim=(1, 2, 3)) / visible.sum(dim=(1, 2, 3))


class PatchSimilarity(Protocol):
    """A perceptual distance between what a network sees in two pictures."""

    name: str

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Feature maps of uint8 [B, 3, H, W], to be computed once for a truth that many are compared with."""

    def distance(self, seen: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """One value a picture from the features of both; [B]."""


def patch_distance(
    seen: Sequence[Tensor], wanted: Sequence[Tensor], heads: Sequence[Tensor] | None = None
) -> Tensor:
    """LPIPS (Zhang et al., 2018, equation 1): Σ over layers of mean over pixels of Σ_c w_c·(x̂ - ŷ)²; [B].

    x̂, ŷ: features [B, C, h, w] scaled to length 1 at every pixel. heads: w [C] of each layer. Without heads,
    w = 1/2 and the mean over layers: 1 - cos of the angle between features, 0 where equal, about 1 where
    unrelated.
    """
    total = seen[0].new_zeros(len(seen[0]))
    for n, (x, y) in enumerate(zip(seen, wanted, strict=True)):
        x, y = (v / (v.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for v in (x, y))
        difference = (x - y).square()
        weight = heads[n].view(1, -1, 1, 1) if heads is not None else 0.5 / len(seen)
        difference = weight * difference
        total = total + difference.sum(dim=1).mean(dim=(1, 2))
    return total


class LpipsLite0:
    """LPIPS without learned heads on EfficientNet-Lite0's four finest stages."""

    name = "LPIPS-lite0"

    def __init__(self, network: EfficientNetLite0) -> None:
        self.network = network

    @torch.no_grad()
    def features(self, pictures: Tensor) -> list[Tensor]:
        return self.network.features(pictures.float() / 127.5 - 1)

    def distance(self, seen: list[Tensor], wanted: list[Tensor]) -> Tensor:
        return patch_distance(seen, wanted)


class Lpips(nn.Module):
    """LPIPS 0.1 on AlexNet, with torchvision's ImageNet weights from a local file.

    The learned heads come with torchmetrics. Pictures are compared at their own size.
    """

    name = "LPIPS"

    def __init__(self, alexnet: Path) -> None:
        super().__init__()
        plan = [
            (3, 64, 11, 4, 2),
            (64, 192, 5, 1, 2),
            (192, 384, 3, 1, 1),
            (384, 256, 3, 1, 1),
            (256, 256, 3, 1, 1),
        ]
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, k, s, p) for i, o, k, s, p in plan)
        state = load_weights(alexnet, "AlexNet's weights (torchvision's alexnet-owt-7be5be79.pth)")
        try:
            for conv, key in zip(self.convolutions, (0, 3, 6, 8, 10), strict=True):
                conv.load_state_dict({k: state[f"features.{key}.{k}"] for k in ("weight", "bias")})
        except (KeyError, RuntimeError) as error:
            raise MetricError(f"{alexnet} does not hold torchvision's AlexNet") from error
        spec = importlib.util.find_spec("torchmetrics.functional.image")
        assert spec is not None
        assert spec.origin is not None
        file = Path(spec.origin).parent / "lpips_models" / "alex.pth"
        heads = torch.load(file, map_location="cpu", weights_only=True)
        for n in range(5):
            self.register_buffer(f"head{n}", heads[f"lin{n}.model.1.weight"].flatten())
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, pictures: Tensor) -> list[Tensor]:
        """The five ReLU maps."""
        x = (pictures.float() / 127.5 - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        maps = []
        for n, conv in enumerate(self.convolutions):
            if n in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(conv(x))
            maps.append(x)
        return maps

    def distance(self, seen: list[Tensor], wanted: list[Tensor]) -> Tensor:
        return patch_distance(seen, wanted, [self.get_buffer(f"head{n}") for n in range(5)])


class SetFeatures(Protocol):
    """One feature vector a picture: uint8 [B, 3, H, W] to [B, `width`]."""

    suffix: str  # of "FID" and "KID"
    width: int

    def __call__(self, pictures: Tensor) -> Tensor: ...


class Lite0Features:
    """EfficientNet-Lite0 before its classifier, pictures scaled to its 224×224: 1280 features."""

    suffix = "-lite0"
    width = 1280

    def __init__(self, network: EfficientNetLite0) -> None:
        self.network = network

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        x = F.interpolate(
            pictures.float() / 127.5 - 1, (224, 224), mode="bilinear", align_corners=False, antialias=True
        )
        features: Tensor = self.network.network.extract_features(x).mean(dim=(2, 3))
        return features


class InceptionFeatures:
    """InceptionV3 of FID's first implementation, 2048 features, weights from a local file."""

    suffix = ""
    width = 2048

    def __init__(self, weights: Path, device: torch.device) -> None:
        # torch-fidelity itself would run code that such a file may carry; this refuses one first.
        load_weights(weights, "InceptionV3's weights (torch-fidelity's pt_inception-2015-12-05-6726825d.pth)")
        try:
            network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights), antialias=False)
        except ModuleNotFoundError as error:
            raise MetricError("FID needs torch-fidelity: pip install 'rmgn[fid]'") from error
        except (KeyError, RuntimeError) as error:
            raise MetricError(f"{weights} does not hold FID's InceptionV3") from error
        self.network = network.to(device)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        features: Tensor = self.network(pictures)
        return features


def load_weights(file: Path, what: str) -> dict[str, Tensor]:
    """Tensors of a .pth file, which may run no code. Raises MetricError."""
    if not file.is_file():
        raise MetricError(f"{file} does not exist; it should hold {what}")
    try:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch raises for a damaged or foreign file
        raise MetricError(f"{file} cannot be read: it should hold {what}") from error
    return state


class _Given(nn.Module):
    """Features that were computed already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features


class SetDistances(NamedTuple):
    """Distances between real and generated pictures; lower is better."""

    fid: float
    kid: float


class SetComparison:
    """Collects features of real and generated pictures.

    Keeps sums of products for FID, 2·width² float64, and the features themselves for KID, 4·width bytes a
    picture.
    """

    SUBSET, SUBSETS = 1000, 100  # KID's convention (Bińkowski et al., 2018)

    def __init__(self, width: int) -> None:
        self.fid = FrechetInceptionDistance(_Given(width), normalize=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it keeps all features: see above
            self.kid = KernelInceptionDistance(_Given(width), normalize=True)
        self.counts = {True: 0, False: 0}

    def add(self, features: Tensor, real: bool) -> None:
        """Add pictures by their features [B, width]."""
        features = features.cpu()
        self.fid.update(features, real=real)
        self.kid.update(features, real=real)
        self.counts[real] += len(features)

    def compute(self) -> SetDistances | None:
        """FID and KID, or None below two pictures a side.

        KID is the mean over 100 subsets of 1000, or of as many as the smaller side has; where that is all of
        both sides it is one estimate over them. It is unbiased for sides that are independent, which photos
        and try-ons of the same people are not.
        """
        smaller, larger = sorted(self.counts.values())
        if smaller < 2:
            return None
        self.kid.subset_size = min(smaller, self.SUBSET)
        self.kid.subsets = self.SUBSETS if larger > self.kid.subset_size else 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kid, _ = self.kid.compute()
        return SetDistances(max(0.0, self.fid.compute().item()), kid.item())
