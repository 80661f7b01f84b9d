"""Between DATA and 250: a complete message goes to the store, and the store's answer becomes the reply.

Promises: "250" only after the intake has committed the message; bodies over INLINE_BODY are joined, scanned and synced
in a thread, never on the event loop. A body passed to the intake is never deleted here, because a failed commit may
still be on disk; upkeep finds out. Every message gets exactly one reply. Fails: never raises; problems of the
environment become 452, a bug becomes 451 and a log line with its traceback.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from bisect import bisect_left
from collections.abc import Callable, Mapping
from hashlib import sha256
from time import perf_counter

from postroom import facts
from postroom.clock import Clock
from postroom.errors import EnvironmentFailed, StoreUnavailable
from postroom.ids import public_id
from postroom.model import Facts, Recipient
from postroom.settings import Settings
from postroom.smtp_in import replies
from postroom.smtp_in.body import Memory
from postroom.smtp_in.shared import Admission
from postroom.smtp_in.transaction import Transaction
from postroom.store import INLINE_BODY, AcceptDone, Accepted, Bodies, NewMessage
from postroom.telemetry import ACK_BUCKETS, Counts, Log

Answer = Callable[[bytes], None]
Intake = Callable[[NewMessage, AcceptDone], None]
Looked = tuple[Facts, tuple[Recipient, ...], bytes]  # with display names; hash of everything below the header

_LEAST_MEMORY = 256 * 1024 * 1024


class Receiver:
    """Stores messages and takes responsibility for them. Used on the event loop only."""

    __slots__ = ("_bodies", "_clock", "_counts", "_delay", "_intake", "_log", "_not_kept", "admission", "memory")

    def __init__(
        self,
        settings: Settings,
        *,
        intake: Intake,
        admission: Admission,
        bodies: Bodies,
        clock: Clock,
        log: Log,
        counts: Counts,
        delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._intake = intake
        self._delay = delay  # seconds that a message waits before it is kept: back-pressure
        self._bodies = bodies
        self._clock = clock
        self._log = log
        self._counts = counts
        self._not_kept = False  # the last large body could not be written
        self.admission = admission
        self.memory = Memory(0)
        self.apply(settings)

    def apply(self, settings: Settings) -> None:
        """New limits, from now on."""
        # Not less than two of the largest: else such a message could never be received beside anything
        self.memory.bound = max(_LEAST_MEMORY, 4 * settings.limits.active_bytes, 2 * settings.smtp.max_size)

    def take(self, transaction: Transaction, answer: Answer) -> None:
        """Store this message; calls `answer` once, possibly before this returns."""
        handover = _Handover(self, transaction, answer)
        delay = self._delay()
        if delay:
            asyncio.get_running_loop().call_later(delay, self._keep, handover)
        else:
            self._keep(handover)

    def _keep(self, handover: _Handover) -> None:
        transaction, closed = handover.transaction, self.admission()
        if closed is not None:
            handover.refuse(closed)
        elif transaction.size <= INLINE_BODY:
            self._take_small(handover)
        else:
            loop = asyncio.get_running_loop()
            try:
                done = loop.run_in_executor(None, self._keep_large, handover)
            except (RuntimeError, MemoryError):  # no memory for another thread
                handover.refuse(replies.NO_MEMORY)
                return
            done.add_done_callback(handover.large_kept)

    def _take_small(self, handover: _Handover) -> None:
        try:
            transaction = handover.transaction
            new = self._describe(transaction, _look_at(transaction), "")
            self._intake(new, handover.kept)
        except Exception as bug:  # noqa: BLE001 - one message's bug must not end the listener; logged with its trace
            handover.stumbled(bug)

    def _keep_large(self, handover: _Handover) -> tuple[Looked, str]:
        """In a thread: look first, so that a failure there leaves no file behind."""
        if handover.is_answered:  # already refused for want of a thread; a later thread found the job anyway
            raise EnvironmentFailed("refused for want of memory")
        transaction = handover.transaction
        looked = _look_at(transaction)
        return looked, self._bodies.put(transaction.body)

    def _note_body(self, problem: str) -> None:
        """Once when the disk takes no bodies, once when it does again."""
        if bool(problem) != self._not_kept:
            self._not_kept = bool(problem)
            self._log.warning("body_not_kept" if problem else "bodies_kept_again", problem=problem)

    def _describe(self, transaction: Transaction, looked: Looked, body_object: str) -> NewMessage:
        found, recipients, body_hash = looked
        return NewMessage(
            transaction.client,
            transaction.env_from,
            recipients,
            found,
            transaction.size,
            self._clock.now(),
            None if body_object else transaction.body,
            body_object,
            body_hash,
        )


class _Handover:
    """One message between the end of its data and its reply."""

    __slots__ = ("_answer", "_handed", "_object", "_receiver", "_started", "transaction")

    def __init__(self, receiver: Receiver, transaction: Transaction, answer: Answer) -> None:
        self._receiver = receiver
        self._answer: Answer | None = answer
        self._object = ""
        self._handed = False  # the intake has it: from here on its body may have a row
        self._started = perf_counter()
        self.transaction = transaction

    @property
    def is_answered(self) -> bool:
        return self._answer is None

    def large_kept(self, future: asyncio.Future[tuple[Looked, str]]) -> None:
        """The thread is done with a large body."""
        if future.cancelled():  # the executor is shut down: we are stopping
            self.refuse(replies.SHUTTING_DOWN)
            return
        problem = future.exception()
        if isinstance(problem, EnvironmentFailed):
            self._receiver._note_body(str(problem))
            self.refuse(replies.NOT_KEPT)
            return
        self._receiver._note_body("")
        try:
            looked, self._object = future.result()
            new = self._receiver._describe(self.transaction, looked, self._object)
            self._handed = True
            self._receiver._intake(new, self.kept)
        except Exception as bug:  # noqa: BLE001 - as for small ones
            self.stumbled(bug)

    def kept(self, result: Accepted | StoreUnavailable) -> None:
        """The intake's answer."""
        receiver = self._receiver
        if isinstance(result, StoreUnavailable):
            self._forget_body()  # (the store itself logs why, once for the whole batch)
            self.refuse(replies.NOT_KEPT)
            return
        if self._object:
            receiver._bodies.settled(self._object)
        answer, self._answer = self._answer, None
        assert answer is not None, "a message was answered twice"
        transaction = self.transaction
        ident = public_id(result.message.id)
        answer(b"250 2.0.0 %s queued\r\n" % ident.encode("ascii"))
        counts = receiver._counts
        counts.smtp_accepted += 1
        seconds = perf_counter() - self._started
        counts.ack_seconds[bisect_left(ACK_BUCKETS, seconds)] += 1
        counts.ack_seconds_sum += seconds
        receiver._log.info(
            "accepted",
            id=ident,
            from_=transaction.env_from,
            to=len(transaction.recipients),
            size=transaction.size,
            ip=transaction.client.ip,
        )

    def refuse(self, reply: bytes) -> None:
        """Not kept; the server logs and counts it with the other refusals."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(reply)

    def stumbled(self, bug: Exception) -> None:
        """Our bug, or no memory: the peer keeps the message and tries again."""
        if isinstance(bug, MemoryError):
            self._forget_body()
            self.refuse(replies.NO_MEMORY)
            return
        trace = "".join(traceback.format_exception(bug))
        self._receiver._log.error("receive_failed", problem=repr(bug), trace=trace, size=self.transaction.size)
        self._forget_body()
        self.refuse(replies.INTERNAL_ERROR)

    def _forget_body(self) -> None:
        name, self._object = self._object, ""
        if not name:
            return
        if self._handed:
            self._receiver._bodies.doubt(name)
        else:
            with contextlib.suppress(RuntimeError):  # no memory for a thread: the collection of orphans finds it
                asyncio.get_running_loop().run_in_executor(None, self._receiver._bodies.delete, name)


def _look_at(transaction: Transaction) -> Looked:
    """What the header says, the recipients with the names it gives them, and the hash of everything below it."""
    body = transaction.body
    found = facts.scan(body)
    digest = sha256(memoryview(body)[found.body_at :]).digest()
    names = facts.recipient_names(body, found)
    recipients = transaction.recipients
    if names:
        recipients = tuple([_named(recipient, names) for recipient in recipients])
    return found, recipients, digest


def _named(recipient: Recipient, names: Mapping[str, str]) -> Recipient:
    name = names.get(recipient.address.lower(), "")
    return Recipient(recipient.address, recipient.route, name) if name else recipient
