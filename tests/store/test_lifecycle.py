"""Every action on entries in states that no call makes: held and leased. The rules say what becomes of them as well."""

from __future__ import annotations

import msgspec
import pytest

from postroom.clock import HOUR, HandClock
from postroom.model import Action, Filter, Queue
from postroom.rules.lifecycle import ENDING
from postroom.settings import Plans
from postroom.store import Store, plans
from tests.conformance.test_lifecycle import (
    Case,
    alone,
    cases,
    place_of,
    planned_and_over,
    planned_and_undone,
)

SETTINGS = msgspec.structs.replace(Plans(), max_changed=100)


def with_held_and_leased(store: Store, clock: HandClock) -> dict[int, Case]:
    """The entries of the conformance suite, and those that it cannot make."""
    made = cases(store, clock) | cases(store, clock)
    twice = [ident for ident, case in made.items() if case.queue is Queue.HELD][2:]
    assert len(twice) == 2
    lease(store, clock, twice)
    return made | {ident: made[ident]._replace(leased=True) for ident in twice}


def lease(store: Store, clock: HandClock, entries: list[int]) -> None:
    statement = "UPDATE entry SET lease = id, locked_until = ? WHERE id = ?"
    until = clock.now() + HOUR
    store.write_now(lambda tx: tx.many(statement, [(until, entry) for entry in entries]))


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("held", [None, True, False])
def test_an_action_alone(store: Store, clock: HandClock, action: Action, held: bool | None) -> None:
    alone(store, with_held_and_leased(store, clock), action, held)


@pytest.mark.parametrize("action", list(Action))
def test_an_action_in_a_plan_and_its_undo(store: Store, clock: HandClock, action: Action) -> None:
    planned_and_undone(store, clock, with_held_and_leased(store, clock), action)


@pytest.mark.parametrize("action", list(ENDING))
def test_what_a_plan_ends_leaves_when_its_window_is_over(store: Store, clock: HandClock, action: Action) -> None:
    planned_and_over(store, clock, with_held_and_leased(store, clock), action)


@pytest.mark.parametrize("action", list(Action))
def test_a_plan_does_nothing_to_what_is_leased_when_its_turn_comes(
    store: Store, clock: HandClock, action: Action
) -> None:
    made = cases(store, clock)
    wish = plans.Wish(action, Filter(), "", "cli:ann")
    plan = plans.carry_out_now(store, plans.make(store, wish, SETTINGS, clock))
    lease(store, clock, list(made))
    applying = plans.apply(store, plan.id, SETTINGS, clock, actor="cli:ann", reason="a test")
    applied = plans.carry_out_now(store, applying)
    assert (applied.done, applied.skipped) == (0, plan.entries)
    assert {one.why for one in store.read_now().ask(plans.entries(plan.id))} == {"it is being worked on"}
    assert {ident: place_of(store, ident) for ident in made} == {ident: case.queue for ident, case in made.items()}
