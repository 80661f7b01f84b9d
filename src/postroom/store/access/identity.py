"""Who may ask: roles, applications, people, console sessions. Statements stand beside the functions that use them.

Promises: every secret is returned once, by the function that made it, and kept sealed (HMAC keys) or hashed (the rest); what a
function does belongs to the caller's transaction. Fails: PeerError names what was wrong with the input; EnvironmentFailed
when sealed keys do not open or `admin.json` cannot be written. Hashing a password takes tens of milliseconds on purpose:
`hash_password` and `verify_password` need no connection, so that neither the writer nor the event loop waits for them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import argon2
import msgspec

from postroom.clock import Millis, SystemClock
from postroom.errors import EnvironmentFailed, PeerError
from postroom.sealing import Sealer, sync_directory, write_private
from postroom.store.access import permissions
from postroom.store.engine import Tx

ADMINISTRATOR = "administrator"
MONITOR = "monitor"
PROCESSING_READ = permissions.PROCESSING_READ
PROCESSING_EDIT = permissions.PROCESSING_EDIT
ALL_PERMISSIONS = permissions.ALL

MAX_NAME = 100
MAX_EMAIL = 320  # RFC 5321 4.5.3.1: 64 + 1 + 255
MIN_PASSWORD = 8
MAX_PASSWORD = 1024

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's first choice


class Role(msgspec.Struct, frozen=True):
    name: str
    permissions: tuple[str, ...]

    def allows(self, permission: str) -> bool:
        return ALL_PERMISSIONS in self.permissions or permission in self.permissions


class AppKeys(msgspec.Struct, frozen=True):
    """What checking a signed request takes. The secrets are open: keep it in memory, never print it."""

    app_id: str
    name: str
    role: Role
    app_key: str
    access_key: str
    secret_key: bytes  # decoded
    usable: bool = True  # False: sealed with another secrets key; nobody knows these, so no signature is right

    def __repr__(self) -> str:
        return f"AppKeys({self.app_id}, {self.name!r}, role {self.role.name})"


class AppListed(msgspec.Struct, frozen=True):
    app_id: str
    name: str
    role: str
    access_key: str
    client_id: str
    created: Millis
    revoked: Millis | None


class Credentials(msgspec.Struct, frozen=True):
    """A new application's; shown once."""

    app_id: str
    app_key: str
    access_key: str
    secret_key: str
    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"Credentials({self.app_id})"


class User(msgspec.Struct, frozen=True):
    email: str
    password_hash: str
    role: Role
    created: Millis

    def __repr__(self) -> str:
        return f"User({self.email}, role {self.role.name})"


class Session(msgspec.Struct, frozen=True):
    email: str
    role: Role
    created: Millis
    expires: Millis


# -- roles

_ROLE_READ = "SELECT name, permissions FROM role WHERE name = ?"
_ROLE_LIST = "SELECT name, permissions FROM role ORDER BY name"
_ROLE_ADD = "INSERT INTO role (name, permissions) VALUES (?, ?)"


def _all(tx: Tx, statement: str, values: Sequence[Any] = ()) -> list[Any]:
    return tx.rows(statement, tuple(values))


def _one(tx: Tx, statement: str, *values: Any) -> Any:
    rows = _all(tx, statement, values)
    return rows[0] if rows else None


def find_role(tx: Tx, name: str) -> Role | None:
    row = _one(tx, _ROLE_READ, name)
    return None if row is None else Role(row[0], tuple(json.loads(row[1])))


def list_roles(tx: Tx) -> list[Role]:
    return [Role(name, tuple(json.loads(held))) for name, held in _all(tx, _ROLE_LIST)]


def create_role(tx: Tx, name: str, wanted: Sequence[str]) -> Role:
    name = _name(name, "role")
    if find_role(tx, name) is not None:
        raise PeerError(f"role {name!r} exists already")
    held = permissions.check(wanted)
    tx.run(_ROLE_ADD, (name, json.dumps(list(held))))
    return Role(name, held)


def _role_named(tx: Tx, name: str) -> Role:
    role = find_role(tx, name)
    if role is None:
        known = ", ".join([found.name for found in list_roles(tx)])
        raise PeerError(f"no role {name[:MAX_NAME]!r}: expected one of {known}")
    return role


def _name(text: str, what: str) -> str:
    text = text.strip()
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise PeerError(f"{what} name {text[:40]!r}: expected 1 to {MAX_NAME} printable characters")
    return text


