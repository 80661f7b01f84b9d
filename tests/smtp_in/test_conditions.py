"""Our own faults, not a message's: every sender hears of them, the log once; new settings for new sessions."""

from __future__ import annotations

import asyncio

import msgspec

from postroom.smtp_in import replies
from postroom.smtp_in.receive import Receiver
from postroom.smtp_in.server import OVER
from tests.smtp_in.conftest import BASE, Desk, Starter, with_smtp
from tests.smtp_in.peer import Peer

LOW = replies.DISK_LOW.decode().removesuffix("\r\n")
MAIL = b"MAIL FROM:<alice@corp.example>\r\n"


async def test_a_condition_is_logged_when_it_begins_and_when_it_is_over(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await Peer.connect(server)).greeted()
    desk.door.reply = replies.DISK_LOW
    for _ in range(5):
        assert await peer.ask(MAIL) == LOW
    refused = [line for line in desk.logged if line.startswith("info refused ")]
    assert len(refused) == 1
    assert desk.counts.smtp_refused == {452: 5}
    for _ in range(OVER):
        server.sweep()
    assert not [line for line in desk.logged if "refused_so_often" in line]
    server.sweep()
    (over,) = [line for line in desk.logged if "refused_so_often" in line]
    assert over == 'info refused_so_often reason="4.3.1 Insufficient system storage, try again later" times=5'
    assert await peer.ask(MAIL) == LOW
    assert len([line for line in desk.logged if line.startswith("info refused ")]) == 2


async def test_new_limits_are_for_new_sessions(serving: Starter) -> None:
    server, _desk = await serving()
    before = await (await Peer.connect(server)).greeted()
    server.apply(with_smtp(max_size=65_536, max_sessions=2))
    after = await (await Peer.connect(server)).greeted()
    assert (await after.ask(b"MAIL FROM:<alice@corp.example> SIZE=70000\r\n")).startswith("552 5.3.4")
    assert (await before.ask(b"MAIL FROM:<alice@corp.example> SIZE=70000\r\n")).startswith("250 ")
    assert (await (await Peer.connect(server)).until_end()).startswith(b"421 4.7.0")


async def test_a_message_waits_before_it_is_kept_when_intake_is_slowed(serving: Starter) -> None:
    server, desk = await serving()
    turns: list[float] = []

    def delay() -> float:
        turns.append(0.01)
        return turns[-1]

    slowed = Receiver(
        BASE, intake=desk.intake, admission=desk.door, bodies=desk.bodies, clock=desk.clock, log=desk.log,
        counts=desk.counts, delay=delay,
    )  # fmt: skip
    server.receiver = slowed
    peer = await (await Peer.connect(server)).greeted()
    for line in (MAIL, b"RCPT TO:<bob@corp.example>\r\n"):
        assert (await peer.ask(line)).startswith("250 ")
    assert (await peer.ask(b"DATA\r\n")).startswith("354 ")
    answer = asyncio.ensure_future(peer.ask(b"Subject: slow\r\n\r\nHello\r\n.\r\n"))
    await desk.intake.next()
    assert len(turns) == 1
    assert (await answer).startswith("250 ")


async def test_more_memory_is_given_when_the_settings_allow_it(desk: Desk) -> None:
    before = desk.receiver.memory.bound
    limits = msgspec.structs.replace(BASE.limits, active_bytes=before)
    desk.receiver.apply(msgspec.structs.replace(BASE, limits=limits))
    assert desk.receiver.memory.bound == 4 * before
