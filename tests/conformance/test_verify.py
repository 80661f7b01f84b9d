"""A sound store is found to be sound, whatever has happened to its mail."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from postroom import facts
from postroom.clock import HOUR, MINUTE, HandClock
from postroom.model import Action, Client, Filter, Outcome, Queue, Recipient, Route, Verdict, VerdictKind
from postroom.store import Bodies, EndedEntry, Lease, Moved, NewMessage, Store, Waited, pack_events, verify
from tests.conformance.conftest import Opener
from tests.conformance.driven import START, accepted, claimed, deferred, hand, shown


def a_mail(subject: str = "Quarterly report", size: int = 300) -> bytes:
    head = (
        "From: =?utf-8?q?Alice_=C3=84pfel?= <alice@corp.example>\r\nTo: Bob <bob@corp.example>\r\n"
        f"Subject: {subject}\r\n"
        f"Message-ID: <{subject.replace(' ', '-')}@corp.example>\r\nContent-Type: text/plain\r\n\r\n"
    ).encode()
    return head + b"Hello, Bob.\r\n" * (1 + (size - len(head)) // 13)


def real(
    *recipients: str, data: bytes | None = None, bodies: Bodies | None = None, queue: Queue = Queue.PROCESSING
) -> NewMessage:
    """As reception describes it; `bodies` given: the bytes are a file."""
    data = a_mail() if data is None else data
    found = facts.scan(data)
    return NewMessage(
        Client(ip="192.0.2.7", name="client.example", helo="client.example"),
        "alice@corp.example",
        tuple(Recipient(address, Route.INBOUND, "Bob") for address in recipients or ("bob@corp.example",)),
        found,
        len(data),
        START,
        None if bodies else data,
        bodies.put(data) if bodies else "",
        sha256(data[found.body_at :]).digest(),
        queue=queue,
    )


class Mail:
    """One entry in each state that an entry can have."""

    def __init__(self, store: Store, clock: HandClock) -> None:
        (self.waiting,) = accepted(store, real()).entries
        (self.first, self.second) = accepted(store, real("bob@corp.example", "carol@corp.example")).entries
        large = real(data=a_mail("Large", 200_000), bodies=store.bodies)
        (self.large,) = accepted(store, large).entries
        self.file = store.bodies.path(large.body_object)
        (self.held,) = accepted(store, real(data=a_mail("Held"))).entries
        store.act_now(Action.HOLD, [self.held], actor="ops@corp.example", reason="asked for by legal")
        got = accepted(store, real(data=a_mail("Delivered")), lease_until=clock.now() + MINUTE)
        (self.ended,) = got.entries
        packed = pack_events([(clock.now(), "moved", "delivery", "")])
        end = EndedEntry(
            self.ended, self.ended, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 2.0.0 kept", 1, 0,
            clock.now(), packed,
        )  # fmt: skip
        hand(store, end)
        (self.youngest,) = accepted(store, real(data=a_mail("Youngest"))).entries


def kinds(report: verify.Report, *states: str) -> set[str]:
    return {kind for kind, counted in report.counts.items() if counted.keys() & set(states)}


def wrong(report: verify.Report) -> set[str]:
    return kinds(report, "found", "left")


def told(report: verify.Report) -> list[tuple[str, str, str]]:
    return [(one.finding.kind, one.finding.what, one.done) for one in report.results if one.state != "noted"]


@pytest.mark.parametrize("deep", [False, True])
def test_a_sound_store_has_no_findings(opening: Opener, clock: HandClock, deep: bool) -> None:
    store = opening()
    Mail(store, clock)
    store.close()
    report = verify.run(opening(beside=True), clock=clock, deep=deep)
    assert report.counts == {}
    assert report.rows > 6


@pytest.mark.parametrize("repair", [False, True])
def test_looking_at_a_sound_store_changes_nothing(store: Store, clock: HandClock, repair: bool) -> None:
    mail = Mail(store, clock)
    everything = [mail.waiting, mail.first, mail.second, mail.large, mail.held, mail.ended, mail.youngest]
    before = shown(store, everything)
    assert verify.run(store, clock=clock, repair=repair, deep=True).counts == {}
    assert shown(store, everything) == before


@pytest.mark.parametrize(
    "spoil", [lambda file: file.unlink(), lambda file: os.truncate(file, 10)], ids=["gone", "short"]
)
def test_a_claim_holds_what_has_no_whole_body_and_takes_the_rest(
    store: Store, clock: HandClock, spoil: Callable[[Path], None]
) -> None:
    mail = Mail(store, clock)
    whole = mail.file.read_bytes()
    spoil(mail.file)
    assert wrong(verify.run(store, clock=clock)) in ({"body-missing"}, {"body-size"})
    others = {mail.waiting, mail.first, mail.second, mail.youngest}
    assert {lease.entry for lease in claimed(store, limit=100)} == others
    entry = store.read_now().entry(mail.large)
    assert entry is not None
    assert (entry.queue, entry.from_queue, store.counts.unreadable) == (Queue.HELD, Queue.PROCESSING, 1)
    assert wrong(verify.run(store, clock=clock)) == set()
    mail.file.write_bytes(whole)
    assert store.act_now(Action.RELEASE, [mail.large], actor="ann").done == (mail.large,)
    assert [lease.entry for lease in claimed(store)] == [mail.large]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_to_mail_leaves_a_store_that_agrees(opening: Opener, clock: HandClock, seed: int) -> None:
    chance = random.Random(seed)
    store = opening()
    bodies = store.bodies
    for step in range(60):
        clock.move(chance.randint(1, 20_000))
        match chance.randint(0, 5):
            case 0 | 1:
                many = [f"r{number}@corp.example" for number in range(chance.choice([1, 1, 3]))]
                data = a_mail(f"Step {step}", chance.choice([200, 5_000, 140_000]))
                new = real(*many, data=data, bodies=bodies if len(data) > 128 * 1024 else None)
                accepted(store, new, lease_until=chance.choice([None, clock.now() + MINUTE]))
            case 2 | 3:
                for lease in claimed(store):
                    _work_on(store, clock, chance, lease, bodies)
            case 4:
                waiting = [entry.id for entry in store.read_now().find(Filter(), limit=1_000)]
                some = chance.sample(waiting, min(3, len(waiting)))
                store.act_now(chance.choice(list(Action)), some, actor="ops@corp.example", reason="as I like it")
            case 5:
                store.close()
                store = opening()
        if step % 10 == 9:
            beside = opening(beside=True)
            report = verify.run(beside, clock=clock, deep=chance.random() < 0.3)
            assert wrong(report) == set(), told(report)
            beside.close()
    store.close()
    report = verify.run(opening(beside=True), clock=clock, repair=True, deep=True)
    assert report.counts == {}, told(report)


def _work_on(store: Store, clock: HandClock, chance: random.Random, lease: Lease, bodies: Bodies) -> None:
    entry, ident, now = lease.entry, lease.lease, clock.now()
    queue, attempts = lease.queue, lease.attempts
    passed = (Verdict(VerdictKind.PASS, "size"),)
    message = store.read_now().message(lease.message_id)
    assert message is not None
    match chance.randint(0, 4):
        case 0:
            wait = deferred(lease, now, now + HOUR, f"451 later {chance.randint(1, 3)}", verdicts=passed)
            hand(store, wait)
        case 1:
            held = Waited(entry, ident, Queue.HELD, queue, "Suspicious", attempts, now, 0, now, "held", passed, "size")
            hand(store, held)
        case 2 if queue is Queue.PROCESSING:
            move = Moved(entry, ident, Queue.DELIVERY, "Queued for Delivery", 1, now + HOUR, now)
            hand(store, move)
        case _:
            notice = (
                real(message.env_from, data=a_mail("Not delivered"), queue=Queue.SYSTEM)
                if chance.random() < 0.3
                else None
            )
            if notice is not None:
                notice = msgspec.structs.replace(notice, env_from="", body_hash=b"")
            end = EndedEntry(
                entry, ident, message.id, Queue.DELIVERY, Outcome.BOUNCED if notice else Outcome.DELIVERED, "250 kept",
                attempts, 0, now, body_object=message.body_object, notice=notice,
            )  # fmt: skip
            hand(store, end)
