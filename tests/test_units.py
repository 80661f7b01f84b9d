"""Durations, sizes and rates: what people write, and what they are told when it is nearly right."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom import units
from postroom.errors import PeerError

NUMBERS = st.integers(min_value=0, max_value=10**15 - 1)


@given(NUMBERS)
def test_a_written_duration_is_read_back_as_the_same(millis: int) -> None:
    assert units.read_duration(units.write_duration(millis)) == millis


@given(NUMBERS)
def test_a_written_size_is_read_back_as_the_same(size: int) -> None:
    assert units.read_size(units.write_size(size)) == size


@given(NUMBERS, st.integers(min_value=1, max_value=10**12))
def test_a_written_rate_is_read_back_as_the_same(number: int, window: int) -> None:
    assert units.read_rate(units.write_rate(number, window)) == (number, window)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_as_the_peers_mistake(text: str) -> None:
    for read in (units.read_duration, units.read_size, units.read_rate):
        with contextlib.suppress(PeerError):
            read(text)


@given(NUMBERS, st.sampled_from([*units.DURATIONS]), st.sampled_from(["", " ", "  "]))
def test_every_unit_may_stand_close_or_apart(number: int, unit: str, gap: str) -> None:
    if number * units.DURATIONS[unit] < 1 << 62:
        assert units.read_duration(f" {number}{gap}{unit} ") == number * units.DURATIONS[unit]


@pytest.mark.parametrize(
    ("text", "millis"),
    [
        ("10 minutes", 600_000), ("1.5 hours", 5_400_000), ("90s", 90_000), ("1799 seconds", 1_799_000),
        ("2 weeks", 1_209_600_000), ("0 seconds", 0), ("0.25 s", 250),
    ],
)  # fmt: skip
def test_durations_as_people_write_them(text: str, millis: int) -> None:
    assert units.read_duration(text) == millis


@pytest.mark.parametrize(
    ("read", "text", "meant"),
    [
        (units.read_size, "50 Mib", "50 MiB"),
        (units.read_size, "50 mb", "50 MB"),
        (units.read_size, "50M", "50 MiB"),
        (units.read_size, "50 gigs", "50 GiB"),
        (units.read_size, "50", "50 bytes"),
        (units.read_duration, "5 Minutes", "5 minutes"),
        (units.read_duration, "5 minuts", "5 minutes"),
        (units.read_duration, "5 secs", "5 seconds"),
        (units.read_duration, "5", "5 seconds"),
        (units.read_rate, "10 per 5 secs", "10 per 5 seconds"),
        (units.read_rate, "10 per minut", "10 per 1 minute"),
    ],
)
def test_what_is_nearly_right_is_refused_with_what_was_meant(read: object, text: str, meant: str) -> None:
    assert callable(read)
    with pytest.raises(units.Misread) as refused:
        read(text)
    assert refused.value.meant == meant


@pytest.mark.parametrize(
    "text", ["", "minutes", "-5 minutes", "5 parsecs", "1e3 s", "0.0001 s", "5 5 s", "٣ s", "9" * 16 + " s"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(units.Misread, match='expected a duration like "10 minutes"'):
        units.read_duration(text)


@pytest.mark.parametrize(
    "text", ["", "10", "10 per", "per minute", "ten per minute", "10 per 0 seconds", "1.5 per minute"]
)
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(units.Misread, match='expected a rate like "10000 per 5 seconds"'):
        units.read_rate(text)


@pytest.mark.parametrize(
    ("millis", "short"),
    [(0, "0s"), (999, "0s"), (59_999, "59s"), (754_321, "12m"), (86_399_999, "23h"), (10**10, "115d")]
)  # fmt: skip
def test_ages_are_short_and_rounded_down(millis: int, short: str) -> None:
    assert units.short_duration(millis) == short
