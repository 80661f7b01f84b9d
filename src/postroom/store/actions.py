"""What a person does to entries: retry now, hold, release; pause and resume. Inside the writer's transaction.

An action on a leased entry is recorded as a request that the worker honours when its lease ends; it is refused once the
entry may be on its way to the next hop. Every action leaves an event with its actor.
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from postroom.clock import Millis
from postroom.lifecycle import QUEUED_INFO, SENDING
from postroom.model import Action, ActionReport, Queue, Scope
from postroom.store import codes, sql
from postroom.store.apply import Infos, event
from postroom.store.sqlite import fetch

HELD_INFO = "Held by a person"
SLICE = 200  # entries of one action in one transaction: about 10 ms of the writer


def act(
    connection: apsw.Connection, infos: Infos, action: Action, ids: Sequence[int], actor: str, reason: str, now: Millis
) -> ActionReport:
    """One action on some entries."""
    cursor = connection.cursor()
    done: list[int] = []
    requested: list[int] = []
    refused: list[tuple[int, str]] = []
    for ident in ids:
        rows = fetch(cursor, sql.ENTRY_STATE, (ident,))
        if not rows:
            refused.append((ident, "not in the queue: it has ended or never existed"))
            continue
        number, from_number, lease, _locked_until, info_id = rows[0]
        queue = codes.QUEUES[number]
        why = _refusal(action, queue, leased=lease is not None)
        if why:
            refused.append((ident, why))
        elif lease is not None:
            cursor.execute(sql.ENTRY_ASK, (codes.ACTION[action], ident))
            event(cursor, ident, now, "requested", number, infos.id(cursor, _info(action, reason)), actor)
            requested.append(ident)
        else:
            _apply(cursor, infos, action, ident, number, from_number, info_id, actor, reason, now)
            done.append(ident)
    return ActionReport(tuple(done), tuple(requested), tuple(refused))


def _refusal(action: Action, queue: Queue, *, leased: bool) -> str:
    held = queue is Queue.HELD
    if action is Action.RELEASE:
        return "" if held else f"not held: it is in {queue}"
    if held:
        return "held already" if action is Action.HOLD else "held: release it instead"
    if leased and action is Action.HOLD and queue in SENDING:
        return "being sent just now: it may be on its way already"
    return ""


def _info(action: Action, reason: str) -> str:
    words = {Action.HOLD: HELD_INFO, Action.RELEASE: "Released by a person", Action.RETRY: "Retry now"}[action]
    return f"{words}: {reason}" if reason else words


def _apply(
    cursor: apsw.Cursor, infos: Infos, action: Action, ident: int, number: int, from_number: int | None, info_id: int,
    actor: str, reason: str, now: Millis,
) -> None:  # fmt: skip
    text = infos.id(cursor, _info(action, reason))
    match action:
        case Action.RETRY:
            cursor.execute(sql.ENTRY_RETRY_NOW, (now, ident))
            event(cursor, ident, now, "retried", number, text, actor)
        case Action.HOLD:
            held = codes.QUEUE[Queue.HELD]
            cursor.execute(sql.ENTRY_HOLD, (held, text, ident))
            event(cursor, ident, now, "held", held, text, actor)
        case Action.RELEASE:
            assert from_number is not None
            cursor.execute(sql.ENTRY_RELEASE, (now, now, infos.id(cursor, QUEUED_INFO), ident))
            event(cursor, ident, now, "released", from_number, text, actor)


def pause(connection: apsw.Connection, scope: Scope, actor: str, now: Millis) -> bool:
    """False = it was paused already."""
    return bool(fetch(connection, sql.PAUSE_ADD, (scope.value, now, actor)))


def resume(connection: apsw.Connection, scope: Scope) -> bool:
    """False = it was not paused."""
    return bool(fetch(connection, sql.PAUSE_DROP, (scope.value,)))
