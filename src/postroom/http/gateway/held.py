"""`POST /api/gateway/get-hold-message-list` and `get-hold-summary-list`: what is held, page by page, and how much of what.

Promises: as `find-processing-messages`: one look, no lease, the same pages and tokens; the items stand directly in `data`. Fails:
what is wrong with an item or a token stands in `fail`, with HTTP 200.
"""

from __future__ import annotations

import msgspec

from postroom.http.gateway.call import Call
from postroom.http.gateway.envelope import ItemFailure, Pagination, answer, malformed
from postroom.http.gateway.idents import EntryIds
from postroom.http.gateway.members import BadItem
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
from postroom.http.gateway.wire_held import held_messages, policy_of, read_held
from postroom.http.services import Services
from postroom.model import Queue
from postroom.store import codes
from postroom.store.reader import Reader
from postroom.store.sqlite import fetch

LIST = "/api/gateway/get-hold-message-list"
SUMMARY = "/api/gateway/get-hold-summary-list"
MAX_ITEMS = 25  # of `data`, each one a query of its own (contract section 3)

_BY_INFO = (
    "SELECT i.text, count(*) FROM entry AS e INDEXED BY entry_queue JOIN info AS i ON i.id = e.info_id WHERE e.queue = ? "
    "GROUP BY e.info_id"
)


class HeldList:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._idents = EntryIds(services.sealer)
        self._tokens = PageTokens(services.sealer)
        self._totals = Totals()

    async def __call__(self, call: Call) -> bytes:
        api = self._services.settings.api
        context = f"{call.app.app_id} {LIST}"
        now = self._services.clock.now()
        try:
            asked = read_asked(call.body, call.items, api.page_size)
            token = self._tokens.read(asked.token, context, now) if asked.token else None
        except PageRefused as problem:
            return answer([], [ItemFailure(None, (problem.fault,))], None)
        if len(call.items) > MAX_ITEMS and token is None:
            return answer([], [ItemFailure(None, (malformed("data", f"an array of up to {MAX_ITEMS} objects"),))], None)
        pages: list[Page] = []
        failed: list[ItemFailure] = []
        if token is not None:  # the token's own query decides, whatever `data` says
            pages.append(await self._page(token))
        else:
            for item in call.items or [{}]:
                try:
                    query = read_held(item, now)
                except BadItem as problem:
                    failed.append(ItemFailure(item, problem.faults))
                else:
                    pages.append(await self._page(Place(query, asked.size, None, None, None, -1, 0)))
        entries = [entry for page in pages for entry in page.entries]
        return answer([*held_messages(entries, self._idents)], failed, self._pagination(pages, context))

    async def _page(self, place: Place) -> Page:
        return await self._services.store.read(lambda reader: read_page(reader, place, self._totals))

    def _pagination(self, pages: list[Page], context: str) -> Pagination | None:
        """Of several queries in one call: the sums, and no token, which can stand for one query only."""
        if not pages:
            return None
        total = sum(page.place.total for page in pages)
        shown = sum(len(page.entries) for page in pages)
        if not total:
            return Pagination(0)
        if len(pages) > 1:
            return Pagination(shown, total)
        following, previous = next_place(pages[0]), previous_place(pages[0])
        return Pagination(shown, total, self._token(following, context), self._token(previous, context))

    def _token(self, place: Place | None, context: str) -> str | None:
        if place is None:
            return None
        expires = self._services.clock.now() + self._services.settings.api.page_token_lifetime
        return self._tokens.write(msgspec.structs.replace(place, expires=expires), context)


class Counted(msgspec.Struct, frozen=True):
    """One line of the summary."""

    policyInfo: str  # noqa: N815 - the wire's name, as below
    numberOfItems: int  # noqa: N815


class HeldSummary:
    """Most first; whatever `data` says, as the vendor takes none."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, call: Call) -> bytes:
        found = await self._services.store.read(_by_policy)
        lines = sorted(found.items(), key=lambda line: (-line[1], line[0]))
        return answer([Counted(policy, number) for policy, number in lines], [], None)


def _by_policy(reader: Reader) -> dict[str, int]:
    found: dict[str, int] = {}
    for info, number in fetch(reader.connection, _BY_INFO, (codes.QUEUE[Queue.HELD],)):
        policy = policy_of(info)
        found[policy] = found.get(policy, 0) + number
    return found
