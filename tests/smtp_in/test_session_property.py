"""Whatever a peer sends, and however the network cuts it."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.smtp_in.body import BodyReader, Memory
from postroom.smtp_in.session import Session
from postroom.smtp_out.body import stuffed
from tests.smtp_in.dialogue import ENVELOPE, Heard, config, say, session

PIECES = [
    b"EHLO client.example\r\n",
    b"HELO c\r\n",
    b"MAIL FROM:<a@example.org>\r\n",
    b"MAIL FROM:<> SIZE=9 BODY=8BITMIME\r\n",
    b"RCPT TO:<b@corp.example>\r\n",
    b"RCPT TO:<x@example.org>\r\n",
    b"RCPT TO:<c@corp.example>\r\n",
    b"DATA\r\n",
    ENVELOPE,
    b"EHLO c\r\n" + ENVELOPE,
    b".\r\n",
    b"\r\n.\r\n",
    b"Subject: x\r\n\r\ntext\r\n.\r\n",
    b"..stuffed\r\n",
    b".\n",
    b"\n.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r",
    b"\n",
    b"\r\n",
    b".",
    b"\0",
    b"\r\n.\r",
    b"x" * 70,
    b"y" * 2100,
    b"RSET\r\n",
    b"NOOP x\r\n",
    b"NOOP\n",
    b"VRFY a\r\n",
    b"QUIT\r\n",
    b"\xff\xfe\r\n",
]

conversations = st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=30).map(b"".join)
limited = {"max_size": 400, "max_header": 100, "max_errors": 12, "max_commands": 25, "max_recipients": 2}


def told(to: Session, heard: Heard) -> tuple[object, ...]:
    return (heard.said, heard.messages, to.refusals, to.closing, to.receiving is None, to._config.memory.used)


def whole(wire: bytes) -> tuple[object, ...]:
    to = session(config(**limited))
    return told(to, say(to, wire))


@settings(max_examples=300, deadline=None)
@given(conversations, st.data())
def test_cuts_change_nothing(wire: bytes, data: st.DataObject) -> None:
    expected = whole(wire)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    chunks = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    to = session(config(**limited))
    assert told(to, say(to, *chunks)) == expected
    to = session(config(**limited))
    assert told(to, say(to, *[wire[at : at + 1] for at in range(len(wire))])) == expected


@pytest.mark.parametrize("size", [300, 6000])
def test_every_single_cut_of_a_conversation_changes_nothing(size: int) -> None:
    body = (b"Subject: cut\r\n\r\n" + b"..dots\r\nlines\r\n\0bare\nlf\r.x\r\n" * size)[:size]
    wire = b"EHLO c\r\n" + ENVELOPE + body + b"\r\n.\r\n" + ENVELOPE + b"second\r\n.\r\nQUIT\r\n"
    expected = whole(wire)
    step = 1 if size < 1000 else 13
    for cut in range(0, len(wire), step):
        to = session(config(**limited))
        assert told(to, say(to, wire[:cut], wire[cut:])) == expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=200) | conversations, max_size=10))
def test_no_bytes_raise_and_replies_are_whole_lines(chunks: list[bytes]) -> None:
    to = session(config(**limited))
    heard = say(to, *chunks)
    assert heard.said == b"" or heard.said.endswith(b"\r\n")
    for line in heard.lines:
        assert line[:3].isdigit()
        assert len(line) <= 510  # RFC 5321 4.5.3.1.5
        assert line.isprintable()
    if not to.closing and to.receiving is None:
        # After a line end that ends whatever was begun, it answers
        assert say(to, b"\r\n", b"\r\nNOOP\r\n").said != b""


def test_random_noise_ends_the_session_or_goes_on() -> None:
    dice = random.Random(20261122)
    alphabet = [
        b"\r",
        b"\n",
        b"\r\n",
        b".",
        b"\0",
        b"MAIL FROM:",
        b"RCPT TO:",
        b"<",
        b">",
        b"@",
        b"a",
        b'"',
        b"DATA",
        b" ",
    ]
    for _ in range(300):
        to = session(config(**limited))
        for _ in range(40):
            if dice.random() < 0.5:
                chunk = dice.randbytes(dice.randrange(64))
            else:
                chunk = b"".join(dice.choices(alphabet, k=dice.randrange(20)))
            say(to, chunk)
        assert to.closing or to.receiving is not None or len(to._line) < 2048
        to.abandon()
        assert to._config.memory.used == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=20))
def test_a_body_comes_through_unchanged(lines: list[bytes]) -> None:
    """Stuffed as RFC 5321 4.5.2 says, any lines without bare line ends arrive as they were."""
    clean = [line.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"") for line in lines]
    wire = b"".join([(b"." + line if line.startswith(b".") else line) + b"\r\n" for line in clean])
    to = session(config())
    heard = say(to, b"EHLO c\r\n" + ENVELOPE, wire + b".\r\n")
    assert heard.messages[0].body == b"".join([line + b"\r\n" for line in clean])


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"\0", b"a", b"\r\n.", b"\n.", b"\r\n.\0", b".\r\n"]),
        max_size=25,
    ),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_the_reader_agrees_with_a_plain_reading_of_the_rules(pieces: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(pieces) + b"\r\n.\r\n"
    seen = b"\r\n" + wire  # as if after a line end
    end = seen.index(b"\r\n.\r\n") + 2
    lines = seen[:end].split(b"\r\n")[1:]
    body = b"\r\n".join([line[1:] if line.startswith(b".") else line for line in lines])
    lone = re.compile(rb"[\r\n]\.[\r\n]")
    sent = b"\r\n" + stuffed(body)  # what the next hop gets, and what it sees when it drops NUL
    texts = (seen[:end], seen[:end].replace(b"\0", b""), sent, sent.replace(b"\0", b""))
    unsafe = any(lone.search(text) for text in texts)

    reader = BodyReader(1 << 20, 1 << 20, Memory(1 << 20))
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    for start, stop in pairwise(edges):
        behind = reader.feed(wire[start:stop])
        if behind >= 0:
            assert start + behind == end + 1  # the virtual CRLF in front, ".CRLF" behind
            break
    assert b"".join(reader.parts()) == body
    assert reader.unsafe == unsafe
    assert reader.size == len(body)
