"""`start` and `end`: what is meant when one of them is not given (docs/api.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postroom.clock import DAY, HOUR, SECOND, HandClock, Millis
from postroom.http.gateway.calls import find, held, release_logs, tracking
from postroom.http.gateway.calls import rejections as rejecting
from postroom.http.gateway.calls.release import RELEASE
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.held import read_held
from postroom.http.gateway.wire.members import AHEAD
from postroom.http.gateway.wire.tracking import read_search
from postroom.model import Filter
from postroom.store.logs import rejections
from postroom.store.logs.rejections import NewRejection
from tests.http.conftest import START, Served
from tests.http.siblings import ask, data, faults, hold, ident

NOW: Millis = START
KEPT = 30 * DAY


def of_filter(asked: Filter) -> tuple[Millis, Millis]:
    assert asked.since is not None
    assert asked.until is not None
    return asked.since, asked.until


def find_window(item: dict[str, Any]) -> tuple[Millis, Millis]:
    return of_filter(find.read_query(item, NOW).filter)


def held_window(item: dict[str, Any]) -> tuple[Millis, Millis]:
    return of_filter(read_held(item, NOW).filter)


def rejected_window(item: dict[str, Any]) -> tuple[Millis, Millis]:
    asked = rejecting.read_query(item, NOW)
    return asked.since, asked.until


def released_window(item: dict[str, Any]) -> tuple[Millis, Millis]:
    asked = release_logs.read_query(item, NOW)
    return asked.since, asked.until


def tracked_window(item: dict[str, Any]) -> tuple[Millis, Millis]:
    asked = read_search(item, NOW, KEPT)
    return asked.since, asked.until


MIDNIGHT = NOW - NOW % DAY


@pytest.mark.parametrize(
    ("read", "end", "expected"),
    [
        (find_window, None, (NOW - 7 * DAY, NOW)),
        (find_window, NOW - 7 * DAY + HOUR, (NOW - 7 * DAY, NOW - 7 * DAY + HOUR)),
        (find_window, NOW - 8 * DAY, (NOW - 15 * DAY, NOW - 8 * DAY)),
        (released_window, NOW - 31 * DAY, (NOW - 61 * DAY, NOW - 31 * DAY)),
        (rejected_window, None, (MIDNIGHT, NOW)),
        (rejected_window, MIDNIGHT + HOUR, (MIDNIGHT, MIDNIGHT + HOUR)),
        (rejected_window, MIDNIGHT - HOUR, (MIDNIGHT - DAY, MIDNIGHT - HOUR)),
        (held_window, NOW - 400 * DAY, (0, NOW - 400 * DAY)),
        (tracked_window, NOW - 29 * DAY, (NOW - 30 * DAY, NOW - 29 * DAY)),
    ],
)
def test_an_end_alone_moves_a_start_that_would_lie_behind_it(
    read: Callable[[dict[str, Any]], tuple[Millis, Millis]], end: Millis | None, expected: tuple[Millis, Millis]
) -> None:
    assert NOW % SECOND == 0
    whole = 0 if end is None else SECOND - 1  # a date means its whole second
    assert read({} if end is None else {"end": stamp(end)}) == (expected[0], expected[1] + whole)


async def test_mail_that_waits_for_more_than_a_week_is_found_by_an_end_alone(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await served.put(subject="old")
    (entry,) = await hold(served)
    data(await ask(served, RELEASE, {"id": ident(served, entry)}))
    refused = NewRejection(
        served.clock.now(), "192.0.2.7", "peer.example", "eve@example.net", "x@y.example", "size", "552 no"
    )
    await served.store.write(lambda tx: rejections.add(tx, [refused]))
    end = {"end": stamp(served.clock.now() + SECOND)}
    served.clock.move(40 * DAY)
    assert {found["subject"] for found in (await served.find(end)).messages} == {"old", "Quarterly report"}
    assert len(data(await ask(served, release_logs.PATH, end))[0]["heldReleaseLogs"]) == 1
    assert len(data(await ask(served, rejecting.PATH, end))[0]["rejections"]) == 1
    assert faults(await ask(served, tracking.SEARCH, end)) == [("start", "err_track_and_trace_invalid_start_date")]


@pytest.mark.parametrize("path", [find.PATH, held.LIST, rejecting.PATH, release_logs.PATH, tracking.SEARCH])
async def test_a_start_behind_now_is_told_unless_an_end_lies_behind_it(served: Served, path: str) -> None:
    now = served.clock.now()
    assert faults(await ask(served, path, {"start": stamp(now)})) == []
    assert faults(await ask(served, path, {"start": stamp(now + AHEAD)})) == []
    later = {"start": stamp(now + AHEAD + 2 * SECOND)}
    assert faults(await ask(served, path, later)) == [("start", "err_validation_value_not_allowed")]
    assert faults(await ask(served, path, later | {"end": stamp(now + AHEAD + 9 * SECOND)})) == []
