"""The threads: newest frame wins or none is lost, trouble is shown and passes, death is noticed."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import engines
from engines import picture_files
from engines.program import InputError, warn_once
from runtime import dresser as dresser_module
from runtime import framing, pictures
from runtime import pipeline as pipeline_module
from runtime import wardrobe as wardrobe_module
from runtime.dresser import Dresser, Fitted, fit
from runtime.framing import FaceFinder, Framing
from runtime.garment import load, prepare
from runtime.notices import QUIET_S, Notices
from runtime.pipeline import Pipeline, Result
from runtime.slot import Closed, Slot
from runtime.smoothing import Smoothing
from runtime.sources import Frame, Source, SourceLost
from runtime.stats import Stats
from runtime.view import View
from runtime.wardrobe import Wardrobe, in_order

Pixels = NDArray[np.uint8]
Collect = Callable[[], dict[str, NDArray[np.float32]]]
HEIGHT, WIDTH = 64, 48


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def session(
    request: pytest.FixtureRequest, identity_bundle: Callable[..., Path], lazy: Any
) -> Iterator[engines.Session]:
    """An engine that has one frame under way, and one that has two (TensorRT's, on host memory)."""
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
        fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False))
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


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def made_ready(wardrobe: Wardrobe) -> str:
    """The name of the garment that becomes ready next."""
    ready: list[Fitted] = []

    def taken() -> bool:
        ready.extend(fitted for fitted in [wardrobe.take()] if fitted is not None)
        return bool(ready)

    wait_until(taken)
    return ready[0].garment.name


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
    dresser.wear(fit(session, prepare(name, photo, mask, HEIGHT, WIDTH, fill=False)))
    frame = np.full((480, 640, 3), 128, np.uint8)
    dresser.dress(frame)
    # The crop is 480 x 360 in the frame's middle: pixel for pixel the size of the photo.
    crop = frame[:, 140:500]
    inside, outside = np.s_[124:356, 94:266], np.s_[:100, :]
    # One unit of rounding: the flow makes a detour through float32.
    assert np.abs(crop[inside].astype(int) - photo[inside]).max() <= 1
    assert (crop[outside] == 128).all()
    assert (frame[:, :140] == 128).all()


