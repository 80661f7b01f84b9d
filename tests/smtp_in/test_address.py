"""Mailbox syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.smtp_in import replies
from postroom.smtp_in.address import BadPath, Fault, mail_parameters, read_path

LONGEST_LOCAL = b"l" * 64
LONGEST_DOMAIN = b".".join([b"d" * 63] * 3 + [b"d" * 63])  # 255


@pytest.mark.parametrize(
    ("text", "local", "domain", "rest"),
    [
        (b"<a@example.org>", "a", "example.org", b""),
        (b" <a@example.org>", "a", "example.org", b""),
        (b"<Case.Kept@Example.ORG>", "Case.Kept", "Example.ORG", b""),
        (b"<a@example.org> SIZE=1", "a", "example.org", b" SIZE=1"),
        (b"<a@example.org>x", "a", "example.org", b"x"),
        (b"<!#$%&'*+-/=?^_`{|}~@example.org>", "!#$%&'*+-/=?^_`{|}~", "example.org", b""),
        (b'<"two words"@example.org>', '"two words"', "example.org", b""),
        (b'<"a>b@c\\"d"@example.org>', '"a>b@c\\"d"', "example.org", b""),
        (b'<""@example.org>', '""', "example.org", b""),
        (b"<.odd..dots.@example.org>", ".odd..dots.", "example.org", b""),
        (b"<a@localhost>", "a", "localhost", b""),
        (b"<a@under_score.example>", "a", "under_score.example", b""),
        (b"<a@xn--bcher-kva.example>", "a", "xn--bcher-kva.example", b""),
        (b"<a@[192.0.2.1]>", "a", "[192.0.2.1]", b""),
        (b"<a@[IPv6:2001:db8::1]>", "a", "[IPv6:2001:db8::1]", b""),
        (b"<a@[ipv6:::1]>", "a", "[ipv6:::1]", b""),
        (b"<" + LONGEST_LOCAL + b"@example.org>", "l" * 64, "example.org", b""),
        (b"<a@" + LONGEST_DOMAIN + b">", "a", LONGEST_DOMAIN.decode(), b""),
        (b"<>", "", "", b""),
        (b"<> BODY=7BIT", "", "", b" BODY=7BIT"),
        (b"<postmaster>", "postmaster", "", b""),
    ],
)
def test_paths_that_are_read(text: bytes, local: str, domain: str, rest: bytes) -> None:
    path = read_path(text)
    assert (path.local, path.domain, path.rest) == (local, domain, rest)
    assert path.address == (f"{local}@{domain}" if domain else local)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", Fault.SYNTAX),
        (b"a@example.org", Fault.SYNTAX),
        (b"<a@example.org", Fault.SYNTAX),
        (b"<a b@example.org>", Fault.SYNTAX),
        (b"<@>", Fault.SOURCE_ROUTE),
        (b"<a@>", Fault.SYNTAX),
        (b"<a@b@example.org>", Fault.SYNTAX),
        (b'<"a@example.org>', Fault.SYNTAX),
        (b'<a"b"@example.org>', Fault.SYNTAX),
        (b'<"a\tb"@example.org>', Fault.SYNTAX),
        (b"<a@-example.org>", Fault.SYNTAX),
        (b"<a@example-.org>", Fault.SYNTAX),
        (b"<a@example..org>", Fault.SYNTAX),
        (b"<a@.example.org>", Fault.SYNTAX),
        (b"<a@example.org.>", Fault.SYNTAX),
        (b"<a@exa mple.org>", Fault.SYNTAX),
        (b"<a@192.0.2.1>", Fault.SYNTAX),
        (b"<a@[192.0.2]>", Fault.SYNTAX),
        (b"<a@[192.0.2.256]>", Fault.SYNTAX),
        (b"<a@[IPv6:nothing]>", Fault.SYNTAX),
        (b"<a@[IPv6:fe80::1%eth0]>", Fault.SYNTAX),
        (b"<a@[tag:general]>", Fault.SYNTAX),
        (b"<a@[192.0.2.1>", Fault.SYNTAX),
        (b"<" + LONGEST_LOCAL + b"l@example.org>", Fault.SYNTAX),
        (b"<" + LONGEST_LOCAL + b"l>", Fault.SYNTAX),
        (b"<a@" + LONGEST_DOMAIN + b"d>", Fault.SYNTAX),
        (b"<a@" + LONGEST_DOMAIN + b".d>", Fault.SYNTAX),
        (b"<a@" + b"d" * 64 + b".example>", Fault.SYNTAX),
        (b"<@relay.example:a@example.org>", Fault.SOURCE_ROUTE),
        (b"<@a.example,@b.example:c@example.org>", Fault.SOURCE_ROUTE),
        ("<ä@example.org>".encode(), Fault.NOT_ASCII),
        ("<a@bücher.example>".encode(), Fault.NOT_ASCII),
        (b"<\xff@example.org>", Fault.NOT_ASCII),
    ],
)
def test_paths_that_are_refused(text: bytes, fault: Fault) -> None:
    with pytest.raises(BadPath) as caught:
        read_path(text)
    assert caught.value.fault is fault


@pytest.mark.parametrize(
    ("rest", "outcome"),
    [
        (b" ", 0),
        (b" SIZE=0", 0),
        (b" SIZE=12345", 12345),
        (b" size=7 body=8bitmime", 7),
        (b"  BODY=7BIT   SIZE=99 ", 99),
        (b" SIZE=" + b"9" * 20, int("9" * 20)),
        (b" SIZE=" + b"9" * 21, replies.BAD_PARAMETER),
        (b" SIZE=", replies.BAD_PARAMETER),
        (b" SIZE=-1", replies.BAD_PARAMETER),
        (b" SIZE=1 SIZE=1", replies.BAD_PARAMETER),
        (b" BODY=BINARYMIME", replies.BAD_PARAMETER),
        (b" SMTPUTF8", replies.UNKNOWN_PARAMETER),
        (b" RET=HDRS", replies.UNKNOWN_PARAMETER),
        (b"SIZE=1", replies.MAIL_SYNTAX),
        (b">", replies.MAIL_SYNTAX),
    ],
)
def test_parameters_of_mail(rest: bytes, outcome: int | bytes) -> None:
    assert mail_parameters(rest) == outcome


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_and_what_is_read_is_printable(text: bytes) -> None:
    for attempt in (text, b"<" + text + b">", b'<"' + text + b'"@example.org>', b"<a@" + text + b">"):
        try:
            path = read_path(attempt)
        except BadPath:
            continue
        assert path.address.isprintable()
        assert path.address.isascii()
