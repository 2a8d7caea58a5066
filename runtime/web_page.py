"""The mirror in a browser: its picture, and a remote control for phones. Needs the extra `web`."""

import asyncio
import importlib.resources
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.program import InputError
from runtime import incoming, pictures, screen
from runtime.notices import Notices
from runtime.pipeline import Result
from runtime.wardrobe import Wardrobe
from runtime.web_address import LOOPBACK, Address, reached_at
from runtime.web_keys import GuestKeys
from runtime.web_server import WebServer, in_daemon

if TYPE_CHECKING:
    from aiohttp import web

Pixels = NDArray[np.uint8]
T = TypeVar("T")

KEYS = ("n", "p", "c")  # of the window, for which the owner's page has buttons
GUESTS_KEYS = ("n", "p")
PHOTO_S = 3.0  # between guests' photos, which so never become a film
LONGEST_TIMER_S = 3
STALE_S = 3.0  # a picture older than that is the past, and nobody's business
SENDING_S = 300.0  # for a photo to arrive
READING_S = 10.0  # for a garment's photo, whose drive may hang
KEEPING_S = 30.0  # for a photo that is added
LARGEST_PHOTO = 32 << 20  # bytes of a photo that is added
THUMBNAIL = 240  # pixels, the longer side
BOUNDARY = "frame"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",  # addresses hold keys
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Shown:
    """What the mirror shows just now."""

    result: Result
    compare: bool
    rate: float

    def picture(self, mirrored: bool) -> Pixels:
        """As in the window, without what is written there; or as the camera would see it."""
        return screen.mirrored(self.result, self.compare) if mirrored else self.result.image


