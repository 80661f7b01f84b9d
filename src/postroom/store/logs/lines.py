"""Reading the tables that are logs: newest first or oldest first, a page at a time, by their ids, which are times.

`contains` is the one substring search, any case, over columns that have no folded copy. Promises: a count stops at its bound.
Fails: apsw errors pass through; whoever reads bounds the time (`bounded`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from postroom.clock import Millis
from postroom.ids import first_id_at
from postroom.model import Action, Order, Route
from postroom.store import codes
from postroom.store.engine import INTERRUPTED, ReadTx
from postroom.store.fold import fold, needle
from postroom.store.logs import rejections, released

MOST_COUNTED = 100_000

T = TypeVar("T")


class LogQuery(msgspec.Struct, frozen=True, array_like=True):
    """What of a log is asked for. `field` is one of the log's `fields`; empty lists mean "any"."""

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
    select: str
    table: str
    fields: dict[str, tuple[str, ...]]
    read: Callable[[tuple[Any, ...]], T]


RELEASES: Log[released.Released] = Log(released.SELECT, "release_log", released.FIELDS, released.read)
REJECTIONS: Log[rejections.Rejection] = Log(rejections.SELECT, "rejection", rejections.FIELDS, rejections.read)


def contains(tx: ReadTx, columns: Sequence[str], text: str) -> tuple[str, list[Any]]:
    """(condition, values). SQLite folds ASCII only; for anything beyond our own fold is lent to it, which is slower."""
    wanted = needle(text)
    folded = "lower"
    if not wanted.isascii():
        folded = "postroom_fold"
        tx.lend(folded, lambda *values: fold(str(values[0])), 1)
    return "(" + " OR ".join([f"instr({folded}({column}), ?) > 0" for column in columns]) + ")", [wanted] * len(columns)


def one_of(column: str, values: Sequence[Any]) -> tuple[str, list[Any]]:
    return f"{column} IN ({','.join('?' * len(values))})", list(values)


def find(
    tx: ReadTx, log: Log[T], query: LogQuery, *, limit: int, after: int | None = None,
    before: int | None = None, top: int | None = None,
) -> list[T]:  # fmt: skip
    """As `Reader.find` does: behind `after`, or the last ones in front of `before`, none above `top`."""
    where, values = _where(tx, log, query, top)
    newest, backwards = query.order is Order.NEWEST, before is not None
    border = before if backwards else after
    if border is not None:
        where.append("id < ?" if newest != backwards else "id > ?")
        values.append(border)
    direction = "DESC" if newest != backwards else "ASC"
    statement = f"{log.select} WHERE {' AND '.join(where)} ORDER BY id {direction} LIMIT ?"
    rows = [log.read(row) for row in tx.rows(statement, (*values, limit))]
    return rows[::-1] if backwards else rows


def count(tx: ReadTx, log: Log[T], query: LogQuery) -> int | None:
    """None: more than MOST_COUNTED, or than the time was enough for."""
    where, values = _where(tx, log, query, None)
    statement = f"SELECT count(*) FROM (SELECT 1 FROM {log.table} WHERE {' AND '.join(where)} LIMIT ?)"
    try:
        number = int(tx.rows(statement, (*values, MOST_COUNTED + 1))[0][0])
    except INTERRUPTED:
        return None
    return None if number > MOST_COUNTED else number


def newest(tx: ReadTx, log: Log[T], query: LogQuery) -> int | None:
    """The last line of its window, whatever else is asked for."""
    window = (first_id_at(query.since), first_id_at(query.until + 1))
    last: int | None = tx.rows(f"SELECT max(id) FROM {log.table} WHERE id >= ? AND id < ?", window)[0][0]
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
