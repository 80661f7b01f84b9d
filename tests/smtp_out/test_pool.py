"""The pool against real receivers on loopback."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as Incoming

from postroom.clock import SECOND, SystemClock
from postroom.rules.lifecycle import Deferred, Delivered, Refused, SendResult
from postroom.settings import Address, Delivery
from postroom.smtp_out import Job, Pool, body
from postroom.telemetry import Counts, Log
from tests.smtp_out.conftest import Run
from tests.smtp_out.receiver import HANG_UP, SILENCE, Answer, Receiver, Step, served

KEPT = Delivered("250 2.0.0 kept")


class Sender:
    """A pool, and what became of each job given to it. For it a second passes when a test says `sweep`, however busy
    the machine is; with `by_itself` as the clock goes."""

    def __init__(self, *, by_itself: bool = False, **settings: Any) -> None:
        self.log = io.StringIO()
        loop = asyncio.get_running_loop()
        self.pool = Pool(Delivery(**settings), "gw.example", Log(self.log), Counts(), loop, SystemClock())
        if not by_itself:
            self.pool._sweeping = loop.call_later(3600, self.pool.sweep)
        self.results: dict[int, tuple[SendResult, ...]] = {}
        self._changed = asyncio.Event()
        self.given = 0

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.pool.close(5 * SECOND)
        assert (self.pool.waiting, self.pool.in_hand, self.pool.connections) == (0, 0, 0)
        assert len(self.results) == self.given

    def done(self, job: Job, results: tuple[SendResult, ...]) -> None:
        assert job.key not in self.results, "a second result"
        assert len(results) == len(job.recipients)
        self.results[job.key] = results
        self._changed.set()

    def send(self, to: Address, *recipients: str, content: bytes | Path = b"hello\r\n", **changes: Any) -> None:
        size = len(content) if isinstance(content, bytes) else changes.pop("size", 0) or content.stat().st_size
        key = self.given
        self.given += 1
        prefix = b"X-Key: %d\r\n" % key
        job = Job(key, f"s{key}@x.example", recipients or ("b@y.example",), prefix, content, size, None, self.done)
        for name, value in changes.items():
            setattr(job, name, value)
        self.pool.send(to, job)

    async def all_done(self) -> list[tuple[SendResult, ...]]:
        await self.until(lambda: len(self.results) == self.given)
        return [self.results[key] for key in range(self.given)]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


def at(verb: str, reply: str, message: int | None = None, connection: int | None = None) -> Answer:
    """Answers this to one step, or to each of its kind."""

    def answer(step: Step) -> str | None:
        meant = step.verb == verb and message in (None, step.message) and connection in (None, step.connection)
        return reply if meant else None

    return answer


async def turns(condition: Callable[[], bool]) -> None:
    """Lets the loop work until the other side has seen something."""
    while not condition():
        await asyncio.sleep(0)


# --- mail goes through -----------------------------------------------------------------------------------------------


class Keeper:
    """aiosmtpd's side: an SMTP server that is not ours."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[list[str], bytes]] = {}

    async def handle_DATA(self, server: SMTP, session: Incoming, envelope: Envelope) -> str:
        assert envelope.mail_from not in self.kept
        self.kept[str(envelope.mail_from)] = (envelope.rcpt_tos, bytes(envelope.original_content or b""))
        return "250 2.0.0 kept"


BODIES = [
    b"From: a\r\n\r\n.\r\n..\r\n.dot\r\nlast line without end",
    b"From: \xc3\xbc\r\n\r\nbin\xff\x00\x01\r\n",
    b"",
    b"x" * 900 + b"\r\n",
    (b"." * 70 + b"\r\n") * 1000,
]


def test_an_independent_receiver_gets_every_byte(run: Run) -> None:
    async def story() -> None:
        keeper = Keeper()
        make = lambda: SMTP(keeper, hostname="r.example", enable_SMTPUTF8=True)  # noqa: E731
        server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
        async with served(server) as to, Sender(connections=3) as sender:
            for content in BODIES * 5:
                sender.send(to, "b@y.example", "ü@y.example", content=content)
            for results in await sender.all_done():
                assert results == (KEPT, KEPT)
        for key, content in enumerate(BODIES * 5):
            end = b"" if content.endswith(b"\r\n") or not content else b"\r\n"
            expected = b"X-Key: %d\r\n" % key + content + end
            assert keeper.kept[f"s{key}@x.example"] == (["b@y.example", "ü@y.example"], expected)

    run(story())


