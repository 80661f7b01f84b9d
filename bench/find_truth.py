"""What searches of a queue must find, computed independently: another SQLite reads every row, plain Python compares.

It uses nothing of the gateway's search: no folded text, no index, no counters. A fast wrong answer ends the run.
Promises: `Truth.count` is exact for the queue as it was read; for a window that moves with the clock it gives the
least and the most that can be right between two moments. Fails: sqlite3.Error when the store cannot be read.
"""

from __future__ import annotations

import contextlib
import sqlite3
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from postroom.clock import DAY, Millis
from postroom.ids import first_id_at, id_time

EVER = DAY * 365 * 50
_ROWS = (
    "SELECT id, queue, route, attachment, env_from, from_address, from_name, recipient, recipient_name, to_header, "
    "subject, remote_ip, info_id, size, attempts, next_attempt, locked_until, priority, label FROM entry ORDER BY id"
)


class Row(NamedTuple):
    """An entry as a person would search for it; texts are folded."""

    id: int
    queue: int
    route: int
    attachment: int
    sender: str
    to: str
    subject: str
    ip: str
    info: str
    size: int
    attempts: int
    due: Millis  # when it is tried next, or its lease ends
    locked_until: Millis
    priority: int
    label: int
    recipient: str
    addresses: tuple[str, str]  # of the sender: envelope, header

    def has(self, text: str) -> bool:
        """In any field."""
        return text in self.subject or text in self.sender or text in self.to or text in self.ip or text in self.info


Match = Callable[[Row], bool]


class Span(NamedTuple):
    """Of acceptance: ages in milliseconds against now, or times. None: without end."""

    oldest: Millis | None = None
    newest: Millis | None = None
    since: Millis | None = None
    until: Millis | None = None


class Truth:
    """The keys of all rows that match, in order: their ids, or (`by_due`) when they are due."""

    __slots__ = ("by_due", "keys", "match")

    def __init__(self, match: Match, *, by_due: bool = False) -> None:
        self.match, self.by_due = match, by_due
        self.keys = array("q")

    def slice(self, span: Span, now: Millis) -> tuple[int, int]:
        """The range of a span in `keys`."""
        low, high = 0, len(self.keys)
        if self.by_due:
            low = 0 if span.oldest is None else bisect_left(self.keys, now + span.oldest)
            return low, high if span.newest is None else bisect_left(self.keys, now + span.newest)
        for oldest in ((now - span.oldest) if span.oldest is not None else None, span.since):
            low = low if oldest is None else max(low, bisect_left(self.keys, first_id_at(oldest)))
        for newest in ((now - span.newest) if span.newest is not None else None, span.until):
            high = high if newest is None else min(high, bisect_right(self.keys, first_id_at(newest + 1) - 1))
        return low, max(low, high)

    def count(self, span: Span, begin: Millis, end: Millis) -> tuple[int, int]:
        """(the least, the most) between two moments."""
        found = [high - low for low, high in (self.slice(span, begin - 2), self.slice(span, end + 2))]
        return min(found), max(found)

    def page(self, span: Span, now: Millis, offset: int, size: int, *, oldest: bool) -> list[int]:
        """The ids of a page, in its order."""
        low, high = self.slice(span, now)
        if oldest:
            return list(self.keys[low + offset : min(high, low + offset + size)])
        return list(self.keys[max(low, high - offset - size) : max(low, high - offset)][::-1])


def fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def learn(database: Path, truths: Sequence[Truth], progress: Callable[[int], None]) -> int:
    """Reads every row once, notes which cases must find it, and returns the number of rows."""
    number = 0
    checks = [(truth.match, truth.keys.append, truth.by_due) for truth in truths]
    with contextlib.closing(_open(database)) as connection:
        infos = {ident: fold(text) for ident, text in connection.execute("SELECT id, text FROM info")}
        for row in _rows(connection, infos):
            for match, note, by_due in checks:
                if match(row):
                    note(row.due if by_due else row.id)
            number += 1
            if number % 10_000 == 0:
                progress(number)
    for truth in truths:
        if truth.by_due:
            truth.keys = array("q", sorted(truth.keys))
    progress(number)
    return number


def _rows(connection: sqlite3.Connection, infos: dict[int, str]) -> Iterable[Row]:
    for (
        ident, queue, route, attachment, env_from, from_address, from_name, recipient, recipient_name, to_header,
        subject, ip, info, size, attempts, next_attempt, locked_until, priority, label,
    ) in connection.execute(_ROWS):  # fmt: skip
        locked = locked_until or 0
        yield Row(
            ident, queue, route, attachment, fold(f"{env_from}\x1f{from_address}\x1f{from_name}"),
            fold(f"{recipient}\x1f{recipient_name}\x1f{to_header}"), fold(subject), ip, infos[info], size, attempts,
            locked or next_attempt, locked, priority, label, recipient.lower(),
            (env_from.lower(), from_address.lower()),
        )  # fmt: skip


class Shown(NamedTuple):
    """What a page shows of an entry, enough to identify it."""

    recipient: str
    subject: str
    size: int
    accepted: Millis


def shown(database: Path, idents: Sequence[int]) -> list[Shown]:
    """Of these entries, in this order."""
    marks = ",".join("?" * len(idents))
    with contextlib.closing(_open(database)) as connection:
        found = {
            ident: Shown(recipient, subject, size, id_time(ident))
            for ident, recipient, subject, size in connection.execute(
                f"SELECT id, recipient, subject, size FROM entry WHERE id IN ({marks})", list(idents)
            )
        }
    return [found[ident] for ident in idents]


def samples(database: Path) -> dict[str, str]:
    """Texts of the queue that a person would search for: an address, a full IP, a reason of a single entry."""
    with contextlib.closing(_open(database)) as connection:
        middle = connection.execute("SELECT (min(id) + max(id)) / 2 FROM entry").fetchone()[0]
        sender, recipient, ip = connection.execute(
            "SELECT env_from, recipient, remote_ip FROM entry WHERE id > ? AND queue = 0 AND route = 0 "
            "AND remote_ip LIKE '198.%' AND attempts > 0 LIMIT 1",
            (middle,),
        ).fetchone()
        own = connection.execute(
            "SELECT text FROM info WHERE text LIKE 'connect to mx1.%: timed out' ORDER BY id DESC LIMIT 1"
        )
        text = (own.fetchone() or ("connect to mx1.nobody.example:25: timed out",))[0]
        domain = text.removeprefix("connect to mx1.").partition(":")[0]
    return {"sender": sender, "recipient": recipient, "ip": ip, "domain": domain}


def newest(database: Path) -> Millis:
    """When the newest entry was accepted."""
    return id_time(newest_id(database))


def newest_id(database: Path) -> int:
    return _number(database, "SELECT max(id) FROM entry")


def entries(database: Path) -> int:
    return _number(database, "SELECT count(*) FROM entry")


def watermark(index: Path) -> int:
    """The last id in the search index; 0 while there is no index, or it is new."""
    try:
        return _number(index, "SELECT number FROM state WHERE what = 'watermark'")
    except sqlite3.OperationalError:
        return 0


def _number(database: Path, statement: str) -> int:
    with contextlib.closing(_open(database)) as connection:
        return int(connection.execute(statement).fetchone()[0])


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)
