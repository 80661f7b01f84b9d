"""Header facts: fields, decoding, line ends, problems, names of recipients, and the time it takes on hostile input."""

from __future__ import annotations

import time

import pytest

from postroom import facts
from postroom.facts import scan

PLAIN = (
    b"Received: from a.example (a.example [192.0.2.1])\r\n\tby gw.example with ESMTP;\r\n"
    b"\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"Received: from b.example by a.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b'From: "Alice Example" <alice@example.org>\r\nTo: Bob <bob@corp.example>, carol@corp.example\r\n'
    b"Subject: Quarterly\r\n report\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n"
)


def header(*lines: bytes) -> bytes:
    return b"".join([line + b"\r\n" for line in lines]) + b"\r\nbody\r\n"


def test_an_ordinary_message_gives_every_fact() -> None:
    found = scan(PLAIN)
    assert found.from_address == "alice@example.org"
    assert found.from_name == "Alice Example"
    assert found.to_header == "Bob <bob@corp.example>, carol@corp.example"
    assert found.subject == "Quarterly report"
    assert found.message_id == "<1@example.org>"
    assert found.hops == 2
    assert PLAIN[found.body_at :] == b"Hello\r\n"
    assert (found.attachment, found.parts, found.depth, found.problems) == (False, 1, 0, ())


@pytest.mark.parametrize("ends", [b"\r\n", b"\n"])
def test_line_ends_of_either_kind_give_the_same_facts(ends: bytes) -> None:
    data = PLAIN.replace(b"\r\n", ends)
    found = scan(data)
    assert (found.subject, found.hops, found.problems) == ("Quarterly report", 2, ())
    assert data[found.body_at :] == b"Hello" + ends


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"", b""),
        (b"\r\nbody", b"body"),
        (b"\nbody", b"body"),
        (b"From: a@b\r\n", b""),
        (b"From: a@b", b""),
        (b"From: a@b\n\nbody\r\n\r\nmore", b"body\r\n\r\nmore"),
        (b"From: a@b\r\n\nbody", b"body"),
        (b"From: a@b\n\r\nbody", b"body"),
        (b"From: a@b\n\n\r\nbody", b"\r\nbody"),
        (b"From: a@b\r\n\r\n", b""),
        (b"From: a@b\r\n \r\nSubject: still header\r\n\r\nbody", b"body"),
    ],
)
def test_the_body_begins_behind_the_first_empty_line(data: bytes, body: bytes) -> None:
    assert data[scan(data).body_at :] == body
    assert facts.header_block(data) + body == data


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?J=C3=BCrgen_M?=", "Jürgen M"),
        (b"=?UTF-8?b?SsO8cmdlbg?=", "Jürgen"),  # without padding
        (b"=?utf-8?B?SsO8cmdlb?=", "Jürge"),  # cut within a group of four
        (b"=?utf-8?B?w?= x", "=?utf-8?B?w?= x"),  # nothing that could be decoded
        (b"a =?utf-8?Q?b?= c", "a b c"),
        (b"=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
        (b"=?utf-8?Q?a?=\r\n =?utf-8?Q?b?=", "ab"),
        (b"=?utf-8?Q?a?==?iso-8859-1?Q?=E9?=", "aé"),
        (b"=?utf-8?Q?=C3?= =?utf-8?Q?=BC?=", "ü"),  # a character cut in two
        (b"=?iso-8859-2*sl?Q?Doma=e8e?=", "Domače"),
        (b"=?iso-8859-1?Q?=80uro?=", "€uro"),  # Windows-1252 under another name
        (b"=?iso-8859-1?Q?=81?=x", "x"),  # a C1 control
        (b"=?x-unknown?Q?=E9?=", "é"),
        (b"=?zlib?Q?=E9?=", "é"),
        (b"=?unicode_escape?Q?=5Cq?=", "\\q"),
        (b"=?utf-7?Q?+2AA-?=x", "x"),  # a lone surrogate
        (b"=?utf-8?Q?open end", "=?utf-8?Q?open end"),
        (b"=?utf-8?Q?broken =?utf-8?Q?whole?=", "=?utf-8?Q?broken whole"),
        (b"=?utf-8?Q?with literal blanks?=", "with literal blanks"),
        (b"=?utf-8?Q?why??=", "why?"),
        (b"=?utf-8?X?a?=", "=?utf-8?X?a?="),
        (b"=??Q?a?= 1=?", "=??Q?a?= 1=?"),
        (b"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?gb2312?B?1tDOxA==?=", "中文"),
        (b"=?utf-8?B?YQ0KYg==?=", "a  b"),  # a line end inside
        ("Größe".encode(), "Größe"),
        ("Größe".encode("cp1252"), "Größe"),
        (b"\x81\x8d", ""),
        (b"a\tb\x00c\x1bd\re", "a b c d e"),
        ("a\u2028b".encode(), "a b"),
    ],
)
def test_a_subject_is_decoded_to_one_clean_line(raw: bytes, text: str) -> None:
    assert scan(header(b"Subject: " + raw)).subject == text


