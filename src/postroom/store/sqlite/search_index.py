"""The search index: trigrams of waiting entries, in a file of its own beside the store, filled by a thread of its own.

No acknowledgement waits for it: the writer does not know it. It follows some seconds behind, so mail that passes at
once never gets into it. `watermark`: every waiting entry with an id up to it is in the index; newer ones are read row
by row. Ended entries are removed later; until then, a join with the queue drops them. The index is derived data: if it
is missing, damaged, or of another version or store, it is rebuilt. A `sweep` from end to end finds ended entries and,
whatever has happened to the file, missing ones. Fails: never affects mail; what cannot be written is logged and tried
again.
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
SWEPT = 5_000  # ids of one step of a sweep
BEHIND = 5.0  # seconds until an entry is taken in
IDLE = 1.0  # seconds between two steps if there is nothing to do
AGAIN = 30.0  # seconds after a failure
SHARE_BUSY = 3.0  # pause after a slice while mail arrives, in times of what the slice took
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
# The regions of the search text (fold.py), cut at their control characters. One statement does it all, so that the
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
# 5: entries that end when the undo window of their plan closes. Until then they may come back.
_QUEUED = "SELECT id FROM store.entry INDEXED BY entry_queue WHERE queue IN (0, 1, 2, 3, 4, 5) AND id > ? AND id <= ?"
_OUT = f"FROM ix_docsize WHERE id > ? AND id <= ? AND id NOT IN ({_QUEUED})"
_ENDED_COUNT = f"SELECT count(*) {_OUT}"
_ENDED = f"DELETE FROM ix WHERE rowid IN (SELECT id {_OUT})"
_MISSING = f"{_INSERT} WHERE id IN ({_QUEUED} AND id NOT IN (SELECT id FROM ix_docsize WHERE id > ? AND id <= ?))"
_STATE = "INSERT INTO state (what, number) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET number = excluded.number"
_FACTS = "SELECT coalesce(sum(number), 0) FROM {schema}ledger"
_NAMED = "SELECT token FROM {schema}counted"  # names the store


class SearchIndex:
    """`Finder` on SQLite: what the readers and the filler of one process share."""

    def __init__(self, store: Path, *, beside: bool) -> None:
        self.store = store
        self.path = store.with_name(NAME)
        self.alone = threading.Lock()  # held by the one search that has to read many rows
        self.bound = 10.0 if beside else 0.5  # seconds; a command beside a gateway slows nothing down
        self.ready = beside  # beside a gateway, the file is used as it is
        self.generation = 1 if beside else 0  # another number: another file
        self.distrusted = threading.Event()
        self.filler: Filler | None = None
        self.halted = False  # set by work/pressure.py

    def follow(self, *, log: Log, commits: Callable[[], int], advance: Callable[[int], int]) -> None:
        self.filler = Filler(self, log=log, commits=commits, advance=advance)
        self.filler.start()

    def stop(self) -> None:
        if self.filler is not None and self.filler.is_alive():
            self.filler.stop()

    def replaced(self, *, ready: bool) -> None:
        self.ready = ready
        self.generation += 1

    def distrust(self) -> None:
        self.replaced(ready=False)
        self.distrusted.set()

    def attach(self, tx: Tx) -> bool:
        """Attach the index as `find`."""
        if not self.ready or not self.path.exists():
            return False
        try:
            tx.run("ATTACH ? AS find", (str(self.path),))
            tx.rows("PRAGMA find.cache_size=-8192")
        except apsw.Error:
            return False
        try:
            if _is_ours(tx, "find.", "main."):
                return True
        except apsw.Error:
            pass
        with contextlib.suppress(apsw.Error):
            tx.run("DETACH find")
        return False


def _is_ours(tx: Tx, index: str, store: str) -> bool:
    """Whether the index is of this version, and of this store as it is or was. A store that was restored since has less
    in its ledger, or fewer reasons."""
    if tx.value(f"PRAGMA {index}application_id") != APPLICATION:
        return False
    if tx.value(f"PRAGMA {index}user_version") != VERSION:
        return False
    with tx.snapshot():  # the index first: what it says of the store was true before
        state = dict(tx.rows(f"SELECT what, number FROM {index}state"))
        facts = int(tx.value(_FACTS.format(schema=store)))
        token = int(tx.value(_NAMED.format(schema=store)))
        newest = int(tx.value(f"SELECT coalesce(max(id), 0) FROM {store}info"))
    return state.get("token") == token and state.get("facts", 0) <= facts and state.get("reasons", 0) <= newest


class Filling:
    """The connection that fills the index, and its steps. Not thread-safe: one thread uses it."""

    def __init__(self, index: SearchIndex) -> None:
        """Opens the file, or rebuilds it."""
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
        self._swept = 0  # how far the current sweep has come
        self._facts_swept: int | None = None
        self._late_swept = self._late_begun = -1

    def _open(self, *, create: bool) -> SqliteTx:
        path = self._index.path
        if create:  # private from the start; the log beside it gets the same mode
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
        tx = SqliteTx(connection)
        try:
            keep_plans(connection)
            connection.set_busy_timeout(10_000)
            tx.rows("PRAGMA cache_size=-16384")
            tx.rows("PRAGMA temp_store=MEMORY")
            tx.rows("PRAGMA synchronous=OFF")  # an empty file has nothing to lose
            if create:
                tx.rows("PRAGMA auto_vacuum=INCREMENTAL")
            tx.rows("PRAGMA journal_mode=WAL")
            tx.rows("PRAGMA synchronous=NORMAL")  # a crash may undo the last commits, the watermark along with the rows
            tx.rows("PRAGMA wal_autocheckpoint=4000")
            tx.rows("PRAGMA journal_size_limit=33554432")
            uri = f"file:{quote(str(self._index.store))}?mode=ro"
            tx.run("ATTACH ? AS store", (uri,))
            if create:
                with tx.snapshot():
                    for statement in filter(str.strip, _SCHEMA.split(";\n")):
                        tx.run(statement)
                    tx.run(_STATE, ("token", tx.value(_NAMED.format(schema="store."))))
                    tx.run(_STATE, ("reasons", 0))
                    self._note(tx, 0, behind=True)
        except BaseException:
            tx.close()
            raise
        return tx

    def close(self) -> None:
        self.tx.close()

    def newest(self) -> int:
        """The newest waiting entry."""
        return int(self.tx.value("SELECT coalesce(max(id), 0) FROM store.entry"))

    def counted(self) -> int:
        """The index goes no further than this id: up to it, the store counts entries that come late (`_late`)."""
        return int(self.tx.value("SELECT upto FROM store.counted"))

    def is_ours(self) -> bool:
        """False if it belongs to another store, or texts have been changed."""
        return _is_ours(self.tx, "", "store.")

    @property
    def watermark(self) -> int:
        return int(self.tx.value("SELECT number FROM state WHERE what = 'watermark'"))

    def fill(self, upto: int, most: int = SLICE) -> int:
        """Take in the next entries up to an id, in order, so that the watermark can follow. Returns how many."""
        tx = self.tx
        with tx.snapshot():
            watermark = self.watermark
            [(upper, number)] = tx.rows(_UPPER, (watermark, upto, most))
            if number:
                tx.run(f"{_INSERT} WHERE id > ? AND id <= ? ORDER BY id", (watermark, upper))
                self._note(tx, int(upper), behind=number == most)
            elif tx.value("SELECT number FROM state WHERE what = 'behind'"):
                self._note(tx, watermark, behind=False)
        return int(number)

    def take_in_reasons(self) -> int:
        with self.tx.snapshot():
            number = reason_index.take_in(self.tx)
        return number

    def _note(self, tx: Tx, watermark: int, *, behind: bool) -> None:
        facts = tx.value(_FACTS.format(schema="store."))
        for what, number in (("watermark", watermark), ("behind", int(behind)), ("facts", facts)):
            tx.run(_STATE, (what, number))

    def rows(self) -> int:
        """How many entries are in the index, including ended ones that the next sweep removes."""
        return int(self.tx.value("SELECT count(*) FROM ix_docsize"))

    def sweep_due(self) -> bool:
        """Whether enough entries have ended. The first sweep comes soon after the start, to check the file."""
        if self._swept or self._late() != self._late_swept:
            return True
        facts = int(self.tx.value(_FACTS.format(schema="store.")))
        if self._facts_swept is not None and facts - self._facts_swept < ENDED_LEAST and not self._drained():
            return False
        if self._facts_swept is not None and facts - self._facts_swept < self.rows() // ENDED_SHARE:
            return self._drained()
        self._facts_swept = facts
        return True

    def _late(self) -> int:
        return int(self.tx.value("SELECT late FROM store.counted"))

    def _drained(self) -> bool:
        """Whether everything in the index has ended."""
        if self.tx.rows("SELECT 1 FROM store.entry WHERE id <= ? LIMIT 1", (self.watermark,)):
            return False
        return bool(self.tx.rows("SELECT 1 FROM ix_docsize LIMIT 1"))

    def sweep(self, most: int = SWEPT) -> tuple[int, bool]:
        """One step. Returns (rows removed and added, whether the end was reached)."""
        tx = self.tx
        with tx.snapshot():
            watermark = self.watermark
            if self._drained():
                gone = self.rows()
                tx.run("INSERT INTO ix (ix) VALUES ('delete-all')")
                self._note(tx, watermark, behind=False)
                self._swept, self._late_swept = 0, self._late()
                return gone, True
            low = self._swept
            if not low:
                self._late_begun = self._late()
            [(upper, number)] = tx.rows(_SWEEP_UPPER, (low, most))
            last = number < most
            high = watermark if last else int(upper)
            ended = int(tx.value(_ENDED_COUNT, (low, high, low, high)))
            if ended:
                tx.run(_ENDED, (low, high, low, high))
            missing = tx.run(_MISSING, (low, high, low, high))
            if ended or missing:
                self._note(tx, watermark, behind=False)
            self._swept = 0 if last else high
            if last:
                self._late_swept = self._late_begun
                reason_index.sweep(tx)
        return ended + missing, last

    def give_back(self) -> None:
        """Free pages, after many entries have ended."""
        pages = int(self.tx.value("PRAGMA main.page_count"))
        if int(self.tx.value("PRAGMA main.freelist_count")) > max(1_000, pages // 4):
            self.tx.rows("PRAGMA main.incremental_vacuum(1000)")


class Filler(threading.Thread):
    """Fills the index until it is stopped. `commits` and `advance`: as in `Finder.follow`."""

    def __init__(
        self, index: SearchIndex, *, log: Log, commits: Callable[[], int], advance: Callable[[int], int],
        behind: float = BEHIND,
    ) -> None:  # fmt: skip
        super().__init__(name="postroom-search", daemon=True)
        self._index, self._log, self._commits, self._advance = index, log, commits, advance
        self._behind = behind
        self._ending = threading.Event()
        self._filling: Filling | None = None
        self._seen: deque[tuple[float, int]] = deque()  # (monotonic seconds, newest entry then)
        self._settled = 0  # the newest entry BEHIND seconds ago
        self._failed = ""

    def stop(self) -> None:
        self._ending.set()
        filling = self._filling
        if filling is not None:
            with contextlib.suppress(apsw.Error):  # it may be closing just now
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
        """One step. Returns the pause after it."""
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
        """Note the newest entry, by the monotonic clock: the time in ids is that of a clock that may be set."""
        now = time.monotonic()
        seen = self._seen
        if not seen:
            self._settled = self._settled or newest  # what was there at the start has waited long enough
        if not seen or seen[-1][0] <= now - self._behind / 4:
            seen.append((now, newest))
        while seen and seen[0][0] <= now - self._behind:
            self._settled = max(self._settled, seen.popleft()[1])
