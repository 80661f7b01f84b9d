"""`/v1/plans`: made, applied and undone over HTTP; what is refused, and for whom."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from postroom.cli.plans import plan_json
from postroom.clock import HOUR
from postroom.http.admin import plans as admin_plans
from postroom.ids import public_id
from postroom.model import Action, Queue
from postroom.store.access import identity, permissions
from postroom.store.plans import book as plan_book
from tests.http.conftest import Served
from tests.http.test_v1 import check_problem, fill, get, post


async def make(served: Served, action: str, query: str, role: str = identity.ADMINISTRATOR, **more: Any) -> Any:
    answer = await post(served, "/v1/plans", json.dumps({"action": action, "query": query, **more}).encode(), role)
    assert answer.status == 200, answer.body
    return answer.json


async def act(served: Served, ident: str, verb: str, body: bytes = b"") -> Any:
    answer = await post(served, f"/v1/plans/{ident}/{verb}", body)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_plan_is_made_applied_and_undone(served: Served) -> None:
    found = await fill(served)
    plan = await make(served, "hold", "queue:processing|delivery")
    assert (plan["state"], plan["entries"], plan["planner"]) == ("ready", 2, "app:administrator")
    assert {share["name"] for share in plan["summary"]["queues"]} == {"processing", "delivery"}
    assert {sample["subject"] for sample in plan["summary"]["samples"]} == {"one", "three"}
    applied = await act(served, plan["id"], "apply", b'{"reason": "asked for by legal"}')
    assert (applied["state"], applied["done"], applied["reason"]) == ("applied", 2, "asked for by legal")
    counts = (await get(served, "/v1/queues")).json["queues"]
    assert counts["held"]["entries"] == 2
    shown = (await get(served, f"/v1/plans/{plan['id']}")).json
    assert shown == applied
    entries = (await get(served, f"/v1/plans/{plan['id']}/entries?state=done&limit=1")).json
    assert entries == {
        "entries": [{"id": public_id(found["one"]), "state": "done", "why": ""}], "next": public_id(found["one"]),
    }  # fmt: skip
    rest = (await get(served, f"/v1/plans/{plan['id']}/entries?after={entries['next']}")).json
    assert [entry["id"] for entry in rest["entries"]] == [public_id(found["three"])]
    undone = await act(served, plan["id"], "undo")
    assert (undone["state"], undone["undone"], undone["undoer"]) == ("undone", 2, "app:administrator")
    listed = (await get(served, "/v1/plans")).json
    assert (listed["plans"], listed["next"]) == ([undone], None)


async def test_the_command_line_writes_the_same_keys(served: Served) -> None:
    await fill(served)
    plan = await make(served, "hold", "queue:processing")
    stored = await served.store.read(lambda reader: plan_book.read(reader.tx, int(plan["id"], 16)))
    assert plan_json(stored) == plan


async def test_deleted_entries_leave_sight_at_once_and_the_ledger_agrees(served: Served) -> None:
    await fill(served)
    plan = await make(served, "delete", "queue:processing|bulk_processing|delivery")
    await act(served, plan["id"], "apply", b'{"reason": "junk"}')
    assert (await get(served, "/v1/entries")).json["entries"] == []
    ledger = (await get(served, "/v1/ledger")).json
    assert (ledger["difference"], ledger["queued"]["leaving"]) == (0, 3)
    await act(served, plan["id"], "undo")
    assert len((await get(served, "/v1/entries")).json["entries"]) == 3


@pytest.mark.parametrize(
    ("target", "body", "status", "code", "says"),
    [
        ("", b"", 400, "bad_body", "expected an object with action"),
        ("", b"[]", 400, "bad_body", "body: "),
        ("", b'{"action": "burn", "query": "x"}', 400, "bad_body", "burn"),
        ("", b'{"action": "hold", "query": ""}', 400, "bad_body", "length"),
        ("", b'{"action": "hold", "query": "x", "colour": 1}', 400, "bad_body", "colour"),
        ("", b'{"action": "hold", "query": "x", "action": "delete"}', 400, "bad_body", "'action' comes twice"),
        ("", b'{"action": "hold", "query": "x", "\\u0061ction": "hold"}', 400, "bad_body", "'action' comes twice"),
        ("", b'{"action": "hold", "query": " \\t "}', 400, "bad_query", "blank"),
        ("", b'{"action": "hold", "query": "x", "notify": true}', 400, "bad_body", "notify: hold tells no sender"),
        ("", b'{"action": "hold", "query": "quue:held"}', 400, "bad_query", "quue"),
        ("/1f/apply", b'{"reason": "x"}', 404, "not_found", "no plan 1f"),
        ("/1f/apply", b"", 400, "bad_body", "expected an object with reason"),
        ("/1f/apply", b'{"reason": " "}', 400, "bad_body", "1 to 200 printable"),
        ("/1f/undo", b"", 404, "not_found", "no plan 1f"),
        ("/1f/undo", b"{ }", 404, "not_found", "no plan 1f"),
        ("/1f/undo", b'{"reason": "x"}', 400, "bad_body", "reason"),
        ("/1f/undo", b"{]", 400, "bad_body", "body: "),
        ("/1f/undo", b"[]", 400, "bad_body", "body: "),
        ("/xyz/undo", b"", 400, "bad_parameter", "an id of up to 16"),
    ],
)
async def test_bad_input_is_named(served: Served, target: str, body: bytes, status: int, code: str, says: str) -> None:
    problem = check_problem(await post(served, f"/v1/plans{target}", body), status, code)
    assert says in problem["detail"]
    assert (await get(served, "/v1/plans")).json["plans"] == []


async def test_a_plan_in_the_wrong_state_is_refused(served: Served) -> None:
    await fill(served)
    plan = await make(served, "hold", "queue:processing")
    problem = check_problem(await post(served, f"/v1/plans/{plan['id']}/undo"), 409, "refused")
    assert "is ready: expected applied" in problem["detail"]
    await act(served, plan["id"], "apply", b'{"reason": "x"}')
    check_problem(await post(served, f"/v1/plans/{plan['id']}/apply", b'{"reason": "x"}'), 409, "refused")


async def role_token(served: Served, name: str, *held: str, limit: int | None = None) -> str:
    """An application with a role of its own."""

    def create(tx: Any) -> identity.Credentials:
        identity.create_role(tx, name, held)
        tx.rows("UPDATE role SET plan_limit = ? WHERE name = ?", (limit, name))
        return identity.create_app(tx, served.services.sealer, name=name, role=name)

    served.keys[name] = await served.store.write(create)
    return name


async def test_who_may_not_touch_held_mail_does_not_do_it_by_a_plan(served: Served) -> None:
    found = await fill(served)
    await served.store.act(Action.HOLD, [found["one"]], actor="ann")
    role = await role_token(served, "helpdesk", permissions.PROCESSING_READ, permissions.PROCESSING_EDIT)
    plan = await make(served, "delete", "queue:held|delivery", role)
    assert plan["entries"] == 1
    assert plan["summary"]["leftOut"] == [{"name": "not permitted to you", "entries": 1}]
    full = await make(served, "delete", "queue:held|delivery")
    refused = await post(served, f"/v1/plans/{full['id']}/apply", b'{"reason": "x"}', role)
    assert permissions.HELD_EDIT in check_problem(refused, 403, "forbidden")["detail"]
    check_problem(await post(served, "/v1/plans", b"{}", identity.MONITOR), 403, "err_xdk_operation_forbidden")


@pytest.mark.parametrize("verb", ["apply", "undo"])
async def test_a_plan_that_is_being_made_is_taken_on_by_nobody(served: Served, verb: str) -> None:
    """Until it is made nobody knows whether it has held mail: what becomes ready meanwhile is not applied."""
    found = await fill(served)
    await served.store.act(Action.HOLD, [found["one"]], actor="ann")
    plan = await make(served, "release", "queue:held")
    await served.store.write(
        lambda tx: tx.rows("UPDATE plan SET state = 'making', summary = x'' WHERE id = ?", (int(plan["id"], 16),))
    )
    role = await role_token(served, "helpdesk", permissions.PROCESSING_READ, permissions.PROCESSING_EDIT)
    headers, gate = await served.bearer(role), threading.Event()
    held_up = asyncio.create_task(served.store.write(lambda tx: gate.wait(60)))
    try:  # whatever had to be written for the answer would come after the plan was ready
        body = b'{"reason": "x"}' if verb == "apply" else b""
        answer = await asyncio.wait_for(served.post(f"/v1/plans/{plan['id']}/{verb}", headers, body), 30)
    finally:
        gate.set()
        await held_up
    assert f"plan {plan['id']} is making: expected" in check_problem(answer, 409, "refused")["detail"]


async def test_a_hold_is_undone_by_who_applied_it_or_who_may_release(served: Served) -> None:
    found = await fill(served)
    role = await role_token(served, "helpdesk", permissions.PROCESSING_READ, permissions.PROCESSING_EDIT)
    plan = await make(served, "hold", "queue:processing", role)
    await act(served, plan["id"], "apply", b'{"reason": "asked for by legal"}')
    refused = check_problem(await post(served, f"/v1/plans/{plan['id']}/undo", b"", role), 403, "forbidden")
    assert permissions.HELD_EDIT in refused["detail"]
    entry = await served.store.read(lambda reader: reader.entry(found["one"]))
    assert entry is not None
    assert entry.queue is Queue.HELD
    own = await make(served, "hold", "queue:delivery", role)
    assert (await post(served, f"/v1/plans/{own['id']}/apply", b'{"reason": "x"}', role)).status == 200
    assert (await post(served, f"/v1/plans/{own['id']}/undo", b"", role)).json["state"] == "undone"
    assert (await act(served, plan["id"], "undo"))["undone"] == 1


async def test_a_role_may_not_apply_what_it_could_not_have_planned(served: Served) -> None:
    await fill(served)
    role = await role_token(served, "small", permissions.ALL, limit=1)
    plan = await make(served, "hold", "queue:processing|delivery")
    refused = await post(served, f"/v1/plans/{plan['id']}/apply", b'{"reason": "x"}', role)
    assert "2 entries: one plan that you apply may have 1" in check_problem(refused, 409, "refused")["detail"]
    await act(served, plan["id"], "apply", b'{"reason": "x"}')
    assert (await post(served, f"/v1/plans/{plan['id']}/undo", b"", role)).json["undone"] == 2  # that restores


async def test_a_role_may_be_limited_in_entries_per_plan(served: Served) -> None:
    await fill(served)
    role = await role_token(served, "small", permissions.ALL, limit=2)
    answer = await post(
        served, "/v1/plans", b'{"action": "hold", "query": "queue:processing|bulk_processing|delivery"}', role
    )
    problem = check_problem(answer, 409, "refused")
    assert "more than 2 entries" in problem["detail"]
    assert (await make(served, "hold", "queue:processing", role))["entries"] == 1


async def test_an_answer_comes_before_the_end_of_what_takes_long(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(served)
    plan = await make(served, "hold", "queue:processing")
    monkeypatch.setattr(admin_plans, "WAIT", 0.0)
    answer = await act(served, plan["id"], "apply", b'{"reason": "x"}')
    assert answer["state"] in ("ready", "applying", "applied")
    for task in list(admin_plans._running):
        await task
    assert (await get(served, f"/v1/plans/{plan['id']}")).json["state"] == "applied"
    assert (await get(served, "/v1/queues")).json["queues"]["held"]["entries"] == 1


async def test_leased_entries_are_left_out(served: Served) -> None:
    await served.put(locked_until=served.clock.now() + HOUR, queue=Queue.PROCESSING)
    plan = await make(served, "hold", "queue:processing")
    assert (plan["entries"], plan["summary"]["leftOut"][0]["entries"]) == (0, 1)


async def test_a_damaged_plan_is_told_apart_and_refused(served: Served) -> None:
    await fill(served)
    hurt = await make(served, "delete", "queue:delivery")
    sound = await make(served, "hold", "queue:processing")
    await act(served, hurt["id"], "apply", b'{"reason": "x"}')
    await served.store.write(lambda tx: tx.rows("UPDATE plan SET summary = x'7b' WHERE id = ?", (int(hurt["id"], 16),)))
    listed = (await get(served, "/v1/plans")).json
    assert (listed["plans"], listed["damaged"]) == ([sound], [{"id": hurt["id"], "columns": ["summary"]}])
    first = (await get(served, "/v1/plans?limit=1")).json
    rest = (await get(served, f"/v1/plans?limit=1&before={first['next']}")).json
    assert (first["plans"], rest["plans"], len(rest["damaged"]), rest["next"]) == ([sound], [], 1, None)
    for answer in (
        await get(served, f"/v1/plans/{hurt['id']}"), await get(served, f"/v1/plans/{hurt['id']}/entries"),
        await post(served, f"/v1/plans/{hurt['id']}/undo"),
        await post(served, f"/v1/plans/{hurt['id']}/apply", b'{"reason": "x"}'),
    ):  # fmt: skip
        assert "postroom verify --repair closes it" in check_problem(answer, 409, "damaged")["detail"]
