"""Calls and operations of `/v1`, and how parameters are read.

Fails: Refused names the parameter and what was expected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from postroom import query
from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.door.auth import Caller
from postroom.http.gateway.wire.dates import parse_date
from postroom.http.services import Services
from postroom.ids import parse_public_id

T = TypeVar("T")


class Refused(PeerError):
    """`field`: the wrong parameter, if there is one."""

    def __init__(
        self, status: int, code: str, detail: str, field: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.field, self.headers = status, code, field, headers
        self.query: query.QueryProblem | None = None  # what is wrong with a line of the search language


class Asked(msgspec.Struct, frozen=True):
    """A call as its operation sees it: authenticated and permitted."""

    services: Services
    caller: Caller
    path: dict[str, str]
    query: dict[str, list[str]]
    body: Any


class Parameter(msgspec.Struct, frozen=True):
    name: str
    place: str  # "path" or "query"
    text: str
    schema: dict[str, Any]


class Operation(msgspec.Struct, frozen=True):
    """`path` has {names}; the schema is made from the types `answers` and `takes`."""

    method: str
    path: str
    name: str
    permission: str
    summary: str
    run: Callable[[Asked], Awaitable[Any]]
    answers: Any
    takes: Any = None
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = ()  # beside 400, 401, 403, 429


# -- reading parameters


def read_one(asked: Asked, name: str) -> str:
    """Empty: not given."""
    found = asked.query.get(name, [])
    if len(found) > 1:
        raise Refused(400, "bad_parameter", f"{name}: given more than once", name)
    return found[0] if found else ""


def read_word(asked: Asked, name: str, words: Mapping[str, T], default: T) -> T:
    text = read_one(asked, name)
    if text and text not in words:
        raise unexpected(name, f"one of {', '.join(words)}", text)
    return words[text] if text else default


def read_several(asked: Asked, name: str, kind: Callable[[str], T], words: Sequence[str]) -> tuple[T, ...]:
    """Separated by commas, or from a repeated parameter."""
    texts = [text for part in asked.query.get(name, []) for text in part.split(",") if text]
    for text in texts:
        if text not in words:
            raise unexpected(name, f"some of {', '.join(words)}", text)
    return tuple(kind(text) for text in dict.fromkeys(texts))


def read_time(asked: Asked, name: str, *, last: bool = False) -> Millis | None:
    text = read_one(asked, name)
    if not text:
        return None
    moment = parse_date(text)
    if moment is None:
        raise unexpected(name, "a time such as 2026-11-22T10:00:00Z", text)
    return moment.last if last else moment.at


def read_number(asked: Asked, name: str, default: int, least: int, most: int) -> int:
    text = read_one(asked, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise unexpected(name, f"a number from {least} to {most}", text)
    return int(text)


def read_ident(text: str, name: str) -> int:
    try:
        return parse_public_id(text)
    except PeerError:
        raise unexpected(name, "an id of up to 16 hexadecimal digits", text) from None


def unexpected(name: str, expected: str, text: str) -> Refused:
    return Refused(400, "bad_parameter", f"{name}: expected {expected}, got {text[:60]!r}", name)
