"""`POST /api/email/get-email-queues`: the number of waiting messages, every 10 minutes.

Promises: arrays, as in every recorded answer (the documentation says numbers); counts mail that waits to leave in
either direction, without held mail; intervals in which the gateway was down are missing. Fails: `err_validation_null`
or `_blank` naming the missing date, with HTTP 200.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import MAX_ITEMS, Call
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.envelope import Fault, ItemFailure, answer, malformed
from postroom.http.gateway.wire.members import BadItem, an_object, missing, window
from postroom.http.services import Services
from postroom.model import Queue, Route
from postroom.store.keep import samples
from postroom.store.keep.samples import Sample

PATH = "/api/email/get-email-queues"
INBOUND = (Route.INBOUND, Route.INTERNAL)


class Point(msgspec.Struct, frozen=True, gc=False):
    count: int
    date: str


class Listed(msgspec.Struct, frozen=True):
    inboundEmailQueue: list[Point]  # noqa: N815 - the wire's name, as below
    outboundEmailQueue: list[Point]  # noqa: N815


class EmailQueues:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> bytes:
        if len(call.items) > MAX_ITEMS:
            return answer([], [ItemFailure(None, (malformed("data", f"an array of up to {MAX_ITEMS} objects"),))], None)
        data: list[Any] = []
        failed: list[ItemFailure] = []
        for item in call.items or [{}]:
            try:
                start, end = read_window(item)
            except BadItem as problem:
                failed.append(ItemFailure(item, problem.faults))
                continue
            found = await self._services.store.read(
                lambda reader, start=start, end=end: samples.read(reader, start, end)  # type: ignore[misc]
            )
            data.append(Listed(*courses(found)))
        return answer(data, failed, None)


def read_window(item: Any) -> tuple[Millis, Millis]:
    item = an_object(item)
    faults: list[Fault] = []
    asked = window(item, faults)
    if not faults:
        faults += [
            missing(name, item.get(name)) for name, date in (("start", asked.start), ("end", asked.end)) if date is None
        ]
    if asked.start is None or asked.end is None or faults:
        raise BadItem(tuple(faults))
    return asked.start.at, asked.end.last


def courses(found: list[Sample]) -> tuple[list[Point], list[Point]]:
    """(towards us, away from us), oldest first."""
    waiting: dict[Millis, list[int]] = {}
    for sample in found:
        numbers = waiting.setdefault(sample.at, [0, 0])
        if sample.queue is not Queue.HELD:
            numbers[sample.route not in INBOUND] += sample.number
    return (
        [Point(inbound, stamp(at)) for at, (inbound, _) in waiting.items()],
        [Point(outbound, stamp(at)) for at, (_, outbound) in waiting.items()],
    )
