"""Changes to a sample that keep all its maps consistent: mirroring, moving the person, the garment, colours.

The person's side (pictures, parse, key points, dense pose, worn mask, flow, visibility) moves as one; so do a
garment's picture and mask, and the flow's values with them. Garments' masks stay binary, labels stay labels.

A batch is changed in one go, each of its samples by itself: on a GPU calls are what takes time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmgn.data.fabrics import draw_mistakable
from rmgn.data.rotation import rotation
from rmgn.data.sample import DENSE_PARTS, POINTS, Label, Sample, collate, split


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


BEND_POINTS = (6, 5)  # rows and columns
FRAY_POINTS = (32, 24)
_BEND_STEPS = 4  # until it is known where a bend takes a place; each leaves a fifth of the error
_FOLD = 0.04  # of the garment photo's half side: what lies further apart is not one piece of cloth


@dataclass(frozen=True)
class Move:
    """Stretch and shear, turn by `degrees` (clockwise), scale, shift by shares of the width and the height.

    stretch: widths grow by it, heights shrink by it; shear: pixels to the right for each pixel down.
    bend: [2, *BEND_POINTS] how far off, (right, down) in half sides, what a grid of points shows was besides;
        smooth between them, the first and the last on the borders. Must change slowly (a fifth of a step from
        point to point).
    """

    degrees: float = 0.0
    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    stretch: float = 1.0
    shear: float = 0.0
    bend: Tensor | None = None


def _matrices(moves: Sequence[Move], size: tuple[int, int]) -> Tensor:
    """[B, 3, 3]: where a point (x, y, 1) in pixels goes but for the bend; about the picture's middle."""
    numbers = [(m.degrees, m.scale, m.right, m.down, m.stretch, m.shear) for m in moves]
    degrees, scale, right, down, stretch, shear = torch.tensor(numbers, dtype=torch.float64).T
    height, width = size
    angle, none = degrees.deg2rad(), torch.zeros_like(degrees)
    c, s = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([c, -s, s, c], dim=1).view(-1, 2, 2)
    linear = turn @ torch.stack([stretch, shear, none, 1 / stretch], dim=1).view(-1, 2, 2)
    middle = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    to = middle + torch.stack([right * width, down * height], dim=1) - linear @ middle
    last = torch.tensor([[0, 0, 1]], dtype=torch.float64).expand(len(to), 1, 3)
    return torch.cat([torch.cat([linear, to[..., None]], dim=2), last], dim=1)


def _spread(count: int, pixels: int) -> Tensor:
    """[pixels, count]: the share that each of `count` points has in a pixel between them, bicubic."""
    points = torch.eye(count)[None, None]
    return F.interpolate(points, (pixels, count), mode="bicubic", align_corners=True)[0, 0]


class _Transform:
    """The moves of a batch's pictures: a place x of the result shows what was at A⁻¹x + d(x), d the bend."""

    def __init__(self, moves: Sequence[Move], size: tuple[int, int], device: torch.device) -> None:
        height, width = size
        normal = torch.tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]], dtype=torch.float64)
        matrices = normal @ _matrices(moves, size) @ torch.linalg.inv(normal)
        back = torch.linalg.inv(matrices)[:, :2].float().to(device)
        self._forth = matrices[:, :2].float().to(device)
        self._at = F.affine_grid(back, [len(back), 1, height, width], align_corners=False)
        self._bend: Tensor | None = None
        if any(move.bend is not None for move in moves):
            straight = torch.zeros(2, *BEND_POINTS)
            points = torch.stack([straight if move.bend is None else move.bend for move in moves])
            rows, columns = (
                _spread(count, pixels).to(device) for count, pixels in zip(BEND_POINTS, size, strict=True)
            )
            self._bend = rows @ points.to(device) @ columns.T
            self._at = self._at + self._bend.permute(0, 2, 3, 1)

    def resample(self, maps: Mapping[str, Tensor], mode: str, padding: str) -> dict[str, Tensor]:
        """Maps [B, C, H, W] or [B, K, C, H, W] moved, all in one pass.

        mode: "bilinear" or "nearest"; padding: "border" or "zeros".
        """
        if not maps:
            return {}
        flat = torch.cat([each.flatten(1, -3).float() for each in maps.values()], dim=1)
        moved = F.grid_sample(flat, self._at, mode, padding, align_corners=False)
        parts = torch.split(moved, [each[0, ..., 0, 0].numel() for each in maps.values()], dim=1)
        return {
            name: part.reshape(each.shape).to(each.dtype)
            for (name, each), part in zip(maps.items(), parts, strict=True)
        }

    def forth(self, places: Tensor) -> Tensor:
        """Where places [B, 2, h, w] in [-1, 1] go: x = A(place - d(x)), by fixed-point iteration."""
        moved = self._affine(places)
        if self._bend is not None:
            for _ in range(_BEND_STEPS):
                at = moved.permute(0, 2, 3, 1)
                bend = F.grid_sample(self._bend, at, padding_mode="border", align_corners=False)
                moved = self._affine(places - bend)
        return moved

    def _affine(self, places: Tensor) -> Tensor:
        return torch.baddbmm(self._forth[:, :, 2:], self._forth[:, :, :2], places.flatten(2)).view_as(places)


