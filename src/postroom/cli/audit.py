"""`postroom audit list`: who logged in, who was refused, who changed what.

Promises: read-only; the audit log holds no secrets. Fails: exit 1 when nothing matches, exit 2 for an unknown kind or
an unreadable time.
"""

from __future__ import annotations

import click

from postroom.cli.place import Commands, Place, Refusal, at_a_place
from postroom.cli.query import when
from postroom.cli.table import Cell, Column, print_json, print_table
from postroom.clock import SystemClock
from postroom.store import logs
from postroom.telemetry import stamp

_COLOURS = {logs.REFUSED: "yellow", logs.FAILED: "red"}
_GROUPS = sorted({kind.partition(".")[0] for kind in logs.AUDIT_KINDS if "." in kind})


@click.group(cls=Commands)
def audit() -> None:
    """Read the audit log: logins, refusals, changes."""


@audit.command("list")
@click.option("--since", metavar="TIME", help='At or after TIME: "2 hours" (ago), 14:00, 2026-11-22.')
@click.option("--actor", "who", metavar="TEXT", default="", help="Actor contains TEXT: alice, cli:, app:soar.")
@click.option("--kind", metavar="KIND", default="", help="login, call, user.create ..., or a group such as user.")
@click.option(
    "--outcome", type=click.Choice([logs.DONE, logs.REFUSED, logs.FAILED]), help="Only lines with this outcome."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="List at most this many lines."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@at_a_place
def list_audit(
    place: Place, since: str | None, who: str, kind: str, outcome: str | None, limit: int, as_json: bool
) -> None:
    """List the audit log, newest first. Repeated events are one line with a count.

    \b
    Examples:
      postroom audit list
      postroom audit list --since "1 day" --outcome refused
      postroom audit list --kind user --actor cli: --json
    """
    now = SystemClock().now()
    if kind and kind not in logs.AUDIT_KINDS and kind not in _GROUPS:
        raise click.UsageError(f"--kind: expected one of {', '.join([*_GROUPS, *logs.AUDIT_KINDS])}, got {kind!r}")
    begin = when(since, "--since", now)
    lines = place.look(logs.list_audit(since=begin, actor=who, kind=kind, outcome=outcome or "", limit=limit))
    if as_json:
        print_json([_as_json(line) for line in lines])
    elif lines:
        _print(lines)
    if not lines:
        raise Refusal("nothing in the audit log matches")


def _as_json(line: logs.AuditLine) -> dict[str, object]:
    return {
        "id": line.id,
        "at": stamp(line.at),
        "last": stamp(line.last),
        "times": line.times,
        "actor": line.actor,
        "kind": line.kind,
        "what": line.what,
        "address": line.address,
        "outcome": line.outcome,
        "detail": line.detail,
    }


def _print(lines: list[logs.AuditLine]) -> None:
    columns = (
        Column("AT"), Column("TIMES", right=True, drop=1), Column("ACTOR", least=8), Column("KIND"),
        Column("WHAT", least=10), Column("FROM", least=7, drop=2), Column("OUTCOME"),
        Column("DETAIL", least=10, drop=3),
    )  # fmt: skip
    rows = [
        (
            stamp(line.at)[:19] + "Z",
            str(line.times) if line.times > 1 else "",
            line.actor or "-",
            line.kind,
            line.what,
            line.address,
            Cell(line.outcome, _COLOURS.get(line.outcome)),
            line.detail,
        )
        for line in lines
    ]
    print_table(columns, rows)
