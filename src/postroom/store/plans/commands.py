"""The commands on plans: freeze the entries that a query finds, act on them as one, undo that as one, end them as one.

Each command is a sequence of small reads and writes (run.py), so that mail never waits for a large plan. A step that
was committed is never done twice, so a command that was interrupted is simply called again.

Promises: the action is done to exactly what was frozen; what has changed since is left alone and reported; created =
ended + queued in every snapshot. Fails: PlanRefused with the reason, nothing done; NoSuchPlan; PlanDamaged;
SearchTooBroad; StoreUnavailable, after which the command can be called again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

from postroom.clock import Clock, Millis
from postroom.ids import public_id
from postroom.model import Action, Filter, Queue
from postroom.rules.lifecycle import ENDING, LEAVING, left_out
from postroom.settings import Plans
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.find.reader import Reader
from postroom.store.find.sources import Bounds, Sources, bounds
from postroom.store.plans import book, steps
from postroom.store.plans.book import Damaged, Plan, Sample, Share, Summary
from postroom.store.plans.run import MOST, Change, Look, Pace, Verb
from postroom.store.plans.steps import PlanRefused, Step
from postroom.store.store import Store

NOTICED = 20  # entries of a step that may send notices: each reads the beginning of its message
PAGE = 1_000  # entries frozen at a time
SHARES = 10  # domains and senders in the summary
SAMPLES = 10
MOST_NAMES = 100_000  # domains or senders counted apart
DAMAGED = "damaged: postroom verify --repair puts it right"
_PAGE = (
    "SELECT e.id, e.queue, e.from_queue, e.priority, e.info_id, e.attempts, e.since, e.next_attempt, e.lease, e.size, "
    "e.recipient, e.env_from, e.subject FROM entry AS e WHERE e.id IN ({}) ORDER BY e.id"
)
_NEWEST = named("plans.newest_entry", "SELECT coalesce(max(id), 0) FROM entry")

Told = Callable[[int], None]  # called with the number of entries done since the last call


class Wish(NamedTuple):
    """What a plan is wanted for. `most`: entries that this person may have in one plan; None: as the settings say."""

    action: Action
    filter: Filter
    query: str
    actor: str
    notify: bool = False
    barred: Collection[Queue] = ()  # queues in which this person may not do it
    most: int | None = None


# -- making


class _Making:
    """What is gathered while a plan's entries are frozen."""

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.entries = self.bytes = 0
        self._queues: Counter[str] = Counter()
        self._domains: Counter[str] = Counter()
        self._senders: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        self._samples: list[Sample] = []

    def take(self, rows: list[Any]) -> list[tuple[Any, ...]]:
        """Those of a page that belong to the plan, as `book.add` wants them."""
        frozen = []
        for ident, number, *state, lease, size, recipient, sender, subject in rows:
            queue = codes.shown(number)
            sound = codes.is_placed(number, state[0]) and _is_readable(recipient, size)
            why = self._why_not(queue, number, lease, sender) if sound or number == codes.LEAVING else DAMAGED
            if why:
                self._left_out[why] += 1
                continue
            if len(self._samples) < SAMPLES:
                self._samples.append(Sample(public_id(ident), queue.value, sender, recipient, subject, size))
            frozen.append((ident, number, *state, self._counted(queue, recipient, sender, size)))
        return frozen

    def _counted(self, queue: Queue, recipient: str, sender: str, size: int) -> int:
        """Its turn among the entries for the same domain."""
        self._count(self._senders, sender or "<>")
        self._queues[queue.value] += 1
        self.entries += 1
        self.bytes += size
        return self._count(self._domains, recipient.rpartition("@")[2].lower())

    def _why_not(self, queue: Queue, number: int, lease: int | None, sender: str) -> str:
        wish = self._wish
        return left_out(
            wish.action, LEAVING if number == codes.LEAVING else queue, leased=lease is not None,
            null_sender=not sender,
            permitted=queue not in wish.barred,
        )  # fmt: skip

    def _count(self, names: Counter[str], name: str) -> int:
        """How many of this name came before; beyond MOST_NAMES, new names share one count."""
        name = name if name in names or len(names) < MOST_NAMES else "others"
        names[name] += 1
        return names[name] - 1

    def summary(self) -> Summary:
        return Summary(
            _shares(self._queues, None),
            _shares(self._domains),
            _shares(self._senders),
            _shares(self._left_out, None),
            self._samples,
        )