# -- applications

_APP_ADD = (
    "INSERT INTO app (app_id, name, role, app_key_sealed, access_key, secret_key_sealed, client_id, client_secret_hash, "
    "created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_APP_READ = (
    "SELECT app.app_id, app.name, app.role, role.permissions, app.app_key_sealed, app.access_key, app.secret_key_sealed "
    "FROM app JOIN role ON role.name = app.role WHERE app.app_id = ? AND app.revoked IS NULL"
)
_APP_LIST = "SELECT app_id, name, role, access_key, client_id, created, revoked FROM app ORDER BY created, app_id"
_APP_REVOKE = "UPDATE app SET revoked = ? WHERE app_id = ? AND revoked IS NULL RETURNING app_id"


def create_app(tx: Tx, sealer: Sealer, *, name: str, role: str, now: Millis | None = None) -> Credentials:
    """A new application with fresh credentials, which no later call can show again."""
    name = _name(name, "application")
    _role_named(tx, role)
    made = Credentials(
        app_id=str(uuid.uuid4()),
        app_key=str(uuid.uuid4()),
        access_key=secrets.token_urlsafe(96),
        secret_key=base64.b64encode(secrets.token_bytes(64)).decode(),
        client_id=secrets.token_urlsafe(30),
        client_secret=secrets.token_urlsafe(48),
    )
    tx.run(
        _APP_ADD,
        (
            made.app_id, name, role,
            sealer.seal(made.app_key.encode(), _context("app_key", made.app_id)),
            made.access_key,
            sealer.seal(made.secret_key.encode(), _context("secret_key", made.app_id)),
            made.client_id, hashlib.sha256(made.client_secret.encode()).digest(), _now(now),
        ),
    )  # fmt: skip
    return made


def find_app(tx: Tx, sealer: Sealer, app_id: str) -> AppKeys | None:
    """The living application with this id, its keys open (see `usable`). None: unknown or revoked."""
    row = _one(tx, _APP_READ, app_id)
    if row is None:
        return None
    ident, name, role, held, app_key, access_key, secret_key = row
    try:
        key = sealer.open(app_key, _context("app_key", ident)).decode()
        secret = base64.b64decode(sealer.open(secret_key, _context("secret_key", ident)))
        usable = True
    except EnvironmentFailed:  # the store was restored without its secrets key
        key, secret, usable = secrets.token_hex(32), secrets.token_bytes(64), False
    return AppKeys(ident, name, Role(role, tuple(json.loads(held))), key, access_key, secret, usable)


def unusable_apps(tx: Tx, sealer: Sealer) -> list[str]:
    """Names of the living applications whose keys were sealed with another secrets key."""
    living = [listed for listed in list_apps(tx) if listed.revoked is None]
    found = [(listed.name, find_app(tx, sealer, listed.app_id)) for listed in living]
    return [name for name, app in found if app is not None and not app.usable]


def list_apps(tx: Tx) -> list[AppListed]:
    return [AppListed(*row) for row in _all(tx, _APP_LIST)]


def revoke_app(tx: Tx, app_id: str, *, now: Millis | None = None) -> bool:
    """False when there is no living application with this id. A serving gateway notices within a second."""
    return _one(tx, _APP_REVOKE, _now(now), app_id) is not None


def _context(column: str, app_id: str) -> bytes:
    """Binds a sealed key to its row and column: one copied elsewhere does not open."""
    return f"app.{column}:{app_id}".encode()


def _now(now: Millis | None) -> Millis:
    return SystemClock().now() if now is None else now


# -- people

_USER_ADD = "INSERT INTO console_user (email, password_hash, role, created) VALUES (?, ?, ?, ?)"
_USER_READ = (
    "SELECT u.email, u.password_hash, u.role, role.permissions, u.created "
    "FROM console_user AS u JOIN role ON role.name = u.role WHERE u.email = ? AND u.disabled IS NULL"
)
_USER_THERE = "SELECT 1 FROM console_user WHERE email = ?"


