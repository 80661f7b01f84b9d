"""Internal domains, who may relay, and the route of a message (contract section 8).

Promises: domains are compared in any case; networks are parsed once; results per address are cached. Fails:
SettingsError for an unreadable network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from postroom.errors import SettingsError
from postroom.model import Route

_REMEMBERED = 4096  # addresses; then forget all, which costs less than keeping an order


class Routing:
    """The rules of `[gateway]`, parsed."""

    __slots__ = ("_networks", "_trusted", "domains", "hostname", "postmaster_domain")

    def __init__(self, internal_domains: Iterable[str], relay_networks: Iterable[str], hostname: str) -> None:
        ours = [domain.lower() for domain in internal_domains]
        self.domains = frozenset(ours)
        self.hostname = hostname.lower()
        self.postmaster_domain = ours[0] if ours else hostname  # where RCPT TO:<postmaster> goes (RFC 5321 4.5.1)
        self._networks = [_network(text) for text in relay_networks]
        self._trusted: dict[str, bool] = {}

    def trusts(self, ip: str) -> bool:
        """Whether this client may send to external domains."""
        known = self._trusted.get(ip)
        if known is None:
            if len(self._trusted) >= _REMEMBERED:
                self._trusted.clear()
            known = self._trusted[ip] = self._is_in_networks(ip)
        return known

    def _is_in_networks(self, ip: str) -> bool:
        try:
            address = ip_address(ip.partition("%")[0])
        except ValueError:  # a peer without an address (a socket pair) has no rights
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address.version == network.version and address in network for network in self._networks)

    def is_ours(self, domain: str) -> bool:
        return domain.lower() in self.domains

    def routes_from(self, domain: str, trusted: bool) -> tuple[Route, Route]:
        """For a sender: the route to an external recipient, and to an internal one.

        A null sender (notices) has no domain: it counts as internal when the client is in relay_networks.
        """
        if self.is_ours(domain) if domain else trusted:
            return Route.OUTBOUND, Route.INTERNAL
        return Route.EXTERNAL, Route.INBOUND


def place_of(ip: str) -> str:
    """The key for counting sessions: an IPv4 address, or the /64 of an IPv6 address (RFC 4291), which is one site."""
    if ":" not in ip:
        return ip
    try:
        return str(IPv6Address((int(IPv6Address(ip.partition("%")[0])) >> 64) << 64))
    except ValueError:
        return ip


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as problem:
        raise SettingsError(
            [f"gateway.relay_networks: {text!r} is not a network; expected e.g. 192.0.2.0/24 or ::1"]
        ) from problem
