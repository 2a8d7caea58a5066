"""What `runtime._native` computes, in plain NumPy: slow, obvious, and what the tests hold it to."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]
Real = NDArray[np.float64]
Crop = tuple[float, float, float, float]


def preprocess(frame: Pixels, crop: Crop, out: Planes) -> None:
    """As `runtime._native.preprocess`."""
    x, y, width, height = crop
    down = triangle_weights(y, height, out.shape[2], frame.shape[0])
    across = triangle_weights(x, width, out.shape[3], frame.shape[1])
    resized = np.einsum("yj,jkc,xk->cyx", down, frame.astype(np.float64), across, optimize=True)
    out[0] = resized[::-1] / 127.5 - 1


def triangle_weights(start: float, length: float, outputs: int, inputs: int) -> Real:
    """The weight of every input in every output, [outputs, inputs]; rows sum to 1."""
    scale = length / outputs
    radius = max(1.0, scale)
    centres = start + (np.arange(outputs) + 0.5) * scale
    # Every pixel position that any output can see, inside the frame or not.
    positions = np.arange(np.floor(centres[0] - radius) - 1, np.ceil(centres[-1] + radius) + 1)
    seen = np.maximum(0, 1 - np.abs(positions + 0.5 - centres[:, None]) / radius)
    weights = np.zeros((outputs, inputs))
    for column, position in enumerate(positions):
        weights[:, int(np.clip(position, 0, inputs - 1))] += seen[:, column]
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def composite(
    frame: Pixels,
    crop: Crop,
    garment: Pixels,
    flow: Planes,
    rendered: Planes,
    person: Planes,
    share: Planes,
    mask: Planes,
    matte: Planes,
) -> None:
    """As `runtime._native.composite`."""
    x, y, width, height = crop
    # The frame's pixels whose centres lie in the crop, as fractions of the crop.
    xs = np.arange(frame.shape[1])
    ys = np.arange(frame.shape[0])
    xs = xs[(xs + 0.5 >= x) & (xs + 0.5 < x + width)]
    ys = ys[(ys + 0.5 >= y) & (ys + 0.5 < y + height)]
    if not (len(xs) and len(ys)):
        return
    across, down = np.meshgrid((xs + 0.5 - x) / width, (ys + 0.5 - y) / height)

    def up(plane: Planes) -> Real:
        return bilinear(plane.astype(np.float64), across, down)

    rows, columns = flow.shape[2:]
    identity_y, identity_x = np.mgrid[:rows, :columns]
    flow_x = 2 * across - 1 + up(flow[0, 0] - ((2 * identity_x + 1) / columns - 1))
    flow_y = 2 * down - 1 + up(flow[0, 1] - ((2 * identity_y + 1) / rows - 1))
    area = np.ix_(ys, xs)
    at = (flow_x + 1) / 2, (flow_y + 1) / 2
    silhouette = bilinear(garment[..., 3].astype(np.float64), *at) / 255
    w, a, s = up(mask[0, 0]), up(matte[0, 0]), up(share[0, 0])
    m = w**3 / (w**3 + (1 - w) ** 3) * silhouette
    for channel in range(3):
        cloth = bilinear(garment[..., channel].astype(np.float64), *at)
        seen = frame[..., channel][area]
        drawn, reduced = ((up(planes[0, 2 - channel]) + 1) * 127.5 for planes in (rendered, person))
        detailed = drawn + s * (seen - reduced)
        painted = np.clip(detailed, np.minimum(drawn, seen), np.maximum(drawn, seen))
        mixed = (1 - a) * seen + a * (m * cloth + (1 - m) * painted)
        frame[..., channel][area] = np.clip(np.rint(mixed), 0, 255)


def bilinear(plane: Real, across: Real, down: Real) -> Real:
    """Sample a plane at fractions (0 … 1) of its size, between pixel centres; the border repeats outside."""
    height, width = plane.shape
    x = np.clip(across * width - 0.5, 0, width - 1)
    y = np.clip(down * height - 0.5, 0, height - 1)
    x0, y0 = x.astype(int), y.astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    upper = plane[y0, x0] + (x - x0) * (plane[y0, x1] - plane[y0, x0])
    lower = plane[y1, x0] + (x - x0) * (plane[y1, x1] - plane[y1, x0])
    return np.asarray(upper + (y - y0) * (lower - upper))
