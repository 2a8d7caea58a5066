"""An HTTP server on a thread of its own, for those who know a key. Needs the extra `web`."""

import asyncio
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakSet

from engines.program import InputError
from runtime.web_address import Address, is_loopback

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")

# At a time; more are refused, so that files and cameras have descriptors left, and nobody takes every place.
CONNECTIONS, FROM_ONE = 100, 16
SILENT_S = 10.0  # a connection that has asked for nothing is ended after that
IDLE_S = 30.0  # and one that asks for nothing more after that: a phone that has gone says no goodbye
CLOSING_S = 5.0


class WebServer:
    """Answers requests that know a key; others find nothing, and cannot take connections from those.

    address: where it listens.
    bound: the IP address that this is.
    """

    def __init__(
        self,
        routes: "Iterable[web.RouteDef]",
        address: Address,
        knows: "Callable[[web.Request], bool]",
        headers: Mapping[str, str],
        largest: int,
        for_many: bool = False,
    ) -> None:
        """knows: whether a request has a key. headers: of every answer. largest: bytes of a request's body.

        for_many: a server before this one speaks for many, as those of this machine may anyway.
        Raises InputError where nothing can be served.
        """
        logging.getLogger("aiohttp.server").addFilter(well_formed)
        self._knows, self._headers, self._for_many = knows, headers, for_many
        self._heard: WeakSet[asyncio.BaseTransport | None] = WeakSet()  # connections that knew a key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="web", daemon=True)
        self._thread.start()
        try:
            self._runner, self._server = self._call(self._serve(routes, address, largest))
        except (OSError, UnicodeError, FutureTimeout) as error:
            self._end_loop()
            reason = "there is no such host"
            if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
                reason = os.strerror(error.errno)
                if error.errno == errno.EADDRINUSE:
                    reason += "; choose another port, or end what uses it, such as another mirror"
            raise InputError(f"cannot serve on {address.host}:{address.port}: {reason}") from error
        bound, port = self._server.sockets[0].getsockname()[:2]
        self.address, self.bound = Address(address.host, int(port)), str(bound)

    def run_soon(self, work: Callable[..., object], *args: object) -> None:
        """Call `work` on the server's thread, without waiting for it."""
        self._loop.call_soon_threadsafe(work, *args)

    def close(self) -> None:
        """Stop serving. Closing twice is harmless."""
        if self._thread.is_alive():
            with suppress(FutureTimeout):
                self._call(self._stop_serving())
            self._end_loop()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLOSING_S)

    def _end_loop(self) -> None:
        with suppress(FutureTimeout):
            self._call(_cancel_others())  # else asyncio would tell of each that is left
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(
        self, routes: "Iterable[web.RouteDef]", address: Address, largest: int
    ) -> tuple["web.AppRunner", asyncio.Server]:
        from aiohttp import web

        # Not by asyncio, for whose look-ups the program's end waits, however long a name server is silent.
        found = await in_daemon(
            socket.getaddrinfo, address.host, address.port, 0, socket.SOCK_STREAM, 0, socket.AI_PASSIVE
        )
        hosts = sorted({str(each[4][0]) for each in found})

        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            """Nothing is to be found without a key."""
            if request.match_info.http_exception is not None:
                raise web.HTTPNotFound(text="there is nothing at this address")
            if not self._knows(request):
                raise web.HTTPNotFound(text="the key in this address is wrong, or has become old")
            self._heard.add(request.transport)
            response: web.StreamResponse = await handler(request)
            return response

        async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(self._headers)

        app = web.Application(middlewares=[guard], client_max_size=largest)
        app.on_response_prepare.append(add_headers)
        app.add_routes(routes)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, keepalive_timeout=IDLE_S)
        await runner.setup()
        requests = runner.server
        assert requests is not None  # since it is set up

        def connected(transport: asyncio.Transport) -> None:
            others = [peer(each.transport) for each in requests.connections]
            own = others.count(peer(transport))
            for_many = self._for_many or is_loopback(peer(transport))
            if len(others) >= CONNECTIONS or (own >= FROM_ONE and not for_many):
                transport.abort()
                return
            # One that reads nothing more, such as a phone that has gone, would hold its answer for ever.
            if sys.platform == "linux":
                received = transport.get_extra_info("socket")
                received.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * IDLE_S))
            handler = requests()
            transport.set_protocol(handler)
            handler.connection_made(transport)
            self._loop.call_later(SILENT_S, self._end_silent, transport)

        return runner, await self._loop.create_server(
            lambda: Door(connected), hosts, address.port, reuse_address=os.name == "posix"
        )

    def _end_silent(self, transport: asyncio.Transport) -> None:
        if transport not in self._heard:
            transport.abort()

    async def _stop_serving(self) -> None:
        self._server.close()
        await self._runner.cleanup()
        await self._loop.shutdown_default_executor()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Door(asyncio.Protocol):
    """Asks what to do with a new connection, since only that knows where it comes from."""

    def __init__(self, connected: Callable[[asyncio.Transport], None]) -> None:
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand it on."""
        self._connected(cast(asyncio.Transport, transport))


async def in_daemon(work: Callable[..., T], *args: Any) -> T:
    """As `asyncio.to_thread`, in a thread for which the program's end does not wait.

    For files: a network drive may hang.
    """
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()  # who asked may go meanwhile; the work is then done for nobody

    def run() -> None:
        try:
            done.set_result(work(*args))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="page's files", daemon=True).start()
    return await asyncio.wrap_future(done)


def peer(transport: asyncio.BaseTransport | None) -> str:
    """The address that a connection comes from; empty where it has gone."""
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if name else ""


def well_formed(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log is about more than a request that no browser makes."""
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    odd = HttpProcessingError, RequestPayloadError
    return not (record.exc_info and isinstance(record.exc_info[1], odd))
