"""The way of a message through the worker: real store, real checks, real pool, a scripted receiver on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from postroom import facts
from postroom.checks import Runner
from postroom.checks.verdicts import CheckedMessage
from postroom.clock import Clock, SystemClock
from postroom.ids import public_id
from postroom.model import Action, Client, Filter, Label, Outcome, Queue, Recipient, Route, Scope, Verdict, VerdictKind
from postroom.settings import Delivery, DeliveryRoute, GatewaySettings, Limits, Settings
from postroom.smtp_out.pool import Pool
from postroom.store.find.reader import Reader
from postroom.store.records import Accepted, NewMessage
from postroom.store.store import Store, open_store
from postroom.telemetry import Counts, Log
from postroom.work.worker import Worker
from tests.smtp_out.receiver import HANG_UP, Receiver, Step

BODY = b"From: Alice <alice@corp.example>\r\nTo: bob@example.org\r\nSubject: Report\r\n\r\nHello\r\n"


class ScriptedCheck:
    """Says what it is told to, one verdict after the other, then passes."""

    name = "scripted"

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.seen = 0

    def inspect(self, work: CheckedMessage) -> Verdict:
        self.seen += 1
        return self.verdicts.pop(0) if self.verdicts else Verdict(VerdictKind.PASS, self.name)


class PassingCheck(ScriptedCheck):
    name = "second"


class Bench:
    """One gateway without its front doors."""

    def __init__(self, store: Store, worker: Worker, pool: Pool, runner: Runner, counts: Counts) -> None:
        self.store, self.worker, self.pool, self.runner, self.counts = store, worker, pool, runner, counts

    async def send(
        self, *recipients: str, sender: str = "alice@corp.example", route: Route = Route.OUTBOUND, body: bytes = BODY
    ) -> Accepted:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.worker.intake(
            NewMessage(
                Client("127.0.0.1", helo="client.example"), sender,
                tuple(Recipient(address, route) for address in recipients or ("bob@example.org",)),
                facts.scan(body), len(body), SystemClock().now(), body, "", b"hash",
            ),
            answer.set_result,
        )  # fmt: skip
        got = await answer
        assert isinstance(got, Accepted)
        return got

    async def until(self, condition: Callable[[Reader], object]) -> None:
        """Wait for the store to say so; every look is a committed state."""
        async with asyncio.timeout(20):
            while not await self.store.read(condition):
                self.worker._wake.set()
                await self.store.write(lambda tx: None)

    async def ended(self, entry: int):
        await self.until(lambda reader: reader.ended(entry))
        return self.store.read_now().ended(entry)

    def entry(self, ident: int):
        found = self.store.read_now().entry(ident)
        assert found is not None
        return found

    async def release_retry_times(self) -> None:
        """What waits for its next attempt becomes due."""
        await self.store.write(lambda tx: tx.rows("UPDATE entry SET next_attempt = 0 WHERE lease IS NULL"))
        self.worker._wake.set()


@asynccontextmanager
async def running(
    path: Path, receiver: Receiver | None, *checks: Any, clock: Clock | None = None, **changed: object
) -> AsyncIterator[Bench]:
    delivery = Delivery(routes=(DeliveryRoute("*", receiver.address),) if receiver else ())
    settings = Settings(
        data=str(path), gateway=GatewaySettings("gw.corp.example", ("corp.example",)), delivery=delivery
    )
    settings = msgspec.structs.replace(settings, **changed)
    counts, log, clock = Counts(), Log(open("/dev/null", "w")), clock or SystemClock()  # noqa: SIM115
    store = open_store(settings, counts=counts, log=log, clock=clock)
    loop = asyncio.get_running_loop()
    store.attach(loop)
    runner = Runner(checks, log)
    pool = Pool(settings.delivery, "gw.corp.example", log, counts, loop, clock)
    worker = Worker(settings, store, runner, pool, clock=clock, log=log, counts=counts)
    await worker.prepare()
    await worker.start()
    try:
        yield Bench(store, worker, pool, runner, counts)
    finally:
        await worker.close_intake()
        await pool.close(2000)
        await runner.close()
        await worker.stop()
        store.close()
        log._out.close()


def refusing(address: str, reply: str, times: int = 1000) -> Callable[[Step], str | None]:
    left = [times]

    def answer(step: Step) -> str | None:
        if step.verb == "RCPT" and address in step.line and left[0]:
            left[0] -= 1
            return reply
        return None

    return answer


async def test_a_message_is_delivered_with_one_received_field_in_front(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver, PassingCheck()) as bench:
        got = await bench.send()
        assert got.born
        ended = await bench.ended(got.entries[0])
        assert (ended.outcome, ended.queue, ended.reply) == (Outcome.DELIVERED, Queue.DELIVERY, "250 2.0.0 kept")
        (taken,) = receiver.accepted
        received, found, rest = taken.content.partition(BODY)
        assert (found, rest) == (BODY, b"")
        assert received.startswith(
            b"Received: from client.example (unknown [127.0.0.1])\r\n\tby gw.corp.example with ESMTP"
        )
        assert public_id(got.message.id).encode() in received
        assert bench.store.read_now().ledger() == ({"accepted": 1}, {"delivered": 1}, 0)
        assert [event.kind for event in bench.store.read_now().events(got.entries[0])] == [
            "accepted",
            "moved",
            "delivered",
        ]
        assert bench.worker.in_hand == 0


async def test_recipients_that_share_a_destination_share_a_transaction_and_have_their_own_results(
    tmp_path: Path,
) -> None:
    async with Receiver(refusing("carol", "550 5.1.1 no such user")) as receiver, running(tmp_path, receiver) as bench:
        got = await bench.send("bob@example.org", "carol@example.org")
        assert (await bench.ended(got.entries[0])).outcome is Outcome.DELIVERED
        assert (await bench.ended(got.entries[1])).outcome is Outcome.BOUNCED
        (first, *_) = receiver.accepted
        assert first.recipients == ["bob@example.org"]


async def test_a_final_refusal_sends_a_notice_to_the_sender_and_never_to_a_null_sender(tmp_path: Path) -> None:
    async with Receiver(refusing("carol", "550 5.1.1 no such user")) as receiver, running(tmp_path, receiver) as bench:
        got = await bench.send("carol@example.org")
        await bench.ended(got.entries[0])
        await bench.until(lambda reader: reader.ledger()[1].get("delivered"))
        (notice,) = [
            taken for taken in receiver.accepted if taken.recipients
        ]  # the refused one was ended by a lone dot
        assert (notice.sender, notice.recipients) == ("", ["alice@corp.example"])
        assert b"Auto-Submitted: auto-replied" in notice.content
        assert b"550 5.1.1 no such user" in notice.content
        assert b"Subject: Report" in notice.content
        silent = await bench.send("carol@example.org", sender="")
        assert (await bench.ended(silent.entries[0])).outcome is Outcome.BOUNCED
        assert bench.store.read_now().ledger() == ({"accepted": 2, "notice": 1}, {"bounced": 2, "delivered": 1}, 0)


async def test_a_deferred_entry_waits_with_the_reply_and_is_tried_again(tmp_path: Path) -> None:
    async with Receiver(refusing("bob", "450 4.2.1 greylisted", 1)) as receiver, running(tmp_path, receiver) as bench:
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: reader.find(Filter(queues=(Queue.DELIVERY,), ids=(entry,)), limit=1))
        waiting = bench.entry(entry)
        assert (waiting.info, waiting.attempts, waiting.lease) == ("450 4.2.1 greylisted", 1, None)
        assert 50_000 < waiting.next_attempt - SystemClock().now() <= 60_000
        await bench.release_retry_times()
        assert (await bench.ended(entry)).attempts == 2
        kinds = [event.kind for event in bench.store.read_now().events(entry)]
        assert kinds == ["accepted", "deferred", "delivered"]


async def test_a_connection_cut_after_the_final_dot_labels_the_entry(tmp_path: Path) -> None:
    async with (
        Receiver(lambda step: HANG_UP if step.verb == "CONTENT" and step.connection == 1 else None) as receiver,
        running(tmp_path, receiver) as bench,
    ):
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: reader.find(Filter(queues=(Queue.DELIVERY,), ids=(entry,)), limit=1))
        assert bench.entry(entry).label & Label.MAYBE_DELIVERED
        await bench.release_retry_times()
        assert (await bench.ended(entry)).label & Label.MAYBE_DELIVERED
        assert bench.counts.maybe_delivered == 1


async def test_without_a_route_the_entry_waits_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, None) as bench:
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: reader.find(Filter(queues=(Queue.DELIVERY,)), limit=1))
        assert bench.entry(entry).info == "No route to the destination"


async def test_paused_processing_stores_and_resuming_goes_on(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver) as bench:
        await bench.store.pause(Scope.PROCESSING, actor="test")
        await bench.until(lambda reader: Scope.PROCESSING in bench.worker.paused)
        got = await bench.send("bob@example.org", "carol@example.org")
        assert not got.born
        assert bench.entry(got.entries[0]).info == "Queued for Processing"
        await bench.store.resume(Scope.PROCESSING, actor="test")
        for entry in got.entries:
            assert (await bench.ended(entry)).outcome is Outcome.DELIVERED
        (taken,) = receiver.accepted
        assert taken.recipients == ["bob@example.org", "carol@example.org"]


async def test_paused_delivery_lets_checks_run_and_keeps_the_entry_in_delivery(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver) as bench:
        await bench.store.pause(Scope.DELIVERY, actor="test")
        await bench.until(lambda reader: Scope.DELIVERY in bench.worker.paused)
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: reader.find(Filter(queues=(Queue.DELIVERY,)), limit=1))
        assert (bench.entry(entry).attempts, bench.entry(entry).info) == (0, "Queued for Delivery")
        assert receiver.taken == []
        await bench.store.resume(Scope.DELIVERY, actor="test")
        assert (await bench.ended(entry)).outcome is Outcome.DELIVERED


async def test_a_check_that_cannot_answer_leaves_the_entry_in_processing_with_the_reason(tmp_path: Path) -> None:
    check = ScriptedCheck(Verdict(VerdictKind.RETRY, "scripted", "Scanner down"))
    first = PassingCheck()
    async with Receiver() as receiver, running(tmp_path, receiver, first, check) as bench:
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: (found := reader.entry(entry)) and found.info == "Scanner down")
        assert bench.entry(entry).queue is Queue.PROCESSING
        await bench.release_retry_times()
        assert (await bench.ended(entry)).outcome is Outcome.DELIVERED
        assert (first.seen, check.seen) == (1, 2)  # the verdict that passed is kept


async def test_a_hold_by_a_verdict_waits_for_a_person_and_goes_on_with_the_remaining_checks(tmp_path: Path) -> None:
    check = ScriptedCheck(Verdict(VerdictKind.HOLD, "scripted", "Looks odd"))
    second = PassingCheck()
    async with Receiver() as receiver, running(tmp_path, receiver, check, second) as bench:
        entry = (await bench.send()).entries[0]
        await bench.until(lambda reader: reader.find(Filter(queues=(Queue.HELD,)), limit=1))
        assert (bench.entry(entry).info, bench.entry(entry).from_queue) == ("Looks odd", Queue.PROCESSING)
        assert (await bench.store.act(Action.RELEASE, [entry], actor="ann")).done == (entry,)
        assert (await bench.ended(entry)).outcome is Outcome.DELIVERED
        assert (check.seen, second.seen) == (1, 1)


async def test_a_reject_ends_with_a_notice_and_a_drop_without(tmp_path: Path) -> None:
    reject = Verdict(VerdictKind.REJECT, "scripted", "554 5.7.1 Virus found")
    drop = Verdict(VerdictKind.DROP, "scripted", "unwanted")
    async with Receiver() as receiver, running(tmp_path, receiver, ScriptedCheck(reject, drop)) as bench:
        rejected = (await bench.send()).entries[0]
        assert (await bench.ended(rejected)).outcome is Outcome.REJECTED
        dropped = (await bench.send()).entries[0]
        assert (await bench.ended(dropped)).outcome is Outcome.DROPPED
        await bench.until(lambda reader: reader.ledger()[2] == 0)
        assert [taken.sender for taken in receiver.accepted] == [""]


async def test_a_mailshot_goes_to_bulk_with_low_priority(tmp_path: Path) -> None:
    async with running(tmp_path, None) as bench:
        await bench.store.pause(Scope.PROCESSING, actor="test")
        await bench.until(lambda reader: Scope.PROCESSING in bench.worker.paused)
        entries = [(await bench.send(f"r{number}@example.org")).entries[0] for number in range(13)]
        queues = [bench.entry(entry).queue for entry in entries]
        assert queues == [Queue.PROCESSING] * 10 + [Queue.BULK] * 3
        assert bench.entry(entries[-1]).priority == "low"


async def test_what_finds_no_room_is_stored_and_claimed_later(tmp_path: Path) -> None:
    limits = Limits(active_entries=2)
    async with Receiver() as receiver, running(tmp_path, receiver, limits=limits) as bench:
        sent = await asyncio.gather(*[bench.send(f"r{number}@example.org") for number in range(30)])
        assert {got.born for got in sent} == {True, False}
        for got in sent:
            assert (await bench.ended(got.entries[0])).outcome is Outcome.DELIVERED
        assert len(receiver.accepted) == 30


async def test_a_stop_gives_back_what_is_in_hand_without_a_label(tmp_path: Path) -> None:
    class Waiting(ScriptedCheck):
        def inspect(self, work: CheckedMessage):
            async def never() -> Verdict:
                await asyncio.Event().wait()
                raise AssertionError

            return never()

    async with running(tmp_path, None, Waiting()) as bench:
        entry = (await bench.send()).entries[0]
        assert bench.entry(entry).lease == entry
        path = bench.store.path
    again = open_store(Settings(data=str(path.parent)))
    try:
        left = again.read_now().entry(entry)
        assert left is not None
        assert (left.lease, left.label, left.attempts, again.recovered) == (None, 0, 0, (0, 0))
    finally:
        again.close()


async def test_a_large_body_is_delivered_from_its_file_and_the_file_goes(tmp_path: Path) -> None:
    async with Receiver(extensions=("PIPELINING", "8BITMIME")) as receiver, running(tmp_path, receiver) as bench:
        body = BODY + b"x" * 70 + b"\r\n.dot\r\n" * 40_000
        name = bench.store.bodies.put(body)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        bench.worker.intake(
            NewMessage(Client("127.0.0.1"), "a@corp.example", (Recipient("b@example.org", Route.OUTBOUND),),
                       facts.scan(body), len(body), SystemClock().now(), None, name, b"hash"),
            answer.set_result,
        )  # fmt: skip
        got = await answer
        assert isinstance(got, Accepted)
        await bench.ended(got.entries[0])
        assert receiver.accepted[0].content.endswith(body)
        await bench.store.write(lambda tx: None)
        assert not bench.store.bodies.path(name).exists()


async def test_a_release_lifts_the_check_for_that_entry_alone(tmp_path: Path) -> None:
    odd = Verdict(VerdictKind.HOLD, "scripted", "Looks odd")
    down = Verdict(VerdictKind.RETRY, "scripted", "Scanner down")
    check = ScriptedCheck(down, odd, odd)
    async with Receiver() as receiver, running(tmp_path, receiver, check) as bench:
        bob, carol = (await bench.send("bob@example.org", "carol@example.org")).entries
        for entry in (bob, carol):
            await bench.until(lambda reader, entry=entry: reader.entry(entry).info == "Scanner down")
        await bench.store.act(Action.RETRY, [bob], actor="ann")
        await bench.until(lambda reader: reader.entry(bob).queue is Queue.HELD)
        await bench.store.act(Action.RELEASE, [bob], actor="ann")
        assert (await bench.ended(bob)).outcome is Outcome.DELIVERED
        await bench.store.act(Action.RETRY, [carol], actor="ann")
        await bench.until(lambda reader: reader.entry(carol).queue is Queue.HELD)


# -- what the store says, what the clock does, and when we are stopped in the middle of it


class JumpingClock:
    """The machine's clock, set forward by hand: what a suspended machine or a corrected clock looks like."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SystemClock().now() + self.ahead


