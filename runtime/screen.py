"""What the mirror shows: the view flipped like a mirror, the garment, rates, and what is wrong."""

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError
from runtime import pictures
from runtime.pipeline import Result

Pixels = NDArray[np.uint8]

TITLE = "Mirror"
LARGEST_AT_FIRST = (1280, 720)  # the window, in pixels; a laptop's screen may be little more
# Escape, and X11's arrow and page keys, which are what presenters' remotes send.
NAMED_KEYS = {27: "q", 0xFF51: "p", 0xFF53: "n", 0xFF55: "p", 0xFF56: "n"}
LONGEST = 120  # characters of a notice; longer ones would be too small to read
FACE = cv2.FONT_HERSHEY_SIMPLEX
WHITE, RED = (255, 255, 255), (60, 60, 255)


def _try_window() -> None:
    """Raise InputError where a toolkit would end the process, as Qt does without a display that answers."""
    attempt = [sys.executable, "-c", "import cv2; cv2.namedWindow('?')"]
    done = subprocess.run(attempt, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode < 0:  # by a signal; what is an error in Python is told by this process's own attempt
        said = done.stderr.strip().partition("\n")[0]
        raise InputError(f"no window can be opened ({said}); use --headless")


class Window:
    """The mirror's window; used by the main thread, as every toolkit wants."""

    def __init__(self, fullscreen: bool = False) -> None:
        """Raises InputError where windows cannot be opened."""
        if sys.platform.startswith("linux"):  # elsewhere a session has a screen
            if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
                raise InputError("there is no screen to open a window on; use --headless")
            _try_window()
        try:
            # Some toolkits distort a picture, and some repeat pixels, so `show` scales it.
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_FREERATIO | cv2.WINDOW_GUI_NORMAL)
        except cv2.error as error:
            raise InputError(
                "this OpenCV opens no windows; install opencv-python or use --headless"
            ) from error
        if fullscreen:
            cv2.setWindowProperty(TITLE, cv2.WND_PROP_FULLSCREEN, cv2.WINDOW_FULLSCREEN)
        self._shown, self._sized = False, fullscreen

    def show(self, view: Pixels, sizes: bool = True) -> None:
        """Show a view, uint8 [H, W, 3] BGR, as large as fits; the first that `sizes` the window does so."""
        if sizes and not self._sized:
            height, width = view.shape[:2]
            scale = min(1.0, LARGEST_AT_FIRST[0] / width, LARGEST_AT_FIRST[1] / height)
            cv2.resizeWindow(TITLE, round(width * scale), round(height * scale))
            self._sized = True
        _, _, width, height = cv2.getWindowImageRect(TITLE)
        if width > 0 and height > 0:  # else the toolkit does not know
            view = pictures.fit_inside(view, width, height)
        cv2.imshow(TITLE, view)
        self._shown = True

    def key(self) -> str:
        """The key pressed since the last call, "q" once the window was closed, or ""."""
        code = cv2.waitKeyEx(1)
        if self._is_closed():
            return "q"
        if code < 0:
            return ""
        code &= 0xFFFF  # above it, GTK has what is held down beside the key
        return NAMED_KEYS.get(code) or (chr(code).lower() if 0 < code < 128 else "")

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()

    def _is_closed(self) -> bool:
        try:
            visible = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE)
        except cv2.error:  # Qt's answer after its last window
            return True
        return self._shown and visible < 1


def mirrored(result: Result, compare: bool) -> Pixels:
    """The dressed picture as mirrors show it, uint8 [H, W, 3] BGR; `compare` puts the camera's beside it."""
    pictures = [result.camera, result.image] if compare else [result.image]
    return np.hstack([cv2.flip(picture, 1) for picture in pictures]).astype(np.uint8, copy=False)


def view(
    result: Result,
    lines: Sequence[str],
    notices: Sequence[str],
    compare: bool,
    code: str | None = None,
    countdown: int | None = None,
) -> Pixels:
    """The picture for the window, uint8 [H, W, 3] BGR (twice as wide to `compare` with the camera).

    code: shown as a QR code. countdown: seconds until a photo is taken.
    """
    canvas = mirrored(result, compare)
    if result.garment is not None:
        draw_inset(canvas, result.garment.photo)
    if code is not None:
        draw_code(canvas, code)
    if countdown is not None:
        draw_countdown(canvas, countdown)
    write_lines(canvas, lines, notices)
    return canvas


