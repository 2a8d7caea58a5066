"""The threads: newest frame wins or none is lost, trouble is shown and passes, death is noticed."""

import itertools
import os
import shutil
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import engines
from engines.program import InputError
from runtime import pipeline as pipeline_module
from runtime import wardrobe as wardrobe_module
from runtime.colours import anchor_colours
from runtime.dresser import Dresser, Fitted, fit
from runtime.framing import DETECTION_INTERVAL, MODES, FaceFinder, Framing, OneEuro, box, person_box
from runtime.garment import prepare
from runtime.matte import fade_inner_edges, matte, show_through
from runtime.notices import QUIET_S, Notices
from runtime.pipeline import Pipeline, Result
from runtime.slot import Closed, Slot
from runtime.smoothing import Smoothing
from runtime.sources import Frame, Source, SourceLost
from runtime.stats import Stats
from runtime.view import View, parse_aspect
from runtime.wardrobe import Wardrobe, in_order

Pixels = NDArray[np.uint8]
Collect = Callable[[], dict[str, NDArray[np.float32]]]
HEIGHT, WIDTH = 64, 48


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def session(
    request: pytest.FixtureRequest, identity_bundle: Callable[..., Path], lazy: Any
) -> Iterator[engines.Session]:
    """An engine that computes at once, and one that has two frames under way (TensorRT's, on host memory)."""
    if request.param == "onnxruntime":
        opened = engines.open(identity_bundle(HEIGHT, WIDTH), "onnxruntime")
    else:
        bundle = engines.load_bundle(identity_bundle(HEIGHT, WIDTH))
        lazy.write_plans(bundle, "tensorrt")
        opened, _ = lazy.open_session(bundle)
    with opened:
        yield opened


def square_garment(name: str = "square", colour: int = 200) -> tuple[str, Pixels, Pixels]:
    """A garment photo of twice the camera crop's size, with a fine pattern, and its mask: the middle."""
    photo = np.full((480, 360, 3), 255, np.uint8)
    mask = np.zeros((480, 360), np.uint8)
    mask[120:360, 90:270] = 255
    pattern = np.random.default_rng(0).integers(0, colour, (240, 180, 3), dtype=np.uint8)
    photo[120:360, 90:270] = cv2.GaussianBlur(pattern, (3, 3), 0)
    return name, photo, mask


class Script(Source):
    """A camera that follows a script: frames of a number's brightness, or an exception to raise."""

    def __init__(self, steps: list[int | Exception], wait_s: float = 0.0) -> None:
        self._steps = iter(steps)
        self._wait_s = wait_s
        self._count = itertools.count()
        self.closed = False

    def read(self) -> Frame | None:
        time.sleep(self._wait_s)
        step = next(self._steps, None)
        if isinstance(step, Exception):
            raise step
        if step is None:
            return None
        return Frame(np.full((240, 320, 3), step, np.uint8), next(self._count))

    def close(self) -> None:
        self.closed = True


def pipeline_of(
    session: engines.Session, source: Source, lossless: bool, wardrobe: Wardrobe | None = None
) -> Pipeline:
    notices = Notices()
    if wardrobe is None:
        fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH))
        wardrobe = Wardrobe([Path("square")], lambda _: fitted, notices)
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
    return Pipeline(source, dresser, wardrobe, notices, lossless)


def drain(pipeline: Pipeline) -> list[Result]:
    results = []
    try:
        while True:
            if result := pipeline.next(5.0):
                results.append(result)
    except Closed:
        return results
    finally:
        pipeline.stop()


def test_slot_keeps_the_newest() -> None:
    slot: Slot[int] = Slot()
    for item in range(4):
        slot.put(item)
    assert slot.get() == 3
    assert slot.dropped == 3
    assert slot.get(timeout_s=0.01) is None
    slot.put(4)
    slot.close()
    assert slot.get() == 4
    with pytest.raises(Closed):
        slot.get()
    with pytest.raises(Closed):
        slot.put(5)


def test_slot_loses_nothing_when_asked_to_wait() -> None:
    slot: Slot[int] = Slot()
    seen = []

    def take() -> None:
        while (item := slot.get()) is not None and item < 99:
            seen.append(item)

    reader = threading.Thread(target=take)
    reader.start()
    for item in range(100):
        slot.put_when_free(item)
    reader.join(5)
    assert seen == list(range(99))
    assert slot.dropped == 0


