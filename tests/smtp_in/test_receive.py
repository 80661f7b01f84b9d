"""A complete message becomes a NewMessage, and the store's answer a reply."""

from __future__ import annotations

import asyncio
import os
from hashlib import sha256
from pathlib import Path

import pytest

from postroom.model import Client, Recipient, Route
from postroom.smtp_in.transaction import Transaction
from postroom.store.bodies import INLINE_BODY
from postroom.store.records import AcceptDone, NewMessage
from postroom.telemetry import ACK_BUCKETS
from tests.smtp_in.conftest import NOW, Desk

TEXT = (
    b"From: Alice Example <alice@example.org>\r\n"
    b"To: Bob Builder <Bob@corp.example>, carol@corp.example\r\n"
    b"Subject: The quarterly report\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"\r\n"
    b"Here it is.\r\n"
)
CLIENT = Client("198.51.100.7", "", "client.example", True)
TO = (Recipient("bob@corp.example", Route.INBOUND), Recipient("dave@corp.example", Route.INBOUND))


def transaction(body: bytes = TEXT) -> Transaction:
    return Transaction(CLIENT, "alice@example.org", TO, [body], len(body))


def take(desk: Desk, message: Transaction) -> asyncio.Future[bytes]:
    """Hand it over; the future has the reply."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    desk.receiver.take(message, answered.set_result)
    return answered


async def test_a_small_message_is_kept_in_memory_and_answered_with_its_id(desk: Desk) -> None:
    reply = take(desk, transaction())
    assert reply.done()  # no thread, no loop turn
    assert reply.result() == b"250 2.0.0 abc1 queued\r\n"
    (new,) = desk.intake.messages
    assert new.client == CLIENT
    assert new.env_from == "alice@example.org"
    assert new.recipients == (
        Recipient("bob@corp.example", Route.INBOUND, "Bob Builder"),
        Recipient("dave@corp.example", Route.INBOUND),
    )
    assert (new.facts.from_address, new.facts.from_name) == ("alice@example.org", "Alice Example")
    assert new.facts.subject == "The quarterly report"
    assert new.size == len(TEXT)
    assert new.received == NOW
    assert new.body == TEXT
    assert new.body_object == ""
    assert new.body_hash == sha256(b"Here it is.\r\n").digest()


async def test_the_same_text_under_another_header_has_the_same_hash(desk: Desk) -> None:
    take(desk, transaction())
    take(desk, transaction(b"Subject: other\r\n\r\nHere it is.\r\n"))
    take(desk, transaction(b"Subject: other\r\n\r\nHere it was.\r\n"))
    first, second, third = [new.body_hash for new in desk.intake.messages]
    assert first == second != third


async def test_an_accepted_message_is_counted_timed_and_logged(desk: Desk) -> None:
    take(desk, transaction())
    assert desk.counts.smtp_accepted == 1
    assert sum(desk.counts.ack_seconds) == 1
    assert len(desk.counts.ack_seconds) == len(ACK_BUCKETS) + 1
    assert desk.logged == [f"info accepted id=abc1 from_=alice@example.org to=2 size={len(TEXT)} ip=198.51.100.7"]


async def test_nothing_is_said_before_the_commit(desk: Desk) -> None:
    desk.intake.at_once = False
    reply = take(desk, transaction())
    assert not reply.done()
    assert desk.counts.smtp_accepted == 0
    desk.intake.answer()
    assert reply.result().startswith(b"250 ")


@pytest.mark.parametrize("size", [INLINE_BODY, INLINE_BODY + 1])
async def test_where_a_body_is_kept_depends_on_its_size(desk: Desk, size: int) -> None:
    body = TEXT + b"x" * (size - len(TEXT))
    assert await take(desk, transaction(body)) == b"250 2.0.0 abc1 queued\r\n"
    (new,) = desk.intake.messages
    assert new.size == size
    assert new.facts.subject == "The quarterly report"
    assert new.recipients[0].name == "Bob Builder"
    if size == INLINE_BODY:
        assert (new.body, new.body_object) == (body, "")
        assert list(desk.bodies.names()) == []
    else:
        assert new.body is None
        assert list(desk.bodies.names()) == [new.body_object]
        assert desk.bodies.read(new.body_object) == body


async def test_a_large_body_never_waits_on_the_loop(desk: Desk) -> None:
    reply = take(desk, transaction(b"x" * (INLINE_BODY + 1)))
    assert not reply.done()
    assert (await reply).startswith(b"250")


async def test_a_commit_that_fails_is_answered_with_later(desk: Desk) -> None:
    desk.intake.failing = True
    assert await take(desk, transaction()) == b"452 4.3.1 The message could not be stored, try again later\r\n"
    assert desk.counts.smtp_accepted == 0


async def test_the_file_of_a_large_body_stays_when_its_commit_fails(desk: Desk) -> None:
    """The commit may be on the disk nevertheless, and come back after a crash: upkeep finds out."""
    desk.intake.failing = True
    assert (await take(desk, transaction(b"x" * (INLINE_BODY + 1)))).startswith(b"452 4.3.1")
    await asyncio.get_running_loop().shutdown_default_executor()
    (name,) = desk.bodies.names()
    assert desk.bodies.doubtful == {name}


async def test_a_large_body_is_in_flight_until_its_commit(desk: Desk) -> None:
    kept = desk.receiver._intake
    seen: list[set[str]] = []

    def looking(new: NewMessage, done: AcceptDone) -> None:
        seen.append(set(desk.bodies.in_flight))
        kept(new, done)

    desk.receiver._intake = looking
    assert (await take(desk, transaction(b"x" * (INLINE_BODY + 1)))).startswith(b"250")
    assert seen == [set(desk.bodies.names())]
    assert desk.bodies.in_flight == set()


async def test_a_large_body_that_cannot_be_described_leaves_no_file(desk: Desk) -> None:
    class Broken:
        def now(self) -> int:
            raise ZeroDivisionError("before the intake has it")

    desk.receiver._clock = Broken()
    assert (await take(desk, transaction(b"x" * (INLINE_BODY + 1)))).startswith(b"451 4.3.0")
    await asyncio.get_running_loop().shutdown_default_executor()  # the deletion has run
    assert list(desk.bodies.names()) == []


async def test_a_body_that_cannot_be_written_is_answered_with_later(desk: Desk, tmp_path: Path) -> None:
    desk.bodies.root = tmp_path / "nowhere"
    assert (await take(desk, transaction(b"x" * (INLINE_BODY + 1)))).startswith(b"452 4.3.1")
    assert desk.intake.messages == []
    (line,) = desk.logged
    assert line.startswith("warning body_not_kept")
    assert "nowhere" in line


async def test_a_closed_door_refuses_before_anything_is_done(desk: Desk) -> None:
    desk.door.reply = b"452 4.3.1 disk low\r\n"
    assert await take(desk, transaction()) == b"452 4.3.1 disk low\r\n"
    assert desk.intake.messages == []


@pytest.mark.parametrize("size", [100, INLINE_BODY + 1])
async def test_a_bug_is_answered_with_later_and_logged_with_its_trace(desk: Desk, size: int) -> None:
    def broken(new: object, done: object) -> None:
        raise ZeroDivisionError("the intake is broken")

    desk.receiver._intake = broken
    assert (await take(desk, transaction(b"x" * size))).startswith(b"451 4.3.0")
    (line,) = desk.logged
    assert line.startswith("error receive_failed")
    assert "ZeroDivisionError" in line
    assert "Traceback" in line
    await asyncio.get_running_loop().shutdown_default_executor()
    assert set(desk.bodies.names()) == desk.bodies.doubtful  # the intake may have it, whatever it raised


async def test_any_bytes_are_a_message(desk: Desk) -> None:
    for body in (b"", b"\r\n", b"\0\xff", os.urandom(5000), b"\r\n" * 3000, b":" * 100):
        assert (await take(desk, transaction(body))).startswith(b"250 ")
        assert desk.intake.messages[-1].size == len(body)
