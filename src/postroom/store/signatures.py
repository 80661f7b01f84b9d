"""Signatures of changing calls: the body is not signed (contract 1.1), so each signature is good for one body only.

Promises: the first body that comes with a signature is the only one that it ever works for, also across a restart; kept for as long as the
date of the call would be accepted, and not more than MOST. Inside the caller's transaction. Fails: never.
"""

from __future__ import annotations

import apsw
import msgspec

from postroom.clock import Millis
from postroom.store.sqlite import fetch

MOST = 100_000  # the ones that end first go; only applications that may change something can add one
MAX_ANSWER = 64 * 1024  # bytes; a longer answer is not kept: then the same call runs again

_READ = "SELECT body_hash, answer FROM signed_call WHERE signature = ?"
_ADD = "INSERT INTO signed_call (signature, body_hash, expires) VALUES (?, ?, ?)"
_ANSWER = "UPDATE signed_call SET answer = ? WHERE signature = ?"
_REAP = (
    "DELETE FROM signed_call WHERE signature IN "
    "(SELECT signature FROM signed_call WHERE expires < ? ORDER BY expires LIMIT ?)"
)
_COUNT = "SELECT count(*) FROM signed_call"
_OVER = "DELETE FROM signed_call WHERE signature IN (SELECT signature FROM signed_call ORDER BY expires LIMIT ?)"


class Used(msgspec.Struct, frozen=True):
    """`answer` None: the call has not ended, or ended without one."""

    body_hash: bytes
    answer: bytes | None


def use(connection: apsw.Connection, signature: bytes, body_hash: bytes, expires: Millis) -> Used | None:
    """Bind the signature to this body; or what it was bound to before, which stays so."""
    rows = fetch(connection, _READ, (signature,))
    if rows:
        return Used(*rows[0])
    connection.execute(_ADD, (signature, body_hash, expires))
    return None


def answered(connection: apsw.Connection, signature: bytes, answer: bytes) -> None:
    if len(answer) <= MAX_ANSWER:
        connection.execute(_ANSWER, (answer, signature))


def reap(connection: apsw.Connection, now: Millis, limit: int) -> int:
    changes = connection.total_changes()
    connection.execute(_REAP, (now, limit))
    over = fetch(connection, _COUNT)[0][0] - MOST
    if over > 0:
        connection.execute(_OVER, (min(over, limit),))
    return connection.total_changes() - changes
