"""Checkpoints on their own connection, outside the writer's way, so that no acknowledgement waits for one.

The write-ahead log can only start anew when every frame of it is in the database, which never happens by itself while the
writer keeps writing. So: passive checkpoints here do the bulk of the copying and syncing; when the log has grown past
RESTART_PAGES, the writer itself copies the few frames that came meanwhile, between two transactions.
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from postroom.store.sqlite import connections as sqlite
from postroom.telemetry import Log

CHECKPOINT_PAGES = 6_000  # 24 MiB of log: fewer rounds copy the same pages less often
RESTART_PAGES = 16_000  # 64 MiB of log
REMAINDER = 1_500  # frames the writer may have to copy by itself; more = another round here first


class Checkpointer(threading.Thread):
    def __init__(self, path: Path, log: Log) -> None:
        super().__init__(name="postroom-checkpoint", daemon=True)
        self._connection = sqlite.writing(path)  # here, so that a start fails in one line
        self._log = log
        self._wanted = threading.Event()
        self._ending = threading.Event()
        self._restart = threading.Event()  # set here, cleared by the writer
        self._restarted = threading.Event()
        self.pages = 0  # frames in the log after the last commit

    def committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        """The writer's WAL hook; runs inside its commit, so it only looks."""
        self.pages = pages
        if pages >= CHECKPOINT_PAGES and not self._wanted.is_set():
            self._wanted.set()
        return 0

    def between(self, connection: apsw.Connection) -> None:
        """Runs on the writer's thread between two transactions, while the checkpointer stands aside."""
        if self._restart.is_set():
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error as problem:
                self._log.warning("checkpoint_failed", problem=str(problem))
            self._restart.clear()
            self._restarted.set()

    def soon(self) -> None:
        """Without waiting for a long log: a file that has become smaller is cut only by a checkpoint."""
        self._wanted.set()

    def stop(self) -> None:
        self._ending.set()
        self._wanted.set()
        self.join()

    def run(self) -> None:
        connection = self._connection
        try:
            while not self._ending.is_set():
                self._wanted.wait(1.0)  # the end may be asked for while a round clears what is wanted
                if not self._wanted.is_set():
                    continue
                try:
                    total, done = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                except apsw.Error as problem:  # disk full: the log grows until there is room again
                    self._log.warning("checkpoint_failed", problem=str(problem))
                    total = done = 0
                # Asked again by the next commit that finds the log long.
                self._wanted.clear()
                if total >= RESTART_PAGES and self.pages - done <= REMAINDER:
                    self._restarted.clear()
                    self._restart.set()
                    self._restarted.wait(1.0)  # an idle writer gets to it with its next commit
        finally:
            connection.close()
