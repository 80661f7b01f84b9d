"""One entry in full, for the panel beside the queue: envelope, header, timeline. Reads the header, never the body.

Promises: nothing after the header is shown; when the message is gone or cannot be read, the panel says so and shows
what the store still knows. Fails: never because of a message's content; errors of the store pass through.
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
    "delivered": "good", "released": "good", "deferred": "wait", "held": "hold", "taken_over": "wait",
    "restored": "wait", "bounced": "bad", "rejected": "bad", "dropped": "bad", "expired": "bad",
}  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """What the store knows of one id."""

    entry: Entry | None
    ended: Ended | None
    message: Message | None
    header: bytes
    header_cut: bool
    unreadable: str  # why the bytes could not be read; empty = no problem, or no bytes
    events: list[Event]

    @property
    def known(self) -> Entry | Ended:
        known = self.entry or self.ended
        assert known is not None, "look_up finds one of them"
        return known

    @property
    def leaving(self) -> bool:
        """A plan ends it when the undo time is over; until then nothing else happens to it."""
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


class State(msgspec.Struct, frozen=True):
    """What happens to the entry now: a badge and a sentence."""

    tone: str  # a light or an outcome
    word: str
    meaning: str
    why: str


LEAVING = State(
    rows.Light.HELD.value, "Ending", "it ends when the undo time of its plan is over",
    "A plan ends it when the undo time is over. Undo the plan to keep it.",
)  # fmt: skip


class Next(msgspec.Struct, frozen=True):
    """When something happens to the entry next; None and empty: nothing is scheduled."""

    attempt: Millis | None = None
    attempt_at: str = ""
    attempt_in: str = ""
    counts_down: bool = False
    locked_until: Millis | None = None
    locked_until_at: str = ""


class Client(msgspec.Struct, frozen=True):
    """The client that sent the message; only its address once the message is gone."""

    ip: str
    name: str = ""
    helo: str = ""
    protocol: str = ""
    user: str = ""


class Header(msgspec.Struct, frozen=True):
    fields: list[tuple[str, str]]
    raw: list[str]  # its lines as received
    cut: bool
    unreadable: str


class Detail(msgspec.Struct, frozen=True):
    """The panel's content."""

    id: str
    subject: str
    ended: bool
    state: State
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
    next: Next
    received: str
    received_ago: str
    size: str
    size_bytes: str
    attachment: bool
    low: bool
    maybe_delivered: bool
    suspect: bool
    client: Client
    verdicts: list[tuple[str, str, str]]
    problems: tuple[str, ...]
    header: Header
    gone: bool  # the message itself is no longer kept
    events: list[TimelineLine]


def look_up(reader: Reader, bodies: Bodies, ident: int) -> Found | None:
    """What the store knows of an id, waiting or ended; None when it never existed or has left the history."""
    entry = reader.entry(ident)
    ended = None if entry is not None else reader.ended(ident)
    known = entry or ended
    if known is None:
        return None
    message = reader.readable_message(known.message_id)
    header, cut, unreadable = _header(message, bodies)
    return Found(entry, ended, message, header, cut, unreadable, reader.events(ident))


def _header(message: Message | None, bodies: Bodies) -> tuple[bytes, bool, str]:
    """(bytes, whether there are more, why they could not be read). Reads at most MAX_HEADER of a large message."""
    if message is None:
        return b"", False, ""
    if message.body_object:
        try:
            with open(bodies.path(message.body_object), "rb") as file:
                data = file.read(MAX_HEADER + 1)
        except OSError as problem:
            return b"", False, f"the message cannot be read: {problem.strerror}"
        except EnvironmentFailed as problem:
            return b"", False, f"the message cannot be found: {problem}"
    elif message.body is None:
        return b"", False, "the message is missing from the store"
    else:
        data = message.body[: MAX_HEADER + 1]
    block = facts.header_block(data[:MAX_HEADER])
    return block, len(data) > MAX_HEADER and len(block) >= MAX_HEADER, ""


