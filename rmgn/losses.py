"""Training losses: pure functions of tensors, each with its equation.

Pictures are [B, C, H, W] in [-1, 1], masks [B, 1, H, W] in [0, 1], flows sampling grids [B, 2, H, W]
(see kernels.flow_warp), offsets [B, 4, h, w] of both flow heads in pixels of their level. What is called a
loss returns a scalar mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_l1(picture: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Σ w·|x - y| / Σ w over pixels and channels; weight [B, 1, H, W] >= 0. Zero where all weights are."""
    error = (picture - target).abs() * weight
    return error.sum() / (weight.sum() * picture.shape[1]).clamp(min=1e-6)


def charbonnier(x: Tensor, epsilon: float = 1e-3, exponent: float = 0.45) -> Tensor:
    """Generalised Charbonnier penalty (x² + ε²)^α, elementwise (Sun et al., 2014)."""
    return (x * x + epsilon * epsilon).pow(exponent)


def second_order_smoothness(field: Tensor) -> Tensor:
    """Equation (1): mean of P(f(j - π) + f(j + π) - 2·f(j)) over π horizontal, vertical and both diagonals.

    field: [B, C, h, w], h and w at least 3; P is summed over its C components. The neighbours of a pixel must
    lie in the picture.
    """
    centre = field[:, :, 1:-1, 1:-1]
    total = field.new_zeros(())
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        height, width = field.shape[-2:]
        before = field[:, :, 1 - dy : height - 1 - dy, 1 - dx : width - 1 - dx]
        after = field[:, :, 1 + dy : height - 1 + dy, 1 + dx : width - 1 + dx]
        total = total + charbonnier(before + after - 2 * centre).sum(dim=1).mean()
    return total / 4


def total_variation(field: Tensor) -> Tensor:
    """First order: mean |f(y+1, x) - f(y, x)| + mean |f(y, x+1) - f(y, x)|."""
    return field.diff(dim=-2).abs().mean() + field.diff(dim=-1).abs().mean()


