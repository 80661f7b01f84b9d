"""message-finder/search and get-message-info (contract section 7): queue, history and refusals as one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from msgspec.structs import replace

from postroom.clock import DAY, HOUR, MINUTE
from postroom.http.door.auth import Caller
from postroom.http.gateway.call import Call
from postroom.http.gateway.calls import tracking as function
from postroom.http.gateway.calls.tracking import INFO, SEARCH
from postroom.http.gateway.wire.dates import stamp
from postroom.model import Action, Outcome, Queue, Route
from postroom.store.access import identity
from postroom.store.find import tracking
from postroom.store.find.tracking import STATUSES, Wanted
from postroom.store.logs import rejections
from postroom.store.logs.rejections import NewRejection
from postroom.store.records import Accepted, EndedEntry, Waited
from tests.http.conftest import HandClock, Served, a_message
from tests.http.siblings import ask, data, faults, hold, ident


async def end(served: Served, accepted: Accepted, outcome: Outcome, reply: str = "250 ok") -> None:
    """What was born leased ends."""
    now = served.clock.now()
    for entry in accepted.entries:
        served.store.end(EndedEntry(entry, entry, accepted.message.id, Queue.DELIVERY, outcome, reply, 1, 0, now))
    await served.store.write(lambda tx: None)


async def ended(served: Served, *recipients: str, outcome: Outcome = Outcome.DELIVERED, **given: Any) -> Accepted:
    accepted = await served.put(*recipients, locked_until=served.clock.now() + MINUTE, **given)
    await end(served, accepted, outcome)
    return accepted


async def refused(served: Served, kind: str = "relaying", **given: Any) -> None:
    one = NewRejection(
        served.clock.now(), "203.0.113.5", "peer", "eve@example.net", "x@y.example", kind, "550 5.7.1 no"
    )
    await served.store.write(lambda tx: rejections.add(tx, [replace(one, **given)]))


async def tracked(served: Served, item: dict[str, Any], **pagination: Any) -> list[dict[str, Any]]:
    (found,) = data(await ask(served, SEARCH, item, **pagination))
    emails: list[dict[str, Any]] = found["trackedEmails"]
    return emails


def options(**given: Any) -> dict[str, Any]:
    return {"advancedTrackAndTraceOptions": given}


async def test_nothing_found_has_the_recorded_pagination(served: Served) -> None:
    answer = await ask(served, SEARCH, options(**{"from": "nobody"}))
    assert answer.body == b'{"meta":{"status":200,"pagination":{"pageSize":0}},"data":[{"trackedEmails":[]}],"fail":[]}'
    assert (await ask(served, SEARCH)).body == answer.body


async def test_a_delivered_message_in_the_recorded_order(served: Served) -> None:
    accepted = await ended(
        served, "bob@corp.example", sender="b@lists.example.org", header_from="carol@example.org", name="Carol",
        subject="Minutes", ip="192.0.2.9", attachment=True,
    )  # fmt: skip
    answer = await ask(served, SEARCH, {"start": stamp(served.clock.now() - DAY), "searchReason": "test"})
    (email,) = data(answer)[0]["trackedEmails"]
    assert email == {
        "info": "250 ok",
        "id": ident(served, accepted.entries[0]),
        "status": "archived",
        "fromEnv": {"emailAddress": "b@lists.example.org"},
        "fromHdr": {"emailAddress": "carol@example.org", "displayableName": "Carol"},
        "to": [{"emailAddress": "bob@corp.example"}],
        "received": stamp(served.clock.now()),
        "subject": "Minutes",
        "senderIP": "192.0.2.9",
        "attachments": True,
        "route": "inbound",
        "sent": stamp(served.clock.now()),
        "spamScore": 0,
        "detectionLevel": "",
    }
    assert answer.pagination == {"pageSize": 1, "totalCount": 1}


async def every_status(served: Served) -> None:
    """One message of each status; its subject says which."""
    await served.put(subject="processing")
    await served.put(subject="bulk_processing", queue=Queue.BULK)
    await served.put(subject="delivery", queue=Queue.DELIVERY)
    await served.put(subject="system", queue=Queue.SYSTEM)
    await hold(served, subject="held")
    accepted = await served.put(subject="deferred", locked_until=served.clock.now() + MINUTE)
    now = served.clock.now()
    (entry,) = accepted.entries
    served.store.wait(Waited(entry, entry, Queue.DELIVERY, None, "451 later", 1, now + HOUR, 0, now, "deferred"))
    await ended(served, subject="archived")
    await ended(served, subject="bounced", outcome=Outcome.BOUNCED)
    await ended(served, subject="bounced", outcome=Outcome.EXPIRED)
    await ended(served, subject="rejected", outcome=Outcome.REJECTED)
    await refused(served)
    await refused(served, "unavailable")  # the peer was told to try again: no message was rejected


async def test_every_status_is_told_and_found(served: Served) -> None:
    await every_status(served)
    emails = await tracked(served, {})
    assert [email["status"] for email in emails] == [email["subject"] or "rejected" for email in emails]
    assert len(emails) == 11
    for status in STATUSES:
        found = await tracked(served, options(status=[status.upper()]))
        assert [email["status"] for email in found] == [status] * sum(email["status"] == status for email in emails)
    some = await tracked(served, options(status=["held", "bounced"]))
    assert sorted(email["status"] for email in some) == ["bounced", "bounced", "held"]


@pytest.mark.parametrize("wait", ["queue", "history"])
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"from": "ALICE@corp"}, ["one"]), ({"from": "carol@"}, ["ZWÖLF"]), ({"to": "<bob@corp.example>"}, ["one"]),
        ({"subject": "ONE"}, ["one"]), ({"subject": "zwölf"}, ["ZWÖLF"]), ({"senderIP": "192.0.2.7"}, ["one"]),
        ({"senderIP": "192.0.2"}, []), ({"route": "outbound"}, ["ZWÖLF"]), ({"route": "all"}, ["ZWÖLF", "one"]),
        ({"route": ["inbound", "outbound"]}, ["ZWÖLF", "one"]), ({"attachments": "true"}, ["ZWÖLF"]),
        ({"attachments": False}, ["one"]), ({"from": "alice", "subject": "ZWÖLF"}, []),
        ({"url": "", "to": None}, ["ZWÖLF", "one"]),
    ],
)  # fmt: skip
async def test_searches(served: Served, wait: str, asked: dict[str, Any], found: list[str]) -> None:
    put = served.put if wait == "queue" else lambda *args, **given: ended(served, *args, **given)
    await put("bob@corp.example", subject="one")
    await put(
        "eve@corp.example", subject="ZWÖLF", sender="dave@example.org", header_from="carol@example.org",
        route=Route.OUTBOUND, attachment=True, ip="198.51.100.9",
    )  # fmt: skip
    assert [email["subject"] for email in await tracked(served, options(**asked))] == found


@pytest.mark.parametrize("written", ["<1@corp.example>", "1@corp.example", " <1@corp.example> "])
async def test_by_message_id_waiting_or_ended(served: Served, written: str) -> None:
    for header_id in ("<1@corp.example>", "<11@corp.example>"):
        message = a_message("a@corp.example", "b@corp.example", received=served.clock.now())
        message = replace(message, facts=replace(message.facts, message_id=header_id))
        answers: list[Any] = []
        served.store.accept(message, served.clock.now() + MINUTE, answers.append)
        await served.store.write(lambda tx: None)
    (accepted,) = answers
    first = {"messageId": written}
    assert len(await tracked(served, first)) == 2
    await end(served, accepted, Outcome.DELIVERED)
    assert len(await tracked(served, first)) == 2
    assert len(await tracked(served, {"messageId": "11@corp.example"})) == 2
    assert [email["status"] for email in await tracked(served, {"messageId": "11@corp.example"})] == ["archived"] * 2
    assert await tracked(served, {"messageId": "corp.example"}) == []


async def test_refusals_are_found_by_what_is_known_of_them(served: Served) -> None:
    await refused(served)
    for asked in ({"from": "eve"}, {"to": "Y.EXAMPLE"}, {"senderIP": "203.0.113.5"}, {"status": "rejected"}):
        (email,) = await tracked(served, options(**asked))
        assert (email["status"], email["info"], "route" in email) == ("rejected", "550 5.7.1 no", False)
    for asked in ({"from": "bob"}, {"subject": "no"}, {"route": "inbound"}, {"attachments": False}):
        assert await tracked(served, options(**asked)) == []


async def test_pages_go_through_all_sources_in_one_order(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    for number in range(9):
        served.clock.move(10)
        if number % 3 == 0:
            await served.put(subject=f"m{number}")
        elif number % 3 == 1:
            await ended(served, subject=f"m{number}")
        else:
            await refused(served, recipient=f"m{number}")
    seen: list[str] = []
    answer = await ask(served, SEARCH, {}, pageSize=2)
    await ended(served, subject="late")
    assert "totalCount" not in answer.pagination
    while True:
        page = data(answer)[0]["trackedEmails"]
        seen += [email["subject"] or email["to"][0]["emailAddress"] for email in page]
        if "next" not in answer.pagination:
            break
        answer = await ask(served, SEARCH, pageToken=answer.pagination["next"])
    assert seen == [f"m{number}" for number in range(8, -1, -1)]


async def test_a_search_whose_time_is_over_says_so_and_goes_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of nothing: each page is one step of each source, and still all is found."""
    monkeypatch.setattr(tracking, "CHUNK", 3)
    chance = random.Random(7)
    wanted = []
    for number in range(40):
        subject = f"m{number}" if chance.random() < 0.2 else "other"
        wanted += [subject] if subject != "other" else []
        await (served.put(subject=subject) if chance.random() < 0.5 else ended(served, subject=subject))
        if chance.random() < 0.3:
            await refused(served)
    hurried = function.Search(served.services, budget=0.0)
    call = Call(app=_app(served), request_id="", body={}, items=[options(subject="m")])
    seen: list[str] = []
    stopped = 0
    for _ in range(100):
        answer = await _run(hurried, call)
        seen += [email["subject"] for email in answer["data"][0]["trackedEmails"]]
        for fail in answer["fail"]:
            stopped += 1
            assert fail["errors"][0]["code"] == "err_track_and_trace_incomplete"
            assert fail["errors"][0]["retryable"] is True
        token = answer["meta"]["pagination"].get("next")
        if token is None:
            break
        call = Call(app=call.app, request_id="", body={"meta": {"pagination": {"pageToken": token}}}, items=[])
    assert seen == wanted[::-1]
    assert stopped > 5


