"""Finding a message wherever it is or was - queue, history, refusals at SMTP time - newest first, within a time limit.

No index covers these texts. So each table is walked by id from its newest row, CHUNK rows at a time, always the one
that is furthest behind. Matches above the point that all tables have reached are final. When the time is up, the next
page goes on from that point, so every page makes progress. Promises: each match once, in the order of ids. Fails:
database errors pass through.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.ids import first_id_at, id_time
from postroom.model import Ended, Entry, Outcome, Priority, Queue, Route
from postroom.rules.lifecycle import DELIVERY_INFO
from postroom.store import codes
from postroom.store.engine import ReadTx, named
from postroom.store.find.reader import Reader
from postroom.store.logs import rejections
from postroom.store.logs.lines import contains, one_of
from postroom.store.logs.rejections import Rejection

CHUNK = 5_000  # rows of one step: a few milliseconds
BUDGET = 0.5  # seconds of one page

_IN_QUEUE = {
    Queue.PROCESSING: ("processing",),
    Queue.BULK: ("bulk_processing",),
    Queue.DELIVERY: ("delivery", "bulk_delivery", "deferred"),
    Queue.HELD: ("held",),
    Queue.SYSTEM: ("system", "deferred"),
}
OUTCOME_STATUS = {
    Outcome.DELIVERED: "archived",
    Outcome.EXPORTED: "archived",
    Outcome.BOUNCED: "bounced",
    Outcome.EXPIRED: "bounced",
    Outcome.REJECTED: "rejected",
    Outcome.DROPPED: "rejected",
    Outcome.DELETED: "rejected",
}
REFUSED = "rejected"
STATUSES = (
    "accepted", "processing", "bulk_processing", "delivery", "bulk_delivery", "system", "held", "bounced", "deferred",
    "rejected", "archived",
)  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """What to look for; empty means "any". Texts are substrings in any case, `ip` and `header_id` are whole."""

    since: Millis
    until: Millis
    sender: str = ""
    recipient: str = ""
    subject: str = ""
    ip: str = ""
    header_id: str = ""
    routes: tuple[Route, ...] = ()
    attachment: bool | None = None
    statuses: tuple[str, ...] = ()


class Tracked(msgspec.Struct, frozen=True, gc=False):
    """A message to one recipient, or a refusal, of which only a part is known."""

    id: int
    status: str
    info: str
    env_from: str
    from_address: str
    from_name: str
    recipient: str
    recipient_name: str
    subject: str
    ip: str
    attachment: bool
    route: Route | None
    ended: Millis | None

    @property
    def received(self) -> Millis:
        return id_time(self.id)


class Found(msgspec.Struct, frozen=True):
    """A page. `after`: where the next one begins; None: there is none. `complete`: it was not cut short by the time."""

    rows: list[Tracked]
    after: int | None
    complete: bool


def entry_status(entry: Entry, now: Millis) -> str:
    return _status(entry.queue, entry.priority, entry.attempts, entry.info, entry.locked_until, now)


def ended_status(ended: Ended) -> str:
    return OUTCOME_STATUS[ended.outcome]


def _status(
    queue: Queue, priority: Priority, attempts: int, info: str, locked_until: Millis | None, now: Millis
) -> str:
    """An entry whose delivery has failed is `deferred`, even while it is being tried again."""
    if queue in (Queue.DELIVERY, Queue.SYSTEM):
        tried = attempts - 1 if locked_until is not None and locked_until > now else attempts
        if tried > 0 and info != DELIVERY_INFO:
            return "deferred"
        if queue is Queue.DELIVERY and priority is Priority.LOW:
            return "bulk_delivery"
    return _IN_QUEUE[queue][0]


class _Source:
    """One table, walked downwards. `border`: everything from there up has been read."""

    def __init__(self, table: str, columns: str, where: list[tuple[str, list[Any]]], border: int) -> None:
        self.table = table
        self.border = border
        self.started = self.done = False
        self._columns = columns
        self._where = " AND ".join(["1 = 1", *[condition for condition, _ in where]])
        self._values = [value for _, values in where for value in values]

    def step(self, tx: ReadTx, low: int) -> list[Any]:
        self.started = True
        lowest, rows = tx.rows(
            named(
                "find.track_step",
                f"SELECT min(id), count(*) FROM (SELECT id FROM {self.table} WHERE id >= :low AND id < :border "
                "ORDER BY id DESC LIMIT :most)",
            ),
            {"low": low, "border": self.border, "most": CHUNK},
        )[0]
        self.done = rows < CHUNK
        if not rows:
            return []
        text = f"SELECT {self._columns} FROM {self.table} AS t WHERE t.id >= ? AND t.id < ? AND {self._where}"
        found = tx.rows(named("find.track", text), (lowest, self.border, *self._values))
        self.border = lowest
        return found


def search(
    reader: Reader, wanted: Wanted, *, size: int, after: int | None, now: Millis, budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Found:  # fmt: skip
    """One page, from one snapshot."""
    deadline = clock() + budget
    low, high = first_id_at(wanted.since), first_id_at(wanted.until + 1)
    high = high if after is None else min(high, after)
    tx = reader.tx
    found: list[Tracked] = []
    with tx.snapshot():
        sources = _sources(tx, wanted, high)
        complete = True
        while True:
            open_ones = [source for source in sources if not source.done]
            safe = max((source.border for source in open_ones), default=low)
            ready = sum(1 for row in found if row.id >= safe)
            if ready > size or not open_ones:
                break
            if all(source.started for source in sources) and clock() >= deadline:
                complete = False
                break
            source = max(open_ones, key=lambda one: one.border)
            found += _tracked(source.table, source.step(tx, low), wanted, now)
    rows = sorted([row for row in found if row.id >= safe], key=lambda row: -row.id)
    if len(rows) > size:
        return Found(rows[:size], rows[size - 1].id, True)
    return Found(rows, None if complete else safe, complete)


_ENTRY = (
    "t.id, t.env_from, t.from_address, t.from_name, t.recipient, t.recipient_name, t.subject, t.remote_ip, "
    "t.attachment, t.route, t.queue, t.priority, t.attempts, (SELECT i.text FROM info AS i WHERE i.id = t.info_id), "
    "t.locked_until"
)
_HISTORY = (
    "t.id, t.env_from, t.from_address, t.from_name, t.recipient, t.recipient_name, t.subject, t.remote_ip, "
    "t.attachment, t.route, t.outcome, t.reply, t.ended"
)
_REJECTION = "t.id, t.env_from, t.recipient, t.ip, t.reply"


def _sources(tx: ReadTx, wanted: Wanted, high: int) -> list[_Source]:
    """The tables that can hold a match at all."""
    found = (_queued(tx, wanted, high), _ended(tx, wanted, high), _refused(tx, wanted, high))
    return [source for source in found if source is not None]


def _queued(tx: ReadTx, wanted: Wanted, high: int) -> _Source | None:
    statuses = set(wanted.statuses)
    queues = [queue for queue, words in _IN_QUEUE.items() if not statuses or statuses.intersection(words)]
    if not queues:
        return None
    where = [*_where(tx, wanted), one_of("t.queue", [codes.QUEUE[queue] for queue in queues])]
    if wanted.header_id:
        named = "EXISTS (SELECT 1 FROM message AS m WHERE m.id = t.message_id AND m.message_id IN (?, ?))"
        where.append((named, _header_ids(wanted)))
    return _Source("entry", _ENTRY, where, high)


def _ended(tx: ReadTx, wanted: Wanted, high: int) -> _Source | None:
    statuses = wanted.statuses
    outcomes = [outcome for outcome, word in OUTCOME_STATUS.items() if not statuses or word in statuses]
    if not outcomes:
        return None
    where = [*_where(tx, wanted), one_of("t.outcome", [codes.OUTCOME[outcome] for outcome in outcomes])]
    if wanted.header_id:
        where.append(("t.header_id IN (?, ?)", _header_ids(wanted)))
    return _Source("history", _HISTORY, where, high)


def _refused(tx: ReadTx, wanted: Wanted, high: int) -> _Source | None:
    """None also if a condition is on something that is not known of a refusal."""
    if wanted.header_id or wanted.subject or wanted.routes or wanted.attachment is not None:
        return None
    if wanted.statuses and REFUSED not in wanted.statuses:
        return None
    where: list[tuple[str, list[Any]]] = []
    if wanted.sender:
        where.append(contains(tx, ("t.env_from",), wanted.sender))
    if wanted.recipient:
        where.append(contains(tx, ("t.recipient",), wanted.recipient))
    if wanted.ip:
        where.append(("t.ip = ?", [wanted.ip]))
    kinds, passing = one_of("t.kind", rejections.PASSING)
    where.append((f"NOT ({kinds})", passing))
    return _Source("rejection", _REJECTION, where, high)


def _header_ids(wanted: Wanted) -> list[Any]:
    return [f"<{wanted.header_id}>", wanted.header_id]


def _where(tx: ReadTx, wanted: Wanted) -> list[tuple[str, list[Any]]]:
    """The conditions that queue and history share."""
    where: list[tuple[str, list[Any]]] = []
    for text, columns in (
        (wanted.sender, ("t.env_from", "t.from_address")),
        (wanted.recipient, ("t.recipient",)),
        (wanted.subject, ("t.subject",)),
    ):
        if text:
            where.append(contains(tx, columns, text))
    if wanted.ip:
        where.append(("t.remote_ip = ?", [wanted.ip]))
    if wanted.routes:
        where.append(one_of("t.route", [codes.ROUTE[route] for route in wanted.routes]))
    if wanted.attachment is not None:
        where.append(("t.attachment = ?", [int(wanted.attachment)]))
    return where


def _tracked(table: str, rows: list[Any], wanted: Wanted, now: Millis) -> list[Tracked]:
    read = {"entry": _of_entry, "history": _of_history, "rejection": _of_rejection}[table]
    found = [read(row, now) for row in rows]
    return [row for row in found if row.status in wanted.statuses] if wanted.statuses else found


def _of_entry(row: Any, now: Millis) -> Tracked:
    (
        ident, env_from, from_address, from_name, recipient, name, subject, ip, attachment, route, queue, priority,
        attempts, info, locked_until,
    ) = row  # fmt: skip
    status = _status(codes.shown(queue), codes.priority(priority), attempts, info or "", locked_until, now)
    return Tracked(
        ident, status, info or "", env_from, from_address, from_name, recipient, name, subject, ip, bool(attachment),
        codes.route(route), None,
    )  # fmt: skip


def _of_history(row: Any, now: Millis) -> Tracked:
    (
        ident, env_from, from_address, from_name, recipient, name, subject, ip, attachment, route, outcome, reply, ended
    ) = row  # fmt: skip
    status = OUTCOME_STATUS[codes.outcome(outcome)]
    return Tracked(
        ident, status, reply, env_from, from_address, from_name, recipient, name, subject, ip, bool(attachment),
        codes.route(route), ended,
    )  # fmt: skip


def _of_rejection(row: Any, now: Millis) -> Tracked:
    ident, env_from, recipient, ip, reply = row
    return Tracked(ident, REFUSED, reply, env_from, "", "", recipient, "", "", ip, False, None, id_time(ident))


class Known(msgspec.Struct, frozen=True):
    """What is known under one id: exactly one of the three."""

    entry: Entry | None = None
    ended: Ended | None = None
    refused: Rejection | None = None


def look_up(reader: Reader, ident: int) -> Known | None:
    """None: it never existed, or has been forgotten."""
    with reader.tx.snapshot():  # an entry that ends meanwhile must be found in one of the two
        known = Known(reader.entry(ident), reader.ended(ident), rejections.find(reader.tx, ident))
    return None if known == Known() else known
