"""The camera's detail in what the network draws."""

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime import _native
from runtime.detail import lend_detail

HEIGHT, WIDTH, TIMES = 64, 48, 4  # of the network's picture; the frame is so many times as large
FULL = np.ones((1, 1, HEIGHT, WIDTH), np.float32)


def edge(left: int, right: int, at: float = 102.5) -> NDArray[np.uint8]:
    """A frame with a sharp vertical edge, not between pixels of the network."""
    frame = np.full((TIMES * HEIGHT, TIMES * WIDTH, 3), left, np.uint8)
    frame[:, int(at) :] = right
    return frame


def reduced(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    out = np.empty((1, 3, HEIGHT, WIDTH), np.float32)
    _native.preprocess(frame, (0, 0, frame.shape[1], frame.shape[0]), out)
    return out


def shown(frame: NDArray[np.uint8], drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame once all of it gave way to what the network drew; without a garment."""
    rest, share = lend_detail(reduced(frame), drawn)
    flow = np.zeros((1, 2, HEIGHT, WIDTH), np.float32)
    garment = np.zeros((4, 4, 4), np.uint8)
    result = frame.copy()
    crop = (0, 0, frame.shape[1], frame.shape[0])
    _native.composite(result, crop, garment, flow, rest, share, 0 * FULL, FULL)
    return result


def test_what_is_drawn_as_seen_is_as_sharp_as_the_frame() -> None:
    frame = edge(60, 200)
    frame += np.random.default_rng(0).integers(0, 20, frame.shape, dtype=np.uint8)
    drawn = reduced(frame)
    enlarged = cv2.resize((drawn[0, ::-1].transpose(1, 2, 0) + 1) * 127.5, frame.shape[1::-1])

    def error(picture: NDArray[np.float32] | NDArray[np.uint8]) -> float:
        return float(np.abs(picture.astype(float) - frame)[:, 92:112].max())

    assert error(shown(frame, drawn)) < 0.15 * error(enlarged)


def test_other_colours_keep_the_edge() -> None:
    """Skin where a dark sleeve was: the arm's outline is the sleeve's, and so as sharp as the frame's."""
    frame, drawn = edge(30, 230), reduced(edge(150, 230))
    result = shown(frame, drawn)[TIMES * HEIGHT // 2, :, 0].astype(int)
    assert np.diff(result[96:110]).max() > 60  # of 80
    assert abs(result[80] - 150) < 4
    assert abs(result[125] - 230) < 4


def test_something_new_takes_nothing_from_the_frame() -> None:
    """Plain skin where a pattern was: none of the pattern comes through."""
    rng = np.random.default_rng(1)
    frame = cv2.GaussianBlur(rng.integers(0, 256, edge(0, 0).shape, dtype=np.uint8), (0, 0), 3)
    drawn = np.full((1, 3, HEIGHT, WIDTH), 0.2, np.float32)
    assert np.ptp(shown(np.asarray(frame, np.uint8), drawn)) <= 1


def test_the_parts_are_what_was_drawn() -> None:
    rng = np.random.default_rng(2)
    person, drawn = (rng.uniform(-1, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32) for _ in range(2))
    for other in (drawn, person, -person):
        rest, share = lend_detail(person, other)
        assert share.min() >= 0
        assert share.max() <= 1
        np.testing.assert_allclose(rest + share * person, other, atol=1e-6)
    assert lend_detail(person, -person)[1].max() == 0
