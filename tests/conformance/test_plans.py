"""Plans: freeze, apply, undo, and what ends only when the undo window is over; the ledger agrees at every step."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from postroom.clock import HOUR, MINUTE, SECOND, HandClock
from postroom.facts import scan
from postroom.model import Action, Entry, Filter, Outcome, Queue
from postroom.query import parse
from postroom.rules.lifecycle import NOT_PERMITTED_TEXT, NULL_SENDER_TEXT
from postroom.settings import Plans
from postroom.store.engine import Tx
from postroom.store.logs import audit, released
from postroom.store.plans import book as plan_book
from postroom.store.plans import commands as plans
from postroom.store.plans import steps as plan_steps
from postroom.store.plans.book import Plan
from postroom.store.plans.commands import Wish
from postroom.store.plans.run import Change, Pace, Verb, run_now
from postroom.store.plans.steps import PlanRefused
from postroom.store.records import EndedEntry
from postroom.store.store import Store
from postroom.store.verify.plans import LOST_PLAN
from postroom.store.verify.proof import verify
from tests.store.conftest import Opener, a_message, accepted, hand

SETTINGS = Plans()
WINDOW = SETTINGS.undo_window


def difference(store: Store) -> int:
    created, ended, queued = store.read_now().ledger()
    return sum(created.values()) - sum(ended.values()) - queued


def fill(store: Store, number: int, **given: Any) -> list[int]:
    body = b"From: alice@corp.example\r\nSubject: Quarterly report\r\nMessage-ID: <1@x.example>\r\n\r\nHello\r\n"
    told = {"body": body, "facts": scan(body), "body_hash": sha256(b"Hello\r\n").digest(), "size": len(body)}
    messages = [a_message(f"r{i}@d{i % 3}.example", **given) for i in range(number)]
    return [accepted(store, msgspec.structs.replace(message, **told)).entries[0] for message in messages]


def make(store: Store, clock: HandClock, action: Action, query: str = "", **more: Any) -> Plan:
    settings = more.pop("settings", SETTINGS)
    wish = Wish(action, parse(query, clock.now()), query, "cli:ann", **more)
    return run_now(store, plans.make(store, wish, settings, clock))


def apply(store: Store, clock: HandClock, plan: Plan, settings: Plans = SETTINGS) -> Plan:
    return run_now(store, plans.apply(store, plan.id, settings, clock, actor="cli:ann", reason="a test"))


def undo(store: Store, clock: HandClock, plan: Plan) -> Plan:
    return run_now(store, plans.undo(store, plan.id, clock, actor="cli:bob"))


def look_after(store: Store, clock: HandClock, before: int = 0) -> int:
    return run_now(store, plans.look_after(store, clock, before))


def rows(store: Store) -> list[tuple[Any, ...]]:
    """Everything about every entry, and its reason as text."""
    return store.read_now().tx.rows(
        "SELECT e.*, i.text FROM entry AS e JOIN info AS i ON i.id = e.info_id ORDER BY e.id",
    )


def sound(store: Store, clock: HandClock) -> None:
    report = verify(store, clock=clock)
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
    store.write_now(lambda tx: tx.rows("UPDATE entry SET next_attempt = ?", (clock.now() + HOUR,)))
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
    assert leased not in [one.id for one in plan_book.entries(store.read_now().tx, plan.id)]


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
    kinds = [line.kind for line in audit.read(store.read_now().tx, kind="plan")]
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
    with pytest.raises(PlanRefused, match="its window is over"):
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
    logged = [released.read(row) for row in reader.tx.rows(released.SELECT)]
    assert [(line.entry, line.held_for) for line in logged] == (
        [(entries[0], "Held by a person: looks odd")] if action is Action.REJECT else []
    )
    final = plan_book.read(reader.tx, plan.id)
    assert (final.state, final.ended, final.finished) == ("final", 5, clock.now())
    became = plan_book.entries(reader.tx, plan.id)
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
    store.write_now(
        lambda tx: tx.rows(
            "UPDATE entry SET lease = 7, locked_until = ? WHERE id = ?", (clock.now() + HOUR, entries[2])
        )
    )
    applied = apply(store, clock, plan)
    assert (applied.done, applied.skipped) == (27, 3)
    told = plan_book.entries(store.read_now().tx, plan.id, states=("skipped",))
    assert [(one.id, one.why) for one in told] == [
        (entries[0], plan_book.WHY[plan_book.CHANGED]), (entries[1], plan_book.WHY[plan_book.GONE]),
        (entries[2], plan_book.WHY[plan_book.LEASED]),
    ]  # fmt: skip
    assert entry_of(store, entries[0]).queue is Queue.HELD
    assert difference(store) == 0


def test_too_much_changed_refuses_the_plan(store: Store, clock: HandClock) -> None:
    entries = fill(store, 10)
    plan = make(store, clock, Action.HOLD)
    store.act_now(Action.HOLD, entries[:2], actor="ann")
    before = rows(store)
    with pytest.raises(PlanRefused, match="2 of 10 entries have changed"):
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
    kept = plan_book.entries(store.read_now().tx, plan.id, states=("kept",))
    assert [(one.id, one.why) for one in kept] == [
        (entries[0], plan_book.WHY[plan_book.CHANGED]), (entries[1], plan_book.WHY[plan_book.GONE]),
    ]  # fmt: skip
    sound(store, clock)


def test_a_retry_of_many_is_spread_by_destination_and_delays_nobody(store: Store, clock: HandClock) -> None:
    entries = fill(store, 9)  # three destinations
    later = clock.now() + HOUR
    store.write_now(lambda tx: tx.rows("UPDATE entry SET next_attempt = ?", (later,)))
    soon = entries[8]
    store.write_now(lambda tx: tx.rows("UPDATE entry SET next_attempt = 5 WHERE id = ?", (soon,)))
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
    with pytest.raises(PlanRefused, match="is ready: expected applied"):
        undo(store, clock, plan)
    with pytest.raises(PlanRefused, match="a reason is needed"):
        run_now(store, plans.apply(store, plan.id, SETTINGS, clock, actor="ann", reason=" "))
    apply(store, clock, plan)
    with pytest.raises(PlanRefused, match="is applied: expected ready"):
        apply(store, clock, plan)
    undo(store, clock, plan)
    with pytest.raises(PlanRefused, match="is undone: expected applied"):
        undo(store, clock, plan)


def test_a_plan_expires_and_is_forgotten_with_its_entries(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    plan = make(store, clock, Action.HOLD)
    clock.move(SETTINGS.expiry)
    with pytest.raises(PlanRefused, match="has expired"):
        apply(store, clock, plan)
    look_after(store, clock)
    tx = store.read_now().tx
    assert plan_book.read(tx, plan.id).state == "expired"
    clock.move(HOUR)
    look_after(store, clock, before=clock.now())
    with pytest.raises(plan_book.NoSuchPlan):
        plan_book.read(tx, plan.id)
    assert tx.rows("SELECT count(*) FROM plan_entry") == tx.rows("SELECT count(*) FROM plan_info")
    assert tx.rows("SELECT count(*) FROM plan_info") == [(0,)]


def test_a_limit_refuses_a_plan_that_is_too_large(store: Store, clock: HandClock) -> None:
    fill(store, 3)
    with pytest.raises(PlanRefused, match="more than 2 entries"):
        make(store, clock, Action.HOLD, most=2)
    assert make(store, clock, Action.HOLD, most=3).entries == 3


def test_barred_queues_are_left_out(store: Store, clock: HandClock) -> None:
    entries = fill(store, 3)
    store.act_now(Action.HOLD, entries[:1], actor="ann")
    plan = make(store, clock, Action.DELETE, barred=(Queue.HELD,))
    assert plan.entries == 2
    assert [(share.name, share.entries) for share in plan.summary.left_out] == [(NOT_PERMITTED_TEXT, 1)]


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


class Crash(Exception):
    """The process ends here."""


def crashing(verb: Verb[Any], at: int) -> Verb[Any]:
    """The same verb, of which the process sees only so many writes."""
    given: Any = None
    while True:
        try:
            wanted = verb.send(given)
        except StopIteration as stop:
            return stop.value
        if isinstance(wanted, Change):
            at -= 1
            if at < 0:
                raise Crash
        given = yield wanted


def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MOST", 3)
    monkeypatch.setattr(plans, "NOTICED", 3)
    monkeypatch.setattr(Pace.__init__, "__defaults__", (3,))


@pytest.mark.parametrize("action", [Action.DELETE, Action.BOUNCE, Action.HOLD])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_between_any_two_steps_leaves_the_ledger_at_zero(
    opening: Opener, clock: HandClock, monkeypatch: pytest.MonkeyPatch, action: Action, at: int
) -> None:
    small_steps(monkeypatch)
    store = opening()
    fill(store, 10)
    before = rows(store)
    plan = make(store, clock, action)
    with pytest.raises(Crash):
        run_now(store, crashing(plans.apply(store, plan.id, SETTINGS, clock, actor="ann", reason="x"), at))
    store.close()
    store = opening()
    sound(store, clock)
    assert apply(store, clock, plan).done == 10  # goes on where it was interrupted
    with pytest.raises(Crash):
        run_now(store, crashing(plans.undo(store, plan.id, clock, actor="ann"), at))
    store.close()
    store = opening()
    sound(store, clock)
    clock.move(WINDOW)  # an undo that was begun in time is finished by upkeep
    look_after(store, clock)
    assert plan_book.read(store.read_now().tx, plan.id).state == "undone"
    assert rows(store) == before
    sound(store, clock)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_crash_while_the_window_ends_leaves_the_ledger_at_zero(
    opening: Opener, clock: HandClock, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    small_steps(monkeypatch)
    store = opening()
    entries = fill(store, 10)
    plan = apply(store, clock, make(store, clock, Action.BOUNCE))
    clock.move(WINDOW)
    with pytest.raises(Crash):
        run_now(store, crashing(plans.look_after(store, clock, 0), at))
    store.close()
    store = opening()
    sound(store, clock)
    look_after(store, clock)
    sound(store, clock)
    assert plan_book.read(store.read_now().tx, plan.id).ended == 10
    assert store.read_now().queue_counts()[Queue.SYSTEM] == 10
    assert all(store.read_now().ended(ident) for ident in entries)


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


def test_random_plans_beside_other_work_keep_the_ledger_at_zero(store: Store, clock: HandClock) -> None:
    rng = random.Random(7)
    open_plans: list[Plan] = []
    doing: dict[str, Callable[[], None]] = {
        "mail": lambda: fill(store, 5) and None,
        "plan": lambda: open_plans.append(
            apply(store, clock, make(store, clock, rng.choice(list(Action))), msgspec.structs.replace(SETTINGS, max_changed=100))
        ),
        "undo": lambda: _try_undo(store, clock, open_plans, rng),
        "time": lambda: clock.move(rng.randrange(WINDOW // 2)),
        "upkeep": lambda: look_after(store, clock) and None,
        "end": lambda: _end_some(store, clock, rng),
    }  # fmt: skip
    for _ in range(60):
        doing[rng.choice(list(doing))]()
        assert difference(store) == 0
    clock.move(2 * WINDOW)
    look_after(store, clock)
    assert store.read_now().leaving() == 0
    sound(store, clock)


def _try_undo(store: Store, clock: HandClock, open_plans: list[Plan], rng: random.Random) -> None:
    if open_plans:
        plan = open_plans.pop(rng.randrange(len(open_plans)))
        try:
            undo(store, clock, plan)
        except PlanRefused as why:
            assert "window is over" in str(why) or "is final" in str(why)  # noqa: PT017 - either is right


def _end_some(store: Store, clock: HandClock, rng: random.Random) -> None:
    """A worker takes what waits and delivers it."""
    for entry in store.read_now().find(Filter(queues=(Queue.PROCESSING,)), limit=3):
        lease = store.write_now(
            lambda tx, entry=entry: tx.rows(
                "UPDATE entry SET lease = 1, locked_until = ? WHERE id = ? RETURNING lease",
                (clock.now(), entry.id),
            )
        )[0][0]
        ended = EndedEntry(
            entry.id, lease, entry.message_id, Queue.DELIVERY, Outcome.DELIVERED, "250 ok", 1, 0, clock.now()
        )
        hand(store, ended)


def test_steps_are_found_by_the_plans_rows(store: Store) -> None:
    """The planner must walk the slice of the plan, never the queue."""
    tx = store.read_now().tx
    full = {"plan": 1, "after": 0, "upto": 5}
    statements = (
        plan_steps.NOT_AS_FROZEN, plan_steps.NOT_AS_LEFT, plan_steps._RESTORE, plan_steps._NOTE_LEFT, plan_steps._EVENTS,
        plan_steps._RELEASE_LOG,
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
