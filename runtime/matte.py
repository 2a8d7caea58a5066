"""Where the frame gives way to the try-on, and where the try-on shows the garment's own photo."""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]
Crop = tuple[float, float, float, float]

# Changes of the network's output against its input, in [-1, 1] units: repainted skin or wall always errs.
UNCHANGED = 0.08
CHANGED = 0.25
COARSE = 9  # pixels of the network
# Holes of the composite mask that are no arms or hands but mostly rests of an old print or neckline.
THIN, DEEP = 5, 15  # pixels of the network
ISLAND = 1 / 80  # of the garment; a hand is a thirtieth
SMOOTH = 1.0  # pixels of the network
# Where the composite mask is unsure, it is smoothed wider: it wavers over several pixels there, as at hems.
WIDE, NEARBY = 3.0, 2.0  # pixels of the network
SURE, UNSURE = 0.2, 0.4  # of 1 - |2 w - 1| nearby
FEATHER = 1.5  # pixels of the network
EDGE = 6  # pixels of the network
NEAR = 6  # pixels of the network


def matte(person: Planes, rendered: Planes, tryon: Planes, mask: Planes) -> Planes:
    """How much of the frame gives way to the try-on, feathered; [1, 1, H, W] in [0, 1].

    person, rendered, tryon: [1, 3, H, W], the network's input, what it draws, and that with the garment.
    mask: [1, 1, H, W], where the garment shows. With d the change of a pixel:
    matte = max(mask, blur(dilate(smoothstep(UNCHANGED, CHANGED, d)))), where that belongs to the garment:
    patches of change that do not touch it are errors, since dressing changes nothing there.
    d is the size of the mean change nearby, so that what was only drawn softer, such as a patterned skirt,
    stays as photographed; beside the garment, the size of the change where it is alike nearby, as in what is
    left of the garment worn before. The garment itself does not count to what is nearby.
    """
    change = as_composed(rendered, tryon, mask)[0]
    change -= person[0]
    off = np.maximum(1 - mask[0, 0], 0)  # masks of INT8 may be a little larger than 1
    nearby = _mean(off) + np.float32(1e-3)
    means = np.abs([_mean(plane * off) / nearby for plane in change])
    coarse = means.max(axis=0)
    size = np.abs(change)
    fine = cv2.blur(size.max(axis=0), (3, 3))
    alike = means.sum(axis=0) / (_mean(size.sum(axis=0) * off) / nearby + np.float32(1e-3))
    beside = cv2.dilate(mask[0, 0], np.ones((5, 5), np.uint8))
    d = coarse + beside * alike * alike * alike * np.maximum(fine - coarse, 0)
    changed = smoothstep(UNCHANGED, CHANGED, d)
    # Dilated by what the blur takes away, so that changed pixels keep their full weight.
    grown = cv2.dilate(changed, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    touching = _touching(np.asarray(grown, np.float32), mask[0, 0])
    feathered = cv2.GaussianBlur(touching, (0, 0), FEATHER)
    return np.maximum(feathered[None, None], mask)


def as_composed(rendered: Planes, tryon: Planes, mask: Planes) -> Planes:
    """The network's try-on with its composite mask w made as firm as the composite makes it.

    tryon - rendered = w (garment - rendered), so firm(w) / w = w² / (w³ + (1 - w)³) times that is wanted.
    Where w is small, the garment's haze goes, which the composite does not draw.
    """
    weight = np.maximum(mask, np.float32(1e-6))  # whose powers are no denormals, which are slow
    square, other = weight * weight, 1 - weight
    shown = tryon - rendered
    shown *= square / (square * weight + other * other * other)
    shown += rendered
    return shown


def _mean(plane: Planes) -> Planes:
    return np.asarray(cv2.blur(plane, (COARSE, COARSE)), np.float32)


def _touching(changed: Planes, mask: Planes) -> Planes:
    """`changed` [H, W] where it belongs to the garment: in patches of strong change touching it, and near."""
    worn = mask > 0.5
    _, patches = cv2.connectedComponents(((changed > 0.5) | worn).astype(np.uint8))
    kept = np.zeros(patches.max() + 1, np.uint8)
    kept[patches[worn]] = 1
    near = cv2.dilate(
        kept[patches], cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * NEAR + 1, 2 * NEAR + 1))
    )
    return np.asarray(changed * near, np.float32)


