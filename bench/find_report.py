"""The figures of `bench.find`: every case, the published table with bar and aim, and all of it as JSON.

A row of the table shows the slowest case of its group, so that no case hides behind a mean. Pure but for printing.
Fails: never; figures that were not measured are left out.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

from bench import duel, machine, postfix, restart
from bench.find_cases import BROAD, LANGUAGE, MOST_ROWS, NEWEST_PAGE, RARE_WORD, SHORT
from bench.find_cost import Cost
from bench.find_load import Sent
from bench.find_plans import Acted
from bench.find_postfix import Way
from bench.find_stages import BOUND, Times
from bench.gateway import Gateway

MIB = 1024 * 1024
MANY = 5_000_000  # from here on the bars for ten million apply
FASTER = 500.0


@dataclass
class Results:
    entries: int
    indexed_in: float = 0.0  # seconds
    times: list[Times] = field(default_factory=list)
    acks: dict[str, Sent] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)  # MiB
    files: dict[str, int] = field(default_factory=dict)  # bytes
    acted: Acted | None = None
    starts: list[restart.Start] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    depth: int = 0
    ways: list[Way] = field(default_factory=list)
    beside: Times | None = None  # ours, with `depth` entries

    def note_memory(self, when: str, gateway: Gateway) -> None:
        pss, rss = restart.memory(gateway.pid)
        self.memory[when] = {"pss": pss, "rss": rss, "own": machine.private_of(gateway.pid) / MIB}


class Line(NamedTuple):
    """A row of the table. `least`: the bar is a minimum."""

    what: str
    value: float
    unit: str
    bar: float | None  # None: reported, not judged
    aim: float | None
    case: str = ""
    least: bool = False

    @property
    def reached(self) -> bool:
        return self.bar is None or (self.value >= self.bar if self.least else self.value <= self.bar)

    @property
    def aim_reached(self) -> bool:
        return self.aim is None or (self.value >= self.aim if self.least else self.value <= self.aim)


def lines(results: Results) -> list[Line]:
    return [*_search_lines(results), *_other_lines(results)]


def _search_lines(results: Results) -> Iterable[Line]:
    many = results.entries >= MANY

    def slowest(
        what: str, groups: tuple[str, ...], stages: tuple[str, ...], bar: float | None, aim: float | None
    ) -> Iterable[Line]:
        of = [times for times in results.times if times.group in groups and times.stage in stages]
        if of:
            worst = max(of, key=lambda times: times.p99)
            yield Line(what, worst.p99, "ms", bar, aim, f"{worst.case} ({worst.stage})")

    both = ("again", "anew")
    yield from slowest(
        "newest page of 100, any filter, with totalCount",
        (NEWEST_PAGE,),
        both,
        50 if many else 20,
        None if many else 10,
    )
    yield from slowest(
        "rare or absent text, page of 100 with totalCount", (RARE_WORD,), both, 50 if many else 20, None if many else 10
    )
    yield from slowest(
        "word in a fifth of all, or IP piece: the page", (BROAD,), ("again",), 100 if many else 50, None if many else 20
    )
    yield from slowest(
        "the same with its exact total anew", (BROAD,), ("anew",), 3000 if many else 300, None if many else 100
    )
    yield from slowest("a text in most rows, with its exact total anew", (MOST_ROWS,), both, None, None)
    deep = max((times for times in results.times if times.group == "deep page"), key=_depth, default=None)
    if deep is not None:
        same = [times for times in results.times if times.group == "deep page" and _depth(times) == _depth(deep)]
        worst = max(same, key=lambda times: times.p99)
        yield Line(f"page {_depth(worst):,} in the same order", worst.p99, "ms", 10, 5, worst.case)
    # Two of its own time limits (for the page and for the count), and the time to stop there.
    yield from slowest(
        "two letters, search language: answered or refused", (SHORT, LANGUAGE), both, 2 * BOUND + 200, None
    )


def _depth(times: Times) -> int:
    return int(times.case.split(":")[0].removeprefix("page ").replace(",", ""))


def _other_lines(results: Results) -> Iterable[Line]:
    if (acted := results.acted) is not None:
        yield Line(f"plan + apply hold of {acted.entries:,}", acted.plan + acted.apply, "s", 10, 5)
        yield Line(f"undo of {acted.entries:,}", acted.undo, "s", 10, 5)
        yield Line(
            "longest acknowledgement meanwhile", acted.stall, "ms", 50, 20, f"at rest {acted.stall_at_rest:.0f} ms"
        )
    if results.memory:
        when, most = max(results.memory.items(), key=lambda item: item[1]["pss"])
        yield Line("memory of the gateway (PSS)", most["pss"], "MiB", 300, None, when)
    if results.starts:
        slow = max(results.starts, key=lambda start: start.accepted)
        yield Line("ready again: first 250 after a restart", slow.accepted, "s", 2, None, slow.case)
    for cost in results.costs:
        yield Line("search index, of the rate of mail that passes at once", cost.share, "%", 5, 0, cost.case)
        yield Line("search index, processor time added to such a message", cost.share_cpu, "%", 5, 0, cost.case)
    if (ratio := faster(results)) is not None:
        yield Line(
            f"subject word among {results.depth:,}: times faster",
            ratio,
            "x",
            FASTER,
            None,
            "postcat -h of every message",
            least=True,
        )


def faster(results: Results) -> float | None:
    """How many times faster than Postfix's own way to read a subject; ours: the median, anew."""
    own = [way.seconds for way in results.ways if way.name.startswith("postcat")]
    if not own or results.beside is None:
        return None
    return own[0] * 1000 / statistics.median(results.beside.milliseconds)


