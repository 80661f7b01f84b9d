"""What the console's pages share in one process: keys, the guard, the reader slot, jobs, cached counts, notices.

Promises: the console uses at most one of the store's reader threads at a time, so that it never delays delivery; a form
is accepted only from a page that this gateway gave to this browser.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from time import perf_counter
from typing import TypeVar

from postroom.clock import MINUTE, Millis
from postroom.http.console.choices import Banner
from postroom.http.console.jobs import Jobs
from postroom.http.door.guard import Guard
from postroom.http.services import Services
from postroom.model import Queue
from postroom.store import Reader

T = TypeVar("T")
TOLD_FOR = 10 * MINUTE
MAX_TOLD = 1000
COUNTS_KEPT = 20  # times the duration of counting: a second at a million entries, next to nothing at a thousand


class Desk:
    __slots__ = ("_counts", "_counts_until", "_form_key", "_reading", "_told", "guard", "jobs", "services")

    def __init__(self, services: Services, guard: Guard) -> None:
        self.services = services
        self.guard = guard
        self.jobs = Jobs(services.clock, services.log)
        self._form_key = services.sealer.key("postroom.console.form")
        self._reading = asyncio.Semaphore(1)
        self._counts: dict[Queue, int] = {}
        self._counts_until = 0.0
        self._told: dict[str, tuple[Millis, str, Banner]] = {}

    def form_token(self, secret: str) -> str:
        """Goes into every form; `secret` is the browser's cookie, which no other site can read or set."""
        return hmac.new(self._form_key, secret.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def form_is_ours(self, secret: str, token: str) -> bool:
        return bool(secret) and hmac.compare_digest(self.form_token(secret).encode(), token.encode("utf-8", "replace"))

    async def read(self, function: Callable[[Reader], T]) -> T:
        async with self._reading:
            return await self.services.store.read(function)

    def queue_counts(self, reader: Reader) -> dict[Queue, int]:
        """Cached for all viewers while counting is expensive. Called in the reader slot, so never twice at once."""
        began = perf_counter()
        if began >= self._counts_until:
            self._counts = reader.queue_counts()
            ended = perf_counter()
            self._counts_until = ended + COUNTS_KEPT * (ended - began)
        return self._counts

    def tell(self, email: str, outcome: Banner) -> str:
        """Keep a notice for the next page. The address carries only a key, so a link cannot make the page show a
        text."""
        key = secrets.token_hex(8)
        self._told[key] = (self.services.clock.now() + TOLD_FOR, email, outcome)
        while len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        return key

    def told(self, email: str, key: str) -> Banner | None:
        """The notice, only for the person it was made for; None when unknown or too old."""
        until, whom, outcome = self._told.get(key, (0, "", None))
        return outcome if whom == email and until > self.services.clock.now() else None
