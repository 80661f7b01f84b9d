"""The composition root: settings in, every object built once, started in order, stopped in reverse.

Promises: on SIGTERM or SIGINT the gateway finishes or gives back its work within GRACE; a second signal ends it at
once. `admin.json` has the addresses it really listens on. Fails: one clear line and exit status 1 when something around
us does not work (port taken, directory locked, unknown schema); exit status 2 for wrong settings.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from postroom import checks
from postroom.clock import SystemClock
from postroom.errors import EnvironmentFailed, PostroomError, SettingsError
from postroom.http.listener.server import HttpServer
from postroom.http.services import Services
from postroom.model import Scope
from postroom.sealing import KEY_NAME, Sealer, make_directory
from postroom.settings import Address, Settings
from postroom.settings.reload import plan
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.rejections import Rejections
from postroom.smtp_in.server import SmtpServer
from postroom.smtp_out.pool import Pool
from postroom.store import Store, access, logs, open_store
from postroom.supervisor import Supervisor
from postroom.telemetry import Counts, Log
from postroom.work.pressure import Pressure, ask_for_descriptors
from postroom.work.upkeep import Upkeep
from postroom.work.worker import Worker

GRACE = 10.0  # seconds to finish the work in hand at a stop
LOG_FLUSH = 0.2  # seconds
LOG_PATIENCE = 1.0  # seconds for the last lines when the log is blocked
SWITCH = 0.00005  # seconds the store's writer may wait for the interpreter (docs/decisions/0007)
PAUSES = {"processing.paused": Scope.PROCESSING, "delivery.paused": Scope.DELIVERY}
CHECKED_BY = ("processing.checks", "processing.max_hops", "smtp.max_size", "smtp.max_header", "antivirus")


class Gateway:
    """One serving process: built, started, waited for, stopped."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings = _with_hostname(settings)
        self.clock = SystemClock()
        self.counts = Counts()
        self.log = Log(level=settings.log.level, format=settings.log.format, clock=self.clock, counts=self.counts)
        self._tasks: list[asyncio.Task[None]] = []
        self._rescheduling: asyncio.Task[None] | None = None
        self._announced = False  # admin.json is written: callers have our addresses, and keys
        data = Path(settings.data)
        make_directory(data)
        self.sealer = Sealer.from_file(data / "secrets.key")
        self.store: Store = open_store(settings, clock=self.clock, log=self.log, counts=self.counts)
        self.pressure = Pressure(settings.limits, self.store, clock=self.clock, log=self.log)
        self.pressure.on_clock_set_back = self._after_clock_set_back

    async def start(self) -> None:
        settings, log, counts, clock = self.settings, self.log, self.counts, self.clock
        loop = asyncio.get_running_loop()
        log.detach()
        self.store.attach(loop)
        await self.store.pause_by_settings({scope: _paused(settings, key) for key, scope in PAUSES.items()})
        self.pressure.look()
        self.runner = checks.Runner(checks.build(settings, log=log), log=log)
        self.pool = Pool(
            settings.delivery, hostname=settings.gateway.hostname, log=log, counts=counts, loop=loop, clock=clock
        )
        self.worker = Worker(settings, self.store, self.runner, self.pool, clock=clock, log=log, counts=counts)
        self.worker.blocked = self.pressure.blocked
        await self.worker.prepare()
        self.receiver = Receiver(
            settings,
            intake=self.worker.intake,
            admission=self.pressure.admission,
            bodies=self.store.bodies,
            clock=clock,
            log=log,
            counts=counts,
            delay=self.pressure.delay,
        )
        self.rejections = Rejections(self._keep_rejections, clock=clock, log=log)
        self.smtp = SmtpServer(settings, self.receiver, log=log, counts=counts, loop=loop, rejections=self.rejections)
        await self.smtp.start()
        services = Services(self.store, settings, clock, log, counts, self.sealer, self.not_ready)
        self.http = HttpServer(settings, services, log)
        await self.http.start()
        self.upkeep = Upkeep(settings, self.store, look_at_disk=self.pressure.look, clock=clock, log=log)
        self._tasks = [asyncio.create_task(self._flushing()), asyncio.create_task(self.upkeep.run())]
        # Every port is ours and open: only now may the worker claim and send.
        await self.worker.start()
        self.store.start_fillers()
        await self._announce()

    async def _announce(self) -> None:
        smtp = str(_reachable(self.smtp.addresses[0]))
        base_url = _base_url(self.settings, _reachable(self.http.addresses[0]))
        path = Path(self.settings.data) / "admin.json"
        await self.store.write(access.create_first_administrator(self.sealer, base_url, smtp, path))
        self._announced = True
        unusable = await self.store.read(access.list_unusable_apps(self.sealer))
        if unusable:
            self.log.warning(
                "applications_unusable", number=len(unusable), names=", ".join(unusable[:10]),
                why=f"their keys were sealed with another {KEY_NAME}",
                remedy=f"put that {KEY_NAME} back and start again, or make new ones: postroom app create",
            )  # fmt: skip
        ended, labelled = self.store.recovered
        if ended:
            self.log.warning("recovered", leases=ended, maybe_delivered=labelled)
        if self.store.clock_was_ahead:
            self._after_clock_set_back()
        self.log.info(
            "ready", smtp=" ".join(map(str, self.smtp.addresses)), http=" ".join(map(str, self.http.addresses)),
            data=self.settings.data, pid=os.getpid(),
        )  # fmt: skip
        self.log.flush()

    async def stop(self) -> None:
        """Stops along the way of a message, so that no stage gets new work while it finishes."""
        self.pressure.stopping = True
        self.log.info("stopping")
        try:
            await self.smtp.stop(GRACE / 2)
            await self.rejections.close()
            await self.worker.close_intake()
            await self.pool.close(int(GRACE / 2 * 1000))
            await self.runner.close()
            await self.worker.stop()
        finally:
            await self.http.stop(1.0)
            tasks = [*self._tasks, *([self._rescheduling] if self._rescheduling else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self.store.close()
        self.log.info("stopped")
        self.log.attach(LOG_PATIENCE)

    # -- new settings while the gateway runs

    async def reload(self, reread: Callable[[], Settings]) -> None:
        """Applies what the file says now; a file with errors changes nothing (docs/decisions/0008)."""
        loop = asyncio.get_running_loop()
        try:
            wanted = _with_hostname(await loop.run_in_executor(None, reread))
            planned = plan(self.settings, wanted)
            chain = checks.build(planned.settings, log=self.log) if planned.touches(*CHECKED_BY) else None
            pauses = {scope: _paused(planned.settings, key) for key, scope in PAUSES.items() if key in planned.changed}
            if pauses:
                await self.store.pause_by_settings(pauses)
        except SettingsError as problem:
            self.log.error("settings_wrong", problems="; ".join(problem.problems), in_force="those from before")
            self.http.guard.trail.note(
                "settings.reload", outcome=logs.FAILED, detail="errors in the settings", logged=True
            )
            return
        except (EnvironmentFailed, OSError) as problem:
            self.log.error("reload_failed", problem=str(problem), in_force="the settings from before")
            return
        self._apply(planned.settings)
        if chain is not None:
            self.runner.apply(chain)
        if planned.waiting:
            self.log.warning("restart_needed", settings=" ".join(planned.waiting))
        changed = " ".join(planned.changed) or "nothing"
        self.log.info("reloaded", changed=changed)
        self.log.apply(
            planned.settings.log.level, planned.settings.log.format
        )  # last: the lines above still follow the old settings
        self.http.guard.trail.note("settings.reload", outcome=logs.DONE, detail=f"changed: {changed}", logged=True)

    def _apply(self, settings: Settings) -> None:
        """Nothing here waits or fails: all settings change together."""
        self.settings = settings
        self.store.apply(settings)
        self.pool.apply(settings.delivery, settings.gateway.hostname)
        self.worker.apply(settings)
        self.receiver.apply(settings)
        self.smtp.apply(settings)
        self.http.apply(settings)
        self.upkeep.apply(settings)
        self.pressure.apply(settings.limits)

    def not_ready(self) -> list[str]:
        """For /health/ready: the reasons why not; empty when ready."""
        return [
            *([] if self._announced else ["starting"]),
            *self.pressure.reasons(),
            *(["an SMTP listener is closed"] if self.smtp.deaf else []),
        ]

    async def _keep_rejections(self, refused: list[logs.NewRejection]) -> None:
        await self.store.write(logs.add_rejections(refused))

    # -- beside the mail

    def _after_clock_set_back(self) -> None:
        self._rescheduling = asyncio.create_task(self._reschedule())

    async def _reschedule(self) -> None:
        try:
            entries = await self.store.reschedule()
            if entries:
                self.log.warning("rescheduled", entries=entries, why="the clock was set back")
        except EnvironmentFailed as problem:
            self.log.warning("reschedule_failed", problem=str(problem))

    async def _flushing(self) -> None:
        while True:
            await asyncio.sleep(LOG_FLUSH)
            self.log.flush()


async def serve(gateway: Gateway, reread: Callable[[], Settings], supervisor: Supervisor) -> int:
    """Start, run until a signal, stop."""
    loop = asyncio.get_running_loop()
    asked, reload_asked = asyncio.Event(), asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            os._exit(1)  # a second signal: the next start recovers open leases
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    loop.add_signal_handler(signal.SIGHUP, reload_asked.set)  # before the start: the default action ends the process
    await gateway.start()
    supervisor.ready()
    # What is built at start lives as long as the process, so the collector need not walk it again and again; a message
    # leaves no cycles behind.
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH)
    gc.set_threshold(20_000, 50, 100)
    reloading = asyncio.create_task(_reloading(gateway, reread, supervisor, reload_asked))
    await asked.wait()
    supervisor.stopping()
    reloading.cancel()
    await asyncio.gather(reloading, return_exceptions=True)
    await gateway.stop()
    return 0


async def _reloading(
    gateway: Gateway, reread: Callable[[], Settings], supervisor: Supervisor, asked: asyncio.Event
) -> None:
    """One reload at a time, however many signals arrive."""
    while True:
        await asked.wait()
        asked.clear()
        supervisor.reloading()
        try:
            await gateway.reload(reread)
        except Exception as bug:  # noqa: BLE001 - the next one may succeed
            gateway.log.error("reload_failed", trace="".join(traceback.format_exception(bug)), bug="yes")
        supervisor.ready()


def run(settings: Settings, reread: Callable[[], Settings] | None = None, notify: str = "") -> int:
    """Serve until stopped and return the exit status.

    `reread` reads the settings again for SIGHUP; `notify` is the service manager's socket (NOTIFY_SOCKET).
    """
    gateway: Gateway | None = None
    try:
        ask_for_descriptors()
        gateway = Gateway(settings)
        return uvloop.run(serve(gateway, reread or (lambda: settings), Supervisor(notify)))
    except SettingsError as problem:
        print(*problem.problems, sep="\n", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except (PostroomError, OSError) as problem:
        if gateway is None or gateway.log.attach(LOG_PATIENCE):
            print(f"postroom: {problem}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        if gateway is not None:
            gateway.close()


def _reachable(address: Address) -> Address:
    """The address as this machine can call it: loopback when we listen on every interface."""
    loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return Address(loopback.get(address.host, address.host), address.port)


def _base_url(settings: Settings, address: Address) -> str:
    """With TLS the host is our name: a certificate hardly ever covers an address."""
    if settings.http.tls.certificate:
        return f"https://{settings.gateway.hostname}:{address.port}"
    return f"http://{address}"


def _with_hostname(settings: Settings) -> Settings:
    if settings.gateway.hostname:
        return settings
    return msgspec.structs.replace(
        settings, gateway=msgspec.structs.replace(settings.gateway, hostname=socket.getfqdn() or "localhost")
    )


def _paused(settings: Settings, key: str) -> bool:
    """The value of one of PAUSES."""
    return settings.processing.paused if key == "processing.paused" else settings.delivery.paused
