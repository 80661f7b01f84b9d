"""`postroom queue show ID`: everything about an entry, waiting or ended: state, envelope, message, timeline.

Promises: the body is never printed; header texts cannot control the terminal. Fails: `Refusal` (exit 1) naming the ids
that are neither in the queue nor in the history; the others are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from postroom.cli.place import Place, Refusal, at_a_place
from postroom.cli.table import Cell, Column, print_json, print_pairs, print_table
from postroom.cli.words import (
    ago,
    ended_json,
    entry_json,
    event_json,
    labels,
    local_exact,
    message_json,
    size_words,
    state,
)
from postroom.clock import Millis, SystemClock
from postroom.errors import PeerError
from postroom.ids import parse_public_id, public_id
from postroom.model import Ended, Entry, Event, Message
from postroom.store import Reader
from postroom.units import short_duration

OUTCOME_COLOURS = {"delivered": "green", "bounced": "red", "rejected": "red", "expired": "red"}
KIND_COLOURS = {**OUTCOME_COLOURS, "held": "yellow", "deferred": "yellow", "taken_over": "red", "restored": "yellow"}


@click.command(short_help="Show everything about an entry.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array with an object for each entry found.")
@at_a_place
def show(place: Place, ids: tuple[str, ...], as_json: bool) -> None:
    """Show everything about an entry: state, envelope, message and timeline.

    Also finds ended entries (delivered, bounced, ...) while the history keeps them. You find ids in the reply to the
    sender ("250 2.0.0 ... ID") and in the log.

    \b
    Examples:
      postroom queue show 1a2b3c4d5e600001
      postroom queue show 1a2b3c4d5e600001 --json | jq '.[0].events'
    """
    now = SystemClock().now()
    try:
        wanted = list(dict.fromkeys(parse_public_id(ident) for ident in ids))
    except PeerError as problem:
        raise click.UsageError(str(problem)) from problem
    documents: list[dict[str, object]] = []
    missing: list[str] = []
    with place.store() as store:
        reader = store.read_now()
        for ident in wanted:
            entry, ended = reader.entry(ident), reader.ended(ident)
            if entry is None and ended is None:
                missing.append(public_id(ident))
            elif as_json:
                documents.append(_document(reader, entry, ended, now))
            else:
                if documents:
                    click.echo()
                documents.append({})
                _print(reader, entry, ended, now)
    if as_json:
        print_json(documents)
    if missing:
        raise Refusal(f"neither in the queue nor in the history: {', '.join(missing)}")


def _document(reader: Reader, entry: Entry | None, ended: Ended | None, now: Millis) -> dict[str, object]:
    if entry is not None:
        document = {**entry_json(entry, now), "state": state(entry, now, reader.pauses())}
        message = reader.readable_message(entry.message_id)
    else:
        assert ended is not None
        document = {**ended_json(ended), "state": f"{ended.outcome.value}"}
        message = reader.readable_message(ended.message_id)
    ident = entry.id if entry is not None else ended.id if ended is not None else 0
    document["message"] = None if message is None else message_json(message)
    document["events"] = [event_json(event) for event in reader.events(ident)]
    return document


def _print(reader: Reader, entry: Entry | None, ended: Ended | None, now: Millis) -> None:
    if entry is not None:
        _title(entry.id)
        print_pairs(
            [
                ("state", state(entry, now, reader.pauses())),
                ("why", entry.info),
                ("attempts", str(entry.attempts)),
                *(("label", Cell(text, "red")) for text in labels(entry.label)),
            ]
        )
        message = reader.readable_message(entry.message_id)
        name = f" ({entry.recipient_name})" if entry.recipient_name else ""
        _print_envelope(entry, f"{entry.recipient}{name}", now)
    else:
        assert ended is not None
        _title(ended.id)
        print_pairs(
            [
                ("state", Cell(f"{ended.outcome} {ago(ended.ended, now)}", OUTCOME_COLOURS.get(ended.outcome))),
                ("reply", ended.reply),
                ("attempts", str(ended.attempts)),
                *(("label", Cell(text, "red")) for text in labels(ended.label)),
            ]
        )
        message = reader.readable_message(ended.message_id)
        _print_envelope(ended, ended.recipient, now)
    _print_message(entry or ended, message)
    events = reader.events(entry.id if entry is not None else ended.id if ended is not None else 0)
    _print_events(events)


def _title(ident: int) -> None:
    click.echo(click.style(f"entry {public_id(ident)}", bold=True))


def _print_envelope(entry: Entry | Ended, recipient: str, now: Millis) -> None:
    click.echo(click.style("envelope", bold=True))
    print_pairs(
        [
            ("from", entry.env_from or "<> (null sender: a notice)"),
            ("to", recipient),
            ("route", entry.route),
            ("accepted", f"{local_exact(entry.created)} ({short_duration(max(now - entry.created, 0))} ago)"),
        ]
    )


def _print_message(entry: Entry | Ended | None, message: Message | None) -> None:
    assert entry is not None
    click.echo(click.style("message", bold=True))
    attachment = "with attachment" if entry.attachment else "no attachment"
    pairs: list[tuple[str, str | Cell]] = [
        ("id", public_id(entry.message_id)),
        ("From", entry.from_address if message is None else _named(message.facts.from_name, entry.from_address)),
        ("To", message.facts.to_header if message else ""),
        ("Subject", entry.subject),
        ("Message-ID", message.facts.message_id if message else ""),
        ("size", f"{size_words(entry.size)}, {attachment}"),
    ]
    if message is None:
        pairs.append(("from host", entry.remote_ip))
        pairs.append(("note", "the message was removed when its last entry ended"))
    else:
        client = message.client
        how = f"HELO {client.helo}" if client.helo else ""
        how = ", ".join(filter(None, [client.name, how, client.tls or "in clear", client.user and f"as {client.user}"]))
        pairs.append(("from host", f"{client.ip} ({how})"))
        pairs.append(("problems", ", ".join(message.facts.problems)))
        for verdict in message.verdicts:
            pairs.append(("check", f"{verdict.check}: {verdict.kind}{f', {verdict.info}' if verdict.info else ''}"))
    print_pairs(pairs)


def _named(name: str, address: str) -> str:
    return f"{name} <{address}>" if name else address


def _print_events(events: Sequence[Event]) -> None:
    if not events:
        return
    click.echo(click.style("timeline", bold=True))
    columns = (Column("WHEN"), Column("EVENT"), Column("QUEUE", drop=1), Column("BY", drop=2), Column("WHAT", least=20))
    print_table(
        columns,
        [
            (
                local_exact(event.at),
                Cell(event.kind, KIND_COLOURS.get(event.kind)),
                event.queue,
                event.actor,
                event.info,
            )
            for event in events
        ],
    )
