"""The searches of the conformance suite again: with the index filled to a point, and in each way that only a larger
queue would take by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.model import Filter
from postroom.settings import Settings
from postroom.store.find import counters
from postroom.store.sqlite import rarity
from postroom.store.sqlite import reasons as reason_index
from postroom.store.sqlite.search_index import Filling
from tests.conformance.test_conditions import Crowd, finds_literally, finds_what_is_there, pages_without_a_gap


class Indexed(Crowd):
    """Some entries are newer than the index, and some of what is in it has ended."""

    def __init__(self, data: Path, index: str) -> None:
        super().__init__(Settings(data=str(data)))
        if index:
            self._index(whole=index == "whole")

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
        self.look()
        assert self.reader.searches.attached


@pytest.fixture(scope="module", params=["", "half", "whole"], ids=["no index", "half an index", "an index"])
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    made = Indexed(tmp_path_factory.mktemp("crowd"), request.param)
    yield made
    made.store.close()


@pytest.mark.parametrize("way", ["whole phrases", "rare pieces, reasons of many", "merged"])
def test_a_filter_finds_what_a_plain_reading_of_it_finds(
    crowd: Indexed, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "merged":
        monkeypatch.setattr("postroom.store.find.search.Searches._common", lambda *asked: True)
    elif way != "whole phrases":
        monkeypatch.setattr(rarity, "CHEAP", 8)  # nearly every text is looked for by a piece
        monkeypatch.setattr("postroom.store.find.search.MANY", 3)
    finds_what_is_there(crowd)


def test_pages_go_forth_and_back_without_a_gap(crowd: Indexed) -> None:
    pages_without_a_gap(crowd)


def test_what_is_searched_for_is_literal(crowd: Indexed) -> None:
    finds_literally(crowd)


def test_a_very_long_text_finds_nothing_and_costs_nothing(crowd: Indexed) -> None:
    assert crowd.reader.count(Filter(text="report " * 10_000)) == 0
