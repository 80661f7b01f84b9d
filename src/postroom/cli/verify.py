"""`postroom verify`: checks that the store is consistent, and with --repair repairs it.

Promises: without --repair nothing is changed; it runs while the gateway works, without blocking it; each kind of damage
is reported with its number, examples, and what was done. Fails: exit 1 when something is wrong and stays wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from postroom.cli.place import Place, Refusal, actor, at_a_place
from postroom.cli.table import print_json, safe, warn
from postroom.cli.words import many
from postroom.clock import SystemClock
from postroom.ids import public_id
from postroom.store import verify

LONG = 20_000  # rows; more show their progress
NAMED = 5  # of each kind in the report for people
STATES = {"found": "wrong", "left": "left as they are", "repaired": "repaired", "noted": "known"}
# Kinds whose id means nothing to people, so that it is not shown.
NUMBERED = frozenset(
    {"database", "index", "reference", "rule", "reason", "event-alone", "event-state", "event-info", "pause",
     "file-alone", "file-young", "file-kept", "file-foreign", "ledger-account", "ledger-difference"}
)  # fmt: skip


@click.command("verify", short_help="Check that the store is consistent; --repair fixes it.")
@click.option("--repair", is_flag=True, help="Repair what can be repaired, and report each repair.")
@click.option("--deep", is_flag=True, help="Run SQLite's full check of every index row; takes longer.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: ok, counts, findings, pace.")
@at_a_place
def verify_store(place: Place, repair: bool, deep: bool, as_json: bool) -> None:
    """Check that entries, messages, bodies, events, history, reasons and the ledger agree.

    \b
    Examples:
      postroom verify                      check everything, change nothing
      postroom verify --repair             repair what can be repaired, hold the rest for a person
      postroom verify --deep --json        after a disk failure, for a program

    The gateway may run meanwhile: verify reads rows in small batches, and checks anything suspicious a second time. It
    never deletes mail: entries that cannot be trusted move to held, with the reason. Exits 0 when everything agrees or
    was repaired, 1 when something is wrong and stays wrong.
    """
    with place.store() as store, _Bar(as_json) as bar:
        report = verify.run(store, clock=SystemClock(), repair=repair, deep=deep, progress=verify.Progress(bar.tell))
        if report.repaired:
            store.write_now(verify.record(report, at=SystemClock().now(), actor=actor()))
    if as_json:
        print_json(_document(report))
    else:
        _print(report)
    if report.wrong:
        if not as_json and not repair:
            warn("to repair: postroom verify --repair")
        raise Refusal(f"{many(report.wrong, 'finding')} {'left' if repair else 'wrong'}")


class _Bar:
    """A progress bar that appears on a terminal when there are many rows."""

    def __init__(self, as_json: bool) -> None:
        self._wanted = sys.stderr.isatty() and not as_json
        self._bar: AbstractContextManager[Any] = nullcontext()
        self._shown: Any = None
        self._done = 0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._bar.__exit__(None, None, None)

    def tell(self, name: str, total: int, done: int) -> None:
        if self._shown is None:
            if not self._wanted or total < LONG:
                return
            self._bar = click.progressbar(
                length=total, label="Verify", file=sys.stderr, item_show_func=lambda item: item
            )
            self._shown = self._bar.__enter__()
        self._shown.update(done - self._done, name)
        self._done = done


def _print(report: verify.Report) -> None:
    for kind in verify.KINDS:
        states = report.counts.get(kind, {})
        for state, word in STATES.items():
            if number := states.get(state):
                colour = {"found": "red", "left": "red", "repaired": "green"}.get(state)
                click.echo(click.style(f"{word}: {verify.KINDS[kind]}: {number:,}", fg=colour))
                _print_some([one for one in report.results if one.finding.kind == kind and one.state == state], number)
    pace = int(report.rows / report.seconds) if report.seconds else report.rows
    beside = "while the gateway was running" if report.serving else "the gateway was not running"
    click.echo(f"checked {report.rows:,} rows in {report.seconds:.1f} s, {pace:,} a second, {beside}")
    if not report.wrong:
        done = (
            f"everything agrees, {many(report.repaired, 'finding')} repaired"
            if report.repaired
            else "everything agrees"
        )
        click.echo(click.style(done, fg="green"))


def _print_some(results: Iterable[verify.Result], number: int) -> None:
    shown = list(results)[:NAMED]
    for one in shown:
        done = f" -> {one.done}" if one.done else ""
        click.echo(safe(f"  {_name(one.finding)}{one.finding.what}{done}"))
    if number > len(shown):
        click.echo(f"  and {number - len(shown):,} more; --json lists up to {verify.SHOWN:,}")


def _name(finding: verify.Finding) -> str:
    return "" if finding.kind in NUMBERED or not finding.id else f"{public_id(finding.id)}  "


def _document(report: verify.Report) -> dict[str, object]:
    return {
        "ok": not report.wrong,
        "repair": report.repair,
        "deep": report.deep,
        "serving": report.serving,
        "rows": report.rows,
        "seconds": round(report.seconds, 3),
        "wrong": report.wrong,
        "repaired": report.repaired,
        "counts": report.counts,
        "complete": len(report.results) == sum(sum(states.values()) for states in report.counts.values()),
        "findings": [
            {
                "kind": one.finding.kind,
                "id": None if one.finding.kind in NUMBERED or not one.finding.id else public_id(one.finding.id),
                "name": one.finding.name,
                "what": one.finding.what,
                "state": one.state,
                "done": one.done,
            }
            for one in report.results
        ],
    }
