"""What kinds of value settings take: how each is read from a file or the environment, and written back. Pure.

Promises: `read` gives the value as `postroom.settings` keeps it, and what `write` gives is read back as the same value.
Fails: a wrong value is reported through `Given.wrong` (what was expected, what was given, what was probably meant) and
read as None; nothing raises, so that one pass finds every error.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from typing import Protocol

from postroom import units
from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.settings import Address, DeliveryRoute
from postroom.toml_lines import Path

# A problem with the thing at this path: what is wrong with it, in words.
Report = Callable[[Path, str], None]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 5321 4.1.2 Domain, without address literals
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>[0-9]{1,5})")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Given:
    """A value as it was given, its place, and where to complain. `text`: it came from the environment or an option."""

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
    """`expected` reads on from the word "expected"."""

    @property
    def expected(self) -> str: ...

    def read(self, given: Given) -> object | None: ...

    def write(self, value: object) -> object:
        """As TOML values: str, int, bool, list, dict."""
        ...


def shown(value: object) -> str:
    """A value as an error names it."""
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
    """As TOML writes it; a JSON string is a TOML basic string, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def nearest(word: str, known: Sequence[str]) -> str:
    """What was probably meant, or nothing."""
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
        millis = _quantity(given, self.expected, units.read_duration, "seconds")
        if millis is not None and not self.low <= millis <= self.high:
            span = f"from {units.write_duration(self.low)} to {units.write_duration(self.high)}"
            given.wrong(f"a duration {span}{' or "never"' if self.never else ''}")
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
    """One key of the file, two fields of the tree."""

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


class _Words:
    """A text that must have a certain form: `_form` gives what is kept, or raises Misread."""

    expected = "a text"

    def read(self, given: Given) -> object | None:
        if not isinstance(given.value, str):
            given.wrong(self.expected)
            return None
        try:
            return self._form(given.value.strip())
        except units.Misread as problem:
            given.wrong(problem.expected or self.expected, problem.meant and quoted(problem.meant))
            return None

    def write(self, value: object) -> object:
        return str(value)

    def _form(self, text: str) -> object:
        if not text:
            raise units.Misread("a text that is not empty")
        return text


class Directory(_Words):
    expected = "the path of a directory"

    def _form(self, text: str) -> object:
        if not text or "\0" in text:
            raise units.Misread(self.expected)
        return text


class Domain(_Words):
    """A domain name; lower case is kept. `empty`: may be left empty; `star`: "*" and "*.example.org" too."""

    def __init__(self, *, empty: bool = False, star: bool = False) -> None:
        self.empty, self.star = empty, star
        self.expected = "a domain like " + ('"*", "example.org" or "*.example.org"' if star else '"corp.example"')

    def _form(self, text: str) -> object:
        if (self.empty and not text) or (self.star and text == "*"):
            return text
        before, rest = ("*.", text[2:]) if self.star and text.startswith("*.") else ("", text)
        if _DOMAIN.fullmatch(rest) and len(rest) <= 253:  # RFC 1035 2.3.4, without the root's dot
            return before + rest.lower()
        bare = rest.rpartition("@")[2].strip(".")
        try:  # names are compared as they travel: in their ASCII form (RFC 5890)
            plain = bare.encode("idna").decode("ascii") if bare else ""
        except UnicodeError:
            plain = ""
        raise units.Misread(self.expected, before + plain.lower() if _DOMAIN.fullmatch(plain) else "")


class Network(_Words):
    expected = 'an address or network like "192.0.2.0/24" or "::1"'

    def _form(self, text: str) -> object:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            try:
                meant = str(ipaddress.ip_network(text, strict=False))
            except ValueError:
                meant = ""
            raise units.Misread(self.expected, meant) from None
        return text


class HostPort(_Words):
    """HOST:PORT. `listen`: port 0 (any free one) is allowed; `port` is only used to suggest."""

    def __init__(self, port: int, *, listen: bool = False) -> None:
        self.port, self.listen = port, listen
        host = "127.0.0.1" if listen else "mx.example.org"
        self.expected = f'HOST:PORT like "{host}:{port}"' + (f' or "[::1]:{port}"' if listen else "")

    def _form(self, text: str) -> object:
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise units.Misread(self.expected, self._meant(text))
        host, port = match["six"] or match["host"], int(match["port"])
        if not (0 if self.listen else 1) <= port <= 65535:
            raise units.Misread(f"a port from {0 if self.listen else 1} to 65535")
        if match["six"] and not _is_ip(host, version=6):
            raise units.Misread("an IPv6 address inside the brackets")
        if not match["six"] and not _is_host(host):
            raise units.Misread(self.expected, f"0.0.0.0:{port}" if host == "*" and self.listen else "")
        return Address(host, port)

    def _meant(self, text: str) -> str:
        if _is_ip(text, version=6):
            head, _, tail = text.rpartition(":")
            if tail.isdigit() and int(tail) in (self.port, 25, 587) and _is_ip(head, version=6):
                return f"[{head}]:{tail}"
            return f"[{text}]:{self.port}"
        if self.listen and re.fullmatch(r":?[0-9]{1,5}", text):
            return f"127.0.0.1:{text.lstrip(':')}"
        return f"{text}:{self.port}" if _is_host(text) else ""


