"""The entry point of our own API: one ASGI application for everything below `/v1/`.

Promises: every operation needs an OAuth access token (`POST /oauth/token`) and a permission; every error has one shape,
Problem (RFC 9457), with the request id to look for in the log; rate headers as everywhere. Schema and documentation
need no token: they say nothing about this gateway. Fails: never; an exception becomes a 500 problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from postroom.errors import EnvironmentFailed
from postroom.http.admin.asked import Asked, Operation, Refused
from postroom.http.admin.operations import OPERATIONS
from postroom.http.admin.shapes import Problem
from postroom.http.asgi import CLOSE, BodyStalled, BodyTooLarge, Headers, log_failure, read_all, reply, request_id
from postroom.http.door.callers import Callers
from postroom.http.gateway.front import Function
from postroom.http.gateway.wire.envelope import Failure
from postroom.http.schema.openapi import document
from postroom.http.schema.openapi_page import PAGE_POLICY, page
from postroom.http.services import Services
from postroom.query import QueryProblem

PREFIX = "/v1/"
SCHEMA = PREFIX + "openapi.json"
DOCS = PREFIX + "docs"
MAX_BODY = 16 * 1024
MAX_PARAMETERS = 100
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_FRESH = (b"cache-control", b"no-store")


class _Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an operation that takes none: clients may send `{}`."""


class _Route(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    operations: dict[str, Operation]  # by method


class AdminApi:
    def __init__(self, services: Services, callers: Callers, functions: Mapping[str, Function]) -> None:
        self._services = services
        self._callers = callers
        by_path: dict[str, dict[str, Operation]] = {}
        for operation in OPERATIONS:
            by_path.setdefault(operation.path, {})[operation.method] = operation
        self._routes = [
            _Route(re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), found) for path, found in by_path.items()
        ]
        self._functions = functions

    @cached_property
    def _documents(self) -> dict[str, tuple[bytes, Headers]]:
        """Built at the first request: they take 20 ms, which would slow down start and reload."""
        schema = document(self._functions)
        return {
            SCHEMA: (msgspec.json.encode(schema), [_JSON]),
            DOCS: (page(schema), [(b"content-type", b"text/html; charset=utf-8"), PAGE_POLICY]),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wrong: QueryProblem | None = None
        counted: Headers = []  # the rate headers, once known; every answer has them
        try:
            body, headers = await self._answer(scope, receive, counted)
            await reply(send, 200, body, [*headers, *counted])
            return
        except Refused as refused:
            problem, headers = (refused.status, refused.code, str(refused), refused.field), list(refused.headers)
            wrong = refused.query
        except Failure as failure:  # from `callers`, with the rate headers already
            problem, headers = (failure.status, failure.fault.code, failure.fault.message, ""), list(failure.headers)
        except EnvironmentFailed as failed:
            log_failure(self._services.log, scope, failed)
            problem, headers = (503, "unavailable", "Not available just now, try again", ""), []
        except Exception as bug:  # noqa: BLE001 - the last line: a bug must not leave the client without an answer
            log_failure(self._services.log, scope, bug)
            problem, headers = (500, "internal", "Internal error", ""), []
        status, code, detail, field = problem
        told = Problem(HTTPStatus(status).phrase, status, code, detail, request_id(scope), field)
        if wrong is not None:
            told = msgspec.structs.replace(told, what=wrong.what, at=wrong.at, meant=wrong.meant)
        body = msgspec.json.encode(told)
        await reply(send, status, body, [_PROBLEM, _FRESH, *headers, *counted])

    async def _answer(self, scope: Scope, receive: Receive, counted: Headers) -> tuple[bytes, Headers]:
        path, method = scope["path"], scope["method"]
        if path in (SCHEMA, DOCS):
            if method not in ("GET", "HEAD"):
                raise _wrong_method(method, ["GET"])
            body, headers = self._documents[path]
            return (body if method == "GET" else b""), list(headers)
        found = next(((route, match) for route in self._routes if (match := route.pattern.fullmatch(path))), None)
        operation = found[0].operations.get(method) if found else None
        # Whoever has no token does not learn what there is.
        caller, allowance = await self._callers.bearer(
            scope, operation.path if operation else "", operation.permission if operation else ""
        )
        counted += allowance.headers()
        if found is None:
            raise Refused(404, "not_found", f"nothing at {path[:200]}: see /v1/docs")
        if operation is None:
            raise _wrong_method(method, list(found[0].operations))
        try:
            body = await _body(scope, receive, operation)
            asked = Asked(self._services, caller, found[1].groupdict(), _query(scope, operation), body)
            answer = await operation.run(asked)
        except Refused as refused:
            if method != "GET":
                self._callers.note_unchanged(scope, caller, operation.path, f"{refused.status} {refused.code}")
            raise
        return msgspec.json.encode(answer), [_JSON, _FRESH]


async def _body(scope: Scope, receive: Receive, operation: Operation) -> Any:
    try:
        data = await read_all(scope, receive, MAX_BODY)
    except BodyTooLarge as large:
        raise Refused(413, "body_too_large", str(large), headers=CLOSE) from None
    except BodyStalled as stalled:
        raise Refused(400, "body_incomplete", str(stalled), headers=CLOSE) from None
    if operation.method == "GET" or not data.strip():  # RFC 9110 9.3.1: a body of GET means nothing
        return None
    try:
        found = msgspec.json.decode(data, type=operation.takes or _Nothing)
        json.loads(data, object_pairs_hook=_once)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise Refused(400, "bad_body", f"body: {problem}") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> None:
    """Refuses repeated names: we would have to ignore one of the values, without knowing which one was meant."""
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise ValueError(f"{name[:60]!r} comes twice")
        names.add(name)


def _query(scope: Scope, operation: Operation) -> dict[str, list[str]]:
    """Parameters by name; an unknown one is refused."""
    known = [parameter.name for parameter in operation.parameters if parameter.place == "query"]
    try:
        found = parse_qs(
            scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError:
        raise Refused(400, "bad_parameter", "the query could not be read: expected name=value, in UTF-8") from None
    for name in found.keys() - set(known):
        expected = f"expected some of {', '.join(known)}" if known else "there are none here"
        raise Refused(400, "bad_parameter", f"{name[:60]!r} is no parameter: {expected}", name[:60])
    return found


def _wrong_method(method: str, allowed: list[str]) -> Refused:
    text = f"method {method[:20]} is not allowed: use {' or '.join(allowed)}"
    return Refused(405, "method_not_allowed", text, headers=((b"allow", ", ".join(allowed).encode()),))
