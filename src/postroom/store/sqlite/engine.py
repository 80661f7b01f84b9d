"""`Engine` on SQLite: one file in WAL mode, one writer, readers beside it.

Promises: WAL with synchronous=FULL, so that a commit is an fdatasync; the serving process holds an exclusive lock on
its data directory. Fails: StoreUnusable, with the remedy, if the store cannot be opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import apsw

from postroom.clock import Clock, Millis
from postroom.errors import StoreUnusable
from postroom.ids import BESIDE, IdGiver
from postroom.sealing import make_directory
from postroom.settings import Settings
from postroom.store.bodies import Bodies
from postroom.store.engine import Batch, ReadTx, Records, Tx
from postroom.store.sqlite import connections, schema
from postroom.store.sqlite.checkpoint import Checkpointer
from postroom.store.sqlite.opening import look_before_opening
from postroom.store.sqlite.search_index import SearchIndex
from postroom.store.sqlite.tx import SqliteTx
from postroom.store.sqlite.writer import Writer
from postroom.telemetry import Counts, Log

_LAST_ID = "SELECT max(coalesce((SELECT max(id) FROM entry), 0), coalesce((SELECT max(id) FROM history), 0))"


class Sqlite:
    """`beside`: another process serves this store, so the schema is not changed and nothing is locked."""

    claim_lock = ""  # a transaction that writes locks the whole file

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
        self.last_id = 0

    def open(self, bodies: Bodies) -> None:
        with self._starting():
            self._open(bodies)

    def prepare(self, function: Callable[[Tx], None]) -> None:
        with self._starting():
            self._tx.run("BEGIN IMMEDIATE")
            function(self._tx)
            self._tx.run("COMMIT")

    @contextmanager
    def _starting(self) -> Iterator[None]:
        """A start that fails releases the locks, and says what is wrong, with the remedy."""
        try:
            yield
        except StoreUnusable:
            self._unlock()
            raise
        except apsw.Error as problem:
            self._unlock()
            raise connections.unusable(self.path, problem) from problem

    def _open(self, bodies: Bodies) -> None:
        if not self._beside:  # the bodies as well: those of another store would look like orphans
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
        self.last_id = int(self._tx.value(_LAST_ID))
        self.ids = IdGiver(self._clock, node=BESIDE if self._beside else 0, last=self.last_id)
        if not self._beside:
            self._checkpointer = Checkpointer(self.path, self._log)
            connection.set_wal_hook(self._committed)

    def start(self, records: Records, delete_object: Callable[[str], None]) -> None:
        checkpointer = self._checkpointer
        # Beside a gateway, ids of texts are looked up in each transaction: the gateway may have deleted some.
        between = partial(checkpointer.between, self._tx.connection) if checkpointer else records.forget_texts
        self.writer = Writer(self._tx, records, log=self._log, delete_object=delete_object, between=between)
        if checkpointer is not None:
            checkpointer.start()
        self.writer.start()

    def hand(self, batch: Batch) -> None:
        self.writer.hand(batch)

    def answer_on(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.writer.loop = loop

    def read(self) -> ReadTx:
        return SqliteTx(connections.reading(self.path))

    def now(self) -> Millis:
        return self._clock.now()

    @property
    def failing(self) -> str:
        return self.writer.failing

    def shrink_soon(self) -> None:
        if self._checkpointer is not None:
            self._checkpointer.soon()

    def stop(self) -> None:
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
