"""Logs in pages, for `get-rejections` and `get-held-release-logs`.

Promises: as `paging.tokens`: a token holds query, size, top, border, total and expiry, and is valid for one application
and function only. Lines that arrive later are not shown; lines that expire disappear. A search ends after BOUND, and
only one runs at a time, so that mail is not delayed. Fails: as `page_call` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import Call
from postroom.http.gateway.paging.page_call import listed
from postroom.http.gateway.paging.tokens import PageRefused, TokenSeal, expired
from postroom.http.gateway.wire.envelope import Pagination, invalid_token
from postroom.http.scans import PATIENCE
from postroom.http.services import Services
from postroom.model import Order
from postroom.store.bounded import BOUND, bounded
from postroom.store.find.reader import Reader
from postroom.store.logs.lines import Log, LogQuery, count, find, newest

_INSTEAD = "a shorter time from start to end"


class LogLine(Protocol):
    @property
    def id(self) -> int: ...


T = TypeVar("T", bound=LogLine)


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """A page of a log. `after` and `before`: the border id, of which one at most is given. `first`: its total is not
    known."""

    query: LogQuery
    size: int
    top: int | None
    after: int | None
    before: int | None
    total: int | None  # None: not known yet, or more than is counted
    first: bool
    expires: Millis


class LogPage(msgspec.Struct, Generic[T], frozen=True):
    spot: Spot
    lines: list[T]
    earlier: bool
    later: bool


class LogListing(Generic[T]):
    """The function. `read_query` may raise BadItem; `shown` makes the one element of `data` of a page's lines."""

    def __init__(
        self, services: Services, path: str, log: Log[T], *, read_query: Callable[[Any, Millis], LogQuery],
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

    def shown(self, pages: list[LogPage[T]]) -> list[Any]:
        return [self._shown(page.lines) for page in pages]

    async def page(self, spot: Spot) -> LogPage[T]:
        log = self._log

        def read(reader: Reader) -> LogPage[T]:
            with reader.tx.snapshot(), bounded(reader.tx, BOUND, _INSTEAD):  # one snapshot
                page = read_log(reader, log, spot)
            return page

        services = self._services
        if not spot.query.narrows:
            return await services.store.read(read)
        async with services.scans.turn(PATIENCE):
            return await services.store.read(read)

    def opened(self, token: str, context: str, now: Millis) -> Spot:
        try:
            spot = self._decode(self._seal.open(token, context))
        except msgspec.MsgspecError:
            raise PageRefused(invalid_token()) from None
        if now >= spot.expires:
            raise expired()
        return spot

    def pagination(self, pages: list[LogPage[T]], context: str) -> Pagination | None:
        if len(pages) != 1:
            return _together(pages)
        (page,) = pages
        if not page.lines and not page.earlier and not page.later:
            return Pagination(0)
        lines, spot = page.lines, page.spot
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


def read_log(reader: Reader, log: Log[T], spot: Spot) -> LogPage[T]:
    """Reads one line more than asked, to see whether a page follows; looks up whether one precedes."""
    tx, query, size = reader.tx, spot.query, spot.size
    found = find(tx, log, query, limit=size + 1, after=spot.after, before=spot.before, top=spot.top)
    more = len(found) > size
    if spot.before is not None:
        lines = found[1:] if more else found
        if not lines:  # all that stood here is gone: what lies behind the border is the next page
            step = 1 if query.order is Order.NEWEST else -1
            spot = msgspec.structs.replace(spot, before=spot.before + step)
        border = lines[-1].id if lines else spot.before
        later = bool(find(tx, log, query, limit=1, after=border, top=spot.top))
        return LogPage(spot, lines, earlier=more, later=later)
    lines = found[:size]
    if spot.after is not None:
        if not lines:
            step = -1 if query.order is Order.NEWEST else 1
            spot = msgspec.structs.replace(spot, after=spot.after + step)
        border = lines[0].id if lines else spot.after
        earlier = bool(find(tx, log, query, limit=1, before=border, top=spot.top))
        return LogPage(spot, lines, earlier=earlier, later=more)
    if not spot.first:
        return LogPage(spot, lines, earlier=False, later=more)
    top = newest(tx, log, query)
    total = count(tx, log, query) if more else len(lines)
    return LogPage(msgspec.structs.replace(spot, top=top, total=total), lines, earlier=False, later=more)


def _together(pages: list[LogPage[T]]) -> Pagination | None:
    """For several queries in one call: the sums, without a token, which holds one query only."""
    if not pages:
        return None
    shown = sum(len(page.lines) for page in pages)
    totals = [page.spot.total for page in pages]
    return (
        Pagination(shown, None if None in totals else sum(total or 0 for total in totals)) if shown else Pagination(0)
    )
