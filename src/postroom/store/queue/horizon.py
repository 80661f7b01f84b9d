"""What a clock that was set must not do: hide the leases of a dead process, or put mail off that should long be tried.

Promises: no lease ends later than the horizon that was committed with it or before it, so a start finds every lease of its
predecessor, whatever the time is now, without reading the queue; an entry waits no longer than its schedule says, counted from the
time that is known to be right. Fails: apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postroom.clock import MINUTE, Millis
from postroom.ids import id_time
from postroom.model import Queue
from postroom.store import codes
from postroom.store.engine import Tx
from postroom.store.queue.claim import Rules
from postroom.store.sqlite import statements as sql

AHEAD = MINUTE  # how far the horizon is moved at a time: one small row a minute
SLACK = MINUTE  # clocks differ a little, and are corrected a little
SLICE = 200  # entries of one step of rescheduling: a few milliseconds of the writer
SHARE = 0.01  # seconds between two steps
NEVER = (1 << 63) - 1
TOP = (NEVER, NEVER)  # where rescheduling starts
LEASES, SEEN = "leases", "seen"  # rows in the table `upkeep`: the horizon, and what the time was when it was moved


class Horizon:
    """The latest end that a lease may have. The writer's own: `reach` inside the transaction that writes a lease."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], Millis]) -> None:
        self._now = now
        self._until: Millis = 0

    def reach(self, tx: Tx, until: Millis) -> None:
        if until > self._until:
            tx.rows(sql.HORIZON_SET, (LEASES, until + AHEAD))
            tx.rows(sql.HORIZON_SET, (SEEN, self._now()))
            self._until = until + AHEAD

    def forget(self) -> None:
        """A transaction was rolled back: what it wrote is not there."""
        self._until = 0


def horizon(tx: Tx) -> Millis:
    """Up to when leases must be looked for; a store of an older release may have them at any time."""
    rows = tx.rows(sql.UPKEEP_GET, (LEASES,))
    return int(rows[0][0]) if rows else NEVER


def is_ahead(tx: Tx, last_id: int, now: Millis) -> bool:
    """Whether this store has seen a later time than now: the clock was set back. Not told by the horizon itself, which is as far
    ahead as leases were long then."""
    rows = tx.rows(sql.UPKEEP_GET, (SEEN,))
    return max(id_time(last_id), int(rows[0][0]) if rows else 0) > now + SLACK


def begin(tx: Tx, now: Millis) -> None:
    """In the transaction that ends the leases of the predecessor: none is left that has not ended."""
    tx.rows(sql.HORIZON_SET, (LEASES, 0))
    tx.rows(sql.HORIZON_SET, (SEEN, now))


def some(
    tx: Tx, rules: Rules, queue: Queue, top: tuple[Millis, int], now: Millis
) -> tuple[int, tuple[Millis, int] | None]:
    """One step down the index of what is due, the latest first: (how many were changed, where to go on)."""
    changed = 0
    number = codes.QUEUE[queue]
    rows: list[Any] = tx.rows(sql.ENTRY_PUT_OFF, (number, now, top[0], top[0], top[1], SLICE))
    for ident, _due, attempts, since, next_attempt, lease in rows:
        if lease is not None or not codes.is_counted(attempts, since):  # in hand: its result decides; damaged: a claim
            continue
        began = min(since, now)
        latest = rules.as_if_failed(queue, attempts, began, now) if attempts else now
        if next_attempt > latest:
            tx.run(sql.ENTRY_RESCHEDULE, (latest, began, ident))
            changed += 1
    return changed, (rows[-1][1], rows[-1][0]) if len(rows) == SLICE else None
