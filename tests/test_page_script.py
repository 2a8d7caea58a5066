"""The page's own script: what it shows and asks for, in a stand-in of a browser."""

import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines import picture_files
from runtime import pictures
from runtime.dresser import Fitted
from runtime.garment import load
from runtime.notices import Notices
from runtime.pipeline import Result
from runtime.wardrobe import Wardrobe
from runtime.web_address import Address
from runtime.web_page import WebPage, pressed

pytest.importorskip("aiohttp", reason="the page needs aiohttp (pip install 'rmgn[web]')")
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")

HERE = Path(__file__).parent
SILENCE = "the mirror does not answer"
ROUND = 500  # ms between two questions for the state


class Browser:
    """A page that is open. Each call returns what it shows then, and in `done` what it has done since."""

    def __init__(self, url: str) -> None:
        command = ["node", str(HERE / "browser.js"), url]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, **commands: Any) -> dict[str, Any]:
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps(commands) + "\n")
        self._node.stdin.flush()
        seen: dict[str, Any] = json.loads(self._node.stdout.readline())
        return seen

    def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Round after round; what it shows once that is true."""
        deadline = time.monotonic() + 10
        while not true(seen := self.do(wait=ROUND)):
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)
        return seen

    def close(self) -> None:
        self._node.communicate(timeout=20)
        assert self._node.returncode == 0


@contextlib.contextmanager
def opened(url: str | None) -> Iterator[Browser]:
    assert url is not None
    browser = Browser(url)
    with contextlib.closing(browser):
        yield browser


def shirt(colour: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    photo = np.full((240, 180, 3), 250, np.uint8)
    photo[60:180, 45:135] = colour
    return photo


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    pictures.write(folder / "red.png", shirt((40, 40, 200)))
    pictures.write(folder / "sand.png", shirt((120, 160, 200)))
    return folder


@pytest.fixture
def wardrobe(shop: Path) -> Iterator[Wardrobe]:
    def fitted(photo: Path) -> Fitted:
        return Fitted(load(photo, None, 64, 48), {})

    made = Wardrobe(sorted(shop.iterdir()), fitted, Notices(), listing=lambda: picture_files.find(shop)[0])
    made.start()
    yield made
    made.close()


@pytest.fixture
def page(wardrobe: Wardrobe, shop: Path) -> Iterator[WebPage]:
    """Of a shop that others on the network could open, and whose owner may add garments."""
    served = WebPage(Address("0.0.0.0", 0), "the-owners-own", wardrobe, Notices(), folder=shop)
    yield served
    served.close()


@pytest.fixture
def showing(page: WebPage) -> Iterator[None]:
    """The mirror is at work."""
    ended = threading.Event()
    image = np.full((96, 128, 3), 90, np.uint8)

    def show() -> None:
        while not ended.wait(0.1):
            page.show(Result(0, image, image, None, None, time.monotonic(), 0.0, 12.3), False, 24.96)

    mirror = threading.Thread(target=show)
    mirror.start()
    yield
    ended.set()
    mirror.join()


@pytest.mark.usefixtures("showing")
def test_the_owner_sees_the_picture_and_has_every_control(page: WebPage, wardrobe: Wardrobe) -> None:
    with opened(page.url) as browser:
        seen = browser.until(lambda seen: seen["rate"] != "waiting for a picture")
        assert (seen["rate"], seen["trouble"], seen["countdown"]) == ("25.0 fps  12 ms", "", "")
        assert seen["picture"] == {"src": "stream", "alt": "The mirror's picture"}
        assert (seen["worn"], seen["compares"], seen["add"]) == (None, True, "Add garment")
        assert seen["garments"] == [
            [0, "red", "true", "garments/0.jpg"],
            [1, "sand", "false", "garments/1.jpg"],
        ]
        for key in "pnc":
            assert browser.do(click=f"[data-key={key}]")["done"] == [f"POST keys/{key}"]
        assert list(pressed(page)) == ["p", "n", "c"]

        assert browser.do(wear=1)["done"] == ["POST garments/1"]
        assert wardrobe.chosen == 1
        assert [worn for _, _, worn, _ in browser.do(wait=ROUND)["garments"]] == ["false", "true"]

        asked, saved = browser.do(click="[data-in=0]")["done"]
        assert asked == "GET photo.jpg?in=0"
        assert saved["saved"].startswith("mirror-")
        assert saved["saved"].endswith(".jpg")
        assert saved["size"] > 100
        page._notices.set("garment", "/home/owner/a.png does not exist")
        page._notices.set("camera", "dark")
        assert browser.do(wait=ROUND)["trouble"] == "/home/owner/a.png does not exist · dark"


@pytest.mark.usefixtures("showing")
def test_a_guest_sees_what_is_worn(page: WebPage) -> None:
    with opened(page.guest_url) as browser:
        seen = browser.do()
        assert seen["worn"] == {"src": "garments/0.jpg", "alt": "red"}
        assert (seen["picture"], seen["compares"], seen["add"], seen["rate"]) == (None, False, None, "")
        assert streams(seen) == 0
        assert browser.do(wait=4 * ROUND)["done"] == [], "a photo is asked for once"
        browser.do(wear=1)
        seen = browser.do(wait=ROUND)
        assert seen["worn"] == {"src": "garments/1.jpg", "alt": "sand"}

        # The countdown of somebody's self-timer, and what comes of one's own.
        assert browser.do(held=1, click="[data-in=3]")["done"][-1] == "GET photo.jpg?in=3"
        assert browser.do(wait=ROUND)["countdown"] in ("3", "2")
        assert browser.do(wait=ROUND, click="[data-in=0]")["trouble"].startswith("a photo is about to be")
        assert browser.do(wait=2 * ROUND)["trouble"].startswith("a photo is about to be"), "to be read"
        assert browser.do(wait=6 * ROUND)["trouble"] == ""
        saved = browser.do(held=0)["done"][-1]
        assert saved["saved"].startswith("mirror-")
        assert browser.do(wait=ROUND)["countdown"] == ""


def test_garments_are_added(page: WebPage, wardrobe: Wardrobe, shop: Path) -> None:
    picture = shirt((40, 200, 40)).repeat(2, axis=0).repeat(2, axis=1)
    picture[140:340, 100:260] = np.random.default_rng(0).integers(0, 99, (200, 160, 3))
    photo = cv2.imencode(".png", picture)[1].tobytes()
    assert len(photo) > 50000, "as photos are"
    with opened(page.url) as browser:
        before = browser.do()["garments"]
        assert browser.do(click="#add")["done"] == ["chooses a file"]
        seen = browser.do(file={"name": "größe 3.png", "base64": base64.b64encode(photo).decode()})
        assert (shop / "größe 3.png").read_bytes() == photo
        sending, asked = sorted(seen["done"], key=str, reverse=True)
        assert asked == "POST garments?name=gr%C3%B6%C3%9Fe%203.png"
        # The same file may be chosen again, and nothing twice at once.
        assert sending == {"add": "Sending", "disabled": True, "before": "Add garment", "value": ""}
        assert (seen["add"], seen["trouble"]) == ("Add garment", "")
        garments = browser.until(lambda seen: len(seen["garments"]) == 3)["garments"]
        [number] = [each[0] for each in garments if each[1] == "größe 3"]
        assert [each[:2] for each in garments if each[0] != number] == [each[:2] for each in before]
        assert [each[0] for each in garments] == list(wardrobe.on_offer)

        seen = browser.do(file={"name": "large.jpg", "size": (32 << 20) + 1})
        assert seen["trouble"] == "the photo is larger than 32 MB: send a smaller one"
        assert not [each for each in seen["done"] if "POST" in each], "nothing is sent in vain"
        seen = browser.do(file={"name": "text.jpg", "base64": base64.b64encode(b"text").decode()})
        assert "text.jpg" in seen["trouble"]
        assert seen["add"] == "Add garment"


def streams(seen: dict[str, Any]) -> int:
    """How often the stream was asked for."""
    return sum(isinstance(each, str) and each.startswith("stream?") for each in seen["done"])


def test_the_stream_is_asked_for_again(page: WebPage) -> None:
    with opened(page.url) as browser:
        assert streams(browser.do()) == 1
        assert streams(browser.do(wait=4 * ROUND)) == 0
        assert streams(browser.do(fail="#picture")) == 0
        assert streams(browser.do(wait=ROUND)) == 1
        assert streams(browser.do(hide=True, wait=ROUND)) == 0
        assert streams(browser.do(hide=False, wait=ROUND)) == 1, "it may have stood still meanwhile"


class Script(BaseHTTPRequestHandler):
    """Answers for `state`, one after another; nothing else is there."""

    answers: list[tuple[int, str, str] | None]
    let_go: threading.Event

    def do_GET(self) -> None:
        path = self.path.lstrip("/").split("?")[0]
        status, kind, text = 404, "", ""
        if not path:
            status, kind, text = 200, "text/html", (HERE.parent / "runtime" / "page.html").read_text("utf-8")
        elif path in ("photo.jpg", "stream"):
            status, kind = 200, "image/jpeg"
        elif path == "state":
            answer = self.answers.pop(0)
            if answer is None:
                self.let_go.wait()
                return
            status, kind, text = answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        broken_off = 100 if path == "photo.jpg" else 0
        self.send_header("Content-Length", str(len(text.encode()) + broken_off))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def answering(*answers: tuple[int, str, str] | None) -> Iterator[str]:
    """The address of a mirror that answers so; None: not at all."""
    let_go = threading.Event()
    handler = type("Handler", (Script,), {"answers": list(answers), "let_go": let_go})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        let_go.set()
        server.shutdown()
        thread.join()
        server.server_close()


def as_json(**changed: Any) -> tuple[int, str, str]:
    garments = [{"number": 3, "name": "red"}, {"number": 5, "name": "blue"}]
    told = {"owner": False, "adds": False, "garments": garments, "wanted": 5, "fps": None, "notices": []}
    return 200, "application/json", json.dumps(told | changed)


def test_what_is_wrong_is_told_and_asked_for_again() -> None:
    blue = [{"number": 5, "name": "blue"}]
    new = [{"number": 7, "name": "new"}, *blue]
    answers = (
        as_json(notices=["dark"]),
        (502, "", ""),  # of a server before the mirror, once this has ended
        (502, "text/html; charset=utf-8", "<h1>Bad gateway</h1>"),
        (404, "text/plain; charset=utf-8", "the key in this address is wrong"),
        None,
        as_json(garments=blue),
        as_json(garments=new),
        *[as_json(garments=new, wanted=7)] * 5,
    )
    with answering(*answers) as url, opened(url) as browser:
        seen = browser.do()
        assert seen["trouble"] == "dark"
        assert seen["worn"]["alt"] == "blue"
        assert [each[0] for each in seen["garments"]] == [3, 5]
        for trouble in (SILENCE, SILENCE, "the key in this address is wrong"):
            assert browser.do(wait=ROUND)["trouble"] == trouble
        browser.do(held=1, wait=ROUND)
        # A photo that does not come is asked for again.
        again = browser.do(wait=4 * ROUND)["done"]
        assert {each.split("?")[0] for each in again} == {"garments/3.jpg", "garments/5.jpg"}
        assert browser.do(held=0, wait=2 * ROUND)["trouble"] == SILENCE, "after three seconds"
        seen = browser.do(wait=ROUND)
        assert seen["trouble"] == ""
        assert [each[0] for each in seen["garments"]] == [5]
        assert [each[0] for each in browser.do(wait=ROUND)["garments"]] == [7, 5], "as the mirror orders them"
        for _ in range(5):
            assert browser.do(wait=ROUND)["worn"]["src"] == "garments/7.jpg", "and never the one before"


def test_the_stream_is_asked_for_again_once_the_mirror_is_back() -> None:
    at_work = as_json(owner=True)
    with answering(at_work, at_work, (502, "", ""), at_work) as url, opened(url) as browser:
        asked = [streams(browser.do(wait=ROUND * bool(n))) for n in range(4)]
    assert asked == [1, 0, 0, 1]


def test_a_download_that_breaks_off_is_told() -> None:
    with answering(as_json(), as_json()) as url, opened(url) as browser:
        seen = browser.do(click="[data-in=0]")
        assert seen["trouble"] == SILENCE
        assert "saved" not in str(seen["done"])
