"""get-email-queues: arrays of 10-minute steps from the samples (contract section 7)."""

from __future__ import annotations

from postroom.clock import DAY, HOUR, MINUTE
from postroom.http.gateway.calls.queues import PATH
from postroom.http.gateway.wire.dates import stamp
from postroom.model import Action, Queue, Route
from postroom.store.access import identity
from postroom.store.keep import expiry, samples
from tests.http.conftest import HandClock, Served
from tests.http.siblings import ask, data, faults


async def test_counts_by_direction_without_what_is_held(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    begin = served.clock.now()
    assert await samples.take(served.store, begin)
    for route in (Route.INBOUND, Route.INTERNAL, Route.OUTBOUND, Route.EXTERNAL, Route.INBOUND):
        await served.put("a@corp.example", route=route)
    (held,) = (await served.put("b@corp.example", queue=Queue.DELIVERY)).entries
    await served.store.act(Action.HOLD, [held], actor="test")
    served.clock.move(10 * MINUTE)
    assert await samples.take(served.store, served.clock.now() + 1)
    window = {"start": stamp(begin - HOUR), "end": stamp(served.clock.now())}
    answer = await ask(served, PATH, window)
    assert (
        answer.body
        == (
            '{"meta":{"status":200},"data":[{"inboundEmailQueue":'
            f'[{{"count":0,"date":"{stamp(begin)}"}},{{"count":3,"date":"{stamp(begin + 10 * MINUTE)}"}}],'
            '"outboundEmailQueue":'
            f'[{{"count":0,"date":"{stamp(begin)}"}},{{"count":2,"date":"{stamp(begin + 10 * MINUTE)}"}}]}}],'
            '"fail":[]}'
        ).encode()
    )
    (found,) = data(await ask(served, PATH, {"start": window["end"], "end": window["end"]}))
    assert len(found["inboundEmailQueue"]) == 1


async def test_one_sample_for_each_step(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    begin = served.clock.now() - served.clock.now() % samples.STEP
    assert [await samples.take(served.store, begin + part) for part in (0, 1, samples.STEP - 1, samples.STEP)] == [
        True, False, False, True,
    ]  # fmt: skip


async def test_both_dates_are_mandatory(served: Served) -> None:
    now = stamp(served.clock.now())
    null = "err_validation_null"
    assert faults(await ask(served, PATH)) == [("start", null), ("end", null)]
    assert faults(await ask(served, PATH, {"start": now})) == [("end", null)]
    assert faults(await ask(served, PATH, {"end": now, "start": ""})) == [("start", "err_validation_blank")]
    assert faults(await ask(served, PATH, {"end": now, "start": "x"})) == [
        ("start", "err_validation_value_not_allowed")
    ]
    later = {"start": stamp(served.clock.now() + 2000), "end": now}
    assert faults(await ask(served, PATH, later)) == [("start", "err_validation_value_not_allowed")]
    assert faults(await ask(served, PATH, [])) == [("data", "err_validation_value_not_allowed")]


async def test_nothing_sampled_is_empty_arrays(served: Served) -> None:
    now = stamp(served.clock.now())
    answer = await ask(served, PATH, {"start": now, "end": now}, role=identity.MONITOR)
    assert data(answer) == [{"inboundEmailQueue": [], "outboundEmailQueue": []}]


async def test_samples_are_forgotten_with_the_history(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    begin = served.clock.now()
    await expiry.look_after(served.store, served.services.settings.retention, begin)
    later = begin + served.services.settings.retention.history + HOUR
    assert await expiry.look_after(served.store, served.services.settings.retention, later) == 20
    served.clock.move(later - begin)
    window = {"start": stamp(begin - DAY), "end": stamp(later)}
    (found,) = data(await ask(served, PATH, window))
    assert [point["date"] for point in found["inboundEmailQueue"]] == [stamp(later - later % samples.STEP)]
