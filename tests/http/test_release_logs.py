"""get-held-release-logs (contract section 7)."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.clock import DAY
from postroom.http.gateway.calls.release import REJECT, RELEASE
from postroom.http.gateway.calls.release_logs import PATH
from postroom.http.gateway.wire.dates import stamp
from postroom.model import Action, Route
from postroom.store.access import identity
from postroom.store.keep import expiry
from tests.http.conftest import HandClock, Served
from tests.http.siblings import ask, data, faults, hold, ident


async def lines(served: Served, item: dict[str, Any] | None = None, **pagination: Any) -> list[dict[str, Any]]:
    (found,) = data(await ask(served, PATH, item or {}, **pagination))
    logged: list[dict[str, Any]] = found["heldReleaseLogs"]
    return logged


async def filled(served: Served) -> None:
    """Released: lunch. Rejected: wire. Not by a person, or not of held mail: nothing."""
    assert isinstance(served.clock, HandClock)
    (wire,) = await hold(served, "bob@corp.example", subject="wire", why="legal", name="Carol")
    (lunch,) = await hold(
        served, "eve@corp.example", subject="LÜNCH", sender="dave@example.org", route=Route.OUTBOUND, attachment=True
    )
    (waiting,) = (await served.put(subject="never held")).entries
    served.clock.move(1000)
    data(
        await ask(
            served, REJECT, {"ids": [ident(served, wire)], "message": "no", "reasonType": "INAPPROPRIATE COMMUNICATION"}
        )
    )
    served.clock.move(1000)
    data(await ask(served, RELEASE, {"id": ident(served, lunch), "reason": "seen it"}))
    await served.store.act(Action.REJECT, [waiting], actor="test")


async def test_every_member_as_recorded(served: Served) -> None:
    assert (await ask(served, PATH)).body == (
        b'{"meta":{"status":200,"pagination":{"pageSize":0}},"data":[{"heldReleaseLogs":[]}],"fail":[]}'
    )
    await filled(served)
    lunch, wire = await lines(served)
    assert wire.pop("id")
    assert lunch.pop("id")
    assert wire == {
        "status": "rejected",
        "released": stamp(served.clock.now() - 1000),
        "operator": {"emailAddress": "administrator"},
        "fromEnv": {"emailAddress": "alice@corp.example"},
        "fromHdr": {"emailAddress": "alice@corp.example", "displayableName": "Carol"},
        "to": [{"emailAddress": "bob@corp.example"}],
        "subject": "wire",
        "route": "inbound",
        "size": 7110,
        "attachments": False,
        "heldReason": "Held by a person: legal",
        "policy": "Held by a person",
        "rejectReason": "Inappropriate communication: no",
    }
    assert (lunch["status"], lunch["messageInfo"], "rejectReason" in lunch) == ("released", "seen it", False)


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"searchBy": {"fieldName": "all", "value": "LEGAL"}}, ["wire"]),
        ({"searchBy": {"fieldName": "operator", "value": "admin"}}, ["LÜNCH", "wire"]),
        ({"searchBy": {"fieldName": "from", "value": "dave"}}, ["LÜNCH"]),
        ({"searchBy": {"to": "bob@"}}, ["wire"]),
        ({"searchBy": {"fieldName": "subject", "value": "lün"}}, ["LÜNCH"]),
        ({"searchBy": {"fieldName": "info", "value": "seen"}}, ["LÜNCH"]),
        ({"searchBy": {"fieldName": "heldReason", "value": "legal"}}, ["wire"]),
        ({"filterBy": [{"fieldName": "status", "value": "Rejected"}]}, ["wire"]),
        ({"filterBy": [{"status": "released"}, {"status": "rejected"}]}, ["LÜNCH", "wire"]),
        ({"filterBy": [{"fieldName": "route", "value": "outbound"}]}, ["LÜNCH"]),
        ({"filterBy": [{"attachments": False}]}, ["wire"]),
        ({"sortOrder": "ascending"}, ["wire", "LÜNCH"]),
    ],
)
async def test_searches_and_filters(served: Served, item: dict[str, Any], found: list[str]) -> None:
    await filled(served)
    assert [line["subject"] for line in await lines(served, item)] == found


async def test_the_last_month_unless_asked(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await filled(served)
    served.clock.move(31 * DAY)
    assert await lines(served) == []
    assert len(await lines(served, {"start": stamp(served.clock.now() - 60 * DAY)})) == 2


async def test_pages_forth_and_back(served: Served) -> None:
    entries = await hold(served, *[f"r{number}@corp.example" for number in range(5)])
    for entry in entries:
        data(await ask(served, RELEASE, {"id": ident(served, entry)}))
    seen = []
    answer = await ask(served, PATH, {}, pageSize=2)
    while True:
        assert answer.pagination["totalCount"] == 5
        seen.append([line["to"][0]["emailAddress"][:2] for line in data(answer)[0]["heldReleaseLogs"]])
        if "next" not in answer.pagination:
            break
        answer = await ask(served, PATH, pageToken=answer.pagination["next"])
    assert seen == [["r4", "r3"], ["r2", "r1"], ["r0"]]
    back = await ask(served, PATH, pageToken=answer.pagination["previous"])
    assert [line["to"][0]["emailAddress"][:2] for line in data(back)[0]["heldReleaseLogs"]] == ["r2", "r1"]
    first = await ask(served, PATH, pageToken=back.pagination["previous"])
    assert "previous" not in first.pagination


async def test_lines_outlive_their_entries_and_are_forgotten_with_the_history(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await filled(served)
    retention = served.services.settings.retention
    await expiry.look_after(served.store, retention, served.clock.now() + retention.history - 500)
    assert [line["subject"] for line in await lines(served)] == ["LÜNCH"]
    await expiry.look_after(served.store, retention, served.clock.now() + retention.history + 1)
    assert await lines(served) == []


async def test_bad_input(served: Served) -> None:
    bad = {"start": "x", "searchBy": {"fieldName": "body", "value": "x"}, "filterBy": [{"status": "lost"}]}
    assert {field for field, _ in faults(await ask(served, PATH, bad))} == {
        "start", "searchBy.fieldName", "filterBy.status",
    }  # fmt: skip
    assert faults(await ask(served, PATH, pageToken="x")) == [(None, "xdk_failure")]
    assert (await ask(served, PATH, role=identity.MONITOR)).status == 200
