"""Postroom and Postfix in turn, within the same minutes, with the same messages: one row per server and case.

Promises: each result has the fsync rate at that moment and the CPU time of the run beside it. Both servers stay up for
all rounds and keep their mail; a run begins when the machine is idle. Fails: an error of the load or of a server ends
the benchmark.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import load, machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-data"
SIZE = 5120
ACK_BAR = 50.0  # milliseconds, p99
WARM_UP = 500  # messages
CASES = (("one per connection", False), ("many per connection", True))


@dataclass(frozen=True)
class Server:
    """A server to measure. `finished`: whether its last message counts as done."""

    name: str
    address: tuple[str, int]
    pid: int
    finished: Callable[[], bool]
    share: float = 1.0  # share of the messages: a slower server gets fewer, to keep rounds close in time


@dataclass(frozen=True)
class Run:
    server: str
    case: str
    messages: int  # with the prober's
    seconds: float
    fsync_per_second: int
    cpu_all: float  # microseconds per message, like the two below
    cpu_server: float
    cpu_generator: float
    acks: list[float] = field(repr=False)  # milliseconds

    @property
    def rate(self) -> float:
        return self.messages / self.seconds


def arguments(description: str, messages: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case for each server (3)")
    parser.add_argument(
        "--messages",
        type=int,
        default=messages,
        help=f"messages of one run with many per connection ({messages}); 40 %% of it otherwise",
    )
    parser.add_argument("--sessions", type=int, default=20, help="SMTP sessions at once (20)")
    parser.add_argument("--only", choices=("postroom",), help="measure Postroom alone")
    parser.add_argument("--work", type=Path, help="a directory on the disk to measure (bench-data)")
    chosen = parser.parse_args()
    if min(chosen.rounds, chosen.messages, chosen.sessions) < 1:
        parser.error("--rounds, --messages and --sessions must be at least 1")
    return chosen


@contextlib.contextmanager
def work_directory(wanted: Path | None) -> Iterator[Path]:
    """An empty directory on the disk to measure, removed afterwards; other users may enter it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every started process is stopped
    base = wanted or RESULTS
    base.mkdir(parents=True, exist_ok=True)
    if not all(path.stat().st_mode & 0o001 for path in (base.resolve(), *base.resolve().parents)):
        base = Path("/var/tmp")
        print(f"  (the project is in a private directory, which Postfix's user cannot enter: measuring in {base})")
    path = Path(tempfile.mkdtemp(prefix="run-", dir=base))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def measure(server: Server, case: str, keep: bool, messages: int, sessions: int, work: Path) -> Run:
    machine.settle()
    fsyncs = machine.fsync_rate(work)
    busy, own, generator = machine.busy_seconds(), machine.cpu_of(server.pid), load.generator_seconds()
    begin = time.perf_counter()
    with load.Prober(server.address, SIZE) as prober:
        load.smtp_source(server.address, messages, size=SIZE, sessions=sessions, keep=keep)
        taken = time.perf_counter()
    number = messages + len(prober.seconds)
    until = time.monotonic() + load.LIMIT
    waited = False
    while not server.finished():
        if time.monotonic() > until:
            raise RuntimeError(f"{server.name} did not finish {messages} messages within {load.LIMIT} s")
        waited = True
        time.sleep(0.02)
    seconds = (time.perf_counter() if waited else taken) - begin
    micro = 1e6 / number
    return Run(
        server.name, case, number, seconds, fsyncs,
        (machine.busy_seconds() - busy) * micro,
        (machine.cpu_of(server.pid) - own) * micro,
        (load.generator_seconds() - generator) * micro,
        [second * 1000 for second in prober.seconds],
    )  # fmt: skip