@pytest.mark.parametrize("extensions", [(), ("PIPELINING", "SIZE 0")])
def test_a_backlog_goes_over_a_few_connections(run: Run, extensions: tuple[str, ...]) -> None:
    async def story() -> None:
        async with Receiver(extensions=extensions) as receiver, Sender(connections=4) as sender:
            for _ in range(200):
                sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 200
            assert receiver.peak == 4
            assert receiver.connections == 4
            assert sorted([taken.sender for taken in receiver.taken]) == sorted(
                [f"s{key}@x.example" for key in range(200)]
            )
            for taken in receiver.taken:
                assert taken.content == b"X-Key: %d\r\nhello\r\n" % int(taken.sender[1:].partition("@")[0])

    run(story())


def test_the_next_envelope_does_not_wait_for_the_reply_to_the_content(run: Run) -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hi\r\n")
            await reader.readuntil(b"EHLO gw.example\r\n")
            writer.write(b"250-r.example\r\n250 PIPELINING\r\n")
            for _ in range(2):
                await reader.readuntil(b"DATA\r\n")
                writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
                await reader.readuntil(b"\r\n.\r\nMAIL FROM:<")  # only now the reply to the content
                writer.write(b"250 2.0.0 kept\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
            await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 2.0.0 kept\r\n")
            await reader.readuntil(b"QUIT\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with served(server) as to, Sender(connections=1) as sender:
            for _ in range(3):
                sender.send(to)
            assert await sender.all_done() == [(KEPT,)] * 3

    run(story())


def test_one_message_opens_one_connection_which_serves_the_next(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender() as sender:
            for _ in range(5):
                sender.send(receiver.address)
                await sender.all_done()
            assert receiver.connections == 1
            assert sender.pool.connections == 1
        assert receiver.commands[-1] == "QUIT"

    run(story())


def test_an_unused_connection_is_closed_with_quit(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(idle=3 * SECOND) as sender:
            sender.send(receiver.address)
            await sender.all_done()
            for _ in range(3):
                sender.pool.sweep()
            assert sender.pool.connections == 1
            for _ in range(2):
                sender.pool.sweep()
            await turns(lambda: sender.pool.connections == 0)
            assert receiver.commands[-1] == "QUIT"
            sender.pool.sweep()
            assert len(sender.pool._destinations) == 0
            sender.send(receiver.address)
            assert (await sender.all_done())[-1] == (KEPT,)

    run(story())


def test_the_sweep_runs_by_itself(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(by_itself=True, idle=1 * SECOND) as sender:
            sender.send(receiver.address)
            await sender.all_done()
            while sender.pool.connections:
                await asyncio.sleep(0.01)

    run(story())


def test_a_connection_carries_no_more_messages_than_allowed(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(connections=1, messages_per_connection=2) as sender:
            for _ in range(5):
                sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 5
            assert receiver.connections == 3
            assert [taken.connection for taken in receiver.taken] == [1, 1, 2, 2, 3]

    run(story())


def test_recipients_have_results_of_their_own(run: Run) -> None:
    async def story() -> None:
        replies = {"no": "550 5.1.1 no", "later": "450 4.2.1 later"}

        def answer(step: Step) -> str | None:
            return replies.get(step.line[9:].partition("@")[0]) if step.verb == "RCPT" else None

        async with Receiver(answer) as receiver, Sender() as sender:
            sender.send(receiver.address, "yes@y.example", "no@y.example", "later@y.example")
            sender.send(receiver.address, "no@y.example", "later@y.example")
            no, later = Refused("550 5.1.1 no"), Deferred("450 4.2.1 later")
            assert await sender.all_done() == [(KEPT, no, later), (no, later)]
            # the receiver said "go on" for nobody too, and got a lone dot (RFC 2920 3.1)
            hello = b"X-Key: 0\r\nhello\r\n"
            assert [(taken.recipients, taken.content) for taken in receiver.taken] == [
                (["yes@y.example"], hello),
                ([], b""),
            ]

    run(story())


def test_jobs_given_while_a_result_is_told_are_taken_too(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(connections=1) as sender:
            first = sender.done

            def again(job: Job, results: tuple[SendResult, ...]) -> None:
                first(job, results)
                if sender.given < 20:
                    sender.send(receiver.address, done=again)

            sender.send(receiver.address, done=again)
            await sender.until(lambda: len(sender.results) == 20)
            assert len(receiver.accepted) == 20

    run(story())


def test_a_bug_in_one_receiver_of_results_costs_nobody_else_a_result(run: Run) -> None:
    async def story() -> None:
        bugs: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: bugs.append(context["message"]))

        def buggy(job: Job, results: tuple[SendResult, ...]) -> None:
            sender.done(job, results)
            raise ZeroDivisionError

        async with Receiver() as receiver, Sender() as sender:
            for key in range(6):
                sender.send(receiver.address, **({"done": buggy} if key % 2 else {}))
            assert await sender.all_done() == [(KEPT,)] * 6
        assert len(bugs) == 3

    run(story())


# --- the other side fails --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "waited_for", "maybe"),
    [
        ("GREETING", "the greeting", False),
        ("EHLO", "the reply to EHLO", False),
        ("MAIL", "the reply to MAIL", False),
        ("RCPT", "the reply to RCPT", False),
        ("DATA", "the reply to DATA", False),
        ("CONTENT", "the reply to the content", True),
    ],
)
@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_a_receiver_hangs_up(run: Run, extensions: tuple[str, ...], verb: str, waited_for: str, maybe: bool) -> None:
    async def story() -> None:
        async with Receiver(at(verb, HANG_UP), extensions) as receiver, Sender(connections=1) as sender:
            sender.send(receiver.address)
            ((result,),) = await sender.all_done()
            reason = f"connection to {receiver.address} lost while waiting for {waited_for}"
            assert result == Deferred(reason, maybe)
            assert receiver.accepted == []

    run(story())


@pytest.mark.parametrize(
    ("verb", "waited_for", "maybe"),
    [
        ("GREETING", "the greeting", False),
        ("EHLO", "the reply to EHLO", False),
        ("MAIL", "the reply to MAIL", False),
        ("DATA", "the reply to DATA", False),
        ("CONTENT", "the reply to the content", True),
    ],
)
def test_a_receiver_falls_silent(run: Run, verb: str, waited_for: str, maybe: bool) -> None:
    async def story() -> None:
        silent = asyncio.Event()

        def answer(step: Step) -> str | None:
            if step.verb == verb:
                silent.set()
                return SILENCE
            return None

        limits = {"command_timeout": 3 * SECOND, "data_timeout": 6 * SECOND}
        async with Receiver(answer) as receiver, Sender(connections=1, **limits) as sender:
            sender.send(receiver.address)
            await silent.wait()
            await turns(lambda: f"waiting for {waited_for}" in repr(sender.pool))
            for _ in range(6 if maybe else 3):
                sender.pool.sweep()
            assert sender.results == {}
            for _ in range(2):
                sender.pool.sweep()
            ((result,),) = await sender.all_done()
            assert result == Deferred(
                f"connection to {receiver.address} timed out while waiting for {waited_for}", maybe
            )

    run(story())


def test_a_connect_that_is_not_answered_times_out(run: Run) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        never = loop.create_future()

        async def hang(*args: object, **kw: object) -> Any:
            await never

        async with Sender(connect_timeout=2 * SECOND) as sender:
            # No address refuses to answer on every machine; the loop's own connect is replaced, nothing of ours.
            sender.pool._loop = _LoopWithoutAnswers(loop, hang)
            sender.send(Address("127.0.0.1", 9))
            await turns(lambda: sender.pool.connections == 1)
            for _ in range(4):
                sender.pool.sweep()
            assert await sender.all_done() == [(Deferred("connect to 127.0.0.1:9: timed out"),)]

    run(story())


class _LoopWithoutAnswers:
    def __init__(self, loop: asyncio.AbstractEventLoop, hang: Callable[..., Any]) -> None:
        self._loop = loop
        self.create_connection = hang

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@pytest.mark.parametrize("reply", ["554 5.3.2 no mail here", "421 4.3.2 busy", "HTTP/1.1 400 what?"])
def test_a_greeting_that_is_none_defers_what_waits(run: Run, reply: str) -> None:
    async def story() -> None:
        async with Receiver(at("GREETING", reply)) as receiver, Sender() as sender:
            for _ in range(50):
                sender.send(receiver.address)
            for (result,) in await sender.all_done():
                assert isinstance(result, Deferred)
                assert result.reply.endswith(reply)
                assert not result.maybe
            assert receiver.connections == 1

    run(story())


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "Connection refused"),
        ("no-such-host.invalid", ""),
        ("x" * 64 + ".example", ""),
        ("::ffff:0:0", ""),
    ],
)
def test_who_cannot_be_reached_defers_at_once_with_the_reason(run: Run, host: str, reason: str) -> None:
    async def story() -> None:
        async with Receiver() as receiver:
            port = receiver.address.port
        async with Sender() as sender:
            for _ in range(3):
                sender.send(Address(host, port))
            results = await sender.all_done()
            ((result,), *_) = results
            assert isinstance(result, Deferred)
            assert result.reply.startswith(f"connect to {Address(host, port)}: {reason}")
            assert result.reply.isprintable()
            assert not result.maybe
            assert results == [(result,)] * 3

    run(story())


def test_a_dead_host_costs_one_connect_a_second_and_delays_nobody(run: Run) -> None:
    async def story() -> None:
        dead = True
        answer: Answer = lambda step: HANG_UP if dead and step.verb == "GREETING" else None  # noqa: E731
        async with Receiver(answer) as receiver, Sender() as sender:
            for _ in range(20):
                for _ in range(100):
                    sender.send(receiver.address)
                await sender.all_done()
            assert receiver.connections == 1
            for _ in range(2):
                sender.pool.sweep()
            sender.send(receiver.address)
            await sender.all_done()
            assert receiver.connections == 2
            assert sender.log.getvalue().count("destination_down") == 1
            dead = False
            sender.pool.sweep()
            sender.pool.sweep()
            sender.send(receiver.address)
            assert (await sender.all_done())[-1] == (KEPT,)
        assert sender.log.getvalue().count("destination_up") == 1

    run(story())


def test_a_host_that_was_down_is_forgotten_after_a_while(run: Run) -> None:
    async def story() -> None:
        async with Receiver(at("GREETING", HANG_UP)) as receiver, Sender() as sender:
            sender.send(receiver.address)
            await sender.all_done()
            for _ in range(60):
                sender.pool.sweep()
            assert len(sender.pool._destinations) == 1
            for _ in range(2):
                sender.pool.sweep()
            assert len(sender.pool._destinations) == 0

    run(story())


def test_a_host_that_died_is_tried_with_one_connection(run: Run) -> None:
    async def story() -> None:
        dead = False
        answer: Answer = lambda step: HANG_UP if dead and step.verb == "GREETING" else None  # noqa: E731
        async with Receiver(answer) as receiver, Sender(connections=5, messages_per_connection=1) as sender:
            for _ in range(10):
                sender.send(receiver.address)
            await sender.all_done()
            dead = True
            await turns(lambda: sender.pool.connections == 0)
            for _ in range(2):
                known = receiver.connections
                for _ in range(10):
                    sender.send(receiver.address)
                await sender.all_done()
                for _ in range(2):
                    sender.pool.sweep()
            assert receiver.connections == known + 1
            assert sum(results == (KEPT,) for results in sender.results.values()) == 10

    run(story())


def test_a_connection_that_says_good_bye_gets_no_job(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(idle=1 * SECOND) as sender:
            sender.send(receiver.address)
            await sender.all_done()
            for _ in range(3):
                sender.pool.sweep()
            sender.send(receiver.address)
            assert (await sender.all_done())[-1] == (KEPT,)
            assert [taken.connection for taken in receiver.taken] == [1, 2]

    run(story())


def test_a_receiver_that_takes_only_some_connections_gets_all_mail_over_them(run: Run) -> None:
    async def story() -> None:
        def answer(step: Step) -> str | None:
            return "421 4.7.0 too many connections" if step.verb == "GREETING" and receiver.open > 2 else None

        async with Receiver(answer) as receiver, Sender(connections=8) as sender:
            for _ in range(100):
                sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 100

    run(story())


@pytest.mark.parametrize("end", [HANG_UP, "421 4.3.2 stopping"])
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_what_was_only_sent_ahead_goes_over_another_connection(run: Run, verb: str, end: str) -> None:
    async def story() -> None:
        async with Receiver(at(verb, end, message=3)) as receiver, Sender(connections=1) as sender:
            for _ in range(10):
                sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 10
            assert len(receiver.taken) == 10
            assert receiver.connections == 5

    run(story())


def test_a_job_that_came_back_too_often_is_deferred(run: Run) -> None:
    async def story() -> None:
        async with Receiver(at("MAIL", HANG_UP, message=2)) as receiver, Sender(connections=1) as sender:
            sender.send(receiver.address)
            await sender.all_done()
            sender.send(receiver.address, returns=2)  # the third return: one more connection
            sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 3
            sender.send(receiver.address, returns=3)
            lost = Deferred(f"connection to {receiver.address} lost while waiting for the reply to MAIL")
            assert (await sender.all_done())[-1] == (lost,)

    run(story())


def test_unreliable_receivers_cost_no_message_and_double_none_unseen(run: Run) -> None:
    async def story() -> None:
        dice = 0
        moods = [None] * 11 + [HANG_UP, "451 4.3.0 no", "550 5.0.0 no", "421 4.3.2 stop", "what?"]

        def answer(step: Step) -> str | None:
            nonlocal dice
            dice = (dice * 1103515245 + 12345) % (1 << 31)  # the same story every time the loop runs it the same way
            return moods[(dice >> 16) % len(moods)] if step.verb not in ("GREETING", "EHLO", "QUIT", "RSET") else None

        async with Receiver(answer) as receiver, Sender(connections=5) as sender:
            for _ in range(500):
                sender.send(receiver.address)
            await sender.all_done()
            for key, (result,) in sender.results.items():
                times = [
                    taken.accepted
                    for taken in receiver.taken
                    if taken.recipients and taken.sender == f"s{key}@x.example"
                ]
                assert len(times) <= 1
                if isinstance(result, Delivered):
                    assert times == [True]
                elif any(times):
                    assert result == Deferred(result.reply, maybe=True)
            kinds = {type(result) for (result,) in sender.results.values()}
            assert kinds == {Delivered, Deferred, Refused}

    run(story())


# --- large bodies ----------------------------------------------------------------------------------------------------


def test_a_stored_body_is_streamed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        monkeypatch.setattr(body, "CHUNK", 4099)
        content = (b".\r\n" + b"." * 60 + b"\r\nx\xff\r\n") * 20_000 + b"end"
        path = tmp_path / "body"
        path.write_bytes(content)
        async with Receiver() as receiver, Sender(connections=2) as sender:
            for _ in range(3):
                sender.send(receiver.address, content=path)
                sender.send(receiver.address)
            assert await sender.all_done() == [(KEPT,)] * 6
            for taken in receiver.taken:
                key = int(taken.sender[1:].partition("@")[0])
                expected = b"hello\r\n" if key % 2 else content + b"\r\n"
                assert taken.content == b"X-Key: %d\r\n" % key + expected

    run(story())


def test_a_receiver_that_does_not_read_holds_no_memory_of_ours(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        size, read = 60_000_000, 0
        (tmp_path / "body").write_bytes(b"x" * size)

        class Counting(body.Stuffer):
            def feed(self, piece: bytes) -> bytes:
                nonlocal read
                read += len(piece)
                return super().feed(piece)

        monkeypatch.setattr(body, "Stuffer", Counting)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hi\r\n")
            await reader.readuntil(b"EHLO gw.example\r\n")
            writer.write(b"250-r.example\r\n250 PIPELINING\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
            await reader.readuntil(b"X-Key")
            known, still = -1, 0
            loop = asyncio.get_running_loop()
            while still < 200:  # until no more is read while threads have every chance to
                still = still + 1 if read == known and read else 0
                known = read
                await loop.run_in_executor(None, int)
            writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 12)
        async with served(server) as to, Sender() as sender:
            sender.send(to, content=tmp_path / "body")
            ((result,),) = await sender.all_done()
            assert isinstance(result, Deferred)
            assert not result.maybe
            assert read < size / 2

    run(story())


@pytest.mark.parametrize(
    ("stored", "reason"), [(None, "No such file or directory"), (b"short", "it does not hold the 9 bytes")]
)
def test_a_body_that_cannot_be_read_is_never_ended_with_a_dot(
    run: Run, tmp_path: Path, stored: bytes | None, reason: str
) -> None:
    async def story() -> None:
        path = tmp_path / "body"
        if stored is not None:
            path.write_bytes(stored)
        async with Receiver() as receiver, Sender() as sender:
            sender.send(receiver.address, content=path, size=9)
            ((result,),) = await sender.all_done()
            assert isinstance(result, Deferred)
            assert result.reply.startswith(f"stored body cannot be read: {reason}")
            assert not result.maybe
            sender.send(receiver.address)
            assert (await sender.all_done())[-1] == (KEPT,)
            assert [taken.sender for taken in receiver.taken] == ["s1@x.example"]

    run(story())


def test_a_body_that_no_thread_can_be_had_for_is_deferred_and_nobody_waits_for_ever(run: Run, tmp_path: Path) -> None:
    """What the kernel says without memory for another thread, `submit` says after a shutdown."""

    async def story() -> None:
        path = tmp_path / "body"
        path.write_bytes(b"x" * 1000)
        async with Receiver() as receiver, Sender() as sender:
            sender.pool._readers.shutdown()
            sender.send(receiver.address, content=path)
            ((result,),) = await sender.all_done()
            assert isinstance(result, Deferred)
            assert result.reply.startswith("stored body cannot be read: ")
            assert not result.maybe
            assert sender.pool.in_hand == 0
            assert receiver.taken == []

    run(story())


@pytest.mark.parametrize("stored", [False, True])
def test_content_that_got_stuck_on_the_way_was_not_delivered(run: Run, tmp_path: Path, stored: bool) -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 hi\r\n")
            await reader.readuntil(b"EHLO gw.example\r\n")
            writer.write(b"250-r.example\r\n250 PIPELINING\r\n")
            await reader.readuntil(b"DATA\r\n")
            writer.write(b"250 ok\r\n250 ok\r\n354 go\r\n")
            await reader.readuntil(b"X-Key")  # the rest is more than the sockets between us can hold
            writer.transport.abort()

        content: bytes | Path = b"x" * 40_000_000 + b"\r\n"
        if stored:
            assert isinstance(content, bytes)
            (tmp_path / "body").write_bytes(content)
            content = tmp_path / "body"
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 12)
        async with served(server) as to, Sender(data_timeout=3 * SECOND) as sender:
            sender.send(to, content=content)
            ((result,),) = await sender.all_done()
            assert isinstance(result, Deferred)
            assert not result.maybe

    run(story())


# --- stopping --------------------------------------------------------------------------------------------------------


def test_stopping_finishes_what_is_in_hand_and_gives_back_the_rest(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender(connections=1) as sender:
            for _ in range(10):
                sender.send(receiver.address)
            await turns(lambda: len(receiver.taken) == 1)
            await sender.pool.close(5 * SECOND)
            results = await sender.all_done()
            kept = len(receiver.accepted)
            assert 1 <= kept < 10
            assert results == [(KEPT,)] * kept + [(Deferred("gateway is stopping"),)] * (10 - kept)
            assert receiver.commands[-1] == "QUIT"
            sender.send(receiver.address)
            assert (await sender.all_done())[-1] == (Deferred("gateway is stopping"),)

    run(story())


@pytest.mark.parametrize(("verb", "maybe"), [("GREETING", False), ("MAIL", False), ("DATA", False), ("CONTENT", True)])
def test_stopping_does_not_wait_longer_than_the_grace(run: Run, verb: str, maybe: bool) -> None:
    async def story() -> None:
        silent = asyncio.Event()

        def answer(step: Step) -> str | None:
            if step.verb == verb:
                silent.set()
                return SILENCE
            return None

        async with Receiver(answer) as receiver, Sender(connections=1) as sender:
            sender.send(receiver.address)
            sender.send(receiver.address)
            await silent.wait()
            await sender.pool.close(20)
            assert await sender.all_done() == [
                (Deferred("gateway is stopping", maybe),),
                (Deferred("gateway is stopping"),),
            ]

    run(story())


def test_the_pool_can_be_read(run: Run) -> None:
    async def story() -> None:
        async with Receiver() as receiver, Sender() as sender:
            sender.send(receiver.address)
            assert (sender.pool.waiting, sender.pool.in_hand, len(sender.pool._destinations)) == (1, 0, 1)
            await sender.all_done()
            assert repr(sender.pool) == (
                f"<Pool [<Destination {receiver.address} up: 0 waiting, "
                "[<Session waiting for the next message, 1 given, 0 in hand>]>]>"
            )

    run(story())