def move_person(batch: Sample, moves: Sequence[Move]) -> Sample:
    """Move each person of a batch. What comes in from outside repeats the border, in picture and maps alike.

    That is as the mirror shows the network what lies beyond the camera's picture, but no truth: `inside` is 0
    there. Nor is the flow known there, between two pieces of cloth, and beside pixels where it was not.
    """
    size = (batch.person.shape[-2], batch.person.shape[-1])
    transform = _Transform(moves, size, batch.person.device)
    inside = torch.ones_like(batch.person[:, :1]) if batch.inside is None else batch.inside
    # The worn mask is a share, whose edge moves with the picture's.
    smooth = _present(batch, "person", "other_persons", "worn_mask", "flow")
    labels = _present(batch, "parse", "dense")
    flow = _present(batch, "flow")
    changed = transform.resample(smooth, "bilinear", "border")
    stepped = transform.resample(flow | {k: v[:, None] for k, v in labels.items()}, "nearest", "border")
    changed |= {name: changed[name].clamp(-1, 1) for name in smooth if name != "flow"}
    changed |= {name: stepped[name][:, 0] for name in labels}
    changed |= transform.resample({"inside": inside}, "nearest", "zeros")
    if batch.visible is not None and flow:
        seen = transform.resample({"visible": batch.visible}, "bilinear", "zeros")["visible"]
        unfolded = ((changed["flow"] - stepped["flow"]).abs() < _FOLD).all(dim=1, keepdim=True)
        known = unfolded & (seen > 0.99)  # at all four neighbours
        changed["visible"] = known.to(batch.visible.dtype)
    if batch.keypoints is not None:
        changed["keypoints"] = _move_points(batch.keypoints, transform, size)
    return batch.replace(**changed)


def _present(batch: Sample, *names: str) -> dict[str, Tensor]:
    """Those of a batch's parts that it has."""
    return {name: part for name in names if (part := getattr(batch, name)) is not None}


def _half(size: tuple[int, int], device: torch.device) -> Tensor:
    """Half of the width and of the height in pixels, [2, 1, 1]."""
    return torch.tensor([size[1] / 2, size[0] / 2], device=device).view(2, 1, 1)


def _move_points(points: Tensor, transform: _Transform, size: tuple[int, int]) -> Tensor:
    """Move what was seen; what leaves the picture counts as not seen."""
    half = _half(size, points.device)
    places = points[..., :2].mT.unsqueeze(-1) / half - 1
    xy = ((transform.forth(places) + 1) * half).squeeze(-1).mT
    inside = (xy >= 0).all(dim=-1) & (xy[..., 0] < size[1]) & (xy[..., 1] < size[0]) & (points[..., 2] > 0)
    return torch.cat([xy, points[..., 2:]], dim=-1) * inside[..., None]


def move_garment(batch: Sample, moves: Sequence[Move]) -> Sample:
    """Move each garment in its photo; the flow points to where it went, and is lost where that is outside."""
    size = (batch.garment.shape[-2], batch.garment.shape[-1])
    transform = _Transform(moves, size, batch.garment.device)
    garment, mask = _move_photos(batch.garment, batch.garment_mask, transform)
    changed = {"garment": garment, "garment_mask": mask}
    if batch.flow is not None and batch.visible is not None:
        moved = transform.forth(batch.flow)
        between = 1 - 0.5 / _half(size, moved.device)  # centres of pixels
        changed["flow"] = moved
        changed["visible"] = batch.visible * (moved.abs() < between).all(dim=1, keepdim=True)
    return batch.replace(**changed)