class SocketOrHost(HostPort):
    """A socket's path, or HOST:PORT; kept as text."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.expected = f'the path of a socket like "/run/clamav/clamd.ctl", or HOST:PORT like "127.0.0.1:{port}"'

    def _form(self, text: str) -> object:
        return text if text.startswith("/") and "\0" not in text else str(super()._form(text))


class Location(_Words):
    """SCHEME:///PATH, relative to the data directory; `other` names schemes that a later release brings."""

    def __init__(self, scheme: str, example: str, other: str) -> None:
        self.scheme, self.other = scheme, other
        self.expected = f'a place like "{scheme}:///{example}"'

    def _form(self, text: str) -> object:
        scheme, colon, rest = text.partition("://")
        if colon and scheme == self.scheme and rest.startswith("/") and rest.strip("/") and "\0" not in rest:
            return text
        if scheme in self.other.split():
            raise units.Misread(f"{self.expected} ({scheme} is not in this release)")
        path = rest if colon else text
        raise units.Misread(self.expected, f"{self.scheme}:///{path}" if path and scheme in (self.scheme, text) else "")


class ListOf:
    """A list without repetitions; in the environment its items are separated by commas."""

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


class Routes:
    """[[delivery.routes]]: tables of domain and host; in the environment "DOMAIN=HOST:PORT, ..."."""

    expected = "[[delivery.routes]] tables with domain and host"
    domain = Domain(star=True)
    host = HostPort(25)

    def read(self, given: Given) -> tuple[DeliveryRoute, ...] | None:
        tables = given.value
        if given.text and isinstance(tables, str):
            parts = [part.strip() for part in tables.split(",") if part.strip()]
            if not all("=" in part for part in parts):
                given.wrong('routes like "example.org=mx.example.org:25, *=127.0.0.1:2626"')
                return None
            tables = [dict(zip(("domain", "host"), part.split("=", 1), strict=True)) for part in parts]
        if not isinstance(tables, list):
            given.wrong(self.expected, "[[delivery.routes]], with two brackets" if isinstance(tables, dict) else "")
            return None
        routes: list[DeliveryRoute] = []
        for number, table in enumerate(tables):
            route = self._route(given.inner(number, table))
            if route is not None:
                self._reachable(given.inner(number, table), routes, route)
                routes.append(route)
        return tuple(routes) if len(routes) == len(tables) else None

    def write(self, value: object) -> object:
        assert isinstance(value, tuple)
        return [{"domain": route.domain, "host": str(route.host)} for route in value]

    def _route(self, given: Given) -> DeliveryRoute | None:
        table = given.value
        if not isinstance(table, dict):
            given.wrong(self.expected)
            return None
        for key in table.keys() - {"domain", "host"}:
            near = nearest(key, ("domain", "host"))
            given.report((*given.path, key), f"unknown key{f'; did you mean {near}?' if near else ''}")
        found: dict[str, object | None] = {}
        kinds: tuple[tuple[str, Kind], ...] = (("domain", self.domain), ("host", self.host))
        for key, kind in kinds:
            if key in table:
                found[key] = kind.read(given.inner(key, table[key]))
            else:
                given.report((*given.path, key), f"missing; expected {kind.expected}")
        domain, host = found.get("domain"), found.get("host")
        return DeliveryRoute(domain, host) if isinstance(domain, str) and isinstance(host, Address) else None

    def _reachable(self, given: Given, earlier: list[DeliveryRoute], route: DeliveryRoute) -> None:
        """The first match wins, so a route behind a wider one is a mistake, not a preference."""
        for other in earlier:
            wide = other.domain
            if wide == route.domain:
                given.report((*given.path, "domain"), f"{quoted(wide)} has a route already; only the first is used")
                return
            if wide == "*" or (wide.startswith("*.") and route.domain.endswith(wide[1:])):
                text = f"{quoted(route.domain)} is never used: the earlier route for {quoted(wide)} matches first"
                given.report((*given.path, "domain"), text)
                return


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


def _is_ip(text: str, *, version: int = 0) -> bool:
    try:
        return ipaddress.ip_address(text).version in ((version,) if version else (4, 6))
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    """An IPv4 address or a name; what looks like an address must be one ("127.0.0.300" is not a name)."""
    if re.fullmatch(r"[0-9.]+", text):
        return _is_ip(text, version=4)
    return _DOMAIN.fullmatch(text) is not None and len(text) <= 253
