"""The scripted receiver, seen by a real SMTP client and by raw sockets."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from postroom_demo.receiver import GREYLISTED, HANG_UP_EVERY, HANG_UPS, Receiver, scripted_hang_up

MESSAGE = "Subject: x\r\n\r\nhello\r\n..\r\n"


@dataclass
class Hand:
    """A clock moved by hand."""

    time: float = 1000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class Running:
    receiver: Receiver
    port: int
    clock: Hand

    async def send(self, *recipients: str) -> dict[str, tuple[int, bytes]]:
        """The refused recipients, as smtplib tells them."""

        def send() -> dict[str, tuple[int, bytes]]:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=10) as client:
                try:
                    return client.sendmail("a@corp.example", recipients, MESSAGE)
                except smtplib.SMTPRecipientsRefused as refused:
                    return refused.recipients

        return await asyncio.to_thread(send)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    clock = Hand()
    receiver = Receiver(now=clock, hang_ups=lambda session: "")
    port = await receiver.start("127.0.0.1", 0)
    yield Running(receiver, port, clock)
    await receiver.close()


async def test_most_mail_is_accepted(running: Running) -> None:
    assert await running.send("x@example.org", "y@example.net") == {}
    assert running.receiver.counts.accepted == 2


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("former.employee@corp.example", 550),
        ("Nobody@example.org", 550),
        ("full.mailbox@example.net", 452),
        ("x@blocked.example.net", 554),
    ],
)
async def test_some_are_refused(running: Running, recipient: str, code: int) -> None:
    for _ in range(3):
        refused = await running.send(recipient, "good@example.org")
        assert refused[recipient][0] == code
    counts = running.receiver.counts
    assert (counts.accepted, counts.deferred + counts.refused) == (3, 3)


async def test_greylisting_ends_with_time(running: Running) -> None:
    recipient = "x@greylist.example.org"
    assert (await running.send(recipient))[recipient][0] == 451
    running.clock.time += GREYLISTED - 1
    assert (await running.send(recipient))[recipient][0] == 451
    running.clock.time += 1
    assert await running.send(recipient) == {}


async def test_a_busy_site_takes_the_third_attempt(running: Running) -> None:
    recipient = "x@busy.example.com"
    for _ in range(2):
        assert (await running.send(recipient))[recipient][0] == 421
    assert running.receiver.counts.deferred == 2
    assert await running.send(recipient) == {}


async def conversation(port: int, sent: bytes) -> bytes:
    """Everything the receiver says to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


async def test_pipelined_commands_are_answered_in_order(running: Running) -> None:
    said = await conversation(
        running.port,
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@example.org>\r\nRCPT TO:<x@example.org>\r\nDATA\r\n"
        b"Subject: x\r\n\r\n..\r\n.\r\nRSET\r\nDATA\r\nVRFY x\r\nRCPT TO:x\r\nQUIT\r\n",
    )
    codes = [line[:3] for line in said.splitlines() if line[3:4] != b"-"]
    assert codes == [b"220", b"250", b"250", b"550", b"250", b"354", b"250", b"250", b"554", b"502", b"503", b"221"]


@pytest.mark.parametrize("stage", HANG_UPS)
async def test_it_hangs_up_at_every_stage(stage: str) -> None:
    receiver = Receiver(hang_ups=lambda session: stage)
    port = await receiver.start("127.0.0.1", 0)
    sent = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"
    try:
        said = await conversation(port, sent)
    except ConnectionResetError:
        said = b""
    assert b"221" not in said
    await receiver.close()
    assert (receiver.counts.hung_up, receiver.counts.accepted) == (1, 0)


def test_the_script_cuts_one_session_in_seventeen_each_time_elsewhere() -> None:
    stages = [scripted_hang_up(session) for session in range(1, HANG_UP_EVERY * 7)]
    assert [stage for stage in stages if stage] == ["greeting", "rcpt", "data", "mail", "dot", "greeting"]
    assert not any(stages[: HANG_UP_EVERY - 1])


async def test_a_line_without_end_is_cut(running: Running) -> None:
    try:
        said = await conversation(running.port, b"x" * (3 << 20))
    except (ConnectionResetError, BrokenPipeError):
        said = b""
    assert b"250" not in said
    assert await running.send("still@example.org") == {}


async def test_close_ends_what_is_open() -> None:
    receiver = Receiver()
    port = await receiver.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert (await reader.readline()).startswith(b"220")
    await receiver.close()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
