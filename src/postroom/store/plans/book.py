"""The tables of plans: the frozen set, what became of each entry, and the report that is kept.

Promises: a plan's entries are kept as they were when they were frozen, and so are its texts, because the info
dictionary may forget them. A row with impossible values is reported as damaged, and nothing in it is trusted. Functions
that write run inside the writer's transaction. Fails: database errors pass through; NoSuchPlan; PlanDamaged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.errors import PeerError
from postroom.ids import first_id_at, public_id
from postroom.model import Action, Queue
from postroom.store import codes
from postroom.store.access.roles import plan_limits
from postroom.store.engine import Statement, Tx, named
from postroom.store.logs import audit
from postroom.store.queue.apply import CHUNK

PLANNED, DONE, SKIPPED, UNDONE, KEPT, ENDED = range(6)  # state of an entry in a plan
STATES = ("planned", "done", "skipped", "undone", "kept", "ended")
GONE, LEASED, CHANGED, LATE = 1, 2, 3, 4
WHY = {
    0: "",
    GONE: "it has left the queue",
    LEASED: "it is being worked on",
    CHANGED: "something has happened to it since",
    LATE: "the plan was undone, or its window over, before its turn came",
}
UNDER_WAY = ("applying", "undoing", "ending")
LAST_ENTRY = (1 << 63) - 1
ACTIVE = ("applied", *UNDER_WAY)  # entries may wait for the end of the undo window
OVER = ("expired", "undone", "final")

_COLUMNS = (
    "id", "state", "action", "query", "planner", "actor", "reason", "undoer", "notify", "gap", "created", "expires",
    "applied", "undo_until", "finished", "reached", "entries", "bytes", "done", "skipped", "undone", "kept", "ended",
    "summary",
)  # fmt: skip
_ENTRY_COLUMNS = "plan, entry, state, why, queue, from_queue, priority, info_id, attempts, since, next_attempt, turn"
_ROW = f"SELECT {', '.join(_COLUMNS)} FROM plan"
_READ = named("plans.read", f"{_ROW} WHERE id = :plan")
_LATEST = named("plans.latest", f"{_ROW} WHERE id < :before ORDER BY id DESC LIMIT :limit")
_BETWEEN = named("plans.between", f"{_ROW} WHERE id BETWEEN :first AND :last ORDER BY id")
_REASONS = named(
    "plans.reasons",
    f"SELECT why, count(*) FROM plan_entry WHERE plan = :plan AND state IN ({SKIPPED}, {KEPT}) "
    "GROUP BY why ORDER BY 2 DESC",
)
_ACTIVE = "state IN ('applying', 'applied', 'undoing', 'ending')"
_WINDOW_OVER = named(  # SQLite puts texts and bytes behind every number
    "plans.window_over",
    f"SELECT id FROM plan WHERE undo_until <= :now AND {_ACTIVE} "
    f"UNION ALL SELECT id FROM plan WHERE undo_until >= :last AND {_ACTIVE} "
    f"UNION ALL SELECT id FROM plan WHERE undo_until IS NULL AND {_ACTIVE}",
)
_FORGETTABLE = named(
    "plans.forgettable",
    "SELECT id FROM plan WHERE id < :before AND state IN ('making', 'expired', 'undone', 'final') ORDER BY id LIMIT 1",
)
_BEGIN = named(
    "plans.begin", f"INSERT INTO plan ({', '.join(_COLUMNS)}) VALUES ({', '.join([f':{name}' for name in _COLUMNS])})"
)
_KEEP_TEXT = named(
    "plans.keep_text",
    "INSERT INTO plan_info (plan, info_id, text) SELECT :plan, id, text FROM info WHERE id = :info "
    "ON CONFLICT DO NOTHING",
)
_READY = named(
    "plans.ready",
    "UPDATE plan SET state = 'ready', entries = :entries, bytes = :bytes, summary = :summary "
    "WHERE id = :plan AND state = 'making'",
)
_DROP_ENTRIES = named(
    "plans.drop_entries",
    "DELETE FROM plan_entry WHERE plan = :plan "
    "AND entry IN (SELECT entry FROM plan_entry WHERE plan = :plan LIMIT :most)",
)
_DROP_TEXTS = named("plans.drop_texts", "DELETE FROM plan_info WHERE plan = :plan")
_DROP = named("plans.drop", "DELETE FROM plan WHERE id = :plan")
_UNAPPLIED = "state IN ('making', 'ready') AND expires <= :now"
_ANY_UNAPPLIED = named("plans.any_unapplied", f"SELECT 1 FROM plan WHERE {_UNAPPLIED} LIMIT 1")
_EXPIRE = named("plans.expire", f"UPDATE plan SET state = 'expired' WHERE {_UNAPPLIED}")
_GIVE_UP = named("plans.give_up", "UPDATE plan SET state = 'expired' WHERE id = :plan")
_DISCARD = named(
    "plans.discard",
    "UPDATE plan SET state = 'expired' WHERE id = :plan AND state = 'ready' RETURNING action, entries",
)


class NoSuchPlan(PeerError):
    """The id is not one of a plan that is kept."""


class PlanDamaged(PeerError):
    """The plan's row has impossible values."""


