"""The threads that read, each with a connection of its own.

Searches for the same thing go to the same thread while it is idle, because it keeps what it has learnt: totals, which
pieces are rare, pages of the index. Reads that mail needs have a thread of their own, so broad searches never hold them
up. Promises: no read waits while a thread is idle. Fails: StoreUnavailable if there is no memory for a thread;
exceptions of the read itself pass through.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from postroom.errors import StoreUnavailable

T = TypeVar("T")
READERS = 3
NO_MEMORY_PAUSE = 0.05  # seconds
MAIL = object()  # as `like`: the thread for mail


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[[], Any]

    def outcome(self) -> tuple[Any, BaseException | None]:
        """Run it, unless nobody waits for it any more."""
        if self.future.cancelled():
            return None, None
        try:
            return self.function(), None
        except BaseException as problem:  # noqa: BLE001 - it is raised where the result is awaited
            return None, problem


class _Worker:
    """One thread, started when it is first needed. After each job it asks `next_one` for another; None: it is idle."""

    def __init__(self, name: str, next_one: Callable[[], _Job | None]) -> None:
        self._name = name
        self._next_one = next_one
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = False

    def give(self, job: _Job) -> None:
        """RuntimeError or MemoryError if the thread cannot run it."""
        if self._ended:
            raise RuntimeError("it is closed")
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
            self._thread = thread
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            while job is not None:
                future, (result, problem) = job.future, job.outcome()
                job = self._next_one()  # before the answer: the next search for the same thing finds this thread idle
                _answer(future, result, problem)
                del future, result, problem  # nothing of it stays while the thread waits

    def end(self) -> None:
        self._ended = True
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()


class Readers:
    """`run` on the event loop."""

    def __init__(self) -> None:
        self._workers = [_Worker(f"postroom-read-{number}", self._after(number)) for number in range(READERS)]
        self._mail = _Worker("postroom-read-mail", lambda: None)
        self._idle = set(range(READERS))
        self._waiting: deque[_Job] = deque()  # nobody was idle
        self._lock = threading.Lock()

    def run(self, function: Callable[[], T], like: Hashable = None) -> asyncio.Future[T]:
        """`like`: the thing that is searched for, or MAIL."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            if like is MAIL:
                self._mail.give(_Job(future, function))
            else:
                self._give(_Job(future, function), like)
        except (RuntimeError, MemoryError) as problem:
            raise StoreUnavailable(f"the store could not be read: {str(problem) or 'no memory'}") from problem
        return future

    def _give(self, job: _Job, like: Hashable) -> None:
        with self._lock:
            if not self._idle:
                self._waiting.append(job)
                return
            chosen = hash(like) % READERS
            if like is None or chosen not in self._idle:
                chosen = min(self._idle)
            self._idle.remove(chosen)
        try:
            self._workers[chosen].give(job)
        except BaseException:
            with self._lock:
                self._idle.add(chosen)
            raise

    def _after(self, number: int) -> Callable[[], _Job | None]:
        def next_one() -> _Job | None:
            """The oldest job that found no thread idle."""
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                self._idle.add(number)
                return None

        return next_one

    def shutdown(self) -> None:
        """Finish the waiting reads, then end."""
        for worker in (*self._workers, self._mail):
            worker.end()


def _answer(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    """Must not raise: jobs given to a thread that has died would wait for ever."""
    while True:
        try:
            future.get_loop().call_soon_threadsafe(_settle, future, result, problem)
        except RuntimeError:  # the loop has ended: nobody waits
            return
        except MemoryError:
            time.sleep(NO_MEMORY_PAUSE)
        else:
            return


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if problem is None:
        future.set_result(result)
    elif isinstance(problem, StopIteration):  # which no future takes
        future.set_exception(RuntimeError(f"{type(problem).__name__} out of a read"))
    else:
        future.set_exception(problem)
