"""The threads that read, each with a connection of its own.

Searches for the same thing are given to the same thread as long as that one is idle: what it has learnt of them - their totals, which
pieces are rare, the pages of the index - is its own. What mail needs has a thread that nothing else is given to, so no number of broad
searches holds it up. Promises: none waits while another thread is idle. Fails: StoreUnavailable when there is no memory for a
thread; whatever is run there passes through.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from postroom.errors import StoreUnavailable

T = TypeVar("T")
READERS = 3
MAIL = object()  # in place of what is searched for


class _Job(NamedTuple):
    future: asyncio.Future[Any]
    function: Callable[[], Any]

    def done(self) -> Callable[[], None]:
        """Runs it; what is returned tells the result to whoever waits for it."""
        future = self.future
        if future.cancelled():
            return lambda: None
        result, problem = None, None
        try:
            result = self.function()
        except BaseException as raised:  # noqa: BLE001 - whoever waits for it gets it
            problem = raised

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits
                future.get_loop().call_soon_threadsafe(_tell, future, result, problem)

        return tell


class _Worker:
    """One thread, started when it is first needed. `next_one` is asked, when a job has been run, for another; None makes it idle."""

    def __init__(self, name: str, next_one: Callable[[], _Job | None]) -> None:
        self._name = name
        self._next_one = next_one
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = False

    def give(self, job: _Job) -> None:
        """RuntimeError when there is no thread for it."""
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
                tell = job.done()
                job = self._next_one()  # before it is told: whoever asks for the same again finds this thread idle
                tell()
                del tell  # and with it the result

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
        """`like`: what is searched for, or MAIL."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            if like is MAIL:
                self._mail.give(_Job(future, function))
            else:
                self._give(_Job(future, function), like)
        except RuntimeError as problem:
            raise StoreUnavailable(f"the store could not be read: {problem}") from problem
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
        except RuntimeError:
            with self._lock:
                self._idle.add(chosen)
            raise

    def _after(self, number: int) -> Callable[[], _Job | None]:
        def next_one() -> _Job | None:
            """What has come meanwhile and found nobody idle."""
            with self._lock:
                if self._waiting:
                    return self._waiting.popleft()
                self._idle.add(number)
                return None

        return next_one

    def shutdown(self) -> None:
        """What waits is still read."""
        for worker in (*self._workers, self._mail):
            worker.end()


def _tell(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    if future.done():  # nobody waits any more
        return
    if problem is None:
        future.set_result(result)
    else:
        future.set_exception(problem)
