"""The one sample type of every data set, the labels of its parse maps, and what networks make of them.

Conventions, the same for every set and kept by augmentation:
- Pictures are RGB, float32 in [-1, 1]; masks are float32, 0 or 1, with one channel.
- "Left" and "right" are the person's own, in labels, body parts and key points.
- Key points are (x, y, confidence) in pixels of `person`, the top left corner of the picture being (0, 0)
  and the centre of its first pixel (0.5, 0.5); confidence 0 means not seen, and then x = y = 0.
- Flows are sampling grids (x, y) in [-1, 1], `align_corners=False`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor


class Label(IntEnum):
    """Classes of a parse map. Every data set's own numbers are translated to these when it is read."""

    BACKGROUND = 0
    HAIR = 1
    HAT = 2
    FACE = 3  # with the neck in sets that do not part them
    NECK = 4
    UPPER = 5  # the clothes that try-on exchanges
    COAT = 6  # worn over them, where a set parts the two
    DRESS = 7
    LOWER = 8  # trousers, skirts
    LEFT_ARM = 9
    RIGHT_ARM = 10
    LEFT_LEG = 11
    RIGHT_LEG = 12
    LEFT_SHOE = 13
    RIGHT_SHOE = 14
    SOCKS = 15
    ACCESSORY = 16  # bag, scarf, belt, gloves, glasses


HEAD = (Label.HAIR, Label.HAT, Label.FACE)
OTHER_CLOTHES = (
    Label.COAT, Label.DRESS, Label.LOWER, Label.LEFT_LEG, Label.RIGHT_LEG, Label.LEFT_SHOE, Label.RIGHT_SHOE,
    Label.SOCKS,
)  # fmt: skip
SKIN = (Label.NECK, Label.LEFT_ARM, Label.RIGHT_ARM)

DENSE_PARTS = 25  # DensePose: 0 background, 1 and 2 torso, then 11 pairs of a left and a right one

# OpenPose's 18 key points, the order of `Sample.keypoints`.
NOSE, NECK, RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST, LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST = range(8)
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = range(8, 14)
RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR = range(14, 18)
POINTS = 18

POSE_RADIUS = 5 / 256  # half the side of a pose map's square, as a share of the picture's height


@dataclass(frozen=True)
class Sample:
    """A person and a garment, or a batch of them: every tensor then has a leading [B].

    What a data set does not have is None. `paired` tells whether the person wears `garment`.
    Fake triplets use the *other* garments: K of them, drawn from the rest of the data set. Sets that know
    the answer (generated ones) show the same person in the first J of them in `other_persons`, J <= K.
    """

    person: Tensor  # [3, H, W] float32 in [-1, 1]
    garment: Tensor  # [3, H, W] float32 in [-1, 1], with its background
    garment_mask: Tensor  # [1, H, W] float32, 0 or 1
    paired: bool
    person_name: tuple[str, ...]  # one; B of them in a batch
    garment_name: tuple[str, ...]
    parse: Tensor | None = None  # [H, W] uint8, `Label`
    keypoints: Tensor | None = None  # [18, 3] float32: x, y in pixels, confidence in [0, 1]
    dense: Tensor | None = None  # [H, W] uint8, DensePose's parts 0 to 24
    worn_mask: Tensor | None = None  # [1, H, W] float32 in [0, 1]: where the person shows the upper clothes
    flow: Tensor | None = None  # [2, H, W] float32 true sampling grid into `garment`
    visible: Tensor | None = None  # [1, H, W] float32, 0 or 1: where `flow` is true
    other_garments: Tensor | None = None  # [K, 3, H, W] float32 in [-1, 1]
    other_masks: Tensor | None = None  # [K, 1, H, W] float32, 0 or 1
    other_persons: Tensor | None = None  # [J, 3, H, W] float32 in [-1, 1]
    inside: Tensor | None = None  # [1, H, W] float32, 0 or 1: not where a moved picture repeats its border

    def map(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """The sample with `change` applied to every tensor, such as `lambda x: x.to(device)`."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return self.replace(**{k: change(v) for k, v in values.items() if isinstance(v, Tensor)})

    def replace(self, **changed: Tensor) -> Sample:
        """The sample with some of its tensors exchanged."""
        values: dict[str, Any] = changed
        return replace(self, **values)

    def to(self, device: torch.device | str) -> Sample:
        """The sample on a device."""
        return self.map(lambda x: x.to(device, non_blocking=True))


def collate(samples: Sequence[Sample]) -> Sample:
    """A batch; `ValueError` if the samples do not have the same parts."""
    first = samples[0]
    if any(s.paired != first.paired for s in samples):
        raise ValueError("a batch cannot mix paired and unpaired samples")
    batch: dict[str, Any] = {}
    for f in fields(Sample):
        values = [getattr(s, f.name) for s in samples]
        tensors = [v for v in values if isinstance(v, Tensor)]
        if tensors and len(tensors) < len(values):
            raise ValueError(f"some samples of a batch have {f.name}, others do not")
        if tensors:
            batch[f.name] = torch.stack(tensors)
    names = [tuple(n for s in samples for n in getattr(s, k)) for k in ("person_name", "garment_name")]
    return replace(first, person_name=names[0], garment_name=names[1], **batch)


def split(batch: Sample) -> list[Sample]:
    """The samples of a batch: undoes `collate`."""
    names = zip(batch.person_name, batch.garment_name, strict=True)
    return [
        replace(batch.map(lambda x, k=k: x[k]), person_name=(person,), garment_name=(garment,))  # type: ignore[misc]
        for k, (person, garment) in enumerate(names)
    ]


def mask_of(parse: Tensor, labels: Iterable[Label]) -> Tensor:
    """Where a parse map [..., H, W] has one of `labels`: float32 [..., 1, H, W], 0 or 1."""
    wanted = torch.zeros(len(Label), device=parse.device)
    wanted[[int(label) for label in labels]] = 1
    return wanted[parse.long()].unsqueeze(-3)


def dense_one_hot(dense: Tensor) -> Tensor:
    """DensePose parts [..., H, W] as float32 [..., 25, H, W], one channel a part."""
    parts = torch.arange(DENSE_PARTS, device=dense.device, dtype=dense.dtype)
    return (dense.unsqueeze(-3) == parts[:, None, None]).float()


def pose_maps(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Key points as PF-AFN feeds them to its teacher: squares, 11 pixels wide at 256x192, about their pixels.

    keypoints: [..., 18, 3] as in `Sample`. size: (height, width) of the picture that they belong to.
    Returns float32 [..., 18, H, W]: 1 in the square, -1 elsewhere; all -1 where the point was not seen.
    """
    height, width = size
    column, row, seen = (keypoints[..., k, None, None] for k in range(3))
    rows = torch.arange(height, device=keypoints.device)[:, None]
    columns = torch.arange(width, device=keypoints.device)
    reach = POSE_RADIUS * height
    near = ((columns - column.floor()).abs() <= reach) & ((rows - row.floor()).abs() <= reach) & (seen > 0)
    return near.float() * 2 - 1
