"""Who is ours, who may relay, which route."""

from __future__ import annotations

import pytest

from postroom.errors import SettingsError
from postroom.model import Route
from postroom.smtp_in import routing
from postroom.smtp_in.routing import Routing, place_of


def rules(*domains: str, networks: tuple[str, ...] = ("192.0.2.0/24", "2001:db8::/32", "::1", "10.0.0.1")) -> Routing:
    return Routing(domains, networks, "gw.example")


@pytest.mark.parametrize(
    ("ip", "trusted"),
    [
        ("192.0.2.200", True),
        ("192.0.3.1", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("2001:db8:1::5", True),
        ("::1", True),
        ("::2", False),
        ("::ffff:192.0.2.9", True),
        ("::ffff:198.51.100.9", False),
        ("2001:db8::1%eth0", True),
        ("", False),
        ("no address", False),
    ],
)
def test_who_may_relay(ip: str, trusted: bool) -> None:
    asked = rules()
    assert asked.trusts(ip) is trusted
    assert asked.trusts(ip) is trusted  # as remembered


def test_remembered_addresses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_REMEMBERED", 10)
    asked = rules()
    for number in range(200):
        assert asked.trusts(f"192.0.2.{number}")
    assert len(asked._trusted) <= 10


@pytest.mark.parametrize(
    ("sender_domain", "trusted", "to_others", "to_ours"),
    [
        ("corp.example", False, Route.OUTBOUND, Route.INTERNAL),
        ("CORP.Example", True, Route.OUTBOUND, Route.INTERNAL),
        ("example.org", False, Route.EXTERNAL, Route.INBOUND),
        ("example.org", True, Route.EXTERNAL, Route.INBOUND),
        ("sub.corp.example", True, Route.EXTERNAL, Route.INBOUND),
        ("", True, Route.OUTBOUND, Route.INTERNAL),
        ("", False, Route.EXTERNAL, Route.INBOUND),
    ],
)
def test_routes(sender_domain: str, trusted: bool, to_others: Route, to_ours: Route) -> None:
    assert rules("Corp.example").routes_from(sender_domain, trusted) == (to_others, to_ours)


def test_where_mail_to_the_bare_postmaster_goes() -> None:
    assert rules("First.example", "second.example").postmaster_domain == "first.example"
    assert rules().postmaster_domain == "gw.example"


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::1", "::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_a_site_with_many_addresses_is_one_place(ip: str, place: str) -> None:
    assert place_of(ip) == place


def test_a_network_that_cannot_be_read_is_named() -> None:
    with pytest.raises(SettingsError, match=r"300\.0\.0\.0/8"):
        rules(networks=("300.0.0.0/8",))
