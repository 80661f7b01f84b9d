"""`POST /api/gateway/find-processing-messages`: the processing queue, page by page.

Promises: one look, no lease, no lock; every member of the answer as recorded (contract section 6). Fails: what is wrong with an
item or a token stands in `fail`, with HTTP 200.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import Call
from postroom.http.gateway.envelope import ItemFailure, Pagination, answer, malformed, too_broad
from postroom.http.gateway.idents import EntryIds
from postroom.http.gateway.paging import (
    Page,
    PageRefused,
    PageTokens,
    Place,
    next_place,
    previous_place,
    read_asked,
    read_page,
)  # fmt: skip
from postroom.http.gateway.totals import Totals
from postroom.http.gateway.wire import BadItem, QueuedMessage, messages, read_query
from postroom.http.services import Services
from postroom.store.search import SearchTooBroad

PATH = "/api/gateway/find-processing-messages"
MAX_ITEMS = 25  # of `data`, each one a query of its own (contract section 3)


class Listed(msgspec.Struct, frozen=True):
    messages: list[QueuedMessage]


class FindProcessingMessages:
    """The function. Its state is two ciphers and the totals it knows."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._idents = EntryIds(services.sealer)
        self._tokens = PageTokens(services.sealer)
        self._totals = Totals()

    async def __call__(self, call: Call) -> bytes:
        api = self._services.settings.api
        context = f"{call.app.app_id} {PATH}"
        now = self._services.clock.now()
        try:
            asked = read_asked(call.body, call.items, api.page_size)
            token = self._tokens.read(asked.token, context, now) if asked.token else None
        except PageRefused as problem:
            return answer([], [ItemFailure(None, (problem.fault,))], None)
        if token is not None:  # the token's own query decides, whatever `data` says
            try:
                page = await self._page(token)
            except SearchTooBroad as problem:
                return answer([], [ItemFailure(None, (too_broad(problem),))], None)
            return answer([self._listed(page)], [], self._pagination(page, context))
        if len(call.items) > MAX_ITEMS:
            return answer([], [ItemFailure(None, (malformed("data", f"an array of up to {MAX_ITEMS} objects"),))], None)
        pages, failed = await self._first_pages(call.items or [{}], asked.size, now)
        pagination = self._pagination(pages[0], context) if len(pages) == 1 else _together(pages)
        return answer([self._listed(page) for page in pages], failed, pagination)

    async def _first_pages(self, items: list[Any], size: int, now: Millis) -> tuple[list[Page], list[ItemFailure]]:
        pages: list[Page] = []
        failed: list[ItemFailure] = []
        for item in items:
            try:
                query = read_query({} if item is None else item, now)
            except BadItem as problem:
                failed.append(ItemFailure(item, problem.faults))
                continue
            place = Place(query=query, size=size, top=None, after=None, before=None, total=-1, expires=0)
            try:
                pages.append(await self._page(place))
            except SearchTooBroad as problem:
                failed.append(ItemFailure(item, (too_broad(problem),)))
        return pages, failed

    async def _page(self, place: Place) -> Page:
        return await self._services.store.read(lambda reader: read_page(reader, place, self._totals))

    def _listed(self, page: Page) -> Listed:
        return Listed(messages(page.entries, self._idents, self._services.clock.now()))

    def _pagination(self, page: Page, context: str) -> Pagination:
        if page.place.total == 0:  # recorded: nothing found has no total either
            return Pagination(0)
        return Pagination(
            len(page.entries),
            page.place.total,
            self._token(next_place(page), context),
            self._token(previous_place(page), context),
        )

    def _token(self, place: Place | None, context: str) -> str | None:
        if place is None:
            return None
        expires = self._services.clock.now() + self._services.settings.api.page_token_lifetime
        return self._tokens.write(msgspec.structs.replace(place, expires=expires), context)


def _together(pages: list[Page]) -> Pagination | None:
    """Of several queries in one call: the sums, and no token, which can stand for one query only."""
    if not pages:
        return None
    total = sum(page.place.total for page in pages)
    return Pagination(sum(len(page.entries) for page in pages), total) if total else Pagination(0)