def hash_password(password: str) -> str:
    """argon2id; slow on purpose, so never inside a transaction or on the event loop."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise PeerError(f"password: expected {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return _hasher.hash(password)


def verify_password(user: User | None, password: str) -> bool:
    """As slow for an unknown user as for a wrong password, so that neither can be told from the time it takes."""
    with contextlib.suppress(argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        _hasher.verify(user.password_hash if user else _nobody(), password[:MAX_PASSWORD])
        return user is not None
    return False


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


def fold_email(email: str) -> str:
    return email.strip().casefold()


def create_user(tx: Tx, *, email: str, password_hash: str, role: str, now: Millis | None = None) -> User:
    """`password_hash` comes from `hash_password`."""
    email = fold_email(email)
    local, at, domain = email.rpartition("@")
    if not (local and at and domain) or len(email) > MAX_EMAIL or not email.isprintable() or " " in email:
        raise PeerError(f"e-mail address {email[:60]!r}: expected name@domain")
    found = _role_named(tx, role)
    if _one(tx, _USER_THERE, email) is not None:
        raise PeerError(f"user {email} exists already")
    created = _now(now)
    tx.run(_USER_ADD, (email, password_hash, role, created))
    return User(email, password_hash, found, created)


def find_user(tx: Tx, email: str) -> User | None:
    """None: unknown, or may not log in."""
    row = _one(tx, _USER_READ, fold_email(email))
    return None if row is None else User(row[0], row[1], Role(row[2], tuple(json.loads(row[3]))), row[4])


# -- console sessions

_SESSION_ADD = "INSERT INTO console_session (token_hash, email, created, expires) VALUES (?, ?, ?, ?)"
_SESSION_REAP = "DELETE FROM console_session WHERE expires <= ?"
_SESSION_READ = (
    "SELECT s.email, u.role, role.permissions, s.created, s.expires FROM console_session AS s "
    "JOIN console_user AS u ON u.email = s.email JOIN role ON role.name = u.role "
    "WHERE s.token_hash = ? AND s.expires > ? AND u.disabled IS NULL"
)
_SESSION_DROP = "DELETE FROM console_session WHERE token_hash = ?"


def create_session(tx: Tx, email: str, *, lifetime: Millis, now: Millis | None = None) -> tuple[str, Session]:
    """(the token for the cookie, the session); sessions that have ended are cleared on the way."""
    user = find_user(tx, email)
    if user is None:
        raise PeerError(f"no user {fold_email(email)[:60]!r}")
    at = _now(now)
    token = secrets.token_urlsafe(32)
    tx.run(_SESSION_REAP, (at,))
    tx.run(_SESSION_ADD, (_token_hash(token), user.email, at, at + lifetime))
    return token, Session(user.email, user.role, at, at + lifetime)


def find_session(tx: Tx, token: str, *, now: Millis | None = None) -> Session | None:
    """None: unknown, dropped or over."""
    row = _one(tx, _SESSION_READ, _token_hash(token), _now(now))
    return None if row is None else Session(row[0], Role(row[1], tuple(json.loads(row[2]))), row[3], row[4])


def drop_session(tx: Tx, token: str) -> None:
    tx.run(_SESSION_DROP, (_token_hash(token),))


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# -- the first administrator

_ADMINISTRATORS = (
    "SELECT EXISTS (SELECT 1 FROM app WHERE role = ?) OR EXISTS (SELECT 1 FROM console_user WHERE role = ?)"
)


def bootstrap(
    tx: Tx, sealer: Sealer, base_url: str, smtp: str, path: Path | str,
    *, email: str = "admin@postroom.local", now: Millis | None = None,
) -> bool:  # fmt: skip
    """Make the first administrator and write `path` (admin.json); False when the store has or had one.

    The file is durable before the transaction commits: a crash between the two leaves a file that the next start replaces,
    never an administrator whose keys nobody has.
    """
    if _one(tx, _ADMINISTRATORS, ADMINISTRATOR, ADMINISTRATOR)[0]:
        return False
    made = create_app(tx, sealer, name="administrator", role=ADMINISTRATOR, now=now)
    password = secrets.token_urlsafe(15)
    create_user(tx, email=email, password_hash=hash_password(password), role=ADMINISTRATOR, now=now)
    content = {
        "baseUrl": base_url, "smtp": smtp, "appId": made.app_id, "appKey": made.app_key, "accessKey": made.access_key,
        "secretKey": made.secret_key, "clientId": made.client_id, "clientSecret": made.client_secret,
        "email": email, "password": password,
    }  # fmt: skip
    path = Path(path)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(aside, (json.dumps(content, indent=2) + "\n").encode())
        os.replace(aside, path)
        sync_directory(path.parent)
    except OSError as problem:
        aside.unlink(missing_ok=True)
        raise EnvironmentFailed(f"cannot write the first administrator to {path}: {problem.strerror}") from problem
    return True
