"""People after they were created: list, new password, disable, enable, delete, log in. Inside the caller's transaction.

Promises: a person who is disabled, deleted or given a new password loses console sessions and API keys in the same
transaction. The last administrator who may log in stays. Fails: PeerError names the address and what was expected;
PersonChanged.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.sealing import Sealer
from postroom.store.access import bindings
from postroom.store.access.bindings import Issued
from postroom.store.access.identity import ADMINISTRATOR, User, create_session, find_user, fold_email
from postroom.store.engine import Tx, named

_LIST = named(
    "access.list_users",
    "SELECT u.email, u.role, u.created, u.disabled, "
    "(SELECT count(*) FROM binding AS b WHERE b.email = u.email) FROM console_user AS u ORDER BY u.email",
)
_COUNT = named("access.count_users", "SELECT count(*) FROM console_user")
_READ = named("access.find_person", "SELECT email, role, disabled FROM console_user WHERE email = :email")
_REKEY = named("access.set_password", "UPDATE console_user SET password_hash = :password_hash WHERE email = :email")
_DISABLED = named("access.set_disabled", "UPDATE console_user SET disabled = :disabled WHERE email = :email")
_DELETE = named("access.delete_user", "DELETE FROM console_user WHERE email = :email")
_OTHERS = named(
    "access.find_other_holder",
    "SELECT 1 FROM console_user WHERE role = :role AND disabled IS NULL AND email <> :email LIMIT 1",
)
_SESSIONS_DROP = named("access.drop_sessions", "DELETE FROM console_session WHERE email = :email")


class PersonChanged(PeerError):
    """After the check of a password, and before what it allows, the person was disabled, deleted or rekeyed."""


class Listed(msgspec.Struct, frozen=True):
    """A person, as lists show them. `disabled`: since when; None: may log in."""

    email: str
    role: str
    created: Millis
    disabled: Millis | None
    keys: int  # issued by the API's login


def list_users(tx: Tx) -> list[Listed]:
    """Everybody, by address, also those who may not log in."""
    return [Listed(*row) for row in tx.rows(_LIST)]


def count_users(tx: Tx) -> int:
    """How many people there are, also those who may not log in."""
    return int(tx.rows(_COUNT)[0][0])


def set_password(tx: Tx, email: str, password_hash: str) -> str:
    """Set a new password (`hash_password`) and end what the old one allowed; the address as it is kept. PeerError:
    nobody has it."""
    found, _, _ = _there(tx, email)
    tx.run(_REKEY, {"password_hash": password_hash, "email": found})
    _end(tx, found)
    return found


def disable(tx: Tx, email: str, now: Millis) -> tuple[str, bool]:
    """Let a person no longer log in, and end their sessions and keys: (the address as it is kept, False when it was so
    already).

    PeerError: nobody has this address, or it is the last administrator.
    """
    found, role, disabled = _there(tx, email)
    if disabled is not None:
        return found, False
    _keep_one(tx, found, role)
    tx.run(_DISABLED, {"disabled": now, "email": found})
    _end(tx, found)
    return found, True


def enable(tx: Tx, email: str) -> tuple[str, bool]:
    """Let a person log in again: (the address as it is kept, False when it was so already). PeerError: nobody has this
    address."""
    found, _, disabled = _there(tx, email)
    tx.run(_DISABLED, {"disabled": None, "email": found})
    return found, disabled is not None


def delete(tx: Tx, email: str) -> str:
    """Delete a person with their sessions and keys; the address as it was kept.

    PeerError: nobody has this address, or it is the last administrator.
    """
    found, role, disabled = _there(tx, email)
    if disabled is None:
        _keep_one(tx, found, role)
    _end(tx, found)
    tx.run(_DELETE, {"email": found})
    return found


def begin_session(tx: Tx, checked: User, *, lifetime: Millis, now: Millis) -> str:
    """Log a person in to the console, after their password was checked: the token for the cookie. PersonChanged."""
    _still(tx, checked)
    return create_session(tx, checked.email, lifetime=lifetime, now=now)[0]


def issue_keys(tx: Tx, sealer: Sealer, checked: User, *, app_id: str, access_key: str, now: Millis) -> Issued | None:
    """Give a person API keys for an application, after their password was checked. `access_key` empty: new keys; else
    these are made good again, or None when they are not this person's. PersonChanged."""
    _still(tx, checked)
    if not access_key:
        return bindings.issue(tx, sealer, app_id=app_id, email=checked.email, now=now)
    return bindings.refresh(tx, sealer, access_key=access_key, app_id=app_id, email=checked.email, now=now)


def _still(tx: Tx, checked: User) -> None:
    """The check takes tens of milliseconds, and longer when many log in: what it allows happens in a transaction that
    asks again."""
    found = find_user(tx, checked.email)
    if found is None or found.password_hash != checked.password_hash:
        raise PersonChanged(f"user {checked.email} has changed since the password was checked")


def _there(tx: Tx, email: str) -> tuple[str, str, Millis | None]:
    rows = tx.rows(_READ, {"email": fold_email(email)})
    if not rows:
        raise PeerError(f"no user {fold_email(email)[:60]!r}; postroom user list shows them")
    email, role, disabled = rows[0]
    return email, role, disabled


def _keep_one(tx: Tx, email: str, role: str) -> None:
    """A gateway that nobody can log in to can only be helped from the command line."""
    if role == ADMINISTRATOR and not tx.rows(_OTHERS, {"role": ADMINISTRATOR, "email": email}):
        raise PeerError(f"{email} is the last administrator who can log in: create another one first")


def _end(tx: Tx, email: str) -> None:
    tx.run(_SESSIONS_DROP, {"email": email})
    bindings.drop(tx, email)
