"""The vendor's other calls against the real process: what a person decides happens, and what was refused is found."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
from bench.gateway import Gateway

from tests.system.command import LIMIT, done
from tests.system.conftest import SETTINGS, Starter, eventually, route_to
from tests.system.receiver import Receiver, subject_of
from tests.system.wire import Sender, a_mail

STRICT = SETTINGS + "relay_networks = []\n"
PAUSED = "\n[processing]\npaused = true\n"


def call(gateway: Gateway, path: str, *items: dict[str, Any]) -> list[Any]:
    """A signed call that must succeed; its data."""
    keys = json.loads((gateway.data / "admin.json").read_text())
    date = format_datetime(datetime.now(UTC)).replace("+0000", "UTC")
    request = str(uuid.uuid4())
    signed = f"{date}:{request}:{path}:{keys['appKey']}".encode()
    digest = base64.b64encode(hmac.new(base64.b64decode(keys["secretKey"]), signed, hashlib.sha1).digest()).decode()
    answer = httpx.post(
        f"http://{gateway.http[0]}:{gateway.http[1]}{path}",
        json={"data": items},
        headers={
            "Authorization": f"MC {keys['accessKey']}:{digest}",
            "x-mc-app-id": keys["appId"],
            "x-mc-date": date,
            "x-mc-req-id": request,
        },
        timeout=LIMIT,
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["fail"] == [], body
    found: list[Any] = body["data"]
    return found


def test_held_mail_is_released_and_rejected_over_the_api(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver) + PAUSED, base=STRICT)
    with Sender(gateway.smtp) as sender:
        for subject in ("good", "bad"):
            reply = sender.mail(a_mail(subject), "bob@corp.example").decode()
            assert reply.startswith("250")
            entry = reply.split()[2]
            assert done("queue", "hold", entry, "--data", gateway.data)["done"] == [entry]
    held = {one["subject"]: one["id"] for one in call(gateway, "/api/gateway/get-hold-message-list", {"admin": True})}
    assert call(gateway, "/api/gateway/get-hold-summary-list") == [
        {"policyInfo": "Held by a person", "numberOfItems": 2}
    ]
    told = call(gateway, "/api/gateway/hold-reject", {"ids": [held["bad"]], "notify": True, "message": "not ours"})
    assert told == [{"id": held["bad"], "reject": True}]
    assert call(gateway, "/api/gateway/hold-release", {"id": held["good"]}) == [{"id": held["good"], "release": True}]
    assert done("queue", "resume", "processing", "--data", gateway.data)["changed"] is True
    assert receiver.wait_until(lambda taken: len(taken) == 2, LIMIT), "the good one and the notice were not delivered"
    by_recipient = {one.recipients[0]: one.content for one in receiver.taken}
    assert subject_of(by_recipient["bob@corp.example"]) == "good"
    assert b"Rejected by a person: not ours" in by_recipient["alice@corp.example"]
    eventually(lambda: gateway.queued() == 0, "the queue is empty", LIMIT)
    (found,) = call(gateway, "/api/message-finder/search", {"advancedTrackAndTraceOptions": {"to": "bob@corp.example"}})
    assert {one["subject"]: one["status"] for one in found["trackedEmails"]} == {"good": "archived", "bad": "rejected"}
    (logged,) = call(gateway, "/api/gateway/get-held-release-logs")
    assert {one["status"] for one in logged["heldReleaseLogs"]} == {"released", "rejected"}
    assert gateway.metrics()["postroom_ledger_difference"] == 0


def test_what_was_refused_is_told_and_the_queues_are_sampled(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver), base=STRICT)
    with Sender(gateway.smtp) as sender:
        assert sender.mail(a_mail("x"), "x@elsewhere.example", sender="eve@example.net").startswith(b"550 5.7.1")

    def refused() -> list[Any]:
        (found,) = call(gateway, "/api/gateway/get-rejections", {"start": "2020-01-01", "searchBy": {"from": "eve"}})
        lines: list[Any] = found["rejections"]
        return lines

    eventually(lambda: bool(refused()), "the refusal is recorded", LIMIT)
    (line,) = refused()
    assert (line["toAddress"], line["type"], line["remoteIp"]) == ("x@elsewhere.example", "relaying", "127.0.0.1")
    now = datetime.now(UTC)
    window = {"start": (now - timedelta(hours=1)).isoformat(), "end": (now + timedelta(hours=1)).isoformat()}

    def sampled() -> list[Any]:
        (found,) = call(gateway, "/api/email/get-email-queues", window)
        points: list[Any] = found["inboundEmailQueue"]
        return points

    eventually(lambda: bool(sampled()), "the queues are sampled", LIMIT)
    (account,) = call(gateway, "/api/account/get-account")
    assert account["accountName"] == "gw.corp.example"


def test_what_is_refused_last_is_kept_when_the_gateway_stops(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver), base=STRICT)
    with Sender(gateway.smtp) as sender:
        assert sender.mail(a_mail("x"), "y@elsewhere.example").startswith(b"550")
    assert gateway.stop() == 0
    gateway.start()
    (found,) = call(gateway, "/api/gateway/get-rejections", {"start": "2020-01-01"})
    assert [line["toAddress"] for line in found["rejections"]] == ["y@elsewhere.example"]