def _app(served: Served) -> Any:
    return Caller("id", "name", identity.Role("administrator", ("*",)))


async def _run(search: function.Search, call: Call) -> Any:
    return json.loads(await search(call))


async def test_the_search_ends_at_the_page_and_needs_no_more_steps(served: Served) -> None:
    for number in range(30):
        await ended(served, subject=f"m{number}")
    steps: list[float] = []

    def clock() -> float:
        steps.append(0)
        return 0.0

    now = served.clock.now()
    found = await served.store.read(
        lambda reader: tracking.search(reader, Wanted(0, now + 1), size=5, after=None, now=now, clock=clock)
    )
    assert (len(found.rows), found.complete, found.after) == (5, True, found.rows[-1].id)
    assert len(steps) <= 4


async def test_start_before_anything_is_kept_has_the_recorded_code(served: Served) -> None:
    kept = served.services.settings.retention.history
    for start in (served.clock.now() - kept - 2 * DAY, 0):
        answer = await ask(served, SEARCH, {"start": stamp(start)})
        assert (answer.status, answer.json["meta"]["status"]) == (200, 200)
        assert faults(answer) == [("start", "err_track_and_trace_invalid_start_date")]
    await tracked(served, {"start": stamp(served.clock.now() - kept - HOUR)})


async def test_the_window_may_stand_inside_the_options(served: Served) -> None:
    assert isinstance(served.clock, HandClock)
    await ended(served, subject="old")
    old = stamp(served.clock.now())
    served.clock.move(DAY)
    await ended(served, subject="new")
    for item in (
        {"start": old, "end": old}, options(start=old, end=old), {"start": old, **options(end=old)},
        {"end": old, "start": None, **options(start=old)},
    ):  # fmt: skip
        assert [email["subject"] for email in await tracked(served, item)] == ["old"]


