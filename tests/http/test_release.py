"""hold-release and hold-reject (contract section 7): what is done, what is refused, and that nothing is guessed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from postroom.http.gateway.calls.release import REJECT, RELEASE
from postroom.http.gateway.calls.release_logs import PATH as LOGS
from postroom.http.gateway.wire.held import REASONS
from postroom.http.gateway.wire.lenient import MAX_BODY
from postroom.model import Outcome, Queue
from postroom.store.access import identity
from tests.http.conftest import Served, connected, request_bytes
from tests.http.keys import audit_told
from tests.http.siblings import ask, data, faults, hold, ident


async def queue_of(served: Served, entry: int) -> Queue | None:
    found = await served.store.read(lambda reader: reader.entry(entry))
    return None if found is None else found.queue


async def reply_of(served: Served, entry: int) -> tuple[Outcome, str] | None:
    found = await served.store.read(lambda reader: reader.ended(entry))
    return None if found is None else (found.outcome, found.reply)


async def test_release_lets_mail_go_on_and_says_who_and_why(served: Served) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    answer = await ask(
        served,
        RELEASE,
        {"id": ident(served, first)},
        {"id": ident(served, second), "action": "release", "reason": "seen"},
    )
    assert data(answer) == [
        {"id": ident(served, first), "release": True},
        {"id": ident(served, second), "release": True},
    ]
    assert [await queue_of(served, entry) for entry in (first, second)] == [Queue.PROCESSING] * 2
    events = await served.store.read(lambda reader: reader.events(second))
    assert (events[-1].kind, events[-1].actor, events[-1].info) == (
        "released", "app:administrator", "Released by a person: seen",
    )  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"action": "reject", "reason": "spam"}, {"action": "REJECT"}, {"action": True},
        {"action": 0}, {"Action": "reject"}, {"reject": True}, {"release": False}, {"notify": True}, {"reason": 5},
        {"reasonType": REASONS[0]}, {"action": "release,reject"},
    ],
)  # fmt: skip
async def test_what_is_not_understood_never_releases(served: Served, more: dict[str, Any]) -> None:
    (entry,) = await hold(served)
    (other,) = await hold(served)
    item = {"id": ident(served, entry)} | more
    answer = await ask(served, RELEASE, item, {"id": ident(served, other)})
    assert answer.json["data"] == [{"id": ident(served, other), "release": True}]
    (failed,) = answer.json["fail"]
    assert failed["key"] == item
    assert failed["errors"][0]["code"] == "err_validation_value_not_allowed"
    assert await queue_of(served, entry) is Queue.HELD
    assert await queue_of(served, other) is Queue.PROCESSING


@pytest.mark.parametrize("path", [RELEASE, REJECT])
async def test_what_stands_beside_data_is_refused_too(served: Served, path: str) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, path, {"id": ident(served, entry)}, body={"action": "reject"})
    assert (answer.json["data"], faults(answer)) == ([], [("action", "err_validation_value_not_allowed")])
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"meta": {"action": "reject"}}, "meta.action"),
        ({"meta": {"reject": True}}, "meta.reject"),
        ({"meta": {"pagination": {"action": "reject"}}}, "meta.pagination.action"),
        ({"meta": {"pagination": {"pageSize": {"action": "reject"}}}}, "meta.pagination.pageSize"),
        ({"meta": {"pagination": ["reject"]}}, "meta.pagination"),
        ({"meta": {"accountCode": {"action": "reject"}}}, "meta.accountCode"),
        ({"meta": "reject"}, "meta"),
        ({"pagination": {"action": "reject"}}, "pagination"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [RELEASE, REJECT])
async def test_what_stands_around_the_items_and_is_not_understood_stops_all(
    served: Served, path: str, body: dict[str, Any], field: str
) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, path, {"id": ident(served, entry)}, body=body)
    assert (answer.json["data"], faults(answer)) == ([], [(field, "err_validation_value_not_allowed")])
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"meta": {"action": "reject"}}, "meta.action"),
        ({"meta": {"pagination": {"action": "REJECT"}}}, "meta.pagination.action"),
        ({"pagination": {"action": "reject"}}, "pagination.action"),
        ({"pagination": "reject"}, "pagination"),
        ({"meta": ["reject"]}, "meta"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [RELEASE, REJECT])
async def test_nor_is_what_stands_where_an_item_may_ask_for_a_page(
    served: Served, path: str, more: dict[str, Any], field: str
) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, path, {"id": ident(served, entry), **more})
    assert (answer.json["data"], faults(answer)) == ([], [(field, "err_validation_value_not_allowed")])
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("action=reject", "query.action"), ("action=release&action=reject", "query.action"),
        ("Action=release", "query.Action"),
        ("%61ction=r%65ject", "query.action"), ("reject", "query.reject"), ("id=1;action=reject", "query.id"),
        ("meta=%7B%22action%22%3A%22reject%22%7D", "query.meta"),
    ],
)  # fmt: skip
async def test_the_query_is_not_passed_over(served: Served, query: str, field: str) -> None:
    (entry,) = await hold(served)
    target = f"{RELEASE}?{query}"
    for signs in (target, RELEASE):  # clients were seen that sign path and query, and others the path alone
        body = json.dumps({"data": [{"id": ident(served, entry)}]}).encode()
        answer = await served.post(target, served.signed(target, signs=signs), body)
        assert (answer.json["data"], faults(answer)) == ([], [(field, "err_validation_value_not_allowed")])
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize(
    ("query", "more"),
    [
        ("?action=release", {"meta": {"pagination": {"pageSize": None, "pageToken": ""}, "accountCode": "C1"}}),
        ("", {"meta": {"action": "Release"}, "action": "release"}),
        ("", {"meta": None, "pagination": ""}),
    ],
)
async def test_release_said_once_more_and_what_clients_send_along_is_fine(
    served: Served, query: str, more: dict[str, Any]
) -> None:
    (entry,) = await hold(served)
    body = json.dumps({"data": [{"id": ident(served, entry), "meta": {"pagination": {}}}], **more}).encode()
    answer = await served.post(RELEASE + query, served.signed(RELEASE + query), body)
    assert data(answer) == [{"id": ident(served, entry), "release": True}]


async def test_two_items_that_contradict_each_other_release_nothing(served: Served) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    named = ident(served, first)
    answer = await ask(served, RELEASE, {"id": named}, {"id": named, "action": "reject"}, {"id": ident(served, second)})
    assert answer.json["data"] == [{"id": ident(served, second), "release": True}]
    assert faults(answer) == [(field, "err_validation_value_not_allowed") for field in ("id", "action")]
    assert await queue_of(served, first) is Queue.HELD


@pytest.mark.parametrize(
    "item",
    [
        {"ids": ["ID"], "action": "reject"}, {"id": ["ID"], "action": "reject"}, [{"id": "ID", "action": "reject"}],
        {"reject": {"id": "ID"}}, "reject ID", 7, {"id": "ID", "action": ["release"]}, {"action": {"name": "release"}},
        {"id": "other", "meta": {"reject": "ID"}},
    ],
)  # fmt: skip
async def test_an_item_that_is_no_flat_object_could_mean_any_other(served: Served, item: Any) -> None:
    (entry,) = await hold(served)
    named = json.loads(json.dumps(item).replace("ID", ident(served, entry)))
    answer = await ask(served, RELEASE, {"id": ident(served, entry)}, named)
    assert answer.json["data"] == []
    assert [fail.get("key") for fail in answer.json["fail"]] == [{"id": ident(served, entry)}, named]
    assert faults(answer)[0] == ("data", "err_validation_value_not_allowed")
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize("item", [{"note": "reject ID"}, {"ID": "reject"}, {"id": "ID", "action": "reject"}])
async def test_what_a_refused_item_names_anywhere_is_not_released(served: Served, item: dict[str, str]) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    named = json.loads(json.dumps(item).replace("ID", ident(served, first).upper()))
    answer = await ask(served, RELEASE, {"id": ident(served, first)}, named, {"id": ident(served, second)})
    assert answer.json["data"] == [{"id": ident(served, second), "release": True}]
    assert await queue_of(served, first) is Queue.HELD


FORM = '--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{"id":"ID"}\r\n'


@pytest.mark.parametrize(
    "body",
    [
        '{"data":[{"id":"ID","action":"reject","action":null}]}',
        "{'data':[{'id':'ID','action':'reject','action':None}]}",
        '{"data":[{"id":"ID","action":"reject"}],"data":[{"id":"ID"}]}',
        'data={"id":"ID"}&action=reject',
        'data={"data":[{"id":"ID"}]}&meta={"action":"reject"}',
        'data={"id":"ID","action":"reject"}&data={"id":"ID"}',
        FORM + '--b\r\nContent-Disposition: form-data; name="action"\r\n\r\nreject\r\n--b--\r\n',
        FORM + FORM.replace('"}', '","action":"reject"}') + "--b--\r\n",
    ],
)
async def test_what_would_be_passed_over_never_releases(served: Served, body: str) -> None:
    """A name that comes twice, a form's field that nobody reads: to keep one of them is to guess."""
    (entry,) = await hold(served)
    answer = await served.post(RELEASE, served.signed(RELEASE), body.replace("ID", ident(served, entry)).encode())
    assert (answer.status, answer.json["data"]) == (400, [])
    assert answer.json["fail"][0]["errors"][0]["code"] == "err_invalid_json"
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize("body", ['data={"id":"ID"}', FORM + "--b--\r\n", FORM + "--b--"])
async def test_a_form_with_nothing_else_releases(served: Served, body: str) -> None:
    (entry,) = await hold(served)
    answer = await served.post(RELEASE, served.signed(RELEASE), body.replace("ID", ident(served, entry)).encode())
    assert [done["release"] for done in data(answer)] == [True]


