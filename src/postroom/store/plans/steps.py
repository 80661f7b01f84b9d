"""The steps of a plan, each inside one transaction of the writer: apply a slice, undo a slice, end a slice.

What an action sets is the same text as for a single entry (queue/statements.py), what ends entries the same function (actions.end_all). An entry that is
to end - rejected, bounced, deleted - first waits in a queue of its own number (codes.LEAVING), still counted as queued; when the undo
window is over it is put back to where it was and ended there, in one transaction, so that the ledger agrees at every moment.

Promises: a step that was committed is never done twice, whatever crash comes between two; an entry that is not exactly as the plan knows
it is left alone, with the reason. Fails: PlanRefused when another has taken the plan on meanwhile; apsw errors pass through.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.ids import first_id_at, public_id
from postroom.model import Action, Queue
from postroom.rules.lifecycle import ACTIONS, ENDING, QUEUED_INFO, shift_of
from postroom.store import codes
from postroom.store.engine import Tx
from postroom.store.logs import audit
from postroom.store.plans import book
from postroom.store.plans.book import (
    CHANGED,
    DONE,
    ENDED,
    GONE,
    KEPT,
    LATE,
    LEASED,
    PLANNED,
    SKIPPED,
    UNDONE,
    Plan,
)
from postroom.store.queue import actions
from postroom.store.queue import statements as sql

_RANGE = "p.plan = ? AND p.entry > ? AND p.entry <= ?"
_BORDER = (  # a line of an entry that is no number, which SQLite puts behind the others, is never reached
    f"SELECT max(entry) FROM (SELECT entry FROM plan_entry WHERE plan = ? AND entry > ? AND entry <= {book.LAST_ENTRY} "
    "ORDER BY entry LIMIT ?)"
)
_HELD = codes.QUEUE[Queue.HELD]
_BACK = ", ".join([str(number) for number in range(len(codes.QUEUES)) if number != _HELD])
_OTHER = (
    "e.queue <> p.{0}queue OR e.info_id <> p.{0}{1} OR e.next_attempt <> p.{0}{2} OR e.priority <> p.{0}priority "
    "OR e.attempts <> p.attempts"
)
_AS_FROZEN = _OTHER.format("", "info_id", "next_attempt") + " OR e.from_queue IS NOT p.from_queue"
# A damaged line of a plan must not stop the others.
_WAY_BACK = f"CASE p.queue WHEN {_HELD} THEN p.from_queue ELSE p.queue END IN ({_BACK}) AND (p.queue = {_HELD}) = (p.from_queue IS NOT NULL)"
_AS_LEFT = f"{_OTHER.format('after_', 'info', 'next')} OR ({_WAY_BACK}) IS NOT TRUE"
_UNLIKE = (
    "SELECT p.entry, CASE WHEN e.id IS NULL THEN {gone} WHEN e.lease IS NOT NULL THEN {leased} ELSE {changed} END "
    "FROM plan_entry AS p LEFT JOIN entry AS e ON e.id = p.entry "
    "WHERE " + _RANGE + " AND p.state = {state} AND (e.id IS NULL OR e.lease IS NOT NULL OR {other})"
)
NOT_AS_FROZEN = _UNLIKE.format(gone=GONE, leased=LEASED, changed=CHANGED, state=PLANNED, other=_AS_FROZEN)
NOT_AS_LEFT = _UNLIKE.format(gone=GONE, leased=LEASED, changed=CHANGED, state=DONE, other=_AS_LEFT)
_CHANGED = f"SELECT count(*) FROM ({NOT_AS_FROZEN})"
_MARK = "UPDATE plan_entry SET state = ?, why = ? WHERE plan = ? AND entry = ?"
# The planner must come from the plan's rows: an unary plus keeps it from walking `entry` by a range of its own.
_SET = f"UPDATE entry SET {{}} FROM plan_entry AS p WHERE {_RANGE} AND p.state = ? AND entry.id = p.entry"
_EVENTS = (
    "INSERT INTO event (entry_id, at, kind, queue, info_id, actor) SELECT p.entry, ?, ?, e.queue, ?, ? "
    f"FROM plan_entry AS p CROSS JOIN entry AS e ON e.id = p.entry WHERE {_RANGE} AND p.state = ?"
)
_LEFT = (
    f"UPDATE plan_entry AS p SET state = {DONE}, after_queue = e.queue, after_priority = e.priority, after_info = e.info_id, "
    f"after_next = e.next_attempt FROM entry AS e WHERE {_RANGE} AND p.state = {PLANNED} AND e.id = p.entry"
)
_ALL = f"UPDATE plan_entry AS p SET state = ? WHERE {_RANGE} AND p.state = ?"
_RELEASED = (
    "INSERT INTO release_log (id, entry_id, action, actor, reason, held_for, route, env_from, from_address, from_name, "
    "recipient, recipient_name, subject, size, attachment) "
    "SELECT max(coalesce((SELECT max(id) FROM release_log), 0), ?) + row_number() OVER (ORDER BY e.id), e.id, ?, ?, ?, "
    "coalesce(i.text, ''), e.route, e.env_from, e.from_address, e.from_name, e.recipient, e.recipient_name, e.subject, e.size, "
    "e.attachment FROM plan_entry AS p CROSS JOIN entry AS e ON e.id = p.entry LEFT JOIN info AS i ON i.id = e.info_id "
    f"WHERE {_RANGE} AND p.state = {PLANNED}"
)
RESTORED = (
    "queue = p.queue, from_queue = p.from_queue, priority = p.priority, info_id = p.info_id, since = p.since, "
    "next_attempt = p.next_attempt"
)
_TEXTS = (
    "SELECT DISTINCT p.info_id, t.text FROM plan_entry AS p LEFT JOIN plan_info AS t ON t.plan = p.plan AND "
    f"t.info_id = p.info_id WHERE {_RANGE} AND p.state = {DONE}"
)
_RENAME = f"UPDATE plan_entry AS p SET info_id = ? WHERE {_RANGE} AND p.state = {DONE} AND p.info_id = ?"
_LEAVING = (
    "SELECT p.entry, e.queue, e.message_id, e.attempts, e.since, p.queue, p.from_queue, e.lease FROM plan_entry AS p "
    f"LEFT JOIN entry AS e ON e.id = p.entry WHERE {_RANGE} AND p.state = {DONE} ORDER BY p.entry"
)


_THEN = {"applying": "applied", "undoing": "undone", "ending": "final"}


class PlanRefused(PeerError):
    """Not in the state for this; the text says which, and what can be done."""


class Step(NamedTuple):
    """What a step did. `objects`: bodies to delete once it is committed; `finished`: it was the last."""

    finished: bool
    entries: int = 0
    ended: int = 0
    objects: tuple[str, ...] = ()


def count_changed(tx: Tx, plan: int) -> int:
    """Entries that are no longer as they were frozen. On a reader."""
    return int(tx.rows(_CHANGED, (plan, 0, (1 << 63) - 1))[0][0])


def start(
    tx: Tx, ident: int, state: str, *, of: tuple[str, ...], who: str, reason: str, now: Millis,
    window: Millis = 0,
) -> None:  # fmt: skip
    """Take a plan on: from one of the states `of` to `state`; the same again goes on where it stopped."""
    plan = book.read(tx, ident)
    if plan.state == state:
        return
    if plan.state not in of:
        raise PlanRefused(f"plan {public_id(ident)} is {plan.state}: expected {' or '.join(of)}")
    if state == "undoing" and (plan.undo_until is None or now >= plan.undo_until):
        raise PlanRefused(f"plan {public_id(ident)} can no longer be undone: its window is over")
    if state == "applying" and now >= plan.expires:
        raise PlanRefused(f"plan {public_id(ident)} has expired: make it anew, the queue has moved since")
    tx.rows("UPDATE plan SET state = ?, reached = 0 WHERE id = ?", (state, ident))
    if state == "applying":
        tx.rows("UPDATE plan SET actor = ?, reason = ?, applied = ?, undo_until = ? WHERE id = ?",
            (who, reason, now, now + window, ident),
        )  # fmt: skip
        note(tx, "plan.apply", plan, who, f"begun: {plan.action}, entries: {plan.entries}: {reason}", now)
    elif state == "undoing":
        tx.rows("UPDATE plan SET undoer = ? WHERE id = ?", (who, ident))
        note(tx, "plan.undo", plan, who, f"begun: {plan.action}, entries: {plan.done}: {reason}", now)


def note(tx: Tx, kind: str, plan: Plan, who: str, detail: str, now: Millis) -> None:
    audit.add(tx, at=now, actor=who, kind=kind, what=public_id(plan.id), detail=detail)


class _Slice(NamedTuple):
    plan: Plan
    tx: Tx
    range: tuple[int, int, int]
    last: bool  # nothing is left to do ...
    over: bool = False  # ... and that has been said

    def run(self, statement: str, *values: Any) -> int:
        return self.tx.run(statement, values)

    def leave_out(self, unlike: str, state: int) -> int:
        found = self.tx.rows(unlike, self.range)
        for entry, why in found:
            self.tx.run(_MARK, (state, why, self.plan.id, entry))
        return len(found)

    def reach(self, **added: int) -> None:
        counted = ", ".join([f"{name} = {name} + {number}" for name, number in added.items()])
        self.tx.run(f"UPDATE plan SET reached = ?, {counted} WHERE id = ?", (self.range[2], self.plan.id))


def _slice(tx: Tx, ident: int, state: str, size: int) -> _Slice:
    plan = book.read(tx, ident)
    if plan.state == _THEN[state]:  # another one, beside us, has done the last of it
        return _Slice(plan, tx, (ident, plan.reached, plan.reached), True, True)
    if plan.state != state:
        raise PlanRefused(f"plan {public_id(ident)} is {plan.state} now: somebody else has taken it on")
    high = tx.rows(_BORDER, (ident, plan.reached, size))[0][0]
    return _Slice(plan, tx, (ident, plan.reached, high or plan.reached), high is None)


# -- applying


def apply(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis, window: Millis) -> Step:
    """One slice; the window counts from the last."""
    part = _slice(tx, ident, "applying", size)
    if part.over:
        return Step(True)
    plan = part.plan
    tx.rows("UPDATE plan SET undo_until = ? WHERE id = ?", (now + window, ident))
    if part.last:
        tx.rows("UPDATE plan SET state = 'applied' WHERE id = ?", (ident,))
        note(tx, "plan.apply", plan, plan.actor, f"{plan.action} done: {plan.done}, skipped: {plan.skipped}", now)
        return Step(True)
    skipped = part.leave_out(NOT_AS_FROZEN, SKIPPED)
    info, kind = _change(part, context, now)
    part.run(_EVENTS, now, kind, info, plan.actor, *part.range, PLANNED)
    done = part.run(_LEFT, *part.range)
    part.reach(done=done, skipped=skipped)
    return Step(False, done + skipped)


def _change(part: _Slice, context: actions.ActionContext, now: Millis) -> tuple[int, str]:
    """Do it to the slice; (the info, the word) for the timelines."""
    plan, tx = part.plan, part.tx
    action, base = plan.action, plan.applied or now
    info = context.infos.id(tx, order_of(plan, now).info)
    if action in ENDING:
        part.run(_SET.format("queue = ?, from_queue = NULL, info_id = ?"), codes.LEAVING, info, *part.range, PLANNED)
        return info, "leaving"
    match action:
        case Action.RETRY:  # never later than it would have been
            part.run(
                _SET.format("next_attempt = min(entry.next_attempt, ? + p.turn * ?)"),
                base,
                plan.gap,
                *part.range,
                PLANNED,
            )
        case Action.HOLD:
            part.run(_SET.format(sql.HOLD_SET), codes.QUEUE[Queue.HELD], info, *part.range, PLANNED)
        case Action.RELEASE:
            number = codes.ACTION[Action.RELEASE]
            part.run(_RELEASED, first_id_at(now), number, plan.actor, plan.reason, *part.range)
            paced = sql.RELEASE_SET.replace("next_attempt = ?", "next_attempt = ? + p.turn * ?")
            queued = context.infos.id(tx, QUEUED_INFO)
            part.run(_SET.format(paced), queued, now, base, plan.gap, *part.range, PLANNED)
        case Action.BULK | Action.UNBULK:
            queue, priority = shift_of(action)
            values = (codes.QUEUE[queue], codes.PRIORITY[priority], info)
            part.run(_SET.format(sql.SHIFT_SET), *values, *part.range, PLANNED)
    return info, ACTIONS[action].event


def order_of(plan: Plan, now: Millis) -> actions.Instruction:
    return actions.Instruction(plan.action, plan.actor, plan.reason, now, plan.notify)


# -- undoing


def undo(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis) -> Step:
    """One slice back to where it was; what something has happened to since is left as it is."""
    part = _slice(tx, ident, "undoing", size)
    if part.over:
        return Step(True)
    plan = part.plan
    if part.last:
        rest = f"UPDATE plan_entry SET state = {SKIPPED}, why = {LATE} WHERE plan = ? AND state = {PLANNED}"
        left = tx.run(rest, (ident,))
        tx.rows("UPDATE plan SET state = 'undone', finished = ?, skipped = skipped + ? WHERE id = ?", (now, left, ident)
        )  # fmt: skip
        note(tx, "plan.undo", plan, plan.undoer, f"{plan.action} undone: {plan.undone}, not: {plan.kept}", now)
        return Step(True)
    kept = part.leave_out(NOT_AS_LEFT, KEPT)
    _take_texts(part, context)
    part.run(_SET.format(RESTORED), *part.range, DONE)
    info = context.infos.id(part.tx, f"Undone: {order_of(plan, now).info}")
    part.run(_EVENTS, now, "undone", info, plan.undoer, *part.range, DONE)
    undone = part.run(_ALL, UNDONE, *part.range, DONE)
    part.reach(undone=undone, kept=kept)
    return Step(False, undone + kept)


def _take_texts(part: _Slice, context: actions.ActionContext) -> None:
    """The dictionary may have forgotten a text that only the plan remembers: each is taken anew."""
    for ident, text in part.tx.rows(_TEXTS, part.range):
        now_id = context.infos.id(part.tx, text or "")
        if now_id != ident:
            part.run(_RENAME, now_id, *part.range, ident)


# -- when the undo window is over


def end(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis) -> Step:
    """One slice of what was to end: back to where it was, and ended there, in this transaction."""
    part = _slice(tx, ident, "ending", size)
    if part.over:
        return Step(True)
    plan, tx = part.plan, part.tx
    if part.last or plan.action not in ENDING:
        rest = f"UPDATE plan_entry SET state = {SKIPPED}, why = {LATE} WHERE plan = ? AND state = {PLANNED}"
        left = tx.run(rest, (ident,))
        tx.rows("UPDATE plan SET state = 'final', finished = ?, skipped = skipped + ? WHERE id = ?", (now, left, ident)
        )  # fmt: skip
        if plan.action in ENDING:
            note(tx, "plan.final", plan, plan.actor, f"{plan.action} ended: {plan.ended}, not: {plan.kept}", now)
        return Step(True)
    chosen: list[actions.Found] = []
    kept = 0
    for entry, queue, message, attempts, since, frozen, frozen_from, lease in tx.rows(_LEAVING, part.range):
        if queue == codes.LEAVING and lease is None and codes.is_placed(frozen, frozen_from):
            chosen.append(actions.Found(entry, frozen, frozen_from, None, message, attempts, since))
        else:
            tx.run(_MARK, (KEPT, GONE if queue is None else CHANGED, ident, entry))
            kept += 1
    objects: list[str] = []
    if chosen:
        _take_texts(part, context)
        part.run(_SET.format(RESTORED), *part.range, DONE)
        objects = actions.end_all(tx, context, order_of(plan, now), chosen)
        part.run(_ALL, ENDED, *part.range, DONE)
    part.reach(ended=len(chosen), kept=kept)
    return Step(False, len(chosen) + kept, len(chosen), tuple(objects))
