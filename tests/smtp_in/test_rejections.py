"""What sessions refuse comes into the record: whole, folded, and without anybody waiting for it."""

from __future__ import annotations

import asyncio
import io

import pytest

from postroom.clock import MINUTE, HandClock
from postroom.errors import StoreUnavailable
from postroom.settings import Settings
from postroom.smtp_in import rejections as recording
from postroom.smtp_in import replies
from postroom.smtp_in.rejections import Rejections, kind_of
from postroom.smtp_in.server import SmtpServer
from postroom.smtp_in.shared import MESSAGE
from postroom.store.logs import rejections
from postroom.store.logs.rejections import KINDS, NewRejection
from postroom.store.store import open_store
from postroom.telemetry import Log
from tests.smtp_in.conftest import NOW, Desk, with_smtp
from tests.smtp_in.peer import Peer


class Record:
    """A recorder whose rows are kept in memory."""

    def __init__(self) -> None:
        self.rows: list[NewRejection] = []
        self.writes = 0
        self.failing = False
        self.written = asyncio.Event()
        self.clock = HandClock(NOW)
        self.out = io.StringIO()
        self.log = Log(self.out, clock=self.clock)
        self.recorder = Rejections(self.write, clock=self.clock, log=self.log)

    async def write(self, rows: list[NewRejection]) -> None:
        self.writes += 1
        self.written.set()
        if self.failing:
            raise StoreUnavailable("the disk is full")
        self.rows += rows

    def refuse(
        self, reply: bytes, line: bytes, *, ip: str = "192.0.2.1", place: str = "", sender: str = "a@b.example"
    ) -> None:
        self.recorder.note(ip, place or ip, [(reply, line, "peer.example", sender, ())])


@pytest.fixture
async def record() -> Record:
    return Record()


async def served(desk: Desk, record: Record) -> SmtpServer:
    server = SmtpServer(
        desk.settings, desk.receiver, log=desk.log, counts=desk.counts, loop=asyncio.get_running_loop(),
        rejections=record.recorder,
    )  # fmt: skip
    await server.start()
    return server


async def test_a_session_leaves_who_to_whom_why_and_whence(desk: Desk, record: Record) -> None:
    server = await served(desk, record)
    peer = await (await Peer.connect(server)).greeted()
    await peer.ask(b"VRFY\r\n")  # a syntax error is no rejection of mail
    await peer.ask(b"RCPT TO:<b@corp.example>\r\n")  # neither is a wrong order
    await peer.ask(b"MAIL FROM:<alice@example.org> NOSUCH=1\r\n")
    assert await peer.ask(b"MAIL FROM:<alice@example.org>\r\n") == "250 2.1.0 Ok"
    await peer.ask(b"RCPT TO:<x@elsewhere.example>\r\n")
    await peer.ask(b"RCPT TO:<bob@corp.example>\r\n")
    await peer.ask(b"RCPT TO:<carol@corp.example>\r\n")
    desk.door.reply = replies.BACKLOG_FULL
    await peer.ask(b"DATA\r\n")
    assert (await peer.ask(b"Subject: x\r\n\r\nx\r\n.\r\n")).startswith("452")
    await record.recorder.close()
    assert [(row.env_from, row.recipient, row.kind, row.reply[:9]) for row in record.rows] == [
        ("alice@example.org", "", "address", "555 5.5.4"),
        ("alice@example.org", "x@elsewhere.example", "relaying", "550 5.7.1"),
        ("alice@example.org", "bob@corp.example", "unavailable", "452 4.3.1"),
        ("alice@example.org", "carol@corp.example", "unavailable", "452 4.3.1"),
    ]
    assert {(row.ip, row.helo, row.number, row.at) for row in record.rows} == {("127.0.0.1", "peer.example", 1, NOW)}
    await server.stop(0.0)


async def test_a_message_that_is_too_big_or_smuggled(desk: Desk, record: Record) -> None:
    server = await served(desk, record)
    peer = await (await (await Peer.connect(server)).greeted()).in_data()
    assert (await peer.ask(b"x\n.\r\ny\r\n.\r\n")).startswith("554 5.6.0")
    await record.recorder.close()
    (row,) = record.rows
    assert (row.kind, bool(row.env_from), bool(row.recipient)) == ("content", True, True)
    await server.stop(0.0)


async def test_a_peer_that_is_sent_away(tmp_path: object, record: Record, desk: Desk) -> None:
    desk.settings = with_smtp(max_sessions_per_ip=1)
    server = await served(desk, record)
    await (await Peer.connect(server)).greeted()
    away = await Peer.connect(server)
    assert (await away.reply()).startswith("421 4.7.0")
    await record.recorder.close()
    (row,) = record.rows
    assert (row.ip, row.helo, row.env_from, row.recipient, row.kind) == ("127.0.0.1", "", "", "", "limit")
    await server.stop(0.0)


