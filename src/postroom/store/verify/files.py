"""`postroom verify` on files: the database file and the directory of bodies.

Promises: SQLite's own check runs table by table, so that no snapshot is held longer than one table takes; files that
Postroom did not create are reported and left alone; a file without a row is deleted only when no gateway runs, because
a gateway may be about to write its row. Fails: database errors pass through.
"""

from __future__ import annotations

import os
import re
import stat

from postroom.clock import MINUTE
from postroom.store.backup.pins import LOCK_NAME, PREFIX
from postroom.store.bodies import is_body_name
from postroom.store.engine import Tx, named
from postroom.store.sqlite import proving
from postroom.store.verify.rows import Finding, Ground, Left, Mending

# A body is written before its row. Only the running gateway knows what it has in flight, so its own upkeep deletes
# there. When no gateway runs, a file older than this cannot belong to one that has just been started.
YOUNG = MINUTE
RESTORE = (
    "restore a backup (postroom restore), or rescue what can be read with the .recover command of the sqlite3 shell"
)

_WHOLE = ""  # in place of a table: the file
# Other checks look at each row of these.
_ROWS_LOOKED_AT = frozenset(
    {"message", "body", "entry", "event", "history", "info", "ledger", "pause", "plan", "rejection"}
)
_DIRECTORY = re.compile(r"[0-9a-f]{2}")
_NAMES = 500  # in one statement
_OURS_BESIDE = frozenset({"lock", LOCK_NAME})  # in the directory of bodies itself, beside what a backup pins

_SIZES_LOST = named(
    "verify.sizes_lost",
    "SELECT DISTINCT e.size FROM entry AS e LEFT JOIN message AS m ON m.id = e.message_id WHERE m.id IS NULL",
)


class Database:
    """What SQLite says of its file. A damaged page is beyond us; an index can be built again."""

    name = "database"
    slice = 1

    def __init__(self, *, deep: bool) -> None:
        self._deep = deep
        self._tables: list[str] = []

    def size(self, tx: Tx, ground: Ground) -> int:
        tables = proving.tables(tx)
        self._tables = [_WHOLE, *[table for table in tables if table != proving.SCHEMA]] if self._deep else tables
        return len(self._tables)

    def upper(self, tx: Tx, after: int) -> int | None:
        return after + 1 if after < len(self._tables) else None

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found = [
            Finding(flaw.kind, first, flaw.what, name=flaw.name)
            for flaw in self._flaws(tx, self._tables[first - 1])
            if flaw.kind != "rule" or flaw.name not in _ROWS_LOOKED_AT
        ]
        return list({(finding.kind, finding.name or finding.what): finding for finding in found}.values())

    def _flaws(self, tx: Tx, table: str) -> list[proving.Flaw]:
        if table == _WHOLE:
            return proving.check_file(tx)
        if table == proving.SCHEMA:
            return proving.check_table(tx, table)
        checked = [] if self._deep else proving.check_table(tx, table)  # deep: the whole file was checked before
        return checked + proving.check_indexes(tx, table) + proving.check_references(tx, table)

    def mend(self, mending: Mending, finding: Finding) -> str:
        if finding.kind == "index":
            proving.build_again(mending.tx, finding.name)
            return "built again"
        if finding.kind == "database":
            raise Left(f"SQLite cannot trust this file any more: {RESTORE}")
        raise Left("nothing in this store tells what it was; restore a backup, or remove it with its own command")


class BodyFiles:
    """The directory of large bodies: 256 directories, then what lies beside them."""

    name = "files"
    slice = 8

    def __init__(self) -> None:
        self._lost: frozenset[int] | None = None  # sizes of entries whose message is not there

    def size(self, tx: Tx, ground: Ground) -> int:
        return 257

    def upper(self, tx: Tx, after: int) -> int | None:
        return min(after + self.slice, 257) if after < 257 else None

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found: list[Finding] = []
        for number in range(first, last + 1):
            directory = ground.bodies.root / f"{number - 1:02x}" if number <= 256 else ground.bodies.root
            if not directory.is_dir():
                continue
            ours: dict[str, os.stat_result] = {}
            for file in os.scandir(directory):
                if number > 256 and _is_ours_beside(file.name):
                    continue
                name = f"{directory.name}/{file.name}" if number <= 256 else file.name
                try:
                    state = file.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if number <= 256 and is_body_name(name) and stat.S_ISREG(state.st_mode):
                    ours[name] = state
                else:
                    found.append(Finding("file-foreign", number, f"{name} is not ours", name=name, noted=True))
            found += self._without_row(tx, ground, number, ours)
        return found

    def _without_row(self, tx: Tx, ground: Ground, number: int, ours: dict[str, os.stat_result]) -> list[Finding]:
        found = []
        for name in _unused(tx, list(ours)):
            size, age = ours[name].st_size, ground.now - int(ours[name].st_mtime * 1000)
            if ground.serving:
                what = f"{name}: {size} bytes, under way, or deleted by the gateway itself when it is an hour old"
                found.append(Finding("file-young", number, what, name, True))
            elif age < YOUNG:
                found.append(Finding("file-young", number, f"{name}: {size} bytes, less than a minute old", name, True))
            elif size in self._sizes_lost(tx):
                what = f"{name}: {size} bytes, kept: it may be the body of an entry that has lost its message"
                found.append(Finding("file-kept", number, what, name, True))
            else:
                found.append(Finding("file-alone", number, f"{name}: {size} bytes that no message names", name))
        return found

    def _sizes_lost(self, tx: Tx) -> frozenset[int]:
        if self._lost is None:
            self._lost = frozenset([size for (size,) in tx.rows(_SIZES_LOST)])
        return self._lost

    def mend(self, mending: Mending, finding: Finding) -> str:
        try:
            os.unlink(mending.ground.bodies.path(finding.name))
        except OSError as problem:
            raise Left(f"cannot be deleted: {problem.strerror}") from problem
        return "deleted"


def _is_ours_beside(name: str) -> bool:
    return _DIRECTORY.fullmatch(name) is not None or name in _OURS_BESIDE or name.startswith(PREFIX)


def _unused(tx: Tx, names: list[str]) -> list[str]:
    """Those that no message names. The second condition lets the partial index be used."""
    used: set[str] = set()
    for at in range(0, len(names), _NAMES):
        part = names[at : at + _NAMES]
        marks = ", ".join("?" * len(part))
        statement = f"SELECT body_object FROM message WHERE body_object <> '' AND body_object IN ({marks})"
        used.update(name for (name,) in tx.rows(statement, part))
    return [name for name in names if name not in used]
