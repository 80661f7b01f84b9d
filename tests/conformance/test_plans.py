"""Plans: freeze, apply, undo, and what ends only when the undo window is over; the ledger agrees at every step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from postroom.clock import HOUR, MINUTE, SECOND, HandClock
from postroom.facts import scan
from postroom.model import Action, Entry, Filter, Order, Outcome, Queue
from postroom.query import parse
from postroom.rules.lifecycle import NOT_PERMITTED_TEXT, NULL_SENDER_TEXT
from postroom.settings import Plans
from postroom.store import Accepted, Store, Write, logs, plans, verify
from tests.conformance.conftest import Opener
from tests.conformance.driven import (
    a_message,
    accepted,
    claimed,
    delivered,
    difference,
    hand,
    put_off,
    released,
    shown,
)

SETTINGS = Plans()
WINDOW = SETTINGS.undo_window
MANY = 450  # entries: several steps of every plan
CHANGED, GONE, LEASED = "something has happened to it since", "it has left the queue", "it is being worked on"


def fill(store: Store, number: int, **given: Any) -> list[int]:
    body = b"From: alice@corp.example\r\nSubject: Quarterly report\r\nMessage-ID: <1@x.example>\r\n\r\nHello\r\n"
    told = {"body": body, "facts": scan(body), "body_hash": sha256(b"Hello\r\n").digest(), "size": len(body)}
    messages = [a_message(f"r{i}@d{i % 3}.example", **given) for i in range(number)]
    answers = hand(store, *(msgspec.structs.replace(message, **told) for message in messages)).arrivals
    assert all(isinstance(answer, Accepted) for answer in answers)
    return [answer.entries[0] for answer in answers if isinstance(answer, Accepted)]


def make(store: Store, clock: HandClock, action: Action, query: str = "", **more: Any) -> plans.Plan:
    settings = more.pop("settings", SETTINGS)
    wish = plans.Wish(action, parse(query, clock.now()), query, "cli:ann", **more)
    return plans.carry_out_now(store, plans.make(store, wish, settings, clock))


def apply(store: Store, clock: HandClock, plan: plans.Plan, settings: Plans = SETTINGS) -> plans.Plan:
    return plans.carry_out_now(store, plans.apply(store, plan.id, settings, clock, actor="cli:ann", reason="a test"))


def undo(store: Store, clock: HandClock, plan: plans.Plan) -> plans.Plan:
    return plans.carry_out_now(store, plans.undo(store, plan.id, clock, actor="cli:bob"))


def look_after(store: Store, clock: HandClock, before: int = 0) -> int:
    return plans.carry_out_now(store, plans.look_after(store, clock, before))


def rows(store: Store) -> list[Entry]:
    """Everything about every entry that waits."""
    return store.read_now().find(Filter(), limit=10_000, order=Order.OLDEST)


def sound(store: Store, clock: HandClock) -> None:
    report = verify.run(store, clock=clock)
    assert report.wrong == 0, report.results
    assert difference(store) == 0


def entry_of(store: Store, ident: int) -> Entry:
    found = store.read_now().entry(ident)
    assert found is not None
    return found


def mixed(store: Store, clock: HandClock) -> list[int]:
    """Entries of every queue, some that have waited."""
    entries = fill(store, 6)
    entries += fill(store, 3, queue=Queue.BULK)
    entries += fill(store, 3, queue=Queue.SYSTEM, sender="")
    store.act_now(Action.HOLD, entries[:2] + entries[9:10], actor="ann", reason="looks odd")
    put_off(store, clock, clock.now() + HOUR)
    clock.move(MINUTE)
    return entries


def test_a_plan_shows_what_it_would_do_and_does_nothing(store: Store, clock: HandClock) -> None:
    entries = fill(store, 4)
    (leased,) = accepted(store, a_message(), lease_until=clock.now() + HOUR).entries
    store.act_now(Action.HOLD, entries[3:], actor="ann")
    before = rows(store)
    plan = make(store, clock, Action.HOLD, "subject:report")
    assert (plan.state, plan.entries, plan.planner, plan.query) == ("ready", 3, "cli:ann", "subject:report")
    assert plan.bytes == sum(entry_of(store, ident).size for ident in entries[:3])
    summary = plan.summary
    assert [(share.name, share.entries) for share in summary.senders] == [("alice@corp.example", 3)]
    assert {share.name for share in summary.domains} == {"d0.example", "d1.example", "d2.example"}
    assert {share.name: share.entries for share in summary.left_out} == {
        "held already": 1, "being worked on just now": 1,
    }  # fmt: skip
    assert [sample.recipient for sample in summary.samples] == ["r0@d0.example", "r1@d1.example", "r2@d2.example"]
    assert rows(store) == before
    assert leased not in [one.id for one in store.read_now().ask(plans.entries(plan.id))]


@pytest.mark.parametrize("action", list(Action))
def test_every_action_is_taken_back_to_exactly_the_state_before(store: Store, clock: HandClock, action: Action) -> None:
    mixed(store, clock)
    before = rows(store)
    plan = make(store, clock, action)
    assert plan.entries
    clock.move(SECOND)
    applied = apply(store, clock, plan)
    assert (applied.state, applied.done, applied.skipped) == ("applied", plan.entries, 0)
    assert rows(store) != before
    sound(store, clock)
    clock.move(WINDOW - SECOND)
    assert look_after(store, clock) == 0
    undone = undo(store, clock, plan)
    assert (undone.state, undone.undone, undone.kept, undone.undoer) == ("undone", plan.entries, 0, "cli:bob")
    assert rows(store) == before
    sound(store, clock)
    clock.move(HOUR)
    assert look_after(store, clock) == 0
    assert rows(store) == before
    kinds = [line.kind for line in store.read_now().ask(logs.list_audit(kind="plan"))]
    assert kinds == ["plan.undo", "plan.undo", "plan.apply", "plan.apply"]


@pytest.mark.parametrize(
    ("action", "outcome"),
    [(Action.REJECT, Outcome.REJECTED), (Action.BOUNCE, Outcome.BOUNCED), (Action.DELETE, Outcome.DELETED)],
)
def test_what_a_plan_ends_is_kept_hidden_and_counted_until_the_window_is_over(
    store: Store, clock: HandClock, action: Action, outcome: Outcome
) -> None:
    entries = fill(store, 5)
    store.act_now(Action.HOLD, entries[:1], actor="ann", reason="looks odd")
    plan = apply(store, clock, make(store, clock, action, notify=True))
    reader = store.read_now()
    assert reader.find(Filter(), limit=10) == []
    assert reader.count(Filter()) == reader.count(parse("subject:report", clock.now())) == 0
    assert sum(reader.queue_counts().values()) == 0
    assert reader.leaving() == 5
    assert [entry.id for entry in [entry_of(store, ident) for ident in entries]] == entries
    assert store.act_now(Action.RELEASE, entries, actor="ann").refused[0][1].startswith("leaving: ")
    assert difference(store) == 0
    clock.move(WINDOW)
    with pytest.raises(plans.PlanRefused, match="its window is over"):
        undo(store, clock, plan)
    assert look_after(store, clock) == 5
    sound(store, clock)
    ended = reader.ended(entries[0])
    assert ended is not None
    assert (ended.outcome, ended.queue, ended.ended) == (outcome, Queue.HELD, clock.now())
    assert ended.reply.endswith("by a person: a test")
    assert [event.kind for event in reader.events(entries[1])][-2:] == ["leaving", outcome.value]
    told = 0 if action is Action.DELETE else 5
    assert reader.queue_counts()[Queue.SYSTEM] == told  # notices are made only now
    assert store.counts.ended[outcome] == 5
    assert [(line.entry, line.held_for) for line in released(store)] == (
        [(entries[0], "Held by a person: looks odd")] if action is Action.REJECT else []
    )
    final = reader.ask(plans.read(plan.id))
    assert (final.state, final.ended, final.finished) == ("final", 5, clock.now())
    became = reader.ask(plans.entries(plan.id))
    assert [(one.id, one.state) for one in became] == [(ident, "ended") for ident in entries]


def test_a_bounce_leaves_out_what_has_no_sender(store: Store, clock: HandClock) -> None:
    fill(store, 2, sender="", queue=Queue.SYSTEM)
    plan = make(store, clock, Action.BOUNCE)
    assert plan.entries == 0
    assert [(share.name, share.entries) for share in plan.summary.left_out] == [(NULL_SENDER_TEXT, 2)]


def test_what_changed_or_left_since_is_skipped_and_told(store: Store, clock: HandClock) -> None:
    entries = fill(store, 30)
    plan = make(store, clock, Action.DELETE)
    store.act_now(Action.HOLD, entries[:1], actor="ann")
    store.act_now(Action.REJECT, entries[1:2], actor="ann")
    (lease,) = claimed(store, limit=1)
    assert lease.entry == entries[2]
    applied = apply(store, clock, plan)
    assert (applied.done, applied.skipped) == (27, 3)
    told = store.read_now().ask(plans.entries(plan.id, states=("skipped",)))
    assert [(one.id, one.why) for one in told] == [
        (entries[0], CHANGED), (entries[1], GONE),
        (entries[2], LEASED),
    ]  # fmt: skip
    assert entry_of(store, entries[0]).queue is Queue.HELD
    assert difference(store) == 0


def test_too_much_changed_refuses_the_plan(store: Store, clock: HandClock) -> None:
    entries = fill(store, 10)
    plan = make(store, clock, Action.HOLD)
    store.act_now(Action.HOLD, entries[:2], actor="ann")
    before = rows(store)
    with pytest.raises(plans.PlanRefused, match="2 of 10 entries have changed"):
        apply(store, clock, plan)
    assert rows(store) == before
    assert apply(store, clock, plan, msgspec.structs.replace(SETTINGS, max_changed=20)).done == 8


def test_what_happened_since_is_not_undone(store: Store, clock: HandClock) -> None:
    entries = fill(store, 4)
    plan = apply(store, clock, make(store, clock, Action.HOLD))
    store.act_now(Action.RELEASE, entries[:1], actor="ann")
    store.act_now(Action.REJECT, entries[1:2], actor="ann")
    undone = undo(store, clock, plan)
    assert (undone.undone, undone.kept) == (2, 2)
    kept = store.read_now().ask(plans.entries(plan.id, states=("kept",)))
    assert [(one.id, one.why) for one in kept] == [
        (entries[0], CHANGED), (entries[1], GONE),
    ]  # fmt: skip
    sound(store, clock)


def test_a_retry_of_many_is_spread_by_destination_and_delays_nobody(store: Store, clock: HandClock) -> None:
    entries = fill(store, 9)  # three destinations
    later = clock.now() + HOUR
    put_off(store, clock, later, {entries[8]: 5})
    slow = msgspec.structs.replace(SETTINGS, retry_rate=2, retry_window=SECOND)
    plan = make(store, clock, Action.RETRY, settings=slow)
    clock.move(MINUTE)
    now = clock.now()
    apply(store, clock, plan, slow)
    due = [entry_of(store, ident).next_attempt for ident in entries]
    assert due == [now] * 3 + [now + 500] * 3 + [now + 1000] * 2 + [5]


def test_a_plan_is_applied_once_and_undone_once(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    plan = make(store, clock, Action.HOLD)
    with pytest.raises(plans.PlanRefused, match="is ready: expected applied"):
        undo(store, clock, plan)
    with pytest.raises(plans.PlanRefused, match="a reason is needed"):
        plans.carry_out_now(store, plans.apply(store, plan.id, SETTINGS, clock, actor="ann", reason=" "))
    apply(store, clock, plan)
    with pytest.raises(plans.PlanRefused, match="is applied: expected ready"):
        apply(store, clock, plan)
    undo(store, clock, plan)
    with pytest.raises(plans.PlanRefused, match="is undone: expected applied"):
        undo(store, clock, plan)


def test_a_plan_expires_and_is_forgotten_with_its_entries(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    plan = make(store, clock, Action.HOLD)
    clock.move(SETTINGS.expiry)
    with pytest.raises(plans.PlanRefused, match="has expired"):
        apply(store, clock, plan)
    look_after(store, clock)
    reader = store.read_now()
    assert reader.ask(plans.read(plan.id)).state == "expired"
    clock.move(HOUR)
    look_after(store, clock, before=clock.now())
    with pytest.raises(plans.NoSuchPlan):
        reader.ask(plans.read(plan.id))
    assert reader.ask(plans.entries(plan.id)) == []
    assert reader.ask(plans.latest(10)) == []


def test_a_limit_refuses_a_plan_that_is_too_large(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    with pytest.raises(plans.PlanRefused, match="more than 2 entries"):
        make(store, clock, Action.HOLD, most=2)
    assert make(store, clock, Action.HOLD, most=3).entries == 3


def test_barred_queues_are_left_out(store: Store, clock: HandClock) -> None:
    entries = fill(store, 3)
    store.act_now(Action.HOLD, entries[:1], actor="ann")
    plan = make(store, clock, Action.DELETE, barred=(Queue.HELD,))
    assert plan.entries == 2
    assert [(share.name, share.entries) for share in plan.summary.left_out] == [(NOT_PERMITTED_TEXT, 1)]


class Crash(Exception):
    """The process ends here."""


def _crash(result: object) -> None:
    raise Crash


@contextmanager
def crash(store: Store, at: int) -> Iterator[None]:
    """The process ends after so many writes of a command."""
    write, left = store.write_now, at

    def counted(function: Callable[[Any], Any]) -> Any:
        nonlocal left
        if left == 0:
            raise Crash
        left -= 1
        return write(function)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "write_now", counted)
        yield


@pytest.mark.parametrize("action", [Action.DELETE, Action.BOUNCE, Action.HOLD])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_between_any_two_steps_leaves_the_ledger_at_zero(
    opening: Opener, clock: HandClock, action: Action, at: int
) -> None:
    store = opening()
    fill(store, MANY)
    before = rows(store)
    plan = make(store, clock, action)
    with crash(store, at), pytest.raises(Crash):
        apply(store, clock, plan)
    store.close()
    store = opening()
    sound(store, clock)
    assert apply(store, clock, plan).done == MANY  # goes on where it was interrupted
    with crash(store, at), pytest.raises(Crash):
        undo(store, clock, plan)
    store.close()
    store = opening()
    sound(store, clock)
    clock.move(WINDOW)  # an undo that was begun in time is finished by upkeep
    look_after(store, clock)
    assert store.read_now().ask(plans.read(plan.id)).state == "undone"
    assert rows(store) == before
    sound(store, clock)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_while_the_window_ends_leaves_the_ledger_at_zero(opening: Opener, clock: HandClock, at: int) -> None:
    store = opening()
    entries = fill(store, 100)
    plan = apply(store, clock, make(store, clock, Action.BOUNCE))
    clock.move(WINDOW)
    with crash(store, at), pytest.raises(Crash):
        look_after(store, clock)
    store.close()
    store = opening()
    sound(store, clock)
    look_after(store, clock)
    sound(store, clock)
    assert store.read_now().ask(plans.read(plan.id)).ended == 100
    assert store.read_now().queue_counts()[Queue.SYSTEM] == 100
    assert all(store.read_now().ended(ident) for ident in entries)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_step_that_fails_changes_nothing(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    entries = fill(store, MANY)
    plan = make(store, clock, Action.DELETE)
    before: list[object] = []
    write, left = store.write_now, at

    def failing(function: Callable[[Any], Any]) -> Any:
        nonlocal left
        if left:
            left -= 1
            return write(function)
        before.append(shown(store, entries))

        return write(Write(function).then(_crash))

    monkeypatch.setattr(store, "write_now", failing)
    with pytest.raises(Crash):
        apply(store, clock, plan)
    monkeypatch.undo()
    assert before == [shown(store, entries)]
    assert difference(store) == 0
    assert apply(store, clock, plan).done == MANY
    sound(store, clock)


def test_random_plans_beside_other_work_keep_the_ledger_at_zero(store: Store, clock: HandClock) -> None:
    rng = random.Random(7)
    open_plans: list[plans.Plan] = []
    tolerant = msgspec.structs.replace(SETTINGS, max_changed=100)
    doing: dict[str, Callable[[], None]] = {
        "mail": lambda: fill(store, 5) and None,
        "plan": lambda: open_plans.append(
            apply(store, clock, make(store, clock, rng.choice(list(Action))), tolerant)
        ),
        "undo": lambda: _try_undo(store, clock, open_plans, rng),
        "time": lambda: clock.move(rng.randrange(WINDOW // 2)),
        "upkeep": lambda: look_after(store, clock) and None,
        "end": lambda: _end_some(store, clock),
    }  # fmt: skip
    for _ in range(60):
        doing[rng.choice(list(doing))]()
        assert difference(store) == 0
    clock.move(2 * WINDOW)
    look_after(store, clock)
    assert store.read_now().leaving() == 0
    sound(store, clock)


def _try_undo(store: Store, clock: HandClock, open_plans: list[plans.Plan], rng: random.Random) -> None:
    if open_plans:
        plan = open_plans.pop(rng.randrange(len(open_plans)))
        try:
            undo(store, clock, plan)
        except plans.PlanRefused as why:
            assert "window is over" in str(why) or "is final" in str(why)  # noqa: PT017 - either is right


def _end_some(store: Store, clock: HandClock) -> None:
    """A worker takes what waits and delivers it."""
    hand(store, *(delivered(lease, clock.now()) for lease in claimed(store, limit=3)))
