"""The cloth is as fine as it is seen: how far it is reduced, and that fine patterns do not shimmer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import _native, cloth

HEIGHT, WIDTH = 64, 48
Planes = NDArray[np.float32]


def identity(scale: float = 1.0, turn: float = 0.0, shift: float = 0.0) -> Planes:
    """A flow [1, 2, H, W] that shows `scale` of the garment's height and width, turned in pixels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    x, y = (2 * x + 1 - WIDTH) / 2, (2 * y + 1 - HEIGHT) / 2
    c, s = np.cos(turn), np.sin(turn)
    across, down = c * x - s * y, s * x + c * y
    return np.stack([scale * across * 2 / WIDTH + shift, scale * down * 2 / HEIGHT])[None].astype(np.float32)


SHOWN = np.ones((1, 1, HEIGHT, WIDTH), np.float32)


@given(st.floats(0.2, 2.0), st.floats(-3, 3), st.integers(1, 40), st.floats(60, 3000), st.booleans())
def test_reduction_is_what_a_pixel_of_the_frame_spans(
    scale: float, turn: float, size: int, tall: float, mirrored: bool
) -> None:
    """Whatever the turn, which moves pixels about and keeps their size; and in a mirror."""
    flow = identity(scale, turn)
    if mirrored:
        flow[:, 0] *= -1
    frame = (tall, tall * WIDTH / HEIGHT)
    octaves = cloth.reduction(flow, SHOWN, (size * HEIGHT, size * WIDTH), frame)
    assert octaves == pytest.approx(np.log2(scale * size * HEIGHT / tall), abs=1e-3)


def test_only_what_shows_counts() -> None:
    flow, shown = identity(), SHOWN.copy()
    flow[..., HEIGHT // 2 :, :] *= 8
    shown[..., HEIGHT // 2 - 4 :, :] = 0
    assert cloth.reduction(flow, shown, (256, 192), (64, 48)) == pytest.approx(2, abs=1e-3)
    assert cloth.reduction(flow, 0 * shown, (256, 192), (64, 48)) is None
    assert cloth.reduction(np.full_like(flow, np.nan), SHOWN, (256, 192), (64, 48)) is None


def test_levels_do_not_change_back_and_forth() -> None:
    assert [cloth.level(octaves, None, 4) for octaves in (-3.0, 0.4, 0.6, 2.4, 9.0)] == [0, 0, 1, 2, 3]
    assert cloth.level(None, None, 4) is None, "nothing shows yet"
    assert cloth.level(None, 2, 4) == 2
    level, seen = None, []
    for octaves in (1.4, 1.6, 1.4, 1.6, 1.9, 1.6, 1.4, 1.2):
        level = cloth.level(octaves, level, 4)
        seen.append(level)
    assert seen == [1, 1, 1, 1, 2, 2, 2, 1]


def test_a_pyramid_keeps_colours_and_area() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (1027, 771, 4), dtype=np.uint8)
    levels = cloth.pyramid(picture)
    assert levels[0] is picture
    assert [level.shape[:2] for level in levels] == [(1027, 771), (514, 386), (257, 193), (129, 97)]
    for level in levels:
        assert level.dtype == np.uint8
        np.testing.assert_allclose(level.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=1.5)
    assert len(cloth.pyramid(picture[:100])) == 1


def test_fine_stripes_become_even_and_stay_still() -> None:
    """Stripes of 3 pixels of a photo that the frame shows at a third: each of its pixels spans one."""
    tall, wide = 3 * 480, 3 * 360
    stripes = np.where(np.arange(tall) % 3 == 0, 255, 0).astype(np.uint8)
    fabric = np.dstack([np.repeat(stripes[:, None, None], wide, axis=1).repeat(3, axis=2),
                        np.full((tall, wide), 255, np.uint8)])  # fmt: skip
    levels = cloth.pyramid(np.ascontiguousarray(fabric))
    drawn = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)

    def shown(pixels: NDArray[np.uint8], shift: float) -> NDArray[np.float64]:
        frame = np.zeros((480, 360, 3), np.uint8)
        flow = identity()
        flow[:, 1] += shift
        _native.composite(frame, (0, 0, 360, 480), pixels, flow, drawn, drawn, 0 * SHOWN, SHOWN, SHOWN)
        return frame[40:-40, 40:-40].astype(np.float64)

    octaves = cloth.reduction(identity(), SHOWN, (tall, wide), (480, 360))
    assert octaves is not None
    fitting = levels[cloth.level(octaves, None, len(levels)) or 0]
    step = 4 / tall  # two pixels of the photo, in flow units: from between stripes onto one
    moved = {
        name: np.abs(shown(p, 0) - shown(p, step)).mean()
        for name, p in (("full", levels[0]), ("fit", fitting))
    }
    assert moved["full"] > 80, "what it is for"
    assert moved["fit"] < 25
    assert shown(fitting, 0).std() < 25
    assert shown(fitting, 0).mean() == pytest.approx(85, abs=3)
