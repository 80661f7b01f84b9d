"""Whose address counts: only trusted proxies may say it, and only what they themselves have seen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.http.door.proxies import Behind, Proxies, read_address
from postroom.settings import Address, Http
from tests.http.conftest import FIND, Serve, Served

TRUSTED = Proxies(("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"))
STRANGER = "198.51.100.9"


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ([], ("127.0.0.1", "")),
        ([("x-forwarded-for", STRANGER)], (STRANGER, "")),
        ([("x-forwarded-for", f"192.0.2.1, {STRANGER}")], (STRANGER, "")),  # what it says itself counts for nothing
        ([("x-forwarded-for", f"127.0.0.1, {STRANGER}, 10.1.2.3")], (STRANGER, "")),
        ([("x-forwarded-for", f"{STRANGER}, 10.1.2.3"), ("x-forwarded-for", "10.9.9.9")], (STRANGER, "")),
        ([("x-forwarded-for", "10.1.2.3, 10.1.2.4")], ("10.1.2.3", "")),  # nobody but proxies: the farthest
        ([("x-forwarded-for", f"{STRANGER}:4711")], (STRANGER, "")),
        ([("x-forwarded-for", "[2001:db8:2::7]:4711")], ("2001:db8:2::7", "")),
        ([("x-forwarded-for", "2001:db8:2::7")], ("2001:db8:2::7", "")),
        ([("x-forwarded-for", "::ffff:198.51.100.9")], (STRANGER, "")),
        ([("x-forwarded-for", "unknown")], ("127.0.0.1", "")),
        ([("x-forwarded-for", f"{STRANGER}, nonsense, 10.1.2.3")], ("10.1.2.3", "")),
        ([("x-forwarded-for", ""), ("x-forwarded-for", "\xff")], ("127.0.0.1", "")),
        ([("forwarded", f"for={STRANGER};proto=https;by=10.0.0.1")], (STRANGER, "https")),
        ([("forwarded", 'for="[2001:db8:2::7]:4711"')], ("2001:db8:2::7", "")),
        (
            [("forwarded", f"for=192.0.2.1, For={STRANGER} ; Proto=HTTPS, for=10.1.1.1;proto=https")],
            (STRANGER, "https"),
        ),
        ([("forwarded", f'for="192.0.2.1, for={STRANGER}')], (STRANGER, "")),  # a quote left open hides nobody
        ([("forwarded", "for=_hidden")], ("127.0.0.1", "")),
        ([("forwarded", f"for={STRANGER}"), ("x-forwarded-for", STRANGER)], (STRANGER, "")),
        ([("forwarded", "for=192.0.2.1"), ("x-forwarded-for", STRANGER)], ("127.0.0.1", "")),  # one of them is made up
        ([("x-forwarded-proto", "https")], ("127.0.0.1", "https")),
        ([("x-forwarded-proto", "http, https")], ("127.0.0.1", "https")),
        ([("x-forwarded-proto", "gopher")], ("127.0.0.1", "")),
        ([("x-forwarded-proto", "https"), ("forwarded", f"for={STRANGER};proto=http")], (STRANGER, "")),
        ([("x-real-ip", STRANGER)], ("127.0.0.1", "")),
    ],
)  # fmt: skip
def test_the_rightmost_address_that_is_no_proxy_of_ours_is_the_caller(
    headers: list[tuple[str, str]], caller: tuple[str, str]
) -> None:
    assert TRUSTED.caller("127.0.0.1", [(name.encode(), text.encode("latin-1")) for name, text in headers]) == caller


NAMES = st.sampled_from([b"x-forwarded-for", b"forwarded", b"x-forwarded-proto"])
TEXTS = st.binary(max_size=60) | st.text('for=" ,;127.0:[]\\proto', max_size=60).map(str.encode)


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=5), st.sampled_from([b"x-forwarded-for", b"forwarded"]))
def test_whatever_a_caller_writes_it_cannot_pass_for_another(said: list[tuple[bytes, bytes]], name: bytes) -> None:
    """The proxy appends what it saw to the header of its choice; at worst the caller counts as the proxy."""
    appended = f"for={STRANGER}".encode() if name == b"forwarded" else STRANGER.encode()
    headers = [*said, (name, appended)]
    assert TRUSTED.caller("127.0.0.1", headers)[0] in (STRANGER, "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", "10.255.0.1", "::ffff:10.0.0.1", "2001:db8:1:2::3"])
def test_trust_is_by_network(host: str) -> None:
    assert TRUSTED.trusts(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "11.0.0.1", "2001:db8:2::1", "", "proxy.example", "10.0.0.1.evil.example"]
)
def test_nobody_else_is_trusted(host: str) -> None:
    assert not TRUSTED.trusts(host)


def test_an_address_is_read_with_or_without_its_port() -> None:
    assert str(read_address(" 192.0.2.7:25 ")) == "192.0.2.7"
    assert str(read_address("fe80::1%eth0")) == "fe80::1"
    assert read_address("[") is None


async def through(served: Served, peer: str, headers: dict[str, str]) -> dict[str, Any]:
    """What the application sees of a caller."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    proxies = Proxies(served.services.settings.http.trusted_proxies)
    scope = {"type": "http", "client": (peer, 5), "scheme": "http",
             "headers": [(name.encode(), text.encode()) for name, text in headers.items()]}  # fmt: skip
    await Behind(app, proxies)(scope, lambda: None, lambda message: None)  # type: ignore[arg-type, return-value]
    return seen


async def test_only_a_trusted_peer_is_listened_to(serve: Serve) -> None:
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), trusted_proxies=("127.0.0.1",)))
    headers = {"x-forwarded-for": STRANGER, "x-forwarded-proto": "https"}
    seen = await through(served, "127.0.0.1", headers)
    assert (seen["client"][0], seen["scheme"]) == (STRANGER, "https")
    seen = await through(served, "127.0.0.2", headers)
    assert (seen["client"][0], seen["scheme"]) == ("127.0.0.2", "http")


async def test_strangers_behind_a_trusted_proxy_are_counted_apart(serve: Serve) -> None:
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), trusted_proxies=("127.0.0.1",)))

    async def left(address: str) -> int:
        answer = await served.post(FIND, {"X-Forwarded-For": address})
        return int(answer.headers["x-ratelimit-remaining"])

    first = await left("192.0.2.1")
    assert (await left("192.0.2.1"), await left("192.0.2.2")) == (first - 1, first)


async def test_without_trust_the_header_changes_nothing(served: Served) -> None:
    remaining = [
        int((await served.post(FIND, {"X-Forwarded-For": f"192.0.2.{number}"})).headers["x-ratelimit-remaining"])
        for number in range(2)
    ]
    assert remaining[1] == remaining[0] - 1


async def test_https_at_the_proxy_makes_strict_cookies_and_hsts(serve: Serve) -> None:
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), trusted_proxies=("127.0.0.1",)))
    answer = await served.get("/console/login", {"X-Forwarded-Proto": "https", "X-Forwarded-For": STRANGER})
    assert answer.headers["set-cookie"].startswith("__Host-postroom_form=")
    assert "strict-transport-security" in answer.headers


async def test_nobody_becomes_local_through_a_trusted_proxy(serve: Serve) -> None:
    served = await serve(http=Http(listen=(Address("127.0.0.1", 0),), trusted_proxies=("127.0.0.1",)))
    for said in ("127.0.0.1", "::1", STRANGER, f"{STRANGER}, 127.0.0.1", ""):
        assert (await served.get("/metrics", {"X-Forwarded-For": said})).status == 401, said
    assert (await served.get("/metrics")).status == 200
