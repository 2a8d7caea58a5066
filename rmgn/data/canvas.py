"""A field of cloth to print or sew on.

An overlay is uint8 [4, 384, 320], premultiplied sRGB colour and opacity, over 0.64 × 0.768 m, 2 mm a texel:
its middle column is the garment's middle, its first row the neckline (or the waist).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from rmgn.data.fabrics import TEXEL

HEIGHT, WIDTH = 384, 320
U8 = npt.NDArray[np.uint8]


class Canvas:
    """An overlay that grows by painting colours through masks; only the painted box is touched each time."""

    def __init__(self) -> None:
        self._rgba = np.zeros((HEIGHT, WIDTH, 4), np.float32)
        self._blank = True

    def paint(
        self, mask: U8, corner: tuple[int, int], colour: npt.NDArray[np.floating], strength: float = 1.0
    ) -> None:
        """Lay a colour [3] or picture [h, w, 3] in [0, 1] through a mask [h, w], its upper left at (x, y)."""
        x, y = corner
        left, top = max(0, -x), max(0, -y)
        part = mask[top : max(0, HEIGHT - y), left : max(0, WIDTH - x)]
        if not part.size:
            return
        if colour.ndim == 3:
            colour = colour[top : top + part.shape[0], left : left + part.shape[1]]
        box = self._rgba[y + top : y + top + part.shape[0], x + left : x + left + part.shape[1]]
        opacity = np.asarray(part[:, :, None] * np.float32(strength / 255), np.float32)
        box *= 1 - opacity
        box[:, :, :3] += opacity * np.asarray(colour, np.float32)
        box[:, :, 3:] += opacity
        self._blank = False

    def paint_box(
        self, mask: U8, centre: tuple[int, int], colour: npt.NDArray[np.floating], turn: float = 0.0
    ) -> None:
        """Lay a small mask (and picture) with its middle at `centre` (x, y), turned by degrees."""
        h, w = mask.shape
        if turn:
            side = int(np.hypot(h, w)) + 2
            move = cv2.getRotationMatrix2D((w / 2, h / 2), turn, 1.0)
            move = np.add(move, [[0, 0, (side - w) / 2], [0, 0, (side - h) / 2]])
            mask = np.asarray(cv2.warpAffine(mask, move, (side, side)), np.uint8)
            if colour.ndim == 3:
                spread = cv2.warpAffine(
                    colour.astype(np.float32), move, (side, side), borderMode=cv2.BORDER_REPLICATE
                )
                colour = np.asarray(spread, np.float32)
            h = w = side
        self.paint(mask, (centre[0] - w // 2, centre[1] - h // 2), colour)

    def line(self, points: npt.NDArray[np.floating], metres: float, strength: float) -> None:
        """Darken along a polyline [N, 2] in metres (x from the middle, y down): a seam or an edge."""
        at = points / TEXEL + [WIDTH / 2, 0]
        low = np.floor(at.min(axis=0)).astype(int) - 4
        size = np.ceil(at.max(axis=0)).astype(int) + 5 - low
        mask = np.zeros((int(size[1]), int(size[0])), np.uint8)
        fixed = np.round((at - low) * 16).astype(np.int32)
        cv2.polylines(mask, [fixed], False, 255, max(1, round(metres / TEXEL)), cv2.LINE_AA, 4)
        self.paint(mask, (int(low[0]), int(low[1])), np.zeros(3), strength)

    def disc(
        self,
        centre: tuple[float, float],
        radius: float,
        colour: npt.NDArray[np.floating],
        strength: float = 1.0,
    ) -> None:
        """A round spot; centre (x from the middle, y down) and radius in metres."""
        x, y = centre[0] / TEXEL + WIDTH / 2, centre[1] / TEXEL
        reach = int(radius / TEXEL) + 2
        left, top = int(x) - reach, int(y) - reach
        grid_y, grid_x = np.mgrid[: 2 * reach + 1, : 2 * reach + 1]
        distance = np.hypot(grid_x + 0.5 + left - x, grid_y + 0.5 + top - y)
        mask = np.clip(255 * (radius / TEXEL - distance + 0.5), 0, 255).astype(np.uint8)
        self.paint(mask, (left, top), colour, strength)

    def result(self) -> U8:
        """uint8 [4, HEIGHT, WIDTH], premultiplied."""
        if self._blank:
            return np.zeros((4, HEIGHT, WIDTH), np.uint8)
        return np.ascontiguousarray(cv2.convertScaleAbs(self._rgba, alpha=255).transpose(2, 0, 1))