async def test_release_of_what_is_not_held_says_so(served: Served) -> None:
    (entry,) = (await served.put()).entries
    (held,) = await hold(served)
    once = {"id": ident(served, held)}
    assert [done["release"] for done in data(await ask(served, RELEASE, once, once))] == [True, True]
    answer = await ask(served, RELEASE, {"id": ident(served, entry)}, once, {"id": "no id"}, {"id": None}, {"id": 7})
    assert answer.json["data"] == [
        {"id": ident(served, entry), "release": False}, {"id": ident(served, held), "release": False}
    ]  # fmt: skip
    assert [fail["errors"][0]["message"] for fail in answer.json["fail"]] == [
        "0007 Invalid token",
        "Field is mandatory and must not be null",
        "Field must be an id as text",
        "Message is not held: it is in processing",
        "Message is not held: it is in processing",
    ]


@pytest.mark.parametrize("blank", ["", " ", "\xa0"])
async def test_an_id_that_is_blank_is_told_apart_from_one_that_is_missing(served: Served, blank: str) -> None:
    for path, field, value in ((RELEASE, "id", blank), (REJECT, "ids", blank), (REJECT, "ids", [blank])):
        assert faults(await ask(served, path, {field: value})) == [(field, "err_validation_blank")]
        assert faults(await ask(served, path, {field: None})) == [(field, "err_validation_null")]


