"""What a picture goes through on its way from the network to the mirror, told from the picture drawn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import engines
from engines import EngineError
from runtime.dresser import Dresser, fit
from runtime.framing import Framing
from runtime.garment import prepare
from runtime.smoothing import Smoothing

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float32]
Outputs = dict[str, Planes]
Alter = Callable[[Planes, Outputs], None]

HEIGHT, WIDTH = 64, 48  # of the network's picture
TALL, WIDE = 480, 360  # of the crop in the middle of a frame of 640 x 480 pixels
SIDE = 140  # of the frame on either side of the crop
DARK, PALE = 40, 220
# The garment in the crop, with its outline between the network's pixels.
TOP, BOTTOM, LEFT, RIGHT = 117, 363, 93, 267


@pytest.fixture(scope="module")
def session(identity_bundle: Callable[..., Path]) -> Iterator[engines.Session]:
    with engines.open(identity_bundle(HEIGHT, WIDTH), "onnxruntime") as opened:
        yield opened


@pytest.fixture
def alter(session: engines.Session, monkeypatch: pytest.MonkeyPatch) -> Callable[[Alter], None]:
    """Has the network compute something else: `change` gets the person and the outputs to change."""
    begin = session.begin

    def set_change(change: Alter) -> None:
        def altered(person: Planes) -> Callable[[], Outputs]:
            collect = begin(person)

            def collecting() -> Outputs:
                outputs = dict(collect())
                change(person, outputs)
                return outputs

            return collecting

        monkeypatch.setattr(session, "begin", altered)

    return set_change


def silhouette() -> Pixels:
    mask = np.zeros((TALL, WIDE), np.uint8)
    mask[TOP:BOTTOM, LEFT:RIGHT] = 255
    return mask


def plain_photo() -> Pixels:
    """A pale garment, pixel for pixel of the crop's size."""
    return np.full((TALL, WIDE, 3), PALE, np.uint8)


def dresser_in(
    session: engines.Session, photo: Pixels, mask: Pixels, smoothing: Smoothing | None = None
) -> Dresser:
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), smoothing)
    dresser.wear(fit(session, prepare("garment", photo, mask, HEIGHT, WIDTH, fill=False)))
    return dresser


def frame_of(colour: int) -> Pixels:
    return np.full((TALL, SIDE + WIDE + SIDE, 3), colour, np.uint8)


def room(seed: int) -> Pixels:
    """A frame of soft patches in all colours, none near black or white."""
    noise = np.random.default_rng(seed).uniform(0, 255, (10, 13, 3)).astype(np.float32)
    soft = cv2.resize(noise, (SIDE + WIDE + SIDE, TALL), interpolation=cv2.INTER_CUBIC)
    return np.clip(soft, 60, 195).astype(np.uint8)


def crop_of(frame: Pixels) -> NDArray[np.int64]:
    return frame[:, SIDE:-SIDE].astype(np.int64)


def hide_while(alter: Callable[[Alter], None], hidden: Callable[[], bool]) -> None:
    """Have the network's flow lead beside the garment's photo as long as that is true."""

    def hide(_: Planes, outputs: Outputs) -> None:
        if hidden():
            outputs["flow"] = np.full_like(outputs["flow"], -3)

    alter(hide)


def draw_anew(outputs: Outputs, rendered: Planes) -> None:
    """Have the network draw this around the garment."""
    outputs["tryon"] = outputs["tryon"] + (1 - outputs["composite_mask"]) * (rendered - outputs["rendered"])
    outputs["rendered"] = rendered


