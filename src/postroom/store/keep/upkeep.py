"""What keeps the store small: history and its events by age, texts nobody uses, bodies without a row, free pages.

Promises: everything that can be found out by reading is found on a reader, off the writer's way; the writer gets steps of
about STEP_TIME, and nothing here holds more in memory than a bitmap of the dictionary and one directory's names. What is
deleted is proven unused first: a text by a sweep number that grows in the order of transactions, a body by a look at the
row after a look at what is in flight, never by a clock alone. Fails: StoreUnavailable; what was left is found by the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from postroom.clock import DAY, HOUR, Millis
from postroom.ids import first_id_at
from postroom.store.bodies import Bodies, is_body_name
from postroom.store.engine import Tx
from postroom.store.find.reader import Reader
from postroom.store.queue import apply
from postroom.store.sqlite import statements as sql
from postroom.store.store import Store

T = TypeVar("T")

STEP_TIME = 0.010  # seconds of the writer
SHARE = 4  # of the time a step took, until the next: upkeep has at most a fifth of the writer
LOOK = 2_000  # rows of one look of a reader: a few milliseconds
SKIPPED = 20_000  # rows that are not due yet, until a round of forgetting goes on with the next one
SPARE = 2_048  # pages that stay free inside the file, 8 MiB: new mail takes them again ...
SPARE_SHARE = 20  # ... or one page in so many of the file, when that is more
GROWN_LITTLE, GROWN_MUCH = 1_000, 20_000  # texts since the last sweep: once a day, or at the next look
MOST_TEXTS = 1 << 26  # ids above are kept: the bitmap stays below 8 MiB
ORPHAN_AGE = HOUR  # a file younger than this may belong to a command that works beside the gateway
DIRECTORIES = 256


class Pace:
    """How many rows or pages a step takes, so that it costs the writer about STEP_TIME on this disk."""

    __slots__ = ("least", "most", "size", "took")

    def __init__(self, size: int, *, least: int, most: int) -> None:
        self.size, self.least, self.most = size, least, most
        self.took = 0.0

    async def step(self, store: Store, function: Callable[[Tx], T]) -> T:
        """One step in the writer's next transaction, and then the others' turn."""

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
    """History, and the events of what it forgets, by the age of an entry's end. One object per process: it knows how far
    it came through what is old, but ended late."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pace = Pace(200, least=20, most=1_000)
        self._after = 0

    async def round(self, before: Millis) -> int:
        """Forget what ended before; how many entries. Ends early behind many rows that are not due yet."""
        store, forgotten, skipped = self._store, 0, 0
        while skipped < SKIPPED:
            rows = await store.read(partial(_look, sql.HISTORY_OLD, (self._after, first_id_at(before), LOOK)))
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
    apply.run_chunks(tx, sql.forget_events, 1, entries)
    apply.run_chunks(tx, sql.forget_history, 1, entries)


# -- space


async def give_back(store: Store) -> int:
    """Free pages inside the file back to the file system, all but a reserve; how many."""
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
        store.checkpoint_soon()  # the file itself is cut by the checkpoint
    return given


def _pages(reader: Reader) -> tuple[int, int]:
    return reader.tx.pages()


def _vacuum(pages: int, tx: Tx) -> int:
    return tx.give_back(pages)


# -- the info dictionary


def sweep_due(reader: Reader, now: Millis) -> bool:
    """Replies with ids of their own make the dictionary grow; a sweep reads every entry, so it is worth some growth."""
    texts = int(reader.tx.rows("SELECT count(*) FROM info")[0][0])
    swept, left = (int(reader.tx.rows(sql.UPKEEP_GET, (what,))[0][0]) for what in ("swept", "texts"))
    grown = texts - left
    day_over = abs(now - swept) >= DAY  # abs: the clock may have been set back
    return grown >= GROWN_MUCH or (day_over and grown >= GROWN_LITTLE)


