"""The camera's own detail in what the network draws, which has 192 pixels across."""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]

WINDOW = 7  # pixels of the network
NOISE = 0.003  # variance of what is no detail, in [-1, 1] units squared


def lend_detail(person: Planes, rendered: Planes) -> tuple[Planes, Planes]:
    """`rendered` in two parts, (rest, share): rendered = rest + share · person.

    Where the network draws what the camera sees, such as a skirt, an arm or the line between an arm and the
    wall, `up(rest) + share · frame` is as sharp as the frame; where it draws something new, share = 0. In
    every window, on brightness, with σ² + NOISE for each variance,

        share = (cov(person, rendered) / var(person)) · corr(person, rendered), within 0 … 1:

    the slope of the guided filter (He et al., 2010, equation 5), and less where the two are alike by chance.

    person, rendered: [1, 3, H, W] in [-1, 1]; person is the network's input, the frame reduced.
    Returns [1, 3, H, W] and [1, 1, H, W].
    """
    seen, drawn = person[0].mean(axis=0), rendered[0].mean(axis=0)
    mean_seen, mean_drawn = _mean(seen), _mean(drawn)
    covariance = np.maximum(_mean(seen * drawn) - mean_seen * mean_drawn, 0)
    variance = _mean(seen * seen) - mean_seen * mean_seen + np.float32(NOISE)
    variance_drawn = _mean(drawn * drawn) - mean_drawn * mean_drawn + np.float32(NOISE)
    share = np.minimum(covariance * covariance / (variance * np.sqrt(variance * variance_drawn)), 1)
    return rendered - share * person, share[None, None]


def _mean(plane: Planes) -> Planes:
    return np.asarray(cv2.blur(plane, (WINDOW, WINDOW)), np.float32)
