"""Statements are compiled once: a value that is bound anew does not make SQLite plan again (sqlite.keep_plans)."""

from __future__ import annotations

import collections

import apsw
import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Action, Field, Filter, Order, Outcome, Queue, Route
from postroom.store.engine import Tx
from postroom.store.logs import audit
from postroom.store.records import EndedEntry, Waited
from postroom.store.sqlite import connections as sqlite
from postroom.store.sqlite import search_index
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import Store
from tests.conformance.driven import claimed
from tests.store.conftest import Opener, a_message, accepted, hand

ROUNDS = 4


class Compiled:
    """What SQLite asks while it compiles a statement, on every connection opened while this is in place."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
        self.asked: collections.Counter[tuple[int, str | None, str | None]] = collections.Counter()
        kept = sqlite.keep_plans

        def watched(tx: Tx) -> None:
            if keep:
                kept(tx)
            tx.authorizer = self._ask

        for module in (sqlite, search_index):
            monkeypatch.setattr(module, "keep_plans", watched)

    def _ask(self, what: int, first: str | None, second: str | None, *_: str | None) -> int:
        often = what not in (apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT) and first != "upkeep"  # (once a minute)
        if often:
            self.asked[(what, first, second)] += 1
        return apsw.SQLITE_OK


def a_round(store: Store, filling: Filling, clock: HandClock, number: int) -> None:
    """Everything that happens all day, each time with other values."""
    ends = accepted(store, a_message(subject=f"ends {number}"), lease_until=clock.now() + MINUTE)
    end = EndedEntry(
        ends.entries[0], ends.entries[0], ends.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, clock.now()
    )
    hand(store, end)
    accepted(store, a_message(f"to{number}@corp.example", f"cc{number}@corp.example", subject=f"zanzibar {number}"))
    for lease in claimed(store):
        waited = Waited(lease.entry, lease.lease, Queue.PROCESSING, None, "Scanner down", 1,
                        clock.now() + MINUTE, 0, clock.now(), "deferred")  # fmt: skip
        hand(store, waited)  # type: ignore[misc]
        store.act_now(Action.HOLD, [lease.entry], actor="ann")
        store.act_now(Action.RELEASE, [lease.entry], actor="ann")
    clock.move(MINUTE)
    filling.fill(filling.newest())
    filling.take_in_reasons()
    accepted(store, a_message(subject=f"zanzibar above the watermark {number}"))
    reader = store.read_now()
    assert reader.searches.attached
    for wanted in (
        Filter(queues=(Queue.PROCESSING,)),
        Filter(queues=(Queue.PROCESSING,), since=clock.now() - number * MINUTE),
        Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,), attachment=bool(number % 2)),
        Filter(text="zanzibar", field=Field.SUBJECT),
        Filter(queues=(Queue.PROCESSING,), text="example", field=Field.ALL),
        Filter(queues=(Queue.PROCESSING,), text="scanner down", field=Field.INFO),
        Filter(queues=(Queue.PROCESSING,), text=f"zanzibar {number}", field=Field.ALL),
    ):
        page = reader.find(wanted, limit=5 + number, order=(Order.NEWEST, Order.OLDEST)[number % 2])
        reader.count(wanted)
    for entry in page:
        assert reader.entry(entry.id) is not None
        assert reader.message(entry.message_id) is not None
        reader.events(entry.id)
    assert reader.ended(end.entry) is not None
    reader.ledger()
    reader.queue_counts()


def compiled_again(opening: Opener, clock: HandClock, compiled: Compiled) -> dict[object, int]:
    store = opening()
    filling = Filling(store.index)
    store.index.replaced(ready=True)
    try:
        for number in range(ROUNDS):  # some have a form for each number of rows
            a_round(store, filling, clock, number)
        assert len(compiled.asked) > 100
        compiled.asked.clear()
        for number in range(ROUNDS, 2 * ROUNDS):
            a_round(store, filling, clock, number)
    finally:
        filling.close()
    return dict(compiled.asked)


def test_no_statement_is_compiled_again(opening: Opener, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_again(opening, clock, Compiled(monkeypatch, keep=True)) == {}


def test_that_would_show(opening: Opener, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled_again(opening, clock, Compiled(monkeypatch, keep=False))


def test_refused_lines_of_the_audit_log_are_found_by_their_index(store: Store) -> None:
    where, values = audit._where(None, None, "", "", audit.REFUSED)
    statement = f"SELECT id FROM audit WHERE id >= ? AND id < ? AND {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
    rows = store.read_now().tx.rows(f"EXPLAIN QUERY PLAN {statement}", (0, 9, *values, 5))
    assert ["audit_refused" in row[3] for row in rows] == [True]