class Damaged(msgspec.Struct, frozen=True):
    """A plan whose row has impossible values, and in which columns."""

    id: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"plan {public_id(self.id)} is damaged ({', '.join(self.columns)}): "
            "it is neither applied, undone nor ended; postroom verify --repair closes it, "
            "and holds for a person what it was about to end, which is kept until then"
        )


class Share(msgspec.Struct, frozen=True):
    """How many of a plan's entries have this domain, sender, queue, or reason for being left out."""

    name: str
    entries: int


class Sample(msgspec.Struct, frozen=True, rename="camel"):
    """One of a plan's entries, to look at before it is applied."""

    id: str
    queue: str
    sender: str
    recipient: str
    subject: str
    size: int


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """What a plan is about; the largest shares first."""

    queues: list[Share] = []
    domains: list[Share] = []
    senders: list[Share] = []
    left_out: list[Share] = []
    samples: list[Sample] = []


class Plan(msgspec.Struct, frozen=True):
    """One plan, and how far it has come."""

    id: int
    state: str
    action: Action
    query: str
    planner: str
    actor: str
    reason: str
    undoer: str
    notify: bool
    gap: Millis
    created: Millis
    expires: Millis
    applied: Millis | None
    undo_until: Millis | None
    finished: Millis | None
    reached: int
    entries: int
    bytes: int
    done: int
    skipped: int
    undone: int
    kept: int
    ended: int
    summary: Summary


class PlanEntry(msgspec.Struct, frozen=True):
    """What became of one entry of a plan."""

    id: int
    state: str
    why: str


def without_held(summary: Summary) -> Summary:
    """For readers who may not see held mail. Domains and senders are counted over all queues, so they are left out."""
    held = Queue.HELD.value
    if held not in [share.name for share in summary.queues]:
        return summary
    samples = [sample for sample in summary.samples if sample.queue != held]
    return msgspec.structs.replace(summary, domains=[], senders=[], samples=samples)


_summary = msgspec.json.Decoder(Summary).decode
_encode = msgspec.json.Encoder().encode


def read(tx: Tx, ident: int) -> Plan:
    found = look(tx, ident)
    if isinstance(found, Damaged):
        raise PlanDamaged(str(found))
    return found


def look(tx: Tx, ident: int) -> Plan | Damaged:
    row = tx.row(_READ, {"plan": ident})
    if row is None:
        raise NoSuchPlan(f"no plan {public_id(ident)}: `postroom queue plans` lists those that are kept")
    return _plan(row)


def latest(tx: Tx, limit: int, before: int | None = None) -> list[Plan | Damaged]:
    """Newest first; `before`: only older ones."""
    return [_plan(row) for row in tx.rows(_LATEST, {"before": before or LAST_ENTRY, "limit": limit})]


def entries(tx: Tx, plan: int, *, states: Sequence[str] = STATES, after: int = 0, limit: int = 100) -> list[PlanEntry]:
    """What became of them, in the order of their ids."""
    numbers = ", ".join([str(STATES.index(state)) for state in states])
    text = (
        "SELECT entry, state, why FROM plan_entry WHERE plan = :plan AND entry > :after "
        f"AND entry <= {LAST_ENTRY} AND state IN ({numbers}) ORDER BY entry LIMIT :limit"
    )
    rows = tx.rows(named("plans.entries", text), {"plan": plan, "after": after, "limit": limit})
    return [PlanEntry(entry, STATES[state], WHY.get(why, "")) for entry, state, why in rows]


def reasons(tx: Tx, plan: int) -> list[Share]:
    """Why entries were skipped, or left as they are when the plan was undone or ended, and how many for each reason."""
    return [Share(WHY.get(why, ""), number) for why, number in tx.rows(_REASONS, {"plan": plan})]


def limit_of(tx: Tx, roles: Sequence[str]) -> int | None:
    """How many entries one plan of somebody with these roles may have: the smallest limit. None: no role has one."""
    known = plan_limits(tx)
    limits = [known.get(name) for name in roles]
    return min([limit for limit in limits if limit is not None], default=None)


def damaged(tx: Tx, first: int, last: int) -> list[tuple[Damaged, bool]]:
    """Those of a range of ids; True: it is over, nothing waits for it."""
    rows = tx.rows(_BETWEEN, {"first": first, "last": last})
    found = [(_plan(row), row[_COLUMNS.index("state")] in OVER) for row in rows]
    return [(plan, over) for plan, over in found if isinstance(plan, Damaged)]


def _is_time(value: object) -> bool:
    return codes.is_number(value, codes.LAST_TIME)


def _is_count(value: object) -> bool:
    return codes.is_number(value, 1 << 63)


