"""A time limit for reads without an index: logs are searched and summed up row by row.

Promises: statements inside `bounded` end soon after the limit. Fails: SearchTooBroad, which says what to ask instead.
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
    """`instead`: what to ask so that it can be answered."""
    end = time.perf_counter() + seconds
    try:
        with tx.watch(lambda: time.perf_counter() > end):
            yield
    except INTERRUPTED:
        raise SearchTooBroad(f"the search is too broad to be answered within {seconds:g} s: give {instead}") from None
