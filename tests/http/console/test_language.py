"""The search language in the console: what the box takes, moves to the controls beside it, shows and refuses."""

from __future__ import annotations

import re
from html import unescape

import pytest

from postroom import query
from postroom.http.console import language
from postroom.http.console.listing import Listing
from postroom.ids import public_id
from postroom.model import Aspect, Field, Queue, Relation, Route, Term
from postroom.query import QueryProblem
from tests.http.console.conftest import Visitor
from tests.http.console.scene import Console
from tests.http.console.test_pages import rows_of

Full = tuple[Console, dict[str, int]]
NOW = 1_800_000_000_000


def box(text: str) -> str:
    found = re.search(r'<input id="q"[^>]* value="([^"]*)"', text)
    assert found is not None
    return unescape(found[1])


def chosen(text: str, control: str) -> str:
    part = text.partition(f'name="{control}"')[2].partition("</select>")[0]
    found = re.search(r'<option value="([^"]*)" selected>', part)
    return found[1] if found else ""


def test_what_has_a_control_of_its_own_moves_there() -> None:
    typed = Listing(
        text='ROUTE:inbound "a  b" queue:held  -has:attachment age>10m', route=Route.OUTBOUND, attachment=True
    )
    assert typed.understood(NOW) == Listing(
        queue=Queue.HELD, text='"a  b" age>10m', route=Route.INBOUND, attachment=False
    )
    both = Listing(text="route:inbound|outbound size>1MiB")
    assert both.understood(NOW) == both
    assert Listing(text="-queue:held|delivery|bulk_processing|system").understood(NOW) == Listing()
    assert Listing(text="  report  ").understood(NOW).text == "report"


def test_bare_words_are_looked_for_where_the_control_says() -> None:
    found = Listing(text="bob to:carol -news", field=Field.FROM).filter(NOW)
    assert found.terms == (
        Term(Aspect.FROM, Relation.HAS, "bob"),
        Term(Aspect.TO, Relation.HAS, "carol"),
        Term(Aspect.FROM, Relation.HAS, "news", negated=True),
    )


def test_box_and_window_must_both_hold() -> None:
    found = Listing(text="age>30m", window="1h").filter(NOW)
    assert (found.since, found.until) == (NOW - 3_600_000, NOW - 1_800_001)
    with pytest.raises(QueryProblem, match="no route is left"):
        Listing(text="route:inbound|outbound", route=Route.EXTERNAL).filter(NOW)


def test_one_queue_at_a_time() -> None:
    with pytest.raises(QueryProblem) as caught:
        Listing(text='"queue:" queue:held|delivery').understood(NOW)
    assert (caught.value.at, caught.value.meant) == (9, "queue:delivery")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("from:mallory", ["hostile"]),
        ("subject:meter attempts>=4 label:suspect", ["suspect"]),
        ("age>1h", ["suspect"]),
        ("queue:held subject:contract", ["held"]),
        ('queue:delivery "signed contract" label:maybe-delivered', ["maybe"]),
        ("final has:attachment route:inbound", ["newest"]),
        ("final -has:attachment", []),
    ],
)
def test_the_box_takes_the_language(full: Full, looker: Visitor, line: str, shown: list[str]) -> None:
    answer = looker.page("/console/", q=line)
    assert answer.status_code == 200
    assert rows_of(answer.text) == [public_id(full[1][name]) for name in shown]


def test_box_and_controls_agree(looker: Visitor) -> None:
    text = looker.page("/console/", q="route:outbound has:attachment e", route="inbound", attachment="no").text
    assert (box(text), chosen(text, "route"), chosen(text, "attachment")) == ("e", "outbound", "yes")
    assert rows_of(text)
    text = looker.page("/console/", q="queue:held e").text
    assert "<h1>Held Queue</h1>" in text
    assert box(text) == "e"
    assert '<input type="hidden" name="queue" value="held">' in text


@pytest.mark.parametrize(
    ("line", "says", "marked"),
    [
        ("report form:alice age>10m", "No field is called 'form'. Did you mean from:?", "report [form:alice] age>10m"),
        ("age:10m", "Age is a number: compare it. Did you mean age>10m?", "[age:10m]"),
        ('from:"<b>', 'A quote is opened and not closed: add ".', 'from:["<b>]'),
        ("is:late now", "Is: 'late' is not one of locked, waiting, due, tried.", "[is:late] now"),
        ("queue:held|system", "The list shows one queue at a time. Did you mean queue:held?", "[queue:held|system]"),
    ],
)
def test_what_is_wrong_is_shown_under_the_box_with_its_place(
    looker: Visitor, line: str, says: str, marked: str
) -> None:
    text = looker.page("/console/", q=line).text
    trouble = text.partition('id="trouble"')[2].partition("</div>")[0]
    said = re.sub(
        r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", trouble.partition("</svg>")[2].partition("</p>")[0]))
    ).strip()
    assert said == says
    shown = trouble.partition('class="line mono">')[2].partition("</p>")[0]
    assert unescape(shown.replace("<mark>", "[").replace("</mark>", "]")) == marked
    assert box(text) == line
    assert rows_of(text) == []
    assert "This search cannot be read" in text
    assert 'class="tabs"' in text  # everything else is there
    assert text.count("<script") == 1


def test_a_search_that_is_too_broad_is_told(full: Full, looker: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    console, _ = full
    monkeypatch.setattr("postroom.store.sqlite.tx.STEPS", 1)
    monkeypatch.setattr(console.store.index, "bound", 0.0)
    text = looker.page("/console/", q="ab").text
    assert "This search takes too long" in text
    assert "too broad to be answered" in text
    assert box(text) == "ab"


def test_every_field_is_explained_and_every_example_is_read(looker: Visitor) -> None:
    for example, _ in language.EXPLAINED:
        query.parse(example, NOW)
    told = " ".join(f"{example} {meaning}" for example, meaning in language.EXPLAINED)
    for key in query.KEYS:
        assert re.search(rf"\b{key}[:<>=]", told), key
    for word in (*query.STATES, *query.LABELS):
        assert word in told, word
    text = unescape(looker.page("/console/", queue="held").text)
    assert 'href="/console/?queue=held&q=from%3Aalice"' in text


def test_a_place_at_the_end_is_marked() -> None:
    found = language.unreadable("abc", QueryProblem(7, "too long"))
    assert (found.front, found.bad, found.rest) == ("abc", "", "")
