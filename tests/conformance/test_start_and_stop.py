"""What a start may delete, what was asked for before it, what a stop still commits, what a claim sees."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from postroom.clock import MINUTE, HandClock
from postroom.model import Action, Outcome, Queue
from postroom.settings import Settings
from postroom.store import Accepted, EndedEntry, Moved, Store
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, delivered_at_once, hand, on_loop

LIMIT = 60.0  # seconds


def test_a_start_deletes_only_files_that_postroom_named(opening: Opener, settings: Settings, tmp_path: Path) -> None:
    letter = tmp_path / "shared" / "alice" / "letter.txt"
    letter.parent.mkdir(parents=True)
    letter.write_text("not ours")
    opening(store=msgspec.structs.replace(settings.store, bodies=f"file:///{letter.parent.parent}"))
    assert letter.read_text() == "not ours"


def test_a_hold_asked_for_before_a_crash_is_honoured_by_the_recovery(opening: Opener, clock: HandClock) -> None:
    store = opening()
    (entry,) = accepted(store, a_message(), lease_until=clock.now() + MINUTE).entries
    assert store.act_now(Action.HOLD, [entry], actor="ops@corp.example").requested == (entry,)
    moved = Moved(entry, entry, Queue.DELIVERY, "Queued for Delivery", 1, clock.now() + MINUTE, clock.now())
    hand(store, moved)
    store.close()
    again = opening().read_now().entry(entry)
    assert again is not None
    assert again.queue is Queue.HELD


def test_a_record_that_breaks_a_rule_does_not_call_the_disk_bad(store: Store) -> None:
    failing: list[str] = []

    async def turn() -> None:
        store.accept(a_message(subject="\ud800"), None, lambda answer: failing.append(store.failing))
        await store.flush()

    on_loop(store, turn)
    assert failing == [""]


def test_a_claim_sees_the_ends_that_were_handed_over_before_it_though_a_neighbour_breaks_a_rule(
    store: Store, clock: HandClock
) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)
    (entry,) = got.entries
    clock.move(2 * MINUTE)
    told: list[object] = []

    async def turn() -> list[object]:
        store.accept(a_message(subject="\ud800"), None, told.append)
        store.end(delivered_at_once(got, clock))
        return list(await store.claim([(Queue.PROCESSING, 9)], 9))

    assert on_loop(store, turn) == []
    assert len(told) == 1
    assert not isinstance(told[0], Accepted)
    assert store.read_now().ended(entry) is not None


def test_ends_are_committed_though_nothing_else_comes(store: Store, clock: HandClock) -> None:
    """An end under a lost lease is told as soon as its batch is committed."""
    told = threading.Event()
    store.on_lost = lambda entry: told.set()
    end = EndedEntry(11, 5, 11, Queue.DELIVERY, Outcome.DELIVERED, "250", 1, 0, clock.now())

    async def turn() -> None:
        store.end(end)

    on_loop(store, turn)
    assert told.wait(LIMIT)


@pytest.mark.parametrize("at_once", [True, False], ids=["in the same turn", "later"])
def test_what_was_handed_over_is_committed_at_a_stop(opening: Opener, clock: HandClock, at_once: bool) -> None:
    store = opening()
    got = accepted(store, a_message(), lease_until=clock.now() + MINUTE)

    async def turn() -> None:
        store.end(delivered_at_once(got, clock))
        if at_once:
            store.close()

    on_loop(store, turn)
    store.close()
    again = opening()
    assert again.read_now().entry(got.entries[0]) is None
    assert again.read_now().ledger() == ({"accepted": 1}, {"delivered": 1}, 0)