def _is_readable(recipient: object, size: object) -> bool:
    return isinstance(recipient, str) and codes.is_number(size, codes.LARGEST)


def _shares(names: Counter[str], most: int | None = SHARES) -> list[Share]:
    return [Share(name, number) for name, number in names.most_common(most)]


def make(store: Store, wish: Wish, settings: Plans, clock: Clock, told: Told = lambda number: None) -> Verb[Plan]:
    """Freeze the entries that the query finds now. Nothing is done to them yet."""
    now = clock.now()
    gap = settings.retry_window // settings.retry_rate
    most = min(settings.max_entries, wish.most or settings.max_entries)
    ident: int = yield Change(lambda tx: _begin(store, tx, wish, gap, now, now + settings.expiry))
    making, pace, after = _Making(wish), Pace(PAGE), 0
    newest: int = yield Look(lambda reader: int(reader.tx.rows(_NEWEST)[0][0]))
    while True:
        within = bounds(wish.filter, newest)
        page = _page(wish.filter, Bounds(max(within.low, after + 1), within.high), now, making)
        number, last, frozen = yield Look(page)
        if making.entries > most:
            yield Change(lambda tx: book.give_up(tx, ident))
            raise PlanRefused(
                f"more than {most:,} entries are meant: one plan of yours may have {most:,}; narrow the query"
            )
        while frozen:
            part, frozen = frozen[: pace.size], frozen[pace.size :]
            yield Change(pace.timed(partial(_freeze, ident, part)))
            pace.committed()
        told(number)
        if number < PAGE:
            break
        after = last
    summary, entries, size = making.summary(), making.entries, making.bytes
    yield Change(lambda tx: book.ready(tx, ident, entries, size, summary))
    plan: Plan = yield Look(lambda reader: book.read(reader.tx, ident))
    return plan


def _begin(store: Store, tx: Tx, wish: Wish, gap: Millis, created: Millis, expires: Millis) -> int:
    ident = store.context().ids.next()
    book.begin(
        tx, ident, action=wish.action, query=wish.query, planner=wish.actor, notify=wish.notify, gap=gap,
        created=created, expires=expires,
    )  # fmt: skip
    return ident


def _freeze(ident: int, part: list[tuple[Any, ...]], tx: Tx) -> None:
    book.add(tx, ident, part)


def _page(
    filter: Filter, within: Bounds, now: Millis, making: _Making
) -> Callable[[Reader], tuple[int, int, list[Any]]]:
    """(number of rows, the last of them, those to be frozen). Rows are sorted in the reader thread, not on the event
    loop."""

    def look(reader: Reader) -> tuple[int, int, list[Any]]:
        def page(parts: Sources) -> list[Any]:
            if not parts.parts:
                return []
            ids, values = parts.page(PAGE, descending=False)
            return reader.tx.rows(named("plans.page", _PAGE.format(ids)), values)

        rows = reader.searches.run(filter, within, now, page)
        return len(rows), rows[-1][0] if rows else 0, making.take(rows)

    return look


# -- applying and undoing


def apply(
    store: Store, ident: int, settings: Plans, clock: Clock, *, actor: str, reason: str,
    told: Told = lambda number: None,
) -> Verb[Plan]:  # fmt: skip
    """Do the action to exactly what was frozen. Called again for the same plan, it goes on where it was interrupted."""
    if not reason.strip():
        raise PlanRefused("a reason is needed: it stands in the timelines and in the audit log")
    plan: Plan = yield Look(lambda reader: book.read(reader.tx, ident))
    if plan.state == "ready":
        changed = yield Look(lambda reader: steps.count_changed(reader.tx, ident))
        if changed * 100 > plan.entries * settings.max_changed:
            raise PlanRefused(
                f"{changed:,} of {plan.entries:,} entries have changed since they were planned, more than the "
                f"{settings.max_changed} percent of [plans] max_changed: make the plan anew"
            )
    yield Change(
        lambda tx: steps.start(
            tx, ident, "applying", of=("ready",), who=actor, reason=reason, now=clock.now(), window=settings.undo_window
        )
    )  # fmt: skip

    def step(tx: Tx, size: int) -> Step:
        return steps.apply(tx, store.context(), ident, size, clock.now(), settings.undo_window)

    return (yield from _steps(ident, step, Pace(), told))


