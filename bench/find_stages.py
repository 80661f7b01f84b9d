"""What `bench.find` measures of searches: repeated and fresh on an idle machine, deep pages, and under load.

*Again*: nothing has changed since the last call, so the gateway may reuse what it knows. *Anew*: a message came in just
before each call, so the gateway must count every total afresh. Load is 200 messages a second. Promises: compares number
of rows and total of every answer with the truth, and for the first page of each case also its entries. Fails: Wrong for
an answer that is not true, however fast.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import duel, find_truth
from bench.find_calls import Answer, Client
from bench.find_cases import Case, stamp, truth_key
from bench.find_load import Sent, under_load
from bench.find_truth import Row, Span, Truth, fold
from bench.gateway import Gateway
from postroom.clock import Millis
from postroom.ids import id_time

CASE_LIMIT = 2.0  # seconds for one case in one stage: a slow case makes fewer requests, and the report says how many
LEAST = 5  # requests of each case, however slow
WALK_LIMIT = 120.0  # seconds to walk through the pages of one case
BOUND = 500.0  # milliseconds for a search that no index can serve
PROBE = ("probe@bench.example", "one@corp.example", "one more, so that nothing known holds")


class Wrong(RuntimeError):
    """An answer that is not what is in the queue."""


@dataclass
class Times:
    """Of one case in one stage."""

    case: str
    group: str
    stage: str
    found: int
    first: float = 0.0  # milliseconds: of the first call of all
    milliseconds: list[float] = field(default_factory=list)
    refused: int = 0

    @property
    def p50(self) -> float:
        return duel.percentile(self.milliseconds, 50)

    @property
    def p99(self) -> float:
        return duel.percentile(self.milliseconds, 99)

    @property
    def worst(self) -> float:
        return max(self.milliseconds)

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "p50": self.p50, "p99": self.p99, "max": self.worst}


class Judge:
    """Knows what is in the queue."""

    def __init__(self, database: Path, cases: Iterable[Case]) -> None:
        self.database = database
        self.truths = {truth_key(case): Truth(case.match, by_due=case.by_due) for case in cases}
        self.added = 0  # most messages that came in since
        self.newest: Millis = 0  # of what was there

    def learn(self, progress: Callable[[int], None]) -> int:
        self.newest = find_truth.newest(self.database)
        return find_truth.learn(self.database, list(self.truths.values()), progress)

    def truth(self, case: Case) -> Truth:
        return self.truths[truth_key(case)]

    def check(self, case: Case, answer: Answer, *, offset: int = 0, entries: bool = False) -> None:
        if answer.refused:
            if "broad" in answer.refused:  # an answer, though not a useful one: the table shows its time
                return
            raise Wrong(f"{case.name}: refused: {answer.refused}")
        truth = self.truth(case)
        least, most = truth.count(case.span, answer.begin, answer.end)
        settled = least == most
        if self.added and case.span.until is None and (case.by_due or not case.span.newest) and truth.match(_PROBE_ROW):
            most += self.added
            settled = False
        if not offset:  # the first page fixes the total of all pages; entries leave the window later
            total = answer.total
            if not least <= total <= most:
                expected = f"{least:,}" if least == most else f"{least:,} to {most:,}"
                raise Wrong(f"{case.name}: {total:,} are said to match, {expected} do")
        if not min(case.size, max(0, least - offset)) <= answer.rows <= min(case.size, max(0, most - offset)):
            raise Wrong(f"{case.name}: a page of {answer.rows}, of {least:,} that match, behind {offset:,}")
        if entries and settled and not case.by_due and answer.rows:
            self._check_entries(case, answer, offset)

    def _check_entries(self, case: Case, answer: Answer, offset: int) -> None:
        expected = self.truth(case).page(case.span, answer.end, offset, case.size, oldest=case.oldest)
        if case.query:
            if answer.idents() != expected:
                raise Wrong(f"{case.name}: other entries than those that match, behind {offset:,}")
            return
        for seen, known in zip(answer.shown(), find_truth.shown(self.database, expected), strict=True):
            if seen != known._replace(accepted=known.accepted // 1000 * 1000):
                raise Wrong(f"{case.name}: {seen} where {known} stands, behind {offset:,}")


_PROBE_ROW = Row(
    1 << 60, 0, 0, 0, fold(f"{PROBE[0]}\x1f{PROBE[0]}\x1f"), fold(f"{PROBE[1]}\x1f\x1f{PROBE[1]}"), fold(PROBE[2]),
    "127.0.0.1",
    "queued for processing", 200, 0, 0, 0, 0, 0, PROBE[1], (PROBE[0], PROBE[0]),
)  # fmt: skip


class Prober:
    """Sends one message at a time, on one kept session."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, 30)
        self._replies = self._socket.makefile("rb")
        self._say(b"", b"220")
        self._say(b"HELO bench.example\r\n", b"250")

    def send(self) -> None:
        sender, recipient, subject = PROBE
        self._say(f"MAIL FROM:<{sender}>\r\n".encode(), b"250")
        self._say(f"RCPT TO:<{recipient}>\r\n".encode(), b"250")
        self._say(b"DATA\r\n", b"354")
        self._say(
            f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\n\r\nHello.\r\n.\r\n".encode(), b"250"
        )

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def _say(self, words: bytes, expected: bytes) -> None:
        self._socket.sendall(words)
        reply = self._replies.readline()
        if not reply.startswith(expected):
            raise RuntimeError(f"expected {expected.decode()} after {words[:20]!r}, got {reply!r}")


