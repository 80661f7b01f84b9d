"""What a role holds: its permissions, and how many entries one plan of its holders may have. Inside the caller's
transaction.

Promises: a new limit is in force for the next plan, and a change of permissions for every call that begins a second
later, with keys, tokens and sessions alike. The role `administrator` keeps every permission. Fails: PeerError for an
unknown role (it lists those that exist), for an unknown permission, and for one that cannot be taken away alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from postroom.errors import PeerError
from postroom.store.access import permissions
from postroom.store.access.identity import ADMINISTRATOR, MAX_NAME, Role, find_role
from postroom.store.engine import Tx, named

_LIMITS = named("access.list_plan_limits", "SELECT name, plan_limit FROM role ORDER BY name")
_LIMIT = named("access.limit_plans", "UPDATE role SET plan_limit = :plan_limit WHERE name = :name")
_HOLDS = named("access.set_permissions", "UPDATE role SET permissions = :permissions WHERE name = :name")


def plan_limits(tx: Tx) -> dict[str, int | None]:
    """The most entries of one plan, by role, sorted by name. None: as `[plans] max_entries` says."""
    return dict(tx.rows(_LIMITS))


def limit_plans(tx: Tx, name: str, limit: int | None) -> int | None:
    """Set the most entries that one plan of this role may have; returns the limit before. PeerError: no such role."""
    known = plan_limits(tx)
    if name not in known:
        raise _no_role(tx, name)
    tx.run(_LIMIT, {"plan_limit": limit, "name": name})
    return known[name]


def permit(tx: Tx, name: str, wanted: Sequence[str]) -> tuple[Role, tuple[str, ...]]:
    """Add permissions to a role: (the role as it is now, what it did not hold before). PeerError: unknown role or
    permission."""
    held = _held(tx, name)
    added = tuple([permission for permission in permissions.check(wanted) if permission not in held])
    return _hold(tx, name, held, held + added), added


def forbid(tx: Tx, name: str, wanted: Sequence[str]) -> tuple[Role, tuple[str, ...]]:
    """Take permissions away from a role: (the role as it is now, what it no longer holds).

    PeerError: unknown role or permission, the role `administrator`, or a role that holds "*" and is to keep it.
    """
    held, unwanted = _held(tx, name), permissions.check(wanted)
    if name == ADMINISTRATOR:  # as the last administrator stays: nobody else could give the permissions back over HTTP
        raise PeerError(f"role {ADMINISTRATOR} keeps every permission; give its holders another role to bound them")
    if permissions.ALL in held and permissions.ALL not in unwanted:
        raise PeerError(
            f'role {name} holds "{permissions.ALL}", which is every permission: permit it those that it is to keep, '
            f'then forbid it "{permissions.ALL}"'
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
        tx.run(_HOLDS, {"permissions": json.dumps(list(now)), "name": name})
    return Role(name, now)


def _no_role(tx: Tx, name: str) -> PeerError:
    return PeerError(f"no role {name[:MAX_NAME]!r}: expected one of {', '.join(plan_limits(tx))}")
