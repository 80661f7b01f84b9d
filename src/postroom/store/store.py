"""The store: everything the rest of Postroom can do with the database.

The verbs of the mail path (`accept`, `move`, `wait`, `end`) are called on the event loop and return at once. The
engine's one writer commits everything that is waiting in one transaction, then answers on the loop. Reads run on
read-only connections in a few threads and never block the writer. `write` runs any function in the writer's next
transaction.

Fails: StoreUnusable if the store cannot be opened; StoreUnavailable if a batch could not be committed, and then nothing
of it was kept. A write under a lost lease is dropped and reported to `on_lost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from postroom.clock import Clock, Millis, SystemClock
from postroom.errors import StoreUnavailable, StoreUnusable
from postroom.model import Action, ActionReport, Outcome, Queue, Scope
from postroom.rules.lifecycle import ENDING, WORKED_ON
from postroom.settings import Settings
from postroom.store.bodies import Bodies, bodies_path
from postroom.store.engine import FAILURE, Batch, Engine, MoveDone, Tx
from postroom.store.find import counters
from postroom.store.find.reader import Reader
from postroom.store.find.readers import MAIL, Readers
from postroom.store.queue import actions, horizon
from postroom.store.queue import claim as claiming
from postroom.store.queue.recorder import Recorder
from postroom.store.queue.unread import not_now, tell_entries, tell_messages, with_messages
from postroom.store.records import AcceptDone, Claimed, EndedEntry, Moved, NewMessage, Waited
from postroom.store.sqlite.engine import Sqlite
from postroom.telemetry import Counts, Log

T = TypeVar("T")
SETTINGS_ACTOR = "settings"  # who pauses when the settings do
_UNREADABLE: tuple[type[Exception], ...] = (*FAILURE, StoreUnusable, MemoryError)


class Store:
    """Use `open_store`. `beside`: another process serves this store, so nothing is recovered."""

    def __init__(
        self, engine: Engine, settings: Settings, *, clock: Clock, log: Log, counts: Counts, beside: bool
    ) -> None:
        self._engine = engine
        self.path, self.index = engine.path, engine.finder
        self.counts = counts
        self.ledger_difference = 0  # as last checked (store/keep/ledger.py)
        self.recovered = (0, 0)  # leases of a predecessor that were ended, entries labelled because of that
        self.clock_was_ahead = False  # this store has seen a later time than now: see `reschedule`
        self._clock = clock
        self._log = log
        self.apply(settings)
        self._outbox = Batch()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_lost: Callable[[int], None] = lambda entry: None
        self.bodies = Bodies(bodies_path(settings), create=not beside)
        engine.open(self.bodies)
        self._recorder = Recorder(
            engine.ids, life=engine.ids.next(), next_attempt=self._first_attempt, on_lost=self._lost
        )
        if not beside:
            engine.prepare(self._recover)
            self._recorder.infos.forget()
        engine.start(self._recorder, self.bodies.delete)
        self._local = threading.local()
        self._readers: list[Reader] = []
        self._threads = Readers()

    def apply(self, settings: Settings) -> None:
        """Use new settings for everything that is claimed from now on."""
        self._hostname, self._plans = settings.gateway.hostname, settings.plans
        retry, hold_maybe = settings.retry, settings.delivery.maybe_delivered == "hold"
        self._rules = claiming.Rules(retry.processing, retry.delivery, settings.limits.lease, hold_maybe)

    # -- reading

    def read_now(self) -> Reader:
        """This thread's reader."""
        reader: Reader | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = Reader(self._engine.read(), self.index)
            self._readers.append(reader)
        reader.searches.refresh()
        return reader

    async def read(self, function: Callable[[Reader], T], like: Hashable = None) -> T:
        """Run a read in the reader threads; `like` as in `Readers.run`. StoreUnavailable if that fails."""

        def reading() -> T:
            try:
                return function(self.read_now())
            except _UNREADABLE as problem:
                raise StoreUnavailable(f"the store could not be read: {str(problem) or 'no memory'}") from problem

        return await self._threads.run(reading, like)

    # -- the hot path: called on the event loop, one batch to the writer per loop turn

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give answers on this loop from now on."""
        self._loop = loop
        self._engine.answer_on(loop)

    def accept(self, message: NewMessage, lease_until: Millis | None, done: AcceptDone) -> None:
        """With a `lease_until`, entries are born leased to this process: their lease is their own id."""
        self._waiting().arrivals.append((message, lease_until, done))

    def move(self, moved: Moved, done: MoveDone | None = None) -> None:
        """`done` gets False if the lease was lost, otherwise the action a person asked for meanwhile, or None."""
        self._waiting().moves.append((moved, done))

    def wait(self, waited: Waited) -> None:
        self._waiting().waits.append(waited)

    def end(self, ended: EndedEntry) -> None:
        self._waiting().ends.append(ended)

    def _waiting(self) -> Batch:
        """Gathers the records of this turn of the loop."""
        outbox = self._outbox
        if not outbox:
            assert self._loop is not None, "attach a loop first"
            self._loop.call_soon(self._hand)
        return outbox

    def _hand(self) -> None:
        batch, self._outbox = self._outbox, Batch()
        self._engine.hand(batch)

    # -- everything else that writes

    async def write(self, function: Callable[[Tx], T]) -> T:
        """Run a function in the writer's next transaction. If it raises, only what it did is rolled back."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def finished(result: Any, problem: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed while stopping
                loop.call_soon_threadsafe(_settle, future, result, problem)

        if self._outbox:
            self._hand()  # what came before is written before
        batch = Batch()
        batch.calls.append((function, finished))
        self._engine.hand(batch)
        return await future

    def write_now(self, function: Callable[[Tx], T]) -> T:
        """The same for callers without an event loop (commands, tests): waits for the commit."""
        future: Future[T] = Future()

        def finished(result: Any, problem: BaseException | None) -> None:
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

        batch = Batch()
        batch.calls.append((function, finished))
        self._engine.hand(batch)
        return future.result()

    async def flush(self) -> None:
        """Return when all earlier writes are committed and their callers have the answer."""
        await self.write(lambda tx: None)

    async def claim(
        self, queues: Sequence[tuple[Queue, int]], most: int, in_hand: Container[int] = frozenset()
    ) -> list[Claimed]:
        """Lease due entries and read their messages: of each queue up to its number, and up to `most` in all. Entries
        `in_hand` are renewed instead. Entries whose message cannot be read go to `held`, with a mark.
        """
        asked = self._engine.now()

        def claim(tx: Tx) -> list[claiming.Taken]:
            # After a long wait (the disk stalled, the clock jumped), `in_hand` may lack messages that were born leased
            # meanwhile. The next claim knows them: it comes after their answers have run.
            if abs(self._engine.now() - asked) > self._rules.lease // 4:
                return []
            return self._claim(tx, queues, most, in_hand)

        taken = await self.write(claim)
        leases = [lease for part in taken for lease in part.leases]
        self.counts.claimed += len(leases)
        claiming.tell(taken, self.counts, self._log)
        tell_entries([entry for part in taken for entry in part.unreadable], self._log, self.counts)
        if not leases:
            return []
        try:
            claimed, unread = await self.read(lambda reader: with_messages(reader, self.bodies, leases), MAIL)
        except StoreUnavailable as problem:  # give the leases back: if they just ran out, it would look like a crash
            claimed, unread = [], not_now(leases, problem)
        tell_messages(unread, self._log, self.counts)
        for one in unread:
            self.wait(one.waited(self._clock.now()))
        return claimed

    def _claim(
        self, tx: Tx, queues: Sequence[tuple[Queue, int]], most: int, in_hand: Container[int]
    ) -> list[claiming.Taken]:
        now = self._engine.now()
        infos, taken = self._recorder.infos, []
        for queue, limit in queues:
            if most and limit:
                part = claiming.claim(tx, self._engine, infos, self._rules, queue, min(limit, most), now, in_hand)
                most -= len(part.leases)
                taken.append(part)
        if any(part.found for part in taken):
            self._recorder.horizon.reach(tx, now + self._rules.lease)
        return taken

    async def reschedule(self) -> int:
        """After the clock was set back, entries that wait too long are due by their schedule again. Returns how
        many."""
        changed = 0
        for queue in WORKED_ON:
            top: tuple[Millis, int] | None = horizon.TOP
            while top is not None:
                step = partial(horizon.some, rules=self._rules, queue=queue, top=top, now=self._clock.now())
                number, top = await self.write(step)
                changed += number
                await asyncio.sleep(horizon.SHARE)
        return changed

    async def renew(self, leases: Sequence[tuple[int, int]]) -> list[int]:
        """Heartbeat. Returns the entries whose lease was lost."""
        until = self._engine.now() + self._rules.lease

        def renew(tx: Tx) -> list[int]:
            self._recorder.horizon.reach(tx, until)
            return claiming.renew(tx, until, leases)

        return await self.write(renew)

    async def act(
        self, action: Action, ids: Sequence[int], *, actor: str, reason: str = "", notify: bool = False,
        held: bool | None = None,
    ) -> ActionReport:  # fmt: skip
        """Act on entries, in slices, so that no acknowledgement waits for a large action. `notify`: a rejection sends a
        notice to the sender. `held`: act only on entries that are held (True), or only on others (False)."""
        order = actions.Instruction(action, actor, reason, self._clock.now(), notify, held, actions.Turns(self._plans))
        parts = []
        for part in actions.slices(ids, notify=notify):
            parts.append(self._acted(order, await self.write(self._acting(order, part))))
        return actions.joined(parts)

    def act_now(
        self, action: Action, ids: Sequence[int], *, actor: str, reason: str = "", notify: bool = False,
        progress: Callable[[int], None] = lambda number: None,
    ) -> ActionReport:  # fmt: skip
        order = actions.Instruction(action, actor, reason, self._clock.now(), notify, turns=actions.Turns(self._plans))
        parts = []
        for part in actions.paced(ids, notify=notify):
            parts.append(self._acted(order, self.write_now(self._acting(order, part))))
            progress(len(part))
        return actions.joined(parts)

    def _acting(self, order: actions.Instruction, ids: Sequence[int]) -> Callable[[Tx], actions.Acted]:
        return actions.acting(self.context(), order, ids)

    def context(self) -> actions.ActionContext:
        """What acting on entries needs inside a transaction."""
        recorder = self._recorder
        return actions.ActionContext(
            recorder.infos,
            recorder.ids,
            recorder.ledger,
            self._first_attempt,
            self.bodies,
            self._hostname or "localhost",
        )

    def _acted(self, order: actions.Instruction, acted: actions.Acted) -> ActionReport:
        """After the commit."""
        if order.action in ENDING:
            self.count_ended(ENDING[order.action], len(acted.report.done))
        for name in acted.objects:
            self.bodies.delete(name)
        return acted.report

    def count_ended(self, outcome: Outcome, number: int) -> None:
        """Count entries that a person's action has ended, after its commit."""
        self.counts.ended[outcome] = self.counts.ended.get(outcome, 0) + number

    async def pause(self, scope: Scope, *, actor: str) -> bool:
        """False if it was paused already."""
        return await self.write(actions.switching(scope, actor, self._clock.now(), paused=True))

    async def resume(self, scope: Scope, *, actor: str) -> bool:
        """False if it was not paused."""
        return await self.write(actions.switching(scope, actor, self._clock.now(), paused=False))

    def pause_now(self, scope: Scope, *, actor: str) -> bool:
        return self.write_now(actions.switching(scope, actor, self._clock.now(), paused=True))

    def resume_now(self, scope: Scope, *, actor: str) -> bool:
        return self.write_now(actions.switching(scope, actor, self._clock.now(), paused=False))

    async def pause_by_settings(self, wanted: Mapping[Scope, bool]) -> None:
        """Start each pause that the settings ask for, and end each that they no longer ask for."""
        await self.write(actions.following(wanted, SETTINGS_ACTOR, self._clock.now()))

    # -- for upkeep (keep/upkeep.py)

    def start_fillers(self) -> None:
        """Let the search index and the counters follow the mail, some seconds behind, on a thread of their own: mail
        that passes at once pays for neither. Once, in the serving process; `close` ends it."""
        self.index.follow(log=self._log, commits=lambda: self.counts.commits, advance=self.advance_counters)

    def advance_counters(self, newest: int) -> int:
        """A step of the counters up to this id; 0: nothing to do, or the store cannot be written."""
        if self.failing or not counters.wanting(self.read_now().tx, newest):
            return 0
        return self.write_now(lambda tx: counters.advance(tx, newest))

    def forget_texts(self) -> None:
        """Inside a transaction: look up the id of every text again from here on."""
        self._recorder.infos.forget()

    def checkpoint_soon(self) -> None:
        self._engine.shrink_soon()

    # -- state

    @property
    def life(self) -> int:
        """The name of this process in the ledger."""
        return self._recorder.ledger.life

    @property
    def failing(self) -> str:
        """Why the last commit failed; empty if it succeeded."""
        return self._engine.failing

    def close(self) -> None:
        """Commit what was handed over, then close. May be called twice."""
        self.index.stop()
        if self._outbox:
            self._hand()
        self._engine.stop()
        self._threads.shutdown()
        for reader in self._readers:
            reader.tx.close()
        self._readers = []
        self._engine.close()

    def _first_attempt(self, received: Millis) -> Millis:
        """The next attempt of an entry if its first one fails."""
        return self._rules.as_if_failed(Queue.PROCESSING, 1, received, received)

    def _lost(self, entry: int) -> None:
        self.counts.leases_lost += 1
        self.on_lost(entry)

    def _recover(self, tx: Tx) -> None:
        now, until = self._engine.now(), horizon.horizon(tx)
        self.clock_was_ahead = horizon.is_ahead(tx, self._engine.last_id, now)
        found = claiming.recover(tx, self._recorder.infos, self._rules, now, until)
        horizon.begin(tx, now)
        self.recovered = found.taken_over, len(found.labelled)
        claiming.tell([found], self.counts, self._log)


def open_store(
    settings: Settings, *, clock: Clock | None = None, log: Log | None = None, counts: Counts | None = None,
    beside: bool = False,
) -> Store:  # fmt: skip
    """Open the store that the settings name; create it unless `beside`. StoreUnusable with the remedy if that fails."""
    clock, log, counts = clock or SystemClock(), log or Log(), counts or Counts()
    # The only engine so far. A second one is chosen here, by the scheme of [store] url.
    engine = Sqlite(settings, clock=clock, log=log, counts=counts, beside=beside)
    return Store(engine, settings, clock=clock, log=log, counts=counts, beside=beside)


def _settle(future: asyncio.Future[Any], result: Any, problem: BaseException | None) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the waiter was cancelled
        if problem is None:
            future.set_result(result)
        else:
            future.set_exception(problem)
