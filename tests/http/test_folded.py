"""Lines that anybody can put into the log: one of a kind and minute, and how many more there were."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from postroom.http.door import folded
from postroom.http.door.folded import MAX_KINDS, Folded, ToOurLog
from postroom.settings import Console
from postroom.store.access import identity
from postroom.telemetry import Log
from tests.http.conftest import FIND, Quiet, Serve, Served, connected, read_answer, request_bytes, talk
from tests.http.console.test_login import log_in

MANY = 20


class Told(Quiet):
    """A log that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = asyncio.Event()

    def write(self, text: str) -> int:
        self.changed.set()
        return super().write(text)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not holds():
                self.changed.clear()
                await self.changed.wait()


def lines_of(served: Served, event: str) -> list[str]:
    return [line for line in served.told.lines if f" {event} " in line]


async def no_http(served: Served) -> None:
    async with connected(served.address) as (reader, writer):
        writer.write(b"EHLO mail.example\r\n\r\n")
        assert (await read_answer(reader)).status == 400


async def test_what_is_no_http_is_told_once_and_then_counted(serve: Serve) -> None:
    served = await serve()
    for _ in range(MANY):
        await no_http(served)
    (line,) = lines_of(served, "http_server")
    assert "Invalid HTTP request" in line
    assert "more=" not in line
    await served.server.stop(1)  # tells what is not yet told
    _, rest = lines_of(served, "http_server")
    assert "Invalid HTTP request" in rest
    assert f"more={MANY - 1} " in rest


async def test_an_upgrade_that_we_do_not_speak_is_told_once(served: Served) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    for _ in range(MANY):
        assert (await talk(served.address, request_bytes("GET", "/health/live", headers))).status == 200
    assert len([line for line in lines_of(served, "http_server") if "Unsupported upgrade" in line]) == 1


@pytest.mark.parametrize("typed", ["nobody@corp.example", "x" * (identity.MAX_EMAIL + 1)])
async def test_refused_logins_are_told_once_and_then_counted(serve: Serve, typed: str) -> None:
    served = await serve(console=Console(login_attempts=MANY))
    for _ in range(3):
        assert (await log_in(served, typed, "wrong")).status == 403
    (line,) = lines_of(served, "console_login_refused")
    assert "ip=127.0.0.1" in line
    await served.server.stop(1)
    _, rest = lines_of(served, "console_login_refused")
    assert "more=2 " in rest


async def test_slowed_logins_are_told_once_and_then_counted(serve: Serve) -> None:
    served = await serve(console=Console(login_attempts=1))
    assert [(await log_in(served, "nobody@corp.example", "wrong")).status for _ in range(4)] == [403, 429, 429, 429]
    assert len(lines_of(served, "console_login_slowed")) == 1
    await served.server.stop(1)
    assert "more=2 " in lines_of(served, "console_login_slowed")[1]
    assert len(lines_of(served, "console_login_refused")) == 1


async def test_a_minute_that_is_over_is_told_by_itself_and_the_next_begins_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folded, "MINUTE", 0.01)
    told = Told()
    few = Folded(Log(told))
    for number in range(3):
        few.warning("knocked", {"door": "front"}, number=number)
    await told.until(lambda: len(told.lines) == 2)
    first, rest = told.lines
    assert "number=0" in first
    assert "door=front more=2 within=" in rest
    assert "number=" not in rest
    few.warning("knocked", {"door": "front"}, number=3)
    assert "number=3" in told.lines[2]
    few.close()
    few.close()
    assert len(told.lines) == 3  # nothing was left out since


async def test_kinds_are_told_apart_up_to_a_bound() -> None:
    told = Quiet()
    few = Folded(Log(told))
    for _ in range(2):
        for number in range(MAX_KINDS * 2):
            few.warning("knocked", {"door": str(number)})
    assert len(told.lines) == MAX_KINDS + 1
    few.close()
    assert len(told.lines) == 2 * (MAX_KINDS + 1)
    assert f" more={2 * MAX_KINDS - 1} " in told.lines[-1]


async def test_failures_of_ours_are_all_told_with_their_trace() -> None:
    told = Quiet()
    log = Log(told)
    few = Folded(log)
    logger = logging.Logger("of a test")
    logger.addHandler(ToOurLog(log, few))
    for _ in range(3):
        try:
            raise ValueError("a mistake in the program")
        except ValueError:
            logger.exception("It failed")
    assert len([line for line in told.lines if "Traceback" in line and "a mistake" in line]) == 3
    few.close()
    assert len(told.lines) == 3


async def test_calls_while_the_store_fails_are_told_once_and_mistakes_of_ours_each_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake in the program")

    with monkeypatch.context() as broken:
        broken.setattr("postroom.http.gateway.paging.queues.read_page", fail)
        for _ in range(3):
            assert (await served.find()).status == 500
    assert len(lines_of(served, "http_failed")) == 3
    served.told.lines.clear()
    await served.store.write(lambda tx: tx.rows("ALTER TABLE app RENAME TO app_elsewhere"))
    stranger = served.signed(app_id="somebody-else")
    for target in (FIND, FIND, "/api/gateway/get-hold-message-list"):
        assert (await served.post(target, stranger, b"{}")).status == 500
    (line,) = lines_of(served, "http_failed")
    assert " error " in line
    assert "no such table" in line
    served.server.guard.folded.close()
    assert "more=2 " in lines_of(served, "http_failed")[1]
