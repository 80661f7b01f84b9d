"""Rejecting: the entry ends, the ledger agrees, the sender is told when asked for, a null sender never."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from postroom.clock import HandClock
from postroom.model import Action, Filter, Origin, Outcome, Queue, Route
from postroom.store import Store
from tests.conformance.driven import a_message, accepted, delivered_at_once, difference, hand, released

LARGE = b"Subject: large\r\nX-Large: yes\r\n\r\n" + b"x" * 300_000


def notices(store: Store) -> list[bytes]:
    reader = store.read_now()
    found = []
    for entry in reader.find(Filter(queues=(Queue.SYSTEM,)), limit=100):
        message = reader.message(entry.message_id)
        assert message is not None
        assert message.body is not None
        found.append(bytes(message.body))
    return found


def test_a_held_entry_ends_with_its_reason_actor_and_log(store: Store, clock: HandClock) -> None:
    (entry,) = accepted(store, a_message("bob@corp.example", subject="Wire")).entries
    store.act_now(Action.HOLD, [entry], actor="ann", reason="looks odd")
    clock.move(1000)
    report = store.act_now(Action.REJECT, [entry, entry], actor="app:soar", reason="against policy")
    assert (report.done, report.requested, report.refused) == ((entry,), (), ())
    reader = store.read_now()
    ended = reader.ended(entry)
    assert ended is not None
    assert (ended.outcome, ended.queue, ended.ended) == (Outcome.REJECTED, Queue.HELD, clock.now())
    assert ended.reply == "Rejected by a person: against policy"
    assert reader.entry(entry) is None
    assert reader.message(entry) is None
    events = reader.events(entry)
    assert [event.kind for event in events] == ["accepted", "held", "rejected"]
    assert events[-1].actor == "app:soar"
    (line,) = released(store)
    assert (line.entry, line.action, line.actor, line.reason) == (entry, Action.REJECT, "app:soar", "against policy")
    assert (line.held_for, line.subject, line.at) == ("Held by a person: looks odd", "Wire", clock.now())
    assert notices(store) == []
    assert difference(store) == 0


def test_a_release_is_logged_as_well(store: Store) -> None:
    (entry,) = accepted(store, a_message()).entries
    store.act_now(Action.RELEASE, [entry], actor="ann")  # refused: nothing was held
    store.act_now(Action.HOLD, [entry], actor="ann")
    store.act_now(Action.RELEASE, [entry], actor="bob")
    assert [(line.action, line.actor) for line in released(store)] == [(Action.RELEASE, "bob")]


@pytest.mark.parametrize(
    ("route", "back"),
    [
        (Route.INBOUND, Route.OUTBOUND), (Route.EXTERNAL, Route.OUTBOUND), (Route.OUTBOUND, Route.INTERNAL),
        (Route.INTERNAL, Route.INTERNAL),
    ],
)  # fmt: skip
def test_the_sender_is_told_in_the_same_transaction(store: Store, route: Route, back: Route) -> None:
    body = b"From: alice@corp.example\r\nX-Mark: yes\r\n\r\nsecret words\r\n"
    (entry,) = accepted(store, a_message(sender="alice@corp.example", route=route, body=body)).entries
    assert store.act_now(Action.REJECT, [entry], actor="ann", reason="no", notify=True).done == (entry,)
    (notice,) = notices(store)
    assert b"Rejected by a person: no" in notice
    assert b"X-Mark: yes" in notice
    assert b"secret words" not in notice
    (told,) = store.read_now().find(Filter(), limit=10)
    assert (told.recipient, told.env_from) == ("alice@corp.example", "")
    assert (told.route, told.queue) == (back, Queue.SYSTEM)
    assert store.read_now().ledger()[0][Origin.NOTICE] == 1
    assert difference(store) == 0


def test_a_null_sender_is_never_told(store: Store) -> None:
    (entry,) = accepted(store, a_message(sender="")).entries
    assert store.act_now(Action.REJECT, [entry], actor="ann", notify=True).done == (entry,)
    assert notices(store) == []


def test_what_is_being_worked_on_is_refused(store: Store, clock: HandClock) -> None:
    got = accepted(store, a_message(), lease_until=clock.now() + 60_000)
    (entry,) = got.entries
    report = store.act_now(Action.REJECT, [entry, 7], actor="ann")
    assert report.done == report.requested == ()
    assert [why for _, why in report.refused] == [
        "being worked on just now: hold it first, or try again",
        "not in the queue: it has ended or never existed",
    ]
    hand(store, delivered_at_once(got, clock))
    assert store.read_now().ended(entry) is not None


def test_a_stored_body_goes_with_the_last_entry_and_tells_its_header(store: Store) -> None:
    name = store.bodies.put(LARGE)
    message = a_message("a@corp.example", "b@corp.example", body=LARGE)
    first, second = accepted(store, replace(message, body=None, body_object=name)).entries
    store.act_now(Action.REJECT, [first], actor="ann", notify=True)
    assert store.bodies.path(name).exists()
    assert b"X-Large: yes" in notices(store)[0]
    store.act_now(Action.REJECT, [second], actor="ann")
    assert not store.bodies.path(name).exists()
    assert difference(store) == 0


def test_many_are_rejected_in_slices(store: Store) -> None:
    entries = [accepted(store, a_message(f"r{number}@corp.example")).entries[0] for number in range(45)]
    shown: list[int] = []
    report = store.act_now(Action.REJECT, entries, actor="ann", notify=True, progress=shown.append)
    assert report.done == tuple(entries)
    assert shown == [20, 20, 5]
    assert len(notices(store)) == 45
    assert difference(store) == 0
