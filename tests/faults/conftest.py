"""Every test here starts the gateway as a process of its own, hurts what it stands on, and lets go again."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.gateway import Gateway

from postroom.model import Label
from tests.faults.receiver import SlowReceiver
from tests.system.conftest import eventually, receiver, starting  # noqa: F401 - fixtures
from tests.system.receiver import Receiver, subject_of
from tests.system.test_bad_input import small_disk  # noqa: F401 - a fixture
from tests.system.wire import Sender, a_mail


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("system")


@pytest.fixture
def slow_receiver(tmp_path: Path) -> Iterator[SlowReceiver]:
    with SlowReceiver(tmp_path / "received") as running:
        yield running
        running.let_go()


def readiness(gateway: Gateway) -> tuple[int, list[str]]:
    """What /health/ready says: status and reasons."""
    connection = http.client.HTTPConnection(*gateway.http, timeout=30)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["reasons"]
    finally:
        connection.close()


def not_ready_because(gateway: Gateway, word: str) -> None:
    def says_so() -> bool:
        status, reasons = readiness(gateway)
        return status == 503 and any(word in reason for reason in reasons)

    eventually(says_so, f"/health/ready names {word!r}", 60)


def ready_again(gateway: Gateway) -> None:
    eventually(lambda: readiness(gateway) == (200, []), f"/health/ready is 200 again: {readiness(gateway)}", 60)


def send(gateway: Gateway, subject: str, size: int = 1000, recipient: str = "bob@corp.example") -> bytes:
    with Sender(gateway.smtp) as sender:
        return sender.mail(a_mail(subject, size), recipient)


def logged(gateway: Gateway, event: str) -> list[str]:
    """The lines of this event so far."""
    found = re.compile(rf"^\S+ \w+ {event}( |$)")
    return [line for line in gateway.log.read_text(errors="replace").splitlines() if found.match(line)]


def rows(gateway: Gateway, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{gateway.data / 'postroom.db'}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()


def subjects(hop: Receiver) -> Counter[str]:
    return Counter(subject_of(one.content) for one in list(hop.taken))


def all_delivered(gateway: Gateway, hop: Receiver, acked: set[str]) -> None:
    """Nothing lost, nothing twice without a label, the ledger even, the queue empty."""
    assert hop.wait_until(lambda taken: acked <= {subject_of(one.content) for one in taken}, 60), acked - set(
        subjects(hop)
    )
    eventually(lambda: gateway.queued() == 0, "the queue is empty", 60)
    assert gateway.metrics()["postroom_ledger_difference"] == 0
    labels = dict(rows(gateway, "SELECT subject, label FROM history"))
    twice = {subject for subject, times in subjects(hop).items() if times > 1}
    assert {subject for subject in twice if not labels[subject] & Label.MAYBE_DELIVERED} == set()
