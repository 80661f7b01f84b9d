"""Fencing: whoever lost the lease writes nothing, whatever it is that he writes, and is told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Label, Outcome, Queue
from postroom.store.queue import claim as claiming
from postroom.store.records import EndedEntry, Lease, Moved, Waited
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store
from tests.store.conftest import Opener, a_message, accepted, hand
from tests.store.test_queue import claimed

Write = Callable[[Batch, Lease, int], None]


def a_move(batch: Batch, lease: Lease, now: int) -> None:
    batch.moves.append((Moved(lease.entry, lease.lease, Queue.DELIVERY, "Queued for Delivery", 1, now, now), None))


def a_wait(batch: Batch, lease: Lease, now: int) -> None:
    batch.waits.append(
        Waited(lease.entry, lease.lease, Queue.PROCESSING, None, "stale", 9, now + 9 * MINUTE, 0, now, "deferred")
    )


def a_hold(batch: Batch, lease: Lease, now: int) -> None:
    batch.waits.append(Waited(lease.entry, lease.lease, Queue.HELD, Queue.PROCESSING, "stale", 9, now, 0, now, "held"))


def an_end(batch: Batch, lease: Lease, now: int) -> None:
    batch.ends.append(
        EndedEntry(
            lease.entry, lease.lease, lease.message_id, Queue.PROCESSING, Outcome.DELIVERED, "250 stale", 9, 0, now
        )
    )


def state(store: Store, entry: int) -> object:
    return store.write_now(
        lambda tx: (
            tx.rows("SELECT * FROM entry WHERE id = ?", (entry,)),
            tx.rows("SELECT * FROM event WHERE entry_id = ?", (entry,)),
            tx.rows("SELECT * FROM ledger"),
        )
    )


@pytest.mark.parametrize("write", [a_move, a_wait, a_hold, an_end])
@pytest.mark.parametrize("now_leased", [True, False], ids=["another holder", "no holder"])
def test_every_write_with_a_lost_lease_is_refused_and_reported(
    store: Store, clock: HandClock, write: Write, now_leased: bool
) -> None:
    entry = accepted(store, a_message()).entries[0]
    (stale,) = claimed(store)
    clock.move(2 * MINUTE)
    (taken,) = claimed(store)  # the first holder stood still for longer than its lease
    assert taken.lease != stale.lease
    if not now_leased:
        hand(store, lambda batch: a_wait(batch, taken, clock.now()))
    lost: list[int] = []
    store.on_lost = lost.append
    before = state(store, entry)
    hand(store, lambda batch: write(batch, stale, clock.now()))
    assert lost == [entry]
    assert store.counts.leases_lost == 1
    assert state(store, entry) == before


def test_a_move_is_told_that_its_lease_was_lost(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (stale,) = claimed(store)
    clock.move(2 * MINUTE)
    claimed(store)
    told: list[object] = []
    moved = Moved(stale.entry, stale.lease, Queue.DELIVERY, "Queued for Delivery", 1, clock.now(), clock.now())
    hand(store, lambda batch: batch.moves.append((moved, told.append)))
    assert told == [False]


def test_a_heartbeat_with_a_lost_lease_renews_nothing_and_says_which(store: Store, clock: HandClock) -> None:
    mine, other = (accepted(store, a_message()).entries[0] for _ in range(2))
    first, second = claimed(store)
    clock.move(2 * MINUTE)
    (taken,) = claimed(store, limit=1)
    before = store.read_now().entry(taken.entry)
    until = clock.now() + MINUTE
    leases = [(lease.entry, lease.lease) for lease in (first, second)]
    assert store.write_now(lambda tx: claiming.renew(tx, until, leases)) == [taken.entry]
    assert store.read_now().entry(taken.entry) == before
    kept = store.read_now().entry(({mine, other} - {taken.entry}).pop())
    assert kept is not None
    assert kept.locked_until == until


def test_a_lease_is_given_once_while_it_lasts_and_again_when_it_has_ended(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (first,) = claimed(store)
    clock.move(MINUTE - 1)
    assert claimed(store) == []
    clock.move(1)
    (second,) = claimed(store)
    assert second.lease > first.lease
    assert second.attempts == first.attempts + 1


def test_restarts_count_as_strikes_too_and_the_third_makes_it_suspect(opening: Opener, clock: HandClock) -> None:
    store = opening()
    entry = accepted(store, a_message()).entries[0]
    for strike in (1, 2, 3):
        (lease,) = claimed(store)
        assert lease.attempts == strike
        store.close()
        store = opening()
    found = store.read_now().entry(entry)
    assert found is not None
    assert found.label & Label.SUSPECT
    assert found.next_attempt > clock.now()
    assert found.info.startswith("Suspect: 3 attempts in a row")
    assert claimed(store) == []
