"""Time limits for peers: for the next command, the next bytes of a message, a whole message. No clock, no sockets.

Time is counted in the server's ticks, one per second. Promises: a peer that sends a byte now and then is cut like a
silent one; nothing is counted where bytes are received, only at each tick. Fails: never.
"""

from __future__ import annotations

from postroom.clock import SECOND, Millis
from postroom.settings import Smtp
from postroom.smtp_in.body import BodyReader

LEAST_RATE = 1024 / 60  # bytes a second, over each data_timeout: below the slowest modem, far above a trickle
WHOLE_RATE = 4096  # bytes a second at which the largest message must be through: 50 MiB in three and a half hours


class Patience:
    """The limits, in ticks."""

    __slots__ = ("data", "idle", "least", "message")

    def __init__(self, settings: Smtp) -> None:
        self.idle = _ticks(settings.idle_timeout)
        self.data = _ticks(settings.data_timeout)
        self.message = self.data + settings.max_size // WHOLE_RATE
        self.least = max(1, int(self.data * LEAST_RATE))  # bytes in `data` looks


class Pace:
    """The progress of one message, sampled at each tick."""

    __slots__ = ("_began", "_size", "_window", "body")

    def __init__(self, body: BodyReader, tick: int) -> None:
        self.body = body
        self._began = tick
        self._window = tick  # when the stretch began that is measured now
        self._size = 0  # what had come by then; what came before the first look counts for the first stretch

    def is_too_slow(self, tick: int, patience: Patience) -> bool:
        """Asked at every look. Each stretch counts for itself: who was fast at first may not trickle afterwards."""
        if tick - self._began > patience.message:
            return True
        if tick - self._window <= patience.data:
            return False
        if self.body.size - self._size < patience.least:
            return True
        self._window = tick
        self._size = self.body.size
        return False


def _ticks(timeout: Millis) -> int:
    return max(1, -(-timeout // SECOND))
