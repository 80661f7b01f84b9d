"""Who may ask: roles, applications, people, console sessions. Inside the caller's transaction.

Promises: every secret is returned once, by the function that made it, and kept sealed (HMAC keys) or hashed (the rest).
Fails: PeerError names what was wrong with the input; EnvironmentFailed when `admin.json` cannot be written. Hashing a
password takes tens of milliseconds on purpose: `hash_password` and `verify_password` need no transaction, so that
neither the writer nor the event loop waits for them.
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

import argon2
import msgspec

from postroom.clock import Millis, SystemClock
from postroom.errors import EnvironmentFailed, PeerError
from postroom.sealing import Sealer, sync_directory, write_private
from postroom.store.access import permissions
from postroom.store.engine import Tx, named

ADMINISTRATOR = "administrator"
MONITOR = "monitor"

MAX_NAME = 100
MAX_EMAIL = 320  # RFC 5321 4.5.3.1: 64 + 1 + 255
MIN_PASSWORD = 8
MAX_PASSWORD = 1024

_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)  # OWASP's first choice


class Role(msgspec.Struct, frozen=True):
    """A name and the permissions that come with it."""

    name: str
    permissions: tuple[str, ...]

    def allows(self, permission: str) -> bool:
        """Whether its holders have this permission."""
        return permissions.ALL in self.permissions or permission in self.permissions


class AppKeys(msgspec.Struct, frozen=True):
    """An application's keys, as checking a signature needs them. The secrets are open: keep it in memory, never print
    it."""

    app_id: str
    name: str
    role: Role
    app_key: str
    access_key: str
    secret_key: bytes  # decoded
    usable: bool = True  # False: sealed with another secrets key, so that no signature can be right

    def __repr__(self) -> str:
        return f"AppKeys({self.app_id}, {self.name!r}, role {self.role.name})"


class AppListed(msgspec.Struct, frozen=True):
    """An application, as lists show it. `revoked`: since when; None: it lives."""

    app_id: str
    name: str
    role: str
    access_key: str
    client_id: str
    created: Millis
    revoked: Millis | None


class Credentials(msgspec.Struct, frozen=True):
    """A new application's keys; shown once."""

    app_id: str
    app_key: str
    access_key: str
    secret_key: str
    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"Credentials({self.app_id})"


class User(msgspec.Struct, frozen=True):
    """A person who may log in."""

    email: str
    password_hash: str
    role: Role
    created: Millis

    def __repr__(self) -> str:
        return f"User({self.email}, role {self.role.name})"


class Session(msgspec.Struct, frozen=True):
    """A person's session at the console, until `expires`."""

    email: str
    role: Role
    created: Millis
    expires: Millis


# -- roles

_ROLE_READ = named("access.find_role", "SELECT name, permissions FROM role WHERE name = :name")
_ROLE_LIST = named("access.list_roles", "SELECT name, permissions FROM role ORDER BY name")
_ROLE_ADD = named("access.add_role", "INSERT INTO role (name, permissions) VALUES (:name, :permissions)")


def find_role(tx: Tx, name: str) -> Role | None:
    """The role of this name. None: there is none."""
    row = tx.row(_ROLE_READ, {"name": name})
    return None if row is None else Role(row[0], tuple(json.loads(row[1])))


def list_roles(tx: Tx) -> list[Role]:
    """All roles, by name."""
    return [Role(name, tuple(json.loads(held))) for name, held in tx.rows(_ROLE_LIST)]


def create_role(tx: Tx, name: str, wanted: Sequence[str]) -> Role:
    """A new role with these permissions. PeerError: the name is taken or unfit, or there is no such permission."""
    name = _name(name, "role")
    if find_role(tx, name) is not None:
        raise PeerError(f"role {name!r} exists already")
    held = permissions.check(wanted)
    tx.run(_ROLE_ADD, {"name": name, "permissions": json.dumps(list(held))})
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

