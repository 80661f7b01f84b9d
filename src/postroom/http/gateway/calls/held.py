"""`POST /api/gateway/get-hold-message-list` and `get-hold-summary-list`: held messages, and their number by reason.

`paging.queues` makes the pages. Promises: the summary counts all held messages, in one snapshot and a bounded time.
Fails: as `paging.queues` does.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.http.gateway.call import Call
from postroom.http.gateway.paging.queues import QueueListing
from postroom.http.gateway.paging.tokens import Page
from postroom.http.gateway.wire.envelope import ItemFailure, answer, too_broad
from postroom.http.gateway.wire.held import held_messages, policy_of, read_held
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.services import Services
from postroom.model import Queue
from postroom.store.bounded import bounded
from postroom.store.find import counters
from postroom.store.find.reader import Reader
from postroom.store.fold import SearchTooBroad

LIST = "/api/gateway/get-hold-message-list"
SUMMARY = "/api/gateway/get-hold-summary-list"

LONGEST = 5.0  # seconds of a summary; a million held take a hundredth of that


def function(services: Services) -> QueueListing:
    """The list: its items stand directly in `data`, those of several queries one after the other."""
    idents = EntryIds(services.sealer)

    def shown(pages: list[Page]) -> list[Any]:
        return [*held_messages([entry for page in pages for entry in page.entries], idents)]

    return QueueListing(services, LIST, read_query=read_held, shown=shown)


class Counted(msgspec.Struct, frozen=True):
    """One line of the summary."""

    policyInfo: str  # noqa: N815 - the wire's name, as below
    numberOfItems: int  # noqa: N815


class HeldSummary:
    """Most first; whatever `data` says, as the vendor takes none."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> bytes:
        try:
            async with self._services.scans.turn():
                found = await self._services.store.read(_by_policy)
        except SearchTooBroad as problem:
            return answer([], [ItemFailure(None, (too_broad(problem),))], None)
        lines = sorted(found.items(), key=lambda line: (-line[1], line[0]))
        return answer([Counted(policy, number) for policy, number in lines], [], None)


def _by_policy(reader: Reader) -> dict[str, int]:
    found: dict[str, int] = {}
    with reader.tx.snapshot(), bounded(reader.tx, LONGEST, "a search of get-hold-message-list"):  # one snapshot
        counted = counters.by_reason(reader.tx, Queue.HELD)
    for info, number in counted.items():
        policy = policy_of(info)
        found[policy] = found.get(policy, 0) + number
    return found
