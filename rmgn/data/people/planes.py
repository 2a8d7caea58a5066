"""From what rays hit to the planes of a `Worn` or a `Shop`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from rmgn.data.people import layers
from rmgn.data.people.body import BODY_VERTICES, BodyModel
from rmgn.data.people.camera import Camera
from rmgn.data.people.layers import LABELS, Shop, Worn, pack_light, pack_place
from rmgn.data.people.light import Lights
from rmgn.data.people.mesh import Floats, Ints
from rmgn.data.people.raytrace import (
    F32,
    GARMENT,
    HAIR,
    LOWER,
    OTHER,
    SKIN,
    Hits,
    Surface,
    Tracer,
    interpolate,
)

# Columns of a garment surface's values.
X, Y, Z, FACING, SEAM, PANEL, NECK = range(7)  # NECK, NECK + 1, NECK + 2: outline distances


def _average(values: npt.NDArray[np.floating], camera: Camera, subpixels: int) -> F32:
    """Mean over subpixels: [rays, ...] -> [H, W, ...]."""
    picture = values.reshape(camera.height * subpixels, camera.width * subpixels, -1).astype(np.float32)
    size = (camera.width, camera.height)
    planes = [
        cv2.resize(picture[:, :, k : k + 3], size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1)
        for k in range(0, picture.shape[2], 3)
    ]
    joined = np.concatenate(planes, axis=2).reshape(*size[::-1], *values.shape[1:])
    return np.asarray(joined, np.float32)


@functools.lru_cache(maxsize=4)
def _rays_of_pixels(height: int, width: int, subpixels: int) -> Ints:
    """Ray numbers [H · W, subpixels²] of each pixel, the one nearest to its centre first."""
    rays = np.arange(height * width * subpixels**2)
    grouped = rays.reshape(height, subpixels, width, subpixels).swapaxes(1, 2)
    offset = np.arange(subpixels) - (subpixels - 1) / 2
    order = np.argsort((offset[:, None] ** 2 + offset[None] ** 2).ravel(), kind="stable")
    return grouped.reshape(-1, subpixels**2)[:, order]


def _central(values: npt.NDArray[Any], camera: Camera, subpixels: int) -> npt.NDArray[Any]:
    """What the ray nearest to each pixel's centre has: [rays] -> [H, W]."""
    central = _rays_of_pixels(camera.height, camera.width, subpixels)[:, 0]
    return np.asarray(values[central].reshape(camera.height, camera.width))


