"""Keys that the API's login issues to people ("bindings"). Inside the caller's transaction.

Promises: the secret key is sealed and bound to its row. A person has a bounded number of keys for each application;
those refreshed longest ago go first. The settings in force decide whether a key has expired, not those it was made
under. Fails: never; a key that was sealed with another secrets key is treated as unknown.
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
from postroom.store.engine import Tx, named

MOST = 20  # of one person and one application; the vendor has a limit, too, whose number is not known

_ADD = named(
    "access.add_binding",
    "INSERT INTO binding (access_key, app_id, email, secret_key_sealed, created, refreshed) "
    "VALUES (:access_key, :app_id, :email, :secret_key_sealed, :now, :now)",
)
_TRIM = named(
    "access.trim_bindings",
    "DELETE FROM binding WHERE access_key IN (SELECT access_key FROM binding WHERE email = :email AND app_id = :app_id "
    "ORDER BY refreshed DESC, created DESC LIMIT -1 OFFSET :kept)",
)
_REFRESH = named(
    "access.refresh_binding",
    "UPDATE binding SET refreshed = max(refreshed, :now) "
    "WHERE access_key = :access_key AND app_id = :app_id AND email = :email RETURNING secret_key_sealed",
)
_READ = named(
    "access.find_binding",
    "SELECT b.access_key, b.app_id, b.email, b.secret_key_sealed, b.refreshed, u.role, role.permissions "
    "FROM binding AS b JOIN console_user AS u ON u.email = b.email JOIN role ON role.name = u.role "
    "WHERE b.access_key = :access_key AND b.app_id = :app_id AND u.disabled IS NULL",
)
_DROP = named("access.drop_bindings", "DELETE FROM binding WHERE email = :email")


class Binding(msgspec.Struct, frozen=True):
    """A person's keys, as checking a signature needs them. The secret is open: keep it in memory, never print it."""

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
    """The keys that a login answers with."""

    access_key: str
    secret_key: str  # base64, as the client needs it

    def __repr__(self) -> str:
        return "Issued()"


def issue(tx: Tx, sealer: Sealer, *, app_id: str, email: str, now: Millis) -> Issued:
    """New keys of this person for this application."""
    made = Issued(secrets.token_urlsafe(96), base64.b64encode(secrets.token_bytes(64)).decode())
    sealed = sealer.seal(made.secret_key.encode(), _context(made.access_key))
    tx.run(
        _ADD,
        {
            "access_key": made.access_key, "app_id": app_id, "email": email, "secret_key_sealed": sealed, "now": now,
        },
    )  # fmt: skip
    tx.run(_TRIM, {"email": email, "app_id": app_id, "kept": MOST})
    return made


def refresh(tx: Tx, sealer: Sealer, *, access_key: str, app_id: str, email: str, now: Millis) -> Issued | None:
    """Make the same keys good again. None: this person has no such key from this application, or it does not open."""
    rows = tx.rows(_REFRESH, {"now": now, "access_key": access_key, "app_id": app_id, "email": email})
    secret_key = _opened(sealer, access_key, rows[0][0]) if rows else None
    return None if secret_key is None else Issued(access_key, secret_key)


def find(tx: Tx, sealer: Sealer, app_id: str, access_key: str) -> Binding | None:
    """A person's keys, by application and access key, expired or not.

    None: unknown, the person is gone or may not log in, or another key sealed them (a restored store).
    """
    rows = tx.rows(_READ, {"access_key": access_key, "app_id": app_id})
    if not rows:
        return None
    key, app, email, sealed, refreshed, role, permissions = rows[0]
    secret_key = _opened(sealer, key, sealed)
    if secret_key is None:
        return None
    held = tuple(json.loads(permissions))
    return Binding(key, app, email, Role(role, held), refreshed, base64.b64decode(secret_key))


def drop(tx: Tx, email: str) -> None:
    """Delete all keys of a person."""
    tx.run(_DROP, {"email": email})


def _opened(sealer: Sealer, access_key: str, sealed: bytes) -> str | None:
    try:
        return sealer.open(sealed, _context(access_key)).decode()
    except EnvironmentFailed:
        return None  # a new login makes new ones


def _context(access_key: str) -> bytes:
    return f"binding.secret_key:{access_key}".encode()