def test_every_frame_of_a_file_is_dressed_in_order(session: engines.Session) -> None:
    source = Script(list(range(20)))
    pipeline = pipeline_of(session, source, lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [result.index for result in results] == list(range(20))
    assert pipeline.dropped == 0
    assert source.closed
    # Each is drawn onto its own frame: the brightness outside the garment is that frame's number.
    assert [int(result.image[0, 0, 0]) for result in results] == list(range(20))
    assert [int(result.camera[120, 160, 0]) for result in results] == list(range(20))


def test_identity_flow_puts_the_photo_at_camera_resolution(session: engines.Session) -> None:
    """What lies over the person is the garment photo itself, not the network's small picture."""
    name, photo, mask = square_garment()
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
    dresser.wear(fit(session, prepare(name, photo, mask, HEIGHT, WIDTH)))
    frame = np.full((480, 640, 3), 128, np.uint8)
    dresser.dress(frame)
    # The crop is 480 x 360 in the frame's middle: pixel for pixel the size of the photo.
    crop = frame[:, 140:500]
    inside, outside = np.s_[124:356, 94:266], np.s_[:100, :]
    # One unit of rounding: the flow makes a detour through float32.
    assert np.abs(crop[inside].astype(int) - photo[inside]).max() <= 1
    assert (crop[outside] == 128).all()
    assert (frame[:, :140] == 128).all()


def test_newest_frame_wins_when_the_network_is_slow(session: engines.Session) -> None:
    original = session.begin

    def slow(person: NDArray[np.float32]) -> Collect:
        time.sleep(0.05)
        return original(person)

    session.begin = slow  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Script(list(range(100)), wait_s=0.005), lossless=False)
    pipeline.start()
    results = drain(pipeline)
    indices = [result.index for result in results]
    assert indices == sorted(set(indices))
    assert len(indices) + pipeline.dropped == 100
    assert pipeline.dropped > 30
    # Fresh: a frame waits at most while one other is dressed.
    assert np.median([result.latency_ms for result in results]) < 150


def test_a_camera_that_vanishes_is_reported_and_comes_back(session: engines.Session) -> None:
    source = Script([1, SourceLost("camera 0 is gone, trying again"), 2, 3])
    pipeline = pipeline_of(session, source, lossless=True)
    pipeline.start()
    first = pipeline.next(5.0)
    assert first is not None
    deadline = time.monotonic() + 5
    while not pipeline.notices.current() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert pipeline.notices.current() == ["camera 0 is gone, trying again"]
    assert [result.index for result in drain(pipeline)] == [1, 2]
    assert pipeline.notices.current() == []


def test_an_engine_error_shows_the_plain_camera_and_passes(session: engines.Session) -> None:
    original, calls = session.begin, itertools.count()

    def flaky(person: NDArray[np.float32]) -> Collect:
        if next(calls) == 1:
            raise engines.EngineError("device lost")
        return original(person)

    session.begin = flaky  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Script([10, 20, 30]), lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [result.times is None for result in results] == [False, True, False]
    assert (results[1].image == 20).all()
    assert (results[2].image != 30).any()
    assert pipeline.notices.current() == []


def test_a_picture_wears_what_was_worn_when_it_was_begun(session: engines.Session) -> None:
    garments = [
        fit(session, prepare(*square_garment("dark", 60), HEIGHT, WIDTH)),
        fit(session, prepare(*square_garment("light", 250), HEIGHT, WIDTH)),
    ]
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), Smoothing())
    alone, together = ([np.full((240, 320, 3), 128, np.uint8) for _ in garments] for _ in range(2))
    for garment, picture in zip(garments, alone, strict=True):
        dresser.wear(garment)
        dresser.dress(picture)
    begun = []
    for garment, picture in zip(garments, together, strict=True):
        dresser.wear(garment)
        begun.append(dresser.begin(picture))
    for under_way in begun:
        assert under_way is not None
        dresser.finish(under_way)
    np.testing.assert_array_equal(together, alone)
    assert (alone[0] != alone[1]).any()


def test_a_dead_thread_is_noticed_at_once(session: engines.Session) -> None:
    pipeline = pipeline_of(session, Script([1, OSError("driver bug")]), lossless=True)
    pipeline.start()
    started = time.monotonic()
    with pytest.raises(OSError, match="driver bug"):
        drain(pipeline)
    assert time.monotonic() - started < 2
    assert not [
        thread for thread in threading.enumerate() if thread.name in ("capture", "try-on", "wardrobe")
    ]


