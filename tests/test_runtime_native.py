"""The native core against its NumPy specification, over sizes and crops that do not divide evenly."""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import _native, reference

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]
Crop = tuple[float, float, float, float]

side = st.integers(1, 70)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def crops(draw: st.DrawFn) -> Crop:
    """Boxes inside, across and wholly outside a frame of up to 70 pixels."""
    place = st.floats(-90, 90, width=32)
    size = st.floats(0.5, 150, width=32)
    return draw(place), draw(place), draw(size), draw(size)


def strided(pixels: Pixels, rows: int) -> Pixels:
    """The same picture with rows further apart in memory (upside down in memory for -1)."""
    if rows == -1:
        return np.ascontiguousarray(pixels[::-1])[::-1]
    wide = np.zeros((pixels.shape[0], pixels.shape[1] + rows, pixels.shape[2]), np.uint8)
    wide[:, : pixels.shape[1]] = pixels
    return wide[:, : pixels.shape[1]]


def network(rng: np.random.Generator, height: int, width: int) -> tuple[Planes, ...]:
    """Outputs as wild as a network's can be: a flow beyond the garment, masks with zeros and ones."""

    def plane(channels: int, low: float, high: float) -> Planes:
        return rng.uniform(low, high, (1, channels, height, width)).astype(np.float32)

    share, mask, matte = (np.clip(plane(1, -1, 2), 0, 1) for _ in range(3))
    return plane(2, -1.5, 1.5), plane(3, -1, 1), plane(3, -1, 1), share, mask, matte


@settings(max_examples=150, deadline=None)
@given(side, side, crops(), side, side, st.sampled_from([0, 5, -1]), seeds)
def test_preprocess(
    height: int, width: int, crop: Crop, rows: int, columns: int, gap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = strided(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), gap)
    expected = np.empty((1, 3, rows, columns), np.float32)
    actual = np.full_like(expected, np.nan)
    reference.preprocess(frame, crop, expected)
    _native.preprocess(frame, crop, actual)
    # Sums of at most 70 x 70 float32 products, with weights that add up to 1: a few units in the last place.
    assert np.abs(actual - expected).max() < 1e-5


@settings(max_examples=150, deadline=None)
@given(side, side, crops(), side, side, st.sampled_from([0, 5, -1]), seeds)
def test_composite(height: int, width: int, crop: Crop, rows: int, columns: int, gap: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    garment = strided(rng.integers(0, 256, (columns + 3, rows + 1, 4), dtype=np.uint8), gap)
    outputs = network(rng, rows, columns)
    actual, expected = strided(frame, gap), frame.copy()
    _native.composite(actual, crop, garment, *outputs)
    reference.composite(expected, crop, garment, *outputs)
    # Float32 against float64: positions differ by under 1e-4 garment pixels, colours by under 0.1, so that
    # rounded values differ by one where they lie near a half, and never by more.
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.02 or difference.sum() <= 3


def test_preprocess_of_a_flat_picture_is_flat() -> None:
    out = np.empty((1, 3, 13, 7), np.float32)
    frame = np.empty((31, 47, 3), np.uint8)
    frame[:] = (0, 51, 255)
    _native.preprocess(frame, (-5.5, 3.25, 60, 40), out)
    for plane, value in zip(out[0], (1.0, -0.6, -1.0), strict=True):  # R, G, B
        np.testing.assert_allclose(plane, value, atol=1e-6)


def test_downscaling_does_not_alias() -> None:
    """One-pixel stripes, reduced eightfold, become grey; a bilinear resize would keep them black or white."""
    frame = np.zeros((64, 512, 3), np.uint8)
    frame[:, ::2] = 255
    out = np.empty((1, 3, 8, 64), np.float32)
    _native.preprocess(frame, (0, 0, 512, 64), out)
    assert np.abs(out[..., 2:-2]).max() < 0.01


def test_pixels_without_matte_or_outside_the_crop_are_untouched() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    before = frame.copy()
    flow, rendered, person, share, mask, matte = network(rng, 12, 9)
    garment = rng.integers(0, 256, (40, 30, 4), dtype=np.uint8)
    _native.composite(
        frame, (20, 10, 30, 40), garment, flow, rendered, person, share, mask, np.zeros_like(matte)
    )
    np.testing.assert_array_equal(frame, before)
    _native.composite(
        frame, (20, 10, 30, 40), garment, flow, rendered, person, share, mask, np.ones_like(matte)
    )
    changed = (frame != before).any(axis=2)
    changed[10:50, 20:50] = False
    assert not changed.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_broken_network_outputs_stay_in_bounds(bad: float) -> None:
    """A network in half precision can overflow; that must cost a wrong picture, not a crash.

    It is the same one whatever a processor calculates with: no number leaves the camera's pixels.
    """
    frame = np.full((40, 30, 3), 100, np.uint8)
    garment = np.full((20, 15, 4), 200, np.uint8)
    flow, rendered, person, share, mask = (
        np.full((1, channels, 8, 6), bad, np.float32) for channels in (2, 3, 3, 1, 1)
    )
    matte = np.ones((1, 1, 8, 6), np.float32)
    matte[..., :4, :] = 0
    _native.composite(frame, (0, 0, 30, 40), garment, flow, rendered, person, share, mask, matte)
    assert (frame[:17] == 100).all()
    assert len(np.unique(frame[23:])) == 1
    if np.isnan(bad):
        assert (frame[23:] == 100).all()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"frame": np.zeros((8, 8, 3), np.float32)}, TypeError),
        ({"frame": np.zeros((8, 8, 4), np.uint8)}, ValueError),
        ({"frame": np.zeros((8, 16, 3), np.uint8)[:, ::2]}, ValueError),
        ({"frame": [[[1, 2, 3]]]}, TypeError),
        ({"frame": np.broadcast_to(np.zeros((1, 8, 3), np.uint8), (2**31 + 7, 8, 3))}, ValueError),
        ({"garment": np.zeros((8, 8, 3), np.uint8)}, ValueError),
        ({"flow": np.zeros((1, 2, 4, 3))}, TypeError),
        ({"flow": np.zeros((1, 3, 4, 3), np.float32)}, ValueError),
        ({"mask": np.zeros((1, 1, 4, 4), np.float32)}, ValueError),
        ({"mask": np.zeros(49, np.uint8)[1:].view(np.float32).reshape(1, 1, 4, 3)}, ValueError),
        ({"rendered": np.zeros((1, 3, 3, 4), np.float32).transpose(0, 1, 3, 2)}, ValueError),
        ({"crop": (0, 0, 0, 4)}, ValueError),
        ({"crop": (np.nan, 0, 4, 4)}, ValueError),
        ({"crop": (0, 0, 1e9, 4)}, ValueError),
    ],
)
def test_wrong_arrays_are_refused(changes: dict[str, object], error: type[Exception]) -> None:
    plane = np.zeros((1, 1, 4, 3), np.float32)
    arguments: dict[str, object] = {
        "frame": np.zeros((8, 8, 3), np.uint8),
        "crop": (0, 0, 8, 8),
        "garment": np.zeros((8, 8, 4), np.uint8),
        "flow": np.zeros((1, 2, 4, 3), np.float32),
        "rendered": np.zeros((1, 3, 4, 3), np.float32),
        "person": np.zeros((1, 3, 4, 3), np.float32),
        "share": plane,
        "mask": plane,
        "matte": plane,
    }
    with pytest.raises(error):
        _native.composite(**{**arguments, **changes})  # type: ignore[arg-type]


