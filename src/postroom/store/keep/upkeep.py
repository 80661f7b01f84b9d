"""Keeps the store small: old history and its events, unused texts, bodies without a row, free pages.

Promises: everything that can be found by reading is found on a reader; the writer gets steps of about STEP_TIME.
Nothing here holds more in memory than a bitmap of the dictionary and the names in one directory. Whatever is deleted
has been proven unused, never by a clock alone: a text by a sweep number that grows in the order of transactions, a body
by reading the rows after reading what is in flight. Fails: StoreUnavailable; the next round finds what was left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from postroom.clock import DAY, HOUR, Millis
from postroom.ids import first_id_at
from postroom.store.bodies import Bodies, is_body_name
from postroom.store.engine import PROVE, Statement, Tx, Values, named
from postroom.store.find.reader import Reader
from postroom.store.queue import apply
from postroom.store.queue.horizon import UPKEEP_GET
from postroom.store.store import Store

T = TypeVar("T")

STEP_TIME = 0.010  # seconds of the writer
SHARE = 4  # pause after a step, in times of what it took: upkeep has at most a fifth of the writer
LOOK = 2_000  # rows that a reader reads at a time: a few milliseconds
SKIPPED = 20_000  # rows that are not due yet: after so many, the next round goes on
SPARE = 2_048  # pages that stay free inside the file for new mail, 8 MiB ...
SPARE_SHARE = 20  # ... or one page in so many of the file, if that is more
GROWN_LITTLE, GROWN_MUCH = 1_000, 20_000  # new texts since the last sweep: sweep once a day, or at once
MOST_TEXTS = 1 << 26  # texts with greater ids are kept, so that the bitmap stays below 8 MiB
ORPHAN_AGE = HOUR  # a younger file may belong to a command that works beside the gateway
DIRECTORIES = 256

HISTORY_OLD = named(
    "keep.history_old", "SELECT id, ended FROM history WHERE id > :after AND id < :before ORDER BY id LIMIT :most"
)
# Which texts are in use, by entries and by events: a slice of rows at a time, by primary key.
ENTRY_INFOS = named(
    "keep.entry_infos",
    "SELECT info_id, max(id) FROM (SELECT id, info_id FROM entry WHERE id > :after ORDER BY id LIMIT :most) AS slice "
    "GROUP BY info_id",
)
EVENT_INFOS = named(
    "keep.event_infos",
    "SELECT info_id, max(id) FROM (SELECT id, info_id FROM event WHERE id > :after ORDER BY id LIMIT :most) AS slice "
    "GROUP BY info_id",
)
INFO_COUNT = named("keep.info_count", "SELECT count(*) FROM info")
INFO_OLD = named("keep.info_old", "SELECT id FROM info WHERE id > :after AND used < :sweep ORDER BY id LIMIT :most")
UPKEEP_SET = named("keep.upkeep_set", "UPDATE upkeep SET number = :number WHERE what = :what")
SWEEP_NEXT = named("keep.sweep_next", "UPDATE upkeep SET number = number + 1 WHERE what = 'sweep' RETURNING number")
# From the rows, whatever an index says.
OBJECTS_NAMED = named("keep.objects_named", "SELECT body_object FROM message WHERE body_object || '' <> ''")


def _marks(rows: int) -> str:
    return ",".join("?" * rows)


@cache
def objects_used(rows: int) -> Statement:
    """The second condition is that of the partial index, which could not be used without it."""
    text = f"SELECT body_object FROM message WHERE body_object IN ({_marks(rows)}) AND body_object <> ''"
    return named("keep.objects_used", text)


@cache
def forget_infos(rows: int) -> Statement:
    """Takes the ids, then the number of the sweep. The newest text stays, so that no id is ever given twice: the search
    index knows texts by their ids."""
    newest = "(SELECT max(id) FROM info)"
    text = f"DELETE FROM info WHERE id IN ({_marks(rows)}) AND used < ? AND id < {newest}"
    return named("keep.forget_infos", text)


@cache
def forget_history(rows: int) -> Statement:
    return named("keep.forget_history", f"DELETE FROM history WHERE id IN ({_marks(rows)})")


@cache
def forget_events(rows: int) -> Statement:
    return named("keep.forget_events", f"DELETE FROM event WHERE entry_id IN ({_marks(rows)})")


class Pace:
    """Finds out how many rows or pages a step may take, so that it costs the writer about STEP_TIME on this disk."""

    __slots__ = ("least", "most", "size", "took")

    def __init__(self, size: int, *, least: int, most: int) -> None:
        self.size, self.least, self.most = size, least, most
        self.took = 0.0

    async def step(self, store: Store, function: Callable[[Tx], T]) -> T:
        """Run one step in the writer's next transaction, then leave time for others."""

        def timed(tx: Tx) -> T:
            begin = time.perf_counter()
            try:
                return function(tx)
            finally:
                self.took = time.perf_counter() - begin

        result = await store.write(timed)
        if self.took > STEP_TIME:
            self.size = max(self.least, int(self.size * STEP_TIME / self.took))
        elif self.took < STEP_TIME / 2:
            self.size = min(self.most, self.size * 3 // 2 + 1)
        await asyncio.sleep(self.took * SHARE)
        return result


class Forgetting:
    """Deletes history, with its events, by the time entries ended. One object per process: it remembers how far it has
    come through entries that are old but ended late."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pace = Pace(200, least=20, most=1_000)
        self._after = 0

    async def round(self, before: Millis) -> int:
        """Forget entries that ended before this time; how many. Ends early after many rows that are not due yet."""
        store, forgotten, skipped = self._store, 0, 0
        while skipped < SKIPPED:
            old = {"after": self._after, "before": first_id_at(before), "most": LOOK}
            rows = await store.read(partial(_look, HISTORY_OLD, old))
            if not rows:
                self._after = 0
                break
            due = [ident for ident, ended in rows if ended < before]
            skipped += len(rows) - len(due)
            while due:
                part, due = due[: self._pace.size], due[self._pace.size :]
                await self._pace.step(store, partial(_forget, part))
                forgotten += len(part)
            self._after = rows[-1][0]
        return forgotten


def _forget(entries: Sequence[int], tx: Tx) -> None:
    apply.run_chunks(tx, forget_events, 1, entries)
    apply.run_chunks(tx, forget_history, 1, entries)


# -- space


async def give_back(store: Store) -> int:
    """Give free pages inside the file back to the file system, except for a reserve; how many."""
    pace, given = Pace(128, least=16, most=1_024), 0
    while True:
        pages, free = await store.read(_pages)
        excess = free - max(SPARE, pages // SPARE_SHARE)
        if excess <= 0:
            break
        freed = await pace.step(store, partial(_vacuum, min(pace.size, excess)))
        if not freed:
            break
        given += freed
    if given:
        store.checkpoint_soon()  # the checkpoint makes the file smaller
    return given


def _pages(reader: Reader) -> tuple[int, int]:
    return reader.tx.pages()


def _vacuum(pages: int, tx: Tx) -> int:
    return tx.give_back(pages)


# -- the info dictionary


def sweep_due(reader: Reader, now: Millis) -> bool:
    """Whether the dictionary has grown enough for a sweep, which reads every entry. Replies with ids make it grow."""
    texts = int(reader.tx.value(INFO_COUNT))
    swept, left = (int(reader.tx.value(UPKEEP_GET, {"what": what})) for what in ("swept", "texts"))
    grown = texts - left
    day_over = abs(now - swept) >= DAY  # abs: the clock may have been set back
    return grown >= GROWN_MUCH or (day_over and grown >= GROWN_LITTLE)


async def sweep_infos(store: Store, now: Millis) -> int:
    """Delete the texts that no entry and no event uses; how many.

    From the first transaction on, every text that any process uses gets the number of this sweep. All reads begin after
    that transaction. A text that they do not find in use, and that does not have the number, is not used by anything
    and will not be.
    """

    def begin(tx: Tx) -> int:
        store.forget_texts()
        return int(tx.value(SWEEP_NEXT))

    number = await store.write(begin)
    used = bytearray()
    for statement in (EVENT_INFOS, ENTRY_INFOS):
        after = 0
        while True:
            began = time.perf_counter()
            rows = await store.read(partial(_look, statement, {"after": after, "most": LOOK}))
            if not rows:
                break
            after = max(row[1] for row in rows)
            for ident, _ in rows:
                if ident is not None and ident < MOST_TEXTS:
                    if ident >> 3 >= len(used):
                        used.extend(bytes((ident >> 3) + 4096 - len(used)))
                    used[ident >> 3] |= 1 << (ident & 7)
            await asyncio.sleep((time.perf_counter() - began) / 2)
    deleted = await _delete_unused(store, number, used)

    def end(tx: Tx) -> None:
        for what, number in (("swept", now), ("texts", tx.value(INFO_COUNT))):
            tx.run(UPKEEP_SET, {"what": what, "number": number})

    await store.write(end)
    return deleted


async def _delete_unused(store: Store, number: int, used: bytearray) -> int:
    pace, deleted, after = Pace(200, least=20, most=1_000), 0, 0
    while True:
        rows = await store.read(partial(_look, INFO_OLD, {"after": after, "sweep": number, "most": LOOK}))
        if not rows:
            return deleted
        after = rows[-1][0]
        unused = [ident for (ident,) in rows if ident < MOST_TEXTS and not _marked(used, ident)]
        while unused:
            part, unused = unused[: pace.size], unused[pace.size :]
            deleted += await pace.step(store, partial(_forget_infos, part, number))


def _marked(used: bytearray, ident: int) -> bool:
    return ident >> 3 < len(used) and bool(used[ident >> 3] & 1 << (ident & 7))


def _forget_infos(infos: Sequence[int], number: int, tx: Tx) -> int:
    gone = 0
    for at in range(0, len(infos), apply.CHUNK):
        part = infos[at : at + apply.CHUNK]
        gone += tx.run(forget_infos(len(part)), (*part, number))
    return gone


# -- bodies without a row


async def collect_orphans(store: Store, now: Millis) -> int:
    """Delete files that no message names, left by a crash between file and row; how many."""
    suspects: list[str] = []
    for number in range(DIRECTORIES):
        suspects += await store.read(partial(_suspects, store.bodies, f"{number:02x}", now - ORPHAN_AGE))
    return len(await _delete_orphans(store, suspects))


def _suspects(bodies: Bodies, directory: str, before: Millis, reader: Reader) -> list[str]:
    """The order matters: first the names, then what is in flight, then the rows. A body whose row comes meanwhile is in
    flight until after its commit."""
    old = bodies.names_in(directory, before)
    in_flight = set(bodies.in_flight)
    return _without_row([name for name in old if name not in in_flight], reader)


async def settle_doubtful(store: Store) -> int:
    """Delete bodies whose commit failed; how many. A failed commit may have reached the disk and reappear after a
    crash, until a later one has succeeded. From then on the row is known to be missing, and the file can go."""
    doubtful = list(store.bodies.doubtful)
    if not doubtful:
        return 0
    await store.write(lambda tx: tx.run(PROVE))
    deleted = await _delete_orphans(store, await store.read(partial(_without_row, doubtful)))
    for name in doubtful:  # the others have a row, or are left to `collect_orphans`
        store.bodies.settled(name)
    return len(deleted)


def _without_row(names: Sequence[str], reader: Reader) -> list[str]:
    used: set[str] = set()
    for at in range(0, len(names), apply.CHUNK):
        part = names[at : at + apply.CHUNK]
        used.update(name for (name,) in reader.tx.rows(objects_used(len(part)), part))
    return [name for name in names if name not in used]


async def _delete_orphans(store: Store, suspects: Sequence[str]) -> list[str]:
    """Delete those that the rows themselves do not name: a damaged index must not cost a body. While a row names
    something that is not a body, it may mean any of them, so all are kept."""
    if not suspects:
        return []

    def delete(reader: Reader) -> list[str]:
        left = set(suspects)
        for (name,) in reader.tx.each(OBJECTS_NAMED):  # one at a time: there may be a million
            if not is_body_name(name):
                return []
            left.discard(name)
        orphans = [name for name in suspects if name in left]
        for name in orphans:
            store.bodies.delete(name)
        return orphans

    return await store.read(delete)


def _look(statement: str, values: Values, reader: Reader) -> list[Any]:
    return reader.tx.rows(statement, values)
