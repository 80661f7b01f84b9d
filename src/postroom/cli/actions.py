"""`postroom queue retry | hold | release | pause | resume`: a person's actions on entries and on whole stages.

Promises: the ids are read before the person confirms, so that the action reaches exactly the entries that were counted;
every action writes an event with who and why. Fails: exit 1 when nothing matched or something was refused (each with
its reason); exit 2 when neither ids nor a filter was given, or a filter with neither a terminal nor --yes to confirm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from postroom.cli.place import Place, Refusal, actor, at_a_place
from postroom.cli.query import Query, QueryCommand, chosen_by_query, matching
from postroom.cli.table import Column, print_json, print_table, warn
from postroom.cli.words import ago, many
from postroom.clock import SystemClock
from postroom.ids import public_id
from postroom.model import Action, ActionReport, Scope
from postroom.store import Store
from postroom.telemetry import stamp

MAX_REASON = 200
SHOWN_REFUSALS = 20
LONG = 500  # entries; an action on more shows its progress

DONE = {Action.RETRY: "due now", Action.HOLD: "held", Action.RELEASE: "released"}
LATER = {
    Action.RETRY: "being worked on: due again as soon as the worker is done",
    Action.HOLD: "being worked on: held as soon as the worker is done",
    Action.RELEASE: "being worked on: released as soon as the worker is done",
}
_Command = Callable[..., None]


def _acting(command: _Command) -> _Command:
    """Give a command the options that all actions have."""
    decorated: _Command = at_a_place(command)
    decorated = chosen_by_query()(decorated)
    json_help = "Print one JSON object: done, requested, refused."
    decorated = click.option("--json", "as_json", is_flag=True, help=json_help)(decorated)
    decorated = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")(decorated)
    return click.option("--reason", metavar="TEXT", default="", help="Reason; kept in the timeline.")(decorated)


@click.command(cls=QueryCommand, short_help="Retry entries now instead of at their next attempt.")
@_acting
def retry(**given: Any) -> None:
    """Retry entries now instead of at their next attempt.

    \b
    Examples:
      postroom queue retry 1a2b3c4d5e600001
      postroom queue retry --queue delivery --to @example.org    shows the count and asks
      postroom queue retry --info "timed out" --yes              does not ask

    The number of attempts is not reset. To see what would be retried, give the same options to `postroom queue list`.
    """
    _act(Action.RETRY, **given)


@click.command(cls=QueryCommand, short_help="Hold entries until a person releases them.")
@_acting
def hold(**given: Any) -> None:
    """Hold entries until a person releases them.

    \b
    Examples:
      postroom queue hold 1a2b3c4d5e600001 --reason "asked for by legal"
      postroom queue hold 'from:newsletter@ queue:delivery age<1h'

    An entry that is being sent at this moment cannot be held: it may have left already.
    """
    _act(Action.HOLD, **given)


@click.command(cls=QueryCommand, short_help="Release held entries: they continue where they were.")
@_acting
def release(**given: Any) -> None:
    """Release held entries: they continue where they were.

    \b
    Examples:
      postroom queue release 1a2b3c4d5e600001
      postroom queue release --queue held --from alice@corp.example --reason "checked"
    """
    _act(Action.RELEASE, **given)


def _act(action: Action, place: Place, query: Query, reason: str, yes: bool, as_json: bool) -> None:
    if not query.narrows:
        raise click.UsageError(f"which entries to {action}? Give ids, or a filter such as --queue delivery")
    if len(reason) > MAX_REASON or not (reason.isprintable() or not reason):
        raise click.UsageError(f"--reason: expected at most {MAX_REASON} printable characters")
    with place.store() as store:
        ids = query.ids or tuple(entry.id for entry in matching(store.read_now(), query))
        if not ids:
            if as_json:
                _print_report(action, ActionReport((), (), ()), as_json)
            raise Refusal("nothing in the queue matches")
        if not query.ids and not yes:
            _confirm(action, len(ids))
        report = _perform(store, action, ids, reason)
        pauses = store.read_now().pauses()
    _print_report(action, report, as_json)
    if report.done and action in (Action.RETRY, Action.RELEASE) and not as_json:
        for scope, since in pauses.items():
            remedy = f"postroom queue resume {scope}"
            warn(f"{scope} is paused since {ago(since, SystemClock().now())}; nothing moves until: {remedy}")
    if report.refused:
        raise Refusal(f"{many(len(report.refused))} refused")


def _confirm(action: Action, number: int) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(
            f"{many(number)} match, and there is no terminal to confirm on: add --yes to {action} them"
        )
    click.confirm(f"{action.capitalize()} {many(number)}?", abort=True, err=True)


def _perform(store: Store, action: Action, ids: tuple[int, ...], reason: str) -> ActionReport:
    bar: AbstractContextManager[Any] = nullcontext()
    if len(ids) >= LONG and sys.stderr.isatty():
        bar = click.progressbar(length=len(ids), label=action.capitalize(), file=sys.stderr)
    with bar as shown:
        progress: Callable[[int], None] = shown.update if shown is not None else lambda number: None
        return store.act_now(action, ids, actor=actor(), reason=reason.strip(), progress=progress)


def _print_report(action: Action, report: ActionReport, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "action": action.value,
                "done": [public_id(ident) for ident in report.done],
                "requested": [public_id(ident) for ident in report.requested],
                "refused": [{"id": public_id(ident), "why": why} for ident, why in report.refused],
            }
        )
        return
    if report.done:
        click.echo(f"{many(len(report.done))} {DONE[action]}")
    if report.requested:
        click.echo(f"{many(len(report.requested))} {LATER[action]}")
    if report.refused:
        rows = [(public_id(ident), why) for ident, why in report.refused[:SHOWN_REFUSALS]]
        print_table((Column("REFUSED"), Column("WHY", least=20)), rows)
        if len(report.refused) > SHOWN_REFUSALS:
            click.echo(f"and {len(report.refused) - SHOWN_REFUSALS:,} more; --json lists all")


@click.command(short_help="Pause processing or delivery; mail is still accepted.")
@click.argument("scope", type=click.Choice([scope.value for scope in Scope]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def pause(place: Place, scope: str, as_json: bool) -> None:
    """Pause a stage. Mail is still accepted, and waits in the queue.

    \b
    Examples:
      postroom queue pause delivery       nothing is sent
      postroom queue pause processing     nothing is checked, so nothing new reaches delivery

    Workers finish the entries that they already have. A pause survives a restart; `postroom queue resume` ends it.
    """
    _switch(place, Scope(scope), paused=True, as_json=as_json)


@click.command(short_help="Resume processing or delivery.")
@click.argument("scope", type=click.Choice([scope.value for scope in Scope]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@at_a_place
def resume(place: Place, scope: str, as_json: bool) -> None:
    """Resume a paused stage.

    \b
    Example:
      postroom queue resume delivery
    """
    _switch(place, Scope(scope), paused=False, as_json=as_json)


def _switch(place: Place, scope: Scope, *, paused: bool, as_json: bool) -> None:
    """Idempotent: a stage that is already paused or running is not an error."""
    with place.store() as store:
        switch = store.pause_now if paused else store.resume_now
        changed = switch(scope, actor=actor())
        since = store.read_now().pauses().get(scope)
    if as_json:
        stamped = None if since is None else stamp(since)
        print_json({"scope": scope.value, "paused": since is not None, "changed": changed, "since": stamped})
    elif paused:
        when = "" if changed or since is None else f" already, since {ago(since, SystemClock().now())}"
        click.echo(f"{scope} is paused{when}; mail is still accepted. To resume: postroom queue resume {scope}")
    else:
        click.echo(f"{scope} is resumed" if changed else f"{scope} was not paused")
