"""get-hold-message-list and get-hold-summary-list (contract section 7)."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.clock import DAY
from postroom.http.gateway.calls.held import LIST, SUMMARY
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.held import code_of, policy_of
from postroom.model import Route
from postroom.store.access import identity
from tests.http.conftest import HandClock, Served, golden
from tests.http.siblings import ask, data, faults, hold, ident


async def subjects(served: Served, item: dict[str, Any]) -> list[str]:
    return [held["subject"] for held in data(await ask(served, LIST, item))]


async def test_nothing_held_answers_as_recorded(served: Served) -> None:
    await served.put(subject="waits, is not held")
    for items in ([], [{}], [{"admin": "true"}], [{"admin": False, "start": None, "searchBy": None, "filterBy": []}]):
        assert (
            await ask(served, LIST, *items)
        ).body == b'{"meta":{"status":200,"pagination":{"pageSize":0}},"data":[],"fail":[]}'


async def test_a_held_message_has_every_member_in_the_recorded_order(served: Served) -> None:
    (entry,) = await hold(
        served, "bob@corp.example", why="asked for by legal", sender="bounce@lists.example.org",
        header_from="carol@example.org", name="Carol", subject="Wire", attachment=True,
    )  # fmt: skip
    answer = await ask(served, LIST, {"admin": True})
    assert data(answer) == [
        {
            "id": ident(served, entry),
            "reason": "Held by a person: asked for by legal",
            "reasonId": "HELD_BY_A_PERSON",
            "reasonCode": "held_by_a_person",
            "from": {"emailAddress": "bounce@lists.example.org", "displayableName": ""},
            "fromHeader": {"emailAddress": "carol@example.org", "displayableName": "Carol"},
            "to": {"emailAddress": "bob@corp.example", "displayableName": ""},
            "subject": "Wire",
            "route": "INBOUND",
            "hasAttachments": True,
            "size": 7110,
            "dateReceived": stamp(served.clock.now()),
            "policyInfo": "Held by a person",
        }
    ]
    assert answer.body == golden("held_list").replace(b"ID", ident(served, entry).encode())


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"searchBy": {"fieldName": "all", "value": "WIRE"}}, ["wire"]),
        ({"searchBy": {"fieldName": "subject", "value": "lunch"}}, ["lunch"]),
        ({"searchBy": {"fieldName": "sender", "value": "<dave@example.org>"}}, ["lunch"]),
        ({"searchBy": [{"fieldName": "recipient", "value": "bob@"}]}, ["wire"]),
        ({"searchBy": {"fieldName": "reason_code", "value": "by_a_person"}}, ["lunch", "wire"]),
        ({"searchBy": {"fieldName": "reasonCode", "value": "legal"}}, ["wire"]),
        ({"searchBy": {"fieldName": "senderIP", "value": "198.51.100.9"}}, ["lunch"]),
        ({"filterBy": [{"route": "outbound"}]}, ["lunch"]),
        ({"filterBy": {"fieldName": "route", "value": "INBOUND"}}, ["wire"]),
        ({"filterBy": [{"attachments": "true"}]}, ["lunch"]),
        ({"filterBy": [{"heldGroup": "administrator"}]}, ["lunch", "wire"]),
        ({"filterBy": [{"heldGroup": "user"}]}, []),
        ({"filterBy": [{"route": None, "heldGroup": "", "attachments": None}]}, ["lunch", "wire"]),
        ({"sortOrder": "asc"}, ["wire", "lunch"]),
    ],
)
async def test_searches_and_filters(served: Served, item: dict[str, Any], found: list[str]) -> None:
    await hold(served, "bob@corp.example", subject="wire", why="legal")
    await hold(
        served, "eve@corp.example", subject="lunch", sender="dave@example.org", route=Route.OUTBOUND, attachment=True,
        ip="198.51.100.9",
    )  # fmt: skip
    assert await subjects(served, item) == found


async def test_all_ages_unless_a_window_is_given(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await hold(served, subject="old")
    old = stamp(served.clock.now())
    served.clock.move(20 * DAY)
    await hold(served, subject="new")
    assert await subjects(served, {}) == ["new", "old"]
    assert await subjects(served, {"start": stamp(served.clock.now() - DAY)}) == ["new"]
    assert await subjects(served, {"start": old, "end": old}) == ["old"]


async def test_pages_go_forth_and_back(served: Served) -> None:
    for number in range(5):
        await hold(served, subject=f"m{number}")
    first = await ask(served, LIST, {"admin": True}, pageSize=2)
    assert [held["subject"] for held in data(first)] == ["m4", "m3"]
    assert (first.pagination["pageSize"], first.pagination["totalCount"]) == (2, 5)
    second = await ask(served, LIST, pageToken=first.pagination["next"])
    assert [held["subject"] for held in data(second)] == ["m2", "m1"]
    back = await ask(served, LIST, pageToken=second.pagination["previous"])
    assert data(back) == data(first)


async def test_a_token_is_good_for_its_function_only(served: Served) -> None:
    for number in range(3):
        await hold(served, subject=f"m{number}")
    token = (await ask(served, LIST, pageSize=1)).pagination["next"]
    assert faults(await served.find({}, pageToken=token)) == [(None, "xdk_failure")]
    assert faults(await ask(served, LIST, pageToken="x" + token)) == [(None, "xdk_failure")]


async def test_bad_input_names_every_member(served: Served) -> None:
    await hold(served, subject="held")
    bad = {
        "admin": "perhaps", "start": "yesterday", "sortOrder": "up",
        "searchBy": {"fieldName": "body", "value": "x" * 300}, "filterBy": [{"heldGroup": "me"}, {"route": "up"}],
    }  # fmt: skip
    answer = await ask(served, LIST, bad, {})
    assert {field for field, _ in faults(answer)} == {
        "admin", "start", "sortOrder", "searchBy.fieldName", "searchBy.value", "filterBy.heldGroup", "filterBy.route",
    }  # fmt: skip
    assert answer.json["fail"][0]["key"] == bad
    assert [held["subject"] for held in answer.json["data"]] == ["held"]
    assert faults(await ask(served, LIST, "text")) == [("data", "err_validation_value_not_allowed")]
    assert faults(await ask(served, LIST, *[{}] * 26)) == [("data", "err_validation_value_not_allowed")]


async def test_the_summary_counts_by_policy(served: Served) -> None:
    assert (await ask(served, SUMMARY)).body == b'{"meta":{"status":200},"data":[],"fail":[]}'
    await hold(served, "a@corp.example", "b@corp.example", why="one case")
    await hold(served, why="another")
    await served.store.write(lambda tx: tx.rows("UPDATE info SET text = 'Virus found: x' WHERE text LIKE '%another'"))
    assert data(await ask(served, SUMMARY, {})) == [
        {"policyInfo": "Held by a person", "numberOfItems": 2},
        {"policyInfo": "Virus found", "numberOfItems": 1},
    ]


async def test_permissions(served: Served) -> None:
    assert (await ask(served, LIST, role=identity.MONITOR)).status == 200
    assert (await ask(served, SUMMARY, role=identity.MONITOR)).status == 200


@pytest.mark.parametrize(
    ("info", "policy", "code"),
    [
        ("Held by a person", "Held by a person", "held_by_a_person"),
        ("Virus found: Eicar-Test", "Virus found", "virus_found"),
        ("May have been delivered: the attempt ended", "May have been delivered", "may_have_been_delivered"),
        ("Wartet – Prüfung (3)", "Wartet – Prüfung", "wartet_pr_fung"),
        ("", "Held", "held"),
        (":", "Held", "held"),
    ],
)
def test_policy_and_code_of_a_reason(info: str, policy: str, code: str) -> None:
    assert (policy_of(info), code_of(info)) == (policy, code)
