"""Opening SQLite: paths, pragmas, the directory's lock, and why a store cannot be opened.

Promises: WAL with synchronous=FULL on every connection that writes, so that a commit is an fdatasync; automatic checkpoints
are off (the checkpointer has its own connection). Fails: StoreUnusable with the remedy; `is_environment` tells failures of
disk and memory from our own mistakes.
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
BUSY_TIMEOUT = 10_000  # milliseconds another process (a CLI command) may hold the write lock
STATEMENTS_READ = (
    300  # kept by a reader: one that has run takes the oldest one's place, so it must come again within so many
)
BUSY_PAUSE = 0.001  # seconds between two looks at it


def database_path(settings: Settings) -> Path:
    """Where the embedded store lives; StoreUnusable for an engine that this release does not have."""
    url = settings.store.url
    if not url.startswith("sqlite:///"):
        raise StoreUnusable(f"[store] url {url!r}: expected sqlite:///FILE (relative to --data)")
    return Path(settings.data, url.removeprefix("sqlite:///")).absolute()


def writing(path: Path) -> apsw.Connection:
    """A connection that may write. The file is created when absent."""
    try:
        if not path.exists():  # made private here, and the log beside it takes over the mode
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        # From here on nobody in this process may open the file but SQLite: closing any other descriptor of it would drop
        # the locks of every connection (POSIX), and a command beside us could take away the log under our feet.
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
    """Plans do not depend on what is bound. Otherwise SQLite compiles a statement anew whenever a value is bound at which its planner
    has looked, 15 to 30 us each time. So what a partial index needs stands in the statement, not among the values."""
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


class _InLine:
    """Another process has the write lock. SQLite's own handler looks again after 1, 2, 5 ... 100 ms: behind a command that writes
    many small transactions, acknowledgements then wait for 100 ms though the lock was free ten times."""

    def __init__(self) -> None:
        self._since = 0.0

    def __call__(self, looked: int) -> bool:
        now = time.monotonic()
        if not looked:
            self._since = now
        time.sleep(BUSY_PAUSE)
        return (now - self._since) * 1000 < BUSY_TIMEOUT


def unusable(path: Path, problem: Exception) -> StoreUnusable:
    """What is in the way of a store that cannot be opened, and the remedy."""
    if isinstance(problem, apsw.NotADBError):
        return StoreUnusable(f"{path} is not a Postroom store (not an SQLite file); restore it from a backup")
    if isinstance(problem, apsw.CorruptError):
        return StoreUnusable(
            f"the store is damaged: {path}: {problem}; stop the gateway, move its data directory away and restore a backup "
            "(postroom restore), or rescue what can be read with the .recover command of the sqlite3 shell"
        )
    if path.is_dir():
        return StoreUnusable(f"the store {path} is a directory: give its file, or another [store] url")
    return StoreUnusable(f"cannot open the store {path}: {problem}; check its directory, rights and disk")


def reading(path: Path, *, proving: bool = False) -> apsw.Connection:
    """A read-only connection: misuse fails here, not in review. `proving`: SQLite looks at the rules (CHECK) of its tables
    only on a connection that could write."""
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
    """The serving process's claim to its data directory; the descriptor holds it until the process ends."""
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
            f"the data directory {directory} is in use by another gateway (process {owner}); stop it first or give --data"
        ) from problem
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def _lock_soon(descriptor: int) -> None:
    """A command that looks whether a gateway runs (verify.is_serving) holds the lock for an instant: a start that meets it
    there must not take it for another gateway. OSError when it is held for longer."""
    for _ in range(LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(LOCK_PAUSE)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
