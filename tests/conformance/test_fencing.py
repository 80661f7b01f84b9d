"""Fencing: whoever lost the lease writes nothing, whatever it is that he writes, and is told so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Label, Outcome, Queue
from postroom.store import EndedEntry, Lease, Moved, Store, Waited
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, claimed, hand, moved, on_loop, shown

Write = Callable[[Lease, int], Moved | Waited | EndedEntry]


def a_wait(lease: Lease, now: int) -> Waited:
    return Waited(lease.entry, lease.lease, Queue.PROCESSING, None, "stale", 9, now + 9 * MINUTE, 0, now, "deferred")


def a_hold(lease: Lease, now: int) -> Waited:
    return Waited(lease.entry, lease.lease, Queue.HELD, Queue.PROCESSING, "stale", 9, now, 0, now, "held")


def an_end(lease: Lease, now: int) -> EndedEntry:
    return EndedEntry(
        lease.entry, lease.lease, lease.message_id, Queue.PROCESSING, Outcome.DELIVERED, "250 stale", 9, 0, now
    )


WRITES: tuple[Write, ...] = (moved, a_wait, a_hold, an_end)


def write_late(
    store: Store, clock: HandClock, write: Write, state: Callable[[int], object], *, now_leased: bool
) -> tuple[object, object]:
    """Write under a lease that was lost. Returns the state of the entry before and after."""
    entry = accepted(store, a_message()).entries[0]
    (stale,) = claimed(store)
    clock.move(2 * MINUTE)
    (taken,) = claimed(store)  # the first holder stood still for longer than its lease
    assert taken.lease != stale.lease
    if not now_leased:
        hand(store, a_wait(taken, clock.now()))
    leased = store.read_now().entry(entry)
    assert leased is not None
    assert leased.lease == (taken.lease if now_leased else None)
    lost: list[int] = []
    store.on_lost = lost.append
    before = state(entry)
    hand(store, write(stale, clock.now()))
    assert lost == [entry]
    assert store.counts.leases_lost == 1
    return before, state(entry)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("now_leased", [True, False], ids=["another holder", "no holder"])
def test_every_write_with_a_lost_lease_is_refused_and_reported(
    store: Store, clock: HandClock, write: Write, now_leased: bool
) -> None:
    before, after = write_late(store, clock, write, lambda entry: shown(store, [entry]), now_leased=now_leased)
    assert after == before


def test_a_move_is_told_that_its_lease_was_lost(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (stale,) = claimed(store)
    clock.move(2 * MINUTE)
    claimed(store)
    assert hand(store, moved(stale, clock.now())).moves == [False]


def test_a_heartbeat_with_a_lost_lease_renews_nothing_and_says_which(store: Store, clock: HandClock) -> None:
    mine, other = (accepted(store, a_message()).entries[0] for _ in range(2))
    first, second = claimed(store)
    clock.move(2 * MINUTE)
    (taken,) = claimed(store, limit=1)
    before = store.read_now().entry(taken.entry)
    until = clock.now() + MINUTE
    leases = [(lease.entry, lease.lease) for lease in (first, second)]
    assert on_loop(store, lambda: store.renew(leases)) == [taken.entry]
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
