"""Forgetting what has run out: console sessions, tokens and signatures, lines of the logs, samples of the queues.

Promises: one step is a few milliseconds of the writer; nothing that still counts goes. Fails: database errors pass
through; the next round goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from postroom.clock import Millis
from postroom.settings import Retention
from postroom.store.access import signatures, tokens
from postroom.store.engine import Tx, named
from postroom.store.keep import samples
from postroom.store.logs import audit, rejections, released
from postroom.store.store import Store

SLICE = 500  # rows of each kind in one step
STEPS = 40  # of each kind in one round

SESSIONS_OVER = named(
    "keep.sessions_over",
    "DELETE FROM console_session WHERE token_hash IN "
    "(SELECT token_hash FROM console_session WHERE expires <= :now LIMIT :most)",
)


def reap(tx: Tx, now: Millis, audit_before: Millis) -> int:
    """One step for sessions, tokens, signatures and audit lines; how many rows went. Call it again until it is 0."""
    gone = tx.run(SESSIONS_OVER, {"now": now, "most": SLICE})
    gone += tokens.reap(tx, now, SLICE)
    gone += signatures.reap(tx, now, SLICE)
    return gone + audit.reap(tx, audit_before)


async def look_after(store: Store, retention: Retention, now: Millis) -> int:
    """One round for what the API shows beside the queue: take a sample if one is due, and forget old samples, refusals
    and releases; how many rows went. Called about once a minute."""
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
