"""Native pixel work of the mirror (runtime/cpp). Runs without the GIL; equations in docs/mirror.md.

A crop is `(x, y, width, height)` in continuous frame pixels and may reach outside the frame.
Arrays are never copied or converted: a wrong dtype is a TypeError, a wrong shape or layout a ValueError.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]

def preprocess(frame: Pixels, crop: tuple[float, float, float, float], out: Planes) -> None:
    """Crop and resize a BGR frame into the network's input, without aliasing; the border repeats outside.

    frame: [H, W, 3] BGR, rows may be strided. out: [1, 3, h, w], written, RGB in [-1, 1].
    """

def composite(
    frame: Pixels,
    crop: tuple[float, float, float, float],
    garment: Pixels,
    flow: Planes,
    rendered: Planes,
    person: Planes,
    share: Planes,
    mask: Planes,
    matte: Planes,
) -> None:
    """Draw the try-on into `frame`, at the frame's resolution, where `matte` is not zero.

    frame: [H, W, 3] BGR, changed in place; the very frame that `crop` was preprocessed from.
    garment: [h', w', 4] BGR and silhouette, 0 … 255, the photo at its own size.
    flow: [1, 2, h, w] sampling grid over the photo, x, y in [-1, 1], align_corners False.
    rendered, person: [1, 3, h, w] RGB in [-1, 1], what the network draws and what it saw of the frame.
    share: [1, 1, h, w] in [0, 1], of the frame's detail, frame - person, that is added to what is drawn.
    mask: [1, 1, h, w] in [0, 1], how much of the garment shows, within its silhouette; once it is upsampled,
    its log-odds are trebled, so that edges are as sharp as the frame.
    matte: [1, 1, h, w] in [0, 1], where the frame changes at all.
    """
