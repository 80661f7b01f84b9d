"""`Engine` on SQLite: one file in WAL mode, one writer, readers beside it.

Promises: WAL with synchronous=FULL, so that a commit is an fdatasync; the serving process holds an exclusive lock on its
data directory. Fails: StoreUnusable with the remedy when the store cannot be opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw

from postroom.clock import Clock, Millis
from postroom.errors import StoreUnusable
from postroom.ids import BESIDE, IdGiver
from postroom.sealing import make_directory
from postroom.settings import Settings
from postroom.store.bodies import Bodies
from postroom.store.engine import Batch, ReadTx, Records, Tx, named
from postroom.store.sqlite import connections, schema
from postroom.store.sqlite.checkpoint import Checkpointer
from postroom.store.sqlite.opening import look_before_opening
from postroom.store.sqlite.search_index import SearchIndex
from postroom.store.sqlite.tx import SqliteTx
from postroom.store.sqlite.writer import Writer
from postroom.telemetry import Counts, Log

LAST_ID = named(
    "sqlite.last_id",
    "SELECT max(coalesce((SELECT max(id) FROM entry), 0), coalesce((SELECT max(id) FROM history), 0))",
)


class Sqlite:
    """`beside`: another process serves this store; its schema is not ours to change, and nothing is locked."""

    claim_lock = ""  # one writer: nobody else claims meanwhile

    def __init__(self, settings: Settings, *, clock: Clock, log: Log, counts: Counts, beside: bool) -> None:
        self.path = connections.database_path(settings)
        if beside and not self.path.exists():
            raise StoreUnusable(f"no store at {self.path}: start the gateway there once, or give its --data")
        make_directory(self.path.parent)
        self.finder = SearchIndex(self.path, beside=beside)
        self._data = Path(settings.data)
        self._clock, self._log, self._counts, self._beside = clock, log, counts, beside
        self._locks: list[int] = []
        self._checkpointer: Checkpointer | None = None
        self.last_id = 0  # the newest that the store has given when it was opened

    def open(self, bodies: Bodies) -> None:
        """Lock, look, bring the schema up to date. StoreUnusable with the remedy, and nothing is left locked."""
        try:
            self._open(bodies)
        except (apsw.Error, StoreUnusable) as problem:
            raise self.unusable(problem) from problem

    def prepare(self, function: Callable[[Tx], None]) -> None:
        """Run it in a transaction of its own, before `start`. StoreUnusable when it cannot be committed."""
        try:
            self._tx.run("BEGIN IMMEDIATE")
            function(self._tx)
            self._tx.run("COMMIT")
        except apsw.Error as problem:
            raise self.unusable(problem) from problem

    def unusable(self, problem: Exception) -> StoreUnusable:
        """Let go of what is locked; what is in the way, and the remedy."""
        self._unlock()
        return problem if isinstance(problem, StoreUnusable) else connections.unusable(self.path, problem)

    def _open(self, bodies: Bodies) -> None:
        if not self._beside:  # the bodies, too: another store's would look like orphans
            for path in {self.path.parent, bodies.root}:
                self._locks.append(connections.lock_directory(path))
            look_before_opening(self.path, bodies, self._data)
        connection = connections.writing(self.path)
        if self._beside:
            schema.check_version(connection, self.path)
            connection.execute("PRAGMA wal_autocheckpoint=1000")
        else:
            schema.migrate(connection, self.path)
        self._tx = SqliteTx(connection)
        self.last_id = int(self._tx.value(LAST_ID))
        self.ids = IdGiver(self._clock, node=BESIDE if self._beside else 0, last=self.last_id)
        if not self._beside:
            self._checkpointer = Checkpointer(self.path, self._log)
            connection.set_wal_hook(self._committed)

    def start(self, records: Records, delete_object: Callable[[str], None]) -> None:
        """From now on `hand` commits."""
        checkpointer = self._checkpointer
        # Beside a gateway a text is taken anew in each transaction: the gateway may have swept it (keep/upkeep.py).
        between = partial(checkpointer.between, self._tx.connection) if checkpointer else records.forget_texts
        self.writer = Writer(self._tx, records, log=self._log, delete_object=delete_object, between=between)
        if checkpointer is not None:
            checkpointer.start()
        self.writer.start()

    def hand(self, batch: Batch) -> None:
        """To the next commit. StoreUnavailable when the store is closed."""
        self.writer.hand(batch)

    def answer_on(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Where answers come; None: on the thread that commits."""
        self.writer.loop = loop

    def read(self) -> ReadTx:
        """A connection for one more reader. StoreUnusable when it cannot be opened."""
        return SqliteTx(connections.reading(self.path))

    def now(self) -> Millis:
        """The time that leases are counted by."""
        return self._clock.now()

    @property
    def failing(self) -> str:
        """Why the last commit failed; empty = it did not."""
        return self.writer.failing

    def shrink_soon(self) -> None:
        """Give free pages back to the file system."""
        if self._checkpointer is not None:
            self._checkpointer.soon()

    def stop(self) -> None:
        """Commit what was handed over."""
        if self.writer.is_alive():
            self.writer.loop = None
            self.writer.stop()
        if self._checkpointer is not None and self._checkpointer.is_alive():
            self._checkpointer.stop()

    def close(self) -> None:
        self.writer.close()
        self._unlock()

    def _committed(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._counts.commits += 1
        assert self._checkpointer is not None
        return self._checkpointer.committed(connection, name, pages)

    def _unlock(self) -> None:
        for lock in self._locks:
            os.close(lock)
        self._locks = []
