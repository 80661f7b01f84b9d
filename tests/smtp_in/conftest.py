"""A receiver with a recording intake, and a server on loopback."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import uvloop

from postroom.clock import HandClock
from postroom.errors import StoreUnavailable
from postroom.model import Message
from postroom.settings import Address, GatewaySettings, Settings, Smtp
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.server import SmtpServer
from postroom.store.bodies import Bodies
from postroom.store.records import AcceptDone, Accepted, NewMessage
from postroom.telemetry import Counts, Log
from tests.smtp_in.peer import OPENED

NOW = 1_800_000_000_000


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """These tests run on the event loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def hanging_up() -> AsyncIterator[None]:
    """Whatever a test connected is closed behind it."""
    yield
    while OPENED:
        OPENED.pop().close()


class Intake:
    """What the worker would be: records, and answers at once or when told to."""

    def __init__(self) -> None:
        self.messages: list[NewMessage] = []
        self.waiting: list[tuple[NewMessage, AcceptDone]] = []
        self.at_once = True
        self.failing = False
        self.arrived = asyncio.Event()

    def __call__(self, new: NewMessage, done: AcceptDone) -> None:
        self.messages.append(new)
        self.waiting.append((new, done))
        self.arrived.set()
        if self.at_once:
            self.answer()

    def answer(self) -> None:
        """Answer the oldest that waits."""
        new, done = self.waiting.pop(0)
        if self.failing:
            done(StoreUnavailable("the disk is full"))
            return
        ident = 0xABC0 + len(self.messages)
        message = Message(
            ident, new.client, new.env_from, new.facts, new.size, new.received, new.body, new.body_object, new.body_hash
        )
        done(Accepted(message, tuple(range(ident, ident + len(new.recipients))), True))

    async def next(self) -> NewMessage:
        """Wait until another message has come."""
        await asyncio.wait_for(self.arrived.wait(), 10)
        self.arrived.clear()
        return self.messages[-1]


class Door:
    """The admission: open until `reply` is set."""

    def __init__(self) -> None:
        self.reply: bytes | None = None

    def __call__(self) -> bytes | None:
        return self.reply


class Desk:
    """Everything a receiver needs, and the receiver."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.settings = settings
        self.out = io.StringIO()
        self.clock = HandClock(NOW)
        self.counts = Counts()
        self.log = Log(self.out, clock=self.clock, counts=self.counts)
        self.bodies = Bodies(root)
        self.intake = Intake()
        self.door = Door()
        self.receiver = Receiver(
            settings,
            intake=self.intake,
            admission=self.door,
            bodies=self.bodies,
            clock=self.clock,
            log=self.log,
            counts=self.counts,
        )

    @property
    def logged(self) -> list[str]:
        """The log so far, without its time stamps."""
        self.log.flush()
        return [line.split(" ", 1)[1] for line in self.out.getvalue().splitlines()]


BASE = Settings(
    gateway=GatewaySettings(
        hostname="gw.corp.example", internal_domains=("corp.example",), relay_networks=("127.0.0.2/32",)
    ),
    smtp=Smtp(listen=(Address("127.0.0.1", 0),)),
)


def with_smtp(**changed: object) -> Settings:
    return msgspec.structs.replace(BASE, smtp=msgspec.structs.replace(BASE.smtp, **changed))


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "bodies", BASE)


Starter = Callable[..., "asyncio.Future[tuple[SmtpServer, Desk]]"]


@pytest.fixture
async def serving(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts servers; all are stopped at the end. For them a second passes when a test says `sweep`, however busy the
    machine is; with `by_itself` as the clock goes."""
    started: list[SmtpServer] = []

    async def start(
        settings: Settings = BASE, *, by_itself: bool = False, **changed: object
    ) -> tuple[SmtpServer, Desk]:
        desk = Desk(tmp_path / "bodies", with_smtp(**changed) if changed else settings)
        server = SmtpServer(
            desk.settings,
            desk.receiver,
            log=desk.log,
            counts=desk.counts,
            loop=asyncio.get_running_loop(),
        )
        await server.start()
        if not by_itself:
            assert server._timer is not None
            server._timer.cancel()
        started.append(server)
        return server, desk

    yield start  # type: ignore[misc]
    for server in started:
        await server.stop(0.0)
