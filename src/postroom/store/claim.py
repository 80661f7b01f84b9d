"""Leases: claiming what is due, renewing, and taking over what a dead or stalled worker left.

Claiming counts the attempt and sets the next one *as if it had failed*; success improves on it. A lease that ended without a
result makes its entry due at once; after three such ends in a row the schedule applies and the entry is marked suspect. Any
lease under which the entry could have reached delivery, ended without a result, labels it "may have been delivered",
whatever its queue on disk says (an entry born leased always could).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import apsw

from postroom.clock import DAY, Millis
from postroom.ids import IdGiver, id_time
from postroom.lifecycle import CHECKED, SENDING
from postroom.model import Label, Queue
from postroom.retry import Schedule, next_attempt
from postroom.store import codes, sql
from postroom.store.apply import Infos, event
from postroom.store.records import Lease
from postroom.store.sqlite import fetch

STRIKES = 3
MAYBE_HELD_INFO = "May have been delivered: the attempt ended without a result; held for a person"


class Rules(NamedTuple):
    """What claiming needs to know of the settings."""

    processing: Schedule
    delivery: Schedule
    lease: Millis
    hold_maybe: bool

    def schedule(self, queue: Queue) -> Schedule:
        return self.processing if queue in CHECKED else self.delivery

    def as_if_failed(self, queue: Queue, attempts: int, since: Millis, now: Millis) -> Millis:
        """The next attempt should this one fail; past the end of the schedule the result itself decides."""
        at = next_attempt(self.schedule(queue), attempts, since, now)
        return now + DAY if at is None else at


class Taken(NamedTuple):
    """What a claim did beside handing out leases."""

    leases: list[Lease]
    taken_over: int
    maybe: int


def claim(
    cursor: apsw.Cursor, ids: IdGiver, infos: Infos, rules: Rules, queue: Queue, limit: int, now: Millis
) -> Taken:
    """Lease up to `limit` due entries of one queue."""
    leases: list[Lease] = []
    taken_over = maybe = 0
    rows = fetch(cursor, sql.ENTRY_DUE, (codes.QUEUE[queue], now, limit))
    for ident, message, recipient, attempts, old_lease, strikes, waived in rows:
        label = 0
        if old_lease is not None:
            taken_over += 1
            strikes += 1
            label = could_have_reached(queue, ident, old_lease)
            maybe += 1 if label else 0
            event(cursor, ident, now, "taken_over", codes.QUEUE[queue], None)
            if _set_aside(cursor, infos, rules, queue, ident, attempts, strikes, label, now):
                continue
        attempts += 1
        lease = ids.next()
        created = id_time(ident)
        following = rules.as_if_failed(queue, attempts, created, now)
        cursor.execute(sql.ENTRY_CLAIM, (attempts, following, now + rules.lease, lease, strikes, label, ident))
        leases.append(
            Lease(ident, lease, message, queue, recipient, attempts, following, created, tuple(waived.split()))
        )
    return Taken(leases, taken_over, maybe)


def could_have_reached(queue: Queue, ident: int, lease: int) -> int:
    """The label for a lease that ended without a result."""
    return int(Label.MAYBE_DELIVERED) if queue in SENDING or lease == ident else 0


def _set_aside(
    cursor: apsw.Cursor, infos: Infos, rules: Rules, queue: Queue, ident: int, attempts: int, strikes: int, label: int,
    now: Millis,
) -> bool:  # fmt: skip
    """Entries not to be tried at once: held for a person by policy, or suspect and scheduled."""
    if label and rules.hold_maybe:
        info = infos.id(cursor, MAYBE_HELD_INFO)
        held = codes.QUEUE[Queue.HELD]
        cursor.execute(sql.ENTRY_UNLEASE, (now, 0, label, held, codes.QUEUE[queue], info, ident))
        event(cursor, ident, now, "held", held, info)
        return True
    if strikes < STRIKES:
        return False
    info = infos.id(cursor, f"Suspect: {strikes} attempts in a row ended without a result")
    at = rules.as_if_failed(queue, max(attempts, 1), id_time(ident), now)
    number = codes.QUEUE[queue]
    cursor.execute(sql.ENTRY_UNLEASE, (at, 0, label | Label.SUSPECT, number, None, info, ident))
    event(cursor, ident, now, "deferred", number, info)
    return True


def recover(connection: apsw.Connection, infos: Infos, rules: Rules, now: Millis) -> tuple[int, int]:
    """End a predecessor's leases at once (this process holds the directory's lock). (ended, labelled)"""
    cursor = connection.cursor()
    ended = maybe = 0
    for ident, number, lease, strikes, attempts, _label in fetch(cursor, sql.LEASED):
        queue = codes.QUEUES[number]
        label = could_have_reached(queue, ident, lease)
        ended += 1
        maybe += 1 if label else 0
        event(cursor, ident, now, "taken_over", number, None)
        strikes += 1
        if not _set_aside(cursor, infos, rules, queue, ident, attempts, strikes, label, now):
            info = infos.id(cursor, "Interrupted: the gateway stopped while this was being worked on")
            cursor.execute(sql.ENTRY_UNLEASE, (now, strikes, label, number, None, info, ident))
    return ended, maybe


def renew(cursor: apsw.Cursor, until: Millis, leases: Sequence[tuple[int, int]]) -> list[int]:
    """Heartbeat: the entries whose lease was lost meanwhile."""
    lost = []
    for ident, lease in leases:
        before = cursor.connection.total_changes()
        cursor.execute(sql.LEASE_RENEW, (until, ident, lease))
        if cursor.connection.total_changes() == before:
            lost.append(ident)
    return lost
