"""What a clock that was set must not do: hide the leases of a dead process, or put mail off that should long be tried.

Promises: no lease ends later than the horizon that was committed with it or before it, so a start finds every lease of its
predecessor, whatever the time is now, without reading the queue; an entry waits no longer than its schedule says, counted from the
time that is known to be right. Fails: apsw errors pass through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import apsw

from postroom.clock import MINUTE, Millis
from postroom.ids import id_time
from postroom.lifecycle import WORKED_ON
from postroom.model import Queue
from postroom.store import codes, sql
from postroom.store.claim import Rules
from postroom.store.sqlite import fetch

if TYPE_CHECKING:
    from postroom.store.store import Store

AHEAD = MINUTE  # how far the horizon is moved at a time: one small row a minute
SLACK = MINUTE  # clocks differ a little, and are corrected a little
SLICE = 200  # entries of one step of rescheduling: a few milliseconds of the writer
SHARE = 0.01  # seconds between two steps
NEVER = (1 << 63) - 1
LEASES, SEEN = "leases", "seen"  # rows in the table `upkeep`: the horizon, and what the time was when it was moved


class Horizon:
    """The latest end that a lease may have. The writer's own: `reach` inside the transaction that writes a lease."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], Millis]) -> None:
        self._now = now
        self._until: Millis = 0

    def reach(self, cursor: apsw.Cursor | apsw.Connection, until: Millis) -> None:
        if until > self._until:
            fetch(cursor, sql.HORIZON_SET, (LEASES, until + AHEAD))
            fetch(cursor, sql.HORIZON_SET, (SEEN, self._now()))
            self._until = until + AHEAD

    def forget(self) -> None:
        """A transaction was rolled back: what it wrote is not there."""
        self._until = 0


def horizon(connection: apsw.Connection) -> Millis:
    """Up to when leases must be looked for; a store of an older release may have them at any time."""
    rows = fetch(connection, sql.UPKEEP_GET, (LEASES,))
    return int(rows[0][0]) if rows else NEVER


def is_ahead(connection: apsw.Connection, last_id: int, now: Millis) -> bool:
    """Whether this store has seen a later time than now: the clock was set back. Not told by the horizon itself, which is as far
    ahead as leases were long then."""
    rows = fetch(connection, sql.UPKEEP_GET, (SEEN,))
    return max(id_time(last_id), int(rows[0][0]) if rows else 0) > now + SLACK


def begin(connection: apsw.Connection, now: Millis) -> None:
    """In the transaction that ends the leases of the predecessor: none is left that has not ended."""
    fetch(connection, sql.HORIZON_SET, (LEASES, 0))
    fetch(connection, sql.HORIZON_SET, (SEEN, now))


async def reschedule(store: Store) -> int:
    """After the clock was set back: what waits beyond its schedule waits by its schedule from now on. How many entries."""
    changed = 0
    for queue in WORKED_ON:
        top: tuple[Millis, int] | None = (NEVER, NEVER)
        while top is not None:
            number, top = await store.write(partial(store.reschedule_some, queue, top))
            changed += number
            await asyncio.sleep(SHARE)
    return changed


def some(
    connection: apsw.Connection, rules: Rules, queue: Queue, top: tuple[Millis, int], now: Millis
) -> tuple[int, tuple[Millis, int] | None]:
    """One step down the index of what is due, the latest first: (how many were changed, where to go on)."""
    changed = 0
    number = codes.QUEUE[queue]
    rows: list[Any] = fetch(connection, sql.ENTRY_PUT_OFF, (number, now, top[0], top[0], top[1], SLICE))
    for ident, _due, attempts, since, next_attempt, lease in rows:
        if lease is not None or not codes.is_counted(attempts, since):  # in hand: its result decides; damaged: a claim
            continue
        began = min(since, now)
        latest = rules.as_if_failed(queue, attempts, began, now) if attempts else now
        if next_attempt > latest:
            connection.execute(sql.ENTRY_RESCHEDULE, (latest, began, ident))
            changed += 1
    return changed, (rows[-1][1], rows[-1][0]) if len(rows) == SLICE else None