def test_stopping_early_leaves_no_thread(session: engines.Session) -> None:
    for lossless in (False, True):
        pipeline = pipeline_of(session, Script([5] * 1000), lossless)
        pipeline.start()
        pipeline.next(5.0)
        pipeline.stop()
        pipeline.stop()
    assert not [
        thread for thread in threading.enumerate() if thread.name in ("capture", "try-on", "wardrobe")
    ]


def test_garments_change_in_the_background_and_broken_ones_are_told(session: engines.Session) -> None:
    broken = threading.Event()
    broken.set()

    def prepare_named(path: Path) -> Fitted:
        if path.name == "broken" and broken.is_set():
            raise InputError("broken is not a picture")
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH))

    notices = Notices()
    wardrobe = Wardrobe([Path("first"), Path("broken")], prepare_named, notices)
    assert (first := wardrobe.take()) is not None
    assert first.garment.name == "first"
    wardrobe.start()
    wardrobe.select(1)
    deadline = time.monotonic() + 5
    while not notices.current() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert notices.current() == ["broken is not a picture"]
    assert wardrobe.take() is None
    broken.clear()  # the file is mended
    second = None
    while second is None and time.monotonic() < deadline:
        second = wardrobe.take()
        time.sleep(0.01)
    assert second is not None
    assert second.garment.name == "broken"
    assert notices.current() == []
    wardrobe.close()


def test_garments_come_change_and_go_while_the_mirror_runs(tmp_path: Path) -> None:
    """Each keeps its number; one that changes is another, and is prepared again if it is worn."""

    def prepare_read(path: Path) -> Fitted:
        return Fitted(prepare(path.read_text(), *square_garment("")[1:], HEIGHT, WIDTH), {})

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)

    write("b", "old")
    write("d", "other")
    wardrobe = Wardrobe(
        sorted(tmp_path.iterdir()), prepare_read, Notices(), listing=lambda: sorted(tmp_path.iterdir())
    )
    assert wardrobe.take() is not None

    def now() -> list[tuple[int, str]]:
        wardrobe.look_again()
        return [(number, path.name) for number, path in wardrobe.paths.items()]

    assert now() == [(0, "b"), (1, "d")]
    write("a", "new")
    write("c", "new too")
    assert now() == [(2, "a"), (0, "b"), (3, "c"), (1, "d")]
    assert wardrobe.wanted == 0
    wardrobe.select(1)
    assert wardrobe.wanted == 3
    wardrobe.select(-2)
    assert wardrobe.wanted == 2
    wardrobe.choose(0)
    (tmp_path / "b").unlink()
    (tmp_path / "d").unlink()
    assert now() == [(2, "a"), (0, "b"), (3, "c")], "it is worn"
    wardrobe.choose(1)
    assert wardrobe.wanted == 0, "what is gone cannot be worn"
    wardrobe.choose(2)
    assert now() == [(2, "a"), (3, "c")]
    wardrobe.start()
    try:
        for text in ("new", "changed!"):
            if text != "new":
                write("a", text)
                wardrobe.look_again()
            deadline = time.monotonic() + 5
            while (worn := wardrobe.take()) is None and time.monotonic() < deadline:
                time.sleep(0.01)
            assert worn is not None
            assert worn.garment.name == text
        shutil.rmtree(tmp_path)
        assert now() == [(4, "a"), (3, "c")], "a folder that is away for a while takes nothing along"
        wardrobe.select(1)
        assert wardrobe.wanted == 3
    finally:
        wardrobe.close()


