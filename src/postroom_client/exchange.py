"""One call, without a socket: signs, judges the answer, decides whether to try again. Both clients drive this.

`find_page` is a generator. It yields a `Request` and expects an `Answer` or `Unreachable`, or yields a `Wait` and
expects None; it returns the page. Promises: signs every attempt anew with a fresh date and id; limits the number of
tries and the waiting time. Fails: raises the errors of `postroom_client.errors`.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from postroom_client.credentials import Credentials
from postroom_client.errors import (
    ApiError,
    ConnectionFailed,
    Failure,
    InvalidApplication,
    PostroomClientError,
    RateLimited,
    ServerFailed,
    UnexpectedAnswer,
    error_class,
)
from postroom_client.message import Page, read_page
from postroom_client.query import Query
from postroom_client.signing import signed_headers

FIND_PROCESSING_MESSAGES = "/api/gateway/find-processing-messages"
AWAY = (502, 503, 504)  # what proxies answer when they cannot reach the gateway
MOST_DIGITS = 12  # of a wait in milliseconds: thirty years; int() refuses very long numbers
SHORTEST_WAIT = 0.05  # a reset of 0 ms means "now"; never spin


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to retry. `first_wait` doubles each time; a requested wait beyond `longest_wait` means giving up."""

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise ValueError("retries: expected at least one attempt and waits that are not negative")

    def wait_after(self, attempt: int, problem: PostroomClientError) -> float | None:
        """Seconds until the next attempt; None: give up. Finding only reads, so repeating is always safe."""
        if attempt >= self.attempts:
            return None
        # Up to a quarter more, so that clients stopped by one event do not come back together.
        growing: float = min(self.first_wait * 2 ** (attempt - 1), self.longest_wait) * (
            1 + secrets.randbelow(256) / 1024
        )
        match problem:
            case RateLimited(wait=wait):
                asked = growing if wait is None else max(wait, SHORTEST_WAIT)
                return asked if asked <= self.longest_wait else None
            case ConnectionFailed():
                return growing
            case ServerFailed(status=status) if status in AWAY:
                return growing
            case InvalidApplication() if attempt == 1:  # the vendor sometimes says so of a valid one
                return growing
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """Send it as it is: POST, these headers, this body."""

    path: str
    body: bytes
    request_id: str
    headers: Mapping[str, str] = field(repr=False)  # they hold the signature


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers`: names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No whole answer came; `reason` is for people."""

    reason: str


Step = Request | Wait
Reply = Answer | Unreachable | None


def find_page(
    credentials: Credentials, query: Query, token: str | None, retries: Retries
) -> Generator[Step, Reply, Page]:
    """One page, with as many attempts as `retries` allows."""
    body = query.body(token)
    attempt = 0
    while True:
        attempt += 1
        request = sign(credentials, FIND_PROCESSING_MESSAGES, body)
        reply = yield request
        assert reply is not None
        try:
            page = judge(request, reply)
        except PostroomClientError as problem:
            wait = retries.wait_after(attempt, problem)
            if wait is None:
                raise
        else:
            if token is not None and page.next_token == token:  # would be asked for ever
                raise _unexpected("the answer's next page is itself", 200, page.request_id)
            return page
        yield Wait(wait)


def sign(credentials: Credentials, path: str, body: bytes) -> Request:
    """A request of now, with a new id."""
    request_id = str(uuid.uuid4())
    return Request(
        path, body, request_id, signed_headers(credentials, path, now=datetime.now(UTC), request_id=request_id)
    )


def judge(request: Request, reply: Answer | Unreachable) -> Page:
    """What the reply means. A non-empty `fail` is a failure, whatever the HTTP status (contract section 0, fact 1)."""
    if isinstance(reply, Unreachable):
        raise ConnectionFailed(f"no answer to {request.path}: {reply.reason} [request {request.request_id}]")
    request_id = reply.headers.get("x-request-id") or request.request_id
    envelope = _envelope(reply.body)
    failures = _failures(envelope.get("fail"))
    if reply.status != 200 or failures:
        raise _problem(reply, failures, request_id)
    meta, data = envelope.get("meta"), envelope.get("data")
    if not isinstance(meta, dict) or not isinstance(data, list):
        raise _unexpected(f"HTTP 200 without meta and data: {_excerpt(reply.body)}", reply.status, request_id)
    try:
        return read_page(meta, data, request_id)
    except ValueError as problem:
        raise _unexpected(str(problem), reply.status, request_id) from None


def _problem(reply: Answer, failures: tuple[Failure, ...], request_id: str) -> ApiError:
    # Some failures come with an empty body or a proxy's page: then only the status says anything.
    failures = failures or (Failure(f"http_{reply.status}", _excerpt(reply.body)),)
    kind = error_class(reply.status, failures[0])
    if kind is ApiError and failures[0].code.startswith("http_"):
        kind = UnexpectedAnswer
    error = kind(failures, status=reply.status, request_id=request_id)
    if isinstance(error, RateLimited):
        error.wait = _wait_asked_for(reply.headers)
    return error


def _unexpected(message: str, status: int, request_id: str) -> UnexpectedAnswer:
    return UnexpectedAnswer((Failure("unexpected_answer", message),), status=status, request_id=request_id)


def _envelope(body: bytes) -> Mapping[str, object]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _failures(fail: object) -> tuple[Failure, ...]:
    """Both shapes: `fail[].errors[]` of the functions, flat `fail[]` of the vendor's 2.0 front door (contract 2)."""
    found: list[Failure] = []
    for element in fail if isinstance(fail, list) else ():
        if not isinstance(element, dict):
            continue
        nested = element.get("errors")
        for error in nested if isinstance(nested, list) else [element]:
            if isinstance(error, dict):
                name, retryable = error.get("field"), error.get("retryable")
                found.append(
                    Failure(
                        _word(error.get("code")) or "unknown",
                        _word(error.get("message")),
                        name if isinstance(name, str) else None,
                        retryable if isinstance(retryable, bool) else None,
                    )
                )
    if not found and fail:
        found.append(Failure("unknown", "the answer has a fail element that cannot be read"))
    return tuple(found)


def _wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds. `X-RateLimit-Reset`: milliseconds (contract section 5); `Retry-After`: seconds, or a date (RFC 9110)."""
    reset = _whole_number(headers.get("x-ratelimit-reset", ""))
    if reset is not None:
        return reset / 1000
    after = headers.get("retry-after", "").strip()[:100]
    seconds = _whole_number(after)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, (parsedate_to_datetime(after) - datetime.now(UTC)).total_seconds())
    except (
        ValueError,
        TypeError,
        OverflowError,
        IndexError,
    ):  # email.utils raises any of these for a text that is no date
        return None


def _word(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _whole_number(text: str) -> int | None:
    text = text.strip()
    return int(text) if len(text) <= MOST_DIGITS and text.isascii() and text.isdigit() else None


def _excerpt(body: bytes) -> str:
    text = " ".join(body[:200].decode("utf-8", "replace").split())
    return text or "empty body"
