"""The page: what a browser gets, who may see what, and the controls."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from runtime import mirror, pictures, screen, web_page
from runtime.dresser import Fitted
from runtime.failure import InputError
from runtime.garment import prepare
from runtime.notices import Notices
from runtime.pipeline import Result
from runtime.sources import Camera
from runtime.wardrobe import Wardrobe
from runtime.web_page import GUEST_S, KEYS, Address, GuestKeys, WebPage, check_key, parse_address, pressed

pytest.importorskip("aiohttp", reason="the page needs aiohttp (pip install 'rmgn[web]')")

Pixels = NDArray[np.uint8]
ROOT = Path(__file__).parent.parent
LOCAL = Address("127.0.0.1", 0)
NAMES = ("1red", "2green", "3broken")


@pytest.fixture
def wardrobe(tmp_path: Path) -> Wardrobe:
    """Two garments, and a file that is none."""
    for name, colour in (("1red", (40, 40, 200)), ("2green", (40, 200, 40))):
        photo = np.full((800, 600, 4), (*colour, 255), np.uint8)
        photo[:, :100] = 0  # transparent, so white on the page
        pictures.write(tmp_path / f"{name}.png", photo)
    (tmp_path / "3broken.png").write_bytes(b"no picture")

    def fitted(photo: Path) -> Fitted:
        white = np.full((64, 48, 3), 255, np.uint8)
        return Fitted(prepare(photo.stem, white, white[..., 0], 64, 48), {})

    return Wardrobe([tmp_path / f"{name}.png" for name in NAMES], fitted, Notices())


@pytest.fixture
def page(wardrobe: Wardrobe) -> Iterator[WebPage]:
    served = WebPage(LOCAL, None, wardrobe, Notices())
    yield served
    served.close()


@pytest.fixture
def shared(wardrobe: Wardrobe) -> Iterator[WebPage]:
    """A page that others on the network could open."""
    served = WebPage(Address("0.0.0.0", 0), "the-owners-own", wardrobe, Notices())
    yield served
    served.close()


def ask(url: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body; the key guards addresses, so proxies have no part in it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def result_of(image: Pixels, camera: Pixels | None = None) -> Result:
    return Result(0, image, image if camera is None else camera, None, None, time.monotonic(), 12.3)


def halves() -> Pixels:
    """Dark on the left, light on the right."""
    image = np.full((96, 128, 3), 30, np.uint8)
    image[:, 64:] = 220
    return image


def decoded(data: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def test_state_and_controls(page: WebPage, wardrobe: Wardrobe) -> None:
    status, body = ask(page.url + "state")
    assert status == 200
    assert json.loads(body) == {
        "owner": True,
        "garments": list(NAMES),
        "wanted": 0,
        "worn": None,
        "fps": None,
        "latency_ms": None,
        "notices": [],
    }
    page.show(result_of(halves()), False, 24.96)
    assert json.loads(ask(page.url + "state")[1]) | {"fps": 25.0, "latency_ms": 12} == json.loads(
        ask(page.url + "state")[1]
    )
    assert ask(page.url + "garments/1", "POST")[0] == 204
    assert wardrobe.wanted == json.loads(ask(page.url + "state")[1])["wanted"] == 1
    for key in KEYS:
        assert ask(page.url + f"keys/{key}", "POST")[0] == 204
    assert list(pressed(page)) == list(KEYS)
    assert list(pressed(page)) == list(pressed(None)) == []


def test_what_is_not_there(page: WebPage) -> None:
    # Neither quitting nor writing files is a page's business.
    for path, method in (
        ("keys/q", "POST"),
        ("keys/r", "POST"),
        ("garments/3", "POST"),
        ("garments/3.jpg", "GET"),
    ):
        assert ask(page.url + path, method)[0] == 404
    assert ask(page.url + "keys/n", "GET")[0] == 404, "a link must not change anything"
    status, body = ask(page.url + "garments/2.jpg")
    assert status == 404
    assert b"3broken.png is not a picture" in body
    assert ask(page.url + "photo.jpg")[0] == 404


def test_garments_are_shown_small_and_on_white(page: WebPage) -> None:
    small = decoded(ask(page.url + "garments/0.jpg")[1])
    assert small.shape == (240, 180, 3)
    assert small[:, :20].min() > 245
    assert np.abs(small[120, 100].astype(int) - (40, 40, 200)).max() < 8


@pytest.mark.parametrize(("query", "seen"), [("", halves()[:, ::-1]), ("?mirror=0", halves())])
def test_the_picture_streams_mirrored_or_not_and_photos_are_not(
    query: str, seen: Pixels, page: WebPage
) -> None:
    """Read as the mirror itself reads a network camera."""
    watched = threading.Event()

    def show() -> None:
        while not watched.wait(0.02):
            page.show(result_of(halves()), False, 25.0)

    mirror_at_work = threading.Thread(target=show)
    mirror_at_work.start()
    try:
        viewer = Camera(page.url + "stream" + query)
        picture = viewer.read().image
        viewer.close()
    finally:
        watched.set()
        mirror_at_work.join()
    assert np.abs(picture.astype(int) - seen).max() < 12
    photo = decoded(ask(page.url + "photo.jpg")[1])
    assert np.abs(photo.astype(int) - halves()).max() < 12


def test_the_stream_shows_the_newest_picture_and_compares(page: WebPage) -> None:
    for value in range(0, 250, 10):
        page.show(result_of(np.full((32, 32, 3), value, np.uint8)), False, 25.0)
    page.show(result_of(halves(), np.full_like(halves(), 128)), True, 25.0)
    connection = http.client.HTTPConnection(page.url.split("/")[2], timeout=10)
    connection.request("GET", f"/{page.url.split('/')[3]}/stream")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
    assert answer.readline() == b"--frame\r\n"
    assert answer.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(answer.readline().split()[1])
    answer.readline()
    picture = decoded(answer.read(length))
    expected = np.hstack([np.full_like(halves(), 128), halves()[:, ::-1]])
    assert np.abs(picture.astype(int) - expected).max() < 12
    connection.close()


def test_without_a_key_nothing_is_found(page: WebPage) -> None:
    root = page.url.rsplit("/", 2)[0]
    for path in ("/", "/state", "//state", "/wrong/", "/wrong/state", "/wrong/stream", "/%C3%A4/state"):
        assert ask(root + path)[0] == 404
    assert ask(root + "/wrong/keys/n", "POST")[0] == 404
    assert list(pressed(page)) == []


def test_this_machine_alone_is_the_default(page: WebPage) -> None:
    assert parse_address("8000") == Address("127.0.0.1", 8000)
    assert page.url.startswith("http://127.0.0.1:")
    assert page.guest_url is None


def test_guests_choose_and_take_photos_but_do_not_watch(shared: WebPage, wardrobe: Wardrobe) -> None:
    shared.show(result_of(halves()), False, 25.0)
    guest = shared.guest_url
    assert guest is not None
    assert shared.url.endswith("/the-owners-own/")
    assert not json.loads(ask(guest + "state")[1])["owner"]
    assert ask(guest + "stream")[0] == 404
    assert ask(guest + "photo.jpg")[0] == 200
    assert ask(guest + "garments/1", "POST")[0] == 204
    assert wardrobe.wanted == 1
    assert shared.guest_url == guest


def test_guests_keys_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    keys = GuestKeys()
    assert "" not in keys
    first = keys.current()
    now += GUEST_S - 1
    assert keys.current() == first
    now += 1
    second = keys.current()
    assert second != first
    assert first in keys, "whoever has just scanned it has time"
    assert second in keys
    now += GUEST_S
    assert first not in keys
    assert second in keys, "also while no window asks for another"
    now += GUEST_S
    assert second not in keys


def test_a_phone_reads_the_code_in_the_window(shared: WebPage) -> None:
    canvas = np.full((720, 1280, 3), 90, np.uint8)
    assert shared.guest_url is not None
    screen.draw_code(canvas, shared.guest_url)
    assert (canvas[:500] == 90).all()
    assert (canvas[:, :1000] == 90).all()
    assert cv2.QRCodeDetector().detectAndDecode(canvas)[0] == shared.guest_url
    tiny = np.full((40, 30, 3), 90, np.uint8)
    screen.draw_code(tiny, shared.guest_url)
    assert (tiny == 90).all(), "too small to be read"


def test_the_page_asks_for_what_there_is(page: WebPage) -> None:
    """Every address in its script is served, and nothing is fetched from elsewhere."""
    status, body = ask(page.url)
    assert status == 200
    text = body.decode()
    assert set(re.findall(r'data-key="(.)"', text)) == set(KEYS)
    asked = {
        part.split("?")[0] for part in re.findall(r"[\"`(](keys/|garments/|state|stream|photo\.jpg)", text)
    }
    assert asked == {"keys/", "garments/", "state", "stream", "photo.jpg"}
    assert not re.findall(r"https?:|//\w", text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8000", Address("127.0.0.1", 8000)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("box.local:65535", Address("box.local", 65535)),
        ("[::1]:8000", Address("::1", 8000)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert address.local == (address.host in ("127.0.0.1", "::1"))


@pytest.mark.parametrize(
    "text", ["", "box", "box:", ":8000", "box:70000", "1:2:3", "[::1", "-1", "box:8000/x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="is not PORT or HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "short", "with/slash", "with space", "x" * 65, "umläute-sind-keine"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(InputError, match="8 to 64 letters"):
        check_key(text)


def test_where_nothing_can_be_served(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot serve on 127.0.0.1:{port}: "):
            WebPage(Address("127.0.0.1", port), None, wardrobe, Notices())
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(InputError, match=r"--web needs aiohttp: pip install 'rmgn\[web\]'"):
        WebPage(LOCAL, None, wardrobe, Notices())


def test_closing_ends_at_once_also_with_somebody_watching(wardrobe: Wardrobe) -> None:
    served = WebPage(LOCAL, None, wardrobe, Notices())
    served.show(result_of(halves()), False, 25.0)
    connection = http.client.HTTPConnection(served.url.split("/")[2], timeout=10)
    connection.request("GET", f"/{served.url.split('/')[3]}/stream")
    assert connection.getresponse().readline() == b"--frame\r\n"
    served.close()
    served.close()
    connection.close()
    assert not served._thread.is_alive()


def test_the_mirror_as_a_page(identity_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """The program itself, without a window: choose a garment on the page, and its picture shows it."""
    shop = tmp_path / "shop"
    shop.mkdir()
    for name, colour in (("1red", (40, 40, 200)), ("2green", (40, 200, 40))):
        photo = np.full((240, 180, 3), 250, np.uint8)
        photo[60:180, 45:135] = colour
        pictures.write(shop / f"{name}.png", photo)
    pictures.write(tmp_path / "person.jpg", np.full((180, 320, 3), 120, np.uint8))
    flags: list[Any] = ["--source", tmp_path / "person.jpg", "--bundle", identity_bundle(), "--headless"]
    command = [sys.executable, "-m", "runtime.mirror", *flags, "--garments", shop, "--web", "0"]
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as process:
        assert process.stderr is not None
        url = next(line.split()[1] for line in process.stderr if line.startswith("page: "))

        def middle() -> list[int]:
            status, body = ask(url + "photo.jpg")
            return decoded(body)[90, 160].tolist() if status == 200 else [0, 0, 0]

        wait_until(lambda: middle()[2] > 150)
        ask(url + "keys/n", "POST")
        wait_until(lambda: middle()[1] > 150)
        assert json.loads(ask(url + "state")[1])["worn"] == "2green"
        process.terminate()
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert "in 2green" in output


def test_flags_that_belong_together() -> None:
    for flags, message in (
        (["--web-key", "abcdefgh"], "--web-key belongs to --web"),
        (["--web", "8000", "--web-key", "abc"], "8 to 64 letters"),
        (["--web", "everywhere"], "is not PORT"),
    ):
        with pytest.raises(InputError, match=message):
            mirror.parse_args(flags)
    options = mirror.parse_args(["--headless", "--web", "8000"])
    assert options.realtime, "a page shows films at their pace, as a window does"
    assert web_page.parse_address("8000") == options.web
