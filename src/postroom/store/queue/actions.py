"""What a person does inside the writer's transaction: retry, hold, release, bulk, unbulk, reject, bounce and delete
entries; pause and resume stages.

`rules.lifecycle` decides what is done, recorded as a request or refused (`asked`, `ACTIONS`); this carries it out.
Every action leaves an event with its actor, and an action on held mail a row in the release log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
from postroom.store.engine import Tx
from postroom.store.logs import released
from postroom.store.queue.apply import Infos, LedgerLines, end, event
from postroom.store.queue.notices import Original, notice
from postroom.store.records import EndedEntry, NewMessage
from postroom.store.sqlite import statements as sql

SLICE = 200  # entries of one action in one transaction: about 10 ms of the writer
PAUSE = 0.010  # seconds
NOTICED_SLICE = 20  # when each may need a notice, and for it the beginning of its message


class ActionContext(NamedTuple):
    """What acting needs of the store."""

    infos: Infos
    ids: IdGiver
    ledger: LedgerLines
    next_attempt: Callable[[Millis], Millis]
    bodies: Bodies
    hostname: str


class Turns:
    """When each of many entries is due that one action makes due: so many of a destination in a time, so that "all" overruns none."""

    def __init__(self, plans: Plans) -> None:
        self._gap = plans.retry_window // plans.retry_rate
        self._taken: dict[str, int] = {}

    def due(self, tx: Tx, ident: int, now: Millis) -> Millis:
        (recipient,) = tx.rows("SELECT recipient FROM entry WHERE id = ?", (ident,))[0]
        domain = str(recipient).rpartition("@")[2].lower()  # a damaged one may be no text: whoever claims it holds it
        turn = self._taken.get(domain, 0)
        self._taken[domain] = turn + 1
        return now + turn * self._gap


class Instruction(NamedTuple):
    """Who wants what, and why."""

    action: Action
    actor: str
    reason: str
    now: Millis
    notify: bool = False  # of a rejection: tell the sender
    held: bool | None = None  # True: what waits elsewhere is refused; False: what is held
    turns: Turns | None = None  # of a retry, a release: how they are paced; None: all at once

    @property
    def tells(self) -> bool:
        """Whether senders get a notice."""
        return notifies(self.action, chosen=self.notify)

    @property
    def info(self) -> str:
        words = ACTIONS[self.action].words
        return f"{words}: {self.reason}" if self.reason else words


class Acted(NamedTuple):
    """What was done, and the stored bodies to delete once that is committed."""

    report: ActionReport
    objects: list[str]


class Found(NamedTuple):
    """An entry as ENTRY_STATE shows it."""

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
    """One action on some entries."""
    done: list[Found] = []
    requested: list[int] = []
    refused: list[tuple[int, str]] = []
    for ident in dict.fromkeys(ids):
        rows = tx.rows(sql.ENTRY_STATE, (ident,))
        if not rows:
            refused.append((ident, asked(order.action, ENDED, leased=False).refused))
            continue
        found = Found(ident, *rows[0])
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
            tx.run(sql.ENTRY_ASK, (codes.ACTION[order.action], ident))
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
            tx.run(sql.ENTRY_RETRY_NOW, (due, now, ident))
            event(tx, ident, now, rule.event, found.number, text, order.actor)
        case Action.HOLD:
            held = codes.QUEUE[Queue.HELD]
            tx.run(sql.ENTRY_HOLD, (held, text, ident))
            event(tx, ident, now, rule.event, held, text, order.actor)
        case Action.RELEASE:
            assert found.from_number is not None
            released.record(tx, ident, Action.RELEASE, order.actor, order.reason, now)
            tx.run(sql.ENTRY_RELEASE, (infos.id(tx, QUEUED_INFO), now, due, ident))
            event(tx, ident, now, rule.event, found.from_number, text, order.actor)
        case Action.BULK | Action.UNBULK:
            queue, priority = shift_of(order.action)
            number = codes.QUEUE[queue]
            tx.run(sql.ENTRY_SHIFT, (number, codes.PRIORITY[priority], text, ident))
            event(tx, ident, now, rule.event, number, text, order.actor)


def end_all(tx: Tx, context: ActionContext, order: Instruction, chosen: Sequence[Found]) -> list[str]:
    """The entries end as if under a lease of ours, their notices are accepted; bodies to delete after the commit."""
    ends: list[EndedEntry] = []
    outcome = ENDING[order.action]
    for found in chosen:
        if found.queue is Queue.HELD and order.action is Action.REJECT:
            released.record(tx, found.ident, Action.REJECT, order.actor, order.reason, order.now)
        text = context.infos.id(tx, order.info)
        event(tx, found.ident, order.now, outcome.value, found.number, text, order.actor)
        lease = context.ids.next()
        tx.run(sql.ENTRY_TAKE, (lease, order.now, found.ident))
        body_object, told = _notice(tx, context, order, found)
        ends.append(
            EndedEntry(
                found.ident, lease, found.message, found.queue, outcome, order.info, found.attempts, 0,
                order.now, body_object=body_object, notice=told,
            )
        )  # fmt: skip
    lost, objects = end(tx, context.ids, context.infos, context.ledger, ends, context.next_attempt)
    assert not lost, "a lease taken in this transaction was lost in it"
    return objects


def _notice(tx: Tx, context: ActionContext, order: Instruction, found: Found) -> tuple[str, NewMessage | None]:
    """(the stored body's name, the notice to the sender)."""
    rows = tx.rows(sql.MESSAGE_NOTED, (found.ident,))
    if not rows or not isinstance(rows[0][0], str):
        return "", None  # the message's row, or who sent it, is lost: its entry can be ended all the same
    env_from, recipient, route, subject, received, body_object = rows[0]
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
        body = tx.rows(sql.BODY_START, (2 * INLINE_BODY, found.message))
        return body[0][0] if body else b""
    try:
        return context.bodies.path(body_object)
    except EnvironmentFailed:  # the sender gets a notice all the same
        return b""


def slices(ids: Sequence[int], *, notify: bool) -> list[Sequence[int]]:
    """So that no acknowledgement waits for a large action."""
    size = NOTICED_SLICE if notify else SLICE
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def paced(ids: Sequence[int], *, notify: bool) -> Iterator[Sequence[int]]:
    """The same for a command beside a gateway: after each slice nobody here writes for as long as it took, at most PAUSE. The
    gateway's writer cannot stand in line for SQLite's lock, it can only look again."""
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
    """False = it was paused already."""
    return bool(tx.rows(sql.PAUSE_ADD, (scope.value, now, actor)))


def resume(tx: Tx, scope: Scope) -> bool:
    """False = it was not paused."""
    return bool(tx.rows(sql.PAUSE_DROP, (scope.value,)))
