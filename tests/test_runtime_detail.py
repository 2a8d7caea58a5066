"""The camera's detail in what the network draws."""

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime import _native
from runtime.detail import detail_share

HEIGHT, WIDTH, TIMES = 64, 48, 4  # of the network's picture; the frame is so many times as large
EDGE = 102  # of the frame's pixels, and between two of the network's
FULL = np.ones((1, 1, HEIGHT, WIDTH), np.float32)


def edge(left: int, right: int, at: int = EDGE) -> NDArray[np.uint8]:
    """A frame with a sharp vertical edge."""
    frame = np.full((TIMES * HEIGHT, TIMES * WIDTH, 3), left, np.uint8)
    frame[:, at:] = right
    return frame


def reduced(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    out = np.empty((1, 3, HEIGHT, WIDTH), np.float32)
    _native.preprocess(frame, (0, 0, frame.shape[1], frame.shape[0]), out)
    return out


def shown(frame: NDArray[np.uint8], drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame once all of it gave way to what the network drew; without a garment."""
    person = reduced(frame)
    flow = np.zeros((1, 2, HEIGHT, WIDTH), np.float32)
    garment = np.zeros((4, 4, 4), np.uint8)
    result = frame.copy()
    crop = (0, 0, frame.shape[1], frame.shape[0])
    _native.composite(result, crop, garment, flow, drawn, person, detail_share(person, drawn), 0 * FULL, FULL)
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


def test_beside_a_common_outline_little_of_an_old_pattern_comes_along() -> None:
    """A striped sleeve before a wall, plain skin in its place: nothing away from the outline."""
    frame = edge(30, 230)
    frame[np.arange(TIMES * HEIGHT) % 8 < 4, :EDGE] = 150
    result = shown(frame, reduced(edge(180, 230)))[16:-16]
    assert np.ptp(result[:, : EDGE - 4 * TIMES]) <= 2
    assert np.ptp(result[:, EDGE - 4 * TIMES : EDGE - 4], axis=0).max() < 40  # of 120


def test_no_line_that_neither_has() -> None:
    """Beside an edge of the frame, of which the drawing has another beside it: a thinner arm."""
    frame, drawn = edge(30, 230), reduced(edge(150, 230, 96))
    line = shown(frame, drawn)[TIMES * HEIGHT // 2, :, 0].astype(int)
    assert detail_share(reduced(frame), drawn).max() > 0.2
    assert line.max() <= 231


def test_shares_are_shares() -> None:
    rng = np.random.default_rng(2)
    person, other = (rng.uniform(-1, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32) for _ in range(2))
    for drawn in (other, person, -person, 3 * person):
        share = detail_share(person, drawn)
        assert share.shape == (1, 1, HEIGHT, WIDTH)
        assert share.min() >= 0
        assert share.max() <= 1
    assert detail_share(person, other).mean() < 0.03, "alike by chance"
    assert detail_share(person, person).min() > 0.8
    assert detail_share(person, -person).max() == 0
