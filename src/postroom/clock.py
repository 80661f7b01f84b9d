"""Time. All stored times are integer milliseconds UTC; no other module calls time.time()."""

from __future__ import annotations

import time
from typing import Protocol

Millis = int

SECOND: Millis = 1_000
MINUTE: Millis = 60 * SECOND
HOUR: Millis = 60 * MINUTE
DAY: Millis = 24 * HOUR


class Clock(Protocol):
    """Code that needs the time takes one of these; tests move a clock by hand."""

    def now(self) -> Millis: ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> Millis:
        return time.time_ns() // 1_000_000


class HandClock:
    """A clock that moves only by hand (tests, replays)."""

    __slots__ = ("_now",)

    def __init__(self, now: Millis = 1_700_000_000_000) -> None:
        self._now = now

    def now(self) -> Millis:
        return self._now

    def move(self, millis: Millis) -> None:
        self._now += millis
