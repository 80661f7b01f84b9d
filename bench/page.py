"""`make bench-page`: memory at rest and with 100,000 entries queued, and then the time for a first page of 100.

The entries come in over SMTP, through the running gateway with its processing paused; they differ in subject, people,
size and route. The page is requested as the compatible API requires: signed, on one kept connection, machine idle.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import statistics
import sys
import time
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import uvloop

from bench import duel, machine
from bench.gateway import Gateway
from bench.mail import Writer
from bench.sender import send_all
from postroom.store.sqlite.search_index import BEHIND
from postroom_client import Credentials, signed_headers

PATH = "/api/gateway/find-processing-messages"
PAGE = 100
REQUESTS = 500
MIB = 1024 * 1024
BARS = {"memory at rest": 120.0, "memory with the queue full": 250.0, "first page, p99": 20.0}
SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[processing]
paused = true

[api]
rate_limit = "1000000 per 1 second"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory and the first page, with many entries queued.")
    parser.add_argument("--entries", type=int, default=100_000, help="queued during the run (100,000)")
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"requests timed ({REQUESTS})")
    parser.add_argument("--work", type=Path, help="a directory on the disk to measure (bench-data)")
    chosen = parser.parse_args()
    if min(chosen.entries, chosen.requests) < 1:
        parser.error("--entries and --requests must be at least 1")
    with duel.work_directory(chosen.work) as work, Gateway(work / "postroom", SETTINGS) as gateway:
        machine.settle()
        at_rest = machine.resident_of(gateway.pid) / MIB
        print(f"  at rest: {at_rest:.0f} MiB", flush=True)
        seconds = fill(gateway, chosen.entries)
        if gateway.queued() != chosen.entries:
            raise RuntimeError(f"{gateway.queued()} entries are queued, {chosen.entries} were acknowledged")
        print(
            f"  {chosen.entries:,} entries queued in {seconds:.0f} s ({chosen.entries / seconds:,.0f} a second)",
            flush=True,
        )
        time.sleep(BEHIND + 2)  # the search index is filled behind, and only then
        machine.settle(120)
        times = ask(gateway, chosen.requests)
        machine.settle()
        full = machine.resident_of(gateway.pid) / MIB
        print(f"  with the queue full: {full:.0f} MiB, {machine.private_of(gateway.pid) / MIB:.0f} MiB of it its own")
        report(chosen.entries, at_rest, full, times)
    return 0


def fill(gateway: Gateway, entries: int) -> float:
    """Queues the entries; returns the seconds until the last acknowledgement."""
    mails = Writer(random.Random(2026)).mails(entries)
    begin = time.perf_counter()
    uvloop.run(asyncio.wait_for(send_all(gateway.smtp, mails, sessions=20), 1800))
    return time.perf_counter() - begin


def ask(gateway: Gateway, requests: int, *, warm_up: int = 20) -> list[float]:
    """Milliseconds from the first byte of each request to the last of its answer."""
    credentials = Credentials.from_admin_json(gateway.data / "admin.json")
    body = json.dumps({"meta": {"pagination": {"pageSize": PAGE}}, "data": [{"type": "processing"}]}).encode()
    connection = http.client.HTTPConnection(*gateway.http, timeout=30)
    times = []
    for number in range(requests + warm_up):
        headers = signed_headers(credentials, PATH, now=datetime.now(UTC), request_id=str(uuid.uuid4()))
        begin = time.perf_counter()
        connection.request("POST", PATH, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        elapsed = (time.perf_counter() - begin) * 1000
        if number == 0:
            _check(answer.status, content)
        if number >= warm_up:
            times.append(elapsed)
    connection.close()
    return times


def _check(status: int, content: bytes) -> None:
    found = json.loads(content) if status == 200 else {}
    if found.get("fail") or len(found.get("data", [{}])[0].get("messages", [])) != PAGE:
        raise RuntimeError(f"expected a page of {PAGE}, got {status}: {content[:300]!r}")


def report(entries: int, at_rest: float, full: float, times: list[float]) -> None:
    p50, p99 = duel.percentile(times, 50), duel.percentile(times, 99)
    values = {"memory at rest": at_rest, "memory with the queue full": full, "first page, p99": p99}
    print(f"\npage: {entries:,} entries queued, {len(times)} signed requests for {PAGE} on one connection\n")
    results = []
    for what, value in values.items():
        bar, unit = BARS[what], "ms" if "page" in what else "MiB"
        reached = value <= bar
        print(f"  {what:<30}{value:8.1f} {unit:<4} bar {bar:g} {unit:<4} {'reached' if reached else 'NOT reached'}")
        results.append({"what": what, "value": round(value, 2), "unit": unit, "bar": bar, "reached": reached})
    print(
        f"  first page: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(times):.1f} ms, "
        f"mean {statistics.mean(times):.1f} ms"
    )
    path = duel.RESULTS / "page.json"
    document = {
        "what": "page", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.description(),
        "versions": {"postroom": version("postroom")}, "entries": entries, "bars": results, "milliseconds": times,
    }  # fmt: skip
    path.write_text(json.dumps(document, indent=1) + "\n")
    print(f"\nall measurements: {os.path.relpath(path)}")


if __name__ == "__main__":
    sys.exit(main())
