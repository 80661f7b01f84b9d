"""Works on messages: lease -> checks -> send -> record.

A message that arrives while there is room is *born leased*: after its commit it goes straight on in memory and is never
read back. Everything else is claimed from the store when it is due. A message is worked on with all its entries that
are due: its content is checked once, and recipients that share a destination share one SMTP transaction. What a result
means for an entry is decided in `rules.lifecycle`.

Promises: at most `active_entries` and `active_bytes` are in hand; a result is recorded under the lease of the attempt;
the leases of what is in hand are renewed. Internal moves of born-leased entries are written `LINGER` later, or not at
all when the entry ends first. Fails: never; what cannot be recorded stays leased and is claimed again when that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable

import msgspec

from postroom.checks import Runner
from postroom.clock import Clock, Millis
from postroom.errors import EnvironmentFailed, StoreUnavailable
from postroom.ids import public_id
from postroom.model import Action, Queue, Scope, Verdict, VerdictKind
from postroom.rules import lifecycle
from postroom.rules.lifecycle import Change, Ends, Held, Moves, SendResult, Waits
from postroom.rules.mailshot import Mailshots
from postroom.settings import Address, Settings
from postroom.smtp_out.job import Job
from postroom.smtp_out.pool import Pool
from postroom.smtp_out.routes import Routes
from postroom.store import (
    MAIL,
    AcceptDone,
    Accepted,
    Claimed,
    EndedEntry,
    Moved,
    NewMessage,
    PackedEvent,
    Store,
    Waited,
    pack_events,
)
from postroom.telemetry import Counts, Log
from postroom.work.heartbeat import keep_leases
from postroom.work.in_hand import (
    Item,
    Room,
    Work,
    content_of,
    if_failed,
    notice_of,
    standing,
    trace_of,
    works_of,
)

LINGER = 1.0  # seconds until the move of a born-leased entry is written, if it has not ended by then
TICK = 0.5  # seconds between looks at pauses and at what has become due
CLAIM_BATCH = 200


class Worker:
    def __init__(
        self, settings: Settings, store: Store, runner: Runner, pool: Pool, *, clock: Clock, log: Log, counts: Counts
    ) -> None:
        self._store = store
        self._runner = runner
        self._pool = pool
        self._clock = clock
        self._log = log
        self._counts = counts
        self._room = Room(settings)
        self._mailshots = Mailshots(settings.bulk)
        self._work: set[Work] = set()
        self._in_hand: dict[int, int] = {}  # entry -> lease; the writer's thread looks into it when it claims
        self._lingering: dict[int, tuple[Work, Item]] = {}  # moves not written yet, by entry
        self.paused: dict[Scope, Millis] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._flush: asyncio.TimerHandle | None = None
        self._fresh: set[int] = set()  # moves that the last look left unwritten
        self.blocked: Callable[[], str] = lambda: ""  # why nothing may be worked on (disk low, store failing)
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """New settings, for what is begun or recorded from now on."""
        self._settings = settings
        self._routes = Routes(settings.delivery.routes)
        self._room.apply(settings)
        self._mailshots.apply(settings.bulk)
        self._wake.set()

    # -- starting and stopping

    async def prepare(self) -> None:
        """Called before the listeners open: reads the pauses."""
        self.paused = await self._store.read(lambda reader: reader.pauses(), MAIL)

    async def start(self) -> None:
        self._claimer = asyncio.create_task(self._claiming())
        self._keeper = asyncio.create_task(
            keep_leases(self._work, self._store, lambda: self._settings.limits.lease, clock=self._clock, log=self._log)
        )

    async def close_intake(self) -> None:
        """From now on arrivals are only stored and nothing is claimed; waits for a running claim."""
        self._stopping = True
        self._wake.set()
        await self._claimer

    async def stop(self) -> None:
        """After the pool and the checks have ended: messages without a verdict wait again, due at once."""
        for _ in range(10):  # moves under way are answered, and what they send is given back
            try:
                await self._store.flush()
            except StoreUnavailable:
                break  # what cannot be written now is kept by the writer, or found by its lease
            await asyncio.sleep(0)
            if not any(work.moving for work in self._work):
                break
        now = self._clock.now()
        for work in list(self._work):
            for item in list(work.items):
                if item.entry in self._in_hand and item.queue in lifecycle.CHECKED:
                    self._put_back(work, item, now)
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def in_hand(self) -> int:
        return self._room.entries

    # -- mail that arrives

    def intake(self, new: NewMessage, done: AcceptDone) -> None:
        """Store a message; begin it at once when there is room (called on the event loop by reception)."""
        if self._mailshots.is_bulk(new.env_from, new.recipients, new.body_hash, new.received):
            new = msgspec.structs.replace(new, queue=Queue.BULK)
        count = len(new.recipients)
        if self._stopping or Scope.PROCESSING in self.paused or not self._room.has(new.queue, count, new.size):
            self._store.accept(new, None, done)
            return
        self._room.take(count, new.size)
        self._room.begin_checks(new.queue)
        until = self._clock.now() + self._settings.limits.lease

        def committed(answer: Accepted | StoreUnavailable) -> None:
            if isinstance(answer, StoreUnavailable):
                self._room.give(count, new.size)
                self._room.end_checks(new.queue)
            try:
                done(answer)
            finally:  # whatever became of who waited, the message is ours now
                if isinstance(answer, Accepted):
                    self._begin_born(new, answer)

        self._store.accept(new, until, committed)

    def _begin_born(self, new: NewMessage, answer: Accepted) -> None:
        items = [
            Item(entry, entry, new.queue, recipient.address, 1, new.received)
            for entry, recipient in zip(answer.entries, new.recipients, strict=True)
        ]
        content = content_of(answer.message, self._store.bodies)
        self._begin(Work(answer.message, content, items, self._clock.now()))

    # -- checks

    def _begin(self, work: Work) -> None:
        self._work.add(work)
        for item in work.items:
            self._in_hand[item.entry] = item.lease
        if work.items[0].queue in lifecycle.SENDING:
            self._send(work)
            return
        lifted = [Verdict(VerdictKind.HOLD, check) for check in work.waived]  # for these entries alone
        self._runner.run(
            work.message,
            work.content,
            (*work.message.verdicts, *lifted),
            lambda passed, last: self._checked(work, passed, last),
        )

    def _checked(self, work: Work, passed: tuple[Verdict, ...], last: Verdict) -> None:
        now = self._clock.now()
        if self._room.end_checks(work.items[0].queue):
            self._wake.set()
        kept = tuple([verdict for verdict in passed if verdict.kind is VerdictKind.PASS])
        for item in work.items:
            try:
                change = lifecycle.after_check(
                    standing(work, item, self._settings.gateway), last, self._settings.retry.processing, now
                )
                if isinstance(change, Moves) and change.queue is Queue.DELIVERY:
                    self._to_delivery(work, item, change, now)
                else:
                    self._record(work, item, change, now, kept, last.check if last.kind is VerdictKind.HOLD else "")
            except Exception as bug:  # noqa: BLE001 - one entry's trouble must not cost the others their turn
                self._abandon(work, item, bug)
        if work.left and not work.moving:
            self._send(work)

    def _abandon(self, work: Work, item: Item, bug: Exception) -> None:
        """A bug: the entry is dropped from memory without a result. Its lease expires; after three such it is
        suspect."""
        self._log.error(
            "entry_failed", id=public_id(item.entry), trace="".join(traceback.format_exception(bug)), bug="yes"
        )
        self._finished(work, item)

    def _to_delivery(self, work: Work, item: Item, change: Moves, now: Millis) -> None:
        item.queue = change.queue
        item.attempts = 1
        item.moved_at = item.since = now
        if item.born:
            self._lingering[item.entry] = (work, item)
            if self._flush is None:
                self._flush = asyncio.get_running_loop().call_later(LINGER, self._flush_moves)
        else:  # claimed from the store: the move is committed before the final dot can be sent
            work.moving += 1
            self._store.move(self._moved(item), lambda asked: self._moved_claimed(work, item, asked))

    def _moved(self, item: Item) -> Moved:
        following = if_failed(self._settings.retry.delivery, item)
        return Moved(
            item.entry, item.lease, item.queue, lifecycle.DELIVERY_INFO, item.attempts, following, item.moved_at
        )

    def _flush_moves(self) -> None:
        """Write the moves of born-leased entries that were still in progress at the last look."""
        older, self._fresh = self._fresh, set(self._lingering)
        for entry in older & self._lingering.keys():
            _work, item = self._lingering.pop(entry)
            self._store.move(self._moved(item))
        again = bool(self._lingering)
        self._flush = asyncio.get_running_loop().call_later(LINGER, self._flush_moves) if again else None

    def _moved_claimed(self, work: Work, item: Item, asked: Action | bool | None) -> None:
        """The move of a claimed entry is committed (or its lease was lost, or a person wants it held)."""
        work.moving -= 1
        held = None if isinstance(asked, bool) else lifecycle.after_move(asked)
        if asked is False or held is not None:
            work.items.remove(item)
            try:
                if held is None:
                    self._finished(work, item)
                else:
                    self._record(work, item, held, self._clock.now())
            except Exception as bug:  # noqa: BLE001 - as for the checks
                self._abandon(work, item, bug)
        if work.items and not work.moving:
            self._send(work)

    # -- delivery

    def _send(self, work: Work) -> None:
        now = self._clock.now()
        sending = [item for item in work.items if item.queue in lifecycle.SENDING and item.entry in self._in_hand]
        if Scope.DELIVERY in self.paused or self._stopping or self.blocked():
            for item in sending:
                self._put_back(work, item, now)
            return
        groups: dict[Address | None, list[Item]] = {}
        for item in sending:
            destination = self._routes.destination(item.recipient.rpartition("@")[2])
            groups.setdefault(destination, []).append(item)
        for destination, items in groups.items():
            try:
                if destination is not None:
                    self._pool.send(destination, self._job(work, items))
                    continue
                for item in items:
                    self._sent(work, item, lifecycle.Deferred(lifecycle.NO_ROUTE_INFO), now)
            except Exception as bug:  # noqa: BLE001 - as for the checks
                for item in items:
                    self._abandon(work, item, bug)

    def _job(self, work: Work, items: list[Item]) -> Job:
        message = work.message
        recipients = tuple(item.recipient for item in items)
        prefix = trace_of(work, recipients, self._settings.gateway.hostname)

        def done(_job: Job, results: tuple[SendResult, ...]) -> None:
            now = self._clock.now()
            for item, result in zip(items, results, strict=True):
                try:
                    self._sent(work, item, result, now)
                except Exception as bug:  # noqa: BLE001 - as for the checks
                    self._abandon(work, item, bug)

        return Job(message.id, message.env_from, recipients, prefix, work.content, message.size, None, done)

    def _put_back(self, work: Work, item: Item, now: Millis) -> None:
        """Return an entry without a try: it waits in its queue, due at once, and the attempt does not count."""
        later = lifecycle.given_back(item.queue, now)
        self._store.wait(
            Waited(item.entry, item.lease, item.queue, None, later.info, item.attempts - 1, later.at, 0, now, "moved")
        )
        self._finished(work, item)

    def _sent(self, work: Work, item: Item, result: SendResult, now: Millis) -> None:
        if self._stopping and lifecycle.cut_short(result):
            self._put_back(work, item, now)
            return
        hold = self._settings.delivery.maybe_delivered == "hold"
        change = lifecycle.after_send(
            standing(work, item, self._settings.gateway), result, self._settings.retry.delivery, now, hold_maybe=hold
        )
        self._record(work, item, change, now)

    # -- results

    def _record(
        self,
        work: Work,
        item: Item,
        change: Change,
        now: Millis,
        verdicts: tuple[Verdict, ...] = (),
        waived: str = "",
    ) -> None:
        message = work.message
        match change:
            case Ends(outcome, reply, notice, label):
                events: list[PackedEvent] = []
                if item.moved_at:
                    events.append((item.moved_at, "moved", Queue.DELIVERY.value, ""))
                told = notice_of(work, item, change, self._settings.gateway, self._log, now) if notice else None
                self._store.end(
                    EndedEntry(
                        item.entry, item.lease, message.id, item.queue, outcome, reply, item.attempts, label, now,
                        pack_events(events), message.body_object, told,
                    )
                )  # fmt: skip
                self._counts.ended[outcome] = self._counts.ended.get(outcome, 0) + 1
                self._counts.maybe_delivered += 1 if label else 0
                self._log.info(
                    outcome.value, id=public_id(item.entry), to=item.recipient, attempts=item.attempts,
                    ms=now - message.received, reply=reply, maybe_delivered="yes" if label else "",
                )  # fmt: skip
                if notice:
                    self._wake.set()
            case Waits(at, info, label):
                self._counts.deferred += 1
                self._counts.maybe_delivered += 1 if label else 0
                self._wait(work, item, None, info, at, label, now, "deferred", verdicts)
            case Held(info, label):
                self._counts.maybe_delivered += 1 if label else 0
                self._wait(work, item, item.queue, info, now, label, now, "held", verdicts, waived)
            case Moves(queue, info):
                from_queue, item.queue = item.queue, queue
                assert from_queue is not queue
                self._wait(work, item, None, info, now, 0, now, "bulked", verdicts)
        self._finished(work, item)

    def _wait(
        self, work: Work, item: Item, held_from: Queue | None, info: str, at: Millis, label: int, now: Millis,
        kind: str, verdicts: tuple[Verdict, ...], waived: str = "",
    ) -> None:  # fmt: skip
        queue = Queue.HELD if held_from else item.queue
        self._store.wait(
            Waited(
                item.entry, item.lease, queue, held_from, info, item.attempts, at, label, now, kind, verdicts, waived
            )
        )
        self._log.info(
            kind, id=public_id(item.entry), to=item.recipient, queue=queue.value, attempts=item.attempts, info=info,
            maybe_delivered="yes" if label else "",
        )  # fmt: skip

    def _finished(self, work: Work, item: Item) -> None:
        self._lingering.pop(item.entry, None)
        if self._in_hand.pop(item.entry, None) is None:
            return  # once is enough, whatever went wrong on the way
        work.left -= 1
        self._room.give(1, 0 if work.left else work.message.size)
        if not work.left:
            self._work.discard(work)

    # -- what was stored and is due

    async def _claiming(self) -> None:
        while not self._stopping:
            found = 0
            try:
                self.paused = await self._store.read(lambda reader: reader.pauses(), MAIL)
                if not self.blocked():
                    found = await self._claim()
            except EnvironmentFailed as problem:
                self._log.warning("claim_failed", problem=str(problem))
            except Exception as bug:  # noqa: BLE001 - what waits must go on being looked at
                self._log.error("claim_failed", trace="".join(traceback.format_exception(bug)), bug="yes")
            self._counts.active_entries, self._counts.active_bytes = self._room.entries, self._room.bytes
            if found and self._room.half_empty:
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), TICK)

    async def _claim(self) -> int:
        wanted = self._room.wanted(self.paused, CLAIM_BATCH)
        if not wanted:
            return 0
        found = 0
        for claimed in await self._store.claim(wanted, self._room.free(CLAIM_BATCH), self._in_hand):
            found += len(claimed.leases)
            self._take(claimed)
        return found

    def _take(self, claimed: Claimed) -> None:
        """Work on a claimed message. Its entries may be in different queues, or have different checks waived."""
        for work in works_of(claimed, self._store.bodies, self._clock.now()):
            self._room.take(len(work.items), work.message.size)
            if work.items[0].queue in lifecycle.CHECKED:
                self._room.begin_checks(work.items[0].queue)
            self._begin(work)
