"""What a queue page shows, and the address that says so: queue, search, filters, order, page. Pure.

The search box takes a line of the search language (postroom.query). Conditions that have their own control - one queue,
one direction, an attachment - move from the box to that control, so that the two never disagree; the last one wins.
Promises: reading and writing an address gives the same address, so that every page can be bookmarked; defaults are not
written. Fails: PeerError naming the parameter, its value and what was expected; QueryProblem, with the place in the
box, from `understood` and `filter`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from postroom.clock import DAY, HOUR, MINUTE, Millis
from postroom.errors import PeerError
from postroom.ids import parse_public_id, public_id
from postroom.model import Aspect, Field, Filter, Order, Queue, Route
from postroom.query import QueryProblem, both, parse, spelled

PREFIX = "/console"
PAGE_SIZE = 50
MAX_TEXT = 1000  # characters of the search box
MAX_PAGE = 1_000_000

_Word = TypeVar("_Word", bound=StrEnum)

WINDOWS: dict[str, tuple[str, Millis, bool]] = {  # word -> (name, span, True: newer than it, False: older than it)
    "15m": ("Last 15 minutes", 15 * MINUTE, True),
    "1h": ("Last hour", HOUR, True),
    "24h": ("Last 24 hours", DAY, True),
    "7d": ("Last 7 days", 7 * DAY, True),
    "over-10m": ("Over 10 minutes ago", 10 * MINUTE, False),
    "over-1h": ("Over an hour ago", HOUR, False),
    "over-1d": ("Over a day ago", DAY, False),
}
CUSTOM = "custom"
ATTACHMENT = {"yes": True, "no": False}


class Listing(msgspec.Struct, frozen=True):
    """Filter, order and page of a queue page."""

    queue: Queue = Queue.PROCESSING
    text: str = ""
    field: Field = Field.ALL
    route: Route | None = None
    attachment: bool | None = None
    window: str = ""  # a word of WINDOWS, CUSTOM, or empty = any time
    since: Millis | None = None  # of a custom window
    until: Millis | None = None
    order: Order = Order.NEWEST
    after: int | None = None
    before: int | None = None
    top: int | None = None
    page: int = 1

    @property
    def filtered(self) -> bool:
        """Whether there is any condition apart from the queue."""
        return bool(self.text or self.route or self.attachment is not None or self.window)

    def understood(self, now: Millis) -> Listing:
        """The same listing, with conditions from the box moved to their controls. QueryProblem: the box is
        unreadable."""
        said = parse(self.text, now)
        queue, route = self.queue, self.route
        moved: set[str] = set()
        if said.queues:
            if len(said.queues) > 1:
                at = _place(self.text, "queue")
                raise QueryProblem(at, "the list shows one queue at a time", f"queue:{said.queues[0].value}")
            queue = said.queues[0]
            moved.add("queue")
        if len(said.routes) == 1:
            route = said.routes[0]
            moved.add("route")
        attachment = self.attachment
        if said.attachment is not None:
            attachment = said.attachment
            moved.add("has")
        text = " ".join([written for key, written in spelled(self.text) if key not in moved])
        return msgspec.structs.replace(self, queue=queue, route=route, attachment=attachment, text=text)

    def filter(self, now: Millis) -> Filter:
        """The store's filter. QueryProblem: the box cannot be read, or nothing could match."""
        said = parse(self.text, now)
        if self.field is not Field.ALL:  # where bare words are looked for
            aspect = Aspect(self.field.value)
            terms = [
                msgspec.structs.replace(term, aspect=aspect) if term.aspect is Aspect.ALL else term
                for term in said.terms
            ]
            said = msgspec.structs.replace(said, terms=tuple(terms))
        since, until = self.since, self.until
        if self.window in WINDOWS:
            _, span, newer = WINDOWS[self.window]
            since, until = (now - span, None) if newer else (None, now - span)
        beside = Filter(
            queues=(self.queue,),
            routes=() if self.route is None else (self.route,),
            attachment=self.attachment,
            since=since,
            until=until,
        )
        return both(said, beside)

    def parameters(self) -> dict[str, str]:
        found = {
            "queue": "" if self.queue is Queue.PROCESSING else self.queue.value,
            "q": self.text,
            "field": "" if self.field is Field.ALL else self.field.value,
            "route": self.route.value if self.route else "",
            "attachment": "" if self.attachment is None else ("yes" if self.attachment else "no"),
            "received": self.window,
            "since": _minute(self.since),
            "until": _minute(self.until),
            "order": "" if self.order is Order.NEWEST else self.order.value,
            "after": "" if self.after is None else public_id(self.after),
            "before": "" if self.before is None else public_id(self.before),
            "top": "" if self.top is None else public_id(self.top),
            "page": "" if self.page == 1 else str(self.page),
        }
        return {name: value for name, value in found.items() if value}

    def address(self, entry: int | None = None) -> str:
        """The address of this page, with an entry's panel open when one is given."""
        path = f"{PREFIX}/" if entry is None else f"{PREFIX}/entries/{public_id(entry)}"
        query = urlencode(self.parameters())
        return f"{path}?{query}" if query else path

    def first_page(self) -> Listing:
        return msgspec.structs.replace(self, after=None, before=None, top=None, page=1)

    def of_queue(self, queue: Queue) -> Listing:
        """Another queue with the same search and filters."""
        return msgspec.structs.replace(self.first_page(), queue=queue)

    def without_filters(self) -> Listing:
        return Listing(queue=self.queue, order=self.order)

    def behind(self, last: int, first: int) -> Listing:
        """The next page. `top` excludes entries that arrive meanwhile, so that no row moves from page to page."""
        top = self.top
        if self.order is Order.NEWEST and top is None:
            top = first
        return msgspec.structs.replace(self, after=last, before=None, top=top, page=min(self.page + 1, MAX_PAGE))

    def ahead(self, first: int) -> Listing:
        """The previous page. The first page has no `top`: it shows new entries."""
        if self.page <= 2:
            return self.first_page()
        return msgspec.structs.replace(self, after=None, before=first, page=self.page - 1)


