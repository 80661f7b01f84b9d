"""A cache of look-ups for one second: a busy client costs no query, and a revocation still works within a second.

Promises: misses are cached separately, so that invented keys cannot push out real ones; memory is bounded.
Fails: as the look-up does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

from postroom.clock import SECOND, Clock, Millis

KNOWN_FOR: Millis = SECOND
MAX_KNOWN = 1000  # found, and apart from them as many that were not

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    __slots__ = ("_clock", "_find", "_known", "_unknown")

    def __init__(self, clock: Clock, find: Callable[[K], Awaitable[V | None]]) -> None:
        self._clock = clock
        self._find = find
        self._known: dict[K, tuple[Millis, V]] = {}
        self._unknown: dict[K, Millis] = {}

    def met(self, key: K) -> bool:
        """Whether the last look-up found it, however old it is."""
        return key in self._known

    async def find(self, key: K) -> V | None:
        now = self._clock.now()
        known = self._known.get(key)
        if known is not None and 0 <= now - known[0] < KNOWN_FOR:
            return known[1]
        missed = self._unknown.get(key)
        if missed is not None and 0 <= now - missed < KNOWN_FOR:
            return None
        found = await self._find(key)
        if found is None:
            self._known.pop(key, None)
            _remember(self._unknown, key, now)
        else:
            self._unknown.pop(key, None)
            _remember(self._known, key, (now, found))
        return found

    def forget(self, key: K) -> None:
        """Forget it, so that a change is seen at once."""
        self._known.pop(key, None)
        self._unknown.pop(key, None)


def _remember(kept: dict[Any, Any], key: Hashable, value: object) -> None:
    """Drops the oldest entry when the cache is full."""
    kept.pop(key, None)
    if len(kept) >= MAX_KNOWN:
        del kept[next(iter(kept))]
    kept[key] = value
