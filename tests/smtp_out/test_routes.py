from __future__ import annotations

import pytest

from postroom.settings import Address, DeliveryRoute
from postroom.smtp_out.routes import Routes

A, B, C = Address("a.example", 25), Address("b.example", 25), Address("c.example", 25)


def routes(*pairs: tuple[str, Address]) -> Routes:
    return Routes(tuple([DeliveryRoute(domain, host) for domain, host in pairs]))


@pytest.mark.parametrize(
    ("pairs", "domain", "expected"),
    [
        ([("example.org", A)], "example.org", A),
        ([("example.org", A)], "EXAMPLE.org.", A),
        ([("Example.ORG", A)], "example.org", A),
        ([("example.org", A)], "sub.example.org", None),
        ([("example.org", A)], "example.com", None),
        ([("*.example.org", A)], "sub.example.org", A),
        ([("*.example.org", A)], "deep.sub.Example.org", A),
        ([("*.example.org", A)], "example.org", None),
        ([("*.example.org", A)], "badexample.org", None),
        ([("*", A)], "anything.example", A),
        ([("*", A)], "[192.0.2.1]", A),
        ([("*", A), ("example.org", B)], "example.org", A),
        ([("example.org", B), ("*", A)], "example.org", B),
        ([("example.org", A), ("example.org", B)], "example.org", A),
        ([("*.org", A), ("*.example.org", B)], "x.example.org", A),
        ([("*.example.org", B), ("*.org", A), ("*", C)], "x.example.org", B),
        ([("*.example.org", B), ("*.org", A), ("*", C)], "y.org", A),
        ([("*.example.org", B), ("*.org", A), ("*", C)], "y.com", C),
        ([("x.example.org", C), ("*.example.org", B)], "x.example.org", C),
        ([("xn--bcher-kva.example", A)], "Bücher.example", A),
        ([("bücher.example", A)], "xn--bcher-kva.example", A),
        ([], "example.org", None),
        ([("*.example.org", A)], "", None),
        ([("a.example", A)], "\u2024..", None),
    ],
)
def test_the_first_route_that_matches_wins(
    pairs: list[tuple[str, Address]], domain: str, expected: Address | None
) -> None:
    assert routes(*pairs).destination(domain) == expected
