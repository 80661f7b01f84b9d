"""A signature does not cover the body: on calls that change something it is good for one body only."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.errors import StoreUnavailable
from postroom.http.door.auth import Caller
from postroom.http.door.callers import Admitted
from postroom.http.gateway.calls.find import PATH as FIND
from postroom.http.gateway.calls.release import REJECT, RELEASE
from postroom.http.gateway.front import functions
from postroom.http.gateway.replays import Replays
from postroom.http.gateway.wire.envelope import Failure
from postroom.http.gateway.wire.lenient import MAX_BODY
from postroom.model import Action, Queue
from postroom.store.access import identity, signatures
from postroom.store.keep import expiry
from tests.http import siblings
from tests.http.conftest import Serve, Served, connected, golden, request_bytes
from tests.http.keys import a_token, audit_told, carrying

CALLER = Caller("app", "soar", identity.Role("administrator", ("*",)))
SIGNED = Admitted(CALLER, b"key:signature", 2_000_000_000_000)


async def held(served: Served, *, subject: str = "Quarterly report") -> str:
    """A held entry; its id as the API gives it."""
    accepted = await served.put(subject=subject)
    await served.store.act(Action.HOLD, accepted.entries, actor="test")
    path = "/api/gateway/get-hold-message-list"
    answer = await served.post(path, served.signed(path), b'{"data":[{"admin":true}]}')
    (found,) = [item["id"] for item in answer.json["data"] if item["subject"] == subject]
    return str(found)


def releasing(*ids: str) -> bytes:
    return json.dumps({"data": [{"id": ident} for ident in ids]}).encode()


async def test_what_changes_something_is_marked_so(served: Served) -> None:
    table = functions(served.services)
    assert [path for path, function in table.items() if function.changes] == [RELEASE, REJECT]


async def test_the_same_call_again_gets_the_same_answer_and_changes_nothing_more(served: Served) -> None:
    ident = await held(served)
    headers = served.signed(RELEASE)
    first = await served.post(RELEASE, headers, releasing(ident))
    assert first.json["data"][0]["release"] is True, first.body
    again = await served.post(RELEASE, headers, releasing(ident))
    assert (again.status, again.body) == (200, first.body)
    anew = await served.post(RELEASE, served.signed(RELEASE), releasing(ident))
    assert anew.json["data"][0]["release"] is False  # signed anew it is another call: the entry is not held any more


async def test_another_body_gets_401_and_changes_nothing(served: Served) -> None:
    first, second = await held(served, subject="One"), await held(served, subject="Two")
    headers = served.signed(RELEASE)
    assert (await served.post(RELEASE, headers, releasing(first))).status == 200
    for body in (releasing(second), releasing(first) + b" ", b""):
        answer = await served.post(RELEASE, headers, body)
        assert (answer.status, answer.body) == (401, golden("other_body"))
    assert (await served.post(RELEASE, served.signed(RELEASE), releasing(second))).json["data"][0]["release"] is True


async def test_reads_may_use_a_signature_again_with_other_bodies(served: Served) -> None:
    headers = served.signed()
    for body in (b"{}", b"{'meta': {'pagination': {'pageSize': 1}}}", b"{}"):
        assert (await served.post(FIND, headers, body)).status == 200


async def test_it_holds_across_a_restart_for_as_long_as_the_date_is_accepted(serve: Serve) -> None:
    served = await serve()
    ident = await held(served)
    headers = served.signed(RELEASE)
    first = await served.post(RELEASE, headers, releasing(ident))
    await served.server.stop(1)
    served.store.close()
    clock = served.clock
    assert isinstance(clock, HandClock)
    clock.move(15 * MINUTE)
    again = await serve(clock=clock)
    await again.store.write(lambda tx: expiry.reap(tx, clock.now(), 0))
    assert (await again.post(RELEASE, headers, releasing(ident))).body == first.body
    assert (await again.post(RELEASE, headers, b"{}")).body == golden("other_body")
    clock.move(1000)
    assert (await again.post(RELEASE, headers, releasing(ident))).json["fail"][0]["errors"][0]["code"] == (
        "err_xdk_invalid_date"
    )
    await again.store.write(lambda tx: expiry.reap(tx, clock.now(), 0))
    left = await again.store.read(lambda reader: reader.tx.rows("SELECT count(*) FROM signed_call"))
    assert left == [(0,)]


async def test_a_call_with_a_token_has_nothing_to_compare(served: Served) -> None:
    first, second = await held(served, subject="One"), await held(served, subject="Two")
    headers = carrying(await a_token(served))
    for ident in (first, second):
        assert (await served.post(RELEASE, headers, releasing(ident))).json["data"][0]["release"] is True


class Counted:
    """A function that waits until it may end, and counts how often it ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.may_end = asyncio.Event()
        self.began = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> bytes:
        self.runs += 1
        self.began.set()
        await self.may_end.wait()
        if self.failure is not None:
            raise self.failure
        return b"answer %d" % self.runs


