"""What the network sees of a frame, and what calms it over time."""

from argparse import ArgumentTypeError
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime import framing
from runtime.framing import (
    EVERYWHERE,
    LOOK_S,
    MODES,
    PATIENCE_S,
    Crop,
    FaceFinder,
    Framing,
    OneEuro,
    box,
    person_box,
)
from runtime.smoothing import Smoothing
from runtime.view import View, parse_aspect

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 64, 48  # of the network's picture


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 1280), (640, 480), (31, 999)])
def test_crops_have_the_aspect_and_the_middle(width: int, height: int) -> None:
    for around in (False, True):
        x, y, wide, tall = box(width, height, 0.75, around)
        assert wide / tall == pytest.approx(0.75)
        assert (x + wide / 2, y + tall / 2) == pytest.approx((width / 2, height / 2))
        assert around == (wide >= width and tall >= height)


def test_person_box_stays_inside_and_holds_the_face() -> None:
    face = (10.0, 20.0, 60.0, 60.0)
    x, y, wide, tall = person_box(face, (1280, 720), 0.75)
    assert x >= 0
    assert y >= 0
    assert x + wide <= 1280
    assert y + tall <= 720
    assert x <= face[0]
    assert face[0] + face[2] <= x + wide
    # A face too near for a crop below it: the largest box there is.
    assert person_box((500.0, 300.0, 300.0, 300.0), (1280, 720), 0.75)[3] == 720


@pytest.mark.parametrize("rate", [10, 30])
def test_one_euro_calms_noise_and_follows_motion(rate: int) -> None:
    rng = np.random.default_rng(0)
    still = OneEuro()
    noise = rng.normal(0, 2, (200, 1))
    calm = np.array([still(value + 100, 500, 1 / rate) for value in noise])
    assert calm[50:].std() < 0.4 * noise.std()
    moving = OneEuro()
    path = 600.0 / rate * np.arange(100)[:, None]
    followed = np.array([moving(value, 500, 1 / rate) for value in path])
    assert np.abs(followed - path)[-1] < 200  # a third of a second's way


def test_one_euro_stays_where_no_time_passes() -> None:
    steady = OneEuro()
    first = steady(np.zeros(1), 500, 0.0)
    np.testing.assert_array_equal(steady(np.ones(1), 500, 0.0), first)


def test_the_crop_follows_as_closely_where_frames_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody walks to and fro, before an engine of 30 frames a second and one of 10."""
    face = (0.0, 40.0, 60.0, 60.0)
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: face)

    def behind(rate: int) -> float:
        """How far the crop is from where it belongs, on average, in widths of the crop."""
        nonlocal face
        framing, off = Framing("auto", 0.75), []
        for number in range(6 * rate):
            at = number / rate
            face = (600 + 300 * np.sin(2 * np.pi * at / 6), 40.0, 60.0, 60.0)
            crop = framing.crop(np.zeros((480, 1280, 3), np.uint8), at=at)
            off.append(abs(crop[0] - person_box(face, (1280, 480), 0.75)[0]) / crop[2])
        return float(np.mean(off[rate:]))

    assert behind(30) < 0.2
    assert behind(10) < 1.25 * behind(30)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.03))
@settings(max_examples=20, deadline=None)
def test_the_crop_stands_still_before_somebody_who_does(seed: int, noise: float) -> None:
    """Though the cascade finds the face in steps, now larger, now smaller. Who moves is followed at once."""
    rng = np.random.default_rng(seed)
    framing, nothing, tall = Framing("auto", 0.75), np.zeros((720, 1280, 3), np.uint8), 80.0
    shift = 0.0

    def found(*_: object) -> Crop:
        side = tall * (1 + noise * rng.choice([-1, 0, 1]))
        middle = np.array([640 + shift, 150]) + rng.normal(0, noise / 3 * tall, 2)
        return (middle[0] - side / 2, middle[1] - side / 2, side, side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaceFinder, "__call__", found)
        crops = [framing.crop(nothing, at=number / 30) for number in range(300)][150:]
        heights = np.array([crop[3] for crop in crops])
        assert np.ptp(heights) < noise * heights.mean()
        assert np.abs(np.diff(heights)).max() < noise / 8 * heights.mean()
        shift = 200.0
        for number in range(300, 330):
            x, _, wide, _ = framing.crop(nothing, at=number / 30)
        assert x + wide / 2 == pytest.approx(840, abs=0.1 * wide)


def test_nobody_is_alone_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly frames come: who was there when a face was last looked for is there."""
    there = True
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: (100.0, 50.0, 40.0, 40.0) if there else None)
    framing, step = Framing("auto", WIDTH / HEIGHT), LOOK_S / 4
    alone = []
    for frame in range(16):
        there = frame < 8
        framing.crop(np.zeros((240, 320, 3), np.uint8), at=7 + frame * step)
        alone.append(framing.alone_s)
    assert alone == [0.0] * 8 + [LOOK_S] * 4 + [2 * LOOK_S] * 4


