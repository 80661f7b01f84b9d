"""The objects that HTTP handlers use, built once by the composition root and passed down; and the turns of long reads.

Fails: SearchTooBroad for a read that has waited for its turn longer than `patience`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec

from postroom.clock import Clock
from postroom.sealing import Sealer
from postroom.settings import Settings
from postroom.store import SearchTooBroad, Store
from postroom.telemetry import Counts, Log

PATIENCE = 1.0  # seconds that a search of a log waits


class Scans:
    """Turns of reads that walk many rows. There are few reader threads, and the worker needs them for its messages, so
    one such read runs at a time, first come, first served. Used on the event loop."""

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


class Services(msgspec.Struct, frozen=True):
    store: Store
    settings: Settings
    clock: Clock
    log: Log
    counts: Counts
    sealer: Sealer
    ready: Callable[[], list[str]]  # why this gateway is not ready; empty = ready
    scans: Scans = msgspec.field(default_factory=Scans)  # turns of long reads; new settings keep them
