"""find-processing-messages: each request field in every spelling, each response field as recorded (contract 6)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from postroom.clock import DAY, HOUR, MINUTE
from postroom.http.gateway.calls.held import LIST
from postroom.http.gateway.wire.dates import stamp
from postroom.http.gateway.wire.idents import EntryIds
from postroom.model import Action, Queue, Route
from postroom.sealing import Sealer
from tests.http.conftest import FIND, HandClock, Served, golden
from tests.http.siblings import ask, faults, hold


def subjects(messages: list[dict[str, Any]]) -> list[str]:
    return [message["subject"] for message in messages]


async def asked(served: Served, item: Any) -> list[str]:
    return subjects((await served.find(item)).messages)


async def test_an_empty_queue_answers_as_recorded(served: Served) -> None:
    answer = await served.find()
    assert (answer.status, answer.body) == (200, golden("find_empty"))


async def test_an_entry_has_every_member_in_the_recorded_order(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await served.put(
        "bob@corp.example",
        sender="bounce+7@lists.example.org",
        header_from="carol@example.org",
        name='Carol "C" Müller <x>',
        to_name="Bob",
        subject="Fwd: 1 < 2 & 3 > 2",
        attachment=True,
        locked_until=served.clock.now() + MINUTE,
    )
    answer = await served.find()
    (message,) = answer.messages
    assert answer.body == golden("find_locked").replace(b"ID", message["id"].encode())
    served.clock.move(MINUTE + 1)  # the lease ends, the message stands where it stood
    (message,) = (await served.find()).messages
    assert "lockedUntil" not in message
    assert list(message) == [name for name in answer.messages[0] if name != "lockedUntil"]


async def test_what_is_empty_stays_and_what_is_missing_is_left_out(served: Served) -> None:
    await served.put(sender="", header_from="", subject="", ip="")
    (message,) = (await served.find()).messages
    assert message["fromEnv"] == message["fromHeader"] == {"emailAddress": ""}
    assert message["subject"] == message["remoteIp"] == ""
    assert message["info"] == "Queued for Processing"
    assert message["attempts"] == 0
    assert message["priority"] == "normal"


async def test_an_id_is_stable_opaque_and_cannot_be_made_up(served: Served) -> None:
    accepted = await served.put("a@corp.example", "b@corp.example")
    first, again = (await served.find()).messages, (await served.find()).messages
    assert [one["id"] for one in first] == [one["id"] for one in again]
    idents = EntryIds(served.services.sealer)
    assert [idents.ident(one["id"]) for one in first] == list(accepted.entries)[::-1]
    text = first[0]["id"]
    assert str(accepted.entries[1]) not in text
    assert format(accepted.entries[1], "x") not in text
    for wrong in (
        "",
        "x" * 32,
        text[:-1],
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        text + "00",
        " " * 2 + text[:30],
    ):
        assert idents.ident(wrong) is None
    assert EntryIds(Sealer(b"\x01" * 32)).ident(text) is None


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"{'data': []}", b"{'data': [{}]}", b"{'data': None}", b"{'data': [None]}", b"{'meta': {}}",
        b"{'data': {}}", b"{'data': [{'sortOrder': None}]}", b"{'data': [{'sortOrder': ''}]}", b"null",
        b"{'meta': {'pagination': {'page_size': 20}}, 'data': [{'sortOrder': null}]}",
        b"{'data': [{'start': None, 'end': '', 'searchBy': None, 'filterBy': [], 'type': None, 'sortBy': None}]}",
        b"{'data': [{'searchBy': {'fieldName': None, 'value': None}, "
        b"'filterBy': [{'route': null, 'attachments': null}]}]}",
        b"{'data': [{'searchBy': [], 'filterBy': [{'fieldName': null, 'value': null}], 'id': 'x', 'subject': 1}]}",
        b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{}\r\n--b--\r\n',
    ],
)  # fmt: skip
async def test_nothing_asked_is_everything_of_the_last_week(served: Served, body: bytes) -> None:
    await served.put(subject="here")
    await served.put(subject="other queue", queue=Queue.BULK)
    assert subjects((await served.post(FIND, served.signed(), body)).messages) == ["here"]


async def test_a_body_may_lie_about_its_type_or_have_none(served: Served) -> None:
    await served.put(subject="here")
    for kind in (
        "application/json; charset=utf-8",
        "multipart/form-data; boundary=b",
        "application/x-www-form-urlencoded",
    ):
        headers = served.signed() | {"Content-Type": kind}
        assert subjects((await served.post(FIND, headers, b"{'data':[{}]}")).messages) == ["here"]
    headers = served.signed()
    del headers["Content-Type"]
    assert subjects((await served.post(FIND, headers)).messages) == ["here"]


@pytest.mark.parametrize("word", [None, "", "descending", "desc", "Descending", "DESC"])
async def test_newest_first_unless_asked_otherwise(served: Served, word: str | None) -> None:
    for subject in ("one", "two", "three"):
        await served.put(subject=subject)
    assert await asked(served, {"sortOrder": word, "sortBy": "createTime"}) == ["three", "two", "one"]


@pytest.mark.parametrize("word", ["ascending", "asc", "Ascending", "ASC"])
async def test_oldest_first(served: Served, word: str) -> None:
    for subject in ("one", "two", "three"):
        await served.put(subject=subject)
    assert await asked(served, {"sortOrder": word, "sortBy": None}) == ["one", "two", "three"]


async def test_type_chooses_the_queue(served: Served) -> None:
    for queue in Queue:
        if queue is not Queue.HELD:
            await served.put(subject=queue.value, queue=queue)
    assert await asked(served, {"type": "processing"}) == ["processing"]
    assert await asked(served, {"type": "Bulk_Processing"}) == ["bulk_processing"]


async def test_the_window_compares_created(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    clock = served.clock
    times = []
    for subject in ("old", "mid", "new"):
        await served.put(subject=subject)
        times.append(clock.now())
        clock.move(HOUR)
    clock.move(7 * DAY - 3 * HOUR)
    assert await asked(served, {}) == ["new", "mid", "old"]  # exactly seven days old: still there
    clock.move(1)
    assert await asked(served, {}) == ["new", "mid"]
    assert await asked(served, {"start": stamp(times[0])}) == ["new", "mid", "old"]
    assert await asked(served, {"start": stamp(times[1]), "end": stamp(times[1])}) == ["mid"]
    assert await asked(served, {"end": stamp(times[1]), "start": stamp(times[0] - DAY)}) == ["mid", "old"]
    assert await asked(served, {"start": stamp(clock.now())}) == []


@pytest.mark.parametrize("millis", [0, 1, 999])
async def test_what_the_answer_calls_created_finds_the_entry_again(served: Served, millis: int) -> None:
    assert isinstance(served.clock, HandClock)
    served.clock.move(millis)
    await served.put(subject="it")
    (message,) = (await served.find()).messages
    served.clock.move(MINUTE)
    assert await asked(served, {"start": message["created"], "end": message["created"]}) == ["it"]


async def fill(served: Served) -> None:
    await served.put("bob@corp.example", subject="Plain in", route=Route.INBOUND, ip="192.0.2.7")
    await served.put(
        "zoe@example.org", subject="Files OUT", route=Route.OUTBOUND, attachment=True, sender="bob@corp.example"
    )
    await served.put("amy@corp.example", subject="Übergrößen", route=Route.INTERNAL, attachment=True, name="Rosé Bob")
    await served.put("x@example.net", subject="100%_done", route=Route.EXTERNAL, ip="2001:db8::7")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([{"route": "inbound"}], ["Plain in"]),
        ([{"route": "OUTBOUND"}], ["Files OUT"]),
        ({"route": "internal"}, ["Übergrößen"]),
        ([{"fieldName": "route", "value": "external"}], ["100%_done"]),
        ([{"route": "all"}], ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
        ([{"attachments": True}], ["Übergrößen", "Files OUT"]),
        ([{"attachments": "true", "route": None}], ["Übergrößen", "Files OUT"]),
        ([{"attachments": False}], ["100%_done", "Plain in"]),
        ([{"attachments": True, "route": "outbound"}], ["Files OUT"]),
        ([{"attachments": True}, {"route": "outbound"}], ["Files OUT"]),
        ([{"attachments": "False"}, {"fieldName": "route", "value": "inbound"}], ["Plain in"]),
        ([{"fieldName": "attachments", "value": "true"}, {"fieldName": "Route", "value": "Internal"}], ["Übergrößen"]),
        ([{"route": "inbound"}, {"route": "internal"}], ["Übergrößen", "Plain in"]),
        ([{"route": "inbound"}, {"route": "all"}], ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
        ([None, {}], ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
    ],
)
async def test_filters_in_both_shapes(served: Served, filters: Any, found: list[str]) -> None:
    await fill(served)
    assert await asked(served, {"filterBy": filters}) == found


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ({"fieldName": "ALL", "value": "bob"}, ["Übergrößen", "Files OUT", "Plain in"]),
        ({"fieldName": "all", "value": "BOB@corp"}, ["Files OUT", "Plain in"]),
        ({"fieldName": None, "value": "files"}, ["Files OUT"]),
        ({"value": "files"}, ["Files OUT"]),
        ([{"fieldName": "subject", "value": "files"}], ["Files OUT"]),
        ({"fieldName": "fromAddress", "value": "bob"}, ["Übergrößen", "Files OUT"]),
        ({"fieldName": "fromaddress", "value": "<bob@corp.example>"}, ["Files OUT"]),
        ({"fieldName": "toAddress", "value": "bob"}, ["Plain in"]),
        ({"fieldName": "subject", "value": "übergrössen"}, ["Übergrößen"]),
        ({"fieldName": "subject", "value": "%_"}, ["100%_done"]),
        ({"fieldName": "subject", "value": "%"}, ["100%_done"]),
        ({"fieldName": "info", "value": "queued for"}, ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
        ({"fieldName": "info", "value": "files"}, []),
        ({"fieldName": "remoteIp", "value": "2001:DB8::7"}, ["100%_done"]),
        ({"fieldName": "remoteIp", "value": "192.0.2.7"}, ["Übergrößen", "Files OUT", "Plain in"]),
        ({"fieldName": "subject", "value": 100}, ["100%_done"]),
        ({"fieldName": "subject", "value": ""}, ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
        ("", ["100%_done", "Übergrößen", "Files OUT", "Plain in"]),
    ],
)
async def test_a_search_is_a_literal_substring_in_any_case(served: Served, search: Any, found: list[str]) -> None:
    await fill(served)
    assert await asked(served, {"searchBy": search}) == found


async def test_held_entries_leave_the_list(served: Served) -> None:
    accepted = await served.put(subject="stays"), await served.put(subject="goes")
    await served.store.act(Action.HOLD, accepted[1].entries, actor="test")
    assert await asked(served, {}) == ["stays"]


async def test_looking_changes_nothing(served: Served) -> None:
    await served.put()
    commits = served.services.counts.commits
    before = (await served.find()).messages
    assert (await served.find()).messages == before
    assert served.services.counts.commits == commits


@pytest.mark.parametrize(
    ("item", "field", "message"),
    [
        ({"sortOrder": "sideways"}, "sortOrder", "Field must be one of [ascending,descending]"),
        ({"sortOrder": 1}, "sortOrder", "Field must be one of [ascending,descending]"),
        ({"sortBy": "subject"}, "sortBy", "Field must be one of [createTime]"),
        ({"type": "delivery"}, "type", "Field must be one of [processing,bulk_processing]"),
        ({"searchBy": {"fieldName": "from", "value": "x"}}, "searchBy.fieldName",
         "Field must be one of [ALL,fromAddress,toAddress,subject,info,remoteIp]"),
        (
            {"searchBy": {"fieldName": "ALL", "value": "x" * 257}}, "searchBy.value",
            "Field must be text of up to 256 characters",
        ),
        ({"searchBy": {"value": ["x"]}}, "searchBy.value", "Field must be text of up to 256 characters"),
        ({"searchBy": "alice"}, "searchBy", "Field must be an object"),
        ({"searchBy": [{"value": "a"}, {"value": "b"}]}, "searchBy", "Field must be an object"),
        (
            {"filterBy": [{"route": "sideways"}]}, "filterBy.route",
            "Field must be one of [all,internal,outbound,inbound,external]",
        ),
        ({"filterBy": [{"attachments": "some"}]}, "filterBy.attachments", "Field must be one of [true,false]"),
        ({"filterBy": [{"fieldName": "colour", "value": "red"}]}, "filterBy.fieldName",
         "Field must be one of [route,attachments]"),
        ({"filterBy": ["inbound"]}, "filterBy", "Field must be an array of up to 50 objects"),
        ({"start": "yesterday"}, "start", "Field must be a date such as 2015-11-16T14:49:18+0000"),
        ({"end": 20151116}, "end", "Field must be a date such as 2015-11-16T14:49:18+0000"),
        (
            {"start": "2015-11-17T00:00:00Z", "end": "2015-11-16T00:00:00Z"}, "start",
            "Field must be a date not after end",
        ),
    ],
)  # fmt: skip
async def test_a_value_that_is_not_allowed_is_told_precisely(
    served: Served, item: dict[str, Any], field: str, message: str
) -> None:
    answer = await served.find(item)
    assert answer.status == 200
    assert answer.json == {
        "meta": {"status": 200},
        "data": [],
        "fail": [
            {
                "key": item,
                "errors": [
                    {"field": field, "code": "err_validation_value_not_allowed", "message": message, "retryable": False}
                ],
            }
        ],
    }


async def test_everything_wrong_is_told_at_once_byte_for_byte(served: Served) -> None:
    answer = await served.find({"sortOrder": "<b>", "type": "String", "start": "soon"})
    assert (answer.status, answer.body) == (200, golden("find_bad_item"))


async def test_several_items_are_several_queries(served: Served) -> None:
    await fill(served)
    items = [{"filterBy": {"route": "inbound"}}, {"type": "nonsense"}, {"filterBy": {"attachments": True}}]
    answer = (await served.post(FIND, served.signed(), json.dumps({"data": items}).encode())).json
    assert [subjects(one["messages"]) for one in answer["data"]] == [["Plain in"], ["Übergrößen", "Files OUT"]]
    assert [one["key"] for one in answer["fail"]] == [items[1]]
    assert answer["meta"]["pagination"] == {"pageSize": 3, "totalCount": 3}


async def test_items_are_bounded_and_must_be_objects(served: Served) -> None:
    answer = await served.post(FIND, served.signed(), json.dumps({"data": [{}] * 26}).encode())
    assert b"Field must be an array of up to 25 objects" in answer.body
    answer = await served.post(FIND, served.signed(), b"{'data': 'x'}")
    assert b"Field must be an object" in answer.body


@pytest.mark.parametrize(
    ("body", "name"), [(b"{'data': [", "body_unreadable"), (b"[1]", "body_no_object"), (b"7", "body_number")]
)
async def test_a_body_that_cannot_be_read_is_a_400(served: Served, body: bytes, name: str) -> None:
    answer = await served.post(FIND, served.signed(), body)
    assert (answer.status, answer.body) == (400, golden(name))


@pytest.mark.parametrize("path", [FIND, LIST])
async def test_a_search_that_takes_too_long_is_told_and_the_others_are_answered(
    served: Served, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await (hold(served) if path == LIST else served.put(subject=f"m{number}"))
    whales = {"searchBy": {"fieldName": "subject", "value": "whale"}}
    rows = {"searchBy": {"fieldName": "all", "value": "corp.example"}}
    token = (await ask(served, path, rows, pageSize=1)).pagination["next"]
    monkeypatch.setattr("postroom.store.sqlite.tx.STEPS", 1)
    served.store.index.bound = 0.0
    answer = await ask(served, path, whales, {})
    assert faults(answer) == [(None, "err_search_too_broad")]
    (failed,) = answer.json["fail"]
    assert failed["key"] == whales
    assert failed["errors"][0]["retryable"] is True
    assert "the search index is not complete yet: 0 % of what waits is in it" in failed["errors"][0]["message"]
    assert answer.pagination == {"pageSize": 3, "totalCount": 3}
    later = await ask(served, path, pageToken=token)
    assert (later.json["data"], faults(later)) == ([], [(None, "err_search_too_broad")])