def undo(store: Store, ident: int, clock: Clock, *, actor: str, told: Told = lambda number: None) -> Verb[Plan]:
    """Put everything back to where it was, except what has left or changed since."""
    yield Change(
        lambda tx: steps.start(tx, ident, "undoing", of=("applied", "applying"), who=actor, reason="", now=clock.now())
    )
    return (yield from _steps(ident, partial(_undoing, store, clock, ident), Pace(), told))


def _undoing(store: Store, clock: Clock, ident: int, tx: Tx, size: int) -> Step:
    return steps.undo(tx, store.context(), ident, size, clock.now())


def _ending(store: Store, clock: Clock, ident: int, tx: Tx, size: int) -> Step:
    return steps.end(tx, store.context(), ident, size, clock.now())


def _steps(
    ident: int, step: Callable[[Tx, int], Step], pace: Pace, told: Told, most: int | None = None,
    committed: Callable[[Step], None] = lambda step: None,
) -> Verb[Plan]:  # fmt: skip
    taken = 0
    while most is None or taken < most:
        size = pace.size
        done: Step = yield Change(pace.timed(lambda tx, size=size: step(tx, size)))  # type: ignore[misc]
        pace.committed()
        committed(done)
        told(done.entries)
        taken += done.entries
        if done.finished:
            break
    plan: Plan = yield Look(lambda reader: book.read(reader.tx, ident))
    return plan


# -- upkeep

ROUND = 2_000  # entries of one round; other upkeep waits meanwhile


def look_after(
    store: Store, clock: Clock, before: Millis, hurt: Callable[[Damaged], None] = lambda plan: None
) -> Verb[int]:  # fmt: skip
    """One round: end entries whose undo window is over, expire plans that nobody applied, forget plans from `before`.
    How many entries ended. A damaged plan is left alone, and given to `hurt` in each round."""
    now = clock.now()
    ended = 0
    for ident in (yield Look(lambda reader: book.over(reader.tx, now))):
        plan: Plan | Damaged = yield Look(lambda reader, ident=ident: book.look(reader.tx, ident))  # type: ignore[misc]
        if isinstance(plan, Damaged):
            hurt(plan)
            continue
        if plan.state == "undoing":  # begun before the window was over, and interrupted
            yield from _steps(ident, partial(_undoing, store, clock, ident), Pace(), lambda number: None)
            continue
        yield Change(lambda tx, ident=ident: _close(tx, ident, now))  # type: ignore[misc]
        tells = steps.order_of(plan, now).tells
        step = partial(_ending, store, clock, ident)
        done: Plan = yield from _steps(
            ident, step, Pace(NOTICED if tells else MOST), lambda number: None, ROUND, _ended(store, plan.action)
        )
        ended += done.ended - plan.ended
        if done.state == "ending":
            return ended
    yield from _forget(now, before)
    return ended


def _ended(store: Store, action: Action) -> Callable[[Step], None]:
    """After the commit of a step: count its ends, delete the bodies that are not needed any more."""

    def committed(step: Step) -> None:
        if step.ended:
            store.count_ended(ENDING[action], step.ended)
        for name in step.objects:
            store.bodies.delete(name)

    return committed


def _close(tx: Tx, ident: int, now: Millis) -> None:
    """The window is over: nobody can undo it any more."""
    steps.start(tx, ident, "ending", of=("applied", "applying"), who="", reason="", now=now)


def _forget(now: Millis, before: Millis) -> Verb[None]:
    if (yield Look(lambda reader: book.any_unapplied(reader.tx, now))):
        yield Change(lambda tx: book.expire(tx, now))
    pace = Pace()
    while (ident := (yield Look(lambda reader: book.forgettable(reader.tx, before)))) is not None:
        gone = False
        while not gone:
            gone = yield Change(pace.timed(partial(_drop, ident, pace)))
            pace.committed()


def _drop(ident: int, pace: Pace, tx: Tx) -> bool:
    return book.drop(tx, ident, pace.size)