def flow_endpoint_error(flow: Tensor, truth: Tensor, visible: Tensor) -> Tensor:
    """Mean length of the flow's error over visible pixels, in pixels of the truth.

    flow: [B, 2, h, w], of any level; truth: [B, 2, H, W] with H/h = W/w whole; visible: [B, 1, H, W].
    The truth is averaged over the visible pixels under each pixel of the level.
    """
    height, width = truth.shape[-2:]
    truth, weight = _under(truth, visible, height // flow.shape[-2])
    right, down = (flow - truth).chunk(2, dim=1)
    length = ((right * (width / 2)).square() + (down * (height / 2)).square() + 1e-6).sqrt()
    return (length * weight).sum() / weight.sum().clamp(min=1e-6)


def matching_loss(person: Tensor, garment: Tensor, flow: Tensor, visible: Tensor) -> Tensor:
    """-log p(g | p), mean over visible pixels p: each finds its spot g among all of the garment's features.

    p(· | p) is the softmax of the features' cosines over TEMPERATURE, bilinear in logarithms between pixels.
    It teaches features to tell places, which correlation then compares (InfoNCE).
    person, garment: [B, C, h, w] of one level; flow, visible: the truth, as in `flow_endpoint_error`.
    """
    batch, _, height, width = person.shape
    truth, weight = _under(flow, visible, flow.shape[-2] // height)
    cosines = F.normalize(person, dim=1).flatten(2).mT @ F.normalize(garment, dim=1).flatten(2)
    log_p = (cosines.float() / TEMPERATURE).log_softmax(dim=-1).view(-1, 1, height, width)
    at = truth.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = F.grid_sample(log_p, at, padding_mode="border", align_corners=False).view(batch, 1, height, width)
    return -(found * weight).sum() / weight.sum().clamp(min=1e-6)


def _under(flow: Tensor, visible: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Mean of the flow's visible pixels under each pixel of a level, and what share of them is visible."""
    if scale == 1:
        return flow, visible
    weight = F.avg_pool2d(visible, scale)
    return F.avg_pool2d(flow * visible, scale) / weight.clamp(min=1e-6), weight


class Distillation(NamedTuple):
    """Terms of `adjustable_distillation`."""

    features: Tensor
    flow: Tensor
    adopted: Tensor  # share of the samples in which the teacher was the better one


def adjustable_distillation(
    student: tuple[Sequence[Tensor], Sequence[Tensor]],
    teacher: tuple[Sequence[Tensor], Sequence[Tensor]],
    student_error: Tensor,
    teacher_error: Tensor,
) -> Distillation:
    """L_d: the student follows the teacher where the teacher's warped garment is nearer to the truth.

    student, teacher: (person pyramid, flows), each coarsest first; errors: [B], of the warped garments.
    features: Σ over levels n of (5 - n)·0.04·MSE; flow: Σ over the three finest n of (n + 1)·mean ‖Δ‖; means
    over the samples in which the teacher is followed.
    """
    better = (teacher_error < student_error).to(student_error.dtype)
    share = better / better.sum().clamp(min=1)
    features = flow = student_error.new_zeros(())
    levels = len(student[0])
    for n in range(levels):
        difference = student[0][n].float() - teacher[0][n].detach().float()
        mse = difference.square().mean(dim=(1, 2, 3))
        features = features + (levels - n) * 0.04 * (mse * share).sum()
        if n >= levels - 3:
            delta = (student[1][n] - teacher[1][n].detach()).square().sum(dim=1)
            length = (delta + 1e-12).sqrt().mean(dim=(1, 2))
            flow = flow + (n + 1) * (length * share).sum()
    return Distillation(features, flow, better.mean())


class WarpLoss(NamedTuple):
    """Weighted terms of `warp_loss`; `total` is their sum."""

    total: Tensor
    pixel: Tensor
    perceptual: Tensor
    mask: Tensor
    smoothness: Tensor
    variation: Tensor


# Weights of the warp terms (PF-AFN's, see the training chapter of the documentation).
PIXEL, PERCEPTUAL, MASK, SMOOTHNESS, VARIATION = 1.0, 0.2, 2.0, 6.0, 0.01
# Of the generator: try-on against the person; composite mask against the worn garment; the rendered image
# where the person's other clothes were and skin is to be. Perception weighs PERCEPTUAL, on skin twice that.
TRYON_PIXEL, COMPOSITE, SKIN = 5.0, 1.0, 30.0
# Of the mask that keeps the person's pixels. The same is what differs by less than SAME, of a range of 2, on
# average over a SQUARE of pixels, which noise of a camera is not.
PRESERVE, SAME, SQUARE = 1.0, 0.1, 5
# Of the colours around which is drawn, where the picture changes off the garment.
PALETTE = 10.0
# Of the rendered image off the garment: it is the answer there, and alone in reaching under the mask.
RENDERED = 1.0
# Of the flow's end-point error in pixels, times the level's n + 1, where the data know the flow. Smoothness
# is then for the rest of the picture alone: at the weight above it would hold the flow back from the truth.
FLOW, KNOWN_SMOOTHNESS = 1.0, 1.0
# Of the matching of features where the data know the flow, on levels of at most so many pixels.
MATCHING, MATCHING_PIXELS, TEMPERATURE = 20.0, 1024, 0.1


def warp_loss(
    warped: Sequence[tuple[Tensor, Tensor]],
    flows: Sequence[Tensor],
    offsets: Sequence[Tensor],
    worn: Tensor,
    worn_mask: Tensor,
    perceptual: "torch.nn.Module | None" = None,
    smoothness: float = SMOOTHNESS,
) -> WarpLoss:
    """Warp losses over all levels n, coarsest first, each weighted n + 1.

    warped: (garment, mask) warped by the flow of each level, at that level's resolution; flows: those flows,
    which shall be smooth; offsets: what each level predicted, which shall vary little; worn: the garment cut
    from the person [B, 3, H, W], 0 around it; worn_mask: [B, 1, H, W]. perceptual: a module that compares two
    pictures. smoothness: its weight.
    """
    zero = worn.new_zeros(())
    pixel = feature = mask = smooth = variation = zero
    levels = zip(warped, flows, offsets, strict=True)
    for n, ((garment, garment_mask), flow, offset) in enumerate(levels):
        weight = n + 1
        size = garment.shape[-2:]
        truth = F.interpolate(worn, size, mode="area")
        pixel = pixel + weight * PIXEL * F.l1_loss(garment, truth)
        mask = mask + weight * MASK * F.l1_loss(garment_mask, F.interpolate(worn_mask, size, mode="area"))
        if perceptual is not None:
            feature = feature + weight * PERCEPTUAL * perceptual(garment, truth)
        smooth = smooth + weight * smoothness * second_order_smoothness(flow)
        variation = variation + weight * VARIATION * total_variation(offset)
    return WarpLoss(pixel + feature + mask + smooth + variation, pixel, feature, mask, smooth, variation)


def composite_loss(composite_mask: Tensor, worn_mask: Tensor) -> Tensor:
    """‖m - M‖: the blended-in garment shows exactly where the person shows the garment. Both [B, 1, H, W]."""
    return F.l1_loss(composite_mask, worn_mask)


def composite_entropy_loss(composite_mask: Tensor, worn_mask: Tensor) -> Tensor:
    """-M·log m - (1 - M)·log(1 - m), mean over pixels, both [B, 1, H, W] in [0, 1].

    ‖m - M‖ hardly moves a mask that is sure and wrong, since its slope lies at the end of a sigmoid.
    """
    m = 1e-4 + (1 - 2e-4) * composite_mask.float()  # finite, and unlike a clamped one with a slope everywhere
    return -(worn_mask * m.log() + (1 - worn_mask) * (1 - m).log()).mean()


def agreement(person: Tensor, target: Tensor) -> Tensor:
    """K, [B, 1, H, W] in {0, 1}: where two pictures of a person show the same but for noise.

    That is where |Δ|, averaged over channels and a SQUARE of pixels, is below SAME (1/20 of the range).
    """
    difference = (person - target).abs().mean(dim=1, keepdim=True)
    around = F.avg_pool2d(difference, SQUARE, 1, SQUARE // 2, count_include_pad=False)
    return (around < SAME).to(person.dtype)


def preserve_loss(preserve_mask: Tensor, same: Tensor) -> Tensor:
    """Mean |k - K|: the person's pixels stay exactly where the answer shows them; same: K (`agreement`)."""
    return F.l1_loss(preserve_mask, same)


def exposed_skin(worn_before: Tensor, worn_mask: Tensor) -> Tensor:
    """S = M̃·(1 - M), [B, 1, H, W]: where a fake person's garment hid what the true garment leaves bare.

    worn_before: the fake garment's warped mask; worn_mask: of the true garment.
    """
    return (worn_before * (1 - worn_mask)).detach()


def skin_loss(rendered: Tensor, target: Tensor, skin: Tensor) -> Tensor:
    """Mean of |S·(R - P)| over the whole picture (PF-AFN); skin S: of `exposed_skin`."""
    return F.l1_loss(rendered * skin, target * skin)


def palette_loss(colours: Tensor, target: Tensor, skin: Tensor) -> Tensor:
    """`skin_loss` of the colours c [B, 3, h, w], with P and S averaged under each of their pixels.

    It teaches the palette what to hold: what is drawn around wrong colours can be right as well.
    """
    size = colours.shape[-2:]
    return skin_loss(colours, *(F.interpolate(x, size, mode="area") for x in (target, skin)))


class GeneratorLoss(NamedTuple):
    """Weighted terms of `generator_loss`; `total` is their sum."""

    total: Tensor
    pixel: Tensor
    perceptual: Tensor
    composite: Tensor
    rendered: Tensor
    skin: Tensor


def generator_loss(
    pictures: tuple[Tensor, Tensor, Tensor],
    target: Tensor,
    worn_mask: Tensor,
    skin: Tensor | None = None,
    perceptual: "torch.nn.Module | None" = None,
    composite_weight: float = COMPOSITE,
    composite_entropy: float = 0.0,
) -> GeneratorLoss:
    """Equation (7) with the composite mask, the rendered image and skin.

    pictures: try-on and rendered [B, 3, H, W], composite mask [B, 1, H, W]; target: the true person;
    worn_mask: where it shows the garment; skin: of `exposed_skin`. composite_weight, composite_entropy: of
    `composite_loss` and of `composite_entropy_loss`, whose sum is the term `composite`.
    """
    tryon, rendered, composite_mask = pictures
    zero = target.new_zeros(())
    pixel = TRYON_PIXEL * F.l1_loss(tryon, target)
    composite = composite_weight * composite_loss(composite_mask, worn_mask)
    if composite_entropy:
        composite = composite + composite_entropy * composite_entropy_loss(composite_mask, worn_mask)
    outside = RENDERED * masked_l1(rendered, target, 1 - worn_mask)
    bare = zero if skin is None else SKIN * skin_loss(rendered, target, skin)
    seen = zero
    if perceptual is not None:
        seen = PERCEPTUAL * perceptual(tryon, target)
        if skin is not None:
            bare = bare + 2 * PERCEPTUAL * perceptual(rendered * skin, target * skin)
    return GeneratorLoss(pixel + seen + composite + outside + bare, pixel, seen, composite, outside, bare)
