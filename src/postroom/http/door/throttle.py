"""Slows down password guessing: limits tries per address and per account. No I/O.

A key may fail `attempts` times at once; after that it gets one more try every `window / attempts`. An address from
which an account's owner has logged in is not slowed by tries from elsewhere, so that nobody can lock the owner out.
Promises: a try is counted before the password is checked, so that many at once do not slip through; memory is bounded,
whatever names and addresses are made up. Fails: never; `wait` is a value.
"""

from __future__ import annotations

from postroom.clock import SECOND, Clock, Millis
from postroom.http.door.limiter import network
from postroom.store import access

MAX_KEYS = 10_000
_Key = tuple[str, str]


class Throttle:
    __slots__ = ("_attempts", "_clock", "_full_at", "_known", "_spacing", "_window")

    def __init__(self, clock: Clock, attempts: int, window: Millis) -> None:
        self._clock = clock
        self._attempts = attempts
        self._window = window
        self._spacing = max(window // max(attempts, 1), 1)
        self._full_at: dict[_Key, Millis] = {}  # when a key will have all its tries again
        self._known: dict[tuple[str, str], None] = {}

    def apply(self, attempts: int, window: Millis) -> None:
        """New bounds from now on. Counted tries stay counted, and nobody waits longer than the new window."""
        if (attempts, window) == (self._attempts, self._window):
            return
        self._attempts = attempts
        self._window = window
        self._spacing = max(window // max(attempts, 1), 1)
        latest = self._clock.now() + window
        self._full_at = {key: min(at, latest) for key, at in self._full_at.items()}

    def wait(self, ip: str, account: str) -> int:
        """Count a try and return 0, or return the seconds to wait until the next try without counting."""
        now = self._clock.now()
        keys = self._keys(ip, account)
        over = max(self._full_at.get(key, now) + self._spacing - self._window - now for key in keys)
        if over > 0:
            return max(1, -(-over // SECOND))
        if len(self._full_at) >= MAX_KEYS:
            self._forget(now)
        for key in keys:
            self._full_at[key] = max(self._full_at.get(key, now), now) + self._spacing
        return 0

    def succeeded(self, ip: str, account: str) -> None:
        """A login succeeded: give the try back, and remember the address for this account."""
        now = self._clock.now()
        for key in self._keys(ip, account):
            at = self._full_at.get(key, now) - self._spacing
            if at > now:
                self._full_at[key] = at
            else:
                self._full_at.pop(key, None)
        if len(self._known) >= MAX_KEYS:
            self._known.pop(next(iter(self._known)))
        self._known[network(ip), access.fold_email(account)] = None

    def _keys(self, ip: str, account: str) -> list[_Key]:
        place, account = (
            network(ip),
            access.fold_email(account),
        )  # one account is one key, as the look-up reads what was typed
        keys = [("address", place)]
        if (place, account) not in self._known:
            keys.append(("account", account))
        return keys

    def _forget(self, now: Millis) -> None:
        """Drop keys that have all their tries; when that is not enough, also the half that is closest to it."""
        left = sorted(((at, key) for key, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {key: at for at, key in left[: MAX_KEYS // 2]}
