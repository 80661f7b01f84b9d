"""Each hot statement reads the index it is meant to read, asked of SQLite itself, and never sorts what it can read in
order."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from postroom.model import Aspect, Field, Filter, Queue, Relation, Route, Term
from postroom.store.find import counters
from postroom.store.find.counters import LAST
from postroom.store.find.reader import ENTRIES
from postroom.store.find.sources import Bounds, Reasons, Sources, bounds, sources
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import Store
from tests.store.conftest import a_message, accepted

NOW = 1_800_000_000_000
WINDOW = {"since": NOW - 1_000, "until": NOW + 1_000}


@pytest.fixture
def indexed(store: Store) -> Iterator[Store]:
    for number in range(5):
        accepted(store, a_message(subject=f"blue whale {number}"))
    filling = Filling(store.index)
    filling.fill(filling.newest())
    store.index.replaced(ready=True)
    yield store
    filling.close()


def explain(store: Store, statement: str, values: tuple[object, ...]) -> list[str]:
    reader = store.read_now()
    return [row[3] for row in reader.tx.rows(f"EXPLAIN QUERY PLAN {statement}", values)]


REASONS = Reasons(LAST, lambda infos, queue: False)


def parts_of(filter: Filter, infos: tuple[int, ...] = (), reasons: Reasons | None = REASONS) -> Sources:
    return sources(filter, bounds(filter), watermark=LAST, infos=lambda text: infos, now=NOW, reasons=reasons)


def plan_of_page(store: Store, filter: Filter, infos: tuple[int, ...] = ()) -> list[str]:
    ids, values = parts_of(filter, infos).page(101, descending=True)
    return explain(store, f"{ENTRIES} WHERE e.id IN ({ids}) ORDER BY e.id DESC", values)


def plans_of_count(store: Store, filter: Filter, infos: tuple[int, ...] = ()) -> list[str]:
    return [line for text, values in parts_of(filter, infos).counts() for line in explain(store, text, values)]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (Filter(queues=(Queue.PROCESSING,), **WINDOW), "INDEX entry_queue (queue=? AND id>? AND id<?)"),
        (
            Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,), **WINDOW),
            "INDEX entry_filter (queue=? AND route=? AND attachment=? AND id>? AND id<?)",
        ),
        (
            Filter(queues=(Queue.HELD, Queue.BULK), attachment=True),
            "INDEX entry_filter (queue=? AND route=? AND attachment=? AND id>? AND id<?)",
        ),
        (Filter(), "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ],
)
def test_a_page_of_a_plain_filter_is_read_in_order_from_its_index(indexed: Store, wanted: Filter, index: str) -> None:
    plan = plan_of_page(indexed, wanted)
    inner = [number for number, line in enumerate(plan) if line.startswith(("SEARCH", "SCAN")) and index in line]
    assert len(inner) == len(parts_of(wanted).parts), plan
    # What is sorted are the few ids that the parts gave, behind the look at them, never the rows of an index.
    assert not any("TEMP B-TREE" in line for number in inner for line in plan[number + 1 : number + 2]), plan
    assert any("SEARCH e USING INTEGER PRIMARY KEY (rowid=?)" in line for line in plan), plan
    assert any("SEARCH i USING INTEGER PRIMARY KEY (rowid=?)" in line for line in plan), plan


def test_a_searched_page_is_read_in_order_from_the_search_index_and_joined_without_rows(indexed: Store) -> None:
    wanted = Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,), text="whale", field=Field.SUBJECT, **WINDOW)
    plan = plan_of_page(indexed, wanted)
    assert any("SCAN x VIRTUAL TABLE INDEX" in line for line in plan), plan
    assert any("USING COVERING INDEX entry_queue (queue=? AND id=?)" in line for line in plan), plan
    looked = next(number for number, line in enumerate(plan) if "SCAN x VIRTUAL TABLE" in line)
    assert not any("TEMP B-TREE" in line for line in plan[looked + 1 : looked + 3]), plan


def test_the_count_of_a_search_reads_no_row(indexed: Store) -> None:
    for wanted in (
        Filter(queues=(Queue.PROCESSING,), text="whale", field=Field.SUBJECT),
        Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,), attachment=False, text="whale"),
        Filter(queues=(Queue.PROCESSING,), text="queued"),
    ):
        plan = plans_of_count(indexed, wanted, infos=(1,))
        read = [line for line in plan if line.startswith(("SEARCH", "SCAN"))]
        allowed = (
            "COVERING INDEX entry_queue",
            "VIRTUAL TABLE",
            "r USING PRIMARY KEY (info_id=? AND queue=? AND id>? AND id<?)",
        )
        assert all(any(one in line for one in allowed) for line in read), plan


@pytest.mark.parametrize("number", [2, 1_000])
def test_entries_with_a_reason_are_found_by_it_and_counted_without_rows(indexed: Store, number: int) -> None:
    """Those that are too new for the table of reasons are looked for in the queue's index, and a page of many is read
    there in order."""
    wanted = Filter(queues=(Queue.PROCESSING,), attachment=False, text="queued", field=Field.INFO)
    infos = tuple(range(number))
    by_reason = "SEARCH r USING PRIMARY KEY (info_id=? AND queue=? AND id>? AND id<?)"
    by_queue = "SEARCH e USING COVERING INDEX entry_queue (queue=? AND id>? AND id<?)"

    def plans(reasons: Reasons | None) -> tuple[str, str]:
        parts = parts_of(wanted, infos, reasons)
        count = [line for text, values in parts.counts() for line in explain(indexed, text, values)]
        ids, values = parts.page(101, descending=True)
        return "\n".join(count), "\n".join(explain(indexed, ids, values))

    few, many = Reasons(LAST, lambda infos, queue: False), Reasons(LAST, lambda infos, queue: True)
    assert all(by_reason in plan and by_queue not in plan for plan in plans(few))
    count, page = plans(many)
    assert by_reason in count
    assert by_queue in page
    assert by_reason not in page
    assert all(by_reason in plan and by_queue in plan for plan in plans(Reasons(NOW << 20, few.many)))
    assert all(by_queue in plan and by_reason not in plan for plan in plans(None))


def test_the_count_of_what_is_in_most_entries_merges_both_indexes_in_their_order(indexed: Store) -> None:
    for queues in ((Queue.PROCESSING,), ()):
        wanted = Filter(queues=queues, routes=(Route.INBOUND,), text="whale", field=Field.SUBJECT, **WINDOW)
        found = sources(
            wanted,
            bounds(wanted),
            watermark=LAST,
            infos=lambda text: (),
            now=NOW,
            reasons=REASONS,
            common=lambda text: True,
        )
        plan = [line for text, values in found.counts() for line in explain(indexed, text, values)]
        assert "MERGE (INTERSECT)" in plan, plan
        assert not any("TEMP B-TREE" in line for line in plan), plan
        by_queue = [
            line for line in plan if "SEARCH n USING COVERING INDEX entry_queue (queue=? AND id>? AND id<?)" in line
        ]
        assert len(by_queue) == (1 if queues else 5), plan


def test_a_reason_that_nobody_has_reads_nothing() -> None:
    for aspect in (Aspect.INFO, Aspect.ERROR):
        wanted = Filter(terms=(Term(aspect, Relation.HAS, "nowhere"),))
        assert sources(wanted, Bounds(0, 9), watermark=5, infos=lambda text: (), now=NOW).parts == ()


def test_the_counters_are_read_by_their_key_and_their_edges_by_index(indexed: Store) -> None:
    asked: list[str] = []
    tx = indexed.read_now().tx
    tx.connection.exec_trace = lambda tx, statement, bindings: bool(asked.append(statement)) or True
    try:
        counters.total(tx, Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,)), 5, 1 << 62)
        counters.total(tx, Filter(queues=(Queue.PROCESSING,)), 5, 1 << 62)
        counters.by_queue(tx)
    finally:
        tx.connection.exec_trace = None
    plans = [
        line
        for statement in asked
        if "FROM entry" in statement or "queue IN" in statement
        for line in explain(
            indexed, statement, (0,) * len({*re.findall(r":\w+", statement), *range(statement.count("?"))})
        )
    ]
    by_key = "PRIMARY KEY (queue=? AND route=? AND attachment=?"
    assert all("COVERING INDEX entry_" in line or by_key in line for line in plans), plans
    assert any("tally" in line for line in plans)
    assert any("entry_filter" in line for line in plans)
    assert any("entry_queue" in line for line in plans)
