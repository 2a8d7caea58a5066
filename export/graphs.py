"""The two graphs of a bundle as modules with fixed inputs and outputs, ready for export."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export.correlation import batched_correlation
from export.pyramid import fold_finest
from rmgn import RMGN
from rmgn.pfafn import ResidualBlock, UNetLevel
from rmgn.warp import ResBlock

GARMENT_INPUTS = ("garment", "garment_mask")
TRYON_OUTPUTS = ("flow", "rendered", "composite_mask", "tryon")


def pyramid_names(model: RMGN) -> tuple[str, ...]:
    """Names of the pyramid's levels, coarsest first."""
    return tuple(f"pyramid_{level}" for level in range(len(model.config.encoder_widths)))


class GarmentGraph(nn.Module):
    """garment, garment_mask -> pyramid, all float32 whatever the precision inside."""

    def __init__(self, model: RMGN) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter restores the mode of the outermost module, and with it every batch norm's

    def forward(self, garment: Tensor, garment_mask: Tensor) -> tuple[Tensor, ...]:
        return tuple(level.float() for level in self.model.encode_garment(garment, garment_mask))


class TryOnGraph(nn.Module):
    """person, garment, garment_mask, pyramid -> flow, rendered, composite_mask, tryon, all float32."""

    def __init__(self, model: RMGN) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter restores the mode of the outermost module, and with it every batch norm's

    def forward(
        self, person: Tensor, garment: Tensor, garment_mask: Tensor, *pyramid: Tensor
    ) -> tuple[Tensor, ...]:
        inner = next(self.model.parameters()).dtype
        levels = tuple(level.to(inner) for level in pyramid)
        result = self.model(person, garment, garment_mask, levels)
        return tuple(getattr(result, name) for name in TRYON_OUTPUTS)


def prepare(model: RMGN, half: bool, portable: bool = True) -> RMGN:
    """A copy for inference: batch norms folded into the convolutions before them, weights halved where asked.

    With `half` the graph is typed float16 except for the float32 islands that the network itself keeps:
    flow and grid arithmetic, sampling (kernels.flow_warp), instance-norm statistics
    (kernels.mask_fusion) and the blends of rmgn.model.compose. With `portable` the correlation is written as
    matrix products, for engines that do not have the project's kernel for it.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    if portable:
        model.warp.flow_net.correlate = batched_correlation
        model.warp.person_pyramid = fold_finest(model.warp.person_pyramid)  # type: ignore[assignment]
    for module in model.modules():
        if isinstance(module, ResBlock):
            _fold(module, "conv1", "norm2")
        elif isinstance(module, ResidualBlock):
            _fold(module, "conv1", "norm1")
            _fold(module, "conv2", "norm2")
        elif isinstance(module, UNetLevel):
            _fold(module, "down", "down_norm")
            _fold(module, "up", "up_norm")
    return model.half() if half else model


def _fold(block: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = getattr(block, conv_name), getattr(block, norm_name)
    if isinstance(norm, nn.BatchNorm2d):
        setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(block, norm_name, nn.Identity())


def sample_inputs(height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """Smooth random pictures that make an untrained network move its flow, for tracing and parity.

    Returns person and garment [1, 3, H, W] in [-1, 1] and garment_mask [1, 1, H, W] in {0, 1}, float32.
    """
    generator = torch.Generator().manual_seed(seed)

    def picture() -> Tensor:
        coarse = torch.randn(1, 3, height // 16, width // 16, generator=generator)
        fine = torch.randn(1, 3, height // 4, width // 4, generator=generator)
        size = (height, width)
        smooth = nn.functional.interpolate(coarse, size, mode="bicubic")
        smooth += 0.5 * nn.functional.interpolate(fine, size, mode="bicubic")
        return smooth.tanh()

    y = torch.linspace(-1, 1, height).view(1, 1, -1, 1)
    x = torch.linspace(-1, 1, width).view(1, 1, 1, -1)
    mask = ((x / 0.7) ** 2 + (y / 0.8) ** 2 < 1).float()
    return {"person": picture(), "garment": picture(), "garment_mask": mask}