async def looks(bench: Bench, rounds: int = 4) -> None:
    """Let the claim loop look at the store some times: each look begins with a read of the pauses."""
    for _ in range(rounds):
        bench.worker._wake.set()
        bench.worker.paused = seen = {}
        async with asyncio.timeout(5):
            while bench.worker.paused is seen:
                await bench.store.write(lambda tx: None)
    await bench.store.write(lambda tx: None)


async def test_our_own_claims_never_take_over_what_we_have_in_hand(tmp_path: Path) -> None:
    gate, seen = asyncio.Event(), []

    class Slow:
        name = "slow"

        def inspect(self, work: CheckedMessage) -> object:
            return self._answer(work)

        async def _answer(self, work: CheckedMessage) -> Verdict:
            seen.append(work.message.id)
            await gate.wait()
            return Verdict(VerdictKind.PASS, self.name)

    clock = JumpingClock()
    async with Receiver() as receiver, running(tmp_path, receiver, Slow(), clock=clock) as bench:
        got = await bench.send()
        clock.ahead = 61_000  # longer than a lease
        await looks(bench)
        gate.set()
        await bench.ended(got.entries[0])
        assert len(seen) == 1
        assert len(receiver.accepted) == 1


async def test_one_unreadable_message_does_not_end_the_claiming_of_all_others(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver, PassingCheck()) as bench:
        await bench.store.pause(Scope.PROCESSING, actor="ops@corp.example")
        await bench.until(lambda reader: bench.worker.paused)
        broken, whole = await bench.send(), await bench.send()
        await bench.store.write(
            lambda tx: tx.rows("UPDATE message SET facts = x'c1' WHERE id = ?", (broken.message.id,))
        )
        await bench.store.resume(Scope.PROCESSING, actor="ops@corp.example")
        await bench.until(lambda reader: reader.entry(whole.entries[0]) is None or bench.worker._claimer.done())
        assert not bench.worker._claimer.done()
        assert (await bench.ended(whole.entries[0])).outcome is Outcome.DELIVERED


