"""A bound in time for reads that no index narrows down: logs are searched, and summed up, row by row.

Promises: what runs inside `bounded` ends soon after its time, wherever SQLite is in it. Fails: SearchTooBroad, which says what to ask
instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from postroom.store.engine import INTERRUPTED, ReadTx
from postroom.store.fold import SearchTooBroad

BOUND = 0.5  # seconds


@contextmanager
def bounded(tx: ReadTx, seconds: float, instead: str) -> Iterator[None]:
    """`instead`: what the caller may ask that is answered."""
    end = time.perf_counter() + seconds
    try:
        with tx.watch(lambda: time.perf_counter() > end):
            yield
    except INTERRUPTED:
        raise SearchTooBroad(f"the search is too broad to be answered within {seconds:g} s: give {instead}") from None
