"""The horizon as it is stored, and how what was put off is looked for."""

from __future__ import annotations

import pytest

from postroom.clock import DAY, MINUTE, SECOND, HandClock
from postroom.store.queue.horizon import AHEAD, ENTRY_PUT_OFF, NEVER, horizon
from postroom.store.store import Store
from tests.conformance.driven import claimed
from tests.store.conftest import Opener, a_message, accepted


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
