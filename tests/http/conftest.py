"""A real server on a real store, and a client that speaks plain HTTP so that every byte is seen."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from postroom.clock import HandClock, SystemClock
from postroom.http.listener.server import HttpServer
from postroom.http.services import Services
from postroom.model import Client, Facts, Queue, Recipient, Route
from postroom.sealing import Sealer
from postroom.settings import Address, Http, Settings
from postroom.store.access import identity
from postroom.store.records import Accepted, NewMessage
from postroom.store.store import Store, open_store
from postroom.telemetry import Counts, Log

FIND = "/api/gateway/find-processing-messages"
GOLDEN = Path(__file__).parent.parent / "golden"
START = 1_800_000_000_000


class Quiet(io.TextIOBase):
    """Where the log of a test goes; `lines` are read by the tests that mean it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        self.lines.append(text)
        return len(text)


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def messages(self) -> list[dict[str, Any]]:
        assert self.json["fail"] == [], self.body
        return self.json["data"][0]["messages"]

    @property
    def pagination(self) -> dict[str, Any]:
        return self.json["meta"]["pagination"]


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed whatever happens; the test checks whether and how the server closed it first."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def talk(address: Address, request: bytes) -> Answer:
    """One request on one connection."""
    async with connected(address) as (reader, writer):
        writer.write(request)
        await writer.drain()
        return await read_answer(reader)


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *lines = head.rstrip().split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name not in headers, f"header {name} twice"
        headers[name] = value
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(status.split()[1]), headers, body)


def request_bytes(method: str, target: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: gw.corp.example", *[f"{k}: {v}" for k, v in headers.items()]]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Served:
    """The gateway's HTTP side in a test, with one application of each built-in role."""

    def __init__(
        self, services: Services, server: HttpServer, keys: dict[str, identity.Credentials], told: Quiet
    ) -> None:
        self.told = told
        self.services = services
        self.store = services.store
        self.clock = services.clock
        self.server = server
        self.keys = keys
        self.not_ready: list[str] = []

    @property
    def address(self) -> Address:
        return self.server.addresses[0]

    def signed(
        self, target: str = FIND, *, role: str = identity.ADMINISTRATOR, date: str | None = None, **changed: str
    ) -> dict[str, str]:
        """The headers of a signed request; `changed` replaces pieces, header or key, after or before signing."""
        keys = self.keys[role]
        now = self.clock.now() // 1000
        date = date if date is not None else formatdate(now, usegmt=True).replace("GMT", "UTC")
        ident = changed.get("request_id", str(uuid.uuid4()))
        app_key = changed.get("app_key", keys.app_key)
        secret = base64.b64decode(changed.get("secret_key", keys.secret_key))
        text = f"{date}:{ident}:{changed.get('signs', target)}:{app_key}"
        signature = base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha1).digest()).decode()
        return {
            "Authorization": f"MC {changed.get('access_key', keys.access_key)}:{signature}",
            "x-mc-app-id": changed.get("app_id", keys.app_id),
            "x-mc-date": date,
            "x-mc-req-id": ident,
            "Content-Type": "application/json",
        }

    async def post(self, target: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        return await talk(self.address, request_bytes("POST", target, headers, body))

    async def get(self, target: str, headers: dict[str, str] | None = None) -> Answer:
        return await talk(self.address, request_bytes("GET", target, headers or {}))

    async def token(self, role: str = identity.ADMINISTRATOR) -> str:
        """An access token, asked for as clients do."""
        keys = self.keys[role]
        form = {"grant_type": "client_credentials", "client_id": keys.client_id, "client_secret": keys.client_secret}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return str((await self.post("/oauth/token", headers, urlencode(form).encode())).json["access_token"])

    async def bearer(self, role: str = identity.ADMINISTRATOR) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.token(role)}", "Content-Type": "application/json"}

    async def find(self, item: dict[str, Any] | None = None, **pagination: Any) -> Answer:
        """A well-formed call."""
        body: dict[str, Any] = {"data": [item or {}]}
        if pagination:
            body["meta"] = {"pagination": pagination}
        return await self.post(FIND, self.signed(), json.dumps(body).encode())

    async def put(self, *recipients: str, locked_until: int | None = None, **given: Any) -> Accepted:
        """A message in the queue; its id's time is the clock's."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        message = a_message(*recipients, received=self.clock.now(), **given)
        self.store.accept(message, locked_until, future.set_result)
        answer = await future
        assert isinstance(answer, Accepted), answer
        return answer


def a_message(
    *recipients: str,
    subject: str = "Quarterly report",
    sender: str = "alice@corp.example",
    header_from: str | None = None,
    name: str = "",
    to_name: str = "",
    queue: Queue = Queue.PROCESSING,
    route: Route = Route.INBOUND,
    attachment: bool = False,
    ip: str = "192.0.2.7",
    size: int = 7110,
    received: int = START,
) -> NewMessage:
    return NewMessage(
        Client(ip=ip, helo="client.example"),
        sender,
        tuple(Recipient(address, route, to_name) for address in recipients or ("bob@corp.example",)),
        Facts(from_address=sender if header_from is None else header_from, from_name=name, subject=subject,
              attachment=attachment, body_at=30),
        size, received, b"Subject: Quarterly report\r\n\r\nHello\r\n", "", b"\x01" * 16, queue=queue,
    )  # fmt: skip


Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts the HTTP side; everything is stopped at the end."""
    started: list[Served] = []

    async def start(*, clock: HandClock | SystemClock | None = None, **changed: Any) -> Served:
        clock = clock or HandClock(START)
        counts = Counts()
        told = Quiet()
        log = Log(told, clock=clock, counts=counts)
        settings = Settings(data=str(tmp_path), http=Http(listen=(Address("127.0.0.1", 0),)))
        settings = msgspec.structs.replace(settings, **changed)
        sealer = Sealer.at(tmp_path)
        store: Store = open_store(settings, clock=clock, log=log, counts=counts)
        store.attach(asyncio.get_running_loop())
        served: Served

        def ready() -> list[str]:
            return served.not_ready

        services = Services(store, settings, clock, log, counts, sealer, ready)
        server = HttpServer(settings, services, log)
        keys = {
            role: await store.write(lambda tx, role=role: identity.create_app(tx, sealer, name=role, role=role))
            for role in (identity.ADMINISTRATOR, identity.MONITOR)
        }
        served = Served(services, server, keys, told)
        await server.start()
        started.append(served)
        return served

    yield start
    for served in started:
        await served.server.stop(1)
        served.store.close()


@pytest.fixture
async def served(serve: Serve) -> Served:
    return await serve()


def golden(name: str) -> bytes:
    """The exact bytes of an answer, as recorded or as decided; one line, without the newline at its end."""
    return (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")
