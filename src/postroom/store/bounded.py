"""A bound in time for reads that no index narrows down: logs are searched, and summed up, row by row.

Promises: what runs inside `bounded` ends soon after its time, wherever SQLite is in it. Fails: SearchTooBroad, which says what to ask
instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from postroom.store.search import SearchTooBroad

BOUND = 0.5  # seconds
STEPS = (
    20_000  # of SQLite's machine between two looks at the clock: some milliseconds, also where our own fold is called
)


@contextmanager
def bounded(connection: apsw.Connection, seconds: float, instead: str) -> Iterator[None]:
    """`instead`: what the caller may ask that is answered."""
    end = time.perf_counter() + seconds
    connection.set_progress_handler(lambda: time.perf_counter() > end, STEPS)
    try:
        yield
    except apsw.InterruptError:
        raise SearchTooBroad(f"the search is too broad to be answered within {seconds:g} s: give {instead}") from None
    finally:
        connection.set_progress_handler(None)
