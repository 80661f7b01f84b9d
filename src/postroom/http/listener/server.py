"""The HTTP server in the gateway's event loop: uvicorn without its signal handlers, logging and access log.

Promises: `addresses` are the addresses really bound; request heads are bounded in bytes and time, connections in
number; a stop lets running requests finish within its grace, then cuts the rest. Fails: EnvironmentFailed names the
address that cannot be bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from postroom.http import console, health, metrics
from postroom.http.admin.api import PREFIX as ADMIN
from postroom.http.admin.api import AdminApi
from postroom.http.asgi import CLOSE, SECURITY, Envelop, new_request_id, reply
from postroom.http.door.callers import Callers
from postroom.http.door.folded import ToOurLog
from postroom.http.door.guard import Guard
from postroom.http.door.proxies import Behind, Proxies
from postroom.http.gateway.front import PREFIXES, GatewayApi
from postroom.http.gateway.wire.envelope import CONTENT_TYPE, Failure
from postroom.http.listener.ports import address_of, bound
from postroom.http.listener.tls import Certificate
from postroom.http.services import Services
from postroom.settings import Address, Settings
from postroom.telemetry import Log

MAX_HEAD = 64 * 1024  # bytes of request line and headers
ARRIVAL_TIMEOUT = 60.0  # seconds for a whole request to arrive, the first counted from the connection on
KEEP_ALIVE = 60  # seconds that an idle connection is kept: API clients poll by the minute
MAX_CONNECTIONS = 1000
BACKLOG = 512
UNREAD_TIMEOUT = 60.0  # seconds in which a client must read something of an answer that waits for it
LAST_WORDS = 2.0  # seconds, after a stop's grace, for calls that were cut off to say so: a few turns of the loop
END_LOOK = 0.005  # seconds between two looks, at a stop, whether the last connection has gone


class BoundedHttp(HttpToolsProtocol):
    """Adds the bounds that the parser lacks: a head that never ends would fill memory and hold the connection for ever.

    So would an answer that the client does not read: `close` waits until all of it is sent, so this class uses `abort`.
    """

    _in_head = True
    _head = 0  # bytes of it so far
    _counted = True  # whether all of this read belongs to it
    _arriving = True
    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._read()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._in_head = self._arriving = True
        self._counted = False  # it may begin anywhere in this read, behind a large body or many requests
        self._head = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if len(self.connections) > MAX_CONNECTIONS:
            self.app = _overloaded  # of this connection, which ends with the answer
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Malformed HTTP also gets an envelope with a request id; it reaches no other code of ours."""
        content = Failure(400, "err_invalid_request", msg).body()
        headers = [CONTENT_TYPE, *SECURITY, (b"x-request-id", new_request_id().encode()), *CLOSE]
        headers.append((b"content-length", b"%d" % len(content)))
        lines = b"".join([b"%s: %s\r\n" % header for header in headers])
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + lines + b"\r\n" + content)
        self.transport.close()

    def on_message_complete(self) -> None:
        self._arrived()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        self._counted = True
        super().data_received(data)
        if self.transport.is_closing():
            self._wait_for_reader()
            return
        if self._in_head:
            self._head += len(data) if self._counted else 0
            if self._head > MAX_HEAD:
                self.send_400_response("Request head is too large.")
                return
        if self._arriving:
            self._expect()

    def _expect(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(ARRIVAL_TIMEOUT, self.transport.abort)

    def _arrived(self) -> None:
        self._arriving = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()
        self._wait_for_reader()  # for the rest

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        """Start the timer, unless it runs already or there is nothing to wait for."""
        if self._unread is None:
            waiting = self.transport.get_write_buffer_size()
            if waiting:
                self._unread = self.loop.call_later(UNREAD_TIMEOUT, self._check_reader, waiting)

    def _check_reader(self, before: int) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:  # slow, but it reads
            self._wait_for_reader()

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


async def _overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    failure = Failure(503, "err_too_many_connections", "Too many connections, try again in a moment", retryable=True)
    headers = [CONTENT_TYPE, *SECURITY, (b"x-request-id", new_request_id().encode()), (b"retry-after", b"1"), *CLOSE]
    await reply(send, failure.status, failure.body(), headers)


class _Uvicorn(uvicorn.Server):
    """uvicorn's server without signal handlers, which belong to the composition root; `start` returns when it
    listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Once a second, for the Date header; uvicorn's own loop polls a flag ten times a second."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 10
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.leaving.wait(), 1.0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Without the tenth of a second that uvicorn sleeps before it looks for something to wait for."""
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        try:
            await asyncio.wait_for(self._all_ended(), self.config.timeout_graceful_shutdown)
        except TimeoutError:
            await self._cut()

    async def _cut(self) -> None:
        """Cut the remaining connections: a client that does not read would keep its call waiting."""
        for connection in list(self.server_state.connections):
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()
        for task in (tasks := set(self.server_state.tasks)):
            logging.getLogger("uvicorn.error").warning("a call was cut off: it took longer than the stop may")
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()  # a close waits for TLS clients to say good-bye
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_ended(), LAST_WORDS)

    async def _all_ended(self) -> None:
        while True:
            for connection in list(self.server_state.connections):  # also one that was just being accepted
                if not connection.transport.is_closing():  # asyncio's TLS transport is deaf after a second close
                    connection.shutdown()
            await asyncio.sleep(END_LOOK)
            if not self.server_state.connections and not self.server_state.tasks:
                return

    def leave(self) -> None:
        self.should_exit = True
        self.leaving.set()


