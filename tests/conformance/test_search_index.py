"""The index of texts follows behind the mail, and never changes what a search finds: whatever has become of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Action, Filter
from postroom.settings import Plans
from postroom.store import Store, plans
from postroom.telemetry import Log
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, delivered_at_once, hand

GENEROUS = 60.0  # seconds


class Followed:
    """A store whose index and counters follow the mail."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reached = 0
        self._changed = threading.Condition()
        store.index.follow(log=Log(), commits=lambda: store.counts.commits, advance=self._advance)

    def _advance(self, newest: int) -> int:
        number = self.store.advance_counters(newest)
        with self._changed:
            self._reached = newest if not number else self._reached
            self._changed.notify_all()
        return number

    def wait_for(self, entry: int) -> None:
        """Until a step of the index has come after the counters have taken in this entry."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._reached >= entry, GENEROUS)
            self._changed.wait(GENEROUS)


@pytest.fixture
def whales(store: Store) -> list[int]:
    return [accepted(store, a_message(subject=f"blue whale {number}")).entries[0] for number in range(5)]


@pytest.fixture
def followed(store: Store, whales: list[int]) -> Iterator[Followed]:
    made = Followed(store)
    made.wait_for(whales[-1])
    yield made
    store.index.stop()


def found(store: Store, text: str = "WHALE") -> list[int]:
    reader = store.read_now()
    entries = [entry.id for entry in reader.find(Filter(text=text), limit=100)]
    assert reader.count(Filter(text=text)) == len(entries)
    return entries


def test_what_is_newer_than_the_index_is_found_as_well(followed: Followed, whales: list[int]) -> None:
    assert found(followed.store) == whales[::-1]
    late = accepted(followed.store, a_message(subject="whale song")).entries[0]
    assert found(followed.store) == [late, *whales[::-1]]
    assert found(followed.store, "whale 3") == [whales[3]]


def test_what_has_ended_falls_out_at_once(followed: Followed, whales: list[int], clock: HandClock) -> None:
    got = accepted(followed.store, a_message(subject="whale song"), lease_until=clock.now() + MINUTE)
    followed.store.act_now(Action.DELETE, whales[:2], actor="ann")
    assert found(followed.store) == [got.entries[0], *whales[:1:-1]]
    hand(followed.store, delivered_at_once(got, clock))
    assert found(followed.store) == whales[:1:-1]


def test_what_is_about_to_end_may_come_back(followed: Followed, whales: list[int], clock: HandClock) -> None:
    store = followed.store
    wish = plans.Wish(Action.DELETE, Filter(ids=(whales[1],)), "", "ann")
    plan = plans.carry_out_now(store, plans.make(store, wish, Plans(), clock))
    plans.carry_out_now(store, plans.apply(store, plan.id, Plans(), clock, actor="ann", reason="a test"))
    assert found(store) == [*whales[:1:-1], whales[0]]
    plans.carry_out_now(store, plans.undo(store, plan.id, clock, actor="ann"))
    assert found(store) == whales[::-1]


def test_an_index_that_is_not_trusted_is_made_anew_while_searches_go_on(followed: Followed, whales: list[int]) -> None:
    before = followed.store.index.generation
    followed.store.index.distrust()
    assert found(followed.store) == whales[::-1]
    for _ in range(2):  # a whole step lies between
        followed.wait_for(whales[-1])
    assert followed.store.index.generation != before
    assert found(followed.store) == whales[::-1]


def test_an_index_that_may_not_grow_costs_no_search_anything(followed: Followed, whales: list[int]) -> None:
    followed.store.index.halted = True
    late = accepted(followed.store, a_message(subject="whale song")).entries[0]
    assert found(followed.store) == [late, *whales[::-1]]


def test_a_store_that_is_opened_again_or_beside_finds_the_same(
    opening: Opener, followed: Followed, whales: list[int]
) -> None:
    assert found(opening(beside=True)) == whales[::-1]
    followed.store.close()
    again = opening()
    assert found(again) == whales[::-1]


def test_a_store_that_is_closed_ends_its_fillers(opening: Opener) -> None:
    before = set(threading.enumerate())
    store = opening()
    accepted(store, a_message())
    store.start_fillers()
    store.close()
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name != "driven"]
    assert left == []
