"""The camera's own detail in what the network draws, which has 192 pixels across."""

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = NDArray[np.float32]

WINDOW = 7  # pixels of the network
NOISE = 0.003  # variance of what is no detail, in [-1, 1] units squared


def detail_share(person: Planes, rendered: Planes) -> Planes:
    """How much of the frame's detail suits what is drawn; [1, 1, H, W] in 0 … 1.

    Where the network draws what the camera sees, such as a skirt, an arm or the line between an arm and the
    wall, rendered + share · (frame - person) is as sharp as the frame; where it draws something new,
    share = 0. In every window, on brightness, with NOISE added to each variance,

        share = c / var(person) · c / √(var(person) var(rendered)), at most 1, with c = max(cov, 0):

    the slope of the guided filter (He et al., 2010, equation 5) times the correlation, which is small where
    the two are alike by chance. Within half a window of an outline that both have, some of an old sleeve's
    pattern comes along.

    person, rendered: [1, 3, H, W] in [-1, 1]; person is the network's input, the frame reduced.
    """
    seen, drawn = person[0].mean(axis=0), rendered[0].mean(axis=0)
    mean_seen, mean_drawn = _mean(seen), _mean(drawn)
    covariance = np.maximum(_mean(seen * drawn) - mean_seen * mean_drawn, 0)
    variance = _mean(seen * seen) - mean_seen * mean_seen + np.float32(NOISE)
    variance_drawn = _mean(drawn * drawn) - mean_drawn * mean_drawn + np.float32(NOISE)
    share = np.minimum(covariance * covariance / (variance * np.sqrt(variance * variance_drawn)), 1)
    return np.asarray(share[None, None], np.float32)


def _mean(plane: Planes) -> Planes:
    return np.asarray(cv2.blur(plane, (WINDOW, WINDOW)), np.float32)
