"""Pinhole and orthographic cameras: rays out of pixels, points into pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rmgn.data.people.mesh import Floats


@dataclass(frozen=True)
class Camera:
    """A camera that looks along `forward`; pixel (0, 0) is the upper left, its centre at (0.5, 0.5)."""

    eye: Floats
    forward: Floats
    right: Floats
    up: Floats
    half_height: float  # tangent of half the vertical angle; half the height in metres if orthographic
    width: int
    height: int
    orthographic: bool = False

    @classmethod
    def look(
        cls,
        eye: Floats,
        at: Floats,
        half_height: float,
        size: tuple[int, int],
        orthographic: bool = False,
        roll: float = 0.0,
    ) -> Camera:
        """A camera at `eye` that looks at `at`, tilted by `roll` degrees; size is (height, width)."""
        forward = (at - eye) / np.linalg.norm(at - eye)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
        right, up = c * right + s * up, c * up - s * right
        return cls(eye, forward, right, up, half_height, size[1], size[0], orthographic)

    def rays(self, subpixels: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Origins and unit directions, float32 [height·subpixels · width·subpixels, 3], row by row."""
        x = (np.arange(self.width * subpixels) + 0.5) / subpixels / self.width * 2 - 1
        y = 1 - (np.arange(self.height * subpixels) + 0.5) / subpixels / self.height * 2
        across, upward = np.meshgrid(x * self.width / self.height * self.half_height, y * self.half_height)
        offset = across.reshape(-1, 1) * self.right + upward.reshape(-1, 1) * self.up
        if self.orthographic:
            return (self.eye + offset).astype(np.float32), np.tile(
                self.forward.astype(np.float32), (len(offset), 1)
            )
        direction = self.forward + offset
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return np.tile(self.eye.astype(np.float32), (len(offset), 1)), direction.astype(np.float32)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Pixel positions [N, 2] (x, y) and depths [N] along the view."""
        offset = points - self.eye
        depth = offset @ self.forward
        scale = self.half_height * (1.0 if self.orthographic else depth)
        x, y = offset @ self.right / scale, offset @ self.up / scale
        pixels = np.stack(
            [(x * self.height / self.width + 1) / 2 * self.width, (1 - y) / 2 * self.height], axis=1
        )
        return pixels, depth
