"""How the camera's picture is turned and cut before anything else sees it: mirrors hang upright."""

import math
import re
from argparse import ArgumentTypeError
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.framing import box

Pixels = NDArray[np.uint8]

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


@dataclass(frozen=True)
class View:
    """Turned by `rotate` degrees clockwise (0 or one of TURNS), then cut to `aspect`, width / height.

    What is cut away lies on both sides alike. Without an aspect nothing is.
    """

    rotate: int = 0
    aspect: float | None = None

    def __call__(self, image: Pixels) -> Pixels:
        """uint8 [H, W, 3] as the camera gave it, to what the mirror shows; contiguous."""
        if self.rotate:
            image = np.asarray(cv2.rotate(image, TURNS[self.rotate]), np.uint8)
        if self.aspect is None:
            return image
        height, width = image.shape[:2]
        wide, tall = (max(1, round(side)) for side in box(width, height, self.aspect, around=False)[2:])
        left, top = (width - wide) // 2, (height - tall) // 2
        return np.ascontiguousarray(image[top : top + tall, left : left + wide])


def parse_aspect(text: str) -> float:
    """Width / height from text such as 9:16, for argparse. Raises ArgumentTypeError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", text)
    aspect = float(match[1]) / float(match[2]) if match and float(match[2]) else math.nan
    if not 0.1 <= aspect <= 10:
        raise ArgumentTypeError(f"{text} is not WIDTH:HEIGHT, such as 9:16")
    return aspect
