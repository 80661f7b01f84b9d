"""Reads that walk many rows end in time, run one at a time, and keep nothing else from being answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from postroom.http.gateway.calls import held, rejections, release_logs
from postroom.http.gateway.calls.tracking import SEARCH
from postroom.http.gateway.paging import logs as listing
from postroom.ids import first_id_at
from postroom.store.find import counters
from postroom.store.fold import SearchTooBroad
from postroom.store.logs import audit, lines
from tests.http.conftest import Served
from tests.http.keys import a_token, carrying
from tests.http.siblings import ask, data, faults, hold

BROAD = [(None, "err_search_too_broad")]
MANY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    "INSERT INTO rejection (id, ip, helo, env_from, recipient, kind, reply, number) "
    "SELECT ? + i, '192.0.2.1', 'mail.example', 'eve' || i || '@example.net', 'x@corp.example', 'content', "
    "'554 no', 1 FROM n"
)


async def refused(served: Served) -> None:
    """5,000 refusals of this moment: some looks at the clock."""
    first = first_id_at(served.clock.now() - 1000)
    await served.store.write(lambda tx: tx.rows(MANY, (first,)))


def searching(text: str) -> dict[str, Any]:
    return {"searchBy": {"fieldName": "all", "value": text}}


@pytest.mark.parametrize("text", ["zzz", "zzß"])
async def test_a_search_of_a_log_ends_in_time(served: Served, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    await refused(served)
    assert data(await ask(served, rejections.PATH, searching(text))) == [{"rejections": []}]
    monkeypatch.setattr(lines, "BOUND", -1.0)
    answer = await ask(served, rejections.PATH, searching(text))
    assert faults(answer) == BROAD
    assert "a shorter time from start to end" in answer.json["fail"][0]["errors"][0]["message"]
    assert answer.json["data"] == []


async def test_a_page_is_not_refused_because_its_total_takes_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await refused(served)
    counted = await ask(served, rejections.PATH, searching("eve"), pageSize=3)
    assert (len(data(counted)[0]["rejections"]), counted.pagination["totalCount"]) == (3, 5000)
    monkeypatch.setattr(lines, "BOUND", -1.0)
    answer = await ask(served, rejections.PATH, searching("eve"), pageSize=3)
    assert answer.json["data"] == counted.json["data"]
    assert "totalCount" not in answer.pagination
    assert "next" in answer.pagination


@pytest.mark.parametrize(
    ("path", "item"),
    [
        (rejections.PATH, searching("eve")),
        (rejections.PATH, {"mailbox": "x@corp.example"}),
        (rejections.PATH, {"filterBy": {"type": "size"}}),
        (release_logs.PATH, searching("eve")),
        (release_logs.PATH, {"filterBy": {"attachments": True}}),
    ],
)
async def test_searches_of_logs_run_one_at_a_time(
    served: Served, monkeypatch: pytest.MonkeyPatch, path: str, item: dict[str, Any]
) -> None:
    monkeypatch.setattr(listing, "PATIENCE", 0.01)
    async with served.services.scans.turn():
        assert faults(await ask(served, path, item)) == BROAD
        assert faults(await ask(served, path)) == []  # what nobody waits long for does not wait
    assert faults(await ask(served, path, item)) == []


async def test_the_others_wait_for_their_turn(served: Served) -> None:
    token = carrying(await a_token(served))
    async with served.services.scans.turn():
        waiting = [
            asyncio.create_task(ask(served, SEARCH, {})),
            asyncio.create_task(ask(served, held.SUMMARY)),
            asyncio.create_task(served.get("/v1/audit?actor=eve", token)),
        ]
        for _ in range(5):  # they get as far as they can
            assert (await served.find()).status == 200
        assert [task.done() for task in waiting] == [False] * 3
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200] * 3


async def test_a_summary_is_exact_whatever_the_counters_know_and_ends_in_time(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await hold(served, "a@corp.example", "b@corp.example", why="x")
    await served.store.write(lambda tx: counters.advance(tx, known[-1]))
    await hold(served, "c@corp.example", why="x")
    await hold(served, "d@corp.example")
    assert data(await ask(served, held.SUMMARY)) == [{"policyInfo": "Held by a person", "numberOfItems": 4}]
    monkeypatch.setattr(held, "LONGEST", -1.0)
    monkeypatch.setattr("postroom.store.sqlite.tx.STEPS", 1)
    assert faults(await ask(served, held.SUMMARY)) == BROAD
    monkeypatch.undo()
    assert len(data(await ask(served, held.SUMMARY))) == 1  # the bound was that read's alone


async def test_whoever_has_waited_long_enough_does_not_keep_the_turn(served: Served) -> None:
    scans = served.services.scans
    async with scans.turn():
        with pytest.raises(SearchTooBroad, match="another broad search is running"):
            async with scans.turn(0.01):
                raise AssertionError("two at a time")
    async with scans.turn(0.01):
        pass


async def test_the_audit_log_is_searched_a_piece_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of nothing: each page is one step, and still all is found, each once."""
    monkeypatch.setattr(audit, "CHUNK", 3)

    def fill(tx: Any) -> None:
        for number in range(20):
            actor = f"app:{'rare' if number % 9 == 4 else 'common'}{number}"
            audit.add(tx, at=number, actor=actor, kind="call")

    await served.store.write(fill)

    async def page(**wanted: Any) -> audit.Page:
        return await served.store.read(lambda reader: audit.page(reader.tx, **wanted))

    found, before, pages = [], None, 0
    while True:
        part = await page(actor="RARE", limit=1, before=before, budget=0.0)
        found += [line.actor for line in part.lines]
        pages += 1
        before = part.next
        if before is None:
            break
    assert found == ["app:rare13", "app:rare4"]
    assert pages > 4
    whole = await page(actor="rare", limit=2)
    assert ([line.at for line in whole.lines], whole.next) == ([13, 4], None)
    first = await page(limit=2)
    assert ([line.at for line in first.lines], first.next) == ([19, 18], first.lines[-1].id)
