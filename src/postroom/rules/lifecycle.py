"""What an event does to an entry: a move, a wait, a hold, a release, an end. Pure: decided here, done by the store.

`MOVES` is the whole table: cause -> where the entry is -> where it may be afterwards; docs/lifecycle.md shows it as a
picture. `after_check`, `after_send`, `after_lost_lease`, `after_move` and `honoured` decide what the gateway does by
itself. `ACTIONS`, `asked` and `left_out` decide what people may do, `has_notice` who gets a notice. The store and the
worker only carry it out.

Fails: AssertionError for a move that is not in the table, which is a bug of ours.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from postroom.clock import SECOND, Millis
from postroom.model import Action, Label, Outcome, Priority, Queue, Verdict, VerdictKind
from postroom.rules.retry import Schedule, as_if_failed, next_attempt

EVENTS = (
    "accepted", "claimed", "checked", "bulked", "moved", "deferred", "held", "released", "retried", "taken_over",
    "requested", "restored", "repaired", "delivered", "bounced", "rejected", "dropped", "expired", "notice",
    "deleted", "unbulked", "leaving", "undone",
)  # fmt: skip

QUEUED_INFO = "Queued for Processing"  # the vendor's own words (contract section 8, P1)
DELIVERY_INFO = "Queued for Delivery"
NO_ROUTE_INFO = "No route to the destination"
HELD_INFO = "Held by a person"
MAYBE_HELD_INFO = "May have been delivered: the attempt ended without a result; held for a person"
INTERRUPTED_INFO = "Interrupted: the gateway stopped while this was being worked on"

STRIKES = 3  # leases in a row that end without a result until the entry is suspect
UNREADABLE_WAIT = 10 * SECOND  # until a message that cannot be read just now is tried again

WORKED_ON = (Queue.PROCESSING, Queue.BULK, Queue.DELIVERY, Queue.SYSTEM)
CHECKED = (Queue.PROCESSING, Queue.BULK)  # queues whose entries still have checks before them
SENDING = (Queue.DELIVERY, Queue.SYSTEM)  # queues whose entries may reach the next hop


class Beyond(StrEnum):
    """Where an entry is when it waits in none of the queues."""

    NEW = "new"  # not accepted yet
    LEAVING = "leaving"  # a plan has ended it; it is kept until the undo window is over
    ENDED = "ended"  # in the history


NEW, LEAVING, ENDED = Beyond
Place = Queue | Beyond


class Cause(StrEnum):
    """What happens to entries, beside the actions of people (`model.Action`)."""

    ACCEPTED = "accepted"  # with "250", or as a notice of our own
    PASSED = "check: pass"
    BULKED = "check: bulk"
    CHECK_HELD = "check: hold"
    CHECK_REJECTED = "check: reject"
    CHECK_DROPPED = "check: drop"
    CHECK_RETRY = "check: retry"
    DELIVERED = "delivered"
    REFUSED = "refused"  # for good, by the next hop
    DEFERRED = "deferred"  # by the next hop, or there is no way to it
    GIVEN_BACK = "given back"  # not tried after all: the stage is paused, the gateway stops
    LEASE_LOST = "lease lost"  # it ended without a result: the worker died or stalled
    UNREADABLE = "unreadable"  # the stored message or its entry
    REQUEST_HONOURED = "request honoured"  # a person asked while the entry was leased; the lease ends
    PLANNED_END = "plan: end"  # a plan to reject, bounce or delete was applied
    WINDOW_OVER = "undo window over"
    UNDONE = "undo"
    REPAIRED = "repair"  # postroom verify --repair
    RESTORED = "restore"  # the store comes from a backup


class Notice(StrEnum):
    """Whether the sender gets a notice when an action ends an entry."""

    NEVER = "never"
    CHOSEN = "chosen"  # the person says whether
    ALWAYS = "always"


class ActionRule(msgspec.Struct, frozen=True):
    """What one action of a person means."""

    words: str  # in the timeline and as the entry's info, before the reason
    where: tuple[Queue, ...]  # the queues in which it can be done
    event: str  # the word in the timeline
    to: tuple[Place, ...] = ()  # where the entry goes; empty: it stays
    outcome: Outcome | None = None  # how it ends
    priority: Priority | None = None  # that it gets
    on_request: bool = False  # on a leased entry it is recorded, and done when the lease ends; else it is refused
    paced: bool = False  # many entries become due one after another for each destination
    notice: Notice = Notice.NEVER


_ANYWHERE = tuple(Queue)
ACTIONS: dict[Action, ActionRule] = {
    Action.RETRY: ActionRule("Retry now", WORKED_ON, "retried", on_request=True, paced=True),
    Action.HOLD: ActionRule(HELD_INFO, WORKED_ON, "held", (Queue.HELD,), on_request=True),
    Action.RELEASE: ActionRule(
        "Released by a person", (Queue.HELD,), "released", WORKED_ON, on_request=True, paced=True
    ),
    Action.REJECT: ActionRule(
        "Rejected by a person", _ANYWHERE, "rejected", (ENDED,), Outcome.REJECTED, notice=Notice.CHOSEN
    ),
    Action.BOUNCE: ActionRule(
        "Returned to the sender by a person", _ANYWHERE, "bounced", (ENDED,), Outcome.BOUNCED, notice=Notice.ALWAYS
    ),
    Action.DELETE: ActionRule("Deleted by a person", _ANYWHERE, "deleted", (ENDED,), Outcome.DELETED),
    Action.BULK: ActionRule(
        "Moved to bulk by a person", (Queue.PROCESSING,), "bulked", (Queue.BULK,), priority=Priority.LOW
    ),
    Action.UNBULK: ActionRule(
        "Moved back from bulk by a person", (Queue.BULK,), "unbulked", (Queue.PROCESSING,), priority=Priority.NORMAL
    ),
}
ENDING = {action: rule.outcome for action, rule in ACTIONS.items() if rule.outcome is not None}


# -- the table

Row = dict[Place, tuple[Place, ...]]


def _each(places: tuple[Queue, ...], *to: Place, stays: bool = False) -> Row:
    return {place: (*((place,) if stays else ()), *to) for place in places}


def _row(rule: ActionRule) -> Row:
    return _each(rule.where, *rule.to, stays=not rule.to)


def _undone() -> Row:
    """Every action of a plan, backwards."""
    back: dict[Place, dict[Place, None]] = {}
    for action, rule in ACTIONS.items():
        for place, targets in _row(rule).items():
            for target in (LEAVING,) if action in ENDING else targets:
                back.setdefault(target, {})[place] = None
    return {place: tuple(froms) for place, froms in back.items()}


MOVES: dict[Cause | Action, Row] = {
    Cause.ACCEPTED: {NEW: (Queue.PROCESSING, Queue.BULK, Queue.SYSTEM)},
    Cause.PASSED: _each(CHECKED, Queue.DELIVERY),
    Cause.BULKED: {Queue.PROCESSING: (Queue.BULK,)},
    Cause.CHECK_HELD: _each(CHECKED, Queue.HELD),
    Cause.CHECK_REJECTED: _each(CHECKED, ENDED),
    Cause.CHECK_DROPPED: _each(CHECKED, ENDED),
    Cause.CHECK_RETRY: _each(CHECKED, Queue.HELD, stays=True),
    Cause.DELIVERED: _each(SENDING, ENDED),
    Cause.REFUSED: _each(SENDING, ENDED),
    Cause.DEFERRED: _each(SENDING, Queue.HELD, ENDED, stays=True),
    Cause.GIVEN_BACK: _each(WORKED_ON, stays=True),
    Cause.LEASE_LOST: _each(WORKED_ON, Queue.HELD, stays=True),
    Cause.UNREADABLE: _each(WORKED_ON, Queue.HELD, stays=True),
    Cause.REQUEST_HONOURED: _each(WORKED_ON, Queue.HELD, stays=True),
    **{action: _row(rule) for action, rule in ACTIONS.items()},
    Cause.PLANNED_END: _each(_ANYWHERE, LEAVING),
    Cause.WINDOW_OVER: {LEAVING: (ENDED,)},
    Cause.UNDONE: _undone(),
    Cause.REPAIRED: {**_each(_ANYWHERE, Queue.HELD, stays=True), LEAVING: (Queue.HELD,), NEW: (Queue.HELD,)},
    Cause.RESTORED: {**_each(_ANYWHERE, Queue.HELD, stays=True), LEAVING: (Queue.HELD,)},
}


def may(cause: Cause | Action, place: Place, to: Place) -> bool:
    """What the table says."""
    return to in MOVES[cause].get(place, ())


def _goes(cause: Cause, queue: Queue, to: Place) -> None:
    assert may(cause, queue, to), f"{cause}: not from {queue} to {to}"


# -- what is decided


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
    requested: bool = False  # a person asked for it while the entry was leased


class Ends(msgspec.Struct, frozen=True, gc=False):
    """Leaves the queue for the history. `notice` = the sender gets one (never a null sender)."""

    outcome: Outcome
    reply: str
    notice: bool = False
    label: int = 0


class Due(msgspec.Struct, frozen=True, gc=False):
    """Stays where it is, due at once."""


Change = Moves | Waits | Held | Ends


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What the rules need to know of an entry that was worked on."""

    queue: Queue
    attempts: int
    since: Millis  # when it came under the schedule it is tried by
    null_sender: bool
    our_sender: bool = False


