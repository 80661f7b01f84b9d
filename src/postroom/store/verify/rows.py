"""What the checks of `postroom verify` share: findings, rows that may hold anything, and the ways to mend.

A damaged row can hold text that is not UTF-8, or a word where a number belongs. Ordinary reads stop there, these do
not. Promises: every row is returned, with the columns that could not be read. Fails: database errors pass through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from postroom.clock import Millis
from postroom.model import Label, Origin, Outcome, Queue
from postroom.rules.lifecycle import lost_lease_label
from postroom.store import codes
from postroom.store.bodies import Bodies
from postroom.store.damage import MARKS
from postroom.store.engine import Tx, Values, named
from postroom.store.queue.apply import Infos, event

ACTOR = "verify"
HELD = codes.QUEUE[Queue.HELD]
BACK = (0, 1, 2, 4)  # queues a held entry can go back to
LABELS = int(Label.MAYBE_DELIVERED | Label.SUSPECT)


class Finding(msgspec.Struct, frozen=True, gc=False):
    """Something that does not agree. `noted`: already known and shown, or not ours; there is nothing to do about it."""

    kind: str  # a word of `proof.KINDS`
    id: int  # of the row; 0 = it is not about one
    what: str
    name: str = ""  # of the file, table or account, where it is about one
    noted: bool = False


class Left(Exception):
    """A finding cannot be mended; the text says why, and what to do."""


class Ground(msgspec.Struct):
    """What the checks know beside the database."""

    bodies: Bodies
    now: Millis
    serving: bool  # a gateway is running on this store


class Mending(msgspec.Struct):
    """One writing transaction of a repair."""

    tx: Tx
    ground: Ground
    infos: Infos
    life: int  # of the process that repairs, for the ledger
    objects: list[str] = msgspec.field(default_factory=list)  # body files to delete after the commit


class Check(Protocol):
    """One part of the proof: looks at a range of rows, and mends what it found there."""

    name: str
    slice: int  # rows of one look, in one read transaction

    def size(self, tx: Tx, ground: Ground) -> int:
        """How many rows there are to look at."""
        ...

    def upper(self, tx: Tx, after: int) -> int | None:
        """The last row of the slice that begins after `after`; None = there is none."""
        ...

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        """What does not agree. Called again for one suspect row, and once more inside the repair's transaction."""
        ...

    def mend(self, mending: Mending, finding: Finding) -> str:
        """What was done; `Left` when nothing can be."""
        ...


class TableCheck:
    """The rows of one table, by id."""

    name = ""
    table = ""
    slice = 1000

    def size(self, tx: Tx, ground: Ground) -> int:
        return int(tx.rows(f"SELECT count(*) FROM {self.table}")[0][0])

    def upper(self, tx: Tx, after: int) -> int | None:
        found: int | None = tx.rows(
            f"SELECT max(id) FROM (SELECT {self._id} AS id FROM {self.table} WHERE {self._id} > :after "
            "ORDER BY 1 LIMIT :size)",
            {"after": after, "size": self.slice},
        )[0][0]
        return found

    _id = "id"


class Column(NamedTuple):
    expression: str
    kind: type = int  # int, str or bytes
    null: bool = False  # may be NULL


class Row(NamedTuple):
    values: tuple[Any, ...]
    broken: tuple[int, ...]  # numbers of the columns that hold what they must not


def read_rows(tx: Tx, columns: Sequence[Column], tail: str, values: Values) -> list[Row]:
    """Rows of any content. Text that is not UTF-8 comes with replacement characters, a wrong number as 0."""
    try:
        statement = f"SELECT {', '.join([column.expression for column in columns])} {tail}"
        found = list(tx.each(statement, values))  # `rows` would hide what cannot be read
    except UnicodeDecodeError:
        return list(_decoded(tx, columns, tail, values))
    sound: set[tuple[type, ...]] = set()  # the kinds of values of rows that were as they must be: most rows are alike
    typed: list[Row] = []
    for row in found:
        kinds = tuple(map(type, row))
        one = Row(row, ()) if kinds in sound else _typed(columns, row, ())
        if not one.broken:
            sound.add(kinds)
        typed.append(one)
    return typed


def _decoded(tx: Tx, columns: Sequence[Column], tail: str, values: Values) -> Iterator[Row]:
    cast = [f"CAST({column.expression} AS BLOB)" if column.kind is str else column.expression for column in columns]
    for row in tx.rows(f"SELECT {', '.join(cast)} {tail}", values):
        broken: list[int] = []
        given: list[Any] = list(row)
        for number, column in enumerate(columns):
            if column.kind is str and given[number] is not None:
                given[number], whole = as_text(given[number])
                if not whole:
                    broken.append(number)
        yield _typed(columns, tuple(given), broken)


def as_text(data: bytes) -> tuple[str, bool]:
    """As much as can be read of it, and whether that is all."""
    try:
        return data.decode(), True
    except UnicodeDecodeError:
        return data.decode(errors="replace"), False


