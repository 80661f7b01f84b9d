"""Reads: each one consistent in itself, on a read-only connection, never in the writer's way.

Looking never disturbs: no read takes a lease or a lock that a writer waits for. Fails: apsw errors pass through; SearchTooBroad.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from postroom.clock import HOUR, Millis
from postroom.ids import id_time
from postroom.model import (
    Client,
    Ended,
    Entry,
    Event,
    Facts,
    Filter,
    Message,
    Order,
    Outcome,
    Queue,
    Scope,
    Verdict,
)  # fmt: skip
from postroom.store import codes, timeline
from postroom.store.damage import INFO_LOST, STATE_DAMAGED
from postroom.store.engine import ReadTx
from postroom.store.find import counters
from postroom.store.find.search import Searches
from postroom.store.find.sources import Bounds, Sources, bounds
from postroom.store.sqlite import statements as sql
from postroom.store.sqlite.search_index import SearchIndex

T = TypeVar("T")

_facts = msgspec.msgpack.Decoder(tuple[int, int, int, int, tuple[str, ...]]).decode
_verdicts = msgspec.msgpack.Decoder(tuple[Verdict, ...]).decode


class Reader:
    """One per thread. Lists are newest first unless `order` says otherwise. `index`: where texts are found; None: in the rows."""

    def __init__(self, tx: ReadTx, index: SearchIndex | None = None) -> None:
        self.tx = tx
        self.searches = Searches(tx, index)

    def ask(self, read: Callable[[Reader], T]) -> T:
        """What a room's verb looks up: `reader.ask(plans.look(ident))`."""
        return read(self)

    def find(
        self, filter: Filter, *, limit: int, order: Order = Order.NEWEST, after: int | None = None,
        before: int | None = None, top: int | None = None, now: Millis | None = None,
    ) -> list[Entry]:  # fmt: skip
        """At most `limit` entries in `order`.

        `after`: those that come behind this id in that order (keyset page); `before`: the last `limit` in front of it, still
        in `order`; `top`: no id above this one, so that a page stays consistent while new mail arrives; `now`: for states of the
        moment. SearchTooBroad when it cannot be answered within its bound.
        """
        newest = order is Order.NEWEST
        backwards = before is not None
        descending = newest != backwards
        low, high = bounds(filter, top)
        border = before if backwards else after
        if border is not None and descending:
            high = min(high, border - 1)
        elif border is not None:
            low = max(low, border + 1)

        def page(parts: Sources) -> list[Any]:
            if not parts.parts:
                return []
            ids, values = parts.page(limit, descending=descending)
            direction = "DESC" if descending else "ASC"
            return self.tx.rows(f"{sql.ENTRY_READ}WHERE e.id IN ({ids}) ORDER BY e.id {direction}", values)

        entries = [_entry(row) for row in self.searches.run(filter, Bounds(low, high), now, page)]
        return entries[::-1] if backwards else entries

    def count(self, filter: Filter, *, top: int | None = None, now: Millis | None = None) -> int:
        """Exactly how many entries match. SearchTooBroad as for `find`."""
        within = bounds(filter, top)
        if counters.is_plain(filter):
            with self.tx.snapshot():  # one snapshot
                return counters.total(self.tx, filter, *within)

        def total(parts: Sources) -> int:
            return sum([int(self.tx.rows(*one)[0][0]) for one in parts.counts()])

        return self.searches.run(filter, within, now, total)

    def entry(self, ident: int) -> Entry | None:
        rows = self.tx.rows(sql.ENTRY_READ + "WHERE e.id = ?", (ident,))
        return _entry(rows[0]) if rows else None

    def ended(self, ident: int) -> Ended | None:
        """The same entry in the history."""
        rows = self.tx.rows(sql.HISTORY_READ + "WHERE id = ?", (ident,))
        return _ended(rows[0]) if rows else None

    def message(self, ident: int) -> Message | None:
        """With its body when that is in the database; body None: the bytes are the object `body_object`."""
        rows = self.tx.rows(sql.MESSAGE_READ, (ident,))
        if not rows:
            return None
        body: bytes | None = None
        if not rows[0][18]:
            found = self.tx.rows(sql.BODY_READ, (ident,))
            body = found[0][0] if found else None
        return _message(rows[0], body)

    def readable_message(self, ident: int) -> Message | None:
        """For people, who are shown the rest of an entry all the same: None also when its row is damaged."""
        try:
            return self.message(ident)
        except (ValueError, TypeError):  # msgspec's errors are of the first kind
            return None

    def events(self, ident: int) -> list[Event]:
        """An entry's timeline, oldest first, living or ended: its acceptance and end are told from its row."""
        events = [Event(id_time(ident), "accepted", Queue.PROCESSING)]
        ended = self.ended(ident)
        if ended is None and self.entry(ident) is None:
            return []
        events += [
            Event(at, kind, codes.shown(queue), info, actor)
            for at, kind, queue, info, actor in self.tx.rows(sql.EVENT_READ, (ident,))
        ]
        if ended is not None:
            packed = self.tx.rows("SELECT events FROM history WHERE id = ?", (ident,))[0][0]
            events += timeline.unpack(packed)
            last = events[-1]
            if (last.at, last.kind) != (ended.ended, ended.outcome):  # a person's rejection has its event already
                events.append(Event(ended.ended, ended.outcome, ended.queue, ended.reply))
        return events

    def queue_counts(self) -> dict[Queue, int]:
        """Entries in each queue, zeros included."""
        with self.tx.snapshot():  # one snapshot
            found = counters.by_queue(self.tx)
        return {queue: found[number] for number, queue in enumerate(codes.QUEUES)}

    def leaving(self) -> int:
        """Entries that end when the undo window of their plan is over: queued, in none of the queues."""
        return counters.leaving(self.tx)

    def locked_counts(self, now: Millis) -> dict[Queue, int]:
        """Entries that are being worked on, by queue."""
        return {
            queue: self.tx.rows(sql.LOCKED_COUNTS, (number, now + 1, now + HOUR))[0][0]
            for queue, number in codes.QUEUE.items()
        }

    def ledger(self) -> tuple[dict[str, int], dict[str, int], int]:
        """(created by origin, ended by outcome, still queued); created - ended - queued is always zero."""
        with self.tx.snapshot():  # one snapshot for both reads
            found = dict(self.tx.rows(sql.LEDGER_READ))
            queued = int(self.tx.rows(sql.ENTRIES_ALL)[0][0])
        outcomes = {outcome.value for outcome in Outcome}
        created = {kind: number for kind, number in found.items() if kind not in outcomes}
        ended = {kind: number for kind, number in found.items() if kind in outcomes}
        return created, ended, queued

    def backlog(self) -> int:
        """Entries in all queues, as the ledger has it: without counting them."""
        outcomes = {outcome.value for outcome in Outcome}
        found = self.tx.rows(sql.LEDGER_READ)
        return sum([-int(number) if kind in outcomes else int(number) for kind, number in found])

    def pauses(self) -> dict[Scope, Millis]:
        """What is paused, since when. A stage that nobody knows (damage) stops nothing; `postroom verify` tells of it."""
        known = {scope.value: scope for scope in Scope}
        return {known[scope]: since for scope, since, _ in self.tx.rows(sql.PAUSES) if scope in known}


