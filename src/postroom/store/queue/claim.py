"""Leases (`lockedUntil`): claim what is due, renew, and take over what a dead or stalled worker left.

A claim counts the attempt and sets the next one *as if this one had failed*; success improves on that.
`rules.lifecycle` decides what happens to an entry whose lease ended without a result (`after_lost_lease`,
`lost_lease_label`). Lease times are those of `Engine.now`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from typing import NamedTuple

from postroom.clock import Millis
from postroom.ids import public_id
from postroom.model import Queue
from postroom.rules import lifecycle
from postroom.rules.lifecycle import CHECKED, INTERRUPTED_INFO, WORKED_ON, Due, Held, LostLease, Waits
from postroom.rules.retry import Schedule, as_if_failed
from postroom.store import codes
from postroom.store.damage import ENTRY_UNREADABLE, STATE_DAMAGED
from postroom.store.engine import LOST_CHARACTER, Engine, Statement, Tx, named
from postroom.store.queue.apply import Infos, event
from postroom.store.records import Lease
from postroom.telemetry import Counts, Log

ENTRY_CLAIM = named(  # positional: once for each message that has waited
    "queue.entry_claim",
    "UPDATE entry SET attempts = ?, next_attempt = ?, locked_until = ?, lease = ?, strikes = ?, label = label | ? "
    "WHERE id = ?",
)
ENTRY_UNLEASE = named(
    "queue.entry_unlease",
    "UPDATE entry SET next_attempt = :at, locked_until = NULL, lease = NULL, strikes = :strikes, "
    "label = label | :label, queue = :queue, from_queue = :from, info_id = :info, request = NULL WHERE id = :entry",
)
LEASE_RENEW = named("queue.lease_renew", "UPDATE entry SET locked_until = :until WHERE id = :entry AND lease = :lease")
# Leases that still run when the gateway starts, by the time they would end; a claim finds those that have ended.
# "(lease IS NOT NULL) = TRUE", in exactly these words, is a column of the index entry_due: with a full queue, reading
# the rows for it took seconds.
LEASED = named(
    "queue.leased",
    "SELECT id, lease, strikes, attempts, since, request FROM entry WHERE queue = :queue "
    "AND coalesce(locked_until, next_attempt) BETWEEN :now AND :horizon AND (lease IS NOT NULL) = TRUE",
)


@cache
def entry_due(lock: str) -> Statement:
    """Due entries of a queue, by the time they are due: the end of the lease, or else the next attempt."""
    text = (
        "SELECT id, message_id, recipient, attempts, since, lease, strikes, waived, request FROM entry "
        "WHERE queue = :queue AND coalesce(locked_until, next_attempt) <= :now "
        "ORDER BY coalesce(locked_until, next_attempt) LIMIT :most"
    )
    return named("queue.entry_due", f"{text} {lock}" if lock else text)


class Rules(NamedTuple):
    """The settings that claiming needs."""

    processing: Schedule
    delivery: Schedule
    lease: Millis
    hold_maybe: bool

    def schedule(self, queue: Queue) -> Schedule:
        return self.processing if queue in CHECKED else self.delivery

    def as_if_failed(self, queue: Queue, attempts: int, since: Millis, now: Millis) -> Millis:
        return as_if_failed(self.schedule(queue), attempts, since, now)


class Taken(NamedTuple):
    """What a claim did."""

    leases: list[Lease]
    taken_over: int
    labelled: list[int]  # entries that may have been delivered
    found: int  # rows that were due, or leased
    unreadable: Sequence[int] = ()  # entries held because their recipient or state cannot be read


def claim(
    tx: Tx, engine: Engine, infos: Infos, rules: Rules, queue: Queue, limit: int, now: Millis,
    in_hand: Container[int],
) -> Taken:  # fmt: skip
    """Lease up to `limit` due entries of one queue. Leases of entries `in_hand` are renewed, not taken over: they can
    end while this process works when the clock jumps or the disk stalls."""
    ids = engine.ids
    leases: list[Lease] = []
    labelled: list[int] = []
    unreadable: list[int] = []
    taken_over = 0
    due = tx.rows(entry_due(engine.claim_lock), {"queue": codes.QUEUE[queue], "now": now, "most": limit})
    for found in due:
        ident, message, recipient, attempts, since, old_lease, strikes, waived, request = found
        label = 0
        if old_lease is not None and ident in in_hand:
            tx.run(LEASE_RENEW, {"until": now + rules.lease, "entry": ident, "lease": old_lease})
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
            label = lifecycle.lost_lease_label(queue, born=old_lease == ident)
            if label:
                labelled.append(ident)
            event(tx, ident, now, "taken_over", codes.QUEUE[queue], None)
            left = LostLease(ident, queue, attempts, since, strikes, label, codes.action(request))
            if _set_aside(tx, infos, rules, left, now):
                continue
        attempts += 1
        lease = ids.next()
        following = rules.as_if_failed(queue, attempts, since, now)
        tx.run(ENTRY_CLAIM, (attempts, following, now + rules.lease, lease, strikes, label, ident))
        leases.append(Lease(ident, lease, message, queue, recipient, attempts, following, since, tuple(waived.split())))
    return Taken(leases, taken_over, labelled, len(due), unreadable)


def _damage(recipient: str, waived: str, attempts: int, since: int, strikes: int) -> str:
    """Why this entry cannot be worked on; empty if it can. One damaged row must not stop the claims of all others."""
    if type(recipient) is not str or type(waived) is not str or LOST_CHARACTER in recipient + waived:
        return ENTRY_UNREADABLE
    return "" if codes.is_counted(attempts, since, strikes) else STATE_DAMAGED


def _unreadable(
    tx: Tx, infos: Infos, queue: Queue, ident: int, old_lease: int | None, now: Millis, text: str
) -> int:  # fmt: skip
    """Hold an entry whose recipient or number of attempts cannot be read, for a person to decide. Returns its label."""
    label = 0 if old_lease is None else lifecycle.lost_lease_label(queue, born=old_lease == ident)
    info, held = infos.id(tx, text), codes.QUEUE[Queue.HELD]
    _unlease(tx, ident, now, 0, label, held, codes.QUEUE[queue], info)
    event(tx, ident, now, "held", held, info)
    return label


def _unlease(
    tx: Tx, entry: int, at: Millis, strikes: int, label: int, queue: int, from_queue: int | None, info: int
) -> None:  # fmt: skip
    tx.run(
        ENTRY_UNLEASE,
        {
            "entry": entry, "at": at, "strikes": strikes, "label": label, "queue": queue, "from": from_queue,
            "info": info,
        },
    )  # fmt: skip


def _set_aside(tx: Tx, infos: Infos, rules: Rules, left: LostLease, now: Millis) -> bool:
    """Hold or put off an entry whose lease was lost, as the rules say. False: it is due at once."""
    number = codes.QUEUE[left.queue]
    match lifecycle.after_lost_lease(left, rules.schedule(left.queue), now, hold_maybe=rules.hold_maybe):
        case Held(text, label, requested):
            info = infos.id(tx, text)
            held = codes.QUEUE[Queue.HELD]
            _unlease(tx, left.entry, now, 0, label, held, number, info)
            event(tx, left.entry, now, "held", held, info, "request" if requested else "")
            return True
        case Waits(at, text, label):
            info = infos.id(tx, text)
            _unlease(tx, left.entry, at, 0, label, number, None, info)
            event(tx, left.entry, now, "deferred", number, info)
            return True
        case Due():
            return False


def recover(tx: Tx, infos: Infos, rules: Rules, now: Millis, horizon: Millis) -> Taken:
    """End the predecessor's leases at once; this process holds the lock of the directory. Nothing is leased again.

    Only leases that still run are read, up to the horizon of all leases (horizon.py): the others are due anyway, and a
    start must not read a million rows to find a few."""
    labelled: list[int] = []
    ended = 0
    for queue in WORKED_ON:
        number = codes.QUEUE[queue]
        leased = tx.rows(LEASED, {"queue": number, "now": now, "horizon": horizon})
        for ident, lease, strikes, attempts, since, request in leased:
            label = lifecycle.lost_lease_label(queue, born=lease == ident)
            ended += 1
            if label:
                labelled.append(ident)
            event(tx, ident, now, "taken_over", number, None)
            if not codes.is_counted(attempts, since, strikes):
                _unreadable(tx, infos, queue, ident, lease, now, STATE_DAMAGED)
                continue
            left = LostLease(ident, queue, attempts, since, strikes + 1, label, codes.action(request))
            if not _set_aside(tx, infos, rules, left, now):
                info = infos.id(tx, INTERRUPTED_INFO)
                _unlease(tx, ident, now, left.strikes, label, number, None, info)
    return Taken([], ended, labelled, ended)


def tell(taken: Sequence[Taken], counts: Counts, log: Log) -> None:
    """Count what was taken over, and log each entry that may have been delivered."""
    for part in taken:
        counts.taken_over += part.taken_over
        counts.maybe_delivered += len(part.labelled)
        for entry in part.labelled:
            log.info("maybe_delivered", id=public_id(entry), why="an attempt ended without a result")


def renew(tx: Tx, until: Millis, leases: Sequence[tuple[int, int]]) -> list[int]:
    """Heartbeat. Returns the entries whose lease was lost meanwhile."""
    lost = []
    for ident, lease in leases:
        if not tx.run(LEASE_RENEW, {"until": until, "entry": ident, "lease": lease}):
            lost.append(ident)
    return lost
