"""How the commands on plans are run: small reads and writes in turn; each write does a slice of the work.

Promises: a write keeps an acknowledgement waiting for about STEP_TIME, its commit included, and the next write comes
after a pause. Fails: StoreUnavailable, with nothing of that write done; whatever the command raises passes through.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from postroom.store.engine import Tx
from postroom.store.find.reader import Reader
from postroom.store.store import Store

T = TypeVar("T")

STEP_TIME = 0.006  # seconds that a step keeps an acknowledgement waiting
LEAST, MOST = 20, 1_000  # entries of a step
LEAST_COMMITTED = 100  # fewer entries do not make a commit shorter: the rest is the disk's time to sync
PAUSE = 0.25  # of the time that a step took, at most STEP_TIME


class Look(NamedTuple):
    """A read in a reader thread."""

    run: Callable[[Reader], Any]


class Change(NamedTuple):
    """A write in the writer's next transaction."""

    run: Callable[[Tx], Any]


Verb = Generator[Look | Change, Any, T]


async def run(store: Store, verb: Verb[T]) -> T:
    """On an event loop, with a pause between two steps for the other users of the store."""
    given: Any = None
    took = 0.0
    while True:
        try:
            wanted = verb.send(given)  # right after the answer: the step measures its commit, not the pause
        except StopIteration as stop:
            result: T = stop.value
            return result
        if isinstance(wanted, Look):
            given = await store.read(wanted.run)
        else:
            await asyncio.sleep(min(took, STEP_TIME) * PAUSE)
            began = time.perf_counter()
            given = await store.write(wanted.run)
            took = time.perf_counter() - began


def run_now(store: Store, verb: Verb[T]) -> T:
    """For callers without an event loop, such as a command beside a gateway. SQLite's write lock has no waiting line:
    the gateway's writer can only try again and again, so the pauses here are as long as the steps."""
    given: Any = None
    took = 0.0
    while True:
        try:
            wanted = verb.send(given)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if isinstance(wanted, Look):
            given = wanted.run(store.read_now())
        else:
            time.sleep(min(took, STEP_TIME))
            began = time.perf_counter()
            given = store.write_now(wanted.run)
            took = time.perf_counter() - began


class Pace:
    """How many entries a step takes, so that an acknowledgement waits about STEP_TIME for it on this disk: for the
    step, and for the pages that it adds to the commit. (An entry that moves to another queue changes two pages of
    `entry_due` that no neighbour shares: 8 KiB of log each.) The shortest commit seen is the disk's own time, which no
    smaller step makes shorter."""

    def __init__(self, most: int = MOST) -> None:
        self.size, self._most = min(100, most), most
        self._took = self._ended = 0.0
        self._shortest = math.inf

    def timed(self, function: Callable[[Tx], T]) -> Callable[[Tx], T]:
        def run(tx: Tx) -> T:
            began = time.perf_counter()
            result = function(tx)
            self._ended = time.perf_counter()
            self._took = self._ended - began
            return result

        return run

    def committed(self) -> None:
        """Call it when the answer of the step is there."""
        self.learn(self._took, time.perf_counter() - self._ended)

    def learn(self, took: float, commit: float) -> None:
        """What a step of `size` cost; the next one is as large as it may be."""
        self._shortest = min(self._shortest, commit)
        waited = took + commit - self._shortest
        if waited > STEP_TIME:
            least = LEAST if took > STEP_TIME else min(LEAST_COMMITTED, self.size)
            self.size = max(min(least, self._most), int(self.size * max(STEP_TIME / waited, 0.5)))
        elif waited < STEP_TIME / 2:
            self.size = min(self._most, self.size * 3 // 2 + 1)
