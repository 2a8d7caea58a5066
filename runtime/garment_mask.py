"""Find the garment in a shop photo with a plain background."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError

Pixels = NDArray[np.uint8]
Real = NDArray[np.float32]

WORKING_HEIGHT = 768
LEAST_CONTRAST = 1.0  # Lab units; a white shirt on a white ground differs from it by 1 to 4
NOISE_MARGIN = 4.0
RINGING = 16  # pixels of the photo: the blocks in which JPEG keeps colour
EDGE_FRACTION = 0.4  # near the half-way point between background and garment, less for blurred edges
SMOOTHING = 0.003  # of the height: the outline's steps, not its folds
REACH = 0.02  # of the height: how far an outline may lie from where contrast alone puts it
BARE = 1.5  # Lab units: nearer to the ground's colour is ground
FAINT = 9.0  # Lab units: fainter edges count for less
NARROW = 0.009  # of the height: half of a gap that is narrower than those between sleeve and trunk
PASSAGE = 0.04  # of the contrast nearby: JPEG's ringing, through which a gap is still seen to be open
GAP = 0.06  # of the silhouette: larger than what lies between sleeve and trunk
CONTRAST = 12.0  # Lab units, of a strong edge, and of cloth in which a gap can be told from it
LEAST_AREA = 0.01
WHOLE_SIDE = 0.97  # of a side of the photo: only what is behind the garment goes from corner to corner
ACROSS = 0.3  # of the upper and the lower side, where bands run from one to the other
ADVICE = "photograph it on a plain one of another colour, or give a mask, such as a PNG's transparency"


def plain_background_mask(photo: Pixels, reduced: float = 1.0) -> Pixels:
    """255 where the garment is, 0 on the background; uint8 [H, W].

    photo: [H, W, 3] BGR; the background is nearly uniform and makes up most of the border; a gradient and
    noise are allowed for. reduced: the share of its size that is left of the photo, and of JPEG's blocks.
    Raises InputError where no garment stands out or the background is not plain.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, WORKING_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    away, noise = from_background(small)
    distance = np.linalg.norm(away, axis=2)
    if noise > 8:
        raise InputError(f"the background is not plain enough to find the garment; {ADVICE}")
    threshold = max(LEAST_CONTRAST, NOISE_MARGIN * noise)
    ringing = max(1, round(RINGING * reduced * scale))
    nearby = np.asarray(cv2.dilate(distance, square(ringing + 1)), np.float32)
    stands_out = distance > threshold
    everything = fill_outline(stands_out)
    certain = fill_outline(distance > np.maximum(threshold, EDGE_FRACTION * nearby))
    # What stands out in a narrow gap of the garment is cloth, such as a white stripe between dark ones.
    narrow = min(ringing // 2 + 1, max(1, round(NARROW * size[1])))
    certain = np.where(stands_out & (close(certain, narrow) > 0), 255, certain).astype(np.uint8)
    # What stands out only a little is a pale part of the garment where it is broad, and JPEG's ringing
    # around a dark part where it is narrow.
    pale = cv2.morphologyEx(everything & ~certain, cv2.MORPH_OPEN, square(ringing // 2 + 1))
    pale = keep_large(np.asarray(pale, np.uint8), 5 * ringing**2)
    silhouette = fill_outline((certain > 0) | (pale > 0))
    silhouette = without_ground(silhouette, distance, threshold, nearby)
    outlined = along_edges(away, silhouette, max(round(REACH * size[1]), round(1.5 * ringing)))
    silhouette = outlined | fill_outline(outlined > 0) & silhouette
    area = np.count_nonzero(silhouette) / silhouette.size
    if area < LEAST_AREA:
        raise InputError(f"no garment stands out from the background; {ADVICE}")
    if _is_ground(silhouette > 0):
        raise InputError(f"the background has two colours, or the garment is cut off; {ADVICE}")
    enlarged = cv2.resize(silhouette, (width, height), interpolation=cv2.INTER_LINEAR)
    enlarged = cv2.GaussianBlur(enlarged, (0, 0), SMOOTHING * height)
    return np.where(enlarged > 127, 255, 0).astype(np.uint8)


def along_edges(away: Real, silhouette: Pixels, reach: int) -> Pixels:
    """The silhouette with its outline moved, by `reach` pixels at most, to where the photo has an edge.

    away: as of `from_background`. By GrabCut (Rother et al., SIGGRAPH 2004), which prefers short outlines:
    JPEG's blocks beside pale cloth draw none. It is shown `away` as a share of the contrast around.
    """
    inside, outside = cv2.erode(silhouette, disc(reach)), cv2.dilate(silhouette, disc(reach))
    labels = np.where(silhouette > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[inside > 0], labels[outside == 0] = cv2.GC_FGD, cv2.GC_BGD
    x, y, width, height = cv2.boundingRect(outside)
    part = np.s_[max(0, y - 4) : y + height + 4, max(0, x - 4) : x + width + 4]
    found = np.ascontiguousarray(labels[part])
    if np.unique(found).size < 4:  # nothing sure or nothing open
        return silhouette
    smooth = cv2.bilateralFilter(away[part], 5, 3, 2)
    distance = np.linalg.norm(smooth, axis=2)
    nearby = cv2.dilate(distance, square(5))
    # What a strong edge mixes with the ground counts as ground, since all of it would count as garment.
    mixed = (distance < EDGE_FRACTION * nearby) & (cv2.erode(distance, square(5)) < BARE)
    smooth[mixed & (nearby > CONTRAST)] = 0
    pixels = (128 + 127 * smooth / np.maximum(nearby, FAINT)[..., None]).astype(np.uint8)
    cv2.setRNGSeed(0)  # its colours' clusters begin at chance
    cv2.grabCut(pixels, found, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    result = np.zeros_like(silhouette)
    result[part] = np.where((found == cv2.GC_FGD) | (found == cv2.GC_PR_FGD), 255, 0)
    return result


def without_ground(silhouette: Pixels, distance: Real, threshold: float, nearby: Real) -> Pixels:
    """The silhouette without the ground between sleeve and trunk, where both all but meet at the hem.

    That is ground to which a way leads from the border, not narrow itself, among cloth that stands out well;
    and not so large that it is rather a garment of the ground's colour whose outline has a gap.
    """
    open_ground = (distance <= np.maximum(threshold, PASSAGE * nearby)).astype(np.uint8)
    _, pieces = cv2.connectedComponents(open_ground, connectivity=4)
    border = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    reached = np.isin(pieces, border[border > 0]) & (distance <= threshold) & (silhouette > 0)
    broad = square(max(3, round(NARROW * len(silhouette))))
    core = cv2.morphologyEx(reached.astype(np.uint8), cv2.MORPH_OPEN, broad)
    _, gaps, about, _ = cv2.connectedComponentsWithStats(cv2.dilate(core, broad))
    ground = distance <= np.maximum(threshold, EDGE_FRACTION * nearby)
    result = silhouette.copy()
    small = about[1:, cv2.CC_STAT_AREA] < GAP * np.count_nonzero(silhouette)
    for number in 1 + np.flatnonzero(small):
        gap = gaps == number
        cloth = (cv2.dilate(gap.astype(np.uint8), broad, iterations=2) > 0) & ~gap & (silhouette > 0)
        if cloth.any() and distance[cloth].mean() > CONTRAST:
            result[gap & ground] = 0
    return result


def _is_ground(silhouette: NDArray[np.bool_]) -> bool:
    """Whether a silhouette is no garment's, but that of a floor, a wall or stripes, by where it is cut off.

    Garments trimmed to their box cover up to 0.75 of a side of it, and 0.21 of the upper one.
    """
    top, bottom, left, right = (
        float(line.mean()) for line in (silhouette[0], silhouette[-1], silhouette[:, 0], silhouette[:, -1])
    )
    return max(top, bottom, left, right) > WHOLE_SIDE or min(top, bottom) > ACROSS


def from_background(photo: Pixels) -> tuple[Real, float]:
    """By how much every pixel differs from the background, [H, W, 3] in Lab, and the background's own noise.

    The background is a colour plane over x and y fitted to the border; pixels of a garment that reaches the
    border are left out of the fit as outliers.
    """
    lab = cv2.cvtColor(photo.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    lab = cv2.GaussianBlur(lab, (3, 3), 0)
    height, width = photo.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    plane = np.dstack([np.ones_like(x), x, y])
    frame = np.ones((height, width), bool)
    margin = max(1, round(0.02 * height))
    frame[margin:-margin, margin:-margin] = False
    basis, colours = plane[frame], lab[frame]
    away = np.linalg.norm(colours - np.median(colours, axis=0), axis=1)
    for _ in range(3):
        kept = away <= max(0.5, 3 * float(np.median(away)))
        fit = np.linalg.lstsq(basis[kept], colours[kept], rcond=None)[0]
        away = np.linalg.norm(colours - basis @ fit, axis=1)
    return lab - plane @ fit, float(np.median(away[kept]))


def square(side: int) -> Pixels:
    """A structuring element for OpenCV's morphology."""
    return np.ones((side, side), np.uint8)


def disc(radius: int) -> Pixels:
    """A round one."""
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)), np.uint8
    )


def keep_large(mask: Pixels, least_area: float) -> Pixels:
    """The connected pieces of a mask that have at least so many pixels."""
    _, labels, pieces, _ = cv2.connectedComponentsWithStats(mask)
    large = pieces[:, cv2.CC_STAT_AREA] >= least_area
    large[0] = False  # the background
    return np.where(large[labels], 255, 0).astype(np.uint8)


def fill_outline(garment: NDArray[np.bool_]) -> Pixels:
    """The large silhouettes that these pixels draw, small gaps closed and holes filled; 255 inside."""
    seed = np.asarray(cv2.medianBlur(garment.astype(np.uint8), 3), np.uint8)
    closed = close(seed, max(1, round(0.006 * len(garment))))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max((cv2.contourArea(outline) for outline in outlines), default=0.0)
    large = [outline for outline in outlines if cv2.contourArea(outline) >= 0.05 * largest]
    filled = np.zeros_like(closed)
    cv2.drawContours(filled, large, -1, 255, cv2.FILLED)
    return np.asarray(cv2.morphologyEx(filled, cv2.MORPH_OPEN, square(3)), np.uint8)


def close(mask: Pixels, radius: int) -> Pixels:
    """Morphological closing by a disc, up to the border too."""
    edge = 2 * radius
    padded = cv2.copyMakeBorder(mask, edge, edge, edge, edge, cv2.BORDER_CONSTANT)
    return np.asarray(
        cv2.morphologyEx(padded, cv2.MORPH_CLOSE, disc(radius))[edge:-edge, edge:-edge], np.uint8
    )
