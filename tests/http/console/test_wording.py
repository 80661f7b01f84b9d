"""What people read: figures, spans, and texts that cannot pretend to be anything else."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.clock import DAY, HOUR, MINUTE, SECOND
from postroom.http.console import wording
from postroom.model import Outcome, Queue, Route
from postroom.rules.lifecycle import EVENTS


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_a_visible_text_holds_no_control_direction_or_surrogate_character(text: str) -> None:
    shown = wording.visible(text)
    shown.encode()  # no lone surrogate
    for char in shown:
        kind = unicodedata.category(char)
        assert kind not in ("Cc", "Cs", "Zl", "Zp"), hex(ord(char))
        assert unicodedata.bidirectional(char) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@given(st.text())
def test_making_visible_twice_changes_nothing_more(text: str) -> None:
    assert wording.visible(wording.visible(text)) == wording.visible(text)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("Größe 会議 👩‍👩‍👧 فارسی", "Größe 会議 👩‍👩‍👧 فارسی"),
        ("gpj\u202eexe", "gpj‹U+202E›exe"),
        ("a\tb\r\nc\x7f", "a␉b␍␊c␡"),
        ("in\u200bvisible", "in‹U+200B›visible"),
        ("\ud800", "\ufffd"),
        ("Z" + "\u0335" * 40, "Z" + "\u0335" * 4),
    ],
)
def test_what_hides_is_shown_and_what_is_writing_stays(given: str, shown: str) -> None:
    assert wording.visible(given) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0.0 KB"),
        (281, "0.3 KB"),
        (10_239, "10.0 KB"),
        (10_240, "10 KB"),
        (1_048_063, "1023 KB"),
        (1_048_064, "1.0 MB"),
        (52_428_800, "50 MB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert wording.size_text(size) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (-5, "0 s"),
        (59 * SECOND, "59 s"),
        (MINUTE, "1 min"),
        (HOUR, "1 h"),
        (2 * HOUR + 5 * MINUTE, "2 h 5 min"),
        (3 * DAY + 4 * HOUR, "3 d 4 h"),
    ],
)
def test_spans(span: int, text: str) -> None:
    assert wording.span_text(span) == text


def test_every_word_of_the_product_has_a_name() -> None:
    assert set(wording.QUEUE_NAMES) == set(wording.QUEUE_TITLES) == set(wording.QUEUE_EMPTY) == set(Queue)
    assert set(wording.QUEUE_PURPOSES) == set(Queue)
    assert set(wording.ROUTE_NAMES) == set(wording.ROUTE_MEANINGS) == set(Route)
    assert set(wording.OUTCOME_NAMES) == set(Outcome)
    assert set(wording.EVENT_NAMES) >= {*EVENTS, *[outcome.value for outcome in Outcome]}


def test_a_moment_beyond_the_calendar_is_still_a_text() -> None:
    assert wording.moment(1 << 62).startswith("9999-12-31")
    assert wording.moment(-1) == "1970-01-01 00:00:00 UTC"
