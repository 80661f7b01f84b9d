"""Copies of the database file: taken while a gateway serves it, and opened again where they were restored.

Promises: a copy is the database at one instant, whatever the writer commits meanwhile; the writer is never waited for.
Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from postroom.store.engine import ReadTx
from postroom.store.sqlite import connections, schema
from postroom.store.sqlite.tx import SqliteTx, fetch

STEP = 512  # pages copied at a time: 2 MiB


class Source:
    """A connection of its own to the database that is to be copied."""

    def __init__(self, path: Path) -> None:
        self._connection = connections.reading(path)
        self.tx: ReadTx = SqliteTx(self._connection)

    def hold(self) -> None:
        """From the first read on, `tx` and `copy` see one state of the database, until `let_go` or `close`."""
        self._connection.execute("BEGIN")

    def let_go(self) -> None:
        self._connection.execute("ROLLBACK")

    def size(self) -> int:
        """Bytes of a copy."""
        return self.tx.pages()[0] * self._page_size()

    def schema(self) -> int:
        """The version of its schema."""
        return int(self._connection.pragma("user_version") or 0)

    def copy(self, path: Path, done: Callable[[int], None]) -> None:
        """Write all pages to a new file, which is not synced yet. `done`: called with the bytes written so far."""
        page_size = self._page_size()
        copy = apsw.Connection(str(path))
        try:
            copy.execute("PRAGMA journal_mode=OFF")  # a copy that is not finished is removed
            copy.execute("PRAGMA synchronous=OFF")  # the caller syncs the file as a whole
            with copy.backup("main", self._connection, "main") as copying:
                while not copying.done:
                    copying.step(STEP)
                    done((copying.page_count - copying.remaining) * page_size)
        finally:
            copy.close()

    def close(self) -> None:
        self._connection.close()

    def _page_size(self) -> int:
        return int(self._connection.pragma("page_size") or 0)


def flaw(path: Path) -> str:
    """What is wrong in a copy that nobody has open; "" = it is sound."""
    # Immutable: it is read without the log and the shared memory that would otherwise be made beside it.
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(f"{path.as_uri()}?immutable=1", flags=flags)
    try:
        ((found,), *_more) = fetch(connection, "PRAGMA quick_check(1)")
    finally:
        connection.close()
    return "" if found == "ok" else str(found)


def newest_schema() -> int:
    """The version that this release brings a store up to."""
    return schema.migrations()[-1][0]


@contextmanager
def opened(path: Path) -> Iterator[SqliteTx]:
    """A copy that nobody serves, to be written to; its schema is brought up to date first. At the end everything is in
    the file itself. StoreUnusable when it cannot be opened."""
    connection = connections.writing(path)
    try:
        schema.migrate(connection, path)
        yield SqliteTx(connection)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        connection.close()