def _values_at(hits: Hits, tracer: Tracer, material: int, width: int) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Interpolated values [rays, width] of the first solid surface where it is of the material, and where."""
    values = np.zeros((len(hits.surface), width), np.float32)
    found = np.zeros(len(hits.surface), bool)
    for g, surface in enumerate(tracer.surfaces):
        if surface.material == material and surface.values is not None:
            k = np.flatnonzero(hits.surface == g)
            values[k] = interpolate(surface.values, surface.triangles, hits.triangle[k], hits.bary[k])
            found[k] = True
    return values, found


def _representative(
    values: F32, found: npt.NDArray[np.bool_], camera: Camera, subpixels: int, reach: float
) -> F32:
    """One value a pixel: the mean over the subpixels that lie on the same piece as the most central one."""
    rays = _rays_of_pixels(camera.height, camera.width, subpixels)
    result = np.full((camera.height * camera.width, values.shape[1]), np.nan, np.float32)
    _mean_of_piece(values, found, rays, np.float32(reach), result)
    return result.reshape(camera.height, camera.width, -1)


@njit(cache=True)
def _mean_of_piece(values, found, rays, reach, result):  # type: ignore[no-untyped-def]
    for p in range(len(rays)):
        lead, count = -1, 0
        for ray in rays[p]:
            if not found[ray]:
                continue
            if lead < 0:
                lead = ray
                result[p] = 0
            gap = 0.0
            for j in range(3):
                gap = max(gap, abs(values[ray, j] - values[lead, j]))
            if gap < reach:
                count += 1
                for j in range(values.shape[1]):
                    result[p, j] += values[ray, j]
        if count:
            for j in range(values.shape[1]):
                result[p, j] /= count


def _garment_planes(value: F32, cover: F32, visible: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.uint8]:
    """Coverage, code, edge and seam from representative values [H, W, 9]."""
    there = np.isfinite(value[..., X]) & (cover > 1 / 255)
    value = np.nan_to_num(value)
    sleeve = value[..., SEAM] > 0
    # The body's left is at positive x, on the right of a picture taken from the front.
    panel = np.where(
        sleeve, np.where(value[..., X] > 0, layers.SLEEVE_LEFT, layers.SLEEVE_RIGHT), layers.TORSO
    )
    panel = np.where(value[..., PANEL] > 0.5, layers.COLLAR, panel)
    inside = -value[..., NECK : NECK + 3]
    nearest = inside.argmin(axis=2)
    edge = np.clip(inside.min(axis=2), 0, None) / layers.EDGE_UNIT
    seam = np.abs(value[..., SEAM]) / layers.EDGE_UNIT
    code = panel | (value[..., FACING] > 0) * layers.BACK | (nearest << layers.OUTLINE_SHIFT)
    if visible is not None:
        code = code | visible * layers.VISIBLE
    planes = np.stack([np.round(255 * cover), code, np.clip(edge, 0, 255), np.clip(seam, 0, 255)], axis=2)
    return np.where(there[..., None], planes, 0).astype(np.uint8)


_HEAD_RIGHT, _HEAD_LEFT = 23, 24  # the head is told apart by side, all else by front and back
_LIMBS = {
    "upperarm": "upper arm", "lowerarm": "fore arm", "wrist": "hand", "finger": "hand", "metacarpal": "hand",
    "upperleg": "thigh", "lowerleg": "shin", "foot": "foot", "toe": "foot",
}  # fmt: skip


@functools.lru_cache(maxsize=1)
def body_parts(model: BodyModel) -> tuple[Ints, Ints]:
    """For each body vertex its parse label and its DensePose part, front numbering; back is derived."""
    names = ["head", "torso"] + [
        f"{p}.{s}" for s in "LR" for p in ("upper arm", "fore arm", "hand", "thigh", "shin", "foot")
    ]
    column = np.zeros(len(model.bones), int)
    for i, bone in enumerate(model.bones):
        side = bone[-1] if bone[-2:] in (".L", ".R") else ""
        part = "head"
        if any(w in bone for w in ("spine", "root", "pelvis", "breast", "clavicle", "shoulder")):
            part = "torso"
        part = next((f"{name}.{side}" for word, name in _LIMBS.items() if bone.startswith(word)), part)
        column[i] = names.index(part)
    member = np.zeros((len(model.bones), len(names)))
    member[np.arange(len(column)), column] = 1
    part = np.asarray(model.weights[:BODY_VERTICES] @ member).argmax(axis=1)
    left = model.rest({}).vertices[:BODY_VERTICES, 0] > 0
    label = {"head": "face", "torso": "face", "upper arm": "arm", "fore arm": "arm", "hand": "arm",
             "thigh": "leg", "shin": "leg", "foot": "leg"}  # fmt: skip
    sides = {"L": "left ", "R": "right "}
    labels = np.array(
        [LABELS[(sides[n[-1]] if n[-2:] in (".L", ".R") else "") + label[n.split(".")[0]]] for n in names]
    )
    front = {
        "head": _HEAD_LEFT, "torso": 2, "hand.R": 3, "hand.L": 4, "foot.L": 5, "foot.R": 6,
        "thigh.R": 9, "thigh.L": 10, "shin.R": 13, "shin.L": 14, "upper arm.L": 17, "upper arm.R": 18,
        "fore arm.L": 21, "fore arm.R": 22,
    }  # fmt: skip
    numbers = np.array([front[n] for n in names])[part]
    return labels[part], np.where((numbers == _HEAD_LEFT) & ~left, _HEAD_RIGHT, numbers)


_BACK_PART = np.arange(25)
for _front, _back in (
    (2, 1),
    (9, 7),
    (10, 8),
    (13, 11),
    (14, 12),
    (17, 15),
    (18, 16),
    (21, 19),
    (22, 20),
):
    _BACK_PART[_front] = _back


def nearest_corner(bary: F32) -> npt.NDArray[np.intp]:
    """Which corner of its triangle each hit is nearest to: [N], 0 to 2. bary: [N, 2], weights of 1 and 2."""
    return np.column_stack([1 - bary.sum(axis=1), bary]).argmax(axis=1)


def parts_plane(model: BodyModel, vertices: Floats, normals: Floats, camera: Camera) -> npt.NDArray[np.uint8]:
    """Body parts of the bare body, numbered as DensePose does: [H, W] 0 to 24."""
    tracer = Tracer([Surface(vertices[:BODY_VERTICES], model.triangles, SKIN, normals=normals)])
    hits = tracer.trace(camera, 1, None, 0)
    number = body_parts(model)[1][model.triangles[hits.triangle, nearest_corner(hits.bary)]]
    normal = interpolate(normals, model.triangles, hits.triangle, hits.bary)
    # Front and back as the body sees them, not the camera.
    number = np.where(normal[:, 1] > 0, _BACK_PART[number], number)
    return np.where(hits.surface >= 0, number, 0).reshape(camera.height, camera.width).astype(np.uint8)


def _label_plane(
    model: BodyModel, hits: Hits, tracer: Tracer, camera: Camera, subpixels: int
) -> npt.NDArray[np.uint8]:
    """Parse label at the pixel's centre."""
    label = np.zeros(len(hits.surface), np.uint8)
    simple = {GARMENT: LABELS["garment"], HAIR: LABELS["hair"], LOWER: LABELS["lower"], OTHER: LABELS["face"]}
    for g, surface in enumerate(tracer.surfaces):
        k = np.flatnonzero(hits.surface == g)
        if surface.label is not None:
            label[k] = surface.label
        elif surface.material == SKIN:
            corner = surface.triangles[hits.triangle[k], nearest_corner(hits.bary[k])]
            label[k] = body_parts(model)[0][corner]
        else:
            label[k] = simple[surface.material]
    return np.asarray(_central(label, camera, subpixels), np.uint8)