def read_listing(given: Mapping[str, str]) -> Listing:
    """Read a listing from the parameters of an address."""
    text = given.get("q", "").strip()
    if len(text) > MAX_TEXT:
        raise PeerError(f"the search text has {len(text)} characters: expected at most {MAX_TEXT}")
    window = given.get("received", "")
    if window not in ("", CUSTOM, *WINDOWS):
        raise PeerError(f"received {window[:40]!r}: expected {CUSTOM} or one of {', '.join(WINDOWS)}")
    attachment = given.get("attachment", "")
    if attachment not in ("", *ATTACHMENT):
        raise PeerError(f"attachment {attachment[:40]!r}: expected yes or no")
    since, until = _read_minute(given, "since"), _read_minute(given, "until")
    if since is not None and until is not None and since > until:
        raise PeerError("the time window ends before it starts: expected since <= until")
    custom = window == CUSTOM
    return Listing(
        queue=_word(given, "queue", Queue) or Queue.PROCESSING,
        text=text,
        field=_word(given, "field", Field) or Field.ALL,
        route=_word(given, "route", Route),
        attachment=ATTACHMENT.get(attachment),
        window=window,
        since=since if custom else None,
        until=until if custom else None,
        order=_word(given, "order", Order) or Order.NEWEST,
        after=_ident(given, "after"),
        before=_ident(given, "before"),
        top=_ident(given, "top"),
        page=_page(given.get("page", "")),
    )


def _place(text: str, key: str) -> int:
    """The position of the first condition on this field."""
    at = 0
    for found, written in spelled(text):
        at = text.index(written, at)
        if found == key:
            return at
        at += len(written)
    return 0


def _word(given: Mapping[str, str], name: str, words: type[_Word]) -> _Word | None:
    text = given.get(name, "")
    if not text:
        return None
    try:
        return words(text)
    except ValueError:
        expected = ", ".join([word.value for word in words])
        raise PeerError(f"{name} {text[:40]!r}: expected one of {expected}") from None


def _ident(given: Mapping[str, str], name: str) -> int | None:
    text = given.get(name, "")
    return parse_public_id(text) if text else None


def _page(text: str) -> int:
    if not text:
        return 1
    if text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise PeerError(f"page {text[:40]!r}: expected a number from 1 to {MAX_PAGE}")


def _read_minute(given: Mapping[str, str], name: str) -> Millis | None:
    """A time as `<input type=datetime-local>` writes it; the console's times are UTC."""
    text = given.get(name, "")
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text) if len(text) <= 19 else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None or at.year < 1970:
        raise PeerError(f"{name} {text[:40]!r}: expected a time such as 2026-11-22T10:30, in UTC")
    return int(at.replace(tzinfo=UTC).timestamp()) * 1000


def _minute(at: Millis | None) -> str:
    return (
        "" if at is None else datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S").removesuffix(":00")
    )
