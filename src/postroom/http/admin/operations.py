"""The table of `/v1`: what can be asked, how, and with which permission. The published schema is made from it.

Fails: Refused names the parameter and what was expected; StoreUnavailable when the store cannot be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.admin.ledger import ledger
from postroom.http.admin.shapes import (
    Acted,
    Entries,
    LedgerShown,
    OneEntry,
    QueueCount,
    Queues,
    Reason,
    ended_shown,
    entry_shown,
    event_shown,
    message_shown,
    state,
)
from postroom.http.auth import Caller
from postroom.http.gateway.dates import parse_date
from postroom.http.services import Services
from postroom.ids import parse_public_id, public_id
from postroom.model import Action, Field, Filter, Order, Queue, Route, Scope
from postroom.store import permissions
from postroom.store.reader import Reader
from postroom.store.search import MAX_TEXT
from postroom.telemetry import stamp

MAX_LIMIT = 1000  # entries of one answer
LIMIT = 100

T = TypeVar("T")


class Refused(PeerError):
    """`field`: the parameter that is wrong, if one is."""

    def __init__(
        self, status: int, code: str, detail: str, field: str = "", headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.field, self.headers = status, code, field, headers


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
    """`path` has {names}; `answers` and `takes` are types, from which the schema is made."""

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


def _words(kind: type[Queue] | type[Route] | type[Field] | type[Order]) -> list[str]:
    return [one.value for one in kind]


_MANY = {"style": "form", "explode": False}
_FILTER = (
    Parameter("queue", "query", "Only in these queues; several are parted by commas.",
              {"type": "array", "items": {"type": "string", "enum": _words(Queue)}}),
    Parameter("route", "query", "Only on these routes.",
              {"type": "array", "items": {"type": "string", "enum": _words(Route)}}),
    Parameter("attachment", "query", "Only with, or only without attachment.", {"type": "boolean"}),
    Parameter("since", "query", "Accepted at or after this time.", {"type": "string", "format": "date-time"}),
    Parameter("until", "query", "Accepted at or before this time.", {"type": "string", "format": "date-time"}),
    Parameter("text", "query", "A substring, in any case.", {"type": "string", "maxLength": MAX_TEXT}),
    Parameter("field", "query", "Where to look for the text.", {"type": "string", "enum": _words(Field), "default": "all"}),
    Parameter("order", "query", "Which come first.", {"type": "string", "enum": _words(Order), "default": "newest"}),
    Parameter("limit", "query", "How many at most.",
              {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": LIMIT}),
    Parameter("after", "query", "Only those behind this one: `next` of the answer before.",
              {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),
    Parameter("total", "query", "Say how many match, too.", {"type": "boolean", "default": False}),
)  # fmt: skip
_ID = (Parameter("id", "path", "As the queue, the log and the SMTP replies show it.",
                 {"type": "string", "pattern": "^[0-9a-f]{1,16}$"}),)  # fmt: skip


# -- reading parameters


def _one(asked: Asked, name: str) -> str:
    """Empty: not given."""
    found = asked.query.get(name, [])
    if len(found) > 1:
        raise Refused(400, "bad_parameter", f"{name}: given more than once", name)
    return found[0] if found else ""


def _word(asked: Asked, name: str, words: Mapping[str, T], default: T) -> T:
    text = _one(asked, name)
    if text and text not in words:
        raise _unexpected(name, f"one of {', '.join(words)}", text)
    return words[text] if text else default


def _several(asked: Asked, name: str, kind: Callable[[str], T], words: Sequence[str]) -> tuple[T, ...]:
    """Parted by commas, or given again and again."""
    texts = [text for part in asked.query.get(name, []) for text in part.split(",") if text]
    for text in texts:
        if text not in words:
            raise _unexpected(name, f"some of {', '.join(words)}", text)
    return tuple(kind(text) for text in dict.fromkeys(texts))


def _time(asked: Asked, name: str, *, last: bool = False) -> Millis | None:
    text = _one(asked, name)
    if not text:
        return None
    moment = parse_date(text)
    if moment is None:
        raise _unexpected(name, "a time such as 2026-11-22T10:00:00Z", text)
    return moment.last if last else moment.at


def _number(asked: Asked, name: str, default: int, least: int, most: int) -> int:
    text = _one(asked, name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and least <= int(text) <= most):
        raise _unexpected(name, f"a number from {least} to {most}", text)
    return int(text)


def _ident(text: str, name: str) -> int:
    try:
        return parse_public_id(text)
    except PeerError:
        raise _unexpected(name, "an id of up to 16 hexadecimal digits", text) from None


def _unexpected(name: str, expected: str, text: str) -> Refused:
    return Refused(400, "bad_parameter", f"{name}: expected {expected}, got {text[:60]!r}", name)


_TRUTHS = {"true": True, "false": False}


def read_filter(asked: Asked) -> Filter:
    text = _one(asked, "text")
    if len(text) > MAX_TEXT:
        raise _unexpected("text", f"at most {MAX_TEXT} characters", text)
    attachment: bool | None = _word(asked, "attachment", _TRUTHS, None) if _one(asked, "attachment") else None
    return Filter(
        queues=_several(asked, "queue", Queue, _words(Queue)),
        routes=_several(asked, "route", Route, _words(Route)),
        attachment=attachment,
        since=_time(asked, "since"),
        until=_time(asked, "until", last=True),
        text=text,
        field=_word(asked, "field", {one.value: one for one in Field}, Field.ALL),
    )


# -- the operations


async def list_entries(asked: Asked) -> Entries:
    wanted = read_filter(asked)
    limit = _number(asked, "limit", LIMIT, 1, MAX_LIMIT)
    order = _word(asked, "order", {one.value: one for one in Order}, Order.NEWEST)
    counted = _word(asked, "total", _TRUTHS, False)
    behind = _one(asked, "after")
    after = _ident(behind, "after") if behind else None
    now = asked.services.clock.now()

    def read(reader: Reader) -> Entries:
        with reader.connection:  # one snapshot
            found = reader.find(wanted, limit=limit + 1, order=order, after=after)
            total = reader.count(wanted) if counted else None
        shown = [entry_shown(entry, now) for entry in found[:limit]]
        return Entries(shown, shown[-1].id if len(found) > limit else None, total)

    return await asked.services.store.read(read)


async def show_entry(asked: Asked) -> OneEntry:
    ident = _ident(asked.path["id"], "id")
    now = asked.services.clock.now()

    def read(reader: Reader) -> OneEntry | None:
        with reader.connection:  # one snapshot
            shown = _everything(reader, ident, now)
        return shown

    shown = await asked.services.store.read(read)
    if shown is None:
        raise _nothing(ident)
    return shown


def _everything(reader: Reader, ident: int, now: Millis) -> OneEntry | None:
    entry, ended = reader.entry(ident), reader.ended(ident)
    found = entry or ended
    if found is None:
        return None
    message = reader.message(found.message_id)
    return OneEntry(
        "ended" if entry is None else state(entry, now, reader.pauses()),
        None if entry is None else entry_shown(entry, now),
        None if ended is None else ended_shown(ended),
        None if message is None else message_shown(message),
        [event_shown(event) for event in reader.events(ident)],
    )


async def count_queues(asked: Asked) -> Queues:
    now = asked.services.clock.now()

    def read(reader: Reader) -> Queues:
        with reader.connection:
            counts, working, pauses = reader.queue_counts(), reader.locked_counts(now), reader.pauses()
            queues = {
                queue: QueueCount(number, working[queue], _oldest(reader, queue)) for queue, number in counts.items()
            }
        paused = {scope: stamp(pauses[scope]) if scope in pauses else None for scope in Scope}
        return Queues(sum(counts.values()), queues, paused)

    return await asked.services.store.read(read)


def _oldest(reader: Reader, queue: Queue) -> str | None:
    first = reader.find(Filter(queues=(queue,)), limit=1, order=Order.OLDEST)
    return stamp(first[0].created) if first else None


async def show_ledger(asked: Asked) -> dict[str, object]:
    return await ledger(asked.services)


def _acting(action: Action) -> Callable[[Asked], Awaitable[Acted]]:
    async def act(asked: Asked) -> Acted:
        ident = _ident(asked.path["id"], "id")
        reason = asked.body.reason if isinstance(asked.body, Reason) else ""
        report = await asked.services.store.act(action, [ident], actor=asked.caller.actor, reason=reason)
        if report.refused:
            found = await asked.services.store.read(lambda reader: reader.entry(ident) is not None)
            raise Refused(409, "refused", f"{action.value}: {report.refused[0][1]}") if found else _nothing(ident)
        return Acted(public_id(ident), action.value, "done" if report.done else "requested")

    return act


def _nothing(ident: int) -> Refused:
    return Refused(404, "not_found", f"{public_id(ident)} is neither in the queue nor in the history")


_ACTIONS = {
    Action.RETRY: "Make it due at once.",
    Action.HOLD: "Hold it until a person releases it.",
    Action.RELEASE: "Let a held one go on where it was.",
}

OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/v1/queues", "countQueues", permissions.PROCESSING_READ,
              "How many entries wait in each queue, since when, and what is paused.", count_queues, Queues),
    Operation("GET", "/v1/entries", "listEntries", permissions.PROCESSING_READ,
              "Entries that wait, by filter, page by page.", list_entries, Entries, parameters=_FILTER),
    Operation("GET", "/v1/entries/{id}", "showEntry", permissions.PROCESSING_READ,
              "Everything about one entry, waiting or ended: envelope, message, timeline.", show_entry, OneEntry,
              parameters=_ID, refusals=(404,)),
    *[
        Operation("POST", f"/v1/entries/{{id}}/{action.value}", f"{action.value}Entry", permissions.PROCESSING_EDIT,
                  text, _acting(action), Acted, takes=Reason, parameters=_ID, refusals=(404, 409, 413))
        for action, text in _ACTIONS.items()
    ],
    Operation("GET", "/v1/ledger", "showLedger", permissions.PROCESSING_READ,
              "Created by origin, ended by outcome, queued, and the difference, which is always 0.", show_ledger,
              LedgerShown),
)  # fmt: skip
