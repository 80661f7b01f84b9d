"""A total that is known must be the total that is counted, whatever happened in between."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from postroom.clock import MINUTE, HandClock
from postroom.http.gateway.paging.totals import MAX_KNOWN, Totals
from postroom.model import Action, Filter, Queue, Route
from postroom.settings import Settings
from postroom.store.store import open_store
from tests.http.conftest import Serve


async def test_totals_are_exact_while_the_window_moves_and_the_queue_changes(serve: Serve) -> None:
    served = await serve()
    clock, store = served.clock, served.store
    assert isinstance(clock, HandClock)
    totals = Totals()
    chance = random.Random(7)
    entries: list[int] = []
    reader = store.read_now()
    for _ in range(300):
        match chance.randrange(5):
            case 0:
                accepted = await served.put(
                    "a@x", "b@x", subject=chance.choice(["red", "blue"]), attachment=chance.random() < 0.5
                )
                entries += accepted.entries
            case 1 if entries:
                await store.act(Action.HOLD, (entries.pop(chance.randrange(len(entries))),), actor="test")
            case _:
                clock.move(chance.choice([0, 1, 500, MINUTE]))
        window = Filter(
            queues=(Queue.PROCESSING,),
            since=clock.now() - chance.choice([0, MINUTE, 10 * MINUTE]),
            until=clock.now() - chance.choice([0, 0, 1, MINUTE]),
        )
        for asked in (
            window,
            msgspec.structs.replace(window, text="red"),
            msgspec.structs.replace(window, attachment=True),
        ):
            with reader.tx.snapshot():
                assert totals.count(reader, asked) == reader.count(asked)


async def test_another_process_changing_the_queue_is_noticed(serve: Serve, tmp_path: Path) -> None:
    served = await serve()
    accepted = await served.put("a@x", "b@x")
    asked = Filter(queues=(Queue.PROCESSING,), since=0, until=served.clock.now())
    totals, reader = Totals(), served.store.read_now()
    assert totals.count(reader, asked) == 2
    beside = open_store(Settings(data=str(tmp_path)), clock=served.clock, beside=True)
    await beside.act(Action.HOLD, accepted.entries[:1], actor="cli")
    beside.close()
    assert totals.count(reader, asked) == 1


async def test_what_is_known_is_bounded(serve: Serve) -> None:
    served = await serve()
    totals, reader = Totals(), served.store.read_now()
    for number in range(3 * MAX_KNOWN):
        asked = Filter(queues=(Queue.PROCESSING,), routes=(Route.INBOUND,), text=f"t{number}", since=0, until=1)
        totals.count(reader, asked)
        assert len(totals._thread.known) <= MAX_KNOWN
