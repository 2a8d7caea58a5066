"""Rotation about an axis, by Rodrigues' formula."""

import numpy as np
import numpy.typing as npt


def rotation(axis: npt.ArrayLike, degrees: float) -> npt.NDArray[np.float64]:
    """The matrix [3, 3] that turns about an axis [3] of any length."""
    a = np.asarray(axis, float)
    x, y, z = a / np.linalg.norm(a)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)
