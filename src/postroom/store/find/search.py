"""A reader's searches: the store and the search index in one snapshot, with a limit on time.

Promises: a search that must read many rows ends after its bound, and only one of them runs at a time, so mail is not
slowed down. A damaged index is reported to the filler, and the search is answered from the rows instead. Fails:
SearchTooBroad, which says how far the index is if that is the reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from postroom.clock import Millis
from postroom.model import Filter, Queue
from postroom.store.engine import FAILURE, INTERRUPTED, Finder, ReadTx, may_be_the_index, named
from postroom.store.find import conditions, counters
from postroom.store.find.counters import LAST
from postroom.store.find.sources import MANY, Bounds, Reasons, Sources, sources
from postroom.store.fold import SearchTooBroad
from postroom.store.sqlite import reasons as reason_index
from postroom.store.sqlite.rarity import Rarity

T = TypeVar("T")
Found = TypeVar("Found", bound=Sequence[int] | None)

BOUND = 0.5  # seconds for a search that has to read many rows ...
BOUND_INDEXED = 5.0  # ... and for one that an index can narrow
TOGETHER = 0.1  # seconds that searches of the first kind may run side by side
_NO_STATE: tuple[type[Exception], ...] = (*FAILURE, KeyError)
LEAST_SHARE = 0.1  # of all entries: a text that fewer of them hold is never counted faster by a merge
MOST_KEPT = 500_000  # ids: some 20 MB a reader


class Searches:
    """The searches of one reading connection."""

    def __init__(self, tx: ReadTx, index: Finder | None) -> None:
        self._tx = tx
        self._index = index
        self._generation = 0
        self.attached = False
        self._rarity = Rarity(tx)
        # Lookups that a page and its total share, and the state of both files in which they were made.
        self._known: dict[tuple[str, ...], Sequence[int] | None] = {}
        self._known_at: tuple[object, ...] = ()
        self._kept = 0  # ids in `_known`
        conditions.register(tx)
        self.refresh()

    def refresh(self) -> None:
        """Between two transactions: attach the index as it is now."""
        index = self._index
        if index is None or self._generation == index.generation or self._tx.in_snapshot:
            return
        self._generation = index.generation
        if self.attached:
            with contextlib.suppress(*FAILURE):
                self._tx.run("DETACH find")
        self.attached = index.attach(self._tx)
        self._rarity = Rarity(self._tx)

    def run(self, filter: Filter, within: Bounds, now: Millis | None, look: Callable[[Sources], T]) -> T:
        """Call `look` with the parts that hold the matches, in one snapshot. Again without the index if it is
        damaged."""
        with self._tx.snapshot():
            try:
                found = self._looked(filter, within, now, look)
            except SearchTooBroad as problem:
                raise SearchTooBroad(f"{problem}{self._incomplete(filter, within, now)}") from None
        return found

    def _looked(self, filter: Filter, within: Bounds, now: Millis | None, look: Callable[[Sources], T]) -> T:
        used = self.attached
        try:
            return self._bounded(filter, within, now, look)
        except FAILURE as problem:
            if not used or not may_be_the_index(problem):
                raise
            if self.attached:
                self._distrust()
            return self._bounded(filter, within, now, look)

    def _incomplete(self, filter: Filter, within: Bounds, now: Millis | None) -> str:
        """How far the search index is, if it would narrow this search down once it is complete."""
        if self._index is None or not sources(filter, within, watermark=LAST, infos=self._infos, now=now).indexed:
            return ""
        watermark, behind = self._state() if self.attached else (0, True)
        if watermark and not behind:
            return ""
        waiting = counters.total(self._tx, Filter(), 0, LAST)
        taken_in = counters.total(self._tx, Filter(), 0, watermark) if watermark else 0
        why = ", which stands still while there is little room on the disk," if self._index.halted else ""
        share = 100 * taken_in // max(waiting, 1)
        return f"; the search index{why} is not complete yet: {share} % of what waits is in it"

    def _sources(self, filter: Filter, within: Bounds, now: Millis | None) -> Sources:
        """Reads the watermark first: everything in the store up to it is in the index."""
        watermark, behind = 0, False
        if self.attached and not counters.is_plain(filter):
            watermark, behind = self._state()
        self._forget()
        few = self._few if watermark else None
        reasons = None if counters.is_plain(filter) else Reasons(counters.reach(self._tx), self._are_many)
        common = partial(self._common, filter.queues) if watermark else None
        found = sources(
            filter, within, watermark=watermark, infos=self._infos, now=now, few=few, reasons=reasons, common=common
        )
        return found._replace(indexed=False) if behind else found

    def _forget(self) -> None:
        """Forget lookups that were made in another state of the files."""
        names = ("main.", "find.") if self.attached else ("main.",)
        at = (self._generation, *(self._tx.value(f"PRAGMA {name}data_version") for name in names))
        if at != self._known_at:
            self._known.clear()
            self._known_at, self._kept = at, 0

    def _state(self) -> tuple[int, bool]:
        try:
            state = dict(self._tx.rows("SELECT what, number FROM find.state"))
            return int(state["watermark"]), bool(state["behind"])
        except _NO_STATE:
            self._distrust()
            return 0, False

    def _distrust(self) -> None:
        assert self._index is not None
        self._index.distrust()
        self.attached = False  # it stays attached until the next refresh, but is not used

    def _infos(self, needle: str) -> Sequence[int]:
        found = self._known.get((needle,))
        if found is None:
            found = self._keep((needle,), self._containing(needle))
        return found

    def _keep(self, key: tuple[str, ...], found: Found) -> Found:
        number = 1 + (0 if found is None else len(found))
        self._kept += number
        if self._kept > MOST_KEPT:
            self._known.clear()
            self._kept = number
        self._known[key] = found
        return found

    def _containing(self, needle: str) -> Sequence[int]:
        try:
            return reason_index.containing(self._tx, needle, attached=self.attached)
        except FAILURE as problem:
            if not self.attached or not may_be_the_index(problem):
                raise
            self._distrust()
            return reason_index.containing(self._tx, needle, attached=False)

    def _are_many(self, infos: Sequence[int], queue: int) -> bool:
        if len(infos) > MANY:  # each of them belongs to an entry
            return True
        text, values = conditions.among("info_id", infos)
        look = f"SELECT count(*) FROM (SELECT 1 FROM reason WHERE {text} AND queue = ? LIMIT {MANY + 1})"
        return int(self._tx.value(named("find.are_many", look), (*values, queue))) > MANY

    def _few(self, text: str, column: str | None) -> Sequence[int] | None:
        key = (text, column or "")
        if key not in self._known:
            try:
                self._keep(key, self._rarity.few(text, column))
            except FAILURE as problem:
                if not may_be_the_index(problem):
                    raise
                self._distrust()
                self._known[key] = None
        return self._known[key]

    def _common(self, queues: tuple[Queue, ...], text: str) -> bool:
        try:
            share = self._rarity.share(text)
        except FAILURE as problem:
            if not may_be_the_index(problem):
                raise
            self._distrust()
            return False
        if share < LEAST_SHARE:
            return False
        everything, asked = (counters.total(self._tx, Filter(queues=some), 0, LAST) for some in ((), queues))
        return share * everything >= asked / 2

    def _bounded(self, filter: Filter, within: Bounds, now: Millis | None, look: Callable[[Sources], T]) -> T:
        if counters.is_plain(filter):
            return look(self._sources(filter, within, now))
        watch = _Watch(self._index)
        try:
            with self._tx.watch(watch):
                parts = self._sources(filter, within, now)
                watch.begin(indexed=parts.indexed)
                return look(parts)
        except INTERRUPTED:
            raise SearchTooBroad(watch.why) from None
        finally:
            watch.end()


class _Watch:
    """The database calls it while it works; True ends the statement."""

    def __init__(self, index: Finder | None) -> None:
        """Begins with the lookups that find out which parts there are: they all use indexes."""
        self._index = index
        self._held = False
        self.why = ""
        self.begin(indexed=True)

    def begin(self, *, indexed: bool) -> None:
        index = self._index
        self._lock = None if index is None or indexed else index.alone
        self._bound = BOUND if index is None else index.bound
        if indexed:
            self._bound = max(self._bound, BOUND_INDEXED)
        self._began = time.perf_counter()

    def __call__(self) -> bool:
        took = time.perf_counter() - self._began
        if took > self._bound:
            self.why = (
                f"the search is too broad to be answered within {self._bound:g} s: give three characters or more in "
                "one piece, a queue, or a shorter time"
            )
        elif self._lock is not None and not self._held and took > TOGETHER:
            self._held = self._lock.acquire(blocking=False)
            if not self._held:
                self.why = "another broad search is running: try again in a second, or give three characters or more"
        return bool(self.why)

    def end(self) -> None:
        if self._held:
            assert self._lock is not None
            self._lock.release()
            self._held = False
