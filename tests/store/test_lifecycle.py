"""Every action, in every queue, leased or not, does in the store what rules/lifecycle says: alone, and in a plan."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec
import pytest

from postroom.clock import HOUR, MINUTE, SECOND, HandClock
from postroom.model import Action, Filter, Queue
from postroom.rules.lifecycle import (
    ACTIONS,
    ENDED,
    ENDING,
    LEAVING,
    MOVES,
    Cause,
    Place,
    asked,
    left_out,
    may,
)
from postroom.settings import Plans
from postroom.store import codes
from postroom.store.plans import book as plan_book
from postroom.store.plans import commands as plans
from postroom.store.plans.book import Plan
from postroom.store.plans.run import run_now
from postroom.store.queue.actions import Instruction
from postroom.store.store import Store
from tests.store.conftest import a_message, accepted

SETTINGS = msgspec.structs.replace(Plans(), max_changed=100)


class Case(NamedTuple):
    """Where an entry is before the action."""

    queue: Queue
    leased: bool
    notice: bool  # null sender


def cases(store: Store, clock: HandClock) -> dict[int, Case]:
    """One entry for every queue, leased and not, with a sender and without."""
    made: dict[int, Case] = {}
    for queue in Queue:
        for leased in (False, True):
            for notice in (False, True):
                (ident,) = accepted(store, a_message(sender="" if notice else "alice@corp.example")).entries
                made[ident] = Case(queue, leased, notice)
    clock.move(MINUTE)

    def place(ident: int, case: Case) -> None:
        back = codes.QUEUE[Queue.DELIVERY] if case.queue is Queue.HELD else None
        lease, until = (ident, clock.now() + HOUR) if case.leased else (None, None)
        store.write_now(
            lambda tx: tx.rows(
                "UPDATE entry SET queue = ?, from_queue = ?, lease = ?, locked_until = ?, next_attempt = ? "
                "WHERE id = ?",
                (codes.QUEUE[case.queue], back, lease, until, clock.now() + HOUR, ident),
            )
        )

    for ident, case in made.items():
        place(ident, case)
    return made


def place_of(store: Store, ident: int) -> Place:
    rows = store.read_now().tx.rows("SELECT queue FROM entry WHERE id = ?", (ident,))
    if not rows:
        assert store.read_now().ended(ident) is not None
        return ENDED
    return LEAVING if rows[0][0] == codes.LEAVING else codes.QUEUES[rows[0][0]]


def places_of(store: Store, made: dict[int, Case]) -> dict[int, Place]:
    return {ident: place_of(store, ident) for ident in made}


def last_event(store: Store, ident: int) -> str:
    return store.read_now().events(ident)[-1].kind


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("held", [None, True, False])
def test_an_action_alone(store: Store, clock: HandClock, action: Action, held: bool | None) -> None:
    made = cases(store, clock)
    order = Instruction(action, "cli:ann", "a test", clock.now(), held=held)
    report = store.write_now(store._acting(order, list(made))).report
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


def _made(store: Store, clock: HandClock, action: Action) -> Plan:
    wish = plans.Wish(action, Filter(), "", "cli:ann")
    return run_now(store, plans.make(store, wish, SETTINGS, clock))


def _applied(store: Store, clock: HandClock, plan: Plan) -> Plan:
    return run_now(store, plans.apply(store, plan.id, SETTINGS, clock, actor="cli:ann", reason="a test"))


@pytest.mark.parametrize("action", list(Action))
def test_an_action_in_a_plan_and_its_undo(store: Store, clock: HandClock, action: Action) -> None:
    made = cases(store, clock)
    plan = _made(store, clock, action)
    whys = {
        ident: left_out(action, case.queue, leased=case.leased, null_sender=case.notice) for ident, case in made.items()
    }
    assert {share.name: share.entries for share in plan.summary.left_out} == Counter(filter(None, whys.values()))
    taken = {ident for ident, why in whys.items() if not why}
    assert {one.id for one in plan_book.entries(store.read_now().tx, plan.id)} == taken

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
    undone = run_now(store, plans.undo(store, plan.id, clock, actor="cli:bob"))
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
    plan = _made(store, clock, action)
    store.write_now(lambda tx: tx.rows("UPDATE entry SET lease = id, locked_until = ?", (clock.now() + HOUR,)))
    applied = _applied(store, clock, plan)
    assert (applied.done, applied.skipped) == (0, plan.entries)
    assert {one.why for one in plan_book.entries(store.read_now().tx, plan.id)} == {plan_book.WHY[plan_book.LEASED]}
    assert places_of(store, made) == {ident: case.queue for ident, case in made.items()}


@pytest.mark.parametrize("action", list(ENDING))
def test_what_a_plan_ends_leaves_when_its_window_is_over(store: Store, clock: HandClock, action: Action) -> None:
    made = cases(store, clock)
    plan = _applied(store, clock, _made(store, clock, action))
    clock.move(SETTINGS.undo_window + SECOND)
    assert run_now(store, plans.look_after(store, clock, 0)) == plan.done
    for ident, case in made.items():
        why = left_out(action, case.queue, leased=case.leased, null_sender=case.notice)
        assert place_of(store, ident) is (case.queue if why else ENDED)
    assert MOVES[Cause.WINDOW_OVER] == {LEAVING: (ENDED,)}
