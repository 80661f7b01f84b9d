"""Reads of entries, messages and counts, on a read-only connection. Each one is consistent in itself.

Promises: a read takes no lease, and no lock that a writer waits for. Fails: database errors pass through;
SearchTooBroad.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
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
from postroom.store.bounded import bounded
from postroom.store.damage import INFO_LOST, STATE_DAMAGED
from postroom.store.engine import Finder, ReadTx, named
from postroom.store.find import counters
from postroom.store.find.search import Searches
from postroom.store.find.sources import Bounds, Sources, bounds

T = TypeVar("T")

_facts = msgspec.msgpack.Decoder(tuple[int, int, int, int, tuple[str, ...]]).decode
_verdicts = msgspec.msgpack.Decoder(tuple[Verdict, ...]).decode

ENTRIES = (
    "SELECT e.id, e.message_id, e.queue, e.from_queue, e.route, e.recipient, e.recipient_name, e.priority, i.text, "
    "e.attempts, e.next_attempt, e.locked_until, e.lease, e.strikes, e.label, e.env_from, e.from_address, e.from_name, "
    "e.to_header, e.subject, e.remote_ip, e.size, e.attachment FROM entry AS e LEFT JOIN info AS i ON i.id = e.info_id"
)
ENTRY_READ = named("find.entry_read", f"{ENTRIES} WHERE e.id = :entry")
HISTORY_READ = named(
    "find.history_read",
    "SELECT id, message_id, queue, route, recipient, env_from, from_address, subject, remote_ip, size, attachment, "
    "attempts, label, outcome, ended, reply FROM history WHERE id = :entry",
)
MESSAGE_READ = named(
    "find.message_read",
    "SELECT id, remote_ip, remote_name, helo, esmtp, tls, auth_user, env_from, from_address, from_name, to_header, "
    "subject, message_id, size, attachment, facts, verdicts, received, body_object, body_hash FROM message "
    "WHERE id = :message",
)
BODY_READ = named("find.body_read", "SELECT bytes FROM body WHERE message_id = :message")
EVENT_READ = named(
    "find.event_read",
    "SELECT v.at, v.kind, v.queue, coalesce(i.text, ''), v.actor FROM event AS v "
    "LEFT JOIN info AS i ON i.id = v.info_id WHERE v.entry_id = :entry ORDER BY v.id",
)
PACKED_EVENTS = named("find.packed_events", "SELECT events FROM history WHERE id = :entry")
# The words "(lease IS NOT NULL) = TRUE" are a column of the index entry_due: no row is read.
LOCKED_COUNT = named(
    "find.locked_count",
    "SELECT count(*) FROM entry WHERE queue = :queue "
    "AND coalesce(locked_until, next_attempt) BETWEEN :first AND :last AND (lease IS NOT NULL) = TRUE",
)
LEDGER_READ = named("find.ledger_read", "SELECT kind, sum(number) FROM ledger GROUP BY kind")
ENTRIES_ALL = named("find.entries_all", "SELECT count(*) FROM entry")
PAUSES = named("find.pauses", "SELECT scope, since FROM pause")


class Reader:
    """One per thread. Lists are newest first unless `order` says otherwise. Without an `index`, texts are searched in
    the rows."""

    def __init__(self, tx: ReadTx, index: Finder | None = None) -> None:
        self.tx = tx
        self.searches = Searches(tx, index)

    def ask(self, read: Callable[[Reader], T]) -> T:
        """What a room's verb looks up: `reader.ask(plans.look(ident))`."""
        return read(self)

    def snapshot(self) -> AbstractContextManager[Any]:
        """Everything read inside shows one state of the store."""
        return self.tx.snapshot()

    def version(self) -> object:
        """Another value whenever anybody has committed since, other processes included."""
        return self.tx.version()

    def bounded(self, seconds: float, instead: str) -> AbstractContextManager[None]:
        """SearchTooBroad for what takes longer inside; `instead`: what the caller may ask that is answered."""
        return bounded(self.tx, seconds, instead)

    def find(
        self, filter: Filter, *, limit: int, order: Order = Order.NEWEST, after: int | None = None,
        before: int | None = None, top: int | None = None, now: Millis | None = None,
    ) -> list[Entry]:  # fmt: skip
        """At most `limit` entries in `order`.

        `after`: entries that follow this id in that order (keyset page). `before`: the last `limit` entries before it,
        still in `order`. `top`: no id above this one, so that a page stays consistent while new mail arrives. `now`:
        the time for states such as "due". SearchTooBroad if the search takes longer than its bound.
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
            text = f"{ENTRIES} WHERE e.id IN ({ids}) ORDER BY e.id {direction}"
            return self.tx.rows(named("find.page", text), values)

        entries = [_entry(row) for row in self.searches.run(filter, Bounds(low, high), now, page)]
        return entries[::-1] if backwards else entries

    def count(self, filter: Filter, *, top: int | None = None, now: Millis | None = None) -> int:
        """The exact number of entries that match. SearchTooBroad as for `find`."""
        within = bounds(filter, top)
        if counters.is_plain(filter):
            with self.tx.snapshot():
                return counters.total(self.tx, filter, *within)

        def total(parts: Sources) -> int:
            return sum([int(self.tx.value(*one)) for one in parts.counts()])

        return self.searches.run(filter, within, now, total)

    def entry(self, ident: int) -> Entry | None:
        row = self.tx.row(ENTRY_READ, {"entry": ident})
        return None if row is None else _entry(row)

    def ended(self, ident: int) -> Ended | None:
        """An entry that has ended, from the history."""
        row = self.tx.row(HISTORY_READ, {"entry": ident})
        return None if row is None else _ended(row)

    def message(self, ident: int) -> Message | None:
        """A message, with its body if that is in the database; otherwise `body` is None, and `body_object` is its
        file."""
        row = self.tx.row(MESSAGE_READ, {"message": ident})
        if row is None:
            return None
        body: bytes | None = None
        if not row[18]:
            found = self.tx.row(BODY_READ, {"message": ident})
            body = None if found is None else found[0]
        return _message(row, body)

    def readable_message(self, ident: int) -> Message | None:
        """For people, who see the rest of the entry all the same: None also if the row of the message is damaged."""
        try:
            return self.message(ident)
        except (ValueError, TypeError):  # msgspec's errors are of the first kind
            return None

    def events(self, ident: int) -> list[Event]:
        """The timeline of an entry, waiting or ended, oldest first. Acceptance and end come from its row."""
        events = [Event(id_time(ident), "accepted", Queue.PROCESSING)]
        ended = self.ended(ident)
        if ended is None and self.entry(ident) is None:
            return []
        events += [
            Event(at, kind, codes.shown(queue), info, actor)
            for at, kind, queue, info, actor in self.tx.rows(EVENT_READ, {"entry": ident})
        ]
        if ended is not None:
            events += timeline.unpack(self.tx.value(PACKED_EVENTS, {"entry": ident}))
            last = events[-1]
            if (last.at, last.kind) != (ended.ended, ended.outcome):  # a person's rejection has its event already
                events.append(Event(ended.ended, ended.outcome, ended.queue, ended.reply))
        return events

    def queue_counts(self) -> dict[Queue, int]:
        """Entries in each queue, zeros included."""
        with self.tx.snapshot():
            found = counters.by_queue(self.tx)
        return {queue: found[number] for number, queue in enumerate(codes.QUEUES)}

    def reason_counts(self, queue: Queue) -> dict[str, int]:
        """Entries of a queue by the reason that is shown of each. Inside a snapshot."""
        return counters.by_reason(self.tx, queue)

    def leaving(self) -> int:
        """Entries in none of the queues: they end when the undo window of their plan closes."""
        return counters.leaving(self.tx)

    def locked_counts(self, now: Millis) -> dict[Queue, int]:
        """Entries being worked on, by queue."""
        return {
            queue: self.tx.value(LOCKED_COUNT, {"queue": number, "first": now + 1, "last": now + HOUR})
            for queue, number in codes.QUEUE.items()
        }

    def ledger(self) -> tuple[dict[str, int], dict[str, int], int]:
        """(created by origin, ended by outcome, still queued). Created - ended - queued is always zero."""
        with self.tx.snapshot():
            found = dict(self.tx.rows(LEDGER_READ))
            queued = int(self.tx.value(ENTRIES_ALL))
        outcomes = {outcome.value for outcome in Outcome}
        created = {kind: number for kind, number in found.items() if kind not in outcomes}
        ended = {kind: number for kind, number in found.items() if kind in outcomes}
        return created, ended, queued

    def backlog(self) -> int:
        """Entries in all queues, from the ledger instead of by counting."""
        outcomes = {outcome.value for outcome in Outcome}
        found = self.tx.rows(LEDGER_READ)
        return sum([-int(number) if kind in outcomes else int(number) for kind, number in found])

    def pauses(self) -> dict[Scope, Millis]:
        """Paused stages, and since when. An unknown stage (damage) stops nothing; `postroom verify` reports it."""
        known = {scope.value: scope for scope in Scope}
        return {known[scope]: since for scope, since in self.tx.rows(PAUSES) if scope in known}


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
        attempts, next_attempt, locked_until, lease, strikes, label, env_from, from_address, from_name, to_header,
        subject, remote_ip, size, bool(attachment), id_time(ident),
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
        ident, ip, name, helo, esmtp, tls, user, env_from, from_address, from_name, to_header, subject, message_id,
        size, attachment, facts, verdicts, received, body_object, body_hash,
    ) = row  # fmt: skip
    hops, body_at, parts, depth, problems = _facts(facts)
    return Message(
        ident, Client(ip, name, helo, bool(esmtp), tls, user), env_from,
        Facts(
            from_address, from_name, to_header, subject, message_id, bool(attachment), hops, body_at, parts, depth,
            problems,
        ),
        size, received, body, body_object, body_hash, _verdicts(verdicts) if verdicts else (),
    )  # fmt: skip
