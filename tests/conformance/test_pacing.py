"""What a person makes due at once overruns no destination: its entries take turns."""

from __future__ import annotations

from postroom.clock import HOUR, MINUTE, SECOND, HandClock
from postroom.model import Action, Queue
from postroom.store import Accepted, Store
from tests.conformance.driven import a_message, hand, on_loop, put_off

MANY = 603  # entries: of three destinations, and more than one transaction takes
GAP = SECOND // 20


def waiting(store: Store, clock: HandClock, number: int, others: dict[int, int] | None = None) -> list[int]:
    """Entries of three destinations, in whatever case they are written, that wait. `others`: until when some wait."""
    messages = [a_message(f"r{i}@{'dD'[i % 2]}{i % 3}.example") for i in range(number)]
    answers = hand(store, *messages).arrivals
    entries = [answer.entries[0] for answer in answers if isinstance(answer, Accepted)]
    assert len(entries) == number
    put_off(store, clock, clock.now() + HOUR, {entries[i]: until for i, until in (others or {}).items()})
    clock.move(MINUTE)
    return entries


def due(store: Store, entries: list[int]) -> list[int]:
    found = [store.read_now().entry(ident) for ident in entries]
    return [entry.next_attempt for entry in found if entry is not None]


def turns(now: int, number: int) -> list[int]:
    return [now + i // 3 * GAP for i in range(number)]


def test_a_direct_retry_or_release_of_many_overruns_no_destination(store: Store, clock: HandClock) -> None:
    soon = clock.now() + MINUTE + 1
    last = MANY - 1
    entries = waiting(store, clock, MANY, {last: soon})
    store.act_now(Action.RETRY, entries, actor="ann")
    assert due(store, entries) == [*turns(clock.now(), last), soon], "nothing is put off"
    store.act_now(Action.HOLD, entries, actor="ann")
    clock.move(MINUTE)
    store.act_now(Action.RELEASE, entries, actor="ann")
    assert due(store, entries) == turns(clock.now(), MANY)
    assert store.read_now().queue_counts()[Queue.PROCESSING] == MANY


def test_the_same_on_an_event_loop(store: Store, clock: HandClock) -> None:
    entries = waiting(store, clock, 6)
    on_loop(store, lambda: store.act(Action.RETRY, entries, actor="ann"))
    assert due(store, entries) == turns(clock.now(), 6)