_APP_ADD = named(
    "access.add_app",
    "INSERT INTO app (app_id, name, role, app_key_sealed, access_key, secret_key_sealed, client_id, "
    "client_secret_hash, created) VALUES (:app_id, :name, :role, :app_key_sealed, :access_key, :secret_key_sealed, "
    ":client_id, :client_secret_hash, :created)",
)
_APP_READ = named(
    "access.find_app",
    "SELECT app.app_id, app.name, app.role, role.permissions, app.app_key_sealed, app.access_key, "
    "app.secret_key_sealed FROM app JOIN role ON role.name = app.role "
    "WHERE app.app_id = :app_id AND app.revoked IS NULL",
)
_APP_LIST = named(
    "access.list_apps",
    "SELECT app_id, name, role, access_key, client_id, created, revoked FROM app ORDER BY created, app_id",
)
_APP_REVOKE = named("access.revoke_app", "UPDATE app SET revoked = :now WHERE app_id = :app_id AND revoked IS NULL")


def create_app(tx: Tx, sealer: Sealer, *, name: str, role: str, now: Millis | None = None) -> Credentials:
    """A new application with fresh credentials, which no later call can show again. PeerError: unfit name, unknown
    role."""
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
        {
            "app_id": made.app_id,
            "name": name,
            "role": role,
            "app_key_sealed": sealer.seal(made.app_key.encode(), _context("app_key", made.app_id)),
            "access_key": made.access_key,
            "secret_key_sealed": sealer.seal(made.secret_key.encode(), _context("secret_key", made.app_id)),
            "client_id": made.client_id,
            "client_secret_hash": hashlib.sha256(made.client_secret.encode()).digest(),
            "created": _now(now),
        },
    )
    return made


def find_app(tx: Tx, sealer: Sealer, app_id: str) -> AppKeys | None:
    """The living application with this id, its keys open (see `usable`). None: unknown or revoked."""
    row = tx.row(_APP_READ, {"app_id": app_id})
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
    """All applications, oldest first, also revoked ones."""
    return [AppListed(*row) for row in tx.rows(_APP_LIST)]


def revoke_app(tx: Tx, app_id: str, *, now: Millis | None = None) -> bool:
    """Revoke an application; a serving gateway notices within a second. False: no living application has this id."""
    return tx.run(_APP_REVOKE, {"now": _now(now), "app_id": app_id}) > 0


def _context(column: str, app_id: str) -> bytes:
    """Binds a sealed key to its row and column: one copied elsewhere does not open."""
    return f"app.{column}:{app_id}".encode()


def _now(now: Millis | None) -> Millis:
    return SystemClock().now() if now is None else now


# -- people

_USER_ADD = named(
    "access.add_user",
    "INSERT INTO console_user (email, password_hash, role, created) VALUES (:email, :password_hash, :role, :created)",
)
_USER_READ = named(
    "access.find_user",
    "SELECT u.email, u.password_hash, u.role, role.permissions, u.created "
    "FROM console_user AS u JOIN role ON role.name = u.role WHERE u.email = :email AND u.disabled IS NULL",
)
_USER_THERE = named("access.is_user", "SELECT 1 FROM console_user WHERE email = :email")


