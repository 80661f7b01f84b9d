"""A plan whose row holds what it must not is told, left alone, closed by a repair; it loses no mail and stops no
other plan."""

from __future__ import annotations

import io

import pytest

from postroom.clock import HOUR, HandClock
from postroom.ids import public_id
from postroom.model import Action, Queue
from postroom.settings import Settings
from postroom.store.plans import book as plan_book
from postroom.store.plans import commands as plans
from postroom.store.plans.book import Damaged, Plan, PlanDamaged
from postroom.store.plans.run import run_now
from postroom.store.store import Store
from postroom.store.verify.plans import LOST_PLAN
from postroom.store.verify.proof import verify
from postroom.telemetry import Counts, Log
from postroom.work.upkeep import Upkeep
from tests.conformance.test_plans import WINDOW, apply, difference, entry_of, fill, look_after, make, undo
from tests.store.test_damaged_rows import plant

DAMAGE = [
    ("action = 'dance'", "action"), ("action = x'00'", "action"), ("state = 'gone'", "state"),
    ("summary = x'7b'", "summary"), ("summary = 'text'", "summary"),
    ("summary = '{\"queues\": [{\"name\": \"cellar\", \"entries\": 1}]}'", "summary"),
    ("undo_until = 'soon'", "undo_until"), ("undo_until = NULL", "undo_until"), ("undo_until = 1 << 60", "undo_until"),
    ("notify = 'perhaps'", "notify"), ("query = x'00'", "query"),
    ("created = -1", "created"), ("reached = 'far'", "reached"),
    ("done = x'01'", "done"), ("gap = -5", "gap"), ("applied = 1 << 61", "applied"),
]  # fmt: skip
SEEN = [done for done in DAMAGE if done[1] != "state"]  # the rounds find a plan by its state


def hurt_by(store: Store, done: str, plan: Plan) -> None:
    plant(store, f"UPDATE plan SET {done} WHERE id = ?", plan.id)


def a_round(store: Store, clock: HandClock) -> list[Damaged]:
    """Upkeep once; the damaged plans that it met."""
    met: list[Damaged] = []
    run_now(store, plans.look_after(store, clock, 0, met.append))
    return met


@pytest.mark.parametrize(("done", "column"), DAMAGE)
def test_upkeep_leaves_a_damaged_plan_alone_and_does_the_others(
    store: Store, clock: HandClock, done: str, column: str
) -> None:
    first, second, third = fill(store, 3)
    hurt = apply(store, clock, make(store, clock, Action.DELETE, "to:r0"))
    sound = apply(store, clock, make(store, clock, Action.DELETE, "to:r1"))
    waiting = make(store, clock, Action.HOLD, "to:r2")
    hurt_by(store, done, hurt)
    clock.move(max(WINDOW, HOUR))
    met = [(plan.id, plan.columns) for plan in a_round(store, clock)]
    assert met == ([] if column == "state" else [(hurt.id, (column,))])
    reader = store.read_now()
    assert plan_book.read(reader.tx, sound.id).state == "final"
    assert plan_book.read(reader.tx, waiting.id).state == "expired"
    assert (reader.entry(second), reader.leaving()) == (None, 1)
    assert entry_of(store, first).queue is Queue.HELD  # as people are told of what is about to end
    assert entry_of(store, third).queue is Queue.PROCESSING
    assert difference(store) == 0


@pytest.mark.parametrize(("done", "column"), DAMAGE)
def test_a_damaged_plan_is_listed_as_such_and_refused(store: Store, clock: HandClock, done: str, column: str) -> None:
    fill(store, 2)
    hurt = apply(store, clock, make(store, clock, Action.DELETE, "to:r0"))
    sound = make(store, clock, Action.HOLD, "to:r1")
    hurt_by(store, done, hurt)
    tx = store.read_now().tx
    assert plan_book.latest(tx, 10) == [sound, Damaged(hurt.id, (column,))]
    told = rf"plan {public_id(hurt.id)} is damaged \({column}\): .* postroom verify --repair closes it, and holds"
    for act in (undo, apply):
        with pytest.raises(PlanDamaged, match=told):
            act(store, clock, hurt)
    assert store.read_now().leaving() == 1


