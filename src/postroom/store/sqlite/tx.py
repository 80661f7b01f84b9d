"""`Tx` on SQLite.

Promises: a text on disk that is no UTF-8 is shown as far as it can be read, so that one damaged row stops neither a list
nor the claim of all others. Fails: apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import apsw

from postroom.store.engine import Values

STEPS = (
    20_000  # of SQLite's machine between two looks at the clock: about a millisecond, also where our own fold is called
)


class SqliteTx:
    """One connection as the rooms see it. `connection` is for this room alone."""

    __slots__ = ("_changes", "_execute", "connection")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._execute = connection.cursor().execute
        self._changes = connection.changes

    def rows(self, statement: str, values: Values = ()) -> list[Any]:
        try:
            return self._execute(statement, values).fetchall()
        except UnicodeDecodeError:
            if not statement.startswith("SELECT"):
                raise
            return list(self._readable(statement, values))

    def row(self, statement: str, values: Values = ()) -> Any | None:
        found = self.rows(statement, values)
        return found[0] if found else None

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
        """A number that grows with every row that is written, by triggers as well."""
        return self.connection.total_changes()

    def pages(self) -> tuple[int, int]:
        """(pages of the file, free ones among them)."""
        return int(self.connection.pragma("page_count") or 0), int(self.connection.pragma("freelist_count") or 0)

    def give_back(self, pages: int) -> int:
        """Cut free pages off the file; how many. The file itself shrinks at the next checkpoint."""
        before = self.pages()[1]
        self.rows(f"PRAGMA incremental_vacuum({pages})")  # it frees a page for each row that is fetched
        return before - self.pages()[1]

    def close(self) -> None:
        self.connection.close()

    def _readable(self, statement: str, values: Values) -> Iterator[tuple[Any, ...]]:
        """The same rows, texts decoded here. The kind of each value comes with it: a blob stays one."""
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
    """All rows of one statement, on a bare connection: for this room, before there is a `Tx`."""
    return SqliteTx(connection).rows(statement, values)
