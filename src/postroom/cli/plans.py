"""`postroom queue plan | apply | undo | plans`: act on many entries at once, with a preview before and an undo after.

`reject`, `bounce` and `delete` make a plan and apply it at once.
Promises: `plan` changes nothing; `apply` acts on exactly the frozen entries; `undo` lists each entry that it cannot
restore. `reject`, `bounce` and `delete` act on exactly the entries that they asked about.
Fails: exit 1 when nothing matched or the plan is refused, exit 2 for a wrong query or option. An interrupted command
continues when it is given again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from postroom import query as language
from postroom.cli.actions import MAX_REASON
from postroom.cli.place import Place, Refusal, actor, at_a_place
from postroom.cli.query import Query, QueryCommand, chosen_by_query
from postroom.cli.table import Column, print_json, print_table, safe, table_lines, terminal_width
from postroom.cli.words import ago, ahead, many
from postroom.clock import Millis, SystemClock
from postroom.errors import PeerError
from postroom.ids import parse_public_id, public_id
from postroom.model import Action, Filter
from postroom.settings import Plans
from postroom.store import Store, plans
from postroom.telemetry import stamp
from postroom.units import write_size

LONG = 2_000  # entries; more show their progress
SHOWN = 20
REASON_HELP = "Reason; kept in the timelines and in the audit log."
NOTHING = "nothing matches that this action applies to"


@click.command("plan", cls=QueryCommand, short_help="Make a plan: a fixed set of entries and an action.")
@click.argument("action", type=click.Choice([action.value for action in Action]))
@click.option("--notify", is_flag=True, help="With reject: notify the senders.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@chosen_by_query()
@at_a_place
def make_plan(place: Place, query: Query, action: str, notify: bool, as_json: bool) -> None:
    """Make a plan: fix the set of entries that match now, and show what the action would do. Nothing is done yet.

    \b
    Examples:
      postroom queue plan hold from:newsletter@ queue:delivery
      postroom queue plan retry "info:timed out" to:*@example.org
      postroom queue plan delete queue:held "age>7d"
      postroom queue apply PLAN --reason "asked for by legal"     do it
      postroom queue undo PLAN                                    undo it

    Actions: retry, hold, release, reject, bounce (return to sender), delete, bulk (move to bulk_processing), unbulk
    (move back). Entries that reject, bounce or delete would end are kept until the undo window is over ([plans]
    undo_window).
    """
    if notify and action != Action.REJECT:
        raise click.UsageError("--notify: only for reject")
    wish = _wish(Action(action), query, notify)
    with place.store() as store:
        plan = _frozen(store, wish, place.settings().plans)
    _print(plan, (), as_json)
    if not plan.entries:
        raise Refusal(NOTHING)


@click.command("apply", short_help="Apply a plan to exactly its entries.")
@click.argument("plan", metavar="PLAN")
@click.option("--reason", required=True, metavar="TEXT", help=REASON_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def apply_plan(place: Place, plan: str, reason: str, as_json: bool) -> None:
    """Apply a plan to exactly its entries.

    \b
    Examples:
      postroom queue apply 1a2b3c4d5e600001 --reason "asked for by legal"

    Entries that have left the queue or changed since the plan was made are skipped and listed. When too many have
    changed ([plans] max_changed), nothing is done. If the command is interrupted, run it again: it continues.
    """
    reason, ident = _checked(reason), _ident(plan)
    with place.store() as store:
        known = store.read_now().ask(plans.read(ident))
        done, left = _applied(store, known, reason, place.settings().plans)
    _print(done, left, as_json)
    if not done.done:
        raise Refusal("nothing was done")


@click.command("undo", short_help="Undo a plan.")
@click.argument("plan", metavar="PLAN")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def undo_plan(place: Place, plan: str, as_json: bool) -> None:
    """Undo a plan: every entry returns to exactly where it was, except those that have left or changed since.

    \b
    Examples:
      postroom queue undo 1a2b3c4d5e600001

    Works only within the undo window ([plans] undo_window, 15 minutes by default). Exits 1 when an entry could not be
    restored.
    """
    ident = _ident(plan)
    with place.store() as store:
        known = store.read_now().ask(plans.read(ident))
        with _progress("Undo", known.entries) as told:
            done = plans.carry_out_now(store, plans.undo(store, ident, SystemClock(), actor=actor(), told=told))
        left = _told_of(store, ident, ("kept",))
    _print(done, left, as_json)
    if done.kept:
        raise Refusal(f"{many(done.kept)} could not be restored")


@click.command("plans", short_help="List plans and their reports.")
@click.argument("plan", metavar="[PLAN]", required=False)
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=20, metavar="N", help="List at most N plans.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects; with PLAN, one object.")
@at_a_place
def list_plans(place: Place, plan: str | None, limit: int, as_json: bool) -> None:
    """List plans, newest first; with PLAN, show the report of that plan.

    \b
    Examples:
      postroom queue plans
      postroom queue plans 1a2b3c4d5e600001       what was done, what was skipped, and why
    """
    with place.store() as store:
        reader = store.read_now()
        if plan is not None:
            ident = _ident(plan)
            found = reader.ask(plans.read(ident))
            _print(found, _told_of(store, ident, ("skipped", "kept")), as_json)
            return
        listed = reader.ask(plans.latest(limit))
    if as_json:
        print_json([_hurt_json(one) if isinstance(one, plans.Damaged) else plan_json(one) for one in listed])
        return
    now = SystemClock().now()
    rows = [_hurt_row(one) if isinstance(one, plans.Damaged) else _row(one, now) for one in listed]
    columns = (
        Column("PLAN"), Column("ACTION"), Column("STATE"), Column("ENTRIES", right=True), Column("DONE", right=True),
        Column("MADE", drop=2), Column("BY", drop=1, least=8), Column("QUERY", least=12),
    )  # fmt: skip
    if rows:
        print_table(columns, rows)
    else:
        click.echo("no plans", err=True)
    if any(isinstance(one, plans.Damaged) for one in listed):
        click.echo("postroom verify --repair closes damaged plans", err=True)


def _row(plan: plans.Plan, now: Millis) -> tuple[str, ...]:
    return (
        public_id(plan.id), plan.action.value, plan.state, f"{plan.entries:,}", f"{plan.done:,}",
        ago(plan.created, now), safe(plan.actor or plan.planner), safe(plan.query),
    )  # fmt: skip


def _hurt_row(plan: plans.Damaged) -> tuple[str, ...]:
    return (public_id(plan.id), "-", "damaged", "-", "-", "-", "-", f"not readable: {', '.join(plan.columns)}")


def _hurt_json(plan: plans.Damaged) -> dict[str, object]:
    return {"id": public_id(plan.id), "state": "damaged", "columns": list(plan.columns)}


_Command = Callable[..., None]


def _ending(command: _Command) -> _Command:
    """Give a command the options that reject, bounce and delete have."""
    decorated: _Command = chosen_by_query()(at_a_place(command))
    json_help = "Print one JSON object: the applied plan."
    decorated = click.option("--json", "as_json", is_flag=True, help=json_help)(decorated)
    decorated = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(decorated)
    return click.option("--reason", "--message", "reason", required=True, metavar="TEXT", help=REASON_HELP)(decorated)


@click.command(cls=QueryCommand, short_help="Reject entries: end them without delivery.")
@_ending
@click.option("--notify", is_flag=True, help="Notify the senders, with the reason. Null senders get no notice.")
def reject(**given: Any) -> None:
    """Reject entries: end them without delivery. Senders are notified only with --notify.

    \b
    Examples:
      postroom queue reject 1a2b3c4d5e600001 --notify --reason "contains confidential information"
      postroom queue reject queue:held from:spammer@ --reason "spam" --yes

    This makes a plan and applies it at once. Until the undo window is over ([plans] undo_window), `postroom queue undo
    PLAN` undoes it and no notice is sent. Entries that are being worked on are left out: hold them first, or try again.
    """
    _end(Action.REJECT, **given)


@click.command(cls=QueryCommand, short_help="Bounce entries: return them to their senders.")
@_ending
def bounce(**given: Any) -> None:
    """Bounce entries: end them and notify their senders that they could not be delivered.

    \b
    Examples:
      postroom queue bounce 1a2b3c4d5e600001 --reason "the mailbox is closed"
      postroom queue bounce "to:*@old.example.org" --reason "moved"      shows what matches, and asks
      postroom queue bounce to:bob queue:held --reason "left" --yes      does not ask

    This makes a plan and applies it at once. Until the undo window is over ([plans] undo_window), `postroom queue undo
    PLAN` undoes it and no notice is sent. Entries without a sender, or being worked on, are left out.
    """
    _end(Action.BOUNCE, **given)


@click.command(cls=QueryCommand, short_help="Delete entries, without any notice.")
@_ending
def delete(**given: Any) -> None:
    """Delete entries: end them without delivery and without any notice.

    \b
    Examples:
      postroom queue delete 1a2b3c4d5e600001 --reason "a test message"
      postroom queue delete from:newsletter@ "age>1h" --reason "a loop"    shows what matches, and asks

    This makes a plan and applies it at once. Until the undo window is over ([plans] undo_window), `postroom queue undo
    PLAN` restores the entries and their messages. Entries that are being worked on are left out.
    """
    _end(Action.DELETE, **given)


def _end(
    action: Action, place: Place, query: Query, reason: str, yes: bool, as_json: bool, notify: bool = False
) -> None:
    reason, settings, wish = _checked(reason), place.settings().plans, _wish(action, query, notify)
    ask = not query.ids and not yes
    if ask and not sys.stdin.isatty():
        raise click.UsageError(f"there is no terminal to confirm on: add --yes to {action} what the query matches")
    with place.store() as store:
        plan = _frozen(store, wish, settings)
        if ask and plan.entries:
            _preview(plan, err=True)
        wanted = plan.entries and (not ask or click.confirm(f"{action.capitalize()} {many(plan.entries)}?", err=True))
        done, left = _applied(store, plan, reason, settings) if wanted else (plan, [])
        if not wanted:
            store.write_now(plans.discard(plan.id, actor(), SystemClock().now()))
    if plan.entries and not wanted:
        raise click.Abort
    _print(done, left, as_json)
    gone = len(set(query.ids)) - plan.entries - sum([share.entries for share in plan.summary.left_out])
    if query.ids and gone:
        raise Refusal(f"{many(gone)} not in the queue: ended, or never there")
    if not done.done:
        raise Refusal(NOTHING)
    if query.ids and done.done < len(set(query.ids)):
        raise Refusal(f"{many(len(set(query.ids)) - done.done)} refused")


COMMANDS = (reject, bounce, delete, make_plan, apply_plan, undo_plan, list_plans)


def _wish(action: Action, query: Query, notify: bool = False) -> plans.Wish:
    if not query.narrows:
        raise click.UsageError(f"which entries to {action}? Give ids, or a query such as queue:delivery")
    if query.limit:
        raise click.UsageError("--limit: a plan takes every entry that matches; narrow the query instead")
    chosen = Filter(ids=query.ids) if query.ids else query.filter
    return plans.Wish(action, chosen, language.write(chosen), actor(), notify)


def _checked(reason: str) -> str:
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise click.UsageError(f"--reason: expected 1 to {MAX_REASON} printable characters")
    return reason.strip()


def _frozen(store: Store, wish: plans.Wish, settings: Plans) -> plans.Plan:
    with _progress("Plan", LONG + 1) as told:
        return plans.carry_out_now(store, plans.make(store, wish, settings, SystemClock(), told))


def _applied(store: Store, plan: plans.Plan, reason: str, settings: Plans) -> tuple[plans.Plan, list[plans.PlanEntry]]:
    """(the plan afterwards, some of the skipped entries)."""
    with _progress("Apply", plan.entries) as told:
        verb = plans.apply(store, plan.id, settings, SystemClock(), actor=actor(), reason=reason, told=told)
        done = plans.carry_out_now(store, verb)
    return done, _told_of(store, plan.id, ("skipped",))


def _ident(text: str) -> int:
    try:
        return parse_public_id(text)
    except PeerError as problem:
        raise click.UsageError(f"PLAN: {problem}") from problem


def _told_of(store: Store, ident: int, states: Sequence[str]) -> list[plans.PlanEntry]:
    return store.read_now().ask(plans.entries(ident, states=states, limit=SHOWN))


@contextmanager
def _progress(label: str, entries: int) -> Iterator[Callable[[int], None]]:
    if entries <= LONG or not sys.stderr.isatty():
        yield lambda number: None
        return
    with click.progressbar(length=entries, label=label, file=sys.stderr) as bar:
        yield bar.update


def plan_json(plan: plans.Plan) -> dict[str, object]:
    """The keys of `/v1/plans`."""
    times = {
        name: None if at is None else stamp(at)
        for name, at in (
            ("created", plan.created), ("expires", plan.expires), ("applied", plan.applied),
            ("undoUntil", plan.undo_until), ("finished", plan.finished),
        )
    }  # fmt: skip
    summary = plan.summary
    return {
        "id": public_id(plan.id), "state": plan.state, "action": plan.action.value, "query": plan.query,
        "planner": plan.planner, "actor": plan.actor, "reason": plan.reason, "undoer": plan.undoer,
        "notify": plan.notify,
        **times, "entries": plan.entries, "bytes": plan.bytes, "done": plan.done, "skipped": plan.skipped,
        "undone": plan.undone, "kept": plan.kept, "ended": plan.ended,
        "summary": {
            "queues": _shares(summary.queues), "domains": _shares(summary.domains), "senders": _shares(summary.senders),
            "leftOut": _shares(summary.left_out),
            "samples": [
                {"id": one.id, "queue": one.queue, "sender": one.sender, "recipient": one.recipient,
                 "subject": one.subject, "size": one.size}
                for one in summary.samples
            ],
        },
    }  # fmt: skip


def _shares(shares: Sequence[plans.Share]) -> list[dict[str, object]]:
    return [{"name": share.name, "entries": share.entries} for share in shares]


def _print(plan: plans.Plan, left: Sequence[plans.PlanEntry], as_json: bool) -> None:
    """For programs or people: the plan, how far it is, and what can be done next."""
    if as_json:
        told = [{"id": public_id(one.id), "state": one.state, "why": one.why} for one in left]
        print_json({**plan_json(plan), **({"leftAlone": told} if left else {})})
        return
    now, ident = SystemClock().now(), public_id(plan.id)
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


def _preview(plan: plans.Plan, *, err: bool = False) -> None:
    """The summary of a plan: all of it before it is applied, afterwards only what was left out."""
    click.echo(
        f"plan {public_id(plan.id)}: {plan.action} {many(plan.entries)}, {write_size(plan.bytes)}: {plan.state}",
        err=err,
    )
    summary, ready = plan.summary, plan.state == "ready"
    for title, shares in (
        ("in", summary.queues), ("to", summary.domains), ("from", summary.senders), ("left out", summary.left_out),
    ):  # fmt: skip
        if shares and (ready or shares is summary.left_out):
            click.echo(
                f"  {title}: " + ", ".join([f"{safe(share.name)} ({share.entries:,})" for share in shares]), err=err
            )
    if summary.samples and ready:
        rows = [(one.id, safe(one.sender), safe(one.recipient), safe(one.subject)) for one in summary.samples]
        columns = (Column("FOR EXAMPLE"), Column("FROM", least=12), Column("TO", least=12), Column("SUBJECT", least=10))
        for line in table_lines(columns, rows, width=terminal_width()):
            click.echo(line, err=err)


def _next(plan: plans.Plan, ident: str, now: Millis) -> None:
    if plan.state == "ready" and plan.entries:
        click.echo(f"until {ahead(plan.expires, now)}: postroom queue apply {ident} --reason WHY")
    elif plan.state in ("applied", "applying") and plan.undo_until is not None:
        click.echo(f"until {ahead(plan.undo_until, now)}: postroom queue undo {ident}")
