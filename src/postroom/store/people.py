"""People after they were created: listed, given a new password, shut out, let in again, deleted. In the caller's transaction.

Promises: whoever is shut out, deleted or given a new password loses console sessions and API keys with it, in the same
transaction; the last administrator who may log in stays. Fails: PeerError names the address and what was expected.
"""

from __future__ import annotations

import apsw
import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.store import bindings
from postroom.store.identity import ADMINISTRATOR, User, find_user, fold_email
from postroom.store.sqlite import fetch

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


def list_users(connection: apsw.Connection) -> list[Listed]:
    return [Listed(*row) for row in fetch(connection, _LIST)]


def set_password(connection: apsw.Connection, email: str, password_hash: str) -> str:
    """`password_hash` comes from `identity.hash_password`. The address as it is kept."""
    found, _, _ = _there(connection, email)
    connection.execute(_REKEY, (password_hash, found))
    _end(connection, found)
    return found


def disable(connection: apsw.Connection, email: str, now: Millis) -> tuple[str, bool]:
    """(the address as it is kept, False when this was so already)."""
    found, role, disabled = _there(connection, email)
    if disabled is not None:
        return found, False
    _keep_one(connection, found, role)
    connection.execute(_DISABLED, (now, found))
    _end(connection, found)
    return found, True


def enable(connection: apsw.Connection, email: str) -> tuple[str, bool]:
    """(the address as it is kept, False when this was so already)."""
    found, _, disabled = _there(connection, email)
    connection.execute(_DISABLED, (None, found))
    return found, disabled is not None


def delete(connection: apsw.Connection, email: str) -> str:
    found, role, disabled = _there(connection, email)
    if disabled is None:
        _keep_one(connection, found, role)
    _end(connection, found)
    connection.execute(_DELETE, (found,))
    return found


def unchanged(connection: apsw.Connection, checked: User) -> User | None:
    """Whose password was just checked, as they are now. None: shut out, deleted or given another password in the meantime.

    Checking takes tens of milliseconds, and longer when many try: what it allows is done in a transaction that asks this first.
    """
    found = find_user(connection, checked.email)
    return found if found is not None and found.password_hash == checked.password_hash else None


def _there(connection: apsw.Connection, email: str) -> tuple[str, str, Millis | None]:
    rows = fetch(connection, _READ, (fold_email(email),))
    if not rows:
        raise PeerError(f"no user {fold_email(email)[:60]!r}; postroom user list shows them")
    email, role, disabled = rows[0]
    return email, role, disabled


def _keep_one(connection: apsw.Connection, email: str, role: str) -> None:
    """A gateway that nobody can log in to can only be helped from the command line."""
    if role == ADMINISTRATOR and not fetch(connection, _OTHERS, (ADMINISTRATOR, email)):
        raise PeerError(f"{email} is the last administrator who can log in: create another one first")


def _end(connection: apsw.Connection, email: str) -> None:
    connection.execute(_SESSIONS_DROP, (email,))
    bindings.drop(connection, email)
