"""`Tx` on SQLite.

Promises: a text on disk that is not UTF-8 is read as far as possible, so that one damaged row stops neither a list nor
the claim of other rows. Fails: apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import apsw

from postroom.store.engine import Values

# Steps of SQLite's virtual machine between two calls of a watch: about a millisecond, even if they call our own fold.
STEPS = 20_000


class SqliteTx:
    """A connection as the other rooms see it. `connection` is for this room, `backup` and `verify`."""

    __slots__ = ("_changes", "_execute", "connection")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute = connection.cursor().execute
        self._changes = connection.changes

    def rows(self, statement: str, values: Values = ()) -> list[Any]:
        try:
            try:
                return self._execute(statement, values).fetchall()
            except UnicodeDecodeError:
                if not statement.startswith("SELECT"):
                    raise
                return list(self._readable(statement, values))
        except BaseException:
            # Half read, the statement would keep its snapshot until the next one, and the log could not restart.
            with suppress(apsw.Error):
                self._execute = self.connection.cursor().execute
            raise

    def row(self, statement: str, values: Values = ()) -> Any | None:
        found = self.rows(statement, values)
        return found[0] if found else None

    def value(self, statement: str, values: Values = ()) -> Any:
        return self.rows(statement, values)[0][0]

    def run(self, statement: str, values: Values = ()) -> int:
        self._execute(statement, values)
        return self._changes()

    def many(self, statement: str, each: Iterable[Values]) -> int:
        return sum([self.run(statement, values) for values in each])

    def each(self, statement: str, values: Values = ()) -> Iterator[Any]:
        return self.connection.execute(statement, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A savepoint, as `with connection` of apsw; but what failed first is what is raised, though a full disk has
        rolled back everything by then, the savepoint as well."""
        self._execute("SAVEPOINT snapshot")
        try:
            yield
            self._execute("RELEASE snapshot")
        except BaseException:
            with suppress(apsw.Error):
                self._execute("ROLLBACK TO snapshot")
                self._execute("RELEASE snapshot")
            raise

    @property
    def in_snapshot(self) -> bool:
        return self.connection.in_transaction

    @contextmanager
    def watch(self, over: Callable[[], bool]) -> Iterator[None]:
        self.connection.set_progress_handler(over, STEPS)
        try:
            yield
        finally:
            self.connection.set_progress_handler(None)

    def lend(self, name: str, function: Callable[..., Any], arguments: int) -> None:
        self.connection.create_scalar_function(name, function, arguments, deterministic=True)

    def version(self) -> object:
        return self.connection.pragma("data_version")

    def written(self) -> int:
        """Grows with every row that is written, including those that triggers write."""
        return self.connection.total_changes()

    def pages(self) -> tuple[int, int]:
        return int(self.connection.pragma("page_count") or 0), int(self.connection.pragma("freelist_count") or 0)

    def give_back(self, pages: int) -> int:
        """The file itself shrinks at the next checkpoint."""
        before = self.pages()[1]
        self.rows(f"PRAGMA incremental_vacuum({pages})")  # frees one page for each row that is fetched
        return before - self.pages()[1]

    def close(self) -> None:
        self.connection.close()

    def _readable(self, statement: str, values: Values) -> Iterator[tuple[Any, ...]]:
        """The same rows, with texts decoded here. The type of each value is selected with it, so that blobs stay
        blobs."""
        cursor = self.connection.cursor()
        columns = [f"c{number}" for number in range(len(cursor.execute(statement, values).get_description()))]
        cursor.close(True)
        both = ", ".join(
            [
                f"typeof({name}), CASE typeof({name}) WHEN 'text' THEN CAST({name} AS BLOB) ELSE {name} END"
                for name in columns
            ]
        )
        wrapped = f"WITH found({', '.join(columns)}) AS ({statement}) SELECT {both} FROM found"
        found: list[Any] = self._execute(wrapped, values).fetchall()
        for row in found:
            yield tuple(
                [
                    bytes(value).decode(errors="replace") if kind == "text" else value
                    for kind, value in zip(row[::2], row[1::2], strict=True)
                ]
            )


def fetch(connection: apsw.Connection, statement: str, values: Values = ()) -> list[Any]:
    """All rows of one statement, on a connection that has no `Tx` yet."""
    return SqliteTx(connection).rows(statement, values)
