"""Settings that name a place: domains, networks, addresses, routes, storage locations.

Promises and fails as `postroom.settings.kinds`: a wrong value is reported with a suggestion; nothing raises. Only the
form is checked here; whether a name resolves or a port is free shows when it is used.
"""

from __future__ import annotations

import ipaddress
import re

from postroom import units
from postroom.settings import Address, DeliveryRoute
from postroom.settings.kinds import Given, Kind, Words, nearest, quoted

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")  # RFC 5321 4.1.2 Domain, without address literals
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\[\]]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>[0-9]{1,5})")


class Domain(Words):
    """A domain name, in lower case. `empty`: may be empty; `star`: may be "*" or "*.example.org"."""

    def __init__(self, *, empty: bool = False, star: bool = False) -> None:
        self.empty, self.star = empty, star
        self.expected = "a domain like " + ('"*", "example.org" or "*.example.org"' if star else '"corp.example"')

    def form(self, text: str) -> object:
        if (self.empty and not text) or (self.star and text == "*"):
            return text
        before, rest = ("*.", text[2:]) if self.star and text.startswith("*.") else ("", text)
        if _DOMAIN.fullmatch(rest) and len(rest) <= 253:  # RFC 1035 2.3.4, without the root's dot
            return before + rest.lower()
        bare = rest.rpartition("@")[2].strip(".")
        try:  # SMTP carries domain names in their ASCII form (RFC 5890)
            plain = bare.encode("idna").decode("ascii") if bare else ""
        except UnicodeError:
            plain = ""
        raise units.Misread(self.expected, before + plain.lower() if _DOMAIN.fullmatch(plain) else "")


class Network(Words):
    expected = 'an address or network like "192.0.2.0/24" or "::1"'

    def form(self, text: str) -> object:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            try:
                meant = str(ipaddress.ip_network(text, strict=False))
            except ValueError:
                meant = ""
            raise units.Misread(self.expected, meant) from None
        return text


class HostPort(Words):
    """HOST:PORT. `listen`: allows port 0 (any free port); `port`: only for suggestions."""

    def __init__(self, port: int, *, listen: bool = False) -> None:
        self.port, self.listen = port, listen
        host = "127.0.0.1" if listen else "mx.example.org"
        self.expected = f'HOST:PORT like "{host}:{port}"' + (f' or "[::1]:{port}"' if listen else "")

    def form(self, text: str) -> object:
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
    """The path of a socket, or HOST:PORT; a text in the tree."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.expected = f'the path of a socket like "/run/clamav/clamd.ctl", or HOST:PORT like "127.0.0.1:{port}"'

    def form(self, text: str) -> object:
        return text if text.startswith("/") and "\0" not in text else str(super().form(text))


class Location(Words):
    """SCHEME:///PATH, relative to the data directory; `other`: schemes of later releases."""

    def __init__(self, scheme: str, example: str, other: str) -> None:
        self.scheme, self.other = scheme, other
        self.expected = f'a place like "{scheme}:///{example}"'

    def form(self, text: str) -> object:
        scheme, colon, rest = text.partition("://")
        if colon and scheme == self.scheme and rest.startswith("/") and rest.strip("/") and "\0" not in rest:
            return text
        if scheme in self.other.split():
            raise units.Misread(f"{self.expected} ({scheme} is not in this release)")
        path = rest if colon else text
        raise units.Misread(self.expected, f"{self.scheme}:///{path}" if path and scheme in (self.scheme, text) else "")


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
        """Reports a route that an earlier, wider one hides: the first match wins, so it would never be used."""
        for other in earlier:
            wide = other.domain
            if wide == route.domain:
                given.report((*given.path, "domain"), f"{quoted(wide)} has a route already; only the first is used")
                return
            if wide == "*" or (wide.startswith("*.") and route.domain.endswith(wide[1:])):
                text = f"{quoted(route.domain)} is never used: the earlier route for {quoted(wide)} matches first"
                given.report((*given.path, "domain"), text)
                return


def _is_ip(text: str, *, version: int = 0) -> bool:
    try:
        return ipaddress.ip_address(text).version in ((version,) if version else (4, 6))
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    """An IPv4 address or a name. A text of digits and dots must be an address: "127.0.0.300" is not a name."""
    if re.fullmatch(r"[0-9.]+", text):
        return _is_ip(text, version=4)
    return _DOMAIN.fullmatch(text) is not None and len(text) <= 253
