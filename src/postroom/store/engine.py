"""What the store asks of a database (PostgreSQL would be a room beside `sqlite`): `Tx`, through which every room reads
and writes, and `Engine`, the closed list of what differs between databases.

Statements are written by hand. `named` gives one a name, so that an engine can replace the few that it must say
differently. Fails: what a database raises passes through; FAILURE, DAMAGE and INTERRUPTED are its kinds, for `except`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from postroom.store.sqlite.failures import (
    DAMAGE,
    FAILURE,
    INTERRUPTED,
    is_environment,
    may_be_the_index,
)

__all__ = [
    "DAMAGE",
    "FAILURE",
    "INTERRUPTED",
    "LOST_CHARACTER",
    "ReadTx",
    "Statement",
    "Tx",
    "Values",
    "is_environment",
    "may_be_the_index",
    "named",
]

LOST_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # in a text, where something could not be read

Values = Sequence[Any] | Mapping[str, Any]


class Statement(str):
    """SQL with a name, `room.what`: the same text for every engine unless one replaces it by that name."""

    __slots__ = ("name",)
    name: str


def named(name: str, text: str) -> Statement:
    """Give a statement the name by which an engine may replace it."""
    statement = Statement(text)
    statement.name = name
    return statement


class Tx(Protocol):
    """An open transaction of the writer, or a reader's connection. What is written commits with the transaction."""

    def rows(self, statement: str, values: Values = ()) -> list[Any]:
        """All rows."""
        ...

    def row(self, statement: str, values: Values = ()) -> Any | None:
        """The first row; None when there is none."""
        ...

    def run(self, statement: str, values: Values = ()) -> int:
        """Change rows: how many the statement itself touched, without those that triggers touched."""
        ...

    def many(self, statement: str, each: Iterable[Values]) -> int:
        """The same statement for each of these: how many rows they touched together."""
        ...

    def each(self, statement: str, values: Values = ()) -> Iterator[Any]:
        """Row by row, for reads that are too long to be held in memory."""
        ...

    def pages(self) -> tuple[int, int]:
        """(pages of the database, free ones among them); (0, 0) where there is nothing to give back."""
        ...

    def give_back(self, pages: int) -> int:
        """Return so many free pages to the file system; how many went."""
        ...

    def snapshot(self) -> AbstractContextManager[Any]:
        """What is read inside sees one state of the database; what is written inside is undone when it fails."""
        ...


class ReadTx(Tx, Protocol):
    """A reader's connection: nothing can be written through it."""

    @property
    def in_snapshot(self) -> bool: ...

    def watch(self, over: Callable[[], bool]) -> AbstractContextManager[None]:
        """Statements inside end, with one of INTERRUPTED, soon after `over` says so."""
        ...

    def lend(self, name: str, function: Callable[..., Any], arguments: int) -> None:
        """Give statements a pure function of ours to call."""
        ...

    def version(self) -> object:
        """Another value whenever anybody has committed since."""
        ...

    def close(self) -> None: ...
