"""The entry point of the vendor-compatible API: one ASGI application for `/api/...` and `/oauth/token`.

Promises: checks in the recorded order - rate limit, credentials, application id, signature, permission, body, function;
every answer is an envelope, also for our own failures, whose details stay in the log. `callers` authenticates; changing
calls are audited. Fails: never; an exception becomes a 500 envelope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import Receive, Scope, Send

from postroom.errors import EnvironmentFailed
from postroom.http.asgi import BodyStalled, BodyTooLarge, Headers, log_failure, read_all, reply, request_id
from postroom.http.door import bearer
from postroom.http.door.callers import Admitted, Callers, caller_address, too_many
from postroom.http.door.guard import Guard
from postroom.http.door.limiter import Allowance
from postroom.http.gateway.call import Call, read_call
from postroom.http.gateway.calls import (
    account,
    find,
    held,
    login,
    oauth,
    queues,
    rejections,
    release,
    release_logs,
    tracking,
)
from postroom.http.gateway.calls.keyless import Door, Knock, read_json
from postroom.http.gateway.replays import Replays
from postroom.http.gateway.wire.envelope import CONTENT_TYPE, RECORDED_HEADERS, Failure, refusal
from postroom.http.gateway.wire.lenient import MAX_BODY
from postroom.http.services import Services
from postroom.model import Action
from postroom.store import logs, permissions

PREFIX = "/api/"
PREFIXES = (PREFIX, oauth.PATH)
_CLOSE = ((b"connection", b"close"),)  # the rest of a body that is too large is not waited for


class Function(msgspec.Struct, frozen=True):
    """One address of the API. `run` gives the body of a 200 answer; `changes`: it is no mere look (replays.py, audit
    log).

    An empty `permission`: every caller with any permission may call this.
    """

    permission: str
    run: Callable[[Call], Awaitable[bytes]]
    changes: bool = False


def functions(services: Services) -> dict[str, Function]:
    """The table of all functions for signed calls and calls with a token."""
    return {
        find.PATH: Function(permissions.PROCESSING_READ, find.function(services)),
        held.LIST: Function(permissions.DASHBOARD_READ, held.function(services)),
        held.SUMMARY: Function(permissions.HELD_SUMMARY_READ, held.HeldSummary(services)),
        release.RELEASE: Function(
            permissions.needed(Action.RELEASE, held=True), release.HoldRelease(services), changes=True
        ),
        release.REJECT: Function(
            permissions.needed(Action.REJECT, held=True), release.HoldReject(services), changes=True
        ),
        release_logs.PATH: Function(permissions.HELD_READ, release_logs.function(services)),
        queues.PATH: Function(permissions.DASHBOARD_READ, queues.EmailQueues(services)),
        tracking.SEARCH: Function(permissions.TRACKING_READ, tracking.Search(services)),
        tracking.INFO: Function(permissions.TRACKING_READ, tracking.MessageInfo(services)),
        rejections.PATH: Function(permissions.REJECTIONS_READ, rejections.function(services)),
        account.PATH: Function(permissions.DASHBOARD_READ, account.GetAccount(services)),
    }


class GatewayApi:
    def __init__(self, services: Services, guard: Guard, callers: Callers | None = None) -> None:
        """`callers`: kept from before a reload."""
        self._services = services
        self._trail = guard.trail
        self.callers = callers or Callers(services, guard)
        self._replays = Replays(services.store, guard.running)
        self.functions = functions(services)
        self._doors: dict[str, Door] = {
            login.LOGIN: login.Login(services, guard, self.callers),
            login.DISCOVER: login.Discover(services, self.callers),
            oauth.PATH: oauth.TokenDoor(services, guard, self.callers),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "/" + scope["path"].lstrip("/")  # `//api/..` of a doubled slash (contract 6.4)
        counted = Counted(self.callers.untouched())
        try:
            door = self._doors.get(path)
            if door is None:
                body = await self._called(path, scope, receive, counted)
            else:
                body = await self._knocked(door, scope, receive, counted)
            await reply(send, 200, body, [CONTENT_TYPE, *RECORDED_HEADERS, *counted.allowance.headers()])
        except Failure as failure:
            await reply(send, failure.status, failure.body(), _headers(counted, failure.headers))
        except Exception as problem:  # noqa: BLE001 - the last line: a bug must not leave the client without an envelope
            await self._broken(scope, send, problem, counted)

    async def _called(self, path: str, scope: Scope, receive: Receive, counted: Counted) -> bytes:
        """A signed call, or one with a token."""
        function = self.functions.get(path)
        admitted, counted.allowance = await self.callers.admit(scope, path if function else "")
        if not counted.allowance.allowed:
            raise too_many(counted.allowance)
        if function is None:
            if isinstance(admitted, Admitted) and admitted.signature is None:
                raise bearer.no_such_function()
            raise Failure(404, "err_url_not_found", f"No function at {path[:200]}")
        if scope["method"] != "POST":
            raise wrong_method(scope)
        if isinstance(admitted, Failure):
            raise admitted
        if function.permission:
            self.callers.check_permission(scope, admitted.caller, path, function.permission)
        if function.changes:
            return await self._changed(path, scope, receive, admitted, function)
        return await _run(scope, await _data(scope, receive), admitted, function)

    async def _changed(
        self, path: str, scope: Scope, receive: Receive, admitted: Admitted, function: Function
    ) -> bytes:
        """Whatever becomes of it is written down, also when its body cannot be read."""
        outcome, why = logs.FAILED, None
        try:
            body = await self._once(scope, receive, admitted, function)
            why = refusal(body)
            outcome = logs.DONE if why is None else logs.REFUSED
        except Failure as failure:
            outcome, why = logs.REFUSED, failure
            raise
        finally:
            self._note(path, scope, admitted, outcome, why)
        return body

    async def _once(self, scope: Scope, receive: Receive, admitted: Admitted, function: Function) -> bytes:
        """The signature is bound to these bytes before they are parsed."""
        try:
            data = await _data(scope, receive)
        except Failure:
            await self._replays.use_up(admitted)
            raise
        return await self._replays.once(admitted, data, lambda: _run(scope, data, admitted, function))

    def _note(self, path: str, scope: Scope, admitted: Admitted, outcome: str, why: Failure | None) -> None:
        """Status and code only, because what was sent may contain secrets."""
        actor, detail = admitted.caller.actor, "" if why is None else f"{why.status} {why.fault.code}"
        self._trail.note("call", outcome=outcome, actor=actor, what=path, address=caller_address(scope), detail=detail)

    async def _knocked(self, door: Door, scope: Scope, receive: Receive, counted: Counted) -> bytes:
        """A call without keys; counts for its address."""
        counted.allowance = self.callers.count_unsigned(scope)
        if not counted.allowance.allowed:
            raise too_many(counted.allowance)
        if scope["method"] != "POST":
            raise wrong_method(scope)
        knock = Knock(scope, caller_address(scope), await _data(scope, receive))
        return await door(knock)

    async def _broken(self, scope: Scope, send: Send, problem: Exception, counted: Counted) -> None:
        """An answer without details: they are in the log, under the request id."""
        log_failure(self._services.log, scope, problem)
        environment = isinstance(problem, EnvironmentFailed)
        text = "Not available just now, try again" if environment else "Internal error"
        failure = Failure(500, "err_internal", text, retryable=environment)
        await reply(send, 500, failure.body(), _headers(counted, ()))


class Counted:
    """What the limiter has said so far of one request: every answer tells it, also of one that broke."""

    __slots__ = ("allowance",)

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance


def _headers(counted: Counted, more: tuple[tuple[bytes, bytes], ...]) -> Headers:
    told = {name for name, _ in more}
    return [CONTENT_TYPE, *[pair for pair in counted.allowance.headers() if pair[0] not in told], *more]


async def _data(scope: Scope, receive: Receive) -> bytes:
    try:
        return await read_all(scope, receive, MAX_BODY)
    except BodyTooLarge as problem:
        raise Failure(413, "err_body_too_large", f"Request {problem}", headers=_CLOSE) from None
    except BodyStalled:
        raise Failure(400, "err_body_incomplete", "Body did not arrive", retryable=True, headers=_CLOSE) from None


async def _run(scope: Scope, data: bytes, admitted: Admitted, function: Function) -> bytes:
    """`data`: the body as it came."""
    body = await read_json(data, once=function.changes)
    call = read_call(admitted.caller, request_id(scope), body, scope["query_string"].decode("latin-1"))
    return await function.run(call)


def wrong_method(scope: Scope) -> Failure:
    return Failure(
        405, "err_method_not_allowed", f"Method {scope['method'][:20]} is not allowed: use POST",
        headers=((b"allow", b"POST"),),
    )  # fmt: skip
