"""The kinds of values in settings: how each is read from a file or the environment, and written back. Pure.

Promises: `read` returns the value as the settings tree holds it; `read` of what `write` returns gives the same value.
Fails: a wrong value is reported through `Given.wrong` (expected, given, suggestion) and read as None; nothing raises,
so that one pass finds every error.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from postroom import units
from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.settings.toml import Path

# Called with the path of a wrong value and what is wrong with it.
Report = Callable[[Path, str], None]

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Given:
    """A value as it was given, its path, and where to report problems. `text`: from the environment or an option."""

    __slots__ = ("path", "report", "text", "value")

    def __init__(self, value: object, path: Path, report: Report, *, text: bool = False) -> None:
        self.value = value
        self.path = path
        self.report = report
        self.text = text

    def inner(self, key: str | int, value: object) -> Given:
        return Given(value, (*self.path, key), self.report, text=self.text)

    def wrong(self, expected: str, meant: str = "") -> None:
        hint = f"; did you mean {meant}?" if meant else ""
        self.report(self.path, f"expected {expected}, got {shown(self.value)}{hint}")


class Kind(Protocol):
    """`expected` completes a sentence that begins with "expected"."""

    @property
    def expected(self) -> str: ...

    def read(self, given: Given) -> object | None: ...

    def write(self, value: object) -> object:
        """As TOML values: str, int, bool, list, dict."""
        ...


def shown(value: object) -> str:
    """A value as error messages show it."""
    if isinstance(value, str):
        return quoted(value if len(value) <= 80 else value[:77] + "...")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a section"
    return f"the date or time {value}"


def quoted(text: str) -> str:
    """A TOML string. A JSON string is a TOML basic string, except for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant, or an empty text."""
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return near[0] if near else ""


class Flag:
    expected = "true or false"

    def read(self, given: Given) -> bool | None:
        value = given.value
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _FLAGS:
            if given.text:
                return _FLAGS[value.strip().lower()]
            given.wrong(self.expected, f"{shown(_FLAGS[value.strip().lower()])}, without quotes")
            return None
        given.wrong(self.expected)
        return None

    def write(self, value: object) -> object:
        return value


class Number:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.expected = f"a whole number from {low} to {high}"

    def read(self, given: Given) -> int | None:
        value = given.value
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
            if not given.text:
                given.wrong(self.expected, f"{int(value)}, without quotes")
                return None
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            given.wrong(self.expected)
            return None
        return value

    def write(self, value: object) -> object:
        return value


class Duration:
    def __init__(self, low: Millis, high: Millis, *, example: str = "10 minutes", never: bool = False) -> None:
        self.low, self.high, self.never = low, high, never
        self.expected = f'a duration like "{example}"' + (' or "never"' if never else "")

    def read(self, given: Given) -> Millis | None:
        if self.never and given.value == "never":
            return 0
        if self.never and isinstance(given.value, str) and nearest(given.value, ("never",)):
            given.wrong(self.expected, '"never"')
            return None
        millis = _quantity(given, self.expected, units.read_duration, "seconds")
        if millis is not None and not self.low <= millis <= self.high:
            never = ' or "never"' if self.never else ""
            given.wrong(f"a duration from {units.write_duration(self.low)} to {units.write_duration(self.high)}{never}")
            return None
        return millis

    def write(self, value: object) -> object:
        assert isinstance(value, int)
        return "never" if self.never and not value else units.write_duration(value)


class Size:
    expected = 'a size like "50 MiB"'

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def read(self, given: Given) -> int | None:
        size = _quantity(given, self.expected, units.read_size, "bytes")
        if size is not None and not self.low <= size <= self.high:
            given.wrong(f"a size from {units.write_size(self.low)} to {units.write_size(self.high)}")
            return None
        return size

    def write(self, value: object) -> object:
        assert isinstance(value, int)
        return units.write_size(value)


class Rate:
    """One key of the file that fills two fields of the tree."""

    expected = 'a rate like "10000 per 5 seconds"'

    def __init__(self, high: int) -> None:
        self.high = high

    def read(self, given: Given) -> tuple[int, Millis] | None:
        if not isinstance(given.value, str):
            given.wrong(self.expected)
            return None
        try:
            number, window = units.read_rate(given.value)
        except units.Misread as problem:
            given.wrong(self.expected, problem.meant and quoted(problem.meant))
            return None
        if not (1 <= number <= self.high and 1 <= window <= 86_400_000):
            given.wrong(f"a rate from 1 to {self.high} in at most 1 day")
            return None
        return number, window

    def write(self, value: object) -> object:
        assert isinstance(value, tuple)
        return units.write_rate(*value)


class Choice:
    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        listed = [quoted(word) for word in self.words]
        self.expected = " or ".join(listed) if len(listed) < 3 else f"one of {', '.join(listed)}"

    def read(self, given: Given) -> str | None:
        if isinstance(given.value, str):
            if given.value in self.words:
                return given.value
            near = nearest(given.value, self.words)
            given.wrong(self.expected, near and quoted(near))
        else:
            given.wrong(self.expected)
        return None

    def write(self, value: object) -> object:
        return value


class Words:
    """A text with a certain form: `form` returns the value, or raises Misread."""

    expected = "a text"

    def read(self, given: Given) -> object | None:
        if not isinstance(given.value, str):
            given.wrong(self.expected)
            return None
        try:
            return self.form(given.value.strip())
        except units.Misread as problem:
            given.wrong(problem.expected or self.expected, problem.meant and quoted(problem.meant))
            return None

    def write(self, value: object) -> object:
        return str(value)

    def form(self, text: str) -> object:
        if not text:
            raise units.Misread("a text that is not empty")
        return text


class Directory(Words):
    expected = "the path of a directory"

    def form(self, text: str) -> object:
        if not text or "\0" in text:
            raise units.Misread(self.expected)
        return text


class PemFile(Words):
    expected = "the path of a PEM file"

    def form(self, text: str) -> object:
        if "\0" in text:
            raise units.Misread(self.expected)
        return text


class ListOf:
    """A list, without duplicates unless `repeats`; in the environment its items are separated by commas."""

    def __init__(self, kind: Kind, *, at_least: int = 0, repeats: bool = False) -> None:
        self.kind, self.at_least, self.repeats = kind, at_least, repeats
        self.expected = f"a list, each {kind.expected}"

    def read(self, given: Given) -> tuple[object, ...] | None:
        values = given.value
        if given.text and isinstance(values, str):
            values = [part.strip() for part in values.split(",") if part.strip()]
        elif isinstance(values, str):
            given.wrong(self.expected, f"[{quoted(values)}]")
            return None
        if not isinstance(values, list):
            given.wrong(self.expected)
            return None
        items: list[object] = []
        complete = True
        for number, value in enumerate(values):
            inner = given.inner(number, value)
            item = self.kind.read(inner)
            if item is None:
                complete = False
            elif item in items and not self.repeats:
                given.report(inner.path, f"{shown(value)} is listed twice")
                complete = False
            else:
                items.append(item)
        if len(values) < self.at_least:
            given.report(given.path, f"expected {self.expected}; got an empty list")
            return None
        return tuple(items) if complete else None

    def write(self, value: object) -> object:
        assert isinstance(value, tuple)
        return [self.kind.write(item) for item in value]


def _quantity(given: Given, expected: str, read: Callable[[str], int], smallest: str) -> int | None:
    value = given.value
    if not isinstance(value, str):
        plain = isinstance(value, int) and not isinstance(value, bool)
        given.wrong(expected, quoted(f"{value} {smallest}") if plain else "")
        return None
    try:
        return read(value)
    except units.Misread as problem:
        given.wrong(expected, problem.meant and quoted(problem.meant))
    except PeerError:
        given.wrong(expected)
    return None