async def sweep_infos(store: Store, now: Millis) -> int:
    """Delete the texts that neither an entry nor an event uses; how many.

    From the first transaction on every text that is taken, by whatever process, carries this sweep's number. What is not
    found in use by looks that all begin after it, and does not carry the number, is used by nobody and will be by nobody.
    """

    def begin(tx: Tx) -> int:
        store.forget_texts()
        return int(tx.rows(sql.SWEEP_NEXT)[0][0])

    number = await store.write(begin)
    used = bytearray()
    for statement in (sql.EVENT_INFOS, sql.ENTRY_INFOS):
        after = 0
        while True:
            began = time.perf_counter()
            rows = await store.read(partial(_look, statement, (after, LOOK)))
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
        texts = tx.rows("SELECT count(*) FROM info")[0][0]
        for what, value in (("swept", now), ("texts", texts)):
            tx.rows(sql.UPKEEP_SET, (value, what))

    await store.write(end)
    return deleted


async def _delete_unused(store: Store, number: int, used: bytearray) -> int:
    pace, deleted, after = Pace(200, least=20, most=1_000), 0, 0
    while True:
        rows = await store.read(partial(_look, sql.INFO_OLD, (after, number, LOOK)))
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
        gone += tx.run(sql.forget_infos(len(part)), (*part, number))
    return gone


# -- bodies without a row


async def collect_orphans(store: Store, now: Millis) -> int:
    """Delete files that no message names: what a crash left between file and row. How many."""
    suspects: list[str] = []
    for number in range(DIRECTORIES):
        suspects += await store.read(partial(_suspects, store.bodies, f"{number:02x}", now - ORPHAN_AGE))
    return len(await _delete_orphans(store, suspects))


def _suspects(bodies: Bodies, directory: str, before: Millis, reader: Reader) -> list[str]:
    """The order is what makes it right: the names, then what is in flight, then the rows. A body whose row comes meanwhile
    is in flight until after its commit."""
    old = bodies.names_in(directory, before)
    in_flight = set(bodies.in_flight)
    return _without_row([name for name in old if name not in in_flight], reader)


async def settle_doubtful(store: Store) -> int:
    """Bodies whose commit failed. A failed commit may have reached the disk and come back after a crash, until another
    one has succeeded in its place; from then on the missing row is a fact, and the file is deleted. How many."""
    doubtful = list(store.bodies.doubtful)
    if not doubtful:
        return 0
    await store.write(lambda tx: tx.run(sql.PROVE))
    deleted = await _delete_orphans(store, await store.read(partial(_without_row, doubtful)))
    for name in doubtful:  # the others have a row, or are left to the collection
        store.bodies.settled(name)
    return len(deleted)


def _without_row(names: Sequence[str], reader: Reader) -> list[str]:
    used: set[str] = set()
    for at in range(0, len(names), apply.CHUNK):
        part = names[at : at + apply.CHUNK]
        used.update(name for (name,) in reader.tx.rows(sql.objects_used(len(part)), part))
    return [name for name in names if name not in used]


async def _delete_orphans(store: Store, suspects: Sequence[str]) -> list[str]:
    """Those that the rows themselves do not name either: damage to the index must not cost a body. And while a row names
    something that is no body, it may mean any of them, and all are kept."""
    if not suspects:
        return []

    def delete(reader: Reader) -> list[str]:
        left = set(suspects)
        for (name,) in reader.tx.each(sql.OBJECTS_NAMED):  # one at a time: there may be a million
            if not is_body_name(name):
                return []
            left.discard(name)
        orphans = [name for name in suspects if name in left]
        for name in orphans:
            store.bodies.delete(name)
        return orphans

    return await store.read(delete)


# -- console sessions


async def end_sessions(store: Store, now: Millis) -> None:
    """Sessions that are over; nothing is written when there is none."""
    if await store.read(partial(_look, sql.SESSIONS_OVER, (now,))):
        await store.write(lambda tx: tx.rows(sql.SESSIONS_END, (now,)))


def _look(statement: str, values: Sequence[int], reader: Reader) -> list[Any]:
    return reader.tx.rows(statement, values)
