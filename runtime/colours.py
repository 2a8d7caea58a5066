"""The camera's colours for what the network repaints."""

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.matte import smoothstep

Planes = NDArray[np.float32]

SAME, OTHER = 0.2, 0.5  # differences, in [-1, 1] units, of a repainted thing and of another thing
GRID = 8  # network pixels a cell: casts vary slowly
REACH = 3.0  # cells
DOUBT = 0.02  # share of a neighbourhood that must be the same for its cast to count fully


def anchor_colours(person: Planes, rendered: Planes, mask: Planes) -> Planes:
    """`rendered` without the cast that it has where the person was only repainted; in [-1, 1].

    Instance norms forget how bright and how warm a photo is, so wall and skin come back with a cast, which
    would show as a patch in the frame. With d = person - rendered and w its weight, 1 where both show the
    same thing and the garment does not lie, the cast is blur(w·d) / (blur(w) + DOUBT): it is carried on from
    there into what is new, such as an arm without its sleeve. Networks that keep the person's pixels
    themselves (`preserve`) show no cast there and pass unchanged.
    person, rendered: [1, 3, H, W] in [-1, 1]; mask: [1, 1, H, W] in [0, 1], where the garment shows.
    """
    difference = (person - rendered)[0]
    same = (1 - smoothstep(SAME, OTHER, np.abs(difference).max(axis=0))) * (1 - mask[0, 0])
    height, width = same.shape
    size = width // GRID, height // GRID
    planes = (*(difference * same), same)  # one by one: NumPy is slower on interleaved colours
    cells = cv2.merge([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])
    cells = cv2.GaussianBlur(cells, (0, 0), REACH)
    cast = (cells[:, :, :3] / (cells[:, :, 3:] + np.float32(DOUBT))).transpose(2, 0, 1)
    cast = np.stack([cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in cast])
    return np.asarray(np.clip(rendered + cast, -1, 1), np.float32)
