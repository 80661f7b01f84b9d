"""The server over real sockets."""

from __future__ import annotations

import asyncio
import random
import smtplib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage

import pytest

from postroom.errors import EnvironmentFailed
from postroom.model import Route
from postroom.settings import Address
from postroom.store.bodies import INLINE_BODY
from tests.smtp_in.conftest import Starter, with_smtp
from tests.smtp_in.dialogue import ENVELOPE
from tests.smtp_in.peer import READ_TIMEOUT, Peer


async def test_smtplib_delivers_a_message(serving: Starter) -> None:
    server, desk = await serving()
    place = server.addresses[0]
    mail = EmailMessage()
    mail["From"] = "Alice <alice@example.org>"
    mail["To"] = "Bob <bob@corp.example>, carol@corp.example"
    mail["Subject"] = "dots"
    mail.set_content(".\n..\n.x\nend\n")

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(place.host, place.port, timeout=READ_TIMEOUT) as client:
            client.ehlo("client.example")
            assert client.has_extn("pipelining")
            assert client.has_extn("8bitmime")
            assert client.esmtp_features["size"] == str(desk.settings.smtp.max_size)
            assert client.verify("bob")[0] == 252
            return client.send_message(mail, mail_options=["BODY=8BITMIME"])

    assert await asyncio.to_thread(send) == {}
    (new,) = desk.intake.messages
    assert new.body is not None
    assert new.body == bytes(mail).replace(b"\n", b"\r\n")
    assert new.env_from == "alice@example.org"
    assert [(to.address, to.name, to.route) for to in new.recipients] == [
        ("bob@corp.example", "Bob", Route.INBOUND),
        ("carol@corp.example", "", Route.INBOUND),
    ]
    assert (new.client.ip, new.client.helo, new.client.esmtp) == ("127.0.0.1", "client.example", True)


async def test_smtplib_sees_refusals(serving: Starter) -> None:
    server, desk = await serving()
    place = server.addresses[0]

    def send() -> None:
        with smtplib.SMTP(place.host, place.port, timeout=READ_TIMEOUT) as client:
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                client.sendmail("a@example.org", ["b@example.net"], b"x")
            assert refused.value.recipients == {"b@example.net": (550, b"5.7.1 relaying denied")}
            assert client.sendmail("a@example.org", ["b@example.net", "c@corp.example"], b"Subject: x\r\n\r\ny") == {
                "b@example.net": (550, b"5.7.1 relaying denied")
            }

    await asyncio.to_thread(send)
    assert [to.address for to in desk.intake.messages[0].recipients] == ["c@corp.example"]
    assert desk.counts.smtp_refused == {550: 2}
    line = 'info refused code=550 reason="5.7.1 relaying denied" command="rcpt TO:<b@example.net>" ip=127.0.0.1'
    assert desk.logged[:2] == [line, line]


