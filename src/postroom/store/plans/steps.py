"""The steps of a plan, each inside one transaction of the writer: apply a slice, undo a slice, end a slice.

A plan sets the same columns as the action on a single entry, by the same text (`sql`), and ends entries by the same
function (`actions.end_all`). An entry that is to end - rejected, bounced, deleted - first waits in a queue number of
its own (`codes.LEAVING`), still counted as queued. When the undo window is over it is put back to where it was and
ended there, in one transaction, so that the ledger agrees at every moment.

Promises: a step that was committed is never done twice, whatever crash comes after it; an entry that is not exactly as
the plan knows it is left alone, with the reason. Fails: PlanRefused when somebody else has taken the plan on meanwhile;
database errors pass through.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.ids import first_id_at, public_id
from postroom.model import Action, Queue
from postroom.rules.lifecycle import ACTIONS, ENDING, QUEUED_INFO, shift_of
from postroom.store import codes
from postroom.store.engine import Tx, named
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

_THEN = {"applying": "applied", "undoing": "undone", "ending": "final"}

_RANGE = "p.plan = :plan AND p.entry > :after AND p.entry <= :upto"
_BORDER = named(  # SQLite sorts an entry that is no number behind all others: LAST_ENTRY keeps it out
    "plans.border",
    "SELECT max(entry) FROM (SELECT entry FROM plan_entry WHERE plan = :plan AND entry > :after "
    f"AND entry <= {book.LAST_ENTRY} ORDER BY entry LIMIT :size)",
)
_START = named("plans.start", "UPDATE plan SET state = :state, reached = 0 WHERE id = :plan")
_START_APPLYING = named(
    "plans.start_applying",
    "UPDATE plan SET actor = :who, reason = :reason, applied = :now, undo_until = :until WHERE id = :plan",
)
_START_UNDOING = named("plans.start_undoing", "UPDATE plan SET undoer = :who WHERE id = :plan")
_WINDOW = named("plans.window", "UPDATE plan SET undo_until = :until WHERE id = :plan")
_APPLIED = named("plans.applied", "UPDATE plan SET state = 'applied' WHERE id = :plan")
_SKIP_REST = named(
    "plans.skip_rest",
    f"UPDATE plan_entry SET state = {SKIPPED}, why = {LATE} WHERE plan = :plan AND state = {PLANNED}",
)
_FINISH = named(
    "plans.finish",
    "UPDATE plan SET state = :state, finished = :now, skipped = skipped + :skipped WHERE id = :plan",
)
_MARK = named("plans.mark", "UPDATE plan_entry SET state = :state, why = :why WHERE plan = :plan AND entry = :entry")

# -- entries that are not as the plan knows them

_HELD = codes.QUEUE[Queue.HELD]
_BACK = ", ".join([str(number) for number in range(len(codes.QUEUES)) if number != _HELD])
_OTHER = (
    "e.queue <> p.{0}queue OR e.info_id <> p.{0}{1} OR e.next_attempt <> p.{0}{2} OR e.priority <> p.{0}priority "
    "OR e.attempts <> p.attempts"
)
_OTHER_THAN_FROZEN = _OTHER.format("", "info_id", "next_attempt") + " OR e.from_queue IS NOT p.from_queue"
# A damaged line of a plan must not stop the others.
_CAN_GO_BACK = (
    f"CASE p.queue WHEN {_HELD} THEN p.from_queue ELSE p.queue END IN ({_BACK}) "
    f"AND (p.queue = {_HELD}) = (p.from_queue IS NOT NULL)"
)
_OTHER_THAN_LEFT = f"{_OTHER.format('after_', 'info', 'next')} OR ({_CAN_GO_BACK}) IS NOT TRUE"


def _unlike(state: int, other: str) -> str:
    return (
        f"SELECT p.entry, CASE WHEN e.id IS NULL THEN {GONE} WHEN e.lease IS NOT NULL THEN {LEASED} ELSE {CHANGED} END "
        f"FROM plan_entry AS p LEFT JOIN entry AS e ON e.id = p.entry WHERE {_RANGE} AND p.state = {state} "
        f"AND (e.id IS NULL OR e.lease IS NOT NULL OR {other})"
    )


NOT_AS_FROZEN = named("plans.not_as_frozen", _unlike(PLANNED, _OTHER_THAN_FROZEN))
NOT_AS_LEFT = named("plans.not_as_left", _unlike(DONE, _OTHER_THAN_LEFT))
_COUNT_CHANGED = named("plans.count_changed", f"SELECT count(*) FROM ({NOT_AS_FROZEN})")

# -- what becomes of a slice


def _set(assigned: str, state: int) -> str:
    """Change the entries of a slice whose line in the plan has this state."""
    return (
        f"UPDATE entry SET {assigned} FROM plan_entry AS p WHERE {_RANGE} AND p.state = {state} AND entry.id = p.entry"
    )


def _with_names(part: str, *names: str) -> str:
    """A part of a statement that has positional values, with names in their place."""
    for name in names:
        part = part.replace("?", f":{name}", 1)
    return part


_TO_LEAVING = named("plans.to_leaving", _set("queue = :queue, from_queue = NULL, info_id = :info", PLANNED))
_RETRY = named(  # never later than it would have been
    "plans.retry", _set("next_attempt = min(entry.next_attempt, :base + p.turn * :gap)", PLANNED)
)
_HOLD = named("plans.hold", _set(_with_names(sql.HOLD_SET, "queue", "info"), PLANNED))
_RELEASE = named(
    "plans.release",
    _set(_with_names(sql.RELEASE_SET, "info", "now", "base").replace(":base", ":base + p.turn * :gap"), PLANNED),
)
_SHIFT = named("plans.shift", _set(_with_names(sql.SHIFT_SET, "queue", "priority", "info"), PLANNED))
_RESTORE = named(
    "plans.restore",
    _set(
        "queue = p.queue, from_queue = p.from_queue, priority = p.priority, info_id = p.info_id, since = p.since, "
        "next_attempt = p.next_attempt",
        DONE,
    ),
)
_EVENTS = named(
    "plans.events",
    "INSERT INTO event (entry_id, at, kind, queue, info_id, actor) SELECT p.entry, :now, :kind, e.queue, :info, :actor "
    f"FROM plan_entry AS p CROSS JOIN entry AS e ON e.id = p.entry WHERE {_RANGE} AND p.state = :state",
)
_RELEASE_LOG = named(
    "plans.release_log",
    "INSERT INTO release_log (id, entry_id, action, actor, reason, held_for, route, env_from, from_address, from_name, "
    "recipient, recipient_name, subject, size, attachment) "
    "SELECT max(coalesce((SELECT max(id) FROM release_log), 0), :first_id) + row_number() OVER (ORDER BY e.id), e.id, "
    ":action, :actor, :reason, coalesce(i.text, ''), e.route, e.env_from, e.from_address, e.from_name, e.recipient, "
    "e.recipient_name, e.subject, e.size, e.attachment "
    "FROM plan_entry AS p CROSS JOIN entry AS e ON e.id = p.entry LEFT JOIN info AS i ON i.id = e.info_id "
    f"WHERE {_RANGE} AND p.state = {PLANNED}",
)
_NOTE_LEFT = named(  # how the entries were left: what an undo compares with
    "plans.note_left",
    f"UPDATE plan_entry AS p SET state = {DONE}, after_queue = e.queue, after_priority = e.priority, "
    "after_info = e.info_id, after_next = e.next_attempt "
    f"FROM entry AS e WHERE {_RANGE} AND p.state = {PLANNED} AND e.id = p.entry",
)
_MARK_ALL = named("plans.mark_all", f"UPDATE plan_entry AS p SET state = :state WHERE {_RANGE} AND p.state = {DONE}")
_TEXTS = named(
    "plans.texts",
    "SELECT DISTINCT p.info_id, t.text FROM plan_entry AS p LEFT JOIN plan_info AS t ON t.plan = p.plan AND "
    f"t.info_id = p.info_id WHERE {_RANGE} AND p.state = {DONE}",
)
_TEXT_MOVED = named(
    "plans.text_moved",
    f"UPDATE plan_entry AS p SET info_id = :now_id WHERE {_RANGE} AND p.state = {DONE} AND p.info_id = :info",
)
_LEAVING = named(
    "plans.leaving",
    "SELECT p.entry, e.queue, e.message_id, e.attempts, e.since, p.queue, p.from_queue, e.lease FROM plan_entry AS p "
    f"LEFT JOIN entry AS e ON e.id = p.entry WHERE {_RANGE} AND p.state = {DONE} ORDER BY p.entry",
)


class PlanRefused(PeerError):
    """The plan is not in the right state; the text says in which one it is, and what can be done."""


class Step(NamedTuple):
    """What a step did. `objects`: bodies to delete once it is committed; `finished`: it was the last."""

    finished: bool
    entries: int = 0
    ended: int = 0
    objects: tuple[str, ...] = ()


def count_changed(tx: Tx, plan: int) -> int:
    """Entries that are no longer as they were frozen. On a reader."""
    return int(tx.rows(_COUNT_CHANGED, {"plan": plan, "after": 0, "upto": book.LAST_ENTRY})[0][0])


def start(
    tx: Tx, ident: int, state: str, *, of: tuple[str, ...], who: str, reason: str, now: Millis,
    window: Millis = 0,
) -> None:  # fmt: skip
    """Take a plan on: from one of the states `of` to `state`. Called again, it goes on where it stopped."""
    plan = book.read(tx, ident)
    if plan.state == state:
        return
    if plan.state not in of:
        raise PlanRefused(f"plan {public_id(ident)} is {plan.state}: expected {' or '.join(of)}")
    if state == "undoing" and (plan.undo_until is None or now >= plan.undo_until):
        raise PlanRefused(f"plan {public_id(ident)} can no longer be undone: its window is over")
    if state == "applying" and now >= plan.expires:
        raise PlanRefused(f"plan {public_id(ident)} has expired: make it anew, the queue has moved since")
    tx.run(_START, {"state": state, "plan": ident})
    if state == "applying":
        values = {"who": who, "reason": reason, "now": now, "until": now + window, "plan": ident}
        tx.run(_START_APPLYING, values)
        note(tx, "plan.apply", plan, who, f"begun: {plan.action}, entries: {plan.entries}: {reason}", now)
    elif state == "undoing":
        tx.run(_START_UNDOING, {"who": who, "plan": ident})
        note(tx, "plan.undo", plan, who, f"begun: {plan.action}, entries: {plan.done}: {reason}", now)


def note(tx: Tx, kind: str, plan: Plan, who: str, detail: str, now: Millis) -> None:
    audit.add(tx, at=now, actor=who, kind=kind, what=public_id(plan.id), detail=detail)


def order_of(plan: Plan, now: Millis) -> actions.Instruction:
    return actions.Instruction(plan.action, plan.actor, plan.reason, now, plan.notify)


class _Slice(NamedTuple):
    """The entries of the plan behind the one that was reached, up to and including `upto`."""

    plan: Plan
    tx: Tx
    upto: int
    last: bool  # nothing is left to do ...
    over: bool = False  # ... and the plan's state says so already

    def values(self, **more: Any) -> dict[str, Any]:
        return {"plan": self.plan.id, "after": self.plan.reached, "upto": self.upto, **more}

    def rows(self, statement: str) -> list[Any]:
        return self.tx.rows(statement, self.values())

    def run(self, statement: str, **more: Any) -> int:
        return self.tx.run(statement, self.values(**more))

    def mark(self, entry: int, state: int, why: int) -> None:
        self.tx.run(_MARK, {"state": state, "why": why, "plan": self.plan.id, "entry": entry})

    def leave_out(self, unlike: str, state: int) -> int:
        """Mark what `unlike` finds, with its reason, so that nothing more is done to it; how many."""
        found = self.rows(unlike)
        for entry, why in found:
            self.mark(entry, state, why)
        return len(found)

    def reach(self, **added: int) -> None:
        """Remember how far the plan has come, and add to its counters."""
        counted = ", ".join([f"{name} = {name} + :{name}" for name in added])
        self.run(named("plans.reach", f"UPDATE plan SET reached = :upto, {counted} WHERE id = :plan"), **added)

    def finish(self, state: str, now: Millis) -> None:
        """The last step: entries whose turn never came are skipped."""
        left = self.run(_SKIP_REST)
        self.run(_FINISH, state=state, now=now, skipped=left)


def _slice(tx: Tx, ident: int, state: str, size: int) -> _Slice:
    plan = book.read(tx, ident)
    if plan.state == _THEN[state]:  # another process has done the last of it
        return _Slice(plan, tx, plan.reached, True, True)
    if plan.state != state:
        raise PlanRefused(f"plan {public_id(ident)} is {plan.state} now: somebody else has taken it on")
    upto = tx.rows(_BORDER, {"plan": ident, "after": plan.reached, "size": size})[0][0]
    return _Slice(plan, tx, upto or plan.reached, upto is None)


# -- applying


def apply(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis, window: Millis) -> Step:
    """One slice; the undo window begins with the last one."""
    part = _slice(tx, ident, "applying", size)
    if part.over:
        return Step(True)
    plan = part.plan
    tx.run(_WINDOW, {"until": now + window, "plan": ident})
    if part.last:
        tx.run(_APPLIED, {"plan": ident})
        note(tx, "plan.apply", plan, plan.actor, f"{plan.action} done: {plan.done}, skipped: {plan.skipped}", now)
        return Step(True)
    skipped = part.leave_out(NOT_AS_FROZEN, SKIPPED)
    info, kind = _change(part, context, now)
    part.run(_EVENTS, now=now, kind=kind, info=info, actor=plan.actor, state=PLANNED)
    done = part.run(_NOTE_LEFT)
    part.reach(done=done, skipped=skipped)
    return Step(False, done + skipped)


def _change(part: _Slice, context: actions.ActionContext, now: Millis) -> tuple[int, str]:
    """Do the action to the slice; (the info, the word) for the timelines."""
    plan, tx = part.plan, part.tx
    action, base = plan.action, plan.applied or now
    info = context.infos.id(tx, order_of(plan, now).info)
    if action in ENDING:
        part.run(_TO_LEAVING, queue=codes.LEAVING, info=info)
        return info, "leaving"
    match action:
        case Action.RETRY:
            part.run(_RETRY, base=base, gap=plan.gap)
        case Action.HOLD:
            part.run(_HOLD, queue=_HELD, info=info)
        case Action.RELEASE:
            number = codes.ACTION[Action.RELEASE]
            part.run(_RELEASE_LOG, first_id=first_id_at(now), action=number, actor=plan.actor, reason=plan.reason)
            part.run(_RELEASE, info=context.infos.id(tx, QUEUED_INFO), now=now, base=base, gap=plan.gap)
        case Action.BULK | Action.UNBULK:
            queue, priority = shift_of(action)
            part.run(_SHIFT, queue=codes.QUEUE[queue], priority=codes.PRIORITY[priority], info=info)
    return info, ACTIONS[action].event


# -- undoing


def undo(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis) -> Step:
    """One slice back to where it was; an entry that has changed since is left as it is."""
    part = _slice(tx, ident, "undoing", size)
    if part.over:
        return Step(True)
    plan = part.plan
    if part.last:
        part.finish("undone", now)
        note(tx, "plan.undo", plan, plan.undoer, f"{plan.action} undone: {plan.undone}, not: {plan.kept}", now)
        return Step(True)
    kept = part.leave_out(NOT_AS_LEFT, KEPT)
    _take_texts(part, context)
    part.run(_RESTORE)
    info = context.infos.id(tx, f"Undone: {order_of(plan, now).info}")
    part.run(_EVENTS, now=now, kind="undone", info=info, actor=plan.undoer, state=DONE)
    undone = part.run(_MARK_ALL, state=UNDONE)
    part.reach(undone=undone, kept=kept)
    return Step(False, undone + kept)


def _take_texts(part: _Slice, context: actions.ActionContext) -> None:
    """The dictionary may have forgotten a text that only the plan remembers: each is added again."""
    for ident, text in part.rows(_TEXTS):
        now_id = context.infos.id(part.tx, text or "")
        if now_id != ident:
            part.run(_TEXT_MOVED, now_id=now_id, info=ident)


# -- when the undo window is over


def end(tx: Tx, context: actions.ActionContext, ident: int, size: int, now: Millis) -> Step:
    """One slice of what is to end: back to where it was, and ended there, in this transaction."""
    part = _slice(tx, ident, "ending", size)
    if part.over:
        return Step(True)
    plan = part.plan
    if part.last or plan.action not in ENDING:
        part.finish("final", now)
        if plan.action in ENDING:
            note(tx, "plan.final", plan, plan.actor, f"{plan.action} ended: {plan.ended}, not: {plan.kept}", now)
        return Step(True)
    chosen, kept = _still_leaving(part)
    objects: list[str] = []
    if chosen:
        _take_texts(part, context)
        part.run(_RESTORE)
        objects = actions.end_all(tx, context, order_of(plan, now), chosen)
        part.run(_MARK_ALL, state=ENDED)
    part.reach(ended=len(chosen), kept=kept)
    return Step(False, len(chosen) + kept, len(chosen), tuple(objects))


def _still_leaving(part: _Slice) -> tuple[list[actions.Found], int]:
    """(the entries of the slice that can be ended, how many others there were); the others are marked as kept."""
    chosen, kept = [], 0
    for entry, queue, message, attempts, since, frozen, frozen_from, lease in part.rows(_LEAVING):
        if queue == codes.LEAVING and lease is None and codes.is_placed(frozen, frozen_from):
            chosen.append(actions.Found(entry, frozen, frozen_from, None, message, attempts, since))
        else:
            part.mark(entry, KEPT, GONE if queue is None else CHANGED)
            kept += 1
    return chosen, kept
