"""What upkeep deletes, and above all what it does not."""

from __future__ import annotations

import os

import msgspec
import pytest

from postroom.clock import DAY, HOUR, MINUTE, HandClock
from postroom.errors import EnvironmentFailed
from postroom.model import Action, Filter, Origin, Outcome, Queue
from postroom.store import NewMessage, Store, Waited, access
from postroom.store import keep as keeping
from tests.conformance import driven
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, claimed, delivered, hand, on_loop


def reaped(store: Store, before: int) -> int:
    return on_loop(store, lambda: keeping.Forgetting(store).round(before))


def deferred(store: Store, info: str, clock: HandClock, wait: int = 0) -> int:
    """What is due waits for this reason."""
    (lease,) = claimed(store, limit=1)
    hand(store, driven.deferred(lease, clock.now(), clock.now() + wait, info))
    return lease.entry


def ended(store: Store, clock: HandClock) -> int:
    """What is due is delivered."""
    (lease,) = claimed(store, limit=1)
    hand(store, delivered(lease, clock.now()))
    return lease.entry


# -- history


def test_history_is_kept_from_the_end_of_an_entry_not_from_its_acceptance(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    (lease,) = claimed(store)
    held = Waited(lease.entry, lease.lease, Queue.HELD, Queue.PROCESSING, "why", 1, clock.now(), 0, clock.now(), "held")
    hand(store, held)
    clock.move(31 * DAY)
    store.act_now(Action.RELEASE, [lease.entry], actor="ops@corp.example")
    entry = ended(store, clock)
    assert reaped(store, clock.now() - 30 * DAY) == 0
    assert store.read_now().ended(entry) is not None


def test_what_has_ended_for_long_enough_is_forgotten_with_its_timeline(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    deferred(store, "why", clock)
    entry = ended(store, clock)
    accepted(store, a_message())
    waits = deferred(store, "why", clock)
    assert reaped(store, clock.now()) == 0
    assert store.read_now().ended(entry) is not None
    clock.move(1)
    assert reaped(store, clock.now()) == 1
    reader = store.read_now()
    assert (reader.ended(entry), reader.events(entry)) == (None, [])
    assert [event.kind for event in reader.events(waits)] == ["accepted", "deferred"]


# -- reasons


def test_a_sweep_of_the_reasons_deletes_none_that_is_in_use(store: Store, clock: HandClock) -> None:
    for number in range(3):
        accepted(store, a_message())
        deferred(store, f"421 try again, id {number}", clock, HOUR)
    accepted(store, a_message())
    last = deferred(store, "the reason of the last", clock, DAY)
    clock.move(HOUR)
    gone = [ended(store, clock) for _ in range(3)]
    on_loop(store, lambda: keeping.sweep_infos(store, clock.now()))
    told = {event.info for entry in gone for event in store.read_now().events(entry)}
    assert {f"421 try again, id {number}" for number in range(3)} < told, "timelines use them"
    clock.move(1)
    assert reaped(store, clock.now()) == 3
    assert on_loop(store, lambda: keeping.sweep_infos(store, clock.now())) == 3
    assert on_loop(store, lambda: keeping.sweep_infos(store, clock.now())) == 0
    entry = store.read_now().entry(last)
    assert entry is not None
    assert entry.info == "the reason of the last"
    assert store.read_now().events(last)[-1].info == "the reason of the last"


def test_the_numbers_of_a_sweep_follow_transactions_not_clocks(store: Store, clock: HandClock) -> None:
    accepted(store, a_message())
    deferred(store, "why", clock)
    clock.move(-400 * DAY)
    on_loop(store, lambda: keeping.sweep_infos(store, clock.now()))
    clock.move(800 * DAY)
    on_loop(store, lambda: keeping.sweep_infos(store, clock.now()))
    (entry,) = store.read_now().find(Filter(), limit=1)
    assert entry.info == "why"


# -- bodies


def keep(store: Store, size: int = 200_000) -> NewMessage:
    name = store.bodies.put(b"x" * size)
    return msgspec.structs.replace(a_message(), body=None, body_object=name, size=size)


def aged(store: Store, name: str, clock: HandClock, age: int = 2 * HOUR) -> str:
    at = (clock.now() - age) / 1000
    os.utime(store.bodies.path(name), (at, at))
    return name


def test_an_orphan_is_deleted_once_it_is_old(opening: Opener, clock: HandClock) -> None:
    store = opening()
    orphan = store.bodies.put(b"never had a row")
    store.close()
    store = opening()
    aged(store, orphan, clock, HOUR - MINUTE)
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 0
    clock.move(2 * MINUTE)
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 1
    assert store.bodies.names() == []


def test_a_body_with_a_row_or_in_flight_is_never_an_orphan(store: Store, clock: HandClock) -> None:
    kept, coming = keep(store), keep(store)
    accepted(store, kept)
    store.bodies.settled(kept.body_object)
    for new in (kept, coming):
        aged(store, new.body_object, clock)  # as the files of a process that was stopped for hours look
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 0
    accepted(store, coming)
    store.bodies.settled(coming.body_object)
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 0
    assert set(store.bodies.names()) == {kept.body_object, coming.body_object}


def test_files_that_are_not_bodies_are_left_alone(store: Store, clock: HandClock) -> None:
    foreign = store.bodies.root / "ab" / "letter.txt"
    foreign.write_text("not ours")
    os.utime(foreign, (0, 0))
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 0
    assert foreign.exists()


def test_a_body_whose_commit_failed_is_deleted_only_after_a_commit_succeeded(store: Store, clock: HandClock) -> None:
    gone, there = keep(store), keep(store)
    accepted(store, there)  # its commit was reported as failed, and yet it is on the disk
    for new in (gone, there):
        store.bodies.doubt(new.body_object)
        aged(store, new.body_object, clock)
    assert on_loop(store, lambda: keeping.collect_orphans(store, clock.now())) == 0
    commits = store.counts.commits
    assert on_loop(store, lambda: keeping.settle_doubtful(store)) == 1
    assert store.counts.commits == commits + 1
    assert store.bodies.names() == [there.body_object]
    assert not store.bodies.doubtful
    assert not store.bodies.in_flight


def test_what_waits_in_the_line_to_the_writer_is_decided_before_a_doubtful_body(store: Store) -> None:
    new = keep(store)
    answers: list[object] = []

    async def late() -> int:
        store.accept(new, None, answers.append)
        store.bodies.doubt(new.body_object)
        return await keeping.settle_doubtful(store)

    assert on_loop(store, late) == 0
    assert store.bodies.names() == [new.body_object]


def test_only_what_is_a_bodys_name_is_a_path(store: Store) -> None:
    beside = store.bodies.root / "ab" / "x"
    beside.write_bytes(b"x")
    store.bodies.delete("ab/x")
    assert beside.exists()
    with pytest.raises(EnvironmentFailed, match="not the name of a message body"):
        store.bodies.path("../../etc/x")


# -- sessions


def test_a_session_outlives_its_upkeep_and_not_its_time(store: Store, clock: HandClock) -> None:
    person = store.write_now(access.create_user(email="ops@corp.example", password_hash="none", role="administrator"))
    short, long = (
        store.write_now(access.begin_session(person, lifetime=lifetime, now=clock.now()))
        for lifetime in (HOUR, 3 * HOUR)
    )
    commits = store.counts.commits
    store.write_now(keeping.expire_access(clock.now(), 0))
    assert store.counts.commits == commits, "nothing to write"
    clock.move(2 * HOUR)
    store.write_now(keeping.expire_access(clock.now(), 0))
    reader = store.read_now()
    assert reader.ask(access.find_session(short, now=clock.now())) is None
    assert reader.ask(access.find_session(long, now=clock.now())) is not None


# -- everything at once


def test_the_ledger_and_what_waits_are_untouched(store: Store, clock: HandClock) -> None:
    hand(store, *(a_message(f"r{number}@corp.example") for number in range(40)))
    for number in range(10):
        deferred(store, f"reason {number}", clock)
    gone = [ended(store, clock) for _ in range(10)]
    clock.move(DAY)

    async def everything() -> None:
        await keeping.Forgetting(store).round(clock.now())
        await keeping.sweep_infos(store, clock.now())
        await keeping.collect_orphans(store, clock.now())
        await keeping.settle_doubtful(store)
        await keeping.give_back(store)

    before = store.read_now().find(Filter(), limit=100)
    on_loop(store, everything)
    assert store.read_now().find(Filter(), limit=100) == before
    assert store.read_now().ledger() == ({Origin.ACCEPTED: 40}, {Outcome.DELIVERED: 10}, 30)
    assert [store.read_now().ended(entry) for entry in gone] == [None] * 10