def report(results: Results) -> bool:
    """Prints everything; True when every measured bar is reached."""
    if results.times:
        print(f"\nfind: {results.entries:,} entries queued, over signed HTTP; milliseconds\n")
    for stage in ("again", "anew", "under load"):
        for times in results.times:
            if times.stage == stage:
                refused = f"   {times.refused} of {len(times.milliseconds)} refused" if times.refused else ""
                first = f"  first {times.first:7.1f}" if stage == "again" else " " * 15
                print(
                    f"  {stage:<11}{times.group:<17}{times.case[:56]:<57}{times.found:>9,}{first}  p50 {times.p50:7.1f}"
                    f"  p99 {times.p99:7.1f}  max {times.worst:7.1f}  n {len(times.milliseconds):>3}{refused}"
                )
    _print_rest(results)
    found = lines(results)
    at = f"at {results.entries:,} queued" if results.memory or results.starts else "what"
    print(f"\n| {at} | measured | bar | aim | | slowest |\n| --- | ---: | ---: | ---: | --- | --- |")
    for line in found:
        bar = "" if line.bar is None else f"{line.bar:g} {line.unit}"
        aim = "" if line.aim is None else f"{line.aim:g} {line.unit}"
        verdict = "" if line.bar is None else "reached" if line.aim_reached else "bar reached"
        print(
            f"| {line.what} | {line.value:,.1f} {line.unit} | {bar} | {aim} "
            f"| {verdict if line.reached else '**NOT reached**'} | {line.case} |"
        )
    path = duel.RESULTS / "find.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document(results, found)) + "\n")
    print(f"\nall measurements: {os.path.relpath(path)}")
    return all(line.reached for line in found)


def _print_rest(results: Results) -> None:
    print()
    for name, sent in results.acks.items():
        acks = sent.acks
        print(
            f"  200 messages a second, {name:<34} ack p50 {duel.percentile(acks, 50):6.1f}  "
            f"p99 {duel.percentile(acks, 99):6.1f}  max {max(acks):6.1f}  "
            f"({sent.sent:,} sent, {sent.late:.1f} s late at most)"
        )
    if results.acted is not None:
        print(
            f"  plan of {results.acted.entries:,}: {results.acted.plan:.1f} s, apply {results.acted.apply:.1f} s, "
            f"undo {results.acted.undo:.1f} s, ack p99 {results.acted.ack_p99:.1f} ms, max {results.acted.stall:.1f} ms"
        )
    for when, of in results.memory.items():
        print(f"  memory {when:<26} PSS {of['pss']:6.0f} MiB  RSS {of['rss']:6.0f}  own {of['own']:6.0f}")
    if results.indexed_in:
        print(
            f"  the search index was filled in {results.indexed_in:.0f} s "
            f"({results.indexed_in / results.entries * 1e6:.0f} us an entry)"
        )
    for name, size in results.files.items():
        print(f"  {name:<16}{size / MIB:8,.0f} MiB  ({size / results.entries:,.0f} bytes an entry)")
    for cost in results.costs:
        print(
            f"  {cost.case:<20} with the index {cost.rate_with:7,.0f} msg/s, {cost.cpu_with:.0f} us CPU; "
            f"without {cost.rate_without:7,.0f} msg/s, {cost.cpu_without:.0f} us"
        )
    for way in results.ways:
        print(f"  Postfix, {results.depth:,} queued: {way.name:<34}{way.seconds * 1000:10,.0f} ms")
    if results.beside is not None:
        print(f"  Postroom, {results.depth:,} queued: {results.beside.case}, anew  {results.beside.p50:18,.1f} ms")


def document(results: Results, found: list[Line]) -> dict[str, Any]:
    versions = {"postroom": version("postroom")} | ({} if not results.ways else {"postfix": postfix.version()})
    return {
        "what": "find", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "machine": machine.description(),
        "versions": versions, "entries": results.entries, "indexed_in": results.indexed_in,
        "table": [{**line._asdict(), "reached": line.reached, "aim_reached": line.aim_reached} for line in found],
        "times": [times.summary() for times in results.times],
        "acks": {name: asdict(sent) for name, sent in results.acks.items()}, "memory": results.memory,
        "files": results.files,
        "acted": None if results.acted is None else asdict(results.acted),
        "starts": [asdict(one) for one in results.starts],
        "costs": [asdict(one) for one in results.costs], "depth": results.depth,
        "ways": [asdict(one) for one in results.ways],
        "beside": None if results.beside is None else results.beside.summary(), "faster": faster(results),
    }  # fmt: skip