def replays(served: Served) -> Replays:
    return Replays(served.store, served.server.guard.running)


async def test_the_same_call_at_the_same_time_runs_once(served: Served) -> None:
    guard, run = replays(served), Counted()
    calls = [asyncio.create_task(guard.once(SIGNED, b"body", run)) for _ in range(3)]
    await run.began.wait()
    async with asyncio.timeout(30):  # at once, not when the first has ended
        with pytest.raises(Failure):
            await guard.once(SIGNED, b"other", run)
    run.may_end.set()
    assert await asyncio.gather(*calls) == [b"answer 1"] * 3
    assert run.runs == 1


async def test_a_call_that_failed_on_our_side_may_be_sent_again_but_only_with_its_body(served: Served) -> None:
    guard, run = replays(served), Counted()
    run.may_end.set()
    run.failure = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        await guard.once(SIGNED, b"body", run)
    run.failure = None
    with pytest.raises(Failure):
        await guard.once(SIGNED, b"other", run)
    assert await guard.once(SIGNED, b"body", run) == b"answer 2"
    assert served.server.guard.running == {}


async def test_what_is_kept_is_bounded(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "MOST", 3)
    guard, run = replays(served), Counted()
    run.may_end.set()
    now = served.clock.now()
    for number in range(5):
        admitted = Admitted(CALLER, b"key:%d" % number, now + number + 1)
        await guard.once(admitted, b"body", run)
    await served.store.write(lambda tx: signatures.reap(tx, now, 100))

    def kept(reader: Any) -> list[int]:
        return [row[0] - now for row in reader.tx.rows("SELECT expires FROM signed_call ORDER BY 1")]

    assert await served.store.read(kept) == [3, 4, 5]


async def test_a_body_that_cannot_be_read_uses_up_the_signature(served: Served) -> None:
    ident = await held(served)
    for body in (b"{", b'{"data": [], "data": []}', b"5"):
        headers = served.signed(RELEASE)
        for _ in range(2):
            assert (await served.post(RELEASE, headers, body)).status == 400
        answer = await served.post(RELEASE, headers, releasing(ident))
        assert (answer.status, answer.body) == (401, golden("other_body"))
    assert (await served.post(RELEASE, served.signed(RELEASE), releasing(ident))).json["data"][0]["release"] is True


async def test_a_body_that_did_not_come_whole_uses_up_the_signature(served: Served) -> None:
    ident = await held(served)
    headers = served.signed(RELEASE)
    answer = await served.post(RELEASE, headers, b"[" * (MAX_BODY + 1))
    assert (answer.status, answer.json["fail"][0]["errors"][0]["code"]) == (413, "err_body_too_large")
    assert (await served.post(RELEASE, headers, releasing(ident))).body == golden("other_body")
    headers = served.signed(RELEASE)
    async with connected(served.address) as (_, writer):
        writer.write(request_bytes("POST", RELEASE, headers, releasing(ident))[:-1])
        await writer.drain()
    async with asyncio.timeout(60):  # the server sees that the client has left
        while "400 err_body_incomplete" not in [line[4] for line in await audit_told(served, kind="call")]:
            await served.find()
    assert (await served.post(RELEASE, headers, releasing(ident))).body == golden("other_body")
    assert (await served.post(RELEASE, served.signed(RELEASE), releasing(ident))).json["data"][0]["release"] is True


async def test_the_most_that_one_call_rejects_is_answered_the_same_again(served: Served) -> None:
    texts = siblings.EntryIds(served.services.sealer).texts(list(range(1 << 40, (1 << 40) + 2500)))
    rejected = [{"id": text, "reject": True} for text in texts]
    long = json.dumps({"meta": {"status": 200}, "data": rejected, "fail": []}).encode()
    assert len(long) > 2 * signatures.MAX_ANSWER
    runs = []

    async def run() -> bytes:
        runs.append(1)
        return long

    for _ in range(2):
        assert await replays(served).once(SIGNED, b"body", run) == long
    assert len(runs) == 1


async def test_a_call_whose_answer_is_too_long_to_be_kept_does_not_run_again(served: Served) -> None:
    accepted = await served.put()
    await served.store.act(Action.HOLD, accepted.entries, actor="test")
    long = {"id": random.Random(7).randbytes(signatures.MAX_ANSWER + 1000).hex()}
    body = json.dumps({"data": [{"id": siblings.ident(served, accepted.entries[0])}, long]}).encode()
    headers = served.signed(RELEASE)
    first = await served.post(RELEASE, headers, body)
    assert first.json["data"][0]["release"] is True, first.body[:200]
    await served.store.act(Action.HOLD, accepted.entries, actor="test")
    again = await served.post(RELEASE, headers, body)
    assert (again.json["data"], siblings.faults(again)) == ([], [(None, "err_answer_not_kept")])
    (entry,) = accepted.entries
    assert await served.store.read(lambda reader: reader.entry(entry).queue) is Queue.HELD
