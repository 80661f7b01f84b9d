"""Every filter finds exactly what a plain reading of it finds, in every order and page, with and without an index."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

import pytest

from postroom.clock import HandClock
from postroom.model import Action, Entry, Filter, Order, Queue
from postroom.settings import Settings
from postroom.store import Reader, open_store
from postroom.telemetry import Log
from tests.conformance.conftest import ENGINES, settings_of
from tests.conformance.crowd import a_filter, fill, message
from tests.conformance.driven import START, accepted
from tests.conformance.naive import holds

FILTERS = 400
LIMIT = 60.0  # seconds


class Crowd:
    """A store full of entries."""

    def __init__(self, settings: Settings) -> None:
        self.clock = HandClock(START)
        self.chance = random.Random(7)
        self.store = open_store(settings, clock=self.clock)
        self.passed = fill(self.store, self.clock, self.chance, 160)
        self.look()

    def look(self) -> None:
        """What waits now is what the filters are asked of."""
        self.reader: Reader = self.store.read_now()
        self.entries: list[Entry] = self.reader.find(Filter(), limit=1_000)

    def indexed(self) -> None:
        """The index and the counters follow; some entries are newer, and some of what is in the index has ended."""
        newest, there = self.entries[0].id, threading.Event()

        def advance(reached: int) -> int:
            number = self.store.advance_counters(reached)
            if reached >= newest and not number:
                there.set()
            return number

        self.store.index.follow(log=Log(), commits=lambda: self.store.counts.commits, advance=advance)
        assert there.wait(LIMIT)
        self.store.index.stop()
        self.store.act_now(Action.DELETE, [entry.id for entry in self.entries[2::9]], actor="ann")
        for _ in range(20):
            new = accepted(self.store, message(self.chance, self.clock.now()))
            self.passed |= dict.fromkeys(new.entries, ())
        self.look()


@pytest.fixture(
    scope="module", params=[(engine, index) for engine in ENGINES for index in ("no index", "an index")], ids=" ".join
)
def crowd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    engine, index = request.param
    made = Crowd(settings_of(engine, tmp_path_factory.mktemp("crowd")))
    if index == "an index":
        made.indexed()
    yield made
    made.store.close()


def test_the_crowd_is_mixed(crowd: Crowd) -> None:
    assert {entry.queue for entry in crowd.entries} == set(Queue)
    assert len(crowd.entries) > 180


def test_a_filter_finds_what_a_plain_reading_of_it_finds(crowd: Crowd) -> None:
    finds_what_is_there(crowd)


def finds_what_is_there(crowd: Crowd) -> None:
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
    pages_without_a_gap(crowd)


def pages_without_a_gap(crowd: Crowd) -> None:
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
    finds_literally(crowd)


def finds_literally(crowd: Crowd) -> None:
    for text in ("%", "_", "*", '"', "' OR 1=1 --", "a AND b", "NEAR(a b)", "subject:report", "\\", "x'y", "-alice"):
        wanted = Filter(text=text)
        expected = [e.id for e in crowd.entries if holds(e, wanted, 0)]
        assert [entry.id for entry in crowd.reader.find(wanted, limit=1_000)] == expected, text


def test_a_very_long_text_finds_nothing_and_costs_nothing(crowd: Crowd) -> None:
    assert crowd.reader.count(Filter(text="report " * 10_000)) == 0