def test_the_crop_goes_back_to_the_middle_once_nobody_was_seen_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = iter([(100.0, 40.0, 30.0, 30.0)])
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found, None))
    framing, nothing = Framing("auto", 0.75, steady=False), np.zeros((480, 640, 3), np.uint8)
    there = framing.crop(nothing, at=0.0)
    assert there != box(640, 480, 0.75, around=False)
    assert framing.crop(nothing, at=PATIENCE_S) == there
    assert framing.crop(nothing, at=PATIENCE_S + 0.1) == box(640, 480, 0.75, around=False)
    assert framing.alone_s == pytest.approx(PATIENCE_S)


def test_somebody_who_comes_back_is_framed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    face = (100.0, 40.0, 30.0, 30.0)
    seen = [face, *[None] * 20, face]
    found = iter(seen)
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found))
    framing, nothing = Framing("auto", 0.75), np.zeros((480, 640, 3), np.uint8)
    crops = [framing.crop(nothing, at=number * LOOK_S) for number in range(len(seen))]
    assert crops[-2] == pytest.approx(box(640, 480, 0.75, around=False), abs=5)
    assert crops[-1] == pytest.approx(crops[0])


def test_smoothing_acts_at_rest_and_not_in_motion() -> None:
    rng = np.random.default_rng(0)
    person = rng.uniform(-1, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    plane = rng.uniform(0, 1, (1, 1, HEIGHT, WIDTH)).astype(np.float32)
    flow = rng.uniform(-1, 1, (1, 2, HEIGHT, WIDTH)).astype(np.float32)
    near = flow + np.float32(0.6 / WIDTH)  # a third of a pixel, as noise makes it
    smoothing = Smoothing()
    first = smoothing(person, flow, plane)
    for got, wanted in zip(first, (flow, plane), strict=True):
        np.testing.assert_array_equal(got, wanted)
    rest = smoothing(person, near, 1 - plane)
    np.testing.assert_allclose(rest[0], 0.6 * flow + 0.4 * near, atol=1e-6)
    np.testing.assert_allclose(rest[1], 0.6 * plane + 0.4 * (1 - plane), atol=1e-6)
    motion = smoothing(-person, near, plane)
    np.testing.assert_allclose(motion[0], near, atol=1e-6)
    np.testing.assert_allclose(motion[1], plane, atol=1e-6)
    smoothing.reset()
    _, fresh = smoothing(-person, flow, 1 - plane)
    np.testing.assert_array_equal(fresh, 1 - plane)


def test_what_moves_in_plain_clothes_is_not_smoothed() -> None:
    """The picture changes at their outline alone, the flow within too; a single wild pixel is no motion."""
    person = np.zeros((1, 3, 64, 48), np.float32)
    flow, mask = np.zeros((1, 2, 64, 48), np.float32), np.ones((1, 1, 64, 48), np.float32)
    smoothing = Smoothing()
    smoothing(person, flow, mask)
    moved, wild = flow.copy(), flow.copy()
    moved[0, 1, :, :24] = 2 * 3 / 64  # three pixels
    wild[0, 0, 30, 20] = 1.9
    got, faded = smoothing(person, moved, 0 * mask)
    np.testing.assert_array_equal(got[..., :20], moved[..., :20])
    np.testing.assert_array_equal(faded[..., :20], 0)
    np.testing.assert_allclose(faded[..., 28:], 0.6)
    smoothing.reset()
    smoothing(person, flow, mask)
    _, faded = smoothing(person, wild, 0 * mask)
    np.testing.assert_allclose(faded, 0.6)


def test_smoothing_forgets_a_frame_that_overflowed() -> None:
    person, plane = np.zeros((1, 3, HEIGHT, WIDTH), np.float32), np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    flow = np.zeros((1, 2, HEIGHT, WIDTH), np.float32)
    smoothing = Smoothing()
    for bad in (np.nan, np.inf):
        smoothing.reset()
        for _ in range(2):
            smoothing(person, flow + np.float32(bad), plane * np.float32(bad))
        for after, wanted in zip(smoothing(person, flow, plane), (flow, plane), strict=True):
            np.testing.assert_array_equal(after, wanted)
            assert after.dtype == np.float32


def test_framing_starts_again_with_frames_of_another_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a folder of photos: the face is looked for at once, and nowhere near the one before."""
    searched: list[tuple[tuple[int, ...], bool]] = []

    def find(finder: FaceFinder, image: Pixels) -> tuple[float, float, float, float]:
        searched.append((image.shape, finder._last is None))
        finder._last = (0.6 * image.shape[1], 20.0, 60.0, 60.0)
        return finder._last

    monkeypatch.setattr(FaceFinder, "__call__", find)
    framing = Framing("auto", WIDTH / HEIGHT)
    for shape, scene in (((480, 1280, 3), 0), ((480, 1280, 3), 0), ((480, 400, 3), 0), ((480, 400, 3), 1)):
        x, _, wide, _ = framing.crop(np.zeros(shape, np.uint8), scene)
        assert x <= 0.6 * shape[1] <= x + wide
    assert searched == [((480, 1280, 3), True), ((480, 400, 3), True), ((480, 400, 3), True)]


def test_somebody_who_comes_nearer_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The face known is kept beside another of its size, and given up for one that is a third larger."""
    video = cv2.VideoCapture(str(ROOT / "models" / "clip.mp4"))
    person = np.asarray(video.read()[1], np.uint8)
    video.release()
    face = FaceFinder()(person)
    assert face is not None
    x, y, wide, tall = (round(value) for value in face)
    head = person[max(0, y - tall // 2) : y + 2 * tall, max(0, x - wide // 2) : x + 2 * wide]

    def scene(*sides: int) -> Pixels:
        picture = np.full((480, 900, 3), 128, np.uint8)
        for number, side in enumerate(sides):
            left = 30 + 300 * number
            picture[60 : 60 + side, left : left + side] = cv2.resize(head, (side, side))
        return picture

    # A search of the whole frame in between changes nothing of the box, which would make the crop breathe.
    finder = FaceFinder()
    alone = [finder(scene(160)) for _ in range(2 * EVERYWHERE)]
    with monkeypatch.context() as patch:
        patch.setattr(framing, "EVERYWHERE", 10**9)
        finder = FaceFinder()
        assert alone == [finder(scene(160)) for _ in range(2 * EVERYWHERE)]

    finder = FaceFinder()

    def column(picture: Pixels) -> int | None:
        """Which of the people is followed once the frame was searched everywhere."""
        for _ in range(EVERYWHERE):
            found = finder(picture)
        return None if found is None else int(found[0]) // 300

    assert column(scene(160)) == 0
    assert column(scene(160, 175)) == 0
    assert column(scene(160, 260)) == 1
    assert column(scene(220, 260)) == 1


@pytest.mark.parametrize(
    ("view", "corners"),
    [
        (View(), "abcd"),
        (View(90), "cadb"),
        (View(180), "dcba"),
        (View(270), "bdac"),
    ],
)
def test_cameras_hang_as_they_like(view: View, corners: str) -> None:
    """The picture's corners, row by row, after so many degrees clockwise."""
    image = np.zeros((120, 200, 3), np.uint8)
    for letter, (y, x) in zip("abcd", ((0, 0), (0, -1), (-1, 0), (-1, -1)), strict=True):
        image[y, x] = ord(letter)
    seen = view(image)
    assert seen.shape == ((120, 200, 3) if view.rotate in (0, 180) else (200, 120, 3))
    found = [seen[y, x, 0] for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]
    assert "".join(map(chr, found)) == corners


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.1, 10), st.sampled_from([0, 90, 180, 270]))
def test_a_view_is_the_middle_in_the_aspect_asked_for(
    height: int, width: int, aspect: float, rotate: int
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    whole, seen = View(rotate)(image), View(rotate, aspect)(image)
    (tall, wide), (full_tall, full_wide) = seen.shape[:2], whole.shape[:2]
    assert seen.flags.c_contiguous
    assert full_tall == tall or full_wide == wide, "as much as there is"
    assert abs(wide - tall * aspect) <= max(1, aspect) or min(wide, tall) == 1
    top, left = (full_tall - tall) // 2, (full_wide - wide) // 2
    np.testing.assert_array_equal(seen, whole[top : top + tall, left : left + wide])


@pytest.mark.parametrize("text", ["9:0", "0:9", "9/16", "1:20", "a:b", "", "-9:16", "nan:1"])
def test_what_is_no_aspect(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not WIDTH:HEIGHT"):
        parse_aspect(text)
    assert parse_aspect("9:16") == 0.5625


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 3000), (3000, 1), (240, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_framing_takes_any_shape(shape: tuple[int, int], mode: str) -> None:
    _, _, wide, tall = Framing(mode, WIDTH / HEIGHT).crop(np.zeros((*shape, 3), np.uint8))
    assert wide / tall == pytest.approx(WIDTH / HEIGHT)
    assert min(wide, tall) > 0


@pytest.mark.parametrize("steady", [True, False])
def test_the_crop_follows_a_face_smoothly_or_at_once(steady: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [(100.0, 40.0, 60.0, 60.0), (160.0, 60.0, 50.0, 50.0)]
    boxes = [person_box(face, (640, 480), 0.75) for face in faces]
    found = iter(faces)
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found))
    framing = Framing("auto", 0.75, steady)
    crops = [framing.crop(np.zeros((480, 640, 3), np.uint8)) for _ in range(9)]  # two looks at 30 a second
    assert crops[0] == pytest.approx(boxes[0])
    assert (crops[-1] == pytest.approx(boxes[1])) is not steady
    assert boxes[0][0] < crops[-1][0] <= boxes[1][0]
