"""Our own API: what it shows, how it refuses, what it does, and that it uses the command line's keys."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from postroom.cli import words
from postroom.clock import MINUTE
from postroom.http.admin import shapes
from postroom.http.admin.operations import OPERATIONS
from postroom.ids import public_id
from postroom.model import Action, Queue, Route
from postroom.store.access import identity, permissions
from tests.http.conftest import Answer, HandClock, Served, request_bytes, talk
from tests.http.keys import audit_told

MONITORS = {permissions.PROCESSING_READ}  # of what is asked for here


async def get(served: Served, target: str, role: str = identity.ADMINISTRATOR) -> Answer:
    return await served.get(target, await served.bearer(role))


async def post(served: Served, target: str, body: bytes = b"", role: str = identity.ADMINISTRATOR) -> Answer:
    return await served.post(target, await served.bearer(role), body)


def check_problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert list(problem)[:5] == ["title", "status", "code", "detail", "requestId"]
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["requestId"] == answer.headers["x-request-id"]
    return dict(problem)


async def subjects(served: Served, query: str) -> list[str]:
    answer = await get(served, f"/v1/entries?{query}")
    assert answer.status == 200, answer.body
    return [entry["subject"] for entry in answer.json["entries"]]


async def fill(served: Served) -> dict[str, int]:
    found = {}
    for subject, given in {
        "one": {"queue": Queue.PROCESSING},
        "two": {"queue": Queue.BULK, "route": Route.OUTBOUND, "attachment": True},
        "three": {"queue": Queue.DELIVERY, "sender": "zoe@example.org"},
    }.items():
        (found[subject],) = (await served.put(subject=subject, **given)).entries  # type: ignore[arg-type]
    return found


async def test_every_operation_needs_a_token_and_its_permission(served: Served) -> None:
    assert {permissions.PROCESSING_READ, permissions.PROCESSING_EDIT} <= {one.permission for one in OPERATIONS}
    for operation in OPERATIONS:
        target = operation.path.replace("{id}", "1")
        plain = await talk(served.address, request_bytes(operation.method, target, {}))
        check_problem(plain, 401, "unauthorized")
        assert plain.headers["www-authenticate"] == "Bearer"
        wrong = await talk(
            served.address, request_bytes(operation.method, target, {"Authorization": "Bearer nonsense"})
        )
        check_problem(wrong, 401, "token_verification_failed")
        monitor = await talk(
            served.address, request_bytes(operation.method, target, await served.bearer(identity.MONITOR))
        )
        if operation.permission not in MONITORS:
            problem = check_problem(monitor, 403, "err_xdk_operation_forbidden")
            assert operation.permission in problem["detail"]
        else:
            assert monitor.status in (200, 404)
        for answer in (plain, wrong, monitor):
            assert {"x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= answer.headers.keys()


async def test_a_token_that_has_run_out_is_told(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    headers = await served.bearer()
    served.clock.move(31 * MINUTE)
    check_problem(await served.get("/v1/queues", headers), 401, "token_expired")


async def test_queues_are_counted(served: Served) -> None:
    named = await fill(served)
    await served.store.act(Action.HOLD, [named["one"]], actor="test")
    answer = await get(served, "/v1/queues")
    assert answer.status == 200
    found = answer.json
    assert found["total"] == 3
    assert {name: queue["entries"] for name, queue in found["queues"].items()} == {
        "processing": 0, "bulk_processing": 1, "delivery": 1, "held": 1, "system": 0,
    }  # fmt: skip
    assert found["queues"]["processing"] == {"entries": 0, "working": 0, "oldest": None}
    assert found["queues"]["held"]["oldest"] == "2027-01-15T08:00:00.000Z"
    assert found["paused"] == {"processing": None, "delivery": None}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["three", "two", "one"]),
        ("order=oldest", ["one", "two", "three"]),
        ("queue=processing", ["one"]),
        ("queue=processing,delivery", ["three", "one"]),
        ("queue=processing&queue=delivery", ["three", "one"]),
        ("route=outbound", ["two"]),
        ("attachment=false", ["three", "one"]),
        ("text=ZOE", ["three"]),
        ("text=zoe&field=subject", []),
        ("text=two&field=subject", ["two"]),
        ("since=2027-01-15T08:00:00Z", ["three", "two", "one"]),
        ("since=2027-01-15T08:00:01Z", []),
        ("until=2027-01-15T08:00:00%2B00:00", ["three", "two", "one"]),
        ("until=2027-01-15T07:59:59Z", []),
        ("limit=2", ["three", "two"]),
        ("q=zoe", ["three"]),
        ("q=-from:zoe+-queue:bulk_processing", ["one"]),
        ("q=queue:delivery|processing&queue=processing", ["one"]),
        ("q=is:due&order=oldest", ["one", "two", "three"]),
        ("q=route:outbound&attachment=true&text=two", ["two"]),
        ("q=", ["three", "two", "one"]),
    ],
)
async def test_entries_are_filtered(served: Served, query: str, found: list[str]) -> None:
    await fill(served)
    assert await subjects(served, query) == found


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_pages_follow_each_other_without_a_gap(served: Served, order: str) -> None:
    for number in range(7):
        await served.put(subject=f"m{number}")
    seen: list[str] = []
    behind = ""
    while True:
        answer = (await get(served, f"/v1/entries?order={order}&limit=3&total=true{behind}")).json
        seen += [entry["subject"] for entry in answer["entries"]]
        assert answer["total"] == 7
        if "next" not in answer:
            break
        behind = f"&after={answer['next']}"
    wanted = [f"m{number}" for number in range(7)]
    assert seen == (wanted if order == "oldest" else wanted[::-1])


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("queue=outbox", "queue", "some of processing, bulk_processing, delivery, held, system"),
        ("route=all", "route", "some of inbound"),
        ("attachment=maybe", "attachment", "one of true, false"),
        ("since=yesterday", "since", "a time such as"),
        ("limit=0", "limit", "a number from 1 to 1000"),
        ("limit=1001", "limit", "a number from 1 to 1000"),
        ("limit=%C2%B2", "limit", "a number"),
        ("limit=1&limit=2", "limit", "more than once"),
        ("after=xyz", "after", "an id"),
        ("field=body", "field", "one of all"),
        ("order=up", "order", "one of newest, oldest"),
        ("text=" + "x" * 257, "text", "at most 256 characters"),
        ("colour=red", "colour", "is no parameter"),
        ("%ff=1", "", "could not be read"),
    ],
)
async def test_a_wrong_parameter_is_named(served: Served, query: str, field: str, says: str) -> None:
    problem = check_problem(await get(served, f"/v1/entries?{query}"), 400, "bad_parameter")
    assert problem.get("field", "") == field
    assert says in problem["detail"]


@pytest.mark.parametrize(
    ("query", "what", "at", "meant"),
    [
        ("q=report+form:zoe", "no field is called 'form'", 7, "from:"),
        ("q=age:10m", "age is a number: compare it", 0, "age>10m"),
        ("q=%22open", 'a quote is opened and not closed: add "', 0, None),
        ("q=queue:held&queue=system", "no queue is left that this could match", 0, None),
        ("q=" + "x" * 4097, "a query of 4097 characters: at most 4096 are read", 4096, None),
    ],
)
async def test_a_wrong_query_says_what_where_and_what_was_meant(
    served: Served, query: str, what: str, at: int, meant: str | None
) -> None:
    problem = check_problem(await get(served, f"/v1/entries?{query}"), 400, "bad_query")
    assert (problem["field"], problem["what"], problem["at"], problem.get("meant")) == ("q", what, at, meant)
    assert what in problem["detail"]


async def test_a_search_that_is_too_broad_is_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(served)
    monkeypatch.setattr("postroom.store.sqlite.tx.STEPS", 1)
    served.store.index.bound = 0.0
    problem = check_problem(await get(served, "/v1/entries?q=zo"), 422, "search_too_broad")
    assert "too broad" in problem["detail"]
    assert problem["field"] == "q"


async def test_one_entry_is_shown_whole_waiting_and_ended(served: Served) -> None:
    named = await fill(served)
    ident = public_id(named["one"])
    await served.store.act(Action.HOLD, [named["one"]], actor="user:alice@corp.example", reason="looks odd")
    found = (await get(served, f"/v1/entries/{ident}")).json
    assert list(found) == ["state", "entry", "ended", "message", "events"]
    assert (found["state"], found["ended"]) == ("held", None)
    assert found["entry"]["id"] == ident
    assert found["entry"]["info"] == "Held by a person: looks odd"
    assert found["message"]["client"]["ip"] == "192.0.2.7"
    assert [event["kind"] for event in found["events"]] == ["accepted", "held"]
    assert found["events"][1]["actor"] == "user:alice@corp.example"
    await served.store.act(Action.REJECT, [named["one"]], actor="test")
    found = (await get(served, f"/v1/entries/{ident}")).json
    assert (found["state"], found["entry"], found["message"]) == ("ended", None, None)
    assert found["ended"]["outcome"] == "rejected"


@pytest.mark.parametrize(
    ("ident", "status"), [("1", 404), ("ffffffffffffffff", 400), ("x", 400), ("0", 400), ("a" * 17, 400)]
)
async def test_what_is_not_there_is_a_404_and_what_is_no_id_a_400(served: Served, ident: str, status: int) -> None:
    assert (await get(served, f"/v1/entries/{ident}")).status == status


async def test_actions_are_done_once_and_refused_with_a_reason(served: Served) -> None:
    named = await fill(served)
    ident = public_id(named["one"])
    answer = await post(served, f"/v1/entries/{ident}/hold", b'{"reason": "asked by legal"}')
    assert (answer.status, answer.json) == (200, {"id": ident, "action": "hold", "result": "done"})
    problem = check_problem(await post(served, f"/v1/entries/{ident}/hold"), 409, "refused")
    assert problem["detail"] == "hold: held already"
    assert (await post(served, f"/v1/entries/{ident}/release", b"{}")).json["result"] == "done"
    assert (await post(served, f"/v1/entries/{ident}/retry", b" ")).json["result"] == "done"
    check_problem(await post(served, "/v1/entries/1/retry"), 404, "not_found")
    events = (await get(served, f"/v1/entries/{ident}")).json["events"]
    assert [(event["kind"], event["actor"]) for event in events[1:]] == [
        ("held", "app:administrator"), ("released", "app:administrator"), ("retried", "app:administrator"),
    ]  # fmt: skip
    assert events[1]["info"] == "Held by a person: asked by legal"


async def test_an_action_on_what_is_being_worked_on_is_a_request(served: Served) -> None:
    (ident,) = (await served.put(locked_until=served.clock.now() + MINUTE)).entries
    assert (await get(served, f"/v1/entries/{public_id(ident)}")).json["state"] == "working"
    assert (await post(served, f"/v1/entries/{public_id(ident)}/hold")).json["result"] == "requested"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"reason": 1}',
        b'{"reazon": "x"}',
        b"\xff",
        b"[" * 9000,
        b'{"reason": "' + b"x" * 201 + b'"}',
        b'{"reason": "a", "reason": "b"}',
    ],
)
async def test_a_body_that_is_not_what_was_asked_for_is_told_and_nothing_is_done(served: Served, body: bytes) -> None:
    (ident,) = (await served.put()).entries
    check_problem(await post(served, f"/v1/entries/{public_id(ident)}/hold", body), 400, "bad_body")
    assert (await get(served, f"/v1/entries/{public_id(ident)}")).json["state"] == "due"


async def test_bodies_are_bounded(served: Served) -> None:
    answer = await post(served, "/v1/entries/1/hold", b" " * 16_385)
    check_problem(answer, 413, "body_too_large")
    assert answer.headers["connection"] == "close"


async def test_addresses_and_methods_that_are_not_there(served: Served) -> None:
    check_problem(await get(served, "/v1/nothing"), 404, "not_found")
    check_problem(await get(served, "/v1/entries/1/hold"), 405, "method_not_allowed")
    answer = await post(served, "/v1/queues")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"
    check_problem(await served.get("/v1/nothing"), 401, "unauthorized")  # who may not ask learns nothing
    assert check_problem(await post(served, "/v1/docs"), 405, "method_not_allowed")["detail"].endswith("use GET")


async def test_a_failure_of_ours_tells_no_details(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = await served.bearer()
    await served.store.write(lambda tx: tx.rows("ALTER TABLE pause RENAME TO pause_elsewhere"))
    problem = check_problem(await served.get("/v1/queues", headers), 503, "unavailable")
    assert "pause" not in problem["detail"]
    await served.store.write(lambda tx: tx.rows("ALTER TABLE pause_elsewhere RENAME TO pause"))
    await served.put()

    def fail(*_: object) -> None:
        raise ValueError("a mistake in the program")

    monkeypatch.setattr("postroom.http.admin.operations.entry_shown", fail)
    check_problem(await served.get("/v1/entries", headers), 500, "internal")
    assert len([line for line in served.told.lines if "http_failed" in line]) == 2


async def test_the_ledger_is_shown(served: Served) -> None:
    await fill(served)
    found = (await get(served, "/v1/ledger")).json
    assert found["difference"] == 0
    assert found["created"]["accepted"] == 3
    assert msgspec.convert(found, shapes.LedgerShown).queued[Queue.DELIVERY] == 1


async def test_the_keys_are_those_of_the_command_line(served: Served) -> None:
    named = await fill(served)
    now = served.clock.now()
    await served.store.act(Action.HOLD, [named["three"]], actor="test")
    await served.store.act(Action.REJECT, [named["three"]], actor="test")
    reader = served.store.read_now()
    entry, ended = reader.entry(named["two"]), reader.ended(named["three"])
    assert entry is not None
    assert ended is not None
    message = reader.message(entry.message_id)
    assert message is not None
    pairs: list[tuple[Any, Any]] = [
        (shapes.entry_shown(entry, now), words.entry_json(entry, now)),
        (shapes.ended_shown(ended), words.ended_json(ended)),
        (shapes.message_shown(message), words.message_json(message)),
        *((shapes.event_shown(event), words.event_json(event)) for event in reader.events(ended.id)),
    ]
    for shown, told in pairs:
        assert json.loads(msgspec.json.encode(shown)) == json.loads(json.dumps(told))


async def test_a_call_that_is_to_change_something_and_is_refused_leaves_one_line(served: Served) -> None:
    entry = (await fill(served))["one"]
    target, token = f"/v1/entries/{public_id(entry)}", await served.bearer()
    for verb, body in (
        ("release", b""),
        ("retry", b"{Tell-nobody"),
        ("retry", b" " * 20_000),
        ("retry?Tell-nobody=1", b""),
    ):
        assert (await served.post(f"{target}/{verb}", token, body)).status >= 400
    assert (await served.get(f"{target}?x=1", token)).status == 400  # a look leaves none
    told = await audit_told(served, kind="call")
    assert {line[:2] for line in told} == {("call", "app:administrator")}
    assert [line[2:] for line in told] == [
        ("/v1/entries/{id}/release", "refused", "409 refused", 1),
        ("/v1/entries/{id}/retry", "refused", "400 bad_body", 1),
        ("/v1/entries/{id}/retry", "refused", "413 body_too_large", 1),
        ("/v1/entries/{id}/retry", "refused", "400 bad_parameter", 1),
    ]  # fmt: skip
    assert "Tell-nobody" not in "".join(served.told.lines)