def test_a_folder_that_hangs_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network drive may: garments change, and the program ends."""
    monkeypatch.setattr(wardrobe_module, "LOOK_S", 0.01)
    monkeypatch.setattr(wardrobe_module, "CLOSING_S", 0.1)
    hanging, released = threading.Event(), threading.Event()

    def listing() -> list[Path]:
        hanging.set()
        released.wait(20)
        return []

    def prepare_named(path: Path) -> Fitted:
        return Fitted(prepare(*square_garment(path.name), HEIGHT, WIDTH), {})

    wardrobe = Wardrobe([Path("a"), Path("b")], prepare_named, Notices(), listing=listing)
    wardrobe.start()
    try:
        assert wardrobe.take() is not None
        assert hanging.wait(5)
        wardrobe.select(1)
        deadline = time.monotonic() + 5
        while (worn := wardrobe.take()) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert worn is not None
        assert worn.garment.name == "b"
        began = time.monotonic()
        wardrobe.close()
        assert time.monotonic() - began < 5
    finally:
        released.set()


def test_one_file_that_cannot_be_looked_at_leaves_all_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    class Away(type(tmp_path)):  # type: ignore[misc]
        def stat(self, **_: object) -> os.stat_result:
            raise PermissionError("no access")

    fitted = Fitted(prepare(*square_garment(), HEIGHT, WIDTH), {})
    listed: list[Path] = [tmp_path / "a"]
    wardrobe = Wardrobe(listed, lambda _: fitted, Notices(), listing=lambda: [Away(tmp_path / "a"), *listed])
    wardrobe.look_again()
    assert dict(wardrobe.paths) == {0: tmp_path / "a"}


def test_the_folder_is_looked_at_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wardrobe_module, "LOOK_S", 0.02)
    (tmp_path / "a").touch()

    def prepare_named(path: Path) -> Fitted:
        return Fitted(prepare(*square_garment(path.name), HEIGHT, WIDTH), {})

    wardrobe = Wardrobe(
        list(tmp_path.iterdir()), prepare_named, Notices(), listing=lambda: sorted(tmp_path.iterdir())
    )
    wardrobe.start()
    try:
        (tmp_path / "b").touch()
        deadline = time.monotonic() + 5
        while len(wardrobe.paths) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(wardrobe.paths) == 2
    finally:
        wardrobe.close()


def test_a_garment_given_by_name_comes_first_and_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).touch()
    others = sorted(tmp_path.iterdir())
    roundabout = tmp_path / ".." / tmp_path.name / "b"
    assert in_order(roundabout, others) == [roundabout, tmp_path / "a", tmp_path / "c"]
    assert in_order(None, others) == others


def test_a_shop_whose_first_garment_is_broken_opens(
    session: engines.Session, caplog: pytest.LogCaptureFixture
) -> None:
    """One asked for by name does not: nothing else would be what was asked for."""

    def prepare_named(path: Path) -> Fitted:
        if path.name.startswith("broken"):
            raise InputError(f"{path} is not a picture")
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH))

    paths = [Path("broken1"), Path("broken2"), Path("third")]
    wardrobe = Wardrobe(paths, prepare_named, Notices(), asked_for=False)
    assert (worn := wardrobe.take()) is not None
    assert worn.garment.name == "third"
    assert caplog.messages == ["left out: broken1 is not a picture", "left out: broken2 is not a picture"]
    for those, asked_for in ((paths, True), (paths[:2], False)):
        with pytest.raises(InputError, match="broken1 is not a picture"):
            Wardrobe(those, prepare_named, Notices(), asked_for=asked_for)


def test_trouble_that_comes_and_goes_is_logged_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    notices = Notices()
    for _ in range(300):  # ten seconds of an engine that fails with every other frame
        notices.set("try-on", "out of memory\nin some file of a library")
        assert notices.current() == ["out of memory"]
        notices.clear("try-on")
        now += 1 / 30
    assert notices.current() == []
    assert caplog.messages == ["out of memory", "try-on: working again"] * 2
    notices.set("try-on", "out of memory")  # too soon, but it stays
    now += QUIET_S
    notices.set("try-on", "out of memory")
    assert len(caplog.messages) == 5


def test_going_back_from_a_broken_garment_ends_its_notice(session: engines.Session) -> None:
    """Whatever it raises, here an error of OpenCV's; the thread lives on and prepares the third one."""

    def prepare_named(path: Path) -> Fitted:
        if path.name == "broken":
            cv2.cvtColor(np.zeros((0, 0, 3), np.uint8), cv2.COLOR_BGR2GRAY)
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH))

    notices = Notices()
    wardrobe = Wardrobe([Path("first"), Path("broken"), Path("third")], prepare_named, notices)
    assert wardrobe.take() is not None
    wardrobe.start()
    try:
        for step, troubled in ((1, True), (-1, False), (1, True), (-1, False)):
            wardrobe.select(step)
            deadline = time.monotonic() + 5
            while bool(notices.current()) != troubled and time.monotonic() < deadline:
                time.sleep(0.01)
            assert bool(notices.current()) == troubled
        wardrobe.select(-1)
        third = None
        while third is None and time.monotonic() < deadline:
            third = wardrobe.take()
            time.sleep(0.01)
        assert third is not None
        assert third.garment.name == "third"
    finally:
        wardrobe.close()


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