def _typed(columns: Sequence[Column], row: tuple[Any, ...], broken: Iterable[int]) -> Row:
    wrong = [
        number
        for number, (value, column) in enumerate(zip(row, columns, strict=True))
        if type(value) is not column.kind and not (value is None and column.null)
    ]
    if not wrong:
        return Row(row, tuple(broken))
    mended = list(row)
    for number in wrong:
        mended[number] = "" if columns[number].kind is str else b"" if columns[number].kind is bytes else 0
    return Row(tuple(mended), tuple(sorted({*broken, *wrong})))


def plain(values: dict[str, Any]) -> str:
    """Columns and values, short enough for a line."""
    return ", ".join([f"{name}={str(value)[:60]!r}" for name, value in values.items()])


# -- what several repairs do to an entry


_STATE = named("verify.entry_state", "SELECT queue, lease, label FROM entry WHERE id = :entry")
_HOLD = named(
    "verify.hold",
    "UPDATE entry SET "
    "from_queue = CASE WHEN queue = :held AND from_queue IN (0, 1, 2, 4) THEN from_queue ELSE :back END, "
    "queue = :held, info_id = :info, lease = NULL, locked_until = NULL, request = NULL, strikes = 0, "
    "label = (CASE WHEN typeof(label) = 'integer' THEN label & :labels ELSE 0 END) | :label WHERE id = :entry",
)
# An entry that waits to end has left its queue; the plan that is to end it knows which one it was, even when the plan's
# own row cannot be read. Plans with other actions say nothing about it.
_QUEUE_BEFORE = named(
    "verify.queue_before",
    f"SELECT CASE p.queue WHEN {HELD} THEN p.from_queue ELSE p.queue END FROM plan AS n CROSS JOIN plan_entry AS p "
    "ON p.plan = n.id AND p.entry = :entry WHERE n.action NOT IN ('retry', 'hold', 'release', 'bulk', 'unbulk') "
    "AND p.state = 1 ORDER BY n.id DESC LIMIT 1",
)


def entry_state(mending: Mending, entry: int) -> tuple[int, int | None, int | None]:
    """(queue, lease, label) of an entry; Left when a worker has it."""
    found = mending.tx.row(_STATE, {"entry": entry})
    if found is None:
        raise Left("it has ended meanwhile")
    queue, lease, label = found
    if lease is not None and mending.ground.serving:
        raise Left("it is being worked on: run this again")
    return queue, lease, label


def hold_entry(mending: Mending, entry: int, text: str, *, label: int = 0) -> None:
    """Keep it for a person. A lease here can only be that of a dead gateway, which may have delivered the entry."""
    queue, lease, _ = entry_state(mending, entry)
    known = isinstance(queue, int) and 0 <= queue < len(codes.QUEUES)
    if lease is not None and known:
        label |= lost_lease_label(codes.QUEUES[queue], born=lease == entry)
    info = mending.infos.id(mending.tx, text)
    back = queue if known and queue != HELD else codes.QUEUE[Queue.PROCESSING]
    if queue == codes.LEAVING:
        back = _queue_before(mending, entry, back)
    values = {"held": HELD, "back": back, "info": info, "labels": LABELS, "label": label, "entry": entry}
    mending.tx.run(_HOLD, values)
    event(mending.tx, entry, mending.ground.now, "held", HELD, info, ACTOR)


def _queue_before(mending: Mending, entry: int, otherwise: int) -> int:
    found = mending.tx.row(_QUEUE_BEFORE, {"entry": entry})
    return found[0] if found and found[0] in BACK else otherwise


def put_right(mending: Mending, entry: int, queue: int, text: str) -> None:
    """The line in an entry's timeline that says what was put right."""
    info = mending.infos.id(mending.tx, text)
    event(mending.tx, entry, mending.ground.now, "repaired", queue, info, ACTOR)


def marked(queue: int, info: str | None) -> bool:
    return queue == HELD and info in MARKS


# -- the ledger

_OUTCOMES = tuple([outcome.value for outcome in Outcome])
CORRECTION = "correction"  # an account of its own, beside origins and outcomes: only a repair writes it
ACCOUNTS = frozenset({*_OUTCOMES, *[origin.value for origin in Origin], CORRECTION})


_DIFFERENCE = named(
    "verify.ledger_difference",
    "SELECT coalesce((SELECT sum(CASE WHEN kind IN "
    f"({', '.join([repr(word) for word in _OUTCOMES])}) THEN -number ELSE number END) FROM ledger), 0) "
    "- (SELECT count(*) FROM entry)",
)


def ledger_difference(tx: Tx) -> int:
    """Created - ended - queued, as this connection sees it: one statement, one consistent figure."""
    return int(tx.rows(_DIFFERENCE)[0][0])


def assignments(names: Iterable[str]) -> str:
    """`a = :a, b = :b`: what an UPDATE sets. The names are columns."""
    return ", ".join([f"{name} = :{name}" for name in names])
