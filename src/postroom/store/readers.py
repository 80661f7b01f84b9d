"""The threads that read, each with a connection of its own.

Searches for the same thing are given to the same thread as long as that one is idle: what it has learnt of them - their totals, which
pieces are rare, the pages of the index - is its own. What mail needs has a thread that nothing else is given to, so no number of broad
searches holds it up. Promises: none waits while another thread is idle. Fails: StoreUnavailable when there is no memory for a
thread; whatever is run there passes through.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from postroom.errors import StoreUnavailable

T = TypeVar("T")
READERS = 3
MAIL = object()  # in place of what is searched for


class Readers:
    """`run` on the event loop."""

    def __init__(self) -> None:
        self._threads = [ThreadPoolExecutor(1, f"postroom-read-{number}") for number in (*range(READERS), "mail")]
        self._unfinished = [0] * (READERS + 1)
        self._lock = threading.Lock()

    def run(self, function: Callable[[], T], like: Hashable = None) -> asyncio.Future[T]:
        """`like`: what is searched for, or MAIL."""
        unfinished = self._unfinished
        with self._lock:
            chosen = READERS if like is MAIL else hash(like) % READERS
            if like is not MAIL and (like is None or unfinished[chosen]):
                chosen = min(range(READERS), key=unfinished.__getitem__)
            unfinished[chosen] += 1
        try:
            future = self._threads[chosen].submit(function)
        except RuntimeError as problem:
            self._finished(chosen)
            raise StoreUnavailable(f"the store could not be read: {problem}") from problem
        # (Of this future, not of the one that is awaited: a reader goes on working for a client that has gone away.)
        future.add_done_callback(lambda done: self._finished(chosen))
        return asyncio.wrap_future(future)

    def _finished(self, chosen: int) -> None:
        with self._lock:
            self._unfinished[chosen] -= 1

    def shutdown(self) -> None:
        for thread in self._threads:
            thread.shutdown()
