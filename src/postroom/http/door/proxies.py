"""The caller's address behind a proxy: X-Forwarded-For, X-Forwarded-Proto and Forwarded (RFC 7239).

Promises: these headers count only from a trusted proxy. Each proxy appends the address that it saw, so the caller is
the rightmost address that is not a trusted proxy; anything left of it is ignored. Fails: never; with unreadable or
contradictory headers the proxy's own address counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

PROXIED = frozenset({b"x-forwarded-for", b"forwarded", b"x-real-ip"})  # a proxy's callers have its address
MAX_HOPS = 20  # addresses of one header that are looked at, from the right

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Iterable[tuple[bytes, bytes]]


class Proxies:
    """The trusted ones."""

    __slots__ = ("_networks",)

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text) for text in networks)

    def trusts(self, host: str) -> bool:
        address = read_address(host)
        return address is not None and self._holds(address)

    def _holds(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def caller(self, peer: str, headers: Headers) -> tuple[str, str]:
        """(the caller's address, the scheme or "" when unknown), for a trusted peer."""
        lists, scheme = _said(headers)
        found = {self._rightmost(peer, addresses) for addresses in lists if addresses}
        host = found.pop() if len(found) == 1 else peer
        return host, scheme

    def _rightmost(self, peer: str, addresses: list[str]) -> str:
        caller = peer
        for text in addresses[: -MAX_HOPS - 1 : -1]:
            address = read_address(text)
            if address is None:  # "unknown", "_hidden", or nonsense: the addresses further left are unknown, too
                return caller
            caller = str(address)
            if not self._holds(address):
                return caller
        return caller


def read_address(text: str) -> Address | None:
    """Reads `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::7`, `[2001:db8::7]:4711`; an IPv4-mapped address becomes IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _said(headers: Headers) -> tuple[list[list[str]], str]:
    """The addresses of each kind of header, left to right, and the scheme that the nearest proxy saw.

    Split at every comma, even inside quotes: no address holds one, and a quote that the caller left open hides nothing.
    """
    fors: list[str] = []
    forwarded: list[str] = []
    schemes: list[str] = []
    for name, value in headers:
        text = value.decode("latin-1")
        if name == b"x-forwarded-for":
            fors += text.split(",")
        elif name == b"forwarded":  # RFC 7239 4: for=192.0.2.7;proto=https, for="[2001:db8::7]:4711"
            elements = [dict(_pairs(element)) for element in text.split(",")]
            forwarded += [element.get("for", "") for element in elements]
            schemes.append(elements[-1].get("proto", ""))
        elif name == b"x-forwarded-proto":
            schemes.append(text.rpartition(",")[2])
    found = {scheme.strip().lower() for scheme in schemes} & {"http", "https"}
    return [fors, forwarded], found.pop() if len(found) == 1 else ""


def _pairs(element: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in element.split(";")]
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in pairs]


class Behind:
    """Wraps the application: replaces `client` and `scheme` of the proxy with those of the caller."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if scope["type"] == "http" and peer and self._proxies.trusts(peer[0]):
            host, scheme = self._proxies.caller(peer[0], scope["headers"])
            scope = {**scope, "client": (host, peer[1] if host == peer[0] else 0), "scheme": scheme or scope["scheme"]}
        await self._app(scope, receive, send)
