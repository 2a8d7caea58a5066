"""The page: what a browser gets, who may see what, and the controls."""

import contextlib
import gc
import http.client
import io
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engines import picture_files
from engines.program import InputError
from runtime import incoming, mirror, pictures, screen, web_page, web_server
from runtime.dresser import Fitted
from runtime.garment import load, prepare
from runtime.notices import Notices
from runtime.options import parse_args
from runtime.pipeline import Result
from runtime.sources import Camera
from runtime.wardrobe import LOOK_S, Wardrobe
from runtime.web_address import Address, is_loopback, parse_address, parse_public, reached_at
from runtime.web_keys import GUEST_S, GuestKeys, check_key
from runtime.web_page import KEYS, LARGEST_PHOTO, PHOTO_S, STALE_S, WebPage, pressed

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


# The key guards addresses, so proxies have no part in it.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body."""
    try:
        with DIRECT.open(urllib.request.Request(url, method=method, data=data), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def result_of(image: Pixels, camera: Pixels | None = None) -> Result:
    return Result(0, image, image if camera is None else camera, None, None, time.monotonic(), 0.0, 12.3)


def halves() -> Pixels:
    """Dark on the left, light on the right."""
    image = np.full((96, 128, 3), 30, np.uint8)
    image[:, 64:] = 220
    return image


def decoded(data: bytes) -> Pixels:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


@contextlib.contextmanager
def watching(page: WebPage) -> Iterator[http.client.HTTPResponse]:
    """The stream, as it begins."""
    connection = http.client.HTTPConnection(page.url.split("/")[2], timeout=10)
    connection.request("GET", f"/{page.url.split('/')[3]}/stream")
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert answer.readline() == b"--frame\r\n"
        yield answer


def read_picture(answer: http.client.HTTPResponse) -> Pixels:
    """Its next picture."""
    assert answer.readline() == b"Content-Type: image/jpeg\r\n"
    length = int(answer.readline().split()[1])
    answer.readline()
    return decoded(answer.read(length))


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
        "adds": False,
        "garments": [{"number": number, "name": name} for number, name in enumerate(NAMES)],
        "wanted": 0,
        "worn": None,
        "fps": None,
        "latency_ms": None,
        "countdown": None,
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
        ("garments?name=a.jpg", "POST"),  # there is no folder for it
    ):
        assert ask(page.url + path, method)[0] == 404
    assert ask(page.url + "keys/n", "GET")[0] == 404, "a link must not change anything"
    status, body = ask(page.url + "garments/2.jpg")
    assert status == 404
    assert body == b"this garment's photo cannot be read", "without the names of folders"
    on_offer = json.loads(ask(page.url + "state")[1])["garments"]
    assert [garment["name"] for garment in on_offer] == ["1red", "2green"], "a broken one is offered no more"
    assert ask(page.url + "garments/" + "9" * 5000 + ".jpg")[0] in (404, 414, 400)
    assert ask(page.url + "photo.jpg")[0] == 404


