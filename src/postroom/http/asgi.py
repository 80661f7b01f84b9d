"""The parts of ASGI that we implement ourselves, and the headers of every answer.

Promises: every answer has `x-request-id` (the client's own if it is usable) and the security headers. Fails:
BodyTooLarge while the body streams in, BodyStalled when it does not arrive.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postroom.errors import EnvironmentFailed, PeerError
from postroom.http.door.folded import Folded
from postroom.telemetry import Log

Headers = list[tuple[bytes, bytes]]

MAX_REQUEST_ID = 128
BODY_TIMEOUT = 30.0  # seconds for a whole request body
SECURITY: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
CLOSE: tuple[tuple[bytes, bytes], ...] = ((b"connection", b"close"),)
HSTS = (
    b"strict-transport-security",
    b"max-age=31536000",
)  # a year (RFC 6797); other hosts of the domain are not ours to bind


class BodyTooLarge(PeerError):
    """The body is larger than the limit, as declared or as received."""


class BodyStalled(PeerError):
    """The body did not arrive in time, or the client disconnected."""


def request_id(scope: Scope) -> str:
    """The id of this request in its answer and in the log."""
    return str(scope["state"]["request_id"])


def new_request_id() -> str:
    """A UUID of version 4 (RFC 9562 5.4). It names a request and opens nothing, so no system call is made for it: one
    would let go of the interpreter in the middle of each request."""
    bits = f"{random.getrandbits(128):032x}"
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


class Envelop:
    """Wraps the whole application: gives each request its id, adds headers to each answer, logs each bug."""

    def __init__(self, app: ASGIApp, log: Log, folded: Folded) -> None:
        self._app = app
        self._log = log
        self._folded = folded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        ident = _client_id(scope) or new_request_id()
        dressed = [*SECURITY, HSTS] if scope["scheme"] == "https" else SECURITY
        scope.setdefault("state", {}).update(request_id=ident, folded=self._folded)

        async def send_dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in headers}
                headers += [header for header in dressed if header[0] not in there]
                headers.append((b"x-request-id", ident.encode()))
            await send(message)

        left = False

        async def receive_watched() -> Message:
            nonlocal left
            message = await receive()
            left = left or message["type"] == "http.disconnect"
            return message

        try:
            await self._app(scope, receive_watched, send_dressed)
        except Exception as problem:  # noqa: BLE001 - answered where it was caught first; logged here
            if left:  # the client went away while its request was read: its right, and no failure of ours
                self._log.debug(
                    "http_client_left", request=ident, path=scope["path"][:200], error=type(problem).__name__
                )
            else:
                log_failure(self._log, scope, problem)


def log_failure(log: Log, scope: Scope, problem: Exception) -> None:
    """The client gets only the request id (a header); the details go to the log, folded while the store fails."""
    trace = "".join(traceback.format_exception(problem))
    request, path, error = request_id(scope), scope["path"][:200], type(problem).__name__
    folded: Folded | None = scope["state"].get("folded")
    if folded is not None and isinstance(problem, EnvironmentFailed):
        folded.error("http_failed", {"error": error}, request=request, path=path, trace=trace)
    else:
        log.error("http_failed", request=request, path=path, error=error, trace=trace)


def _client_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= MAX_REQUEST_ID:
            text: str = value.decode("latin-1")
            return text if text.isascii() and text.isprintable() and " " not in text else None
    return None


async def read_all(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body, at most `limit` bytes of it ever in memory."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise BodyTooLarge(f"body of {value[:20].decode()} bytes: expected at most {limit}")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while True:
                message: dict[str, Any] = dict(await receive())
                if message["type"] == "http.disconnect":
                    raise BodyStalled("the client left before its body was complete")
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise BodyTooLarge(f"body of more than {limit} bytes: expected at most that")
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise BodyStalled(f"the body did not come within {BODY_TIMEOUT:g} seconds") from None


async def reply(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
