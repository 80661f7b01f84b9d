"""What goes to the store and comes back, beside the words of `model`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from postroom.clock import Millis
from postroom.errors import StoreUnavailable
from postroom.model import Client, Facts, Message, Origin, Outcome, Queue, Recipient, Verdict


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A message on its way in. Either `body` holds the bytes or `body_object` names what `bodies` has synced."""

    client: Client
    env_from: str
    recipients: tuple[Recipient, ...]
    facts: Facts
    size: int
    received: Millis
    body: bytes | None
    body_object: str
    body_hash: bytes
    origin: Origin = Origin.ACCEPTED
    queue: Queue = Queue.PROCESSING


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Committed: the answer that allows "250". `entries` has one id per recipient, in order.

    `born` tells whether the entries are leased to this process (lease = entry id) and go straight on in memory.
    """

    message: Message
    entries: tuple[int, ...]
    born: bool


AcceptDone = Callable[[Accepted | StoreUnavailable], None]


class Moved(msgspec.Struct, frozen=True, gc=False):
    """An entry goes on in another queue under the same lease."""

    entry: int
    lease: int
    queue: Queue
    info: str
    attempts: int
    next_attempt: Millis  # as if the attempt that follows had failed
    at: Millis


class Waited(msgspec.Struct, frozen=True, gc=False):
    """A lease ends with "later" or "held": `queue` is HELD for the latter."""

    entry: int
    lease: int
    queue: Queue
    from_queue: Queue | None
    info: str
    attempts: int
    next_attempt: Millis
    label: int  # bits to add
    at: Millis
    kind: str  # event word
    verdicts: tuple[Verdict, ...] = ()  # passed so far, kept on the message for the next try
    waived: str = ""  # the check that holds this entry; it is not asked again after a release


class EndedEntry(msgspec.Struct, frozen=True, gc=False):
    """A lease ends with the entry's end. `notice`: a bounce to accept in the same transaction."""

    entry: int
    lease: int
    message: int
    queue: Queue  # where it ended; a move that was never written shows here
    outcome: Outcome
    reply: str
    attempts: int
    label: int  # bits to add
    at: Millis
    events: bytes = b""  # packed, of entries that never waited (postroom.store.timeline)
    body_object: str = ""  # to be deleted with the message's last entry
    notice: NewMessage | None = None


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A claimed entry: the attempt is counted, the next one set as if this one had failed."""

    entry: int
    lease: int
    message_id: int
    queue: Queue
    recipient: str
    attempts: int
    next_attempt: Millis
    since: Millis  # when it came under the schedule it is tried by
    waived: tuple[str, ...] = ()  # checks that a person has lifted for this entry


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A message with all its entries that were due: what the worker works on."""

    message: Message
    leases: tuple[Lease, ...]