async def test_an_id_that_was_made_up_is_nothing(served: Served) -> None:
    (entry,) = await hold(served)
    text = ident(served, entry)
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    for path, item in ((RELEASE, {"id": wrong}), (REJECT, {"ids": [wrong]}), (RELEASE, {"id": format(entry, "x")})):
        answer = await ask(served, path, item)
        assert (answer.json["data"], faults(answer)) == ([], [(None, "xdk_failure")])
    assert await queue_of(served, entry) is Queue.HELD


async def test_one_to_25_items(served: Served) -> None:
    assert faults(await ask(served, RELEASE)) == [("id", "err_validation_null")]
    assert faults(await ask(served, REJECT)) == [("ids", "err_validation_null")]
    assert faults(await ask(served, RELEASE, *[{"id": "x"}] * 26)) == [("data", "err_validation_value_not_allowed")]
    entries = await hold(served, *[f"r{number}@corp.example" for number in range(25)])
    done = data(await ask(served, RELEASE, *[{"id": ident(served, entry)} for entry in entries]))
    assert [one["release"] for one in done] == [True] * 25


@pytest.mark.parametrize("notify", [True, "true", "TRUE", False, "false", None])
async def test_reject_ends_mail_with_its_reason(served: Served, notify: Any) -> None:
    first, second = await hold(served, "a@corp.example", "b@corp.example")
    item = {
        "ids": [ident(served, first), ident(served, second)], "message": "not  ours", "notify": notify,
        "reasonType": "MESSAGE GOES AGAINST EMAIL POLICIES",
    }  # fmt: skip
    assert data(await ask(served, REJECT, item)) == [
        {"id": ident(served, first), "reject": True}, {"id": ident(served, second), "reject": True}
    ]  # fmt: skip
    told = (Outcome.REJECTED, "Rejected by a person: Message goes against email policies: not ours")
    assert [await reply_of(served, entry) for entry in (first, second)] == [told] * 2
    counts = await served.store.read(lambda reader: reader.queue_counts())
    assert counts[Queue.SYSTEM] == (2 if str(notify).lower() == "true" else 0)
    created, ended, queued = await served.store.read(lambda reader: reader.ledger())
    assert sum(created.values()) == sum(ended.values()) + queued


