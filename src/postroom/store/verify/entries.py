"""Entries, as `postroom verify` looks at them: state, reason, message, copies, search text.

Promises: what makes it unsure which mail an entry is, or what had become of it, is never put right by guessing: the entry is
kept, held and marked for a person. Copies follow the message, the search text follows the copies. Fails: apsw errors pass through.
"""

from __future__ import annotations

from typing import Any

from postroom.clock import DAY
from postroom.ids import id_time, public_id
from postroom.model import Label
from postroom.rules.lifecycle import lost_lease_label
from postroom.store import codes
from postroom.store.damage import ENDED_BEFORE, INFO_LOST, MISPLACED, RESTORED_STATE, UNREADABLE
from postroom.store.engine import Tx
from postroom.store.fold import search_text
from postroom.store.verify.rows import (
    BACK,
    HELD,
    Column,
    Finding,
    Ground,
    Mending,
    Row,
    TableCheck,
    as_text,
    entry_state,
    hold_entry,
    marked,
    plain,
    put_right,
    read_rows,
)

FAR = 400 * DAY  # no schedule and no lease reaches further
LABELS = int(Label.MAYBE_DELIVERED | Label.SUSPECT)

COPIED = ("env_from", "from_address", "from_name", "to_header", "subject", "remote_ip", "size", "attachment")
TEXTS = ("recipient", "recipient_name", "waived")
_STATE = (
    Column("e.queue"), Column("e.from_queue", null=True), Column("e.route"), Column("e.priority"), Column("e.attempts"),
    Column("e.since"), Column("e.next_attempt"), Column("e.locked_until", null=True), Column("e.lease", null=True),
    Column("e.strikes"), Column("e.label"), Column("e.request", null=True),
)  # fmt: skip


def _copied(table: str, *, null: bool = False) -> tuple[Column, ...]:
    return tuple([Column(f"{table}.{name}", int if name in ("size", "attachment") else str, null) for name in COPIED])


# Where the parts of a row begin
_COLUMNS = (
    Column("e.id"), Column("e.message_id"), Column("m.id", null=True), Column("h.id", null=True),
    Column("i.text", str, null=True),
    Column("CASE WHEN e.id = m.id THEN e.id ELSE (SELECT max(id) FROM message WHERE id <= e.id) END", null=True),
    *_STATE, *[Column(f"e.{name}", str) for name in TEXTS], Column("e.search", str), *_copied("e"),
    *_copied("m", null=True),
)  # fmt: skip
_STATE_AT = 6
_TEXTS_AT = _STATE_AT + len(_STATE)
_SEARCH_AT = _TEXTS_AT + len(TEXTS)
_COPIES_AT = _SEARCH_AT + 1
_RIGHT_AT = _COPIES_AT + len(COPIED)
_TAIL = (
    "FROM entry AS e LEFT JOIN message AS m ON m.id = e.message_id LEFT JOIN history AS h ON h.id = e.id "
    "LEFT JOIN info AS i ON i.id = e.info_id WHERE e.id BETWEEN ? AND ? ORDER BY e.id"
)


class Entries(TableCheck):
    name = "entries"
    table = "entry"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found: list[Finding] = []
        for row in read_rows(tx, _COLUMNS, _TAIL, (first, last)):
            found += _look(row, ground)
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        return _MENDS[finding.kind](mending, finding)


def _look(row: Row, ground: Ground) -> list[Finding]:
    values, broken = row
    ident, named, message, ended, info, owner = values[:_STATE_AT]
    queue = values[_STATE_AT]
    found: list[Finding] = []

    def add(kind: str, what: str, mark: bool = False) -> None:
        found.append(Finding(kind, ident, what, noted=mark and marked(queue, info)))

    if fixes := _fixes(row, ground):
        add("entry-state", plain({name: _stored(row, name) for name in fixes}))
    if bad := [TEXTS[number - _TEXTS_AT] for number in broken if _TEXTS_AT <= number < _SEARCH_AT]:
        add("entry-text", f"not readable as text: {', '.join(bad)}")
    if info is None:
        add("entry-info", "its reason is not in the dictionary")
    if ended is not None:
        add("entry-ended", "in the queue and in the history")
    copies, right = values[_COPIES_AT:_RIGHT_AT], values[_RIGHT_AT:]
    if message is None:
        add("entry-message", f"its message {public_id(named)} is not there", mark=True)
        right = copies
    elif owner != named:
        add("entry-foreign", f"it names message {public_id(named)}, accepted was it with {_shown(owner)}", mark=True)
        right = copies
    elif copies != right or any(_COPIES_AT <= number < _RIGHT_AT for number in broken):
        names = [name for name, mine, its in zip(COPIED, copies, right, strict=True) if mine != its]
        differing = {name: copies[COPIED.index(name)] for name in names}
        add("entry-copies", f"not as in its message: {plain(differing)}")
    if values[_SEARCH_AT] != _search_of(values, right) or _SEARCH_AT in broken:
        add("entry-search", "its search text is not that of its fields")
    return found


