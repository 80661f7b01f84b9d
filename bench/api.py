"""`make bench-api`: calls per second for a page of 25 of 100,000 queued entries.

The gateway runs on one core, the caller on another. `bench.fill` makes the queue; the gateway does nothing else
meanwhile. All calls are signed before the clock starts, each with its own id. The caller sends them on a few kept
connections and only writes, reads and counts, so that it is not the limit; the report shows how much of its core it
uses. Rounds take turns: signed and with a token, one call at a time and several at once.

Promises: every answer is a whole page of 25; the gateway stays on its one core with all its threads. On a machine with
one core both share it, and the output says so. Fails: RuntimeError for any other answer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import selectors
import socket
import statistics
import sys
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from bench import duel, machine
from bench.fill import fill
from bench.gateway import Gateway
from postroom_client import Credentials, signed_headers

PATH = "/api/gateway/find-processing-messages"
PAGE = 25
AIM = 2000.0  # signed calls per second, several at once
CALLS = 10_000
ROUNDS = 3
SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[processing]
paused = true

[delivery]
paused = true

[limits]
queued_entries = 0

[api]
rate_limit = "10000000 per 1 second"
"""
BODY = json.dumps({"meta": {"pagination": {"pageSize": PAGE}}, "data": [{"type": "processing"}]}).encode()


@dataclass(frozen=True)
class Run:
    what: str
    connections: int
    calls: int
    seconds: float
    server_cpu: float  # microseconds per call
    caller_share: float  # of its core, at most 1
    milliseconds: list[float] = field(repr=False)

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description="Calls per second on one core, with many entries queued.")
    parser.add_argument("--entries", type=int, default=100_000, help="queued during the run (100,000)")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"calls timed in each round ({CALLS:,})")
    parser.add_argument(
        "--connections", type=int, default=8, help="connections in the rounds with several calls at once (8)"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each kind, in turn ({ROUNDS})")
    parser.add_argument("--work", type=Path, help="a directory on the disk to measure (bench-data)")
    chosen = parser.parse_args()
    if min(chosen.entries, chosen.calls, chosen.connections, chosen.rounds) < 1 or chosen.entries < PAGE:
        parser.error(f"all numbers must be at least 1, --entries at least {PAGE}")
    with duel.work_directory(chosen.work) as work:
        filled(work / "postroom" / "data", chosen.entries)
        with Gateway(work / "postroom", SETTINGS) as gateway:
            apart = on_one_core(gateway.pid)
            machine.settle()
            runs = list(rounds(gateway, chosen))
    report(chosen, runs, apart)
    return 0


def filled(data: Path, entries: int) -> None:
    data.mkdir(parents=True, mode=0o700)
    with click.progressbar(length=entries, label=f"queueing {entries:,} entries", file=sys.stderr) as bar:
        done = 0

        def progress(now: int) -> None:
            nonlocal done
            bar.update(now - done)
            done = now

        fill(data, entries, mix={"processing": 100}, progress=progress)


def on_one_core(pid: int) -> bool:
    """Puts the gateway on the first core and this process on the others. False when there is only one core."""
    cores = sorted(os.sched_getaffinity(0))
    for thread in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {cores[0]})
    if len(cores) == 1:
        print("  (one core: the caller shares it with the gateway)", flush=True)
        return False
    os.sched_setaffinity(0, set(cores[1:]))
    return True