class LostLease(msgspec.Struct, frozen=True, gc=False):
    """An entry whose lease ended without a result."""

    entry: int
    queue: Queue
    attempts: int
    since: Millis
    strikes: int  # such ends in a row, this one included
    label: int  # of this lease, see `lost_lease_label`
    request: Action | None  # what a person asked for meanwhile


_PASSED = Moves(Queue.DELIVERY, DELIVERY_INFO)
_DUE = Due()
_HELD_ON_REQUEST = Held(HELD_INFO, requested=True)


# -- checks


def after_check(entry: Standing, verdict: Verdict, schedule: Schedule, now: Millis) -> Change:
    """What the last verdict means for an entry that was being checked."""
    queue = entry.queue
    match verdict.kind:
        case VerdictKind.PASS:
            assert queue in CHECKED, f"{queue} has no checks"
            return _PASSED
        case VerdictKind.BULK:
            _goes(Cause.BULKED, queue, Queue.BULK)
            return Moves(Queue.BULK, verdict.info or QUEUED_INFO)
        case VerdictKind.HOLD:
            _goes(Cause.CHECK_HELD, queue, Queue.HELD)
            return Held(verdict.info)
        case VerdictKind.REJECT:
            _goes(Cause.CHECK_REJECTED, queue, ENDED)
            return _ends(entry, Outcome.REJECTED, verdict.info)
        case VerdictKind.DROP:
            _goes(Cause.CHECK_DROPPED, queue, ENDED)
            return _ends(entry, Outcome.DROPPED, verdict.info)
        case VerdictKind.RETRY:
            _goes(Cause.CHECK_RETRY, queue, queue)
            at = next_attempt(schedule, entry.attempts, entry.since, now)
            if at is None:  # processing never loses mail: a person decides
                return Held(verdict.info)
            return Waits(at, verdict.info)


