"""`postroom verify` on the tables beside the queue: events, history, reasons, pauses, ledger.

Promises: the ledger is never made to agree silently. A repair writes the difference to an account of its own,
`correction`, under the process life of the repair, and reports it. Fails: database errors pass through.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.ids import id_time
from postroom.model import Scope
from postroom.rules.lifecycle import EVENTS
from postroom.store import codes, timeline
from postroom.store.damage import INFO_LOST
from postroom.store.engine import Tx, named
from postroom.store.fold import fold
from postroom.store.queue import statements as sql
from postroom.store.queue.apply import INFO_LENGTH
from postroom.store.verify.entries import FAR
from postroom.store.verify.rows import (
    ACCOUNTS,
    CORRECTION,
    HELD,
    LABELS,
    Column,
    Finding,
    Ground,
    Mending,
    Row,
    TableCheck,
    assignments,
    ledger_difference,
    plain,
    read_rows,
)

TEXTS = (
    "recipient", "recipient_name", "env_from", "from_address", "from_name", "to_header", "subject", "remote_ip",
    "reply",
)  # fmt: skip

_TEXT_TAKEN = named("verify.reason_taken", "SELECT 1 FROM info WHERE text = :text AND id <> :info")
_TEXT_SET = named("verify.set_reason", "UPDATE info SET text = :text, folded = :folded WHERE id = :info")
_EVENT_DROP = named("verify.drop_event", "DELETE FROM event WHERE id = :event")
_EVENT_INFO_SET = named("verify.event_set_info", "UPDATE event SET info_id = :info WHERE id = :event")
_PAUSES = named("verify.pauses", "SELECT CAST(scope AS BLOB), since FROM pause")
_PAUSE_SET = named("verify.set_pause", "UPDATE pause SET since = :now WHERE scope = :scope")
_PAUSES_DROP = named(
    "verify.drop_pauses", f"DELETE FROM pause WHERE scope NOT IN ({', '.join([repr(scope.value) for scope in Scope])})"
)
_LEDGER = named("verify.ledger", "SELECT connection, kind, number FROM ledger")
_ACCOUNT_DROP = named("verify.drop_account", "DELETE FROM ledger WHERE kind = :kind")


class Reasons(TableCheck):
    """The info dictionary: found by its folded text, shown by its text."""

    name = "reasons"
    table = "info"

    _columns = (Column("id"), Column("text", str), Column("folded", str))
    _tail = "FROM info WHERE id BETWEEN :first AND :last ORDER BY id"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [
            Finding("reason", row.values[0], "not readable" if row.broken else "folded text is not that of its text")
            for row in read_rows(tx, self._columns, self._tail, {"first": first, "last": last})
            if row.broken or row.values[2] != fold(row.values[1])
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        (row,) = read_rows(mending.tx, self._columns, self._tail, {"first": finding.id, "last": finding.id})
        text = row.values[1] or INFO_LOST
        if mending.tx.row(_TEXT_TAKEN, {"text": text, "info": finding.id}):
            text = f"{text[: INFO_LENGTH - 30]} ({finding.id})"
        mending.tx.run(_TEXT_SET, {"text": text, "folded": fold(text), "info": finding.id})
        return f"now {text[:80]!r}"


class Events(TableCheck):
    """Lines of the timelines of entries that waited."""

    name = "events"
    table = "event"
    slice = 2000
    _columns = (
        Column("v.id"), Column("v.entry_id"), Column("v.at"), Column("v.kind", str), Column("v.queue"),
        Column("v.info_id", null=True), Column("v.actor", str), Column("i.id", null=True),
        Column("e.id IS NOT NULL OR h.id IS NOT NULL"),
    )  # fmt: skip
    _tail = (
        "FROM event AS v LEFT JOIN info AS i ON i.id = v.info_id LEFT JOIN entry AS e ON e.id = v.entry_id "
        "LEFT JOIN history AS h ON h.id = v.entry_id WHERE v.id BETWEEN :first AND :last ORDER BY v.id"
    )

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found = []
        for row in read_rows(tx, self._columns, self._tail, {"first": first, "last": last}):
            (ident, _, _, _, _, named, _, info, owned) = row.values
            if not owned:
                found.append(Finding("event-alone", ident, "its entry is neither in the queue nor in the history"))
                continue
            if fixes := _event_fixes(row, ground):
                found.append(Finding("event-state", ident, plain(fixes)))
            if named is not None and info is None:
                found.append(Finding("event-info", ident, "its reason is not in the dictionary"))
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        if finding.kind == "event-alone":
            mending.tx.run(_EVENT_DROP, {"event": finding.id})
            return "deleted"
        if finding.kind == "event-info":
            info = mending.infos.id(mending.tx, INFO_LOST)
            mending.tx.run(_EVENT_INFO_SET, {"info": info, "event": finding.id})
            return f"its reason is now {INFO_LOST!r}"
        (row,) = read_rows(mending.tx, self._columns, self._tail, {"first": finding.id, "last": finding.id})
        fixes = _event_fixes(row, mending.ground)
        mending.tx.run(f"UPDATE event SET {assignments(fixes)} WHERE id = :id", {**fixes, "id": finding.id})
        return f"now {plain(fixes)}"


def _event_fixes(row: Row, ground: Ground) -> dict[str, Any]:
    _ident, entry, at, kind, queue, _named, actor, _info, _owned = row.values
    fixes: dict[str, Any] = {}
    if not 0 < at <= ground.now + FAR:
        fixes["at"] = id_time(entry)
    if kind not in EVENTS:
        fixes["kind"] = "repaired"
    if not 0 <= queue <= codes.LEAVING or 4 in row.broken:
        fixes["queue"] = HELD
    if 6 in row.broken:
        fixes["actor"] = actor
    if 5 in row.broken:
        fixes["info_id"] = None
    return fixes


class History(TableCheck):
    """Ended entries: what they were, and their packed timelines."""

    name = "history"
    table = "history"
    slice = 2000
    _numbers = ("queue", "route", "priority", "attempts", "label", "size", "attachment", "outcome", "ended")
    _columns = (
        Column("id"), *[Column(name) for name in _numbers], *[Column(name, str) for name in TEXTS],
        Column("events", bytes),
    )  # fmt: skip
    _tail = "FROM history WHERE id BETWEEN :first AND :last ORDER BY id"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found = []
        for row in read_rows(tx, self._columns, self._tail, {"first": first, "last": last}):
            if fixes := self._fixes(row, ground):
                stored = {name: row.values[1 + self._numbers.index(name)] for name in fixes if name in self._numbers}
                texts = {name: "not readable" for name in fixes if name not in stored}
                found.append(Finding("history-state", row.values[0], plain(stored | texts)))
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        (row,) = read_rows(mending.tx, self._columns, self._tail, {"first": finding.id, "last": finding.id})
        fixes = self._fixes(row, mending.ground)
        mending.tx.run(f"UPDATE history SET {assignments(fixes)} WHERE id = :id", {**fixes, "id": finding.id})
        if "outcome" in fixes:
            return f"put right; how it ended is lost, shown as {codes.OUTCOMES[fixes['outcome']]}"
        return "put right"

    def _fixes(self, row: Row, ground: Ground) -> dict[str, Any]:
        values = dict(zip(self._numbers, row.values[1:], strict=False))
        fixes: dict[str, Any] = {}
        for name, most in (
            ("queue", len(codes.QUEUES)),
            ("route", len(codes.ROUTES)),
            ("outcome", len(codes.OUTCOMES)),
        ):
            if not 0 <= values[name] < most:
                fixes[name] = most - 1 if name == "route" else 2 if name == "queue" else codes.OUTCOMES.index(_LOST_END)
        for name, most in (("priority", len(codes.PRIORITIES)), ("attempts", 1 << 31), ("label", LABELS + 1)):
            if not 0 <= values[name] < most:
                fixes[name] = 0
        if values["size"] < 0:
            fixes["size"] = 0
        if values["attachment"] not in (0, 1):
            fixes["attachment"] = 1
        if not 0 < values["ended"] <= ground.now + FAR:
            fixes["ended"] = max(id_time(row.values[0]), 1)
        for number in row.broken:
            name = self._columns[number].expression
            fixes.setdefault(name, codes.OUTCOMES.index(_LOST_END) if name == "outcome" else row.values[number])
        packed = row.values[-1]
        try:
            timeline.unpack(packed)
        except (msgspec.DecodeError, ValueError):
            fixes["events"] = timeline.pack([(values["ended"], "repaired", "", "The stored timeline was lost")])
        return fixes


_LOST_END = codes.OUTCOMES[3]  # dropped: it left the queue and reached nobody that we know of


class Pauses:
    """What a person has stopped: an unknown stage would stop the whole gateway."""

    name = "pauses"
    slice = 1

    def size(self, tx: Tx, ground: Ground) -> int:
        return 1

    def upper(self, tx: Tx, after: int) -> int | None:
        return 1 if after < 1 else None

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        known = {scope.value.encode() for scope in Scope}
        found = []
        for scope, since in tx.rows(_PAUSES):
            name = bytes(scope or b"").decode(errors="replace")
            if scope not in known:
                found.append(Finding("pause", 1, f"no stage is called {name!r}", name=name))
            elif not isinstance(since, int):
                found.append(Finding("pause", 1, f"{name} is paused since {since!r}", name=name))
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        if finding.name in set(Scope):
            mending.tx.run(_PAUSE_SET, {"now": mending.ground.now, "scope": finding.name})
            return "paused since now"
        mending.tx.run(_PAUSES_DROP)
        return "deleted"


class Ledger(Pauses):
    """Created - ended - queued = 0, in one statement."""

    name = "ledger"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found = [
            Finding("ledger-account", 1, f"life {life:x}: {number} under {kind!r}", name=kind)
            for life, kind, number in tx.rows(_LEDGER)
            if kind not in ACCOUNTS
        ]
        if difference := ledger_difference(tx):
            meaning = "missing from the queue" if difference > 0 else "more in the queue than were created"
            found.append(Finding("ledger-difference", 1, f"{difference:+}: {abs(difference)} {meaning}"))
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        if finding.kind == "ledger-account":
            mending.tx.run(_ACCOUNT_DROP, {"kind": finding.name})
            return "deleted; what it counted becomes part of the correction"
        difference = ledger_difference(mending.tx)
        mending.tx.run(sql.ledger_add(1), (mending.life, CORRECTION, -difference))
        return f"{-difference:+} written to the account {CORRECTION!r} under life {mending.life:x}"