def test_beside_the_garment_the_frame_keeps_its_detail(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the network draws anew what it saw, here all of the person, at its own small size."""
    monkeypatch.setattr(dresser_module, "matte", lambda person, *_: np.ones_like(person[:, :1]))
    name, photo, mask = square_garment()
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
    dresser.wear(fit(session, prepare(name, photo, mask, HEIGHT, WIDTH, fill=False)))
    blocks = np.random.default_rng(0).integers(0, 2, (48, 64, 3), dtype=np.uint8) * 255
    frame = blocks.repeat(10, axis=0).repeat(10, axis=1)
    before = frame.copy()
    dresser.dress(frame)
    beside = np.s_[60:117, 200:440]  # above the garment
    assert np.abs(frame[beside].astype(int) - before[beside]).mean() < 8


def test_newest_frame_wins_when_the_network_is_slow(session: engines.Session) -> None:
    original, begun = session.begin, list[int]()
    begun_before: list[int] = []  # how many frames were begun before each was read

    def slow(person: NDArray[np.float32]) -> Collect:
        begun.append(round(127.5 * (float(person.mean()) + 1)))  # its number, which is its brightness
        time.sleep(0.05)
        return original(person)

    class Watched(Script):
        def read(self) -> Frame | None:
            frame = super().read()
            begun_before.append(len(begun))
            return frame

    session.begin = slow  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Watched(list(range(100)), wait_s=0.005), lossless=False)
    pipeline.start()
    indices = [result.index for result in drain(pipeline)]
    assert indices == sorted(set(indices))
    assert len(indices) + pipeline.dropped == 100
    assert pipeline.dropped > 30
    assert set(indices) <= set(begun)
    waited = [place - begun_before[number] for place, number in enumerate(begun)]
    assert max(waited) <= 1, "fresh: a frame waits at most while one other is begun"


def test_a_camera_that_vanishes_is_reported_and_comes_back(session: engines.Session) -> None:
    source = Script([1, SourceLost("camera 0 is gone, trying again"), 2, 3])
    pipeline = pipeline_of(session, source, lossless=True)
    pipeline.start()
    first = pipeline.next(5.0)
    assert first is not None
    wait_until(lambda: bool(pipeline.notices.current()))
    assert pipeline.notices.current() == ["camera 0 is gone, trying again"]
    assert [result.index for result in drain(pipeline)] == [1, 2]
    assert pipeline.notices.current() == []


@pytest.mark.parametrize("late", [False, True])
def test_an_engine_error_shows_the_plain_camera_and_passes(session: engines.Session, late: bool) -> None:
    """late: it comes with the results, not when they are asked for."""
    original, calls = session.begin, itertools.count()

    def flaky(person: NDArray[np.float32]) -> Collect:
        number, collect = next(calls), original(person)

        def failing() -> dict[str, NDArray[np.float32]]:
            collect()
            raise engines.EngineError("device lost")

        if number != 1:
            return collect
        if not late:
            failing()
        return failing

    session.begin = flaky  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Script([10, 20, 30]), lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [result.times is None for result in results] == [False, True, False]
    stats = Stats()
    for result in results:
        stats.add(result)
    assert (stats.failed, stats.rested) == (1, 0), "nobody is missing where the engine fails"
    assert (results[1].image == 20).all()
    assert (results[2].image != 30).any()
    assert pipeline.notices.current() == []


def test_a_garment_that_the_engine_did_not_take_is_worn_with_the_next_frame(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = session.wear, itertools.count()

    def flaky(encoded: dict[str, NDArray[np.float32]]) -> None:
        if next(calls) == 0:
            raise engines.EngineError("device lost")
        original(encoded)

    monkeypatch.setattr(session, "wear", flaky)
    pipeline = pipeline_of(session, Script([10, 20, 30]), lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [result.failed for result in results] == [True, False, False]
    assert [result.garment and result.garment.name for result in results] == [None, "square", "square"]


def test_the_engine_computes_while_a_picture_is_drawn(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that waits is begun before the one before it is drawn."""
    source = Script([10, 20, 30, 40])
    happened: list[str] = []
    begin, finish = session.begin, Dresser.finish
    waits = [threading.Event() for _ in range(5)]
    reads, read = itertools.count(), source.read

    def reading() -> Frame | None:
        number = next(reads)
        if number:
            waits[number - 1].set()  # those before have been left for the engine
        return read()

    def beginning(person: NDArray[np.float32]) -> Collect:
        number, collect = sum(what == "begun" for what in happened), begin(person)
        happened.append("begun")

        def collecting() -> dict[str, NDArray[np.float32]]:
            waits[min(number + 1, 3)].wait(5)
            return collect()

        return collecting

    def finishing(self: Dresser, begun: Any) -> Any:
        happened.append("drawn")
        return finish(self, begun)

    monkeypatch.setattr(source, "read", reading)
    monkeypatch.setattr(session, "begin", beginning)
    monkeypatch.setattr(Dresser, "finish", finishing)
    pipeline = pipeline_of(session, source, lossless=True)
    pipeline.start()
    assert [result.index for result in drain(pipeline)] == [0, 1, 2, 3]
    assert happened[:1] + happened[-1:] == ["begun", "drawn"]
    for number, place in enumerate(k for k, what in enumerate(happened) if what == "drawn"):
        assert happened[:place].count("begun") >= min(number + 2, 4), happened


def test_a_picture_wears_what_was_worn_when_it_was_begun(session: engines.Session) -> None:
    garments = [
        fit(session, prepare(*square_garment("dark", 60), HEIGHT, WIDTH, fill=False)),
        fit(session, prepare(*square_garment("light", 250), HEIGHT, WIDTH, fill=False)),
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


def test_what_never_answers_holds_up_no_end(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver, or a file on a network drive that is gone, which no signal wakes."""
    monkeypatch.setattr(pipeline_module, "CLOSING_S", 0.2)
    answer = threading.Event()

    class Hanging(Script):
        def read(self) -> Frame | None:
            answer.wait()
            return super().read()

    source = Hanging([5] * 10)
    pipeline = pipeline_of(session, source, lossless=False)
    pipeline.start()
    assert pipeline.next(0.1) is None
    pipeline.stop()
    assert pipeline.hangs == ["capture"]
    assert "capture does not answer" in caplog.text
    assert not source.closed, "which would wait for the call"
    answer.set()
    deadline = time.monotonic() + 5
    while pipeline.hangs and time.monotonic() < deadline:
        time.sleep(0.01)
    pipeline.stop()
    assert source.closed


def test_garments_change_in_the_background_and_broken_ones_are_told(session: engines.Session) -> None:
    broken = threading.Event()
    broken.set()

    def prepare_named(path: Path) -> Fitted:
        if path.name == "broken" and broken.is_set():
            raise InputError("broken is not a picture")
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH, fill=False))

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
    assert list(wardrobe.on_offer.values()) == [Path("first")]
    assert (wardrobe.wanted, wardrobe.chosen) == (1, 0)
    broken.clear()  # the file is mended
    second = None
    while second is None and time.monotonic() < deadline:
        second = wardrobe.take()
        time.sleep(0.01)
    assert second is not None
    assert second.garment.name == "broken"
    assert notices.current() == []
    assert (wardrobe.on_offer, wardrobe.chosen) == (wardrobe.paths, 1)
    wardrobe.close()


def test_a_broken_garment_is_passed_over() -> None:
    def prepare_named(path: Path) -> Fitted:
        if path.name == "broken":
            raise InputError("broken is not a picture")
        return Fitted(prepare(path.name, *square_garment()[1:], HEIGHT, WIDTH, fill=False), {})

    wardrobe = Wardrobe([Path("broken"), Path("a"), Path("b")], prepare_named, Notices(), asked_for=False)
    assert list(wardrobe.on_offer) == [1, 2]
    for step, wanted in ((1, 2), (1, 1), (-1, 2)):
        wardrobe.select(step)
        assert wardrobe.wanted == wanted
    wardrobe.set_broken(2, InputError("b is not a picture"))  # found by its thumbnail
    wardrobe.select(1)
    assert wardrobe.wanted == 1


def fill(folder: Path, names: str) -> None:
    """Write a garment's photo by each letter."""
    for name in names:
        pictures.write(folder / f"{name}.png", square_garment()[1])


def wardrobe_of(folder: Path, notices: Notices) -> Wardrobe:
    """Of the photos in a folder, as the mirror loads them, which it looks at again."""

    def fitted(photo: Path) -> Fitted:
        return Fitted(load(photo, None, HEIGHT, WIDTH), {})

    def listing() -> list[Path]:
        return picture_files.find(folder)[0]

    return Wardrobe(listing(), fitted, notices, listing=listing)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_broken_garment_is_given_up_also_where_the_worn_photo_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, replaced: bool
) -> None:
    """What is worn stays on, its message ends, and the next garment asked for is put on.

    replaced: the photo worn became the broken one, instead of having been deleted.
    """
    monkeypatch.setattr(wardrobe_module, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(wardrobe_module, "RETRY_S", 0.1)
    fill(tmp_path, "abc")
    notices = Notices()
    wardrobe = wardrobe_of(tmp_path, notices)
    assert wardrobe.take() is not None
    if not replaced:
        (tmp_path / "a.png").unlink()
    broken = tmp_path / ("a.png" if replaced else "b.png")
    broken.write_bytes(b"no picture")
    wardrobe.look_again()
    if not replaced:
        wardrobe.choose(next(number for number, path in wardrobe.paths.items() if path == broken))
    wardrobe.start()
    try:
        wait_until(lambda: bool(notices.current()))
        assert broken.name in notices.current()[0]
        wait_until(lambda: not notices.current())
        time.sleep(0.5)
        assert notices.current() == [], "nor is it tried again"
        assert wardrobe.take() is None
        wardrobe.choose(next(number for number, path in wardrobe.paths.items() if path.stem == "c"))
        assert made_ready(wardrobe) == "c"
        assert "working again" not in caplog.text
    finally:
        wardrobe.close()


def test_a_folder_that_goes_away_is_told_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and what was there stays on offer."""
    monkeypatch.setattr(wardrobe_module, "LOOK_S", 0.02)
    folder = tmp_path / "shop"
    folder.mkdir()
    fill(folder, "ab")
    notices = Notices()
    wardrobe = wardrobe_of(folder, notices)
    wardrobe.start()

    try:
        folder.rename(tmp_path / "elsewhere")
        wait_until(lambda: "stays on offer" in caplog.text)
        time.sleep(0.2)
        assert (caplog.text.count("stays on offer"), notices.current()) == (1, [])
        assert list(wardrobe.on_offer) == [0, 1]
        (tmp_path / "elsewhere").rename(folder)
        wait_until(lambda: "there again" in caplog.text)
    finally:
        wardrobe.close()


def test_a_garment_that_cannot_be_used_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleted while it was wanted, it is nobody's trouble for ever; nothing is said to work again."""
    monkeypatch.setattr(wardrobe_module, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(wardrobe_module, "RETRY_S", 0.1)
    fill(tmp_path, "ab")
    notices = Notices()
    wardrobe = wardrobe_of(tmp_path, notices)
    (tmp_path / "b.png").unlink()
    wardrobe.start()
    try:
        wardrobe.select(1)
        wait_until(lambda: bool(notices.current()))
        assert "b.png does not exist" in notices.current()[0]
        wait_until(lambda: not notices.current())
        assert wardrobe.wanted == 0
        assert "working again" not in caplog.text
        wardrobe.look_again()
        assert list(wardrobe.on_offer) == [0]
    finally:
        wardrobe.close()


def test_who_goes_back_to_the_garment_worn_gets_no_other(tmp_path: Path) -> None:
    """It was being prepared meanwhile; nor need the worn one's photo be read again."""
    fill(tmp_path, "ab")
    begun, go = threading.Event(), threading.Event()

    def prepare_slowly(photo: Path) -> Fitted:
        if photo.stem == "b":
            begun.set()
            assert go.wait(5)
        return Fitted(load(photo, None, HEIGHT, WIDTH), {})

    wardrobe = Wardrobe(picture_files.find(tmp_path)[0], prepare_slowly, Notices())
    assert wardrobe.take() is not None
    wardrobe.start()
    try:
        wardrobe.select(1)
        assert begun.wait(5)
        (tmp_path / "a.png").unlink()
        wardrobe.select(-1)
        go.set()
        time.sleep(0.3)
        assert wardrobe.take() is None
        wardrobe.select(1)
        assert made_ready(wardrobe) == "b"
    finally:
        go.set()
        wardrobe.close()


def test_a_broken_garment_asked_for_again_is_tried_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network drive may be just coming back."""
    monkeypatch.setattr(wardrobe_module, "GIVE_UP_S", 0.5)
    monkeypatch.setattr(wardrobe_module, "RETRY_S", 0.05)
    fill(tmp_path, "ab")
    wardrobe = wardrobe_of(tmp_path, Notices())
    (tmp_path / "b.png").write_bytes(b"no picture")
    wardrobe.start()
    try:
        for _ in range(2):
            wardrobe.choose(1)
            began = time.monotonic()
            wait_until(lambda: wardrobe.wanted == 0)
            assert time.monotonic() - began > 0.4
    finally:
        wardrobe.close()


def test_garments_out_of_reach_are_not_broken(tmp_path: Path) -> None:
    """Their network drive was away for a while, and somebody paged through them meanwhile."""
    drive, away = tmp_path / "drive", tmp_path / "away"
    drive.mkdir()
    fill(drive, "abc")
    notices = Notices()
    wardrobe = wardrobe_of(drive, notices)
    wardrobe.start()
    try:
        drive.rename(away)
        for _ in range(4):
            told = notices.current()
            wardrobe.select(1)
            deadline = time.monotonic() + 5
            while wardrobe.wanted and notices.current() == told and time.monotonic() < deadline:
                time.sleep(0.01)
        assert list(wardrobe.on_offer) == [0, 1, 2]
        away.rename(drive)
        wardrobe.choose(2)
        deadline = time.monotonic() + 5
        while (worn := wardrobe.take()) is None or worn.garment.name != "c":
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        wardrobe.close()


def test_garments_come_change_and_go_while_the_mirror_runs(tmp_path: Path) -> None:
    """Each keeps its number; one that changes is another, and is prepared again if it is worn."""

    def prepare_read(path: Path) -> Fitted:
        return Fitted(prepare(path.read_text(), *square_garment("")[1:], HEIGHT, WIDTH, fill=False), {})

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
            assert made_ready(wardrobe) == text
        shutil.rmtree(tmp_path)
        with pytest.raises(FileNotFoundError):
            wardrobe.look_again()
        assert list(wardrobe.paths) == [4, 3], "a folder that is away for a while takes nothing along"
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
        return Fitted(prepare(*square_garment(path.name), HEIGHT, WIDTH, fill=False), {})

    wardrobe = Wardrobe([Path("a"), Path("b")], prepare_named, Notices(), listing=listing)
    wardrobe.start()
    try:
        assert wardrobe.take() is not None
        assert hanging.wait(5)
        wardrobe.select(1)
        assert made_ready(wardrobe) == "b"
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

    fitted = Fitted(prepare(*square_garment(), HEIGHT, WIDTH, fill=False), {})
    listed: list[Path] = [tmp_path / "a"]
    wardrobe = Wardrobe(listed, lambda _: fitted, Notices(), listing=lambda: [Away(tmp_path / "a"), *listed])
    with pytest.raises(PermissionError):
        wardrobe.look_again()
    assert dict(wardrobe.paths) == {0: tmp_path / "a"}
    wardrobe.choose_new(tmp_path / "a")  # which says nothing of it: the folder is told of already
    assert wardrobe.wanted == 0


def test_the_folder_is_looked_at_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wardrobe_module, "LOOK_S", 0.02)
    (tmp_path / "a").touch()

    def prepare_named(path: Path) -> Fitted:
        return Fitted(prepare(*square_garment(path.name), HEIGHT, WIDTH, fill=False), {})

    wardrobe = Wardrobe(
        list(tmp_path.iterdir()), prepare_named, Notices(), listing=lambda: sorted(tmp_path.iterdir())
    )
    wardrobe.start()
    try:
        (tmp_path / "b").touch()
        wait_until(lambda: len(wardrobe.paths) == 2)
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
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH, fill=False))

    warn_once.cache_clear()  # of the other engine's turn
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
    notices.drop("try-on")
    notices.clear("try-on")
    assert len(caplog.messages) == 5, "nothing was mended"


def test_going_back_from_a_broken_garment_ends_its_notice(session: engines.Session) -> None:
    """Whatever it raises, here an error of OpenCV's; the thread lives on and prepares the third one."""

    def prepare_named(path: Path) -> Fitted:
        if path.name == "broken":
            cv2.cvtColor(np.zeros((0, 0, 3), np.uint8), cv2.COLOR_BGR2GRAY)
        return fit(session, prepare(*square_garment(path.name), HEIGHT, WIDTH, fill=False))

    notices = Notices()
    wardrobe = Wardrobe([Path("first"), Path("broken"), Path("third")], prepare_named, notices)
    assert wardrobe.take() is not None
    wardrobe.start()
    try:
        for step, troubled in ((1, True), (-1, False), (1, True), (-1, False)):
            wardrobe.select(step)
            wait_until(lambda: bool(notices.current()) == troubled)  # noqa: B023
        wardrobe.select(-1)
        assert made_ready(wardrobe) == "third"
    finally:
        wardrobe.close()


def test_a_picture_is_dressed_the_same_whatever_came_before(session: engines.Session) -> None:
    """Another scene, as another photo of a folder: nothing is smoothed from one into the next."""
    garment = fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False))
    pictures = [np.random.default_rng(k).integers(0, 255, (240, 320, 3), dtype=np.uint8) for k in range(3)]
    resets: list[int] = []

    class Watched(Smoothing):
        def reset(self) -> None:
            super().reset()
            resets[-1] += 1

    def dressed(scenes: list[int]) -> list[Pixels]:
        resets.append(0)
        dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), Watched())
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
    dressed([0, 0, 0])
    assert resets == [3, 1], "within a scene it is smoothed"


