"""What `postroom verify` proves of plans: each can be read, and whatever waits to end is awaited by one.

Promises: a plan that cannot be read is kept as it is, but nothing is done by it any more; what it was about to end is held for a person,
as something that goes back to where it stood. Fails: apsw errors pass through.
"""

from __future__ import annotations

from postroom.rules.lifecycle import ENDING
from postroom.store import codes
from postroom.store.engine import Tx
from postroom.store.plans import book as plan_book
from postroom.store.verify.rows import Finding, Ground, Left, Mending, TableCheck, hold_entry

LOST_PLAN = "Kept for a person: the plan that was to end it is lost"  # or closed: it cannot be read

_ENDING = ", ".join([f"'{action.value}'" for action in ENDING])
_ALONE = (
    f"SELECT e.id FROM entry AS e INDEXED BY entry_queue WHERE e.queue = {codes.LEAVING} AND e.id BETWEEN ? AND ? "
    f"AND e.id NOT IN (SELECT p.entry FROM plan AS n CROSS JOIN plan_entry AS p ON p.plan = n.id WHERE p.state = 1 "
    f"AND p.entry BETWEEN ? AND ? AND n.action IN ({_ENDING}) AND n.state IN ('applying', 'applied', 'undoing', 'ending'))"
)


class Plans(TableCheck):
    """Frozen sets of entries, with an action. Looked at before what waits to end: that goes by their states."""

    name = "plans"
    table = "plan"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [
            Finding("plan", plan.id, f"not possible or not readable: {', '.join(sorted(plan.columns))}", noted=over)
            for plan, over in plan_book.damaged(tx, first, last)
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        """What nobody can tell is not made up: only the state is written. Nothing was done by a plan that has dealt with no entry yet."""
        begun = mending.run("SELECT 1 FROM plan_entry WHERE plan = ? AND state <> 0 LIMIT 1", finding.id)
        state = "final" if begun else "expired"
        mending.run("UPDATE plan SET state = ? WHERE id = ?", state, finding.id)
        return f"closed: it is {state}; what it was about to end is held"


class Leaving(TableCheck):
    """Entries that wait for the end of an undo window."""

    name = "leaving"
    table = "entry"
    slice = 5_000

    def size(self, tx: Tx, ground: Ground) -> int:
        return int(tx.rows(f"SELECT count(*) FROM entry WHERE queue = {codes.LEAVING}")[0][0])

    def upper(self, tx: Tx, after: int) -> int | None:
        found: int | None = tx.rows(
            "SELECT max(id) FROM (SELECT id FROM entry INDEXED BY entry_queue WHERE queue = ? AND id > ? ORDER BY id LIMIT ?)",
            (codes.LEAVING, after, self.slice),
        )[0][0]
        return found

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        rows = tx.rows(_ALONE, (first, last, first, last))
        return [Finding("entry-leaving", ident, "waits to end, and no plan awaits it") for (ident,) in rows]

    def mend(self, mending: Mending, finding: Finding) -> str:
        if not mending.run("SELECT 1 FROM entry WHERE id = ? AND queue = ?", finding.id, codes.LEAVING):
            raise Left("it is not waiting to end any more")
        hold_entry(mending, finding.id, LOST_PLAN)
        return "held for a person"
