"""The connections to the next hops.

Promises: `done` of every job is called exactly once, on the event loop, never from inside `send`; no task, future or
timer per message (large files excepted); a message moves to a second connection only when the first has not begun its
content. Time-outs are found by one sweep a second, counted in ticks, so that a changed clock does not end connections.
Fails: never into the caller; failures are results (`lifecycle.Deferred`, `lifecycle.Refused`).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from postroom.clock import SECOND, Clock, Millis
from postroom.rules.lifecycle import SendResult
from postroom.settings import Address, Delivery
from postroom.smtp_out.connection import Connection
from postroom.smtp_out.destination import STOPPING, Destination
from postroom.smtp_out.job import Job
from postroom.smtp_out.session import CLOSED_WELL, Session
from postroom.telemetry import Counts, Log

READERS = 4  # threads that read large bodies


class Pool:
    """`send` takes jobs; event loop only. Call `close` when the gateway stops."""

    def __init__(
        self,
        settings: Delivery,
        hostname: str,
        log: Log,
        counts: Counts,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._hostname = hostname
        self._log = log
        self._counts = counts
        self._loop = loop
        self._clock = clock
        self._readers = ThreadPoolExecutor(READERS, "body-reader")
        self._destinations: dict[Address, Destination] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self.tick = 0
        self.stopping = False

    def __repr__(self) -> str:
        return f"<Pool {list(self._destinations.values())!r}>"

    def apply(self, settings: Delivery, hostname: str) -> None:
        """New settings for connections opened from now on."""
        self._settings, self._hostname = settings, hostname
        for there in self._destinations.values():
            there.apply(settings)

    def send(self, destination: Address, job: Job) -> None:
        """Take a job; its results go to `job.done`, in a later turn of the loop."""
        there = self._destinations.get(destination)
        if there is None:
            there = self._destinations[destination] = Destination(destination, self._settings, self, self._loop)
        there.add(job)
        if self._sweeping is None and not self.stopping:
            self._sweeping = self._loop.call_later(1, self._sweep_each_second)

    @property
    def waiting(self) -> int:
        """Number of jobs without a connection."""
        return sum([len(there.jobs) for there in self._destinations.values()])

    @property
    def in_hand(self) -> int:
        """Number of jobs on connections."""
        return sum([there.in_hand for there in self._destinations.values()])

    @property
    def connections(self) -> int:
        """Number of connections, open or being opened."""
        return sum([len(there.connections) for there in self._destinations.values()])

    def sweep(self) -> None:
        """One second has passed."""
        self.tick += 1
        for there in list(self._destinations.values()):
            there.sweep()
            if there.unused:
                del self._destinations[there.address]

    def _sweep_each_second(self) -> None:
        self.sweep()
        self._sweeping = self._loop.call_later(1, self._sweep_each_second) if self._destinations else None

    async def close(self, grace: Millis) -> None:
        """Return waiting jobs at once; give jobs in progress `grace` to finish, then end their connections.
        Both are Deferred, "gateway is stopping", with `maybe` where the final dot was sent."""
        self.stopping = True
        for there in self._destinations.values():
            there.stop()
        if self.connections:
            self._emptied = asyncio.Event()
            try:
                await asyncio.wait_for(self._emptied.wait(), grace / SECOND)
            except TimeoutError:
                for there in self._destinations.values():
                    for connection in list(there.connections):
                        connection.end(STOPPING)
        await asyncio.gather(*[there.connects_over() for there in self._destinations.values()])
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._readers.shutdown(wait=False)
        self._log.flush()

    # --- what destinations call --------------------------------------------------------------------------------------

    def new_connection(self, destination: Destination) -> Connection:
        session = Session(self._hostname, self._settings.messages_per_connection)
        return Connection(destination, destination.name, session, self._loop, self._readers, self._clock.now())

    def tell(self, job: Job, results: tuple[SendResult, ...]) -> None:
        try:
            job.done(job, results)
        except Exception as bug:  # noqa: BLE001 - a bug in one job's receiver must not cost others their results
            self._loop.call_exception_handler({"message": f"done of job {job.key} failed", "exception": bug})

    def destination_up(self, destination: Destination) -> None:
        self._log.info("destination_up", to=destination.name)

    def connection_closed(self, destination: Destination, connection: Connection, reason: str) -> None:
        if reason != CLOSED_WELL and not self.stopping:
            if connection.ready:
                self._log.info("connection_lost", to=destination.name, reason=reason)
            elif not destination.down:  # once, not once a second
                self._log.warning("destination_down", to=destination.name, reason=reason)
        self._log.debug(
            "connection_closed", to=destination.name, reason=reason, milliseconds=self._clock.now() - connection.opened
        )
        if self._emptied is not None and not self.connections:
            self._emptied.set()
