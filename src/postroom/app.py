"""The composition root: settings in, every object built once, started in order, stopped in reverse.

Promises: what is in hand when a stop is asked for (SIGTERM, SIGINT) is finished or given back within GRACE; a second signal
ends at once. `admin.json` tells where we really listen. Fails: one clear line and exit status 1 when something around us
does not work (port taken, directory locked, unknown schema); 2 for wrong settings.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

import apsw
import msgspec
import uvloop

from postroom import checks
from postroom.clock import SystemClock
from postroom.errors import EnvironmentFailed, PostroomError, SettingsError
from postroom.http.server import HttpServer
from postroom.http.services import Services
from postroom.model import Scope
from postroom.sealing import Sealer
from postroom.settings import Address, Settings
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.server import SmtpServer
from postroom.smtp_out.pool import Pool
from postroom.store import identity
from postroom.store.actions import pause, resume
from postroom.store.store import Store, open_store
from postroom.telemetry import Counts, Log
from postroom.worker import Worker

GRACE = 10.0  # seconds for what is in hand at a stop
LOG_FLUSH = 0.2  # seconds
DISK_LOOK = 1.0  # seconds
REAP_EVERY = 60.0  # seconds
REAP_STEPS = 100  # of one round, each a short transaction of its own
SWITCH = 0.00005  # seconds the writer may have to wait for the interpreter (docs/decisions/0007)
SETTINGS_ACTOR = "settings"


class Gateway:
    """One serving process: built, started, waited for, stopped."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings = _with_hostname(settings)
        self.clock = SystemClock()
        self.counts = Counts()
        self.log = Log(level=settings.log.level, format=settings.log.format, clock=self.clock, counts=self.counts)
        self._disk_free = sys.maxsize
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        data = Path(settings.data)
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sealer = Sealer.from_file(data / "secrets.key")
        self.store: Store = open_store(settings, clock=self.clock, log=self.log, counts=self.counts)

    async def start(self) -> None:
        settings, log, counts, clock = self.settings, self.log, self.counts, self.clock
        loop = asyncio.get_running_loop()
        self.store.attach(loop)
        await self.store.write(lambda connection: _pause_by_settings(connection, settings, clock.now()))
        self._look_at_disk()
        self.runner = checks.Runner(checks.build(settings, log=log), log=log)
        self.pool = Pool(
            settings.delivery, hostname=settings.gateway.hostname, log=log, counts=counts, loop=loop, clock=clock
        )
        self.worker = Worker(settings, self.store, self.runner, self.pool, clock=clock, log=log, counts=counts)
        self.worker.blocked = self.blocked
        await self.worker.prepare()
        receiver = Receiver(
            settings,
            intake=self.worker.intake,
            admission=self._admission,
            bodies=self.store.bodies,
            clock=clock,
            log=log,
            counts=counts,
        )
        self.smtp = SmtpServer(settings, receiver, log=log, counts=counts, loop=loop)
        await self.smtp.start()
        services = Services(self.store, settings, clock, log, counts, self.sealer, self.not_ready)
        self.http = HttpServer(settings, services, log)
        await self.http.start()
        self._tasks = [asyncio.create_task(self._flushing()), asyncio.create_task(self._housekeeping())]
        # The doors are open and every port is ours: only now is anything claimed and sent.
        await self.worker.start()
        await self._announce()

    async def _announce(self) -> None:
        smtp = str(_reachable(self.smtp.addresses[0]))
        base_url = f"http://{_reachable(self.http.addresses[0])}"
        path = Path(self.settings.data) / "admin.json"
        await self.store.write(lambda connection: identity.bootstrap(connection, self.sealer, base_url, smtp, path))
        orphans = await self.store.collect_orphans()
        if orphans:
            self.log.info("orphans_deleted", bodies=orphans)
        ended, labelled = self.store.recovered
        if ended:
            self.log.warning("recovered", leases=ended, maybe_delivered=labelled)
        self.log.info(
            "ready", smtp=" ".join(map(str, self.smtp.addresses)), http=" ".join(map(str, self.http.addresses)),
            data=self.settings.data, pid=os.getpid(),
        )  # fmt: skip
        self.log.flush()

    async def stop(self) -> None:
        """In the order of the way of a message, so that nothing new comes behind what is being finished."""
        self._closing = True
        self.log.info("stopping")
        try:
            await self.smtp.stop(GRACE / 2)
            await self.worker.close_intake()
            await self.pool.close(int(GRACE / 2 * 1000))
            await self.runner.close()
            await self.worker.stop()
        finally:
            await self.http.stop(1.0)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        self.store.close()
        self.log.info("stopped")
        self.log.flush()

    # -- whether mail may come in and go on

    def blocked(self) -> str:
        """Why nothing may be worked on just now; empty = it may."""
        if self._disk_free < self.settings.limits.disk_low:
            return (
                f"disk low: {self._disk_free >> 20} MiB free, at least {self.settings.limits.disk_low >> 20} MiB needed"
            )
        return f"store not writable: {self.store.failing}" if self.store.failing else ""

    def not_ready(self) -> list[str]:
        """For /health/ready."""
        reasons = [self.blocked()] if self.blocked() else []
        return [*reasons, "stopping"] if self._closing else reasons

    def _admission(self) -> bytes | None:
        """The reply that closes the door, or None."""
        if self._disk_free < self.settings.limits.disk_low:
            return b"452 4.3.1 Insufficient system storage, try again later\r\n"
        if self.store.failing:
            return b"452 4.3.0 The queue cannot be written just now, try again later\r\n"
        return None

    def _look_at_disk(self) -> None:
        state = os.statvfs(self.store.path.parent)
        free = state.f_bavail * state.f_frsize
        low = self.settings.limits.disk_low
        if (free < low) != (self._disk_free < low):
            self.log.warning("disk_low" if free < low else "disk_fine", free_mib=free >> 20, needed_mib=low >> 20)
        self._disk_free = free

    # -- what goes on beside mail

    async def _flushing(self) -> None:
        while True:
            await asyncio.sleep(LOG_FLUSH)
            self.log.flush()

    async def _housekeeping(self) -> None:
        reaped = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(DISK_LOOK)
            try:
                self._look_at_disk()
                if loop.time() - reaped > REAP_EVERY:
                    reaped = loop.time()
                    before = self.clock.now() - self.settings.retention.history
                    for _ in range(REAP_STEPS):
                        if not await self.store.reap(before) and not await self.store.spare_pages():
                            break
            except (OSError, EnvironmentFailed) as problem:
                self.log.warning("housekeeping_failed", problem=str(problem))
            except Exception as bug:  # noqa: BLE001 - the look at the disk must go on
                self.log.error("housekeeping_failed", trace="".join(traceback.format_exception(bug)), bug="yes")


