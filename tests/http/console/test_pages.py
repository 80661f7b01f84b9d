"""What the queue pages say, asked over plain HTTP as a browser without scripts would."""

from __future__ import annotations

import re
from html import unescape

import pytest

from postroom.ids import public_id
from postroom.model import Filter, Queue
from tests.http.console.conftest import Visitor
from tests.http.console.scene import Console, Mailroom

Full = tuple[Console, dict[str, int]]


def rows_of(text: str) -> list[str]:
    return re.findall(r'<tr role="row" id="e-([0-9a-f]+)"', text)


def link(text: str, rel: str) -> str:
    found = re.search(rf'href="([^"]+)" rel="{rel}"', text)
    assert found, f"no {rel} link"
    return unescape(found[1])


def test_the_processing_queue_is_the_first_page(full: Full, looker: Visitor) -> None:
    console, _ = full
    text = looker.page("/console/").text
    assert "<h1>Processing Queue</h1>" in text
    expected = console.store.read_now().find(Filter(queues=(Queue.PROCESSING,)), limit=50)
    assert rows_of(text) == [public_id(entry.id) for entry in expected]
    for column in ("From", "To", "Direction", "Subject", "Status and Info", "Try", "Size", "Received", "Status"):
        assert re.search(rf"<th [^>]*>{column}</th>", text), column
    assert "Queued for Processing" in text
    for word, meaning in (
        ("Locked", "currently locked"),
        ("Delayed", "queued for processing"),
        ("Normal", "awaiting next retry interval"),
    ):
        assert f"{word}</span><span>{meaning}" in text, word
        assert f'title="{word}: {meaning}' in text, word  # and on a row
    assert "Processing is paused</strong> for 24 min, since 2026-11-22 09:42:00 UTC" in text


@pytest.mark.parametrize(
    ("queue", "count"), [("", 61), ("bulk_processing", 12), ("delivery", 8), ("held", 3), ("system", 1)]
)
def test_every_queue_shows_its_own_and_all_counts(looker: Visitor, queue: str, count: int) -> None:
    text = looker.page("/console/", queue=queue).text
    assert len(rows_of(text)) == min(count, 50)
    assert re.findall(r'<span class="count">(\d+)</span>', text) == ["61", "12", "8", "3", "1"]
    assert f"{count} message" in text


def test_paging_goes_to_the_end_and_back(full: Full, looker: Visitor) -> None:
    first = looker.page("/console/").text
    second = looker.get(link(first, "next")).text
    assert len(rows_of(second)) == 11
    assert set(rows_of(first)) & set(rows_of(second)) == set()
    assert "page 2 of 2" in second
    assert 'rel="next"' not in second
    assert rows_of(looker.get(link(second, "prev")).text) == rows_of(first)


def test_pages_stand_still_while_mail_arrives_and_the_first_one_lives(console: Console, visitor: Visitor) -> None:
    room = Mailroom(console.store, console.clock)
    old = [room.take(subject=f"Number {number}").entries[0] for number in range(120)]
    visitor.log_in()
    first = visitor.page("/console/").text
    new = room.take(subject="Late").entries[0]
    second = visitor.get(link(first, "next")).text
    third = visitor.get(link(second, "next")).text
    seen = rows_of(first) + rows_of(second) + rows_of(third)
    assert seen == [public_id(ident) for ident in reversed(old)]
    assert rows_of(visitor.get(link(third, "prev")).text) == rows_of(second)
    assert rows_of(visitor.page("/console/").text)[0] == public_id(new)
    oldest = visitor.page("/console/", order="oldest").text
    assert rows_of(oldest)[0] == public_id(old[0])
    assert rows_of(visitor.get(link(oldest, "next")).text)[0] == public_id(old[50])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"q": "QUARTERLY report, FINAL"}, ["newest"]),
        ({"q": "quarterly report, final", "field": "subject"}, ["newest"]),
        ({"q": "quarterly report, final", "field": "from"}, []),
        ({"q": "mallory@evil", "field": "from"}, ["hostile"]),
        ({"q": "in a row ended", "field": "info"}, ["suspect"]),
        ({"q": "<script>"}, ["hostile"]),
        ({"q": "\N{FULLWIDTH LATIN SMALL LETTER F}arid.haddad", "field": "subject"}, []),
        ({"received": "over-1h"}, ["suspect"]),
        ({"received": "custom", "since": "2026-11-22T10:06:55"}, ["newest"]),
        ({"q": "final", "attachment": "yes", "route": "inbound"}, ["newest"]),
        ({"q": "final", "attachment": "no"}, []),
        ({"q": "final", "route": "outbound"}, []),
        ({"queue": "held", "q": "mime structure", "received": "24h"}, []),
    ],
)
def test_search_and_filters(full: Full, looker: Visitor, given: dict[str, str], shown: list[str]) -> None:
    _, named = full
    text = looker.page("/console/", **given).text
    assert rows_of(text) == [public_id(named[name]) for name in shown]
    if not shown:
        assert "Nothing matches" in text