def fade_inner_edges(planes: Planes, crop: Crop, frame_height: int, frame_width: int) -> Planes:
    """The matte [1, 1, H, W], falling to 0 at those sides of the crop that lie inside the frame.

    Without it a sleeve that leaves the crop ends in a line. At the frame's own sides nothing shows beyond.
    """
    height, width = planes.shape[2:]
    x, y, wide, tall = crop

    def ramp(size: int, first: bool, last: bool) -> Planes:
        rise = smoothstep(0, EDGE, np.arange(size, dtype=np.float32))
        one = np.ones(size, np.float32)
        return np.minimum(rise if first else one, rise[::-1] if last else one)

    down = ramp(height, y > 0.5, y + tall < frame_height - 0.5)
    across = ramp(width, x > 0.5, x + wide < frame_width - 0.5)
    return planes * np.minimum(down[:, None], across)


def show_through(composite_mask: Planes, garment_mask: Planes, flow: Planes) -> Planes:
    """The composite mask without the garment's coarse outline in it; [1, 1, H, W] in [0, 1].

    The network's composite mask is a weight times the warped garment mask. At camera resolution the outline
    comes from the garment photo, so the weight alone is wanted: divided out inside, carried on outside, its
    small holes closed. Then it is smoothed, and wider where the network is unsure: it wavers there from pixel
    to pixel, and the composite sharpens what it is given.
    """
    height, width = garment_mask.shape[2:]
    x, y = (flow[0, 0] + 1) * width / 2 - 0.5, (flow[0, 1] + 1) * height / 2 - 0.5
    warped = cv2.remap(garment_mask[0, 0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    inside = warped > 0.5
    weight = np.where(inside, np.minimum(composite_mask[0, 0] / np.maximum(warped, 0.5), 1), 0)
    weight = without_gaps(carried_on(weight, inside), inside)
    unsure = 1 - cv2.GaussianBlur(np.abs(2 * weight - 1), (0, 0), NEARBY)
    fine, wide = (cv2.GaussianBlur(weight, (0, 0), sigma) for sigma in (SMOOTH, WIDE))
    wide = np.clip(wide, 0, 1)
    on, off = wide * np.sqrt(wide), (1 - wide) * np.sqrt(1 - wide)
    wide = on / (on + off)  # 1.5 times the log-odds: about as sharp as before
    smoothed = fine + smoothstep(SURE, UNSURE, np.asarray(unsure, np.float32)) * (wide - fine)
    return np.asarray(smoothed, np.float32)[None, None]


def carried_on(weight: Planes, inside: NDArray[np.bool_]) -> Planes:
    """A composite mask [H, W] with the nearest value of the inside everywhere outside.

    However far the garment's outline lies from the network's, it is then drawn whole: a mask that ended
    before it left a second, ragged outline.
    """
    if not inside.any():
        return weight
    _, nearest = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.float32)
    values[nearest[inside]] = weight[inside]
    return values[nearest]


def without_gaps(weight: Planes, inside: NDArray[np.bool_]) -> Planes:
    """A composite mask [H, W] whose small holes are closed: islands, and what is thin deep `inside`."""
    _, patches, about, _ = cv2.connectedComponentsWithStats((weight < 0.5).astype(np.uint8))
    island = about[:, cv2.CC_STAT_AREA] < ISLAND * inside.sum()
    island[0] = False  # all that is no hole
    if island.any():
        weight = np.where(island[patches], np.float32(1), weight)
    closed = cv2.morphologyEx(weight, cv2.MORPH_CLOSE, np.ones((THIN, THIN), np.uint8))
    deep = cv2.erode(inside.astype(np.uint8), np.ones((DEEP, DEEP), np.uint8))
    return np.where(deep, closed, weight)


def smoothstep(low: float, high: float, values: Planes) -> Planes:
    """0 below `low`, 1 above `high`, a smooth cubic between."""
    t = np.clip((values - low) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)
