"""The finest level of a feature pyramid with fewer multiplications, for engines that run it."""

import torch
from torch import Tensor, nn

from rmgn.warp import FeaturePyramid, Pyramid

# What each tap of a 3x3 kernel, along one axis of the finer level, adds to the four taps of a transposed
# convolution of stride 2 over the coarser one. A fine pixel and its two neighbours lie in two coarse pixels:
# those in the same one share a weight.
_SHARED = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float64)


class FoldedPyramid(nn.Module):
    """A `FeaturePyramid` whose finest level, the most expensive by far, is computed as two convolutions.

    There smooth(lateral(x) + up(y)) is linear in both. smooth ∘ lateral is one 3x3 convolution of the few
    channels of x, and a 3x3 convolution of a picture enlarged twofold by repetition is a transposed one of
    the small picture, with 2x2 instead of 3x3 weights a pixel. In the published network at 256x192 that is
    5.0 instead of 7.5 GMAC.
    """

    def __init__(self, pyramid: FeaturePyramid) -> None:
        super().__init__()
        self.coarser = pyramid
        lateral, smooth = _finest(pyramid)
        assert lateral.bias is not None
        assert smooth.bias is not None
        width, width_in = lateral.out_channels, lateral.in_channels
        weight = smooth.weight.double()
        self.fine = nn.Conv2d(width_in, width, 3, padding=1, bias=False)
        self.coarse = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        with torch.no_grad():
            self.fine.weight.copy_(torch.einsum("omyx,mi->oiyx", weight, lateral.weight.double()[..., 0, 0]))
            self.coarse.weight.copy_(torch.einsum("py,qx,omyx->mopq", _SHARED, _SHARED, weight))
        self.coarse.bias = nn.Parameter(smooth.bias.detach().clone())
        # Of lateral: added where the padding of smooth stays zero, that is before the enlargement.
        self.bias = nn.Parameter(lateral.bias.detach().view(1, -1, 1, 1).clone())

    def forward(self, features: list[Tensor], depth: int | None = None) -> Pyramid:
        """As `FeaturePyramid.forward`."""
        if depth is not None and depth < len(features):
            return self.coarser(features, depth)
        levels = self.coarser(features, len(features) - 1)
        return (*levels, self.fine(features[0]) + self.coarse(levels[-1] + self.bias))


def fold_finest(pyramid: FeaturePyramid) -> FeaturePyramid | FoldedPyramid:
    """The pyramid folded where that saves a fifth or more of the finest level's multiply-adds, else as it is.

    Less is lost again to passing over the features once more. A pyramid of one level has none to fold in.
    """
    if len(pyramid.lateral) == 1:
        return pyramid
    lateral, _ = _finest(pyramid)
    width, width_in = lateral.out_channels, lateral.in_channels
    return FoldedPyramid(pyramid) if 9 * width_in + 4 * width < 0.8 * (width_in + 9 * width) else pyramid


def _finest(pyramid: FeaturePyramid) -> tuple[nn.Conv2d, nn.Conv2d]:
    lateral, smooth = pyramid.lateral[-1], pyramid.smooth[-1]
    assert isinstance(lateral, nn.Conv2d)
    assert isinstance(smooth, nn.Conv2d)
    return lateral, smooth
