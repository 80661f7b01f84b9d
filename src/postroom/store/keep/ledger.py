"""The ledger as people see it: what was created = what has ended + what still waits. The difference is always 0.

Each process life counts an event in the transaction of that event (`LedgerLines` in queue/apply.py). Here the lives are
added up and compared with the queue.

Promises: one snapshot, on a reader; every account is shown, even the one that only a repair writes (`correction`).
Fails: database errors pass through; `check` raises StoreUnavailable.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.ids import BESIDE, id_node, id_time, public_id
from postroom.model import Origin, Outcome, Queue
from postroom.store.engine import named
from postroom.store.find.reader import Reader
from postroom.store.store import Store
from postroom.telemetry import Log, stamp

LIVES = 50  # the newest lives are shown one by one, earlier ones are added up
REMEDY = "mail is unaccounted for: postroom verify tells which"

_LINES = named("keep.ledger_lines", "SELECT connection, kind, number FROM ledger ORDER BY connection DESC, kind")
_OUTCOMES = frozenset(outcome.value for outcome in Outcome)


class Life(msgspec.Struct, frozen=True):
    """What one process has counted since it opened the store."""

    id: int
    began: Millis
    beside: bool  # a command beside the gateway, not the gateway itself
    kinds: dict[str, int]

    @property
    def created(self) -> int:
        return sum(number for kind, number in self.kinds.items() if kind not in _OUTCOMES)

    @property
    def ended(self) -> int:
        return sum(number for kind, number in self.kinds.items() if kind in _OUTCOMES)


class Ledger(msgspec.Struct, frozen=True):
    created: dict[str, int]  # by origin, zeros included
    ended: dict[str, int]  # by outcome, zeros included
    queued: dict[Queue, int]
    leaving: int  # in none of the queues: they end when the undo window of their plan closes
    lives: tuple[Life, ...]  # newest first
    earlier: int  # lives before these

    @property
    def difference(self) -> int:
        return sum(self.created.values()) - sum(self.ended.values()) - sum(self.queued.values()) - self.leaving


def read(reader: Reader) -> Ledger:
    with reader.tx.snapshot():
        lines = reader.tx.rows(_LINES)
        queued, leaving = reader.queue_counts(), reader.leaving()
    created = {origin.value: 0 for origin in Origin}
    ended = {outcome.value: 0 for outcome in Outcome}
    lives: dict[int, dict[str, int]] = {}
    for life, kind, number in lines:
        lives.setdefault(life, {})[kind] = number
        side = ended if kind in _OUTCOMES else created
        side[kind] = side.get(kind, 0) + number
    shown = [Life(life, id_time(life), id_node(life) == BESIDE, kinds) for life, kinds in lives.items()]
    return Ledger(created, ended, queued, leaving, tuple(shown[:LIVES]), max(len(shown) - LIVES, 0))


def as_json(found: Ledger) -> dict[str, object]:
    """The form that the command line and our own API share."""
    return {
        "difference": found.difference,
        "created": found.created,
        "ended": found.ended,
        "queued": {**{queue.value: number for queue, number in found.queued.items()}, "leaving": found.leaving},
        "lives": [
            {
                "id": public_id(life.id),
                "began": stamp(life.began),
                "process": "command" if life.beside else "gateway",
                "created": life.created,
                "ended": life.ended,
                "kinds": life.kinds,
            }
            for life in found.lives
        ],
        "earlierLives": found.earlier,
    }


async def check(store: Store, log: Log) -> int:
    """Compare, remember the difference in `store.ledger_difference`, and raise the alarm when it changes."""
    created, ended, queued = await store.read(lambda reader: reader.ledger())
    difference = sum(created.values()) - sum(ended.values()) - queued
    if difference != store.ledger_difference:
        store.ledger_difference = difference
        if difference:
            log.error(
                "ledger_difference", difference=difference, created=sum(created.values()), ended=sum(ended.values()),
                queued=queued, remedy=REMEDY,
            )  # fmt: skip
        else:
            log.warning("ledger_agrees")
    return difference
