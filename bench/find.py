"""`make bench-find N=1000000`: how fast search and actions are in a queue of N entries, with every kind of request.

`bench.fill` makes the queue; the gateway does nothing else meanwhile. Every answer is compared with the truth
(find_truth.py): a fast wrong answer ends the run. The stages: searches on an idle gateway and under 200 messages a
second; plan, apply and undo of 100,000 entries; a restart; the cost of the search index for mail that passes; and the
same search with Postfix's own tools.

Promises: the table has no row for a stage that did not run; exit status 1 when a bar is missed. Fails: Wrong, or
RuntimeError when the gateway refuses a request.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click

from bench import (
    api,
    duel,
    find_cases,
    find_cost,
    find_plans,
    find_postfix,
    find_report,
    find_stages,
    find_truth,
    load,
    machine,
    restart,
)
from bench.fill import fill
from bench.find_calls import Client
from bench.find_cases import BROAD, LANGUAGE, MOST_ROWS, SHORT, Case
from bench.find_report import Results
from bench.find_stages import Judge
from bench.gateway import Gateway
from bench.people import RARE

STAGES = ("search", "load", "plans", "restart", "cost", "postfix")
PAGES = (1, 10, 1_000)
ACTED_ON = 100_000
INDEX_LIMIT = 3600.0  # seconds until everything is in the search index
SETTINGS = api.SETTINGS + 'page_token_lifetime = "10 hours"\n'  # its last section goes on


def main() -> int:
    chosen = _arguments()
    results = Results(chosen.entries)
    try:
        with duel.work_directory(chosen.work) as work:
            _run(work, results, chosen)
    except (KeyboardInterrupt, SystemExit, RuntimeError) as problem:
        print(f"\nended by {type(problem).__name__}: the measurements until then")
        find_report.report(results)
        raise
    return 0 if find_report.report(results) else 1


def _run(work: Path, results: Results, chosen: argparse.Namespace) -> None:
    if {"search", "load", "plans", "restart"} & set(chosen.only):
        data = work / "postroom" / "data"
        _queue(chosen, data)
        results.entries = chosen.entries
        database = data / "postroom.db"
        cases = find_cases.compatible(find_truth.samples(database), find_truth.newest(database))
        spoken = find_cases.language(find_truth.samples(database))
        judge = _learned(database, [*cases, *spoken])
        with Gateway(work / "postroom", SETTINGS) as gateway:
            results.indexed_in = _until_indexed(gateway)
            machine.settle(60)
            with closing(Client(gateway)) as client:
                _measure(gateway, client, judge, cases, spoken, results, chosen)
            results.files = {path.name: path.stat().st_size for path in sorted(data.iterdir()) if path.suffix == ".db"}
        if "restart" in chosen.only:
            results.starts = list(_restarts(work, data))
        shutil.rmtree(data)
    if "cost" in chosen.only:
        _cost(work, results, chosen)
    if "postfix" in chosen.only:
        _compare(work, results, chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast search and actions are in a full queue.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries queued (1,000,000)")
    parser.add_argument(
        "--data", type=Path, help="a directory filled by bench.fill, which is copied (default: fill a new one)"
    )
    parser.add_argument("--requests", type=int, default=100, help="requests of each case, again and anew (100)")
    parser.add_argument("--load-seconds", type=float, default=60, help="seconds of each part under load (60)")
    parser.add_argument(
        "--depth", type=int, default=100_000, help="messages in Postfix's queue, and in ours to compare (100,000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds with and without the search index (3)")
    parser.add_argument("--messages", type=int, default=20_000, help="messages of one of these rounds (20,000)")
    parser.add_argument(
        "--only", type=_stages, default=STAGES, metavar="STAGE,...", help=f"some of {', '.join(STAGES)} (all)"
    )
    parser.add_argument("--work", type=Path, help="a directory on the disk to measure (bench-data)")
    chosen = parser.parse_args()
    if chosen.entries < 1_000 or min(chosen.requests, chosen.rounds, chosen.messages) < 1 or chosen.depth < 100:
        parser.error("--entries must be at least 1,000, --depth 100, the other numbers 1")
    return chosen


def _stages(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if unknown := [name for name in found if name not in STAGES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(STAGES)}")
    return found


def _queue(chosen: argparse.Namespace, data: Path) -> None:
    if chosen.data is not None:
        shutil.copytree(chosen.data, data)
        os.sync()  # gigabytes still on their way to the disk would slow every acknowledgement
        chosen.entries = find_truth.entries(data / "postroom.db")
        return
    _filled(data, chosen.entries)


def _filled(data: Path, entries: int) -> None:
    data.mkdir(parents=True, mode=0o700)
    with click.progressbar(length=entries, label=f"Queueing {entries:,}", file=sys.stderr) as bar:
        fill(data, entries, progress=lambda done: bar.update(done - bar.pos))
    os.sync()


def _learned(database: Path, cases: list[Case]) -> Judge:
    judge = Judge(database, cases)
    with click.progressbar(length=find_truth.entries(database), label="Learning the truth", file=sys.stderr) as bar:
        judge.learn(lambda done: bar.update(done - bar.pos))
    return judge


def _until_indexed(gateway: Gateway) -> float:
    """Seconds until the search index has every queued entry."""
    begin = time.monotonic()
    newest = find_truth.newest_id(gateway.data / "postroom.db")
    while find_truth.watermark(gateway.data / "search.db") < newest:
        if time.monotonic() - begin > INDEX_LIMIT:
            raise RuntimeError(f"the search index is not complete after {INDEX_LIMIT:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - begin


def _measure(
    gateway: Gateway, client: Client, judge: Judge, cases: list[Case], spoken: list[Case], results: Results,
    chosen: argparse.Namespace,
) -> None:  # fmt: skip
    every = [*cases, *spoken]
    if "search" in chosen.only:
        results.note_memory("with the queue full", gateway)
        _each("Again", every, lambda case: find_stages.again(client, judge, case, chosen.requests), results)
        results.note_memory("after every search", gateway)
        for case in _walked(cases, spoken):
            results.times += find_stages.deep(client, judge, case, PAGES, chosen.requests)
        with closing(find_stages.Prober(gateway.smtp)) as prober:
            _each("Anew", every, lambda case: find_stages.anew(client, judge, case, chosen.requests, prober), results)
    if "load" in chosen.only:
        until = judge.newest - 1_000  # mail that came in since is newer
        results.acks["no search"] = find_stages.alone(gateway, max(5.0, chosen.load_seconds / 2))
        quick = [case for case in cases if case.group not in (BROAD, MOST_ROWS, SHORT)]
        slow = [case for case in every if case.group in (BROAD, MOST_ROWS, SHORT, LANGUAGE)]
        for name, asked in (("pages and rare words", quick), ("broad searches, search language", slow)):
            times, sent = find_stages.loaded(gateway, client, judge, asked, chosen.load_seconds, until)
            results.times += times
            results.acks[name] = sent
        results.note_memory("after the load", gateway)
    if "plans" in chosen.only:
        number = min(ACTED_ON, chosen.entries // 4)
        results.acted = find_plans.measure(gateway, client, judge, cases[0], number)
        results.note_memory("after plan, apply, undo", gateway)


def _each(
    label: str, cases: list[Case], measure: Callable[[Case], find_stages.Times], results: Results
) -> None:  # fmt: skip
    """Keeps each result as soon as it exists, so that an interrupted run reports what it has."""
    with click.progressbar(cases, label=label, file=sys.stderr) as bar:
        for case in bar:
            results.times.append(measure(case))


def _walked(cases: list[Case], spoken: list[Case]) -> list[Case]:
    """Page by page: newest first, oldest first, filtered, searched, in the search language."""
    names = ("nothing given", "oldest first", "route inbound", "subject report", "subject report, oldest first")
    return [*[case for case in cases if case.name in names], *[case for case in spoken if case.name == "attempts>=3"]]


def _restarts(work: Path, data: Path) -> list[restart.Start]:
    found = []
    with restart.silence() as route:
        for case in ("pages in the cache", "pages dropped"):
            if case == "pages dropped":
                restart.drop_pages(data)
            found.append(restart.measure(case, work, data, route))
    return found


def _cost(work: Path, results: Results, chosen: argparse.Namespace) -> None:
    if reason := load.missing():
        print(f"bench-find: without the cost of the search index: {reason}")
        return
    results.costs = find_cost.measure(work, rounds=chosen.rounds, messages=chosen.messages)


def _compare(work: Path, results: Results, chosen: argparse.Namespace) -> None:
    """Postfix and Postroom, both with `depth` messages, search for the same word."""
    if reason := find_postfix.missing():
        print(f"bench-find: without Postfix: {reason}")
        return
    results.depth = chosen.depth
    results.ways = find_postfix.measure(work, chosen.depth)
    shutil.rmtree(work / "postfix", ignore_errors=True)
    data = work / "beside" / "data"
    _filled(data, chosen.depth)
    database = data / "postroom.db"
    known = find_cases.compatible(find_truth.samples(database), find_truth.newest(database))
    cases = [case for case in known if case.name == f"subject {RARE}"]
    judge = _learned(database, cases)
    with Gateway(work / "beside", SETTINGS) as gateway, closing(Client(gateway)) as client:
        _until_indexed(gateway)
        machine.settle(30)
        with closing(find_stages.Prober(gateway.smtp)) as prober:
            results.beside = find_stages.anew(client, judge, cases[0], chosen.requests, prober)


if __name__ == "__main__":
    sys.exit(main())
