"""Reading the tables that are logs: newest first or oldest first, a page at a time, by their ids, which are times.

`contains` is the one substring search, any case, over columns that have no folded copy. Promises: a page is read in one
snapshot and ends soon after BOUND; a count stops at its bound. Fails: what the database raises passes through;
SearchTooBroad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from postroom.clock import Millis
from postroom.ids import first_id_at
from postroom.model import Action, Order, Route
from postroom.store import codes
from postroom.store.bounded import BOUND, bounded
from postroom.store.engine import INTERRUPTED, ReadTx, named
from postroom.store.fold import fold, needle
from postroom.store.logs import rejections, released

MOST_COUNTED = 100_000


class Line(Protocol):
    """What every log has: ids that are times."""

    @property
    def id(self) -> int: ...


T = TypeVar("T", bound=Line)


class LogQuery(msgspec.Struct, frozen=True, array_like=True):
    """What a log is asked for: lines from `since` to `until`, both included. `field` is one of the log's `fields`;
    empty lists mean "any"."""

    since: Millis
    until: Millis
    order: Order = Order.NEWEST
    field: str = "all"
    text: str = ""
    actions: tuple[Action, ...] = ()
    routes: tuple[Route, ...] = ()
    attachment: bool | None = None
    kinds: tuple[str, ...] = ()
    recipient: str = ""  # exactly this, any case

    @property
    def narrows(self) -> bool:
        """Whether lines are passed over: then nothing says how many must be read for one that is shown."""
        given = (self.text, self.actions, self.routes, self.kinds, self.recipient)
        return any(given) or self.attachment is not None


class Log(msgspec.Struct, Generic[T], frozen=True):
    """A log that can be read; others only hand it back to the verbs that read one."""

    select: str
    table: str
    fields: dict[str, tuple[str, ...]]
    read: Callable[[tuple[Any, ...]], T]


class LogPage(msgspec.Struct, Generic[T], frozen=True):
    """A page of a log. `earlier`, `later`: whether there are lines in front of it and behind it, in the order asked
    for.

    `after`, `before`: the border it was asked for by. Of a page whose lines are all gone the border has moved one id,
    so that the line at the border is part of the page on the other side.
    """

    lines: list[T]
    earlier: bool
    later: bool
    after: int | None = None
    before: int | None = None


class FirstPage(msgspec.Struct, Generic[T], frozen=True):
    """The first page of a log. `top`: the newest id of its window, above which later pages show nothing; None: there
    are no lines. `total`: None: more than MOST_COUNTED, or than could be counted in the time that a page may take."""

    page: LogPage[T]
    top: int | None
    total: int | None


RELEASES: Log[released.Released] = Log(released.SELECT, "release_log", released.FIELDS, released.read)
REJECTIONS: Log[rejections.Rejection] = Log(rejections.SELECT, "rejection", rejections.FIELDS, rejections.read)


def first_page(tx: ReadTx, log: Log[T], query: LogQuery, *, size: int, instead: str) -> FirstPage[T]:
    """The first `size` lines, with what later pages need to know. `instead`: what SearchTooBroad asks the caller to
    give."""
    with tx.snapshot(), bounded(tx, BOUND, instead):
        found = find(tx, log, query, limit=size + 1)
        more = len(found) > size
        lines = found[:size]
        top = newest(tx, log, query)
        total = count(tx, log, query) if more else len(lines)
    return FirstPage(LogPage(lines, earlier=False, later=more), top, total)


def page(
    tx: ReadTx, log: Log[T], query: LogQuery, *, size: int, top: int | None, after: int | None = None,
    before: int | None = None, instead: str,
) -> LogPage[T]:  # fmt: skip
    """The `size` lines behind the line `after`, or the last `size` in front of `before`; none above `top`.

    `instead`: what SearchTooBroad asks the caller to give.
    """
    with tx.snapshot(), bounded(tx, BOUND, instead):
        found = _page(tx, log, query, size, top, after, before)
    return found


def _page(
    tx: ReadTx, log: Log[T], query: LogQuery, size: int, top: int | None, after: int | None, before: int | None
) -> LogPage[T]:
    """A line more than asked for shows that a page follows; the other side is looked up."""
    found = find(tx, log, query, limit=size + 1, after=after, before=before, top=top)
    more = len(found) > size
    step = -1 if query.order is Order.NEWEST else 1  # the way that the pages go
    if before is not None:
        lines = found[1:] if more else found
        if not lines:  # every line here is gone: what lies behind the border is the next page
            before -= step
        border = lines[-1].id if lines else before
        later = bool(find(tx, log, query, limit=1, after=border, top=top))
        return LogPage(lines, earlier=more, later=later, before=before)
    lines = found[:size]
    if after is None:
        return LogPage(lines, earlier=False, later=more)
    if not lines:
        after += step
    border = lines[0].id if lines else after
    earlier = bool(find(tx, log, query, limit=1, before=border, top=top))
    return LogPage(lines, earlier=earlier, later=more, after=after)


def contains(tx: ReadTx, columns: Sequence[str], text: str) -> tuple[str, list[Any]]:
    """(condition, values). SQLite folds ASCII only; for anything beyond our own fold is lent to it, which is slower."""
    wanted = needle(text)
    folded = "lower"
    if not wanted.isascii():
        folded = "postroom_fold"
        tx.lend(folded, lambda *values: fold(str(values[0])), 1)
    return "(" + " OR ".join([f"instr({folded}({column}), ?) > 0" for column in columns]) + ")", [wanted] * len(columns)


def one_of(column: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    """(condition, values) for a column that has one of these."""
    return f"{column} IN ({','.join('?' * len(values))})", list(values)


def find(
    tx: ReadTx, log: Log[T], query: LogQuery, *, limit: int, after: int | None = None,
    before: int | None = None, top: int | None = None,
) -> list[T]:  # fmt: skip
    """At most `limit` lines in the query's order: behind `after`, or the last ones in front of `before`, none above
    `top`.

    Conditions come and go with what is asked for, so values are positional here.
    """
    where, values = _where(tx, log, query, top)
    newest, backwards = query.order is Order.NEWEST, before is not None
    border = before if backwards else after
    if border is not None:
        where.append("id < ?" if newest != backwards else "id > ?")
        values.append(border)
    direction = "DESC" if newest != backwards else "ASC"
    statement = f"{log.select} WHERE {' AND '.join(where)} ORDER BY id {direction} LIMIT ?"
    rows = [log.read(row) for row in tx.rows(named("logs.find", statement), (*values, limit))]
    return rows[::-1] if backwards else rows


def count(tx: ReadTx, log: Log[T], query: LogQuery) -> int | None:
    """How many lines match. None: more than MOST_COUNTED, or the time was over (`bounded`)."""
    where, values = _where(tx, log, query, None)
    statement = f"SELECT count(*) FROM (SELECT 1 FROM {log.table} WHERE {' AND '.join(where)} LIMIT ?)"
    try:
        number = int(tx.rows(named("logs.count", statement), (*values, MOST_COUNTED + 1))[0][0])
    except INTERRUPTED:
        return None
    return None if number > MOST_COUNTED else number


def newest(tx: ReadTx, log: Log[T], query: LogQuery) -> int | None:
    """The id of the last line of the query's window, whatever else is asked for. None: there is none."""
    statement = named("logs.find_newest", f"SELECT max(id) FROM {log.table} WHERE id >= :low AND id < :high")
    window = {"low": first_id_at(query.since), "high": first_id_at(query.until + 1)}
    last: int | None = tx.rows(statement, window)[0][0]
    return last


def _where(tx: ReadTx, log: Log[T], query: LogQuery, top: int | None) -> tuple[list[str], list[Any]]:
    where = ["id >= ?", "id < ?"]
    values: list[Any] = [first_id_at(query.since), first_id_at(query.until + 1)]
    parts: list[tuple[str, list[Any]]] = []
    if top is not None:
        parts.append(("id <= ?", [top]))
    if query.actions:
        parts.append(one_of("action", [codes.ACTION[action] for action in query.actions]))
    if query.routes:
        parts.append(one_of("route", [codes.ROUTE[route] for route in query.routes]))
    if query.attachment is not None:
        parts.append(("attachment = ?", [int(query.attachment)]))
    if query.kinds:
        parts.append(one_of("kind", query.kinds))
    if query.recipient:
        parts.append(("recipient = ? COLLATE NOCASE", [query.recipient]))
    if query.text:
        parts.append(contains(tx, log.fields[query.field], query.text))
    for condition, more in parts:
        where.append(condition)
        values += more
    return where, values
