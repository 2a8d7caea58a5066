"""A garment ready to be worn: its photo and mask in the network's shape, and its cloth at full resolution."""

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError, warn_once
from runtime import _native, pictures
from runtime.cloth import pyramid
from runtime.framing import FaceFinder
from runtime.garment_mask import keep_large, plain_background_mask

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]

# More detail than any camera crop shows; a phone photo at full size would only slow the sampling down.
LARGEST_SIDE = 2048
LEAST_TRANSPARENT = 0.02  # of the photo: less are the round corners of a screenshot, not a ground cut away
SMALLEST_SIDE = 64  # of a photo's longer side: below, nothing is to be seen of what it shows
# Of the picture: how wide garments are in the photos that networks learn from, generated ones and VITON's,
# and how high the highest are.
FILLED = (0.92, 0.95)
SPECK = 0.002  # of a mask: smaller pieces do not count for where the garment is
# Of a garment's height from its top: printed faces are below, those of wearers at 0.09 to 0.2 in shop photos.
HIGHEST_PRINT = 0.3


@dataclass(frozen=True)
class Garment:
    """One garment, framed for the network; all pictures cover the same area.

    photo: uint8 [H', W', 3] BGR, as taken.
    cloths: uint8 [H', W', 4], BGR and silhouette, and reductions of it (runtime.cloth): the photo with the
    garment's colours carried over its outline, so that sampling at the edge never picks up background; in the
    light of the place, which the others are not.
    image: float32 [1, 3, H, W] RGB in [-1, 1]. mask: float32 [1, 1, H, W] in {0, 1}.
    """

    name: str
    photo: Pixels
    cloths: tuple[Pixels, ...]
    image: Planes
    mask: Planes


def load(
    photo: Path, mask: Path | None, height: int, width: int, light: float = 1.0, fill: bool = True
) -> Garment:
    """Read a shop photo for a network of `height` x `width`. Raises InputError as `read` does.

    light: see `parse_light`; fill: see `framed`.
    """
    return prepare(photo.stem, *read(photo, mask), height, width, light, fill)


def add_options(parser: ArgumentParser) -> None:
    """Give a program the options of how garments are prepared: --light, see `parse_light`, and `fill`."""
    parser.add_argument(
        "--light",
        type=parse_light,
        default=1.0,
        metavar="SHARE",
        help="how bright garments are drawn, 0.1 to 1 (default) as in their photos; less for dim places",
    )

    parser.add_argument(
        "--keep-garment-framing",
        dest="fill",
        action="store_false",
        help="garments stay as large as in their photos, for networks that learned from photos framed alike",
    )


def parse_light(text: str) -> float:
    """How bright garments are drawn, as a share of their photo's values, for argparse.

    A camera that gets the share k of the light gives about k^(1/2.2) of the values, all over the picture, so
    one factor fits. Raises ArgumentTypeError.
    """
    try:
        light = float(text)
    except ValueError:
        light = 0.0
    if not 0.1 <= light <= 1:
        raise ArgumentTypeError(f"{text} is not a share of the photo's brightness, 0.1 to 1")
    return light


def read(photo: Path, mask: Path | None) -> tuple[Pixels, Pixels]:
    """A shop photo, uint8 [h, w, 3] BGR, and its silhouette, uint8 [h, w], 255 on the garment.

    Without a mask file the photo's transparency is the mask, and where nearly nothing is transparent the
    plain background tells, of a photo reduced to LARGEST_SIDE. Raises InputError saying what is wrong with
    which file.
    """
    picture = pictures.read(photo, alpha=True)
    if max(picture.shape[:2]) < SMALLEST_SIDE:
        raise InputError(f"{photo} is too small to be worn: {picture.shape[1]}x{picture.shape[0]} pixels")
    if mask is not None:
        silhouette = pictures.read_mask(mask)
        if silhouette.shape != picture.shape[:2]:
            raise InputError(
                f"the mask {mask} is {silhouette.shape[1]}x{silhouette.shape[0]} pixels, "
                f"but its photo {photo} is {picture.shape[1]}x{picture.shape[0]}"
            )
    elif picture.shape[2] == 4 and (picture[..., 3] < 128).mean() > LEAST_TRANSPARENT:
        silhouette = np.where(picture[..., 3] >= 128, 255, 0).astype(np.uint8)
    else:
        full = max(picture.shape[:2])
        picture = pictures.shrunk(pictures.on_white(picture), LARGEST_SIDE)
        try:
            silhouette = plain_background_mask(picture, max(picture.shape[:2]) / full)
        except InputError as error:
            raise InputError(f"{photo}: {error}") from error
    if not silhouette.any():
        raise InputError(f"the mask of {photo} is empty")
    picture = pictures.on_white(picture)
    if shows_wearer(picture, silhouette):
        warn_once(
            f"{photo} seems to show somebody who wears the garment, and all of it would be worn: "
            "take a photo of the garment alone, laid flat or hung, or give a mask"
        )
    return picture, silhouette


