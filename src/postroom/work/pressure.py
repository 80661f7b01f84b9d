"""Decides whether mail may be accepted and worked on: disk, store, backlog, file descriptors, clock jumps.

Promises: one look a second, none per message; one log line when a limit is reached and one when that is over. Intake
slows down before it closes, so that senders notice before they are refused. Below the low mark of the store's disk no
work is done either, because a delivery that cannot be recorded would repeat; a full disk for bodies only closes intake,
because delivery frees space there. The search index stops growing before mail is affected. Fails: never; a failed look
is logged and changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from postroom.clock import Clock, Millis
from postroom.errors import EnvironmentFailed
from postroom.settings import Limits
from postroom.smtp_in import replies
from postroom.store import MAIL, Store
from postroom.telemetry import Log

SLOWEST = 1.0  # seconds an answer waits right below a bound
SLOW_BACKLOG = 0.9  # of the bound: from here on intake slows down
SLOW_DISK = 1.25  # of the low mark
INDEX_STOPS, INDEX_GOES_ON = 1.5, 1.75  # of the low mark: the index can be rebuilt, so it leaves the space to mail
OPEN_AGAIN = 0.98  # of the backlog's bound: closing and opening must not alternate with every look
FEW_DESCRIPTORS = 16  # or an eighth of few; with fewer left no new work starts, so that current work can end
MOST_DESCRIPTORS = 65_536  # as many are asked for at the start
JUMP: Millis = 60_000  # that the clock may run away from the machine's own between two looks, before it has jumped


class Pressure:
    """Intake and worker ask it on the event loop; `look` runs once a second."""

    def __init__(self, limits: Limits, store: Store, *, clock: Clock, log: Log) -> None:
        self._limits = limits
        self._store = store
        self._clock = clock
        self._log = log
        self._disk_free = sys.maxsize
        self._bodies_free = sys.maxsize  # when they have a disk of their own
        self._queued = 0
        self._backlog_full = False
        self._starved = False  # of file descriptors
        self._counting: asyncio.Task[None] | None = None
        self._ahead: Millis | None = None  # of the clock before the machine's own
        self.on_clock_set_back: Callable[[], None] = lambda: None
        self.stopping = False

    def apply(self, limits: Limits) -> None:
        """New bounds, from the next look on."""
        self._limits = limits

    # -- what is asked

    def blocked(self) -> str:
        """Why no work may be done; empty = work may be done."""
        if self._disk_free < self._limits.disk_low:
            return self._disk_low(self._disk_free, self._store.path.parent)
        if self._store.failing:
            return f"store not writable: {self._store.failing}"
        if self._starved:
            return "out of file descriptors: raise the limit of open files (ulimit -n, LimitNOFILE=)"
        return ""

    def reasons(self) -> list[str]:
        """Why this gateway is not ready; empty = ready."""
        found = [self.blocked()]
        if self._bodies_free < self._limits.disk_low:
            found.append(self._disk_low(self._bodies_free, self._store.bodies.root))
        if self._backlog_full:
            found.append(f"backlog: {self._queued} entries queued, {self._limits.queued_entries} allowed")
        if self.stopping:
            found.append("stopping")
        return [reason for reason in found if reason]

    def admission(self) -> bytes | None:
        """The reply that refuses mail, or None to accept it."""
        if min(self._disk_free, self._bodies_free) < self._limits.disk_low:
            return replies.DISK_LOW
        if self._store.failing:
            return replies.NOT_WRITABLE
        return replies.BACKLOG_FULL if self._backlog_full else None

    def delay(self) -> float:
        """Seconds that an accepted message waits before it is kept, so that senders slow down; 0 = none."""
        near, limits = 0.0, self._limits
        free = min(self._disk_free, self._bodies_free)
        if free < limits.disk_low * SLOW_DISK:
            near = (limits.disk_low * SLOW_DISK - free) / (limits.disk_low * (SLOW_DISK - 1))
        if limits.queued_entries:
            near = max(near, (self._queued / limits.queued_entries - SLOW_BACKLOG) / (1 - SLOW_BACKLOG))
        return SLOWEST * min(1.0, max(0.0, near))

    # -- looking

    def look(self) -> None:
        """Once a second. OSError when the disk cannot be asked."""
        self._look_at_clock()
        self._look_at_descriptors()
        if self._limits.queued_entries == 0:
            self._note_backlog(0)
        elif self._counting is None or self._counting.done():
            self._counting = asyncio.get_running_loop().create_task(self.count())
        self._look_at_disk()

    async def count(self) -> None:
        """The backlog from the ledger: reads a few rows, however long the queue is."""
        try:
            self._note_backlog(await self._store.read(lambda reader: reader.backlog(), MAIL))
        except EnvironmentFailed as problem:
            self._log.warning("backlog_unknown", problem=str(problem))

    def _note_backlog(self, queued: int) -> None:
        self._queued, bound = queued, self._limits.queued_entries
        full = bool(bound) and queued >= (bound * OPEN_AGAIN if self._backlog_full else bound)
        if full != self._backlog_full:
            self._backlog_full = full
            self._log.warning("backlog_full" if full else "backlog_fine", entries=queued, allowed=bound)

    def _look_at_disk(self) -> None:
        store, bodies = self._store.path.parent, self._store.bodies.root
        self._disk_free = self._free(store, self._disk_free)
        self._look_after_index()
        apart = os.stat(bodies).st_dev != os.stat(store).st_dev
        self._bodies_free = self._free(bodies, self._bodies_free) if apart else sys.maxsize

    def _free(self, path: Path, before: int) -> int:
        """Bytes free there now; it is logged when they have become too few, or enough."""
        state = os.statvfs(path)
        free, low = state.f_bavail * state.f_frsize, self._limits.disk_low
        if (free < low) != (before < low):
            event = "disk_low" if free < low else "disk_fine"
            self._log.warning(event, free_mib=free >> 20, needed_mib=low >> 20, path=str(path))
        return free

    def _disk_low(self, free: int, path: Path) -> str:
        return f"disk low: {free >> 20} MiB free, at least {self._limits.disk_low >> 20} MiB needed: {path}"

    def _look_after_index(self) -> None:
        index, free, low = self._store.index, self._disk_free, self._limits.disk_low
        halted = free < low * (INDEX_GOES_ON if index.halted else INDEX_STOPS)
        if halted != index.halted:
            index.halted = halted
            event = "search_index_halted" if halted else "search_index_goes_on"
            self._log.warning(event, free_mib=free >> 20, needed_mib=int(low * INDEX_STOPS) >> 20)

    def _look_at_descriptors(self) -> None:
        left, limit = descriptors_left(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        starved = left < (FEW_DESCRIPTORS if limit < 0 else min(FEW_DESCRIPTORS, limit // 8))
        if starved != self._starved:
            self._log.warning("descriptors_low" if starved else "descriptors_fine", left=left, limit=limit)
        self._starved = starved

    def _look_at_clock(self) -> None:
        """Detects a clock that was set. Slow corrections, without jumps, are ignored."""
        ahead = self._clock.now() - time.monotonic_ns() // 1_000_000
        before, self._ahead = self._ahead, ahead
        if before is None or abs(ahead - before) < JUMP:
            return
        self._log.warning("clock_set", seconds=(ahead - before) // 1000)
        if ahead < before:
            self.on_clock_set_back()


def descriptors_left() -> int:
    """The most files that this process can still open; the kernel gives the smallest free number."""
    try:
        found = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    os.close(found)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit < 0 else max(0, limit - found)


def ask_for_descriptors() -> None:
    """The soft limit is often 1024 for the sake of programs that use select(2); this one does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
