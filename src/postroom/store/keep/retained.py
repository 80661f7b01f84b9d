"""One round of upkeep for what the API tells beside the queue: a sample when one is due, and what is too old forgotten.

Promises: small steps of the writer, at most STEPS of each kind in a round. Fails: StoreUnavailable; the next round goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Millis
from postroom.settings import Retention
from postroom.store.engine import Tx
from postroom.store.keep import samples
from postroom.store.logs import rejections, released
from postroom.store.store import Store

SLICE = 500  # rows of one step: a few milliseconds of the writer
STEPS = 40


async def look_after(store: Store, retention: Retention, now: Millis) -> int:
    """Called about once a minute; how many rows were forgotten."""
    await samples.take(store, now)
    gone = await _forget(store, rejections.forget, now - retention.rejections)
    gone += await _forget(store, released.forget, now - retention.history)
    return gone + await _forget(store, samples.forget, now - retention.history)


async def _forget(store: Store, forget: Callable[[Tx, Millis, int], int], before: Millis) -> int:
    gone = 0
    for _ in range(STEPS):
        step = await store.write(lambda tx: forget(tx, before, SLICE))
        gone += step
        if step < SLICE:
            break
    return gone
