"""A call that lists, from what is asked to its answer: queues (`queue_listing`) and logs (`listing`) alike.

Promises: a page token's own query decides, whatever `data` says; else every item of `data` is a query of its own, answered in order, and
what is wrong with one of them does not keep the others from being answered. Fails: what is wrong with an item or a token stands in
`fail`, with HTTP 200.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from postroom.clock import Millis
from postroom.http.gateway.call import MAX_ITEMS, Call
from postroom.http.gateway.paging.tokens import PageRefused, read_asked
from postroom.http.gateway.wire.envelope import (
    Fault,
    ItemFailure,
    Pagination,
    answer,
    malformed,
    too_broad,
)
from postroom.http.gateway.wire.members import BadItem
from postroom.store import SearchTooBroad

S = TypeVar("S")  # where a page is
P = TypeVar("P")  # a page that was read


class Pages(Protocol[S, P]):
    """What is listed. `context`: the application and function that its tokens are good for."""

    def opened(self, token: str, context: str, now: Millis) -> S:
        """Raises PageRefused."""
        ...

    def first(self, item: Any, size: int, now: Millis) -> S:
        """Raises BadItem."""
        ...

    async def page(self, spot: S) -> P:
        """Raises SearchTooBroad."""
        ...

    def shown(self, pages: list[P]) -> list[Any]:
        """`data` of the answer."""
        ...

    def pagination(self, pages: list[P], context: str) -> Pagination | None: ...


async def listed(call: Call, path: str, pages: Pages[S, P], *, size: int, now: Millis) -> bytes:
    """`size`: the most that one page may show."""
    context = f"{call.app.app_id} {path}"
    try:
        asked = read_asked(call.body, call.items, size)
        spot = pages.opened(asked.token, context, now) if asked.token else None
    except PageRefused as problem:
        return _refused(problem.fault)
    if spot is not None:
        try:
            found = [await pages.page(spot)]
        except SearchTooBroad as problem:
            return _refused(too_broad(problem))
        return answer(pages.shown(found), [], pages.pagination(found, context))
    if len(call.items) > MAX_ITEMS:
        return _refused(malformed("data", f"an array of up to {MAX_ITEMS} objects"))
    found = []
    failed: list[ItemFailure] = []
    for item in call.items or [{}]:
        try:
            found.append(await pages.page(pages.first(item, asked.size, now)))
        except BadItem as problem:
            failed.append(ItemFailure(item, problem.faults))
        except SearchTooBroad as problem:
            failed.append(ItemFailure(item, (too_broad(problem),)))
    return answer(pages.shown(found), failed, pages.pagination(found, context))


def _refused(fault: Fault) -> bytes:
    return answer([], [ItemFailure(None, (fault,))], None)
