"""What was refused at SMTP time: who, to whom, why, from where, when; kept for message tracking and `get-rejections`.

Promises: the ids are times and never those of an entry (a node of their own), so that a search walks both in one order.
`smtp_in/rejections.py` folds many refusals into one row before they get here. Fails: what the database raises passes
through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.ids import NODE_BITS, SEQUENCE_BITS, first_id_at, id_time
from postroom.store.engine import Tx, named
from postroom.store.fold import clean

KINDS = ("relaying", "address", "size", "content", "limit", "unavailable")
PASSING = ("limit", "unavailable")  # the peer may try again: the message may have come in since
MAX_TEXT = 512  # characters of any field

_NODE = (1 << NODE_BITS) - 1
_NEXT = named("logs.next_rejection_id", "SELECT coalesce((SELECT max(id) FROM rejection), 0) + 1")
# Positional: hundreds of rows in one transaction while somebody knocks at the door again and again.
_ADD = named(
    "logs.add_rejection",
    "INSERT INTO rejection (id, ip, helo, env_from, recipient, kind, reply, number) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
)
SELECT = "SELECT id, ip, helo, env_from, recipient, kind, reply, number FROM rejection"
_FIND = named("logs.find_rejection", f"{SELECT} WHERE id = :id")
_FORGET = named(
    "logs.forget_rejections",
    "DELETE FROM rejection WHERE id IN (SELECT id FROM rejection WHERE id < :before ORDER BY id LIMIT :most)",
)
# what a search may name -> the columns that it looks into
FIELDS = {
    "all": ("env_from", "recipient", "kind", "reply", "ip"),
    "from": ("env_from",),
    "to": ("recipient",),
    "type": ("kind",),
    "info": ("reply",),
    "remoteip": ("ip",),
}


class NewRejection(msgspec.Struct, frozen=True, gc=False):
    """A refusal to be recorded, or `number` alike. What is not known is empty; `kind` is one of KINDS."""

    at: Millis
    ip: str
    helo: str
    env_from: str
    recipient: str
    kind: str
    reply: str
    number: int = 1


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A refusal as it was recorded, or `number` alike within a minute."""

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
    """Record these refusals, in their order. Control characters become spaces; texts are cut at MAX_TEXT characters."""
    following = int(tx.rows(_NEXT)[0][0])
    for one in refused:
        ident = max(following, first_id_at(one.at) | _NODE << SEQUENCE_BITS)
        following = ident + 1
        texts = [
            clean(text)[:MAX_TEXT] for text in (one.ip, one.helo, one.env_from, one.recipient, one.kind, one.reply)
        ]
        tx.run(_ADD, (ident, *texts, one.number))


def read(row: tuple[Any, ...]) -> Rejection:
    """One row of SELECT."""
    return Rejection(*row)


def find(tx: Tx, ident: int) -> Rejection | None:
    """The refusal with this id. None: there is none."""
    rows = tx.rows(_FIND, {"id": ident})
    return read(rows[0]) if rows else None


def forget(tx: Tx, before: Millis, most: int) -> int:
    """Delete up to `most` rows written before; how many."""
    return tx.run(_FORGET, {"before": first_id_at(before), "most": most})
