"""Calls per caller and function in a fixed window, as the vendor counts them (contract section 5).

Promises: a window starts with its first call and later calls do not move it; `reset` is in milliseconds; memory is
bounded for any number of callers. Fails: never; a caller over its limit is a return value.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

import msgspec

from postroom.clock import SECOND, Clock, Millis

MAX_WINDOWS = 10_000


class Allowance(msgspec.Struct, frozen=True, gc=False):
    limit: int
    remaining: int
    reset: Millis
    allowed: bool
    window: Millis

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Reset is in milliseconds; Retry-After, in seconds, only when the call was not executed."""
        found = [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset),
        ]
        return found if self.allowed else [*found, (b"retry-after", b"%d" % max(1, -(-self.reset // SECOND)))]


class Limiter:
    __slots__ = ("_clock", "_limit", "_windows", "window")

    def __init__(self, clock: Clock, limit: int, window: Millis) -> None:
        self._clock = clock
        self._limit = limit
        self.window = window
        self._windows: dict[tuple[str, str], list[int]] = {}  # caller, function -> [start, calls]

    def apply(self, limit: int, window: Millis) -> None:
        """New limits; the counts stay."""
        self._limit = limit
        self.window = window

    def untouched(self) -> Allowance:
        """The rate headers when the caller is not known."""
        return Allowance(self._limit, self._limit, self.window, True, self.window)

    def spent(self, caller: str, function: str) -> bool:
        """Whether the next call would be refused; nothing is counted."""
        window = self._windows.get((caller, function))
        if window is None or not 0 <= self._clock.now() - window[0] < self.window:
            return False
        return window[1] >= self._limit

    def take(self, caller: str, function: str) -> Allowance:
        """Count one call."""
        now = self._clock.now()
        key = (caller, function)
        window = self._windows.get(key)
        if window is None or not 0 <= now - window[0] < self.window:  # a clock set back starts a new window
            if window is None and len(self._windows) >= MAX_WINDOWS:
                self._forget(now)
            window = self._windows[key] = [now, 0]
        window[1] += 1
        left = self._limit - window[1]
        return Allowance(self._limit, max(left, 0), self.window - (now - window[0]), left >= 0, self.window)

    def _forget(self, now: Millis) -> None:
        """Drop finished windows, or all when few have finished: bounded memory and time matter more than exact
        counts."""
        self._windows = {key: w for key, w in self._windows.items() if 0 <= now - w[0] < self.window}
        if len(self._windows) > MAX_WINDOWS // 2:
            self._windows = {}


@lru_cache(maxsize=1024)
def network(ip: str) -> str:
    """The key of an address: an IPv6 customer has a whole /64, so the network is the key."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
