"""How many entries wait, and for which reason: counters by the hour of their ids, and a table from reasons to entries.

The tables `tally` and `reason` cover the entries up to `counted.upto`. Triggers (migrations 0005, 0007) keep them up to
date in the transaction of every change, even when a command makes it. `advance` takes in entries that are still there
after a while, so mail that passes at once is in neither table. Newer entries are counted, and searched, by index.
Promises: exact in every snapshot, whatever the value of `upto`. Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from postroom.clock import HOUR
from postroom.ids import first_id_at
from postroom.model import Filter, Queue
from postroom.store import codes
from postroom.store.damage import INFO_LOST
from postroom.store.engine import Tx, named

HOUR_IDS = first_id_at(HOUR)  # 3774873600000 in the migration and below
LAST = (1 << 63) - 1
STEP = 1_000  # entries that one transaction takes in: a few milliseconds

_ALL_QUEUES = ", ".join(str(number) for number in range(len(codes.QUEUES)))
_ALL_ROUTES = ", ".join(str(number) for number in range(len(codes.ROUTES)))
_BY_QUEUE = named("find.by_queue", "SELECT queue, sum(number) FROM tally GROUP BY queue")
_NEWER = named("find.newer", "SELECT count(*) FROM entry INDEXED BY entry_queue WHERE queue = :queue AND id > :upto")
_LEAVING = named("find.leaving", "SELECT count(*) FROM entry INDEXED BY entry_queue WHERE queue = :queue")
_REASONS_OF = named(
    "find.reasons_of",
    "SELECT text, sum(number) FROM (SELECT i.text, "
    "(SELECT count(*) FROM reason AS r WHERE r.info_id = i.id AND r.queue = :queue) AS number FROM info AS i "
    "UNION ALL SELECT i.text, count(*) FROM entry AS e INDEXED BY entry_queue JOIN info AS i ON i.id = e.info_id "
    "WHERE e.queue = :queue AND e.id > :upto GROUP BY e.info_id) WHERE number > 0 GROUP BY text",
)
_UPTO = named("find.upto", "SELECT upto FROM counted")
_UPTO_SET = named("find.upto_set", "UPDATE counted SET upto = :upto")
_BORDER = named(
    "find.border",
    "SELECT max(id), count(*) FROM (SELECT id FROM entry WHERE id > :upto AND id <= :newest ORDER BY id LIMIT :most)",
)
_BEHIND = named("find.behind", "SELECT 1 FROM entry WHERE id > (SELECT upto FROM counted) AND id <= :newest LIMIT 1")
_TAKE_IN = named(
    "find.take_in",
    "INSERT INTO tally (queue, route, attachment, hour, number) "
    "SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry INDEXED BY entry_filter "
    f"WHERE queue IN ({_ALL_QUEUES}) AND route IN ({_ALL_ROUTES}) AND attachment IN (0, 1) "
    "AND id > :upto AND id <= :border GROUP BY 1, 2, 3, 4 "
    "ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + excluded.number",
)
_TAKE_IN_REASONS = named(
    "find.take_in_reasons",
    "INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment) "
    "SELECT info_id, queue, id, route, attachment FROM entry INDEXED BY entry_queue "
    f"WHERE queue IN ({_ALL_QUEUES}, {codes.LEAVING}) AND id > :upto AND id <= :border ORDER BY 1, 2, 3",
)
_EMPTY = named("find.empty_tally", "DELETE FROM tally WHERE number = 0")
_NO_TALLY = named("find.no_tally", "DELETE FROM tally")
_NO_REASONS = named("find.no_reasons", "DELETE FROM reason")
_ALL_REASONS = named(
    "find.all_reasons",
    "INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment) SELECT info_id, queue, id, route, attachment "
    "FROM entry WHERE id <= (SELECT upto FROM counted) ORDER BY 1, 2, 3",
)
_RECOUNT = named(
    "find.recount",
    "INSERT INTO tally (queue, route, attachment, hour, number) "
    "SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry INDEXED BY entry_filter "
    # (Leaves damaged rows out. SQLite takes IS NOT NULL for granted in columns that must not be NULL.)
    "WHERE id <= (SELECT upto FROM counted) AND 'null' NOT IN (typeof(queue), typeof(route), typeof(attachment)) "
    "GROUP BY 1, 2, 3, 4",
)


def is_plain(filter: Filter) -> bool:
    """Whether the counters alone can answer the filter."""
    return not (filter.text or filter.terms or filter.ids)


def by_queue(tx: Tx) -> dict[int, int]:
    """Entries of each queue, by the number of the queue. Inside a snapshot."""
    found = dict.fromkeys(range(len(codes.QUEUES)), 0)
    found.update(tx.rows(_BY_QUEUE))
    upto = reach(tx)
    return {queue: number + int(tx.value(_NEWER, {"queue": queue, "upto": upto})) for queue, number in found.items()}


def by_reason(tx: Tx, queue: Queue) -> dict[str, int]:
    """Entries of a queue, by the reason they show. Inside a snapshot."""
    rows = tx.rows(_REASONS_OF, {"queue": codes.QUEUE[queue], "upto": reach(tx)})
    found = {text: int(number) for text, number in rows}
    lost = total(tx, Filter(queues=(queue,)), 0, LAST) - sum(found.values())
    return {**found, INFO_LOST: found.get(INFO_LOST, 0) + lost} if lost > 0 else found


def leaving(tx: Tx) -> int:
    """Entries that end when the undo window of their plan closes."""
    return int(tx.value(_LEAVING, {"queue": codes.LEAVING}))


def total(tx: Tx, filter: Filter, low: int, high: int) -> int:
    """How many entries that match a plain filter have an id from `low` to `high`. Inside a snapshot."""
    if low > high:
        return 0
    queues = [codes.QUEUE[queue] for queue in filter.queues] or range(len(codes.QUEUES))
    routes = [codes.ROUTE[route] for route in filter.routes] or range(len(codes.ROUTES))
    attachments = (0, 1) if filter.attachment is None else (int(filter.attachment),)
    narrow = bool(filter.routes) or filter.attachment is not None
    first, behind = -(-low // HOUR_IDS), (high + 1) // HOUR_IDS  # whole hours
    if first >= behind:
        ranges = [(low, high)]
        found = 0
    else:
        upto = reach(tx)
        ranges = [(low, first * HOUR_IDS - 1), (max(first * HOUR_IDS, upto + 1), behind * HOUR_IDS - 1)]
        ranges.append((behind * HOUR_IDS, high))
        found = _tallied(tx, queues, routes, attachments, first, behind)
    for lowest, highest in ranges:
        if lowest <= highest:
            bounds = (lowest, min(highest, LAST))
            found += _counted(tx, queues, routes if narrow else (), attachments, bounds)
    return found


def advance(tx: Tx, newest: int) -> int:
    """Inside a transaction: take in the next STEP entries up to `newest`. Returns how many."""
    upto = reach(tx)
    [(border, number)] = tx.rows(_BORDER, {"upto": upto, "newest": newest, "most": STEP})
    if not number:
        return 0
    tx.run(_TAKE_IN, {"upto": upto, "border": border})
    tx.run(_TAKE_IN_REASONS, {"upto": upto, "border": border})
    tx.run(_EMPTY)
    tx.run(_UPTO_SET, {"upto": border})
    return int(number)


def wanting(tx: Tx, newest: int) -> bool:
    """Whether `advance` would find anything. On a reader."""
    return tx.row(_BEHIND, {"newest": newest}) is not None


def recount(tx: Tx) -> None:
    """Inside a transaction: rebuild both tables from the entries."""
    for statement in (_NO_TALLY, _RECOUNT, _NO_REASONS, _ALL_REASONS):
        tx.run(statement)


def reach(tx: Tx) -> int:
    """The last entry that the tables cover."""
    return int(tx.value(_UPTO))


def _tallied(
    tx: Tx,
    queues: Sequence[int],
    routes: Sequence[int],
    attachments: Sequence[int],
    first: int,
    behind: int,
) -> int:
    text = (
        f"SELECT coalesce(sum(number), 0) FROM tally WHERE queue IN ({_marks(queues)}) AND route IN ({_marks(routes)}) "
        f"AND attachment IN ({_marks(attachments)}) AND hour >= ? AND hour < ?"
    )
    return int(tx.value(named("find.tallied", text), (*queues, *routes, *attachments, first, behind)))


def _counted(
    tx: Tx,
    queues: Sequence[int],
    routes: Sequence[int],
    attachments: Sequence[int],
    bounds: tuple[int, int],
) -> int:
    values: tuple[Any, ...]
    if routes:
        where = f"queue IN ({_marks(queues)}) AND route IN ({_marks(routes)}) AND attachment IN ({_marks(attachments)})"
        index, values = "entry_filter", (*queues, *routes, *attachments)
    else:
        where, index, values = f"queue IN ({_marks(queues)})", "entry_queue", tuple(queues)
    text = f"SELECT count(*) FROM entry INDEXED BY {index} WHERE {where} AND id >= ? AND id <= ?"
    return int(tx.value(named("find.counted", text), (*values, *bounds)))


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