def test_an_entry_has_an_address_of_its_own(full: Full, looker: Visitor) -> None:
    _, named = full
    answer = looker.page(f"/console/entries/{public_id(named['maybe'])}")
    text = answer.text
    assert answer.status_code == 200
    assert "<h1>Delivery Queue</h1>" in text  # the list that it stands in
    assert "May have been delivered.</strong> The connection or the worker was lost" in text
    assert 'data-until="' in text
    assert "lost while waiting for the reply to the content" in text
    assert "Deferred" in text
    assert "<dt>Message-ID</dt>" in text
    assert "Fabricated for a picture" in text
    assert "never shown in the console" not in text  # no body


def test_an_entry_that_ended_is_told_from_its_record(full: Full, looker: Visitor) -> None:
    _, named = full
    text = looker.page(f"/console/entries/{public_id(named['ended'])}").text
    assert "Left the queue" in text
    assert "250 2.0.0 Ok: queued as 4XyZ" in text


@pytest.mark.parametrize("ident", ["1", "zzz", "0", "ffffffffffffffff", "x" * 500, "%00", "..%2f..%2fetc"])
def test_what_is_no_entry_is_said_to_be_none(looker: Visitor, ident: str) -> None:
    answer = looker.page(f"/console/entries/{ident}")
    assert answer.status_code == 404
    assert "no such message" in answer.text or "is not an id" in answer.text or "does not exist" in answer.text


def test_nothing_in_a_message_becomes_markup(full: Full, looker: Visitor) -> None:
    _, named = full
    for path in ("/console/?q=mallory", f"/console/entries/{public_id(named['hostile'])}"):
        text = looker.page(path).text
        assert "<script>document" not in text
        assert "<img src=x" not in text
        assert "&lt;script&gt;document" in text
        assert "\u202e" not in text
        assert "\u200b" not in text
        assert "‹U+202E›" in text
        assert "{{ 7*7 }}" in text
    assert text.count("<script") == 1  # ours


def test_a_search_text_comes_back_as_text(looker: Visitor) -> None:
    text = looker.page("/console/", q='"><script>alert(1)</script>').text
    assert 'value="&#34;&gt;&lt;script&gt;' in text
    assert text.count("<script") == 1


def test_a_wrong_address_is_answered_with_what_was_expected(looker: Visitor) -> None:
    answer = looker.page("/console/", queue="attic")
    assert answer.status_code == 400
    assert "expected one of processing" in unescape(answer.text)


def test_our_script_gets_the_same_regions_without_the_frame(full: Full, looker: Visitor) -> None:
    whole = looker.get("/console/").text
    part = looker.get("/console/", headers={"x-fragment": "1"}).text
    assert rows_of(part) == rows_of(whole)
    for region in ("banners", "tabs", "list", "detail"):
        assert f'id="{region}"' in part, region
    assert "<header" not in part
    assert "<script" not in part
    assert 'name="token"' not in part


def test_an_empty_queue_explains_itself(console: Console, visitor: Visitor) -> None:
    visitor.log_in()
    text = visitor.page("/console/").text
    assert "Nothing is waiting." in text
    assert "Mail normally stays here for seconds." in text


def test_a_failing_store_is_said_to_fail(console: Console, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor.log_in()
    console.store.write_now(lambda tx: tx.rows("ALTER TABLE info RENAME TO gone"))
    answer = visitor.page("/console/")
    assert answer.status_code == 503
    assert "does not answer. Accepted mail is safe" in answer.text
    assert "console_unavailable" in console.logged.getvalue()