async def test_a_message_whose_bytes_are_gone_is_never_sent_empty(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path, receiver, PassingCheck()) as bench:
        await bench.store.pause(Scope.PROCESSING, actor="ops@corp.example")
        await bench.until(lambda reader: bench.worker.paused)
        got = await bench.send()
        await bench.store.write(lambda tx: tx.rows("DELETE FROM body"))
        await bench.store.resume(Scope.PROCESSING, actor="ops@corp.example")
        await looks(bench, 8)
        assert receiver.accepted == []
        assert bench.store.read_now().ended(got.entries[0]) is None


async def test_a_stop_in_the_middle_of_a_claim_labels_nothing(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path, receiver, PassingCheck()) as bench:
            await bench.store.pause(Scope.DELIVERY, actor="ops@corp.example")
            await bench.until(lambda reader: bench.worker.paused)
            for _ in range(50):
                await bench.send()
            await bench.until(lambda reader: reader.queue_counts()[Queue.DELIVERY] == 50)
            await bench.until(lambda reader: not bench.worker.in_hand)
            await bench.store.resume(Scope.DELIVERY, actor="ops@corp.example")
            bench.worker._wake.set()
            commits = bench.counts.commits
            async with asyncio.timeout(5):
                while bench.counts.commits == commits:  # the claim's own commit; its answer is not read yet
                    await asyncio.sleep(0)
            settings = bench.worker._settings
        store = open_store(settings, log=Log())
        try:
            assert store.recovered == (0, 0)
        finally:
            store.close()


