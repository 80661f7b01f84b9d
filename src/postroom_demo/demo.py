"""The whole demo: receiver, scanner, gateway, feed, and the terminal. Started in that order, stopped in reverse.

Promises: exit status 0 after Ctrl-C, SIGTERM or the asked time, with nothing left running; when a part dies, its name
and the end of its log are shown, the rest is stopped, and the status is 1. Fails: that way only.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from postroom_demo import words
from postroom_demo.feed import make_feed
from postroom_demo.gateway import Admin, Gateway, GatewayDied, Pace, Ports, free_port, settings_text
from postroom_demo.journal import Journal
from postroom_demo.look import Look, LookFailed, StatusLine, Watcher, fitted
from postroom_demo.receiver import Receiver
from postroom_demo.scanner import Scanner

SCANNER_UP, SCANNER_DOWN = 25.0, 6.0  # seconds
FIRST_LOOK = 1.5  # seconds; there is nothing to see before
LIVE_EVERY = 1.0  # seconds, on a terminal
LINE_EVERY = 5.0  # seconds, elsewhere
LOG_LINES = 15  # of a part that died


@dataclass(frozen=True, slots=True)
class Options:
    data: Path
    seconds: float | None
    rate: float
    seed: int
    smtp: int = 2525
    http: int = 8080
    receiver: int = 2626


class PartDied(Exception):
    """One part of the demo ended by itself."""

    def __init__(self, part: str, reason: str, log: list[str]) -> None:
        super().__init__(f"the {part} died: {reason}")
        self.log = log


class Demo:
    """One run."""

    def __init__(self, options: Options, out: TextIO | None = None) -> None:
        self._options = options
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._stop = asyncio.Event()
        self._last: Look | None = None

    async def run(self) -> int:
        """The exit status."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in signals:
            loop.add_signal_handler(number, self._stop.set)
        try:
            self._options.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            journal = Journal(self._options.data / "demo.log")
        except OSError as problem:
            self._say(f"postroom demo: {self._options.data}: {problem.strerror}")
            return 1
        try:
            await self._run(journal)
        except PartDied as death:
            self._below()
            self._say(f"postroom demo: {death}", *(f"  | {line}" for line in death.log))
            return 1
        else:
            self._say(words.farewell(self._last, self._options.data))
            return 0
        finally:
            for number in signals:
                loop.remove_signal_handler(number)
            journal.close()

    async def _run(self, journal: Journal) -> None:
        pace = Pace.of(self._options.rate)
        async with contextlib.AsyncExitStack() as stack:
            receiver = Receiver(journal=journal)
            stack.push_async_callback(receiver.close)
            receiver_port = await self._listen("receiver", receiver.start, self._options.receiver)
            scanner = Scanner(seconds=pace.scan_seconds, journal=journal)
            stack.push_async_callback(scanner.close)
            scanner_port = await self._listen("scanner", scanner.start, 0)
            ports = Ports(free_port(self._options.smtp), free_port(self._options.http), receiver_port)
            gateway = Gateway(self._options.data, ports)
            self._say("starting the gateway ...")
            admin = await self._start(stack, gateway, settings_text(ports, scanner=scanner_port, pace=pace))
            if admin is None:
                return
            feed = make_feed("127.0.0.1", ports.smtp, seed=self._options.seed, rate=self._options.rate, journal=journal)
            self._say(words.welcome(admin, ports, self._wanted(), self._options.data))
            watcher = Watcher(gateway.url, admin.credentials)
            stack.push_async_callback(watcher.close)
            parts = {
                "gateway": gateway.watch(),
                "scanner": scanner.follow(up=SCANNER_UP, down=SCANNER_DOWN),
                "feed": feed.run(),
                "status line": self._status(watcher),
            }
            async with _together(parts) as tasks:
                await self._until_stopped(tasks, gateway, journal)
            self._below()
            self._say("stopping ...")

    def _below(self) -> None:
        """Below the two rows that are written in place."""
        self._say("\n" if self._live and self._last else "")

    def _wanted(self) -> Ports:
        return Ports(self._options.smtp, self._options.http, self._options.receiver)

    async def _listen(self, part: str, start: Callable[[str, int], Coroutine[Any, Any, int]], port: int) -> int:
        try:
            return await start("127.0.0.1", free_port(port) if port else 0)
        except OSError as problem:
            raise PartDied(part, str(problem), []) from problem

    async def _start(self, stack: contextlib.AsyncExitStack, gateway: Gateway, settings: str) -> Admin | None:
        """None when a stop was asked for meanwhile."""
        stack.push_async_callback(gateway.stop)
        starting = asyncio.create_task(gateway.start(settings))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return None
        try:
            return starting.result()
        except (GatewayDied, OSError) as problem:
            raise PartDied("gateway", str(problem), gateway.last_lines(LOG_LINES)) from problem

    async def _until_stopped(self, tasks: dict[str, asyncio.Task[None]], gateway: Gateway, journal: Journal) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait(
            (*tasks.values(), stopping), timeout=self._options.seconds, return_when=asyncio.FIRST_COMPLETED
        )
        stopping.cancel()
        for part, task in tasks.items():
            if task in done:
                failure = task.exception()
                reason = f"{type(failure).__name__}: {failure}" if failure else "it ended by itself"
                if isinstance(failure, GatewayDied):
                    reason = str(failure)
                log = gateway.last_lines(LOG_LINES) if part == "gateway" else journal.last(part)
                raise PartDied(part, reason, log) from failure

    # -- the terminal

    async def _status(self, watcher: Watcher) -> None:
        line = StatusLine()
        await asyncio.sleep(FIRST_LOOK)
        while True:
            try:
                self._last = look = await watcher.look()
                waiting, gone = line.write(look, time.monotonic())
            except LookFailed as problem:
                waiting, gone = f"(the gateway does not answer: {problem})", ""
            if self._live:  # two rows in place, the cursor left on the first
                self._say(f"\r{fitted(waiting)}\x1b[K\n{fitted(gone)}\x1b[K\r\x1b[A", end="")
            else:
                self._say(f"{time.strftime('%H:%M:%S')} {waiting} | {gone}")
            await asyncio.sleep(LIVE_EVERY if self._live else LINE_EVERY)

    def _say(self, *lines: str, end: str = "\n") -> None:
        with contextlib.suppress(BrokenPipeError):  # `| head` has seen enough; the stop is a signal's business
            print(*lines, sep="\n", end=end, file=self._out, flush=True)


@contextlib.asynccontextmanager
async def _together(parts: dict[str, Coroutine[Any, Any, None]]) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """Runs them as tasks for as long as the block lasts."""
    tasks = {name: asyncio.create_task(part, name=name) for name, part in parts.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
