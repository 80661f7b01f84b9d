"""Ends wait for more of their kind while there is traffic, and never for good (docs/decisions/0016)."""

from __future__ import annotations

import threading

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Outcome, Queue
from postroom.store.records import EndedEntry
from postroom.store.sqlite import writer
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store
from tests.store.conftest import Opener, a_message, accepted

FOR_EVER = 3600.0
LIMIT = 60.0


class Written:
    """Ends that name a lost lease: the writer tells of each as soon as it has committed their batch."""

    def __init__(self, store: Store, clock: HandClock) -> None:
        self._store = store
        self._clock = clock
        self._told: list[int] = []
        self._changed = threading.Condition()
        store.on_lost = self._lost

    def _lost(self, entry: int) -> None:
        with self._changed:
            self._told.append(entry)
            self._changed.notify_all()

    def hand(self, *entries: int) -> None:
        batch = Batch()
        for entry in entries:
            batch.ends.append(
                EndedEntry(entry, 5, entry, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, self._clock.now())
            )
        self._store._engine.hand(batch)

    @property
    def number(self) -> int:
        return len(self._told)

    def wait_for(self, number: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(self._told) >= number, LIMIT)


@pytest.fixture
def written(store: Store, clock: HandClock) -> Written:
    return Written(store, clock)


def _take_in(store: Store) -> None:
    """A message, and its answer: the batch that the writer had before is dealt with."""
    answered = threading.Event()
    batch = Batch()
    batch.arrivals.append((a_message(), None, lambda answer: answered.set()))
    store._engine.hand(batch)
    assert answered.wait(LIMIT)


def test_ends_wait_while_mail_comes_in_and_a_call_sees_them(
    store: Store, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ENDS_LINGER", FOR_EVER)
    monkeypatch.setattr(writer, "ENDS_QUIET", FOR_EVER)
    written.hand(11)
    _take_in(store)
    written.hand(12)
    _take_in(store)
    assert written.number == 0
    store.write_now(lambda tx: None)
    assert written.number == 2


def test_ends_are_committed_when_nothing_else_comes(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ENDS_LINGER", FOR_EVER)
    written.hand(11)
    assert written.wait_for(1)


def test_ends_do_not_wait_longer_than_their_time(
    store: Store, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ENDS_LINGER", 0.0)
    monkeypatch.setattr(writer, "ENDS_QUIET", FOR_EVER)
    written.hand(11)
    assert written.wait_for(1)


def test_enough_ends_do_not_wait(store: Store, written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ENDS_LINGER", FOR_EVER)
    monkeypatch.setattr(writer, "ENDS_QUIET", FOR_EVER)
    written.hand(*range(1, writer.ENDS_BATCH))
    _take_in(store)
    assert written.number == 0
    written.hand(1000)
    assert written.wait_for(writer.ENDS_BATCH)


def test_what_is_held_back_is_committed_at_a_stop(
    opening: Opener, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ENDS_LINGER", FOR_EVER)
    monkeypatch.setattr(writer, "ENDS_QUIET", FOR_EVER)
    store = opening()
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    entry = got.entries[0]
    batch = Batch()
    batch.ends.append(
        EndedEntry(entry, entry, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, clock.now())
    )
    store._engine.hand(batch)
    _take_in(store)
    assert store.read_now().entry(entry) is not None
    store.close()
    again = opening()
    assert again.read_now().entry(entry) is None
    assert again.read_now().ledger()[1] == {"delivered": 1}
