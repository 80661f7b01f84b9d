"""Every filter finds exactly what a plain reading of it finds, in every order and page, with and without the search index."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from postroom.clock import HandClock
from postroom.model import Entry, Filter, Order, Queue
from postroom.settings import Settings
from postroom.store.find import counters
from postroom.store.find.reader import Reader
from postroom.store.sqlite import rarity
from postroom.store.sqlite import reasons as reason_index
from postroom.store.sqlite.search_index import Filling
from postroom.store.store import open_store
from tests.conformance.crowd import a_filter, fill
from tests.conformance.naive import holds

FILTERS = 400


class Crowd:
    """A store full of entries, some of them newer than its index, some of the index ended."""

    def __init__(self, data: Path, index: str) -> None:
        self.clock = HandClock(1_800_000_000_000)
        self.chance = random.Random(7)
        self.store = open_store(Settings(data=str(data)), clock=self.clock)
        self.passed = fill(self.store, self.clock, self.chance, 160)
        if index:
            self._index(whole=index == "whole")
        self.reader: Reader = self.store.read_now()
        self.entries: list[Entry] = self.reader.find(Filter(), limit=1_000)

    def _index(self, *, whole: bool) -> None:
        ids = [entry.id for entry in self.store.read_now().find(Filter(), limit=1_000)]
        filling = Filling(self.store.index)
        filling.fill(ids[0] if whole else ids[60])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(reason_index, "STEP", 3)
            while filling.take_in_reasons():
                pass
        filling.close()
        counted = ids[0] if whole else ids[40]
        while self.store.write_now(lambda tx: counters.advance(tx, counted)):
            pass
        self.store.index.replaced(ready=True)
        ended = ids[2::9]
        self.store.write_now(lambda tx: tx.many("DELETE FROM entry WHERE id = ?", [(one,) for one in ended]))


@pytest.fixture(scope="module", params=["", "half", "whole"], ids=["no index", "half an index", "an index"])
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    made = Crowd(tmp_path_factory.mktemp("crowd"), request.param)
    yield made
    made.store.close()


def test_the_crowd_is_mixed(crowd: Crowd) -> None:
    assert {entry.queue for entry in crowd.entries} == set(Queue)
    assert len(crowd.entries) > 180


@pytest.mark.parametrize("way", ["whole phrases", "rare pieces, reasons of many", "merged"])
def test_a_filter_finds_what_a_plain_reading_of_it_finds(
    crowd: Crowd, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way that only a larger queue would take by itself."""
    if way == "merged":
        monkeypatch.setattr("postroom.store.find.search.Searches._common", lambda *asked: True)
    elif way != "whole phrases":
        monkeypatch.setattr(rarity, "CHEAP", 8)  # nearly every text is looked for by a piece
        monkeypatch.setattr("postroom.store.find.search.MANY", 3)
    chance = random.Random(23)
    hits = 0
    for number in range(FILTERS):
        wanted = a_filter(chance, crowd.entries)
        now = crowd.clock.now()
        expected = [e.id for e in crowd.entries if holds(e, wanted, now, crowd.passed[e.id])]
        found = [entry.id for entry in crowd.reader.find(wanted, limit=1_000, now=now)]
        assert found == expected, (number, wanted)
        assert crowd.reader.count(wanted, now=now) == len(expected), (number, wanted)
        hits += bool(expected)
    assert hits > FILTERS // 3, "the filters must find something, or they show nothing"


def test_pages_go_forth_and_back_without_a_gap(crowd: Crowd) -> None:
    chance = random.Random(5)
    for number in range(60):
        wanted = a_filter(chance, crowd.entries)
        now = crowd.clock.now()
        order = chance.choice(list(Order))
        top = chance.choice([None, crowd.entries[20].id])
        expected = [
            e.id
            for e in sorted(crowd.entries, key=lambda e: e.id, reverse=order is Order.NEWEST)
            if holds(e, wanted, now, crowd.passed[e.id]) and (top is None or e.id <= top)
        ]
        assert crowd.reader.count(wanted, top=top, now=now) == len(expected), (number, wanted)
        found: list[int] = []
        while True:
            after = found[-1] if found else None
            page = crowd.reader.find(wanted, limit=7, order=order, after=after, top=top, now=now)
            found += [entry.id for entry in page]
            if found[7:]:
                before = crowd.reader.find(wanted, limit=7, order=order, before=found[-1], top=top, now=now)
                assert [entry.id for entry in before] == expected[max(0, len(found) - 8) : len(found) - 1]
            if len(page) < 7:
                break
        assert found == expected, (number, wanted)


def test_what_is_searched_for_is_literal(crowd: Crowd) -> None:
    for text in ("%", "_", "*", '"', "' OR 1=1 --", "a AND b", "NEAR(a b)", "subject:report", "\\", "x'y", "-alice"):
        wanted = Filter(text=text)
        expected = [e.id for e in crowd.entries if holds(e, wanted, 0)]
        assert [entry.id for entry in crowd.reader.find(wanted, limit=1_000)] == expected, text


def test_a_very_long_text_finds_nothing_and_costs_nothing(crowd: Crowd) -> None:
    assert crowd.reader.count(Filter(text="report " * 10_000)) == 0
