"""One entry in full, for the panel beside the queue: envelope, header, timeline. Reads the header, never the body.

Promises: what is shown of a message ends where its header ends; a message whose bytes are gone, or cannot be read, is shown
with what the store still knows of it and says so. Fails: never by what a message contains; apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from postroom import facts
from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.http.console import rows, wording
from postroom.ids import public_id
from postroom.model import Ended, Entry, Event, Label, Message, Outcome, Scope
from postroom.store import Bodies, Reader

MAX_HEADER = 64 * 1024  # bytes of a header that are shown
MAX_FIELDS = 400
NO_NAME = "(not a field)"
FIRST_FIELDS = ("from", "to", "cc", "reply-to", "subject", "date", "message-id")

EVENT_TONES = {
    "delivered": "good", "released": "good", "deferred": "wait", "held": "hold", "taken_over": "wait", "restored": "wait",
    "bounced": "bad", "rejected": "bad", "dropped": "bad", "expired": "bad",
}  # fmt: skip

LEAVING = (
    rows.Light.HELD.value, "Leaving", "it ends when the time to undo its plan is over",
    "A plan ends it when the time to undo is over. Undo the plan to keep it.",
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """What the store knows of one id."""

    entry: Entry | None
    ended: Ended | None
    message: Message | None
    header: bytes
    header_cut: bool
    unreadable: str  # why the bytes could not be read; empty = they could, or there are none
    events: list[Event]

    @property
    def known(self) -> Entry | Ended:
        known = self.entry or self.ended
        assert known is not None, "look_up finds one of them"
        return known

    @property
    def leaving(self) -> bool:
        """A plan is about to end it; until its time to undo is over it is kept, and nothing else happens to it."""
        return self.entry is not None and bool(self.events) and self.events[-1].kind == "leaving"


class TimelineLine(msgspec.Struct, frozen=True):
    """One event of the timeline."""

    at: str
    machine_at: str
    ago: str
    name: str
    queue: str
    info: str
    actor: str
    tone: str


class Detail(msgspec.Struct, frozen=True):
    id: str
    subject: str
    ended: bool
    state_tone: str  # of the badge: a light or an outcome
    state: str
    state_meaning: str
    why: str
    queue: str
    from_queue: str
    env_from: str
    recipient: str
    recipient_name: str
    route: str
    route_name: str
    route_meaning: str
    info: str
    attempts: int
    next_attempt: Millis | None  # None: no try is planned
    next_attempt_at: str
    next_attempt_in: str
    counts_down: bool
    locked_until: Millis | None
    locked_until_at: str
    received: str
    received_ago: str
    size: str
    size_bytes: str
    attachment: bool
    low: bool
    maybe_delivered: bool
    suspect: bool
    client_ip: str
    client_name: str
    helo: str
    protocol: str
    user: str
    verdicts: list[tuple[str, str, str]]
    problems: tuple[str, ...]
    fields: list[tuple[str, str]]
    raw: list[str]
    header_cut: bool
    gone: bool  # the message itself is no longer kept
    unreadable: str
    events: list[TimelineLine]


def look_up(reader: Reader, bodies: Bodies, ident: int) -> Found | None:
    """Everything of one id, living or ended; None when the store has never seen it or has forgotten it."""
    entry = reader.entry(ident)
    ended = None if entry is not None else reader.ended(ident)
    known = entry or ended
    if known is None:
        return None
    message = reader.readable_message(known.message_id)
    header, cut, unreadable = _header(message, bodies)
    return Found(entry, ended, message, header, cut, unreadable, reader.events(ident))


def _header(message: Message | None, bodies: Bodies) -> tuple[bytes, bool, str]:
    """(bytes, whether there are more, why they could not be read). A large message is not read past its header."""
    if message is None:
        return b"", False, ""
    if message.body_object:
        try:
            with open(bodies.path(message.body_object), "rb") as file:
                data = file.read(MAX_HEADER + 1)
        except OSError as problem:
            return b"", False, f"its bytes cannot be read just now: {problem.strerror}"
        except EnvironmentFailed as problem:
            return b"", False, f"its bytes cannot be found: {problem}"
    elif message.body is None:
        return b"", False, "its bytes are missing from the store"
    else:
        data = message.body[: MAX_HEADER + 1]
    block = facts.header_block(data[:MAX_HEADER])
    return block, len(data) > MAX_HEADER and len(block) >= MAX_HEADER, ""


def detail(found: Found, pauses: Mapping[Scope, Millis], now: Millis) -> Detail:
    """The panel's content."""
    entry, ended, message, known = found.entry, found.ended, found.message, found.known
    tone, state, meaning, why = LEAVING if found.leaving else _state(entry, ended, pauses, now)
    client = message.client if message else None
    waits = entry is not None and tone in (rows.Light.NORMAL, rows.Light.DELAYED)
    locked = entry.locked_until if entry is not None and tone == rows.Light.LOCKED else None
    planned = entry.next_attempt if entry is not None and waits else None
    return Detail(
        id=public_id(known.id),
        subject=known.subject,
        ended=ended is not None,
        state_tone=tone,
        state=state,
        state_meaning=meaning,
        why=why,
        queue="Leaving, may be undone" if found.leaving else wording.QUEUE_NAMES[known.queue],
        from_queue=wording.QUEUE_NAMES[entry.from_queue] if entry and entry.from_queue else "",
        env_from=known.env_from or wording.EMPTY_SENDER,
        recipient=known.recipient,
        recipient_name=entry.recipient_name if entry else "",
        route=known.route.value,
        route_name=wording.ROUTE_NAMES[known.route],
        route_meaning=wording.ROUTE_MEANINGS[known.route],
        info=entry.info if entry else (ended.reply if ended else ""),
        attempts=known.attempts,
        next_attempt=planned,
        next_attempt_at=wording.moment(planned) if planned is not None else "",
        next_attempt_in=_when(planned, now),
        counts_down=tone == rows.Light.NORMAL,
        locked_until=locked,
        locked_until_at=wording.moment(locked) if locked is not None else "",
        received=wording.moment(known.created),
        received_ago=wording.span_text(now - known.created),
        size=wording.size_text(known.size),
        size_bytes=wording.number_text(known.size),
        attachment=known.attachment,
        low=entry is not None and entry.priority.value == "low",
        maybe_delivered=bool(known.label & Label.MAYBE_DELIVERED),
        suspect=bool(known.label & Label.SUSPECT),
        client_ip=known.remote_ip,
        client_name=client.name if client else "",
        helo=client.helo if client else "",
        protocol=_protocol(message),
        user=client.user if client else "",
        verdicts=[
            (verdict.check, verdict.kind.value, verdict.info) for verdict in (message.verdicts if message else ())
        ],
        problems=message.facts.problems if message else (),
        fields=_fields(found.header),
        raw=found.header.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n").split("\n")
        if found.header
        else [],
        header_cut=found.header_cut,
        gone=message is None,
        unreadable=found.unreadable,
        events=[_line(event, now) for event in found.events],
    )


