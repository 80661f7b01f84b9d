"""SQLite's own proof of a database file, and a look into the search index beside it. `postroom verify` asks.

Promises: each check is one statement or a few, on one table, so that a read transaction is short.
Fails: database errors pass through.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import apsw

from postroom.store.engine import FAILURE, ReadTx, Tx, named
from postroom.store.sqlite import connections, search_index
from postroom.store.sqlite.tx import SqliteTx

SCHEMA = "sqlite_schema"  # the table of tables
MOST = 1_000  # flaws of one look at the whole file

_TABLES = named("sqlite.tables", "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name")
_INDEX = re.compile(r"(?:row \d+ missing from index|wrong # of entries in index|non-unique entry in index) (\w+)")
_ROW_RULE = re.compile(r"(?:CHECK constraint failed in|NULL value in|\w+ value in) (\w+)")


class Flaw(NamedTuple):
    """Something that SQLite finds wrong. `kind`: "index", "rule" or "reference", and "database" for the file itself."""

    kind: str
    name: str  # of the index, or of the table
    what: str


def proving(path: Path) -> ReadTx:
    """A connection that proves. It changes nothing, but SQLite checks the rules of tables only where it could."""
    return SqliteTx(connections.reading(path, proving=True))


def tables(tx: Tx) -> list[str]:
    """Every table that has pages of its own, the schema first."""
    return [SCHEMA, *[name for (name,) in tx.rows(_TABLES)]]


def check_file(tx: Tx) -> list[Flaw]:
    """The complete check: each index row by row."""
    return _flaws(tx.rows(f"PRAGMA integrity_check({MOST})"))


def check_table(tx: Tx, table: str) -> list[Flaw]:
    """The quick check of one table: its pages and the rules of its rows."""
    return _flaws(tx.rows(f"PRAGMA quick_check('{table}')"))


def check_indexes(tx: Tx, table: str) -> list[Flaw]:
    """An index that lacks a row hides mail from every search that uses it; counting shows it cheaply."""
    rows = tx.rows(f'SELECT count(*) FROM "{table}" NOT INDEXED')[0][0]
    found = []
    for _, index, _, origin, partial in tx.rows(f"PRAGMA index_list('{table}')"):
        if partial or origin == "pk":
            continue
        counted = tx.rows(f'SELECT count(*) FROM "{table}" INDEXED BY "{index}"')[0][0]
        if counted != rows:
            found.append(Flaw("index", index, f"{index} has {counted} rows, {table} has {rows}"))
    return found


def check_references(tx: Tx, table: str) -> list[Flaw]:
    """Foreign keys that lead nowhere."""
    return [
        Flaw("reference", child, f"row {row} of {child} names a {parent} that is not there")
        for child, row, parent, _ in tx.rows(f"PRAGMA foreign_key_check('{table}')")
    ]


def build_again(tx: Tx, index: str) -> None:
    """Make an index anew from its table."""
    tx.run(f'REINDEX "{index}"')


def _flaws(said: list[tuple[object]]) -> list[Flaw]:
    return [_flaw(str(text)) for (text,) in said if text != "ok"]


def _flaw(text: str) -> Flaw:
    if match := _INDEX.match(text):
        return Flaw("index", match[1], text)
    if match := _ROW_RULE.match(text):
        return Flaw("rule", match[1].partition(".")[0], text)
    return Flaw("database", "", text)


# -- the search index

# The watermark is read with the index, before the entries: what ends meanwhile may be in the index still, but nothing
# that waits may be missing in it.
_TOKEN = named("sqlite.index_token", "SELECT number FROM find.state WHERE what = 'token'")
_BELIEVED = named("sqlite.index_believed", "SELECT token FROM counted")
_REACHED = named("sqlite.index_reached", "SELECT number FROM find.state WHERE what = :what")
_ENTRIES = named(
    "sqlite.entries_not_indexed",
    "SELECT id FROM main.entry WHERE queue <> 5 AND id BETWEEN :first AND :last AND id <= :reached "
    "AND id NOT IN (SELECT id FROM find.ix_docsize WHERE id BETWEEN :first AND :last)",
)
_REASONS = named(
    "sqlite.reasons_not_indexed",
    "SELECT id FROM main.info WHERE id BETWEEN :first AND :last AND id <= :reached "
    "AND id NOT IN (SELECT id FROM find.reasons_docsize WHERE id BETWEEN :first AND :last)",
)
_PARTS = {"entry": ("watermark", _ENTRIES), "info": ("reasons", _REASONS)}


class IndexBeside:
    """The store and its search index, read through one connection, so that both are seen in one snapshot."""

    def __init__(self, tx: SqliteTx) -> None:
        self._tx = tx

    def missing(self, table: str, first: int, last: int, store: Tx) -> list[int]:
        """Rows of `entry` or `info` that the index has reached and does not have. None of an index that is not of this
        store: `store` tells which one it believes, for a repair disowns it in its own transaction."""
        what, statement = _PARTS[table]
        with self._tx.snapshot():
            if self._tx.rows(_TOKEN) != store.rows(_BELIEVED):
                return []
            reached = self._tx.row(_REACHED, {"what": what})
            values = {"first": first, "last": last, "reached": reached[0] if reached else 0}
            return [ident for (ident,) in self._tx.rows(statement, values)]


def index_beside(store: Tx) -> IndexBeside | None:
    """None when there is no index beside the store that `store` is open on, or it cannot be opened."""
    assert isinstance(store, SqliteTx)
    file = store.connection.filename
    index = Path(file).with_name(search_index.NAME)
    if not index.exists():
        return None
    connection = apsw.Connection(file, flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(connections.BUSY_TIMEOUT)
    tx = SqliteTx(connection)
    try:
        tx.run("ATTACH ? AS find", (str(index),))
    except FAILURE:
        tx.close()
        return None
    return IndexBeside(tx)
