"""OAuth access tokens. Inside the caller's transaction.

Promises: a token is random and opaque, returned once and kept as a hash only. An application has a bounded number of
them; the oldest go first. An expired token is remembered for a while, because clients log in again only when the answer
says "expired". Fails: never.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets

import msgspec

from postroom.clock import DAY, Millis
from postroom.store.access.identity import Role
from postroom.store.engine import Tx, named

MOST = 1000  # of one application
REMEMBERED = 30 * DAY  # after it has expired
_BYTES = 21  # 28 characters, as the vendor's

_CLIENT = named(
    "access.find_client",
    "SELECT app_id, client_secret_hash, name FROM app WHERE client_id = :client_id AND revoked IS NULL",
)
_ADD = named(
    "access.add_token",
    "INSERT INTO oauth_token (token_hash, app_id, created, expires) VALUES (:token_hash, :app_id, :created, :expires)",
)
_TRIM = named(
    "access.trim_tokens",
    "DELETE FROM oauth_token WHERE token_hash IN (SELECT token_hash FROM oauth_token WHERE app_id = :app_id "
    "ORDER BY created DESC LIMIT -1 OFFSET :kept)",
)
_READ = named(
    "access.find_token",
    "SELECT app.app_id, app.name, app.role, role.permissions, t.expires FROM oauth_token AS t "
    "JOIN app ON app.app_id = t.app_id JOIN role ON role.name = app.role "
    "WHERE t.token_hash = :token_hash AND app.revoked IS NULL",
)
_REAP = named(
    "access.reap_tokens",
    "DELETE FROM oauth_token WHERE token_hash IN "
    "(SELECT token_hash FROM oauth_token WHERE expires <= :until ORDER BY expires LIMIT :most)",
)


class Client(msgspec.Struct, frozen=True):
    """An application that has shown its client secret."""

    app_id: str
    name: str


class Token(msgspec.Struct, frozen=True):
    """An application's access token, good until `expires`."""

    app_id: str
    name: str
    role: Role
    expires: Millis


def hash_token(token: bytes) -> bytes:
    """What the store knows a token by."""
    return hashlib.sha256(token).digest()


def find_client(tx: Tx, client_id: str, client_secret: str) -> Client | None:
    """The living application with this id and secret. None: unknown, revoked, or another secret.

    A secret has 384 random bits: nobody guesses it, so its hash need not be slow.
    """
    rows = tx.rows(_CLIENT, {"client_id": client_id})
    app_id, kept, name = rows[0] if rows else ("", bytes(32), "")
    same = hmac.compare_digest(kept, hashlib.sha256(client_secret.encode("utf-8", "replace")).digest())
    return Client(app_id, name) if rows and same else None


def issue(tx: Tx, app_id: str, *, lifetime: Millis, now: Millis) -> str:
    """A new access token of this application, good for `lifetime` milliseconds. Its text cannot be had again."""
    token = secrets.token_urlsafe(_BYTES)
    token_hash = hash_token(token.encode())
    tx.run(_ADD, {"token_hash": token_hash, "app_id": app_id, "created": now, "expires": now + lifetime})
    tx.run(_TRIM, {"app_id": app_id, "kept": MOST})
    return token


def find(tx: Tx, token_hash: bytes) -> Token | None:
    """The token with this hash (`hash_token`), also when it has expired. None: unknown, forgotten, or of a revoked
    application."""
    rows = tx.rows(_READ, {"token_hash": token_hash})
    if not rows:
        return None
    app_id, name, role, permissions, expires = rows[0]
    return Token(app_id, name, Role(role, tuple(json.loads(permissions))), expires)


def reap(tx: Tx, now: Millis, limit: int) -> int:
    """Delete up to `limit` tokens that expired long ago; how many."""
    return tx.run(_REAP, {"until": now - REMEMBERED, "most": limit})
