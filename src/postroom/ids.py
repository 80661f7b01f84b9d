"""Ids: 63-bit integers with the time in the high bits, so that primary key, page key and `created` are one number.

Layout, high to low: 43 bits of milliseconds since 1970, 4 bits of node, 16 bits of sequence. Only the writer gives ids,
at commit, and each is larger than the last. When the clock is set back, the time part waits until the clock has caught
up; a full sequence borrows from the next millisecond.
"""

from __future__ import annotations

from postroom.clock import Clock, Millis
from postroom.errors import PeerError

NODE_BITS = 4
SEQUENCE_BITS = 16
BESIDE = 1  # the node of commands that work beside a gateway
_SHIFT = NODE_BITS + SEQUENCE_BITS
_SEQUENCE_END = 1 << SEQUENCE_BITS
_LAST_MILLIS = (1 << 63 - _SHIFT) - 1


def id_time(ident: int) -> Millis:
    """When this id was given, in milliseconds UTC."""
    return ident >> _SHIFT


def id_node(ident: int) -> int:
    """Which kind of process gave this id: 0 = the gateway."""
    return ident >> SEQUENCE_BITS & (1 << NODE_BITS) - 1


def first_id_at(at: Millis) -> int:
    """The smallest id of this millisecond: a time window is an id range. Times out of range are clamped."""
    return min(max(at, 0), _LAST_MILLIS) << _SHIFT


class IdGiver:
    """Gives ever larger ids. Not thread-safe on purpose: the writer owns it."""

    __slots__ = ("_clock", "_millis", "_node", "_sequence")

    def __init__(self, clock: Clock, node: int = 0, last: int = 0) -> None:
        assert 0 <= node < 1 << NODE_BITS
        self._clock = clock
        self._node = node << SEQUENCE_BITS
        self._millis = id_time(last) + 1 if last else 0
        self._sequence = 0

    def now(self) -> Millis:
        """The time of the clock, even when the ids are ahead of it."""
        return self._clock.now()

    def next(self) -> int:
        now = self._clock.now()
        if now > self._millis:
            self._millis = now
            self._sequence = 0
        elif self._sequence == _SEQUENCE_END:
            self._millis += 1
            self._sequence = 0
        ident = (self._millis << _SHIFT) | self._node | self._sequence
        self._sequence += 1
        return ident


def public_id(ident: int) -> str:
    """An id as people, logs and SMTP replies show it (the vendor-compatible API seals ids instead)."""
    return format(ident, "x")


def parse_public_id(text: str) -> int:
    """The id that a text shows; PeerError when it shows none."""
    try:
        ident = int(text, 16) if text.isalnum() and text.isascii() and len(text) <= 16 else -1
    except ValueError:
        ident = -1
    if not 0 < ident < 1 << 63:
        raise PeerError(f"{text[:40]!r} is not an id: expected up to 16 hexadecimal digits as the queue shows them")
    return ident
