"""Protection against a clock that was set: leases of a dead process stay visible, and overdue mail is not put off.

Promises: no lease ends later than the horizon, which is committed with the lease or before it. So a start finds every
lease of its predecessor without reading the queue, whatever the time is now. After the clock was set back, no entry
waits longer than its schedule says. Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postroom.clock import MINUTE, Millis
from postroom.ids import id_time
from postroom.model import Queue
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.queue.claim import Rules

AHEAD = MINUTE  # how far the horizon is moved at a time: one small row a minute
SLACK = MINUTE  # clocks differ a little, and are corrected a little
SLICE = 200  # entries of one step of rescheduling: a few milliseconds of the writer
SHARE = 0.01  # seconds between two steps
NEVER = (1 << 63) - 1
TOP = (NEVER, NEVER)  # where rescheduling starts
LEASES, SEEN = "leases", "seen"  # rows of the table `upkeep`: the horizon, and the time at which it was moved

UPKEEP_GET = named("queue.upkeep_get", "SELECT number FROM upkeep WHERE what = :what")
HORIZON_SET = named(
    "queue.horizon_set",
    "INSERT INTO upkeep (what, number) VALUES (:what, :number) "
    "ON CONFLICT (what) DO UPDATE SET number = excluded.number",
)
# Latest due time first; entries with the same time are ordered by id.
ENTRY_PUT_OFF = named(
    "queue.entry_put_off",
    "SELECT id, coalesce(locked_until, next_attempt), attempts, since, next_attempt, lease FROM entry "
    "WHERE queue = :queue AND coalesce(locked_until, next_attempt) > :now "
    "AND coalesce(locked_until, next_attempt) <= :latest "
    "AND (coalesce(locked_until, next_attempt) < :latest OR id < :before) "
    "ORDER BY coalesce(locked_until, next_attempt) DESC, id DESC LIMIT :most",
)
ENTRY_RESCHEDULE = named(
    "queue.entry_reschedule", "UPDATE entry SET next_attempt = :at, since = :since WHERE id = :entry"
)


class Horizon:
    """The latest end a lease may have. The writer owns it: `reach` runs in the transaction that writes a lease."""

    __slots__ = ("_now", "_until")

    def __init__(self, now: Callable[[], Millis]) -> None:
        self._now = now
        self._until: Millis = 0

    def reach(self, tx: Tx, until: Millis) -> None:
        if until > self._until:
            tx.run(HORIZON_SET, {"what": LEASES, "number": until + AHEAD})
            tx.run(HORIZON_SET, {"what": SEEN, "number": self._now()})
            self._until = until + AHEAD

    def forget(self) -> None:
        """The transaction was rolled back, and what it wrote with it."""
        self._until = 0


def horizon(tx: Tx) -> Millis:
    """The latest time at which a lease can end. In a store of an older release that may be any time."""
    row = tx.row(UPKEEP_GET, {"what": LEASES})
    return NEVER if row is None else int(row[0])


def is_ahead(tx: Tx, last_id: int, now: Millis) -> bool:
    """Whether this store has seen a later time than now, because the clock was set back since. The horizon itself does
    not tell: it was ahead by the length of a lease."""
    row = tx.row(UPKEEP_GET, {"what": SEEN})
    return max(id_time(last_id), 0 if row is None else int(row[0])) > now + SLACK


def begin(tx: Tx, now: Millis) -> None:
    """Start over in the transaction that ends the predecessor's leases: none is left."""
    tx.run(HORIZON_SET, {"what": LEASES, "number": 0})
    tx.run(HORIZON_SET, {"what": SEEN, "number": now})


def some(
    tx: Tx, rules: Rules, queue: Queue, top: tuple[Millis, int], now: Millis
) -> tuple[int, tuple[Millis, int] | None]:
    """One step down the index of due times, the latest first. Returns (entries changed, where the next step starts)."""
    changed = 0
    wanted = {"queue": codes.QUEUE[queue], "now": now, "latest": top[0], "before": top[1], "most": SLICE}
    rows: list[Any] = tx.rows(ENTRY_PUT_OFF, wanted)
    for ident, _due, attempts, since, next_attempt, lease in rows:
        if lease is not None or not codes.is_counted(
            attempts, since
        ):  # in hand: its result decides; damaged: the claim
            continue
        began = min(since, now)
        latest = rules.as_if_failed(queue, attempts, began, now) if attempts else now
        if next_attempt > latest:
            tx.run(ENTRY_RESCHEDULE, {"at": latest, "since": began, "entry": ident})
            changed += 1
    return changed, (rows[-1][1], rows[-1][0]) if len(rows) == SLICE else None
