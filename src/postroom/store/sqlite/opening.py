"""Checks before the serving process opens its store: signs that mail would be forgotten.

SQLite takes an empty file for a new database, and a log with an unknown header for an empty log. It would go on
silently with what it has, and the bodies of forgotten mail would be deleted as orphans. Promises: refuses exactly then,
with the remedy; what a crash can leave (an empty file after a first start, a log without a commit) is accepted. Opens
only the log, never the database file: POSIX drops every lock of a file when any descriptor of it is closed. Fails:
StoreUnusable.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import apsw

from postroom.errors import StoreUnusable
from postroom.store.bodies import Bodies

LEAST_SQLITE = (3, 38)  # RETURNING (3.35), quick_check of one table (3.33), JSON and unixepoch as documented since 3.38
_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, two salts, two checksums
_MAGIC = 0x377F0682  # + 1: its checksums are big-endian
READS = 3  # a command may be writing the header just now
REMEDY = "restore a backup (postroom restore)"


def check_library(version: str) -> None:
    """Refuse an SQLite that is too old."""
    numbers = tuple([int(number) for number in re.findall(r"\d+", version)[:2]])
    if numbers < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise StoreUnusable(f"SQLite {version} is too old: {least} or newer is needed; install a newer apsw")


def look_before_opening(path: Path, bodies: Bodies, data: Path) -> None:
    """Refuse a damaged store that would look like a new one."""
    check_library(apsw.sqlite_lib_version())
    log = path.with_name(f"{path.name}-wal")
    try:
        empty = not path.exists() or (path.is_file() and not path.stat().st_size)
        size = log.stat().st_size if log.exists() else 0
        if not empty:
            _check_log(path, log)
            return
    except OSError as problem:
        raise StoreUnusable(f"cannot read {log}: {problem.strerror}; check its rights and disk") from problem
    state = "is empty" if path.exists() else "is gone"
    if size:
        raise StoreUnusable(
            f"the store {path} {state}, but its log {log.name} holds {size} bytes, which may be acknowledged mail: "
            f"keep a copy of both, and {REMEDY}"
        )
    if path.exists() and (data / "admin.json").exists():
        raise StoreUnusable(
            f"the store {path} {state}, but there was one (admin.json is there): {REMEDY}; to begin a new one, move "
            "the data directory away"
        )
    if names := bodies.names():
        raise StoreUnusable(
            f"the store {path} {state}, but {bodies.root} holds {len(names)} message bodies, which a new store would "
            f"delete: {REMEDY}, or move them away"
        )


def _check_log(path: Path, log: Path) -> None:
    """The header is smaller than a sector and is synced before the first commit: it is whole, or there is no commit."""
    for _ in range(READS):
        if not log.exists():
            return
        with log.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not any(header):
            return
        words = _HEADER.unpack(header)
        if words[0] & ~1 == _MAGIC and _checksum(header, big=bool(words[0] & 1)) == words[6:]:
            return
    raise StoreUnusable(
        f"the log {log} is damaged (its header does not agree with itself), and acknowledged mail may be in it alone: "
        f"keep a copy, and {REMEDY}; to go on with what {path.name} holds, move the log away"
    )


def _checksum(header: bytes, *, big: bool) -> tuple[int, int]:
    """The checksum of the first 24 bytes (SQLite's file format, section 4.2)."""
    first = second = 0
    numbers = struct.unpack(f"{'>' if big else '<'}6I", header[:24])
    for at in range(0, 6, 2):
        first = (first + numbers[at] + second) & 0xFFFFFFFF
        second = (second + numbers[at + 1] + first) & 0xFFFFFFFF
    return first, second
