"""The release log: what people did with held mail, who and why. A row copies what it shows, so it outlives its entry.

Promises: written in the transaction of the fact; ids are times, so that a window is an id range. Fails: what the
database raises passes through.
"""

from __future__ import annotations

from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.ids import first_id_at, id_time
from postroom.model import Action, Route
from postroom.store import codes
from postroom.store.engine import Tx, named

_NEXT = named("logs.next_release_id", "SELECT max(coalesce((SELECT max(id) FROM release_log), 0) + 1, :least)")
_ADD = named(
    "logs.add_release",
    "INSERT INTO release_log (id, entry_id, action, actor, reason, held_for, route, env_from, from_address, from_name, "
    "recipient, recipient_name, subject, size, attachment) "
    "SELECT :id, e.id, :action, :actor, :reason, coalesce(i.text, ''), e.route, e.env_from, e.from_address, "
    "e.from_name, e.recipient, e.recipient_name, e.subject, e.size, e.attachment "
    "FROM entry AS e LEFT JOIN info AS i ON i.id = e.info_id WHERE e.id = :entry",
)
_COLUMNS = (
    "id, entry_id, action, actor, reason, held_for, route, env_from, from_address, from_name, recipient, "
    "recipient_name, subject, size, attachment"
)
_FORGET = named(
    "logs.forget_releases",
    "DELETE FROM release_log WHERE id IN (SELECT id FROM release_log WHERE id < :before ORDER BY id LIMIT :most)",
)
# what a search may name -> the columns that it looks into
FIELDS = {
    "all": ("actor", "env_from", "from_address", "recipient", "subject", "reason", "held_for"),
    "operator": ("actor",),
    "from": ("env_from", "from_address"),
    "to": ("recipient",),
    "subject": ("subject",),
    "info": ("reason",),
    "heldreason": ("held_for",),
}


class Released(msgspec.Struct, frozen=True, gc=False):
    """One line of the log: what somebody did with a held message."""

    id: int
    entry: int
    action: Action  # RELEASE or REJECT
    actor: str
    reason: str
    held_for: str
    route: Route
    env_from: str
    from_address: str
    from_name: str
    recipient: str
    recipient_name: str
    subject: str
    size: int
    attachment: bool

    @property
    def at(self) -> Millis:
        return id_time(self.id)


def record(tx: Tx, entry: int, action: Action, actor: str, reason: str, now: Millis) -> None:
    """Call it before the entry leaves `held`."""
    ident = tx.rows(_NEXT, {"least": first_id_at(now)})[0][0]
    tx.run(_ADD, {"id": ident, "action": codes.ACTION[action], "actor": actor, "reason": reason, "entry": entry})


def read(row: tuple[Any, ...]) -> Released:
    """One row of SELECT."""
    (
        ident, entry, action, actor, reason, held_for, route, env_from, from_address, from_name, recipient, name,
        subject, size, attachment,
    ) = row  # fmt: skip
    return Released(
        ident, entry, codes.action(action) or Action.RELEASE, actor, reason, held_for, codes.route(route), env_from,
        from_address, from_name, recipient, name, subject, size, bool(attachment),
    )  # fmt: skip


def forget(tx: Tx, before: Millis, most: int) -> int:
    """Delete up to `most` lines written before; how many."""
    return tx.run(_FORGET, {"before": first_id_at(before), "most": most})


SELECT = f"SELECT {_COLUMNS} FROM release_log"