# -- delivery


def after_send(entry: Standing, result: SendResult, schedule: Schedule, now: Millis, *, hold_maybe: bool) -> Change:
    """What an attempt to deliver means. `hold_maybe`: entries that may have been delivered wait for a person."""
    assert entry.queue in SENDING
    match result:
        case Delivered(reply):
            return Ends(Outcome.DELIVERED, reply)
        case Refused(reply):
            return _ends(entry, Outcome.BOUNCED, reply)
        case Deferred(reply, maybe):
            label = Label.MAYBE_DELIVERED if maybe else 0
            if maybe and hold_maybe:
                return Held(reply, label)
            at = next_attempt(schedule, entry.attempts, entry.since, now)
            if at is None:
                return _ends(entry, Outcome.EXPIRED, reply, label)
            return Waits(at, reply, label)


def cut_short(result: SendResult) -> bool:
    """Whether an attempt that ended while the gateway stops is given back: it surely did not deliver."""
    return isinstance(result, Deferred) and not result.maybe


def given_back(queue: Queue, now: Millis) -> Waits:
    """It was not tried after all (the stage is paused, the gateway stops): the attempt does not count."""
    _goes(Cause.GIVEN_BACK, queue, queue)
    return Waits(now, DELIVERY_INFO if queue in SENDING else QUEUED_INFO)


