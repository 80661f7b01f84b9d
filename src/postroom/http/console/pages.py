"""The queue pages: a list, and the panel of one entry. The address holds all state; live refresh requests it again.

Promises: each page is one consistent read; read-only. Fails: 400 with what was expected for a wrong address, 404 for an
unknown entry, 403 for what the role may not see; an unreadable or too broad search is explained beside the search box.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.http.console import answers, choices, plan_words, wording
from postroom.http.console.desk import Desk
from postroom.http.console.detail import Detail, Found, detail, look_up
from postroom.http.console.language import EXPLAINED, Trouble, too_broad, unreadable
from postroom.http.console.listing import CUSTOM, MAX_TEXT, PAGE_SIZE, PREFIX, WINDOWS, Listing, read_listing
from postroom.http.console.rows import LIGHT_NAMES, Light, light_meaning, row
from postroom.http.console.visits import Visit, frame, is_fragment, problem
from postroom.ids import parse_public_id
from postroom.model import Entry, Field, Filter, Order, Queue, Route, Scope
from postroom.query import QueryProblem
from postroom.store import Reader, SearchTooBroad, permissions

PERMISSIONS = {queue: permissions.to_see(held=queue is Queue.HELD) for queue in Queue}
FIELD_NAMES = {
    Field.ALL: "All",
    Field.FROM: "From",
    Field.TO: "To",
    Field.SUBJECT: "Subject",
    Field.INFO: "Info",
    Field.IP: "IP address",
}


class Tab(msgspec.Struct, frozen=True):
    name: str
    count: int
    address: str
    chosen: bool


class View(msgspec.Struct, frozen=True):
    """What one read of the store found for one page."""

    listing: Listing
    entries: list[Entry]
    more: bool
    total: int
    counts: Mapping[Queue, int]
    pauses: Mapping[Scope, Millis]
    found: Found | None
    trouble: Trouble | None = None


async def queue_page(desk: Desk, request: Request, seen: Visit) -> Response:
    return await _answer(desk, request, seen, None)


async def entry_page(desk: Desk, request: Request, seen: Visit) -> Response:
    try:
        ident = parse_public_id(request.path_params["ident"])
    except PeerError as wrong:
        return problem(seen, desk, 404, "Not a message", f"{wrong}.")
    return await _answer(desk, request, seen, ident)


async def _answer(desk: Desk, request: Request, seen: Visit, ident: int | None) -> Response:
    if seen.session is None:
        return to_login(request)
    if not any(seen.allows(permission) for permission in PERMISSIONS.values()):
        needed = permissions.to_see(held=False)
        text = f"The role {seen.session.role.name} cannot see queues: it needs the permission “{needed}”."
        return problem(seen, desk, 403, "Not allowed", text)
    try:
        listing = read_listing(request.query_params)
    except PeerError as wrong:
        return problem(seen, desk, 400, "This address cannot be read", f"{wrong}.")
    queue_given = "queue" in request.query_params
    view = await desk.read(lambda reader: _look(desk, reader, seen, listing, queue_given, ident))
    if view is None:
        text = f"To see this queue, your role needs the permission “{PERMISSIONS[listing.queue]}”."
        return problem(seen, desk, 403, "Not allowed", text)
    status = 404 if ident is not None and view.found is None else 200
    return answers.page("queue.html", _values(desk, request, seen, view, ident), status)


def to_login(request: Request) -> Response:
    """Redirect to the login, and remember the page. Our script requests fragments: it gets a 401 and reloads the
    page."""
    if is_fragment(request):
        return answers.page("fragment.html", {}, 401)
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if here == f"{PREFIX}/":
        return answers.see_other(f"{PREFIX}/login")
    return answers.see_other(f"{PREFIX}/login?next={quote(here, safe='')}")


def _look(
    desk: Desk, reader: Reader, seen: Visit, listing: Listing, queue_given: bool, ident: int | None
) -> View | None:
    """Runs in a reader thread, in one snapshot. None: the role may not see it."""
    with reader.snapshot():
        view = _view(desk, reader, seen, listing, queue_given, ident)
    return view


def _view(
    desk: Desk, reader: Reader, seen: Visit, listing: Listing, queue_given: bool, ident: int | None
) -> View | None:
    found = look_up(reader, desk.services.store.bodies, ident) if ident is not None else None
    if found is not None:
        queue = found.known.queue
        if not seen.allows(PERMISSIONS[queue]):
            return None
        if not queue_given and found.entry is not None:  # the address names no queue: show the entry's own
            listing = listing.of_queue(queue)
    if not seen.allows(PERMISSIONS[listing.queue]):
        return None
    try:
        return _searched(desk, reader, seen, listing, found)
    except QueryProblem as wrong:
        trouble = unreadable(listing.text, wrong)
    except SearchTooBroad as broad:
        trouble = too_broad(str(broad))
    return View(listing, [], False, 0, desk.queue_counts(reader), reader.pauses(), found, trouble)


def _searched(desk: Desk, reader: Reader, seen: Visit, listing: Listing, found: Found | None) -> View | None:
    now = desk.services.clock.now()
    listing = listing.understood(now)
    if not seen.allows(PERMISSIONS[listing.queue]):
        return None
    wanted = listing.filter(now)
    entries = _page_of(reader, listing, wanted, now)
    if listing.before is not None and len(entries) <= PAGE_SIZE:  # no page before it any more
        listing = listing.first_page()
        entries = _page_of(reader, listing, wanted, now)
    more = len(entries) > PAGE_SIZE
    if listing.before is not None:  # read backwards: the extra entry comes first
        entries, more = entries[1:], True
    total = reader.count(wanted, top=listing.top, now=now)
    return View(listing, entries[:PAGE_SIZE], more, total, desk.queue_counts(reader), reader.pauses(), found)


def _page_of(reader: Reader, listing: Listing, wanted: Filter, now: Millis) -> list[Entry]:
    return reader.find(
        wanted, limit=PAGE_SIZE + 1, order=listing.order, after=listing.after, before=listing.before,
        top=listing.top, now=now,
    )  # fmt: skip


def _values(desk: Desk, request: Request, seen: Visit, view: View, ident: int | None) -> dict[str, object]:
    now = desk.services.clock.now()
    listing = view.listing
    shown: Detail | None = None if view.found is None else detail(view.found, view.pauses, now)
    here = listing.address(ident)
    entry = None if view.found is None else view.found.entry
    email = seen.session.email if seen.session else ""
    return {
        **frame(seen, desk),
        "now": now,
        "here": here,
        "unaccounted": wording.unaccounted(desk.services.store.ledger_difference),
        "layout": "fragment.html" if is_fragment(request) else "frame.html",
        "listing": listing,
        "title": wording.QUEUE_TITLES[listing.queue],
        "purpose": wording.QUEUE_PURPOSES[listing.queue],
        "empty": wording.QUEUE_EMPTY[listing.queue],
        "tabs": [
            Tab(wording.QUEUE_NAMES[queue], view.counts[queue], Listing(queue=queue).address(), queue is listing.queue)
            for queue in wording.QUEUE_NAMES
            if seen.allows(PERMISSIONS[queue])
        ],
        "pauses": [
            (
                scope.value.capitalize(),
                wording.moment(since),
                wording.span_text(now - since),
                wording.PAUSE_MEANINGS[scope],
            )
            for scope, since in sorted(view.pauses.items())
        ],
        "rows": [row(entry, listing, now) for entry in view.entries],
        "total": view.total,
        "page_size": PAGE_SIZE,
        "total_in_queue": view.counts[listing.queue],
        "newer": listing.ahead(view.entries[0].id).address() if listing.page > 1 and view.entries else "",
        "first": listing.first_page().address(),
        "older": listing.behind(view.entries[-1].id, view.entries[0].id).address() if view.more else "",
        "clear": listing.without_filters().address(),
        "close": listing.address(),
        "told": desk.told(email, request.query_params.get("told", "")),
        "trouble": view.trouble,
        "all_address": _all_address(seen, view, now),
        "acts": [
            (action.value, choices.NAMES[action], choices.ICONS[action])
            for action in choices.offered(seen.allows, listing.queue)
        ],
        "detail_acts": []
        if entry is None or (view.found is not None and view.found.leaving)
        else [
            (choices.NAMES[action], choices.ICONS[action], choices.address(action, entry.id, here))
            for action in choices.offered(seen.allows, entry.queue)
        ],
        "asked": ident is not None,
        "detail": shown,
        "lights": [
            (light.value, LIGHT_NAMES[light], light_meaning(light, listing.queue)) for light in _lights(listing)
        ],
        **_controls(listing),
    }


def _all_address(seen: Visit, view: View, now: Millis) -> str:
    """The address for acting on all matches; empty when the role may not, or nothing matches."""
    if view.trouble is not None or not view.entries or not seen.allows(permissions.PLANS):
        return ""
    if view.listing.queue is Queue.HELD and not seen.allows(permissions.PLANS_OF_HELD):
        return ""
    return plan_words.new_address(plan_words.line(view.listing, now), back=view.listing.address())


def _controls(listing: Listing) -> dict[str, object]:
    """The search box and the controls beside it."""
    return {
        "explained": [(example, meaning, _example(listing, example)) for example, meaning in EXPLAINED],
        "longest": MAX_TEXT,
        "fields": [(field.value if field is not Field.ALL else "", name) for field, name in FIELD_NAMES.items()],
        "routes": [(route.value, wording.ROUTE_NAMES[route]) for route in Route],
        "windows": [(word, name) for word, (name, _, _) in WINDOWS.items()],
        "custom": CUSTOM,
        "orders": [("", "Newest first"), (Order.OLDEST.value, "Oldest first")],
        "given": listing.parameters(),
    }


def _example(listing: Listing, example: str) -> str:
    """The address that searches this queue for the example."""
    return Listing(queue=listing.queue, text=example).address()


def _lights(listing: Listing) -> list[Light]:
    if listing.queue is Queue.HELD:
        return [Light.LOCKED, Light.HELD]
    return [Light.LOCKED, Light.DELAYED, Light.NORMAL]
