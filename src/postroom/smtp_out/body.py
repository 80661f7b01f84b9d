"""Dot-stuffing of outgoing content, from memory or from files read in pieces.

Promises: the receiver gets the content byte for byte, plus a CRLF if it did not end in one; bare CR and LF are not
changed either, because signatures cover them (RFC 5321 4.5.2).
Fails: BodyFile.read raises OSError when the file cannot be read, or does not hold as many bytes as were accepted.
"""

from __future__ import annotations

import re
from pathlib import Path
from threading import Lock
from typing import BinaryIO

CHUNK = 256 * 1024  # of a file; one read, one write
_LINE_DOT = re.compile(rb"\n\.").search  # with a literal prefix: runs on memchr


def stuffed(body: bytes) -> bytes:
    """The content, dot-stuffed for DATA, without the final dot."""
    if body.startswith(b"."):
        body = b"." + body
    # Hardly any content has such a line, and looking for one in this way costs a third of replacing in vain
    return body if _LINE_DOT(body) is None else body.replace(b"\r\n.", b"\r\n..")


def ending(body: bytes) -> bytes:
    """The end of DATA after this content, which is never empty and may end in CRLF already."""
    return b".\r\n" if not body or body.endswith(b"\r\n") else b"\r\n.\r\n"


class Stuffer:
    """Dot-stuffs content that comes in pieces of any length."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the very start counts as the start of a line

    def feed(self, piece: bytes) -> bytes:
        known = len(self._tail)
        joined = self._tail + piece
        self._tail = joined[-2:]
        # The two bytes before were sent already and cannot hold a whole CRLF-dot: every dot added lies behind them.
        return joined.replace(b"\r\n.", b"\r\n..")[known:]

    def end(self) -> bytes:
        """The bytes to send before the final dot."""
        return b"" if self._tail == b"\r\n" else b"\r\n"


class BodyFile:
    """A stored body, read in pieces, dot-stuffed. Opened at the first read. `read` and `close` block, so call them in
    threads; one thread may close while another reads."""

    __slots__ = ("_closed", "_file", "_left", "_lock", "_path", "_size", "_stuffer")

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._left = size
        self._file: BinaryIO | None = None
        self._stuffer = Stuffer()
        self._closed = False
        self._lock = Lock()

    def read(self) -> tuple[bytes, bool]:
        """The next piece, and whether it is the last. A file with a wrong length must not be sent as the message, so
        the length is checked before the last piece is returned."""
        with self._lock:
            return self._read()

    def _read(self) -> tuple[bytes, bool]:
        if self._closed:
            raise OSError("it was closed")
        if self._file is None:
            self._file = self._path.open("rb", buffering=0)
        piece = self._file.read(CHUNK)
        self._left -= len(piece)
        if piece and self._left > 0:
            return self._stuffer.feed(piece), False
        if self._left or self._file.read(1):
            raise OSError(f"it does not hold the {self._size} bytes that were accepted")
        self._close()
        return self._stuffer.feed(piece) + self._stuffer.end(), True

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._closed = True
        if self._file is not None:
            self._file.close()
            self._file = None
