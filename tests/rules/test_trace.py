from __future__ import annotations

import email.utils
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.model import Client
from postroom.rules.trace import date, received_field

AT = 1_795_352_400_123  # Sun, 22 Nov 2026 13:00:00 UTC


def field(client: Client, *recipients: str) -> bytes:
    return received_field(client, hostname="gw.example", ident="19f", recipients=recipients, at=AT)


def test_the_field_says_who_where_how_and_when() -> None:
    client = Client("192.0.2.1", name="mail.example.org", helo="mail.example.org")
    assert field(client, "bob@example.org") == (
        b"Received: from mail.example.org (mail.example.org [192.0.2.1])\r\n"
        b"\tby gw.example with ESMTP id 19f\r\n"
        b"\tfor <bob@example.org>;\r\n"
        b"\tSun, 22 Nov 2026 13:00:00 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (Client("192.0.2.1", helo="x", esmtp=False), b"from x (unknown [192.0.2.1])\r\n\tby gw.example with SMTP id"),
        (Client("2001:db8::1", helo="x"), b"(unknown [IPv6:2001:db8::1])"),
        (Client("fe80::1%eth0", helo="x"), b"[IPv6:fe80::1])"),
        (Client("192.0.2.1", helo="[192.0.2.1]"), b"from [192.0.2.1] ("),
        (Client("192.0.2.1", helo=""), b"from unknown (unknown"),
        (Client("192.0.2.1", helo="x", tls="TLSv1.3"), b"with ESMTPS id"),
        (Client("192.0.2.1", helo="x", tls="TLSv1.3", user="u"), b"with ESMTPSA id"),
        (Client("192.0.2.1", helo="x", user="u"), b"with ESMTPA id"),
        (Client("192.0.2.1", helo="a (b) c\r\nBcc: d;<e>"), b"from abcBcc:de (unknown"),
    ],
)
def test_forms(client: Client, words: bytes) -> None:
    assert words in field(client, "bob@example.org")


@pytest.mark.parametrize("recipients", [(), ("a@x.example", "b@x.example"), ("ü@x.example",), ('"a>\r\nb"@x.example',)])
def test_only_a_single_plain_recipient_is_named(recipients: tuple[str, ...]) -> None:
    assert b"for" not in field(Client("192.0.2.1", helo="x"), *recipients)


@given(st.text(), st.text(), st.text())
def test_nothing_a_peer_says_leaves_its_place(helo: str, name: str, recipient: str) -> None:
    written = field(Client("192.0.2.1", name=name, helo=helo), recipient)
    lines = written.split(b"\r\n")
    assert lines[-1] == b""
    assert written.isascii()
    assert re.fullmatch(rb"Received: from \S+ \(\S+ \[192\.0\.2\.1\]\)", lines[0])
    assert all(line.startswith(b"\t") for line in lines[1:-1])
    assert max(map(len, lines)) < 998
    assert written.count(b"\n") == written.count(b"\r") == len(lines) - 1


def test_dates_are_those_of_the_second() -> None:
    assert email.utils.parsedate_to_datetime(date(AT)).timestamp() == AT // 1000
    assert date(AT) == "Sun, 22 Nov 2026 13:00:00 +0000"
    assert date(AT + 1000) == "Sun, 22 Nov 2026 13:00:01 +0000"
