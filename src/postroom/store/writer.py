"""The one writer: a thread that owns the write connection and commits everything that waits as one transaction.

Promises: an answer is given only after the commit (synchronous=FULL) of the transaction that holds what it answers for;
answers come on the event loop, in order. Facts that already happened (moves, waits, ends) survive a failing disk: they are
kept and tried again until they are recorded; new mail and calls are told StoreUnavailable at once.
Fails: StoreUnavailable to the waiters. A record that breaks a rule of the schema is our bug: it is isolated, logged, and
does not take its neighbours down.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import apsw

from postroom.clock import Millis
from postroom.errors import StoreUnavailable
from postroom.ids import IdGiver
from postroom.model import Action
from postroom.store import apply, sql
from postroom.store.horizon import Horizon
from postroom.store.records import AcceptDone, EndedEntry, Moved, NewMessage, Waited
from postroom.store.sqlite import is_environment
from postroom.telemetry import Log

MoveDone = Callable[[Action | bool | None], None]
Answer = Callable[[], None]
CallDone = Callable[[Any, BaseException | None], None]
RETRY_PAUSE = 0.2  # seconds between tries while the disk refuses
ENDS_BATCH = 64  # ends that are not held back any longer ...
ENDS_LINGER = 0.02  # ... or after so many seconds ...
ENDS_QUIET = 0.002  # ... or when for so long nothing has come at all
PROBE_EVERY = 1.0  # seconds, when there is nothing to try


class Batch:
    """What waits for the next commit."""

    __slots__ = ("arrivals", "calls", "ends", "moves", "waits")

    def __init__(self) -> None:
        self.arrivals: list[tuple[NewMessage, Millis | None, AcceptDone]] = []
        self.calls: list[tuple[Callable[[apsw.Connection], Any], CallDone]] = []
        self.moves: list[tuple[Moved, MoveDone | None]] = []
        self.waits: list[Waited] = []
        self.ends: list[EndedEntry] = []

    def take(self, other: Batch) -> None:
        self.arrivals += other.arrivals
        self.calls += other.calls
        self.moves += other.moves
        self.waits += other.waits
        self.ends += other.ends

    def __bool__(self) -> bool:
        return bool(self.arrivals or self.calls or self.moves or self.waits or self.ends)


class Writer(threading.Thread):
    """`hand` is called on the event loop with one batch per loop turn."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        ids: IdGiver,
        log: Log,
        life: int,
        next_attempt: Callable[[Millis], Millis],
        delete_object: Callable[[str], None],
        on_lost: Callable[[int], None],
        between: Callable[[apsw.Connection], None],
    ) -> None:
        super().__init__(name="postroom-writer", daemon=True)
        self._connection = connection
        self._cursor = connection.cursor()
        self._ids = ids
        self._log = log
        self._next_attempt = next_attempt
        self._delete_object = delete_object
        self._on_lost = on_lost
        self._between = between  # runs between transactions: the checkpointer's last step
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.infos = apply.Infos()
        self.horizon = Horizon(ids.now)
        self.tally = apply.Tally(life)
        self._ends: list[EndedEntry] = []  # held back
        self._ends_since = 0.0  # monotonic seconds, of the oldest
        self.failing = ""  # why the last commit failed; empty = it did not
        self._probed = 0.0  # monotonic seconds, when the disk was last asked whether it takes writes again

    # -- on the caller's side

    def hand(self, batch: Batch) -> None:
        if not self.is_alive():
            raise StoreUnavailable("the store is closed")
        self._inbox.put(batch)

    def stop(self) -> None:
        """Commit what was handed over, then end."""
        self._inbox.put(None)
        self.join()

    def close(self) -> None:
        """Close the connection; only after `stop`."""
        self._connection.close()

    # -- on the writer's thread

    def run(self) -> None:
        carried: Batch | None = None
        stopping = False
        while not stopping or carried is not None:
            batch = carried or Batch()
            if carried is None:
                first = self._next()
                stopping = first is None
                if first is not None:
                    batch.take(first)
            with contextlib.suppress(queue.Empty):
                while True:
                    more = self._inbox.get_nowait()
                    stopping = stopping or more is None
                    if more is not None:
                        batch.take(more)
            had_failed = carried is not None
            self._hold_ends_back(batch, at_once=stopping or had_failed)
            carried = self._commit(batch) if batch else None
            if carried is not None and stopping and had_failed:
                return  # the disk does not take it: what is unrecorded is found by its lease at the next start
            if carried is not None:
                time.sleep(RETRY_PAUSE)
            self._between(self._connection)

    def _hold_ends_back(self, batch: Batch, *, at_once: bool) -> None:
        """While there is traffic, ends wait for more of their kind: nobody waits for them, and one transaction for many
        costs less (docs/decisions/0007, 0016). Never behind a call: a claim must see what has ended."""
        at_once = at_once or bool(batch.calls) or not batch
        if self._ends:
            batch.ends = self._ends + batch.ends
            self._ends = []
        if not batch.ends:
            return
        now = time.monotonic()
        if not self._ends_since:
            self._ends_since = now
        if not at_once and len(batch.ends) < ENDS_BATCH and now - self._ends_since < ENDS_LINGER:
            self._ends, batch.ends = batch.ends, []
        else:
            self._ends_since = 0.0

    def _next(self) -> Batch | None:
        """What is handed over next. While the disk refuses, a small write of our own asks again once a second."""
        if self._ends:
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=ENDS_QUIET)
            return Batch()
        while self.failing:  # by the clock: callers that only look, and write nothing, must not put it off for ever
            left = self._probed + PROBE_EVERY - time.monotonic()
            with contextlib.suppress(queue.Empty):
                if left > 0:
                    return self._inbox.get(timeout=left)
            probe = Batch()
            probe.calls.append((_prove, lambda result, problem: None))
            self._commit(probe)
            self._probed = time.monotonic()
        return self._inbox.get()

    def _commit(self, batch: Batch) -> Batch | None:
        """One transaction; what must be tried again, or None."""
        changes = self._connection.total_changes()
        try:
            answers, settled, objects = self._transaction(batch)
        except Exception as problem:  # noqa: BLE001 - every failure of a commit is sorted here, none may end the thread
            self._roll_back()
            # A transaction that cannot even be rolled back is the disk's fault, whatever it is called.
            if is_environment(problem) or self._connection.in_transaction:
                return self._refuse(batch, problem, environment=True)
            if _size(batch) > 1:
                return self._one_by_one(batch)
            self._log.error("write_failed", problem=f"{type(problem).__name__}: {problem}", bug="yes")
            self._refuse(batch, problem, environment=False)
            return None
        if self.failing and self._connection.total_changes() != changes:  # a commit that wrote nothing proves nothing
            self._log.warning("store_available")
            self.failing = ""
        for name in objects:
            self._delete_object(name)
        self._answer(answers)
        self._run_answers(settled)  # they find their own way to whoever waits
        return None

    def _transaction(self, batch: Batch) -> tuple[list[Answer], list[Answer], list[str]]:
        """(answers for the loop, answers of calls, bodies to delete). Calls come last: they see all that was said before."""
        cursor = self._cursor
        answers: list[Answer] = []
        objects: list[str] = []
        cursor.execute("BEGIN IMMEDIATE")
        if batch.arrivals:
            news = [(new, until) for new, until, _ in batch.arrivals]
            self.horizon.reach(cursor, max(until or 0 for _, until in news))
            accepted = apply.insert(cursor, self._ids, self.infos, self.tally, news, self._next_attempt)
            answers += [_given(done, got) for (_, _, done), got in zip(batch.arrivals, accepted, strict=True)]
        for moved, moved_done in batch.moves:
            result = apply.move(cursor, self.infos, moved)
            if result is False:
                answers.append(_given(self._on_lost, moved.entry))
            if moved_done is not None:
                answers.append(_given(moved_done, result))
        for waited in batch.waits:
            if not apply.wait(cursor, self.infos, waited):
                answers.append(_given(self._on_lost, waited.entry))
        if batch.ends:
            lost, objects = apply.end(cursor, self._ids, self.infos, self.tally, batch.ends, self._next_attempt)
            answers += [_given(self._on_lost, ended.entry) for ended in lost]
        alone = _size(batch) == 1
        settled = [self._call(function, finished, alone=alone) for function, finished in batch.calls]
        self.tally.write(cursor)
        cursor.execute("COMMIT")
        return answers, settled, objects

    def _call(self, function: Callable[[apsw.Connection], Any], finished: CallDone, *, alone: bool) -> Answer:
        """A call's failure rolls back only what it did. One that is alone needs no savepoint for that: within one, SQLite keeps
        each page that changes once more, and walks through all of these after each statement that fires a trigger."""
        added = dict(self.tally.added)
        if not alone:
            self._cursor.execute("SAVEPOINT call")
        try:
            result = function(self._connection)
        except Exception as problem:
            if is_environment(problem):
                raise
            self._cursor.execute("ROLLBACK; BEGIN IMMEDIATE" if alone else "ROLLBACK TO call; RELEASE call")
            self.tally.added = added
            self.infos.forget()
            self.horizon.forget()
            failure = problem
            return lambda: finished(None, failure)
        if not alone:
            self._cursor.execute("RELEASE call")
        return lambda: finished(result, None)

    def _roll_back(self) -> None:
        self.tally.added = {}
        self.infos.forget()
        self.horizon.forget()
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")

    def _refuse(self, batch: Batch, problem: BaseException, *, environment: bool) -> Batch | None:
        """Tell those who wait; keep what has already happened, unless it breaks a rule: then it never can be written."""
        text = f"{type(problem).__name__.removesuffix('Error')}: {problem}"
        if environment:
            if not self.failing:
                self._log.error("store_unavailable", problem=text)
            self.failing = text
        failure = StoreUnavailable(f"the store could not commit: {text}")
        answers: list[Answer] = [_given(done, failure) for _, _, done in batch.arrivals]
        if not environment:
            answers += [_given(done, False) for _, done in batch.moves if done is not None]
        self._answer(answers)
        self._run_answers([_failed(finished, failure) for _, finished in batch.calls])
        kept = Batch()
        if environment:
            kept.moves, kept.waits, kept.ends = batch.moves, batch.waits, batch.ends
        return kept if kept else None

    def _one_by_one(self, batch: Batch) -> Batch | None:
        kept = Batch()
        for name in ("arrivals", "moves", "waits", "ends", "calls"):
            for item in getattr(batch, name):
                single = Batch()
                getattr(single, name).append(item)
                left = self._commit(single)
                if left is not None:
                    kept.take(left)
        return kept if kept else None

    def _answer(self, answers: list[Answer]) -> None:
        if not answers:
            return
        loop = self.loop
        if loop is None:
            self._run_answers(answers)
        else:
            with contextlib.suppress(RuntimeError):  # the loop was closed while stopping
                loop.call_soon_threadsafe(self._run_answers, answers)

    def _run_answers(self, answers: list[Answer]) -> None:
        for answer in answers:
            try:
                answer()
            except Exception as problem:  # noqa: BLE001 - one waiter's bug must not cost the others their answer
                self._log.error("answer_failed", problem=f"{type(problem).__name__}: {problem}", bug="yes")


def _prove(connection: apsw.Connection) -> None:
    """Must really write: SQLite writes nothing for a row that stays as it is, and such a commit proves nothing."""
    connection.execute(sql.PROVE)


def _given(done: Callable[[Any], None], value: Any) -> Answer:
    return lambda: done(value)


def _failed(finished: CallDone, failure: BaseException) -> Answer:
    return lambda: finished(None, failure)


def _size(batch: Batch) -> int:
    return len(batch.arrivals) + len(batch.calls) + len(batch.moves) + len(batch.waits) + len(batch.ends)
