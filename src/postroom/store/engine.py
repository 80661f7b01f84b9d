"""What the store asks of a database (PostgreSQL would be a room beside `sqlite`): `Tx`, through which every room reads
and writes, and `Engine`, the closed list of what differs between databases.

To add a database, write a room beside `store/sqlite` with an `Engine` and a `Tx`, add its exceptions to the kinds of
failure below, and let `open_store` choose it by the scheme of `[store] url`. Whatever knows SQLite itself must be
written again: `sqlite/copying.py` (backup), `sqlite/proving.py` (verify), and the SQL of the search index in
`find/search.py` and `find/sources.py`.

Statements are handwritten, and `named` gives each a name. An engine that must say a statement differently keeps a table
from names to texts, and its `Tx` looks there first. A statement for several rows keeps the same name whatever the
number of rows, so its replacement is a function from our text to the engine's. Most statements need none. Their values
are named (`:entry`) and come as a dict; a statement with more than four values that runs for each message, or
one for several rows, has positional values (`?`), because there a dict costs over a microsecond.

Fails: exceptions of the database pass through; catch them as FAILURE or one of its kinds: DAMAGE,
INTERRUPTED, LOCKED and NO_ROOM.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from postroom.clock import Millis
from postroom.ids import IdGiver
from postroom.model import Action
from postroom.store.bodies import Bodies
from postroom.store.records import AcceptDone, EndedEntry, Moved, NewMessage, Waited
from postroom.store.sqlite.failures import (
    DAMAGE,
    FAILURE,
    FULL,
    INTERRUPTED,
    LOCKED,
    NO_ROOM,
    is_environment,
    may_be_the_index,
)
from postroom.telemetry import Log

__all__ = [
    "DAMAGE",
    "FAILURE",
    "FULL",
    "INTERRUPTED",
    "LOCKED",
    "LOST_CHARACTER",
    "NO_ROOM",
    "PROVE",
    "Answer",
    "Batch",
    "Call",
    "CallDone",
    "Engine",
    "Finder",
    "MoveDone",
    "ReadTx",
    "Recorded",
    "Records",
    "Statement",
    "Tx",
    "Values",
    "failed",
    "given",
    "is_environment",
    "may_be_the_index",
    "named",
]

LOST_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # marks what could not be read of a text

Values = Sequence[Any] | Mapping[str, Any]


# -- statements and transactions


class Statement(str):
    """SQL with a name, `room.what`. Every engine runs this text, unless it replaces the statement by its name."""

    __slots__ = ("name",)
    name: str


def named(name: str, text: str) -> Statement:
    """Give a statement the name by which an engine may replace it."""
    statement = Statement(text)
    statement.name = name
    return statement


# Always changes a row, so that its commit proves that the disk takes writes: a row that stays as it is writes nothing.
PROVE = named("store.prove", "UPDATE upkeep SET number = number + 1 WHERE what = 'proof'")


class Tx(Protocol):
    """The writer's open transaction, or a reader's connection. Changes commit with the transaction."""

    def rows(self, statement: str, values: Values = ()) -> list[Any]:
        """All rows."""
        ...

    def row(self, statement: str, values: Values = ()) -> Any | None:
        """The first row, or None."""
        ...

    def value(self, statement: str, values: Values = ()) -> Any:
        """The first column of the first row, which must exist."""
        ...

    def run(self, statement: str, values: Values = ()) -> int:
        """Change rows. Returns how many the statement itself touched; rows touched by triggers do not count."""
        ...

    def many(self, statement: str, each: Iterable[Values]) -> int:
        """Run a statement once for each set of values. Returns how many rows were touched in all."""
        ...

    def each(self, statement: str, values: Values = ()) -> Iterator[Any]:
        """Rows one at a time, for results too large to hold in memory."""
        ...

    def pages(self) -> tuple[int, int]:
        """(pages of the database, free ones among them); (0, 0) if the database does not give pages back."""
        ...

    def give_back(self, pages: int) -> int:
        """Return up to this many free pages to the file system. Returns how many were returned."""
        ...

    def snapshot(self) -> AbstractContextManager[Any]:
        """Reads inside see one state of the database; writes inside are undone when the block raises."""
        ...


class ReadTx(Tx, Protocol):
    """A reader's read-only connection."""

    @property
    def in_snapshot(self) -> bool: ...

    def watch(self, over: Callable[[], bool]) -> AbstractContextManager[None]:
        """Interrupt statements that run inside soon after `over` returns true; they raise one of INTERRUPTED."""
        ...

    def lend(self, name: str, function: Callable[..., Any], arguments: int) -> None:
        """Let statements call a pure Python function."""
        ...

    def version(self) -> object:
        """A value that changes whenever someone has committed."""
        ...

    def close(self) -> None: ...


# -- what is handed over

MoveDone = Callable[[Action | bool | None], None]
Answer = Callable[[], None]
Call = Callable[[Tx], Any]
CallDone = Callable[[Any, BaseException | None], None]