@pytest.mark.parametrize(("done", "column"), DAMAGE)
def test_a_repair_closes_it_and_holds_what_it_was_about_to_end(
    store: Store, clock: HandClock, done: str, column: str
) -> None:
    (waiting,) = fill(store, 1, queue=Queue.BULK)
    (held,) = fill(store, 1, queue=Queue.SYSTEM, sender="")
    (other,) = fill(store, 1, subject="other")
    store.act_now(Action.HOLD, [held], actor="ann")
    hurt = apply(store, clock, make(store, clock, Action.DELETE, f"id:{public_id(waiting)}|{public_id(held)}"))
    sound = apply(store, clock, make(store, clock, Action.DELETE, f"id:{public_id(other)}"))
    hurt_by(store, done, hurt)
    assert verify(store, clock=clock).counts["plan"] == {"found": 1}
    report = verify(store, clock=clock, repair=True)
    assert (report.wrong, report.counts) == (0, {"plan": {"repaired": 1}, "entry-leaving": {"repaired": 2}})
    for entry, queue in ((waiting, Queue.BULK), (held, Queue.SYSTEM)):
        found = entry_of(store, entry)
        assert (found.queue, found.from_queue, found.info) == (Queue.HELD, queue, LOST_PLAN)
    again = verify(store, clock=clock, repair=True)
    assert (again.wrong, again.repaired) == (0, 0)
    assert again.counts == ({} if column == "state" or done.endswith("NULL") else {"plan": {"noted": 1}})
    clock.move(WINDOW)
    assert a_round(store, clock) == []
    assert plan_book.read(store.read_now().tx, sound.id).state == "final"
    assert store.read_now().entry(other) is None
    assert store.act_now(Action.RELEASE, [waiting, held], actor="ann").done == (waiting, held)
    assert difference(store) == 0


@pytest.mark.parametrize("value", ["'x'", "x'ff'"])
def test_a_line_that_names_no_entry_stops_no_plan(store: Store, clock: HandClock, value: str) -> None:
    lost, same, other = fill(store, 3)
    hurt = apply(store, clock, make(store, clock, Action.DELETE, f"id:{public_id(lost)}|{public_id(same)}"))
    sound = apply(store, clock, make(store, clock, Action.DELETE, "to:r2"))
    plant(store, f"UPDATE plan_entry SET entry = {value} WHERE entry = ?", lost)
    tx = store.read_now().tx
    assert [one.id for one in plan_book.entries(tx, hurt.id)] == [same]
    clock.move(WINDOW)
    assert a_round(store, clock) == []
    assert {plan_book.read(tx, plan.id).state for plan in (hurt, sound)} == {"final"}
    assert [store.read_now().entry(entry) for entry in (same, other)] == [None, None]
    assert verify(store, clock=clock, repair=True).counts == {"entry-leaving": {"repaired": 1}}
    assert entry_of(store, lost).info == LOST_PLAN
    assert difference(store) == 0


def test_a_repair_closes_a_plan_that_has_done_nothing_as_one_that_nobody_applied(
    store: Store, clock: HandClock
) -> None:
    (entry,) = fill(store, 1)
    plan = make(store, clock, Action.DELETE)
    plant(store, "UPDATE plan SET expires = 'never' WHERE id = ?", plan.id)
    assert verify(store, clock=clock, repair=True).counts == {"plan": {"repaired": 1}}
    state = store.read_now().tx.rows("SELECT state FROM plan")
    assert state == [("expired",)]
    assert entry_of(store, entry).queue is Queue.PROCESSING


def test_a_closed_plan_is_forgotten_like_any_other(store: Store, clock: HandClock) -> None:
    fill(store, 1)
    plan = apply(store, clock, make(store, clock, Action.DELETE))
    hurt_by(store, "action = 'dance'", plan)
    verify(store, clock=clock, repair=True)
    clock.move(HOUR)
    look_after(store, clock, clock.now())
    assert plan_book.latest(store.read_now().tx, 10) == []


async def test_the_log_tells_of_a_damaged_plan_once(store: Store, clock: HandClock) -> None:
    fill(store, 1)
    plan = apply(store, clock, make(store, clock, Action.DELETE))
    hurt_by(store, "summary = x'7b'", plan)
    clock.move(WINDOW)
    told = io.StringIO()
    upkeep = Upkeep(
        Settings(), store, look_at_disk=lambda: None, clock=clock, log=Log(told, clock=clock, counts=Counts())
    )
    for _ in range(3):
        await upkeep._look_after_plans()
    lines = told.getvalue().splitlines()
    assert len(lines) == 1
    assert f"plan_damaged plan={public_id(plan.id)}" in lines[0]
    assert "postroom verify --repair" in lines[0]


def test_rounds_look_for_plans_by_the_index_of_their_windows(store: Store) -> None:
    tx = store.read_now().tx
    details = [row[3] for row in tx.rows("EXPLAIN QUERY PLAN " + plan_book._WINDOW_OVER, {"now": 1, "last": 2})]
    looked = [detail for detail in details if " plan" in detail]
    assert len(looked) == 3
    assert all("plan_window" in detail for detail in looked), details
