"""Checkpoints on their own connection, outside the writer's way, so that no acknowledgement waits for one.

The write-ahead log can only restart when all its frames are in the database, which never happens by itself while the
writer keeps writing. So passive checkpoints here do most of the copying and syncing. When the log has grown past
RESTART_PAGES, the writer copies the few frames that came meanwhile, between two transactions.
"""

from __future__ import annotations

import threading
from pathlib import Path

import apsw

from postroom.store.sqlite import connections as sqlite
from postroom.telemetry import Log

CHECKPOINT_PAGES = 6_000  # 24 MiB of log: fewer rounds copy the same pages less often
RESTART_PAGES = 16_000  # 64 MiB of log
REMAINDER = 1_500  # frames the writer may have to copy; if there are more, another round here comes first


class Checkpointer(threading.Thread):
    def __init__(self, path: Path, log: Log) -> None:
        super().__init__(name="postroom-checkpoint", daemon=True)
        self._connection = sqlite.writing(path)  # here, so that the start fails with one line
        self._log = log
        self._wanted = threading.Event()
        self._ending = threading.Event()
        self._restart = threading.Event()  # set here, cleared by the writer
        self._restarted = threading.Event()
        self.pages = 0  # frames in the log after the last commit

    def committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        """The writer's WAL hook. It runs inside the commit, so it only sets a flag."""
        self.pages = pages
        if pages >= CHECKPOINT_PAGES and not self._wanted.is_set():
            self._wanted.set()
        return 0

    def between(self, connection: apsw.Connection) -> None:
        """Runs on the writer's thread between two transactions, while the checkpointer waits."""
        if self._restart.is_set():
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error as problem:
                self._log.warning("checkpoint_failed", problem=str(problem))
            self._restart.clear()
            self._restarted.set()

    def soon(self) -> None:
        """Do not wait for a long log: a file that has become smaller is truncated by a checkpoint only."""
        self._wanted.set()

    def stop(self) -> None:
        self._ending.set()
        self._wanted.set()
        self.join()

    def run(self) -> None:
        connection = self._connection
        try:
            while not self._ending.is_set():
                self._wanted.wait(1.0)  # `stop` may come just when a round clears the flag
                if not self._wanted.is_set():
                    continue
                try:
                    total, done = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                except apsw.Error as problem:  # disk full: the log grows until there is room again
                    self._log.warning("checkpoint_failed", problem=str(problem))
                    total = done = 0
                # The next commit that finds the log long sets it again.
                self._wanted.clear()
                if total >= RESTART_PAGES and self.pages - done <= REMAINDER:
                    self._restarted.clear()
                    self._restart.set()
                    self._restarted.wait(1.0)  # an idle writer gets to it with its next commit
        finally:
            connection.close()