def test_an_address_without_its_last_slash_leads_to_the_page(page: WebPage, shared: WebPage) -> None:
    for each in (page, shared):
        assert ask(each.url.rstrip("/")) == ask(each.url)
    connection = http.client.HTTPConnection(page.url.split("/")[2], timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/{page.url.split('/')[3]}")
        where = connection.getresponse().headers["Location"]
    assert where == page.url.split("/")[3] + "/", "relative: it holds below a path, too"


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


def test_viewers_who_leave_before_the_stream_begins_are_no_error(
    page: WebPage, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = page.url.split("/")[2].split(":")
    for _ in range(web_server.CONNECTIONS // 2):  # all at once may still be open, and one more asks below
        with socket.create_connection((host, int(port))) as viewer:
            viewer.sendall(f"GET /{page.url.split('/')[3]}/stream HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert ask(page.url + "state")[0] == 200
    page.close()
    assert not caplog.records


def test_the_stream_shows_the_newest_picture_and_compares(page: WebPage) -> None:
    for value in range(0, 250, 10):
        page.show(result_of(np.full((32, 32, 3), value, np.uint8)), False, 25.0)
    page.show(result_of(halves(), np.full_like(halves(), 128)), True, 25.0)
    with watching(page) as answer:
        assert answer.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=frame"
        picture = read_picture(answer)
        assert answer.readline() == b"\r\n"
        assert answer.readline() == b"--frame\r\n", "at once, since browsers wait for it"
    expected = np.hstack([np.full_like(halves(), 128), halves()[:, ::-1]])
    assert np.abs(picture.astype(int) - expected).max() < 12


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


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6(wardrobe: Wardrobe) -> None:
    page = WebPage(Address("::1", 0), None, wardrobe, Notices())
    try:
        assert page.url.startswith(f"http://[::1]:{page.address.port}/")
        assert ask(page.url)[0] == 200
    finally:
        page.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no further loopback addresses")
def test_the_address_is_the_one_it_listens_on(wardrobe: Wardrobe) -> None:
    """As for the machine's own name, which is often 127.0.1.1."""
    page = WebPage(Address("127.0.1.1", 0), None, wardrobe, Notices())
    try:
        assert page.url.startswith("http://127.0.1.1:")
        assert ask(page.url)[0] == 200
        assert not page.is_shared
    finally:
        page.close()


def test_guests_choose_and_take_photos_but_do_not_watch(shared: WebPage, wardrobe: Wardrobe) -> None:
    guest = shared.guest_url
    assert guest is not None
    assert shared.url.endswith("/the-owners-own/")
    assert not json.loads(ask(guest + "state")[1])["owner"]
    assert ask(guest + "stream")[0] == 404
    assert ask(guest + "keys/c", "POST")[0] == 404, "what the window shows is the owner's business"
    assert ask(guest + "keys/n", "POST")[0] == 204
    assert list(pressed(shared)) == ["n"]
    # One photo now and then is no film; the owner has the film anyway.
    assert shared.photo_at < time.monotonic() - PHOTO_S
    shared.show(result_of(halves()), False, 25.0)
    assert [ask(guest + "photo.jpg")[0] for _ in range(3)] == [200, 429, 429]
    assert shared.photo_at > time.monotonic() - PHOTO_S
    assert ask(shared.url + "photo.jpg")[0] == 200
    assert ask(guest + "garments/1", "POST")[0] == 204
    assert wardrobe.wanted == 1
    assert shared.guest_url == guest
    shared._notices.set("garment", "/home/owner/a.png does not exist")
    assert json.loads(ask(guest + "state")[1])["notices"] == []
    assert json.loads(ask(shared.url + "state")[1])["notices"] == ["/home/owner/a.png does not exist"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    pictures.write(folder / "red.png", shirt((40, 40, 200)))
    return folder


@pytest.fixture
def open_shop(shop: Path) -> Iterator[tuple[WebPage, Wardrobe]]:
    """A page of a shop's own folder, which others on the network could open."""

    def fitted(photo: Path) -> Fitted:
        return Fitted(load(photo, None, 64, 48), {})

    wardrobe = Wardrobe(
        sorted(shop.iterdir()), fitted, Notices(), listing=lambda: picture_files.find(shop)[0]
    )
    wardrobe.start()
    served = WebPage(Address("0.0.0.0", 0), "the-owners-own", wardrobe, Notices(), folder=shop)
    yield served, wardrobe
    served.close()
    wardrobe.close()


def shirt(colour: tuple[int, int, int]) -> Pixels:
    photo = np.full((240, 180, 3), 250, np.uint8)
    photo[60:180, 45:135] = colour
    return photo


def test_the_owner_adds_a_garment_and_it_is_put_on(open_shop: tuple[WebPage, Wardrobe], shop: Path) -> None:
    page, wardrobe = open_shop
    assert json.loads(ask(page.url + "state")[1])["adds"]
    photo = cv2.imencode(".jpg", shirt((40, 200, 40)))[1].tobytes()
    names = ("../image.JPG", "image.jpg", quote("größe 3.jpg"))
    assert [ask(f"{page.url}garments?name={name}", "POST", photo)[0] for name in names] == [204] * 3
    assert sorted(path.name for path in shop.iterdir()) == [
        "größe 3.jpg",
        "image-2.jpg",
        "image.jpg",
        "red.png",
    ]
    assert (shop / "image.jpg").read_bytes() == photo, "kept as it was sent"
    state = json.loads(ask(page.url + "state")[1])
    assert [each["name"] for each in state["garments"]] == ["größe 3", "image-2", "image", "red"]
    assert wardrobe.paths[state["wanted"]].name == "größe 3.jpg"
    assert decoded(ask(f"{page.url}garments/{state['wanted']}.jpg")[1]).shape == (240, 180, 3)
    worn = ""
    deadline = time.monotonic() + 10
    while worn != "größe 3" and time.monotonic() < deadline:
        fitted = wardrobe.take()
        worn = fitted.garment.name if fitted else worn
        time.sleep(0.01)
    assert worn == "größe 3"


def test_photos_may_come_at_the_same_time(open_shop: tuple[WebPage, Wardrobe], shop: Path) -> None:
    """Also large ones, as phones take them."""
    page, _ = open_shop
    photo = cv2.resize(shirt((40, 200, 40)), None, fx=4, fy=4)
    large = cv2.imencode(".png", photo, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert len(large) > 1_500_000
    with ThreadPoolExecutor(4) as phones:
        sent = phones.map(lambda n: ask(f"{page.url}garments?name=large{n}.png", "POST", large), range(4))
        assert [status for status, _ in sent] == [204] * 4
    assert len(list(shop.glob("large*.png"))) == 4
    with ThreadPoolExecutor(4) as phones:
        shown = list(phones.map(lambda _: ask(page.url + "garments/0.jpg"), range(4)))
    assert [status for status, _ in shown] == [200] * 4
    assert len({body for _, body in shown}) == 1


def test_what_cannot_be_worn_is_not_kept(
    open_shop: tuple[WebPage, Wardrobe], shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page, wardrobe = open_shop
    before = sorted(shop.iterdir())
    photo = cv2.imencode(".jpg", shirt((40, 200, 40)))[1].tobytes()
    blank = cv2.imencode(".png", np.full((240, 180, 3), 250, np.uint8))[1].tobytes()
    tiny = cv2.imencode(".png", cv2.resize(shirt((40, 200, 40)), (40, 60)))[1].tobytes()
    for name, data, status, said in (
        ("a.heic", photo, 400, "a.heic is not a picture that is known here: send JPEG or PNG"),
        ("", photo, 400, "a file without a name is not a picture"),
        ("a.jpg", b"no picture", 400, "a.jpg is not a picture that OpenCV can read"),
        ("a.jpg", b"", 400, "a.jpg is empty"),
        ("a.jpg", photo[:300], 400, "a.jpg is cut short or damaged; copy it again"),
        ("a.jpg", b"\0\0\0\x18ftypheic" + photo, 400, "a.jpg is a HEIC photo, whatever its name"),
        ("a.png", tiny, 400, "a.png is too small to be worn: 40x60 pixels"),
        ("a.png", blank, 400, "a.png"),
        ("a.jpg", bytes(LARGEST_PHOTO + 1), 413, "the photo is larger than 32 MB: send a smaller one"),
    ):
        answer = ask(f"{page.url}garments?name={name}", "POST", data)
        assert answer[0] == status, name
        assert said in answer[1].decode(), name
        assert str(shop) not in answer[1].decode(), "the page names no folders"
    for encoding in ("gzip", "deflate"):
        packed = urllib.request.Request(
            f"{page.url}garments?name=a.jpg", photo, {"Content-Encoding": encoding}, method="POST"
        )
        with pytest.raises(urllib.error.HTTPError, match="400"):
            DIRECT.open(packed, timeout=10)
    assert not caplog.messages
    assert page.guest_url is not None
    assert ask(f"{page.guest_url}garments?name=a.jpg", "POST", photo)[0] == 404
    assert not json.loads(ask(page.guest_url + "state")[1])["adds"]
    assert sorted(shop.iterdir()) == before
    shutil.rmtree(shop)
    status, body = ask(f"{page.url}garments?name=a.jpg", "POST", photo)
    assert (status, body) == (507, b"cannot be kept: No such file or directory")
    assert len(wardrobe.paths) == 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/pass wd", "pass wd"),
        ("CON", "CON_"),
        ("com1", "com1_"),
        ("COM10", "COM10"),
        ("-rf", "rf"),
        (".hidden", "hidden"),
        ("gro\u0308ße", "größe"),
        ("ß" * 300, "ß" * 60),
        ("\n", "garment"),
        ("", "garment"),
    ],
)
def test_names_of_photos_are_plain(sent: str, kept: str) -> None:
    assert incoming.plain_name(Path(sent).name) == kept


def test_a_photo_that_the_mirror_took_may_be_a_garment(tmp_path: Path) -> None:
    """It comes back under the name that the page gave it, which the mirror passes over in its folder."""
    photo = np.full((80, 60, 3), 255, np.uint8)
    photo[20:60, 15:45] = (40, 40, 200)
    data = cv2.imencode(".png", photo)[1].tobytes()
    kept = incoming.keep(data, "mirror-20260101-101500.png", tmp_path)
    assert mirror.without_screenshots(pictures.listing(tmp_path)) == [kept]


def test_a_self_timer_counts_down_and_takes_what_is_shown_then(shared: WebPage) -> None:
    """One at a time; the window and every page show the seconds left, and guests wait after it as ever."""
    guest = shared.guest_url
    assert guest is not None
    assert ask(guest + "photo.jpg?in=1")[0] == 404, "there is no picture yet"
    shared.show(result_of(halves()), False, 25.0)
    assert shared.countdown is None
    for text in ("4", "-1", "x", "1.5"):
        assert ask(f"{guest}photo.jpg?in={text}")[0] == 400
    with ThreadPoolExecutor(1) as phone:
        began = time.monotonic()
        waiting = phone.submit(ask, guest + "photo.jpg?in=3")
        wait_until(lambda: shared.countdown == 3)
        assert json.loads(ask(guest + "state")[1])["countdown"] in (3, 2, 1)
        status, body = ask(guest + "photo.jpg")
        assert (status, body) == (429, b"a photo is about to be taken: try again")
        assert ask(shared.url + "photo.jpg")[0] == 200, "guests never keep the owner from it"
        while not waiting.done():
            shared.show(result_of(np.full((96, 128, 3), 200, np.uint8)), False, 25.0)
            time.sleep(0.05)
        status, body = waiting.result()
    assert status == 200
    assert time.monotonic() - began > 2.9
    assert np.abs(decoded(body).astype(int) - 200).max() < 6, "the picture of the end, not of the beginning"
    assert json.loads(ask(guest + "state")[1])["countdown"] is None
    assert ask(guest + "photo.jpg")[0] == 429


def test_the_owners_timer_leaves_the_guests_countdown(shared: WebPage) -> None:
    """The nearest of them is shown; the guest's, with its photo, once the owner's is over."""
    shared.show(result_of(halves()), False, 25.0)
    guest = shared.guest_url
    assert guest is not None
    with ThreadPoolExecutor(2) as phones:
        waiting = phones.submit(ask, guest + "photo.jpg?in=3")
        wait_until(lambda: shared.countdown == 3)
        owners = phones.submit(ask, shared.url + "photo.jpg?in=1")
        wait_until(lambda: shared.countdown == 1)
        assert owners.result()[0] == 200
        assert not waiting.done()
        assert shared.countdown in (1, 2)
        shared.show(result_of(halves()), False, 25.0)
        assert waiting.result()[0] == 200
    assert shared.countdown is None


def test_a_self_timer_takes_no_picture_of_the_past(shared: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the camera stands still meanwhile; nobody then waits for a photo that was not taken."""
    monkeypatch.setattr(web_page, "STALE_S", 0.5)
    shared.show(result_of(halves()), False, 25.0)
    guest = shared.guest_url
    assert guest is not None
    assert ask(guest + "photo.jpg?in=1") == (404, b"there is no picture just now")
    shared.show(result_of(halves()), False, 25.0)
    assert ask(guest + "photo.jpg")[0] == 200


def test_a_self_timer_ends_with_the_phone_that_asked(shared: WebPage) -> None:
    shared.show(result_of(halves()), False, 25.0)
    assert shared.guest_url is not None
    address = shared.guest_url.split("/")
    connection = http.client.HTTPConnection("127.0.0.1", int(address[2].split(":")[1]), timeout=10)
    connection.request("GET", f"/{address[3]}/photo.jpg?in=3")
    wait_until(lambda: shared.countdown is not None)
    began = time.monotonic()
    connection.close()
    wait_until(lambda: shared.countdown is None)
    assert time.monotonic() - began < 2
    assert ask(shared.guest_url + "photo.jpg")[0] == 200, "no photo was taken, so nobody has to wait"


def test_the_window_counts_down_below_the_face() -> None:
    plain, counting = (
        screen.view(result_of(np.full((720, 1280, 3), 90, np.uint8)), [], [], False, countdown=number)
        for number in (None, 3)
    )
    rows, columns = (plain != counting).any(axis=(1, 2)), (plain != counting).any(axis=(0, 2))
    assert rows.argmax() > 400
    assert 80 < rows.sum() < 200
    assert abs(np.flatnonzero(columns).mean() - 640) < 20


def test_an_owner_may_have_no_guests(wardrobe: Wardrobe) -> None:
    served = WebPage(Address("0.0.0.0", 0), None, wardrobe, Notices(), guests=False)
    assert served.guest_url is None
    served.close()


def test_a_picture_of_the_past_is_nobodys(page: WebPage) -> None:
    page.show(result_of(halves()), False, 25.0)
    assert ask(page.url + "photo.jpg")[0] == 200
    old = Result(0, halves(), halves(), None, None, time.monotonic() - STALE_S, 0.0, 12.3)
    page.show(old, False, 25.0)
    assert ask(page.url + "photo.jpg")[0] == 404
    assert json.loads(ask(page.url + "state")[1])["fps"] is None
    with watching(page) as stream:
        page.show(result_of(np.full((96, 128, 3), 90, np.uint8)), False, 25.0)
        assert abs(read_picture(stream).mean() - 90) < 5, "nor is it what a stream begins with"


def test_one_picture_is_encoded_once_for_all(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = web_page.encode

    def count(picture: Pixels, quality: int) -> bytes:
        encoded.append(quality)
        return encode(picture, quality)

    monkeypatch.setattr(web_page, "encode", count)
    page.show(result_of(halves()), False, 25.0)
    with contextlib.ExitStack() as stack:
        for viewer in [stack.enter_context(watching(page)) for _ in range(4)]:
            read_picture(viewer)
    assert len(encoded) == 1


def test_connections_beyond_what_a_shop_has_are_refused(
    page: WebPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that strangers cannot use up the descriptors that cameras and recordings need."""
    monkeypatch.setattr(web_server, "CONNECTIONS", 5)

    def answers() -> bool:
        try:
            return ask(page.url + "state")[0] == 200
        except (ConnectionError, urllib.error.URLError, http.client.RemoteDisconnected):
            return False

    assert answers()
    monkeypatch.setattr(web_server, "is_loopback", lambda _: True)
    with crowd(page, 5) as silent:
        wait_until(lambda: not answers())
        silent.pop().close()
        wait_until(answers)


def test_one_stranger_does_not_take_every_place(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor keeps those taken, where nothing is asked for; a server before this one may have many."""
    assert not is_loopback("192.168.0.7")
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    monkeypatch.setattr(web_server, "SILENT_S", 5.0)
    monkeypatch.setattr(web_server, "is_loopback", lambda _: False)
    with crowd(page) as silent:
        wait_until(lambda: len(ended(silent)) == 3)  # those that are too many
        for one in set(silent) - set(ended(silent)):  # nor those that only guess keys
            one.sendall(b"GET /wrong/state HTTP/1.1\r\nHost: mirror\r\n\r\n")
            answer = b""
            while not answer.endswith(b"has become old"):
                answer += one.recv(4096)
        wait_until(lambda: len(ended(silent)) == len(silent))
        assert ask(page.url + "state")[0] == 200


def test_who_has_gone_without_a_word_keeps_no_place(
    wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone that asked, and then left the network."""
    monkeypatch.setattr(web_server, "IDLE_S", 3.0)
    with contextlib.closing(WebPage(LOCAL, None, wardrobe, Notices())) as page:
        connection = http.client.HTTPConnection(page.url.split("/")[2], timeout=10)
        for _ in range(3):
            connection.request("GET", f"/{page.url.split('/')[3]}/state")
            assert connection.getresponse().read()
            assert not ended([connection.sock])
            time.sleep(0.4)
        wait_until(lambda: bool(ended([connection.sock])))
        connection.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems let go only after minutes")
def test_who_reads_nothing_is_let_go(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a phone that leaves in the middle of a photo."""
    monkeypatch.setattr(web_server, "IDLE_S", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    page.show(result_of(noise), False, 25.0)

    def connections() -> int:
        server = page._server._runner.server
        assert server is not None
        return len(server.connections)

    with socket.socket() as phone:
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        phone.connect((LOCAL.host, page.address.port))
        request = f"GET /{page.url.split('/')[3]}/photo.jpg HTTP/1.1\r\nHost: here\r\n\r\n"
        phone.sendall(3 * request.encode())
        wait_until(lambda: connections() == 1)
        wait_until(lambda: connections() == 0)


def test_an_address_that_is_not_found_in_time_leaves_no_noise(
    wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(web_server, "CLOSING_S", 0.3)
    answered = threading.Event()

    def look_up(*_: Any, **__: Any) -> Any:
        time.sleep(1)
        answered.set()
        raise socket.gaierror(socket.EAI_NONAME, "there is none")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    before = set(threading.enumerate())
    with pytest.raises(InputError, match="cannot serve on somewhere:0"):
        WebPage(Address("somewhere", 0), None, wardrobe, Notices())
    assert all(each.daemon for each in set(threading.enumerate()) - before), "nor is the end held up"
    assert answered.wait(10)
    time.sleep(0.1)
    gc.collect()
    assert "Task was destroyed" not in caplog.text


def test_a_drive_that_hangs_does_not_hold_up_the_end(
    page: WebPage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, back = threading.Event(), threading.Event()

    def hang(_: Path) -> bytes:
        asked.set()
        assert back.wait(60)
        return b""

    monkeypatch.setattr(web_page, "thumbnail", hang)
    before = set(threading.enumerate())
    with socket.create_connection((LOCAL.host, page.address.port)) as phone:
        phone.sendall(f"GET /{page.url.split('/')[3]}/garments/0.jpg HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert asked.wait(10)
        begun = time.monotonic()
        page.close()
        assert time.monotonic() - begun < web_server.CLOSING_S
    left = set(threading.enumerate()) - before
    assert all(each.daemon for each in left)
    back.set()
    for each in left:
        each.join(10)
    gc.collect()
    assert "Task was destroyed" not in caplog.text


def test_a_photo_that_does_not_come_holds_up_no_other(page: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is there already, nor, after a while, one that has to be read."""
    assert ask(page.url + "garments/0.jpg")[0] == 200
    monkeypatch.setattr(web_page, "READING_S", 0.5)
    back, asked, read = threading.Event(), threading.Event(), web_page.thumbnail

    def hang(photo: Path) -> bytes:
        if photo.stem == NAMES[1]:
            asked.set()
            assert back.wait(60)
        return read(photo)

    monkeypatch.setattr(web_page, "thumbnail", hang)
    slow: list[int] = []
    waiting = threading.Thread(target=lambda: slow.append(ask(page.url + "garments/1.jpg")[0]))
    waiting.start()
    assert asked.wait(10)
    assert ask(page.url + "garments/0.jpg")[0] == 200
    waiting.join(10)
    assert slow == [503]
    assert ask(page.url + "garments/1.jpg")[0] == 503, "nor is it asked for again"
    back.set()
    wait_until(lambda: ask(page.url + "garments/1.jpg")[0] == 200)


def test_a_folder_that_hangs_holds_up_no_later_photo(
    open_shop: tuple[WebPage, Wardrobe], shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sent it is told, and so are those who come until it answers; then it is kept after all."""
    page, wardrobe = open_shop
    monkeypatch.setattr(web_page, "KEEPING_S", 0.5)
    back, keep = threading.Event(), incoming.keep

    def hang(data: bytes, name: str, folder: Path) -> Path:
        assert back.wait(60)
        return keep(data, name, folder)

    monkeypatch.setattr(incoming, "keep", hang)
    photo = cv2.imencode(".jpg", shirt((40, 200, 40)))[1].tobytes()
    said = (503, b"the folder of the garments does not answer")
    assert ask(page.url + "garments?name=a.jpg", "POST", photo) == said
    began = time.monotonic()
    monkeypatch.setattr(web_page, "KEEPING_S", 60)
    assert ask(page.url + "garments?name=b.jpg", "POST", photo) == said
    assert time.monotonic() - began < 30
    back.set()
    wait_until(lambda: wardrobe.paths[wardrobe.wanted].name == "a.jpg")
    assert ask(page.url + "garments?name=b.jpg", "POST", photo)[0] == 204
    assert sorted(path.name for path in shop.iterdir()) == ["a.jpg", "b.jpg", "red.png"]


def test_a_garment_that_cannot_be_used_is_chosen_by_nobody(shared: WebPage, wardrobe: Wardrobe) -> None:
    """Its error would come back to the window, with the file's path."""
    assert shared.guest_url is not None
    wardrobe.set_broken(1, InputError("b.png is not a picture"))
    assert ask(shared.guest_url + "garments/1", "POST")[0] == 404
    assert wardrobe.wanted == 0
    assert ask(shared.guest_url + "garments/2", "POST")[0] == 204
    assert wardrobe.wanted == 2


def test_a_link_to_nowhere_is_no_place_for_a_photo(tmp_path: Path) -> None:
    photo = cv2.imencode(".jpg", shirt((40, 200, 40)))[1].tobytes()
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "a.jpg").symlink_to(tmp_path / "outside.jpg")
    assert incoming.keep(photo, "a.jpg", folder) == folder / "a-2.jpg"
    assert not (tmp_path / "outside.jpg").exists()


def test_a_photo_that_is_sent_in_part_keeps_no_place(
    open_shop: tuple[WebPage, Wardrobe], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, _ = open_shop
    monkeypatch.setattr(web_page, "SENDING_S", 0.5)
    with socket.create_connection((LOCAL.host, page.address.port), timeout=10) as phone:
        path = f"/{page.url.split('/')[3]}/garments?name=a.jpg"
        phone.sendall(f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\nbegun".encode())
        assert b" 408 " in phone.recv(1000)


@contextlib.contextmanager
def crowd(page: WebPage, count: int = web_server.FROM_ONE + 3) -> Iterator[list[socket.socket]]:
    """So many connections from one place, by default three more than that may have."""
    place = (LOCAL.host, page.address.port)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(place, timeout=10)) for _ in range(count)]


def ended(connections: list[socket.socket]) -> list[socket.socket]:
    """Those that the other side has ended."""
    return select.select(connections, [], [], 0)[0]


@pytest.mark.parametrize("address", ["", "state", "photo.jpg", "garments/0.jpg", "stream"])
def test_answers_are_kept_by_nobody(page: WebPage, address: str) -> None:
    page.show(result_of(halves()), False, 25.0)
    with DIRECT.open(page.url + address, timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        # The page's own script and style are in it.
        assert answer.headers["Content-Security-Policy"] == "default-src 'self' 'unsafe-inline'"


def test_refusals_are_kept_by_nobody_and_say_what_is_wrong(page: WebPage) -> None:
    root, said = page.url.rsplit("/", 2)[0], {}
    for address in (
        page.url + "photo.jpg",
        page.url + "garments/99.jpg",
        page.url + "nothing",
        root + "/wrong/",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            DIRECT.open(address, timeout=10)
        with refused.value as error:
            assert error.code == 404
            assert error.headers["Cache-Control"] == "no-store"
            said[address.rpartition("/")[2]] = error.read().decode()
    assert said["nothing"] == "there is nothing at this address", "the key is right"
    assert "the key in this address is wrong" in said[""]


def test_a_photo_comes_as_a_file_of_its_own_name(page: WebPage) -> None:
    """Which the page reads from the header; asking for its size alone takes none."""
    page.show(result_of(halves()), False, 25.0)
    with DIRECT.open(page.url + "photo.jpg", timeout=10) as answer:
        named = answer.headers["Content-Disposition"]
    assert re.fullmatch(r'attachment; filename="mirror-\d{8}-\d{6}\.jpg"', named)
    assert ask(page.url + "photo.jpg", "HEAD")[0] == 404


def test_keys_cannot_be_guessed(shared: WebPage, page: WebPage) -> None:
    assert shared.guest_url is not None
    keys = [address.split("/")[-2] for address in (page.url, shared.guest_url)]
    assert all(re.fullmatch("[0-9a-f]{24,}", key) for key in keys)
    assert keys[0] != keys[1]


def test_a_mirror_that_begins_again_serves_at_once(wardrobe: Wardrobe) -> None:
    """Its port is still held by connections that it ended."""
    first = WebPage(LOCAL, "the-owners-own", wardrobe, Notices())
    connection = http.client.HTTPConnection("127.0.0.1", first.address.port, timeout=10)
    connection.request("GET", "/the-owners-own/state")
    assert connection.getresponse().read()
    first.close()
    connection.close()
    again = WebPage(Address("127.0.0.1", first.address.port), "the-owners-own", wardrobe, Notices())
    try:
        assert ask(again.url + "state")[0] == 200
    finally:
        again.close()


def test_no_browser_sends_such_a_thing(page: WebPage, capfd: pytest.CaptureFixture[str]) -> None:
    place = page.url.split("/")[2].split(":")
    with socket.create_connection((place[0], int(place[1])), timeout=10) as stranger:
        stranger.sendall(b"GET /\xff\xfe HTTP/9\r\n\r\n")
        stranger.recv(1000)
    assert capfd.readouterr().err == "", "or a log would fill"
    assert ask(page.url + "state")[0] == 200


def test_a_fault_of_the_page_is_logged(
    page: WebPage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> list[str]:
        raise RuntimeError("a fault")

    monkeypatch.setattr(page._notices, "current", fail)
    assert ask(page.url + "state")[0] == 500
    assert "a fault" in caplog.text


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
    assert cv2.QRCodeDetectorAruco().detectAndDecode(canvas)[0] == shared.guest_url
    tiny = np.full((40, 30, 3), 90, np.uint8)
    screen.draw_code(tiny, shared.guest_url)
    assert (tiny == 90).all(), "too small to be read"


def test_a_phone_reads_the_code_in_a_terminal(shared: WebPage, page: WebPage) -> None:
    assert shared.is_shared
    assert not page.is_shared
    lines = screen.code_for_terminal(shared.url).splitlines()
    assert all(line.startswith("\x1b[38;5;231;48;5;16m") and line.endswith("\x1b[0m") for line in lines)
    drawn = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    halves = {"█": (255, 255), "▀": (255, 0), "▄": (0, 255), " ": (0, 0)}
    code = np.array([[halves[each][half] for each in line] for line in drawn for half in (0, 1)], np.uint8)
    large = cv2.resize(code, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    assert cv2.QRCodeDetectorAruco().detectAndDecode(large)[0] == shared.url
    assert max(map(len, drawn)) < 60


def test_a_code_is_for_terminals_that_can_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    assert screen.shows_codes(Terminal(io.BytesIO(), "utf-8"))
    assert not screen.shows_codes(Terminal(io.BytesIO(), "latin-1"))
    assert not screen.shows_codes(io.TextIOWrapper(io.BytesIO(), "utf-8"))
    assert not screen.shows_codes(None)
    monkeypatch.setenv("TERM", "dumb")
    assert not screen.shows_codes(Terminal(io.BytesIO(), "utf-8"))


def test_the_page_asks_for_what_there_is(page: WebPage) -> None:
    """Every address in its script is served, and nothing is fetched from elsewhere."""
    page.show(result_of(halves()), False, 25.0)
    status, body = ask(page.url)
    assert status == 200
    text = body.decode()
    assert set(re.findall(r'data-key="(.)"', text)) == set(KEYS)
    assert set(re.findall(r'data-in="(\d+)"', text)) == {"0", "3"}
    begins = r"(?:fetch\(|post\(|show\(image, |\.src = |const photo = )"
    answers = {  # by what the script writes: method, the same filled in, status
        "state": ("GET", "state", 200),
        "photo.jpg?in=": ("GET", "photo.jpg?in=0", 200),
        "garments/${number}.jpg": ("GET", "garments/0.jpg", 200),
        "garments/${state.wanted}.jpg": ("GET", "garments/0.jpg", 200),
        "garments/${number}": ("POST", "garments/0", 204),
        "keys/": ("POST", "keys/n", 204),
        "garments?name=": ("POST", "garments?name=a.jpg", 404),  # where there is no folder to keep it in
        "stream?": ("GET", "stream?0", 200),
        "${address}?${Date.now()}": ("GET", "garments/0.jpg?0", 200),
    }
    assert set(re.findall(rf'{begins}["`]([^"`]*)', text)) == set(answers)
    for method, address, status in answers.values():
        if not address.startswith("stream"):
            assert ask(page.url + address, method)[0] == status, address
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


@pytest.mark.parametrize(
    ("host", "bound", "reached"),
    [
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.0.2", "127.0.0.2", None),
        ("::1", "::1", None),
        ("box.local", "10.1.2.3", "box.local"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
        ("0.0.0.0", "0.0.0.0", "198.51.100.7"),
        ("0", "0.0.0.0", "198.51.100.7"),
        ("::", "::", "2001:db8::7"),
    ],
)
def test_where_others_reach_the_page(
    host: str, bound: str, reached: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = True

    class Probe(socket.socket):
        def connect(self, target: Any) -> None:
            if not online:
                raise OSError("network is unreachable")
            self.target = target[0]

        def getsockname(self) -> tuple[str, int]:
            return ("2001:db8::7" if ":" in self.target else "198.51.100.7", 50000)

    monkeypatch.setattr(socket, "socket", Probe)
    assert reached_at(host, bound) == reached
    online = False
    assert reached_at(host, bound) == (None if bound in ("0.0.0.0", "::") else reached)


def test_the_code_follows_the_network(shared: WebPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came up without one, as a box that has just started may; then it has an address, then another."""
    for address in (None, "198.51.100.7", "198.51.100.8"):
        monkeypatch.setattr(web_page, "reached_at", lambda *_, address=address: address)
        here = address or "127.0.0.1"
        assert shared.url.startswith(f"http://{here}:")
        assert (shared.guest_url is None) == (address is None)
        assert address is None or shared.guest_url.startswith(f"http://{here}:")  # type: ignore[union-attr]


def test_a_server_before_it_is_what_phones_open(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that speaks HTTPS. Codes lead there, and many connections come from it."""
    monkeypatch.setattr(web_server, "is_loopback", lambda _: False)  # it may be another machine
    public = parse_public("https://mirror.example/try-on")
    served = WebPage(LOCAL, "the-owners-own", wardrobe, Notices(), public=public)
    try:
        assert served.url == "https://mirror.example/try-on/the-owners-own/"
        assert served.is_shared
        assert served.guest_url is not None
        assert served.guest_url.startswith("https://mirror.example/try-on/")
        with crowd(served) as many:
            for key in (served.url.split("/")[-2], served.guest_url.split("/")[-2]):
                assert ask(f"http://127.0.0.1:{served.address.port}/{key}/state")[0] == 200
            assert not ended(many)
    finally:
        served.close()


def test_without_https_one_stranger_is_one(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an address may be the mirror's own; a server on this machine may speak for many in any case."""

    def served() -> contextlib.closing[WebPage]:
        return contextlib.closing(WebPage(LOCAL, None, wardrobe, Notices(), public="http://10.0.0.3/"))

    with served() as page, crowd(page) as many:
        time.sleep(0.3)
        assert not ended(many)
    monkeypatch.setattr(web_server, "is_loopback", lambda _: False)
    with served() as page, crowd(page) as many:
        wait_until(lambda: len(ended(many)) == 3)


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("https://mirror.example", "https://mirror.example/"),
        ("http://10.0.0.3:8080/a/b//", "http://10.0.0.3:8080/a/b/"),
        ("https://[2001:db8::7]/", "https://[2001:db8::7]/"),
    ],
)
def test_public_addresses(text: str, public: str) -> None:
    assert parse_public(text) == public


@pytest.mark.parametrize(
    "text",
    ["", "mirror.example", "ftp://mirror.example", "https://", "https://a:b/", "https://a:0/", "https://a:65536/",
     "https://a/?b", "https://a/#b", "https://a b/", 'https://a/"', "https://a/<b>", "https://me@a/",
     "https://a..b,c/", "https://[::1/", "https://[::1]x/", "https://a[::2]/", "https://%2f/",
     "https://ä.example/", "https://a/\n", "https://0.0.0.0/", "https://localhost:80", "https://[::1]/",
     "https://LOCALHOST/", "https://mirror.localhost/", "https://0/", "https://127.1/", "https://2130706433/",
     "https://[::ffff:127.0.0.1]/", "http://127.0.0.1:8000/", "https://[::::]/", "https://[abc:::1]/",
     "https://a/" + "b" * 100],
)  # fmt: skip
def test_what_is_no_public_address(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not an address"):
        parse_public(text)


@pytest.mark.parametrize(
    "text", ["", "box", "box:", ":8000", "box:65536", "box:70000", "1:2:3", "[::1", "-1", "box:8000/x"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not PORT or HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "seven77", "with/slash", "with space", "x" * 65, "umläute-sind-keine"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="8 to 64 letters"):
        check_key(text)


def test_where_nothing_can_be_served(wardrobe: Wardrobe, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=f"cannot serve on 127.0.0.1:{port}: Address already in use; choose another"
        ):
            WebPage(Address("127.0.0.1", port), None, wardrobe, Notices())
    with pytest.raises(InputError, match=r"cannot serve on a\.\.b:80: there is no such host"):
        WebPage(Address("a..b", 80), None, wardrobe, Notices())
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(InputError, match=r"--web needs aiohttp: pip install 'rmgn\[web\]'"):
        WebPage(LOCAL, None, wardrobe, Notices())


def test_closing_ends_at_once_also_with_somebody_watching(wardrobe: Wardrobe) -> None:
    served = WebPage(LOCAL, None, wardrobe, Notices())
    served.show(result_of(halves()), False, 25.0)
    with watching(served) as viewer:
        read_picture(viewer)
        began = time.monotonic()
        served.close()
        served.close()
        assert time.monotonic() - began < 4
    assert not served._server._thread.is_alive()


@contextlib.contextmanager
def running(bundle: Path, shop: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The program without a window, its owner's page, and what it has said before it names that."""
    pictures.write(folder / "person.jpg", np.full((180, 320, 3), 120, np.uint8))
    flags: list[Any] = ["--source", folder / "person.jpg", "--bundle", bundle, "--headless"]
    command = [sys.executable, "-m", "runtime.mirror", *flags, "--garments", shop, "--web", "0"]
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=-1, stderr=-1, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            if line.startswith("page: "):
                break
            said += line
        try:
            yield process, line.split()[1], said
        finally:
            process.kill()  # where a test fails; it has ended otherwise


@pytest.mark.skipif(sys.platform == "win32", reason="ends by a POSIX signal")
def test_the_mirror_as_a_page(identity_bundle: Callable[..., Path], tmp_path: Path) -> None:
    """The program itself, without a window: choose a garment on the page, and its picture shows it."""
    shop = tmp_path / "shop"
    shop.mkdir()
    for name, colour in (("1red", (40, 40, 200)), ("2green", (40, 200, 40))):
        photo = np.full((240, 180, 3), 250, np.uint8)
        photo[60:180, 45:135] = colour
        pictures.write(shop / f"{name}.png", photo)
    with running(identity_bundle(), shop, tmp_path) as (process, url, _):

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


@pytest.mark.skipif(sys.platform == "win32", reason="ends by a POSIX signal")
@pytest.mark.parametrize(
    ("files", "reason"),
    [((), "holds no garments yet"), (("broken.png",), "holds no garment that can be used")],
)
def test_a_shop_without_a_garment_is_filled_from_the_page(
    identity_bundle: Callable[..., Path], files: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    """A sample is worn until there is a garment, and is not among them once it is worn no more."""
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in files:
        (shop / name).write_bytes(b"\x89PNG and no more")
    with running(identity_bundle(), shop, tmp_path) as (process, url, said):
        assert reason in said

        def state() -> dict[str, Any]:
            return dict(json.loads(ask(url + "state")[1]))

        wait_until(lambda: state()["worn"] is not None)
        assert [each["name"] for each in state()["garments"]] == [state()["worn"]]
        time.sleep(LOOK_S + 0.5)  # the folder is looked at, and nothing changes
        assert [each["name"] for each in state()["garments"]] == [state()["worn"]]
        assert not state()["notices"]
        photo = cv2.imencode(".png", shirt((40, 40, 200)))[1].tobytes()
        assert ask(url + "garments?name=red.png", "POST", photo)[0] == 204
        wait_until(lambda: state()["worn"] == "red")
        wait_until(lambda: [each["name"] for each in state()["garments"]] == ["red"])
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert sorted(path.name for path in shop.iterdir()) == sorted([*files, "red.png"])


@pytest.mark.skipif(sys.platform == "win32", reason="ends by a POSIX signal")
def test_a_mended_photo_takes_the_samples_place(identity_bundle: Callable[..., Path], tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "shirt.png").write_bytes(b"\x89PNG and no more")
    with running(identity_bundle(), shop, tmp_path) as (process, url, _):

        def garments() -> dict[str, int]:
            return {each["name"]: each["number"] for each in json.loads(ask(url + "state")[1])["garments"]}

        wait_until(lambda: len(garments()) == 1 and "shirt" not in garments())
        pictures.write(shop / "shirt.png", shirt((40, 40, 200)))
        wait_until(lambda: "shirt" in garments())
        assert ask(url + f"garments/{garments()['shirt']}", "POST")[0] == 204
        wait_until(lambda: list(garments()) == ["shirt"])
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_flags_that_belong_together() -> None:
    for flags, message in (
        (["--no-guests"], "--no-guests belongs to --web"),
        (["--idle", "0.5"], "--idle must be at least a second"),
        (["--idle", "nan"], "--idle must be at least a second"),
        (["--idle", "5", "--framing", "full"], "--idle looks for faces, which --framing full does not"),
        (["--fullscreen", "--headless"], "--fullscreen is for the window"),
        (["--rotate", "45"], "--rotate"),
        (["--aspect", "9/16"], "is not WIDTH:HEIGHT"),
        (["--web-key", "abcdefgh"], "--web-key belongs to --web"),
        (["--web", "8000", "--web-key", "abc"], "8 to 64 letters"),
        (["--web-url", "https://mirror.example"], "--web-url belongs to --web"),
        (["--web", "8000", "--web-url", "mirror.example"], "is not an address such as https"),
        (["--web", "everywhere"], "is not PORT"),
    ):
        with pytest.raises(InputError, match=message):
            parse_args(flags)
    options = parse_args(["--headless", "--web", "8000"])
    assert options.realtime, "a page shows films at their pace, as a window does"
    assert parse_address("8000") == options.web


def test_options_reach_what_they_are_for(
    identity_bundle: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window of a shop: upright, with a code; while nobody is there, the camera's own picture."""
    photo = np.full((240, 180, 3), 250, np.uint8)
    photo[60:180, 45:135] = (40, 40, 200)
    pictures.write(tmp_path / "shirt.png", photo)
    pictures.write(tmp_path / "room.png", np.full((360, 640, 3), 120, np.uint8))
    views: list[Pixels] = []

    class Window:
        def show(self, view: Pixels, sizes: bool = True) -> None:
            if sizes:
                views.append(view)

        def key(self) -> str:
            undressed = len(views) > 3 and (views[-1][320, 180] == 120).all()
            return "q" if undressed else ""

        def close(self) -> None:
            pass

    monkeypatch.setattr(screen, "Window", lambda _: Window())
    monkeypatch.setattr(web_page, "reached_at", lambda *_: "198.51.100.7")
    flags: list[Any] = ["--source", tmp_path / "room.png", "--garment", tmp_path / "shirt.png"]
    flags += ["--bundle", identity_bundle(), "--rotate", "90", "--aspect", "9:16", "--idle", "1"]
    flags += ["--frames", "100", "--stats", tmp_path / "stats.json"]
    mirror.main([*map(str, flags), "--web", "0.0.0.0:0"])
    assert not [thread for thread in threading.enumerate() if thread.name == "web"]
    assert views[0].shape == (640, 360, 3)
    assert views[0][320, 180, 2] > 150, "dressed as long as somebody may be there"
    assert (views[-1][320, 180] == 120).all()
    assert cv2.QRCodeDetectorAruco().detectAndDecode(views[-1])[0].startswith("http://198.51.100.7:")
    stats = json.loads((tmp_path / "stats.json").read_text())
    assert stats["rested"] > 0
    assert stats["failed"] == 0
    assert stats["rested"] + stats["garments"]["shirt"] == stats["frames"]
