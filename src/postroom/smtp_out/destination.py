"""One next hop: its waiting jobs and its connections.

Promises: a job waits only while a connection works or is being opened. When none can be opened, all waiting jobs are
deferred at once with the reason, and so are new jobs for the next second, so that a dead host costs at most one connect
a second. Until a host has greeted it gets one connection at a time. Fails: as results.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from typing import Protocol

from postroom.rules.lifecycle import Deferred, SendResult
from postroom.settings import Address, Delivery
from postroom.smtp_out.connection import Connection
from postroom.smtp_out.job import Job
from postroom.smtp_out.replies import printable
from postroom.smtp_out.session import CLOSED_WELL, CONTENT, DOT, IDLE, QUIT

BACK_OFF = 2  # ticks of a second between failed tries: at least one second
REMEMBERED = 60  # ticks for which a destination that was down is known to be so (and not reported as news again)
RETURNS = 3  # how often a job may come back untouched before that counts as a failed attempt
QUIT_PATIENCE = 5_000  # milliseconds for the reply to QUIT, which changes nothing
STOPPING = "gateway is stopping"


class Pool(Protocol):
    """What a destination needs from the pool."""

    tick: int
    stopping: bool

    def new_connection(self, destination: Destination) -> Connection: ...
    def tell(self, job: Job, results: tuple[SendResult, ...]) -> None: ...
    def destination_up(self, destination: Destination) -> None: ...
    def connection_closed(self, destination: Destination, connection: Connection, reason: str) -> None: ...


class Destination:
    """Owner of its connections (`connection.Owner`)."""

    __slots__ = (
        "_connecting", "_idle", "_limit", "_loop", "_patience", "_pool", "_settings", "_soon", "_try_again", "address",
        "connections", "down", "jobs", "name",
    )  # fmt: skip

    def __init__(self, address: Address, settings: Delivery, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._connecting: dict[Connection, asyncio.Task[None]] = {}
        self._idle: list[Connection] = []  # the last one used is the next one used
        self._limit = 1
        self._soon = False
        self._try_again = 0  # tick before which no further connection is tried
        self.address = address
        self.name = str(address)
        self.connections: set[Connection] = set()
        self.apply(settings)
        self.down = ""  # why no connection could be opened, while that is so
        self.jobs: deque[Job] = deque()

    def apply(self, settings: Delivery) -> None:
        """New limits for connections from now on."""
        self._settings = settings
        command, data = _ticks(settings.command_timeout), _ticks(settings.data_timeout)
        self._patience = [command] * (QUIT + 2)
        self._patience[IDLE] = _ticks(settings.idle)
        self._patience[QUIT] = min(command, _ticks(QUIT_PATIENCE))
        self._patience[CONTENT] = self._patience[DOT] = data
        if any(connection.ready for connection in self.connections):
            self._limit = settings.connections

    def __repr__(self) -> str:
        state = f"down ({self.down})" if self.down else "up"
        sessions = [connection.session for connection in self.connections]
        return f"<Destination {self.name} {state}: {len(self.jobs)} waiting, {sessions!r}>"

    @property
    def in_hand(self) -> int:
        return sum([connection.session.in_hand for connection in self.connections])

    @property
    def unused(self) -> bool:
        """Whether it can be forgotten: no jobs, connections or recent failure."""
        known = self._try_again + (REMEMBERED if self.down else 0)
        return not (self.jobs or self.connections or self._soon) and self._pool.tick >= known

    def add(self, job: Job) -> None:
        """Take a job. Work starts in the next turn of the loop, so that jobs given together are sent together."""
        self.jobs.append(job)
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        self._soon = False
        if self._pool.stopping:
            self.give_back(Deferred(STOPPING))
        while self.jobs and self._idle:
            connection = self._idle.pop()
            connection.idle = False
            connection.step()
        if self.jobs:
            self._open()

    def _open(self) -> None:
        waits = self._pool.tick < self._try_again
        if self.down and waits and not self.connections:
            self.give_back(Deferred(self.down))
            return
        if waits and self.connections:
            return
        coming = sum([not connection.ready for connection in self.connections])
        for _ in range(min(len(self.jobs) - coming, self._limit - len(self.connections))):
            connection = self._pool.new_connection(self)
            connection.deadline = self._pool.tick + _ticks(self._settings.connect_timeout)
            self.connections.add(connection)
            self._connecting[connection] = self._loop.create_task(self._connect(connection))

    async def _connect(self, connection: Connection) -> None:
        try:
            await self._loop.create_connection(lambda: connection, self.address.host, self.address.port)
        except (OSError, UnicodeError) as problem:  # UnicodeError: a name that DNS cannot carry
            connection.end(f"connect to {self.name}: {_reason(problem)}")
        finally:
            self._connecting.pop(connection, None)

    def sweep(self) -> None:
        """Once a second: end connections past their deadline, retry postponed connects."""
        now = self._pool.tick
        for connection in [connection for connection in self.connections if connection.deadline < now]:
            self._not_idle(connection)
            connection.overdue()
        if self.jobs and not self._soon:
            self._work()

    def stop(self) -> None:
        """Return waiting jobs; connections end when their jobs are done."""
        self.give_back(Deferred(STOPPING))
        for connection in list(self.connections):
            self._not_idle(connection)
            connection.stop()

    async def connects_over(self) -> None:
        """Wait until no connect is in progress."""
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)

    def give_back(self, result: Deferred) -> None:
        """Give all waiting jobs this result."""
        jobs, self.jobs = self.jobs, deque()
        for job in jobs:
            self._pool.tell(job, (result,) * len(job.recipients))

    # --- what connections call ---------------------------------------------------------------------------------------

    def next_job(self) -> Job | None:
        return self.jobs.popleft() if self.jobs else None

    def jobs_done(self, done: list[tuple[Job, tuple[SendResult, ...]]]) -> None:
        for job, results in done:
            self._pool.tell(job, results)

    def deadline(self, stage: int) -> int:
        return self._pool.tick + self._patience[stage]

    def connection_ready(self, connection: Connection) -> None:
        if self.down:
            self.down = ""
            self._pool.destination_up(self)
        self._limit = self._settings.connections
        if self.jobs:
            self._open()

    def connection_idle(self, connection: Connection) -> None:
        self._idle.append(connection)

    def connection_ended(self, connection: Connection, reason: str, returned: list[Job]) -> None:
        self.connections.discard(connection)
        self._not_idle(connection)
        connecting = self._connecting.get(connection)
        if connecting is not None and connecting is not asyncio.current_task(self._loop):
            connecting.cancel()
        for job in reversed(returned):
            job.returns += 1
            if job.returns > RETURNS or self._pool.stopping:
                reason_back = STOPPING if self._pool.stopping else reason
                self._pool.tell(job, (Deferred(reason_back),) * len(job.recipients))
            else:
                self.jobs.appendleft(job)
        self._pool.connection_closed(self, connection, reason)
        if not connection.ready and reason != CLOSED_WELL:
            self._try_again = self._pool.tick + BACK_OFF
            if not self.connections:
                self.down = reason
                self._limit = 1
        if self.jobs and not self._soon:
            self._soon = True
            self._loop.call_soon(self._work)

    def _not_idle(self, connection: Connection) -> None:
        if connection.idle:
            connection.idle = False
            self._idle.remove(connection)


def _ticks(millis: int) -> int:
    """Ticks that last at least this long: the current tick may be about to end."""
    return -(-millis // 1000) + 1


def _reason(problem: OSError | UnicodeError) -> str:
    if isinstance(problem, OSError) and problem.errno and not isinstance(problem, socket.gaierror):
        return os.strerror(problem.errno)
    return printable(getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
