"""The reasons in the search index: found there as the dictionary has them, whatever is newer, forgotten, missing or
mended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postroom.clock import SystemClock
from postroom.model import Field, Filter
from postroom.store.keep import upkeep
from postroom.store.sqlite import reasons as reason_index
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import Store
from postroom.store.verify.proof import verify

TEXTS = ("451 Try again, says mx.Example.org", "no route to bücher.example", "ab", "Straße closed", "100%_done")


@pytest.fixture
def filling(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    monkeypatch.setattr(reason_index, "STEP", 2)
    learn(store, *TEXTS)
    made = Filling(store.index)
    store.index.replaced(ready=True)
    yield made
    made.close()


def learn(store: Store, *texts: str) -> list[int]:
    """Texts of the dictionary, which no entry has."""
    infos = store.context().infos
    return store.write_now(lambda tx: [infos.id(tx, text) for text in texts])


def containing(store: Store, needle: str) -> list[int]:
    searches = store.read_now().searches
    searches._known.clear()
    return sorted(searches._infos(needle))


def in_index(filling: Filling) -> list[int]:
    return [ident for (ident,) in filling.tx.rows("SELECT id FROM reasons_docsize ORDER BY id")]


def forget(store: Store, *infos: int) -> None:
    store.write_now(lambda tx: tx.rows(upkeep.forget_infos(len(infos)), (*infos, 1 << 60)))


def test_they_are_taken_in_in_steps_and_what_is_newer_is_read(store: Store, filling: Filling) -> None:
    assert [filling.take_in_reasons() for _ in range(3)] == [2, 2, 0], "a fifth one waits for a sixth"
    assert in_index(filling) == [1, 2, 3, 4]
    expected = {
        "example": [1, 2], "straße": [], "strasse": [4], "100%_": [5], "%_d": [5], "bücher": [2], "ab": [3], "zzz": [],
    }  # fmt: skip
    for needle, there in expected.items():
        assert containing(store, needle) == there, needle
    with filling.tx.snapshot():  # what stands in the index is believed: this shows that it was asked
        filling.tx.rows("INSERT INTO reasons (reasons) VALUES ('delete-all')")
    assert containing(store, "example") == []
    assert containing(store, "100%_") == [5]


def test_what_is_forgotten_or_missing_is_put_right_by_a_sweep(store: Store, filling: Filling) -> None:
    while filling.take_in_reasons():
        pass
    forget(store, 1)
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM reasons WHERE rowid = 2")
    assert containing(store, "example") == [1]  # it is the reason of no entry
    assert filling.sweep() == (0, True)
    assert in_index(filling) == [2, 3, 4]
    assert containing(store, "example") == [2]


def test_the_newest_is_never_forgotten_so_that_no_id_comes_twice(store: Store, filling: Filling) -> None:
    forget(store, 4, 5)
    store.forget_texts()
    assert learn(store, "another one") == [6]
    forget(store, 6)
    assert containing(store, "another") == [6]


def test_a_store_with_fewer_texts_than_were_taken_in_is_another_one(store: Store, filling: Filling) -> None:
    while filling.take_in_reasons():
        pass
    assert filling.is_ours()
    store.write_now(lambda tx: tx.rows("DELETE FROM info WHERE id >= 4"))  # as one that was put back
    assert not filling.is_ours()


def test_a_text_that_is_mended_disowns_the_index(store: Store, filling: Filling) -> None:
    while filling.take_in_reasons():
        pass
    store.write_now(lambda tx: tx.rows("UPDATE info SET folded = 'spoiled' WHERE id = 2"))
    assert not filling.is_ours()
    assert verify(store, clock=SystemClock(), repair=True).counts == {"reason": {"repaired": 1}}
    again = Filling(store.index)
    assert in_index(again) == []
    again.close()


def test_a_text_that_the_index_has_lost_is_found_and_the_index_disowned(store: Store, filling: Filling) -> None:
    while filling.take_in_reasons():
        pass
    assert verify(store, clock=SystemClock()).counts == {}
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM reasons WHERE rowid = 3")
    [result] = verify(store, clock=SystemClock()).results
    assert (result.finding.kind, result.finding.id) == ("index-entry", 3)
    assert verify(store, clock=SystemClock(), repair=True).counts == {"index-entry": {"repaired": 1}}
    assert not filling.is_ours()


def test_a_damaged_index_is_reported_and_the_dictionary_read(store: Store, filling: Filling) -> None:
    while filling.take_in_reasons():
        pass
    with filling.tx.snapshot():
        filling.tx.rows("DELETE FROM reasons_data WHERE id > 10")
    assert containing(store, "example") == [1, 2]
    assert store.index.distrusted.is_set()
    assert store.read_now().count(Filter(text="example", field=Field.INFO)) == 0