async def test_relay_networks_may_send_to_outside(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await Peer.connect(server, source="127.0.0.2")).greeted()
    await peer.say(b"MAIL FROM:<a@corp.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
    assert [(await peer.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
    assert (await peer.ask(b"x\r\n.\r\n")).startswith("250 2.0.0 ")
    assert desk.intake.messages[0].recipients[0].route is Route.OUTBOUND
    peer.close()


async def test_a_large_message_goes_to_a_file(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    body = b"Subject: large\r\n\r\n" + b"z" * 998 + b"\r\n"
    body += (b"." + b"z" * 997 + b"\r\n") * 3000
    await peer.say(body.replace(b"\r\n.", b"\r\n..") + b".\r\nNOOP\r\n")
    assert (await peer.reply()).startswith("250 2.0.0 ")
    assert (await peer.reply()) == "250 2.0.0 Ok"
    (new,) = desk.intake.messages
    assert new.body is None
    assert len(body) > INLINE_BODY
    assert desk.bodies.read(new.body_object) == body
    assert desk.receiver.memory.used == 0
    peer.close()


async def test_pipelined_messages_are_answered_one_after_the_other(serving: Starter) -> None:
    server, desk = await serving()
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"one\r\n.\r\n" + ENVELOPE)
    await desk.intake.next()
    desk.intake.answer()
    assert [(await peer.reply())[:3] for _ in range(4)] == ["250", "250", "250", "354"]
    await peer.say(b"two\r\n.\r\nQUIT\r\n")
    await desk.intake.next()
    desk.intake.answer()
    assert [(await peer.reply())[:3] for _ in range(2)] == ["250", "221"]
    assert await peer.until_end() == b""
    assert [new.body for new in desk.intake.messages] == [b"one\r\n", b"two\r\n"]
    peer.close()


async def test_any_number_of_messages_refused_at_once_do_not_pile_up(serving: Starter) -> None:
    server, desk = await serving(max_errors=5000, max_commands=50_000)
    peer = await (await Peer.connect(server)).greeted()
    await peer.say(b"NOOP\r\n")
    await peer.reply()
    desk.intake.failing = True
    number = 3000
    await peer.say((ENVELOPE + b"x\r\n.\r\n") * number + b"QUIT\r\n")
    said = (await peer.until_end()).split(b"\r\n")
    assert len([line for line in said if line.startswith(b"452 4.3.1")]) == number
    assert said[-2].startswith(b"221")
    assert desk.counts.smtp_rejected_messages == number
    peer.close()


async def test_a_peer_that_closed_its_side_gets_its_answers(serving: Starter) -> None:
    server, desk = await serving()
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x\r\n.\r\nNOOP\r\n")
    peer.writer.write_eof()
    await desk.intake.next()
    desk.intake.answer()
    said = await peer.until_end()
    assert [line[:9] for line in said.split(b"\r\n")] == [b"250 2.0.0", b"250 2.0.0", b""]
    peer.close()


async def test_a_message_whose_peer_is_gone_is_still_kept(serving: Starter) -> None:
    server, desk = await serving()
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x\r\n.\r\n")
    await desk.intake.next()
    peer.reset()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    desk.intake.answer()
    assert desk.counts.smtp_accepted == 1
    assert desk.receiver.memory.used == 0


async def test_a_cut_message_is_no_message(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x\r\n.\n")
    peer.close()
    await asyncio.wait_for(server._empty.wait(), READ_TIMEOUT)
    assert desk.intake.messages == []
    assert desk.receiver.memory.used == 0
    assert desk.counts.smtp_sessions == 0


async def test_stop_ends_idle_sessions_and_waits_for_messages(serving: Starter) -> None:
    server, desk = await serving()
    desk.intake.at_once = False
    idle = await (await Peer.connect(server)).greeted()
    data = await (await (await Peer.connect(server)).greeted()).in_data()
    waiting = await (await (await Peer.connect(server)).greeted()).in_data()
    await waiting.say(b"one\r\n.\r\n")
    await desk.intake.next()
    stopping = asyncio.ensure_future(server.stop(READ_TIMEOUT))
    assert (await idle.until_end()).startswith(b"421 4.3.2")
    assert not stopping.done()
    await data.say(b"two\r\n.\r\n")
    await desk.intake.next()
    desk.intake.answer()
    desk.intake.answer()
    for peer in (data, waiting):
        said = await peer.until_end()
        assert [line[:3] for line in said.split(b"\r\n")] == [b"250", b"421", b""]
    await asyncio.wait_for(stopping, READ_TIMEOUT)
    with pytest.raises(OSError, match=r"."):
        await Peer.connect(server)
    assert desk.counts.smtp_accepted == 2


async def test_stop_cuts_what_takes_longer_than_the_grace(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await asyncio.wait_for(server.stop(0.01), READ_TIMEOUT)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await peer.reader.readexactly(1)
    assert any("smtp_cut_off sessions=1" in line for line in desk.logged)


async def test_every_configured_address_is_listened_on(serving: Starter) -> None:
    both = with_smtp(listen=(Address("127.0.0.1", 0), Address("::1", 0)))
    server, desk = await serving(both)
    first, second = server.addresses
    assert (first.host, second.host) == ("127.0.0.1", "::1")
    assert first.port != 0 != second.port
    for place in (first, second):
        reader, writer = await asyncio.open_connection(place.host, place.port)
        assert (await reader.readline()).startswith(b"220 ")
        writer.close()
    assert str(first) in repr(server)
    assert desk.counts.smtp_sessions_total == 2


async def test_a_port_that_is_taken_is_named(serving: Starter) -> None:
    server, _ = await serving()
    taken = server.addresses[0]
    with pytest.raises(EnvironmentFailed, match=str(taken.port)):
        await serving(with_smtp(listen=(Address("127.0.0.1", 0), taken)))


async def test_a_listener_that_the_system_closed_is_opened_again(serving: Starter) -> None:
    server, desk = await serving()
    (listener,) = server._listeners
    assert listener.server is not None
    listener.server.close()
    while not listener.is_lost:
        await asyncio.sleep(0)
    server.sweep()
    assert server._reviving is not None
    await server._reviving
    assert server.addresses[0].port == listener.address.port
    await (await Peer.connect(server)).greeted()
    assert any("listener_opened_again" in line for line in desk.logged)


async def test_nagle_is_off(serving: Starter) -> None:
    server, _ = await serving()
    await (await Peer.connect(server)).greeted()
    (connection,) = server._connections
    assert connection._transport is not None
    raw = connection._transport.get_extra_info("socket")
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_secrets_in_refused_commands_stay_out_of_the_log(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await Peer.connect(server)).greeted()
    assert (await peer.ask(b"AUTH PLAIN c2VjcmV0\r\n")).startswith("502")
    assert (await peer.ask(b"c2VjcmV0 x\r\n")).startswith("500")
    assert [line for line in desk.logged if "c2V" in line] == []
    assert "command=AUTH" in desk.logged[0]


async def test_noise_over_the_wire_leaves_the_server_alive(serving: Starter) -> None:
    server, desk = await serving(max_errors=3)
    dice = random.Random(7)
    for _ in range(40):
        peer = await Peer.connect(server)
        peer.writer.write(dice.randbytes(dice.randrange(20_000)))
        if dice.random() < 0.3:
            peer.reset()
        else:
            peer.close()
    await (await Peer.connect(server)).greeted()
    assert desk.receiver.memory.used == 0
    assert not [line for line in desk.logged if line.startswith(("error", "warning"))]


class _TooMuch(bytes):
    """What there is no memory for."""

    def __radd__(self, other: bytes) -> bytes:
        raise MemoryError


async def test_a_message_in_hand_gets_its_answer_before_the_word_that_there_is_no_memory(serving: Starter) -> None:
    server, desk = await serving()
    desk.intake.at_once = False
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"Subject: one\r\n\r\nx\r\n.\r\n")
    await desk.intake.next()
    (connection,) = server._connections
    connection.data_received(_TooMuch(b"QUIT\r\n"))
    desk.intake.answer()
    assert (await peer.reply()).startswith("250 2.0.0 ")
    assert (await peer.reply()).startswith("421 4.3.1 ")
    assert await peer.until_end() == b""


async def test_what_there_is_no_memory_for_is_refused_and_not_kept(serving: Starter) -> None:
    server, desk = await serving()
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    (connection,) = server._connections
    connection.data_received(_TooMuch(b"Subject: one\r\n\r\nx\r\n.\r\n"))
    assert (await peer.reply()).startswith("421 4.3.1 ")
    assert desk.intake.messages == []


class _Short(ThreadPoolExecutor):
    """There is no memory for another thread, as long as `full` says so."""

    full = False

    def _adjust_thread_count(self) -> None:
        if self.full:
            raise RuntimeError("can't start new thread")
        super()._adjust_thread_count()  # type: ignore[misc]


async def test_a_large_message_refused_for_want_of_a_thread_leaves_no_file(serving: Starter) -> None:
    server, desk = await serving()
    executor, go_on = _Short(2), threading.Event()
    asyncio.get_running_loop().set_default_executor(executor)
    busy = executor.submit(go_on.wait)
    executor.full = True
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    await peer.say(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (INLINE_BODY // 70) + b".\r\n")
    assert (await peer.reply()).startswith("452 4.3.1 ")
    go_on.set()
    await asyncio.wrap_future(busy)
    executor.shutdown()  # whatever was put in line is done then
    assert desk.bodies.in_flight == set()
    assert [file for file in desk.bodies.root.rglob("*") if file.is_file()] == []
