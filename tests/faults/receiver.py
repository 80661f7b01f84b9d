"""A next hop that takes its time: it answers the final dot when it is told to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.system.receiver import Receiver, Taken


class SlowReceiver(Receiver):
    """`taken` grows when the content is on disk, which is before it is answered."""

    def __init__(self, record: Path) -> None:
        super().__init__(record)
        self._free = asyncio.Event()

    def let_go(self) -> None:
        """From now on every final dot is answered at once."""
        self._loop.call_soon_threadsafe(self._free.set)

    async def _receive(self, taken: Taken) -> None:
        self._take(taken)
        await self._free.wait()