def worn_planes(
    model: BodyModel, tracer: Tracer, camera: Camera, lights: Lights, subpixels: int, samples: int,
    shop_depth: ShopDepth,
) -> Worn:  # fmt: skip
    """Render a dressed person."""
    hits = tracer.trace(camera, subpixels, lights, samples)
    cover = _average(hits.cover, camera, subpixels)
    total = np.maximum(cover.sum(axis=2, keepdims=True), 1e-4)
    there = cover.sum(axis=2, keepdims=True) > 1 / 255

    def mean(values: npt.NDArray[np.floating]) -> F32:
        averaged = _average(values, camera, subpixels)
        averaged = averaged[..., None] if averaged.ndim == 2 else averaged
        return np.asarray(np.where(there, averaged / total, 0), np.float32)

    values, found = _values_at(hits, tracer, GARMENT, NECK + 3)
    value = _representative(values, found, camera, subpixels, 0.015)
    cloth, found = _values_at(hits, tracer, LOWER, 3)
    cloth_value = _representative(cloth, found, camera, subpixels, 0.03)
    visible = shop_depth.visible(value)
    garment = _garment_planes(value, cover[..., GARMENT], visible)
    place = np.concatenate([pack_place(np.nan_to_num(p[..., [X, Z]])) for p in (value, cloth_value)], axis=2)
    place[garment[..., 0] == 0, :2] = 0
    place[(cover[..., LOWER] < 1 / 255) | ~np.isfinite(cloth_value[..., 0]), 2:] = 0
    others = cover[..., [SKIN, HAIR, LOWER, OTHER]]
    own = others[..., [0, 1, 3]].sum(axis=2, keepdims=True)  # cloth has no albedo of its own
    albedo = np.where(own > 1 / 255, _average(hits.albedo, camera, subpixels) / np.maximum(own, 1e-4), 0)
    depth = _central(hits.depth, camera, subpixels)
    return Worn(
        np.round(255 * others).astype(np.uint8),
        garment,
        place,
        pack_light(mean(hits.light)),
        pack_light(mean(hits.gloss))[..., 0],
        pack_light(albedo),
        _label_plane(model, hits, tracer, camera, subpixels),
        (np.round(depth * 250) * 4).astype(np.uint16),
    )


