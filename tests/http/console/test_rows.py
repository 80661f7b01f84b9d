"""One entry, one light, one reason."""

from __future__ import annotations

import msgspec
import pytest

from postroom.clock import MINUTE
from postroom.http.console.listing import Listing
from postroom.http.console.rows import Light, gate, light, light_meaning, row
from postroom.model import Entry, Label, Priority, Queue, Route, Scope

NOW = 1_800_000_000_000
ENTRY = Entry(
    id=0x1A2B, message_id=0x1A2B, queue=Queue.PROCESSING, from_queue=None, route=Route.INBOUND,
    recipient="bob@corp.example",
    recipient_name="Bob", priority=Priority.NORMAL, info="Queued for Processing", attempts=0, next_attempt=NOW - 5_000,
    locked_until=None, lease=None, strikes=0, label=0, env_from="a@b.example", from_address="alice@b.example",
    from_name="Alice", to_header="Bob <bob@corp.example>", subject="Hello", remote_ip="192.0.2.1", size=2048,
    attachment=False,
    created=NOW - 5_000,
)  # fmt: skip


def an_entry(**changed: object) -> Entry:
    return msgspec.structs.replace(ENTRY, **changed)


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        (an_entry(), Light.DELAYED),
        (an_entry(locked_until=NOW + 1, lease=1), Light.LOCKED),
        (an_entry(locked_until=NOW, lease=1), Light.DELAYED),  # a lease that is over holds nothing
        (an_entry(next_attempt=NOW + 1, attempts=1), Light.NORMAL),
        (an_entry(next_attempt=NOW, attempts=1), Light.DELAYED),
        (an_entry(queue=Queue.HELD, from_queue=Queue.PROCESSING, next_attempt=NOW + MINUTE), Light.HELD),
        (an_entry(queue=Queue.HELD, from_queue=Queue.PROCESSING, locked_until=NOW + 1, lease=1), Light.LOCKED),
    ],
)
def test_the_light_says_how_it_stands(entry: Entry, shown: Light) -> None:
    assert light(entry, NOW) is shown


def test_the_words_are_the_contract_s() -> None:
    assert light_meaning(Light.LOCKED, Queue.PROCESSING).startswith("currently locked")
    assert light_meaning(Light.DELAYED, Queue.PROCESSING) == "queued for processing"
    assert light_meaning(Light.NORMAL, Queue.PROCESSING) == "awaiting next retry interval"
    assert light_meaning(Light.DELAYED, Queue.DELIVERY) == "queued for delivery"


def test_a_row_has_the_columns() -> None:
    shown = row(an_entry(next_attempt=NOW + 4 * MINUTE, attempts=3, priority=Priority.LOW, label=3), Listing(), NOW)
    assert (shown.sender, shown.recipient, shown.route_name, shown.subject) == (
        "alice@b.example", "bob@corp.example", "Inbound", "Hello",
    )  # fmt: skip
    assert (shown.info, shown.next_try, shown.attempts, shown.size, shown.age) == (
        "Queued for Processing", "in 4 min", 3, "2.0 KB", "5 s",
    )  # fmt: skip
    assert shown.low
    assert shown.maybe_delivered
    assert shown.suspect
    assert shown.address == "/console/entries/1a2b"


def test_a_sender_is_always_said() -> None:
    assert row(an_entry(from_address=""), Listing(), NOW).sender == "a@b.example"
    assert row(an_entry(from_address="", env_from=""), Listing(), NOW).sender == "<>"


@pytest.mark.parametrize(
    ("entry", "pauses", "says"),
    [
        (an_entry(), {}, "waits for a free worker"),
        (an_entry(), {Scope.PROCESSING: NOW - MINUTE}, "Processing is paused since"),
        (an_entry(), {Scope.DELIVERY: NOW - MINUTE}, "waits for a free worker"),
        (an_entry(queue=Queue.SYSTEM), {Scope.DELIVERY: NOW - MINUTE}, "Delivery is paused since"),
        (an_entry(next_attempt=NOW + MINUTE), {}, "next try in 1 min"),
        (
            an_entry(locked_until=NOW + MINUTE, lease=1),
            {Scope.PROCESSING: 1},
            "A worker has it. The lock ends in 1 min",
        ),
        (an_entry(queue=Queue.HELD, label=Label.SUSPECT), {}, "a person decides"),
    ],
)
def test_one_gate_is_named(entry: Entry, pauses: dict[Scope, int], says: str) -> None:
    assert says in gate(entry, pauses, NOW)
