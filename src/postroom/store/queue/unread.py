"""What happens to claimed entries whose message cannot be read.

They are held and marked (`store.damage`), or tried again if only disk or memory fail at the moment. Fails: never;
trouble with a file is an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from postroom.clock import Millis
from postroom.ids import public_id
from postroom.model import Message, Queue
from postroom.rules.lifecycle import Waits, unreadable
from postroom.store import codes
from postroom.store.bodies import Bodies, body_problem
from postroom.store.damage import BODY_GONE, UNREADABLE
from postroom.store.engine import FAILURE, LOST_CHARACTER, is_environment
from postroom.store.find.reader import Reader
from postroom.store.records import Claimed, Lease, Waited
from postroom.telemetry import Counts, Log

NOT_NOW = "The stored message cannot be read just now; the log says why"
_UNREADABLE: tuple[type[Exception], ...] = (*FAILURE, msgspec.DecodeError, ValueError, TypeError)


class Unread(NamedTuple):
    """A claimed entry whose message cannot be read, and why. `later`: only for now, nothing is wrong with it."""

    lease: Lease
    problem: str
    text: str
    later: bool

    def waited(self, now: Millis) -> Waited:
        """What becomes of it: held and marked, or tried again with its attempt not counted."""
        lease, text = self.lease, self.text
        match unreadable(lease.queue, text, now, passing=self.later):
            case Waits(at):
                return Waited(
                    lease.entry, lease.lease, lease.queue, None, text, lease.attempts - 1, at, 0, now, "deferred"
                )
            case _:
                return Waited(
                    lease.entry, lease.lease, Queue.HELD, lease.queue, text, lease.attempts, now, 0, now, "held"
                )


def _strange(message: Message) -> str:
    """Why the message cannot be worked on; empty if it can. One damaged row must not stop the claims of all others."""
    client, facts = message.client, message.facts
    texts = (
        message.env_from, message.body_object, client.ip, client.name, client.helo, client.tls, client.user,
        facts.from_address, facts.from_name, facts.to_header, facts.subject, facts.message_id,
    )  # fmt: skip
    if not {str}.issuperset(map(type, texts)):
        return "its envelope or its header's fields are not readable"
    if not codes.is_number(message.size, codes.LARGEST) or not codes.is_number(message.received, codes.LAST_TIME):
        return "its size or when it was received is not possible"
    return "its sender is not readable" if LOST_CHARACTER in message.env_from else ""


def not_now(leases: Sequence[Lease], problem: Exception) -> list[Unread]:
    """No message could be read at all."""
    return [Unread(lease, str(problem), NOT_NOW, True) for lease in leases]


def with_messages(reader: Reader, bodies: Bodies, leases: Sequence[Lease]) -> tuple[list[Claimed], list[Unread]]:
    """Leases by message, and those whose message cannot be read. If disk or memory fail at the moment, that says
    nothing about the message, and no person has to look at it."""
    by_message: dict[int, list[Lease]] = {}
    for lease in leases:
        by_message.setdefault(lease.message_id, []).append(lease)
    claimed: list[Claimed] = []
    unread: list[Unread] = []
    for ident, group in by_message.items():
        problem, text, later, message = "", UNREADABLE, False, None
        try:
            message = reader.message(ident)
        except _UNREADABLE as failure:
            later = is_environment(failure)
            problem, text = f"{type(failure).__name__}: {failure}", NOT_NOW if later else UNREADABLE
        if message is not None:
            problem = _strange(message)
            if problem:
                text = UNREADABLE
            elif message.body_object:
                problem, later = body_problem(bodies, message.body_object, message.size)
                text = NOT_NOW if later else BODY_GONE
            elif not isinstance(message.body, bytes):
                problem = "its bytes are not there"
        elif not problem:
            problem = "its row is not there"
        if problem or message is None:
            unread += [Unread(lease, problem, text, later) for lease in group]
        else:
            claimed.append(Claimed(message, tuple(group)))
    return claimed, unread


def tell_messages(unread: Sequence[Unread], log: Log, counts: Counts) -> None:
    for one in unread:
        counts.unreadable += 0 if one.later else 1
        log.error("message_unreadable", id=public_id(one.lease.entry), problem=one.problem, info=one.text)


def tell_entries(entries: Sequence[int], log: Log, counts: Counts) -> None:
    for entry in entries:
        counts.unreadable += 1
        log.error("entry_unreadable", id=public_id(entry), problem="its recipient or its state is not readable")