def shop_planes(
    tracer: Tracer, camera: Camera, lights: Lights, subpixels: int, samples: int
) -> tuple[Shop, ShopDepth]:
    """Render a laid-out garment; also what decides which of its cloth the picture shows."""
    hits = tracer.trace(camera, subpixels, lights, samples)
    cover = _average(hits.cover[:, GARMENT], camera, subpixels)
    total = np.maximum(cover, 1e-4)
    values, found = _values_at(hits, tracer, GARMENT, NECK + 3)
    garment = _garment_planes(_representative(values, found, camera, subpixels, 0.015), cover, None)
    light = _average(hits.light.mean(axis=1), camera, subpixels) / total
    gloss = _average(hits.gloss, camera, subpixels) / total
    there = garment[..., 0] > 0
    shop = Shop(garment, np.where(there, pack_light(light), 0), np.where(there, pack_light(gloss), 0))
    front = np.where(found, values[:, Y], np.inf)
    nearest = np.column_stack([front, _half(values), _panel(values)])
    return shop, ShopDepth(nearest.reshape(camera.height * subpixels, -1, 3), camera)


def _half(value: F32) -> F32:
    """Front -1 or back 1 of a garment's values [..., 9]."""
    return np.where(value[..., FACING] > 0, 1, -1)


def _panel(value: F32) -> F32:
    """Trunk -1, sleeve 1 or collar 2 of a garment's values [..., 9]; 0 at a seam, where it is two."""
    sleeve = np.sign(np.where(np.abs(value[..., SEAM]) > 0.008, value[..., SEAM], 0))
    return np.where(value[..., PANEL] > 0.5, 2, sleeve)


@dataclass(frozen=True)
class ShopDepth:
    """What cloth is frontmost at every spot of a shop photo, and how near: decides what it shows."""

    front: F32  # [H · subpixels, W · subpixels, 3] depth, infinite where there is no cloth; half; panel
    camera: Camera

    def visible(self, value: F32) -> npt.NDArray[np.bool_]:
        """Whether places of the garment, given as values [H, W, ...], are frontmost in the shop photo."""
        points = np.nan_to_num(value[..., [X, Y, Z]].astype(np.float64))
        pixels, _ = self.camera.project(points.reshape(-1, 3))
        pixels *= self.front.shape[0] / self.camera.height
        limit = np.array(self.front.shape[1::-1])
        inside = ((pixels > 0) & (pixels < limit)).all(axis=1).reshape(value.shape[:2])
        at = np.clip(pixels.astype(int), 0, limit - 1)
        front, half, panel = np.moveaxis(self.front[at[:, 1], at[:, 0]].reshape(*value.shape[:2], 3), 2, 0)
        # A flat sleeve is so thin that its depth alone does not tell its back from its front.
        own = _half(value) == half
        whole = _panel(value)
        own &= (whole == panel) | (whole * panel == 0)
        return np.asarray(inside & np.isfinite(value[..., X]) & (points[..., 1] - front < 0.006) & own)
