from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.smtp_out import body
from postroom.smtp_out.body import BodyFile, Stuffer, ending, stuffed

LINE_NOISE = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\r\n.\r\n", b"\n.\n", b"\xff"])).map(
    b"".join
)


def taken_out(stream: bytes) -> bytes:
    """What a receiver finds: lines end in CRLF, the first lone dot ends the content (RFC 5321 4.5.2)."""
    lines = []
    while True:
        line, end, stream = stream.partition(b"\r\n")
        assert end, "the stream ended before its final dot"
        if line == b".":
            assert stream == b"", "the content ended before its last byte"
            return b"".join(lines)
        lines.append(line.removeprefix(b".") + b"\r\n")


def expected(content: bytes) -> bytes:
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def read_all(file: BodyFile) -> bytes:
    sent, last = b"", False
    while not last:
        piece, last = file.read()
        sent += piece
    return sent


@given(LINE_NOISE)
def test_content_in_memory_comes_out_as_it_went_in(content: bytes) -> None:
    assert taken_out(stuffed(content) + ending(content)) == expected(content)


@given(st.lists(LINE_NOISE | st.binary(max_size=3)))
def test_content_in_pieces_is_sent_like_content_in_memory(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    stuffer = Stuffer()
    sent = b"".join([stuffer.feed(piece) for piece in pieces]) + stuffer.end() + b".\r\n"
    assert sent == stuffed(content) + ending(content)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\n.\nb\r\n", b"a\n.\nb\r\n.\r\n"),  # a bare LF ends no line
        (b"a\r.\r\n", b"a\r.\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b"\n", b"\n\r\n.\r\n"),
        (b"\r\n", b"\r\n.\r\n"),
        (b"\r\n.", b"\r\n..\r\n.\r\n"),
    ],
)
def test_nothing_but_dots_and_a_missing_last_crlf_is_added(content: bytes, sent: bytes) -> None:
    assert stuffed(content) + ending(content) == sent


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 100])
def test_a_file_is_sent_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(body, "CHUNK", 8)
    content = (b"ab\r\n.\r\n." * 20)[:size]
    path = tmp_path / "body"
    path.write_bytes(content)
    sent = read_all(BodyFile(path, size))
    assert sent + b".\r\n" == stuffed(content) + ending(content)


@pytest.mark.parametrize("accepted", [0, 8, 9, 11, 16, 200])
def test_a_file_of_another_length_than_accepted_is_never_handed_out_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    monkeypatch.setattr(body, "CHUNK", 8)
    path = tmp_path / "body"
    path.write_bytes(b"0123456789")
    file = BodyFile(path, accepted)
    with pytest.raises(OSError, match=f"does not hold the {accepted} bytes"):
        read_all(file)
    file.close()


def test_a_missing_file_is_an_environment_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        BodyFile(tmp_path / "none", 1).read()
