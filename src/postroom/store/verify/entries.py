"""`postroom verify` on entries: state, reason, message, copied columns, search text.

Promises: when it is unsure which mail an entry is, or what became of it, nothing is guessed: the entry is kept, held
and marked for a person. Copied columns follow the message, the search text follows the copied columns.
Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from postroom.clock import DAY, Millis
from postroom.ids import id_time, public_id
from postroom.model import Label
from postroom.rules.lifecycle import lost_lease_label
from postroom.store import codes
from postroom.store.damage import ENDED_BEFORE, INFO_LOST, MISPLACED, RESTORED_STATE, UNREADABLE
from postroom.store.engine import Tx, named
from postroom.store.fold import search_text
from postroom.store.verify.rows import (
    BACK,
    HELD,
    LABELS,
    Column,
    Finding,
    Ground,
    Mending,
    Row,
    TableCheck,
    as_text,
    assignments,
    entry_state,
    hold_entry,
    marked,
    plain,
    put_right,
    read_rows,
)

FAR = 400 * DAY  # no schedule and no lease reaches further

STATE = (
    "queue", "from_queue", "route", "priority", "attempts", "since", "next_attempt", "locked_until", "lease", "strikes",
    "label", "request",
)  # fmt: skip
TEXTS = ("recipient", "recipient_name", "waived")
COPIED = ("env_from", "from_address", "from_name", "to_header", "subject", "remote_ip", "size", "attachment")
_MAY_BE_NULL = frozenset({"from_queue", "locked_until", "lease", "request"})


def _copied(table: str, *, null: bool = False) -> tuple[Column, ...]:
    return tuple([Column(f"{table}.{name}", int if name in ("size", "attachment") else str, null) for name in COPIED])


_COLUMNS = (
    Column("e.id"), Column("e.message_id"), Column("m.id", null=True), Column("h.id", null=True),
    Column("i.text", str, null=True),
    Column("CASE WHEN e.id = m.id THEN e.id ELSE (SELECT max(id) FROM message WHERE id <= e.id) END", null=True),
    *[Column(f"e.{name}", null=name in _MAY_BE_NULL) for name in STATE],
    *[Column(f"e.{name}", str) for name in TEXTS], Column("e.search", str), *_copied("e"), *_copied("m", null=True),
)  # fmt: skip
_TAIL = (
    "FROM entry AS e LEFT JOIN message AS m ON m.id = e.message_id LEFT JOIN history AS h ON h.id = e.id "
    "LEFT JOIN info AS i ON i.id = e.info_id WHERE e.id BETWEEN :first AND :last ORDER BY e.id"
)


class _Entry(NamedTuple):
    """A row, divided into its parts."""

    id: int
    named: int  # its message_id
    message: int | None  # the same, when that message is there
    ended: int | None  # its own id, when it is in the history as well
    info: str | None
    owner: int | None  # the message it was accepted with: the last one that is not younger
    state: dict[str, Any]
    texts: tuple[str, ...]  # TEXTS
    search: str
    copies: tuple[Any, ...]  # COPIED, in the entry
    right: tuple[Any, ...]  # COPIED, in the message
    broken: frozenset[str]  # columns of the entry that hold what they must not; in `state` they are 0

    def stored(self, name: str) -> Any:
        return "unreadable" if name in self.broken else self.state[name]


def _entries(tx: Tx, first: int, last: int) -> list[_Entry]:
    return [_entry(row) for row in read_rows(tx, _COLUMNS, _TAIL, {"first": first, "last": last})]


_TEXTS_AT = 6 + len(STATE)
_SEARCH_AT = _TEXTS_AT + len(TEXTS)
_COPIES_AT = _SEARCH_AT + 1
_RIGHT_AT = _COPIES_AT + len(COPIED)


def _entry(row: Row) -> _Entry:
    values = row.values
    ident, message_id, message, ended, info, owner = values[:6]
    broken = [_COLUMNS[number].expression for number in row.broken]
    return _Entry(
        ident, message_id, message, ended, info, owner, dict(zip(STATE, values[6:_TEXTS_AT], strict=True)),
        values[_TEXTS_AT:_SEARCH_AT], values[_SEARCH_AT], values[_COPIES_AT:_RIGHT_AT], values[_RIGHT_AT:],
        frozenset([name.removeprefix("e.") for name in broken if name.startswith("e.")]),
    )  # fmt: skip


class Entries(TableCheck):
    name = "entries"
    table = "entry"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [finding for entry in _entries(tx, first, last) for finding in _look(entry, ground)]

    def mend(self, mending: Mending, finding: Finding) -> str:
        return _MENDS[finding.kind](mending, finding)


def _look(entry: _Entry, ground: Ground) -> list[Finding]:
    found: list[Finding] = []

    def add(kind: str, what: str, mark: bool = False) -> None:
        found.append(Finding(kind, entry.id, what, noted=mark and marked(entry.state["queue"], entry.info)))

    if fixes := _fixes(entry, ground.now):
        add("entry-state", plain({name: entry.stored(name) for name in fixes}))
    if bad := [name for name in TEXTS if name in entry.broken]:
        add("entry-text", f"not readable as text: {', '.join(bad)}")
    if entry.info is None:
        add("entry-info", "its reason is not in the dictionary")
    if entry.ended is not None:
        add("entry-ended", "in the queue and in the history")
    right = entry.right
    if entry.message is None:
        add("entry-message", f"its message {public_id(entry.named)} is not there", mark=True)
        right = entry.copies
    elif entry.owner != entry.named:
        what = f"it names message {public_id(entry.named)}, accepted was it with {_shown(entry.owner)}"
        add("entry-foreign", what, mark=True)
        right = entry.copies
    elif entry.copies != right or entry.broken.intersection(COPIED):
        both = zip(COPIED, entry.copies, right, strict=True)
        add("entry-copies", f"not as in its message: {plain({name: mine for name, mine, its in both if mine != its})}")
    if "search" in entry.broken or entry.search != _search_of(entry, right):
        add("entry-search", "its search text is not that of its fields")
    return found


def _shown(ident: int | None) -> str:
    return "none that is there" if ident is None else public_id(ident)


def _search_of(entry: _Entry, copies: tuple[Any, ...]) -> str:
    env_from, from_address, from_name, to_header, subject, remote_ip, _size, _attachment = copies
    recipient, recipient_name, _waived = entry.texts
    return search_text(env_from, from_address, from_name, recipient, recipient_name, to_header, subject, remote_ip)


# -- what is possible in the state of an entry


class _Rule(NamedTuple):
    possible: Callable[[Any, Millis], bool]  # (the value, the last possible time)
    right: Callable[[Any, int, Millis], Any]  # (the value, the entry's id, now): what takes its place


def _below(bound: int) -> Callable[[Any, Millis], bool]:
    return lambda value, last: 0 <= value < bound


def _is_time(value: Any, last: Millis) -> bool:
    return bool(0 < value <= last)


def _always(right: Any) -> Callable[[Any, int, Millis], Any]:
    return lambda value, ident, now: right


_RULES = {
    "route": _Rule(_below(len(codes.ROUTES)), _always(len(codes.ROUTES) - 1)),
    "priority": _Rule(_below(len(codes.PRIORITIES)), _always(0)),
    "attempts": _Rule(_below(codes.MOST), _always(0)),
    "strikes": _Rule(_below(codes.MOST), _always(0)),
    "label": _Rule(lambda value, last: value == value & LABELS, lambda value, ident, now: max(value, 0) & LABELS),
    "request": _Rule(lambda value, last: value is None or 0 <= value < len(codes.ACTIONS), _always(None)),
    "since": _Rule(_is_time, lambda value, ident, now: min(id_time(ident), now)),
    "next_attempt": _Rule(_is_time, lambda value, ident, now: now),
}


def _fixes(entry: _Entry, now: Millis) -> dict[str, Any]:
    """What is wrong in the state of an entry: column -> the value that is right."""
    broken, last = entry.broken, now + FAR
    state = entry.state | dict.fromkeys(broken & _MAY_BE_NULL) if broken else entry.state
    fixes = _queue_fixes(state, broken)
    for name, (possible, right) in _RULES.items():
        if name in broken or not possible(state[name], last):
            fixes[name] = right(state[name], entry.id, now)
    fixes.update(_lease_fixes(state, broken, last))
    return fixes


def _queue_fixes(state: dict[str, Any], broken: frozenset[str]) -> dict[str, Any]:
    """Held mail knows the queue that it goes back to; other mail has none."""
    queue, back = state["queue"], state["from_queue"]
    if "queue" in broken or not (0 <= queue < len(codes.QUEUES) or queue == codes.LEAVING):
        return {"queue": HELD, "from_queue": back if back in BACK else 0}
    if queue == HELD:
        return {} if back in BACK else {"from_queue": 0}
    return {} if back is None and "from_queue" not in broken else {"from_queue": None}


def _lease_fixes(state: dict[str, Any], broken: frozenset[str], last: Millis) -> dict[str, Any]:
    """A lease has its end, and there is no end without a lease."""
    until, lease = state["locked_until"], state["lease"]
    possible = lease is None if until is None else lease is not None and _is_time(until, last)
    return {} if possible and not broken & {"locked_until", "lease"} else {"locked_until": None, "lease": None}


# -- mending

_TEXTS_STORED = named(
    "verify.entry_texts",
    f"SELECT {', '.join([f'CAST({name} AS BLOB)' for name in TEXTS])} FROM entry WHERE id = :entry",
)
_TEXTS_SET = named("verify.entry_set_texts", f"UPDATE entry SET {assignments(TEXTS)} WHERE id = :entry")
_INFO_SET = named("verify.entry_set_info", "UPDATE entry SET info_id = :info WHERE id = :entry")
_ENDED = named("verify.entry_ended", "SELECT CAST(outcome AS TEXT), CAST(reply AS BLOB) FROM history WHERE id = :entry")
_ENDED_DROP = named("verify.drop_history", "DELETE FROM history WHERE id = :entry")
_MESSAGE_SET = named("verify.entry_set_message", "UPDATE entry SET message_id = :message WHERE id = :entry")
_COPY_AGAIN = named(
    "verify.entry_copy_again",
    f"UPDATE entry SET ({', '.join(COPIED)}) = (SELECT {', '.join(COPIED)} FROM message WHERE id = entry.message_id) "
    "WHERE id = :entry",
)
_SEARCH_SET = named("verify.entry_set_search", "UPDATE entry SET search = :search WHERE id = :entry")


def _mend_state(mending: Mending, finding: Finding) -> str:
    (entry,) = _entries(mending.tx, finding.id, finding.id)
    fixes = _fixes(entry, mending.ground.now)
    queue, lease, label = entry.state["queue"], entry.state["lease"], entry.state["label"]
    if "lease" not in fixes:  # an impossible lease must not keep the entry from being mended
        entry_state(mending, finding.id)
    if lease is not None:
        known, born = 0 <= queue < len(codes.QUEUES), lease == finding.id
        added = lost_lease_label(codes.QUEUES[queue], born=born) if known else 0
        fixes.update(
            lease=None, locked_until=None, request=None, label=fixes.get("label", label) | added,
            next_attempt=mending.ground.now,
        )  # fmt: skip
    unsure = bool({"queue", "route"} & fixes.keys()) or fixes.get("from_queue") is not None
    before = {name: entry.stored(name) for name in fixes}
    mending.tx.run(f"UPDATE entry SET {assignments(fixes)} WHERE id = :id", {**fixes, "id": finding.id})
    put_right(mending, finding.id, fixes.get("queue", queue), f"State put right; stored was {plain(before)}")
    if unsure:
        hold_entry(mending, finding.id, RESTORED_STATE)
        return "put right, and held for a person"
    return "put right"


def _mend_text(mending: Mending, finding: Finding) -> str:
    """Its recipient is no longer certain: what can be read of it is kept, and a person decides."""
    entry_state(mending, finding.id)
    ((*stored,),) = mending.tx.rows(_TEXTS_STORED, {"entry": finding.id})
    texts = {name: as_text(value)[0] for name, value in zip(TEXTS, stored, strict=True)}
    mending.tx.run(_TEXTS_SET, {**texts, "entry": finding.id})
    hold_entry(mending, finding.id, RESTORED_STATE)
    return "what can be read is kept; held for a person"


def _mend_info(mending: Mending, finding: Finding) -> str:
    info = mending.infos.id(mending.tx, INFO_LOST)
    mending.tx.run(_INFO_SET, {"info": info, "entry": finding.id})
    return f"its reason is now {INFO_LOST!r}"


def _mend_ended(mending: Mending, finding: Finding) -> str:
    queue, _, _ = entry_state(mending, finding.id)
    ((outcome, reply),) = mending.tx.rows(_ENDED, {"entry": finding.id})
    word = codes.OUTCOMES[int(outcome)].value if outcome.isdecimal() and int(outcome) < len(codes.OUTCOMES) else outcome
    text = f"The history had it as {word}: {as_text(reply)[0]}"
    put_right(mending, finding.id, queue if 0 <= queue < len(codes.QUEUES) else HELD, text)
    mending.tx.run(_ENDED_DROP, {"entry": finding.id})
    hold_entry(mending, finding.id, ENDED_BEFORE, label=int(Label.MAYBE_DELIVERED))
    return f"held for a person, labelled; the history's row ({word}) became a line of its timeline"


def _mend_message(mending: Mending, finding: Finding) -> str:
    hold_entry(mending, finding.id, UNREADABLE)
    return "held for a person, marked"


def _mend_foreign(mending: Mending, finding: Finding) -> str:
    """Ids of one message follow each other, so the message it was accepted with is known. It gets that message back
    only when all copied columns agree: the wrong mail must not reach anybody."""
    entry_state(mending, finding.id)
    (entry,) = _entries(mending.tx, finding.id, finding.id)
    owner = entry.owner
    if owner is not None:
        its = read_rows(mending.tx, _copied("m"), "FROM message AS m WHERE m.id = :message", {"message": owner})
        if its and not its[0].broken and its[0].values == entry.copies:
            mending.tx.run(_MESSAGE_SET, {"message": owner, "entry": finding.id})
            return f"names its own message {public_id(owner)} again"
    hold_entry(mending, finding.id, MISPLACED)
    return "held for a person, marked"


def _mend_copies(mending: Mending, finding: Finding) -> str:
    mending.tx.run(_COPY_AGAIN, {"entry": finding.id})
    return "copied from its message again"


def _mend_search(mending: Mending, finding: Finding) -> str:
    """From the fields as they are now; the repair of a finding before this one may have changed them."""
    (entry,) = _entries(mending.tx, finding.id, finding.id)
    mending.tx.run(_SEARCH_SET, {"search": _search_of(entry, entry.copies), "entry": finding.id})
    return "written again from its fields"


_MENDS = {
    "entry-state": _mend_state,
    "entry-text": _mend_text,
    "entry-info": _mend_info,
    "entry-ended": _mend_ended,
    "entry-message": _mend_message,
    "entry-foreign": _mend_foreign,
    "entry-copies": _mend_copies,
    "entry-search": _mend_search,
}