async def test_written_once_for_what_came_together_and_without_being_waited_for(record: Record) -> None:
    for number in range(5):
        record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<r%d@x.example>" % number)
    assert record.writes == 0
    await asyncio.wait_for(record.written.wait(), 30)
    assert (record.writes, len(record.rows)) == (1, 5)


async def test_the_same_again_is_counted(record: Record) -> None:
    for _ in range(1000):
        record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<r@x.example>")
    await record.recorder.close()
    (row,) = record.rows
    assert row.number == 1000


async def test_one_peer_has_so_many_rows_a_minute(record: Record) -> None:
    for number in range(100):
        record.refuse(
            replies.RELAYING_DENIED, b"RCPT TO:<r%d@x.example>" % number, ip=f"2001:db8::{number}", place="2001:db8::"
        )
    record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<other@x.example>", ip="192.0.2.9")
    record.clock.move(MINUTE)
    record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<next@x.example>", ip="2001:db8::1", place="2001:db8::")
    await record.recorder.close()
    assert len(record.rows) == recording.PER_PLACE + 3
    assert sum(row.number for row in record.rows) == 102
    (folded,) = [row for row in record.rows if row.number > 1]
    assert folded.number == 100 - recording.PER_PLACE
    assert folded.reply == "80 more of this address within a minute, the last: 550 5.7.1 relaying denied"
    assert folded.env_from == folded.recipient == ""


async def test_all_peers_together_have_so_many_rows_a_minute(record: Record) -> None:
    for number in range(3000):
        record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<r@x.example>", ip=f"10.0.{number // 250}.{number % 250}")
    await record.recorder.close()
    assert len(record.rows) == recording.PER_MINUTE + recording.PLACES + 1
    assert sum(row.number for row in record.rows) == 3000
    assert [row.number for row in record.rows if not row.ip] == [1000]


async def test_a_store_that_does_not_take_it_costs_one_line_of_log(record: Record) -> None:
    record.failing = True
    for number in range(3):
        record.refuse(replies.RELAYING_DENIED, b"RCPT TO:<r%d@x.example>" % number)
        await record.recorder.close()
    record.log.flush()
    assert record.writes == 3
    assert record.out.getvalue().count("rejections_not_recorded") == 1


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (replies.RELAYING_DENIED, "relaying"), (replies.BAD_SENDER, "address"), (replies.BAD_RECIPIENT, "address"),
        (replies.NOT_ASCII, "address"), (replies.UNSAFE_LINE, "content"), (replies.too_big(1), "size"),
        (replies.header_too_big(1), "size"), (replies.TOO_MANY_RECIPIENTS, "limit"),
        (replies.TOO_MANY_SESSIONS, "limit"), (replies.NO_MEMORY, "unavailable"), (replies.NOT_KEPT, "unavailable"),
        (replies.INTERNAL_ERROR, "unavailable"),
    ],
)  # fmt: skip
def test_kinds(reply: bytes, kind: str) -> None:
    assert kind_of(reply) == kind
    assert kind in KINDS


async def test_what_a_peer_sends_is_kept_as_text(record: Record) -> None:
    for line in (
        b"RCPT TO:", b"RCPT TO:<", b"rcpt to:<\xff\x00>", b"RCPT", b"MAIL FROM:<" + b"x" * 300, b"DATA", MESSAGE, b"?",
    ):  # fmt: skip
        record.refuse(replies.BAD_RECIPIENT, line)
    await record.recorder.close()
    assert [row.recipient for row in record.rows if row.recipient] == ["<", "\\xff\x00"]


def test_the_store_keeps_them_in_order_of_time_beside_the_ids_of_mail(tmp_path: object) -> None:
    clock = HandClock(NOW)
    store = open_store(Settings(data=str(tmp_path)), clock=clock)
    try:
        one = NewRejection(NOW, "192.0.2.1", "h", "a@b.example", "x\x00y" + "z" * 600, "size", "552 no")
        for _ in range(2):
            store.write_now(lambda tx: rejections.add(tx, [one, one]))
        rows = [rejections.read(row) for row in store.read_now().tx.rows(rejections.SELECT)]
        assert [row.at for row in rows] == [NOW] * 4
        assert len({row.id for row in rows}) == 4
        assert rows[0].recipient == "x y" + "z" * 509
        assert rejections.find(store.read_now().tx, rows[2].id) == rows[2]
    finally:
        store.close()