def shows_wearer(photo: Pixels, silhouette: Pixels) -> bool:
    """Whether a face is on top of what is taken for the garment; printed ones are further down."""
    face = FaceFinder()(photo)
    if face is None:
        return False
    x, y = int(face[0] + face[2] / 2), int(face[1] + face[3] / 2)
    top, bottom = np.flatnonzero(silhouette.any(axis=1))[[0, -1]]
    return bool(silhouette[y, x]) and y < top + HIGHEST_PRINT * (bottom - top)


def prepare(
    name: str,
    photo: Pixels,
    silhouette: Pixels,
    height: int,
    width: int,
    light: float = 1.0,
    fill: bool = True,
) -> Garment:
    """As `load`, from pixels: photo uint8 [h, w, 3] BGR, silhouette uint8 [h, w], not zero on the garment.

    Raises InputError where it is too small to be seen.
    """
    photo, silhouette = (pictures.shrunk(each, LARGEST_SIDE) for each in (photo, silhouette))
    photo, silhouette = framed(photo, silhouette, width / height, fill)
    image = np.empty((1, 3, height, width), np.float32)
    _native.preprocess(photo, (0, 0, photo.shape[1], photo.shape[0]), image)
    small = cv2.resize(silhouette, (width, height), interpolation=cv2.INTER_AREA)
    mask = (small > 127).astype(np.float32)[None, None]
    if not mask.any():
        raise InputError(
            f"the garment of {name} is so small in its photo that nothing is left at {width}x{height}"
        )
    cloth = spread(np.asarray(cv2.convertScaleAbs(photo, alpha=light), np.uint8), silhouette > 127)
    return Garment(name, photo, pyramid(cloth), image, mask)


def framed(photo: Pixels, silhouette: Pixels, aspect: float, fill: bool) -> tuple[Pixels, Pixels]:
    """Both cut or padded to `aspect` (width / height), the photo with its background's colour.

    fill: about the garment, which then fills FILLED of the picture; otherwise about the whole photo.
    """
    outside = photo[silhouette == 0]
    ground = np.median(outside, axis=0) if outside.size else np.full(3, 255.0)
    colour = tuple(float(value) for value in ground)
    full_height, full_width = silhouette.shape
    x, y, width, height = 0, 0, full_width, full_height
    if fill:  # specks of a mask apart
        x, y, width, height = cv2.boundingRect(keep_large(silhouette, SPECK * np.count_nonzero(silhouette)))
    share_x, share_y = FILLED if fill else (1.0, 1.0)
    span = max(width / share_x, height / share_y * aspect)
    columns, rows = max(1, round(span)), max(1, round(span / aspect))
    left, top = round(x + (width - columns) / 2), round(y + (height - rows) / 2)
    right, bottom = left + columns, top + rows
    inside = np.s_[max(0, top) : bottom, max(0, left) : right]
    sides = (max(0, -top), max(0, bottom - full_height), max(0, -left), max(0, right - full_width))
    return (
        np.asarray(cv2.copyMakeBorder(photo[inside], *sides, cv2.BORDER_CONSTANT, value=colour), np.uint8),
        np.asarray(cv2.copyMakeBorder(silhouette[inside], *sides, cv2.BORDER_CONSTANT, value=0.0), np.uint8),
    )


def spread(photo: Pixels, garment: NDArray[np.bool_]) -> Pixels:
    """BGR, outside the garment the colour of the nearest pixel well inside; and the silhouette."""
    # The outermost pixels are already mixed with background.
    inside = cv2.erode(garment.astype(np.uint8), np.ones((3, 3), np.uint8))
    if not inside.any():
        inside = garment.astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(1 - inside, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[inside > 0]] = photo[inside > 0]
    silhouette = cv2.GaussianBlur(255 * inside, (3, 3), 0)
    return np.dstack([colours[labels], silhouette])
