"""What `postroom verify` proves of plans: whatever waits to end is awaited by a plan, and whatever a plan awaits is there.

Fails: apsw errors pass through.
"""

from __future__ import annotations

import apsw

from postroom.model import Action
from postroom.store import codes
from postroom.store.sqlite import fetch
from postroom.store.verify_rows import Finding, Ground, Left, Mending, TableCheck, hold_entry

LOST_PLAN = "Kept for a person: the plan that was to end it is lost"

_ENDING = ", ".join([f"'{action.value}'" for action in (Action.REJECT, Action.BOUNCE, Action.DELETE)])
_ALONE = (
    f"SELECT e.id FROM entry AS e INDEXED BY entry_queue WHERE e.queue = {codes.LEAVING} AND e.id BETWEEN ? AND ? "
    f"AND e.id NOT IN (SELECT p.entry FROM plan AS n CROSS JOIN plan_entry AS p ON p.plan = n.id WHERE p.state = 1 "
    f"AND p.entry BETWEEN ? AND ? AND n.action IN ({_ENDING}) AND n.state IN ('applying', 'applied', 'undoing', 'ending'))"
)


class Leaving(TableCheck):
    """Entries that wait for the end of an undo window."""

    name = "leaving"
    table = "entry"
    slice = 5_000

    def size(self, connection: apsw.Connection, ground: Ground) -> int:
        return int(fetch(connection, f"SELECT count(*) FROM entry WHERE queue = {codes.LEAVING}")[0][0])

    def upper(self, connection: apsw.Connection, after: int) -> int | None:
        found: int | None = fetch(
            connection,
            "SELECT max(id) FROM (SELECT id FROM entry INDEXED BY entry_queue WHERE queue = ? AND id > ? ORDER BY id LIMIT ?)",
            (codes.LEAVING, after, self.slice),
        )[0][0]
        return found

    def look(self, connection: apsw.Connection, ground: Ground, first: int, last: int) -> list[Finding]:
        rows = fetch(connection, _ALONE, (first, last, first, last))
        return [Finding("entry-leaving", ident, "waits to end, and no plan awaits it") for (ident,) in rows]

    def mend(self, mending: Mending, finding: Finding) -> str:
        if not mending.run("SELECT 1 FROM entry WHERE id = ? AND queue = ?", finding.id, codes.LEAVING):
            raise Left("it is not waiting to end any more")
        hold_entry(mending, finding.id, LOST_PLAN)
        return "held for a person"
