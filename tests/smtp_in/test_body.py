"""The end of data, dot stuffing, and what a lax next hop could take for an end of data."""

from __future__ import annotations

import pytest

from postroom.smtp_in.body import BodyReader, Memory
from tests.smtp_in.dialogue import config, deliver, greeted, say


def read(wire: bytes, *, step: int = 0) -> tuple[bytes, BodyReader, bytes]:
    """The body, its reader and what stood behind the end; `step` bytes at a time."""
    reader = BodyReader(1 << 30, 1 << 30, Memory(1 << 30))
    width = step or len(wire)
    for at in range(0, len(wire), width):
        behind = reader.feed(wire[at : at + width])
        if behind >= 0:
            return b"".join(reader.parts()), reader, wire[at + behind :]
    raise AssertionError("no end of data")


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"x\r\n.\r\n", b"x\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"x\r\n..\r\n.\r\n", b"x\r\n.\r\n"),
        (b"..x\r\n...\r\n....\r\n.\r\n", b".x\r\n..\r\n...\r\n"),
        (b".x\r\n.\r\n", b"x\r\n"),  # RFC 5321 4.5.2: the dot goes whatever follows
        (b"x.\r\n.\r\n", b"x.\r\n"),
        (b"x\r\n.. \r\n.\r\n", b"x\r\n. \r\n"),
        (b"bare\nlf and bare\rcr\r\n.\r\n", b"bare\nlf and bare\rcr\r\n"),
        (b"a\n..\nb\r\n.\r\n", b"a\n..\nb\r\n"),  # only CRLF starts a line
        (b"a\n.b\r\n.\r\n", b"a\n.b\r\n"),
        (b"a\r.b\r\n.\r\n", b"a\r.b\r\n"),
        (b"a\r\r\n.\r\n", b"a\r\r\n"),
        (b"a\n\r\n.\r\n", b"a\n\r\n"),
        (b"nul\0 and 8 bit \xff\xfe\r\n.\r\n", b"nul\0 and 8 bit \xff\xfe\r\n"),
        (b"\0\r\n\0\r\n.\r\n", b"\0\r\n\0\r\n"),
        (b"x" * 5000 + b"\r\n.\r\n", b"x" * 5000 + b"\r\n"),  # longer than RFC 5321 4.5.3.1.6 asks for
        ((b"y" * 70 + b"\r\n") * 3000 + b".\r\n", (b"y" * 70 + b"\r\n") * 3000),
        (b"\r\n\r\n\r\n.\r\n", b"\r\n\r\n\r\n"),
    ],
)
def test_bodies(wire: bytes, body: bytes, step: int) -> None:
    got, reader, behind = read(wire + b"RSET\r\n", step=step)
    assert got == body
    assert reader.size == len(body)
    assert reader.refusal() is None
    assert behind == (b"RSET\r\n" if not step else behind)


NOT_THE_END = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\n\n.\n",
    b"\r\r\n.\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\n\0\0.\0\n",
    b"\r\n..\0\0\n.\0\n",
]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("lone_dot", NOT_THE_END)
def test_a_lone_dot_between_bare_line_ends_does_not_end_and_is_refused(lone_dot: bytes, step: int) -> None:
    smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<b@corp.example>\r\nDATA\r\nevil"
    wire = b"good" + lone_dot + smuggled + b"\r\n.\r\n"
    _, reader, behind = read(wire, step=step)
    assert reader.unsafe
    assert behind == b""
    talk = greeted()
    heard = deliver(talk, wire + b"NOOP\r\n")
    assert heard.codes == ["554 5.6.0", "250 2.0.0"]
    assert "smuggling" in heard.lines[0]
    assert heard.messages == []


@pytest.mark.parametrize("start", [b".\n", b".\rx", b"\0.\r\n", b".\0\n"])
def test_a_message_begins_as_if_after_a_line_end(start: bytes) -> None:
    for step in (0, 1):
        _, reader, _ = read(start + b"x\r\n.\r\n", step=step)
        assert reader.unsafe


def test_harmless_dots_are_harmless() -> None:
    for body in (b"a\n.b\n", b"a.\n.b", b"1\r.2\r", b"x\n..\n", b"x \n .\n", b".x\r", b"a\r\n..\nb", b"\0\n.x\0\n"):
        for step in (0, 1):
            _, reader, _ = read(body + b"\r\n.\r\n", step=step)
            assert not reader.unsafe, body


def test_what_never_passes_is_named_first() -> None:
    talk = greeted(config(max_size=10, max_header=5))
    assert deliver(talk, b"x\n.\n" + b"y" * 10 + b"\r\n.\r\n").codes == ["554 5.6.0"]
    assert deliver(talk, b"y" * 18 + b"\r\n.\r\n").lines == ["552 5.3.4 Message too big: the limit is 10 bytes"]
    assert deliver(talk, b"y" * 6 + b"\r\n.\r\n").lines == ["552 5.3.4 Message header too big: the limit is 5 bytes"]


def test_a_body_sent_byte_by_byte_is_kept_in_few_pieces() -> None:
    reader = BodyReader(1 << 30, 1 << 30, Memory(1 << 30))
    for _ in range(200_000):
        assert reader.feed(b"x") == -1
    assert reader.feed(b"\r\n.\r\n") == 5
    parts = reader.parts()
    assert len(parts) < 20
    assert b"".join(parts) == b"x" * 200_000 + b"\r\n"
    assert reader.held == 200_002


def test_a_transaction_joins_its_body_once() -> None:
    talk = greeted()
    say(talk, b"MAIL FROM:<>\r\nRCPT TO:<b@corp.example>\r\nDATA\r\n")
    for chunk in (b"a" * 20_000, b"b" * 20_000, b"c\r\n.\r\n"):
        talk.receive(chunk)
    assert talk.transaction is not None
    body = talk.transaction.body
    assert body == b"a" * 20_000 + b"b" * 20_000 + b"c\r\n"
    assert talk.transaction.body is body
