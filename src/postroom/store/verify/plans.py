"""`postroom verify` on plans: each can be read, and a plan waits for every entry that is about to end.

Promises: a plan that cannot be read keeps its row, but does nothing any more; what it was about to end is held for a
person, and can go back to the queue it was in. Fails: database errors pass through.
"""

from __future__ import annotations

from postroom.rules.lifecycle import ENDING
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.plans import book as plan_book
from postroom.store.verify.rows import Finding, Ground, Left, Mending, TableCheck, hold_entry

LOST_PLAN = "Kept for a person: the plan that was to end it is lost"  # or closed: it cannot be read

_ENDING = ", ".join([f"'{action.value}'" for action in ENDING])
_ALONE = named(
    "verify.leaving_alone",
    f"SELECT e.id FROM entry AS e INDEXED BY entry_queue WHERE e.queue = {codes.LEAVING} "
    "AND e.id BETWEEN :first AND :last AND e.id NOT IN (SELECT p.entry FROM plan AS n CROSS JOIN plan_entry AS p "
    "ON p.plan = n.id WHERE p.state = 1 "
    f"AND p.entry BETWEEN :first AND :last AND n.action IN ({_ENDING}) "
    "AND n.state IN ('applying', 'applied', 'undoing', 'ending'))",
)
_BEGUN = named("verify.plan_begun", "SELECT 1 FROM plan_entry WHERE plan = :plan AND state <> 0 LIMIT 1")
_CLOSE = named("verify.close_plan", "UPDATE plan SET state = :state WHERE id = :plan")
_COUNT = named("verify.leaving_count", f"SELECT count(*) FROM entry WHERE queue = {codes.LEAVING}")
_UPPER = named(
    "verify.leaving_upper",
    "SELECT max(id) FROM (SELECT id FROM entry INDEXED BY entry_queue WHERE queue = :leaving AND id > :after "
    "ORDER BY id LIMIT :size)",
)
_IS_LEAVING = named("verify.is_leaving", "SELECT 1 FROM entry WHERE id = :entry AND queue = :leaving")


class Plans(TableCheck):
    """Plans come before the entries that wait to end, which are judged by the states of the plans."""

    name = "plans"
    table = "plan"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        return [
            Finding("plan", plan.id, f"not possible or not readable: {', '.join(sorted(plan.columns))}", noted=over)
            for plan, over in plan_book.damaged(tx, first, last)
        ]

    def mend(self, mending: Mending, finding: Finding) -> str:
        """Nothing is made up: only the state is written. A plan that has reached no entry yet has done nothing."""
        state = "final" if mending.tx.row(_BEGUN, {"plan": finding.id}) else "expired"
        mending.tx.run(_CLOSE, {"state": state, "plan": finding.id})
        return f"closed: it is {state}; what it was about to end is held"


class Leaving(TableCheck):
    """Entries that wait for the end of an undo window."""

    name = "leaving"
    table = "entry"
    slice = 5_000

    def size(self, tx: Tx, ground: Ground) -> int:
        return int(tx.rows(_COUNT)[0][0])

    def upper(self, tx: Tx, after: int) -> int | None:
        values = {"leaving": codes.LEAVING, "after": after, "size": self.slice}
        found: int | None = tx.rows(_UPPER, values)[0][0]
        return found

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        rows = tx.rows(_ALONE, {"first": first, "last": last})
        return [Finding("entry-leaving", ident, "waits to end, and no plan awaits it") for (ident,) in rows]

    def mend(self, mending: Mending, finding: Finding) -> str:
        if not mending.tx.row(_IS_LEAVING, {"entry": finding.id, "leaving": codes.LEAVING}):
            raise Left("it is not waiting to end any more")
        hold_entry(mending, finding.id, LOST_PLAN)
        return "held for a person"