def _move_photos(garment: Tensor, mask: Tensor, transform: _Transform) -> tuple[Tensor, Tensor]:
    moved = transform.resample({"garment": garment}, "bilinear", "border")
    return moved["garment"].clamp(-1, 1), transform.resample({"mask": mask}, "nearest", "zeros")["mask"]


def fray(mask: Tensor, by: Tensor) -> Tensor:
    """Masks with ragged outlines, as those that are found in photos have them.

    mask: [B, 1, H, W], 0 or 1; by: [B, 1, h, w], on a coarser grid, what is added to a mask spread over
    13 pixels; 0.1 moves its outline by about a pixel.
    """
    spread = mask
    for _ in range(2):
        spread = F.avg_pool2d(F.pad(spread, (3, 3, 3, 3), mode="replicate"), 7, 1)
    size = (mask.shape[-2], mask.shape[-1])
    moved = spread + F.interpolate(by.to(mask), size, mode="bicubic")
    # Only the outline moves: what is well inside or outside stays.
    moved = torch.where((spread > 0.02) & (spread < 0.98), (moved > 0.5).to(mask.dtype), mask)
    return torch.where(by.flatten(1).any(dim=1).view(-1, 1, 1, 1).to(mask.device), moved, mask)


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast and saturation as factors, hue as a turn in degrees, in that order."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


def colour_maps(colours: Sequence[Colour]) -> Tensor:
    """[B, 3, 4]: affine maps of colours in [-1, 1]; contrast about mid-grey, hue about the grey axis."""
    numbers = [(c.brightness, c.contrast, c.saturation) for c in colours]
    brightness, contrast, saturation = torch.tensor(numbers, dtype=torch.float64).T[..., None, None]
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).expand(3, 3)
    turns = torch.stack([_hue_turn(colour.hue) for colour in colours])
    turned = saturation * (turns @ (torch.eye(3, dtype=torch.float64) - grey))
    offset = (contrast * (brightness - 1)).expand(-1, 3, 1)
    return torch.cat([contrast * brightness * (grey + turned), offset], dim=2)


def recolour(images: Tensor, maps: Tensor) -> Tensor:
    """Change pictures [B, 3, H, W] or [B, K, 3, H, W] in [-1, 1], each sample's by its own of `colour_maps`.

    They stay in that range. A colour becomes the same one in every picture of a sample.
    """
    maps = maps.to(images).view(len(maps), *[1] * (images.dim() - 4), 3, 4)
    return (maps[..., :3] @ images.flatten(-2) + maps[..., 3:]).clamp_(-1, 1).view(images.shape)


def draw_dyes(rng: np.random.Generator, count: int) -> Tensor:
    """[count, 3] colours for `dye`: fabrics have those of shops; four garments in ten get one sold seldom."""
    drawn = [draw_mistakable(rng) * 2 - 1 if rng.random() < 0.4 else np.full(3, np.nan) for _ in range(count)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def dye(
    garment: Tensor, mask: Tensor, person: Tensor, worn: Tensor, colours: Tensor
) -> tuple[Tensor, Tensor]:
    """Garments in other colours, in their photos and as they are worn alike; what surrounds them stays.

    garment, person: [B, 3, H, W] in [-1, 1]; mask, worn: [B, 1, H, W] in [0, 1]; colours: [B, 3] in [-1, 1],
    what each garment's mean in its photo becomes; NaN leaves it. Folds and patterns differ from the mean as
    before.
    """
    mean = (garment * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3)).clamp(min=1)
    shift = (colours.to(mean) - mean).nan_to_num(nan=0.0)[..., None, None]
    return (garment + shift * mask).clamp(-1, 1), (person + shift * worn).clamp(-1, 1)


def _hue_turn(degrees: float) -> Tensor:
    """Rotation about grey, [3, 3]."""
    return torch.from_numpy(rotation((1, 1, 1), degrees))


@dataclass(frozen=True)
class _Change:
    """What is drawn for one sample."""

    flip: bool
    person: Move
    garment: Move
    colour: Colour
    light: Colour  # of the garment's photo
    frayed: Tensor | None  # as of `fray`
    others: list[Move]  # of the other garments
    other_lights: list[Colour]


