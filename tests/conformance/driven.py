"""A store driven through its face, as a worker on an event loop does it, by tests that have no loop of their own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

from postroom.clock import DAY, HandClock, Millis
from postroom.errors import StoreUnavailable
from postroom.model import Client, Facts, Outcome, Queue, Recipient, Route, Verdict
from postroom.rules.lifecycle import WORKED_ON
from postroom.store import Accepted, EndedEntry, Lease, Moved, NewMessage, Store, Waited, logs

T = TypeVar("T")

START = 1_800_000_000_000


class Told(NamedTuple):
    """What the store has answered to one turn."""

    arrivals: list[Accepted | StoreUnavailable]
    moves: list[object]


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop on a thread of its own, for all tests of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="driven", daemon=True)
    thread.start()

    def stop() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    atexit.register(stop)
    return loop


def on_loop(store: Store, work: Callable[[], Awaitable[T]]) -> T:
    """Run this on an event loop that the store answers on, as the serving process does."""

    async def attached() -> T:
        store.attach(asyncio.get_running_loop())
        return await work()

    return asyncio.run_coroutine_threadsafe(attached(), _loop()).result()


def hand(store: Store, *records: NewMessage | Moved | Waited | EndedEntry, lease_until: Millis | None = None) -> Told:
    """All of this in one turn of the loop, so that it is committed together. Returns when it is committed and answered.

    `lease_until`: new messages are born leased.
    """
    told = Told([], [])

    async def turn() -> Told:
        for record in records:
            match record:
                case NewMessage():
                    store.accept(record, lease_until, told.arrivals.append)
                case Moved():
                    store.move(record, told.moves.append)
                case Waited():
                    store.wait(record)
                case EndedEntry():
                    store.end(record)
        await store.flush()
        return told

    return on_loop(store, turn)


def accepted(store: Store, message: NewMessage, *, lease_until: Millis | None = None) -> Accepted:
    """Accept and wait for the commit."""
    (answer,) = hand(store, message, lease_until=lease_until).arrivals
    assert isinstance(answer, Accepted), answer
    return answer


def claimed(store: Store, queue: Queue = Queue.PROCESSING, limit: int = 10) -> list[Lease]:
    """Lease what is due. What cannot be read is recorded when this returns."""

    async def claim() -> list[Lease]:
        found = await store.claim([(queue, limit)], limit)
        await store.flush()
        return [lease for one in found for lease in one.leases]

    return on_loop(store, claim)


# -- what a worker reports


def moved(lease: Lease, now: Millis, *, queue: Queue = Queue.DELIVERY) -> Moved:
    return Moved(lease.entry, lease.lease, queue, "Queued for Delivery", 1, now, now)


def deferred(
    lease: Lease, now: Millis, until: Millis, info: str = "why", *, verdicts: tuple[Verdict, ...] = ()
) -> Waited:
    """The entry waits where it is."""
    return Waited(
        lease.entry, lease.lease, lease.queue, None, info, lease.attempts, until, 0, now, "deferred", verdicts
    )


def delivered(lease: Lease, now: Millis) -> EndedEntry:
    return EndedEntry(
        lease.entry, lease.lease, lease.message_id, Queue.DELIVERY, Outcome.DELIVERED, "250 kept", 1, 0, now
    )


def delivered_at_once(got: Accepted, clock: HandClock) -> EndedEntry:
    """The end of a message for one recipient that was born leased; its body goes with it."""
    (entry,) = got.entries
    return EndedEntry(
        entry, entry, got.message.id, Queue.DELIVERY, Outcome.DELIVERED, "250 kept", 1, 0, clock.now(),
        body_object=got.message.body_object,
    )  # fmt: skip


def put_off(store: Store, clock: HandClock, until: Millis, others: Mapping[int, Millis] | None = None) -> None:
    """Everything that is due has been tried, and waits: until then, or as `others` says of an entry."""
    for queue in WORKED_ON:
        leases = claimed(store, queue, 10_000)
        hand(store, *(deferred(one, clock.now(), (others or {}).get(one.entry, until)) for one in leases))


# -- what is counted and shown


def difference(store: Store) -> int:
    """Of the ledger: zero at every moment."""
    created, ended, queued = store.read_now().ledger()
    return sum(created.values()) - sum(ended.values()) - queued


def shown(store: Store, entries: Sequence[int]) -> list[object]:
    """Everything that can be seen of these entries."""
    reader = store.read_now()
    found: list[object] = [reader.ledger(), reader.queue_counts(), reader.leaving()]
    for ident in entries:
        entry = reader.entry(ident)
        message = None if entry is None else reader.message(entry.message_id)
        found.append((entry, message, reader.ended(ident), reader.events(ident)))
    return found


def released(store: Store) -> list[logs.Released]:
    """The release log, newest first."""
    query = logs.LogQuery(0, START + 10_000 * DAY)
    first = store.read_now().ask(logs.read_first_page(logs.RELEASES, query, size=1_000, instead="less"))
    return first.page.lines


def a_message(
    *recipients: str,
    subject: str = "Quarterly report",
    sender: str = "alice@corp.example",
    body: bytes = b"Subject: Quarterly report\r\n\r\nHello\r\n",
    queue: Queue = Queue.PROCESSING,
    route: Route = Route.INBOUND,
    attachment: bool = False,
    ip: str = "192.0.2.7",
    received: int = START,
) -> NewMessage:
    return NewMessage(
        Client(ip=ip, helo="client.example"),
        sender,
        tuple(Recipient(address, route) for address in recipients or ("bob@corp.example",)),
        Facts(from_address=sender, from_name="Alice Äpfel", to_header="Bob <bob@corp.example>", subject=subject,
              attachment=attachment, body_at=30),
        len(body), received, body, "", b"\x01" * 16, queue=queue,
    )  # fmt: skip
