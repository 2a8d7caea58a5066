"""Cameras, videos and pictures: at their pace or every frame, lost and found again."""

import functools
import shutil
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.program import InputError
from runtime import sources
from runtime.options import parse_args
from runtime.recording import Recorder
from runtime.sources import Camera, SourceLost, Stills, VideoFile, open_source

Pixels = NDArray[np.uint8]


def test_video_files_are_read_whole_or_at_their_pace(clips: Any, files: Path) -> None:
    clip = files / "clip.mp4"
    every = open_source(str(clip), realtime=False)
    assert isinstance(every, VideoFile)
    assert (every.length, every.fps) == (clips.FRAMES, 12)
    assert [frame.index for frame in iter(every.read, None)] == list(range(clips.FRAMES))
    paced = open_source(str(clip), realtime=True)
    started = time.monotonic()
    assert paced.read() is not None
    time.sleep(0.5)  # a slow reader: six frames are filmed meanwhile
    late = paced.read()
    assert late is not None
    assert 4 <= late.index <= 7
    while (frame := paced.read()) is not None:
        last = frame.index
    assert last == clips.FRAMES - 1
    assert time.monotonic() - started > 0.9 * clips.FRAMES / 12


def test_a_video_decoded_slower_than_its_pace_goes_on(
    clips: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipping gains nothing there: most of its frames are shown, with no standstill that grows."""
    paced = open_source(str(files / "clip.mp4"), realtime=True)
    assert isinstance(paced, VideoFile)
    decode = paced._decode

    def slowly() -> None:
        time.sleep(0.11)  # of a twelfth of a second
        decode()

    monkeypatch.setattr(paced, "_decode", slowly)
    shown = [frame.index for frame in iter(paced.read, None)]
    assert len(shown) > clips.FRAMES / 2
    assert max(np.diff(shown)) <= 2


def test_a_damaged_video_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = Recorder(tmp_path / "whole.avi", 25, copies=1)
    for shade in range(50):
        writer.add(np.full((64, 64, 3), shade, np.uint8))
    whole = writer.finish()
    assert whole is not None
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for name, told in (("whole.avi", 0), ("cut.avi", 1)):
        caplog.clear()
        source = open_source(str(tmp_path / name), realtime=False)
        frames = len(list(iter(source.read, None)))
        assert (frames == 50) == (told == 0)
        assert len(caplog.messages) == told
    assert f"ends after {frames} of 50 frames" in caplog.text


def film(path: Path, slower: int) -> Path:
    """25 frames of a header that says 25 a second, whose times lie `slower` times as far apart."""
    writer = Recorder(path, 25, copies=1)
    for shade in range(25):
        writer.add(np.full((64, 64, 3), 10 * shade, np.uint8))
    assert writer.finish() == path
    milliseconds = b"\x2a\xd7\xb1\x83"  # Matroska's unit of time, in nanoseconds
    data = path.read_bytes()
    assert data.count(milliseconds + (10**6).to_bytes(3, "big")) == 1
    scale = (slower * 10**6).to_bytes(3, "big")
    path.write_bytes(
        data.replace(milliseconds + data[data.index(milliseconds) + 4 :][:3], milliseconds + scale)
    )
    return path


def test_a_films_own_times_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As of phones and screen recorders, whose rate varies, and whose number of frames is an estimate."""
    path = film(tmp_path / "slow.mkv", 4)
    every = open_source(str(path), realtime=False)
    assert (every.length, every.fps) == (100, 25)
    recorder = Recorder(tmp_path / "out.avi", every.fps or 0, every.copies)
    times = []
    while (frame := every.read()) is not None:
        assert frame.at is not None
        times.append(frame.at)
        recorder.add(frame.image, frame.at)
    np.testing.assert_allclose(times, 0.16 * np.arange(25), atol=2e-3)
    assert not caplog.messages
    assert recorder.finish() is not None
    assert cv2.VideoCapture(str(tmp_path / "out.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == 24 * 4 + 1

    paced = open_source(str(path), realtime=True)
    started = time.monotonic()
    shown = [frame.index for frame in iter(paced.read, None)]
    assert 3.9 < time.monotonic() - started < 6
    assert len(shown) > 20


def test_a_picture_that_stands_long_is_held_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "LONGEST_GAP_S", 0.3)
    still = open_source(str(film(tmp_path / "still.mkv", 10)), realtime=False)
    assert [frame.at for frame in (still.read(), still.read()) if frame] == pytest.approx([0, 0.3])


def test_pictures_go_round_on_a_screen_and_once_without(files: Path) -> None:
    once = open_source(str(files / "people"), realtime=False)
    assert isinstance(once, Stills)
    assert once.length == 2
    assert len({frame.scene for frame in iter(once.read, None)}) == 2
    show = open_source(str(files / "people" / "person0.png"), realtime=True)
    shown = [frame for frame in (show.read(), show.read(), show.read()) if frame]
    assert [frame.index for frame in shown] == [0, 1, 2]
    assert len({frame.scene for frame in shown}) == 1
    shown[0].image[:] = 0  # drawn upon
    later = show.read()
    assert later is not None
    assert np.array_equal(later.image, shown[1].image)
    assert later.image.any()


def test_broken_pictures_are_left_out(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each once, or in a slide show, where one that vanishes is no longer shown."""
    for name in ("1.png", "3.png"):
        shutil.copy(files / "people" / "person0.png", tmp_path / name)
    for name in ("0.png", "2.png"):
        (tmp_path / name).write_bytes(b"no picture")
    monkeypatch.setattr(Stills, "RATE", 100.0)
    monkeypatch.setattr(Stills, "SECONDS_EACH", 0.01)
    once, show = (open_source(str(tmp_path), realtime) for realtime in (False, True))
    assert [frame.index for frame in iter(once.read, None)] == [0, 1]
    assert sum("0.png is not a picture" in line for line in caplog.messages) == 2
    for index in range(8):
        if index == 4:
            (tmp_path / "3.png").unlink()
        if index == 6:
            (tmp_path / "1.png").unlink()
        frame = show.read()
        assert frame is not None
        assert frame.index == index
    for name in ("1.png", "3.png"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png is not a picture"):
        open_source(str(tmp_path), realtime=False)


def test_a_camera_is_opened_again_after_it_was_lost(clips: Any, files: Path, tmp_path: Path) -> None:
    """A clip that ends and is taken away stands for a camera pulled out: OpenCV opens both by address."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes((files / "clip.mp4").read_bytes())
    camera = Camera(str(clip))
    for index in range(clips.FRAMES):
        assert camera.read().index == index
    rates = [camera.measured_fps]
    moved = clip.rename(tmp_path / "away.mp4")
    for _ in range(2):
        with pytest.raises(SourceLost, match="is gone, trying again"):
            camera.read()
    rates.append(camera.measured_fps)
    assert [rate is None for rate in rates] == [False, True], "the time without it would seem a slow rate"
    moved.rename(clip)
    assert camera.read().index == clips.FRAMES
    camera.close()


class Device:
    """A camera as OpenCV drives it, which notes what is asked of it and takes time to decode."""

    def __init__(self, address: int | str, *more: Any) -> None:
        self.address, self.more, self.asked = address, more, dict[int, float]()

    def set(self, what: int, value: float) -> None:
        self.asked[what] = value

    def get(self, _: int) -> float:
        return 0.0

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, Pixels]:
        time.sleep(0.05)
        return True, np.zeros((4, 4, 3), np.uint8)


def test_what_is_asked_of_a_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures that fit through USB 2, and nothing that would block for ever."""
    opened: list[Device] = []

    def capture(*arguments: Any) -> Device:
        opened.append(Device(*arguments))
        return opened[-1]

    monkeypatch.setattr(cv2, "VideoCapture", capture)
    frame = Camera(0).read()
    assert time.monotonic() - frame.captured_at >= 0.05, "when it was taken, not when it was decoded"
    assert list(opened[0].asked.items()) == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")),  # before the size, which depends on it
        (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720),
        (cv2.CAP_PROP_BUFFERSIZE, 2),
    ]
    Camera("rtsp://192.0.2.1/")
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000]
    assert opened[1].more == (cv2.CAP_FFMPEG, limits)
    Camera(203)
    assert opened[2].more == (cv2.CAP_V4L2,), "to OpenCV alone 203 is camera 3 of another backend"


def test_a_camera_that_gives_no_picture_is_lost_and_no_more(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV raises where a camera's buffer is empty: the recording goes on once it is back."""
    camera = Camera(str(files / "clip.mp4"))

    class Empty:
        def grab(self) -> bool:
            return True

        def retrieve(self) -> Any:
            cv2.imdecode(np.zeros(0, np.uint8), cv2.IMREAD_COLOR)

        def release(self) -> None:
            pass

    monkeypatch.setattr(camera, "_capture", Empty())
    with pytest.raises(SourceLost):
        camera.read()
    assert camera.read().image.shape == (180, 320, 3)


def test_one_broken_picture_is_passed_over(clips: Any, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than opening a camera again, which takes seconds."""
    camera = Camera(str(files / "clip.mp4"))

    class Flawed:
        def __init__(self, capture: Any) -> None:
            self.grabbed, self.grab_next, self.retrieve_next = 0, capture.grab, capture.retrieve

        def grab(self) -> bool:
            self.grabbed += 1
            return bool(self.grab_next())

        def retrieve(self) -> Any:
            if self.grabbed % 3 == 1:
                cv2.imdecode(np.zeros(0, np.uint8), cv2.IMREAD_COLOR)
            return (True, None) if self.grabbed % 3 == 2 else self.retrieve_next()

    monkeypatch.setattr(camera, "_capture", Flawed(camera._capture))
    seen = [camera.read() for _ in range(3)]
    assert [frame.index for frame in seen] == [0, 1, 2]
    whole = clips.decode(files / "clip.mp4")
    for frame, expected in zip(seen, whole[2::3], strict=False):
        np.testing.assert_array_equal(frame.image, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="FFmpeg's proxies of a test machine")
def test_a_film_from_a_server_is_no_stream(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=files)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=r"http://127\.0\.0\.1:\d+ sends a film of \d+ frames"):
            open_source(f"http://127.0.0.1:{server.server_port}/clip.mp4", realtime=True)
        server.shutdown()


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Cameras as Linux lists them: each has a second device, which gives no pictures."""
    folder = tmp_path / "devices"
    for number, index, name in (
        (0, 0, "HD Webcam"),
        (1, 1, "HD Webcam"),
        (12, 0, "Logitech BRIO"),
        (3, 0, "USB HD"),
    ):
        device = folder / f"video{number}"
        device.mkdir(parents=True)
        (device / "index").write_text(f"{index}\n")
        (device / "name").write_text(f"{name}\n")
    (folder / "video5").mkdir()  # pulled out while it is read
    monkeypatch.setattr(sources, "DEVICES", folder)
    return folder


def test_cameras_go_by_name_too(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.cameras() == {0: "HD Webcam", 3: "USB HD", 12: "Logitech BRIO"}
    there_are = r"; there are 0 \(HD Webcam\), 3 \(USB HD\), 12 \(Logitech BRIO\)$"
    for text, message in (
        ("brio", "camera brio cannot be opened: .*"),
        ("97", "camera 97 cannot be opened: .*"),
        ("hd", "there are several cameras called hd"),
        ("kodak", "there is no camera, file or folder kodak"),
    ):
        with pytest.raises(InputError, match=message + there_are):
            open_source(parse_args(["--camera", text]).source, realtime=True)
    monkeypatch.setattr(sources, "DEVICES", devices / "absent")
    assert sources.cameras() == {}


def test_cameras_go_by_their_devices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a link, such as udev makes for the camera of each socket, which is followed again later."""
    link = tmp_path / "front"
    link.symlink_to("/dev/video93")
    asked: list[int] = []
    capture = cv2.VideoCapture

    def open_nothing(index: int, _: int) -> cv2.VideoCapture:
        asked.append(index)
        return capture()

    monkeypatch.setattr(cv2, "VideoCapture", open_nothing)
    for text in ("/dev/video97", str(link)):
        with pytest.raises(InputError, match=f"^camera {text} cannot be opened"):
            open_source(text, realtime=True)
    assert asked == [97, 93]


def test_a_camera_that_comes_back_under_another_index_is_found(
    clips: Any, devices: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip stands for the camera: at its end it is gone, and then it is plugged in elsewhere."""
    opened: list[int] = []
    capture = cv2.VideoCapture

    def open_clip(address: int | str, *_: Any) -> cv2.VideoCapture:
        opened.append(int(address))
        return capture(str(files / "clip.mp4"))

    monkeypatch.setattr(cv2, "VideoCapture", open_clip)
    camera = open_source("BRIO", realtime=True)
    for _ in range(clips.FRAMES):
        camera.read()
    (devices / "video12").rename(devices / "away")
    for _ in range(2):  # another camera may have its index now
        with pytest.raises(SourceLost, match="camera BRIO is gone"):
            camera.read()
    (devices / "away").rename(devices / "video2")
    before = time.monotonic()
    frame = camera.read()
    assert frame is not None
    assert before <= frame.captured_at <= time.monotonic()
    camera.close()
    assert opened == [12, 2]


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://user:secret@127.0.0.1:9/stream",
        "rtsp://user:p@secret@127.0.0.1:9/stream",
        "RTSP://user:secret@127.0.0.1:9/stream",
        "http://127.0.0.1:9/secret/stream?mirror=0",
        "http://127.0.0.1:9?password=secret",
    ],
)
def test_secrets_in_addresses_are_not_shown(address: str) -> None:
    with pytest.raises(InputError, match=r"^(rtsp|RTSP|http)://127.0.0.1:9 cannot be opened") as failure:
        open_source(address, realtime=True)
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    "rest",
    ["user:secret/p@127.0.0.1:9/s", "127.0.0.1:9/s?user=me@secret&password=secret", "127.0.0.1:9/a@secret"],
)
def test_an_address_with_a_late_at_shows_its_protocol_alone(rest: str) -> None:
    """It may end a password with a slash, or be of the path: either reading shows the other's secret."""
    with pytest.raises(InputError, match=r"^http stream cannot be opened") as failure:
        open_source(f"http://{rest}", realtime=True)
    assert "secret" not in str(failure.value)