@dataclass(frozen=True)
class Augment:
    """Random changes; call it with a sample, or `batch` with many, and a random generator.

    Each field is the largest change, of scales and stretches the logarithm's, but for `flip` and the bends.

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
    person_shape: float = 0.0  # stretch and shear
    garment_shape: float = 0.0
    person_bend: float = 0.0  # largest standard deviation of `Move.bend`
    garment_bend: float = 0.0
    garment_fray: float = 0.0  # largest standard deviation of `fray`, of every second mask

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample, changed as drawn from `rng`."""
        return split(self.batch(collate([sample]), rng))[0]

    def batch(self, batch: Sample, rng: np.random.Generator) -> Sample:
        """The batch, each sample changed by itself, drawn one after the other from `rng`."""
        others = 0 if batch.other_garments is None else batch.other_garments.shape[1]
        drawn = [self._draw(rng, others) for _ in range(len(batch.person))]
        if any(one.flip for one in drawn):
            pairs = zip(split(batch), drawn, strict=True)
            batch = collate([flip(sample) if one.flip else sample for sample, one in pairs])
        batch = move_person(batch, [one.person for one in drawn])
        batch = move_garment(batch, [one.garment for one in drawn])
        if frayed := [one.frayed for one in drawn if one.frayed is not None]:
            batch = batch.replace(garment_mask=fray(batch.garment_mask, torch.stack(frayed)))
        colours = colour_maps([one.colour for one in drawn])
        changed = {
            "person": recolour(batch.person, colours),
            "garment": self._lit(recolour(batch.garment, colours), [one.light for one in drawn]),
        }
        if batch.other_persons is not None:
            changed["other_persons"] = recolour(batch.other_persons, colours)
        if batch.other_garments is not None and batch.other_masks is not None:
            garments, masks = batch.other_garments, batch.other_masks
            size = (garments.shape[-2], garments.shape[-1])
            moves = [move for one in drawn for move in one.others]
            transform = _Transform(moves, size, garments.device)
            moved, moved_masks = _move_photos(garments.flatten(0, 1), masks.flatten(0, 1), transform)
            moved = recolour(moved, colours.repeat_interleave(others, dim=0))
            moved = self._lit(moved, [light for one in drawn for light in one.other_lights])
            changed["other_garments"] = moved.view_as(garments)
            changed["other_masks"] = moved_masks.view_as(masks)
        return batch.replace(**changed)

    def _lit(self, garments: Tensor, lights: Sequence[Colour]) -> Tensor:
        """Garments' photos in a light of their own, where they have one."""
        return recolour(garments, colour_maps(lights)) if self.garment_brightness else garments

    def _draw(self, rng: np.random.Generator, others: int) -> _Change:
        def draw(most: float) -> float:
            return float(rng.uniform(-most, most))

        def move(part: str) -> Move:
            degrees, scale, shift, shape, bend = (
                getattr(self, f"{part}_{kind}") for kind in ("degrees", "scale", "shift", "shape", "bend")
            )
            return Move(
                draw(degrees), float(np.exp(draw(scale))), draw(shift), draw(shift),
                float(np.exp(draw(shape))), draw(shape), points(bend),
            )  # fmt: skip

        def points(most: float) -> Tensor | None:
            if not most:
                return None
            return torch.from_numpy(rng.normal(0, rng.uniform(0, most), (2, *BEND_POINTS)).astype(np.float32))

        def frayed() -> Tensor:
            strength = max(0.0, draw(self.garment_fray))
            return torch.from_numpy(strength * rng.standard_normal((1, *FRAY_POINTS), np.float32))

        def light() -> Colour:
            return Colour(1 + draw(self.garment_brightness))

        return _Change(
            flip=rng.random() < self.flip,
            person=move("person"),
            garment=move("garment"),
            colour=Colour(
                1 + draw(self.brightness), 1 + draw(self.contrast), 1 + draw(self.saturation), draw(self.hue)
            ),
            light=light(),
            frayed=frayed() if self.garment_fray else None,
            others=[move("garment") for _ in range(others)],
            other_lights=[light() for _ in range(others)],
        )


# Layers are mirrored before they are dressed. Framings vary more than one folder's, bodies and cuts more than
# a few thousand people show, and light more than dressed people do: studios show skin brighter and redder.
FOR_LAYERS = Augment(
    person_scale=0.25,
    person_shift=0.08,
    person_shape=0.06,
    garment_shape=0.08,
    person_bend=0.026,
    garment_bend=0.03,
    flip=0,
    brightness=0.2,
    contrast=0.1,
    saturation=0.3,
    hue=4,
    garment_brightness=0,
    garment_fray=0.3,
)