def _state(
    entry: Entry | None, ended: Ended | None, pauses: Mapping[Scope, Millis], now: Millis
) -> tuple[str, str, str, str]:
    """(tone, word, its meaning, why it stands as it does)."""
    if entry is not None:
        shown = rows.light(entry, now)
        return (
            shown.value,
            rows.LIGHT_NAMES[shown],
            rows.light_meaning(shown, entry.queue),
            rows.gate(entry, pauses, now),
        )
    assert ended is not None
    tone = "good" if ended.outcome is Outcome.DELIVERED else "bad"
    name = wording.OUTCOME_NAMES[ended.outcome]
    return (
        tone,
        name,
        "",
        f"It left the queue {wording.span_text(now - ended.ended)} ago, on {wording.moment(ended.ended)}.",
    )


def _when(at: Millis | None, now: Millis) -> str:
    if at is None:
        return ""
    return f"in {wording.span_text(at - now)}" if at > now else "now"


def _protocol(message: Message | None) -> str:
    if message is None:
        return ""
    client = message.client
    name = f"ESMTP{'S' if client.tls else ''}{'A' if client.user else ''}" if client.esmtp else "SMTP"  # RFC 3848
    return f"{name}, {client.tls}" if client.tls else f"{name}, not encrypted"


def _fields(header: bytes) -> list[tuple[str, str]]:
    """The fields that people ask for first, in that order; then the others as they stand."""
    found = list(facts.fields(header))[:MAX_FIELDS] if header else []
    order = {name: at for at, name in enumerate(FIRST_FIELDS)}
    found.sort(key=lambda field: order.get(field[0].lower(), len(order)))
    return [(name or NO_NAME, value) for name, value in found]


def _line(event: Event, now: Millis) -> TimelineLine:
    name = wording.EVENT_NAMES.get(event.kind, event.kind)
    queue = wording.QUEUE_NAMES.get(event.queue, "") if event.queue else ""  # type: ignore[call-overload]
    return TimelineLine(
        at=wording.moment(event.at),
        machine_at=wording.machine_moment(event.at),
        ago=wording.span_text(now - event.at),
        name=name,
        queue=queue,
        info=event.info,
        actor=event.actor,
        tone=EVENT_TONES.get(event.kind, ""),
    )
