"""What an event does to an entry: a move, a wait, a hold, a release, an end. Pure: decided here, done by the store.

    processing | bulk_processing --pass--> delivery          --retry--> same queue, later
                                 --bulk--> bulk_processing    --hold---> held     --reject/drop--> ended
    delivery | system            --delivered/refused--> ended --deferred--> same queue, later, or ended
    held                         --release--> from_queue      (a person)

Fails: an illegal move is our bug (AssertionError). Nothing here touches a clock, a socket or the database.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.model import Label, Outcome, Queue, Verdict, VerdictKind
from postroom.rules.retry import Schedule, next_attempt

EVENTS = (
    "accepted", "claimed", "checked", "bulked", "moved", "deferred", "held", "released", "retried", "taken_over",
    "requested", "restored", "repaired", "delivered", "bounced", "rejected", "dropped", "expired", "notice",
    "deleted", "unbulked", "leaving", "undone",
)  # fmt: skip

QUEUED_INFO = "Queued for Processing"  # the vendor's own words (contract section 8, P1)
DELIVERY_INFO = "Queued for Delivery"
NO_ROUTE_INFO = "No route to the destination"

WORKED_ON = (Queue.PROCESSING, Queue.BULK, Queue.DELIVERY, Queue.SYSTEM)
CHECKED = (Queue.PROCESSING, Queue.BULK)  # queues whose entries still have checks before them
SENDING = (Queue.DELIVERY, Queue.SYSTEM)  # queues whose entries may reach the next hop

MOVES: dict[tuple[Queue, str], tuple[Queue, ...]] = {
    (Queue.PROCESSING, "pass"): (Queue.DELIVERY,),
    (Queue.PROCESSING, "bulk"): (Queue.BULK,),
    (Queue.PROCESSING, "hold"): (Queue.HELD,),
    (Queue.BULK, "pass"): (Queue.DELIVERY,),
    (Queue.BULK, "hold"): (Queue.HELD,),
    (Queue.BULK, "unbulk"): (Queue.PROCESSING,),
    (Queue.DELIVERY, "hold"): (Queue.HELD,),
    (Queue.SYSTEM, "hold"): (Queue.HELD,),
    (Queue.HELD, "release"): (Queue.PROCESSING, Queue.BULK, Queue.DELIVERY, Queue.SYSTEM),
}


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The next hop took it."""

    reply: str


class Deferred(msgspec.Struct, frozen=True, gc=False):
    """Not now. `maybe` = the connection ended after the final dot: it may have been delivered."""

    reply: str
    maybe: bool = False


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Never."""

    reply: str


SendResult = Delivered | Deferred | Refused


class Moves(msgspec.Struct, frozen=True, gc=False):
    """Goes on in another queue, now, under the same lease."""

    queue: Queue
    info: str


class Waits(msgspec.Struct, frozen=True, gc=False):
    """Stays where it is until `at`."""

    at: Millis
    info: str
    label: int = 0  # bits to add


class Held(msgspec.Struct, frozen=True, gc=False):
    """A person decides."""

    info: str
    label: int = 0


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Leaves the queue for the history. `notice` = tell the sender (never a null sender)."""

    outcome: Outcome
    reply: str
    notice: bool = False
    label: int = 0


Change = Moves | Waits | Held | Ends


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What the rules need to know of an entry."""

    queue: Queue
    attempts: int
    since: Millis  # when it came under the schedule it is tried by
    null_sender: bool
    our_sender: bool = False


def move(queue: Queue, event: str, to: Queue) -> Queue:
    """The table, applied: an illegal move is our bug."""
    assert to in MOVES.get((queue, event), ()), f"no {event} from {queue} to {to}"
    return to


def after_check(entry: Standing, verdict: Verdict, schedule: Schedule, now: Millis) -> Change:
    """What the last verdict means for an entry that was being checked."""
    queue = entry.queue
    match verdict.kind:
        case VerdictKind.PASS:
            return Moves(move(queue, "pass", Queue.DELIVERY), DELIVERY_INFO)
        case VerdictKind.BULK:
            return Moves(move(queue, "bulk", Queue.BULK), verdict.info or QUEUED_INFO)
        case VerdictKind.HOLD:
            move(queue, "hold", Queue.HELD)
            return Held(verdict.info)
        case VerdictKind.REJECT:
            # Senders of refused content are forged as a rule: a notice to a stranger would be backscatter.
            return Ends(Outcome.REJECTED, verdict.info, notice=entry.our_sender and not entry.null_sender)
        case VerdictKind.DROP:
            return Ends(Outcome.DROPPED, verdict.info)
        case VerdictKind.RETRY:
            at = next_attempt(schedule, entry.attempts, entry.since, now)
            if at is None:  # processing never loses mail: a person decides
                return Held(verdict.info)
            return Waits(at, verdict.info)


def after_person(entry: Standing, outcome: Outcome, reply: str, *, notify: bool) -> Ends:
    """What it means that a person ends an entry. Here somebody has looked and decided, so a stranger may be told, too."""
    return Ends(outcome, reply, notice=notify and not entry.null_sender)


def after_send(entry: Standing, result: SendResult, schedule: Schedule, now: Millis, *, hold_maybe: bool) -> Change:
    """What an attempt to deliver means. `hold_maybe`: entries that may have been delivered wait for a person."""
    assert entry.queue in SENDING
    match result:
        case Delivered(reply):
            return Ends(Outcome.DELIVERED, reply)
        case Refused(reply):
            return Ends(Outcome.BOUNCED, reply, notice=not entry.null_sender)
        case Deferred(reply, maybe):
            label = Label.MAYBE_DELIVERED if maybe else 0
            if maybe and hold_maybe:
                move(entry.queue, "hold", Queue.HELD)
                return Held(reply, label)
            at = next_attempt(schedule, entry.attempts, entry.since, now)
            if at is None:
                return Ends(Outcome.EXPIRED, reply, notice=not entry.null_sender, label=label)
            return Waits(at, reply, label)
