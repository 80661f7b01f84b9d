"""Whatever the bytes are, the scan gives facts, and they fit together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from postroom import facts
from tests.test_facts_corpus import FILES, as_sent

SCRAPS = [
    b"From: ", b"To: ", b"Cc:", b"Subject:", b"Content-Type: multipart/mixed; boundary=",
    b"Content-Type: message/rfc822", b"Content-Disposition: attachment", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ",
    b"\t", b"--x", b"--x--", b"x", b"=?utf-8?Q?", b"=?utf-7?B?", b"?=", b"=?", b'"', b"\\", b"<", b">", b"(", b")",
    b"@", b",", b";", b":", b"\x00", b"\xff", b"\xc3\xbc", b"=?utf-16?B?/w==?=", b"=?undefined?Q?=FF?=",
    b"=?\xc3\xbc?q?a?=", b"[", b"]", b"a@b.example",
]  # fmt: skip
CORPUS = [as_sent(path.read_bytes())[:20_000] for path in FILES] or [b"From: a@b\r\n\r\nbody\r\n"]


def check(data: bytes) -> None:
    found = facts.scan(data)
    block = facts.header_block(data)
    assert len(block) == found.body_at
    assert block + data[found.body_at :] == data
    names = facts.recipient_names(data, found)
    shown = facts.fields(data)
    texts = [found.from_address, found.from_name, found.to_header, found.subject, found.message_id]
    texts += [*names, *names.values(), *[text for field in shown for text in field]]
    for text in texts:
        text.encode("utf-8")  # can be stored
        assert len(text) <= facts.MAX_FIELD_TEXT
        assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


@given(st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(st.lists(st.sampled_from(SCRAPS), max_size=60))
def test_any_heap_of_scraps_of_mail(scraps: list[bytes]) -> None:
    check(b"".join(scraps))


@given(
    st.sampled_from(CORPUS),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.sampled_from(SCRAPS)), max_size=8),
)
def test_real_mail_damaged_at_random(data: bytes, damages: list[tuple[float, int, bytes]]) -> None:
    for where, cut, scrap in damages:
        at = int(where * where * len(data))  # mostly in the header
        data = data[:at] + scrap + data[at + cut * 7 :]
    check(data)
