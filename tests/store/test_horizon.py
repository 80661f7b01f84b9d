"""A clock that was set: leases of a dead process are found whatever their time, and nothing stays put off."""

from __future__ import annotations

import asyncio

import pytest

from postroom.clock import DAY, HOUR, MINUTE, SECOND, HandClock
from postroom.model import Queue
from postroom.settings import Limits
from postroom.store.queue.horizon import AHEAD, ENTRY_PUT_OFF, NEVER, horizon
from postroom.store.records import Waited
from postroom.store.store import Store
from tests.store.conftest import Opener, a_message, accepted, hand
from tests.store.test_queue import claimed


def rescheduled(store: Store) -> int:
    async def run() -> int:
        store.attach(asyncio.get_running_loop())
        return await store.reschedule()

    try:
        return asyncio.run(run())
    finally:
        store._engine.writer.loop = None


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


def test_the_horizon_is_committed_with_the_lease_and_moves_a_minute_at_a_time(store: Store, clock: HandClock) -> None:
    def now_known() -> int:
        return store.write_now(horizon)

    assert now_known() == 0
    accepted(store, a_message())
    assert now_known() == 0, "mail without a lease does not move it"
    accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    first = now_known()
    assert first == clock.now() + MINUTE + AHEAD
    clock.move(SECOND)
    accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    assert now_known() == first
    clock.move(2 * MINUTE)
    claimed(store)
    assert now_known() == clock.now() + MINUTE + AHEAD


def test_a_horizon_that_was_rolled_back_is_written_again(store: Store, clock: HandClock) -> None:
    def fails(tx: object) -> None:
        store._recorder.horizon.reach(tx, clock.now() + MINUTE)  # type: ignore[arg-type]
        raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        store.write_now(fails)
    accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    assert store.write_now(horizon) > clock.now()


def test_a_store_of_the_release_before_is_searched_to_the_end(opening: Opener, clock: HandClock) -> None:
    store = opening()
    accepted(store, a_message(), lease_until=clock.now() + 300 * DAY)
    store.write_now(lambda tx: tx.rows("DELETE FROM upkeep WHERE what = 'leases'"))
    assert store.write_now(horizon) == NEVER
    store.close()
    assert opening().recovered[0] == 1


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
    tried = [accepted(store, a_message(received=clock.now())).entries[0] for _ in range(450)]  # more than one step
    leases = claimed(store, limit=1000)
    (first,) = [lease for lease in leases if lease.entry == never_tried]
    for lease in leases:
        later = Waited(lease.entry, lease.lease, Queue.PROCESSING, None, "why", lease.attempts, clock.now() + 10 * SECOND, 0, clock.now(), "deferred")  # fmt: skip
        hand(store, later)
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


def test_the_search_for_what_is_put_off_walks_the_index(store: Store) -> None:
    plan = store.write_now(
        lambda tx: tx.rows(
            f"EXPLAIN QUERY PLAN {ENTRY_PUT_OFF}",
            {"queue": 0, "now": 0, "latest": NEVER, "before": NEVER, "most": 10},
        )
    )
    said = " ".join(str(row[-1]) for row in plan)
    assert "entry_due" in said
    assert "TEMP B-TREE FOR ORDER BY" not in said, said  # entries due in the same millisecond are sorted by id, no more