def waiting(notices: Sequence[str]) -> Pixels:
    """What stands in the window before the first frame, so that a dark picture explains itself."""
    canvas = np.full((720, 1280, 3), 40, np.uint8)
    write_lines(canvas, ["waiting for the first picture"], notices)
    return canvas


def write_lines(canvas: Pixels, lines: Sequence[str], notices: Sequence[str]) -> None:
    """Lines from the top in white, notices from the bottom in red."""
    line_height = max(14, canvas.shape[0] // 28)
    for row, text in enumerate(lines):
        draw_text(canvas, text, (line_height // 2, (row + 1) * line_height), line_height, WHITE)
    for row, notice in enumerate(notices):
        bottom = canvas.shape[0] - line_height // 2 - row * line_height
        draw_text(canvas, shortened(notice), (line_height // 2, bottom), line_height, RED)


def shortened(notice: str) -> str:
    """A notice of LONGEST characters at most. Its end stays, which says what is wrong with a path before."""
    begin = LONGEST // 3
    return notice if len(notice) <= LONGEST else f"{notice[:begin]} ... {notice[begin + 5 - LONGEST :]}"


def draw_inset(canvas: Pixels, photo: Pixels) -> None:
    """The garment's photo in the top right corner."""
    height = canvas.shape[0] // 5
    width = max(1, height * photo.shape[1] // photo.shape[0])
    margin = height // 16
    if height < 8 or width + margin > canvas.shape[1]:
        return
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    canvas[margin : margin + height, -margin - width : canvas.shape[1] - margin] = small


@functools.lru_cache(maxsize=2)
def qr_code(text: str) -> Pixels:
    """Its modules, uint8 [N, N], 0 or 255; it takes milliseconds, and changes seldom."""
    return np.asarray(cv2.QRCodeEncoder.create().encode(text), np.uint8)


def code_for_terminal(text: str) -> str:
    """Lines that show text as a QR code in a terminal, black on white whatever its colours, a module a half
    character."""
    modules = np.pad(qr_code(text), 2, constant_values=255)
    modules = np.pad(modules, ((0, len(modules) % 2), (0, 0)), constant_values=255)
    white_on_black = "\x1b[38;5;231;48;5;16m"
    rows = zip(modules[::2] > 0, modules[1::2] > 0, strict=True)
    halves = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}
    lines = ["".join(halves[bool(up), bool(down)] for up, down in zip(*row, strict=True)) for row in rows]
    return "\n".join(f"{white_on_black}{line}\x1b[0m" for line in lines)


def shows_codes(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that knows colours and block characters."""
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return (stream.encoding or "").lower().replace("-", "") == "utf8"


def draw_code(canvas: Pixels, text: str) -> None:
    """Text as a QR code in the bottom right corner, for a phone's camera."""
    code = qr_code(text)
    module = canvas.shape[0] // 5 // code.shape[0]
    side = module * code.shape[0]
    margin = canvas.shape[0] // 80
    if module < 1 or side + margin > canvas.shape[1]:
        return
    bottom, right = canvas.shape[0] - margin, canvas.shape[1] - margin
    large = cv2.resize(code, (side, side), interpolation=cv2.INTER_NEAREST)
    canvas[bottom - side : bottom, right - side : right] = large[..., None]


def draw_countdown(canvas: Pixels, seconds: int) -> None:
    """A large number in the lower middle, clear of the face, which can be read from some metres away."""
    height = canvas.shape[0] // 5
    (width, _), _ = cv2.getTextSize(str(seconds), FACE, height / 32, 1)
    left = max(0, (canvas.shape[1] - width) // 2)
    draw_text(canvas, str(seconds), (left, canvas.shape[0] - height // 2), height, WHITE)


def draw_text(
    canvas: Pixels, text: str, at: tuple[int, int], height: int, colour: tuple[int, int, int]
) -> None:
    """One line, outlined so that it reads on any ground, made smaller where it would not fit."""
    # OpenCV's fonts are ASCII.
    text = text.encode("ascii", "replace").decode()
    scale = height / 32
    (width, _), _ = cv2.getTextSize(text, FACE, scale, 1)
    scale *= min(1.0, (canvas.shape[1] - 2 * at[0]) / max(width, 1))
    thickness = max(1, round(scale * 2.5))
    for ink, extra in (((0, 0, 0), 2), (colour, 0)):
        cv2.putText(canvas, text, at, FACE, scale, ink, thickness + extra, cv2.LINE_AA)