def hash_password(password: str) -> str:
    """argon2id: slow on purpose, so never in a transaction or on the event loop. PeerError: too short or too long."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise PeerError(f"password: expected {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return _hasher.hash(password)


def verify_password(user: User | None, password: str) -> bool:
    """Whether it is this person's password. As slow for None as for a wrong password: the time tells nothing."""
    with contextlib.suppress(argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        _hasher.verify(user.password_hash if user else _nobody(), password[:MAX_PASSWORD])
        return user is not None
    return False


@cache
def _nobody() -> str:
    return _hasher.hash(secrets.token_urlsafe(16))


def fold_email(email: str) -> str:
    """An address as the store keeps and finds it: without blanks around it, in lower case."""
    return email.strip().casefold()


def create_user(tx: Tx, *, email: str, password_hash: str, role: str, now: Millis | None = None) -> User:
    """A new person; `password_hash` comes from `hash_password`. PeerError: unfit or known address, unknown role."""
    email = fold_email(email)
    local, at, domain = email.rpartition("@")
    if not (local and at and domain) or len(email) > MAX_EMAIL or not email.isprintable() or " " in email:
        raise PeerError(f"e-mail address {email[:60]!r}: expected name@domain")
    found = _role_named(tx, role)
    if tx.row(_USER_THERE, {"email": email}) is not None:
        raise PeerError(f"user {email} exists already")
    created = _now(now)
    tx.run(_USER_ADD, {"email": email, "password_hash": password_hash, "role": role, "created": created})
    return User(email, password_hash, found, created)


def find_user(tx: Tx, email: str) -> User | None:
    """The person with this address. None: unknown, or may not log in."""
    row = tx.row(_USER_READ, {"email": fold_email(email)})
    return None if row is None else User(row[0], row[1], Role(row[2], tuple(json.loads(row[3]))), row[4])


# -- console sessions

_SESSION_ADD = named(
    "access.add_session",
    "INSERT INTO console_session (token_hash, email, created, expires) "
    "VALUES (:token_hash, :email, :created, :expires)",
)
_SESSION_REAP = named("access.reap_sessions", "DELETE FROM console_session WHERE expires <= :now")
_SESSION_READ = named(
    "access.find_session",
    "SELECT s.email, u.role, role.permissions, s.created, s.expires FROM console_session AS s "
    "JOIN console_user AS u ON u.email = s.email JOIN role ON role.name = u.role "
    "WHERE s.token_hash = :token_hash AND s.expires > :now AND u.disabled IS NULL",
)
_SESSION_DROP = named("access.drop_session", "DELETE FROM console_session WHERE token_hash = :token_hash")


def create_session(tx: Tx, email: str, *, lifetime: Millis, now: Millis | None = None) -> tuple[str, Session]:
    """A new session: (the token for the cookie, the session). Deletes those that are over. PeerError: no such user."""
    user = find_user(tx, email)
    if user is None:
        raise PeerError(f"no user {fold_email(email)[:60]!r}")
    at = _now(now)
    token = secrets.token_urlsafe(32)
    tx.run(_SESSION_REAP, {"now": at})
    tx.run(
        _SESSION_ADD,
        {"token_hash": _token_hash(token), "email": user.email, "created": at, "expires": at + lifetime},
    )
    return token, Session(user.email, user.role, at, at + lifetime)


def find_session(tx: Tx, token: str, *, now: Millis | None = None) -> Session | None:
    """The session of this cookie's token. None: unknown, dropped or over, or the person may no longer log in."""
    row = tx.row(_SESSION_READ, {"token_hash": _token_hash(token), "now": _now(now)})
    return None if row is None else Session(row[0], Role(row[1], tuple(json.loads(row[2]))), row[3], row[4])


def drop_session(tx: Tx, token: str) -> None:
    """End a session: log out. Nothing happens when there is none."""
    tx.run(_SESSION_DROP, {"token_hash": _token_hash(token)})


def _token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


# -- the first administrator

_ADMINISTRATORS = named(
    "access.is_administered",
    "SELECT EXISTS (SELECT 1 FROM app WHERE role = :role) OR EXISTS (SELECT 1 FROM console_user WHERE role = :role)",
)


def bootstrap(
    tx: Tx, sealer: Sealer, base_url: str, smtp: str, path: Path | str,
    *, email: str = "admin@postroom.local", now: Millis | None = None,
) -> bool:  # fmt: skip
    """Make the first administrator and write `path` (admin.json). False: the store has or had one.

    The file is durable before the transaction commits: a crash between the two leaves a file that the next start
    replaces, never an administrator whose keys nobody has. EnvironmentFailed: the file cannot be written.
    """
    if tx.rows(_ADMINISTRATORS, {"role": ADMINISTRATOR})[0][0]:
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
