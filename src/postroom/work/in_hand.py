"""What the worker has in memory, and the notice that the end of an entry may need. Data and pure functions.

Fails: never; a notice whose original cannot be read goes without its header, and the log says so.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import public_id
from postroom.model import Message, Queue, Scope
from postroom.rules.lifecycle import Ends, Standing
from postroom.rules.retry import Schedule, next_attempt
from postroom.rules.trace import received_field
from postroom.settings import GatewaySettings, Settings
from postroom.store import Bodies, Claimed, NewMessage, queue
from postroom.telemetry import Log

QUICK_CHECKS = {"size", "structure", "loop"}  # these answer at once
SLOW_SLOTS = 64  # messages being checked when one must wait for a scanner; the rest is seen waiting in the queue


class Room:
    """Counts the work in memory and what there is room for. `bulk_processing` has a bounded share of the checks."""

    __slots__ = ("_bulk", "_bulk_share", "_checking", "_limits", "_slots", "bytes", "entries")

    def __init__(self, settings: Settings) -> None:
        self.apply(settings)
        self.entries = self.bytes = self._checking = self._bulk = 0

    def apply(self, settings: Settings) -> None:
        """New limits; work above them is finished first."""
        quick = set(settings.processing.checks) <= QUICK_CHECKS
        self._limits = settings.limits
        self._slots = settings.limits.active_entries if quick else SLOW_SLOTS
        self._bulk_share = max(1, self._slots * settings.bulk.share // 100)

    def has(self, queue: Queue, entries: int, size: int) -> bool:
        """Whether an arriving message can be started at once."""
        if self._checking >= self._slots or (queue is Queue.BULK and self._bulk >= self._bulk_share):
            return False
        return self.entries + entries <= self._limits.active_entries and self.bytes + size <= self._limits.active_bytes

    def take(self, entries: int, size: int) -> None:
        self.entries += entries
        self.bytes += size

    def give(self, entries: int, size: int) -> None:
        self.entries -= entries
        self.bytes -= size

    def begin_checks(self, queue: Queue) -> None:
        self._checking += 1
        self._bulk += queue is Queue.BULK

    def end_checks(self, queue: Queue) -> bool:
        """Whether another message may have waited for this place."""
        self._checking -= 1
        self._bulk -= queue is Queue.BULK
        return self._slots == SLOW_SLOTS or queue is Queue.BULK

    @property
    def half_empty(self) -> bool:
        return self.entries < self._limits.active_entries // 2

    def wanted(self, paused: Container[Scope], most: int) -> list[tuple[Queue, int]]:
        """How many entries of each queue may be claimed; queues closest to the exit first."""
        room = self.free(most)
        slots = min(room, self._slots - self._checking)
        wanted: list[tuple[Queue, int]] = []
        if Scope.DELIVERY not in paused:
            wanted += [(Queue.SYSTEM, room), (Queue.DELIVERY, room)]
        if Scope.PROCESSING not in paused:
            wanted += [(Queue.PROCESSING, slots), (Queue.BULK, min(slots, self._bulk_share - self._bulk))]
        return [(queue, number) for queue, number in wanted if number > 0]

    def free(self, most: int) -> int:
        """How many entries may be claimed, all queues together."""
        if self.bytes >= self._limits.active_bytes:
            return 0
        return max(0, min(most, self._limits.active_entries - self.entries))


class Item:
    """An entry in hand."""

    __slots__ = ("attempts", "born", "entry", "lease", "moved_at", "queue", "recipient", "since")

    def __init__(self, entry: int, lease: int, queue: Queue, recipient: str, attempts: int, since: Millis) -> None:
        self.entry = entry
        self.lease = lease
        self.queue = queue
        self.recipient = recipient
        self.attempts = attempts
        self.born = lease == entry
        self.since = since  # when it came under the schedule it is tried by
        self.moved_at: Millis = 0  # to delivery


class Work:
    """A message in work with its entries in one queue; done when the last has its result."""

    __slots__ = ("content", "items", "left", "message", "moving", "since", "waived")

    def __init__(
        self, message: Message, content: bytes | Path, items: list[Item], since: Millis, waived: tuple[str, ...] = ()
    ) -> None:
        self.message = message
        self.content = content
        self.items = items
        self.left = len(items)
        self.since = since  # of the lease, renewed
        self.waived = waived  # checks that a person has lifted for these entries
        self.moving = 0  # moves to delivery that are not committed yet


def trace_of(work: Work, recipients: tuple[str, ...], hostname: str) -> bytes:
    """The Received field to prepend to a message for these recipients."""
    message = work.message
    ident = public_id(message.id)
    return received_field(message.client, hostname=hostname, ident=ident, recipients=recipients, at=message.received)


def content_of(message: Message, bodies: Bodies) -> bytes | Path:
    """A message's bytes: in memory, or the path of a file."""
    if message.body_object:
        return bodies.path(message.body_object)
    assert message.body is not None, "a message without its bytes is never worked on"
    return message.body


def works_of(claimed: Claimed, bodies: Bodies, now: Millis) -> list[Work]:
    """A claimed message's entries, grouped by what is to be done with them."""
    alike: dict[tuple[Queue, tuple[str, ...]], list[Item]] = {}
    for lease in claimed.leases:
        item = Item(lease.entry, lease.lease, lease.queue, lease.recipient, lease.attempts, lease.since)
        alike.setdefault((lease.queue, lease.waived), []).append(item)
    content = content_of(claimed.message, bodies)
    return [Work(claimed.message, content, items, now, waived) for (_, waived), items in alike.items()]


def if_failed(delivery: Schedule, item: Item) -> Millis:
    """When an entry that has just moved to delivery would be tried again."""
    at = next_attempt(delivery, item.attempts, item.since, item.moved_at)
    return item.moved_at + delivery.waits[-1] if at is None else at


def standing(work: Work, item: Item, gateway: GatewaySettings) -> Standing:
    """The facts about an entry that the rules need."""
    sender = work.message.env_from
    return Standing(item.queue, item.attempts, item.since, not sender, _is_ours(sender, gateway))


def _is_ours(sender: str, gateway: GatewaySettings) -> bool:
    return sender.rpartition("@")[2].lower() in gateway.internal_domains


def notice_of(work: Work, item: Item, end: Ends, gateway: GatewaySettings, log: Log, now: Millis) -> NewMessage | None:
    """The notice that an ended entry calls for, to be accepted in the same transaction."""
    if not end.notice:
        return None
    message = work.message

    def unread(problem: EnvironmentFailed) -> None:
        log.error("notice_without_header", id=public_id(item.entry), problem=str(problem))

    original = queue.Original(
        entry=item.entry,
        env_from=message.env_from,
        recipient=item.recipient,
        subject=message.facts.subject,
        attempts=item.attempts,
        arrived=message.received,
        ours=_is_ours(message.env_from, gateway),
        content=work.content,
    )
    return queue.notice(original, end, now=now, hostname=gateway.hostname, unread=unread)
