"""`postroom queue list | count | show`: what waits, since when, and why. Read-only; takes no lease.

Promises: what is listed was true when it was read; entries that arrive meanwhile are not shown. Fails: `Refusal` (exit
1) when a filter was given and nothing matches; without a filter, an empty queue is not a failure.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from postroom.cli.actions import hold, pause, release, resume, retry
from postroom.cli.place import Commands, Place, Refusal, at_a_place
from postroom.cli.plans import COMMANDS as PLAN_COMMANDS
from postroom.cli.query import DEFAULT_LIMIT, Query, QueryCommand, chosen_by_query, count, matching
from postroom.cli.show import show
from postroom.cli.table import Cell, Column, print_json, print_table, warn
from postroom.cli.words import ago, entry_json, local, next_words
from postroom.clock import Millis, SystemClock
from postroom.ids import public_id
from postroom.model import Entry, Order, Queue, Scope
from postroom.store import Reader
from postroom.telemetry import stamp
from postroom.units import short_duration

LISTED = (
    Column("ID"),
    Column("QUEUE", drop=1),
    Column("ACCEPTED", drop=5),
    Column("AGE", right=True),
    Column("FROM", least=12, drop=2),
    Column("TO", least=12),
    Column("SUBJECT", least=10),
    Column("TRIES", right=True, drop=4),
    Column("NEXT", drop=3),
    Column("WHY", least=18),
)
COLOURS = {Queue.HELD: "yellow", Queue.SYSTEM: "blue"}


@click.group(cls=Commands)
def queue() -> None:
    """List and search what waits, and act on it.

    \b
    An entry is one message for one recipient. It waits in one of five queues:
      processing, bulk_processing   waits for checks and policies
      delivery                      waits for the next hop
      held                          waits for a person's decision
      system                        the gateway's own notices, such as bounces

    Select entries by id, or with a query and options; entries must match all of them. Plain words match parts of the
    sender, recipient, subject, client address and reason, in any case. Fields are more exact:

    \b
      from:  to:  subject:  info:  error:  ip:  destination:  verdict:  id:
      queue:  route:  has:attachment  is:locked|waiting|due|tried  priority:  label:
      age>10m  since:2h  until:2026-11-22T10:00  attempts>=3  size>1MiB  next<5m

    A leading - means "not". Quote the whole query for the shell: 'from:alice age>10m -has:attachment report'.
    """


@queue.command("list", cls=QueryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@chosen_by_query(DEFAULT_LIMIT)
@at_a_place
def list_entries(place: Place, query: Query, as_json: bool) -> None:
    """List entries: since when and why they wait.

    \b
    Examples:
      postroom queue list                               the newest 50
      postroom queue list --order oldest --limit 10     the 10 that wait longest
      postroom queue list --queue held --json           for a program
      postroom queue list --to @example.org --info 421  deferred by one destination
      postroom queue list --since "2 hours" invoice     the word in any field, last 2 hours
      postroom queue list 'to:*@example.org age>1h attempts>=3 -is:locked'

    On a terminal the table fits the width; in a pipe nothing is cut. NEXT is the next attempt: "now" = due, "working" =
    a worker has the entry, "-" = a person decides. Exits 1 when a filter was given and nothing matches.
    """
    now = SystemClock().now()
    with place.store() as store:
        reader = store.read_now()
        found = matching(reader, query)
        if as_json:
            rows = [entry_json(entry, now) for entry in found]
            print_json(rows)
            empty = not rows
        else:
            first = list(found)
            _print_entries(first, now)
            empty = not first
            if query.limit and len(first) == query.limit:
                total = count(reader, query)
                if total > len(first):
                    click.echo(f"{len(first):,} of {total:,} shown; --limit 0 for all", err=True)
    if empty:
        _say_nothing(query)


@queue.command("count", cls=QueryCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@chosen_by_query()
@at_a_place
def count_entries(place: Place, query: Query, as_json: bool) -> None:
    """Count the entries in each queue.

    \b
    Examples:
      postroom queue count                       everything that waits
      postroom queue count --queue held          entries that wait for a person
      postroom queue count 'info:"timed out"'    entries that wait for this reason
      postroom queue count --json | jq .total

    WORKING counts the entries that a worker has now. Exits 1 when a filter was given and nothing matches.
    """
    now = SystemClock().now()
    with place.store() as store:
        reader = store.read_now()
        counts = dict(_counts(reader, query))
        oldest = {name: _oldest(reader, query, name) if number else None for name, number in counts.items()}
        leased = reader.locked_counts(now)
        pauses = reader.pauses()
    total = sum(counts.values())
    if as_json:
        queues: dict[str, object] = {}
        for name, number in counts.items():
            at = oldest[name]
            queues[name.value] = {
                "entries": number,
                "working": None if query.narrows else leased[name],
                "oldest": None if at is None else stamp(at),
            }
        paused = {scope.value: stamp(pauses[scope]) if scope in pauses else None for scope in Scope}
        print_json({"total": total, "queues": queues, "paused": paused})
    else:
        _print_counts(counts, oldest, {} if query.narrows else leased, now)
        for scope, since in pauses.items():
            warn(f"{scope} is paused since {ago(since, now)}; to resume: postroom queue resume {scope}")
    if not total and query.narrows:
        _say_nothing(query)


def _counts(reader: Reader, query: Query) -> Iterator[tuple[Queue, int]]:
    if not query.narrows:
        yield from reader.queue_counts().items()
        return
    if query.ids:
        found = dict.fromkeys(Queue, 0)
        for entry in matching(reader, _unlimited(query)):
            found[entry.queue] += 1
        yield from ((name, number) for name, number in found.items() if number)
        return
    for name in query.filter.queues or Queue:
        number = count(reader, _within(query, name))
        if number:
            yield name, number


def _oldest(reader: Reader, query: Query, name: Queue) -> Millis | None:
    entries = (entry for entry in matching(reader, _oldest_first(_within(query, name))) if entry.queue is name)
    first = next(entries, None)
    return None if first is None else first.created


def _unlimited(query: Query) -> Query:
    return msgspec.structs.replace(query, limit=0)


def _oldest_first(query: Query) -> Query:
    ids = tuple(sorted(query.ids))
    return msgspec.structs.replace(query, ids=ids, limit=0 if ids else 1, order=Order.OLDEST)


def _within(query: Query, name: Queue) -> Query:
    """The same query, in one queue."""
    return msgspec.structs.replace(query, filter=msgspec.structs.replace(query.filter, queues=(name,)), limit=0)


def _print_entries(entries: list[Entry], now: Millis) -> None:
    if not entries:
        return
    rows = [
        (
            public_id(entry.id),
            Cell(entry.queue, COLOURS.get(entry.queue)),
            local(entry.created, now),
            short_duration(max(now - entry.created, 0)),
            entry.env_from or "<>",
            entry.recipient,
            entry.subject,
            str(entry.attempts),
            next_words(entry, now),
            Cell(("maybe delivered: " if entry.label & 1 else "") + entry.info, "red" if entry.label else None),
        )
        for entry in entries
    ]
    print_table(LISTED, rows)


def _print_counts(
    counts: dict[Queue, int], oldest: dict[Queue, Millis | None], leased: dict[Queue, int], now: Millis
) -> None:
    columns = [Column("QUEUE"), Column("ENTRIES", right=True)]
    columns += [Column("WORKING", right=True)] if leased else []
    columns += [Column("OLDEST", right=True)]
    rows: list[list[str | Cell]] = []
    for name, number in counts.items():
        at = oldest[name]
        row: list[str | Cell] = [Cell(name, COLOURS.get(name) if number else None), f"{number:,}"]
        row += [f"{leased[name]:,}"] if leased else []
        rows.append([*row, "-" if at is None else short_duration(now - at)])
    if len(rows) != 1:
        total: list[str | Cell] = [Cell("total", bold=True), Cell(f"{sum(counts.values()):,}", bold=True)]
        rows.append(total + ([f"{sum(leased.values()):,}"] if leased else []) + [""])
    if sum(counts.values()) or leased:
        print_table(columns, rows)


def _say_nothing(query: Query) -> None:
    if query.ids:
        raise Refusal("none of these ids is in the queue; postroom queue show ID also searches the history")
    if query.narrows:
        raise Refusal("nothing in the queue matches")
    click.echo("the queue is empty", err=True)


for command in (show, retry, hold, release, *PLAN_COMMANDS, pause, resume):
    queue.add_command(command)
