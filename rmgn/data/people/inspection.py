"""What a sample must not show: hardly any garment, torn cloth, a body that pokes through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import numpy as np

from engines.program import InputError
from rmgn.data.people.layers import LABELS, LEAST_GARMENT, VISIBLE, Worn, unpack_light

ATTEMPTS = 40
DARKEST, BRIGHTEST = 0.25, 2.2  # median light on a garment
Drawn = TypeVar("Drawn")

# Millimetres nearer than the cloth (strands and straps lie close on it), or farther: not what is beneath.
_ON_TOP, _BEHIND = {LABELS["hair"]: 0, LABELS["background"]: 4}, 60


class Rejected(Exception):  # noqa: N818 - not an error, the next draw takes its place
    """A sample that would teach nonsense; the message is the reason."""


def first_accepted(draw: Callable[[int], Drawn], name: str) -> tuple[Drawn, int, list[str]]:
    """What the first of ATTEMPTS draws gives that is not rejected, its number, and why those before it were.

    draw: makes the draw of a number, or raises `Rejected`. Raises InputError, which begins with `name` (such
    as "sample 7"), where all are rejected.
    """
    reasons: list[str] = []
    for attempt in range(ATTEMPTS):
        try:
            return draw(attempt), attempt, reasons
        except Rejected as reason:
            reasons.append(str(reason))
    told = ", ".join(f"{count} for {reason}" for reason, count in Counter(reasons).most_common())
    raise InputError(f"{name}: all {ATTEMPTS} draws were rejected, {told}")


def inspect(worn: Worn) -> None:
    """Reject what shows too little of the garment, or something that pokes through it."""
    garment = worn.garment
    covered = garment[..., 0] > 127
    if covered.mean() < LEAST_GARMENT:
        raise Rejected("garment hardly in the picture")
    seen = (garment[..., 1] & VISIBLE) > 0
    if (seen & covered).sum() < 0.6 * covered.sum():
        raise Rejected("mostly unseen in the shop photo")
    for reason in through_cloth(worn):
        raise Rejected(reason)


def exposed(worn: Worn) -> None:
    """Reject a garment that is nearly black or burnt out by its light, of which 1 is normal."""
    light = unpack_light(worn.light).mean(axis=2)[worn.garment[..., 0] > 127]
    if not DARKEST < np.median(light) < BRIGHTEST:
        raise Rejected("too dark or too bright")


def through_cloth(worn: Worn) -> Iterator[str]:
    """What pokes through the garment or shows through a hole in it, from small islands within the garment.

    Depth tells: a hand, hair or a bag before the garment is well nearer than the cloth around it, what is
    seen between arm and trunk well farther; what pokes through meets the cloth, and a hole shows what lies
    beneath.
    """
    cloth = worn.labels == LABELS["garment"]
    count, island, stats, _ = cv2.connectedComponentsWithStats((~cloth).astype(np.uint8), connectivity=4)
    for k in range(1, count):
        x, y, w, h, area = stats[k]
        rim = x == 0 or y == 0 or x + w == cloth.shape[1] or y + h == cloth.shape[0]
        if rim or area < 5e-5 * cloth.size or area > 8e-3 * cloth.size:
            continue
        near = np.s_[y - 1 : y + h + 1, x - 1 : x + w + 1]
        own, depth, label = island[near] == k, worn.depth[near].astype(float), worn.labels[near]
        steps = []  # of depth, from a pixel of the island out to its neighbour
        for axis, way in ((0, 1), (0, -1), (1, 1), (1, -1)):
            outward = own & ~np.roll(own, way, axis)
            steps.append((np.roll(depth, way, axis) - depth)[outward])
        name = int(np.bincount(label[own]).argmax())
        solid = depth[own] > 0
        if not solid.any():
            continue  # the background between arm and trunk
        nearer = float(np.median(np.concatenate(steps)))
        if nearer >= _ON_TOP.get(name, 8) or nearer <= -_BEHIND:
            continue
        if name in (LABELS["left arm"], LABELS["right arm"]):
            yield "hand through the cloth"
        elif name == LABELS["background"]:
            yield "belt or strap through the cloth"
        else:
            yield "body or trousers through the cloth"
