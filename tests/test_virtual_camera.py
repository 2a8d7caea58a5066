"""Pictures into a device of the kernel's module v4l2loopback, here a file that answers as the module does."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines.program import InputError
from runtime import mirror
from runtime.notices import Notices
from runtime.options import parse_args
from runtime.virtual_camera import FORMAT, GET_FORMAT, I420, OUTPUT, SET_FORMAT, VirtualCamera

Pixels = NDArray[np.uint8]
Loopback = Callable[..., None]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's")


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> Loopback:
    """Makes every device answer as v4l2loopback: with the format asked for, or the one that it has."""

    def answer(size: tuple[int, int] | None = None, pixels: bytes = I420) -> None:
        def ioctl(_file: int, request: int, argument: bytes) -> bytes:
            kind, width, height, _, *rest = FORMAT.unpack(argument)
            assert kind == OUTPUT
            assert request in (GET_FORMAT, SET_FORMAT)
            if request == SET_FORMAT:
                assert rest[1:3] == [width, width * height * 3 // 2], "bytes a line and a picture"
            return FORMAT.pack(kind, *(size or (width, height)), pixels, *rest)

        monkeypatch.setattr("fcntl.ioctl", ioctl)

    answer()
    return answer


def shown(device: Path, width: int, height: int) -> list[Pixels]:
    """The pictures written to a device, BGR."""
    planes = np.frombuffer(device.read_bytes(), np.uint8).reshape(-1, height * 3 // 2, width)
    return [np.asarray(cv2.cvtColor(picture, cv2.COLOR_YUV2BGR_I420), np.uint8) for picture in planes]


def halves(height: int, width: int) -> Pixels:
    """Red on the left, green on the right."""
    picture = np.full((height, width, 3), (40, 40, 200), np.uint8)
    picture[:, width // 2 :] = (40, 200, 40)
    return picture


def test_requests_are_those_of_the_kernel() -> None:
    assert FORMAT.size == 208
    assert (GET_FORMAT, SET_FORMAT) == (0xC0D05604, 0xC0D05605)


@pytest.mark.usefixtures("loopback")
def test_pictures_arrive_as_they_are(tmp_path: Path) -> None:
    """Whole and in their colours; the first decides the size, made even, and others are fitted into it."""
    device = tmp_path / "video9"
    device.touch()
    camera = VirtualCamera(device)
    camera.show(halves(61, 81))
    camera.show(halves(60, 40))
    camera.close()
    first, second = shown(device, 80, 60)
    np.testing.assert_allclose(first, halves(61, 81)[:60, :80], atol=3)
    for picture, left, right in ((first, 20, 60), (second, 30, 50)):
        np.testing.assert_allclose(picture[30, left], (40, 40, 200), atol=3)
        np.testing.assert_allclose(picture[30, right], (40, 200, 40), atol=3)
    assert second[:, :18].max() < 20
    assert second[:, 62:].max() < 20


def test_a_size_that_another_program_reads_stays(tmp_path: Path, loopback: Loopback) -> None:
    loopback(size=(64, 32))
    device = tmp_path / "video9"
    device.touch()
    camera = VirtualCamera(device)
    camera.show(halves(64, 128))
    camera.close()
    (picture,) = shown(device, 64, 32)
    np.testing.assert_allclose(picture[16, [16, 48]], [(40, 40, 200), (40, 200, 40)], atol=3)


def test_a_format_that_nobody_writes_is_told(tmp_path: Path, loopback: Loopback) -> None:
    loopback(pixels=b"YUYV")
    (tmp_path / "video9").touch()
    with pytest.raises(InputError, match=r"video9 takes pictures of 8x4 in YUYV alone, not in I420"):
        VirtualCamera(tmp_path / "video9").show(halves(4, 8))


def test_an_odd_size_that_a_device_keeps_is_told(tmp_path: Path, loopback: Loopback) -> None:
    loopback(size=(65, 33))
    (tmp_path / "video9").touch()
    with pytest.raises(InputError, match=r"video9 takes pictures of 65x33 in YU12 alone"):
        VirtualCamera(tmp_path / "video9").show(halves(4, 8))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("/dev/video97", "there is no /dev/video97; sudo modprobe v4l2loopback video_nr=97 exclusive_caps=1"),
        ("/dev/null", "/dev/null takes no pictures: it is not v4l2loopback's device"),
        ("/dev", "/dev cannot be opened: Is a directory"),
    ],
)
def test_what_is_no_such_device_is_told(device: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        VirtualCamera(Path(device))
    with pytest.raises(InputError, match=f"^{message}$"):
        mirror.main(["--source", "models/clip.mp4", "--headless", "--virtual-camera", device])


def test_a_number_is_a_device(tmp_path: Path) -> None:
    options = parse_args(["--camera", "0", "--virtual-camera", "9", "--headless"])
    assert options.virtual_camera == Path("/dev/video9")
    assert options.realtime, "others look on"
    link = tmp_path / "by-name"
    link.symlink_to("/dev/video9")
    for camera in ("9", "/dev/video9", str(link)):
        with pytest.raises(InputError, match=r"^/dev/video9 cannot be the camera and the virtual camera$"):
            parse_args(["--camera", camera, "--virtual-camera", "9"])
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert parse_args(["--source", str(circle), "--virtual-camera", "9", "--headless"])


@pytest.mark.usefixtures("loopback")
def test_the_mirror_fills_it(
    files: Path, identity_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dressed and not mirrored; a device that fails is told on the screen, and the mirror goes on."""
    told: dict[str, str] = {}
    monkeypatch.setattr(Notices, "set", lambda _, name, text: told.update({name: text}))
    device = tmp_path / "video9"
    device.touch()
    common: list[Any] = ["--source", files / "people" / "person0.png", "--garment", files / "shirt.png"]
    common += ["--bundle", identity_bundle(64, 48), "--headless", "--frames", 3, "--virtual-camera"]
    mirror.main([*map(str, common), str(device)])
    views = shown(device, 320, 180)
    assert len(views) == 3
    np.testing.assert_allclose(views[-1][90, 160], (40, 40, 200), atol=3)
    assert views[-1][150, :20].max() < 40, "the scene's bar is on its left"
    assert not told

    mirror.main([*map(str, common), "/dev/full"])
    assert told == {"virtual camera": "/dev/full takes no pictures any more: No space left on device"}