def detail(found: Found, pauses: Mapping[Scope, Millis], now: Millis) -> Detail:
    """The panel's content, from what the store knows."""
    entry, message, known = found.entry, found.message, found.known
    state = _state(found, pauses, now)
    return Detail(
        id=public_id(known.id),
        subject=known.subject,
        ended=found.ended is not None,
        state=state,
        queue="Ending, can be undone" if found.leaving else wording.QUEUE_NAMES[known.queue],
        from_queue=wording.QUEUE_NAMES[entry.from_queue] if entry and entry.from_queue else "",
        env_from=known.env_from or wording.EMPTY_SENDER,
        recipient=known.recipient,
        recipient_name=entry.recipient_name if entry else "",
        route=known.route.value,
        route_name=wording.ROUTE_NAMES[known.route],
        route_meaning=wording.ROUTE_MEANINGS[known.route],
        info=known.reply if isinstance(known, Ended) else known.info,
        attempts=known.attempts,
        next=_next(entry, state.tone, now),
        received=wording.moment(known.created),
        received_ago=wording.span_text(now - known.created),
        size=wording.size_text(known.size),
        size_bytes=wording.number_text(known.size),
        attachment=known.attachment,
        low=entry is not None and entry.priority.value == "low",
        maybe_delivered=bool(known.label & Label.MAYBE_DELIVERED),
        suspect=bool(known.label & Label.SUSPECT),
        client=_client(message, known.remote_ip),
        verdicts=[(one.check, one.kind.value, one.info) for one in message.verdicts] if message else [],
        problems=message.facts.problems if message else (),
        header=_header_shown(found),
        gone=message is None,
        events=[_line(event, now) for event in found.events],
    )


def _state(found: Found, pauses: Mapping[Scope, Millis], now: Millis) -> State:
    if found.leaving:
        return LEAVING
    known = found.known
    if isinstance(known, Entry):
        shown = rows.light(known, now)
        meaning = rows.light_meaning(shown, known.queue)
        return State(shown.value, rows.LIGHT_NAMES[shown], meaning, rows.gate(known, pauses, now))
    tone = "good" if known.outcome is Outcome.DELIVERED else "bad"
    why = f"Left the queue {wording.span_text(now - known.ended)} ago, on {wording.moment(known.ended)}."
    return State(tone, wording.OUTCOME_NAMES[known.outcome], "", why)


def _next(entry: Entry | None, tone: str, now: Millis) -> Next:
    """The next attempt of an entry that waits, or the end of its lock while a worker has it."""
    if entry is None:
        return Next()
    if tone in (rows.Light.NORMAL, rows.Light.DELAYED):
        at = entry.next_attempt
        return Next(at, wording.moment(at), _when(at, now), counts_down=tone == rows.Light.NORMAL)
    if tone == rows.Light.LOCKED and entry.locked_until is not None:
        return Next(locked_until=entry.locked_until, locked_until_at=wording.moment(entry.locked_until))
    return Next()


def _when(at: Millis, now: Millis) -> str:
    return f"in {wording.span_text(at - now)}" if at > now else "now"


def _client(message: Message | None, ip: str) -> Client:
    if message is None:
        return Client(ip)
    client = message.client
    name = f"ESMTP{'S' if client.tls else ''}{'A' if client.user else ''}" if client.esmtp else "SMTP"  # RFC 3848
    protocol = f"{name}, {client.tls or 'not encrypted'}"
    return Client(ip, client.name, client.helo, protocol, client.user)


def _header_shown(found: Found) -> Header:
    text = found.header.decode("utf-8", "replace").replace("\r\n", "\n").rstrip("\n")
    raw = text.split("\n") if found.header else []
    return Header(_fields(found.header), raw, found.header_cut, found.unreadable)


def _fields(header: bytes) -> list[tuple[str, str]]:
    """FIRST_FIELDS in that order, then the others in the message's order."""
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