def test_text_without_a_charset_is_guessed_from_what_the_body_declares() -> None:
    raw = "中文".encode("gb2312")
    assert scan(header(b"Subject: " + raw, b'Content-Type: text/plain; charset="GB2312"')).subject == "中文"
    assert scan(header(b"Subject: " + raw, b"Content-Type: text/plain; charset=nonsense")).subject == "ÖÐÎÄ"


def test_long_texts_are_cut() -> None:
    found = scan(header(b"Subject: " + b"x" * 5000, b"To: " + "ü".encode() * 50_000))
    assert found.subject == "x" * 998
    assert found.to_header == "ü" * 998


def test_field_names_count_in_any_case_and_with_blanks_before_the_colon() -> None:
    found = scan(header(b"FROM : a@b.example", b"sUbJeCt\t:x", b"received:1", b"RECEIVED :2"))
    assert (found.from_address, found.subject, found.hops, found.problems) == ("a@b.example", "x", 2, ())


def test_the_first_of_two_fields_counts_and_recipients_are_joined() -> None:
    found = scan(header(b"From: a@b", b"From: c@d", b"Subject: one", b"Subject: two", b"To: x@y", b"To: z@y"))
    assert (found.from_address, found.subject, found.to_header) == ("a@b", "one", "x@y, z@y")
    assert found.problems == ("more than one From field",)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((b"Subject: x",), "no From field"),
        ((b"From: a@b", b"no colon here"), "header line without a colon"),
        ((b"From: a@b", b"two words: x"), "header line that is not a field"),
        ((b" leading: blank", b"From: a@b"), "header line that is not a field"),
        ((b"From: a@b", b": empty"), "header line that is not a field"),
        ((b"From: a@b", b"Subject: \xc3\xbc"), "8-bit header"),
        ((b"From: a@b", b"Subject: \x00"), "NUL in the header"),
        ((b"From: a@b", b"Subject: a\rb"), "bare CR in the header"),
        ((b"From: a@b", b"Subject: a\r"), "bare CR in the header"),
        ((b"From: a@b", b"X: " + b"x" * 1024 * 1024), "header larger than 1 MiB"),
    ],
)
def test_what_is_wrong_with_the_header_is_named(lines: tuple[bytes, ...], problem: str) -> None:
    assert scan(header(*lines)).problems == (problem,)


def test_display_names_of_recipients_come_from_to_and_cc() -> None:
    data = header(
        b"From: a@b",
        b'To: "Bob, the Builder" <Bob@Corp.example>, c@d.example',
        b"Cc: =?utf-8?Q?J=C3=BCrgen?= <j@x.example>",
    )
    names = facts.recipient_names(data, scan(data))
    assert names == {"bob@corp.example": "Bob, the Builder", "j@x.example": "Jürgen"}


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ((b"To: a@b.example",), {}),
        ((), {}),
        ((b"To: Bob <a@b.example>",), {"a@b.example": "Bob"}),
        ((b"To: <a@b.example>",), {}),
        ((b"To: a@b.example (Bob)",), {"a@b.example": "Bob"}),
        ((b"To: One <a@b.example>, Two <A@B.example>",), {"a@b.example": "One"}),
        ((b"Cc: Bob <a@b.example>",), {"a@b.example": "Bob"}),
        ((b"To: =?utf-8?B?QSA8eEB5PiwgQg==?= <a@b.example>",), {"a@b.example": "A <x@y>, B"}),
    ],
)
def test_recipient_names(lines: tuple[bytes, ...], names: dict[str, str]) -> None:
    data = header(*lines)
    assert facts.recipient_names(data, scan(data)) == names