def unreadable(queue: Queue, info: str, now: Millis, *, passing: bool) -> Waits | Held:
    """Its message cannot be read. `passing`: just now only, so that the attempt does not count."""
    if passing:
        _goes(Cause.UNREADABLE, queue, queue)
        return Waits(now + UNREADABLE_WAIT, info)
    _goes(Cause.UNREADABLE, queue, Queue.HELD)
    return Held(info)


# -- leases that end without a result, and what people asked for under a lease


def lost_lease_label(queue: Queue, *, born: bool) -> int:
    """The label for a lease that ended without a result. `born`: the entry was leased when it was accepted, so that it
    could have reached the next hop whatever its queue on disk says."""
    return int(Label.MAYBE_DELIVERED) if born or queue in SENDING else 0


def after_lost_lease(lost: LostLease, schedule: Schedule, now: Millis, *, hold_maybe: bool) -> Held | Waits | Due:
    """Held because a person asked for it or by policy; later by its schedule when it is suspect; else due at once."""
    _goes(Cause.LEASE_LOST, lost.queue, lost.queue)
    if lost.request is Action.HOLD:
        return Held(HELD_INFO, lost.label, requested=True)
    if lost.label and hold_maybe:
        return Held(MAYBE_HELD_INFO, lost.label)
    if lost.strikes < STRIKES:
        return _DUE
    at = as_if_failed(schedule, max(lost.attempts, 1), lost.since, now)
    return Waits(at, f"Suspect: {lost.strikes} attempts in a row ended without a result", lost.label | Label.SUSPECT)


def honoured(request: Action | None, queue: Queue) -> Held | Due | None:
    """What a recorded request does when the lease ends and the entry waits again in `queue`. None: nothing, because the
    result of the attempt has held it already. Every request but a hold means "try it now"."""
    if queue is Queue.HELD:
        return None
    return _HELD_ON_REQUEST if request is Action.HOLD else _DUE


def after_move(request: Action | None) -> Held | None:
    """What a recorded request does when an entry moves to delivery under its lease: only a hold stops it."""
    return Held(HELD_INFO) if request is Action.HOLD else None


# -- what people may do


class Answer(msgspec.Struct, frozen=True):
    """To a person's wish. `refused` says why not; empty: it is done now, or recorded as a request."""

    refused: str = ""
    request: bool = False  # the entry is leased: done when its lease ends


GONE_TEXT = "not in the queue: it has ended or never existed"
LEAVING_TEXT = "leaving: it ends when the undo window of its plan is over; undo the plan to keep it"
LEASED_TEXT = "being worked on just now: hold it first, or try again"
SENT_TEXT = "being sent just now: it may be on its way already"
HELD_APART_TEXT = "held: not permitted to you"
# What leaves an entry out of a plan.
LEAVING_ALREADY_TEXT = "leaving: another plan ends it"
IN_HAND_TEXT = "being worked on just now"
NULL_SENDER_TEXT = "null sender: there is nobody to return it to"
NOT_PERMITTED_TEXT = "not permitted to you"
_IF_HELD = {Action.RETRY: "held: release it instead", Action.HOLD: "held already"}


