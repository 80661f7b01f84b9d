"""The next hop of a domain: the routes of the settings. MX lookup would go here.

Promises: the first matching route of the settings wins, in any case, at two dictionary look-ups per label. Fails: never
raises; None = no route. MX look-ups will go here.
"""

from __future__ import annotations

from postroom.settings import Address, DeliveryRoute


def canonical(domain: str) -> str:
    """The canonical form of a domain: lower case, no root dot, A-labels (RFC 5890) where possible."""
    domain = domain.rstrip(".").lower()
    if not domain.isascii():
        try:
            return domain.encode("idna").decode("ascii")
        except UnicodeError:
            return domain
    return domain


class Routes:
    """The routes of the settings, by domain. `*.example.org` means everything below example.org, not itself."""

    __slots__ = ("_any", "_below", "_exact")

    def __init__(self, routes: tuple[DeliveryRoute, ...]) -> None:
        self._exact: dict[str, tuple[int, Address]] = {}
        self._below: dict[str, tuple[int, Address]] = {}
        self._any: tuple[int, Address] | None = None
        for place, route in enumerate(routes):
            found = (place, route.host)
            if route.domain == "*":
                self._any = self._any or found
            elif route.domain.startswith("*."):
                self._below.setdefault(canonical(route.domain[2:]), found)
            else:
                self._exact.setdefault(canonical(route.domain), found)

    def destination(self, domain: str) -> Address | None:
        """The next hop for this domain."""
        domain = canonical(domain)
        found = self._any
        exact = self._exact.get(domain)
        if exact is not None and (found is None or exact[0] < found[0]):
            found = exact
        if self._below:
            dot = domain.find(".")
            while dot >= 0:
                below = self._below.get(domain[dot + 1 :])
                if below is not None and (found is None or below[0] < found[0]):
                    found = below
                dot = domain.find(".", dot + 1)
        return found[1] if found is not None else None