def _entry(row: Any) -> Entry:
    (
        ident, message_id, queue, from_queue, route, recipient, recipient_name, priority, info, attempts, next_attempt,
        locked_until, lease, strikes, label, env_from, from_address, from_name, to_header, subject, remote_ip, size,
        attachment,
    ) = row  # fmt: skip
    numbers = _are_numbers(attempts, next_attempt, strikes, label, size, locked_until or 0, lease or 0)
    if not codes.is_sound(queue, route, priority) or not numbers:
        info, attempts, next_attempt = STATE_DAMAGED, _number(attempts), _number(next_attempt)
        locked_until, lease, strikes, label, size = None, None, _number(strikes), _number(label), _number(size)
    return Entry(
        ident, message_id, codes.shown(queue), None if from_queue is None else codes.shown(from_queue),
        codes.route(route), recipient, recipient_name, codes.priority(priority), INFO_LOST if info is None else info,
        attempts, next_attempt, locked_until, lease, strikes, label, env_from, from_address, from_name, to_header, subject,
        remote_ip, size, bool(attachment), id_time(ident),
    )  # fmt: skip


def _are_numbers(*values: object) -> bool:
    return {int}.issuperset(map(type, values))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _ended(row: Any) -> Ended:
    (
        ident, message_id, queue, route, recipient, env_from, from_address, subject, remote_ip, size, attachment,
        attempts, label, outcome, ended, reply,
    ) = row  # fmt: skip
    return Ended(
        ident, message_id, codes.shown(queue), codes.route(route), recipient, env_from, from_address, subject,
        remote_ip, _number(size), bool(attachment), _number(attempts), _number(label),
        codes.outcome(outcome), _number(ended), reply, id_time(ident),
    )  # fmt: skip


def _message(row: Any, body: bytes | None) -> Message:
    (
        ident, ip, name, helo, esmtp, tls, user, env_from, from_address, from_name, to_header, subject, message_id, size,
        attachment, facts, verdicts, received, body_object, body_hash,
    ) = row  # fmt: skip
    hops, body_at, parts, depth, problems = _facts(facts)
    return Message(
        ident, Client(ip, name, helo, bool(esmtp), tls, user), env_from,
        Facts(
            from_address, from_name, to_header, subject, message_id, bool(attachment), hops, body_at, parts, depth, problems
        ),
        size, received, body, body_object, body_hash, _verdicts(verdicts) if verdicts else (),
    )  # fmt: skip
