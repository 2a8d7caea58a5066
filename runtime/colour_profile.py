"""Colours as they are meant: pictures in another colour space than sRGB, as phones take them, become sRGB."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Pixels = NDArray[np.uint8]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def to_srgb(picture: Pixels, file: NDArray[np.uint8]) -> Pixels:
    """A picture, uint8 [H, W, 3] BGR, in sRGB. file: its bytes, whose ICC profile says what it is in.

    It stays as it is without such a profile, with one of other than RGB, and with one that is damaged.
    """
    try:
        held = Image.open(io.BytesIO(file.tobytes())).info.get("icc_profile")
        if not held:
            return picture
        given = ImageCms.ImageCmsProfile(io.BytesIO(held))
        if given.profile.xcolor_space.strip() != "RGB" or "sRGB" in ImageCms.getProfileName(given):
            return picture
        rgb = Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
        ImageCms.profileToProfile(rgb, given, SRGB, ImageCms.Intent.RELATIVE_COLORIMETRIC, inPlace=True)
    except (OSError, ValueError, ImageCms.PyCMSError, Image.DecompressionBombError):
        return picture
    return np.ascontiguousarray(np.asarray(rgb)[..., ::-1])
