"""`postroom queue plan | apply | undo | plans`: act on many entries as one, with a preview before and a way back after; and `reject`,
`bounce` and `delete`, which are a plan that is applied at once.

Promises: `plan` changes nothing; `apply` does it to exactly what was frozen; what `undo` cannot take back is told, entry by entry. What
`reject`, `bounce` and `delete` have asked about is what they act on.
Fails: exit 1 when nothing matched or the plan is refused, exit 2 for a wrong query or option; an interrupted command is simply given
again and goes on where it stopped.
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
    if notify and action != Action.REJECT:
        raise click.UsageError("--notify: only a rejection asks whether to tell the sender")
    wish = _wish(Action(action), query, notify)
    with place.store() as store:
        plan = _frozen(store, wish, place.settings().plans)
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
    reason, ident = _checked(reason), _ident(plan)
    with place.store() as store:
        known = store.read_now().ask(plans.read(ident))
        done, left = _applied(store, known, reason, place.settings().plans)
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
        known = store.read_now().ask(plans.read(ident))
        with _progress("Undo", known.entries) as told:
            done = plans.carry_out_now(store, plans.undo(store, ident, SystemClock(), actor=actor(), told=told))
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
        click.echo("what is damaged is closed by postroom verify --repair", err=True)


def _row(plan: plans.Plan, now: Millis) -> tuple[str, ...]:
    return (
        public_id(plan.id), plan.action.value, plan.state, f"{plan.entries:,}", f"{plan.done:,}", ago(plan.created, now),
        safe(plan.actor or plan.planner), safe(plan.query),
    )  # fmt: skip


def _hurt_row(plan: plans.Damaged) -> tuple[str, ...]:
    return (public_id(plan.id), "-", "damaged", "-", "-", "-", "-", f"not readable: {', '.join(plan.columns)}")


def _hurt_json(plan: plans.Damaged) -> dict[str, object]:
    return {"id": public_id(plan.id), "state": "damaged", "columns": list(plan.columns)}


_Command = Callable[..., None]


def _ending(command: _Command) -> _Command:
    """What reject, bounce and delete have in common."""
    decorated: _Command = chosen_by_query()(at_a_place(command))
    decorated = click.option("--json", "as_json", is_flag=True, help="One JSON object: the plan, applied.")(decorated)
    decorated = click.option("--yes", is_flag=True, help="Do not ask before acting on a query.")(decorated)
    reason = "Why; kept in the timelines and in the audit log."
    return click.option("--reason", "--message", "reason", required=True, metavar="TEXT", help=reason)(decorated)


@click.command(cls=QueryCommand, short_help="Reject: end entries without delivery.")
@_ending
@click.option("--notify", is_flag=True, help="Tell the senders, and why. A null sender is never told.")
def reject(**given: Any) -> None:
    """Reject: end entries without delivery; nobody is told, unless you say so.

    \b
    Examples:
      postroom queue reject 1a2b3c4d5e600001 --notify --reason "contains confidential information"
      postroom queue reject queue:held from:spammer@ --reason "spam" --yes

    It is a plan, applied at once: until the undo window is over ([plans] undo_window) `postroom queue undo PLAN` takes it back, and
    nobody is told anything. What is being worked on just now is left out: hold it first, or try again.
    """
    _end(Action.REJECT, **given)


@click.command(cls=QueryCommand, short_help="Bounce: return entries to their senders.")
@_ending
def bounce(**given: Any) -> None:
    """Bounce: end entries and tell their senders that they could not be delivered.

    \b
    Examples:
      postroom queue bounce 1a2b3c4d5e600001 --reason "the mailbox is closed"
      postroom queue bounce "to:*@old.example.org" --reason "moved"      shows what it means, and asks
      postroom queue bounce to:bob queue:held --reason "left" --yes      does not ask

    It is a plan, applied at once: until the undo window is over ([plans] undo_window) `postroom queue undo PLAN` takes it back, and
    nobody is told anything. What has no sender, or is being worked on just now, is left out.
    """
    _end(Action.BOUNCE, **given)


@click.command(cls=QueryCommand, short_help="Delete: end entries, and tell nobody.")
@_ending
def delete(**given: Any) -> None:
    """Delete: end entries without delivery, and tell nobody.

    \b
    Examples:
      postroom queue delete 1a2b3c4d5e600001 --reason "a test message"
      postroom queue delete from:newsletter@ "age>1h" --reason "a loop"    shows what it means, and asks

    It is a plan, applied at once: until the undo window is over ([plans] undo_window) `postroom queue undo PLAN` takes it back, message
    and all. What is being worked on just now is left out.
    """
    _end(Action.DELETE, **given)


def _end(
    action: Action, place: Place, query: Query, reason: str, yes: bool, as_json: bool, notify: bool = False
) -> None:
    reason, settings, wish = _checked(reason), place.settings().plans, _wish(action, query, notify)
    ask = not query.ids and not yes
    if ask and not sys.stdin.isatty():
        raise click.UsageError(f"a query is meant and nobody can be asked: say --yes to {action} what it matches")
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
        raise Refusal("nothing that this could be done to matches")
    if query.ids and done.done < len(set(query.ids)):
        raise Refusal(f"{many(len(set(query.ids)) - done.done)} refused")


COMMANDS = (reject, bounce, delete, make_plan, apply_plan, undo_plan, list_plans)


def _wish(action: Action, query: Query, notify: bool = False) -> plans.Wish:
    if not query.narrows:
        raise click.UsageError(f"say which entries to {action}: ids, or a query such as queue:delivery")
    if query.limit:
        raise click.UsageError("--limit: a plan has all that match; narrow the query instead")
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
    """(what was done, some of what was skipped)."""
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


def _shares(shares: Sequence[plans.Share]) -> list[dict[str, object]]:
    return [{"name": share.name, "entries": share.entries} for share in shares]


def _print(plan: plans.Plan, left: Sequence[plans.PlanEntry], as_json: bool) -> None:
    """For a program or for people: what the plan is, how far it has come, and what can be done next."""
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
    """What it is about: all of one that is not applied yet, else what was left out of it."""
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
