"""A real store filled through its verbs, and the command line run against it in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from postroom.cli import main
from postroom.clock import SystemClock
from postroom.ids import public_id
from postroom.model import Client, Facts, Outcome, Queue, Recipient, Route
from postroom.settings import Settings
from postroom.store.records import Accepted, EndedEntry, Moved, NewMessage, Waited
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store, open_store


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)


class Gateway:
    """The serving side: owns the directory as `postroom serve` does."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store = store
        self.data = data

    def hand(self, batch: Batch) -> None:
        self.store._engine.hand(batch)
        self.store.write_now(lambda tx: None)

    def accept(
        self,
        *recipients: str,
        sender: str = "alice@corp.example",
        subject: str = "Quarterly report",
        queue: Queue = Queue.PROCESSING,
        route: Route = Route.INBOUND,
        attachment: bool = False,
        ip: str = "192.0.2.7",
        leased: bool = False,
    ) -> list[int]:
        """Accepted and committed; the entries' ids."""
        now = SystemClock().now()
        body = b"Subject: Quarterly report\r\n\r\nHello\r\n"
        facts = Facts(
            from_address=sender, from_name="Alice Äpfel", to_header="Bob <bob@corp.example>", subject=subject,
            message_id="<1@corp.example>", attachment=attachment, body_at=29,
        )  # fmt: skip
        message = NewMessage(
            Client(ip=ip, name="client.example", helo="client.example"), sender,
            tuple(Recipient(address, route, "Bob") for address in recipients or ("bob@corp.example",)),
            facts, len(body), now, body, "", b"\x01" * 16, queue=queue,
        )  # fmt: skip
        answers: list[object] = []
        batch = Batch()
        batch.arrivals.append((message, now + 60_000 if leased else None, answers.append))
        self.hand(batch)
        (answer,) = answers
        assert isinstance(answer, Accepted), answer
        return list(answer.entries)

    def defer(self, entry: int, info: str, *, minutes: int = 5, queue: Queue = Queue.DELIVERY, label: int = 0) -> None:
        """A leased entry goes to delivery and waits there."""
        now = SystemClock().now()
        batch = Batch()
        batch.moves.append((Moved(entry, entry, queue, "Queued for Delivery", 1, now, now), None))
        batch.waits.append(Waited(entry, entry, queue, None, info, 1, now + minutes * 60_000, label, now, "deferred"))
        self.hand(batch)

    def deliver(self, entry: int, message: int, reply: str) -> None:
        now = SystemClock().now()
        batch = Batch()
        batch.ends.append(EndedEntry(entry, entry, message, Queue.DELIVERY, Outcome.DELIVERED, reply, 1, 0, now))
        self.hand(batch)


class Shell:
    """Runs commands as a person would, on the gateway's directory."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.runner = CliRunner()

    def __call__(self, *words: str, input: str | None = None) -> Result:
        result = self.runner.invoke(main, [*words, "--data", str(self.data)], input=input, prog_name="postroom")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: str, exit_code: int = 0) -> Any:
        result = self(*words, "--json")
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    data = tmp_path / "data"
    store = open_store(Settings(data=str(data)))
    yield Gateway(store, data)
    store.close()


@pytest.fixture
def postroom(gateway: Gateway) -> Shell:
    return Shell(gateway.data)


class Mail:
    """Five entries, each in a state of its own."""

    def __init__(self, gateway: Gateway) -> None:
        (self.waiting,) = gateway.accept("bob@corp.example", subject="Quarterly report")
        (self.deferred,) = gateway.accept(
            "carol@example.org", sender="dave@corp.example", subject="Invoice 7", route=Route.OUTBOUND, attachment=True,
            ip="192.0.2.70", leased=True,
        )  # fmt: skip
        gateway.defer(self.deferred, "451 4.3.2 try again later")
        (self.maybe,) = gateway.accept("erin@example.net", sender="dave@corp.example", subject="Invoice 8", leased=True)
        gateway.defer(self.maybe, "connection lost after the final dot", label=1)
        (self.working,) = gateway.accept("frank@corp.example", subject="Lunch", ip="2001:db8::1", leased=True)
        (self.notice,) = gateway.accept(
            "mallory@example.com", sender="", subject="Undelivered \x1b[31mmail\x07\u202e", queue=Queue.SYSTEM, ip=""
        )  # fmt: skip

    @property
    def all(self) -> list[int]:
        return [self.waiting, self.deferred, self.maybe, self.working, self.notice]


@pytest.fixture
def mail(gateway: Gateway) -> Mail:
    return Mail(gateway)


def ids(*idents: int) -> list[str]:
    return [public_id(ident) for ident in idents]