class _Application:
    """Passes API calls straight to their front; Starlette routes the rest. Its routing costs as much as a fast call."""

    def __init__(self, api: GatewayApi, admin: AdminApi, pages: Starlette) -> None:
        self._api = api
        self._admin = admin
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("/" + scope["path"].lstrip("/")).startswith(PREFIXES):
            await self._api(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith(ADMIN):
            await self._admin(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


def application(services: Services, guard: Guard | None = None, callers: Callers | None = None) -> ASGIApp:
    """The application with everything on the one port."""
    guard = guard or Guard(services)
    api = GatewayApi(services, guard, callers)
    routes: list[BaseRoute] = [
        *health.routes(services),
        *metrics.routes(services, api.callers),
        Mount("/console", routes=console.routes(services, guard)),
        Route("/", _to_console),
        Route("/console", _to_console),
    ]
    pages = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _wrong_method, Exception: _failed})
    enveloped = Envelop(
        _Application(api, AdminApi(services, api.callers, api.functions), pages), services.log, guard.folded
    )
    trusted = services.settings.http.trusted_proxies
    return Behind(enveloped, Proxies(trusted)) if trusted else enveloped


async def _to_console(request: Request) -> Response:
    return RedirectResponse("/console/", 302)


def _enveloped(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    return Response(failure.body(), failure.status, headers, media_type="application/json")


async def _not_found(request: Request, problem: Exception) -> Response:
    return _enveloped(Failure(404, "err_url_not_found", f"Nothing at {request.url.path[:200]}"))


async def _wrong_method(request: Request, problem: Exception) -> Response:
    headers = dict(getattr(problem, "headers", None) or {})
    text = f"Method {request.method[:20]} is not allowed: use {headers.get('Allow', 'another')}"
    return _enveloped(Failure(405, "err_method_not_allowed", text), headers)


async def _failed(request: Request, problem: Exception) -> Response:
    """The answer for a bug; Envelop logs the traceback."""
    return _enveloped(Failure(500, "err_internal", "Internal error"))


class _Current:
    """The application for the current settings; running requests keep the one they started with."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class HttpServer:
    """`start`, then `addresses`, then `stop`."""

    def __init__(self, settings: Settings, services: Services, log: Log) -> None:
        self._listen = settings.http.listen
        self._log = log
        self.guard = Guard(services)
        self._services = services
        self._callers = Callers(services, self.guard)
        self._app = _Current(application(services, self.guard, self._callers))
        self._handler = ToOurLog(log, self.guard.folded)
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self._data = settings.data
        self._tls = settings.http.tls
        self._watch: asyncio.Task[None] | None = None
        self.addresses: list[Address] = []

    def apply(self, settings: Settings) -> None:
        """New settings for calls from now on; the listeners stay."""
        self._services = services = msgspec.structs.replace(self._services, settings=settings)
        self.guard.apply(settings)
        self._callers.apply(services)
        self._app.app = application(services, self.guard, self._callers)

    async def start(self) -> None:
        certificate = Certificate(self._tls, self._data, self._log, self.guard.trail) if self._tls.certificate else None
        sockets = bound(self._listen)
        self.addresses = [address_of(one) for one in sockets]
        config = uvicorn.Config(
            self._app,
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the caller's address decides about /metrics: only trusted proxies may claim another
            ssl_context_factory=None if certificate is None else lambda config, default: certificate.context,
            timeout_keep_alive=KEEP_ALIVE,
            backlog=BACKLOG,
        )
        logger = logging.getLogger("uvicorn.error")
        logger.addHandler(self._handler)
        logger.propagate = False
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve(sockets=sockets), name="http")
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._task  # raises what went wrong
        if certificate is not None:
            self._watch = asyncio.create_task(certificate.watch(), name="http-certificate")

    async def stop(self, grace: float) -> None:
        """Close idle connections at once; running requests have `grace` seconds."""
        if self._server is None or self._task is None:
            return
        if self._watch is not None:
            self._watch.cancel()
        # Declared as whole seconds, but only handed to asyncio.wait_for, which takes any.
        self._server.config.timeout_graceful_shutdown = grace  # type: ignore[assignment]
        self._server.leave()
        await self._task
        await self.guard.trail.close()
        self.guard.folded.close()
        logging.getLogger("uvicorn.error").removeHandler(self._handler)
        self._server = self._task = None