class Batch:
    """Everything handed over since the last commit."""

    __slots__ = ("arrivals", "calls", "ends", "moves", "waits")

    def __init__(self) -> None:
        self.arrivals: list[tuple[NewMessage, Millis | None, AcceptDone]] = []
        self.calls: list[tuple[Call, CallDone]] = []
        self.moves: list[tuple[Moved, MoveDone | None]] = []
        self.waits: list[Waited] = []
        self.ends: list[EndedEntry] = []

    def take(self, other: Batch) -> None:
        self.arrivals += other.arrivals
        self.calls += other.calls
        self.moves += other.moves
        self.waits += other.waits
        self.ends += other.ends

    def __bool__(self) -> bool:
        return bool(self.arrivals or self.calls or self.moves or self.waits or self.ends)

    def __len__(self) -> int:
        return len(self.arrivals) + len(self.calls) + len(self.moves) + len(self.waits) + len(self.ends)

    def singly(self) -> list[Batch]:
        """Each record in a batch of its own, in the order in which records are written."""
        singles = []
        for name in ("arrivals", "moves", "waits", "ends", "calls"):
            for item in getattr(self, name):
                single = Batch()
                getattr(single, name).append(item)
                singles.append(single)
        return singles


class Recorded(NamedTuple):
    """What is left to do after the commit."""

    answers: list[Answer]  # to be called on the event loop
    settled: list[Answer]  # of calls: they find their own way to the loop
    objects: list[str]  # stored bodies to delete


class Records(Protocol):
    """Turns a batch into rows (`queue/recorder.py`). The engine calls it on the thread that commits."""

    def record(self, tx: Tx, batch: Batch, call: Callable[[Call, CallDone, bool], Answer]) -> Recorded:
        """Write a whole batch in an open transaction. `call` runs one of its calls; its last argument says whether that
        call is the whole batch."""
        ...

    def counted(self) -> dict[str, int]:
        """What the open transaction has counted for the ledger so far."""
        ...

    def forget(self, counted: dict[str, int] | None = None) -> None:
        """Writes were rolled back. `counted`: the count to go back to, if only part of the transaction was undone."""
        ...

    def forget_texts(self) -> None:
        """Look up the ids of reasons again: another process may have deleted some."""
        ...


def given(done: Callable[[Any], None], value: Any) -> Answer:
    return lambda: done(value)


def failed(finished: CallDone, failure: BaseException) -> Answer:
    return lambda: finished(None, failure)


# -- the engine


class Finder(Protocol):
    """The index of texts, which belongs to the engine because every database searches texts in its own way. SQLite's is
    a second file (`sqlite/search_index.py`); `find/search.py` and `find/sources.py` write the SQL that reads it."""

    alone: threading.Lock  # held by the one search that has to read many rows
    bound: float  # seconds a search may take if no index narrows it down
    halted: bool  # the index must not grow: mail needs the space that is left

    @property
    def generation(self) -> int:
        """Changes when the index is replaced."""
        ...

    def attach(self, tx: ReadTx) -> bool:
        """Make the index visible to a reader that is outside a snapshot. False if there is no usable index."""
        ...

    def distrust(self) -> None:
        """The index could not be read. It stays out of use until it has been rebuilt."""
        ...

    def follow(self, *, log: Log, commits: Callable[[], int], advance: Callable[[int], int]) -> None:
        """Fill the index from now on, on a thread of its own. `commits` grows while mail arrives; `advance` moves the
        counters up to an id and returns how many entries it took in."""
        ...

    def stop(self) -> None: ...


class Engine(Protocol):
    """Everything that differs between databases, together with the kinds of failure above."""

    @property
    def path(self) -> Path:
        """The database file; its directory is watched for free space."""
        ...

    @property
    def finder(self) -> Finder: ...

    @property
    def ids(self) -> IdGiver:
        """Gives the next id. Used inside the writer's transaction only."""
        ...

    @property
    def last_id(self) -> int:
        """The newest id in the database when it was opened."""
        ...

    @property
    def claim_lock(self) -> str:
        """Ends the statement that selects due entries; keeps two processes from claiming the same entry."""
        ...

    @property
    def failing(self) -> str:
        """Why the last commit failed; empty if it succeeded."""
        ...

    def open(self, bodies: Bodies) -> None:
        """Lock the store, check it and bring its schema up to date. StoreUnusable, with the remedy, if that fails."""
        ...

    def prepare(self, function: Callable[[Tx], None]) -> None:
        """Run this in a transaction of its own before `start`. StoreUnusable if it cannot be committed."""
        ...

    def start(self, records: Records, delete_object: Callable[[str], None]) -> None:
        """Commit from now on what `hand` gets."""
        ...

    def hand(self, batch: Batch) -> None:
        """Write this with the next commit. StoreUnavailable if the store is closed."""
        ...

    def answer_on(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Give answers on this loop; None: on the thread that commits."""
        ...

    def read(self) -> ReadTx:
        """Open a connection for one more reader. StoreUnusable if that fails."""
        ...

    def now(self) -> Millis:
        """The time by which leases start and end."""
        ...

    def shrink_soon(self) -> None:
        """Give free pages back to the file system."""
        ...

    def stop(self) -> None:
        """Commit what was handed over, then end the thread that commits."""
        ...

    def close(self) -> None:
        """Close the connection that writes and release the locks; only after `stop`."""
        ...
