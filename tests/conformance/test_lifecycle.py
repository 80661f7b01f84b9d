"""Every action, in every queue, leased or not, does in the store what rules/lifecycle says: alone, and in a plan."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec
import pytest

from postroom.clock import DAY, HOUR, MINUTE, SECOND, HandClock
from postroom.model import Action, Filter, Queue
from postroom.rules.lifecycle import (
    ACTIONS,
    ENDED,
    ENDING,
    LEAVING,
    MOVES,
    WORKED_ON,
    Cause,
    Place,
    asked,
    left_out,
    may,
)
from postroom.settings import Plans
from postroom.store import Lease, Store, plans
from tests.conformance.driven import a_message, accepted, claimed, deferred, hand, moved, on_loop

SETTINGS = msgspec.structs.replace(Plans(), max_changed=100)


class Case(NamedTuple):
    """Where an entry is before the action."""

    queue: Queue
    leased: bool
    notice: bool  # null sender


def cases(store: Store, clock: HandClock) -> dict[int, Case]:
    """One entry for every queue, leased and not, with a sender and without. (No call leases what is held.)"""
    made: dict[int, Case] = {}
    for queue in Queue:
        for leased in (False, True):
            if queue is Queue.HELD and leased:
                continue
            for notice in (False, True):
                case = Case(queue, leased, notice)
                made[_placed(store, clock, case)] = case
    clock.move(MINUTE)
    return made


def _placed(store: Store, clock: HandClock, case: Case) -> int:
    now, later = clock.now(), clock.now() + HOUR
    first = Queue.PROCESSING if case.queue in (Queue.DELIVERY, Queue.HELD) else case.queue
    new = a_message(sender="" if case.notice else "alice@corp.example", queue=first)
    got = accepted(store, new, lease_until=later)
    (ident,) = got.entries
    lease = Lease(ident, ident, got.message.id, first, "bob@corp.example", 1, later, now)
    if case.queue is not first:
        hand(store, moved(lease, now))
        lease = msgspec.structs.replace(lease, queue=Queue.DELIVERY)
    waits = deferred(lease, now, later)
    if case.queue is Queue.HELD:
        waits = msgspec.structs.replace(waits, queue=Queue.HELD, from_queue=Queue.DELIVERY, kind="held")
    if not case.leased:
        hand(store, waits)
    return ident


def place_of(store: Store, ident: int) -> Place:
    reader = store.read_now()
    entry = reader.entry(ident)
    if entry is None:
        assert reader.ended(ident) is not None
        return ENDED
    return entry.queue if reader.count(Filter(ids=(ident,))) else LEAVING


def places_of(store: Store, made: dict[int, Case]) -> dict[int, Place]:
    return {ident: place_of(store, ident) for ident in made}


def last_event(store: Store, ident: int) -> str:
    return store.read_now().events(ident)[-1].kind


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("held", [None, True, False])
def test_an_action_alone(store: Store, clock: HandClock, action: Action, held: bool | None) -> None:
    alone(store, cases(store, clock), action, held)


def alone(store: Store, made: dict[int, Case], action: Action, held: bool | None) -> None:
    """The action does to each entry what the rules say."""
    report = on_loop(store, lambda: store.act(action, list(made), actor="cli:ann", reason="a test", held=held))
    answers = {ident: asked(action, case.queue, leased=case.leased, held=held) for ident, case in made.items()}
    assert dict(report.refused) == {ident: answer.refused for ident, answer in answers.items() if answer.refused}
    assert set(report.requested) == {ident for ident, answer in answers.items() if answer.request}
    for ident, case in made.items():
        if ident in report.done:
            assert may(action, case.queue, place_of(store, ident))
            assert last_event(store, ident) == ACTIONS[action].event
            outcome = ENDING.get(action)
            ended = store.read_now().ended(ident)
            assert (ended and ended.outcome) == outcome
        else:
            assert place_of(store, ident) is case.queue
        if ident in report.requested:
            assert last_event(store, ident) == "requested"


def _made(store: Store, clock: HandClock, action: Action, settings: Plans = SETTINGS) -> plans.Plan:
    wish = plans.Wish(action, Filter(), "", "cli:ann")
    return plans.carry_out_now(store, plans.make(store, wish, settings, clock))


def _applied(store: Store, clock: HandClock, plan: plans.Plan, settings: Plans = SETTINGS) -> plans.Plan:
    return plans.carry_out_now(store, plans.apply(store, plan.id, settings, clock, actor="cli:ann", reason="a test"))


@pytest.mark.parametrize("action", list(Action))
def test_an_action_in_a_plan_and_its_undo(store: Store, clock: HandClock, action: Action) -> None:
    planned_and_undone(store, clock, cases(store, clock), action)


def planned_and_undone(store: Store, clock: HandClock, made: dict[int, Case], action: Action) -> None:
    """A plan does what the rules say of it, and its undo takes that back."""
    plan = _made(store, clock, action)
    whys = {
        ident: left_out(action, case.queue, leased=case.leased, null_sender=case.notice) for ident, case in made.items()
    }
    assert {share.name: share.entries for share in plan.summary.left_out} == Counter(filter(None, whys.values()))
    taken = {ident for ident, why in whys.items() if not why}
    assert {one.id for one in store.read_now().ask(plans.entries(plan.id))} == taken

    applied = _applied(store, clock, plan)
    assert (applied.done, applied.skipped) == (len(taken), 0)
    after = places_of(store, made)
    cause = Cause.PLANNED_END if action in ENDING else action
    for ident, case in made.items():
        if ident in taken:
            assert may(cause, case.queue, after[ident])
            assert last_event(store, ident) == ("leaving" if action in ENDING else ACTIONS[action].event)
        else:
            assert after[ident] is case.queue

    clock.move(SECOND)
    undone = plans.carry_out_now(store, plans.undo(store, plan.id, clock, actor="cli:bob"))
    assert (undone.undone, undone.kept) == (len(taken), 0)
    assert places_of(store, made) == {ident: case.queue for ident, case in made.items()}
    for ident in taken:
        assert may(Cause.UNDONE, after[ident], made[ident].queue)
        assert last_event(store, ident) == "undone"


@pytest.mark.parametrize("action", list(Action))
def test_a_plan_does_nothing_to_what_is_leased_when_its_turn_comes(
    store: Store, clock: HandClock, action: Action
) -> None:
    made = cases(store, clock)
    settings = msgspec.structs.replace(SETTINGS, expiry=DAY)
    plan = _made(store, clock, action, settings)
    planned = [one.id for one in store.read_now().ask(plans.entries(plan.id))]
    free = {ident for ident in planned if made[ident].queue is Queue.HELD}
    clock.move(HOUR)
    leased = {lease.entry for queue in WORKED_ON for lease in claimed(store, queue, 100)}
    assert leased >= set(planned) - free
    applied = _applied(store, clock, plan, settings)
    assert (applied.done, applied.skipped) == (len(free), plan.entries - len(free))
    skipped = [one for one in store.read_now().ask(plans.entries(plan.id)) if one.state == "skipped"]
    assert {one.id for one in skipped} == set(planned) - free
    assert {one.why for one in skipped} <= {"it is being worked on"}
    for ident, case in made.items():
        assert ident in free or place_of(store, ident) is case.queue


@pytest.mark.parametrize("action", list(ENDING))
def test_what_a_plan_ends_leaves_when_its_window_is_over(store: Store, clock: HandClock, action: Action) -> None:
    planned_and_over(store, clock, cases(store, clock), action)


def planned_and_over(store: Store, clock: HandClock, made: dict[int, Case], action: Action) -> None:
    """What a plan has ended is in the history when its undo window is over, and nothing else is."""
    plan = _applied(store, clock, _made(store, clock, action))
    clock.move(SETTINGS.undo_window + SECOND)
    assert plans.carry_out_now(store, plans.look_after(store, clock, 0)) == plan.done
    for ident, case in made.items():
        why = left_out(action, case.queue, leased=case.leased, null_sender=case.notice)
        assert place_of(store, ident) is (case.queue if why else ENDED)
    assert MOVES[Cause.WINDOW_OVER] == {LEAVING: (ENDED,)}
