"""Signatures of changing calls: the body is not signed (contract 1.1), so each signature is good for one body only.

Promises: the first body that comes with a signature is the only one that it ever works for, also across a restart; kept for as long as the
date of the call would be accepted, and not more than MOST. Inside the caller's transaction. Fails: never.
"""

from __future__ import annotations

import zlib

import msgspec

from postroom.clock import Millis
from postroom.store.engine import Tx

MOST = 100_000  # the ones that end first go; only applications that may change something can add one
MAX_ANSWER = 64 * 1024  # bytes that are kept of one; 2,500 rejected ids, the most of one call, fit when packed
_PACKED = b"\x78"  # how zlib's bytes begin (RFC 1950 2.2); an answer begins with a brace

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
    """`kept` None: the call has not ended, or ended without an answer."""

    body_hash: bytes
    kept: bytes | None


def use(tx: Tx, signature: bytes, body_hash: bytes, expires: Millis) -> Used | None:
    """Bind the signature to this body; or what it was bound to before, which stays so."""
    rows = tx.rows(_READ, (signature,))
    if rows:
        return Used(*rows[0])
    tx.run(_ADD, (signature, body_hash, expires))
    return None


def packed(answer: bytes) -> bytes | None:
    """A long one as it is kept; None: it is too long. Some milliseconds."""
    kept = zlib.compress(answer, 1)
    return kept if len(kept) <= MAX_ANSWER else None


def unpacked(kept: bytes) -> bytes:
    """The answer."""
    return zlib.decompress(kept) if kept.startswith(_PACKED) else kept


def answered(tx: Tx, signature: bytes, kept: bytes) -> None:
    """`kept`: an answer, `packed` when it is long."""
    assert len(kept) <= MAX_ANSWER
    tx.run(_ANSWER, (kept, signature))


def reap(tx: Tx, now: Millis, limit: int) -> int:
    gone = tx.run(_REAP, (now, limit))
    over = tx.rows(_COUNT)[0][0] - MOST
    if over > 0:
        gone += tx.run(_OVER, (min(over, limit),))
    return gone
