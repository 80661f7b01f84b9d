"""Plan, apply and undo of many entries at once, for `bench.find`.

Meanwhile one session sends a message every 20 ms and times each acknowledgement. Promises: counts the queue to verify
what the plan reports as done, and again after the undo. Fails: RuntimeError when a number is not as planned, or a plan
does not finish.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from bench import duel, load
from bench.find_calls import Client
from bench.find_cases import LANGUAGE, Case, stamp
from bench.find_stages import Judge, window_of
from bench.gateway import Gateway

LIMIT = 300.0  # seconds for one step
AT_REST = 4.0  # seconds of acknowledgements at rest, to compare
SIZE = 5120


@dataclass(frozen=True)
class Acted:
    entries: int
    plan: float  # seconds, as the two below
    apply: float
    undo: float
    stall: float  # milliseconds: the longest acknowledgement meanwhile
    ack_p99: float
    stall_at_rest: float  # the longest at rest
    acks: int


def measure(gateway: Gateway, client: Client, judge: Judge, case: Case, number: int) -> Acted:
    """`case`: which entries to plan for; all must be in the same state."""
    since, until, exactly = window_of(judge, case, number)
    span = f"since:{_iso(since)} until:{_iso(until)}"
    query, held = f"queue:processing {span}", f"queue:held {span}"
    before = _counted(client, held)
    with load.Prober(gateway.smtp, SIZE) as rest:
        time.sleep(AT_REST)
    with load.Prober(gateway.smtp, SIZE) as prober:
        planned, plan = client.own("POST", "/v1/plans", {"action": "hold", "query": query})
        if plan["entries"] != exactly:
            raise RuntimeError(f"a plan of {plan['entries']:,} entries, {exactly:,} were meant")
        path = f"/v1/plans/{plan['id']}"
        applied = _until(client, path, "apply", "applied", {"reason": "measured"})
        _expect(client, held, before + exactly)
        undone = _until(client, path, "undo", "undone", None)
    _expect(client, query, exactly)
    acks = [seconds * 1000 for seconds in prober.seconds]
    return Acted(
        exactly, planned, applied, undone, max(acks), duel.percentile(acks, 99), max(rest.seconds) * 1000, len(acks)
    )


def _until(client: Client, path: str, verb: str, state: str, body: Any) -> float:
    """Seconds until the plan reports that state."""
    begin = time.perf_counter()
    _, plan = client.own("POST", f"{path}/{verb}", body)
    while plan["state"] != state:
        if time.perf_counter() - begin > LIMIT:
            raise RuntimeError(f"the plan is still {plan['state']} after {LIMIT:.0f} s")
        time.sleep(0.02)
        _, plan = client.own("GET", path)
    seconds = time.perf_counter() - begin
    if plan["skipped"] or plan["kept"] or plan["done" if verb == "apply" else "undone"] != plan["entries"]:
        raise RuntimeError(f"{verb}: not all of {plan['entries']:,} were done: {plan}")
    return seconds


def _expect(client: Client, query: str, number: int) -> None:
    found = _counted(client, query)
    if found != number:
        raise RuntimeError(f"{query}: {found:,} are there, expected {number:,}")


def _counted(client: Client, query: str) -> int:
    answer = client.ask(Case(query, LANGUAGE, lambda row: True, query=query))
    if answer.refused:
        raise RuntimeError(f"{query}: {answer.refused}")
    return answer.total


def _iso(at: int) -> str:
    return f"{stamp(at)[:19]}.{at % 1000:03}Z"
