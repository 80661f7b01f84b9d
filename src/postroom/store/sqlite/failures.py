"""The kinds of failure of SQLite, and what they mean."""

from __future__ import annotations

import apsw

FAILURE: tuple[type[Exception], ...] = (apsw.Error,)
FULL: tuple[type[Exception], ...] = (apsw.FullError,)  # of NO_ROOM: the disk
DAMAGE: tuple[type[Exception], ...] = (apsw.CorruptError,)
INTERRUPTED: tuple[type[Exception], ...] = (apsw.InterruptError,)  # a watched read took too long
LOCKED: tuple[type[Exception], ...] = (apsw.BusyError, apsw.LockedError)  # another process wrote for too long
NO_ROOM: tuple[type[Exception], ...] = (
    apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError,
)  # fmt: skip
_ENVIRONMENT = (*LOCKED, *NO_ROOM, apsw.NoMemError, apsw.ProtocolError, MemoryError)


def is_environment(problem: BaseException) -> bool:
    """Whether trying again later can help: disk full, unreadable, locked, out of memory."""
    return isinstance(problem, _ENVIRONMENT)


def may_be_the_index(problem: BaseException) -> bool:
    """Whether a search that failed may work without the search index: its file alone may be unreadable."""
    return isinstance(problem, apsw.IOError) or not is_environment(problem)
