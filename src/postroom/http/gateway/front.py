"""The door of the vendor-compatible API: one ASGI application for everything below `/api/`.

Promises: the recorded order - rate limiter, credentials, application id, signature, permission, body, function - and the
envelope for every outcome, our own failures included, whose details stay in the log. Fails: never; an exception that
reaches it becomes a 500 envelope.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import Receive, Scope, Send

from postroom.errors import EnvironmentFailed
from postroom.http import auth
from postroom.http.asgi import BodyStalled, BodyTooLarge, log_failure, read_all, reply, request_id
from postroom.http.gateway import find
from postroom.http.gateway.call import Call, read_call
from postroom.http.gateway.envelope import CONTENT_TYPE, RECORDED_HEADERS, Failure
from postroom.http.gateway.reader import MAX_BODY, UnreadableBody, read_body
from postroom.http.limiter import Allowance, Limiter
from postroom.http.services import Services
from postroom.store import identity

PREFIX = "/api/"
_LARGE = 16 * 1024  # bytes; above this a body is read off the event loop (256 KiB of the worst kind take 0.15 s)
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
            app = await self._known_app(scope)
            caller = f"app {app.app_id}" if app else f"from {(scope.get('client') or ('',))[0]}"
            allowance = self._limiter.take(caller, path if function else "")
            if not allowance.allowed:
                raise Failure(
                    429, "err_rate_limit_exceeded",
                    f"Too many calls: at most {allowance.limit} in {self._services.settings.api.rate_window} ms, "
                    f"more in {allowance.reset} ms", retryable=True,
                )  # fmt: skip
            if function is None:
                raise Failure(404, "err_url_not_found", f"No function at {path[:200]}")
            if scope["method"] != "POST":
                raise Failure(
                    405, "err_method_not_allowed", f"Method {scope['method'][:20]} is not allowed: use POST",
                    headers=((b"allow", b"POST"),),
                )  # fmt: skip
            body = await self._run(function, app, scope, receive)
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

    async def _known_app(self, scope: Scope) -> identity.AppKeys | None:
        """The limiter counts by application, so that it is looked up first; it is judged later."""
        for name, value in scope["headers"]:
            if name == b"x-mc-app-id":
                return await self._applications.find(value)
        return None

    async def _run(self, function: Function, app: identity.AppKeys | None, scope: Scope, receive: Receive) -> bytes:
        services = self._services
        request = auth.read_request(scope["headers"], scope.get("raw_path") or b"", scope["query_string"])
        auth.check_realm(request.authorization)
        if app is None:
            raise auth.invalid_app_id(request.app_id)
        if not auth.signed_by(request, app):
            raise auth.invalid_signature()
        auth.check_date(request.date, services.clock.now(), services.settings.api.clock_tolerance)
        auth.check_permission(app, function.permission)
        call = read_call(app, request_id(scope), await self._body(scope, receive))
        return await function.run(call)

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
