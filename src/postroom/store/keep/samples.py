"""Samples of the queues: how many entries waited, every 10 minutes, for `get-email-queues`.

Promises: one sample for each step of the clock, however often `take` is called. A reader counts from an index alone.
Fails: StoreUnavailable passes through; a step without a sample (the gateway was down) stays empty.
"""

from __future__ import annotations

from typing import NamedTuple

from postroom.clock import MINUTE, Millis
from postroom.model import Queue, Route
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.find.reader import Reader
from postroom.store.store import Store

STEP: Millis = 10 * MINUTE

_COUNT = named(
    "keep.sample_count",
    "SELECT queue, route, count(*) FROM entry INDEXED BY entry_filter GROUP BY queue, route",
)
_LAST = named("keep.sample_last", "SELECT max(at) FROM queue_sample")
_ADD = named(
    "keep.sample_add",
    "INSERT INTO queue_sample (at, queue, route, number) VALUES (:at, :queue, :route, :number) ON CONFLICT DO NOTHING",
)
_FORGET = named(
    "keep.sample_forget",
    "DELETE FROM queue_sample WHERE (at, queue, route) IN "
    "(SELECT at, queue, route FROM queue_sample WHERE at < :before LIMIT :most)",
)
_READ = named(
    "keep.sample_read",
    "SELECT at, queue, route, number FROM queue_sample WHERE at >= :first AND at <= :last ORDER BY at",
)


class Sample(NamedTuple):
    at: Millis
    queue: Queue
    route: Route
    number: int


def due(reader: Reader, now: Millis) -> bool:
    """Whether this step has no sample yet."""
    last = reader.tx.value(_LAST)
    return last is None or last != now - now % STEP


def counted(reader: Reader) -> dict[tuple[Queue, Route], int]:
    """How many entries wait now, zeros included."""
    found = {(queue, route): number for queue, route, number in reader.tx.rows(_COUNT)}
    return {
        (queue, route): found.get((codes.QUEUE[queue], codes.ROUTE[route]), 0)
        for queue in codes.QUEUES
        for route in codes.ROUTES
    }


async def take(store: Store, now: Millis) -> bool:
    """Take the sample of this step; False if it exists already."""
    if not await store.read(lambda reader: due(reader, now)):
        return False
    numbers = await store.read(counted)
    await store.write(lambda tx: write(tx, now - now % STEP, numbers))
    return True


def write(tx: Tx, at: Millis, numbers: dict[tuple[Queue, Route], int]) -> None:
    rows = [
        {"at": at, "queue": codes.QUEUE[queue], "route": codes.ROUTE[route], "number": number}
        for (queue, route), number in numbers.items()
    ]
    tx.many(_ADD, rows)


def read(reader: Reader, start: Millis, end: Millis) -> list[Sample]:
    """Oldest first; both ends are included."""
    return [
        Sample(at, codes.shown(queue), codes.route(route), number)
        for at, queue, route, number in reader.tx.rows(_READ, {"first": start, "last": end})
    ]


def forget(tx: Tx, before: Millis, most: int) -> int:
    """Delete up to `most` older rows; how many."""
    return tx.run(_FORGET, {"before": before, "most": most})
