"""An entry as a row of the queue table, and its light: locked, delayed, normal or held. Pure.

Promises: an entry has exactly one light, shown as a word, an icon and a colour, never as a colour alone; the words are
the vendor's (contract section 8). Fails: never.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from postroom.clock import Millis
from postroom.http.console.listing import Listing
from postroom.http.console.wording import EMPTY_SENDER, ROUTE_MEANINGS, ROUTE_NAMES, moment, size_text, span_text
from postroom.ids import public_id
from postroom.model import Entry, Label, Priority, Queue, Scope

MAX_CELL = 400  # characters of one cell; the panel shows all of it


class Light(StrEnum):
    LOCKED = "locked"
    DELAYED = "delayed"
    NORMAL = "normal"
    HELD = "held"


LIGHT_NAMES = {Light.LOCKED: "Locked", Light.DELAYED: "Delayed", Light.NORMAL: "Normal", Light.HELD: "Held"}
LIGHT_MEANINGS = {
    Light.LOCKED: "currently locked: a worker has it",
    Light.DELAYED: "queued for processing",
    Light.NORMAL: "awaiting next retry interval",
    Light.HELD: "waiting for a person",
}


class Row(msgspec.Struct, frozen=True):
    id: str
    address: str  # of its panel
    sender: str
    sender_name: str
    recipient: str
    recipient_name: str
    route: str
    route_name: str
    route_meaning: str
    subject: str
    info: str
    next_try: str  # "in 4 min", or empty
    attempts: int
    size: str
    age: str
    received: str
    light: Light
    light_name: str
    light_meaning: str
    attachment: bool
    low: bool
    maybe_delivered: bool
    suspect: bool


def light(entry: Entry, now: Millis) -> Light:
    if entry.locked_until is not None and entry.locked_until > now:
        return Light.LOCKED
    if entry.queue is Queue.HELD:
        return Light.HELD
    return Light.NORMAL if entry.next_attempt > now else Light.DELAYED


def light_meaning(shown: Light, queue: Queue) -> str:
    if shown is Light.DELAYED and queue in (Queue.DELIVERY, Queue.SYSTEM):
        return "queued for delivery"
    return LIGHT_MEANINGS[shown]


def row(entry: Entry, listing: Listing, now: Millis) -> Row:
    shown = light(entry, now)
    return Row(
        id=public_id(entry.id),
        address=listing.address(entry.id),
        sender=sender(entry)[:MAX_CELL],
        sender_name=entry.from_name[:MAX_CELL],
        recipient=entry.recipient[:MAX_CELL],
        recipient_name=entry.recipient_name[:MAX_CELL],
        route=entry.route.value,
        route_name=ROUTE_NAMES[entry.route],
        route_meaning=ROUTE_MEANINGS[entry.route],
        subject=entry.subject[:MAX_CELL],
        info=entry.info[:MAX_CELL],
        next_try=f"in {span_text(entry.next_attempt - now)}" if shown is Light.NORMAL else "",
        attempts=entry.attempts,
        size=size_text(entry.size),
        age=span_text(now - entry.created),
        received=moment(entry.created),
        light=shown,
        light_name=LIGHT_NAMES[shown],
        light_meaning=light_meaning(shown, entry.queue),
        attachment=entry.attachment,
        low=entry.priority is Priority.LOW,
        maybe_delivered=bool(entry.label & Label.MAYBE_DELIVERED),
        suspect=bool(entry.label & Label.SUSPECT),
    )


def sender(entry: Entry) -> str:
    """The address in the From field, or else the envelope sender."""
    return entry.from_address or entry.env_from or EMPTY_SENDER


def gate(entry: Entry, pauses: Mapping[Scope, Millis], now: Millis) -> str:
    """Why an entry waits, in one sentence, and until when."""
    shown = light(entry, now)
    if shown is Light.LOCKED:
        assert entry.locked_until is not None
        return f"A worker has it. The lock ends in {span_text(entry.locked_until - now)} unless the worker renews it."
    if shown is Light.HELD:
        return "Held until a person decides."
    scope = Scope.DELIVERY if entry.queue in (Queue.DELIVERY, Queue.SYSTEM) else Scope.PROCESSING
    if scope in pauses:
        return f"{scope.value.capitalize()} is paused since {moment(pauses[scope])}. It continues after the pause."
    if shown is Light.NORMAL:
        return f"Waits for its next try in {span_text(entry.next_attempt - now)}."
    return "Due now; waits for a free worker."
