"""What the console refuses leaves a line in the audit log, and so does a plan that is thrown away."""

from __future__ import annotations

import asyncio

from postroom.ids import public_id
from postroom.store.access import permissions
from tests.http.conftest import Served
from tests.http.console.conftest import Visitor
from tests.http.keys import PASSWORD, a_person, an_app, audit_told
from tests.http.siblings import hold
from tests.http.test_v1 import post

BOB = "bob@corp.example"


async def person(served: Served, *held: str) -> None:
    await an_app(served, "desk", *held)
    await a_person(served, BOB, role="desk")


async def test_what_a_role_may_not_is_written_down(served: Served) -> None:
    await person(served, permissions.PROCESSING_READ)
    (held,) = await hold(served)

    def visit() -> None:
        with Visitor(base_url=f"http://{served.address}") as visitor:
            visitor.log_in(BOB, PASSWORD)
            visitor.submit("/console/act", action="release", ids=public_id(held))
            visitor.submit("/console/plans", line="from:secret@example.org", action="hold")
            for verb in ("apply", "undo", "discard"):
                visitor.submit(f"/console/plans/1f/{verb}", reason="x")
            visitor.get("/console/plans/new")
            visitor.get(f"/console/entries/{public_id(held)}")
            visitor.get("/console/nothing-here")
            visitor.post("/console/act", data={"token": "bad"})
            visitor.post("/console/act", content=b"{}", headers={"content-type": "application/json"})
            visitor.submit("/console/logout")
            visitor.post("/console/login", data={"token": "bad", "email": BOB})

    await asyncio.to_thread(visit)
    lines = [line[1:] for line in await audit_told(served, kind="call")]
    bob = f"user:{BOB}"
    assert sorted(lines) == sorted(
        [
            (bob, "/console/act", "refused", "403 forbidden", 2),
            (bob, "/console/act", "refused", "415 unsupported_media_type", 1),
            (bob, "/console/plans", "refused", "403 forbidden", 1),
            *[
                (bob, f"/console/plans/{{ident}}/{verb}", "refused", "403 forbidden", 1)
                for verb in ("apply", "undo", "discard")
            ],
            (bob, "/console/plans/new", "refused", "403 forbidden", 1),
            (bob, "/console/entries/{ident}", "refused", "403 forbidden", 1),
            ("", "/console/login", "refused", "403 forbidden", 1),
        ]
    )


async def test_a_refused_plan_is_written_down_once_and_a_discarded_one_too(served: Served) -> None:
    await person(served, permissions.PROCESSING_READ, permissions.PROCESSING_EDIT)
    await hold(served)
    await served.put()
    full = (await post(served, "/v1/plans", b'{"action": "release", "query": "queue:held"}')).json["id"]
    open_to_all = (await post(served, "/v1/plans", b'{"action": "retry", "query": "queue:processing"}')).json["id"]

    def visit() -> None:
        with Visitor(base_url=f"http://{served.address}") as visitor:
            visitor.log_in(BOB, PASSWORD)
            assert visitor.submit("/console/plans", line="queue:", action="hold").status_code == 400
            for verb in ("apply", "undo", "discard"):
                answer = visitor.submit(f"/console/plans/{full}/{verb}", reason="x")
                assert answer.headers["location"] == f"/console/plans/{full}"
            assert visitor.submit(f"/console/plans/{open_to_all}/discard").headers["location"] == "/console/plans"
            assert visitor.submit(f"/console/plans/{open_to_all}/discard").status_code == 303

    await asyncio.to_thread(visit)
    lines = [line[1:] for line in await audit_told(served, kind="call")]
    bob = f"user:{BOB}"
    place = "/console/plans/{ident}"
    assert sorted(lines) == sorted(
        [
            (bob, "/console/plans", "refused", "400 bad_query", 1),
            *[(bob, f"{place}/{verb}", "refused", "403 forbidden", 1) for verb in ("apply", "undo", "discard")],
            (bob, f"{place}/discard", "refused", "409 refused", 1),
        ]
    )
    assert await audit_told(served, kind="plan.discard") == [
        ("plan.discard", bob, open_to_all, "done", "retry, entries: 1", 1)
    ]
