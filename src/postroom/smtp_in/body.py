"""The bytes of one message on the wire: finds the end of data, removes dot stuffing, keeps what fits the limits.

Promises: only CRLF "." CRLF ends a message (RFC 5321 4.1.1.4); bare LF and bare CR are content and stay as they are;
the result does not depend on how the network split the bytes; bytes beyond the limits are read for a while, but not
stored.
Fails: never raises; `refusal` says why the message cannot be accepted.
"""

from __future__ import annotations

import re

from postroom.smtp_in import replies

END = b"\r\n.\r\n"
# A pattern with a literal prefix runs on memchr: half the time of bytes.find for two bytes, and this is the hot path.
_LINE_DOT = re.compile(rb"\n\.").search
_CR_DOT = re.compile(rb"\r\.").search
# A lone dot between any two line ends. Inside a message this is never CRLF.CRLF, so one of its line ends is bare and a
# lax next hop could take it for the end of data: everything after it would be commands there ("SMTP smuggling").
_LONE_DOT = re.compile(rb"[\r\n]\.[\r\n]").search
_HEADER_END = re.compile(rb"(?:\A|\n)\r?\n").search

_SMALL = 16 * 1024  # pieces below this are gathered: a body sent byte by byte must not cost an object a byte
_GATHERED = 64 * 1024


class Memory:
    """Bytes of messages being received or waiting for their commit, over all sessions, and their limit."""

    __slots__ = ("bound", "used")

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.used = 0

    def __repr__(self) -> str:
        return f"Memory({self.used} of {self.bound})"


class BodyReader:
    """Takes the chunks of one message in order; `feed` returns where it ended."""

    __slots__ = (
        "_bare_tails", "_dropping", "_gathered", "_header_checked", "_max_header", "_max_size", "_memory", "_parts",
        "_tail", "endless", "held", "no_memory", "size", "too_much_header", "unsafe",
    )  # fmt: skip

    def __init__(self, max_size: int, max_header: int, memory: Memory) -> None:
        self._max_size = max_size
        self._max_header = max_header
        self._memory = memory
        # Two bytes already dealt with, then at most four that may be the beginning of the end. A message starts as if
        # after a line end, so a dot is special in its very first line too.
        self._tail = b"\r\n"
        # Once a NUL was seen: the last two bytes without NUL, of what came and of what will be sent on
        self._bare_tails: tuple[bytes, bytes] | None = None
        self._parts: list[bytes] = []
        self._gathered: bytearray | None = None
        self._dropping = False
        self._header_checked = False
        self.size = 0  # without dot stuffing and end of data: the size of RFC 1870
        self.held = 0  # bytes counted in `memory` for this message
        self.endless = False  # so far beyond the size limit that its end need not be waited for
        self.unsafe = False
        self.too_much_header = False
        self.no_memory = False

    def feed(self, chunk: bytes) -> int:
        """Take a chunk. Returns the offset behind the end of data in it, or -1 without an end."""
        tail = self._tail
        wire = tail + chunk
        dot = _LINE_DOT(wire)
        end = -1 if dot is None else wire.find(END, max(dot.start() - 1, 0))
        stop = end + 2 if end >= 0 else len(wire) - _may_be_the_end(wire)
        if stop > 2:
            if (dot is not None and (end < 0 or dot.start() != end + 1)) or _CR_DOT(wire, 0, stop) is not None:
                region = wire[:stop]
                if _LONE_DOT(region) is not None:
                    self.unsafe = True
                # RFC 5321 4.5.2: a dot that starts a line goes when the line has more; only CRLF starts a line
                piece = region.replace(b"\r\n.", b"\r\n")[2:]
            else:
                piece = wire[2:stop]
            if self._bare_tails is not None or b"\0" in piece:
                self._look_behind_nul(wire[:stop])
            self._keep(piece)
        if end >= 0:
            return end + 5 - len(tail)
        self._tail = wire if stop <= 2 else wire[stop - 2 :]
        return -1

    def _look_behind_nul(self, region: bytes) -> None:
        """Some servers drop NUL: what they would see must hold no lone dot either.

        Neither in what came nor in what will be sent on, which is another text: the dot of CRLF "." NUL goes here, and
        none is put there again, because NUL starts that line then.
        """
        came_before, sent_before = self._bare_tails or (region[:2], region[:2])
        came = came_before + region[2:].replace(b"\0", b"")
        sent = region.replace(b"\r\n.", b"\r\n").replace(b"\r\n.", b"\r\n..")  # RFC 5321 4.5.2, there and back
        sent = sent_before + sent[2:].replace(b"\0", b"")
        if _LONE_DOT(came) is not None or _LONE_DOT(sent) is not None:
            self.unsafe = True
        self._bare_tails = came[-2:], sent[-2:]

    def _keep(self, piece: bytes) -> None:
        length = len(piece)
        self.size += length
        if self._dropping:
            self._note_endless()
            return
        memory = self._memory
        if memory.used + length > memory.bound:
            self.no_memory = True
            self._drop()
            return
        memory.used += length
        self.held += length
        if length >= _SMALL or not (self._parts or self._gathered):
            self._gather()
            self._parts.append(piece)
        else:
            if self._gathered is None:
                self._gathered = bytearray()
            self._gathered += piece
            if len(self._gathered) >= _GATHERED:
                self._gather()
        if self.size > self._max_size:
            self._drop()
        elif self.size > self._max_header and not self._header_checked:
            self._check_header()

    def _gather(self) -> None:
        if self._gathered:
            self._parts.append(bytes(self._gathered))
            self._gathered = None

    def _check_header(self, at_end: bool = False) -> None:
        """Whether the header ends within its limit. Checked once, when enough bytes are there."""
        decides = self._max_header + 3
        if self.size < decides and not at_end:
            return
        self._header_checked = True
        self._gather()
        found = _HEADER_END(b"".join(self._parts)[:decides])
        if found is None or found.start() >= self._max_header:
            self.too_much_header = True
            self._drop()

    def _drop(self) -> None:
        """Read to the end of data without storing it: the session continues after the refusal."""
        self._dropping = True
        self._parts = []
        self._gathered = None
        self.release()
        self._note_endless()

    def _note_endless(self) -> None:
        """The limit for discarded bytes: twice the largest message; a peer that ignores it will never read our
        reply."""
        self.endless = self.size > 2 * self._max_size

    def release(self) -> None:
        """Its bytes no longer count."""
        self._memory.used -= self.held
        self.held = 0

    def refusal(self) -> bytes | None:
        """After the end of data: why this message cannot be accepted, or None. Permanent reasons come first."""
        if self.unsafe:
            return replies.UNSAFE_LINE
        if self.size > self._max_size:
            return replies.too_big(self._max_size)
        if self.size > self._max_header and not self._header_checked and not self._dropping:
            self._check_header(at_end=True)
        if self.too_much_header:
            return replies.header_too_big(self._max_header)
        if self.no_memory:
            return replies.NO_MEMORY
        return None

    def parts(self) -> list[bytes]:
        """The message, in pieces, after the end of data."""
        self._gather()
        return self._parts


def _may_be_the_end(wire: bytes) -> int:
    """How many of the last bytes could be the start of CRLF.CRLF."""
    last = wire[-1:]
    if last == b"\r":
        return 4 if wire.endswith(b"\r\n.\r") else 1
    if last == b"\n":
        return 2 if wire.endswith(b"\r\n") else 0
    return 3 if wire.endswith(b"\r\n.") else 0