def test_read_only_results_are_refused() -> None:
    frame, out = np.zeros((8, 8, 3), np.uint8), np.zeros((1, 3, 4, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        _native.preprocess(frame, (0, 0, 8, 8), out)


def ticks_during(work: Callable[[], object]) -> int:
    """How often another thread, which has begun to count, gets to it while `work` runs."""
    counted, begun, done = 0, threading.Event(), threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            begun.set()
            time.sleep(0)  # leaves the GIL to who wants it

    thread = threading.Thread(target=count)
    thread.start()
    begun.wait()
    before = counted
    work()
    ticks = counted - before
    done.set()
    thread.join()
    return ticks


def test_other_threads_run_meanwhile() -> None:
    """Capture, window and page go on while a large frame is prepared or drawn: the GIL is free."""
    frame = np.zeros((2160, 3840, 3), np.uint8)
    planes = network(np.random.default_rng(0), 64, 48)
    garment = np.full((256, 192, 4), 200, np.uint8)
    out = np.empty((1, 3, 256, 192), np.float32)
    crop = (0.0, 0.0, 3840.0, 2160.0)

    def prepare() -> None:
        for _ in range(20):
            _native.preprocess(frame, crop, out)

    def draw() -> None:
        _native.composite(frame, crop, garment, *planes)

    switch = sys.getswitchinterval()
    sys.setswitchinterval(60)  # seconds: the other thread gets the GIL where it is given away, and not else
    try:
        assert ticks_during(prepare) > 0
        assert ticks_during(draw) > 0
        assert ticks_during(lambda: sum(range(3_000_000))) == 0, "or this test could not fail"
    finally:
        sys.setswitchinterval(switch)


def test_threads_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (123, 217, 3), dtype=np.uint8)
    outs = [np.empty((1, 3, 31, 23), np.float32) for _ in range(7)]
    crops = [(3.0 * i, 2.0, 90.0, 120.0) for i in range(7)]
    threads = [
        threading.Thread(target=_native.preprocess, args=(frame, *job))
        for job in zip(crops, outs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for crop, out in zip(crops, outs, strict=True):
        alone = np.empty_like(out)
        _native.preprocess(frame, crop, alone)
        np.testing.assert_array_equal(out, alone)