def rounds(servers: list[Server], chosen: argparse.Namespace, work: Path) -> list[Run]:
    """Warm-up, then server by server, case by case, round by round."""
    for server in servers:
        for _, keep in CASES:
            load.smtp_source(server.address, WARM_UP, size=SIZE, sessions=chosen.sessions, keep=keep)
        while not server.finished():
            time.sleep(0.05)
    runs = []
    for number in range(chosen.rounds):
        for case, keep in CASES:
            for server in servers:
                messages = max(1, round(chosen.messages * (1.0 if keep else 0.4) * server.share))
                run = measure(server, case, keep, messages, chosen.sessions, work)
                runs.append(run)
                print(
                    f"  round {number + 1}/{chosen.rounds}  {case:<20}{server.name:<9}{run.rate:8,.0f} msg/s"
                    f"  (fsync {run.fsync_per_second:,}/s, {run.messages:,} messages in {run.seconds:.1f} s)",
                    flush=True,
                )
    return runs


@dataclass(frozen=True)
class Summary:
    case: str
    server: str
    rate: float  # median, messages per second
    slowest: float
    fastest: float
    fsync_per_second: float
    cpu_all: float
    cpu_server: float
    cpu_generator: float
    ack_p50: float
    ack_p99: float
    acks: int


def summaries(runs: list[Run]) -> list[Summary]:
    found = []
    for case, server in dict.fromkeys((run.case, run.server) for run in runs):
        mine = [run for run in runs if (run.case, run.server) == (case, server)]
        rates = [run.rate for run in mine]
        acks = [ack for run in mine for ack in run.acks]
        found.append(
            Summary(
                case, server, statistics.median(rates), min(rates), max(rates),
                statistics.median(run.fsync_per_second for run in mine),
                statistics.median(run.cpu_all for run in mine),
                statistics.median(run.cpu_server for run in mine),
                statistics.median(run.cpu_generator for run in mine),
                percentile(acks, 50), percentile(acks, 99), len(acks),
            )
        )  # fmt: skip
    return found


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def report(
    what: str, runs: list[Run], bars: dict[str, float], chosen: argparse.Namespace, versions: dict[str, str]
) -> None:
    """The table, the ratios with their bars, and everything as JSON."""
    rows = summaries(runs)
    print(
        f"\n{what}: {SIZE // 1024} KiB, {chosen.sessions} sessions, {chosen.rounds} rounds in turn, "
        "durable before the 250\n"
    )
    print(
        "| case | server | msg/s median (min - max) | fsync/s | CPU/msg all | server | generator | ack p50 | ack p99 |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print(
            f"| {row.case} | {row.server} | {row.rate:,.0f} ({row.slowest:,.0f} - {row.fastest:,.0f})"
            f" | {row.fsync_per_second:,.0f} | {row.cpu_all:,.0f} us | {row.cpu_server:,.0f} us"
            f" | {row.cpu_generator:,.0f} us | {row.ack_p50:.1f} ms | {row.ack_p99:.1f} ms of {row.acks} |"
        )
    print()
    results = _against_bars(rows, bars)
    path = RESULTS / f"{what}.json"
    path.write_text(
        json.dumps(
            {
                "what": what, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "machine": machine.description(),
                "versions": versions, "size": SIZE, "sessions": chosen.sessions,
                "summaries": [asdict(row) for row in rows],
                "bars": results, "runs": [asdict(run) for run in runs],
            },
            indent=1,
        ) + "\n"
    )  # fmt: skip
    print(f"\nall measurements: {os.path.relpath(path)}")


def _against_bars(rows: list[Summary], bars: dict[str, float]) -> list[dict[str, object]]:
    results: list[dict[str, object]] = []
    rates = {(row.case, row.server): row for row in rows}
    for case, bar in bars.items():
        ours, theirs = rates[case, "postroom"], rates.get((case, "postfix"))
        if theirs is not None:
            ratio = ours.rate / theirs.rate
            results.append(_judged(f"{case}: Postroom / Postfix", ratio, bar, ratio >= bar, "x"))
        results.append(_judged(f"{case}: Postroom's ack p99", ours.ack_p99, ACK_BAR, ours.ack_p99 < ACK_BAR, " ms"))
    return results


def _judged(what: str, value: float, bar: float, reached: bool, unit: str) -> dict[str, object]:
    print(f"  {what:<48}{value:7.2f}{unit}   bar {bar:g}{unit}   {'reached' if reached else 'NOT reached'}")
    return {"what": what, "value": round(value, 2), "bar": bar, "reached": reached}
