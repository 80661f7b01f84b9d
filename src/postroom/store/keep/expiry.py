"""Forgetting what has run out: console sessions, OAuth tokens, signatures of changing calls, audit lines.

Promises: one call is one small step (a few milliseconds of the writer); nothing that still counts goes. Fails: apsw errors pass through.
"""

from __future__ import annotations

from postroom.clock import Millis
from postroom.store.access import signatures, tokens
from postroom.store.engine import Tx
from postroom.store.logs import audit

SLICE = 500  # rows of each kind in one step

_SESSIONS = "DELETE FROM console_session WHERE token_hash IN (SELECT token_hash FROM console_session WHERE expires <= ? LIMIT ?)"


def reap(tx: Tx, now: Millis, audit_before: Millis) -> int:
    """One step; how many rows went. Call it again until it is 0."""
    gone = tx.run(_SESSIONS, (now, SLICE))
    gone += tokens.reap(tx, now, SLICE)
    gone += signatures.reap(tx, now, SLICE)
    return gone + audit.reap(tx, audit_before)
