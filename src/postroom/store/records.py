"""The records that the mail path gives to the store and gets back, beside those of `model`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from postroom.clock import Millis
from postroom.errors import StoreUnavailable
from postroom.model import Client, Facts, Message, Origin, Outcome, Queue, Recipient, Verdict


class NewMessage(msgspec.Struct, frozen=True, gc=False):
    """A message on its way in. Either `body` holds the bytes, or `body_object` names the file that `bodies` has
    synced."""

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
    """The message is committed, and "250" may be sent. `entries` has one id for each recipient, in order.

    `born`: the entries are leased to this process (the lease is the id of the entry) and go straight on in memory.
    """

    message: Message
    entries: tuple[int, ...]
    born: bool


AcceptDone = Callable[[Accepted | StoreUnavailable], None]


class Moved(msgspec.Struct, frozen=True, gc=False):
    """An entry goes on to another queue under the same lease."""

    entry: int
    lease: int
    queue: Queue
    info: str
    attempts: int
    next_attempt: Millis  # as if the next attempt had failed
    at: Millis


class Waited(msgspec.Struct, frozen=True, gc=False):
    """A lease ends, and the entry waits or is held (`queue` is HELD)."""

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
    verdicts: tuple[Verdict, ...] = ()  # of checks passed so far, kept with the message for the next try
    waived: str = ""  # the check that holds this entry; skipped after a release


class EndedEntry(msgspec.Struct, frozen=True, gc=False):
    """A lease ends because the entry ends. `notice`: a notice to accept in the same transaction."""

    entry: int
    lease: int
    message: int
    queue: Queue  # where it ended, even if the move there was never written
    outcome: Outcome
    reply: str
    attempts: int
    label: int  # bits to add
    at: Millis
    events: bytes = b""  # packed, if the entry never waited (store/timeline.py)
    body_object: str = ""  # to delete with the last entry of the message
    notice: NewMessage | None = None


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A claimed entry. The attempt is counted, and the next one is set as if this one had failed."""

    entry: int
    lease: int
    message_id: int
    queue: Queue
    recipient: str
    attempts: int
    next_attempt: Millis
    since: Millis  # when its current schedule began
    waived: tuple[str, ...] = ()  # checks that a person has waived for this entry


class Claimed(msgspec.Struct, frozen=True, gc=False):
    """A message with those of its entries that were due."""

    message: Message
    leases: tuple[Lease, ...]