def test_one_euro_calms_noise_and_follows_motion() -> None:
    rng = np.random.default_rng(0)
    still = OneEuro()
    noise = rng.normal(0, 2, (200, 1))
    calm = np.array([still(value + 100, unit=500) for value in noise])
    assert calm[50:].std() < 0.4 * noise.std()
    moving = OneEuro()
    path = np.arange(100.0)[:, None] * 20
    followed = np.array([moving(value, unit=500) for value in path])
    assert np.abs(followed - path)[-1] < 200  # ten frames' way


def test_smoothing_acts_at_rest_and_not_in_motion() -> None:
    rng = np.random.default_rng(0)
    person = rng.uniform(-1, 1, (1, 3, HEIGHT, WIDTH)).astype(np.float32)
    plane = rng.uniform(0, 1, (1, 1, HEIGHT, WIDTH)).astype(np.float32)
    smoothing = Smoothing()
    (first,) = smoothing(person, plane)
    np.testing.assert_array_equal(first, plane)
    (rest,) = smoothing(person, 1 - plane)
    np.testing.assert_allclose(rest, 0.6 * plane + 0.4 * (1 - plane), atol=1e-6)
    (motion,) = smoothing(-person, plane)
    np.testing.assert_allclose(motion, plane, atol=1e-6)
    smoothing.reset()
    (fresh,) = smoothing(-person, 1 - plane)
    np.testing.assert_array_equal(fresh, 1 - plane)


def test_smoothing_forgets_a_frame_that_overflowed() -> None:
    person, plane = np.zeros((1, 3, HEIGHT, WIDTH), np.float32), np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    smoothing = Smoothing()
    for bad in (np.nan, np.inf):
        smoothing.reset()
        smoothing(person, plane * np.float32(bad))
        (after,) = smoothing(person, plane)
        np.testing.assert_array_equal(after, plane)
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


def test_a_picture_is_dressed_the_same_whatever_came_before(session: engines.Session) -> None:
    """Another scene, as another photo of a folder: nothing is smoothed from one into the next."""
    garment = fit(session, prepare(*square_garment(), HEIGHT, WIDTH))
    pictures = [np.random.default_rng(k).integers(0, 255, (240, 320, 3), dtype=np.uint8) for k in range(3)]

    def dressed(scenes: list[int]) -> list[Pixels]:
        dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), Smoothing())
        dresser.wear(garment)
        results = [picture.copy() for picture in pictures]
        for picture, scene in zip(results, scenes, strict=True):
            begun = dresser.begin(picture, scene)
            assert begun is not None
            dresser.finish(begun)
        return results

    alone = []
    for picture in pictures:
        dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
        dresser.wear(garment)
        alone.append(picture.copy())
        dresser.dress(alone[-1])
    np.testing.assert_array_equal(dressed([0, 1, 2]), alone)
    assert (dressed([0, 0, 0])[1] != alone[1]).any(), "smoothing does something within a scene"


def test_while_nobody_is_there_pictures_stay_as_they_are(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And neither count as failed nor smooth into what comes when somebody is back."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(
        FaceFinder, "__call__", lambda _, image: (150.0, 30.0, 30.0, 30.0) if image[0, 0, 0] == 77 else None
    )
    garment = fit(session, prepare(*square_garment(), HEIGHT, WIDTH))
    dresser = Dresser(session, Framing("auto", WIDTH / HEIGHT), Smoothing(), idle_s=5.0)
    dresser.wear(garment)

    somebody, nobody = (np.full((240, 320, 3), value, np.uint8) for value in (77, 90))
    first = somebody.copy()
    assert dresser.dress(first) is not None
    assert (first != somebody).any()
    for moment in (1.0, 5.0):
        now = moment
        assert dresser.dress(nobody.copy()) is not None, "turned away for a moment"
    now = 5.1
    left = nobody.copy()
    assert dresser.dress(left) is None
    np.testing.assert_array_equal(left, nobody)
    for _ in range(DETECTION_INTERVAL):  # one of which looks for a face
        back = somebody.copy()
        dressed = dresser.dress(back)
    assert dressed is not None
    np.testing.assert_array_equal(back, first)


