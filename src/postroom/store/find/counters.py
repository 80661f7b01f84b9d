"""How many entries wait, and for which reason: counters by the hour of their id, and a table that leads from a reason to its entries.

The tables `tally` and `reason` hold the entries up to `counted.upto`, kept by triggers (migrations 0005, 0007) in the transaction of
every change, whoever makes it. `advance` takes in what has stayed behind that, so that mail which passes at once is in neither;
what is newer is counted, or looked for, by index. Promises: exact in every snapshot, wherever `upto` stands. Fails: apsw errors pass through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from postroom.clock import HOUR
from postroom.ids import first_id_at
from postroom.model import Filter, Queue
from postroom.store import codes
from postroom.store.damage import INFO_LOST
from postroom.store.engine import Tx

HOUR_IDS = first_id_at(HOUR)  # stands in the migration as 3774873600000
LAST = (1 << 63) - 1
STEP = 1_000  # entries taken in by one transaction: some milliseconds

_ALL_QUEUES = ", ".join(str(number) for number in range(len(codes.QUEUES)))
_ALL_ROUTES = ", ".join(str(number) for number in range(len(codes.ROUTES)))
_BY_QUEUE = "SELECT queue, sum(number) FROM tally GROUP BY queue"
_NEWER = "SELECT count(*) FROM entry INDEXED BY entry_queue WHERE queue = ? AND id > ?"
_REASONS_OF = (
    "SELECT text, sum(number) FROM ("
    "SELECT i.text, (SELECT count(*) FROM reason AS r WHERE r.info_id = i.id AND r.queue = ?1) AS number FROM info AS i "
    "UNION ALL SELECT i.text, count(*) FROM entry AS e INDEXED BY entry_queue JOIN info AS i ON i.id = e.info_id "
    "WHERE e.queue = ?1 AND e.id > ?2 GROUP BY e.info_id) WHERE number > 0 GROUP BY text"
)
_UPTO = "SELECT upto FROM counted"
_BORDER = "SELECT max(id), count(*) FROM (SELECT id FROM entry WHERE id > ? AND id <= ? ORDER BY id LIMIT ?)"
_TAKE_IN = (
    "INSERT INTO tally (queue, route, attachment, hour, number) "
    "SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry INDEXED BY entry_filter "
    f"WHERE queue IN ({_ALL_QUEUES}) AND route IN ({_ALL_ROUTES}) AND attachment IN (0, 1) AND id > ? AND id <= ? "
    "GROUP BY 1, 2, 3, 4 "
    "ON CONFLICT (queue, route, attachment, hour) DO UPDATE SET number = number + excluded.number"
)
_TAKE_IN_REASONS = (
    "INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment) "
    "SELECT info_id, queue, id, route, attachment FROM entry INDEXED BY entry_queue "
    f"WHERE queue IN ({_ALL_QUEUES}, {codes.LEAVING}) AND id > ? AND id <= ? ORDER BY 1, 2, 3"
)
_ALL_REASONS = (
    "INSERT OR IGNORE INTO reason (info_id, queue, id, route, attachment) SELECT info_id, queue, id, route, attachment "
    "FROM entry WHERE id <= (SELECT upto FROM counted) ORDER BY 1, 2, 3"
)
_RECOUNT = (
    "INSERT INTO tally (queue, route, attachment, hour, number) "
    "SELECT queue, route, attachment, id / 3774873600000, count(*) FROM entry INDEXED BY entry_filter "
    # (Of a damaged row. Of columns that may not be NULL, SQLite takes IS NOT NULL for granted.)
    "WHERE id <= (SELECT upto FROM counted) AND 'null' NOT IN (typeof(queue), typeof(route), typeof(attachment)) "
    "GROUP BY 1, 2, 3, 4"
)


def is_plain(filter: Filter) -> bool:
    """Whether the counters know what it asks for."""
    return not (filter.text or filter.terms or filter.ids)


def by_queue(tx: Tx) -> dict[int, int]:
    """Entries of each queue, by its number. Inside a snapshot."""
    found = dict.fromkeys(range(len(codes.QUEUES)), 0)
    found.update(tx.rows(_BY_QUEUE))
    upto = reach(tx)
    return {queue: number + int(tx.rows(_NEWER, (queue, upto))[0][0]) for queue, number in found.items()}


def by_reason(tx: Tx, queue: Queue) -> dict[str, int]:
    """Entries of a queue, by the text that is shown of each. Inside a snapshot."""
    rows = tx.rows(_REASONS_OF, (codes.QUEUE[queue], reach(tx)))
    found = {text: int(number) for text, number in rows}
    lost = total(tx, Filter(queues=(queue,)), 0, LAST) - sum(found.values())
    return {**found, INFO_LOST: found.get(INFO_LOST, 0) + lost} if lost > 0 else found


def leaving(tx: Tx) -> int:
    """Entries that wait for the end of the undo window of their plan."""
    return int(tx.rows("SELECT count(*) FROM entry INDEXED BY entry_queue WHERE queue = ?", (codes.LEAVING,))[0][0])


def total(tx: Tx, filter: Filter, low: int, high: int) -> int:
    """How many entries of a plain filter have an id from `low` to `high`. Inside a snapshot."""
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
    """Inside a transaction: take in entries up to `newest`, a step of them; how many."""
    upto = reach(tx)
    border, number = tx.rows(_BORDER, (upto, newest, STEP))[0]
    if not number:
        return 0
    tx.rows(_TAKE_IN, (upto, border))
    tx.rows(_TAKE_IN_REASONS, (upto, border))
    tx.rows("DELETE FROM tally WHERE number = 0")
    tx.rows("UPDATE counted SET upto = ?", (border,))
    return int(number)


def wanting(tx: Tx, newest: int) -> bool:
    """Whether `advance` would find anything. On a reader."""
    return bool(tx.rows(f"SELECT 1 FROM entry WHERE id > ({_UPTO}) AND id <= ? LIMIT 1", (newest,)))


def recount(tx: Tx) -> None:
    """Inside a transaction: everything anew from the entries."""
    for statement in ("DELETE FROM tally", _RECOUNT, "DELETE FROM reason", _ALL_REASONS):
        tx.rows(statement)


def reach(tx: Tx) -> int:
    """The last entry that they know."""
    return int(tx.rows(_UPTO)[0][0])


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
    return int(tx.rows(text, (*queues, *routes, *attachments, first, behind))[0][0])


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
    return int(tx.rows(text, (*values, *bounds))[0][0])


def _marks(values: Sequence[int]) -> str:
    return ",".join("?" * len(values))
