"""What was refused at SMTP time: who, to whom, why, from where, when; kept for message tracking and `get-rejections`.

Promises: the ids are times and never those of an entry (a node of their own), so that a search walks both in one order; what
folds many refusals into one row is the recorder's business (smtp_in/rejections.py). Fails: apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.ids import NODE_BITS, SEQUENCE_BITS, first_id_at, id_time
from postroom.store.engine import Tx
from postroom.store.fold import clean

KINDS = ("relaying", "address", "size", "content", "limit", "unavailable")
PASSING = ("limit", "unavailable")  # the peer was told to try again: the message may have come in since
MAX_TEXT = 512  # characters of any field

_NODE = (1 << NODE_BITS) - 1
_NEXT = "SELECT coalesce((SELECT max(id) FROM rejection), 0) + 1"
_ADD = "INSERT INTO rejection (id, ip, helo, env_from, recipient, kind, reply, number) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
SELECT = "SELECT id, ip, helo, env_from, recipient, kind, reply, number FROM rejection"
_FORGET = "DELETE FROM rejection WHERE id IN (SELECT id FROM rejection WHERE id < ? ORDER BY id LIMIT ?)"
FIELDS = {
    "all": ("env_from", "recipient", "kind", "reply", "ip"),
    "from": ("env_from",),
    "to": ("recipient",),
    "type": ("kind",),
    "info": ("reply",),
    "remoteip": ("ip",),
}


class NewRejection(msgspec.Struct, frozen=True, gc=False):
    """A refusal, or `number` like it. What is not known is empty."""

    at: Millis
    ip: str
    helo: str
    env_from: str
    recipient: str
    kind: str
    reply: str
    number: int = 1


class Rejection(msgspec.Struct, frozen=True, gc=False):
    id: int
    ip: str
    helo: str
    env_from: str
    recipient: str
    kind: str
    reply: str
    number: int

    @property
    def at(self) -> Millis:
        return id_time(self.id)


def add(tx: Tx, refused: Sequence[NewRejection]) -> None:
    """Inside the writer's transaction."""
    following = int(tx.rows(_NEXT)[0][0])
    for one in refused:
        ident = max(following, first_id_at(one.at) | _NODE << SEQUENCE_BITS)
        following = ident + 1
        texts = [
            clean(text)[:MAX_TEXT] for text in (one.ip, one.helo, one.env_from, one.recipient, one.kind, one.reply)
        ]
        tx.run(_ADD, (ident, *texts, one.number))


def read(row: tuple[Any, ...]) -> Rejection:
    return Rejection(*row)


def find(tx: Tx, ident: int) -> Rejection | None:
    rows = tx.rows(f"{SELECT} WHERE id = ?", (ident,))
    return read(rows[0]) if rows else None


def forget(tx: Tx, before: Millis, most: int) -> int:
    """Delete up to `most` rows written before; how many."""
    return tx.run(_FORGET, (first_id_at(before), most))
