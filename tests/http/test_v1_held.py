"""Held mail at `/v1`: seen and released only with the rights that the console and plans ask for."""

from __future__ import annotations

import json

import pytest

from postroom.http.admin.operations import OPERATIONS
from postroom.ids import public_id
from postroom.model import Action, Queue
from postroom.store.access import permissions
from tests.http.conftest import Served
from tests.http.keys import an_app
from tests.http.siblings import hold
from tests.http.test_v1 import check_problem, get, post


async def queue_of(served: Served, entry: int) -> Queue | None:
    found = await served.store.read(lambda reader: reader.entry(entry))
    return None if found is None else found.queue


async def test_held_entries_are_listed_only_for_who_may_see_them(served: Served) -> None:
    await served.put(subject="waits")
    (held,) = await hold(served, subject="is held")
    await an_app(served, "desk", permissions.PROCESSING_READ)
    await an_app(served, "both", permissions.PROCESSING_READ, permissions.HELD_READ)
    for query in ("total=true", "total=true&queue=processing,held", "total=true&q=-subject:zebra"):
        found = (await get(served, f"/v1/entries?{query}", "desk")).json
        assert ([entry["subject"] for entry in found["entries"]], found["total"]) == (["waits"], 1)
        found = (await get(served, f"/v1/entries?{query}", "both")).json
        assert ([entry["subject"] for entry in found["entries"]], found["total"]) == (["is held", "waits"], 2)
    for query in ("queue=held", "q=queue:held", "queue=held,processing&q=queue:held"):
        problem = check_problem(await get(served, f"/v1/entries?{query}", "desk"), 403, "forbidden")
        assert permissions.HELD_READ in problem["detail"]
    assert (await get(served, f"/v1/entries?q=id:{public_id(held)}", "desk")).json["entries"] == []


async def test_one_held_entry_is_shown_only_to_who_may_see_it_also_when_it_has_ended(served: Served) -> None:
    (held,) = await hold(served)
    await an_app(served, "desk", permissions.PROCESSING_READ)
    await an_app(served, "both", permissions.PROCESSING_READ, permissions.HELD_READ)
    for _ in range(2):
        problem = check_problem(await get(served, f"/v1/entries/{public_id(held)}", "desk"), 403, "forbidden")
        assert permissions.HELD_READ in problem["detail"]
        assert (await get(served, f"/v1/entries/{public_id(held)}", "both")).status == 200
        await served.store.act(Action.REJECT, [held], actor="test")


async def test_release_takes_the_right_to_held_mail_as_hold_release_does(served: Served) -> None:
    (held,) = await hold(served)
    await an_app(served, "desk", permissions.PROCESSING_READ, permissions.PROCESSING_EDIT)
    await an_app(served, "holder", permissions.HELD_EDIT)
    target = f"/v1/entries/{public_id(held)}"
    problem = check_problem(await post(served, f"{target}/release", b"", "desk"), 403, "err_xdk_operation_forbidden")
    assert permissions.HELD_EDIT in problem["detail"]
    check_problem(await post(served, f"{target}/retry", b"", "desk"), 409, "refused")
    assert await queue_of(served, held) is Queue.HELD
    check_problem(await post(served, f"{target}/hold", b"", "holder"), 403, "err_xdk_operation_forbidden")
    assert (await post(served, f"{target}/release", b"", "holder")).json["result"] == "done"
    assert await queue_of(served, held) is Queue.PROCESSING


def test_every_call_about_entries_names_its_right() -> None:
    asked = {one.name: one.permission for one in OPERATIONS if one.path.startswith("/v1/entries")}
    assert asked == {
        "listEntries": permissions.PROCESSING_READ, "showEntry": permissions.PROCESSING_READ,
        "retryEntry": permissions.PROCESSING_EDIT, "holdEntry": permissions.PROCESSING_EDIT,
        "releaseEntry": permissions.HELD_EDIT,
    }  # fmt: skip
    for one in OPERATIONS:
        if one.name in ("listEntries", "showEntry"):
            assert permissions.HELD_READ in one.summary


@pytest.mark.parametrize("path", ["/v1/plans", "/v1/plans/{}"])
async def test_a_plan_says_nothing_of_held_mail_to_who_may_not_see_it(served: Served, path: str) -> None:
    await served.put(subject="waits")
    await hold(served, "carol@corp.example", subject="is held", sender="secret@example.org")
    await an_app(served, "desk", permissions.PROCESSING_READ)
    body = json.dumps({"action": "delete", "query": "queue:held|processing"}).encode()
    made = (await post(served, "/v1/plans", body)).json
    assert len(made["summary"]["samples"]) == len(made["summary"]["senders"]) == 2
    seen = (await get(served, path.format(made["id"]), "desk")).json
    (plan,) = seen.get("plans", [seen])
    assert [sample["subject"] for sample in plan["summary"]["samples"]] == ["waits"]
    assert (plan["summary"]["senders"], plan["summary"]["domains"], plan["entries"]) == ([], [], 2)
    assert plan["summary"]["queues"] == made["summary"]["queues"]
