"""The ledger as people see it: everything created = everything ended + everything that still waits; the difference is always 0.

Each process life counts in the transaction of the fact (apply.Tally); here the lives are added up and compared with the queue.

Promises: one snapshot, read off the writer's way; every account is shown, also one that only a repair writes (`correction`).
Fails: apsw errors pass through; `check` raises StoreUnavailable.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.ids import BESIDE, id_node, id_time, public_id
from postroom.model import Origin, Outcome, Queue
from postroom.store.find.reader import Reader
from postroom.store.store import Store
from postroom.telemetry import Log, stamp

LIVES = 50  # shown one by one, the newest; those before them are added up
REMEDY = "mail is unaccounted for: postroom verify tells which"

_LINES = "SELECT connection, kind, number FROM ledger ORDER BY connection DESC, kind"
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
    leaving: int  # queued, but in none of the queues: they end when the undo window of their plan is over
    lives: tuple[Life, ...]  # newest first
    earlier: int  # lives before these

    @property
    def difference(self) -> int:
        return sum(self.created.values()) - sum(self.ended.values()) - sum(self.queued.values()) - self.leaving


def read(reader: Reader) -> Ledger:
    with reader.tx.snapshot():  # one snapshot for lines and queue
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
    """One form for the command line and for our own API."""
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