def test_results_of_an_empty_room_are_no_failures(session: engines.Session) -> None:
    fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH))
    notices = Notices()
    dresser = Dresser(session, Framing("auto", WIDTH / HEIGHT), None, idle_s=0.0)
    wardrobe = Wardrobe([Path("square")], lambda _: fitted, notices)
    pipeline = Pipeline(Script([10, 20, 30]), dresser, wardrobe, notices, lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [(result.times, result.failed) for result in results] == [(None, False)] * 3
    assert [int(result.image.mean()) for result in results] == [10, 20, 30]
    stats = Stats()
    for result in results:
        stats.add(result)
    assert (stats.frames, stats.failed, stats.report()["garments"]) == (3, 0, {})
    assert notices.current() == []


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


@pytest.mark.parametrize(("frames", "told"), [([0, 5], True), ([0, 60], False), ([60, 0], True)])
def test_a_black_picture_is_told_and_light_ends_that(
    session: engines.Session, frames: list[int | Exception], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.pipeline.Camera", Script)
    pipeline = pipeline_of(session, Script(frames), lossless=True)
    pipeline.start()
    assert len(drain(pipeline)) == 2
    assert ["is the lens covered" in notice for notice in pipeline.notices.current()] == [True] * told


def test_what_a_view_shows_is_what_is_dressed(session: engines.Session) -> None:
    fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH))
    notices = Notices()
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
    wardrobe = Wardrobe([Path("square")], lambda _: fitted, notices)
    view = View(90, 9 / 16)
    pipeline = Pipeline(Script([128]), dresser, wardrobe, notices, lossless=True, view=view)
    pipeline.start()
    (result,) = drain(pipeline)
    assert result.image.shape == result.camera.shape == (320, 180, 3)
    assert (result.camera == 128).all()
    assert (result.image[160, 90] != 128).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 3000), (3000, 1), (240, 1)])
@pytest.mark.parametrize("mode", MODES)
def test_framing_takes_any_shape(shape: tuple[int, int], mode: str) -> None:
    _, _, wide, tall = Framing(mode, WIDTH / HEIGHT).crop(np.zeros((*shape, 3), np.uint8))
    assert wide / tall == pytest.approx(WIDTH / HEIGHT)
    assert min(wide, tall) > 0


def test_matte_is_zero_where_nothing_changed_and_one_where_the_garment_is() -> None:
    person = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    tryon, mask = person + 0.03, np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    assert matte(person, tryon, mask).max() == 0
    tryon[..., 20:30, 20:30] = 1
    mask[..., 30:50, 10:22] = 1
    tryon[..., 54:60, 38:42] = 1  # a spot that touches no garment
    result = matte(person, tryon, mask)
    assert result[..., 21:29, 21:29].min() > 0.99
    assert result[..., 30:50, 10:22].min() == 1
    assert result[..., 50:, 34:].max() < 0.01
    assert result[..., :8, :].max() == 0


def test_matte_keeps_what_was_only_drawn_softer() -> None:
    """A fine pattern of which the network gives the mean; not so on the garment and beside it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    person = np.broadcast_to(np.where((x // 2 + y // 2) % 2 > 0, 0.8, -0.8), (1, 3, HEIGHT, WIDTH))
    person = person.astype(np.float32)
    mask = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    mask[..., :20, :] = 1
    result = matte(person, np.zeros_like(person), mask)
    assert result[..., :21, :].min() > 0.9
    assert result[..., 30:, 8:-8].max() < 0.05


def test_colours_are_anchored_to_the_camera() -> None:
    """A cast goes, under what is new as well; new things stay new, and so does what is right."""
    rng = np.random.default_rng(3)
    height, width = 256, 192
    noise = rng.uniform(-0.8, 0.6, (height, width, 3))
    person = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), np.float32)
    new, worn = person.copy(), np.zeros((1, 1, height, width), np.float32)
    new[100:140, 40:60] += 0.9  # skin where a sleeve was
    worn[..., 120:220, 70:130] = 1

    def planes(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)

    cast = np.linspace(0.05, 0.18, width, dtype=np.float32)[None, :, None] * np.array(
        [1, -0.5, 0.3], np.float32
    )
    anchored = anchor_colours(planes(person), planes(new + cast), worn)
    np.testing.assert_allclose(anchored, planes(new), atol=0.03)
    right = anchor_colours(planes(person), planes(new), worn)
    np.testing.assert_allclose(right, planes(new), atol=0.01)


def test_matte_fades_at_inner_edges_alone() -> None:
    ones = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    # The crop touches the frame's top and bottom and lies inside it on the left and right.
    faded = fade_inner_edges(ones, (100, 0, 360, 480), 480, 640)
    assert (faded[..., 0] == 0).all()
    assert (faded[..., -1] == 0).all()
    assert (faded[..., 8:-8] == 1).all()
    np.testing.assert_array_equal(fade_inner_edges(ones, (-1, -1, 400, 500), 480, 320), ones)


def test_show_through_takes_the_outline_out_of_the_composite_mask() -> None:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    garment[..., 10:40, 10:30] = 1
    weight = show_through(0.7 * garment, garment, flow)
    np.testing.assert_allclose(weight[..., 9:41, 9:31], 0.7, atol=0.01)
    assert weight[..., :2, :].max() == 0


def test_show_through_closes_small_holes() -> None:
    """Such as a line of an old print, or a spot; a hand stays, and what is thin and open to the outside."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.zeros((1, 1, HEIGHT, WIDTH), np.float32)
    garment[..., 2:62, 2:46] = 1
    worn = garment.copy()
    worn[..., 20:23, 12:36] = 0  # a bar
    worn[..., 34:46, 18:28] = 0  # a hand
    worn[..., 52:57, 4:10] = 0  # a spot, not deep inside
    worn[..., 0:12, 18:27] = 0  # hair
    weight = show_through(worn, garment, flow)[0, 0]
    assert weight[20:23, 12:36].min() > 0.95
    assert weight[38:42, 21:25].max() < 0.05
    assert weight[52:57, 4:10].min() > 0.95
    assert weight[4:9, 21:24].max() < 0.05


