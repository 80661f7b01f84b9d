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

from postroom.clock import Clock, Millis
from postroom.errors import StoreUnavailable
from postroom.ids import IdGiver
from postroom.model import Action
from postroom.store import apply
from postroom.store.records import AcceptDone, EndedEntry, Moved, NewMessage, Waited
from postroom.store.sqlite import is_environment
from postroom.telemetry import Log

MoveDone = Callable[[Action | bool | None], None]
Answer = Callable[[], None]
CallDone = Callable[[Any, BaseException | None], None]
RETRY_PAUSE = 0.2  # seconds between tries while the disk refuses


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
        clock: Clock,
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
        self._clock = clock
        self._log = log
        self._next_attempt = next_attempt
        self._delete_object = delete_object
        self._on_lost = on_lost
        self._between = between  # runs between transactions: the checkpointer's last step
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.infos = apply.Infos()
        self.tally = apply.Tally(life)
        self.failing = ""  # why the last commit failed; empty = it did not

    # -- on the caller's side

    def hand(self, batch: Batch) -> None:
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
                first = self._inbox.get()
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
            carried = self._commit(batch) if batch else None
            if carried is not None and stopping and had_failed:
                return  # the disk does not take it: what is unrecorded is found by its lease at the next start
            if carried is not None:
                time.sleep(RETRY_PAUSE)
            self._between(self._connection)

    def _commit(self, batch: Batch) -> Batch | None:
        """One transaction; what must be tried again, or None."""
        try:
            answers, objects = self._transaction(batch)
        except Exception as problem:  # noqa: BLE001 - every failure of a commit is sorted here, none may end the thread
            self._roll_back()
            if is_environment(problem):
                return self._refuse(batch, problem)
            if _size(batch) > 1:
                return self._one_by_one(batch)
            self._log.error("write_failed", problem=f"{type(problem).__name__}: {problem}", bug="yes")
            self._refuse(batch, problem)
            return None
        self.failing = ""
        for name in objects:
            self._delete_object(name)
        self._answer(answers)
        return None

    def _transaction(self, batch: Batch) -> tuple[list[Answer], list[str]]:
        cursor = self._cursor
        answers: list[Answer] = []
        objects: list[str] = []
        cursor.execute("BEGIN IMMEDIATE")
        if batch.arrivals:
            news = [(new, until) for new, until, _ in batch.arrivals]
            accepted = apply.insert(cursor, self._ids, self.infos, self.tally, news, self._next_attempt)
            answers += [_given(done, got) for (_, _, done), got in zip(batch.arrivals, accepted, strict=True)]
        for function, finished in batch.calls:
            answers.append(self._call(function, finished))
        for moved, moved_done in batch.moves:
            result = apply.move(cursor, self.infos, moved)
            if result is False:
                answers.append(_given(self._on_lost, moved.entry))
            if moved_done is not None:
                answers.append(_given(moved_done, result))
        for waited in batch.waits:
            if not apply.wait(cursor, self.infos, waited, self.tally):
                answers.append(_given(self._on_lost, waited.entry))
        if batch.ends:
            lost, objects = apply.end(
                cursor, self._ids, self.infos, self.tally, self._clock, batch.ends, self._next_attempt
            )
            answers += [_given(self._on_lost, ended.entry) for ended in lost]
        self.tally.write(cursor)
        cursor.execute("COMMIT")
        return answers, objects

    def _call(self, function: Callable[[apsw.Connection], Any], finished: CallDone) -> Answer:
        """A call's failure rolls back only what it did."""
        added = dict(self.tally.added)
        self._cursor.execute("SAVEPOINT call")
        try:
            result = function(self._connection)
        except Exception as problem:
            if is_environment(problem):
                raise
            self._cursor.execute("ROLLBACK TO call")
            self._cursor.execute("RELEASE call")
            self.tally.added = added
            self.infos.forget()
            failure = problem
            return lambda: finished(None, failure)
        self._cursor.execute("RELEASE call")
        return lambda: finished(result, None)

    def _roll_back(self) -> None:
        self.tally.added = {}
        self.infos.forget()
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")

    def _refuse(self, batch: Batch, problem: BaseException) -> Batch | None:
        """Tell those who wait; keep what has already happened."""
        text = f"{type(problem).__name__.removesuffix('Error')}: {problem}"
        if not self.failing:
            self._log.error("store_unavailable", problem=text)
        self.failing = text
        failure = StoreUnavailable(f"the store could not commit: {text}")
        answers: list[Answer] = [_given(done, failure) for _, _, done in batch.arrivals]
        answers += [_failed(finished, failure) for _, finished in batch.calls]
        self._answer(answers)
        kept = Batch()
        if is_environment(problem):
            kept.moves, kept.waits, kept.ends = batch.moves, batch.waits, batch.ends
        return kept if kept else None

    def _one_by_one(self, batch: Batch) -> Batch | None:
        kept = Batch()
        for name in ("arrivals", "calls", "moves", "waits", "ends"):
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


def _given(done: Callable[[Any], None], value: Any) -> Answer:
    return lambda: done(value)


def _failed(finished: CallDone, failure: BaseException) -> Answer:
    return lambda: finished(None, failure)


def _size(batch: Batch) -> int:
    return len(batch.arrivals) + len(batch.calls) + len(batch.moves) + len(batch.waits) + len(batch.ends)
