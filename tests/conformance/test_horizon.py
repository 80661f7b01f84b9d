"""A clock that was set: leases of a dead process are found whatever their time, and nothing stays put off."""

from __future__ import annotations

import pytest

from postroom.clock import DAY, HOUR, MINUTE, SECOND, HandClock
from postroom.settings import Limits
from postroom.store import Accepted, Store
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, claimed, deferred, hand, on_loop


def rescheduled(store: Store) -> int:
    return on_loop(store, store.reschedule)


def due(store: Store, entry: int) -> int:
    found = store.read_now().entry(entry)
    assert found is not None
    return found.next_attempt


@pytest.mark.parametrize("back", [-2 * DAY, -HOUR, 0, HOUR, 2 * DAY])
@pytest.mark.parametrize("born", [True, False], ids=["born leased", "claimed"])
def test_a_start_ends_every_lease_wherever_the_clock_stands(
    opening: Opener, clock: HandClock, back: int, born: bool
) -> None:
    store = opening()
    entries = [
        accepted(store, a_message(), lease_until=clock.now() + MINUTE if born else None).entries[0] for _ in range(3)
    ]
    if not born:
        assert len(claimed(store)) == 3
    store.close()
    clock.move(-back)
    again = opening()
    if back < 0:  # those have ended by themselves: the next claim takes them over
        assert again.recovered == (0, 0)
        assert len(claimed(again)) == 3
        return
    assert again.recovered[0] == 3
    assert [again.read_now().entry(entry).locked_until for entry in entries] == [None] * 3
    assert {due(again, entry) for entry in entries} == {clock.now()}


@pytest.mark.parametrize("later", [SECOND, 2 * MINUTE, DAY])
def test_a_start_ends_leases_that_were_given_long_after_the_first(
    opening: Opener, clock: HandClock, later: int
) -> None:
    store = opening()
    accepted(store, a_message(), lease_until=clock.now() + SECOND)
    for _ in range(3):
        clock.move(later)
        assert len(claimed(store)) == 1
        clock.move(MINUTE)
        accepted(store, a_message(received=clock.now()), lease_until=clock.now() + SECOND)
        hand(store, *(deferred(lease, clock.now(), clock.now() + 9 * DAY) for lease in claimed(store, limit=1)))
    clock.move(later)
    leased = claimed(store)
    store.close()
    clock.move(-30 * DAY)
    again = opening()
    assert again.recovered[0] == len(leased) == 1
    assert again.read_now().entry(leased[0].entry).locked_until is None


def test_a_lease_that_was_longer_once_is_found_too(opening: Opener, clock: HandClock) -> None:
    store = opening(limits=Limits(lease=HOUR))
    accepted(store, a_message())
    assert len(claimed(store)) == 1
    store.close()
    assert opening(limits=Limits(lease=SECOND)).recovered[0] == 1


def test_what_waits_beyond_its_schedule_waits_by_its_schedule_after_the_clock_was_set_back(
    opening: Opener, clock: HandClock
) -> None:
    store = opening()
    clock.move(3 * DAY)
    never_tried = accepted(store, a_message(received=clock.now())).entries[0]
    clock.move(1)
    many = hand(store, *[a_message(received=clock.now())] * 450)  # more than one step
    tried = [got.entries[0] for got in many.arrivals if isinstance(got, Accepted)]
    leases = claimed(store, limit=1000)
    (first,) = [lease for lease in leases if lease.entry == never_tried]
    hand(store, *(deferred(lease, clock.now(), clock.now() + 10 * SECOND) for lease in leases))
    assert first.attempts == 1
    store.close()
    clock.move(-3 * DAY)
    again = opening()
    assert again.clock_was_ahead
    right = accepted(again, a_message(received=clock.now())).entries[0]
    before = due(again, right)
    assert rescheduled(again) == 451
    assert due(again, right) == before
    assert max(due(again, entry) for entry in (*tried, never_tried)) <= clock.now() + 10 * SECOND
    assert rescheduled(again) == 0
    clock.move(10 * SECOND)
    assert len(claimed(again, limit=1000)) == 452


def test_a_clock_that_was_right_all_the_time_is_not_suspected(opening: Opener, clock: HandClock) -> None:
    store = opening()
    accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    claimed(store)
    store.close()
    clock.move(-30 * SECOND)
    store = opening()
    assert not store.clock_was_ahead
    store.close()
    clock.move(DAY)
    assert not opening().clock_was_ahead


@pytest.mark.parametrize(("before", "after"), [(HOUR, SECOND), (SECOND, HOUR)], ids=["shorter", "longer"])
def test_leases_of_another_length_say_nothing_about_the_clock(
    opening: Opener, clock: HandClock, before: int, after: int
) -> None:
    store = opening(limits=Limits(lease=before))
    accepted(store, a_message())
    clock.move(3 * HOUR)  # nothing has come for long: only the horizon tells what time it was
    claimed(store)
    store.close()
    clock.move(SECOND)
    store = opening(limits=Limits(lease=after))
    assert not store.clock_was_ahead
    store.close()
    clock.move(-2 * HOUR)
    store = opening(limits=Limits(lease=after))
    assert store.clock_was_ahead
    store.close()
    assert not opening(limits=Limits(lease=after)).clock_was_ahead, "it was told once"
