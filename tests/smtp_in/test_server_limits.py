"""What peers may not do to the server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket

from postroom.smtp_in.server import SmtpServer
from tests.smtp_in.conftest import Starter
from tests.smtp_in.peer import READ_TIMEOUT, Peer


async def test_sessions_are_limited_in_all(serving: Starter) -> None:
    server, desk = await serving(max_sessions=2)
    first, second = [await (await Peer.connect(server)).greeted() for _ in range(2)]
    third = await Peer.connect(server)
    assert (await third.until_end()).startswith(b"421 4.7.0")
    assert desk.counts.smtp_sessions == 2
    first.close()
    second.close()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    await (await Peer.connect(server)).greeted()
    assert desk.counts.smtp_sessions_total == 4
    assert any("command=connect" in line for line in desk.logged)


async def test_sessions_of_one_address_are_limited_outside_relay_networks(serving: Starter) -> None:
    server, _desk = await serving(max_sessions_per_ip=1)
    await (await Peer.connect(server)).greeted()
    assert (await (await Peer.connect(server)).until_end()).startswith(b"421 4.7.0")
    await (await Peer.connect(server, source="127.0.0.3")).greeted()
    for _ in range(3):
        await (await Peer.connect(server, source="127.0.0.2")).greeted()


async def test_some_sessions_are_kept_for_relay_networks(serving: Starter) -> None:
    server, _desk = await serving(max_sessions=20)
    for _ in range(18):
        await (await Peer.connect(server)).greeted()
    assert (await (await Peer.connect(server)).until_end()).startswith(b"421 4.7.0")
    for _ in range(2):
        await (await Peer.connect(server, source="127.0.0.2")).greeted()
    assert (await (await Peer.connect(server, source="127.0.0.2")).until_end()).startswith(b"421 4.7.0")


async def test_a_command_line_that_never_ends_is_silence(serving: Starter) -> None:
    server, _desk = await serving(idle_timeout=3_000)
    peer = await (await Peer.connect(server)).greeted()
    (connection,) = server._connections
    session = connection._session
    assert session is not None
    for letter in (b"N", b"O", b"O"):
        before = len(session._line)
        await peer.say(letter)
        while len(session._line) == before:  # a turn of the loop each
            await asyncio.sleep(0)
        server.sweep()
    server.sweep()
    assert (await peer.until_end()).startswith(b"421 4.4.2")


async def trickled(server: SmtpServer, peer: Peer, looks: int, piece: bytes) -> int:
    """A piece of a message before each look; how many looks the session lived."""
    (connection,) = server._connections
    for look in range(looks):
        session = connection._session
        assert session is not None
        if (body := session.receiving) is None:
            return look
        before = body.size
        await peer.say(piece)
        while body.size == before:
            await asyncio.sleep(0)
        server.sweep()
    return looks


async def test_a_message_that_trickles_ends(serving: Starter) -> None:
    server, desk = await serving(data_timeout=60_000, max_size=1024 * 1024)
    slow = await (await (await Peer.connect(server)).greeted()).in_data()
    assert await trickled(server, slow, 200, b"x") == 62
    assert (await slow.until_end()).startswith(b"421 4.4.2")
    slow.close()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    assert desk.receiver.memory.used == 0


async def test_a_message_that_was_fast_may_not_trickle_afterwards(serving: Starter) -> None:
    server, _desk = await serving(data_timeout=60_000, max_size=1024 * 1024)
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    assert await trickled(server, peer, 1, b"x" * 50_000) == 1
    assert await trickled(server, peer, 300, b"x") == 122  # two stretches: the first has its bytes
    assert (await peer.until_end()).startswith(b"421 4.4.2")


async def test_a_slow_line_is_waited_for_but_not_for_ever(serving: Starter) -> None:
    server, _desk = await serving(data_timeout=60_000, max_size=1024 * 1024)
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    assert await trickled(server, peer, 500, b"x" * 20) == 60 + 256 + 2  # 1 MiB at 4 KiB a second, and a time-out
    assert (await peer.until_end()).startswith(b"421 4.4.2")


async def test_each_message_has_its_own_time(serving: Starter) -> None:
    server, _desk = await serving(data_timeout=60_000)
    peer = await (await Peer.connect(server)).greeted()
    for _ in range(3):
        await peer.in_data()
        assert await trickled(server, peer, 50, b"x") == 50
        assert (await peer.ask(b"\r\n.\r\n")).startswith("250 2.0.0")


async def test_a_stream_without_end_is_refused_and_closed(serving: Starter) -> None:
    server, desk = await serving(max_size=100_000)
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    peer.writer.write(b"x" * 1_000_000)
    assert (await peer.until_end()).startswith(b"552 5.3.4 Message too big")
    peer.close()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    assert desk.receiver.memory.used == 0
    assert desk.counts.smtp_rejected_messages == 1


async def test_silence_ends_a_session_and_silence_in_data_later(serving: Starter) -> None:
    server, desk = await serving(idle_timeout=3_000, data_timeout=6_000)
    idle = await (await Peer.connect(server)).greeted()
    busy = await (await Peer.connect(server)).greeted()
    data = await (await (await Peer.connect(server)).greeted()).in_data()
    for _ in range(3):
        server.sweep()
    assert (await busy.ask(b"NOOP\r\n")).startswith("250")
    server.sweep()
    assert (await idle.until_end()).startswith(b"421 4.4.2")
    assert (await busy.ask(b"NOOP\r\n")).startswith("250")
    for _ in range(3):
        server.sweep()
    assert (await data.until_end()).startswith(b"421 4.4.2")
    assert (await busy.ask(b"NOOP\r\n")).startswith("250")
    assert desk.counts.smtp_refused == {421: 2}


async def test_a_message_in_hand_is_waited_for(serving: Starter) -> None:
    server, desk = await serving(idle_timeout=1_000, data_timeout=1_000)
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x\r\n.\r\n")
    await desk.intake.next()
    for _ in range(50):
        server.sweep()
    desk.intake.answer()
    assert (await peer.reply()).startswith("250")
    server.sweep()
    assert (await peer.ask(b"NOOP\r\n")).startswith("250")


async def test_the_sweep_runs_by_itself(serving: Starter) -> None:
    server, _desk = await serving(by_itself=True, idle_timeout=1_000)
    peer = await (await Peer.connect(server)).greeted()
    assert (await peer.until_end()).startswith(b"421 4.4.2")


async def test_a_peer_that_never_reads_costs_bounded_memory_and_is_cut(serving: Starter) -> None:
    server, _desk = await serving(max_commands=10_000_000, idle_timeout=2_000)
    deaf = await (await Peer.connect(server)).greeted()
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    deaf.writer.write(b"HELP\r\n" * 5_000_000)  # the longest reply for its length
    (connection,) = server._connections
    assert connection._transport is not None
    while not connection._write_full:
        await asyncio.sleep(0)
    assert connection._not_reading
    assert connection._transport.get_write_buffer_size() < 64 * 1024 + 256 * 1024 * 12  # what one read can cause
    for _ in range(20):
        server.sweep()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)


async def test_pipelining_behind_a_message_in_hand_is_not_read_without_bound(serving: Starter) -> None:
    server, desk = await serving(max_commands=10_000_000)
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x\r\n.\r\n")
    await desk.intake.next()
    noops = 300_000
    peer.writer.write(b"NOOP\r\n" * noops)
    (connection,) = server._connections
    session = connection._session
    assert session is not None
    while not connection._not_reading:  # a turn of the loop each
        await asyncio.sleep(0)
    assert session.backlog <= 64 * 1024 + 256 * 1024
    desk.intake.answer()
    assert (await peer.reply()).startswith("250 2.0.0 abc")
    for _ in range(noops):
        await peer.reader.readuntil(b"\r\n")
    assert not connection._not_reading
    peer.close()


async def test_running_out_of_file_descriptors_does_not_end_the_listener(serving: Starter) -> None:
    server, desk = await serving()
    place = server.addresses[0]
    loop = asyncio.get_running_loop()
    await (await Peer.connect(server)).greeted()  # what the loop opens once is open now
    "codec".encode("idna")  # a module of its own, which `sock_connect` would look for without a descriptor
    raws = [socket.socket() for _ in range(5)]
    for raw in raws:
        raw.setblocking(False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        for raw in raws:
            await loop.sock_connect(raw, (place.host, place.port))
        for raw in raws:  # taken and let go: nobody is left hanging
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(loop.sock_recv(raw, 10), READ_TIMEOUT) == b""
        server.sweep()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for raw in raws:
            raw.close()
    server.sweep()
    await (await Peer.connect(server)).greeted()
    assert desk.counts.smtp_sessions == 2


async def test_last_words_reach_a_peer_that_goes_on_sending(serving: Starter) -> None:
    server, desk = await serving(max_errors=3)
    peer = await (await Peer.connect(server)).greeted()
    peer.writer.write(b"nonsense\r\n" * 200_000)
    said = await peer.until_end()
    assert [line[:9] for line in said.split(b"\r\n")] == [b"500 5.5.2"] * 3 + [b"421 4.7.0", b""]
    peer.close()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    assert desk.counts.smtp_refused == {500: 3, 421: 1}


async def test_a_peer_that_ignores_our_last_words_is_cut(serving: Starter) -> None:
    server, _desk = await serving(max_errors=1)
    peer = await (await Peer.connect(server)).greeted()
    assert (await peer.ask(b"nonsense\r\n")).startswith("500")
    assert (await peer.until_end()).startswith(b"421 4.7.0")
    for _ in range(12):
        server.sweep()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
