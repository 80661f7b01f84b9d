"""The ledger adds up what each process counted, and says when it does not agree with the queue."""

from __future__ import annotations

import asyncio
import io

from postroom.clock import HandClock
from postroom.model import Queue
from postroom.store import Store, keep
from postroom.telemetry import Log
from tests.conformance.conftest import Opener
from tests.conformance.driven import a_message, accepted, delivered_at_once, hand


def delivered(store: Store, clock: HandClock) -> None:
    hand(store, delivered_at_once(accepted(store, a_message(), lease_until=clock.now() + 60_000), clock))


def test_each_life_counts_for_itself_and_together_they_agree(opening: Opener, clock: HandClock) -> None:
    first = opening()
    accepted(first, a_message("bob@corp.example", "carol@corp.example"))
    delivered(first, clock)
    first.close()
    clock.move(1000)
    second = opening()
    delivered(second, clock)
    beside = opening(beside=True)
    accepted(beside, a_message(queue=Queue.BULK))

    found = second.read_now().ask(keep.read_ledger())
    assert found.difference == 0
    assert {kind: number for kind, number in found.created.items() if number} == {"accepted": 5}
    assert {kind: number for kind, number in found.ended.items() if number} == {"delivered": 2}
    assert {queue: number for queue, number in found.queued.items() if number} == {Queue.PROCESSING: 2, Queue.BULK: 1}
    assert [(life.beside, life.created, life.ended) for life in found.lives] == [
        (True, 1, 0), (False, 1, 1), (False, 3, 1),
    ]  # fmt: skip
    assert found.lives[1].began >= clock.now() > found.lives[2].began


def test_the_lives_of_a_sound_store_are_no_reason_for_an_alarm(opening: Opener, clock: HandClock) -> None:
    out = io.StringIO()
    log = Log(out)
    store = opening()
    delivered(store, clock)
    accepted(store, a_message())
    assert asyncio.run(keep.check_ledger(store, log)) == store.ledger_difference == 0
    log.flush()
    assert out.getvalue() == ""
    told = keep.ledger_as_json(store.read_now().ask(keep.read_ledger()))
    assert (told["difference"], told["created"]["accepted"], told["ended"]["delivered"]) == (0, 2, 1)
