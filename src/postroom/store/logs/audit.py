"""The audit log: who came in, who was refused, who changed what. Inside the caller's transaction.

Promises: a change and its line are one transaction, so that neither is there without the other; no text is longer than
its bound. Lines about strangers are folded before they get here (`http/door/trail.py`), so that nobody can fill the
disk. Fails: what the database raises passes through; a kind that is not in the list is our bug.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from postroom.clock import MINUTE, Millis
from postroom.ids import public_id
from postroom.model import Action, ActionReport
from postroom.store.engine import Tx, named

DONE = "done"
REFUSED = "refused"
FAILED = "failed"

# kind -> what its lines say
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
_ADD = named(
    "logs.add_audit_line",
    "INSERT INTO audit (at, last, times, actor, kind, what, address, outcome, detail) "
    "VALUES (:at, :last, :times, :actor, :kind, :what, :address, :outcome, :detail) RETURNING id",
)
_AGAIN = named(
    "logs.repeat_audit_line", "UPDATE audit SET last = max(last, :last), times = times + :times WHERE id = :id"
)
_SAME = named(
    "logs.find_same_audit_line",
    "SELECT id FROM audit WHERE at > :after AND what = '' AND actor = :actor AND kind = :kind AND address = '' "
    "AND outcome = :outcome AND detail = :detail ORDER BY id DESC LIMIT 1",
)
_STEP = named(
    "logs.step_through_audit",
    "SELECT min(id), count(*) FROM (SELECT id FROM audit WHERE id < :below ORDER BY id DESC LIMIT :most)",
)
_OLD = named(
    "logs.reap_audit",
    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :most)",
)
_BORDER = named(
    "logs.find_last_kept_refusal",
    "SELECT id FROM audit WHERE outcome = 'refused' ORDER BY id DESC LIMIT 1 OFFSET :kept",
)
_OVER = named(
    "logs.trim_refusals",
    "DELETE FROM audit WHERE id IN "
    "(SELECT id FROM audit WHERE outcome = 'refused' AND id <= :border ORDER BY id LIMIT :most)",
)


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


class Noted(msgspec.Struct, frozen=True):
    """Something to be written down: `times` from `first` to `last`. `row`: the line that already says it; None: a new
    one."""

    row: int | None
    first: Millis
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
    """Write one line; its id. `kind`: one of KINDS; `times`: how often it happened from `at` to `last`. Texts are cut
    at MAX_TEXT characters."""
    assert kind in KINDS, kind
    values = {
        "at": at,
        "last": at if last is None else last,
        "times": times,
        "actor": actor[:MAX_TEXT],
        "kind": kind,
        "what": what[:MAX_TEXT],
        "address": address[:MAX_TEXT],
        "outcome": outcome[:MAX_TEXT],
        "detail": detail[:MAX_TEXT],
    }
    return int(tx.rows(_ADD, values)[0][0])


def again(tx: Tx, line: int, *, last: Millis, times: int) -> bool:
    """The same happened again. False: the line is gone."""
    return tx.run(_AGAIN, {"last": last, "times": times, "id": line}) > 0


def note(tx: Tx, noted: Sequence[Noted]) -> list[int]:
    """Write these down, each in its line if that is still there, else in a new one; the ids of the lines, in order."""
    return [_note(tx, one) for one in noted]


def _note(tx: Tx, one: Noted) -> int:
    if one.row is not None and again(tx, one.row, last=one.last, times=one.times):
        return one.row
    return add(
        tx, at=one.first, last=one.last, actor=one.actor, kind=one.kind, what=one.what, address=one.address,
        outcome=one.outcome, detail=one.detail, times=one.times,
    )  # fmt: skip


def add_part(tx: Tx, *, at: Millis, actor: str, kind: str, what: str, outcome: str, detail: str, times: int) -> None:
    """A slice of an action: joins the line of the slice before it, unless it names what it is about."""
    like = {
        "after": at - FOLDED, "actor": actor[:MAX_TEXT], "kind": kind, "outcome": outcome, "detail": detail[:MAX_TEXT]
    }  # fmt: skip
    same = [] if what else tx.rows(_SAME, like)
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
    """At most `limit` lines, newest first. `since`, `until`: in milliseconds; `actor`: a part of it, any case; `kind`:
    one of KINDS, or the group in front of its point; `before`: only lines older than the one with this id."""
    where, values = _where(since, until, actor, kind, outcome)
    border = _LAST if before is None else before
    return _between(tx, where, values, 0, border, limit)


class Page(msgspec.Struct, frozen=True):
    """Some lines, newest first. `next`: the `before` of the page that goes on; None: this is the last one."""

    lines: list[Line]
    next: int | None


def page(
    tx: Tx, *, since: Millis | None = None, until: Millis | None = None, actor: str = "",
    kind: str = "", outcome: str = "", before: int | None = None, limit: int = 100, budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Page:  # fmt: skip
    """As `list_audit` does, in at most `budget` seconds. No index leads to most of what is asked for, so it goes back
    CHUNK lines at a time. When the time is over, the page holds what was found so far, and `next` goes on from there:
    every page gets further."""
    deadline = clock() + budget
    where, values = _where(since, until, actor, kind, outcome)
    border = _LAST if before is None else before
    found: list[Line] = []
    while True:
        lowest, number = tx.rows(_STEP, {"below": border, "most": CHUNK})[0]
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
) -> tuple[list[str], dict[str, Any]]:
    where: list[str] = []
    values: dict[str, Any] = {}
    for condition, name, value in (
        ("last >= :since", "since", since),
        ("at <= :until", "until", until),
        ("outcome = :outcome", "outcome", None if outcome in ("", REFUSED) else outcome),
        ("instr(lower(actor), lower(:actor)) > 0", "actor", actor or None),
    ):
        if value is not None:
            where.append(condition)
            values[name] = value
    if outcome == REFUSED:
        where.append("outcome = 'refused'")  # in these words, or the index of them is not used
    if kind:
        where.append("(kind = :kind OR substr(kind, 1, :kind_group_length) = :kind_group)")
        values |= {"kind": kind, "kind_group_length": len(kind) + 1, "kind_group": kind + "."}
    return where, values


def _between(tx: Tx, where: list[str], values: dict[str, Any], low: int, high: int, limit: int) -> list[Line]:
    """From `low` to below `high`."""
    conditions = " AND ".join(["id >= :low", "id < :high", *where])
    text = f"SELECT {_COLUMNS} FROM audit WHERE {conditions} ORDER BY id DESC LIMIT :most"
    found = tx.rows(named("logs.list_audit", text), {"low": low, "high": high, **values, "most": limit})
    return [Line(*row) for row in found]


def reap(tx: Tx, before: Millis) -> int:
    """One small step of forgetting: lines from before, then refusals beyond their number; how many went."""
    gone = tx.run(_OLD, {"before": before, "most": SLICE})
    border = tx.row(_BORDER, {"kept": MAX_REFUSED})
    if border is not None:
        gone += tx.run(_OVER, {"border": border[0], "most": SLICE})
    return gone