def test_while_nobody_is_there_pictures_stay_as_they_are(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And neither count as failed nor smooth into what comes when somebody is back."""
    now = 0.0
    monkeypatch.setattr(framing, "LOOK_S", 0.0)
    monkeypatch.setattr(
        FaceFinder, "__call__", lambda _, image: (150.0, 30.0, 30.0, 30.0) if image[0, 0, 0] == 77 else None
    )
    garment = fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False))
    smoothing = Smoothing()
    resets: list[float] = []
    forget = smoothing.reset

    def counted() -> None:
        resets.append(now)
        forget()

    monkeypatch.setattr(smoothing, "reset", counted)
    dresser = Dresser(session, Framing("auto", WIDTH / HEIGHT), smoothing, idle_s=5.0)
    dresser.wear(garment)

    somebody, nobody = (np.full((240, 320, 3), value, np.uint8) for value in (77, 90))
    first = somebody.copy()
    assert dresser.dress(first, now) is not None
    assert (first != somebody).any()
    now = 1.0
    assert dresser.dress(nobody.copy(), now) is not None, "turned away for a moment"
    now = 5.0
    turned = dresser.begin(nobody.copy(), at=now)
    assert turned is not None
    now = 5.1
    left = nobody.copy()
    assert dresser.dress(left, now) is None
    np.testing.assert_array_equal(left, nobody)
    dresser.finish(turned)  # drawn while the engine had the next one already
    back = somebody.copy()
    assert dresser.dress(back, now) is not None
    np.testing.assert_array_equal(back, first)
    assert resets == [0.0, 5.1]


def test_a_first_picture_that_fails_after_a_rest_leaves_nothing_of_before(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, face = 0.0, (150.0, 30.0, 30.0, 30.0)
    found: Iterator[Any] = iter([face, None, face, face])
    monkeypatch.setattr(framing, "LOOK_S", 0.0)
    monkeypatch.setattr(FaceFinder, "__call__", lambda *_: next(found))
    smoothing = Smoothing()
    resets: list[float] = []
    monkeypatch.setattr(smoothing, "reset", lambda: resets.append(now))
    dresser = Dresser(session, Framing("auto", WIDTH / HEIGHT), smoothing, idle_s=5.0)
    dresser.wear(fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False)))
    picture = np.full((240, 320, 3), 128, np.uint8)
    dresser.dress(picture.copy(), now)
    now = 10.0
    assert dresser.begin(picture, at=now) is None
    assert dresser.begin(picture, at=now) is not None  # the engine fails with this one
    dresser.dress(picture.copy(), now)
    assert resets == [0.0, 10.0]


def test_what_fails_ahead_is_told_after_the_pictures_before_it(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that fails from the third picture on has not recovered when the second is drawn."""
    original, calls = session.begin, itertools.count()

    def failing(person: NDArray[np.float32]) -> Collect:
        if next(calls) > 1:
            raise engines.EngineError("device lost")
        return original(person)

    session.begin = failing  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Script([10] * 8), lossless=True)
    told: list[str] = []
    tell, clear = pipeline.notices.set, pipeline.notices.clear

    def telling(topic: str, text: str) -> None:
        told.append(text)
        tell(topic, text)

    def clearing(topic: str) -> None:
        if topic == "try-on":
            told.append("")
        clear(topic)

    monkeypatch.setattr(pipeline.notices, "set", telling)
    monkeypatch.setattr(pipeline.notices, "clear", clearing)
    pipeline.start()
    results = drain(pipeline)
    assert [result.failed for result in results] == [False] * 2 + [True] * 6
    assert told == [""] * 2 + ["try-on failed: device lost"] * 6


