"""`postroom queue plan | apply | undo | plans`: act on many entries as one, with a preview before and a way back after.

Promises: `plan` changes nothing; `apply` does it to exactly what was frozen; what `undo` cannot take back is told, entry by entry.
Fails: exit 1 when nothing matched or the plan is refused, exit 2 for a wrong query or option; an interrupted command is simply given
again and goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from postroom import query as language
from postroom.cli.actions import MAX_REASON
from postroom.cli.place import Place, Refusal, actor, at_a_place
from postroom.cli.query import Query, QueryCommand, chosen_by_query
from postroom.cli.table import Column, print_json, print_table, safe
from postroom.cli.words import ago, ahead, many
from postroom.clock import Millis, SystemClock
from postroom.errors import PeerError
from postroom.ids import parse_public_id, public_id
from postroom.model import Action, Filter
from postroom.store import plan_book, plans
from postroom.store.plan_book import Plan, PlanEntry, Share
from postroom.store.store import Store
from postroom.telemetry import stamp
from postroom.units import write_size

LONG = 2_000  # entries; more show their progress
SHOWN = 20
OVER = ("undone", "final", "expired")


@click.command("plan", cls=QueryCommand, short_help="Freeze a set of entries, to act on it as one.")
@click.argument("action", type=click.Choice([action.value for action in Action]))
@click.option("--notify", is_flag=True, help="Of reject: tell the senders.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@chosen_by_query()
@at_a_place
def make_plan(place: Place, query: Query, action: str, notify: bool, as_json: bool) -> None:
    """Freeze the entries that a query means, and show what an action would do to them. Nothing is done yet.

    \b
    Examples:
      postroom queue plan hold from:newsletter@ queue:delivery
      postroom queue plan retry "info:timed out" to:*@example.org
      postroom queue plan delete queue:held "age>7d"
      postroom queue apply PLAN --reason "asked for by legal"     does it
      postroom queue undo PLAN                                    takes it back

    Actions: retry, hold, release, reject, bounce (return to sender), delete, bulk (to bulk_processing), unbulk (back). What
    reject, bounce and delete end is kept until the undo window is over ([plans] undo_window).
    """
    if not query.narrows:
        raise click.UsageError(f"say which entries to {action}: ids, or a query such as queue:delivery")
    if query.limit:
        raise click.UsageError("--limit: a plan has all that match; narrow the query instead")
    if notify and action != Action.REJECT:
        raise click.UsageError("--notify: only a rejection asks whether to tell the sender")
    chosen = Filter(ids=query.ids) if query.ids else query.filter
    wish = plans.Wish(Action(action), chosen, language.write(chosen), actor(), notify)
    settings, clock = place.settings().plans, SystemClock()
    with place.store() as store, _progress("Plan", LONG + 1) as told:
        plan = plans.run_now(store, plans.make(store, wish, settings, clock, told))
    _print(plan, (), as_json)
    if not plan.entries:
        raise Refusal("nothing that this could be done to matches")


@click.command("apply", short_help="Do what a plan says, to exactly what was frozen.")
@click.argument("plan", metavar="PLAN")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept in the timelines and in the audit log.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def apply_plan(place: Place, plan: str, reason: str, as_json: bool) -> None:
    """Do what a plan says, to exactly the entries that were frozen.

    \b
    Examples:
      postroom queue apply 1a2b3c4d5e600001 --reason "asked for by legal"

    What has left the queue or changed since is skipped, and told; when too much has ([plans] max_changed), nothing is done. An
    interrupted one goes on when it is given again.
    """
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise click.UsageError(f"--reason: expected 1 to {MAX_REASON} printable characters")
    ident, settings = _ident(plan), place.settings().plans
    with place.store() as store:
        known = plan_book.read(store.read_now().connection, ident)
        with _progress("Apply", known.entries) as told:
            verb = plans.apply(store, ident, settings, SystemClock(), actor=actor(), reason=reason.strip(), told=told)
            done = plans.run_now(store, verb)
        left = _told_of(store, ident, ("skipped",))
    _print(done, left, as_json)
    if not done.done:
        raise Refusal("nothing was done")


@click.command("undo", short_help="Take a plan back.")
@click.argument("plan", metavar="PLAN")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@at_a_place
def undo_plan(place: Place, plan: str, as_json: bool) -> None:
    """Take a plan back: everything returns to exactly where it was, but for what has left or changed since.

    \b
    Examples:
      postroom queue undo 1a2b3c4d5e600001

    Only within the undo window ([plans] undo_window, 15 minutes by default). Exits 1 when something could not be taken back.
    """
    ident = _ident(plan)
    with place.store() as store:
        known = plan_book.read(store.read_now().connection, ident)
        with _progress("Undo", known.entries) as told:
            done = plans.run_now(store, plans.undo(store, ident, SystemClock(), actor=actor(), told=told))
        left = _told_of(store, ident, ("kept",))
    _print(done, left, as_json)
    if done.kept:
        raise Refusal(f"{many(done.kept)} could not be taken back")


@click.command("plans", short_help="List plans and their reports.")
@click.argument("plan", metavar="[PLAN]", required=False)
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=20, metavar="N", help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array of objects; one object for one plan.")
@at_a_place
def list_plans(place: Place, plan: str | None, limit: int, as_json: bool) -> None:
    """List plans, newest first; with PLAN, the report of one.

    \b
    Examples:
      postroom queue plans
      postroom queue plans 1a2b3c4d5e600001       what was done, what was skipped, and why
    """
    with place.store() as store:
        connection = store.read_now().connection
        if plan is not None:
            ident = _ident(plan)
            found = plan_book.read(connection, ident)
            _print(found, _told_of(store, ident, ("skipped", "kept")), as_json)
            return
        listed = plan_book.latest(connection, limit)
    if as_json:
        print_json([plan_json(one) for one in listed])
        return
    now = SystemClock().now()
    rows = [
        (public_id(one.id), one.action.value, one.state, f"{one.entries:,}", f"{one.done:,}", ago(one.created, now),
         safe(one.actor or one.planner), safe(one.query))
        for one in listed
    ]  # fmt: skip
    columns = (
        Column("PLAN"), Column("ACTION"), Column("STATE"), Column("ENTRIES", right=True), Column("DONE", right=True),
        Column("MADE", drop=2), Column("BY", drop=1, least=8), Column("QUERY", least=12),
    )  # fmt: skip
    if rows:
        print_table(columns, rows)
    else:
        click.echo("no plans", err=True)


COMMANDS = (make_plan, apply_plan, undo_plan, list_plans)


def _ident(text: str) -> int:
    try:
        return parse_public_id(text)
    except PeerError as problem:
        raise click.UsageError(f"PLAN: {problem}") from problem


def _told_of(store: Store, ident: int, states: Sequence[str]) -> list[PlanEntry]:
    return plan_book.entries(store.read_now().connection, ident, states=states, limit=SHOWN)


@contextmanager
def _progress(label: str, entries: int) -> Iterator[Callable[[int], None]]:
    if entries <= LONG or not sys.stderr.isatty():
        yield lambda number: None
        return
    with click.progressbar(length=entries, label=label, file=sys.stderr) as bar:
        yield bar.update


def plan_json(plan: Plan) -> dict[str, object]:
    """The keys of `/v1/plans`."""
    times = {
        name: None if at is None else stamp(at)
        for name, at in (
            ("created", plan.created), ("expires", plan.expires), ("applied", plan.applied), ("undoUntil", plan.undo_until),
            ("finished", plan.finished),
        )
    }  # fmt: skip
    summary = plan.summary
    return {
        "id": public_id(plan.id), "state": plan.state, "action": plan.action.value, "query": plan.query,
        "planner": plan.planner, "actor": plan.actor, "reason": plan.reason, "undoer": plan.undoer, "notify": plan.notify,
        **times, "entries": plan.entries, "bytes": plan.bytes, "done": plan.done, "skipped": plan.skipped,
        "undone": plan.undone, "kept": plan.kept, "ended": plan.ended,
        "summary": {
            "queues": _shares(summary.queues), "domains": _shares(summary.domains), "senders": _shares(summary.senders),
            "leftOut": _shares(summary.left_out),
            "samples": [
                {"id": one.id, "queue": one.queue, "sender": one.sender, "recipient": one.recipient, "subject": one.subject,
                 "size": one.size}
                for one in summary.samples
            ],
        },
    }  # fmt: skip


def _shares(shares: Sequence[Share]) -> list[dict[str, object]]:
    return [{"name": share.name, "entries": share.entries} for share in shares]


def _print(plan: Plan, left: Sequence[PlanEntry], as_json: bool) -> None:
    if as_json:
        told = [{"id": public_id(one.id), "state": one.state, "why": one.why} for one in left]
        print_json({**plan_json(plan), **({"leftAlone": told} if left else {})})
        return
    now, ident = SystemClock().now(), public_id(plan.id)
    click.echo(f"plan {ident}: {plan.action} {many(plan.entries)}, {write_size(plan.bytes)}: {plan.state}")
    if plan.state == "ready":
        _preview(plan)
    for number, text in (
        (plan.done, "done"), (plan.skipped, "skipped"), (plan.undone, "undone"), (plan.kept, "not undone"),
        (plan.ended, "ended"),
    ):  # fmt: skip
        if number:
            click.echo(f"{many(number)} {text}")
    if left:
        print_table((Column("LEFT ALONE"), Column("WHY", least=20)), [(public_id(one.id), one.why) for one in left])
    _next(plan, ident, now)


def _preview(plan: Plan) -> None:
    summary = plan.summary
    for title, shares in (
        ("in", summary.queues), ("to", summary.domains), ("from", summary.senders), ("left out", summary.left_out),
    ):  # fmt: skip
        if shares:
            click.echo(f"  {title}: " + ", ".join([f"{safe(share.name)} ({share.entries:,})" for share in shares]))
    if summary.samples:
        rows = [(one.id, safe(one.sender), safe(one.recipient), safe(one.subject)) for one in summary.samples]
        columns = (Column("FOR EXAMPLE"), Column("FROM", least=12), Column("TO", least=12), Column("SUBJECT", least=10))
        print_table(columns, rows)


def _next(plan: Plan, ident: str, now: Millis) -> None:
    if plan.state == "ready" and plan.entries:
        click.echo(f"until {ahead(plan.expires, now)}: postroom queue apply {ident} --reason WHY")
    elif plan.state in ("applied", "applying") and plan.undo_until is not None:
        click.echo(f"until {ahead(plan.undo_until, now)}: postroom queue undo {ident}")
