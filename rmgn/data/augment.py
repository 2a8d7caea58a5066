"""Changes to a sample that keep all its maps consistent: mirroring, moving the person, the garment, colours.

The person's side (pictures, parse, key points, dense pose, worn mask, flow, visibility) moves as one; so do a
garment's picture and mask, and the flow's values with them. Masks stay binary, labels stay labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn.data.sample import DENSE_PARTS, POINTS, Label, Sample


def _swapped(count: int, pairs: list[tuple[int, int]]) -> Tensor:
    table = torch.arange(count, dtype=torch.uint8)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


_LABELS = _swapped(len(Label), [(label, label + 1) for label in Label if label.name.startswith("LEFT_")])
_PARTS = _swapped(DENSE_PARTS, [(a, a + 1) for a in range(3, 25, 2)])
_POINTS = _swapped(POINTS, [(2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17)]).long()


def flip(sample: Sample) -> Sample:
    """The sample in a mirror: person and garments, with left and right exchanged in all that names them."""
    mirrored = sample.map(lambda x: x if x is sample.keypoints else x.flip(-1))
    changed: dict[str, Tensor] = {}
    if mirrored.parse is not None:
        changed["parse"] = _LABELS[mirrored.parse.long()]
    if mirrored.dense is not None:
        changed["dense"] = _PARTS[mirrored.dense.long()]
    if sample.keypoints is not None:
        points = sample.keypoints[_POINTS].clone()
        points[:, 0] = torch.where(points[:, 2] > 0, sample.person.shape[-1] - points[:, 0], 0)
        changed["keypoints"] = points
    if mirrored.flow is not None:
        changed["flow"] = mirrored.flow * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    return mirrored.replace(**changed)


_FOLD = 0.04  # of the garment photo's half side: what lies further apart is not one piece of cloth


@dataclass(frozen=True)
class Affine:
    """Turn by `degrees` (clockwise), scale, then shift by shares of the width and the height."""

    degrees: float = 0.0
    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0

    def matrix(self, size: tuple[int, int]) -> Tensor:
        """[3, 3]: where a point (x, y, 1) in pixels goes. Turns and scales about the picture's middle."""
        height, width = size
        angle = np.deg2rad(self.degrees)
        c, s = self.scale * np.cos(angle), self.scale * np.sin(angle)
        x, y = width / 2, height / 2
        to_x, to_y = x + self.right * width, y + self.down * height
        return torch.tensor(
            [[c, -s, to_x - c * x + s * y], [s, c, to_y - s * x - c * y], [0, 0, 1]], dtype=torch.float64
        )


def _resampler(move: Affine, size: tuple[int, int]) -> Callable[[Tensor, str, str], Tensor]:
    """A function (map [C, H, W], "bilinear" or "nearest", "border" or "zeros") -> the map moved."""
    height, width = size
    normal = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64)
    back = normal @ torch.linalg.inv(move.matrix(size)) @ torch.linalg.inv(normal)
    grid = F.affine_grid(back[None, :2].float(), [1, 1, height, width], align_corners=False)

    def resample(image: Tensor, mode: str, padding: str) -> Tensor:
        at = grid.to(image.device)
        moved = F.grid_sample(image[None].float(), at, mode, padding, align_corners=False)[0]
        return moved.to(image.dtype)

    return resample


def move_person(sample: Sample, move: Affine) -> Sample:
    """Move the person. What comes in from outside repeats the border, in the picture and all maps alike.

    The flow is not known there, nor between two pieces of cloth, nor beside pixels where it was not.
    """
    size = (sample.person.shape[-2], sample.person.shape[-1])
    resample = _resampler(move, size)
    changed: dict[str, Tensor] = {"person": resample(sample.person, "bilinear", "border").clamp(-1, 1)}
    if sample.worn_mask is not None:
        changed["worn_mask"] = resample(sample.worn_mask, "nearest", "border")
    if sample.flow is not None and sample.visible is not None:
        flow, nearest = (resample(sample.flow, mode, "border") for mode in ("bilinear", "nearest"))
        smooth = ((flow - nearest).abs() < _FOLD).all(dim=0, keepdim=True)
        known = resample(sample.visible, "bilinear", "zeros") > 0.99  # at all four neighbours
        changed["flow"], changed["visible"] = flow, (smooth & known).to(sample.visible.dtype)
    for name in ("parse", "dense"):
        if (plane := getattr(sample, name)) is not None:
            changed[name] = resample(plane[None], "nearest", "border")[0]
    if sample.other_persons is not None:
        moved = [resample(person, "bilinear", "border").clamp(-1, 1) for person in sample.other_persons]
        changed["other_persons"] = torch.stack(moved)
    if sample.keypoints is not None:
        changed["keypoints"] = _move_points(sample.keypoints, move.matrix(size), size)
    return sample.replace(**changed)


