"""The store's public verbs. Everything the rest of Postroom knows of the database is in this file's signatures.

Hot-path verbs (`accept`, `move`, `wait`, `end`) are called on the event loop, return at once and go to the one writer,
which commits everything that waits as one transaction and then answers on the loop. Reads run on read-only connections
in a small thread pool and never block the writer. `write` runs any function inside the writer's next transaction.

Fails: StoreUnusable when it cannot be opened, StoreUnavailable when a batch could not be committed (nothing of it was
kept); a write that names a lost lease is dropped and reported to `on_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import apsw
import msgspec

from postroom.clock import Clock, Millis, SystemClock
from postroom.errors import StoreUnavailable, StoreUnusable
from postroom.ids import IdGiver, first_id_at
from postroom.model import Action, ActionReport, Queue, Scope
from postroom.settings import Settings
from postroom.store import actions, apply, sql, sqlite
from postroom.store import claim as claiming
from postroom.store.bodies import Bodies
from postroom.store.checkpoint import Checkpointer
from postroom.store.reader import Reader
from postroom.store.records import AcceptDone, Claimed, EndedEntry, Lease, Moved, NewMessage, Waited
from postroom.store.sqlite import fetch
from postroom.store.writer import Batch, MoveDone, Writer
from postroom.telemetry import Counts, Log

T = TypeVar("T")
READERS = 3  # threads
REAP_SLICE = 500  # entries of one step: a few milliseconds of the writer
SPARE_PAGES = 256  # given back to the file system in one step
UNREADABLE = "The stored message cannot be read; see the log, and restore it from a backup"


class Store:
    """Use `open_store`. `beside`: another process serves this store; nothing is recovered, nothing is reaped."""

    def __init__(self, settings: Settings, *, clock: Clock, log: Log, counts: Counts, beside: bool) -> None:
        self.path = sqlite.database_path(settings)
        self.counts = counts
        self.recovered = (0, 0)  # leases of a predecessor that were ended, entries labelled because of it
        self._clock = clock
        self._rules = claiming.Rules(
            settings.retry.processing,
            settings.retry.delivery,
            settings.limits.lease,
            settings.delivery.maybe_delivered == "hold",
        )
        if beside and not self.path.exists():
            raise StoreUnusable(f"no store at {self.path}: start the gateway there once, or give its --data")
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks: list[int] = []
        self._outbox = Batch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_lost: Callable[[int], None] = lambda entry: None
        self.bodies = Bodies(sqlite.bodies_path(settings), create=not beside)
        try:
            if not beside:  # the bodies, too: another store's would look like orphans
                for path in {self.path.parent, self.bodies.root}:
                    self._locks.append(sqlite.lock_directory(path))
            connection = sqlite.writing(self.path)
            if beside:
                sqlite.check_version(connection, self.path)  # the serving process's schema is not ours to change
            else:
                sqlite.migrate(connection, self.path)
            last = int(fetch(connection, sql.LAST_ID)[0][0])
            self._ids = IdGiver(clock, node=1 if beside else 0, last=last)
            self._suspects = [] if beside else self.bodies.names()  # bodies whose row may never have come
            self._checkpointer = None if beside else Checkpointer(self.path, log)
            self._writer = Writer(
                connection,
                ids=self._ids,
                log=log,
                life=self._ids.next(),
                next_attempt=lambda received: self._rules.as_if_failed(Queue.PROCESSING, 1, received, received),
                delete_object=self.bodies.delete,
                on_lost=self._lost,
                between=self._checkpointer.between if self._checkpointer else lambda connection: None,
            )
            if self._checkpointer is None:
                connection.execute("PRAGMA wal_autocheckpoint=1000")
            else:
                connection.set_wal_hook(self._committed)
                self._recover(connection)
                self._checkpointer.start()
        except (apsw.Error, StoreUnusable) as problem:
            self._unlock()
            if isinstance(problem, StoreUnusable):
                raise
            raise StoreUnusable(f"cannot use the store {self.path}: {problem}; check the disk, or restore") from problem
        self._writer.start()
        self._local = threading.local()
        self._readers: list[Reader] = []
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="postroom-read")

    # -- reading

    def read_now(self) -> Reader:
        """This thread's reader."""
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Reader(sqlite.reading(self.path))
            self._readers.append(reader)
        return reader

    async def read(self, function: Callable[[Reader], T]) -> T:
        """Run a read in the reader threads. StoreUnavailable when the database cannot be read."""

        def reading() -> T:
            try:
                return function(self.read_now())
            except apsw.Error as problem:
                raise StoreUnavailable(f"the store could not be read: {problem}") from problem

        return await asyncio.get_running_loop().run_in_executor(self._pool, reading)

    # -- the hot path: called on the event loop, one batch to the writer per loop turn

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on answers come on this loop."""
        self._loop = loop
        self._writer.loop = loop

    def accept(self, message: NewMessage, lease_until: Millis | None, done: AcceptDone) -> None:
        """`lease_until` given: the entries are born leased to this process, their lease is their own id."""
        self._waiting().arrivals.append((message, lease_until, done))

    def move(self, moved: Moved, done: MoveDone | None = None) -> None:
        """`done` gets False when the lease was lost, the action a person asked for meanwhile, or None."""
        self._waiting().moves.append((moved, done))

    def wait(self, waited: Waited) -> None:
        self._waiting().waits.append(waited)

    def end(self, ended: EndedEntry) -> None:
        self._waiting().ends.append(ended)

    def _waiting(self) -> Batch:
        """Where this loop turn's records are gathered."""
        outbox = self._outbox
        if not outbox:
            assert self._loop is not None, "attach a loop first"
            self._loop.call_soon(self._hand)
        return outbox

    def _hand(self) -> None:
        batch, self._outbox = self._outbox, Batch()
        self._writer.hand(batch)

    # -- everything else goes through the writer, too

    async def write(self, function: Callable[[apsw.Connection], T]) -> T:
        """Run a function in the writer's next transaction; its failure rolls back only what it did."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def finished(result: Any, problem: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed while stopping: nobody waits any more
                loop.call_soon_threadsafe(_settle, future, result, problem)

        if self._outbox:
            self._hand()  # what was said before comes first
        batch = Batch()
        batch.calls.append((function, finished))
        self._writer.hand(batch)
        return await future

    def write_now(self, function: Callable[[apsw.Connection], T]) -> T:
        """The same for callers without an event loop (command line, tests): waits for the commit."""
        future: Future[T] = Future()

        def finished(result: Any, problem: BaseException | None) -> None:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

        batch = Batch()
        batch.calls.append((function, finished))
        self._writer.hand(batch)
        return future.result()

    async def claim(
        self, queues: Sequence[tuple[Queue, int]], most: int, in_hand: Container[int] = frozenset()
    ) -> list[Claimed]:
        """Lease due entries, at most as many of each queue as said and `most` together, and read their messages.

        Entries `in_hand` are renewed instead. A message that cannot be read goes to `held`, marked, and is shown there.
        """
        asked = self._clock.now()

        def claim(connection: apsw.Connection) -> list[claiming.Taken]:
            # A claim that stood in line for long (the disk stood still, the clock jumped) may know less of what is in hand
            # than it must: messages born meanwhile are not there yet. The next one is asked when their answers have run.
            if abs(self._clock.now() - asked) > self._rules.lease // 4:
                return []
            return self._claim(connection, queues, most, in_hand)

        taken = await self.write(claim)
        leases = [lease for part in taken for lease in part.leases]
        self.counts.claimed += len(leases)
        self.counts.taken_over += sum(part.taken_over for part in taken)
        self.counts.maybe_delivered += sum(part.maybe for part in taken)
        if not leases:
            return []
        claimed, unreadable = await self.read(lambda reader: _with_messages(reader, leases))
        now = self._clock.now()
        for lease in unreadable:
            self.counts.unreadable += 1
            self.wait(
                Waited(
                    lease.entry, lease.lease, Queue.HELD, lease.queue, UNREADABLE, lease.attempts, now, 0, now, "held"
                )
            )  # fmt: skip
        return claimed

    def _claim(
        self, connection: apsw.Connection, queues: Sequence[tuple[Queue, int]], most: int, in_hand: Container[int]
    ) -> list[claiming.Taken]:
        cursor = connection.cursor()
        now = self._clock.now()
        infos, taken = self._writer.infos, []
        for queue, limit in queues:
            if most and limit:
                part = claiming.claim(cursor, self._ids, infos, self._rules, queue, min(limit, most), now, in_hand)
                most -= len(part.leases)
                taken.append(part)
        return taken

    async def renew(self, leases: Sequence[tuple[int, int]]) -> list[int]:
        """Heartbeat; the entries whose lease was lost."""
        until = self._clock.now() + self._rules.lease
        return await self.write(lambda connection: claiming.renew(connection.cursor(), until, leases))

    async def act(self, action: Action, ids: Sequence[int], *, actor: str, reason: str = "") -> ActionReport:
        """In slices, so that no acknowledgement waits for a large action."""
        parts = []
        for part in _slices(ids):
            parts.append(await self.write(self._acting(action, part, actor, reason)))
        return _joined(parts)

    def act_now(
        self, action: Action, ids: Sequence[int], *, actor: str, reason: str = "",
        progress: Callable[[int], None] = lambda number: None,
    ) -> ActionReport:  # fmt: skip
        parts = []
        for part in _slices(ids):
            parts.append(self.write_now(self._acting(action, part, actor, reason)))
            progress(len(part))
        return _joined(parts)

    def _acting(
        self, action: Action, ids: Sequence[int], actor: str, reason: str
    ) -> Callable[[apsw.Connection], ActionReport]:
        now, infos = self._clock.now(), self._writer.infos
        return lambda connection: actions.act(connection, infos, action, ids, actor, reason, now)

    async def pause(self, scope: Scope, *, actor: str) -> bool:
        """False when it was paused already."""
        return await self.write(lambda connection: actions.pause(connection, scope, actor, self._clock.now()))

    async def resume(self, scope: Scope, *, actor: str) -> bool:
        """False when it was not paused."""
        return await self.write(lambda connection: actions.resume(connection, scope))

    def pause_now(self, scope: Scope, *, actor: str) -> bool:
        return self.write_now(lambda connection: actions.pause(connection, scope, actor, self._clock.now()))

    def resume_now(self, scope: Scope, *, actor: str) -> bool:
        return self.write_now(lambda connection: actions.resume(connection, scope))

    async def reap(self, before: Millis) -> int:
        """One small step of forgetting what ended before; how many entries were forgotten. Gives back freed space, too."""

        def step(connection: apsw.Connection) -> int:
            cursor = connection.cursor()
            old = [ident for (ident,) in fetch(cursor, sql.HISTORY_OLD, (first_id_at(before), before, REAP_SLICE))]
            apply.run_chunks(cursor, sql.forget_events, 1, old)
            apply.run_chunks(cursor, sql.forget_history, 1, old)
            fetch(cursor, f"PRAGMA incremental_vacuum({SPARE_PAGES})")  # it frees a page for each row that is fetched
            return len(old)

        return await self.write(step)

    async def spare_pages(self) -> int:
        """Pages that are free inside the file and not yet given back."""
        return int(await self.read(lambda reader: reader.connection.pragma("freelist_count")) or 0)

    async def collect_orphans(self) -> int:
        """Delete the bodies that were there at the start and whose row never came."""
        if not self._suspects:
            return 0
        used = await self.read(lambda reader: {name for (name,) in fetch(reader.connection, sql.OBJECTS_USED)})
        orphans = [name for name in self._suspects if name not in used]
        self._suspects = []
        await asyncio.get_running_loop().run_in_executor(self._pool, lambda: [*map(self.bodies.delete, orphans)])
        return len(orphans)

    # -- state

    @property
    def failing(self) -> str:
        """Why the last commit failed; empty = it did not."""
        return self._writer.failing

    def close(self) -> None:
        """Commit what was handed over, then close. Idempotent."""
        if self._outbox:
            self._hand()
        if self._writer.is_alive():
            self._writer.loop = None
            self._writer.stop()
        if self._checkpointer is not None and self._checkpointer.is_alive():
            self._checkpointer.stop()
        self._pool.shutdown()
        for reader in self._readers:
            reader.connection.close()
        self._readers = []
        self._writer.close()
        self._unlock()

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self.counts.commits += 1
        assert self._checkpointer is not None
        return self._checkpointer.committed(connection, name, pages)

    def _lost(self, entry: int) -> None:
        self.counts.leases_lost += 1
        self.on_lost(entry)

    def _recover(self, connection: apsw.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self.recovered = claiming.recover(connection, self._writer.infos, self._rules, self._clock.now())
        connection.execute("COMMIT")
        self._writer.infos.forget()
        self.counts.taken_over, self.counts.maybe_delivered = self.recovered

    def _unlock(self) -> None:
        for lock in self._locks:
            os.close(lock)
        self._locks = []


def open_store(
    settings: Settings, *, clock: Clock | None = None, log: Log | None = None, counts: Counts | None = None,
    beside: bool = False,
) -> Store:  # fmt: skip
    """Open (and create, unless `beside`) the store that the settings name."""
    return Store(settings, clock=clock or SystemClock(), log=log or Log(), counts=counts or Counts(), beside=beside)


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the waiter was cancelled
        if problem is None:
            future.set_result(result)
        else:
            future.set_exception(problem)


def _with_messages(reader: Reader, leases: Sequence[Lease]) -> tuple[list[Claimed], list[Lease]]:
    """Leases grouped by message, and those whose message cannot be read."""
    by_message: dict[int, list[Lease]] = {}
    for lease in leases:
        by_message.setdefault(lease.message_id, []).append(lease)
    claimed: list[Claimed] = []
    unreadable: list[Lease] = []
    for ident, group in by_message.items():
        try:
            message = reader.message(ident)
        except (apsw.Error, msgspec.DecodeError):
            message = None
        if message is None or (message.body is None and not message.body_object):
            unreadable += group
        else:
            claimed.append(Claimed(message, tuple(group)))
    return claimed, unreadable


def _slices(ids: Sequence[int]) -> list[Sequence[int]]:
    return [ids[at : at + actions.SLICE] for at in range(0, len(ids), actions.SLICE)]


def _joined(parts: Sequence[ActionReport]) -> ActionReport:
    return ActionReport(
        tuple(ident for part in parts for ident in part.done),
        tuple(ident for part in parts for ident in part.requested),
        tuple(pair for part in parts for pair in part.refused),
    )
