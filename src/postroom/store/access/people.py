"""People after they were created: listed, given a new password, shut out, let in again, deleted. In the caller's transaction.

Promises: whoever is shut out, deleted or given a new password loses console sessions and API keys with it, in the same
transaction; the last administrator who may log in stays. Fails: PeerError names the address and what was expected.
"""

from __future__ import annotations

import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.store.access import bindings
from postroom.store.access.identity import ADMINISTRATOR, User, find_user, fold_email
from postroom.store.engine import Tx

_LIST = (
    "SELECT u.email, u.role, u.created, u.disabled, "
    "(SELECT count(*) FROM binding AS b WHERE b.email = u.email) FROM console_user AS u ORDER BY u.email"
)
_READ = "SELECT email, role, disabled FROM console_user WHERE email = ?"
_REKEY = "UPDATE console_user SET password_hash = ? WHERE email = ?"
_DISABLED = "UPDATE console_user SET disabled = ? WHERE email = ?"
_DELETE = "DELETE FROM console_user WHERE email = ?"
_OTHERS = "SELECT 1 FROM console_user WHERE role = ? AND disabled IS NULL AND email <> ? LIMIT 1"
_SESSIONS_DROP = "DELETE FROM console_session WHERE email = ?"


class Listed(msgspec.Struct, frozen=True):
    email: str
    role: str
    created: Millis
    disabled: Millis | None
    keys: int  # issued by the API's login


def list_users(tx: Tx) -> list[Listed]:
    return [Listed(*row) for row in tx.rows(_LIST)]


def set_password(tx: Tx, email: str, password_hash: str) -> str:
    """`password_hash` comes from `identity.hash_password`. The address as it is kept."""
    found, _, _ = _there(tx, email)
    tx.run(_REKEY, (password_hash, found))
    _end(tx, found)
    return found


def disable(tx: Tx, email: str, now: Millis) -> tuple[str, bool]:
    """(the address as it is kept, False when this was so already)."""
    found, role, disabled = _there(tx, email)
    if disabled is not None:
        return found, False
    _keep_one(tx, found, role)
    tx.run(_DISABLED, (now, found))
    _end(tx, found)
    return found, True


def enable(tx: Tx, email: str) -> tuple[str, bool]:
    """(the address as it is kept, False when this was so already)."""
    found, _, disabled = _there(tx, email)
    tx.run(_DISABLED, (None, found))
    return found, disabled is not None


def delete(tx: Tx, email: str) -> str:
    found, role, disabled = _there(tx, email)
    if disabled is None:
        _keep_one(tx, found, role)
    _end(tx, found)
    tx.run(_DELETE, (found,))
    return found


def unchanged(tx: Tx, checked: User) -> User | None:
    """Whose password was just checked, as they are now. None: shut out, deleted or given another password in the meantime.

    Checking takes tens of milliseconds, and longer when many try: what it allows is done in a transaction that asks this first.
    """
    found = find_user(tx, checked.email)
    return found if found is not None and found.password_hash == checked.password_hash else None


def _there(tx: Tx, email: str) -> tuple[str, str, Millis | None]:
    rows = tx.rows(_READ, (fold_email(email),))
    if not rows:
        raise PeerError(f"no user {fold_email(email)[:60]!r}; postroom user list shows them")
    email, role, disabled = rows[0]
    return email, role, disabled


def _keep_one(tx: Tx, email: str, role: str) -> None:
    """A gateway that nobody can log in to can only be helped from the command line."""
    if role == ADMINISTRATOR and not tx.rows(_OTHERS, (ADMINISTRATOR, email)):
        raise PeerError(f"{email} is the last administrator who can log in: create another one first")


def _end(tx: Tx, email: str) -> None:
    tx.run(_SESSIONS_DROP, (email,))
    bindings.drop(tx, email)
