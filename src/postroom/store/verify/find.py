"""`postroom verify` on what searches use: counters by hour, the table of reasons, the search index up to its watermark.

All of it is derived: a repair makes it anew from the entries. Nothing is proved of an index that is missing, being
made, or of another store, because no search uses it. Fails: database errors of the store pass through.
"""

from __future__ import annotations

import contextlib

from postroom.store.engine import FAILURE, Tx, named
from postroom.store.find import counters
from postroom.store.sqlite import proving
from postroom.store.verify.records import Pauses
from postroom.store.verify.rows import Finding, Ground, Mending, TableCheck

_COUNTED = (
    f"SELECT queue, route, attachment, id / {counters.HOUR_IDS}, count(*) FROM entry "
    "WHERE id <= (SELECT upto FROM counted) AND queue <> 5 GROUP BY 1, 2, 3, 4"
)
_TALLIED = "SELECT queue, route, attachment, hour, number FROM tally WHERE number <> 0 AND queue <> 5"
_WRONG = named(
    "verify.counters_wrong",
    f"SELECT count(*) FROM (SELECT * FROM ({_COUNTED} EXCEPT {_TALLIED}) "
    f"UNION ALL SELECT * FROM ({_TALLIED} EXCEPT {_COUNTED}))",
)
# Each entry has its row there, and there are no others.
_UNREASONED = named(
    "verify.entries_without_reason",
    "SELECT e.id FROM entry AS e WHERE e.id BETWEEN :first AND :last AND e.id <= (SELECT upto FROM counted) "
    "AND NOT EXISTS (SELECT 1 FROM reason AS r WHERE r.info_id = e.info_id AND r.queue = e.queue AND r.id = e.id "
    "AND r.route = e.route AND r.attachment = e.attachment)",
)
_TOO_MANY_REASONS = named(
    "verify.reasons_without_entry",
    "SELECT (SELECT count(*) FROM reason) - (SELECT count(*) FROM entry WHERE id <= (SELECT upto FROM counted))",
)
_DISOWN = named("verify.disown_index", "UPDATE counted SET token = random()")


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
            for (ident,) in tx.rows(_UNREASONED, {"first": first, "last": last})
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        counters.recount(mending.tx)
        return "made anew"


class Indexed(TableCheck):
    """Every entry up to the watermark is in the search index."""

    name = "search index"
    table = "entry"
    slice = 20_000

    def __init__(self) -> None:
        self._beside: proving.IndexBeside | None = None

    def upper(self, tx: Tx, after: int) -> int | None:
        if self._beside is None:
            self._beside = proving.index_beside(tx)
        return super().upper(tx, after) if self._beside is not None else None

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        if self._beside is None:
            return []
        with contextlib.suppress(*FAILURE):
            missing = self._beside.missing(self.table, first, last, tx)
            return [
                Finding("index-entry", ident, "is not in the search index, though it should be") for ident in missing
            ]
        return []  # damaged, or replaced just now: the gateway makes it anew

    def mend(self, mending: Mending, finding: Finding) -> str:
        mending.tx.run(_DISOWN)
        return "the search index is disowned; the gateway makes it anew"


class IndexedReasons(Indexed):
    """Every text of the dictionary as far as it reaches."""

    name = "reasons in the search index"
    table = "info"