def rounds(gateway: Gateway, chosen: argparse.Namespace) -> Iterator[Run]:
    credentials = Credentials.from_admin_json(gateway.data / "admin.json")
    bearer = token(gateway)
    kinds = [("signed", 1), ("signed", chosen.connections), ("token", chosen.connections)]
    for number in range(chosen.rounds):
        for what, connections in kinds:
            calls = signed(credentials, chosen.calls) if what == "signed" else [bearer] * chosen.calls
            if not number:
                measure(gateway, what, connections, calls[: max(200, chosen.calls // 10)])  # the first ones warm up
                calls = signed(credentials, chosen.calls) if what == "signed" else calls
            run = measure(gateway, what, connections, calls)
            print(
                f"  {what:<7} {connections:>2} at once  {run.rate:8,.0f} calls/s   "
                f"server {run.server_cpu:5.0f} us a call   "
                f"caller {run.caller_share:4.0%} of its core",
                flush=True,
            )
            yield run


def token(gateway: Gateway) -> bytes:
    """The bytes of a call with an access token."""
    admin = json.loads((gateway.data / "admin.json").read_text())
    form = {"grant_type": "client_credentials", "client_id": admin["clientId"], "client_secret": admin["clientSecret"]}
    connection = http.client.HTTPConnection(*gateway.http, timeout=30)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/oauth/token", urllib.parse.urlencode(form), headers)
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return call({"Authorization": f"Bearer {found['access_token']}", "Content-Type": "application/json"})


def signed(credentials: Credentials, number: int) -> list[bytes]:
    now = datetime.now(UTC)
    return [call(signed_headers(credentials, PATH, now=now, request_id=str(uuid.uuid4()))) for _ in range(number)]


def call(headers: dict[str, str]) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: gw.corp.example", *[f"{name}: {text}" for name, text in headers.items()]]
    return "\r\n".join([*lines, f"Content-Length: {len(BODY)}", "", ""]).encode() + BODY


class Line:
    """One kept connection, one call at a time."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = 0.0
        self._received = b""

    def send(self, data: bytes) -> None:
        self.sent = time.perf_counter()
        self.socket.sendall(data)

    def answer(self) -> bytes | None:
        """The whole answer; None while some of it is missing."""
        self._received += self.socket.recv(262_144)
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return None
        self._received = b""
        return head[:12] + body


def measure(gateway: Gateway, what: str, connections: int, calls: list[bytes]) -> Run:
    """Sends all calls; each connection sends the next when it has its answer."""
    waiting = selectors.DefaultSelector()
    lines = [Line(gateway.http) for _ in range(connections)]
    times: list[float] = []
    todo = iter(calls)
    cpu, own, begin = machine.cpu_of(gateway.pid), time.process_time(), time.perf_counter()
    try:
        for line in lines:
            waiting.register(line.socket, selectors.EVENT_READ, line)
            if (first := next(todo, None)) is not None:
                line.send(first)
        while len(times) < len(calls):
            for key, _ in waiting.select(30):
                line = key.data
                answer = line.answer()
                if answer is None:
                    continue
                times.append((time.perf_counter() - line.sent) * 1000)
                if answer[9:12] != b"200" or answer.count(b'"fromEnv"') != PAGE:
                    raise RuntimeError(f"expected a page of {PAGE}, got {answer[:300]!r}")
                if (following := next(todo, None)) is not None:
                    line.send(following)
    finally:
        seconds = time.perf_counter() - begin
        for line in lines:
            line.socket.close()
        waiting.close()
    return Run(
        what, connections, len(calls), seconds, (machine.cpu_of(gateway.pid) - cpu) * 1e6 / len(calls),
        min(1.0, (time.process_time() - own) / seconds), times,
    )  # fmt: skip


def report(chosen: argparse.Namespace, runs: list[Run], apart: bool) -> None:
    print(f"\napi: a page of {PAGE} of {chosen.entries:,} entries, the gateway on one core\n")
    for what, connections in dict.fromkeys((run.what, run.connections) for run in runs):
        same = [run for run in runs if (run.what, run.connections) == (what, connections)]
        rate = statistics.median(run.rate for run in same)
        times = [one for run in same for one in run.milliseconds]
        p50, p99 = duel.percentile(times, 50), duel.percentile(times, 99)
        bar = (
            f"   aim {AIM:,.0f}, {'reached' if rate >= AIM else 'NOT reached'}"
            if what == "signed" and connections > 1
            else ""
        )
        print(f"  {what:<7} {connections:>2} at once  {rate:8,.0f} calls/s   p50 {p50:5.2f} ms  p99 {p99:5.2f} ms{bar}")
    path = duel.RESULTS / "api.json"
    path.parent.mkdir(exist_ok=True)
    document = {
        "what": "api", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.description(),
        "versions": {"postroom": version("postroom")}, "entries": chosen.entries, "page": PAGE, "aim": AIM,
        "apart": apart, "runs": [asdict(run) for run in runs],
    }  # fmt: skip
    path.write_text(json.dumps(document) + "\n")
    print(f"\nall measurements: {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(main())
