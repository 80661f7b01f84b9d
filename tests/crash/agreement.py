"""What must agree in a store at every instant, asked in plain SQL, each in one statement or one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import apsw

from postroom.model import Origin, Outcome

LIMIT = 60.0  # seconds for what takes less than one on an idle machine


def _sum_of(kinds: Iterable[str]) -> str:
    return (
        "(SELECT coalesce(sum(number), 0) FROM ledger WHERE kind IN (" + ",".join(f"'{kind}'" for kind in kinds) + "))"
    )


LEDGER = f"SELECT {_sum_of(Origin)} - {_sum_of(Outcome)} - (SELECT count(*) FROM entry)"

_COUNTED = (
    "SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry "
    "WHERE id <= (SELECT upto FROM counted) AND queue <> 5 "
    "GROUP BY 1, 2, 3, 4"
)
_TALLIED = "SELECT queue, route, attachment, hour, number FROM tally WHERE number <> 0 AND queue <> 5"
COUNTERS = (
    f"SELECT count(*) FROM (SELECT * FROM ({_COUNTED} EXCEPT {_TALLIED}) "
    f"UNION ALL SELECT * FROM ({_TALLIED} EXCEPT {_COUNTED}))"
)

_UNFINDABLE = (
    "SELECT count(*) FROM main.entry WHERE id <= (SELECT number FROM find.state WHERE what = 'watermark') "
    "AND id NOT IN (SELECT id FROM find.ix_docsize)"
)
_REASONED = "SELECT info_id, queue, id, route, attachment FROM reason"
_WAITING = "SELECT info_id, queue, id, route, attachment FROM entry WHERE id <= (SELECT upto FROM counted)"
REASONS = (
    f"SELECT count(*) FROM (SELECT * FROM ({_REASONED} EXCEPT {_WAITING}) "
    f"UNION ALL SELECT * FROM ({_WAITING} EXCEPT {_REASONED}))"
)


def rows(database: Path, statement: str) -> list[Any]:
    """From a store beside its gateway, as any other process reads it."""
    with contextlib.closing(_reading(database)) as connection:
        return connection.execute(statement).fetchall()


def _reading(database: Path) -> apsw.Connection:
    """With the product's SQLite: another one in the same process would take its locks away (POSIX)."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(int(LIMIT * 1000))
    return connection


def disagreements(database: Path) -> list[str]:
    """Of ledger, counters and search index with the queue."""
    found = []
    [(difference,)] = rows(database, LEDGER)
    if difference:
        found.append(f"the ledger differs by {difference}")
    [(wrong,)] = rows(database, COUNTERS)
    if wrong:
        found.append(f"{wrong} of the counters by hour are wrong")
    [(wrong,)] = rows(database, REASONS)
    if wrong:
        found.append(f"{wrong} entries are not found by their reason, or are and should not")
    return found + _index_disagreements(database)


def _index_disagreements(database: Path) -> list[str]:
    """The index is read first: what has left the queue since may be in it still, but nothing may be missing in it.
    An index that cannot be opened, or is of no store yet, is made anew by the gateway and believed by nobody."""
    index = database.with_name("search.db")
    if not index.exists():
        return []
    with contextlib.closing(_reading(database)) as connection:
        try:
            connection.execute("ATTACH ? AS find", (str(index),))
            connection.execute("BEGIN")
            token = connection.execute("SELECT number FROM find.state WHERE what = 'token'").fetchall()
        except apsw.Error:
            return []
        if token != connection.execute("SELECT token FROM main.counted").fetchall():
            return []
        [(whole,)] = connection.execute("PRAGMA find.integrity_check(1)").fetchall()
        if whole != "ok":
            return [f"the search index is damaged, and believed: {whole}"]
        [(unfindable,)] = connection.execute(_UNFINDABLE).fetchall()
    return [f"{unfindable} entries up to the search index's watermark are not in it"] if unfindable else []
