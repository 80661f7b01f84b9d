"""The address of a page says everything about it."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import HOUR, MINUTE
from postroom.errors import PeerError
from postroom.http.console.listing import CUSTOM, MAX_TEXT, WINDOWS, Listing, read_listing
from postroom.model import Field, Filter, Order, Queue, Route

NOW = 1_800_000_000_000
ids = st.none() | st.integers(1, (1 << 63) - 1)
minutes = st.none() | st.integers(0, 4_000_000_000).map(lambda second: second * 1000)


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    window = draw(st.sampled_from(["", CUSTOM, *WINDOWS]))
    since, until = draw(minutes), draw(minutes)
    if window != CUSTOM:
        since = until = None
    if since is not None and until is not None and since > until:
        since, until = until, since
    return Listing(
        queue=draw(st.sampled_from(Queue)),
        text=draw(st.text(max_size=MAX_TEXT, alphabet=st.characters(exclude_categories=["Cs"]))).strip(),
        field=draw(st.sampled_from(Field)),
        route=draw(st.none() | st.sampled_from(Route)),
        attachment=draw(st.none() | st.booleans()),
        window=window,
        since=since,
        until=until,
        order=draw(st.sampled_from(Order)),
        after=draw(ids),
        before=draw(ids),
        top=draw(ids),
        page=draw(st.integers(1, 1_000_000)),
    )


@given(listings())
def test_an_address_read_again_is_the_same_page(listing: Listing) -> None:
    query = urlsplit(listing.address()).query
    assert read_listing(dict(parse_qsl(query, keep_blank_values=True))) == listing


def test_the_first_page_of_the_processing_queue_needs_no_words() -> None:
    assert Listing().address() == "/console/"
    assert Listing(queue=Queue.HELD).address(0xABC) == "/console/entries/abc?queue=held"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"queue": "attic"}, "expected one of processing, bulk_processing, delivery, held, system"),
        ({"route": "sideways"}, "expected one of inbound"),
        ({"field": "body"}, "expected one of all, from, to, subject, info, ip"),
        ({"attachment": "maybe"}, "expected yes or no"),
        ({"received": "yesterday"}, "expected custom or one of"),
        ({"order": "random"}, "expected one of newest, oldest"),
        ({"after": "zz"}, "is not an id"),
        ({"page": "0"}, "expected a number from 1"),
        ({"page": "٣"}, "expected a number from 1"),
        ({"q": "x" * 1001}, "has 1001 characters: expected at most 1000"),
        ({"received": "custom", "since": "soon"}, "expected a time such as"),
        ({"received": "custom", "since": "2026-01-01T00:00+02:00"}, "expected a time such as"),
        ({"received": "custom", "since": "2026-01-02T00:00", "until": "2026-01-01T00:00"}, "ends before it starts"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(PeerError, match=says):
        read_listing(given)


def test_windows_become_times() -> None:
    assert read_listing({"received": "1h"}).filter(NOW) == Filter(queues=(Queue.PROCESSING,), since=NOW - HOUR)
    assert read_listing({"received": "over-10m"}).filter(NOW).until == NOW - 10 * MINUTE
    custom = read_listing({"received": "custom", "since": "1970-01-01T00:01", "until": "1970-01-01T00:02:03"})
    assert (custom.filter(NOW).since, custom.filter(NOW).until) == (60_000, 123_000)
    assert read_listing({"since": "1970-01-01T00:01"}).since is None  # the hidden fields of another choice


def test_pages_keep_what_arrives_meanwhile_out() -> None:
    second = Listing().behind(last=50, first=100)
    assert (second.after, second.top, second.page) == (50, 100, 2)
    third = second.behind(last=10, first=49)
    assert (third.after, third.top, third.page) == (10, 100, 3)
    back = third.ahead(first=9)
    assert (back.before, back.after, back.top, back.page) == (9, None, 100, 2)
    assert second.ahead(first=49) == Listing()  # the first page lives
    assert Listing(order=Order.OLDEST).behind(last=50, first=1).top is None  # what arrives comes last anyway


def test_another_queue_keeps_the_search_and_forgets_the_page() -> None:
    listing = Listing(text="invoice", after=7, top=9, page=3).of_queue(Queue.HELD)
    assert listing == Listing(queue=Queue.HELD, text="invoice")
    assert listing.without_filters() == Listing(queue=Queue.HELD)
