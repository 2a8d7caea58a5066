"""What a picture file says of itself: its size, how it is turned, and its colours, which become sRGB."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

Pixels = NDArray[np.uint8]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# Only heads of files are read here, so their pixels, of which large photos have more, fill no memory.
Image.MAX_IMAGE_PIXELS = None


def declared_size(file: NDArray[np.uint8]) -> tuple[int, int] | None:
    """Width and height in pixels as a picture's head tells them; None where no head can be read.

    file: its bytes.
    """
    try:
        return _open(file).size
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return None


def orientation(file: NDArray[np.uint8]) -> int:
    """A picture's orientation tag, 1 (upright) to 8; 1 where it has none. file: its bytes."""
    try:
        return int(_open(file).getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # whatever damaged tags make of it: the picture itself may be whole
        return 1


def to_srgb(picture: Pixels, file: NDArray[np.uint8]) -> Pixels:
    """A picture, uint8 [H, W, 3] BGR, in sRGB. file: its bytes, whose ICC profile says what it is in.

    It stays as it is without such a profile, with one of other than RGB, and with one that is damaged.
    """
    try:
        held = _open(file).info.get("icc_profile")
        if not held:
            return picture
        given = ImageCms.ImageCmsProfile(io.BytesIO(held))
        if given.profile.xcolor_space.strip() != "RGB" or "sRGB" in ImageCms.getProfileName(given):
            return picture
        rgb = Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
        ImageCms.profileToProfile(rgb, given, SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC, inPlace=True)
    except (OSError, ValueError, ImageCms.PyCMSError):
        return picture
    return np.ascontiguousarray(np.asarray(rgb)[..., ::-1])


def _open(file: NDArray[np.uint8]) -> Image.Image:
    return Image.open(io.BytesIO(file.tobytes()))
