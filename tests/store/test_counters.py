"""The tables of the counters agree with the entries after whatever was written, and wherever `upto` stands."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from postroom.clock import HOUR, MINUTE, HandClock
from postroom.model import Action, Filter, Outcome, Queue
from postroom.settings import Settings
from postroom.store import codes
from postroom.store.damage import INFO_LOST
from postroom.store.engine import Tx
from postroom.store.find import counters
from postroom.store.records import EndedEntry
from postroom.store.sqlite import connections as sqlite
from postroom.store.sqlite import schema
from postroom.store.sqlite.tx import SqliteTx
from postroom.store.store import Store
from tests.conformance.crowd import fill, message
from tests.conformance.test_counters import agrees as counts_agree
from tests.store.conftest import Opener, a_message, accepted, hand


def agrees(store: Store, chance: random.Random) -> None:
    _agrees_by_reason(store)
    counts_agree(store, chance)


def _agrees_by_reason(store: Store) -> None:
    """As much as the counters know is found by its reason, in the state it is in, and nothing else."""
    columns, tx = "info_id, queue, id, route, attachment", store.read_now().tx
    counts = (
        "SELECT coalesce(text, ?), count(*) FROM entry LEFT JOIN info ON info.id = info_id WHERE queue = ? GROUP BY 1"
    )
    for queue in Queue:
        expected = dict(tx.rows(counts, (INFO_LOST, codes.QUEUE[queue])))
        assert counters.by_reason(tx, queue) == expected
    there = tx.rows(f"SELECT {columns} FROM reason ORDER BY id")
    counted = "WHERE id <= (SELECT upto FROM counted) ORDER BY id"
    assert there == tx.rows(f"SELECT {columns} FROM entry {counted}")


def advance(store: Store, newest: int) -> int:
    return store.write_now(lambda tx: counters.advance(tx, newest))


def tallied(store: Store) -> int:
    rows = store.read_now().tx.rows("SELECT coalesce(sum(number), 0) FROM tally")
    return int(rows[0][0])


def test_they_agree_with_the_entries_whatever_is_done(store: Store, clock: HandClock) -> None:
    chance = random.Random(11)
    fill(store, clock, chance, 120)
    assert tallied(store) == 0  # mail that passes at once is never counted
    agrees(store, chance)
    ids = [entry.id for entry in store.read_now().find(Filter(), limit=1_000)]
    for newest in (ids[100], ids[40], ids[0]):
        advance(store, newest)
        agrees(store, chance)
    assert tallied(store) == len(ids)
    store.act_now(Action.HOLD, ids[::3], actor="cli:root")
    store.act_now(Action.REJECT, ids[1::5], actor="cli:root")
    for _ in range(20):
        accepted(store, message(chance, clock.now()))
    agrees(store, chance)
    store.act_now(Action.RELEASE, ids[::3], actor="cli:root")
    agrees(store, chance)
    for change in (
        "info_id = info_id + 7",
        "route = (route + 1) % 4",
        "attachment = 1 - attachment",
    ):
        store.write_now(lambda tx, change=change: tx.rows(f"UPDATE entry SET {change} WHERE id % 3 = 0"))
        agrees(store, chance)


def test_an_entry_that_ends_leaves_no_counter_behind(store: Store, clock: HandClock) -> None:
    entry = accepted(store, a_message(), lease_until=clock.now() + MINUTE).entries[0]
    advance(store, entry)
    assert tallied(store) == 1
    end = EndedEntry(entry, entry, entry, Queue.DELIVERY, Outcome.DELIVERED, "250 OK", 1, 0, clock.now())
    hand(store, end)
    assert store.read_now().count(Filter()) == 0
    later = accepted(store, a_message()).entries[0]
    advance(store, later)
    rows = store.read_now().tx.rows("SELECT number FROM tally")
    assert rows == [(1,)]  # the empty one is gone


def test_they_take_in_a_step_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "STEP", 3)
    ids = [accepted(store, a_message()).entries[0] for _ in range(7)]
    assert [advance(store, ids[5]) for _ in range(3)] == [3, 3, 0]
    assert counters.wanting(store.read_now().tx, ids[6])
    assert not counters.wanting(store.read_now().tx, ids[5])
    assert (tallied(store), store.read_now().count(Filter())) == (6, 7)


def test_they_are_counted_anew_from_the_entries(store: Store) -> None:
    ids = [accepted(store, a_message()).entries[0] for _ in range(4)]
    advance(store, ids[2])
    store.write_now(lambda tx: tx.rows("UPDATE tally SET number = 77"))
    assert store.read_now().count(Filter()) == 78
    store.write_now(counters.recount)
    assert store.read_now().count(Filter()) == 4


@pytest.mark.parametrize("column", ["route", "attachment", "info_id", "queue"])
def test_a_row_without_a_value_is_left_out_and_stops_nothing(store: Store, opening: Opener, column: str) -> None:
    """In a record of SQLite one bit makes 0 to NULL."""
    ids = [accepted(store, a_message()).entries[0] for _ in range(4)]
    store.write_now(lambda tx: _spoil(tx, ids[1], column))
    advance(store, ids[2])
    assert store.read_now().count(Filter(queues=(Queue.PROCESSING,))) >= 3
    store.write_now(counters.recount)
    report = store.act_now(Action.HOLD, ids, actor="cli:root")
    assert set(report.done) >= {ids[0], ids[2], ids[3]}
    store.write_now(lambda tx: tx.rows("UPDATE entry SET route = 1, attachment = 1 WHERE id > 0"))
    store.write_now(lambda tx: tx.rows("DELETE FROM entry WHERE id = ?", (ids[1],)))
    store.write_now(lambda tx: tx.rows("DROP TABLE reason; DROP TRIGGER reason_move; DROP TRIGGER reason_text_changed"))
    store.write_now(lambda tx: _spoil(tx, ids[2], column))
    store.write_now(lambda tx: tx.rows("PRAGMA user_version=6"))
    store.close()
    assert opening().read_now().entry(ids[3]) is not None


def _spoil(tx: Tx, entry: int, column: str) -> None:
    tx.rows("PRAGMA writable_schema=ON")
    [(kept,)] = tx.rows("SELECT sql FROM sqlite_master WHERE name = 'entry'")
    change = "UPDATE sqlite_master SET sql = ? WHERE name = 'entry'"
    loose = re.sub(rf"(\n  {column} +INTEGER) NOT NULL", r"\1", kept)
    assert loose != kept
    tx.rows(change, (loose,))
    tx.rows("PRAGMA writable_schema=RESET")
    tx.rows("PRAGMA ignore_check_constraints=1")
    tx.rows(f"UPDATE entry SET {column} = NULL WHERE id = ?", (entry,))
    tx.rows("PRAGMA ignore_check_constraints=0")
    tx.rows("PRAGMA writable_schema=ON")
    tx.rows(change, (kept,))
    tx.rows("PRAGMA writable_schema=RESET")


def test_a_store_of_an_older_schema_gets_its_counters(tmp_path: Path, opening: Opener, settings: Settings) -> None:
    path = sqlite.database_path(settings)
    tx = SqliteTx(sqlite.writing(path))
    for number, _, text in schema.migrations()[:4]:
        tx.rows(text)
        tx.rows(f"PRAGMA user_version={number}")
    _old_entries(tx)
    tx.close()
    store = opening()
    assert tallied(store) == 30
    counts = store.read_now().queue_counts()
    assert (counts[Queue.PROCESSING], counts[Queue.DELIVERY]) == (20, 10)
    assert store.read_now().count(Filter(since=1_700_000_000_000 + 10 * HOUR)) == 20


def _old_entries(tx: Tx) -> None:
    for number in range(30):
        ident = (1_700_000_000_000 + number * HOUR << 20) + 1
        values = (ident, ident, 0 if number % 3 else 2)
        tx.rows(
            "INSERT INTO entry (id, message_id, queue, route, recipient, recipient_name, priority, "
            "info_id, attempts, since, "
            "next_attempt, strikes, label, waived, env_from, from_address, from_name, to_header, "
            "subject, remote_ip, size, "
            "attachment, search) "
            "VALUES (?, ?, ?, 0, '', '', 0, 1, 0, 0, 0, 0, 0, '', '', '', '', '', '', '', 1, 0, '')",
            values,
        )
