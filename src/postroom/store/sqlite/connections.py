"""Opening SQLite: paths, pragmas, the directory's lock, and why a store cannot be opened.

Promises: WAL with synchronous=FULL on every connection that writes, so that a commit is an fdatasync. Automatic
checkpoints are off; the checkpointer has its own connection. Fails: StoreUnusable, with the remedy.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

import apsw

from postroom.errors import StoreUnusable
from postroom.settings import Settings
from postroom.store.sqlite import schema

LOCK_TRIES, LOCK_PAUSE = 20, 0.01  # seconds between two tries to lock the data directory
BUSY_TIMEOUT = 10_000  # milliseconds another process (a command) may hold the write lock
BUSY_PAUSE = 0.001  # seconds between two tries to get it
STATEMENTS_READ = 300  # compiled statements that a reader keeps: the last ones that have run


def database_path(settings: Settings) -> Path:
    """The file of the store. StoreUnusable for an engine that this release does not have."""
    url = settings.store.url
    if not url.startswith("sqlite:///"):
        raise StoreUnusable(f"[store] url {url!r}: expected sqlite:///FILE (relative to --data)")
    return Path(settings.data, url.removeprefix("sqlite:///")).absolute()


def writing(path: Path) -> apsw.Connection:
    """A connection that may write. The file is created if it does not exist."""
    try:
        if not path.exists():  # private from the start; the log beside it gets the same mode
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        # From here on, only SQLite may open the file in this process: closing any other descriptor of it would drop the
        # locks of every connection (POSIX), and a command beside the gateway could delete the log in use.
        connection = apsw.Connection(str(path), statementcachesize=512)
        keep_plans(connection)
        connection.set_busy_handler(_InLine())
        schema.check_ours(connection, path)  # before anything is changed in it
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # before the first table, or never
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-32768")
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("PRAGMA journal_size_limit=134217728")
    except (apsw.Error, OSError) as problem:
        raise unusable(path, problem) from problem
    return connection


def keep_plans(connection: apsw.Connection) -> None:
    """Plans must not depend on bound values. Otherwise SQLite compiles a statement again, for 15 to 30 us, whenever a
    value is bound that its planner has looked at. So the condition of a partial index must be in the text of a
    statement, not among its values."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


class _InLine:
    """Waits while another process has the write lock. SQLite's own handler tries again after 1, 2, 5 ... 100 ms: behind
    a command with many small transactions, acknowledgements would wait 100 ms though the lock was free ten times."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, looked: int) -> bool:
        now = time.monotonic()
        if not looked:
            self._since = now
        time.sleep(BUSY_PAUSE)
        return (now - self._since) * 1000 < BUSY_TIMEOUT


def unusable(path: Path, problem: Exception) -> StoreUnusable:
    """Why a store cannot be opened, with the remedy."""
    if isinstance(problem, apsw.NotADBError):
        return StoreUnusable(f"{path} is not a Postroom store (not an SQLite file); restore it from a backup")
    if isinstance(problem, apsw.CorruptError):
        return StoreUnusable(
            f"the store is damaged: {path}: {problem}; stop the gateway, move its data directory away and restore a "
            "backup (postroom restore), or rescue what can be read with the .recover command of the sqlite3 shell"
        )
    if path.is_dir():
        return StoreUnusable(f"the store {path} is a directory: give its file, or another [store] url")
    return StoreUnusable(f"cannot open the store {path}: {problem}; check its directory, rights and disk")


def reading(path: Path, *, proving: bool = False) -> apsw.Connection:
    """A read-only connection: a write through it fails. `proving`: SQLite checks the rules (CHECK) of its tables only
    on a connection that could write."""
    flags = apsw.SQLITE_OPEN_READWRITE if proving else apsw.SQLITE_OPEN_READONLY
    try:
        connection = apsw.Connection(str(path), flags=flags, statementcachesize=STATEMENTS_READ)
        keep_plans(connection)
        connection.set_busy_timeout(BUSY_TIMEOUT)
        connection.execute("PRAGMA query_only=1")
        connection.execute("PRAGMA cache_size=-24576")
    except apsw.Error as problem:
        raise StoreUnusable(f"cannot read the store {path}: {problem}") from problem
    return connection


def lock_directory(directory: Path) -> int:
    """Lock a directory for the serving process. The returned descriptor holds the lock until the process ends."""
    try:
        descriptor = os.open(directory / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise StoreUnusable(f"cannot write in the data directory {directory}: {problem.strerror}") from problem
    try:
        _lock_soon(descriptor)
    except OSError as problem:
        owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreUnusable(
            f"the data directory {directory} is in use by another gateway (process {owner}); stop it first or give "
            "--data"
        ) from problem
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _lock_soon(descriptor: int) -> None:
    """Try for a moment: a command that checks whether a gateway runs (`verify.is_serving`) holds the lock for an
    instant, and must not be taken for another gateway. OSError if the lock is held for longer."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(LOCK_PAUSE)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