def _move_points(points: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Move what was seen; what leaves the picture counts as not seen."""
    homogeneous = F.pad(points[:, :2].double(), (0, 1), value=1.0)
    xy = (homogeneous @ matrix.T.to(points.device))[:, :2].float()
    inside = (xy >= 0).all(dim=1) & (xy[:, 0] < size[1]) & (xy[:, 1] < size[0]) & (points[:, 2] > 0)
    return torch.cat([xy, points[:, 2:]], dim=1) * inside[:, None]


def move_garment(sample: Sample, move: Affine) -> Sample:
    """Move the garment in its photo; the flow points to where it went, and is lost where that is outside."""
    size = (sample.garment.shape[-2], sample.garment.shape[-1])
    garment, mask = _move_photo(sample.garment, sample.garment_mask, move)
    changed = {"garment": garment, "garment_mask": mask}
    if sample.flow is not None and sample.visible is not None:
        scale = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64, device=sample.flow.device)
        scale = scale.view(2, 1, 1)
        pixels = ((sample.flow.double() + 1) * scale).flatten(1)
        matrix = move.matrix(size).to(pixels.device)
        moved = (matrix[:2, :2] @ pixels + matrix[:2, 2:]).view_as(sample.flow) / scale - 1
        inside = (moved.abs() < 1 - 0.5 / scale).all(dim=0, keepdim=True)  # between centres of pixels
        changed["flow"] = moved.float()
        changed["visible"] = sample.visible * inside
    return sample.replace(**changed)


def _move_photo(garment: Tensor, mask: Tensor, move: Affine) -> tuple[Tensor, Tensor]:
    resample = _resampler(move, (garment.shape[-2], garment.shape[-1]))
    return resample(garment, "bilinear", "border").clamp(-1, 1), resample(mask, "nearest", "zeros")


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast and saturation as factors, hue as a turn in degrees, in that order."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, image: Tensor) -> Tensor:
        """Change a picture [..., 3, H, W] in [-1, 1]; it stays in that range.

        Contrast is about mid-grey and hue turns about the grey axis, so all of it is one affine map of
        colours, and a colour becomes the same one in every picture.
        """
        grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).expand(3, 3)
        turned = self.saturation * _hue_turn(self.hue) @ (torch.eye(3, dtype=torch.float64) - grey)
        matrix = (self.contrast * self.brightness * (grey + turned)).to(image)
        flat = matrix @ image.flatten(-2)
        return flat.add_(self.contrast * (self.brightness - 1)).clamp_(-1, 1).view(image.shape)


def _hue_turn(degrees: float) -> Tensor:
    """Rotation about (1, 1, 1), [3, 3] (Rodrigues' formula)."""
    angle = np.deg2rad(degrees)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return torch.from_numpy(turn)


@dataclass(frozen=True)
class Augment:
    """Random changes; call it with a sample and a random generator.

    Each field is the largest change, of scales the logarithm's.

    Colours change in all pictures of a sample alike, since the person must be able to wear the garment's; the
    garments' brightness changes once more by itself, as in another photo's light.
    """

    flip: float = 0.5  # probability
    person_degrees: float = 4.0
    person_scale: float = 0.08
    person_shift: float = 0.04
    garment_degrees: float = 4.0
    garment_scale: float = 0.08
    garment_shift: float = 0.03
    brightness: float = 0.15
    contrast: float = 0.1
    saturation: float = 0.15
    hue: float = 8.0  # degrees
    garment_brightness: float = 0.05

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample, changed as drawn from `rng`."""

        def draw(most: float) -> float:
            return float(rng.uniform(-most, most))

        def affine(degrees: float, scale: float, shift: float) -> Affine:
            return Affine(draw(degrees), float(np.exp(draw(scale))), draw(shift), draw(shift))

        if rng.random() < self.flip:
            sample = flip(sample)
        sample = move_person(sample, affine(self.person_degrees, self.person_scale, self.person_shift))
        of_garment = (self.garment_degrees, self.garment_scale, self.garment_shift)
        sample = move_garment(sample, affine(*of_garment))
        colour = Colour(
            1 + draw(self.brightness), 1 + draw(self.contrast), 1 + draw(self.saturation), draw(self.hue)
        )

        def photo(image: Tensor) -> Tensor:
            return Colour(1 + draw(self.garment_brightness)).apply(colour.apply(image))

        changed = {"person": colour.apply(sample.person), "garment": photo(sample.garment)}
        if sample.other_persons is not None:
            changed["other_persons"] = colour.apply(sample.other_persons)
        if sample.other_garments is not None and sample.other_masks is not None:
            pairs = zip(sample.other_garments, sample.other_masks, strict=True)
            moved = [_move_photo(g, m, affine(*of_garment)) for g, m in pairs]
            changed["other_garments"] = torch.stack([photo(g) for g, _ in moved])
            changed["other_masks"] = torch.stack([m for _, m in moved])
        return sample.replace(**changed)


# Layers draw colours, and mirror themselves, before they are dressed; framings vary more than one folder's.
PLACES_ALONE = Augment(
    person_scale=0.25,
    person_shift=0.08,
    flip=0,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    garment_brightness=0,
)
