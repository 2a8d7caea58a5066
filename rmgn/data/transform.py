"""Layers seen in a mirror, and layers at a smaller size: both before fabrics are drawn."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from rmgn.data.people import layers
from rmgn.data.people.layers import PLACE_UNIT, Sample, Shop, Worn

U8 = npt.NDArray[np.uint8]
Coded = npt.NDArray[Any]  # uint8 or uint16 [H, W]
Ints = npt.NDArray[np.intp]
F32 = npt.NDArray[np.float32]
Plane = TypeVar("Plane", bound=npt.NDArray[Any])

_LABEL_SWAP = np.arange(256, dtype=np.uint8)
_LABEL_SWAP[[9, 10, 11, 13]] = [10, 9, 13, 11]
_PART_SWAP = np.arange(256, dtype=np.uint8)
for _left in range(3, 24, 2):
    _PART_SWAP[[_left, _left + 1]] = [_left + 1, _left]
_POINT_SWAP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def mirror(sample: Sample) -> Sample:
    """The sample seen in a mirror. Fabrics are drawn afterwards, so letters stay readable."""

    def flip(plane: Plane) -> Plane:
        return plane[:, ::-1]  # type: ignore[return-value]

    def codes(garment: U8) -> U8:
        garment = flip(garment).copy()
        panel = garment[..., 1] & layers.PANEL
        sleeve = (panel == layers.SLEEVE_LEFT) | (panel == layers.SLEEVE_RIGHT)
        garment[..., 1] ^= sleeve.astype(np.uint8) * (layers.SLEEVE_LEFT ^ layers.SLEEVE_RIGHT)
        return garment

    def worn(w: Worn) -> Worn:
        flipped = {f.name: flip(getattr(w, f.name)) for f in fields(w)}
        place = flipped["place"].copy()
        place[..., [0, 2]] = -place[..., [0, 2]]  # 2 · PLACE_ZERO - v in 16 bits; 0 stays 0
        return Worn(
            **{
                **flipped,
                "place": place,
                "garment": codes(w.garment),
                "labels": _LABEL_SWAP[flipped["labels"]],
            }
        )

    def shop(s: Shop) -> Shop:
        return Shop(codes(s.garment), flip(s.light), flip(s.gloss))

    width = sample.parts.shape[1]
    meta = {**sample.meta}
    points = [sample.meta["keypoints"][k] for k in _POINT_SWAP]
    meta["keypoints"] = [[round(width - x, 2), y, v] for x, y, v in points]
    meta["garments"] = [{**g, "shop": _mirrored(g["shop"])} for g in meta["garments"]]
    return replace(
        sample,
        worn=(worn(sample.worn[0]), worn(sample.worn[1])),
        shop=(shop(sample.shop[0]), shop(sample.shop[1])),
        parts=_PART_SWAP[flip(sample.parts)],
        meta=meta,
    )


def _mirrored(shop: dict[str, Any]) -> dict[str, Any]:
    x, z = shop["centre"]
    return {**shop, "centre": [-x, z], "roll": -shop["roll"]}


def shrink(sample: Sample, scale: int) -> Sample:
    """The sample with squares of `scale` × `scale` pixels made one; `ValueError` if they do not fit.

    Shares, and light and colour weighted by them, are averaged. Places, codes and distances are averaged over
    those pixels of a square that lie on the same piece of cloth as the one that has most of it, so that no
    value lies between two pieces. Labels and body parts are those that most pixels have, depth is theirs.
    """
    height, width = sample.parts.shape
    if height % scale or width % scale:
        raise ValueError(f"layers of {height}x{width} cannot be reduced to a {scale}th")
    if scale == 1:
        return sample
    meta = {**sample.meta, "size": [height // scale, width // scale]}
    points = sample.meta["keypoints"]
    meta["keypoints"] = [[round(x / scale, 2), round(y / scale, 2), v] for x, y, v in points]
    squares = _squares(height, width, scale)
    parts = sample.parts.ravel()[_commonest(sample.parts.ravel()[squares], squares)]
    return Sample(
        (_small_worn(sample.worn[0], scale), _small_worn(sample.worn[1], scale)),
        (_small_shop(sample.shop[0], scale), _small_shop(sample.shop[1], scale)),
        parts.reshape(meta["size"]),
        meta,
    )


@functools.lru_cache(maxsize=4)
def _squares(height: int, width: int, scale: int) -> Ints:
    """The pixels' numbers in each square [scale², squares], row by row."""
    number = np.arange(height * width).reshape(height // scale, scale, width // scale, scale)
    return np.ascontiguousarray(number.transpose(1, 3, 0, 2).reshape(scale**2, -1))


def _largest(values: npt.NDArray[Any], of: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """For each square the entry in `of` [S, P, ...] where `values` [S, P] is largest, the first of equals."""
    best, found = values[0].copy(), of[0].copy()
    for value, entry in zip(values[1:], of[1:], strict=True):
        better = value > best
        best[better], found[better] = value[better], entry[better]
    return found


def _commonest(labels: U8, squares: Ints) -> Ints:
    """Of each square's labels [S, P] the number of a pixel that has the label which most have."""
    votes = np.zeros(labels.shape, np.uint8)
    for one in labels:
        votes += labels == one
    return np.asarray(_largest(votes, squares))


def _channels(planes: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return [np.asarray(plane) for plane in cv2.split(planes)]


def _join(planes: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.asarray(cv2.merge(planes))


def _area(plane: F32, scale: int) -> F32:
    size = (plane.shape[1] // scale, plane.shape[0] // scale)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)


def _mean(shares: U8, scale: int) -> U8:
    return np.asarray(cv2.convertScaleAbs(_area(shares.astype(np.float32), scale)), np.uint8)


def _lit(coded: U8, weight: F32, scale: int) -> U8:
    """Mean of light, gloss or albedo [H, W] or [H, W, 3], linear as its coding is not, by weight [H, W]."""
    light = np.square(coded.astype(np.float32))
    total = np.maximum(_area(weight, scale), 1e-4)
    if coded.ndim == 3:
        weight, total = _join([weight] * 3), _join([total] * 3)
    return np.asarray(cv2.convertScaleAbs(np.sqrt(_area(light * weight, scale) / total)), np.uint8)


def _near_mean(values: npt.NDArray[Any], near: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    """Rounded mean [P] over the pixels `near` [S, P] of each square, at least one."""
    total = np.where(near, values, 0).sum(axis=0, dtype=np.float32)
    return np.round(total / np.maximum(near.sum(axis=0), 1)).astype(values.dtype)


def _small_cloth(shares: U8, scale: int, codes: U8 | None, averaged: Sequence[Coded], places: Sequence[Coded],
                 reach: float) -> tuple[U8, list[npt.NDArray[Any]]]:  # fmt: skip
    """Cloth's mean share [h, w], its most common code where there are any, and planes of its own averaged.

    A square's pixels are averaged where they have the code of the one that has the largest share, but for
    what shop photo and outline say, and where their `places` lie within `reach` metres of that one's.
    """
    height, width = shares.shape
    small = _mean(shares, scale)
    at = np.flatnonzero(small)
    squares = np.ascontiguousarray(_squares(height, width, scale)[:, at])
    share = shares.ravel()[squares]
    lead = _largest(share, squares)
    near = share > 0
    result: list[npt.NDArray[Any]] = []
    if codes is not None:
        code = codes.ravel()[lead]
        near &= (codes.ravel()[squares] ^ code) & (layers.PANEL | layers.BACK) == 0
        result.append(_spread(code, at, small.shape))
    values = [plane.ravel()[squares] for plane in places]
    for plane, value in zip(places, values, strict=True):
        near &= np.abs(value.astype(np.int32) - plane.ravel()[lead]) < reach / PLACE_UNIT
    values = [*(plane.ravel()[squares] for plane in averaged), *values]
    result += [_spread(_near_mean(value, near), at, small.shape) for value in values]
    return small, result


def _spread(values: npt.NDArray[Any], at: Ints, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    plane = np.zeros(shape, values.dtype)
    plane.ravel()[at] = values
    return plane


def _small_worn(worn: Worn, scale: int) -> Worn:
    reach = 0.015 * scale
    share, code, edge, seam = _channels(worn.garment)
    x, z, below_x, below_z = _channels(worn.place)
    share, (code, edge, seam, x, z) = _small_cloth(share, scale, code, (edge, seam), (x, z), reach)
    known = np.where(below_x > 0, worn.cover[..., 2], 0).astype(np.uint8)
    _, (below_x, below_z) = _small_cloth(known, scale, None, (), (below_x, below_z), 2 * reach)
    total = cv2.transform(worn.cover, np.ones((1, 4), np.float32)).astype(np.float32)
    own = total - worn.cover[..., 2]
    total += worn.garment[..., 0]
    squares = _squares(*worn.labels.shape, scale)
    chosen = _commonest(worn.labels.ravel()[squares], squares).reshape(share.shape)
    return Worn(
        _mean(worn.cover, scale),
        _join([share, code, edge, seam]),
        _join([x, z, below_x, below_z]),
        _lit(worn.light, total, scale),
        _lit(worn.gloss, total, scale),
        _lit(worn.albedo, own, scale),
        worn.labels.ravel()[chosen],
        worn.depth.ravel()[chosen],
    )


def _small_shop(shop: Shop, scale: int) -> Shop:
    share, code, edge, seam = _channels(shop.garment)
    weight = share.astype(np.float32)
    share, (code, edge, seam) = _small_cloth(share, scale, code, (edge, seam), (), 0.0)
    garment = _join([share, code, edge, seam])
    return Shop(garment, _lit(shop.light, weight, scale), _lit(shop.gloss, weight, scale))
