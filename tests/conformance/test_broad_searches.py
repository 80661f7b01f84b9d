"""A search that would take too long is refused, and says what to ask instead."""

from __future__ import annotations

import pytest

from postroom.model import Aspect, Filter, Queue, Relation, Term
from postroom.store import SearchTooBroad, Store
from tests.conformance.driven import a_message, hand

GENEROUS = 60.0  # seconds
MANY = 6_000


def fill(store: Store) -> None:
    hand(
        store, *[a_message(*[f"r{number}@corp.example" for number in range(100)], subject="blue whale")] * (MANY // 100)
    )


def test_a_search_that_takes_too_long_is_refused_and_says_why(store: Store) -> None:
    fill(store)
    reader = store.read_now()
    store.index.bound = 0.0
    with pytest.raises(SearchTooBroad, match=r"too broad.*three characters"):
        reader.count(Filter(text="zz"))
    with pytest.raises(SearchTooBroad):
        reader.find(Filter(terms=(Term(Aspect.SIZE, Relation.MORE, 1 << 40),)), limit=10)
    assert reader.count(Filter(queues=(Queue.PROCESSING,))) == MANY  # no search
    store.index.bound = GENEROUS
    assert reader.count(Filter(text="zz")) == 0
    assert reader.count(Filter(text="whale")) == MANY
