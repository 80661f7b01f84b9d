"""Durations, sizes and rates as people write them ("10 minutes", "50 MiB", "10000 per 5 seconds"), both ways. Pure.

Promises: reading what `write_*` wrote gives the same number. A unit that is nearly right is suggested, never guessed
("50 Mib" -> did you mean "50 MiB"?). Fails: PeerError with what was expected and, when something is close, what was
probably meant.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from fractions import Fraction

from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis
from postroom.errors import PeerError

DURATIONS: dict[str, Millis] = {
    **dict.fromkeys(("millisecond", "milliseconds", "ms"), 1),
    **dict.fromkeys(("second", "seconds", "sec", "s"), SECOND),
    **dict.fromkeys(("minute", "minutes", "min", "m"), MINUTE),
    **dict.fromkeys(("hour", "hours", "h"), HOUR),
    **dict.fromkeys(("day", "days", "d"), DAY),
    **dict.fromkeys(("week", "weeks", "w"), 7 * DAY),
}
SIZES: dict[str, int] = {
    **dict.fromkeys(("B", "byte", "bytes"), 1),
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_WRITTEN_DURATIONS = ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"), (1, "millisecond"))
_WRITTEN_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_SHORT = ((DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"))

# Fifteen digits are 31,000 years in milliseconds and 900 TiB in bytes: enough, and always within 63 bits.
_QUANTITY = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,3})?)\s*([^\W\d_]*)\s*")
_LARGEST = 1 << 62


class Misread(PeerError):
    """Not a quantity. `meant`: what was probably meant, ready to be shown; empty when nothing is close."""

    def __init__(self, expected: str, meant: str = "") -> None:
        super().__init__(expected + (f'; did you mean "{meant}"?' if meant else ""))
        self.expected = expected
        self.meant = meant


def read_duration(text: str) -> Millis:
    """ "10 minutes", "1.5 h", "90s" -> milliseconds; Misread otherwise."""
    return _read(text, DURATIONS, 'expected a duration like "10 minutes"', "seconds")


def read_size(text: str) -> int:
    """ "50 MiB", "128 KiB", "10 MB" -> bytes; Misread otherwise."""
    return _read(text, SIZES, 'expected a size like "50 MiB"', "bytes")


def read_rate(text: str) -> tuple[int, Millis]:
    """ "10000 per 5 seconds", "100 per minute" -> (how many, in how many milliseconds); Misread otherwise."""
    expected = 'expected a rate like "10000 per 5 seconds"'
    number, per, window = (part.strip() for part in text.partition("per"))
    if not per or not re.fullmatch(r"[0-9]{1,15}", number):
        raise Misread(expected)
    try:
        millis = read_duration(window if window[:1].isdigit() else f"1 {window}")
    except Misread as problem:
        raise Misread(expected, f"{number} per {problem.meant}" if problem.meant else "") from None
    if not millis:
        raise Misread(expected)
    return int(number), millis


def write_duration(millis: Millis) -> str:
    """The largest unit that divides it: 600000 -> "10 minutes"."""
    for factor, word in _WRITTEN_DURATIONS:
        if millis and millis % factor == 0:
            return f"{millis // factor} {word}{'' if millis == factor else 's'}"
    return "0 seconds"


def write_size(size: int) -> str:
    """The largest binary unit that divides it: 52428800 -> "50 MiB"."""
    for factor, word in _WRITTEN_SIZES:
        if size and size % factor == 0:
            return f"{size // factor} {word}"
    return f"{size} bytes" if size != 1 else "1 byte"


def write_rate(number: int, window: Millis) -> str:
    return f"{number} per {write_duration(window)}"


def short_duration(millis: Millis) -> str:
    """For narrow columns, rounded down: 754321 -> "12m"; below a second "0s"."""
    for factor, word in _SHORT:
        if millis >= factor:
            return f"{millis // factor}{word}"
    return "0s"


def _read(text: str, units: Mapping[str, int], expected: str, smallest: str) -> int:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise Misread(expected)
    number, unit = match.groups()
    if unit not in units:
        meant = _near(unit, units) if unit else smallest
        raise Misread(expected, f"{number} {meant}" if meant else "")
    exact = Fraction(number) * units[unit]
    if exact.denominator != 1:
        raise Misread(f"{expected}, a whole number of {'milliseconds' if units is DURATIONS else 'bytes'}")
    if exact > _LARGEST:
        raise Misread(f"{expected}, not larger than {_LARGEST} {'milliseconds' if units is DURATIONS else 'bytes'}")
    return int(exact)


def _near(unit: str, units: Mapping[str, int]) -> str:
    """The unit that was probably meant: wrong only in its case, or misspelt."""
    for known in units:
        if unit.lower() == known.lower():
            return known
    # "minuts" and "secs" are nearly a unit; "M" and "Gb" begin like one.
    near = difflib.get_close_matches(unit.lower(), [known for known in units if len(known) > 3], n=1, cutoff=0.6)
    if near:
        return near[0]
    if units is SIZES:
        for known in ("KiB", "MiB", "GiB", "TiB"):
            if unit[:1].upper() == known[0]:
                return known
    return ""
