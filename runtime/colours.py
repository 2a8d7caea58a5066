"""The camera's colours for what the network repaints."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.matte import smoothstep

Planes = NDArray[np.float32]

SAME, OTHER = 0.2, 0.5  # differences, in [-1, 1] units, of a repainted thing and of another thing
GRID = 8  # network pixels a cell: casts vary slowly
REACH = 3.0  # cells
DOUBT = 0.02  # share of a neighbourhood that must be the same for its cast to count fully

# Of what lies around the person, such as a plain wall.
AROUND, AROUND_REACH = 4, 1.5  # network pixels a cell; cells
ALIKE, UNLIKE = 0.1, 0.3  # differences, in [-1, 1] units, of a wall drawn anew and of another thing
PLAIN, VARIED = 0.002, 0.01  # variances of brightness, in [-1, 1] units squared
FEW, ENOUGH = 0.01, 0.05  # shares of a neighbourhood that are as photographed


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
    cells = _around((*(difference * same), same), GRID, REACH)
    cast = _enlarged(cells[:3] / (cells[3] + np.float32(DOUBT)), GRID)
    return np.asarray(np.clip(rendered + cast, -1, 1), np.float32)


def continue_wall(person: Planes, rendered: Planes, matte: Planes) -> Planes:
    """`rendered` in the wall's own colour where it shows more of a plain wall; in [-1, 1].

    Where a wide sleeve is taken away, the network draws the wall behind it a little paler or darker, which
    shows as a rim around the arm. With b the mean of `person` around a pixel over what stays as photographed,
    (1 - matte), and v the variance of its brightness there,

        result = rendered + smooth(|rendered - b|) smooth(v) (b - rendered),

    the weights being 1 where both are small, and 0 where little around the pixel stays.
    person, rendered: [1, 3, H, W] in [-1, 1]; matte: [1, 1, H, W] in [0, 1].
    """
    still = np.asarray(cv2.erode(1 - matte[0, 0], np.ones((3, 3), np.uint8)), np.float32)
    brightness = person[0].mean(axis=0)
    planes = (*(person[0] * still), still * brightness * brightness, still)
    *sums, share = _around(planes, AROUND, AROUND_REACH)
    *mean, mean_square = np.stack(sums) / (share + np.float32(1e-4))
    variance = mean_square - np.mean(mean, axis=0) ** 2
    plain = (1 - smoothstep(PLAIN, VARIED, variance)) * smoothstep(FEW, ENOUGH, share)
    *wall, plain = _enlarged((*mean, plain), AROUND)
    difference = np.stack(wall) - rendered[0]
    alike = 1 - smoothstep(ALIKE, UNLIKE, np.abs(difference).max(axis=0))
    return np.asarray(rendered + alike * plain * difference, np.float32)


def _around(planes: Sequence[Planes], grid: int, reach: float) -> Planes:
    """Blurred means of planes [H, W] in cells of `grid` pixels: [N, H / grid, W / grid]; reach: in cells.

    Planes go one by one, since NumPy is slower on interleaved colours.
    """
    height, width = planes[0].shape
    size = width // grid, height // grid
    cells = cv2.merge([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])
    return np.asarray(cv2.GaussianBlur(cells, (0, 0), reach), np.float32).transpose(2, 0, 1)


def _enlarged(cells: Iterable[Planes], grid: int) -> Planes:
    """Planes of cells, each `grid` times as large; bilinear."""
    return np.stack(
        [cv2.resize(plane, None, fx=grid, fy=grid, interpolation=cv2.INTER_LINEAR) for plane in cells]
    )