def test_only_the_first_hundred_recipients_are_named() -> None:
    data = header(b"To: " + b",\r\n ".join([b"N%d <u%d@x.example>" % (at, at) for at in range(2000)]))
    names = facts.recipient_names(data, scan(data))
    assert len(names) == 100
    assert names["u99@x.example"] == "N99"


def test_fields_are_shown_decoded_in_order() -> None:
    data = header(b"From: a@b", b"Subject: =?utf-8?Q?=C3=BC?=", b"junk", b"X-Long: " + b"y" * 9000)
    assert facts.fields(data) == [("From", "a@b"), ("Subject", "ü"), ("", "junk"), ("X-Long", "y" * 4000)]
    assert len(facts.fields(header(*[b"A: b"] * 3000))) == 500


SIZE = 10_000_000
HOSTILE = {
    "colons": b":" * SIZE,
    "empty fields": b":\r\n" * (SIZE // 3),
    "one field a line": b"a:\r\n" * (SIZE // 4),
    "fields that are wanted": b"To:<\r\n" * (SIZE // 6),
    "folds": b"From:" + b"\r\n " * (SIZE // 3),
    "starts of encoded words": b"Subject: " + b"=?" * (SIZE // 2),
    "heads of encoded words": b"Subject: " + b"=?a?q?" * (SIZE // 6),
    "heads of encoded words, one end": b"Subject: " + b"=?a?q?" * 2500 + b"?=",
    "encoded words": b"Subject: " + b"=?a?q??=" * (SIZE // 8),
    "open quotes": b"From: " + b'"\\' * (SIZE // 2),
    "open quotes in short": b"From: " + b'"\\' * 8000,
    "open brackets": b"From: " + b"<" * (SIZE // 2),
    "open square brackets": b"From: " + b"[" * 16_000,
    "open comments": b"From: " + b"(" * 16_000,
    "commas": b"From: " + b"," * 16_000,
    "words without an address": b"From: " + b"a " * 8000,
    "at signs": b"From: " + b"@" * 16_000,
    "addresses in words": b"From: " + b"a@" * 8000,
    "brackets and quotes": b"From: " + b'<"\\' * 5000,
    "boundaries that are not": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"\n--" * (SIZE // 3),
    "boundaries": b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n" * (SIZE // 4),
    "boundaries with headers without an end": b"Content-Type: multipart/mixed; boundary=x\n\n"
    + b"--x\na:" * (SIZE // 6),
    "a header without an end": b"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
    + b"content-type:x\n" * (SIZE // 15),
    "multiparts in multiparts": b"Content-Type: multipart/mixed; boundary=x\n\n"
    + b"--x\nContent-Type: multipart/mixed; boundary=x\n\n" * (SIZE // 50),
    "messages in messages": b"Content-Type: message/rfc822\n\n" * (SIZE // 30),
    "a boundary with quotes": b'Content-Type: multipart/mixed; boundary="' + b"\\" * SIZE,
    "blanks before an equals sign": b"Content-Type: multipart/mixed; " + b"boundary " * (SIZE // 9),
    "blanks": b"Content-Type: application/x; name" + b" " * SIZE,
    "names": b"Content-Type: application/x" + b";name=" * (SIZE // 6),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input_takes_linear_time(data: bytes) -> None:
    """Ten megabytes a second is far below what it does, and far above what any step that is not linear would do."""
    started = time.process_time()
    found = scan(data)
    facts.recipient_names(data, found)
    facts.fields(data)
    assert time.process_time() - started < 5
    assert found.body_at <= len(data)
