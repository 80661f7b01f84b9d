"""The demo's gateway: settings file, process, admin.json.

Promises: the process has ended after `stop`; the end of its log can be shown. Fails: `GatewayDied` when it ends by
itself or does not become ready in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from postroom_client import Credentials

READY_WITHIN = 30.0  # seconds
STOP_WITHIN = 20.0  # seconds; the gateway takes up to ten to finish its work
LOOK_EVERY = 0.1  # seconds
PORTS_TRIED = 50
MAILSHOT_SHARE = 1.4  # of the feed's rate: what the mailshots come to


class GatewayDied(Exception):
    """It is not running; the text says how that was noticed."""


@dataclass(frozen=True, slots=True)
class Ports:
    smtp: int
    http: int
    receiver: int


@dataclass(frozen=True, slots=True)
class Admin:
    """What `admin.json` says."""

    email: str
    password: str
    base_url: str
    credentials: Credentials


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the scanner is, so that something is always in the processing queue, and something gets through."""

    scan_seconds: float
    scanners: int
    in_hand: int

    @classmethod
    def of(cls, rate: float) -> Pace:
        # Longer than the longest gap of the feed: the next message is there before the last one is scanned.
        seconds = max(1.2, 2.6 / rate)
        scanners = math.ceil(rate * MAILSHOT_SHARE * seconds * 1.25)
        return cls(seconds, scanners, scanners + 4)


def free_port(preferred: int) -> int:
    """This port, or the next one nobody listens on."""
    for port in range(preferred, min(preferred + PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise OSError(f"no free port from {preferred} on ({PORTS_TRIED} tried)")


def settings_text(ports: Ports, *, scanner: int, pace: Pace) -> str:
    """`postroom.toml` of the demo."""
    return f"""\
# Written by the demo at each start; the demo's data is in this directory.
data = "."

[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]
relay_networks = ["127.0.0.0/8", "::1"]

[smtp]
listen = ["127.0.0.1:{ports.smtp}"]

[http]
listen = ["127.0.0.1:{ports.http}"]

[processing]
checks = ["size", "structure", "loop", "antivirus"]

[antivirus]                          # the demo's scripted scanner: {pace.scan_seconds:g} s a message, away now and then
address = "127.0.0.1:{scanner}"
concurrency = {pace.scanners}

[bulk]
share = 1                            # mailshots are slow, so that you can watch bulk_processing

[limits]
active_entries = {pace.in_hand}                 # few, so that some wait for their turn

[delivery]
maybe_delivered = "hold"             # entries that may have been delivered wait in held

[[delivery.routes]]                  # all mail goes to the demo's scripted receiver
domain = "*"
host = "127.0.0.1:{ports.receiver}"
"""


class Gateway:
    """`postroom serve` as a process of ours."""

    def __init__(self, data: Path, ports: Ports) -> None:
        self.data = data
        self.ports = ports
        self.url = f"http://127.0.0.1:{ports.http}"
        self.log = data / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, settings: str) -> Admin:
        """Starts it and waits until it is ready."""
        path = self.data / "postroom.toml"
        path.write_text(settings, encoding="utf-8")
        command = [str(Path(sys.executable).with_name("postroom")), "serve", "--config", str(path)]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal is for us, and we tell the gateway.
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(READY_WITHIN):
                await self._ready()
        except TimeoutError:
            await self.stop()
            raise GatewayDied(f"it did not become ready within {READY_WITHIN:g} seconds") from None
        except BaseException:
            await self.stop()
            raise
        return read_admin(self.data / "admin.json")

    async def _ready(self) -> None:
        assert self._process is not None
        async with httpx.AsyncClient(trust_env=False) as http:  # no proxy between us and this machine
            while True:
                if self._process.returncode is not None:
                    raise GatewayDied(f"it ended with exit status {self._process.returncode}")
                with contextlib.suppress(httpx.RequestError):
                    answer = await http.get(f"{self.url}/health/ready")
                    if answer.status_code == 200 and (self.data / "admin.json").exists():
                        return
                await asyncio.sleep(LOOK_EVERY)

    async def watch(self) -> None:
        """Returns only by raising: when the process ends."""
        assert self._process is not None
        status = await self._process.wait()
        raise GatewayDied(f"it ended with exit status {status}")

    async def stop(self) -> None:
        """Politely, then not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN):
                await process.wait()
        except TimeoutError:
            pass
        finally:  # also when we are cancelled: nothing is left running
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def last_lines(self, number: int) -> list[str]:
        """The end of its log."""
        try:
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-number:]
        except OSError as problem:
            return [f"({self.log}: {problem.strerror})"]


def read_admin(path: Path) -> Admin:
    content = json.loads(path.read_bytes())
    return Admin(content["email"], content["password"], content["baseUrl"], Credentials.from_admin_json(path))