class WebPage:
    """Serves the page from a thread of its own. All addresses begin with a key; others are not found.

    The owner's key shows the camera's live picture. A guest's, which the window shows as a QR code, chooses
    garments and takes a photo now and then.

    address: where it listens.
    keys: what was pressed on pages, as `runtime.screen.Window.key` gives it, for the main thread to obey.
    photo_at: when a guest took the last photo (monotonic clock, seconds), for the window to say so; with a
    self-timer, when it will be taken.
    """

    def __init__(
        self,
        address: Address,
        key: str | None,
        wardrobe: Wardrobe,
        notices: Notices,
        guests: bool = True,
        folder: Path | None = None,
        public: str | None = None,
    ) -> None:
        """key: the owner's, a new one where it is None. guests: whether there are any.

        folder: where garments that the owner adds are kept; none can be added where it is None.
        public: the URL under which a server before this one passes it on, with a slash at its end.
        Raises InputError where nothing can be served.
        """
        try:
            from aiohttp import web
        except ImportError as error:
            raise InputError("--web needs aiohttp: pip install 'rmgn[web]'") from error
        self._web = web
        self.keys: SimpleQueue[str] = SimpleQueue()
        self.photo_at = -PHOTO_S
        self._timers: list[float] = []  # when each ends
        self._key = key or secrets.token_hex(12)
        self._have_guests = guests
        self._guests = GuestKeys()
        self._wardrobe = wardrobe
        self._folder = folder
        self._public = public
        self._notices = notices
        self._shown: Shown | None = None
        self._number = 0  # of what is shown
        self._arrived = asyncio.Event()  # set, and replaced, with every picture
        self._encoded: dict[bool, tuple[int, bytes]] = {}  # by whether it is mirrored
        self._encoding = asyncio.Lock()
        self._thumbnails: dict[int, bytes] = {}
        self._hanging: set[int | Path] = set()  # garments and folders whose files are waited for
        # One photo at a time: the cores are the try-on's.
        self._reading, self._adding = asyncio.Lock(), asyncio.Lock()
        # Before an https address there must be another server.
        for_many = (public or "").startswith("https:")
        self._server = WebServer(self._routes(), address, self._knows, HEADERS, LARGEST_PHOTO, for_many)
        self.address = self._server.address

    @property
    def url(self) -> str:
        """The owner's page, as others open it where they can."""
        everywhere, bound = {"0.0.0.0": LOOPBACK, "::": "::1"}, self._server.bound
        return (self._root or self._root_at(everywhere.get(bound, bound))) + f"{self._key}/"

    @property
    def is_shared(self) -> bool:
        """Whether others than this machine can open it."""
        return self._root is not None

    @property
    def guest_url(self) -> str | None:
        """The page for those before the mirror; None without guests, or where they could not open it."""
        root = self._root if self._have_guests else None
        return None if root is None else root + f"{self._guests.current()}/"

    @property
    def _root(self) -> str | None:
        """Where others find this server just now; None where they cannot."""
        if self._public is not None:
            return self._public
        host = reached_at(self.address.host, self._server.bound)
        return None if host is None else self._root_at(host)

    def _root_at(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.address.port}/"

    @property
    def countdown(self) -> int | None:
        """Seconds until a self-timer takes a photo, 1 or more, for the window to show; None without one."""
        now = time.monotonic()
        left = [ends - now for ends in tuple(self._timers) if ends > now]
        return math.ceil(min(left)) if left else None

    def show(self, result: Result, compare: bool, rate: float) -> None:
        """A new picture, at `rate` frames a second. Costs nothing while nobody looks."""
        self._server.run_soon(self._arrive, Shown(result, compare, rate))

    def close(self) -> None:
        """Stop serving. Closing twice is harmless."""
        self._server.close()

    def _routes(self) -> "list[web.RouteDef]":
        return [
            self._web.get("/{key}", self._without_slash),
            self._web.get("/{key}/", self._page),
            self._web.get("/{key}/state", self._state),
            self._web.get("/{key}/stream", self._stream, allow_head=False),
            self._web.get("/{key}/photo.jpg", self._photo, allow_head=False),
            self._web.get(r"/{key}/garments/{number:\d{1,9}}.jpg", self._thumbnail),
            self._web.post(r"/{key}/garments/{number:\d{1,9}}", self._choose),
            self._web.post("/{key}/garments", self._add),
            self._web.post(f"/{{key}}/keys/{{name:{'|'.join(KEYS)}}}", self._press),
        ]

    def _knows(self, request: "web.Request") -> bool:
        return self._owns(request) or request.match_info.get("key", "") in self._guests

    def _owns(self, request: "web.Request") -> bool:
        return secrets.compare_digest(request.match_info.get("key", "").encode(), self._key.encode())

    async def _without_slash(self, request: "web.Request") -> "web.Response":
        """As somebody types the address. Relative: a server before this one may put a path before it."""
        raise self._web.HTTPFound(f"{request.match_info['key']}/")

    async def _page(self, _request: "web.Request") -> "web.Response":
        page = (importlib.resources.files("runtime") / "page.html").read_text("utf-8")
        return self._web.Response(text=page, content_type="text/html")

    async def _state(self, request: "web.Request") -> "web.Response":
        shown, owns = self._current(), self._owns(request)
        state = {
            "owner": owns,
            "adds": owns and self._folder is not None,
            "garments": [
                {"number": number, "name": path.stem} for number, path in self._wardrobe.on_offer.items()
            ],
            "wanted": self._wardrobe.chosen,
            "worn": shown.result.garment.name if shown and shown.result.garment else None,
            "fps": round(shown.rate, 1) if shown else None,
            "latency_ms": round(shown.result.latency_ms) if shown else None,
            "countdown": self.countdown,
            "notices": self._notices.current() if owns else [],  # they name files and cameras
        }
        return self._web.json_response(state)

    async def _stream(self, request: "web.Request") -> "web.StreamResponse":
        """Pictures without end, each the newest when the one before has gone out; `?mirror=0` unmirrored."""
        if not self._owns(request):
            raise self._web.HTTPNotFound
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        response = self._web.StreamResponse(headers={"Content-Type": kind})
        mirrored = request.query.get("mirror") != "0"
        boundary = f"--{BOUNDARY}\r\n".encode()
        sent = 0 if self._current() else self._number
        try:
            await response.prepare(request)
            await response.write(boundary)
            while True:
                while self._number == sent:
                    await self._arrived.wait()
                sent, jpeg = await self._newest(mirrored)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                # With the next boundary, since browsers show a picture once they have seen that.
                await response.write(head + jpeg + b"\r\n" + boundary)
        except ConnectionResetError:  # whoever looked has gone
            return response

    async def _photo(self, request: "web.Request") -> "web.Response":
        """The dressed picture, unmirrored so that print can be read; `?in=3` after so many seconds."""
        timer, owns = self._timer(request), self._owns(request)
        if self._current() is None:
            raise self._web.HTTPNotFound(text="there is no picture just now")
        ends, before = time.monotonic() + timer, self.photo_at
        if not owns:
            if self.countdown is not None:
                raise self._web.HTTPTooManyRequests(text="a photo is about to be taken: try again")
            if time.monotonic() - self.photo_at < PHOTO_S:
                raise self._web.HTTPTooManyRequests(text="a photo was taken just now: try again")
            self.photo_at = ends

        def not_taken() -> None:
            if self.photo_at == ends:
                self.photo_at = before

        if timer:
            self._timers.append(ends)
            try:
                while time.monotonic() < ends:
                    if request.transport is None or request.transport.is_closing():
                        not_taken()  # nobody waits for it any more
                        return self._web.Response()
                    await asyncio.sleep(0.05)
            finally:
                self._timers.remove(ends)
        shown = self._current()
        if shown is None:
            not_taken()
            raise self._web.HTTPNotFound(text="there is no picture just now")
        jpeg = await asyncio.to_thread(encode, shown.result.image, 95)
        name = time.strftime("mirror-%Y%m%d-%H%M%S.jpg")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return self._web.Response(body=jpeg, content_type="image/jpeg", headers=headers)

    def _timer(self, request: "web.Request") -> int:
        text = request.query.get("in", "0")
        if not re.fullmatch(r"\d{1,2}", text) or int(text) > LONGEST_TIMER_S:
            raise self._web.HTTPBadRequest(text=f"in is 0 to {LONGEST_TIMER_S}, in seconds")
        return int(text)

    async def _thumbnail(self, request: "web.Request") -> "web.Response":
        number, path = self._garment(request)
        jpeg = self._thumbnails.get(number) or await self._make_thumbnail(number, path)
        return self._web.Response(body=jpeg, content_type="image/jpeg")

    async def _make_thumbnail(self, number: int, path: Path) -> bytes:
        async with self._reading:
            if number in self._thumbnails:
                return self._thumbnails[number]
            try:
                made = await self._within(
                    READING_S, number, "this garment's photo does not come", thumbnail, path
                )
            except InputError as error:
                self._wardrobe.set_broken(number, error)
                raise self._web.HTTPNotFound(text="this garment's photo cannot be read") from error
            paths = self._wardrobe.paths  # of those that are gone, none are kept
            self._thumbnails = {k: v for k, v in self._thumbnails.items() if k in paths} | {number: made}
            return made

    async def _within(
        self, seconds: float, source: int | Path, complaint: str, work: Callable[..., T], *args: Any
    ) -> T:
        """What `work` on the files of `source` gives, in a thread of its own.

        Raises what it raises, and 503 with the complaint where it takes longer, and for all who come until it
        has ended.
        """
        hangs = self._web.HTTPServiceUnavailable(text=complaint)
        if source in self._hanging:
            raise hangs

        def settled(done: "asyncio.Future[T]") -> None:
            self._hanging.discard(source)
            done.exception()  # told below, or wanted by nobody any more

        making = asyncio.ensure_future(in_daemon(work, *args))
        self._hanging.add(source)
        making.add_done_callback(settled)
        try:
            return await asyncio.wait_for(asyncio.shield(making), seconds)
        except asyncio.TimeoutError as error:
            raise hangs from error

    async def _choose(self, request: "web.Request") -> "web.Response":
        number, _ = self._garment(request)
        if number not in self._wardrobe.on_offer:  # else its error would come back to the window
            raise self._web.HTTPNotFound(text="this garment's photo cannot be used")
        self._wardrobe.choose(number)
        return self._web.Response(status=204)

    async def _add(self, request: "web.Request") -> "web.Response":
        """Keep the photo in the body, called `?name=`, with the garments, and put it on."""
        folder = self._folder
        if not self._owns(request) or folder is None:
            raise self._web.HTTPNotFound
        too_large = f"the photo is larger than {LARGEST_PHOTO >> 20} MB: send a smaller one"
        try:
            data = await asyncio.wait_for(request.read(), SENDING_S)
        except asyncio.TimeoutError as error:
            raise self._web.HTTPRequestTimeout(text="the photo did not come: send it again") from error
        except self._web.HTTPRequestEntityTooLarge as error:
            error.text = too_large  # instead of the library's words
            raise
        # Whoever sent it has gone, or it is not compressed as it says.
        except (ConnectionResetError, self._web.RequestPayloadError) as error:
            raise self._web.HTTPBadRequest from error
        name = request.query.get("name", "")

        def keep() -> None:
            self._wardrobe.choose_new(incoming.keep(data, name, folder))

        try:
            async with self._adding:
                await self._within(KEEPING_S, folder, "the folder of the garments does not answer", keep)
        except InputError as error:
            raise self._web.HTTPBadRequest(text=str(error)) from error
        except OSError as error:
            raise self._web.HTTPInsufficientStorage(text=f"cannot be kept: {error.strerror}") from error
        return self._web.Response(status=204)

    async def _press(self, request: "web.Request") -> "web.Response":
        name = request.match_info["name"]
        if not self._owns(request) and name not in GUESTS_KEYS:
            raise self._web.HTTPNotFound
        self.keys.put(name)
        return self._web.Response(status=204)

    def _garment(self, request: "web.Request") -> tuple[int, Path]:
        """The number in a request's address, and the photo."""
        number = int(request.match_info["number"])
        path = self._wardrobe.paths.get(number)
        if path is None:
            raise self._web.HTTPNotFound(text=f"there is no garment {number}")
        return number, path

    def _current(self) -> Shown | None:
        """What the mirror shows, unless that stands still."""
        shown = self._shown
        fresh = shown is not None and time.monotonic() - shown.result.captured_at < STALE_S
        return shown if fresh else None

    def _arrive(self, shown: Shown) -> None:
        self._shown = shown
        self._number += 1
        self._arrived.set()
        self._arrived = asyncio.Event()

    async def _newest(self, mirrored: bool) -> tuple[int, bytes]:
        """The newest picture as JPEG, and its number; encoded once, however many look."""
        async with self._encoding:
            number, shown = self._number, self._shown
            if shown is not None and self._encoded.get(mirrored, (0, b""))[0] != number:
                jpeg = await asyncio.to_thread(lambda: encode(shown.picture(mirrored), 80))
                self._encoded[mirrored] = (number, jpeg)
            return self._encoded[mirrored]


def encode(picture: Pixels, quality: int) -> bytes:
    """A picture, uint8 [H, W, 3] BGR, as JPEG."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def thumbnail(photo: Path) -> bytes:
    """A garment's photo as a small JPEG. Raises InputError."""
    picture = pictures.read_on_white(photo)
    return encode(pictures.shrunk(picture, THUMBNAIL), 85)


def pressed(page: WebPage | None) -> Iterable[str]:
    """The keys pressed on pages since the last call."""
    while page is not None and not page.keys.empty():
        yield page.keys.get()