def _shown(ident: int | None) -> str:
    return "none that is there" if ident is None else public_id(ident)


def _search_of(values: tuple[Any, ...], copies: tuple[Any, ...]) -> str:
    env_from, from_address, from_name, to_header, subject, remote_ip, _size, _attachment = copies
    recipient, recipient_name = values[_TEXTS_AT : _TEXTS_AT + 2]
    return search_text(env_from, from_address, from_name, recipient, recipient_name, to_header, subject, remote_ip)


def _stored(row: Row, name: str) -> Any:
    number = next(at for at, column in enumerate(_COLUMNS) if column.expression == f"e.{name}")
    return "unreadable" if number in row.broken else row.values[number]


def _fixes(row: Row, ground: Ground) -> dict[str, Any]:
    """What is wrong in the state of an entry, as the values that are right."""
    state = row.values[_STATE_AT:_TEXTS_AT]
    (queue, back, route, priority, attempts, since, at, until, lease, strikes, label, request) = state
    far = ground.now + FAR
    fixes: dict[str, Any] = {}
    for number in row.broken:
        if _STATE_AT <= number < _TEXTS_AT:
            column = _COLUMNS[number]
            fixes[column.expression.removeprefix("e.")] = None if column.null else 0
    if not (0 <= queue < len(codes.QUEUES) or queue == codes.LEAVING) or "queue" in fixes:
        fixes.update(queue=HELD, from_queue=back if back in BACK else 0)
    elif queue == HELD:
        if back not in BACK:
            fixes["from_queue"] = 0
    elif back is not None:
        fixes["from_queue"] = None
    if not 0 <= route < len(codes.ROUTES) or "route" in fixes:
        fixes["route"] = codes.ROUTES.index(codes.ROUTES[-1])
    if not 0 <= priority < len(codes.PRIORITIES):
        fixes["priority"] = 0
    if not 0 <= attempts < 1 << 31:
        fixes["attempts"] = 0
    if not 0 <= strikes < 1 << 31:
        fixes["strikes"] = 0
    if label & ~LABELS or label < 0:
        fixes["label"] = label & LABELS if label >= 0 else 0
    if request is not None and not 0 <= request < len(codes.ACTIONS):
        fixes["request"] = None
    if not 0 < since <= far or "since" in fixes:
        fixes["since"] = min(id_time(row.values[0]), ground.now)
    if not 0 < at <= far or "next_attempt" in fixes:
        fixes["next_attempt"] = ground.now
    if (until is None) != (lease is None) or (until is not None and not 0 < until <= far):
        fixes.update(locked_until=None, lease=None)
    return fixes


# -- mending


def _mend_state(mending: Mending, finding: Finding) -> str:
    (row,) = read_rows(mending.tx, _COLUMNS, _TAIL, (finding.id, finding.id))
    fixes = _fixes(row, mending.ground)
    lease = row.values[_STATE_AT + 8]
    if "lease" not in fixes:  # a lease that cannot be one keeps nobody from mending it
        entry_state(mending, finding.id)
    if lease is not None:
        queue = row.values[_STATE_AT]
        label = lost_lease_label(codes.QUEUES[queue], born=lease == finding.id) if 0 <= queue < len(codes.QUEUES) else 0
        old = fixes.get("label", row.values[_STATE_AT + 10])
        fixes.update(lease=None, locked_until=None, request=None, label=old | label, next_attempt=mending.ground.now)
    unsure = bool({"queue", "route"} & fixes.keys()) or fixes.get("from_queue") is not None
    before = {name: _stored(row, name) for name in fixes}
    mending.run(
        f"UPDATE entry SET {', '.join([f'{name} = ?' for name in fixes])} WHERE id = ?", *fixes.values(), finding.id
    )
    queue = fixes.get("queue", row.values[_STATE_AT])
    put_right(mending, finding.id, queue, f"State put right; stored was {plain(before)}")
    if unsure:
        hold_entry(mending, finding.id, RESTORED_STATE)
        return "put right, and held for a person"
    return "put right"


