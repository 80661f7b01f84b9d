"""Leases (`lockedUntil`): claim what is due, renew, and take over what a dead or stalled worker left.

Claiming counts the attempt and sets the next one *as if it had failed*; success improves on it. A lease that ended without a
result makes its entry due at once; after three such ends in a row the schedule applies and the entry is marked suspect. Any
lease under which the entry could have reached delivery, ended without a result, labels it "may have been delivered",
whatever its queue on disk says (an entry born leased always could).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from postroom.clock import DAY, Millis
from postroom.ids import IdGiver, public_id
from postroom.model import Action, Label, Queue
from postroom.rules.lifecycle import CHECKED, SENDING, WORKED_ON
from postroom.rules.retry import Schedule, next_attempt
from postroom.store import codes
from postroom.store.damage import ENTRY_UNREADABLE, STATE_DAMAGED
from postroom.store.engine import LOST_CHARACTER, Tx
from postroom.store.queue.apply import Infos, event
from postroom.store.records import Lease
from postroom.store.sqlite import statements as sql
from postroom.telemetry import Counts, Log

STRIKES = 3
ASKED_INFO = "Held by a person"
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


class Left(NamedTuple):
    """An entry whose lease ended without a result."""

    queue: Queue
    entry: int
    attempts: int
    since: Millis
    strikes: int
    label: int
    request: int | None


class Taken(NamedTuple):
    """What a claim did beside handing out leases."""

    leases: list[Lease]
    taken_over: int
    labelled: list[int]  # entries that may have been delivered
    found: int  # rows that were due, or leased
    unreadable: Sequence[int] = ()  # entries that were held because nobody can say to whom they go


def claim(
    tx: Tx, ids: IdGiver, infos: Infos, rules: Rules, queue: Queue, limit: int, now: Millis,
    in_hand: Container[int],
) -> Taken:  # fmt: skip
    """Lease up to `limit` due entries of one queue. What this process has in hand is renewed, not taken over: its lease can
    end under it when the clock jumps or the disk stands still for a while."""
    leases: list[Lease] = []
    labelled: list[int] = []
    unreadable: list[int] = []
    taken_over = 0
    due = tx.rows(sql.ENTRY_DUE, (codes.QUEUE[queue], now, limit))
    for found in due:
        ident, message, recipient, attempts, since, old_lease, strikes, waived, request = found
        label = 0
        if old_lease is not None and ident in in_hand:
            tx.run(sql.LEASE_RENEW, (now + rules.lease, ident, old_lease))
            continue
        damage = _damage(recipient, waived, attempts, since, strikes)
        if damage:
            unreadable.append(ident)
            if _unreadable(tx, infos, queue, ident, old_lease, now, damage):
                labelled.append(ident)
            continue
        if old_lease is not None:
            taken_over += 1
            strikes += 1
            label = could_have_reached(queue, ident, old_lease)
            if label:
                labelled.append(ident)
            event(tx, ident, now, "taken_over", codes.QUEUE[queue], None)
            left = Left(queue, ident, attempts, since, strikes, label, request)
            if _set_aside(tx, infos, rules, left, now):
                continue
        attempts += 1
        lease = ids.next()
        following = rules.as_if_failed(queue, attempts, since, now)
        tx.run(sql.ENTRY_CLAIM, (attempts, following, now + rules.lease, lease, strikes, label, ident))
        leases.append(Lease(ident, lease, message, queue, recipient, attempts, following, since, tuple(waived.split())))
    return Taken(leases, taken_over, labelled, len(due), unreadable)


def _damage(recipient: str, waived: str, attempts: int, since: int, strikes: int) -> str:
    """Why this entry cannot be worked on; empty = it can. One damaged row must not stop the claims of all others."""
    if type(recipient) is not str or type(waived) is not str or LOST_CHARACTER in recipient + waived:
        return ENTRY_UNREADABLE
    return "" if codes.is_counted(attempts, since, strikes) else STATE_DAMAGED


def _unreadable(
    tx: Tx, infos: Infos, queue: Queue, ident: int, old_lease: int | None, now: Millis, text: str
) -> int:  # fmt: skip
    """Nobody can say to whom this mail goes, or how often it was tried: a person decides. The label."""
    label = 0 if old_lease is None else could_have_reached(queue, ident, old_lease)
    info, held = infos.id(tx, text), codes.QUEUE[Queue.HELD]
    tx.run(sql.ENTRY_UNLEASE, (now, 0, label, held, codes.QUEUE[queue], info, ident))
    event(tx, ident, now, "held", held, info)
    return label


def could_have_reached(queue: Queue, ident: int, lease: int) -> int:
    """The label for a lease that ended without a result."""
    return int(Label.MAYBE_DELIVERED) if queue in SENDING or lease == ident else 0


def _set_aside(tx: Tx, infos: Infos, rules: Rules, left: Left, now: Millis) -> bool:
    """Entries not to be tried at once: held because a person asked for it or by policy, or suspect and scheduled."""
    number = codes.QUEUE[left.queue]
    asked = codes.action(left.request) is Action.HOLD
    if asked or (left.label and rules.hold_maybe):
        info = infos.id(tx, ASKED_INFO if asked else MAYBE_HELD_INFO)
        held = codes.QUEUE[Queue.HELD]
        tx.run(sql.ENTRY_UNLEASE, (now, 0, left.label, held, number, info, left.entry))
        event(tx, left.entry, now, "held", held, info, "request" if asked else "")
        return True
    if left.strikes < STRIKES:
        return False
    info = infos.id(tx, f"Suspect: {left.strikes} attempts in a row ended without a result")
    at = rules.as_if_failed(left.queue, max(left.attempts, 1), left.since, now)
    tx.run(sql.ENTRY_UNLEASE, (at, 0, left.label | Label.SUSPECT, number, None, info, left.entry))
    event(tx, left.entry, now, "deferred", number, info)
    return True


def recover(tx: Tx, infos: Infos, rules: Rules, now: Millis, horizon: Millis) -> Taken:
    """End a predecessor's leases at once (this process holds the directory's lock); nothing is leased anew.

    Only those that still run, up to the horizon of all leases (horizon.py): the others are due anyway, and a start must not
    read a million rows to find a few."""
    labelled: list[int] = []
    ended = 0
    for queue in WORKED_ON:
        number = codes.QUEUE[queue]
        for ident, lease, strikes, attempts, since, request in tx.rows(sql.LEASED, (number, now, horizon)):
            label = could_have_reached(queue, ident, lease)
            ended += 1
            if label:
                labelled.append(ident)
            event(tx, ident, now, "taken_over", number, None)
            if not codes.is_counted(attempts, since, strikes):
                _unreadable(tx, infos, queue, ident, lease, now, STATE_DAMAGED)
                continue
            left = Left(queue, ident, attempts, since, strikes + 1, label, request)
            if not _set_aside(tx, infos, rules, left, now):
                info = infos.id(tx, "Interrupted: the gateway stopped while this was being worked on")
                tx.run(sql.ENTRY_UNLEASE, (now, left.strikes, label, number, None, info, ident))
    return Taken([], ended, labelled, ended)


def tell(taken: Sequence[Taken], counts: Counts, log: Log) -> None:
    """Count what was taken over; the log names each entry that may have been delivered."""
    for part in taken:
        counts.taken_over += part.taken_over
        counts.maybe_delivered += len(part.labelled)
        for entry in part.labelled:
            log.info("maybe_delivered", id=public_id(entry), why="an attempt ended without a result")


def renew(tx: Tx, until: Millis, leases: Sequence[tuple[int, int]]) -> list[int]:
    """Heartbeat: the entries whose lease was lost meanwhile."""
    lost = []
    for ident, lease in leases:
        if not tx.run(sql.LEASE_RENEW, (until, ident, lease)):
            lost.append(ident)
    return lost
