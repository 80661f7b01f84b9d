"""Two stores in one place, a writer that could not write, and one batch of it."""

from __future__ import annotations

import fcntl
import os
import queue
import time
from pathlib import Path

import msgspec
import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Queue
from postroom.settings import Settings
from postroom.store.sqlite import connections as sqlite
from postroom.store.sqlite import writer
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store
from postroom.telemetry import Log
from tests.conformance.driven import delivered_at_once
from tests.store.conftest import Opener, a_message, accepted


def test_a_start_never_deletes_the_bodies_of_another_store(opening: Opener, settings: Settings) -> None:
    one = opening(store=msgspec.structs.replace(settings.store, url="sqlite:///one/queue.db"))
    name = one.bodies.put(b"x" * 200_000)
    accepted(one, msgspec.structs.replace(a_message(), body=None, body_object=name))
    try:
        opening(store=msgspec.structs.replace(settings.store, url="sqlite:///two/queue.db"))
    except Exception:  # noqa: BLE001 - refusing to start is as good as leaving the file alone
        assert one.bodies.path(name).exists()
    assert one.bodies.path(name).exists()


def test_a_writer_that_failed_calls_the_disk_good_only_after_it_has_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.01)
    accepted(store, a_message())
    seen: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(Log, "warning", lambda log, event, **fields: seen.put(store.counts.commits))
    commits = store.counts.commits
    store._engine.writer.failing = "disk full"
    store.write_now(lambda tx: None)  # wakes it; it wrote nothing, which proves nothing
    assert seen.get(timeout=30) == commits + 1
    assert store.failing == ""


def test_callers_that_write_nothing_do_not_keep_the_writer_from_asking_the_disk(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_EVERY", 0.2)
    store._engine.writer.failing = "disk full"
    limit = time.monotonic() + 30
    while store.failing and time.monotonic() < limit:
        store.write_now(lambda tx: None)
    assert store.failing == ""


def test_a_start_that_meets_a_command_looking_at_the_lock_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(
        "postroom.store.sqlite.connections.time.sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN)
    )
    lock = sqlite.lock_directory(tmp_path)
    os.close(looking)
    os.close(lock)


def test_a_claim_sees_the_ends_of_its_own_batch_though_a_neighbour_breaks_a_rule(
    store: Store, clock: HandClock
) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    (entry,) = got.entries
    clock.move(2 * MINUTE)
    taken: list[object] = []
    batch = Batch()
    batch.arrivals.append((a_message(subject="\ud800"), None, taken.append))
    batch.calls.append(
        (lambda tx: store._claim(tx, [(Queue.PROCESSING, 9)], 9, frozenset()), lambda got, _: taken.append(got))
    )
    batch.ends.append(delivered_at_once(got, clock))
    store._engine.hand(batch)
    store.write_now(lambda tx: None)
    assert [part.leases for part in taken[-1]] == [[]]
    assert store.read_now().ended(entry) is not None
