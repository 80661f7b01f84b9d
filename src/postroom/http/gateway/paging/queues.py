"""Queues in pages, for `find-processing-messages` and `get-hold-message-list`.

Promises: read-only, without lease or lock; pages and tokens as in `paging.tokens`. Fails: as `page_call` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import Call
from postroom.http.gateway.paging.page_call import listed
from postroom.http.gateway.paging.tokens import (
    Page,
    PageTokens,
    Place,
    next_place,
    previous_place,
    read_page,
)
from postroom.http.gateway.paging.totals import Totals, without_window
from postroom.http.gateway.wire.entries import Query
from postroom.http.gateway.wire.envelope import Pagination
from postroom.http.services import Services


class QueueListing:
    """The function. Its state is a cipher and the totals it knows. `read_query` may raise BadItem; `shown` makes `data`
    of the pages."""

    def __init__(
        self, services: Services, path: str, *, read_query: Callable[[Any, Millis], Query],
        shown: Callable[[list[Page]], list[Any]],
    ) -> None:  # fmt: skip
        self._services = services
        self._path = path
        self._read_query = read_query
        self.shown = shown
        self._tokens = PageTokens(services.sealer)
        self._totals = Totals()

    async def __call__(self, call: Call) -> bytes:
        services = self._services
        return await listed(call, self._path, self, size=services.settings.api.page_size, now=services.clock.now())

    def opened(self, token: str, context: str, now: Millis) -> Place:
        return self._tokens.read(token, context, now)

    def first(self, item: Any, size: int, now: Millis) -> Place:
        query = self._read_query(item, now)
        return Place(query=query, size=size, top=None, after=None, before=None, total=-1, expires=0)

    async def page(self, spot: Place) -> Page:
        known_as = without_window(spot.query.filter)
        return await self._services.store.read(lambda reader: read_page(reader, spot, self._totals), like=known_as)

    def pagination(self, pages: list[Page], context: str) -> Pagination | None:
        """For several queries in one call: the sums, without a token, which holds one query only."""
        if not pages:
            return None
        total = sum(page.place.total for page in pages)
        if not total:  # recorded: nothing found has no total either
            return Pagination(0)
        number = sum(len(page.entries) for page in pages)
        if len(pages) > 1:
            return Pagination(number, total)
        following, previous = next_place(pages[0]), previous_place(pages[0])
        return Pagination(number, total, self._token(following, context), self._token(previous, context))

    def _token(self, place: Place | None, context: str) -> str | None:
        if place is None:
            return None
        expires = self._services.clock.now() + self._services.settings.api.page_token_lifetime
        return self._tokens.write(msgspec.structs.replace(place, expires=expires), context)
