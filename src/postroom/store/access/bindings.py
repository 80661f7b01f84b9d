"""Keys that the API's login issues to people ("bindings"). Inside the caller's transaction.

Promises: the secret key is kept sealed and bound to its row; a person has a bounded number of them for each application, the ones
refreshed longest ago go; whether one has expired follows from the settings in force, not from those it was made under. Fails: never;
one that was sealed with another secrets key is as if it were not there.
"""

from __future__ import annotations

import base64
import json
import secrets

import msgspec

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed
from postroom.sealing import Sealer
from postroom.store.access.identity import Role
from postroom.store.engine import Tx

MOST = 20  # of one person and one application; the vendor has a limit, too, whose number is not known

_ADD = (
    "INSERT INTO binding (access_key, app_id, email, secret_key_sealed, created, refreshed) VALUES (?, ?, ?, ?, ?, ?)"
)
_TRIM = (
    "DELETE FROM binding WHERE access_key IN (SELECT access_key FROM binding WHERE email = ? AND app_id = ? "
    "ORDER BY refreshed DESC, created DESC LIMIT -1 OFFSET ?)"
)
_REFRESH = (
    "UPDATE binding SET refreshed = max(refreshed, ?) WHERE access_key = ? AND app_id = ? AND email = ? "
    "RETURNING secret_key_sealed"
)
_READ = (
    "SELECT b.access_key, b.app_id, b.email, b.secret_key_sealed, b.refreshed, u.role, role.permissions FROM binding AS b "
    "JOIN console_user AS u ON u.email = b.email JOIN role ON role.name = u.role "
    "WHERE b.access_key = ? AND b.app_id = ? AND u.disabled IS NULL"
)
_DROP = "DELETE FROM binding WHERE email = ?"


class Binding(msgspec.Struct, frozen=True):
    """What checking a signature takes. The secret is open: keep it in memory, never print it."""

    access_key: str
    app_id: str
    email: str
    role: Role
    refreshed: Millis
    secret_key: bytes  # decoded

    def __repr__(self) -> str:
        return f"Binding({self.email}, role {self.role.name})"

    def expired(self, now: Millis, lifetime: Millis) -> bool:
        """`lifetime` 0 = never."""
        return bool(lifetime) and now - self.refreshed >= lifetime


class Issued(msgspec.Struct, frozen=True):
    access_key: str
    secret_key: str  # base64, as the client needs it

    def __repr__(self) -> str:
        return "Issued()"


def issue(tx: Tx, sealer: Sealer, *, app_id: str, email: str, now: Millis) -> Issued:
    made = Issued(secrets.token_urlsafe(96), base64.b64encode(secrets.token_bytes(64)).decode())
    sealed = sealer.seal(made.secret_key.encode(), _context(made.access_key))
    tx.run(_ADD, (made.access_key, app_id, email, sealed, now, now))
    tx.run(_TRIM, (email, app_id, MOST))
    return made


def refresh(tx: Tx, sealer: Sealer, *, access_key: str, app_id: str, email: str, now: Millis) -> Issued | None:
    """The same keys are good again. None: this person has no such key from this application, or it was sealed with another key."""
    rows = tx.rows(_REFRESH, (now, access_key, app_id, email))
    secret_key = _opened(sealer, access_key, rows[0][0]) if rows else None
    return None if secret_key is None else Issued(access_key, secret_key)


def find(tx: Tx, sealer: Sealer, app_id: str, access_key: str) -> Binding | None:
    """None: unknown, its owner is gone or may not log in, or it was sealed with another key (a restored store)."""
    rows = tx.rows(_READ, (access_key, app_id))
    if not rows:
        return None
    key, app, email, sealed, refreshed, role, permissions = rows[0]
    secret_key = _opened(sealer, key, sealed)
    if secret_key is None:
        return None
    held = tuple(json.loads(permissions))
    return Binding(key, app, email, Role(role, held), refreshed, base64.b64decode(secret_key))


def drop(tx: Tx, email: str) -> None:
    """All of a person's."""
    tx.run(_DROP, (email,))


def _opened(sealer: Sealer, access_key: str, sealed: bytes) -> str | None:
    try:
        return sealer.open(sealed, _context(access_key)).decode()
    except EnvironmentFailed:
        return None  # a new login makes new ones


def _context(access_key: str) -> bytes:
    return f"binding.secret_key:{access_key}".encode()
