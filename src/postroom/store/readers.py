"""The threads that read, each with a connection of its own.

Searches for the same thing are given to the same thread as long as that one is idle: what it has learnt of them - their totals, which
pieces are rare, the pages of the index - is its own. What mail needs has a thread that nothing else is given to, so no number of broad
searches holds it up. Promises: none waits while another thread is idle. Fails: StoreUnavailable when there is no memory for a
thread; whatever is run there passes through.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from postroom.errors import StoreUnavailable

T = TypeVar("T")
READERS = 3
MAIL = object()  # in place of what is searched for


class Readers:
    """`run` on the event loop."""

    def __init__(self) -> None:
        self._threads = [ThreadPoolExecutor(1, f"postroom-read-{number}") for number in range(READERS)]
        self._mail = ThreadPoolExecutor(1, "postroom-read-mail")
        self._idle = set(range(READERS))
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()  # nobody was idle
        self._lock = threading.Lock()

    def run(self, function: Callable[[], T], like: Hashable = None) -> asyncio.Future[T]:
        """`like`: what is searched for, or MAIL."""
        try:
            future = self._mail.submit(function) if like is MAIL else self._given(function, like)
        except RuntimeError as problem:
            raise StoreUnavailable(f"the store could not be read: {problem}") from problem
        return asyncio.wrap_future(future)

    def _given(self, function: Callable[[], T], like: Hashable) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if not self._idle:
                self._waiting.append((future, function))
                return future
            chosen = hash(like) % READERS
            if like is None or chosen not in self._idle:
                chosen = min(self._idle)
            self._idle.remove(chosen)
        try:
            self._threads[chosen].submit(self._work, chosen, future, function)
        except RuntimeError:
            with self._lock:
                self._idle.add(chosen)
            raise
        return future

    def _work(self, chosen: int, future: Future[Any], function: Callable[[], Any]) -> None:
        """This one, and then what has come meanwhile and found nobody idle."""
        more: tuple[Future[Any], Callable[[], Any]] | None = (future, function)
        while more is not None:
            future, function = more
            told = _told(future, function)
            with self._lock:  # before it is told: whoever asks for the same again finds this thread idle
                more = self._waiting.popleft() if self._waiting else None
                if more is None:
                    self._idle.add(chosen)
            told()

    def shutdown(self) -> None:
        """What waits is still read."""
        for thread in (*self._threads, self._mail):
            thread.shutdown()


def _told(future: Future[T], function: Callable[[], T]) -> Callable[[], None]:
    """Runs it; what is returned gives the result to whoever waits for it."""
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        result = function()
    except BaseException as problem:  # noqa: BLE001 - whoever waits for it gets it
        return partial(future.set_exception, problem)
    return partial(future.set_result, result)