def _answer(action: Action, queue: Queue, leased: bool) -> Answer:
    rule = ACTIONS[action]
    if queue not in rule.where:
        if queue is Queue.HELD and action in _IF_HELD:
            return Answer(_IF_HELD[action])
        (wanted,) = rule.where
        return Answer(f"not held: it is in {queue}" if wanted is Queue.HELD else f"not in {wanted}: it is in {queue}")
    if not leased:
        return Answer()
    if action is Action.HOLD and queue in SENDING:
        return Answer(SENT_TEXT)
    return Answer(request=True) if rule.on_request else Answer(LEASED_TEXT)


ANSWERS: dict[tuple[Action, Queue, bool], Answer] = {
    (action, queue, leased): _answer(action, queue, leased)
    for action in Action
    for queue in Queue
    for leased in (False, True)
}


def asked(action: Action, place: Place, *, leased: bool, held: bool | None = None) -> Answer:
    """What becomes of an action on an entry there. `held`: the person may act only on what is held (True), or only on
    what is not (False)."""
    if isinstance(place, Beyond):
        return Answer(LEAVING_TEXT if place is LEAVING else GONE_TEXT)
    if held and place is not Queue.HELD:
        return Answer(f"not held: it is in {place}")
    if held is False and place is Queue.HELD:
        return Answer(HELD_APART_TEXT)
    return ANSWERS[action, place, leased]


def left_out(action: Action, place: Place, *, leased: bool, null_sender: bool, permitted: bool = True) -> str:
    """Why a plan leaves an entry out; empty: it takes it. A plan waits for no lease."""
    if isinstance(place, Beyond):
        return LEAVING_ALREADY_TEXT if place is LEAVING else GONE_TEXT
    if not permitted:
        return NOT_PERMITTED_TEXT
    if refused := ANSWERS[action, place, leased].refused:
        return refused
    if leased:
        return IN_HAND_TEXT
    return NULL_SENDER_TEXT if action is Action.BOUNCE and null_sender else ""


def shift_of(action: Action) -> tuple[Queue, Priority]:
    """Where to bulk or unbulk takes an entry, and the priority it gets there."""
    rule = ACTIONS[action]
    (queue,) = rule.to
    assert isinstance(queue, Queue), f"{action} is no shift"
    assert rule.priority is not None, f"{action} is no shift"
    return queue, rule.priority


def fits(action: Action, queue: Queue) -> bool:
    """Whether to offer this action for what waits there. Nothing in `system` has a sender to return it to."""
    return queue in ACTIONS[action].where and not (action is Action.BOUNCE and queue is Queue.SYSTEM)


def notifies(action: Action, *, chosen: bool) -> bool:
    """Whether the sender gets a notice when a person does this. `chosen`: the person asks for one."""
    notice = ACTIONS[action].notice
    return notice is Notice.ALWAYS or (chosen and notice is Notice.CHOSEN)


def after_person(action: Action, reply: str, *, null_sender: bool, notify: bool) -> Ends:
    """A person ends an entry. A person has looked at it, so that a stranger may get a notice, too."""
    chosen = notifies(action, chosen=notify)
    return Ends(ENDING[action], reply, has_notice(ENDING[action], null_sender=null_sender, chosen=chosen))


# -- notices


def has_notice(outcome: Outcome, *, null_sender: bool, our_sender: bool = False, chosen: bool | None = None) -> bool:
    """Whether the sender gets a notice that an entry has ended. `chosen`: what the person who ended it has decided;
    None: the gateway ended it. Never for a null sender (RFC 5321 6.1): a notice about a notice would never end."""
    if null_sender:
        return False
    if chosen is not None:
        return chosen
    if (
        outcome is Outcome.REJECTED
    ):  # senders of refused content are mostly forged: a notice to a stranger is backscatter
        return our_sender
    return outcome in (Outcome.BOUNCED, Outcome.EXPIRED)


def _ends(entry: Standing, outcome: Outcome, reply: str, label: int = 0) -> Ends:
    notice = has_notice(outcome, null_sender=entry.null_sender, our_sender=entry.our_sender)
    return Ends(outcome, reply, notice, label)
