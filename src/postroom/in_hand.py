"""What the worker has in hand, and the notice that the end of an entry may call for. Data and pure functions.

Promises: a notice is never made for a null sender. Fails: EnvironmentFailed when a stored body cannot be read.
"""

from __future__ import annotations

from pathlib import Path

from postroom import bounce, facts
from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import public_id
from postroom.lifecycle import Ends
from postroom.model import Client, Message, Origin, Queue, Recipient, Route
from postroom.settings import Gateway
from postroom.store.bodies import INLINE_BODY
from postroom.store.records import NewMessage


class Item:
    """An entry in hand."""

    __slots__ = ("attempts", "born", "entry", "lease", "moved", "moved_at", "queue", "recipient")

    def __init__(self, entry: int, lease: int, queue: Queue, recipient: str, attempts: int) -> None:
        self.entry = entry
        self.lease = lease
        self.queue = queue
        self.recipient = recipient
        self.attempts = attempts
        self.born = lease == entry
        self.moved = False  # the move to delivery is written
        self.moved_at: Millis = 0


class Work:
    """A message in hand with those of its entries that stand in one queue; done when the last has its result."""

    __slots__ = ("content", "items", "left", "message", "moving", "since")

    def __init__(self, message: Message, content: bytes | Path, items: list[Item], since: Millis) -> None:
        self.message = message
        self.content = content
        self.items = items
        self.left = len(items)
        self.since = since  # of the lease, renewed
        self.moving = 0  # moves to delivery that are not committed yet


def notice_of(
    message: Message, item: Item, ends: Ends, header: bytes, gateway: Gateway, now: Millis
) -> NewMessage | None:
    """The bounce of an ended entry, to be accepted in the same transaction; None for a null sender (RFC 5321 6.1)."""
    if not message.env_from:
        return None
    data = bounce.notice(
        original_from=message.env_from,
        recipient=item.recipient,
        subject=message.facts.subject,
        reply=ends.reply,
        outcome=ends.outcome,
        attempts=item.attempts,
        arrived=message.received,
        now=now,
        hostname=gateway.hostname,
        ident=public_id(item.entry),
        headers=header,
    )
    ours = message.env_from.rpartition("@")[2].lower() in gateway.internal_domains
    return NewMessage(
        client=Client(ip="127.0.0.1", helo=gateway.hostname),
        env_from="",
        recipients=(Recipient(message.env_from, Route.INTERNAL if ours else Route.OUTBOUND),),
        facts=facts.scan(data),
        size=len(data),
        received=now,
        body=data,
        body_object="",
        body_hash=b"",
        origin=Origin.NOTICE,
        queue=Queue.SYSTEM,
    )


def beginning(content: bytes | Path) -> bytes:
    """Enough of a message to hold its header."""
    if isinstance(content, bytes):
        return content
    try:
        with content.open("rb") as file:
            return file.read(2 * INLINE_BODY)
    except OSError as problem:
        raise EnvironmentFailed(f"cannot read {content}: {problem.strerror}") from problem
