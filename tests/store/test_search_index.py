"""The search index follows behind, is made anew whenever it cannot be trusted, and never changes what a search
finds."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import apsw
import pytest

from postroom.clock import HandClock
from postroom.model import Aspect, Field, Filter, Queue, Relation, Term
from postroom.settings import Settings
from postroom.store import codes
from postroom.store.find import counters
from postroom.store.fold import SearchTooBroad
from postroom.store.sqlite import rarity
from postroom.store.sqlite.search_index import ENDED_LEAST, Filler, Filling
from postroom.store.store import Store
from postroom.telemetry import Log
from tests.conformance.crowd import fill
from tests.store.conftest import Opener, a_message, accepted

GENEROUS = 60.0  # seconds


def ids(store: Store, **wanted: object) -> list[int]:
    return [entry.id for entry in store.read_now().find(Filter(**wanted), limit=10_000)]  # type: ignore[arg-type]


def filled(store: Store) -> Filling:
    filling = Filling(store.index)
    while filling.fill(filling.newest()):
        pass
    store.index.replaced(ready=True)
    return filling


def indexed(filling: Filling) -> set[int]:
    return {ident for (ident,) in filling.tx.rows("SELECT id FROM ix_docsize")}


def end(store: Store, ended: list[int]) -> None:
    rows = [(one,) for one in ended]
    store.write_now(lambda tx: tx.many("DELETE FROM entry WHERE id = ?", rows))


def test_it_takes_in_entries_in_order_and_the_watermark_follows(store: Store) -> None:
    for number in range(7):
        accepted(store, a_message(subject=f"number {number}"))
    there = ids(store)[::-1]
    filling = Filling(store.index)
    assert filling.fill(there[-1], most=3) == 3
    assert filling.watermark == there[2]
    assert filling.fill(there[4], most=3) == 2
    assert filling.watermark == there[4]
    assert indexed(filling) == set(there[:5])
    filling.close()


def test_a_search_is_answered_by_the_index_up_to_the_watermark_and_from_rows_above(store: Store) -> None:
    first, second = (accepted(store, a_message(subject=text)).entries[0] for text in ("blue whale", "whale song"))
    filling = Filling(store.index)
    filling.fill(first)
    store.index.replaced(ready=True)
    assert store.read_now().searches.attached
    assert ids(store, text="WHALE") == [second, first]
    # What stands in the index is believed: this shows that it was asked.
    with filling.tx.snapshot():
        filling.tx.rows("INSERT INTO ix (ix) VALUES ('delete-all')")
    assert ids(store, text="WHALE") == [second]
    filling.close()


def test_what_has_ended_falls_out_at_once_and_is_taken_out_behind(store: Store) -> None:
    there = [accepted(store, a_message(subject="blue whale")).entries[0] for _ in range(6)]
    filling = filled(store)
    end(store, there[:2])
    assert store.read_now().count(Filter(text="whale")) == 4
    assert indexed(filling) == set(there)
    assert filling.sweep() == (2, True)
    assert indexed(filling) == set(there[2:])
    assert store.read_now().count(Filter(text="whale")) == 4
    end(store, there[2:])
    filling.sweep()
    assert indexed(filling) == set()
    filling.close()


def test_what_is_about_to_end_stays_in_it_because_it_may_come_back(store: Store) -> None:
    there = [accepted(store, a_message(subject="blue whale")).entries[0] for _ in range(3)]
    filling = filled(store)
    moved = "UPDATE entry SET queue = ? WHERE id = ?"
    store.write_now(lambda tx: tx.rows(moved, (codes.LEAVING, there[1])))
    assert ids(store, text="whale") == [there[2], there[0]]
    assert filling.sweep() == (0, True)
    store.write_now(lambda tx: tx.rows(moved, (0, there[1])))
    assert ids(store, text="whale") == there[::-1]
    filling.close()


def test_a_sweep_in_steps_finds_what_has_ended_and_what_is_missing(store: Store) -> None:
    there = [accepted(store, a_message(subject="blue whale")).entries[0] for _ in range(10)]
    filling = filled(store)
    end(store, there[3:5])
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM ix WHERE rowid IN (?, ?)", (there[0], there[9]))
    assert ids(store, text="whale") == [*there[8:4:-1], there[2], there[1]]
    changed, steps = 0, 0
    while True:
        number, done = filling.sweep(most=3)
        changed, steps = changed + number, steps + 1
        if done:
            break
    assert (changed, steps > 1) == (4, True)
    assert ids(store, text="whale") == [*there[:4:-1], *there[2::-1]]
    filling.close()


def test_a_late_entry_asks_for_a_sweep(store: Store, clock: HandClock) -> None:
    accepted(store, a_message(subject="blue whale"))
    clock.move(1)
    there = accepted(store, a_message(subject="blue whale")).entries[0]
    store.write_now(lambda tx: counters.advance(tx, there))
    filling = filled(store)
    while not filling.sweep()[1] or filling.sweep_due():
        pass
    store.write_now(lambda tx: tx.rows("CREATE TEMP TABLE late AS SELECT * FROM entry WHERE id = ?", (there,)))
    store.write_now(lambda tx: tx.rows("UPDATE temp.late SET id = id - 1"))
    store.write_now(lambda tx: tx.rows("INSERT INTO entry SELECT * FROM temp.late"))
    assert ids(store, text="whale")[:2] != [there, there - 1]
    assert filling.sweep_due()
    filling.sweep()
    assert ids(store, text="whale")[:2] == [there, there - 1]
    filling.close()


@pytest.mark.parametrize(
    "spoiled", ["missing", "empty", "rubbish", "other version", "other store", "put back", "changed"]
)
def test_a_file_that_is_not_the_index_of_this_store_is_made_anew(
    opening: Opener, settings: Settings, clock: HandClock, spoiled: str
) -> None:
    store = opening()
    fill(store, clock, random.Random(1), 20)
    kept = filled(store)
    before = indexed(kept)
    kept.tx.rows({
        "other version": "PRAGMA user_version=99",
        "other store": "UPDATE state SET number = number + 1 WHERE what = 'token'",
        "put back": "UPDATE state SET number = number + 1000 WHERE what = 'facts'",
    }.get(spoiled, "SELECT 1"))  # fmt: skip
    kept.close()
    if spoiled == "changed":
        store.write_now(lambda tx: tx.rows("UPDATE entry SET search = search"))
    store.close()
    path = Path(settings.data, "search.db")
    for remains in ("search.db-wal", "search.db-shm"):
        Path(settings.data, remains).unlink(missing_ok=True)
    if spoiled == "missing":
        path.unlink()
    elif spoiled in ("empty", "rubbish"):
        path.write_bytes(b"" if spoiled == "empty" else random.Random(2).randbytes(20_000))
    store = opening()
    filling = Filling(store.index)
    assert filling.watermark == 0
    assert indexed(filling) == set()
    filling.fill(filling.newest())
    assert indexed(filling) == before
    assert path.stat().st_mode & 0o777 == 0o600
    filling.close()


def test_a_good_file_is_taken_up_again_after_a_restart(opening: Opener) -> None:
    store = opening()
    there = accepted(store, a_message(subject="blue whale")).entries[0]
    filled(store).close()
    store.close()
    filling = Filling(opening().index)
    assert filling.watermark == there
    filling.close()


def test_an_index_of_another_store_is_not_asked_beside_a_gateway(opening: Opener) -> None:
    store = opening()
    there = accepted(store, a_message(subject="blue whale")).entries[0]
    filled(store).close()
    beside = opening(beside=True)
    assert beside.read_now().searches.attached
    assert ids(beside, text="whale") == [there]
    store.write_now(lambda tx: tx.rows("UPDATE counted SET token = token + 1"))
    other = opening(beside=True)
    assert not other.read_now().searches.attached
    assert ids(other, text="whale") == [there]


def test_an_index_that_turns_out_damaged_is_reported_and_the_rows_are_read(store: Store) -> None:
    there = accepted(store, a_message(subject="blue whale")).entries[0]
    filling = filled(store)
    assert ids(store, text="whale") == [there]
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM ix_data WHERE id > 10")
    assert ids(store, text="whale") == [there]
    assert store.read_now().count(Filter(text="whale")) == 1
    assert store.index.distrusted.is_set()
    assert not store.read_now().searches.attached
    filling.close()


@pytest.mark.parametrize("cheap", [rarity.CHEAP, 0], ids=["phrase", "piece"])
def test_the_search_that_finds_it_damaged_is_answered_all_the_same(
    store: Store, monkeypatch: pytest.MonkeyPatch, cheap: int
) -> None:
    monkeypatch.setattr(rarity, "CHEAP", cheap)
    there = [accepted(store, a_message(subject=f"whale{number} report")).entries[0] for number in range(300)]
    filling = filled(store)
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM ix_data WHERE id > 10")
    assert ids(store, text="whale7 report", field=Field.SUBJECT) == [there[7]]
    assert store.index.distrusted.is_set()
    filling.close()


def test_what_searches_have_in_common_is_kept_within_bounds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.store.find.search.MOST_KEPT", 5)
    accepted(store, a_message(subject="blue whale"))
    searches = store.read_now().searches
    for number in range(40):
        assert store.read_now().count(Filter(text=f"nothing {number}")) == 0
        assert len(searches._known) <= 5


def test_the_filler_fills_counts_and_repairs_beside_the_mail(store: Store) -> None:
    """From nothing to an index, through damage to another one, and to an orderly end."""
    there = [accepted(store, a_message(subject="blue whale")).entries[0] for _ in range(5)]
    counted = threading.Event()
    generations: list[int] = []

    def advance(newest: int) -> int:
        if newest >= there[-1]:
            counted.set()
        return store.advance_counters(newest)

    filler = Filler(store.index, log=Log(), commits=lambda: 0, advance=advance, behind=0.0)
    filler.start()
    try:
        assert counted.wait(GENEROUS)
        wait_until(lambda: has(store, there))
        generations.append(store.index.generation)
        store.index.distrust()
        wait_until(lambda: store.index.generation > generations[0] + 1 and has(store, there))
        assert ids(store, text="whale") == there[::-1]
        assert store.read_now().searches.attached
    finally:
        filler.stop()
    assert not filler.is_alive()
    assert store.write_now(lambda tx: counters.by_queue(tx))[0] == 5


def test_an_index_that_may_not_grow_waits_until_it_may(store: Store) -> None:
    there = [accepted(store, a_message(subject="blue whale")).entries[0] for _ in range(3)]
    looks: list[int] = []

    def advance(newest: int) -> int:
        looks.append(newest)
        return store.advance_counters(newest)

    store.index.halted = True
    filler = Filler(store.index, log=Log(), commits=lambda: 0, advance=advance, behind=0.0)
    filler.start()
    try:
        wait_until(lambda: looks.count(there[-1]) > 2)  # it has gone round since
        assert not has(store, there[:1])
        assert ids(store, text="whale") == there[::-1], "what is not in it is found all the same"
        store.index.halted = False
        wait_until(lambda: has(store, there))
    finally:
        filler.stop()


def has(store: Store, there: list[int]) -> bool:
    reader = store.read_now()
    if not reader.searches.attached:
        return False
    state = dict(reader.tx.rows("SELECT what, number FROM find.state"))
    return state["watermark"] >= there[-1]


def wait_until(holds) -> None:
    """A condition of another thread: looked at again and again, generously."""
    limit = threading.Event()
    for _ in range(int(GENEROUS / 0.02)):
        if holds():
            return
        limit.wait(0.02)
    raise AssertionError("it did not come true")


def test_a_store_stops_its_filler(opening: Opener) -> None:
    store = opening()
    accepted(store, a_message())
    store.start_fillers()
    store.close()
    assert not any(thread.name == "postroom-search" for thread in threading.enumerate())


def test_a_search_that_takes_too_long_is_refused_and_says_why(store: Store) -> None:
    for _ in range(60):
        accepted(store, a_message(*[f"r{number}@corp.example" for number in range(100)], subject="blue whale"))
    reader = store.read_now()
    store.index.bound = 0.0
    with pytest.raises(SearchTooBroad, match=r"too broad.*three characters"):
        reader.count(Filter(text="zz"))
    with pytest.raises(SearchTooBroad):
        reader.find(Filter(terms=(Term(Aspect.SIZE, Relation.MORE, 1 << 40),)), limit=10)
    assert reader.count(Filter(queues=(Queue.PROCESSING,))) == 6_000  # no search
    filling = filled(store)
    assert store.read_now().count(Filter(text="whale")) == 6_000  # no reading of rows
    assert store.read_now().count(Filter(text="zzz", field=Field.SUBJECT)) == 0
    filling.close()
    store.index.bound = GENEROUS
    assert reader.count(Filter(text="zz")) == 0


def test_while_the_index_is_being_made_the_refusal_tells_how_far_it_is(store: Store) -> None:
    for _ in range(60):
        accepted(store, a_message(*[f"r{number}@corp.example" for number in range(100)], subject="blue whale"))

    def refused(text: str) -> str:
        store.index.bound = 0.0
        with pytest.raises(SearchTooBroad) as caught:
            store.read_now().count(Filter(text=text))
        return str(caught.value).partition("; ")[2]

    assert refused("whale") == "the search index is not complete yet: 0 % of what waits is in it"
    filling = Filling(store.index)
    assert filling.fill(filling.newest(), most=2_500) == 2_500
    store.index.replaced(ready=True)
    assert refused("whale") == "the search index is not complete yet: 41 % of what waits is in it"
    assert refused("zz") == "", "there it would be of no use"
    store.index.halted = True
    assert refused("whale") == (
        "the search index, which stands still while there is little room on the disk, is not complete yet: "
        "41 % of what waits is in it"
    )
    while filling.fill(filling.newest()):
        pass
    assert store.read_now().count(Filter(text="whale")) == 6_000
    assert refused("zz") == ""
    filling.close()


def test_one_broad_search_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(60):
        accepted(store, a_message(*[f"r{number}@corp.example" for number in range(100)]))
    monkeypatch.setattr("postroom.store.find.search.TOGETHER", 0.0)
    reader = store.read_now()
    store.index.bound = GENEROUS
    with store.index.alone, pytest.raises(SearchTooBroad, match="another broad search"):
        reader.count(Filter(text="zz"))
    assert reader.count(Filter(text="zz")) == 0
    assert not store.index.alone.locked()


def test_a_sweep_comes_when_much_has_ended(store: Store) -> None:
    accepted(store, a_message())
    accepted(store, a_message())
    filling = filled(store)
    assert filling.sweep_due()  # the first one proves the file
    filling.sweep()
    assert not filling.sweep_due() or filling.sweep()[1]
    assert not filling.sweep_due()
    store.write_now(
        lambda tx: tx.rows("INSERT INTO ledger (connection, kind, number) VALUES (-1, 'delivered', ?)", (ENDED_LEAST,))
    )
    assert filling.sweep_due()
    filling.close()


def test_the_index_never_opens_the_store_for_writing(store: Store) -> None:
    filling = filled(store)
    with pytest.raises(apsw.ReadOnlyError):
        filling.tx.rows("DELETE FROM store.entry")
    filling.close()
