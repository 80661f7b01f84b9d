"""Mailboxes as real mail writes them."""

from __future__ import annotations

import pytest

from postroom.facts.addresses import first_mailbox, mailboxes


@pytest.mark.parametrize(
    ("text", "address", "name"),
    [
        ("a@b.example", "a@b.example", ""),
        ("  a@b.example  ", "a@b.example", ""),
        ("<a@b.example>", "a@b.example", ""),
        ("Alice <a@b.example>", "a@b.example", "Alice"),
        ("Alice Example<a@b.example>", "a@b.example", "Alice Example"),
        ('"Example, Alice" <a@b.example>', "a@b.example", "Example, Alice"),
        (r'"Alice \"Al\" Example" <a@b.example>', "a@b.example", 'Alice "Al" Example'),
        ('Alice "Al" Example <a@b.example>', "a@b.example", "Alice Al Example"),
        ("Alice (from sales) Example <a@b.example>", "a@b.example", "Alice Example"),
        ("a@b.example (Alice Example)", "a@b.example", "Alice Example"),
        ("a@b.example (Alice (Al) Example)", "a@b.example", "Alice (Al) Example"),
        (r"a@b.example (Alice \) Example)", "a@b.example", "Alice ) Example"),
        ("a@b.example (Alice", "a@b.example", "Alice"),
        ("=?utf-8?Q?J=C3=BCrgen?= <a@b.example>", "a@b.example", "Jürgen"),
        ('"=?utf-8?Q?J=C3=BCrgen?=" <a@b.example>', "a@b.example", "Jürgen"),
        ("=?utf-8?Q?M=C3=BCller,_Hans?= <a@b.example>", "a@b.example", "Müller, Hans"),
        ("=?utf-8?Q?a?= =?utf-8?Q?b?= <a@b.example>", "a@b.example", "ab"),
        ("=?utf-8?B?QWxpY2UgPGFAYi5leGFtcGxlPg==?=", "a@b.example", "Alice"),  # the whole field, encoded
        ("Friends: Alice <a@b.example>, c@d.example;", "a@b.example", "Alice"),
        ("undisclosed-recipients:;", "", ""),
        ("mailto:a@b.example", "a@b.example", ""),
        ("Alice a@b.example", "a@b.example", "Alice"),
        ("Alice <a@b.example", "a@b.example", "Alice"),
        ("Alice <a@b.example, Bob <c@d.example>", "a@b.example", "Alice"),
        ('"Alice <a@b.example>', "a@b.example", "Alice"),
        ("<<a@b.example>>", "a@b.example", ""),
        ("Alice < a@b.example >", "a@b.example", "Alice"),
        ("Alice <@x.example,@y.example:a@b.example>", "a@b.example", "Alice"),
        ('"john doe"@b.example', '"john doe"@b.example', ""),
        ('J <"john doe"@b.example>', '"john doe"@b.example', "J"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]", ""),
        ("a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", ""),
        ("J <a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", "J"),
        ("jörg@bücher.example", "jörg@bücher.example", ""),
        ("root", "root", ""),
        ("Cron Daemon <root>", "root", "Cron Daemon"),
        ("Alice Example", "", "Alice Example"),
        ("Alice <>", "", "Alice"),
        ("", "", ""),
        (",,;", "", ""),
        ('"trusted@bank.example" <thief@x.example>', "thief@x.example", "trusted@bank.example"),
        ("trusted@bank.example <thief@x.example>", "thief@x.example", "trusted@bank.example"),
        (", a@b.example", "a@b.example", ""),
        ("A\tB\r <a@b.example>", "a@b.example", "A B"),
    ],
)
def test_the_first_mailbox(text: str, address: str, name: str) -> None:
    assert first_mailbox(text) == (address, name)


def test_a_list_gives_each_mailbox_up_to_the_limit() -> None:
    text = 'Alice <a@x>, "B, C" <b@x>; Team: d@x, Eve <e@x>;, f@x'
    every = [("a@x", "Alice"), ("b@x", "B, C"), ("d@x", ""), ("e@x", "Eve"), ("f@x", "")]
    assert list(mailboxes(text, 100)) == every
    assert list(mailboxes(text, 2)) == every[:2]
