""" "May have been delivered": said wherever an entry is shown, in every case, and handled as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.gateway import Gateway

from postroom.clock import SystemClock
from postroom.model import Label
from tests.system.command import LIMIT, done, run
from tests.system.conftest import Starter, eventually, route_to
from tests.system.receiver import Receiver, Taken
from tests.system.wire import Sender, a_mail

LEASE = '\n[limits]\nlease = "2 seconds"\n'
CASES = ("the connection is cut", "the gateway is killed", "its lease had ended")


class Reluctant(Receiver):
    """Takes the first message and never says so: it hangs up, or is silent until the gateway has gone."""

    def __init__(self, record: Path, *, silent: bool) -> None:
        super().__init__(record)
        self._silent = silent

    async def _receive(self, taken: Taken) -> None:
        await super()._receive(taken)
        if len(self.taken) == 1:
            if self._silent:
                await asyncio.Event().wait()  # its session is cancelled in the end
            raise ConnectionResetError


@pytest.fixture
def reluctant(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reluctant]:
    case = request.getfixturevalue("case")
    with Reluctant(tmp_path / "received", silent=case != "the connection is cut") as running:
        yield running


def into_doubt(gateway: Gateway, reluctant: Reluctant, case: str) -> None:
    """One message is with the receiver, and the gateway, which runs, was not told."""
    with Sender(gateway.smtp) as sender:
        assert sender.mail(a_mail("in doubt"), "bob@corp.example").startswith(b"250 ")
    assert reluctant.wait_until(lambda taken: len(taken) == 1, LIMIT)
    if case == "the connection is cut":
        return
    gateway.kill()
    if case == "its lease had ended":
        (until,) = rows(gateway, "SELECT locked_until FROM entry")
        eventually(lambda: SystemClock().now() > until[0], "the lease has ended", LIMIT)
    gateway.start()


def rows(gateway: Gateway, statement: str) -> list[tuple[Any, ...]]:
    path = gateway.data / "postroom.db"
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()


@pytest.mark.parametrize("case", CASES)
def test_by_default_it_is_tried_again_and_the_label_stays_with_it(
    starting: Starter, reluctant: Reluctant, case: str
) -> None:
    gateway = starting(LEASE + route_to(reluctant))
    into_doubt(gateway, reluctant, case)
    if case == "the connection is cut":  # the schedule says a minute; a person does not wait
        eventually(lambda: labelled(gateway) == [True], "it is labelled", LIMIT)
        run("queue", "retry", "--queue", "delivery", "--yes", "--data", gateway.data)
    assert reluctant.wait_until(lambda taken: len(taken) == 2, LIMIT), "not tried again"
    eventually(lambda: gateway.queued() == 0, "the queue is empty", LIMIT)
    ((label,),) = rows(gateway, "SELECT label FROM history")
    assert label & Label.MAYBE_DELIVERED
    figures = gateway.metrics()
    assert figures["postroom_maybe_delivered_total"] == 1
    assert figures["postroom_ledger_difference"] == 0
    said_in_the_log(gateway)


@pytest.mark.parametrize("case", CASES)
def test_with_hold_a_person_decides_and_sees_it_everywhere(starting: Starter, reluctant: Reluctant, case: str) -> None:
    gateway = starting(LEASE + '\n[delivery]\nmaybe_delivered = "hold"\n' + route_to(reluctant))
    into_doubt(gateway, reluctant, case)
    eventually(lambda: gateway.metrics()['postroom_queue_entries{queue="held"}'] == 1, "it is held", LIMIT)

    (entry,) = done("queue", "list", "--data", gateway.data)
    assert (entry["queue"], entry["maybeDelivered"]) == ("held", True)
    assert "maybe delivered: " in run("queue", "list", "--data", gateway.data).stdout
    assert "may have been delivered: an attempt got" in run("queue", "show", entry["id"], "--data", gateway.data).stdout
    assert "May have been delivered" in console_page(gateway, "/console/?queue=held")
    assert "May have been delivered." in console_page(gateway, f"/console/entries/{entry['id']}")
    figures = gateway.metrics()
    assert figures["postroom_maybe_delivered_total"] == 1
    assert figures["postroom_ledger_difference"] == 0
    said_in_the_log(gateway)
    assert len(reluctant.taken) == 1, "sent again though a person was to decide"

    assert done("queue", "release", entry["id"], "--data", gateway.data)["done"] == [entry["id"]]
    assert reluctant.wait_until(lambda taken: len(taken) == 2, LIMIT), "not sent after its release"
    eventually(lambda: gateway.queued() == 0, "the queue is empty", LIMIT)
    ((label,),) = rows(gateway, "SELECT label FROM history")
    assert label & Label.MAYBE_DELIVERED, "the label is not forgotten with the release"


def labelled(gateway: Gateway) -> list[bool]:
    return [bool(label & Label.MAYBE_DELIVERED) for (label,) in rows(gateway, "SELECT label FROM entry")]


def said_in_the_log(gateway: Gateway) -> None:
    eventually(
        lambda: any("maybe_delivered" in line and " id=" in line for line in gateway.log.read_text().splitlines()),
        "the log names the entry",
        LIMIT,
    )


def console_page(gateway: Gateway, path: str) -> str:
    admin = json.loads((gateway.data / "admin.json").read_text())
    with httpx.Client(base_url=f"http://{gateway.http[0]}:{gateway.http[1]}", timeout=LIMIT) as visitor:
        found = re.search(r'name="token" value="([0-9a-f]{64})"', visitor.get("/console/login").text)
        assert found
        given = {"token": found[1], "email": admin["email"], "password": admin["password"]}
        assert visitor.post("/console/login", data=given).status_code == 303
        return visitor.get(path).text
