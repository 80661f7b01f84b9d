"""Serialises reads that walk many rows: there are few reader threads, and the worker needs them for its messages.

Promises: one such read at a time, first come, first served, so that at most one thread is busy with them and mail is
not delayed. Fails: SearchTooBroad after waiting for `patience`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from postroom.store import SearchTooBroad

PATIENCE = 1.0  # seconds that a search of a log waits


class Scans:
    """On the event loop."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, patience: float | None = None) -> AsyncIterator[None]:
        """Wait for the turn; `patience` None: without a limit."""
        try:
            async with asyncio.timeout(patience):
                await self._lock.acquire()
        except TimeoutError:
            raise SearchTooBroad("another broad search is running: try again in a second") from None
        try:
            yield
        finally:
            self._lock.release()
