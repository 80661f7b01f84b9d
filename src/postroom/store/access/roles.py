"""What a role holds and what it is bounded by: its permissions, and how many entries one plan of its holders may have. In the caller's
transaction.

Promises: a bound is in force for the next plan, a permission for every call that begins a second later, whatever keys, tokens and sessions
it comes with; the role `administrator` keeps every permission. Fails: PeerError for a role that there is not, with those that there are,
for a permission that there is not, and for one that cannot be taken away alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from postroom.errors import PeerError
from postroom.store.access import permissions
from postroom.store.access.identity import ADMINISTRATOR, MAX_NAME, Role, find_role
from postroom.store.engine import Tx

_LIMITS = "SELECT name, plan_limit FROM role ORDER BY name"
_LIMIT = "UPDATE role SET plan_limit = ? WHERE name = ?"
_HOLDS = "UPDATE role SET permissions = ? WHERE name = ?"


def plan_limits(tx: Tx) -> dict[str, int | None]:
    """By role; None: as `[plans] max_entries` says."""
    return dict(tx.rows(_LIMITS))


def limit_plans(tx: Tx, name: str, limit: int | None) -> int | None:
    """What the bound was before."""
    known = plan_limits(tx)
    if name not in known:
        raise _no_role(tx, name)
    tx.run(_LIMIT, (limit, name))
    return known[name]


def permit(tx: Tx, name: str, wanted: Sequence[str]) -> tuple[Role, tuple[str, ...]]:
    """(the role as it is now, what it did not hold before)."""
    held = _held(tx, name)
    added = tuple([permission for permission in permissions.check(wanted) if permission not in held])
    return _hold(tx, name, held, held + added), added


def forbid(tx: Tx, name: str, wanted: Sequence[str]) -> tuple[Role, tuple[str, ...]]:
    """(the role as it is now, what it no longer holds)."""
    held, unwanted = _held(tx, name), permissions.check(wanted)
    if name == ADMINISTRATOR:  # as the last administrator stays: nobody else could give the permissions back over HTTP
        raise PeerError(f"role {ADMINISTRATOR} keeps every permission; give its holders another role to bound them")
    if permissions.ALL in held and permissions.ALL not in unwanted:
        raise PeerError(
            f'role {name} holds "{permissions.ALL}", which is every permission: permit it those that it is to keep, then '
            f'forbid it "{permissions.ALL}"'
        )
    kept = tuple([permission for permission in held if permission not in unwanted])
    return _hold(tx, name, held, kept), tuple([permission for permission in held if permission in unwanted])


def _held(tx: Tx, name: str) -> tuple[str, ...]:
    role = find_role(tx, name)
    if role is None:
        raise _no_role(tx, name)
    return role.permissions


def _hold(tx: Tx, name: str, before: tuple[str, ...], now: tuple[str, ...]) -> Role:
    if now != before:
        tx.run(_HOLDS, (json.dumps(list(now)), name))
    return Role(name, now)


def _no_role(tx: Tx, name: str) -> PeerError:
    return PeerError(f"no role {name[:MAX_NAME]!r}: expected one of {', '.join(plan_limits(tx))}")
