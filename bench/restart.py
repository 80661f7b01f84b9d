"""`python -m bench.restart`: how soon a gateway with a million entries takes mail again, and how much memory it needs.

`bench.fill` makes the queue; settings pause all stages, so that nothing is delivered. Three ways to start: with the
database in the page cache; without (its pages are dropped first); and after `kill -9` while entries were leased and the
log was not checkpointed. The times run from the start of the process to the first `220`, and to the `250` of a first
message.

Promises: nothing leaves; every process it starts is stopped by its process id. Fails: RuntimeError when the gateway
does not start, or refuses the message.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import click

from bench import duel, machine, page
from bench.fill import fill
from bench.gateway import Gateway

MIB = 1024 * 1024
BARS = {"accepting again": 2.0, "memory": 300.0}  # seconds, MiB
START_LIMIT = 60.0
LEASED = 1_000  # entries to be leased before the kill
SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[processing]
paused = {paused}

[delivery]
paused = {paused}

[limits]
queued_entries = 0

[[delivery.routes]]
domain = "*"
host = "127.0.0.1:{port}"
"""
MAIL = b"Subject: the first one after the start\r\n\r\nIs anybody there?\r\n.\r\n"


@dataclass(frozen=True)
class Start:
    """One start of the gateway; seconds and MiB."""

    case: str
    greeting: float
    accepted: float
    pss: float
    rss: float
    own: float  # the process's own part, without file pages
    page: float  # milliseconds of the first page of 100
    pss_after_page: float
    metrics: float  # milliseconds of the first /metrics
    recovered: int  # leases of a predecessor


