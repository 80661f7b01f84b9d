"""Signatures of changing calls. The body is not signed (contract 1.1), so each signature is good for one body only.

Promises: the first body that comes with a signature is the only one that it ever works for, also across a restart. A
signature is kept for as long as the date of its call would be accepted, and at most MOST are kept. Inside the caller's
transaction. Fails: never.
"""

from __future__ import annotations

import zlib

import msgspec

from postroom.clock import Millis
from postroom.store.engine import Tx, named

MOST = 100_000  # the ones that end first go; only applications that may change something can add one
MAX_ANSWER = 64 * 1024  # bytes that are kept of one; 2,500 rejected ids, the most of one call, fit when packed
_PACKED = b"\x78"  # how zlib's bytes begin (RFC 1950 2.2); an answer begins with a brace

_READ = named("access.find_signature", "SELECT body_hash, answer FROM signed_call WHERE signature = :signature")
_ADD = named(
    "access.add_signature",
    "INSERT INTO signed_call (signature, body_hash, expires) VALUES (:signature, :body_hash, :expires)",
)
_ANSWER = named("access.keep_answer", "UPDATE signed_call SET answer = :answer WHERE signature = :signature")
_REAP = named(
    "access.reap_signatures",
    "DELETE FROM signed_call WHERE signature IN "
    "(SELECT signature FROM signed_call WHERE expires < :now ORDER BY expires LIMIT :most)",
)
_COUNT = named("access.count_signatures", "SELECT count(*) FROM signed_call")
_OVER = named(
    "access.trim_signatures",
    "DELETE FROM signed_call WHERE signature IN (SELECT signature FROM signed_call ORDER BY expires LIMIT :most)",
)


class Used(msgspec.Struct, frozen=True):
    """What a signature was used for. `kept` None: the call has not ended, or ended without an answer."""

    body_hash: bytes
    kept: bytes | None


def use(tx: Tx, signature: bytes, body_hash: bytes, expires: Millis) -> Used | None:
    """Bind the signature to this body until `expires`. None: done; else what it was bound to before, which stays so."""
    rows = tx.rows(_READ, {"signature": signature})
    if rows:
        return Used(*rows[0])
    tx.run(_ADD, {"signature": signature, "body_hash": body_hash, "expires": expires})
    return None


def packed(answer: bytes) -> bytes | None:
    """A long answer, compressed, as it is kept. None: it is too long even so. Takes some milliseconds."""
    kept = zlib.compress(answer, 1)
    return kept if len(kept) <= MAX_ANSWER else None


def unpacked(kept: bytes) -> bytes:
    """The answer that was kept, compressed or not."""
    return zlib.decompress(kept) if kept.startswith(_PACKED) else kept


def answered(tx: Tx, signature: bytes, kept: bytes) -> None:
    """Keep the answer of a call beside its signature: at most MAX_ANSWER bytes, compressed when it is longer."""
    assert len(kept) <= MAX_ANSWER
    tx.run(_ANSWER, {"answer": kept, "signature": signature})


def reap(tx: Tx, now: Millis, limit: int) -> int:
    """Delete up to `limit` signatures that have ended, and as many beyond MOST; how many went."""
    gone = tx.run(_REAP, {"now": now, "most": limit})
    over = tx.rows(_COUNT)[0][0] - MOST
    if over > 0:
        gone += tx.run(_OVER, {"most": min(over, limit)})
    return gone