async def test_mail_released_after_days_has_the_whole_delivery_schedule_before_it(tmp_path: Path) -> None:
    clock = JumpingClock()
    check = ScriptedCheck(Verdict(VerdictKind.HOLD, "scripted", "why"))
    async with (
        Receiver(refusing("bob", "451 4.7.1 greylisted")) as receiver,
        running(tmp_path, receiver, check, clock=clock) as bench,
    ):
        (entry,) = (await bench.send()).entries
        await bench.until(lambda reader: reader.entry(entry).queue is Queue.HELD)
        clock.ahead = 97 * 3_600_000
        await bench.store.act(Action.RELEASE, [entry], actor="ops@corp.example")
        await bench.until(lambda reader: reader.ended(entry) or reader.entry(entry).info == "451 4.7.1 greylisted")
        assert bench.store.read_now().ended(entry) is None


async def test_a_waiter_that_is_gone_does_not_keep_the_message_from_being_worked_on(tmp_path: Path) -> None:
    def gone(_answer: object) -> None:
        raise RuntimeError("the connection is gone")

    async with Receiver() as receiver, running(tmp_path, receiver, PassingCheck()) as bench:
        bench.worker.intake(
            NewMessage(
                Client("127.0.0.1", helo="client.example"), "alice@corp.example",
                (Recipient("bob@example.org", Route.OUTBOUND),), facts.scan(BODY), len(BODY), SystemClock().now(), BODY,
                "", b"hash",
            ),
            gone,
        )  # fmt: skip
        await bench.store.write(lambda tx: None)
        await bench.store.write(lambda tx: None)
        assert bench.worker.in_hand == 0 or bench.worker._work
