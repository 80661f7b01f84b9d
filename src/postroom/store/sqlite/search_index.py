"""The search index: trigrams of what waits, in a file of its own beside the store, filled by a thread of its own.

No acknowledgement waits for it: the writer does not know it. It follows some seconds behind, so that mail which passes at once is
never in it. `watermark`: every entry with an id up to it that waits is in the index; what is newer is read row by row. What has
ended is taken out behind, and until then falls out because it is joined with the queue. It is derived data: missing, damaged,
of another version or of another store = made anew. A look from end to end (`sweep`) finds what has ended and, whatever
may have happened to the file, what is missing. Fails: never into mail; what cannot be written is logged and tried again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import apsw

from postroom.errors import EnvironmentFailed
from postroom.store.engine import Tx
from postroom.store.sqlite import reasons as reason_index
from postroom.store.sqlite.connections import keep_plans
from postroom.store.sqlite.failures import is_environment
from postroom.store.sqlite.tx import SqliteTx
from postroom.telemetry import Log

NAME = "search.db"
APPLICATION = 0x506F7374
VERSION = 2
SLICE = 1_000  # rows of one transaction: about 0.2 s of this thread, nothing of any other
SWEPT = 5_000  # ids of one look for what has ended or is missing
BEHIND = 5.0  # seconds until an entry is taken in
IDLE = 1.0  # seconds between two looks
AGAIN = 30.0  # seconds after a failure
SHARE_BUSY = 3.0  # pause after a slice while mail is coming, in times of what it took
SHARE_QUIET = 0.2
ENDED_LEAST = 5_000  # entries ended since the last sweep, and ...
ENDED_SHARE = 10  # ... one in so many of the index, until the next one

_ENDINGS = ("", "-wal", "-shm", "-journal")
_SCHEMA = f"""
CREATE VIRTUAL TABLE ix USING fts5(
  sender, recipient, subject, ip, content='', contentless_delete=1, tokenize='trigram case_sensitive 1'
);
INSERT INTO ix (ix, rank) VALUES ('hashsize', 8388608);
{reason_index.SCHEMA};
CREATE TABLE state (what TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA application_id={APPLICATION};
PRAGMA user_version={VERSION};
"""
# The regions of the search text (search.py), cut at their control characters; all of it in one statement, so that the
# interpreter is free meanwhile.
_TEXTS = (
    "substr(search, 2, instr(search, char(2)) - 2), "
    "substr(search, instr(search, char(2)) + 1, instr(search, char(3)) - instr(search, char(2)) - 1), "
    "substr(search, instr(search, char(3)) + 1, instr(search, char(4)) - instr(search, char(3)) - 1), "
    "substr(search, instr(search, char(4)) + 1, instr(search, char(5)) - instr(search, char(4)) - 1)"
)
_INSERT = f"INSERT INTO ix (rowid, sender, recipient, subject, ip) SELECT id, {_TEXTS} FROM store.entry "
_UPPER = "SELECT max(id), count(*) FROM (SELECT id FROM store.entry WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)"
_SWEEP_UPPER = "SELECT max(id), count(*) FROM (SELECT id FROM ix_docsize WHERE id > ? ORDER BY id LIMIT ?)"
# (Among them what is about to end: until the undo window of its plan is over it may come back.)
_QUEUED = "SELECT id FROM store.entry INDEXED BY entry_queue WHERE queue IN (0, 1, 2, 3, 4, 5) AND id > ? AND id <= ?"
_ENDED = f"DELETE FROM ix WHERE rowid IN (SELECT id FROM ix_docsize WHERE id > ? AND id <= ? AND id NOT IN ({_QUEUED}))"
_MISSING = f"{_INSERT} WHERE id IN ({_QUEUED} AND id NOT IN (SELECT id FROM ix_docsize WHERE id > ? AND id <= ?))"
_STATE = "INSERT INTO state (what, number) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET number = excluded.number"
_FACTS = "SELECT coalesce(sum(number), 0) FROM {schema}ledger"
_NAMED = "SELECT token FROM {schema}counted"  # the store


class SearchIndex:
    """What the readers and the filler of one process share."""

    def __init__(self, store: Path, *, beside: bool) -> None:
        self.store = store
        self.path = store.with_name(NAME)
        self.alone = threading.Lock()  # held by the one search that has to read many rows
        self.bound = 10.0 if beside else 0.5  # seconds; a command beside a gateway disturbs nobody
        self.ready = beside  # beside a gateway the file is taken as it is
        self.generation = 1 if beside else 0  # another number: another file
        self.distrusted = threading.Event()
        self.filler: Filler | None = None
        self.halted = False  # it may not grow: what room is left belongs to mail (pressure.py)

    def stop(self) -> None:
        if self.filler is not None and self.filler.is_alive():
            self.filler.stop()

    def replaced(self, *, ready: bool) -> None:
        self.ready = ready
        self.generation += 1

    def distrust(self) -> None:
        """It could not be read: nobody uses it until it has been made anew."""
        self.replaced(ready=False)
        self.distrusted.set()

    def attach(self, tx: Tx) -> bool:
        """As `find`, to a connection that reads and is in no transaction; False when there is no index of this store."""
        if not self.ready or not self.path.exists():
            return False
        try:
            tx.rows("ATTACH ? AS find", (str(self.path),))
            tx.rows("PRAGMA find.cache_size=-8192")
        except apsw.Error:
            return False
        try:
            if _is_ours(tx, "find.", "main."):
                return True
        except apsw.Error:
            pass
        with contextlib.suppress(apsw.Error):
            tx.rows("DETACH find")
        return False


def _is_ours(tx: Tx, index: str, store: str) -> bool:
    """Of this version, and of this store as it is or was a while ago: a store that was put back has less in its ledger, or
    fewer reasons."""
    if tx.rows(f"PRAGMA {index}application_id")[0][0] != APPLICATION:
        return False
    if tx.rows(f"PRAGMA {index}user_version")[0][0] != VERSION:
        return False
    with tx.snapshot():  # the index first: what it says of the store was so before
        state = dict(tx.rows(f"SELECT what, number FROM {index}state"))
        facts = int(tx.rows(_FACTS.format(schema=store))[0][0])
        token = int(tx.rows(_NAMED.format(schema=store))[0][0])
        newest = int(tx.rows(f"SELECT coalesce(max(id), 0) FROM {store}info")[0][0])
    return state.get("token") == token and state.get("facts", 0) <= facts and state.get("reasons", 0) <= newest


class Filling:
    """The connection that fills, and its steps. Not thread-safe: one thread uses it."""

    def __init__(self, index: SearchIndex) -> None:
        """Opens the file, or makes it anew."""
        self._index = index
        try:
            self.tx = self._open(create=False)
            if not self.is_ours():
                raise apsw.CorruptError("not the index of this store")
        except apsw.Error as problem:
            if is_environment(problem) and not isinstance(problem, apsw.CantOpenError | apsw.IOError):
                raise
            with contextlib.suppress(AttributeError):
                self.tx.close()
            for ending in _ENDINGS:
                index.path.with_name(index.path.name + ending).unlink(missing_ok=True)
            self.tx = self._open(create=True)
        self._swept = 0  # how far the sweep that is under way has come
        self._facts_swept: int | None = None
        self._late_swept = self._late_begun = -1

    def _open(self, *, create: bool) -> SqliteTx:
        path = self._index.path
        if create:  # made private, and the log beside it takes over the mode
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
        tx = SqliteTx(connection)
        try:
            keep_plans(connection)
            connection.set_busy_timeout(10_000)
            tx.rows("PRAGMA cache_size=-16384")
            tx.rows("PRAGMA temp_store=MEMORY")
            tx.rows("PRAGMA synchronous=OFF")  # of an empty file nothing is lost
            if create:
                tx.rows("PRAGMA auto_vacuum=INCREMENTAL")
            tx.rows("PRAGMA journal_mode=WAL")
            tx.rows("PRAGMA synchronous=NORMAL")  # a crash may undo the last commits, watermark and rows alike
            tx.rows("PRAGMA wal_autocheckpoint=4000")
            tx.rows("PRAGMA journal_size_limit=33554432")
            uri = f"file:{quote(str(self._index.store))}?mode=ro"
            tx.rows("ATTACH ? AS store", (uri,))
            if create:
                with tx.snapshot():
                    for statement in filter(str.strip, _SCHEMA.split(";\n")):
                        tx.rows(statement)
                    tx.rows(_STATE, ("token", tx.rows(_NAMED.format(schema="store."))[0][0]))
                    tx.rows(_STATE, ("reasons", 0))
                    self._note(tx, 0, behind=True)
        except BaseException:
            tx.close()
            raise
        return tx

    def close(self) -> None:
        self.tx.close()

    def newest(self) -> int:
        """The newest entry that waits."""
        return int(self.tx.rows("SELECT coalesce(max(id), 0) FROM store.entry")[0][0])

    def counted(self) -> int:
        """What comes later with an id up to this one is told by the store: the index goes no further."""
        return int(self.tx.rows("SELECT upto FROM store.counted")[0][0])

    def is_ours(self) -> bool:
        """False: it is of another store, or texts have been changed."""
        return _is_ours(self.tx, "", "store.")

    @property
    def watermark(self) -> int:
        return int(self.tx.rows("SELECT number FROM state WHERE what = 'watermark'")[0][0])

    def fill(self, upto: int, most: int = SLICE) -> int:
        """Take in the next entries up to an id; how many. In their order, so that the watermark can follow."""
        tx = self.tx
        with tx.snapshot():
            watermark = self.watermark
            upper, number = tx.rows(_UPPER, (watermark, upto, most))[0]
            if number:
                tx.rows(f"{_INSERT} WHERE id > ? AND id <= ? ORDER BY id", (watermark, upper))
                self._note(tx, int(upper), behind=number == most)
            elif tx.rows("SELECT number FROM state WHERE what = 'behind'")[0][0]:
                self._note(tx, watermark, behind=False)
        return int(number)

    def take_in_reasons(self) -> int:
        with self.tx.snapshot():
            number = reason_index.take_in(self.tx)
        return number

    def _note(self, tx: Tx, watermark: int, *, behind: bool) -> None:
        facts = tx.rows(_FACTS.format(schema="store."))[0][0]
        for what, number in (("watermark", watermark), ("behind", int(behind)), ("facts", facts)):
            tx.rows(_STATE, (what, number))

    def rows(self) -> int:
        """How many entries are in the index, ended ones included, as it was at the last sweep or fill: a few too many at most."""
        return int(self.tx.rows("SELECT count(*) FROM ix_docsize")[0][0])

    def sweep_due(self) -> bool:
        """Whether enough has ended. The first one comes soon after a start: it proves the file."""
        if self._swept or self._late() != self._late_swept:
            return True
        facts = int(self.tx.rows(_FACTS.format(schema="store."))[0][0])
        if self._facts_swept is not None and facts - self._facts_swept < ENDED_LEAST and not self._drained():
            return False
        if self._facts_swept is not None and facts - self._facts_swept < self.rows() // ENDED_SHARE:
            return self._drained()
        self._facts_swept = facts
        return True

    def _late(self) -> int:
        return int(self.tx.rows("SELECT late FROM store.counted")[0][0])

    def _drained(self) -> bool:
        """Nothing waits any more of all that is in it."""
        if self.tx.rows("SELECT 1 FROM store.entry WHERE id <= ? LIMIT 1", (self.watermark,)):
            return False
        return bool(self.tx.rows("SELECT 1 FROM ix_docsize LIMIT 1"))

    def sweep(self, most: int = SWEPT) -> tuple[int, bool]:
        """One step: (rows taken out and put in, whether the end was reached)."""
        tx = self.tx
        with tx.snapshot():
            watermark = self.watermark
            if self._drained():
                gone = self.rows()
                tx.rows("INSERT INTO ix (ix) VALUES ('delete-all')")
                self._note(tx, watermark, behind=False)
                self._swept, self._late_swept = 0, self._late()
                return gone, True
            low = self._swept
            if not low:
                self._late_begun = self._late()
            upper, number = tx.rows(_SWEEP_UPPER, (low, most))[0]
            last = number < most
            high = watermark if last else int(upper)
            ended = int(tx.rows(f"SELECT count(*) FROM ix_docsize WHERE id > ? AND id <= ? AND id NOT IN ({_QUEUED})", (low, high, low, high))[0][0])  # fmt: skip
            if ended:
                tx.rows(_ENDED, (low, high, low, high))
            missing = tx.run(_MISSING, (low, high, low, high))
            if ended or missing:
                self._note(tx, watermark, behind=False)
            self._swept = 0 if last else high
            if last:
                self._late_swept = self._late_begun
                reason_index.sweep(tx)
        return ended + missing, last

    def give_back(self) -> None:
        """Free pages, after much has ended."""
        pages = int(self.tx.rows("PRAGMA main.page_count")[0][0])
        if int(self.tx.rows("PRAGMA main.freelist_count")[0][0]) > max(1_000, pages // 4):
            self.tx.rows("PRAGMA main.incremental_vacuum(1000)")


class Filler(threading.Thread):
    """Fills until it is stopped. `commits`: grows while mail is coming; `advance`: what else follows behind (counters.py)."""

    def __init__(
        self, index: SearchIndex, *, log: Log, commits: Callable[[], int], advance: Callable[[int], int], behind: float = BEHIND
    ) -> None:  # fmt: skip
        super().__init__(name="postroom-search", daemon=True)
        self._index, self._log, self._commits, self._advance = index, log, commits, advance
        self._behind = behind
        self._ending = threading.Event()
        self._filling: Filling | None = None
        self._seen: deque[tuple[float, int]] = deque()  # (when, newest entry then)
        self._settled = 0  # the newest that had come BEHIND seconds ago
        self._failed = ""

    def stop(self) -> None:
        self._ending.set()
        filling = self._filling
        if filling is not None:
            with contextlib.suppress(apsw.Error):  # it is just closing
                filling.tx.connection.interrupt()
        self.join()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._ending.wait(self._turn())
        finally:
            if self._filling is not None:
                self._filling.close()

    def _turn(self) -> float:
        """One step; the pause after it."""
        try:
            if self._index.distrusted.is_set() or self._filling is None:
                self._reopen()
            pause = self._step()
            self._failed = ""
        except apsw.InterruptError:
            return 0.0
        except (apsw.Error, OSError, MemoryError, EnvironmentFailed) as problem:
            if self._failed != str(problem):
                self._failed = str(problem)
                self._log.warning("search_index_failed", problem=self._failed, path=str(self._index.path))
            if isinstance(problem, apsw.Error) and not is_environment(problem):
                self._index.distrust()
            return AGAIN
        return pause

    def _reopen(self) -> None:
        anew = self._index.distrusted.is_set()
        if self._filling is not None:
            self._filling.close()
            self._filling = None
        if anew:
            for ending in _ENDINGS:
                self._index.path.with_name(self._index.path.name + ending).unlink(missing_ok=True)
            self._log.warning("search_index_damaged", path=str(self._index.path), done="it is made anew")
            self._index.distrusted.clear()
        self._filling = Filling(self._index)
        self._index.replaced(ready=True)

    def _step(self) -> float:
        filling = self._filling
        assert filling is not None
        commits, began = self._commits(), time.perf_counter()
        self._look(filling.newest())
        counted = self._advance(self._settled)
        halted = self._index.halted
        number = 0 if halted else filling.fill(min(self._settled, filling.counted()))
        reasons = 0 if halted else filling.take_in_reasons()
        if number < SLICE and not reasons:
            if not halted and filling.sweep_due():
                _, done = filling.sweep()
                if done:
                    filling.give_back()
            elif not counted:
                if not filling.is_ours():
                    self._index.distrust()
                return IDLE
        took = time.perf_counter() - began
        return took * (SHARE_BUSY if self._commits() != commits else SHARE_QUIET)

    def _look(self, newest: int) -> None:
        """By a clock that nobody sets, not by the time in the ids."""
        now = time.monotonic()
        seen = self._seen
        if not seen:
            self._settled = (
                newest if not self._settled else self._settled
            )  # what was there at the start has waited enough
        if not seen or seen[-1][0] <= now - self._behind / 4:
            seen.append((now, newest))
        while seen and seen[0][0] <= now - self._behind:
            self._settled = max(self._settled, seen.popleft()[1])
