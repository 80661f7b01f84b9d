"""What a person does inside the writer's transaction: retry, hold, release, bulk, unbulk, reject, bounce and delete
entries; pause and resume stages.

`rules.lifecycle` decides what is done, recorded as a request or refused (`asked`, `ACTIONS`); this carries it out.
Every action leaves an event with its actor, and an action on held mail a row in the release log. `acting` and
`switching` add the line of the audit log: both are written, or neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.ids import IdGiver, id_time
from postroom.model import Action, ActionReport, Queue, Scope
from postroom.rules.bounce import sender_is_ours
from postroom.rules.lifecycle import (
    ACTIONS,
    ENDED,
    ENDING,
    LEAVING,
    QUEUED_INFO,
    after_person,
    asked,
    notifies,
    shift_of,
)
from postroom.settings import Plans
from postroom.store import codes
from postroom.store.bodies import INLINE_BODY, Bodies
from postroom.store.damage import STATE_DAMAGED
from postroom.store.engine import Tx, named
from postroom.store.logs import audit, released
from postroom.store.queue import statements as sql
from postroom.store.queue.apply import Infos, LedgerLines, end, event
from postroom.store.queue.notices import Original, notice
from postroom.store.records import EndedEntry, NewMessage
from postroom.store.verbs import writes

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
PAUSED_BY = named("queue.paused_by", "SELECT 1 FROM pause WHERE scope = :scope AND actor = :actor")
PAUSE_DROP = named("queue.pause_drop", "DELETE FROM pause WHERE scope = :scope")


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
        """Whether senders get a notice."""
        return notifies(self.action, chosen=self.notify)

    @property
    def info(self) -> str:
        words = ACTIONS[self.action].words
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
            refused.append((ident, asked(order.action, ENDED, leased=False).refused))
            continue
        found = Found(ident, *row)
        if found.number == codes.LEAVING:
            refused.append((ident, asked(order.action, LEAVING, leased=False).refused))
            continue
        if not codes.is_placed(found.number, found.from_number):
            refused.append((ident, STATE_DAMAGED))
            continue
        answer = asked(order.action, found.queue, leased=found.lease is not None, held=order.held)
        if answer.refused:
            refused.append((ident, answer.refused))
        elif answer.request:
            tx.run(ENTRY_ASK, {"action": codes.ACTION[order.action], "entry": ident})
            event(tx, ident, order.now, "requested", found.number, context.infos.id(tx, order.info), order.actor)
            requested.append(ident)
        else:
            if order.action not in ENDING:
                _apply(tx, context.infos, order, found)
            done.append(found)
    objects = end_all(tx, context, order, done) if order.action in ENDING and done else []
    return Acted(ActionReport(tuple([found.ident for found in done]), tuple(requested), tuple(refused)), objects)


def _apply(tx: Tx, infos: Infos, order: Instruction, found: Found) -> None:
    text, now, ident = infos.id(tx, order.info), order.now, found.ident
    rule = ACTIONS[order.action]
    turns = order.turns if rule.paced else None
    due = now if turns is None else turns.due(tx, ident, now)
    match order.action:
        case Action.RETRY:
            tx.run(ENTRY_RETRY_NOW, {"due": due, "now": now, "entry": ident})
            event(tx, ident, now, rule.event, found.number, text, order.actor)
        case Action.HOLD:
            held = codes.QUEUE[Queue.HELD]
            tx.run(ENTRY_HOLD, (held, text, ident))
            event(tx, ident, now, rule.event, held, text, order.actor)
        case Action.RELEASE:
            assert found.from_number is not None
            released.record(tx, ident, Action.RELEASE, order.actor, order.reason, now)
            tx.run(ENTRY_RELEASE, (infos.id(tx, QUEUED_INFO), now, due, ident))
            event(tx, ident, now, rule.event, found.from_number, text, order.actor)
        case Action.BULK | Action.UNBULK:
            queue, priority = shift_of(order.action)
            number = codes.QUEUE[queue]
            tx.run(ENTRY_SHIFT, (number, codes.PRIORITY[priority], text, ident))
            event(tx, ident, now, rule.event, number, text, order.actor)


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
    """(the stored body's name, the notice to the sender)."""
    row = tx.row(MESSAGE_NOTED, {"entry": found.ident})
    if row is None or not isinstance(row[0], str):
        return "", None  # the row of the message, or its sender, is lost: the entry can be ended all the same
    env_from, recipient, route, subject, received, body_object = row
    end = after_person(order.action, order.info, null_sender=not env_from, notify=order.notify)
    if not end.notice:
        return body_object, None
    original = Original(
        entry=found.ident,
        env_from=env_from,
        recipient=recipient if isinstance(recipient, str) else "",
        subject=subject if isinstance(subject, str) else "",
        attempts=found.attempts,
        arrived=received if codes.is_number(received, codes.LAST_TIME) else id_time(found.ident),
        ours=sender_is_ours(codes.route(route)),
        content=_content(tx, context, found, body_object),
    )
    return body_object, notice(original, end, now=order.now, hostname=context.hostname)


def _content(tx: Tx, context: ActionContext, found: Found, body_object: str) -> bytes | Path:
    """Enough of the message to hold its header, or the file that holds it."""
    if not body_object:
        body = tx.row(BODY_START, {"length": 2 * INLINE_BODY, "message": found.message})
        return body[0] if body is not None and isinstance(body[0], bytes) else b""
    try:
        return context.bodies.path(body_object)
    except EnvironmentFailed:  # the sender gets a notice all the same
        return b""


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


def switch(tx: Tx, scope: Scope, actor: str, now: Millis, *, paused: bool) -> bool:
    """Pause or resume a stage, with its line in the audit log. False if it was so already."""
    done = pause(tx, scope, actor, now) if paused else resume(tx, scope)
    if done:
        kind = "queue.pause" if paused else "queue.resume"
        audit.add(tx, at=now, actor=actor, kind=kind, what=scope.value)
    return done


def follow(tx: Tx, wanted: Mapping[Scope, bool], actor: str, now: Millis) -> None:
    """Pause the stages that the settings want paused. Resume one that they no longer do, unless a person paused it.

    `actor`: the name under which the settings pause.
    """
    for scope, paused in wanted.items():
        if paused or tx.row(PAUSED_BY, {"scope": scope.value, "actor": actor}) is not None:
            switch(tx, scope, actor, now, paused=paused)


switching = writes(switch)
following = writes(follow)
