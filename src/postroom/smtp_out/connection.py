"""One connection to a next hop: the socket around a `Session`, and the streaming of large bodies.

Promises: performs the session's effects, one write per step; pieces of a file are read off the event loop, one at a
time, and only when the peer has taken the one before. Fails: every failure of network, file or peer ends the connection
once, with results for its jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Executor
from pathlib import Path
from typing import Protocol, cast

from postroom.clock import Millis
from postroom.rules.lifecycle import SendResult
from postroom.smtp_out.body import BodyFile
from postroom.smtp_out.job import Job
from postroom.smtp_out.session import CLOSED, CLOSED_WELL, CONTENT, GREETING, IDLE, QUIT, WAITING_FOR, Session


class Owner(Protocol):
    """What a connection needs from its destination."""

    def next_job(self) -> Job | None: ...
    def jobs_done(self, done: list[tuple[Job, tuple[SendResult, ...]]]) -> None: ...
    def connection_ready(self, connection: Connection) -> None: ...
    def connection_idle(self, connection: Connection) -> None: ...
    def connection_ended(self, connection: Connection, reason: str, returned: list[Job]) -> None: ...
    def deadline(self, stage: int) -> int: ...


class Connection(asyncio.Protocol):
    """Opened by the destination; `ended` is true as soon as it is of no further use."""

    __slots__ = (
        "_body", "_executor", "_loop", "_owner", "_paused", "_reading", "_stopping", "_transport", "deadline", "ended",
        "idle", "name", "opened", "ready", "session",
    )  # fmt: skip

    def __init__(
        self,
        owner: Owner,
        name: str,
        session: Session,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        now: Millis,
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._executor = executor
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._stopping = False
        self._body: BodyFile | None = None
        self._reading = False  # a thread has the file
        self.name = name
        self.session = session
        self.deadline = 0  # the owner's tick after which this has taken too long
        self.opened = now
        self.ready = False  # greeted, can carry mail
        self.idle = False  # ready, without jobs, in the owner's list of idle connections
        self.ended = False

    # --- what the event loop calls -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.ended:
            self._transport.abort()
            return
        # With a high-water mark of 0 "paused" means exactly: some of what was written has not left this machine.
        self._transport.set_write_buffer_limits(high=0)
        self.deadline = self._owner.deadline(GREETING)

    def data_received(self, data: bytes) -> None:
        if not self.ended and self.session.receive(data):
            self.step()

    def connection_lost(self, problem: Exception | None) -> None:
        if self.ended:
            return
        if self.session.stage == QUIT:
            self.end(CLOSED_WELL)
        else:
            self.end(f"connection to {self.name} lost while waiting for {WAITING_FOR[self.session.stage]}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._body is not None and not self._reading and not self.ended:
            self._read_body()

    # --- what the owner calls ----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Take jobs while there is room, write the session's output, report finished jobs."""
        session, owner = self.session, self._owner
        became_ready = session.stage == IDLE and not self.ready
        while session.room and (job := owner.next_job()) is not None:
            session.give(job)
        if session.stage == IDLE and (session.spent or self._stopping):
            session.quit()
        if session.out:
            assert self._transport is not None
            self._transport.writelines(session.out)
            session.out = []
        stage = session.stage
        if session.done:
            done, session.done = session.done, []
            owner.jobs_done(done)
        if stage == CLOSED:
            self.end(session.failure)
            return
        self.deadline = owner.deadline(stage)
        if stage == CONTENT and self._body is None:
            self._begin_body()
        elif stage == IDLE and not self.idle:
            self.idle = True
            owner.connection_idle(self)
        if became_ready:
            self.ready = True
            owner.connection_ready(self)

    def stop(self) -> None:
        """Take no more jobs; QUIT when none is in progress."""
        self._stopping = True
        if not self.ready:
            self.end("stopped")
        elif self.session.stage == IDLE:
            self.step()

    def overdue(self) -> None:
        """The deadline has passed."""
        stage = self.session.stage
        if stage == IDLE:
            self.session.quit()
            self.step()
        elif self._transport is None:
            self.end(f"connect to {self.name}: timed out")
        else:
            self.end(f"connection to {self.name} timed out while waiting for {WAITING_FOR[stage]}")

    def end(self, reason: str) -> None:
        """End once: give results for jobs in progress, send nothing more to the peer."""
        if self.ended:
            return
        self.ended = True
        session = self.session
        session.lost(reason, unsent=self._paused)
        if self._transport is not None:
            if reason == CLOSED_WELL:
                self._transport.close()
            else:
                self._transport.abort()
        done, session.done = session.done, []
        returned, session.returned = session.returned, []
        if done:
            self._owner.jobs_done(done)
        self._owner.connection_ended(self, session.failure, returned)
        if self._body is not None:  # last: without room for another thread it cannot be given to one
            with contextlib.suppress(RuntimeError):
                self._executor.submit(self._body.close)  # a thread may be reading it

    # --- large bodies ------------------------------------------------------------------------------------------------

    def _begin_body(self) -> None:
        job = self.session.stream
        assert job is not None
        assert isinstance(job.body, Path)
        self._body = BodyFile(job.body, job.size)
        if not self._paused:
            self._read_body()

    def _read_body(self) -> None:
        assert self._body is not None
        try:
            reading = self._loop.run_in_executor(self._executor, self._body.read)
        except (RuntimeError, MemoryError) as problem:  # no memory for another thread: later
            self.end(f"stored body cannot be read: {problem}")
            return
        self._reading = True
        reading.add_done_callback(self._body_read)

    def _body_read(self, reading: asyncio.Future[tuple[bytes, bool]]) -> None:
        self._reading = False
        if self.ended or reading.cancelled():
            return
        problem = reading.exception()
        if problem is not None:
            # Without its final dot the peer must throw away what it has of this message (RFC 5321 4.1.1.4).
            if not isinstance(problem, OSError | MemoryError):
                self._loop.call_exception_handler({"message": "reading a stored body failed", "exception": problem})
            self.end(
                f"stored body cannot be read: {getattr(problem, 'strerror', None) or str(problem) or repr(problem)}"
            )
            return
        assert self._transport is not None
        piece, last = reading.result()
        if piece:
            self._transport.write(piece)
        if last:
            self._body = None
            self.session.content_sent()
            self.step()
            return
        self.deadline = self._owner.deadline(CONTENT)
        if not self._paused:
            self._read_body()
