"""Forgetting what has run out: console sessions, OAuth tokens, signatures of changing calls, audit lines.

Promises: one call is one small step (a few milliseconds of the writer); nothing that still counts goes. Fails: apsw errors pass through.
"""

from __future__ import annotations

import apsw

from postroom.clock import Millis
from postroom.store import audit, signatures, tokens

SLICE = 500  # rows of each kind in one step

_SESSIONS = "DELETE FROM console_session WHERE token_hash IN (SELECT token_hash FROM console_session WHERE expires <= ? LIMIT ?)"


def reap(connection: apsw.Connection, now: Millis, audit_before: Millis) -> int:
    """One step; how many rows went. Call it again until it is 0."""
    changes = connection.total_changes()
    connection.execute(_SESSIONS, (now, SLICE))
    tokens.reap(connection, now, SLICE)
    signatures.reap(connection, now, SLICE)
    audit.reap(connection, audit_before)
    return connection.total_changes() - changes
