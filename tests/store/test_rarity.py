"""The rare piece of a text: chosen by what its trigrams cost, and every row that holds the text is among what it
finds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.model import Field, Filter
from postroom.store.sqlite import rarity
from postroom.store.sqlite.rarity import pieces
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import Store
from tests.store.conftest import a_message, accepted

COSTS = {"elz": 5_000, "lze": 6_000, "zen": 150_000, "end": 90_000, "nd.": 20_000}


@given(st.text(min_size=3, max_size=60), st.dictionaries(st.text(min_size=3, max_size=3), st.integers(0, 1_000_000)))
def test_pieces_grow_from_the_rarest_trigram_to_the_whole_text(text: str, costs: dict[str, int]) -> None:
    def rows(trigram: str) -> int:
        return costs.get(trigram, 1_000)

    found = pieces(text, rows)
    assert [len(piece) for piece, _ in found] == list(range(3, len(text) + 1))
    assert found[0][1] == min(rows(text[at : at + 3]) for at in range(len(text) - 2))
    assert found[-1][0] == text
    for piece, cost in found:
        assert piece in text
        assert cost == sum(rows(piece[at : at + 3]) for at in range(len(piece) - 2))
    assert all(smaller in larger for (smaller, _), (larger, _) in pairwise(found))


def test_the_cheaper_side_comes_first() -> None:
    found = pieces("elzend.example", lambda trigram: COSTS.get(trigram, 1_000_000))
    assert [piece for piece, _ in found[:5]] == ["elz", "elze", "elzen", "elzend", "elzend."]
    assert pieces("abc", lambda trigram: 7) == [("abc", 7)]


def test_candidates_that_do_not_hold_the_whole_text_are_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = ("zanzibar one", "zanzibar two", "one two three", "nothing of it")
    made = [accepted(store, a_message(subject=subject)).entries[0] for subject in subjects]
    filling = Filling(store.index)
    filling.fill(made[-1])
    filling.close()
    store.index.replaced(ready=True)
    monkeypatch.setattr(rarity, "CHEAP", 0)  # a single trigram
    looked: list[object] = []
    few = rarity.Rarity.few

    def seen(self: rarity.Rarity, *asked: object) -> object:
        looked.append(few(self, *asked))  # type: ignore[arg-type]
        return looked[-1]

    monkeypatch.setattr(rarity.Rarity, "few", seen)
    reader = store.read_now()
    wanted = Filter(text="zanzibar t", field=Field.SUBJECT)
    assert [entry.id for entry in reader.find(wanted, limit=10)] == [made[1]]
    assert len(looked) == 1
    assert isinstance(looked[0], list)
    assert made[1] in looked[0]
    assert reader.count(wanted) == 1
    assert len(looked) == 1, "the page and its total look once, while nothing changes"
    late = accepted(store, a_message(subject="zanzibar to")).entries[0]
    assert [entry.id for entry in reader.find(wanted, limit=10)] == [late, made[1]]
    assert len(looked) == 2, "another state of the store is looked at anew"
    assert reader.count(wanted) == 2


def filled(store: Store, *subjects: str) -> list[int]:
    made = [accepted(store, a_message(subject=subject)).entries[0] for subject in subjects]
    filling = Filling(store.index)
    filling.fill(made[-1])
    filling.close()
    store.index.replaced(ready=True)
    return made


def test_many_are_left_to_the_phrase(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store, *["zanzibar"] * 3)
    monkeypatch.setattr(rarity, "CHEAP", 0)
    monkeypatch.setattr(rarity, "FEW", 2)
    reader = store.read_now()
    assert reader.searches._rarity.few("zanzibar", None) is None
    assert reader.count(Filter(text="zanzibar")) == 3


def test_a_piece_that_finds_too_many_grows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = filled(store, *["zanzi"] * 3, *["zanzibar bought"] * 2)
    monkeypatch.setattr(rarity, "CHEAP", 0)
    monkeypatch.setattr(rarity, "FEW", 2)
    monkeypatch.setattr(rarity.Rarity, "_rows", lambda self, trigram: 1 if trigram == "zan" else 5)
    known = store.read_now().searches._rarity
    assert known.few("zanzibar", None) == made[3:], "zan, zanz, zanzib"
    assert known.few("zanz", None) is None
    assert store.read_now().count(Filter(text="zanzibar b")) == 2


def test_more_rows_are_worth_a_look_the_more_the_phrase_would_cost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filled(store, *["zanzi"] * 2, *["zanzibar"] * 3)
    monkeypatch.setattr(rarity, "CHEAP", 0)
    monkeypatch.setattr(rarity, "FEW", 1)
    monkeypatch.setattr(rarity.Rarity, "_rows", lambda self, trigram: 1_000 if trigram == "iba" else 5_000)
    known = store.read_now().searches._rarity  # six trigrams: 26,000 rows
    monkeypatch.setattr(rarity, "WORTH", 26_000 // 3)
    assert known.few("zanzibar", None) == made[2:]
    monkeypatch.setattr(rarity, "MOST", 2)
    assert known.few("zanzibar", None) is None
    monkeypatch.setattr(rarity, "MOST", 3)
    monkeypatch.setattr(rarity, "WORTH", 26_000 // 3 + 1)
    assert known.few("zanzibar", None) is None


def test_the_share_of_a_text_is_that_of_its_rarest_trigram(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rarity, "LOOKED_AT", 4)
    for number in range(16):
        made = accepted(store, a_message(subject="whale zebra" if number % 3 == 0 else "whale")).entries[0]
    filling = Filling(store.index)
    filling.fill(made)
    filling.close()
    store.index.replaced(ready=True)
    known = store.read_now().searches._rarity
    assert known.share("whale") == 1.0
    assert 0.05 < known.share("whale zebra") < 0.9
    assert known.share("quagga") == 0.0
    assert known.share("wh") == 0.0
