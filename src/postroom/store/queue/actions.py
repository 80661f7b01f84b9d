"""What a person does inside the writer's transaction: retry, hold, release, bulk, unbulk, reject, bounce and delete
entries; pause and resume stages.

To retry, hold or release a leased entry leaves a request, which the worker carries out when the lease ends; a hold is
refused once the entry may be on its way to the next hop. All other actions need an entry that is not being worked on:
hold it first. Every action leaves an event with its actor, and an action on held mail a row in the release log.
`acting` and `switching` add the line of the audit log: both are written, or neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import IdGiver, id_time
from postroom.model import Action, ActionReport, Outcome, Priority, Queue, Scope
from postroom.rules.lifecycle import QUEUED_INFO, SENDING, Standing, after_person
from postroom.settings import Plans
from postroom.store import codes
from postroom.store.bodies import INLINE_BODY, Bodies
from postroom.store.damage import STATE_DAMAGED
from postroom.store.engine import Tx, named
from postroom.store.logs import audit, released
from postroom.store.queue import statements as sql
from postroom.store.queue.apply import Infos, LedgerLines, end, event
from postroom.store.queue.notices import beginning, notice, way_back
from postroom.store.records import EndedEntry, NewMessage

HELD_INFO = "Held by a person"
SLICE = 200  # entries of one action in one transaction: about 10 ms of the writer
PAUSE = 0.010  # seconds
NOTICED_SLICE = 20  # when each may need a notice, and so the beginning of its message

ENTRY_RECIPIENT = named("queue.entry_recipient", "SELECT recipient FROM entry WHERE id = :entry")
ENTRY_STATE = named(
    "queue.entry_state",
    "SELECT queue, from_queue, lease, message_id, attempts, since FROM entry WHERE id = :entry",
)
ENTRY_TAKE = named(
    "queue.entry_take",
    "UPDATE entry SET lease = :lease, locked_until = :now WHERE id = :entry AND lease IS NULL",
)
MESSAGE_NOTED = named(
    "queue.message_noted",
    "SELECT m.env_from, e.recipient, e.route, m.subject, m.received, m.body_object FROM entry AS e "
    "JOIN message AS m ON m.id = e.message_id WHERE e.id = :entry",
)
BODY_START = named("queue.body_start", "SELECT substr(bytes, 1, :length) FROM body WHERE message_id = :message")
ENTRY_RETRY_NOW = named(  # never later than it would have been tried
    "queue.entry_retry_now", "UPDATE entry SET next_attempt = min(:due, max(next_attempt, :now)) WHERE id = :entry"
)
ENTRY_HOLD = named("queue.entry_hold", f"UPDATE entry SET {sql.HOLD_SET} WHERE id = ?")
ENTRY_RELEASE = named("queue.entry_release", f"UPDATE entry SET {sql.RELEASE_SET} WHERE id = ?")
ENTRY_SHIFT = named("queue.entry_shift", f"UPDATE entry SET {sql.SHIFT_SET} WHERE id = ?")
ENTRY_ASK = named("queue.entry_ask", "UPDATE entry SET request = :action WHERE id = :entry")
PAUSE_ADD = named(
    "queue.pause_add",
    "INSERT INTO pause (scope, since, actor) VALUES (:scope, :now, :actor) ON CONFLICT (scope) DO NOTHING",
)
PAUSE_DROP = named("queue.pause_drop", "DELETE FROM pause WHERE scope = :scope")

_WORDS = {
    Action.HOLD: HELD_INFO,
    Action.RELEASE: "Released by a person",
    Action.RETRY: "Retry now",
    Action.REJECT: "Rejected by a person",
    Action.BOUNCE: "Returned to the sender by a person",
    Action.DELETE: "Deleted by a person",
    Action.BULK: "Moved to bulk by a person",
    Action.UNBULK: "Moved back from bulk by a person",
}
ENDING = {Action.REJECT: Outcome.REJECTED, Action.BOUNCE: Outcome.BOUNCED, Action.DELETE: Outcome.DELETED}
EVENT = {
    Action.RETRY: "retried", Action.HOLD: "held", Action.RELEASE: "released", Action.BULK: "bulked",
    Action.UNBULK: "unbulked",
}  # fmt: skip
SHIFTS = {  # from where, to where, with which priority
    Action.BULK: (Queue.PROCESSING, Queue.BULK, Priority.LOW),
    Action.UNBULK: (Queue.BULK, Queue.PROCESSING, Priority.NORMAL),
}
LEAVING = "leaving: it ends when the undo window of its plan is over; undo the plan to keep it"
WORKED_ON = "being worked on just now: hold it first, or try again"


class ActionContext(NamedTuple):
    """What an action needs of the store."""

    infos: Infos
    ids: IdGiver
    ledger: LedgerLines
    next_attempt: Callable[[Millis], Millis]
    bodies: Bodies
    hostname: str


class Turns:
    """Spreads the entries that one action makes due over time, by destination, so that "all" overruns no receiver."""

    def __init__(self, plans: Plans) -> None:
        self._gap = plans.retry_window // plans.retry_rate
        self._taken: dict[str, int] = {}

    def due(self, tx: Tx, ident: int, now: Millis) -> Millis:
        recipient = tx.value(ENTRY_RECIPIENT, {"entry": ident})
        domain = str(recipient).rpartition("@")[2].lower()  # a damaged one may be no text: the claim holds it
        turn = self._taken.get(domain, 0)
        self._taken[domain] = turn + 1
        return now + turn * self._gap


class Instruction(NamedTuple):
    """Who wants which action, and why."""

    action: Action
    actor: str
    reason: str
    now: Millis
    notify: bool = False  # of a rejection: tell the sender
    held: bool | None = None  # True: only what is held; False: only what is not
    turns: Turns | None = None  # paces a retry or release; None: all at once

    @property
    def tells(self) -> bool:
        """Whether the sender gets a notice."""
        return self.action is Action.BOUNCE or (self.notify and self.action is Action.REJECT)

    @property
    def info(self) -> str:
        words = _WORDS[self.action]
        return f"{words}: {self.reason}" if self.reason else words


class Acted(NamedTuple):
    """What was done, and the stored bodies to delete after the commit."""

    report: ActionReport
    objects: list[str]


class Found(NamedTuple):
    """An entry as ENTRY_STATE reads it."""

    ident: int
    number: int
    from_number: int | None
    lease: int | None
    message: int
    attempts: int
    since: Millis

    @property
    def queue(self) -> Queue:
        return codes.QUEUES[self.number]


def act(tx: Tx, context: ActionContext, order: Instruction, ids: Sequence[int]) -> Acted:
    """Do one action to some entries."""
    done: list[Found] = []
    requested: list[int] = []
    refused: list[tuple[int, str]] = []
    for ident in dict.fromkeys(ids):
        row = tx.row(ENTRY_STATE, {"entry": ident})
        if row is None:
            refused.append((ident, "not in the queue: it has ended or never existed"))
            continue
        found = Found(ident, *row)
        if found.number == codes.LEAVING:
            refused.append((ident, LEAVING))
            continue
        if not codes.is_placed(found.number, found.from_number):
            refused.append((ident, STATE_DAMAGED))
            continue
        why = refusal(order, found.queue, leased=found.lease is not None)
        if why:
            refused.append((ident, why))
        elif found.lease is not None:
            tx.run(ENTRY_ASK, {"action": codes.ACTION[order.action], "entry": ident})
            event(tx, ident, order.now, "requested", found.number, context.infos.id(tx, order.info), order.actor)
            requested.append(ident)
        else:
            if order.action not in ENDING:
                _apply(tx, context.infos, order, found)
            done.append(found)
    objects = end_all(tx, context, order, done) if order.action in ENDING and done else []
    return Acted(ActionReport(tuple([found.ident for found in done]), tuple(requested), tuple(refused)), objects)


def refusal(order: Instruction, queue: Queue, *, leased: bool) -> str:
    """Why this cannot be done to an entry in that queue; empty if it can."""
    action, held = order.action, queue is Queue.HELD
    if not held and (action is Action.RELEASE or order.held):
        return f"not held: it is in {queue}"
    if held and order.held is False:
        return "held: not permitted to you"
    if action in SHIFTS and queue is not SHIFTS[action][0]:
        return f"not in {SHIFTS[action][0]}: it is in {queue}"
    if action in ENDING or action in SHIFTS:
        return WORKED_ON if leased else ""
    if action is Action.RELEASE:
        return ""
    if held:
        return "held already" if action is Action.HOLD else "held: release it instead"
    if leased and action is Action.HOLD and queue in SENDING:
        return "being sent just now: it may be on its way already"
    return ""


def _apply(tx: Tx, infos: Infos, order: Instruction, found: Found) -> None:
    text, now, ident = infos.id(tx, order.info), order.now, found.ident
    turns = order.turns if order.action in (Action.RETRY, Action.RELEASE) else None
    due = now if turns is None else turns.due(tx, ident, now)
    match order.action:
        case Action.RETRY:
            tx.run(ENTRY_RETRY_NOW, {"due": due, "now": now, "entry": ident})
            event(tx, ident, now, "retried", found.number, text, order.actor)
        case Action.HOLD:
            held = codes.QUEUE[Queue.HELD]
            tx.run(ENTRY_HOLD, (held, text, ident))
            event(tx, ident, now, "held", held, text, order.actor)
        case Action.RELEASE:
            assert found.from_number is not None
            released.record(tx, ident, Action.RELEASE, order.actor, order.reason, now)
            tx.run(ENTRY_RELEASE, (infos.id(tx, QUEUED_INFO), now, due, ident))
            event(tx, ident, now, "released", found.from_number, text, order.actor)
        case Action.BULK | Action.UNBULK:
            _, queue, priority = SHIFTS[order.action]
            number = codes.QUEUE[queue]
            tx.run(ENTRY_SHIFT, (number, codes.PRIORITY[priority], text, ident))
            event(tx, ident, now, EVENT[order.action], number, text, order.actor)


def end_all(tx: Tx, context: ActionContext, order: Instruction, chosen: Sequence[Found]) -> list[str]:
    """End entries under a lease of our own, and accept their notices. Returns the bodies to delete after the commit."""
    ends: list[EndedEntry] = []
    outcome = ENDING[order.action]
    for found in chosen:
        if found.queue is Queue.HELD and order.action is Action.REJECT:
            released.record(tx, found.ident, Action.REJECT, order.actor, order.reason, order.now)
        text = context.infos.id(tx, order.info)
        event(tx, found.ident, order.now, outcome.value, found.number, text, order.actor)
        lease = context.ids.next()
        tx.run(ENTRY_TAKE, {"lease": lease, "now": order.now, "entry": found.ident})
        body_object, letter = _notice(tx, context, order, found)
        ends.append(
            EndedEntry(
                found.ident, lease, found.message, found.queue, outcome, order.info, found.attempts, 0,
                order.now, body_object=body_object, notice=letter,
            )
        )  # fmt: skip
    lost, objects = end(tx, context.ids, context.infos, context.ledger, ends, context.next_attempt)
    assert not lost, "a lease taken in this transaction was lost in it"
    return objects


def _notice(tx: Tx, context: ActionContext, order: Instruction, found: Found) -> tuple[str, NewMessage | None]:
    """(name of the stored body, notice to the sender)."""
    row = tx.row(MESSAGE_NOTED, {"entry": found.ident})
    if row is None or not isinstance(row[0], str):
        return "", None  # the row of the message, or its sender, is lost: the entry can be ended all the same
    env_from, recipient, route, subject, received, body_object = row
    standing = Standing(found.queue, found.attempts, found.since, null_sender=not env_from)
    outcome = ENDING[order.action]
    if not after_person(standing, outcome, order.info, notify=order.tells).notice:
        return body_object, None
    try:
        if body_object:
            start = beginning(context.bodies.path(body_object))
        else:
            body = tx.row(BODY_START, {"length": 2 * INLINE_BODY, "message": found.message})
            start = b"" if body is None else body[0]
    except EnvironmentFailed:  # the sender gets a notice all the same
        start = b""
    letter = notice(
        entry=found.ident,
        env_from=env_from,
        recipient=recipient if isinstance(recipient, str) else "",
        subject=subject if isinstance(subject, str) else "",
        reply=order.info,
        outcome=outcome,
        attempts=found.attempts,
        arrived=received if codes.is_number(received, codes.LAST_TIME) else id_time(found.ident),
        now=order.now,
        hostname=context.hostname,
        route=way_back(codes.route(route)),
        beginning=start,
    )
    return body_object, letter


def slices(ids: Sequence[int], *, notify: bool) -> list[Sequence[int]]:
    """So that no acknowledgement waits for a large action."""
    size = NOTICED_SLICE if notify else SLICE
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def paced(ids: Sequence[int], *, notify: bool) -> Iterator[Sequence[int]]:
    """The same for a command beside a gateway. After each slice it pauses for as long as the slice took, at most PAUSE:
    the gateway's writer cannot queue for the database's lock, it can only try again."""
    for part in slices(ids, notify=notify):
        began = time.perf_counter()
        yield part
        time.sleep(min(time.perf_counter() - began, PAUSE))


def joined(parts: Sequence[ActionReport]) -> ActionReport:
    return ActionReport(
        tuple(ident for part in parts for ident in part.done),
        tuple(ident for part in parts for ident in part.requested),
        tuple(pair for part in parts for pair in part.refused),
    )


def pause(tx: Tx, scope: Scope, actor: str, now: Millis) -> bool:
    """False if it was paused already."""
    return bool(tx.run(PAUSE_ADD, {"scope": scope.value, "now": now, "actor": actor}))


def resume(tx: Tx, scope: Scope) -> bool:
    """False if it was not paused."""
    return bool(tx.run(PAUSE_DROP, {"scope": scope.value}))


def acting(context: ActionContext, order: Instruction, ids: Sequence[int]) -> Callable[[Tx], Acted]:
    """`act`, with its line in the audit log."""

    def run(tx: Tx) -> Acted:
        acted = act(tx, context, order, ids)
        audit.add_acted(tx, order.action, acted.report, at=order.now, actor=order.actor, reason=order.reason)
        return acted

    return run


def switching(scope: Scope, actor: str, now: Millis, *, paused: bool) -> Callable[[Tx], bool]:
    """Pause or resume a stage, with its line in the audit log. False if it was so already."""

    def switch(tx: Tx) -> bool:
        done = pause(tx, scope, actor, now) if paused else resume(tx, scope)
        if done:
            kind = "queue.pause" if paused else "queue.resume"
            audit.add(tx, at=now, actor=actor, kind=kind, what=scope.value)
        return done

    return switch