def test_an_engine_that_computes_nonsense_fails(session: engines.Session) -> None:
    """It does not pass for one that works and shows nobody dressed."""
    original, calls = session.begin, itertools.count()

    def overflowing(person: NDArray[np.float32]) -> Collect:
        collect, number = original(person), next(calls)

        def collected() -> dict[str, NDArray[np.float32]]:
            outputs = dict(collect())
            if number > 1:
                outputs["rendered"] = outputs["rendered"].copy()
                outputs["rendered"][0, 1, 3, 2] = np.inf
            return outputs

        return collected

    session.begin = overflowing  # type: ignore[method-assign]
    pipeline = pipeline_of(session, Script([10] * 6), lossless=True)
    pipeline.start()
    results = drain(pipeline)
    assert [result.failed for result in results] == [False] * 2 + [True] * 4
    assert all((result.image == result.camera).all() for result in results[2:])
    (notice,) = pipeline.notices.current()
    assert "numbers of rendered that the engine computes are infinite" in notice


def test_the_networks_time_is_its_own(session: engines.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the drawing of the picture before it nor a slow screen counts."""
    if session.tryon.in_flight > 1:
        pytest.skip("a GPU's is from begun to collected")
    finish = Dresser.finish

    def slowly(self: Dresser, begun: Any) -> Any:
        time.sleep(0.1)
        return finish(self, begun)

    monkeypatch.setattr(Dresser, "finish", slowly)
    pipeline = pipeline_of(session, Script([10] * 6), lossless=True)
    pipeline.start()
    times = [result.times for result in drain(pipeline)]
    assert all(each is not None and 0 < each.network < 100 for each in times)
    assert np.median([each.network for each in times if each]) < 50


def test_results_of_an_empty_room_are_no_failures(session: engines.Session) -> None:
    fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False))
    notices = Notices()
    from_the_first = -1.0
    dresser = Dresser(session, Framing("auto", WIDTH / HEIGHT), None, from_the_first)
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
    fitted = fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False))
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


def test_an_engine_that_fails_is_not_well_because_nobody_is_there(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message stays and it is opened anew, though not again and again all night."""
    monkeypatch.setattr(pipeline_module, "FAILING_S", 0.2)
    monkeypatch.setattr(pipeline_module, "REOPEN_S", 0.2)
    reopened: list[float] = []

    def broken(_: Any) -> Any:
        raise RuntimeError("the GPU has fallen off the bus")

    monkeypatch.setattr(session, "begin", broken)
    monkeypatch.setattr(session, "reopen", lambda: reopened.append(time.monotonic()))
    pipeline = pipeline_of(session, Script([100] * 60, wait_s=0.02), lossless=True)
    begin, count = pipeline._dresser.begin, itertools.count()
    monkeypatch.setattr(pipeline._dresser, "begin", lambda *frame: begin(*frame) if next(count) < 3 else None)
    pipeline.start()
    results = drain(pipeline)
    assert [result.failed for result in results] == 3 * [True] + 57 * [False]
    assert pipeline.notices.current() == ["try-on failed: the GPU has fallen off the bus"]
    assert len(reopened) == 1


@pytest.mark.parametrize("busy", [False, True])
def test_an_engine_that_keeps_failing_is_opened_anew(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """The camera is shown meanwhile; the garment comes back on; a first try that fails is not the last.

    busy: the failure takes longer than the next frame, which then always waits.
    """
    monkeypatch.setattr(pipeline_module, "FAILING_S", 0.2)
    monkeypatch.setattr(pipeline_module, "REOPEN_S", 0.2)
    begin, tries = session.begin, []

    def broken(_: Any) -> Any:
        time.sleep(0.03 * busy)
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


def test_what_is_drawn_anew_has_the_cameras_colours(
    session: engines.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dark sleeve before a patterned wall, whose network draws wall there, and all of it too bright."""
    begin, cast = session.begin, 0.12
    seen: list[NDArray[np.float32]] = []

    def begun(person: NDArray[np.float32]) -> Callable[[], dict[str, NDArray[np.float32]]]:
        collect = begin(person)
        seen.append(person)

        def collected() -> dict[str, NDArray[np.float32]]:
            outputs = dict(collect())
            worn, rendered = outputs["composite_mask"], seen[0] + np.float32(cast)
            cloth = outputs["tryon"] - (1 - worn) * outputs["rendered"]
            return {**outputs, "rendered": rendered, "tryon": cloth + (1 - worn) * rendered}

        return collected

    monkeypatch.setattr(session, "begin", begun)
    dresser = Dresser(session, Framing("centre", WIDTH / HEIGHT), None)
    dresser.wear(fit(session, prepare(*square_garment(), HEIGHT, WIDTH, fill=False)))
    tiles = np.random.default_rng(1).integers(70, 130, (24, 32, 1), np.uint8).repeat(3, axis=2)
    wall = cv2.resize(tiles, (320, 240), interpolation=cv2.INTER_NEAREST)
    sleeved = wall.copy()
    sleeved[10:50, 90:130] = 20
    dresser.dress(wall.copy())  # the network sees the wall
    dresser.dress(sleeved)
    patch = np.s_[20:40, 100:120]
    assert abs(float(sleeved[patch].mean()) - float(wall[patch].mean())) < 4  # 15 with the cast
