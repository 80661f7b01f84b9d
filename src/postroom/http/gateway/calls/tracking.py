"""`POST /api/message-finder/search` and `get-message-info`: where messages are or were, and everything known of one.

Promises: queue, history and rejections are searched as one, newest first, in a bounded time. When the time is over, the
answer shows what was found, says so in `fail`, and its `next` continues from there. Fails: problems with an item or a
token are reported in `fail`, with HTTP 200.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.http.gateway.call import Call
from postroom.http.gateway.calls.message_info import message_info
from postroom.http.gateway.paging.tokens import PageRefused, TokenSeal, expired, read_asked
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.envelope import (
    Fault,
    ItemFailure,
    Pagination,
    answer,
    invalid_token,
    malformed,
)
from postroom.http.gateway.wire.idents import EntryIds
from postroom.http.gateway.wire.members import BadItem, an_object, given, missing
from postroom.http.gateway.wire.tracking import TrackedEmail, read_search, tracked_emails
from postroom.http.services import Services
from postroom.ids import id_time
from postroom.store import Reader, find

SEARCH = "/api/message-finder/search"
INFO = "/api/message-finder/get-message-info"


class Spot(msgspec.Struct, frozen=True, array_like=True):
    """The start of the next page of a search."""

    wanted: find.Wanted
    size: int
    after: int | None
    expires: Millis


class Listed(msgspec.Struct, frozen=True):
    trackedEmails: list[TrackedEmail]  # noqa: N815 - the wire's name


class Search:
    def __init__(self, services: Services, *, budget: float = find.BUDGET) -> None:
        self._services = services
        self._budget = budget
        self._idents = EntryIds(services.sealer)
        self._seal = TokenSeal(services.sealer, "postroom.tracking-token")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Spot).decode

    async def __call__(self, call: Call) -> bytes:
        settings = self._services.settings
        context = f"{call.app.app_id} {SEARCH}"
        now = self._services.clock.now()
        try:
            asked = read_asked(call.body, call.items, settings.api.page_size)
            spot = self._opened(asked.token, context, now) if asked.token else None
            if spot is None:
                if len(call.items) > 1:
                    raise PageRefused(malformed("data", "an array of one object"))
                item = call.items[0] if call.items else {}
                spot = Spot(read_search(item, now, settings.retention.history), asked.size, None, 0)
        except PageRefused as problem:
            return answer([], [ItemFailure(None, (problem.fault,))], None)
        except BadItem as problem:
            return answer([], [ItemFailure(call.items[0], problem.faults)], None)
        async with self._services.scans.turn():
            found = await self._services.store.read(
                find.track(spot.wanted, size=spot.size, after=spot.after, now=now, budget=self._budget)
            )
        failed = [] if found.complete else [ItemFailure(None, (self._stopped(found),))]
        listed = Listed(tracked_emails(found.rows, self._idents))
        return answer([listed], failed, self._pagination(spot, found, context, now))

    def _stopped(self, found: find.Found) -> Fault:
        assert found.after is not None
        reached = stamp(id_time(found.after))
        return Fault(
            msgspec.UNSET, "err_track_and_trace_incomplete",
            f"Search stopped after {int(self._budget * 1000)} ms, back to {reached}: ask for the next page, or narrow "
            "start and end",
            True,
        )  # fmt: skip

    def _opened(self, token: str, context: str, now: Millis) -> Spot:
        try:
            spot = self._decode(self._seal.open(token, context))
        except msgspec.MsgspecError:
            raise PageRefused(invalid_token()) from None
        if now >= spot.expires:
            raise expired()
        return spot

    def _pagination(self, spot: Spot, found: find.Found, context: str, now: Millis) -> Pagination:
        """The total is known only when one page holds everything: to count is to walk it all."""
        following = None
        if found.after is not None:
            expires = now + self._services.settings.api.page_token_lifetime
            place = msgspec.structs.replace(spot, after=found.after, expires=expires)
            following = self._seal.seal(self._encode(place), context)
        rows = len(found.rows)
        whole = spot.after is None and following is None and rows > 0
        return Pagination(rows, rows if whole else None, following)


class MessageInfo:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._idents = EntryIds(services.sealer)

    async def __call__(self, call: Call) -> bytes:
        if len(call.items) > 1:
            return answer([], [ItemFailure(None, (malformed("data", "an array of one object"),))], None)
        item = call.items[0] if call.items else {}
        try:
            text = _read_id(item)
        except BadItem as problem:
            return answer([], [ItemFailure(item, problem.faults)], None)
        ident = self._idents.ident(text)
        info = None if ident is None else await self._services.store.read(self._reading(ident, text))
        if info is None:
            reason = "" if ident is None else ": the message is no longer known"
            return answer([], [ItemFailure(item, (invalid_token(reason),))], None)
        return answer([info], [], None)

    def _reading(self, ident: int, text: str) -> Any:
        services = self._services

        def read(reader: Reader) -> dict[str, Any] | None:
            known = reader.ask(find.look_up(ident))
            if known is None:
                return None
            message = None
            if known.entry is not None:
                message = reader.readable_message(known.entry.message_id)
            elif known.ended is not None:
                message = reader.readable_message(known.ended.message_id)
            return message_info(known, message, text, services.settings, services.clock.now())

        return read


def _read_id(item: Any) -> str:
    item = an_object(item)
    ident = item.get("id")
    if not given(ident) or (isinstance(ident, str) and not ident.strip()):
        raise BadItem((missing("id", ident),))
    if not isinstance(ident, str):
        raise BadItem((malformed("id", "an id as text"),))
    return ident.strip()
