"""What upkeep leaves in tables, dictionary, indexes and pages, and what SQLite is asked."""

from __future__ import annotations

import pytest

from postroom.clock import DAY, HOUR, MINUTE, HandClock
from postroom.model import Action, Filter
from postroom.store.access import identity
from postroom.store.find.reader import LOCKED_COUNT
from postroom.store.keep import expiry, upkeep
from postroom.store.queue.claim import LEASED
from postroom.store.store import Store
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, on_loop
from tests.conformance.test_upkeep import aged, deferred, ended, keep, reaped

PAGE = 4096


def texts(store: Store) -> set[str]:
    return {text for (text,) in store.read_now().tx.rows("SELECT text FROM info")}


def count(store: Store, table: str) -> int:
    return int(store.read_now().tx.rows(f"SELECT count(*) FROM {table}")[0][0])


# -- history


def test_the_events_of_what_history_has_forgotten_go_too(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    deferred(store, "why", clock)
    entry = ended(store, clock)
    accepted(store, a_message())
    waits = deferred(store, "why", clock)
    assert reaped(store, clock.now()) == 0
    clock.move(1)
    assert reaped(store, clock.now()) == 1
    assert store.read_now().ended(entry) is None
    assert {row[0] for row in store.read_now().tx.rows("SELECT entry_id FROM event")} == {waits}


def test_forgetting_goes_on_behind_old_entries_that_ended_late(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK", 4)
    monkeypatch.setattr(upkeep, "SKIPPED", 8)
    for _ in range(30):
        accepted(store, a_message())
    clock.move(MINUTE)
    due = [ended(store, clock) for _ in range(3)]
    oldest_first = store.read_now().tx.rows("SELECT id FROM entry ORDER BY id")
    clock.move(MINUTE)
    for _ in oldest_first:
        ended(store, clock)
    # the three that are due stand behind all others
    fetch_all = "UPDATE history SET ended = CASE WHEN id >= ? THEN 0 ELSE ? END"
    last = store.read_now().tx.rows("SELECT id FROM history ORDER BY id DESC LIMIT 3")[-1][0]
    store.write_now(lambda tx: tx.rows(fetch_all, (last, clock.now() + DAY)))
    clock.move(MINUTE)
    forgetting = upkeep.Forgetting(store)
    rounds = [on_loop(store, lambda: forgetting.round(clock.now())) for _ in range(5)]
    assert sum(rounds) == 3
    assert rounds[0] == 0, "a round is bounded"
    assert count(store, "history") == 27
    assert len(due) == 3


# -- space


def test_free_pages_are_given_back_but_for_a_reserve(store: Store) -> None:
    for _ in range(60):
        accepted(store, a_message(body=b"x" * 500_000))
    store.write_now(lambda tx: tx.rows("DELETE FROM body"))
    pages = int(store.read_now().tx.connection.pragma("page_count"))
    given = on_loop(store, lambda: upkeep.give_back(store))
    tx = store.read_now().tx
    assert tx.connection.pragma("freelist_count") <= upkeep.SPARE
    assert pages - given - 20 <= tx.connection.pragma("page_count") <= pages - given  # and pages of SQLite's own map
    assert given > 60 * 500_000 // PAGE - upkeep.SPARE - 100
    assert on_loop(store, lambda: upkeep.give_back(store)) == 0


def test_a_step_that_takes_long_makes_the_next_one_smaller(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0.0, 0.1, 0.0, 0.001))
    pace = upkeep.Pace(100, least=5, most=1000)
    monkeypatch.setattr(upkeep, "SHARE", 0)
    monkeypatch.setattr(upkeep.time, "perf_counter", lambda: next(ticks))
    on_loop(store, lambda: pace.step(store, lambda tx: None))
    assert pace.size == 10
    on_loop(store, lambda: pace.step(store, lambda tx: None))
    assert pace.size == 16


# -- the info dictionary


def test_a_sweep_deletes_what_neither_an_entry_nor_an_event_uses(store: Store, clock: HandClock) -> None:
    for number in range(3):
        accepted(store, a_message())
        deferred(store, f"421 try again, id {number}", clock, HOUR)
    accepted(store, a_message())
    last = deferred(store, "the reason of the last", clock, DAY)
    clock.move(HOUR)
    for _ in range(3):
        ended(store, clock)
    on_loop(store, lambda: upkeep.sweep_infos(store, clock.now()))
    assert {f"421 try again, id {number}" for number in range(3)} < texts(store), "timelines use them"
    clock.move(1)
    assert reaped(store, clock.now()) == 3
    sweep = on_loop(store, lambda: upkeep.sweep_infos(store, clock.now()))
    assert sweep == 3
    assert texts(store) == {"the reason of the last"}
    assert not on_loop(store, lambda: upkeep.sweep_infos(store, clock.now()))
    entry = store.read_now().entry(last)
    assert entry is not None
    assert entry.info == "the reason of the last"


@pytest.mark.parametrize("meanwhile", ["ENTRY_INFOS", "INFO_OLD"])
def test_a_text_taken_while_a_sweep_looks_is_kept(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Its entry was looked at before; the writer, and a command beside the gateway, know the text's id by heart."""
    accepted(store, a_message())
    deferred(store, "comes back", clock)
    deferred(store, "meanwhile", clock)
    store.write_now(lambda tx: tx.rows("DELETE FROM event"))
    looked = upkeep._look

    def look(statement, values, reader):
        rows = looked(statement, values, reader)
        if statement == getattr(upkeep, meanwhile) and rows:
            deferred(store, "comes back", clock)
            store.write_now(lambda tx: tx.rows("DELETE FROM event"))
        return rows

    async def sweep() -> int:
        monkeypatch.setattr(upkeep, "_look", lambda *given: look(*given))
        return await upkeep.sweep_infos(store, clock.now())

    on_loop(store, sweep)
    (entry,) = store.read_now().find(Filter(), limit=9)
    assert entry.info == "comes back"
    assert "comes back" in texts(store)


def test_a_command_beside_takes_a_text_anew_in_each_transaction(opening: Opener, clock: HandClock) -> None:
    store = opening()
    accepted(store, a_message())
    (one,) = store.read_now().find(Filter(), limit=1)
    beside = opening(beside=True)
    beside.act_now(Action.HOLD, [one.id], actor="ops")
    beside.act_now(Action.RELEASE, [one.id], actor="ops")
    store.write_now(lambda tx: tx.rows("DELETE FROM event"))
    assert on_loop(store, lambda: upkeep.sweep_infos(store, clock.now())) >= 1
    beside.act_now(Action.HOLD, [one.id], actor="ops")
    (held,) = store.read_now().find(Filter(), limit=1)
    assert held.info == "Held by a person"
    assert [event.info for event in store.read_now().events(one.id)][1:] == ["Held by a person"]


def test_a_sweep_is_due_by_growth_and_by_the_day(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "GROWN_LITTLE", 5)
    monkeypatch.setattr(upkeep, "GROWN_MUCH", 20)

    def due() -> bool:
        return upkeep.sweep_due(store.read_now(), clock.now())

    def grow(first: int, last: int) -> None:
        store.write_now(lambda tx: [store._recorder.infos.id(tx, f"text {number}") for number in range(first, last)])

    assert not due()
    grow(0, 6)
    assert due(), "never swept, and grown a little"
    on_loop(store, lambda: upkeep.sweep_infos(store, clock.now()))
    assert count(store, "info") == 1, "the newest stays"
    grow(0, 6)
    assert not due(), "swept today"
    clock.move(DAY)
    assert due()
    clock.move(-HOUR)
    assert not due()
    grow(6, 21)
    assert due(), "grown much"


# -- bodies


def test_damage_to_the_index_or_to_a_row_costs_no_body(
    store: Store, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(store)
    entry = accepted(store, kept).entries[0]
    orphan = store.bodies.put(b"never had a row")
    for name in (kept.body_object, orphan):
        aged(store, name, clock)
        store.bodies.settled(name)
    monkeypatch.setattr(upkeep, "objects_used", lambda rows: f"SELECT '' WHERE '' IN ({','.join('?' * rows)})")
    garbage = "UPDATE message SET body_object = ? WHERE id = ?"
    store.write_now(lambda tx: tx.rows(garbage, ("what was this?", entry)))
    assert on_loop(store, lambda: upkeep.collect_orphans(store, clock.now())) == 0
    store.write_now(lambda tx: tx.rows(garbage, (kept.body_object, entry)))
    assert on_loop(store, lambda: upkeep.collect_orphans(store, clock.now())) == 1
    assert store.bodies.names() == [kept.body_object]


def test_bodies_are_found_by_their_own_index(store: Store) -> None:
    plan = store.read_now().tx.rows("EXPLAIN QUERY PLAN " + upkeep.objects_used(3), ("a", "b", "c"))
    (step,) = [row[3] for row in plan]
    assert step == "SEARCH message USING COVERING INDEX message_object (body_object=?)"


def test_mail_with_its_body_in_the_database_is_not_in_that_index(store: Store) -> None:
    accepted(store, a_message())
    accepted(store, keep(store))
    table = "SELECT count(*) FROM message INDEXED BY message_object WHERE body_object <> ''"
    assert store.read_now().tx.rows(table)[0][0] == 1


# -- a quick start


@pytest.mark.parametrize("statement", [LEASED, LOCKED_COUNT], ids=["leased", "locked"])
def test_what_is_leased_is_found_in_the_index_without_reading_rows(store: Store, statement: str) -> None:
    program = store.read_now().tx.rows("EXPLAIN " + statement, (0, 0, 1))
    (index,) = {tx for _, code, tx, _, _, kind, *_ in program if code == "OpenRead" and str(kind).startswith("k(")}
    columns = [tx for _, code, tx, *_ in program if code == "Column"]
    assert columns[0] == index, "the condition on the lease is decided before the row is read"


# -- sessions


def test_sessions_that_are_over_go(store: Store, clock: HandClock) -> None:
    def users(tx) -> None:
        identity.create_user(tx, email="ops@corp.example", password_hash="none", role="administrator")
        for lifetime in (HOUR, 3 * HOUR):
            identity.create_session(tx, "ops@corp.example", lifetime=lifetime, now=clock.now())

    store.write_now(users)
    commits = store.counts.commits
    store.write_now(lambda tx: expiry.reap(tx, clock.now(), 0))
    assert store.counts.commits == commits, "nothing to write"
    clock.move(2 * HOUR)
    store.write_now(lambda tx: expiry.reap(tx, clock.now(), 0))
    assert count(store, "console_session") == 1
