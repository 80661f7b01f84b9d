"""Logs in pages, for `get-rejections` and `get-held-release-logs`.

Promises: as `paging/queues.py` does for the queue, the token holds query, size, top, border, total and expiry, and is
good for one application and function only. Lines that arrive later are not shown; lines that are forgotten vanish. A
search ends in a bounded time, and one runs at a time, so that mail does not feel it. Fails: as `page_call` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import Call
from postroom.http.gateway.paging.page_call import listed
from postroom.http.gateway.paging.tokens import PageRefused, TokenSeal, expired
from postroom.http.gateway.wire.envelope import Pagination, invalid_token
from postroom.http.services import PATIENCE, Services
from postroom.store import logs

_INSTEAD = "a shorter time from start to end"


T = TypeVar("T", bound=logs.LogLine)


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """A page of a log. `after` or `before`: the border id; at most one is given. `first`: the total is not known
    yet."""

    query: logs.LogQuery
    size: int
    top: int | None
    after: int | None
    before: int | None
    total: int | None  # None: not known yet, or more than is counted
    first: bool
    expires: Millis


class SpotPage(msgspec.Struct, Generic[T], frozen=True):
    """A page that was read, and its spot: with top and total of a first page, and the border where its lines were
    found."""

    spot: Spot
    page: logs.LogPage[T]


class LogListing(Generic[T]):
    """The function. `read_query` may raise BadItem; `shown` makes the one element of `data` of a page's lines."""

    def __init__(
        self, services: Services, path: str, log: logs.Log[T], *, read_query: Callable[[Any, Millis], logs.LogQuery],
        shown: Callable[[list[T]], Any],
    ) -> None:  # fmt: skip
        self._services = services
        self._path = path
        self._log = log
        self._read_query = read_query
        self._shown = shown
        self._seal = TokenSeal(services.sealer, "postroom.log-token")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Spot).decode

    async def __call__(self, call: Call) -> bytes:
        services = self._services
        return await listed(call, self._path, self, size=services.settings.api.page_size, now=services.clock.now())

    def first(self, item: Any, size: int, now: Millis) -> Spot:
        return Spot(self._read_query(item, now), size, None, None, None, None, True, 0)

    def shown(self, pages: list[SpotPage[T]]) -> list[Any]:
        return [self._shown(found.page.lines) for found in pages]

    async def page(self, spot: Spot) -> SpotPage[T]:
        if not spot.query.narrows:
            return await self._read(spot)
        async with self._services.scans.turn(PATIENCE):
            return await self._read(spot)

    async def _read(self, spot: Spot) -> SpotPage[T]:
        store, log, query, size = self._services.store, self._log, spot.query, spot.size
        if spot.first:
            first = await store.read(logs.read_first_page(log, query, size=size, instead=_INSTEAD))
            return SpotPage(msgspec.structs.replace(spot, top=first.top, total=first.total), first.page)
        page = await store.read(
            logs.read_page(log, query, size=size, top=spot.top, after=spot.after, before=spot.before, instead=_INSTEAD)
        )
        return SpotPage(msgspec.structs.replace(spot, after=page.after, before=page.before), page)

    def opened(self, token: str, context: str, now: Millis) -> Spot:
        try:
            spot = self._decode(self._seal.open(token, context))
        except msgspec.MsgspecError:
            raise PageRefused(invalid_token()) from None
        if now >= spot.expires:
            raise expired()
        return spot

    def pagination(self, pages: list[SpotPage[T]], context: str) -> Pagination | None:
        if len(pages) != 1:
            return _together(pages)
        spot, page = pages[0].spot, pages[0].page
        lines = page.lines
        if not lines and not page.earlier and not page.later:
            return Pagination(0)
        following = previous = None
        if page.later:
            after = lines[-1].id if lines else spot.before
            following = msgspec.structs.replace(spot, after=after, before=None)
        if page.earlier:
            before = lines[0].id if lines else spot.after
            previous = msgspec.structs.replace(spot, after=None, before=before)
        return Pagination(len(lines), spot.total, self._sealed(following, context), self._sealed(previous, context))

    def _sealed(self, spot: Spot | None, context: str) -> str | None:
        if spot is None:
            return None
        expires = self._services.clock.now() + self._services.settings.api.page_token_lifetime
        return self._seal.seal(self._encode(msgspec.structs.replace(spot, first=False, expires=expires)), context)


def _together(pages: list[SpotPage[T]]) -> Pagination | None:
    """Several queries in one call: the sums, and no token, which can stand for one query only."""
    if not pages:
        return None
    shown = sum(len(found.page.lines) for found in pages)
    totals = [found.spot.total for found in pages]
    return (
        Pagination(shown, None if None in totals else sum(total or 0 for total in totals)) if shown else Pagination(0)
    )