def again(client: Client, judge: Judge, case: Case, requests: int) -> Times:
    first = client.ask(case)
    judge.check(case, first, entries=True)
    times = Times(case.name, case.group, "again", first.total, first.milliseconds)
    return _repeat(times, client, judge, case, requests)


def anew(client: Client, judge: Judge, case: Case, requests: int, prober: Prober) -> Times:
    def change() -> None:
        judge.added += 1
        prober.send()

    return _repeat(Times(case.name, case.group, "anew", 0), client, judge, case, requests, change)


def _repeat(
    times: Times, client: Client, judge: Judge, case: Case, requests: int, before: Callable[[], None] = lambda: None
) -> Times:
    until = time.monotonic() + CASE_LIMIT
    while len(times.milliseconds) < requests and (
        time.monotonic() < until or len(times.milliseconds) < min(LEAST, requests)
    ):
        before()
        _ask(times, client, judge, case)
    return times


def _ask(times: Times, client: Client, judge: Judge, case: Case) -> None:
    answer = client.ask(case)
    judge.check(case, answer)
    times.milliseconds.append(answer.milliseconds)
    times.refused += bool(answer.refused)
    times.found = answer.total


def deep(client: Client, judge: Judge, case: Case, wanted: Iterable[int], requests: int) -> list[Times]:
    """Walks from page to page and requests some of them repeatedly. The queue must not change meanwhile.

    A walk that takes too long ends early; the page it reached is measured and listed under its own number.
    """
    asked = set(wanted)
    walk_until = time.monotonic() + WALK_LIMIT
    found: list[Times] = []
    token: str | None = None
    first: Answer | None = None
    total = 0  # said on the first page
    for number in range(1, max(asked) + 1):
        answer = client.ask(case, token)
        first = first or answer
        offset = (number - 1) * case.size
        total = max(total, answer.total)
        answer = replace(answer, begin=first.begin, end=first.end)  # the window of a walk is that of its first page
        judge.check(case, answer, offset=offset, entries=number in asked or number % 100 == 0)
        last = answer.following is None or time.monotonic() > walk_until
        if number in asked or last:
            times = Times(f"page {number:,}: {case.name}", "deep page", "again", total, answer.milliseconds)
            until = time.monotonic() + CASE_LIMIT
            while len(times.milliseconds) < requests and (
                time.monotonic() < until or len(times.milliseconds) < min(LEAST, requests)
            ):
                repeated = client.ask(case, token)
                if token is not None:
                    repeated = replace(repeated, begin=first.begin, end=first.end)
                judge.check(case, repeated, offset=offset)
                times.milliseconds.append(repeated.milliseconds)
            found.append(times)
        if last:
            break
        token = answer.following
    return found


def alone(gateway: Gateway, seconds: float) -> Sent:
    """The same load without a search, to compare acknowledgement times."""
    return under_load(gateway.smtp, seconds, _wait)


def loaded(
    gateway: Gateway, client: Client, judge: Judge, cases: list[Case], seconds: float, until: Millis
) -> tuple[list[Times], Sent]:
    """Each case in turn while mail comes in."""
    fixed = [ended(case, until) for case in cases if not case.by_due]
    all_times = [Times(case.name, case.group, "under load", 0) for case in fixed]

    def search(running: Callable[[], bool]) -> None:
        while True:
            for case, times in zip(fixed, all_times, strict=True):
                _ask(times, client, judge, case)
                if not running():
                    return

    sent = under_load(gateway.smtp, seconds, search)
    return [times for times in all_times if times.milliseconds], sent


def ended(case: Case, until: Millis) -> Case:
    """The same case up to now, so that later mail does not change its truth."""
    if case.span.until is not None:
        return case
    last = until // 1000 * 1000
    if case.query:
        query = f"{case.query} until:{stamp(last)[:19]}Z"
        return replace(case, query=query, known_as=case.query, span=case.span._replace(until=last))
    return replace(case, item={**case.item, "end": stamp(last)}, span=Span(oldest=case.span.oldest, until=last + 999))


def _wait(running: Callable[[], bool]) -> None:
    while running():
        time.sleep(0.05)


def window_of(judge: Judge, case: Case, number: int) -> tuple[Millis, Millis, int]:
    """A span of time in which about so many entries of a case were accepted: (since, until, how many exactly)."""
    keys = judge.truth(case).keys
    begin = max(0, len(keys) // 2 - number // 2)
    since, until = id_time(keys[begin]), id_time(keys[min(len(keys), begin + number) - 1])
    low, high = judge.truth(case).slice(Span(since=since, until=until), 0)
    return since, until, high - low
