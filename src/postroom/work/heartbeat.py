"""Renews the leases of entries in work, so that only the lease of a dead or stalled worker expires.

Fails: never raises; a renewal that could not be written is logged and tried again long before the lease ends.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable

from postroom.clock import Clock, Millis
from postroom.errors import EnvironmentFailed
from postroom.store import Store
from postroom.telemetry import Log
from postroom.work.in_hand import Work

BATCH = 200  # messages of one transaction


async def keep_leases(work: set[Work], store: Store, length: Callable[[], Millis], *, clock: Clock, log: Log) -> None:
    """Run until cancelled. `work`: the current work of the owner; `length`: the current duration of a lease."""
    while True:
        lease = length()
        await asyncio.sleep(lease / 4000)  # four looks in the life of a lease
        now = clock.now()
        old = [one for one in work if now - one.since > lease // 3]
        try:
            for at in range(0, len(old), BATCH):
                part = old[at : at + BATCH]
                await store.renew([(item.entry, item.lease) for one in part for item in one.items])
                for one in part:
                    one.since = now
        except EnvironmentFailed as problem:
            log.warning("heartbeat_failed", problem=str(problem))
        except Exception as bug:  # noqa: BLE001 - without a heartbeat every lease would end under its worker
            log.error("heartbeat_failed", trace="".join(traceback.format_exception(bug)), bug="yes")