def test_a_colour_cast_of_the_network_does_not_reach_the_picture(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """It is strong enough to count as change, all over the crop, where it is not taken away before."""
    cast = np.array([0.19, -0.19, 0.19], np.float32).reshape(1, 3, 1, 1)
    alter(lambda _, outputs: draw_anew(outputs, outputs["rendered"] + cast))
    before = room(0)
    frame = before.copy()
    dresser_in(session, plain_photo(), silhouette()).dress(frame)
    drawn, seen = crop_of(frame), crop_of(before)
    assert (drawn[TOP + 10 : BOTTOM - 10, LEFT + 10 : RIGHT - 10] >= PALE - 1).all(), "the garment is on"
    for beside in (np.s_[TOP:BOTTOM, LEFT - 40 : LEFT - 2], np.s_[TOP:BOTTOM, RIGHT + 2 : RIGHT + 40]):
        assert np.abs((drawn - seen)[beside].mean(axis=(0, 1))).max() < 2  # the cast is 24
        assert np.abs((drawn - seen)[beside]).max() < 10
    np.testing.assert_array_equal(drawn[-20:], seen[-20:])


def test_an_unsure_network_does_not_blur_the_garments_outline(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """The outline is the photo's, a pixel of the camera wide; one of the network is 7.5 of them."""

    def unsure(person: Planes, outputs: Outputs) -> None:
        outputs["composite_mask"] = 0.7 * outputs["composite_mask"]
        outputs["tryon"] = person + 0.7 * (outputs["tryon"] - person)

    alter(unsure)
    frame = frame_of(DARK)
    dresser_in(session, plain_photo(), silhouette()).dress(frame)
    shown = (crop_of(frame) - DARK) / (PALE - DARK)
    assert shown[TOP + 3 : BOTTOM - 3, LEFT + 3 : RIGHT - 3].min() > 0.88
    outside = np.ones((TALL, WIDE), bool)
    outside[TOP - 1 : BOTTOM + 1, LEFT - 1 : RIGHT + 1] = False
    assert np.abs(shown[outside]).max() < 0.02


def test_the_try_on_ends_in_no_seam_inside_the_frame(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """All of the crop is drawn anew. It ends inside the frame at its left and right, not above or below."""
    alter(lambda person, outputs: draw_anew(outputs, np.full_like(person, 0.7)))
    frame = frame_of(DARK)
    dresser_in(session, plain_photo(), silhouette()).dress(frame)
    drawn = crop_of(frame)
    assert (drawn[:, :3] == DARK).all()
    assert (drawn[:, -3:] == DARK).all()
    above = slice(0, TOP - 10)  # the garment, which has an outline of its own
    assert np.abs(np.diff(frame[above].astype(int), axis=1)).max() < 10
    for row in (0, -1):
        assert (drawn[row, 60:-60] > 210).all()


def test_a_wall_drawn_paler_beside_the_garment_has_its_own_colour(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """Where a wide sleeve was, of which the network knows only what it hid."""
    wall = 140
    sleeve = np.s_[150:300, RIGHT : RIGHT + 38]
    frame = frame_of(wall)
    frame[:, SIDE:-SIDE][sleeve] = DARK

    def without_sleeve(person: Planes, outputs: Outputs) -> None:
        paler = wall / 127.5 - 1 + 0.08
        draw_anew(outputs, np.where(person < -0.05, np.float32(paler), person))

    alter(without_sleeve)
    dresser_in(session, plain_photo(), silhouette()).dress(frame)
    drawn = crop_of(frame)
    assert np.abs(drawn[140:310, RIGHT + 5 :] - wall).max() < 7  # of the 12 that it is paler


def test_cloth_finer_than_the_frame_is_shown_without_false_stripes(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """Of a photo four times as fine, stripes of one and of two pixels turn grey; broad ones stay."""

    def a_little_larger(_: Planes, outputs: Outputs) -> None:
        outputs["flow"] = 0.97 * outputs["flow"]  # lest every pixel falls on the same place of a stripe

    alter(a_little_larger)
    fine = 4
    x = np.arange(fine * WIDE)
    stripes = np.where(np.stack([x // width % 2 for width in (1, 2, 12 * fine)]) > 0, 255, 0)
    lines = np.repeat(stripes.astype(np.uint8), fine * TALL // 3, axis=0)
    photo = np.ascontiguousarray(np.repeat(lines[..., None], 3, axis=2))
    mask = silhouette().repeat(fine, axis=0).repeat(fine, axis=1)
    frame = frame_of(DARK)
    dresser_in(session, photo, mask).dress(frame)
    drawn = crop_of(frame)[:, LEFT + 10 : RIGHT - 10]
    for band in (drawn[TOP + 10 : 145], drawn[175:305]):
        assert np.abs(band - 127.5).max() < 8
    broad = drawn[335 : BOTTOM - 10]
    assert ((broad < 10) | (broad > 245)).mean() > 0.7


def test_cloth_is_as_fine_after_a_picture_without_it_as_at_once(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """Of a photo between two levels, of which the finer one would be kept."""
    nobody = True
    hide_while(alter, lambda: nobody)
    larger = (round(1.55 * WIDE), round(1.55 * TALL))
    photo = np.where(np.arange(larger[0])[None, :, None] % 2, 0, 255) * np.ones((larger[1], 1, 3))
    mask = np.asarray(cv2.resize(silhouette(), larger, interpolation=cv2.INTER_NEAREST), np.uint8)
    waited = dresser_in(session, photo.astype(np.uint8), mask)
    waited.dress(frame_of(DARK))
    nobody = False
    pictures = [frame_of(DARK), frame_of(DARK)]
    for dresser, frame in zip(
        (waited, dresser_in(session, photo.astype(np.uint8), mask)), pictures, strict=True
    ):
        dresser.dress(frame)
    assert (pictures[1] != DARK).any()
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_a_small_garment_may_follow_a_large_one(
    session: engines.Session, alter: Callable[[Alter], None]
) -> None:
    """Whose cloth was shown at a coarser level than it has itself, also where it does not show yet."""
    hidden = False
    hide_while(alter, lambda: hidden)
    photo = np.full((8 * TALL, 8 * WIDE, 3), 200, np.uint8)
    dresser = dresser_in(session, photo, silhouette().repeat(8, axis=0).repeat(8, axis=1))
    dresser.dress(frame_of(DARK))
    photo, mask = photo[::16, ::16].copy(), silhouette()[::2, ::2].copy()
    small = fit(session, prepare("small", photo, mask, HEIGHT, WIDTH, fill=False))
    assert len(small.garment.cloths) <= 2, "of the large one the third was shown"
    dresser.wear(small)
    hidden = True
    frame = frame_of(DARK)
    assert dresser.dress(frame) is not None


def test_a_camera_that_changes_its_size_begins_anew(session: engines.Session) -> None:
    """Nothing of what was smoothed in the other crop is left."""
    first, second = room(0), np.ascontiguousarray(room(1)[: TALL // 2])
    dresser = dresser_in(session, plain_photo(), silhouette(), Smoothing())
    dresser.dress(first)
    alone, after = second.copy(), second.copy()
    dresser_in(session, plain_photo(), silhouette(), Smoothing()).dress(alone)
    dresser.dress(after)
    np.testing.assert_array_equal(after, alone)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the very numbers
@pytest.mark.parametrize("output", ["flow", "rendered", "composite_mask", "tryon", "all"])
@pytest.mark.parametrize("smooth", [False, True])
def test_numbers_that_overflow_spoil_one_picture_alone(
    session: engines.Session, alter: Callable[[Alter], None], output: str, smooth: bool
) -> None:
    """In all of the output or in a patch of it: told as an engine's error, and the picture stays as it was.

    A flow that leads nowhere in a patch hides the garment there, and smoothing mixes a little of that into
    the next picture.
    """
    spoil: tuple[float, slice] | None = None

    def overflow(_: Planes, outputs: Outputs) -> None:
        if spoil is not None:
            number, rows = spoil
            for name in [*outputs] if output == "all" else [output]:
                outputs[name] = outputs[name].copy()
                outputs[name][..., rows, :] = number

    def draw(dresser: Dresser) -> Pixels:
        frame = before.copy()
        assert dresser.dress(frame) is not None
        return frame

    alter(overflow)
    before = room(0)
    for rows in (slice(None), slice(30, 34)):
        for number in (np.nan, np.inf, -np.inf):
            dresser = dresser_in(session, plain_photo(), silhouette(), Smoothing() if smooth else None)
            usual = draw(dresser)
            assert (usual != before).any(), "the garment is on"
            spoil = number, rows
            patch_of_flow = output == "flow" and rows != slice(None)
            if patch_of_flow:
                spoilt = draw(dresser)
                assert (spoilt != before).any(), "the rest of the garment is on"
            else:
                spoilt = before.copy()
                with pytest.raises(EngineError, match="infinite or none"):
                    dresser.dress(spoilt)
                np.testing.assert_array_equal(spoilt, before)
            spoil = None
            for side in (np.s_[:, :SIDE], np.s_[:, -SIDE:]):
                np.testing.assert_array_equal(spoilt[side], before[side])
            mixed = smooth and patch_of_flow
            np.testing.assert_allclose(draw(dresser).astype(int), usual, atol=8 if mixed else 0)