class Served:
    """A gateway on ports chosen before it starts."""

    def __init__(self, work: Path, data: Path, *, paused: bool, route: int) -> None:
        self.data = data
        self.log = work / "postroom.log"
        config = work / "postroom.toml"
        config.write_text(SETTINGS.format(paused=str(paused).lower(), port=route))
        self.smtp, self.http = ("127.0.0.1", _free_port()), ("127.0.0.1", _free_port())
        self._before = self.log.stat().st_size if self.log.exists() else 0
        command = [
            str(Path(sys.executable).with_name("postroom")), "serve", "--config", str(config), "--data", str(data),
            "--smtp", f"127.0.0.1:{self.smtp[1]}", "--http", f"127.0.0.1:{self.http[1]}",
        ]  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        with self.log.open("ab") as log:
            self.begin = time.perf_counter()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def said(self) -> str:
        return self.log.read_bytes()[self._before :].decode(errors="replace")

    def until(self, what: str, condition: Callable[[], bool], limit: float = START_LIMIT) -> None:
        end = time.monotonic() + limit
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the gateway exited or took over {limit:.0f} s: {what}\n{self.said()[-2000:]}")
            time.sleep(0.002)

    def first_message(self) -> tuple[float, float]:
        """Seconds to the first 220, and to the 250 of a message."""
        peer: list[socket.socket] = []

        def connected() -> bool:
            with contextlib.suppress(OSError):
                peer.append(socket.create_connection(self.smtp, timeout=START_LIMIT))
            return bool(peer)

        self.until("takes a connection", connected)
        with peer[0], peer[0].makefile("rb") as replies:
            _expect(replies.readline(), b"220")
            greeting = time.perf_counter() - self.begin
            for command in (b"HELO bench.example", b"MAIL FROM:<alice@corp.example>", b"RCPT TO:<bob@corp.example>"):
                peer[0].sendall(command + b"\r\n")
                _expect(replies.readline(), b"250")
            peer[0].sendall(b"DATA\r\n")
            _expect(replies.readline(), b"354")
            peer[0].sendall(MAIL)
            _expect(replies.readline(), b"250")
            return greeting, time.perf_counter() - self.begin

    def end(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(60)


def _expect(reply: bytes, code: bytes) -> None:
    if not reply.startswith(code):
        raise RuntimeError(f"expected {code.decode()}, got {reply!r}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def memory(pid: int) -> tuple[float, float]:
    """(PSS, RSS) in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    pss, rss = (
        int(found[1]) / 1024 if (found := re.search(rf"^{name}:\s+(\d+)", text, re.M)) else 0.0
        for name in ("Pss", "Rss")
    )
    return pss, rss


def measure(case: str, work: Path, data: Path, route: int, *, end: int = signal.SIGTERM) -> Start:
    served = Served(work, data, paused=True, route=route)
    try:
        greeting, accepted = served.first_message()
        served.until("says that it is ready", lambda: " ready " in served.said())
        machine.settle(10)
        pss, rss = memory(served.process.pid)
        own = machine.private_of(served.process.pid) / MIB
        gateway = Gateway(work / "asking", data=data)
        gateway.smtp, gateway.http = served.smtp, served.http
        first_page = page.ask(gateway, 1, warm_up=0)[0]
        after, _ = memory(served.process.pid)
        begin = time.perf_counter()
        gateway.metrics()
        scrape = (time.perf_counter() - begin) * 1000
        found = re.search(r" recovered leases=(\d+)", served.said())
        return Start(case, greeting, accepted, pss, rss, own, first_page, after, scrape, int(found[1]) if found else 0)
    finally:
        served.end(end)


def drop_pages(data: Path) -> None:
    """Drops the cached pages of these files only, without privilege and without harm to other caches."""
    for path in (data / "postroom.db", data / "postroom.db-wal"):
        if path.exists():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # only pages that are on the disk can be dropped
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """A destination that accepts connections and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        threading.Thread(target=take, daemon=True).start()
        try:
            yield int(server.getsockname()[1])
        finally:
            for peer in taken:
                peer.close()


def kill_while_leased(work: Path, data: Path, route: int) -> None:
    """Kills the gateway while entries are leased and the log is long."""
    served = Served(work, data, paused=False, route=route)
    try:
        served.until("says that it is ready", lambda: " ready " in served.said())
        gateway = Gateway(work / "asking", data=data)
        gateway.smtp, gateway.http = served.smtp, served.http
        served.until("has entries in hand", lambda: gateway.metrics().get("postroom_active_entries", 0) >= LEASED)
    finally:
        served.end(signal.SIGKILL)


def report(entries: int, starts: list[Start]) -> bool:
    print(f"\nrestart with {entries:,} entries queued\n")
    print(
        f"  {'start':<22}{'first 220':>11}{'first 250':>11}{'PSS':>8}{'own':>8}{'page':>9}"
        f"{'PSS then':>10}{'/metrics':>10}{'leases':>8}"
    )
    for one in starts:
        print(
            f"  {one.case:<22}{one.greeting:>9.2f} s{one.accepted:>9.2f} s"
            f"{one.pss:>8.0f}{one.own:>8.0f}{one.page:>6.0f} ms"
            f"{one.pss_after_page:>10.0f}{one.metrics:>7.0f} ms{one.recovered:>8}"
        )
    slowest, most = max(one.accepted for one in starts), max(one.pss_after_page for one in starts)
    reached = {"accepting again": slowest < BARS["accepting again"], "memory": most < BARS["memory"]}
    print(
        f"\n  accepting again: {slowest:.2f} s at most, bar 2 s: "
        f"{'reached' if reached['accepting again'] else 'NOT reached'}"
    )
    print(f"  memory: {most:.0f} MiB at most, bar 300 MiB: {'reached' if reached['memory'] else 'NOT reached'}")
    duel.RESULTS.mkdir(exist_ok=True)
    path = duel.RESULTS / "restart.json"
    document = {
        "what": "restart", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.description(),
        "versions": {"postroom": version("postroom")}, "entries": entries, "starts": [asdict(one) for one in starts],
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nall measurements: {os.path.relpath(path)}")
    return all(reached.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="How soon a gateway with a full queue takes mail again.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries queued (1,000,000)")
    parser.add_argument(
        "--data", type=Path, help="a directory filled by bench.fill, used in place (default: fill a new one)"
    )
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each way to start (2)")
    chosen = parser.parse_args()
    if min(chosen.entries, chosen.rounds) < 1:
        parser.error("--entries and --rounds must be at least 1")
    duel.RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="restart-", dir=duel.RESULTS) as name, silence() as route:
        work = Path(name)
        data = chosen.data or work / "data"
        if chosen.data is None:
            with click.progressbar(length=chosen.entries, label="Queueing", file=sys.stderr) as bar:
                fill(data, chosen.entries, progress=lambda done: bar.update(done - bar.pos))
        starts = []
        for _ in range(chosen.rounds):
            starts.append(measure("pages in the cache", work, data, route))
            drop_pages(data)
            starts.append(measure("pages dropped", work, data, route))
            kill_while_leased(work, data, route)
            starts.append(measure("after kill -9", work, data, route))
            kill_while_leased(work, data, route)
            drop_pages(data)
            starts.append(measure("kill -9, pages dropped", work, data, route))
        return 0 if report(chosen.entries, starts) else 1


if __name__ == "__main__":
    sys.exit(main())
