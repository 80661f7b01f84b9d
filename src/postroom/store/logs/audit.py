"""The audit log: who came in, who was refused, who changed what. Inside the writer's transaction.

Promises: a change and its line are one transaction, so that neither is there without the other; no text is longer than its
bound. What comes from strangers is folded before it gets here (`http.trail`), so that nobody can fill the disk. Fails: apsw
errors pass through; a kind that is not in the list is our bug.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from postroom.clock import MINUTE, Millis
from postroom.ids import public_id
from postroom.model import Action, ActionReport
from postroom.store.engine import Tx

DONE = "done"
REFUSED = "refused"
FAILED = "failed"

# kind -> what a line of it tells
KINDS: dict[str, str] = {
    "login": "Somebody logged in, or tried to: to the console, or over the API for keys.",
    "logout": "Somebody left the console.",
    "token": "An application asked for an OAuth token.",
    "call": "A call of the API that was refused, or one that changes something.",
    "app.create": "A new application.",
    "app.revoke": "An application whose keys no longer work.",
    "user.create": "A new person.",
    "user.password": "A new password; sessions and keys made with the old one have ended.",
    "user.disable": "A person who may no longer log in.",
    "user.enable": "A person who may log in again.",
    "user.delete": "A person who is gone.",
    "role.create": "A new role.",
    "role.limit": "Another number of entries that a plan of this role may have.",
    "role.permit": "Permissions that a role did not hold before.",
    "role.forbid": "Permissions that a role no longer holds.",
    "queue.pause": "A stage was paused.",
    "queue.resume": "A stage goes on.",
    "entries.retry": "Entries were made due at once.",
    "entries.hold": "Entries were held.",
    "entries.release": "Held entries were released.",
    "entries.reject": "Entries were rejected.",
    "entries.bounce": "Entries were returned to their senders.",
    "entries.delete": "Entries were deleted.",
    "entries.bulk": "Entries were moved to bulk_processing.",
    "entries.unbulk": "Entries were moved back to processing.",
    "plan.apply": "A plan was applied: what, to how many, with which result.",
    "plan.undo": "A plan was undone.",
    "plan.discard": "A plan was thrown away before anybody applied it.",
    "plan.final": "The undo window of a plan is over: what it ends has ended.",
    "store.backup": "A backup was made.",
    "store.restore": "The store was restored from a backup.",
    "store.repair": "Damage in the store was repaired.",
    "settings.reload": "Settings, or files that they name, were read again.",
}

MAX_TEXT = 400  # characters of each field
MAX_REFUSED = 100_000  # lines about refusals; older ones go before their time
SLICE = 500  # lines of one step of forgetting
CHUNK = 5_000  # lines of one step of a search: a few milliseconds
BUDGET = 0.5  # seconds of one page
FOLDED = MINUTE  # a large action comes in slices: within this they are one line

_LAST = (1 << 63) - 1
_COLUMNS = "id, at, last, times, actor, kind, what, address, outcome, detail"
_ADD = (
    "INSERT INTO audit (at, last, times, actor, kind, what, address, outcome, detail) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"
)
_AGAIN = "UPDATE audit SET last = max(last, ?), times = times + ? WHERE id = ? RETURNING id"
_SAME = (
    "SELECT id FROM audit WHERE at > ? AND what = '' AND actor = ? AND kind = ? AND address = ? AND outcome = ? AND detail = ? "
    "ORDER BY id DESC LIMIT 1"
)
_STEP = "SELECT min(id), count(*) FROM (SELECT id FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?)"
_OLD = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?)"
_BORDER = "SELECT id FROM audit WHERE outcome = 'refused' ORDER BY id DESC LIMIT 1 OFFSET ?"
_OVER = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE outcome = 'refused' AND id <= ? ORDER BY id LIMIT ?)"


class Line(msgspec.Struct, frozen=True):
    """One line of the log. `times` > 1: the same happened so often from `at` to `last`."""

    id: int
    at: Millis
    last: Millis
    times: int
    actor: str
    kind: str
    what: str
    address: str
    outcome: str
    detail: str


def add(
    tx: Tx, *, at: Millis, actor: str, kind: str, what: str = "", address: str = "",
    outcome: str = DONE, detail: str = "", times: int = 1, last: Millis | None = None,
) -> int:  # fmt: skip
    """One more line; its id."""
    assert kind in KINDS, kind
    texts = [text[:MAX_TEXT] for text in (actor, kind, what, address, outcome, detail)]
    return int(tx.rows(_ADD, (at, at if last is None else last, times, *texts))[0][0])


def again(tx: Tx, line: int, *, last: Millis, times: int) -> bool:
    """The same happened again. False: the line is gone."""
    return bool(tx.rows(_AGAIN, (last, times, line)))


def add_part(tx: Tx, *, at: Millis, actor: str, kind: str, what: str, outcome: str, detail: str, times: int) -> None:
    """A slice of an action: joins the line of the slice before it. A line that names what it is about stands alone."""
    same = [] if what else tx.rows(_SAME, (at - FOLDED, actor[:MAX_TEXT], kind, "", outcome, detail[:MAX_TEXT]))
    if not same or not again(tx, same[0][0], last=at, times=times):
        add(tx, at=at, actor=actor, kind=kind, what=what, outcome=outcome, detail=detail, times=times)


def add_acted(tx: Tx, action: Action, report: ActionReport, *, at: Millis, actor: str, reason: str) -> None:
    """A slice of an action on entries: one line for those it was done to or asked for, one for those refused."""
    for outcome, ids in (
        (DONE, [*report.done, *report.requested]),
        (REFUSED, [ident for ident, _ in report.refused]),
    ):
        if ids:
            what = public_id(ids[0]) if len(ids) == 1 else ""
            add_part(
                tx, at=at, actor=actor, kind=f"entries.{action.value}", what=what, outcome=outcome,
                detail=reason, times=len(ids),
            )  # fmt: skip


def read(
    tx: Tx, *, since: Millis | None = None, until: Millis | None = None, actor: str = "",
    kind: str = "", outcome: str = "", before: int | None = None, limit: int = 100,
) -> list[Line]:  # fmt: skip
    """Newest first. `actor`: a part of it; `kind`: one, or the group in front of its point; `before`: older than this line."""
    where, values = _where(since, until, actor, kind, outcome)
    border = _LAST if before is None else before
    return _between(tx, where, values, 0, border, limit)


class Page(msgspec.Struct, frozen=True):
    """`next`: the `before` of the page that goes on; None = there is none."""

    lines: list[Line]
    next: int | None


def page(
    tx: Tx, *, since: Millis | None = None, until: Millis | None = None, actor: str = "",
    kind: str = "", outcome: str = "", before: int | None = None, limit: int = 100, budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Page:  # fmt: skip
    """As `read`, within a bounded time: no index leads to most of what is asked, so it goes back CHUNK lines at a time. When the
    time is over, the page holds what was found so far, and `next` goes on from there: every page gets further."""
    deadline = clock() + budget
    where, values = _where(since, until, actor, kind, outcome)
    border = _LAST if before is None else before
    found: list[Line] = []
    while True:
        lowest, number = tx.rows(_STEP, (border, CHUNK))[0]
        if number:
            found += _between(tx, where, values, lowest, border, limit + 1 - len(found))
            border = lowest
        if len(found) > limit:
            return Page(found[:limit], found[limit - 1].id)
        if number < CHUNK:
            return Page(found, None)
        if clock() >= deadline:
            return Page(found, border)


def _where(
    since: Millis | None, until: Millis | None, actor: str, kind: str, outcome: str
) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("last >= ?", since), ("at <= ?", until), ("outcome = ?", None if outcome in ("", REFUSED) else outcome),
        ("instr(lower(actor), lower(?)) > 0", actor or None),
    ):  # fmt: skip
        if value is not None:
            where.append(condition)
            values.append(value)
    if outcome == REFUSED:
        where.append("outcome = 'refused'")  # in these words, or the index of them is not used
    if kind:
        where.append("(kind = ? OR substr(kind, 1, ?) = ?)")
        values += [kind, len(kind) + 1, kind + "."]
    return where, values


def _between(tx: Tx, where: list[str], values: list[Any], low: int, high: int, limit: int) -> list[Line]:
    """From `low` to below `high`."""
    conditions = " AND ".join(["id >= ?", "id < ?", *where])
    statement = f"SELECT {_COLUMNS} FROM audit WHERE {conditions} ORDER BY id DESC LIMIT ?"
    return [Line(*row) for row in tx.rows(statement, (low, high, *values, limit))]


def reap(tx: Tx, before: Millis) -> int:
    """One small step of forgetting: lines from before, then refusals beyond their number; how many went."""
    gone = tx.run(_OLD, (before, SLICE))
    border = tx.row(_BORDER, (MAX_REFUSED,))
    if border is not None:
        gone += tx.run(_OVER, (border[0], SLICE))
    return gone