async def test_bad_input(served: Served) -> None:
    bad = {
        "start": "x", "messageId": ["x"],
        "advancedTrackAndTraceOptions": {
            "from": "x" * 300, "route": "up", "status": ["lost"], "url": "http://x", "attachments": "some",
            "senderIP": {},
        },
    }  # fmt: skip
    inside = "advancedTrackAndTraceOptions."
    assert {field for field, _ in faults(await ask(served, SEARCH, bad))} == {
        "start", "messageId",
        *[inside + name for name in ("from", "route", "status", "url", "attachments", "senderIP")],
    }  # fmt: skip
    for item in ("x", {"advancedTrackAndTraceOptions": "x"}, options(status=["x"] * 101), options(route=[{}])):
        assert faults(await ask(served, SEARCH, item))
    assert faults(await ask(served, SEARCH, {}, {})) == [("data", "err_validation_value_not_allowed")]
    assert faults(await ask(served, SEARCH, pageToken="x")) == [(None, "xdk_failure")]
    for path in (SEARCH, INFO):
        assert (await ask(served, path, {}, role=identity.MONITOR)).status == 200


# -- get-message-info


async def info(served: Served, entry: int) -> dict[str, Any]:
    (found,) = data(await ask(served, INFO, {"id": ident(served, entry)}))
    record: dict[str, Any] = found
    return record


