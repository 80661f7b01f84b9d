"""What a start may delete, what a person asked for before it, and what forgetting leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from postroom.clock import DAY, MINUTE, HandClock
from postroom.ids import first_id_at, id_time
from postroom.model import Action, Outcome, Queue
from postroom.settings import Settings
from postroom.store.records import EndedEntry, Moved, Waited
from postroom.store.store import Store
from postroom.store.writer import Batch
from tests.store.conftest import Opener, a_message, accepted, hand
from tests.store.test_queue import claimed


def reaped(store: Store, before: int) -> int:
    async def once() -> int:
        store.attach(asyncio.get_running_loop())
        return await store.reap(id_time(before))

    try:
        return asyncio.run(once())
    finally:
        store._writer.loop = None


def test_a_start_deletes_only_files_that_postroom_named(opening: Opener, settings: Settings, tmp_path: Path) -> None:
    letter = tmp_path / "shared" / "alice" / "letter.txt"
    letter.parent.mkdir(parents=True)
    letter.write_text("not ours")
    opening(store=msgspec.structs.replace(settings.store, bodies=f"file:///{letter.parent.parent}"))
    assert letter.read_text() == "not ours"


def test_a_start_never_deletes_the_bodies_of_another_store(opening: Opener, settings: Settings) -> None:
    one = opening(store=msgspec.structs.replace(settings.store, url="sqlite:///one/queue.db"))
    name = one.bodies.put(b"x" * 200_000)
    accepted(one, msgspec.structs.replace(a_message(), body=None, body_object=name))
    try:
        opening(store=msgspec.structs.replace(settings.store, url="sqlite:///two/queue.db"))
    except Exception:  # noqa: BLE001 - refusing to start is as good as leaving the file alone
        assert one.bodies.path(name).exists()
    assert one.bodies.path(name).exists()


def test_a_hold_asked_for_before_a_crash_is_honoured_by_the_recovery(opening: Opener, clock: HandClock) -> None:
    store = opening()
    (entry,) = accepted(store, a_message(), lease_until=clock.now() + MINUTE).entries
    assert store.act_now(Action.HOLD, [entry], actor="ops@corp.example").requested == (entry,)
    moved = Moved(entry, entry, Queue.DELIVERY, "Queued for Delivery", 1, clock.now() + MINUTE, clock.now())
    hand(store, lambda batch: batch.moves.append((moved, None)))
    store.close()
    again = opening().read_now().entry(entry)
    assert again is not None
    assert again.queue is Queue.HELD


def test_history_is_kept_from_the_end_of_an_entry_not_from_its_acceptance(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message())
    (lease,) = claimed(store)
    entry = lease.entry
    held = Waited(entry, lease.lease, Queue.HELD, Queue.PROCESSING, "why", 1, clock.now(), 0, clock.now(), "held")
    hand(store, lambda batch: batch.waits.append(held))
    clock.move(31 * DAY)
    store.act_now(Action.RELEASE, [entry], actor="ops@corp.example")
    (lease,) = claimed(store)
    end = EndedEntry(
        entry, lease.lease, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 2.0.0 kept", 1, 0, clock.now()
    )
    hand(store, lambda batch: batch.ends.append(end))
    reaped(store, first_id_at(clock.now() - 30 * DAY))
    assert store.read_now().ended(entry) is not None


def test_the_events_of_what_history_has_forgotten_go_too(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message())
    (lease,) = claimed(store)
    entry = lease.entry
    later = Waited(entry, lease.lease, Queue.PROCESSING, None, "why", 1, clock.now(), 0, clock.now(), "deferred")
    hand(store, lambda batch: batch.waits.append(later))
    (lease,) = claimed(store)
    end = EndedEntry(
        entry, lease.lease, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 2.0.0 kept", 2, 0, clock.now()
    )
    hand(store, lambda batch: batch.ends.append(end))
    clock.move(61 * DAY)
    while reaped(store, first_id_at(clock.now() - 30 * DAY)):
        pass
    assert store.read_now().ended(entry) is None
    assert store.write_now(lambda connection: connection.execute("SELECT count(*) FROM event").fetchall()) == [(0,)]


def test_a_step_of_forgetting_gives_back_more_than_one_page(store: Store) -> None:
    for _ in range(30):
        accepted(store, a_message(body=b"x" * 60_000))
    store.write_now(lambda connection: connection.execute("DELETE FROM body").fetchall())
    before = store.write_now(lambda connection: connection.pragma("freelist_count"))
    reaped(store, 0)
    after = store.write_now(lambda connection: connection.pragma("freelist_count"))
    assert before - after >= min(before, 200)


def test_a_record_that_breaks_a_rule_does_not_call_the_disk_bad(store: Store) -> None:
    failing: list[str] = []
    hand(
        store,
        lambda batch: batch.arrivals.append(
            (a_message(subject="\ud800"), None, lambda answer: failing.append(store.failing))
        ),
    )
    assert failing == [""]


def test_a_claim_sees_the_ends_of_its_own_batch_though_a_neighbour_breaks_a_rule(
    store: Store, clock: HandClock
) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    (entry,) = got.entries
    clock.move(2 * MINUTE)
    taken: list[object] = []
    end = EndedEntry(entry, entry, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 kept", 1, 0, clock.now())

    def fill(batch: Batch) -> None:
        batch.arrivals.append((a_message(subject="\ud800"), None, taken.append))
        batch.calls.append(
            (lambda c: store._claim(c, [(Queue.PROCESSING, 9)], 9, frozenset()), lambda got, _: taken.append(got))
        )
        batch.ends.append(end)

    hand(store, fill)
    assert [part.leases for part in taken[-1]] == [[]]
    assert store.read_now().ended(entry) is not None
