"""What `postroom verify` proves of what finding stands on: the counters by hour, the table of reasons, the search index up to its watermark.

All are derived: a repair makes them anew from the entries. An index that is missing, being made, or not of this store is believed
by nobody, so there is nothing to prove of it. Fails: apsw errors of the store pass through.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw

from postroom.store.engine import Tx
from postroom.store.find import counters
from postroom.store.sqlite import search_index
from postroom.store.sqlite.connections import BUSY_TIMEOUT
from postroom.store.sqlite.tx import SqliteTx
from postroom.store.verify.records import Pauses
from postroom.store.verify.rows import Finding, Ground, Mending, TableCheck

_COUNTED = (
    f"SELECT queue, route, attachment, id / {counters.HOUR_IDS}, count(*) FROM entry "
    "WHERE id <= (SELECT upto FROM counted) AND queue <> 5 GROUP BY 1, 2, 3, 4"
)
_TALLIED = "SELECT queue, route, attachment, hour, number FROM tally WHERE number <> 0 AND queue <> 5"
_WRONG = (
    f"SELECT count(*) FROM (SELECT * FROM ({_COUNTED} EXCEPT {_TALLIED}) "
    f"UNION ALL SELECT * FROM ({_TALLIED} EXCEPT {_COUNTED}))"
)
# Each entry has its row there, and there are no others.
_UNREASONED = (
    "SELECT e.id FROM entry AS e WHERE e.id BETWEEN ? AND ? AND e.id <= (SELECT upto FROM counted) AND NOT EXISTS "
    "(SELECT 1 FROM reason AS r WHERE r.info_id = e.info_id AND r.queue = e.queue AND r.id = e.id AND r.route = e.route "
    "AND r.attachment = e.attachment)"
)
_TOO_MANY_REASONS = (
    "SELECT (SELECT count(*) FROM reason) - (SELECT count(*) FROM entry WHERE id <= (SELECT upto FROM counted))"
)
# The watermark is read with the index, before the entries: what ends meanwhile may be in the index still, but nothing that
# waits may be missing in it.
_REACHED = "SELECT number FROM find.state WHERE what = ?"
_TOKEN = "SELECT number FROM find.state WHERE what = 'token'"  # noqa: S105 - names a store, opens nothing
_UNFINDABLE = (
    "SELECT id FROM main.entry WHERE queue <> 5 AND id BETWEEN ? AND ? AND id <= ? "
    "AND id NOT IN (SELECT id FROM find.ix_docsize WHERE id BETWEEN ? AND ?)"
)
_UNFINDABLE_TEXTS = (
    "SELECT id FROM main.info WHERE id BETWEEN ? AND ? AND id <= ? "
    "AND id NOT IN (SELECT id FROM find.reasons_docsize WHERE id BETWEEN ? AND ?)"
)


class Counters(Pauses):
    """Totals by hour = what waits, in one statement."""

    name = "counters"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        wrong = int(tx.rows(_WRONG)[0][0])
        found = [Finding("counters", 1, f"{wrong} counters do not agree with the entries")] if wrong else []
        more = int(tx.rows(_TOO_MANY_REASONS)[0][0])
        return [*found, Finding("counters", 1, f"{more} reasons of entries that are not there")] if more > 0 else found

    def mend(self, mending: Mending, finding: Finding) -> str:
        counters.recount(mending.tx)
        return "counted anew"


class Waiting(TableCheck):
    """Every entry that is counted by hour is found by its reason, and nothing else is."""

    name = "what waits for a reason"
    table = "entry"
    slice = 20_000

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [
            Finding("reason-entry", ident, "is not found by its reason")
            for (ident,) in tx.rows(_UNREASONED, (first, last))
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        counters.recount(mending.tx)
        return "made anew"


class Indexed(TableCheck):
    """Every entry up to the watermark is in the search index."""

    name = "search index"
    table = "entry"
    slice = 20_000
    _reach = "watermark"
    _missing = _UNFINDABLE

    def __init__(self) -> None:
        self._beside: SqliteTx | None = None

    def upper(self, tx: Tx, after: int) -> int | None:
        if self._beside is None:
            self._beside = _attached(tx)
        return super().upper(tx, after) if self._beside is not None else None

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        """In a snapshot of its own, of both files. `tx` tells which index the store believes: a repair disowns it."""
        beside = self._beside
        if beside is None:
            return []
        with contextlib.suppress(apsw.Error), beside.snapshot():
            if beside.rows(_TOKEN) != tx.rows("SELECT token FROM counted"):
                return []
            rows = beside.rows(_REACHED, (self._reach,))
            missing = beside.rows(self._missing, (first, last, rows[0][0] if rows else 0, first, last))
            what = "is not in the search index, though it should be"
            return [Finding("index-entry", ident, what) for (ident,) in missing]
        return []  # damaged, or replaced just now: the gateway makes it anew

    def mend(self, mending: Mending, finding: Finding) -> str:
        mending.run("UPDATE counted SET token = random()")
        return "the search index is disowned; the gateway makes it anew"


class IndexedReasons(Indexed):
    """Every text of the dictionary as far as it reaches."""

    name = "reasons in the search index"
    table = "info"
    _reach = "reasons"
    _missing = _UNFINDABLE_TEXTS


def _attached(store: Tx) -> SqliteTx | None:
    """A connection of its own with both files, for reading; None when there is no index."""
    assert isinstance(store, SqliteTx)
    file = store.connection.filename
    index = Path(file).with_name(search_index.NAME)
    if not index.exists():
        return None
    connection = apsw.Connection(file, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(BUSY_TIMEOUT)
    tx = SqliteTx(connection)
    try:
        tx.run("ATTACH ? AS find", (str(index),))
    except apsw.Error:
        tx.close()
        return None
    return tx