def test_show_through_evens_out_what_wavers_and_keeps_edges_in_place() -> None:
    """As hems do, of which a network is unsure: from pixel to pixel the mask goes up and down."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    flow = np.stack([(2 * x + 1) / WIDTH - 1, (2 * y + 1) / HEIGHT - 1])[None].astype(np.float32)
    garment = np.ones((1, 1, HEIGHT, WIDTH), np.float32)
    wavering = np.where((x + y) % 2 > 0, 0.9, 0.5)[None, None].astype(np.float32)
    assert np.ptp(show_through(wavering, garment, flow)[..., 5:-5, 5:-5]) < 0.01
    edge = (y < 20)[None, None].astype(np.float32)
    column = show_through(edge, garment, flow)[0, 0, :, 20]
    assert column[19] > 0.6
    assert column[20] < 0.4
    assert column[16] > 0.99


def test_an_engine_that_keeps_failing_is_opened_anew(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera is shown meanwhile; the garment comes back on; a first try that fails is not the last."""
    monkeypatch.setattr(pipeline_module, "FAILING_S", 0.2)
    monkeypatch.setattr(pipeline_module, "REOPEN_S", 0.2)
    begin, tries = session.begin, []

    def broken(_: Any) -> Any:
        raise RuntimeError("the GPU has fallen off the bus")

    def reopen() -> None:
        tries.append(time.monotonic())
        if len(tries) < 2:
            raise engines.EngineError("no engine can run")
        monkeypatch.setattr(session, "begin", begin)

    monkeypatch.setattr(session, "begin", broken)
    monkeypatch.setattr(session, "reopen", reopen)
    pipeline = pipeline_of(session, Script([100] * 60, wait_s=0.02), lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert len(tries) == 2
    assert tries[1] - tries[0] >= 0.2
    mended = next(index for index, result in enumerate(results) if not result.failed)
    assert 5 < mended < len(results)
    assert all(result.failed is (index < mended) for index, result in enumerate(results))
    assert (results[0].image == 100).all()
    assert (results[-1].image != 100).any(), "the garment is on"
    assert pipeline.notices.current() == []


@pytest.mark.parametrize("steady", [True, False])
def test_the_crop_follows_a_face_smoothly_or_at_once(steady: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [(100.0, 40.0, 60.0, 60.0), (160.0, 60.0, 50.0, 50.0)]
    boxes = [person_box(face, (640, 480), 0.75) for face in faces]
    found = iter(faces)
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found))
    framing = Framing("auto", 0.75, steady)
    crops = [framing.crop(np.zeros((480, 640, 3), np.uint8)) for _ in range(DETECTION_INTERVAL + 1)]
    assert crops[0] == pytest.approx(boxes[0])
    assert (crops[-1] == pytest.approx(boxes[1])) is not steady
    assert boxes[0][0] < crops[-1][0] <= boxes[1][0]
