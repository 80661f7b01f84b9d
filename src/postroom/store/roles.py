"""What a role is bounded by: how many entries one plan of its holders may have. In the caller's transaction.

Promises: the bound is in force for the next plan. Fails: PeerError for a role that there is not, with those that there are.
"""

from __future__ import annotations

import apsw

from postroom.errors import PeerError
from postroom.store.identity import MAX_NAME
from postroom.store.sqlite import fetch

_LIMITS = "SELECT name, plan_limit FROM role ORDER BY name"
_LIMIT = "UPDATE role SET plan_limit = ? WHERE name = ?"


def plan_limits(connection: apsw.Connection) -> dict[str, int | None]:
    """By role; None: as `[plans] max_entries` says."""
    return dict(fetch(connection, _LIMITS))


def limit_plans(connection: apsw.Connection, name: str, limit: int | None) -> int | None:
    """What the bound was before."""
    known = plan_limits(connection)
    if name not in known:
        raise PeerError(f"no role {name[:MAX_NAME]!r}: expected one of {', '.join(known)}")
    connection.execute(_LIMIT, (limit, name))
    return known[name]