_RULES: dict[str, Callable[[Any], bool]] = {
    "state": (*ACTIVE, *OVER, "making", "ready").__contains__,
    "action": [action.value for action in Action].__contains__,
    "notify": (0, 1).__contains__,
    **dict.fromkeys(("query", "planner", "actor", "reason", "undoer"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("created", "expires"), _is_time),
    **dict.fromkeys(("applied", "undo_until", "finished"), lambda value: value is None or _is_time(value)),
    **dict.fromkeys(
        ("gap", "reached", "entries", "bytes", "done", "skipped", "undone", "kept", "ended"), _is_count
    ),
}  # fmt: skip
_QUEUES = frozenset([queue.value for queue in Queue])


def _plan(row: Any) -> Plan | Damaged:
    given = dict(zip(_COLUMNS, row, strict=True))
    wrong = [name for name, rule in _RULES.items() if not rule(given[name])]
    if given["state"] in ACTIVE and given["undo_until"] is None:
        wrong.append("undo_until")
    given["summary"] = _read_summary(given["summary"])
    if given["summary"] is None:
        wrong.append("summary")
    if wrong:
        return Damaged(given["id"], tuple(wrong))
    given["action"] = Action(given["action"])
    given["notify"] = bool(given["notify"])
    return Plan(**given)


def _read_summary(data: Any) -> Summary | None:
    """None: it cannot be read. It says whether held mail is in the plan, which decides who may apply it."""
    if data == b"":
        return Summary()
    try:
        summary = _summary(data) if isinstance(data, bytes) else None
    except (msgspec.DecodeError, ValueError):
        return None
    return summary if summary and _QUEUES.issuperset([share.name for share in summary.queues]) else None


# -- writing


def begin(
    tx: Tx, ident: int, *, action: Action, query: str, planner: str, notify: bool, gap: Millis,
    created: Millis, expires: Millis,
) -> None:  # fmt: skip
    """A plan that is being made."""
    values = {
        "id": ident, "state": "making", "action": action.value, "query": query, "planner": planner, "actor": "",
        "reason": "", "undoer": "", "notify": int(notify), "gap": gap, "created": created, "expires": expires,
        "applied": None, "undo_until": None, "finished": None, "reached": 0, "entries": 0, "bytes": 0, "done": 0,
        "skipped": 0, "undone": 0, "kept": 0, "ended": 0, "summary": b"",
    }  # fmt: skip
    tx.run(_BEGIN, values)


def add(tx: Tx, ident: int, frozen: Sequence[tuple[Any, ...]]) -> None:
    """Rows of (entry, queue, from_queue, priority, info_id, attempts, since, next_attempt, turn)."""
    for at in range(0, len(frozen), CHUNK):
        part = frozen[at : at + CHUNK]
        tx.run(_insert(len(part)), [value for row in part for value in (ident, *row)])
    tx.many(_KEEP_TEXT, [{"plan": ident, "info": info} for info in {row[4] for row in frozen}])


@cache
def _insert(rows: int) -> Statement:
    marks = ", ".join(["(?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return named("plans.insert_entries", f"INSERT INTO plan_entry ({_ENTRY_COLUMNS}) VALUES {marks}")


def ready(tx: Tx, ident: int, entries: int, size: int, summary: Summary) -> None:
    """All its entries are frozen."""
    tx.run(_READY, {"entries": entries, "bytes": size, "summary": _encode(summary), "plan": ident})


def give_up(tx: Tx, ident: int) -> None:
    """It became too large while it was made: upkeep forgets what was frozen so far."""
    tx.run(_GIVE_UP, {"plan": ident})


def discard(tx: Tx, ident: int, who: str, now: Millis) -> bool:
    """Nobody wants it any more: as if it had expired. False: it is not waiting to be applied. A plan of nothing leaves
    no line in the audit log: its maker saw that nothing matched, and nobody could have applied it."""
    gone = tx.rows(_DISCARD, {"plan": ident})
    for action, entries in gone:
        if entries:
            detail = f"{action}, entries: {entries}"
            audit.add(tx, at=now, actor=who, kind="plan.discard", what=public_id(ident), detail=detail)
    return bool(gone)


def any_unapplied(tx: Tx, now: Millis) -> bool:
    """Whether `expire` has something to do."""
    return tx.row(_ANY_UNAPPLIED, {"now": now}) is not None


def expire(tx: Tx, now: Millis) -> None:
    """Plans that nobody applied in time, and those that were never completely made."""
    tx.run(_EXPIRE, {"now": now})


def over(tx: Tx, now: Millis) -> list[int]:
    """Plans whose undo window has ended, or whose end was begun; and those where it cannot be read when it ends."""
    return sorted([ident for (ident,) in tx.rows(_WINDOW_OVER, {"now": now, "last": codes.LAST_TIME})])


def forgettable(tx: Tx, before: Millis) -> int | None:
    """A plan that is over and older than `before`."""
    row = tx.row(_FORGETTABLE, {"before": first_id_at(before)})
    return row[0] if row else None


def drop(tx: Tx, ident: int, most: int) -> bool:
    """Forget a plan, up to `most` of its entries at a time; True when it is gone."""
    if tx.run(_DROP_ENTRIES, {"plan": ident, "most": most}) == most:
        return False
    tx.run(_DROP_TEXTS, {"plan": ident})
    tx.run(_DROP, {"plan": ident})
    return True
