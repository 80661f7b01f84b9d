"""A row that holds what it must not is shown as damaged, and costs nobody else anything: lists, claims, actions, starts go on."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Action, Entry, Filter, Outcome, Queue, Route
from postroom.store import damage, logs, samples
from postroom.store.store import Store
from tests.store.conftest import Opener, a_message, accepted
from tests.store.test_queue import claimed

DAMAGE = [
    "route = 9", "route = -1", "route = 'x'", "queue = 17, from_queue = NULL", "queue = -1, from_queue = NULL",
    "priority = 77", "attempts = 'often'", "size = 'much'", "label = 'none'", "strikes = x'00'", "next_attempt = 'soon'",
]  # fmt: skip


def plant(store: Store, statement: str, *values: object) -> None:
    """What no statement of ours writes, and a disk may."""

    def write(connection: apsw.Connection) -> None:
        connection.execute("PRAGMA ignore_check_constraints=1")
        before = connection.total_changes()
        connection.execute(statement, values)
        assert connection.total_changes() > before, "nothing was damaged"
        connection.execute("PRAGMA ignore_check_constraints=0")

    store.write_now(write)


@pytest.mark.parametrize("done", DAMAGE)
def test_a_damaged_entry_is_listed_as_damaged_beside_the_others(store: Store, done: str) -> None:
    sound, hurt, last = (accepted(store, a_message(subject=name)).entries[0] for name in ("one", "two", "three"))
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", hurt)
    reader = store.read_now()
    shown = reader.entry(hurt)
    assert shown is not None
    assert (shown.info, shown.subject) == (damage.STATE_DAMAGED, "two")
    found = {entry.id: entry for entry in reader.find(Filter(), limit=10)}
    assert {sound, last} <= found.keys()
    assert found.get(hurt, shown) == shown
    assert found[sound].info != damage.STATE_DAMAGED
    reader.queue_counts()
    reader.events(hurt)


def test_an_entry_whose_reason_is_gone_is_listed_all_the_same(store: Store) -> None:
    entry = accepted(store, a_message()).entries[0]
    plant(store, "UPDATE entry SET info_id = 999 WHERE id = ?", entry)
    (found,) = store.read_now().find(Filter(), limit=10)
    assert (found.id, found.info) == (entry, damage.INFO_LOST)


@pytest.mark.parametrize("done", DAMAGE)
def test_a_damaged_entry_does_not_keep_the_others_from_being_worked_on(store: Store, done: str) -> None:
    entries = [accepted(store, a_message()).entries[0] for _ in range(3)]
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", entries[1])
    assert {entries[0], entries[2]} <= {lease.entry for lease in claimed(store)}


@pytest.mark.parametrize("done", ["attempts = 'often'", "strikes = 'many'", "since = 'then'"])
def test_what_a_claim_cannot_count_is_held_and_marked(store: Store, done: str) -> None:
    entry = accepted(store, a_message()).entries[0]
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", entry)
    assert claimed(store) == []
    held = store.read_now().entry(entry)
    assert held is not None
    assert (held.queue, held.from_queue, held.info) == (Queue.HELD, Queue.PROCESSING, damage.STATE_DAMAGED)
    assert store.write_now(lambda connection: connection.execute("SELECT count(*) FROM entry").fetchall()) == [(1,)]


@pytest.mark.parametrize("done", ["strikes = 'many'", "request = 77", "route = 9"])
def test_a_damaged_leased_entry_stops_neither_a_start_nor_a_claim(opening: Opener, clock: HandClock, done: str) -> None:
    store = opening()
    hurt, sound = (accepted(store, a_message(), lease_until=clock.now() + MINUTE).entries[0] for _ in range(2))
    plant(store, f"UPDATE entry SET {done} WHERE id = ?", hurt)
    store.close()
    again = opening()
    assert again.recovered[0] == 2
    assert sound in {lease.entry for lease in claimed(again)}
    assert again.read_now().entry(hurt) is not None
    again.close()


def test_an_action_refuses_what_is_damaged_and_does_the_rest(store: Store) -> None:
    hurt, sound = (accepted(store, a_message()).entries[0] for _ in range(2))
    plant(store, "UPDATE entry SET queue = 17 WHERE id = ?", hurt)
    report = store.act_now(Action.HOLD, [hurt, sound], actor="ops")
    assert report.done == (sound,)
    assert report.refused == ((hurt, damage.STATE_DAMAGED),)


def test_a_damaged_line_of_a_log_costs_nobody_the_others(store: Store, clock: HandClock) -> None:
    entries = [accepted(store, a_message()).entries[0] for _ in range(2)]
    store.act_now(Action.HOLD, entries, actor="ops")
    store.act_now(Action.RELEASE, entries, actor="ops")
    plant(store, "UPDATE release_log SET route = 9, action = 77 WHERE entry_id = ?", entries[0])
    plant(store, "INSERT INTO queue_sample VALUES (?, 17, 9, 5)", clock.now())
    reader = store.read_now()
    asked = logs.LogQuery(0, clock.now() + MINUTE)
    lines = {line.entry: line for line in logs.find(reader.connection, logs.RELEASES, asked, limit=10)}
    assert lines.keys() == set(entries)
    assert (lines[entries[0]].route, lines[entries[0]].action) == (Route.EXTERNAL, Action.RELEASE)
    assert [sample.number for sample in samples.read(reader, 0, clock.now())] == [5]


def test_a_damaged_row_of_the_history_is_shown(store: Store) -> None:
    entry = accepted(store, a_message()).entries[0]
    store.act_now(Action.DELETE, [entry], actor="ops")
    plant(store, "UPDATE history SET outcome = 77, route = 9, queue = 12, size = 'much' WHERE id = ?", entry)
    ended = store.read_now().ended(entry)
    assert ended is not None
    assert (ended.outcome, ended.route, ended.queue, ended.size) == (Outcome.DROPPED, Route.EXTERNAL, Queue.HELD, 0)
    assert store.read_now().events(entry)


async def test_a_claim_that_no_reader_can_be_opened_for_is_given_back(store: Store, clock: HandClock) -> None:
    """The database file has gone from its place while the writer has it open: nothing can be said about any message."""
    entries = {accepted(store, a_message()).entries[0] for _ in range(3)}
    store.attach(asyncio.get_running_loop())
    aside = store.path.rename(store.path.with_name("aside"))
    assert await store.claim([(Queue.PROCESSING, 10)], 10) == []
    aside.rename(store.path)
    for entry in entries:
        back = await settled(store, entry)
        assert (back.queue, back.info, back.attempts, back.lease) == (Queue.PROCESSING, damage.NOT_NOW, 0, None)
        assert back.next_attempt == clock.now() + damage.LATER
        assert not back.label, "nothing was begun"
    clock.move(damage.LATER)
    again = await store.claim([(Queue.PROCESSING, 10)], 10)
    assert {lease.entry for claimed in again for lease in claimed.leases} == entries
    assert store.counts.unreadable == 0


async def settled(store: Store, entry: int) -> Entry:
    """As it is when what was handed to the writer before is committed."""
    await store.write(lambda connection: None)
    found = await store.read(lambda reader: reader.entry(entry))
    assert found is not None
    return found
