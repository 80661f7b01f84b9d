"""Dates of the vendor's API: reads every form that clients are known to send, writes the form that the vendor writes.

Pure. Fails: None for a text that is no such date; the caller knows the field and names what was expected.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from postroom.clock import HOUR, MINUTE, SECOND, Millis

MAX_TEXT = 64  # characters of any date

_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip

# Zone names without a second meaning in mail; clients print their local zone (contract 1.2). Hours east of UTC.
_ZONES = {
    "ut": 0, "utc": 0, "gmt": 0, "z": 0, "wet": 0, "bst": 1, "west": 1, "cet": 1, "met": 1, "cest": 2, "mest": 2,
    "eet": 2, "sast": 2, "eest": 3, "msk": 3, "jst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
    "edt": -4, "est": -5, "cdt": -5, "cst": -6, "mdt": -6, "mst": -7, "pdt": -7, "pst": -8,
}  # fmt: skip

_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s?([Zz]|[+-]\d{2}(?::?\d{2})?)?"
)
_TICKS = re.compile(r"\\?/Date\((-?\d{1,15})(?:[+-]\d{4})?\)\\?/")  # .NET; a zone there changes only the display
_HEADER = re.compile(
    r"(?:\w{2,9}\.?,\s*)?(\d{1,2})[ -]([A-Za-z]{3})\w{0,6}[ -](\d{4})"
    r"\s+(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\s+(\S{1,10}))?"
)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A point in time as a client wrote it. `whole`: written to the second, so it means that whole second."""

    at: Millis
    whole: bool

    @property
    def last(self) -> Millis:
        """The last millisecond that the text can mean: we write whole seconds, and clients send them back."""
        return self.at + SECOND - 1 if self.whole else self.at


def parse_date(text: str) -> Moment | None:
    """A date of a request body (contract 6.4): any offset, none (then UTC), fractions, `/Date(ms)/`."""
    text = text.strip()
    if len(text) > MAX_TEXT or not text.isascii():
        return None
    match = _ISO.fullmatch(text)
    if match is None:
        ticks = _TICKS.fullmatch(text)
        return None if ticks is None else Moment(int(ticks[1]), False)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    shift = _offset(zone or "Z")
    whole = _millis(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0))
    if shift is None or whole is None:
        return None
    millis = int((fraction or "0")[:3].ljust(3, "0"))
    return Moment(whole - shift + millis, fraction is None)


@lru_cache(maxsize=64)
def parse_header_date(text: str) -> Millis | None:
    """The date of a signed request's header (contract 1.2): `UTC`, `GMT`, an offset, a zone name, one-digit days.

    A hot client sends the same second again and again, hence the cache.
    """
    text = text.strip()
    if len(text) > MAX_TEXT or not text.isascii():
        return None
    match = _HEADER.fullmatch(text)
    if match is None:
        moment = parse_date(text)
        return None if moment is None else moment.at
    day, month, year, hour, minute, second, zone = match.groups()
    shift = _offset(zone or "UTC")
    number = _MONTHS.get(month.lower())
    if shift is None or number is None:
        return None
    whole = _millis(int(year), number, int(day), int(hour), int(minute), int(second or 0))
    return None if whole is None else whole - shift


def _offset(zone: str) -> Millis | None:
    match = _OFFSET.fullmatch(zone)
    if match is None:
        hours = _ZONES.get(zone.lower())
        return None if hours is None else hours * HOUR
    east = int(match[2]) * HOUR + int(match[3] or 0) * MINUTE
    if east > 18 * HOUR:
        return None
    return east if match[1] == "+" else -east


def _millis(year: int, month: int, day: int, hour: int, minute: int, second: int) -> Millis | None:
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    leap = 1 if second == 60 else 0  # RFC 3339 5.7
    return None if second > 60 else (moment - _EPOCH) // timedelta(milliseconds=1) + leap * SECOND


_SECONDS = [f"{second:02d}+0000" for second in range(60)]


@lru_cache(maxsize=4096)  # days of them: rows of a page are near each other
def _minute(number: int) -> str:
    return (_EPOCH + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:")


def stamp(at: Millis) -> str:
    """`2022-07-28T10:46:54+0000`: the vendor's only form of output, whole seconds."""
    minute, rest = divmod(at, MINUTE)
    return _minute(minute) + _SECONDS[rest // SECOND]
