"""What the conformance suite cannot see of plans: every column, their own tables, how their statements are run."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.clock import HOUR, SECOND, HandClock
from postroom.model import Action, Queue
from postroom.store import Store
from postroom.store.engine import Tx
from postroom.store.plans import steps as plan_steps
from postroom.store.verify.plans import LOST_PLAN
from postroom.store.verify.proof import verify
from tests.conformance.driven import difference
from tests.conformance.test_plans import (
    MANY,
    SETTINGS,
    Crash,
    apply,
    crash,
    entry_of,
    fill,
    look_after,
    make,
    mixed,
    sound,
    undo,
)


def rows(store: Store) -> list[tuple[Any, ...]]:
    """Everything about every entry, and its reason as text."""
    return store.read_now().tx.rows(
        "SELECT e.*, i.text FROM entry AS e JOIN info AS i ON i.id = e.info_id ORDER BY e.id",
    )


@pytest.mark.parametrize("action", list(Action))
def test_an_undo_takes_back_every_column(store: Store, clock: HandClock, action: Action) -> None:
    mixed(store, clock)
    before = rows(store)
    plan = make(store, clock, action)
    assert rows(store) == before
    clock.move(SECOND)
    apply(store, clock, plan)
    assert rows(store) != before
    undo(store, clock, plan)
    assert rows(store) == before
    clock.move(HOUR)
    look_after(store, clock)
    assert rows(store) == before


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("action", [Action.DELETE, Action.BOUNCE, Action.HOLD])
def test_an_interrupted_plan_is_taken_back_to_every_column(
    store: Store, clock: HandClock, action: Action, at: int
) -> None:
    fill(store, MANY)
    before = rows(store)
    plan = make(store, clock, action)
    with crash(store, at), pytest.raises(Crash):
        apply(store, clock, plan)
    apply(store, clock, plan)
    with crash(store, at), pytest.raises(Crash):
        undo(store, clock, plan)
    undo(store, clock, plan)
    assert rows(store) == before


def test_a_plan_is_forgotten_with_its_rows(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    make(store, clock, Action.HOLD)
    clock.move(SETTINGS.expiry)
    look_after(store, clock)
    clock.move(HOUR)
    look_after(store, clock, before=clock.now())
    tx = store.read_now().tx
    for table in ("plan", "plan_entry", "plan_info"):
        assert tx.rows(f"SELECT count(*) FROM {table}") == [(0,)]


def test_verify_finds_what_waits_to_end_without_a_plan_and_holds_it(store: Store, clock: HandClock) -> None:
    entries = fill(store, 3)
    plan = apply(store, clock, make(store, clock, Action.DELETE, "to:r0"))
    sound(store, clock)
    store.write_now(lambda tx: tx.rows("DELETE FROM plan WHERE id = ?", (plan.id,)))
    assert verify(store, clock=clock).counts == {"entry-leaving": {"found": 1}}
    assert verify(store, clock=clock, repair=True).counts == {"entry-leaving": {"repaired": 1}}
    held = entry_of(store, entries[0])
    assert (held.queue, held.from_queue, held.info) == (Queue.HELD, Queue.PROCESSING, LOST_PLAN)
    sound(store, clock)


def test_a_failed_step_changes_nothing(store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, 4)
    plan = make(store, clock, Action.DELETE)
    before = rows(store)
    monkeypatch.setattr(plan_steps._Slice, "reach", _fail)
    with pytest.raises(Crash):
        apply(store, clock, plan)
    assert rows(store) == before
    assert difference(store) == 0


def _fail(*_: Any, **__: Any) -> None:
    raise Crash


def test_a_reason_that_the_dictionary_has_forgotten_comes_back_with_an_undo(store: Store, clock: HandClock) -> None:
    (entry,) = fill(store, 1)
    store.act_now(Action.HOLD, [entry], actor="ann", reason="very rare")
    before = rows(store)
    plan = apply(store, clock, make(store, clock, Action.DELETE))

    def sweep(
        tx: Tx,
    ) -> None:  # what a sweep of the dictionary may do, and another text take the id
        store.forget_texts()
        tx.rows("UPDATE event SET info_id = NULL")
        tx.rows("UPDATE info SET text = 'something else', folded = 'something else' WHERE text LIKE '%rare%'")

    store.write_now(sweep)
    undo(store, clock, plan)
    assert rows(store)[0][-1] == before[0][-1] == "Held by a person: very rare"


def test_steps_are_found_by_the_plans_rows(store: Store) -> None:
    """The planner must walk the slice of the plan, never the queue."""
    tx = store.read_now().tx
    full = {"plan": 1, "after": 0, "upto": 5}
    statements = (
        plan_steps.NOT_AS_FROZEN, plan_steps.NOT_AS_LEFT, plan_steps._RESTORE, plan_steps._NOTE_LEFT,
        plan_steps._EVENTS, plan_steps._RELEASE_LOG,
    )  # fmt: skip
    event = {"now": 1, "kind": "x", "info": 1, "actor": "x", "state": 1}
    values = {**full, **event, "first_id": 1, "action": 1, "reason": "b"}
    for statement in statements:
        found = [row[3] for row in tx.rows(f"EXPLAIN QUERY PLAN {statement}", values)]
        walked = [
            line for line in found if line.startswith("SCAN") and "CONSTANT" not in line and "subquery" not in line
        ]
        assert not walked, (statement, found)
        assert any("USING PRIMARY KEY (plan=? AND entry>? AND entry<?)" in line for line in found), found
