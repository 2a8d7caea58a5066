"""The mirror's window as it stands on a screen, here a virtual one: what it shows, its keys, its end."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageGrab

from runtime import pictures, screen

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).parent.parent
MISSING = [tool for tool in ("Xvfb", "openbox", "xdotool", "xwininfo") if shutil.which(tool) is None]
WINDOWLESS = re.search(r"GUI:\s+NONE", cv2.getBuildInformation()) is not None
needs_a_screen = [
    pytest.mark.skipif(bool(MISSING), reason=f"a virtual screen needs {', '.join(MISSING)}"),
    pytest.mark.skipif(WINDOWLESS, reason="this OpenCV opens no windows (it is opencv-python-headless)"),
]
PATIENCE_S = 180.0  # a loaded machine takes a minute to open a window
RED, GREEN, CAMERA, BAR = (200, 40, 40), (40, 200, 40), (120, 120, 120), (0, 0, 0)  # RGB


class Desktop:
    """A virtual screen of 1600x1000 pixels with a window manager."""

    def __init__(self, display: str) -> None:
        self.display = display
        self.environment = {**os.environ, "DISPLAY": display}

    def press(self, *keys: str) -> None:
        self._run("xdotool", "key", *keys)

    def window(self) -> tuple[slice, slice] | None:
        """The rows and columns of the mirror's window, without its frame; None where there is none."""
        text = self._run("xwininfo", "-name", screen.TITLE)
        if "IsViewable" not in text:
            return None
        value = dict(re.findall(r"(Absolute upper-left [XY]|Width|Height): +(\d+)", text))
        left, top, width, height = (int(part) for part in value.values())
        return slice(top, top + height), slice(left, left + width)

    def picture(self) -> Pixels:
        """What the mirror's window shows, uint8 [H, W, 3] RGB."""
        area = self.window()
        assert area is not None
        return np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"))[area]

    def wait_for(self, shown: Callable[[Pixels], bool]) -> Pixels:
        """The window's picture once it looks so."""
        end = time.monotonic() + PATIENCE_S
        while self.window() is None or not shown(picture := self.picture()):
            assert time.monotonic() < end, "it never looked so"
            time.sleep(0.1)
        return picture

    def _run(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def desktop() -> Iterator[Desktop]:
    heard, told = os.pipe()
    server = ["Xvfb", "-displayfd", str(told), "-screen", "0", "1600x1000x24", "-nolisten", "tcp"]
    with subprocess.Popen(server, pass_fds=[told], stderr=subprocess.DEVNULL) as display:
        os.close(told)
        try:
            with os.fdopen(heard) as line:
                mine = Desktop(f":{line.readline().strip()}")
            with subprocess.Popen(["openbox"], env=mine.environment, stderr=subprocess.DEVNULL) as manager:
                yield mine
                manager.terminate()
        finally:
            display.terminate()


@pytest.fixture
def mirror(
    desktop: Desktop, clips: Any, files: Path, identity_bundle: Callable[..., Path], tmp_path: Path
) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the mirror on a still person in a shop of a red and a green garment."""
    bundle = identity_bundle(64, 48)
    clips.write_shop(tmp_path, files / "shirt.png")
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> "subprocess.Popen[str]":
        person = files / "people" / "person0.png"
        program = [sys.executable, "-m", "runtime.mirror", "--source", person, "--garments", tmp_path]
        command = [*map(str, program), "--bundle", str(bundle), "--keep-garment-framing", *flags]
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=desktop.environment, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def worn(colour: tuple[int, int, int], at: float = 0.5) -> Callable[[Pixels], bool]:
    """Whether a window shows a colour in the middle of its height, at a share of its width."""
    return lambda picture: bool(
        np.abs(picture[len(picture) // 2, int(at * picture.shape[1])].astype(int) - colour).max() < 3
    )


@pytest.mark.usefixtures("desktop")
class TestWindow:
    pytestmark = needs_a_screen

    def test_keys_and_the_cross(self, desktop: Desktop, mirror: Callable[..., Any]) -> None:
        """Garments by letters and a remote's keys; compared without distortion; closed without an error."""
        process = mirror()
        picture = desktop.wait_for(worn(RED))
        assert picture.shape == (180, 320, 3)
        for key, colour in (("n", GREEN), ("Page_Down", RED), ("Left", GREEN), ("P", RED), ("Right", GREEN)):
            desktop.press(key)
            desktop.wait_for(worn(colour))

        desktop.press("c")
        compared = desktop.wait_for(worn(GREEN, 0.75))
        assert compared.shape == (180, 320, 3)
        assert worn(CAMERA, 0.25)(compared)
        rows = (compared != BAR).any(axis=(1, 2)).nonzero()[0]
        assert (rows[0], rows[-1]) == (45, 134), "twice as wide a picture is half as high"

        desktop.press("alt+F4")
        out, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        assert "frames" in out
        assert "Traceback" not in errors

    def test_a_full_screen(self, desktop: Desktop, mirror: Callable[..., Any]) -> None:
        def corners_of_camera(now: Pixels) -> bool:
            return bool((now[[51, 948], 1] == CAMERA).all())

        process = mirror("--fullscreen")
        picture = desktop.wait_for(lambda now: now.shape == (1000, 1600, 3) and corners_of_camera(now))
        assert worn(RED)(picture)
        assert (picture[:50] == BAR).all()
        assert (picture[950:] == BAR).all()
        assert (picture[50:950].max(axis=2) > 20).mean() > 0.98
        redness = picture[:, :1200, 0].astype(int) - picture[:, :1200, 1]  # without the photo in its corner
        garment = (redness > (RED[0] - RED[1]) / 2).nonzero()
        assert (np.ptp(garment[0]), np.ptp(garment[1])) == pytest.approx((450, 337), abs=12), (
            "5 times its size"
        )
        desktop.press("Escape")
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors

    @pytest.mark.parametrize(("size", "seen"), [((1080, 1920), (720, 1280)), ((1920, 1080), (720, 405))])
    def test_a_large_picture_stays_on_the_screen(
        self, desktop: Desktop, size: tuple[int, int], seen: tuple[int, int]
    ) -> None:
        show = (
            "import numpy as np; from runtime.screen import Window; window = Window()\n"
            f"while window.key() != 'q': window.show(np.full(({size[0]}, {size[1]}, 3), 90, np.uint8))"
        )
        with subprocess.Popen([sys.executable, "-c", show], cwd=ROOT, env=desktop.environment) as process:
            try:
                desktop.wait_for(lambda now: now.shape[:2] == seen and bool((now == 90).all()))
                desktop.press("q")
                assert process.wait(PATIENCE_S) == 0
            finally:
                process.kill()


@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(1, 80)] * 2))
@example((2, 40), (1, 40))
def test_a_view_fills_the_window_in_one_direction(view: tuple[int, int], window: tuple[int, int]) -> None:
    """It is whole, keeps its shape within a pixel, and stands in the middle of black. One that is a pixel too
    large is cut."""
    shown = pictures.fit_inside(np.full((*view, 3), 200, np.uint8), window[1], window[0])
    assert shown.shape == (*window, 3)
    if all(side - place in (0, 1) for side, place in zip(view, window, strict=True)):
        assert (shown == 200).all()
        return
    rows, columns = ((shown == 200).any(axis=axis).any(axis=-1).nonzero()[0] for axis in (1, 0))
    area = np.ix_(rows, columns)
    assert (shown[area] == 200).all()
    assert shown.sum() == shown[area].sum()
    for seen, side in ((rows, window[0]), (columns, window[1])):
        assert abs(seen[0] - (side - 1 - seen[-1])) <= 1
    scale = min(window[0] / view[0], window[1] / view[1])
    assert len(rows) == pytest.approx(view[0] * scale, abs=1)
    assert len(columns) == pytest.approx(view[1] * scale, abs=1)
    assert len(rows) == window[0] or len(columns) == window[1]


def test_an_enlarged_view_is_smooth() -> None:
    edge = np.zeros((4, 4, 3), np.uint8)
    edge[:, 2:] = 200
    assert len(np.unique(pictures.fit_inside(edge, 32, 32))) > 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a session has a screen")
@pytest.mark.parametrize(
    ("display", "said"),
    [
        ({}, "there is no screen to open a window on; use --headless"),
        pytest.param(
            {"DISPLAY": ":7777"},
            "no window can be opened (qt.qpa.xcb: could not connect to display :7777); use --headless",
            marks=pytest.mark.skipif(WINDOWLESS, reason="this OpenCV opens no windows"),
        ),
    ],
)
def test_without_a_screen_it_says_what_to_do(display: dict[str, str], said: str) -> None:
    others = {name: value for name, value in os.environ.items() if not name.endswith("DISPLAY")}
    command = [sys.executable, "-m", "runtime.mirror", "--camera", "99"]
    done = subprocess.run(
        command, cwd=ROOT, env={**others, **display}, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (2, f"error: {said}\n")
