"""What console, vendor-compatible API and our own API share: login throttling, password checks, audit trail, folded
log.

Promises: passwords are checked off the event loop, at most two at once, and take the same time for unknown users.
Fails: never.
"""

from __future__ import annotations

import asyncio

from postroom.http.door.folded import Folded
from postroom.http.door.throttle import Throttle
from postroom.http.door.trail import Trail
from postroom.http.services import Services
from postroom.settings import Settings
from postroom.store.access import identity

HASHES_AT_ONCE = 2  # argon2 takes 19 MiB and a core each


class Guard:
    __slots__ = ("_hashing", "_prepared", "folded", "logins", "running", "trail")

    def __init__(self, services: Services) -> None:
        console = services.settings.console
        self.logins = Throttle(services.clock, console.login_attempts, console.login_window)
        self.trail = Trail(services.store, services.clock, services.log)
        self.folded = Folded(services.log)
        self.running: dict[bytes, tuple[bytes, asyncio.Future[None]]] = {}  # changing calls (gateway/replays.py)
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE)
        self._prepared = False

    def apply(self, settings: Settings) -> None:
        """New settings; the counts of failed logins stay."""
        self.logins.apply(settings.console.login_attempts, settings.console.login_window)

    async def password_is(self, user: identity.User | None, password: str) -> bool:
        """Whether this is the user's password. Takes the same time for `user` None, also at the first call."""
        async with self._hashing:
            if not self._prepared:
                await asyncio.to_thread(identity.verify_password, None, "")
                self._prepared = True
            return await asyncio.to_thread(identity.verify_password, user, password)
