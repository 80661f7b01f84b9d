"""The cost of the search index for mail that passes at once, for `bench.find`: the same gateway with and without it.

Mail goes in over 20 sessions, through the checks and out to a sink until the queue is empty, as in `bench.relay`. The
order of the two changes from round to round, and each round is compared only with itself: other work on the machine
then slows both. Fails: RuntimeError when mail does not leave.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import duel, load
from bench.gateway import Gateway
from bench.relay import SETTINGS

WITH, WITHOUT = "indexed", "unindexed"


@dataclass(frozen=True)
class Cost:
    case: str
    rate_with: float  # messages per second, medians
    rate_without: float
    cpu_with: float  # microseconds of the server per message, medians
    cpu_without: float

    share: float  # percent by which the index lowers the rate, median of the rounds
    share_cpu: float  # percent it adds to the server's CPU time per message, median of the rounds


def measure(work: Path, *, rounds: int, messages: int) -> list[Cost]:
    chosen = argparse.Namespace(rounds=1, messages=messages, sessions=20)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(load.smtp_sink(work / "sink.log"))
        servers = []
        for name in (WITH, WITHOUT):
            gateway = Gateway(work / name, SETTINGS.format(sink=sink))
            if name == WITHOUT:
                gateway.program = (sys.executable, "-m", "bench.unindexed")
            stack.enter_context(gateway)
            servers.append(duel.Server(name, gateway.smtp, gateway.pid, lambda gateway=gateway: gateway.queued() == 0))  # type: ignore[misc]
        runs: list[duel.Run] = []
        for number in range(rounds):
            print(f"  the search index, round {number + 1} of {rounds}", flush=True)
            runs += duel.rounds(servers if number % 2 == 0 else servers[::-1], chosen, work)
    return list(_costs(runs))


def _costs(runs: list[duel.Run]) -> Iterator[Cost]:
    for case, _ in duel.CASES:
        of = {name: [run for run in runs if (run.case, run.server) == (case, name)] for name in (WITH, WITHOUT)}
        pairs = list(zip(of[WITH], of[WITHOUT], strict=True))
        yield Cost(
            case,
            statistics.median(run.rate for run in of[WITH]), statistics.median(run.rate for run in of[WITHOUT]),
            statistics.median(run.cpu_server for run in of[WITH]),
            statistics.median(run.cpu_server for run in of[WITHOUT]),
            statistics.median((1 - one.rate / other.rate) * 100 for one, other in pairs),
            statistics.median((one.cpu_server / other.cpu_server - 1) * 100 for one, other in pairs),
        )  # fmt: skip
