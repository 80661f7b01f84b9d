"""The answers of `/v1` as types: the same keys as the command line's `--json` (a test compares them).

Pure. Times are RFC 3339 in UTC with milliseconds; ids are those of the command line, the log and the SMTP replies; null
means none. Keys are added, never renamed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from postroom.clock import Millis
from postroom.ids import public_id
from postroom.model import Ended, Entry, Event, Label, Message, Outcome, Priority, Queue, Route, Scope
from postroom.telemetry import stamp

Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Ident = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{1,16}$")]


class EntryShown(msgspec.Struct, frozen=True, rename="camel"):
    """A waiting entry: one message for one recipient."""

    id: Ident
    message_id: Ident
    queue: Queue
    from_queue: Queue | None
    route: Route
    priority: Priority
    sender: str
    recipient: str
    recipient_name: str
    from_address: str
    from_name: str
    to: str
    subject: str
    ip: str
    size: int
    attachment: bool
    info: str
    attempts: int
    accepted: Time
    next_attempt: Time | None
    locked_until: Time | None
    maybe_delivered: bool
    suspect: bool


class EndedShown(msgspec.Struct, frozen=True, rename="camel"):
    """An ended entry, while the history keeps it."""

    id: Ident
    message_id: Ident
    queue: Queue
    route: Route
    sender: str
    recipient: str
    from_address: str
    subject: str
    ip: str
    size: int
    attachment: bool
    attempts: int
    accepted: Time
    outcome: Outcome
    ended: Time
    reply: str
    maybe_delivered: bool
    suspect: bool


class ClientShown(msgspec.Struct, frozen=True):
    """The SMTP client that sent the message."""

    ip: str
    name: str
    helo: str
    tls: str
    user: str


class VerdictShown(msgspec.Struct, frozen=True):
    check: str
    verdict: str
    info: str


class MessageShown(msgspec.Struct, frozen=True, rename="camel"):
    """The message without its content."""

    id: Ident
    received: Time
    message_id_header: str
    client: ClientShown
    hops: int
    parts: int
    problems: list[str]
    verdicts: list[VerdictShown]


class EventShown(msgspec.Struct, frozen=True):
    at: Time
    kind: str
    queue: str
    info: str
    actor: str


State = Literal["working", "held", "paused", "due", "waiting", "ended"]


class OneEntry(msgspec.Struct, frozen=True):
    """Everything about one entry: `entry` while it waits, `ended` afterwards; `message` while any of its entries
    waits."""

    state: State
    entry: EntryShown | None
    ended: EndedShown | None
    message: MessageShown | None
    events: list[EventShown]


class Entries(msgspec.Struct, frozen=True, omit_defaults=True):
    """`next`: pass it as `after` for the next page; `total`: only when requested."""

    entries: list[EntryShown]
    next: Ident | None = None
    total: int | None = None


class QueueCount(msgspec.Struct, frozen=True):
    entries: int
    working: int
    oldest: Time | None


class Queues(msgspec.Struct, frozen=True):
    """`paused`: the time of the pause, by stage."""

    total: int
    queues: dict[Queue, QueueCount]
    paused: dict[Scope, Time | None]


class LifeShown(msgspec.Struct, frozen=True):
    """The counts of one process since it opened the store."""

    id: Ident
    began: Time
    process: Literal["gateway", "command"]
    created: int
    ended: int
    kinds: dict[str, int]


class LedgerShown(msgspec.Struct, frozen=True, rename="camel"):
    """Everything created = everything ended + everything queued, so `difference` is always 0. `leaving`: entries that a
    plan ends when its undo window is over."""

    difference: int
    created: dict[str, int]
    ended: dict[str, int]
    queued: dict[str, int]
    lives: list[LifeShown]
    earlier_lives: int


class Acted(msgspec.Struct, frozen=True):
    """`requested`: a worker has the entry, and performs the action when it is done."""

    id: Ident
    action: str
    result: Literal["done", "requested"]


class Reason(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of an action; optional."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457: every error of this API. `code` is for programs, `detail` for people."""

    title: str
    status: int
    code: str
    detail: str
    requestId: str  # noqa: N815 - the wire's name
    field: str = ""
    what: str = ""  # of a line of the search language: what is wrong
    at: int | None = None  # where, in characters from its start
    meant: str = ""  # and what was probably meant


def entry_shown(entry: Entry, now: Millis) -> EntryShown:
    return EntryShown(
        id=public_id(entry.id),
        message_id=public_id(entry.message_id),
        queue=entry.queue,
        from_queue=entry.from_queue,
        route=entry.route,
        priority=entry.priority,
        sender=entry.env_from,
        recipient=entry.recipient,
        recipient_name=entry.recipient_name,
        from_address=entry.from_address,
        from_name=entry.from_name,
        to=entry.to_header,
        subject=entry.subject,
        ip=entry.remote_ip,
        size=entry.size,
        attachment=entry.attachment,
        info=entry.info,
        attempts=entry.attempts,
        accepted=stamp(entry.created),
        next_attempt=None if entry.queue is Queue.HELD else stamp(entry.next_attempt),
        locked_until=stamp(entry.locked_until) if entry.locked_until is not None and _working(entry, now) else None,
        maybe_delivered=bool(entry.label & Label.MAYBE_DELIVERED),
        suspect=bool(entry.label & Label.SUSPECT),
    )


def ended_shown(ended: Ended) -> EndedShown:
    return EndedShown(
        id=public_id(ended.id),
        message_id=public_id(ended.message_id),
        queue=ended.queue,
        route=ended.route,
        sender=ended.env_from,
        recipient=ended.recipient,
        from_address=ended.from_address,
        subject=ended.subject,
        ip=ended.remote_ip,
        size=ended.size,
        attachment=ended.attachment,
        attempts=ended.attempts,
        accepted=stamp(ended.created),
        outcome=ended.outcome,
        ended=stamp(ended.ended),
        reply=ended.reply,
        maybe_delivered=bool(ended.label & Label.MAYBE_DELIVERED),
        suspect=bool(ended.label & Label.SUSPECT),
    )


def message_shown(message: Message) -> MessageShown:
    client, facts = message.client, message.facts
    return MessageShown(
        id=public_id(message.id),
        received=stamp(message.received),
        message_id_header=facts.message_id,
        client=ClientShown(client.ip, client.name, client.helo, client.tls, client.user),
        hops=facts.hops,
        parts=facts.parts,
        problems=list(facts.problems),
        verdicts=[VerdictShown(one.check, one.kind.value, one.info) for one in message.verdicts],
    )


def event_shown(event: Event) -> EventShown:
    return EventShown(stamp(event.at), str(event.kind), str(event.queue), event.info, event.actor)


def state(entry: Entry, now: Millis, paused: dict[Scope, Millis]) -> State:
    """What the entry waits for, in one word."""
    if entry.queue is Queue.HELD:
        return "held"
    if _working(entry, now):
        return "working"
    scope = Scope.PROCESSING if entry.queue in (Queue.PROCESSING, Queue.BULK) else Scope.DELIVERY
    if scope in paused:
        return "paused"
    return "due" if entry.next_attempt <= now else "waiting"


def _working(entry: Entry, now: Millis) -> bool:
    return entry.locked_until is not None and entry.locked_until > now
