"""The door of the vendor-compatible API: one ASGI application for everything below `/api/`.

Promises: the recorded order - rate limiter, credentials, application id, signature, permission, body, function - and the
envelope for every outcome, our own failures included, whose details stay in the log. Only calls that an application has signed
count as its own; all others count for the address they come from, and cost no query once that has used up its share. Fails: never; an exception that
reaches it becomes a 500 envelope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import Receive, Scope, Send

from postroom.clock import SECOND
from postroom.errors import EnvironmentFailed
from postroom.http import auth
from postroom.http.asgi import BodyStalled, BodyTooLarge, log_failure, read_all, reply, request_id
from postroom.http.gateway import find
from postroom.http.gateway.call import Call, read_call
from postroom.http.gateway.envelope import CONTENT_TYPE, RECORDED_HEADERS, Failure
from postroom.http.gateway.reader import MAX_BODY, UnreadableBody, read_body
from postroom.http.limiter import Allowance, Limiter, network
from postroom.http.services import Services
from postroom.store import identity

PREFIX = "/api/"
_LARGE = 16 * 1024  # bytes; above this a body is read off the event loop (256 KiB of the worst kind take 0.15 s)
# Calls that no application has signed, of one address in a window: as recorded for unknown access keys (contract section 5).
_STRANGERS = (5000, 5 * SECOND)
_CLOSE = ((b"connection", b"close"),)  # the rest of a body that is too large is not waited for


class Function(msgspec.Struct, frozen=True):
    """One address of the API. `run` gives the body of a 200 answer."""

    permission: str
    run: Callable[[Call], Awaitable[bytes]]


class GatewayApi:
    def __init__(self, services: Services) -> None:
        api = services.settings.api
        self._services = services
        self._limiter = Limiter(services.clock, api.rate_limit, api.rate_window)
        self._strangers = Limiter(services.clock, *_STRANGERS)
        self._applications = auth.Applications(services.clock, self._find_app)
        self._functions: dict[str, Function] = {
            find.PATH: Function(identity.PROCESSING_READ, find.FindProcessingMessages(services)),
        }

    async def _find_app(self, app_id: str) -> identity.AppKeys | None:
        sealer = self._services.sealer
        return await self._services.store.read(lambda reader: identity.find_app(reader.connection, sealer, app_id))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "/" + scope["path"].lstrip("/")  # `//api/..` of a doubled slash (contract 6.4)
        function = self._functions.get(path)
        allowance = self._limiter.untouched()
        try:
            app, allowance = await self._counted(scope, path if function else "")
            if not allowance.allowed:
                raise _too_many(allowance, self._strangers if isinstance(app, Failure) else self._limiter)
            if function is None:
                raise Failure(404, "err_url_not_found", f"No function at {path[:200]}")
            if scope["method"] != "POST":
                raise Failure(
                    405, "err_method_not_allowed", f"Method {scope['method'][:20]} is not allowed: use POST",
                    headers=((b"allow", b"POST"),),
                )  # fmt: skip
            if isinstance(app, Failure):
                raise app
            auth.check_permission(app, function.permission)
            body = await function.run(read_call(app, request_id(scope), await self._body(scope, receive)))
            headers = [CONTENT_TYPE, *RECORDED_HEADERS, *allowance.headers()]
            await reply(send, 200, body, headers)
        except Failure as failure:
            headers = [CONTENT_TYPE, *allowance.headers(), *failure.headers]
            await reply(send, failure.status, failure.body(), headers)
        except BodyStalled:
            headers = [CONTENT_TYPE, *allowance.headers(), *_CLOSE]
            late = Failure(400, "err_body_incomplete", "Body did not arrive", retryable=True)
            await reply(send, late.status, late.body(), headers)
        except Exception as problem:  # noqa: BLE001 - the last line: a bug must not leave the client without an envelope
            await self._broken(scope, send, problem, allowance)

    async def _counted(self, scope: Scope, function: str) -> tuple[identity.AppKeys | Failure, Allowance]:
        """Who calls, or why that is refused: told only after the limiter and what else comes first have judged."""
        stranger = network((scope.get("client") or ("",))[0])
        try:
            found: identity.AppKeys | Failure = await self._signer(scope, stranger)
        except Failure as failure:
            found = failure
        if isinstance(found, Failure):
            return found, self._strangers.take(stranger, "")
        return found, self._limiter.take(found.app_id, function)

    async def _signer(self, scope: Scope, stranger: str) -> identity.AppKeys:
        """The application that has signed this request, just now. Raises Failure."""
        services = self._services
        request = auth.read_request(scope["headers"], scope.get("raw_path") or b"", scope["query_string"])
        auth.check_realm(request.authorization)
        if self._strangers.spent(stranger, "") and not self._applications.met(request.app_id):
            raise auth.invalid_app_id(request.app_id)  # not looked up: the limiter will refuse it anyway
        app = await self._applications.find(request.app_id)
        if app is None:
            raise auth.invalid_app_id(request.app_id)
        if not auth.signed_by(request, app):
            raise auth.invalid_signature()
        auth.check_date(request.date, services.clock.now(), services.settings.api.clock_tolerance)
        return app

    async def _body(self, scope: Scope, receive: Receive) -> object:
        try:
            data = await read_all(scope, receive, MAX_BODY)
            return read_body(data) if len(data) <= _LARGE else await asyncio.to_thread(read_body, data)
        except BodyTooLarge as problem:
            raise Failure(413, "err_body_too_large", f"Request {problem}", headers=_CLOSE) from None
        except UnreadableBody as problem:
            raise Failure(400, "err_invalid_json", f"Request {problem}") from None

    async def _broken(self, scope: Scope, send: Send, problem: Exception, allowance: Allowance) -> None:
        """Without details: those are in the log, under the request id."""
        log_failure(self._services.log, scope, problem)
        environment = isinstance(problem, EnvironmentFailed)
        text = "Not available just now, try again" if environment else "Internal error"
        failure = Failure(500, "err_internal", text, retryable=environment)
        await reply(send, 500, failure.body(), [CONTENT_TYPE, *allowance.headers()])


def _too_many(allowance: Allowance, limiter: Limiter) -> Failure:
    return Failure(
        429, "err_rate_limit_exceeded",
        f"Too many calls: at most {allowance.limit} in {limiter.window} ms, more in {allowance.reset} ms",
        retryable=True,
    )  # fmt: skip
