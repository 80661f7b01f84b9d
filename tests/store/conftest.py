"""The store under test: the engine is a fixture, so that a second one runs the same suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from postroom.clock import HandClock
from postroom.model import Client, Facts, Queue, Recipient, Route
from postroom.settings import Settings
from postroom.store.records import Accepted, NewMessage
from postroom.store.sqlite.writer import Batch
from postroom.store.store import Store, open_store

ENGINES = ("sqlite",)


@pytest.fixture(params=ENGINES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    assert request.param == "sqlite"
    return Settings(data=str(tmp_path))


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1_800_000_000_000)


Opener = Callable[..., Store]


@pytest.fixture
def opening(settings: Settings, clock: HandClock) -> Iterator[Opener]:
    """Opens the store; whatever was opened is closed at the end."""
    opened: list[Store] = []

    def open_it(**changed: object) -> Store:
        beside = bool(changed.pop("beside", False))
        store = open_store(msgspec.structs.replace(settings, **changed), clock=clock, beside=beside)
        opened.append(store)
        return store

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(opening: Opener) -> Store:
    return opening()


def a_message(
    *recipients: str,
    subject: str = "Quarterly report",
    sender: str = "alice@corp.example",
    body: bytes = b"Subject: Quarterly report\r\n\r\nHello\r\n",
    queue: Queue = Queue.PROCESSING,
    route: Route = Route.INBOUND,
    attachment: bool = False,
    ip: str = "192.0.2.7",
    received: int = 1_800_000_000_000,
) -> NewMessage:
    return NewMessage(
        Client(ip=ip, helo="client.example"),
        sender,
        tuple(Recipient(address, route) for address in recipients or ("bob@corp.example",)),
        Facts(from_address=sender, from_name="Alice Äpfel", to_header="Bob <bob@corp.example>", subject=subject,
              attachment=attachment, body_at=30),
        len(body), received, body, "", b"\x01" * 16, queue=queue,
    )  # fmt: skip


def accepted(store: Store, message: NewMessage, *, lease_until: int | None = None) -> Accepted:
    """Accept and wait for the commit."""
    answers: list[object] = []
    hand(store, lambda batch: batch.arrivals.append((message, lease_until, answers.append)))
    (answer,) = answers
    assert isinstance(answer, Accepted), answer
    return answer


def hand(store: Store, fill: Callable[[Batch], None]) -> None:
    """One batch to the writer, as a turn of the event loop would, and wait until it is committed and answered."""
    batch = Batch()
    fill(batch)
    store._engine.hand(batch)
    store.write_now(lambda tx: None)
