from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.http.gateway.wire.dates import parse_date, parse_header_date, stamp

AT = 1_447_685_358_000  # 2015-11-16T14:49:18Z


@pytest.mark.parametrize(
    "text",
    [
        "2015-11-16T14:49:18+0000", "2015-11-16T14:49:18+00:00", "2015-11-16T14:49:18Z", "2015-11-16T14:49:18",
        "2015-11-16t14:49:18z", "2015-11-16 14:49:18", "2015-11-16T16:49:18+0200", "2015-11-16T09:19:18-05:30",
        "2015-11-16T15:49:18+01", " 2015-11-16T14:49:18+0000 ", "2015-11-16T14:49:18 +0000",
    ],
)  # fmt: skip
def test_every_spelling_of_a_second_is_that_second(text: str) -> None:
    moment = parse_date(text)
    assert moment is not None
    assert (moment.at, moment.last) == (AT, AT + 999)


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("2015-11-16T14:49:18.5", 500), ("2015-11-16T14:49:18.123456", 123), ("2015-11-16T14:49:18.1234567Z", 123),
        ("2015-11-16T14:49:18,25+0000", 250), ("/Date(1447685358042)/", 42), ("/Date(1447685358042+0100)/", 42),
    ],
)  # fmt: skip
def test_fractions_are_kept_to_the_millisecond(text: str, millis: int) -> None:
    moment = parse_date(text)
    assert moment is not None
    assert (moment.at, moment.last) == (AT + millis, AT + millis)


@pytest.mark.parametrize(
    "text",
    ["", "String", "yesterday", "2015-13-01T00:00:00Z", "2015-02-30", "2015-11-16T25:00:00Z", "2015-11-16T14:49:61Z",
     "2015-11-16T14:49:18+9900", "16.11.2015", "1447685358000", "٢٠١٥-11-16", "2015-11-16T14:49:18Z" + " " * 100 + "x"],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Mon, 16 Nov 2015 14:49:18 UTC", "Mon, 16 Nov 2015 14:49:18 GMT", "Mon, 16 Nov 2015 14:49:18 -0000",
        "Mon, 16 Nov 2015 14:49:18 +0000", "Mon, 16 Nov 2015 15:49:18 BST", "Mon, 16 Nov 2015 09:49:18 EST",
        "Mon, 16 Nov 2015 14:49:18", "16 Nov 2015 14:49:18 utc", "Monday, 16-Nov-2015 14:49:18 GMT",
        "2015-11-16T14:49:18Z",
    ],
)  # fmt: skip
def test_header_dates_in_every_form_that_clients_send(text: str) -> None:
    assert parse_header_date(text) == AT


def test_a_day_may_have_one_digit() -> None:
    assert parse_header_date("Tue, 3 Nov 2015 00:00:00 UTC") == parse_header_date("Tue, 03 Nov 2015 00:00:00 UTC")


@pytest.mark.parametrize(
    "text", ["", "now", "Mon, 16 Foo 2015 14:49:18 UTC", "Mon, 16 Nov 2015 14:49:18 QQT", "x" * 1000]
)
def test_an_unreadable_header_date_is_none(text: str) -> None:
    assert parse_header_date(text) is None


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_what_is_written_reads_back_to_the_second(at: int) -> None:
    moment = parse_date(stamp(at))
    assert moment is not None
    assert moment.at <= at <= moment.last


@given(st.text(max_size=80))
def test_no_text_breaks_either_reader(text: str) -> None:
    parse_date(text)
    parse_header_date(text)