def _mend_text(mending: Mending, finding: Finding) -> str:
    """Which recipient it was can no longer be said for sure: what is left of it is kept, and a person decides."""
    entry_state(mending, finding.id)
    stored = mending.run(
        f"SELECT {', '.join([f'CAST({name} AS BLOB)' for name in TEXTS])} FROM entry WHERE id = ?", finding.id
    )[0]
    texts = [as_text(value)[0] for value in stored]
    mending.run(
        "UPDATE entry SET recipient = ?, recipient_name = ?, waived = ? WHERE id = ?", *texts, finding.id
    )  # fmt: skip
    hold_entry(mending, finding.id, RESTORED_STATE)
    return "what can be read is kept; held for a person"


def _mend_info(mending: Mending, finding: Finding) -> str:
    info = mending.infos.id(mending.tx, INFO_LOST)
    mending.run("UPDATE entry SET info_id = ? WHERE id = ?", info, finding.id)
    return f"its reason is now {INFO_LOST!r}"


def _mend_ended(mending: Mending, finding: Finding) -> str:
    queue, _, _ = entry_state(mending, finding.id)
    outcome, reply = mending.run(
        "SELECT CAST(outcome AS TEXT), CAST(reply AS BLOB) FROM history WHERE id = ?", finding.id
    )[0]
    word = codes.OUTCOMES[int(outcome)].value if outcome.isdecimal() and int(outcome) < len(codes.OUTCOMES) else outcome
    told = f"The history had it as {word}: {as_text(reply)[0]}"
    put_right(mending, finding.id, queue if 0 <= queue < len(codes.QUEUES) else HELD, told)
    mending.run("DELETE FROM history WHERE id = ?", finding.id)
    hold_entry(mending, finding.id, ENDED_BEFORE, label=int(Label.MAYBE_DELIVERED))
    return f"held for a person, labelled; the history's row ({word}) became a line of its timeline"


def _mend_message(mending: Mending, finding: Finding) -> str:
    hold_entry(mending, finding.id, UNREADABLE)
    return "held for a person, marked"


def _mend_foreign(mending: Mending, finding: Finding) -> str:
    """The message it was accepted with is the last one that is not younger: ids of one message follow each other. It is
    taken back there only when nothing speaks against it, for the wrong mail must not reach anybody."""
    entry_state(mending, finding.id)
    (row,) = read_rows(mending.tx, _COLUMNS, _TAIL, (finding.id, finding.id))
    owner = row.values[5]
    if owner is not None:
        its = read_rows(mending.tx, _copied("m"), "FROM message AS m WHERE m.id = ?", (owner,))
        if its and not its[0].broken and its[0].values == row.values[_COPIES_AT:_RIGHT_AT]:
            mending.run("UPDATE entry SET message_id = ? WHERE id = ?", owner, finding.id)
            return f"names its own message {public_id(owner)} again"
    hold_entry(mending, finding.id, MISPLACED)
    return "held for a person, marked"


def _mend_copies(mending: Mending, finding: Finding) -> str:
    columns = ", ".join(COPIED)
    mending.run(
        f"UPDATE entry SET ({columns}) = (SELECT {columns} FROM message WHERE id = entry.message_id) WHERE id = ?",
        finding.id,
    )
    return "copied from its message again"


def _mend_search(mending: Mending, finding: Finding) -> str:
    """From the fields as they stand now; a finding before this one may have put them right."""
    (row,) = read_rows(mending.tx, _COLUMNS, _TAIL, (finding.id, finding.id))
    text = _search_of(row.values, row.values[_COPIES_AT:_RIGHT_AT])
    mending.run("UPDATE entry SET search = ? WHERE id = ?", text, finding.id)
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
