"""Parses the replies of an SMTP server: bytes in any pieces -> (code, lines); and makes them safe to show.

Promises: memory is bounded; the replies do not depend on how the bytes were split. Fails: `Garbage` for bytes that
cannot be a reply (RFC 5321 4.2); the connection is then unusable.
"""

from __future__ import annotations

import re

MAX_LINE = 4096  # RFC 5321 4.5.3.1.5 allows 512; some servers write whole stories
MAX_REPLY = 64 * 1024  # all lines of one reply
MAX_TEXT = 512  # what we keep of one

_CODES = {b"%d" % code: code for code in range(200, 600)}
_AFTER_CODE = {b" ": False, b"": False, b"\r": False, b"-": True}  # True = more lines follow
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?: |$)")


class Replies:
    """Cuts a stream into replies."""

    __slots__ = ("_held", "_lines", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._held = 0

    def feed(self, data: bytes) -> list[tuple[int, list[bytes]]]:
        """The complete replies. When Garbage follows them, the last one has code 0: the replies before it still
        count."""
        if self._rest:
            data = self._rest + data
        found: list[tuple[int, list[bytes]]] = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end]
            start = end + 1
            code = _CODES.get(line[:3], 0)
            more = _AFTER_CODE.get(line[3:4])
            self._held += len(line) + 1
            if not code or more is None or len(line) > MAX_LINE or self._held > MAX_REPLY:
                found.append((0, [line]))
                return found
            if more or self._lines:
                self._lines.append(line)
                if more:
                    continue
                found.append((code, self._lines))  # the last line's code counts
                self._lines = []
            else:
                found.append((code, [line]))
            self._held = 0
        self._rest = data[start:]
        if len(self._rest) > MAX_LINE:
            found.append((0, [self._rest]))
        return found


def printable(text: str) -> str:
    """One line that is safe for a terminal, a log or a header; at most MAX_TEXT characters."""
    if not text.isprintable():
        text = "".join([char if char.isprintable() else " " if char.isspace() else "?" for char in text])
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def reply_text(lines: list[bytes]) -> str:
    """A reply as one line: the code once, an enhanced code (RFC 2034) once, then the text."""
    first = lines[0].strip()
    if len(lines) == 1:
        return printable(first.decode("ascii") if first.isascii() else first.decode("utf-8", "replace"))
    texts = [line[4:].strip().decode("utf-8", "replace") for line in lines]
    enhanced = _ENHANCED.match(texts[0])
    if enhanced is not None:
        texts[1:] = [text.removeprefix(enhanced.group()) for text in texts[1:]]
    return printable(" ".join([lines[-1][:3].decode("ascii"), *[text for text in texts if text]]))