async def serve(gateway: Gateway) -> int:
    """Start, run until a signal, stop."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            os._exit(1)  # a second signal: what is leased is found at the next start
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    await gateway.start()
    # Everything built at start lives as long as the process: the collector need not walk it again and again, and
    # a message leaves no cycles behind.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH)
    gc.set_threshold(20_000, 50, 100)
    await asked.wait()
    await gateway.stop()
    return 0


def run(settings: Settings) -> int:
    """Serve until stopped; the exit status."""
    gateway: Gateway | None = None
    try:
        gateway = Gateway(settings)
        return uvloop.run(serve(gateway))
    except SettingsError as problem:
        print(*problem.problems, sep="\n", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except (PostroomError, OSError) as problem:
        print(f"postroom: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        if gateway is not None:
            gateway.close()


def _reachable(address: Address) -> Address:
    """An address that listens everywhere, as this machine can call it."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return Address(loopback.get(address.host, address.host), address.port)


def _with_hostname(settings: Settings) -> Settings:
    if settings.gateway.hostname:
        return settings
    return msgspec.structs.replace(
        settings, gateway=msgspec.structs.replace(settings.gateway, hostname=socket.getfqdn() or "localhost")
    )


def _pause_by_settings(connection: apsw.Connection, settings: Settings, now: int) -> None:
    """A pause that the settings ask for is in force from the start; one they no longer ask for is lifted."""
    for scope, wanted in ((Scope.PROCESSING, settings.processing.paused), (Scope.DELIVERY, settings.delivery.paused)):
        by_settings = connection.execute(
            "SELECT 1 FROM pause WHERE scope = ? AND actor = ?", (scope.value, SETTINGS_ACTOR)
        ).fetchall()
        if wanted:
            pause(connection, scope, SETTINGS_ACTOR, now)
        elif by_settings:
            resume(connection, scope)
