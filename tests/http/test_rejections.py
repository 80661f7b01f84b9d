"""get-rejections (contract section 7): what was refused at SMTP time."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.clock import DAY, HOUR
from postroom.http.gateway.calls.rejections import PATH
from postroom.http.gateway.wire.dates import stamp
from postroom.store.access import identity
from postroom.store.keep import expiry
from postroom.store.logs import rejections
from postroom.store.logs.rejections import NewRejection
from tests.http.conftest import HandClock, Served
from tests.http.siblings import ask, data, faults

RELAYING = NewRejection(
    0, "192.0.2.7", "peer.example", "eve@example.net", "x@elsewhere.example", "relaying", "550 5.7.1 relaying denied"
)
SIZE = NewRejection(
    0, "198.51.100.9", "big.example", "Bob@example.org", "alice@corp.example", "size", "552 5.3.4 Message too big", 3
)


async def put(served: Served, *refused: NewRejection) -> None:
    now = served.clock.now()
    rows = [NewRejection(now, *[getattr(one, name) for name in one.__struct_fields__[1:]]) for one in refused]
    await served.store.write(lambda tx: rejections.add(tx, rows))


async def kinds(served: Served, item: dict[str, Any]) -> list[str]:
    (found,) = data(await ask(served, PATH, item))
    return [line["type"] for line in found["rejections"]]


async def test_every_member(served: Served) -> None:
    empty = b'{"meta":{"status":200,"pagination":{"pageSize":0}},"data":[{"rejections":[]}],"fail":[]}'
    assert (await ask(served, PATH)).body == empty
    await put(served, SIZE)
    answer = await ask(served, PATH, {"admin": True})
    assert answer.pagination == {"pageSize": 1, "totalCount": 1}
    assert data(answer)[0]["rejections"] == [
        {
            "fromAddress": "Bob@example.org",
            "toAddress": "alice@corp.example",
            "type": "size",
            "info": "552 5.3.4 Message too big",
            "remoteIp": "198.51.100.9",
            "remoteHost": "big.example",
            "rejected": stamp(served.clock.now()),
            "count": 3,
        }
    ]


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({}, ["size", "relaying"]), ({"sortOrder": "asc"}, ["relaying", "size"]),
        ({"admin": "false"}, ["size", "relaying"]),
        ({"searchBy": {"fieldName": "all", "value": "DENIED"}}, ["relaying"]),
        ({"searchBy": {"fieldName": "from", "value": "bob@"}}, ["size"]),
        ({"searchBy": {"fieldName": "to", "value": "elsewhere"}}, ["relaying"]),
        ({"searchBy": {"fieldName": "type", "value": "size"}}, ["size"]),
        ({"searchBy": {"info": "too big"}}, ["size"]),
        ({"searchBy": {"fieldName": "remoteIp", "value": "192.0.2."}}, ["relaying"]),
        ({"mailbox": "ALICE@corp.example"}, ["size"]), ({"mailbox": "alice"}, []),
        ({"filterBy": [{"fieldName": "type", "value": "relaying"}]}, ["relaying"]),
        ({"searchBy": {"fieldName": "all", "value": "ü"}}, []),
    ],
)  # fmt: skip
async def test_searches_and_filters(served: Served, item: dict[str, Any], found: list[str]) -> None:
    await put(served, RELAYING, SIZE)
    assert await kinds(served, item) == found


async def test_today_unless_asked(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    served.clock.move(DAY - served.clock.now() % DAY - HOUR)  # an hour before midnight
    await put(served, RELAYING)
    yesterday = stamp(served.clock.now())
    served.clock.move(2 * HOUR)
    await put(served, SIZE)
    assert await kinds(served, {}) == ["size"]
    assert await kinds(served, {"start": yesterday}) == ["size", "relaying"]
    assert await kinds(served, {"start": yesterday, "end": yesterday}) == ["relaying"]


async def test_pages(served: Served) -> None:
    await put(served, *[RELAYING] * 3, SIZE)
    first = await ask(served, PATH, {}, pageSize=3)
    await put(served, SIZE)  # arrives later: not on these pages
    assert first.pagination["totalCount"] == 4
    second = await ask(served, PATH, pageToken=first.pagination["next"])
    assert [line["type"] for line in data(second)[0]["rejections"]] == ["relaying"]
    assert second.pagination.keys() == {"pageSize", "totalCount", "previous"}
    back = await ask(served, PATH, pageToken=second.pagination["previous"])
    assert data(back) == data(first)


async def test_a_page_that_was_forgotten_meanwhile_leads_on(served: Served) -> None:
    await put(served, *[RELAYING] * 4)
    first = await ask(served, PATH, {}, pageSize=2)
    forget = "DELETE FROM rejection WHERE id IN (SELECT id FROM rejection ORDER BY id LIMIT 2)"
    await served.store.write(lambda tx: tx.rows(forget))
    second = await ask(served, PATH, pageToken=first.pagination["next"])
    assert data(second) == [{"rejections": []}]
    back = await ask(served, PATH, pageToken=second.pagination["previous"])
    assert data(back) == data(first)


async def test_kept_for_a_week(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await put(served, SIZE, SIZE)
    retention = served.services.settings.retention
    begin = stamp(served.clock.now())
    await expiry.look_after(served.store, retention, served.clock.now() + retention.rejections)
    assert await kinds(served, {"start": begin}) == ["size", "size"]
    await expiry.look_after(served.store, retention, served.clock.now() + retention.rejections + 1)
    assert await kinds(served, {"start": begin}) == []


async def test_bad_input(served: Served) -> None:
    bad = {"admin": "x", "start": 5, "searchBy": {"fieldName": "subject", "value": 1}, "mailbox": ["x"]}
    assert {field for field, _ in faults(await ask(served, PATH, bad))} == {
        "admin", "start", "searchBy.fieldName", "mailbox",
    }  # fmt: skip
    assert (await ask(served, PATH, role=identity.MONITOR)).status == 200


async def test_a_page_before_that_was_forgotten_leads_back_again(served: Served) -> None:
    await put(served, *[RELAYING] * 2, SIZE)
    first = await ask(served, PATH, {}, pageSize=1)
    second = await ask(served, PATH, pageToken=first.pagination["next"])
    forget = "DELETE FROM rejection WHERE id = (SELECT max(id) FROM rejection)"
    await served.store.write(lambda tx: tx.rows(forget))
    gone = await ask(served, PATH, pageToken=second.pagination["previous"])
    assert data(gone) == [{"rejections": []}]
    again = await ask(served, PATH, pageToken=gone.pagination["next"])
    assert data(again) == data(second)
    assert "previous" not in again.pagination
