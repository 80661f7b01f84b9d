"""Times, states and entries as the command line writes them, for people and as JSON.

Promises: people read local times with an age, programs read ISO 8601 in UTC; the keys of the JSON forms are stable (see
docs/operations.md). Pure but for the local time zone. Fails: never.
"""

from __future__ import annotations

from datetime import UTC, datetime

from postroom.cli.table import Cell
from postroom.clock import Millis
from postroom.ids import public_id
from postroom.model import Ended, Entry, Event, Label, Message, Queue, Scope
from postroom.telemetry import stamp
from postroom.units import short_duration

LABELS = {
    Label.MAYBE_DELIVERED: "may have been delivered: an attempt got no answer after the message was sent, or the entry "
    "was restored from a backup",
    Label.SUSPECT: "suspect: the worker was lost in three attempts in a row",
}


def local(at: Millis, now: Millis) -> str:
    """14:03 today, 20 Nov 14:03 this year, else 2024-11-20 14:03."""
    then = datetime.fromtimestamp(at / 1000, UTC).astimezone()
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone()
    if then.date() == today.date():
        return then.strftime("%H:%M")
    return then.strftime("%d %b %H:%M" if then.year == today.year else "%Y-%m-%d %H:%M").lstrip("0")


def local_exact(at: Millis) -> str:
    """2026-11-22 14:03:07.123, for one entry's page."""
    then = datetime.fromtimestamp(at / 1000, UTC).astimezone()
    return then.strftime("%Y-%m-%d %H:%M:%S") + f".{at % 1000:03d}"


def ago(at: Millis, now: Millis) -> str:
    """14:03 (12m)."""
    return f"{local(at, now)} ({short_duration(max(now - at, 0))})"


def ended(at: Millis | None, now: Millis) -> Cell:
    """Since when something is over, in red; "-": it is not."""
    return Cell("-") if at is None else Cell(ago(at, now), "red")


def ahead(at: Millis, now: Millis) -> str:
    """14:20 (in 5m), or "now"."""
    return f"{local(at, now)} (in {short_duration(at - now)})" if at > now else "now"


def working(entry: Entry, now: Millis) -> bool:
    return entry.locked_until is not None and entry.locked_until > now


def next_words(entry: Entry, now: Millis) -> str:
    """What happens next, for a column."""
    if entry.queue is Queue.HELD:
        return "-"
    return "working" if working(entry, now) else ahead(entry.next_attempt, now)


def state(entry: Entry, now: Millis, pauses: dict[Scope, Millis]) -> str:
    """What happens next, as a sentence."""
    if entry.queue is Queue.HELD:
        back = entry.from_queue.value if entry.from_queue else "its queue"
        return f"held until a person releases it (back to {back})"
    if entry.locked_until is not None and entry.locked_until > now:
        return f"in {entry.queue}, locked by a worker until {local(entry.locked_until, now)} at the latest"
    scope = Scope.PROCESSING if entry.queue in (Queue.PROCESSING, Queue.BULK) else Scope.DELIVERY
    if scope in pauses:
        since = ago(pauses[scope], now)
        return f"in {entry.queue}; {scope} is paused since {since}; to resume: postroom queue resume {scope}"
    if entry.next_attempt <= now:
        return f"in {entry.queue}, due now"
    return f"in {entry.queue}, next attempt at {ahead(entry.next_attempt, now)}"


def labels(label: int) -> list[str]:
    return [text for bit, text in LABELS.items() if label & bit]


def size_words(size: int) -> str:
    return f"{size:,} bytes" if size != 1 else "1 byte"


def many(number: int, word: str = "entry") -> str:
    """1 entry, 2 entries, 1,234 entries."""
    plural = f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
    return f"{number:,} {word if number == 1 else plural}"


def entry_json(entry: Entry, now: Millis) -> dict[str, object]:
    return {
        "id": public_id(entry.id),
        "messageId": public_id(entry.message_id),
        "queue": entry.queue.value,
        "fromQueue": entry.from_queue.value if entry.from_queue else None,
        "route": entry.route.value,
        "priority": entry.priority.value,
        "sender": entry.env_from,
        "recipient": entry.recipient,
        "recipientName": entry.recipient_name,
        "fromAddress": entry.from_address,
        "fromName": entry.from_name,
        "to": entry.to_header,
        "subject": entry.subject,
        "ip": entry.remote_ip,
        "size": entry.size,
        "attachment": entry.attachment,
        "info": entry.info,
        "attempts": entry.attempts,
        "accepted": stamp(entry.created),
        "nextAttempt": None if entry.queue is Queue.HELD else stamp(entry.next_attempt),
        "lockedUntil": stamp(entry.locked_until) if entry.locked_until is not None and working(entry, now) else None,
        "maybeDelivered": bool(entry.label & Label.MAYBE_DELIVERED),
        "suspect": bool(entry.label & Label.SUSPECT),
    }


def ended_json(ended: Ended) -> dict[str, object]:
    return {
        "id": public_id(ended.id),
        "messageId": public_id(ended.message_id),
        "queue": ended.queue.value,
        "route": ended.route.value,
        "sender": ended.env_from,
        "recipient": ended.recipient,
        "fromAddress": ended.from_address,
        "subject": ended.subject,
        "ip": ended.remote_ip,
        "size": ended.size,
        "attachment": ended.attachment,
        "attempts": ended.attempts,
        "accepted": stamp(ended.created),
        "outcome": ended.outcome.value,
        "ended": stamp(ended.ended),
        "reply": ended.reply,
        "maybeDelivered": bool(ended.label & Label.MAYBE_DELIVERED),
        "suspect": bool(ended.label & Label.SUSPECT),
    }


def message_json(message: Message) -> dict[str, object]:
    """The message without its bytes."""
    client, facts = message.client, message.facts
    return {
        "id": public_id(message.id),
        "received": stamp(message.received),
        "messageIdHeader": facts.message_id,
        "client": {
            "ip": client.ip,
            "name": client.name,
            "helo": client.helo,
            "tls": client.tls,
            "user": client.user,
        },
        "hops": facts.hops,
        "parts": facts.parts,
        "problems": list(facts.problems),
        "verdicts": [
            {"check": verdict.check, "verdict": verdict.kind.value, "info": verdict.info}
            for verdict in message.verdicts
        ],
    }


def event_json(event: Event) -> dict[str, object]:
    return {
        "at": stamp(event.at),
        "kind": str(event.kind),
        "queue": str(event.queue),
        "info": event.info,
        "actor": event.actor,
    }