async def test_reject_touches_only_what_is_held(served: Served) -> None:
    (waiting,) = (await served.put()).entries
    (held,) = await hold(served)
    answer = await ask(served, REJECT, {"ids": [ident(served, waiting), ident(served, held), "x"]})
    assert answer.json["data"] == [
        {"id": ident(served, waiting), "reject": False}, {"id": ident(served, held), "reject": True}
    ]  # fmt: skip
    assert [fail["errors"][0]["message"] for fail in answer.json["fail"]] == [
        "Message is not held: it is in processing", "0007 Invalid token",
    ]  # fmt: skip
    assert await queue_of(served, waiting) is Queue.PROCESSING


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"reasonType": "SPAM"}, "reasonType"), ({"notify": "perhaps"}, "notify"), ({"message": "x" * 401}, "message"),
        ({"message": ["x"]}, "message"), ({"message": "a\x00b"}, "message"), ({"action": "release"}, "action"),
        ({"ids": []}, "ids"), ({"ids": None}, "ids"), ({"ids": [None]}, "ids"), ({"ids": [7]}, "ids"),
        ({"ids": ["x"] * 101}, "ids"), ({"ids": {"a": 1}}, "ids"),
    ],
)  # fmt: skip
async def test_a_bad_rejection_does_nothing(served: Served, more: dict[str, Any], field: str) -> None:
    (entry,) = await hold(served)
    answer = await ask(served, REJECT, {"ids": [ident(served, entry)]} | more)
    assert answer.json["data"] == []
    assert [name for name, _ in faults(answer)] == [field]
    assert await queue_of(served, entry) is Queue.HELD


async def test_one_id_may_stand_alone(served: Served) -> None:
    (first,) = await hold(served)
    (second,) = await hold(served)
    assert len(data(await ask(served, REJECT, {"ids": ident(served, first)}, {"id": ident(served, second)}))) == 2


async def test_who_may_only_look_may_not_decide(served: Served) -> None:
    (entry,) = await hold(served)
    for path in (RELEASE, REJECT):
        answer = await ask(served, path, {"id": ident(served, entry)}, role=identity.MONITOR)
        assert answer.status == 403
    assert await queue_of(served, entry) is Queue.HELD


@pytest.mark.parametrize(
    ("body", "outcome", "detail"),
    [
        (b'{"data":[{"id":"Tell-nobody"}', "refused", "400 err_invalid_json"),
        (b'"Tell-nobody"', "refused", "400 err_invalid_json"),
        (b" " * (MAX_BODY + 1), "refused", "413 err_body_too_large"),
        (b'{"data":[{"id":"ID","action":"Tell-nobody"}]}', "refused", "200 err_validation_value_not_allowed"),
        (b'{"data":[{"id":"Tell-nobody"}]}', "refused", "200 xdk_failure"),
        (b'{"data":[{"id":"ID"},{"id":"Tell-nobody"}]}', "done", ""),
    ],
)
async def test_a_call_that_was_to_change_something_leaves_one_line(
    served: Served, body: bytes, outcome: str, detail: str
) -> None:
    (entry,) = await hold(served)
    await served.post(RELEASE, served.signed(RELEASE), body.replace(b"ID", ident(served, entry).encode()))
    assert await audit_told(served, kind="call") == [("call", "app:administrator", RELEASE, outcome, detail, 1)]
    assert "Tell-nobody" not in "".join(served.told.lines)


async def test_so_does_another_body_under_the_same_signature(served: Served) -> None:
    headers = served.signed(REJECT)
    for body in (b'{"data":[{"ids":["Tell-nobody"]}]}', b'{"data":[{"ids":["nor-this"]}]}'):
        await served.post(REJECT, headers, body)
    told = await audit_told(served, kind="call")
    assert [line[3:] for line in told] == [
        ("refused", "200 xdk_failure", 1), ("refused", "401 err_xdk_invalid_signature", 1)
    ]  # fmt: skip
    assert {line[:3] for line in told} == {("call", "app:administrator", REJECT)}


async def test_so_does_a_body_that_does_not_come(served: Served) -> None:
    head = request_bytes("POST", RELEASE, served.signed(RELEASE), b"x" * 100)[:-100]
    async with connected(served.address) as (_, writer):
        writer.write(head + b'{"data"')
        await writer.drain()
    async with asyncio.timeout(60):
        while not (told := await audit_told(served, kind="call")):
            await asyncio.sleep(0)
    assert told == [("call", "app:administrator", RELEASE, "refused", "400 err_body_incomplete", 1)]


async def test_a_look_that_cannot_be_read_leaves_none(served: Served) -> None:
    await served.post(LOGS, served.signed(LOGS), b"{")
    assert await audit_told(served, kind="call") == []
