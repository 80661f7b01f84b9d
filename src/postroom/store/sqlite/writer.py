"""The one writer: a thread that owns the write connection and commits everything that waits as one transaction.

Promises: every answer comes after the commit (synchronous=FULL) of the transaction that it answers for, on the event
loop, in order. What has already happened (moves, waits, ends) survives a failing disk: it is kept and tried again until
it is written. New mail and calls fail at once.
Fails: StoreUnavailable, to those who wait. A record that breaks a rule of the schema is our bug: it is isolated and
logged, and the rest of its batch is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable

from postroom.errors import StoreUnavailable
from postroom.store.engine import PROVE, Answer, Batch, Call, CallDone, Recorded, Records, Tx, failed, given
from postroom.store.records import EndedEntry
from postroom.store.sqlite.failures import FAILURE, is_environment
from postroom.store.sqlite.tx import SqliteTx
from postroom.telemetry import Log

RETRY_PAUSE = 0.2  # seconds between tries while the disk refuses
# Ends are held back until there are ENDS_BATCH of them, or one is ENDS_LINGER old, or nothing came for ENDS_QUIET.
ENDS_BATCH = 64
ENDS_LINGER = 0.02  # seconds
ENDS_QUIET = 0.002  # seconds
PROBE_EVERY = 1.0  # seconds between two tries of our own while the disk refuses


class Writer(threading.Thread):
    """`hand` is called on the event loop, with one batch for each turn of the loop."""

    def __init__(
        self,
        tx: SqliteTx,
        records: Records,
        *,
        log: Log,
        delete_object: Callable[[str], None],
        between: Callable[[], None],
    ) -> None:
        super().__init__(name="postroom-writer", daemon=True)
        self._tx = tx
        self._records = records
        self._log = log
        self._delete_object = delete_object
        self._between = between  # runs between two transactions
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ends: list[EndedEntry] = []  # held back
        self._ends_since = 0.0  # monotonic seconds, of the oldest
        self.failing = ""  # why the last commit failed; empty if it succeeded
        self._probed = 0.0  # monotonic seconds, of the last probe

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
        self._tx.close()

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
                return  # the disk refuses: the next start finds what was not written by its lease
            if carried is not None:
                time.sleep(RETRY_PAUSE)
            self._between()

    def _hold_ends_back(self, batch: Batch, *, at_once: bool) -> None:
        """While there is traffic, ends wait for more ends: nobody waits for them, and one transaction for many costs
        less (docs/decisions/0007, 0016). They never wait if there is a call: a claim must see what has ended."""
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
        """The next batch. While the disk refuses, probe it once a second with a small write of our own."""
        if self._ends:
            with contextlib.suppress(queue.Empty):
                return self._inbox.get(timeout=ENDS_QUIET)
            return Batch()
        while self.failing:  # by the clock: calls that write nothing must not put the probe off for ever
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
        """Commit one transaction. Returns what must be tried again, or None."""
        changes = self._tx.written()
        try:
            recorded = self._transaction(batch)
        except Exception as problem:  # noqa: BLE001 - every failure of a commit is sorted here; none may end the thread
            self._roll_back()
            # If even the rollback fails, it is the fault of the disk, whatever the exception says.
            if is_environment(problem) or self._tx.in_snapshot:
                return self._refuse(batch, problem, environment=True)
            if len(batch) > 1:
                return self._one_by_one(batch)
            self._log.error("write_failed", problem=f"{type(problem).__name__}: {problem}", bug="yes")
            self._refuse(batch, problem, environment=False)
            return None
        if self.failing and self._tx.written() != changes:  # a commit that wrote nothing proves nothing
            self._log.warning("store_available")
            self.failing = ""
        for name in recorded.objects:
            self._delete_object(name)
        self._answer(recorded.answers)
        self._run_answers(recorded.settled)  # they find their own way to the loop
        return None

    def _transaction(self, batch: Batch) -> Recorded:
        self._tx.run("BEGIN IMMEDIATE")
        recorded = self._records.record(self._tx, batch, self._call)
        self._tx.run("COMMIT")
        return recorded

    def _call(self, function: Call, finished: CallDone, alone: bool) -> Answer:
        """A call that fails is rolled back alone. If the call is the whole batch, that needs no savepoint. Savepoints
        are slow: SQLite keeps a second copy of each changed page, and walks through all of them after each statement
        that fires a trigger."""
        counted = self._records.counted()
        if not alone:
            self._tx.run("SAVEPOINT call")
        try:
            result = function(self._tx)
        except Exception as problem:
            if is_environment(problem):
                raise
            self._tx.run("ROLLBACK; BEGIN IMMEDIATE" if alone else "ROLLBACK TO call; RELEASE call")
            self._records.forget(counted)
            failure = problem
            return lambda: finished(None, failure)
        if not alone:
            self._tx.run("RELEASE call")
        return lambda: finished(result, None)

    def _roll_back(self) -> None:
        self._records.forget()
        with contextlib.suppress(*FAILURE):
            if self._tx.in_snapshot:
                self._tx.run("ROLLBACK")

    def _refuse(self, batch: Batch, problem: BaseException, *, environment: bool) -> Batch | None:
        """Answer those who wait. Keep what has already happened, unless it breaks a rule and can never be written."""
        text = f"{type(problem).__name__.removesuffix('Error')}: {problem}"
        if environment:
            if not self.failing:
                self._log.error("store_unavailable", problem=text)
            self.failing = text
        failure = StoreUnavailable(f"the store could not commit: {text}")
        answers: list[Answer] = [given(done, failure) for _, _, done in batch.arrivals]
        if not environment:
            answers += [given(done, False) for _, done in batch.moves if done is not None]
        self._answer(answers)
        self._run_answers([failed(finished, failure) for _, finished in batch.calls])
        kept = Batch()
        if environment:
            kept.moves, kept.waits, kept.ends = batch.moves, batch.waits, batch.ends
        return kept if kept else None

    def _one_by_one(self, batch: Batch) -> Batch | None:
        kept = Batch()
        for single in batch.singly():
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


def _prove(tx: Tx) -> None:
    tx.run(PROVE)
