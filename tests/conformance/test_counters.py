"""Counts agree with the entries after whatever was done, by whomever, and however far the counters have come."""

from __future__ import annotations

import random
from collections import Counter

from postroom.clock import HOUR, MINUTE, HandClock
from postroom.model import Action, Filter, Queue, Route
from postroom.store import Store
from tests.conformance.conftest import Opener
from tests.conformance.crowd import fill, message
from tests.conformance.driven import a_message, accepted, delivered_at_once, hand
from tests.conformance.naive import holds


def agrees(store: Store, chance: random.Random, number: int = 60) -> None:
    reader = store.read_now()
    entries = reader.find(Filter(), limit=10_000)
    assert reader.queue_counts() == {queue: sum(e.queue is queue for e in entries) for queue in Queue}
    with reader.snapshot():
        for queue in Queue:
            reasons = {reason: many for reason, many in reader.reason_counts(queue).items() if many}
            assert reasons == Counter(e.info for e in entries if e.queue is queue)
    for _ in range(number):
        one, other = chance.choice(entries), chance.choice(entries)
        wanted = Filter(
            queues=tuple(chance.sample(list(Queue), chance.randrange(3))),
            routes=tuple(chance.sample(list(Route), chance.randrange(3))),
            attachment=chance.choice((None, True, False)),
            since=chance.choice((None, one.created, one.created - one.created % HOUR, one.created - 30 * HOUR)),
            until=chance.choice((None, other.created, other.created - other.created % HOUR - 1, other.created + HOUR)),
        )
        top = chance.choice((None, other.id))
        expected = sum(holds(e, wanted, 0) and (top is None or e.id <= top) for e in entries)
        assert reader.count(wanted, top=top) == expected, (wanted, top)


def test_they_agree_with_the_entries_whatever_is_done(store: Store, clock: HandClock) -> None:
    chance = random.Random(11)
    fill(store, clock, chance, 120)
    agrees(store, chance)
    ids = [entry.id for entry in store.read_now().find(Filter(), limit=1_000)]
    for newest in (ids[100], ids[40], ids[0]):
        store.advance_counters(newest)
        agrees(store, chance)
    store.act_now(Action.HOLD, ids[::3], actor="cli:root")
    store.act_now(Action.REJECT, ids[1::5], actor="cli:root")
    for _ in range(20):
        accepted(store, message(chance, clock.now()))
    agrees(store, chance)
    store.act_now(Action.RELEASE, ids[::3], actor="cli:root")
    agrees(store, chance)
    store.act_now(Action.BULK, ids[::4], actor="cli:root")
    agrees(store, chance)


def test_an_entry_that_ends_leaves_no_counter_behind(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    assert store.advance_counters(got.entries[0]) == 1
    hand(store, delivered_at_once(got, clock))
    assert store.read_now().count(Filter()) == 0
    later = accepted(store, a_message()).entries[0]
    assert store.advance_counters(later) == 1
    assert store.read_now().count(Filter()) == 1


def test_they_take_in_every_entry_once(store: Store) -> None:
    ids = [accepted(store, a_message()).entries[0] for _ in range(7)]
    assert [store.advance_counters(ids[5]) for _ in range(2)] == [6, 0]
    assert [store.advance_counters(ids[6]) for _ in range(2)] == [1, 0]
    assert store.read_now().count(Filter()) == 7


def test_a_command_beside_keeps_them_too(store: Store, opening: Opener) -> None:
    ids = [accepted(store, a_message()).entries[0] for _ in range(4)]
    store.advance_counters(ids[-1])
    opening(beside=True).act_now(Action.HOLD, ids[:1], actor="cli:root")
    counts = store.read_now().queue_counts()
    assert (counts[Queue.HELD], counts[Queue.PROCESSING]) == (1, 3)