async def test_what_waits_shows_its_queue(served: Served) -> None:
    (entry,) = await hold(served, "bob@corp.example", why="legal", name="Carol", subject="Wire")
    record = await info(served, entry)
    assert (record["id"], record["status"], record["deliveredMessage"]) == (ident(served, entry), "held", {})
    queue = record["queueInfo"]
    assert (queue["heldGroup"], queue["reason"], queue["info"]) == (
        "administrator", "Held by a person", "Held by a person: legal",
    )  # fmt: skip
    assert queue["fromHeader"] == {"emailAddress": "alice@corp.example", "displayableName": "Carol"}
    assert record["recipientInfo"]["messageInfo"]["to"] == ["bob@corp.example"]
    assert record["recipientInfo"]["txInfo"] == record["recipientInfo"]["recipientMetaInfo"]
    assert record["recipientInfo"]["txInfo"]["remoteServerGreeting"] == "EHLO client.example"
    assert "retentionInfo" not in record
    await served.store.act(Action.RELEASE, [entry], actor="test")
    queue = (await info(served, entry))["queueInfo"]
    assert ("heldGroup" in queue, queue["nextAttempt"]) == (False, stamp(served.clock.now()))


async def test_what_was_delivered_shows_how(served: Served) -> None:
    accepted = await ended(served, "bob@corp.example")
    record = await info(served, accepted.entries[0])
    assert record["status"] == "archived"
    delivered = record["deliveredMessage"]["bob@corp.example"]
    assert delivered["deliveryMetaInfo"]["receiptAcknowledgement"] == "250 ok"
    assert delivered["messageInfo"]["route"] == "inbound"
    kept = served.services.settings.retention.history
    assert record["retentionInfo"]["currentPurgeDate"] == stamp(served.clock.now() + kept)
    assert "queueInfo" not in record
    bounced = await ended(served, outcome=Outcome.BOUNCED)
    assert (await info(served, bounced.entries[0]))["deliveredMessage"] == {}


async def test_what_was_refused_shows_why(served: Served) -> None:
    await refused(served)
    (email,) = await tracked(served, {})
    (record,) = data(await ask(served, INFO, {"id": email["id"]}))
    assert (record["id"], record["status"]) == (email["id"], "rejected")
    assert record["recipientInfo"]["txInfo"]["receiptEvent"] == "Email Rejected - 550 5.7.1 no"


async def test_exactly_one_good_id(served: Served) -> None:
    (entry,) = (await served.put()).entries
    text = ident(served, entry)
    assert faults(await ask(served, INFO)) == [("id", "err_validation_null")]
    assert faults(await ask(served, INFO, {"id": " "})) == [("id", "err_validation_blank")]
    assert faults(await ask(served, INFO, {"id": text}, {"id": text})) == [("data", "err_validation_value_not_allowed")]
    assert faults(await ask(served, INFO, {"id": 5})) == [("id", "err_validation_value_not_allowed")]
    assert faults(await ask(served, INFO, {"id": text[:-1] + "x"})) == [(None, "xdk_failure")]
    assert faults(await ask(served, INFO, {"id": ident(served, 5)})) == [(None, "xdk_failure")]
    assert faults(await ask(served, INFO, 5)) == [("data", "err_validation_value_not_allowed")]
