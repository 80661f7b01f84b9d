"""What the writer does inside its transaction: plain functions from records to rows.

Promises: each function is one part of the writer's batch and commits nothing by itself. What it counts for the ledger
goes into `LedgerLines`, which are written in the same transaction. Fails: database errors pass through to the writer; a
write under a lost lease touches no row, is reported as lost and never tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from postroom.clock import Millis
from postroom.ids import IdGiver
from postroom.model import Action, Message, Priority, Queue
from postroom.rules.lifecycle import QUEUED_INFO, Due, Held, honoured
from postroom.store import codes
from postroom.store.engine import Tx, named
from postroom.store.fold import fold, search_text
from postroom.store.queue import statements as sql
from postroom.store.records import Accepted, EndedEntry, Moved, NewMessage, Waited

_pack = msgspec.msgpack.Encoder().encode
CHUNK = 32  # rows
INFO_LENGTH = 512

INFO_ADD = named(
    "queue.info_add",
    "INSERT INTO info (text, folded, used) VALUES (:text, :folded, (SELECT number FROM upkeep WHERE what = 'sweep')) "
    "ON CONFLICT (text) DO UPDATE SET used = excluded.used RETURNING id",
)
ENTRY_MOVE = named(  # positional: once for each message
    "queue.entry_move",
    "UPDATE entry SET queue = ?, info_id = ?, attempts = ?, since = ?, next_attempt = ? WHERE id = ? AND lease = ? "
    "RETURNING request",
)
ENTRY_WAIT = named(  # positional: once for each message that has to wait
    "queue.entry_wait",
    "UPDATE entry SET queue = ?, from_queue = ?, info_id = ?, attempts = ?, next_attempt = ?, label = label | ?, "
    "locked_until = NULL, lease = NULL, strikes = 0, request = NULL, waived = waived || ? WHERE id = ? AND lease = ?",
)
ENTRY_REQUEST = named("queue.entry_request", "SELECT request, queue FROM entry WHERE id = :entry AND lease = :lease")
ENTRY_LEASED = named("queue.entry_leased", "SELECT 1 FROM entry WHERE id = :entry AND lease = :lease")
MESSAGE_VERDICTS = named(
    "queue.message_verdicts",
    "UPDATE message SET verdicts = :verdicts WHERE id = (SELECT message_id FROM entry WHERE id = :entry)",
)


class LedgerLines:
    """The ledger of one process life: what the open transaction adds to it."""

    __slots__ = ("added", "life")

    def __init__(self, life: int) -> None:
        self.life = life
        self.added: dict[str, int] = {}

    def add(self, kind: str, number: int = 1) -> None:
        self.added[kind] = self.added.get(kind, 0) + number

    def write(self, tx: Tx) -> None:
        if self.added:
            values: list[Any] = []
            for kind, number in self.added.items():
                values += (self.life, kind, number)
            tx.run(sql.ledger_add(len(self.added)), values)
            self.added = {}


class Infos:
    """The part of the info dictionary that the writer knows: text -> id. Bounded, forgotten on rollback."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def id(self, tx: Tx, text: str) -> int:
        known = self._known.get(text)
        if known is None:
            short = text[:INFO_LENGTH]
            known = int(tx.value(INFO_ADD, {"text": short, "folded": fold(short)}))
            if len(self._known) >= 4096:
                self._known.clear()
            self._known[text] = known
        return known

    def forget(self) -> None:
        self._known.clear()


def _chunks(columns: int, values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    step = CHUNK * columns
    for at in range(0, len(values), step):
        yield values[at : at + step] if len(values) > step else values


def run_chunks(tx: Tx, statement: Callable[[int], str], columns: int, values: Sequence[Any]) -> int:
    """Run a statement for several rows over a flat list of values, up to CHUNK rows at a time: so each number of rows
    is prepared once. Returns how many rows were touched."""
    return sum([tx.run(statement(len(part) // columns), part) for part in _chunks(columns, values)])


def insert(
    tx: Tx, ids: IdGiver, infos: Infos, ledger: LedgerLines, news: Sequence[tuple[NewMessage, Millis | None]],
    next_attempt: Callable[[Millis], Millis],
) -> list[Accepted]:  # fmt: skip
    """Write messages, bodies and entries of a batch. With a `lease_until`, entries are born leased and the attempt
    counts."""
    messages: list[Any] = []
    bodies: list[Any] = []
    entries: list[Any] = []
    accepted: list[Accepted] = []
    queued = infos.id(tx, QUEUED_INFO)
    for new, lease_until in news:
        client, facts = new.client, new.facts
        first = 0
        given: list[int] = []
        bulk = new.queue is Queue.BULK
        queue = codes.QUEUE[new.queue]
        priority = codes.PRIORITY[Priority.LOW] if bulk else 0
        attachment = 1 if facts.attachment else 0
        for recipient in new.recipients:
            ident = ids.next()
            first = first or ident
            given.append(ident)
            entries += (
                ident, first, queue, None, codes.ROUTE[recipient.route], recipient.address, recipient.name, priority,
                queued, 0 if lease_until is None else 1, new.received,
                new.received if lease_until is None else next_attempt(new.received), lease_until,
                None if lease_until is None else ident, 0, 0, None, "", new.env_from, facts.from_address,
                facts.from_name, facts.to_header, facts.subject, client.ip, new.size, attachment,
                search_text(
                    new.env_from, facts.from_address, facts.from_name, recipient.address, recipient.name,
                    facts.to_header, facts.subject, client.ip,
                ),
            )  # fmt: skip
        messages += (
            first, client.ip, client.name, client.helo, 1 if client.esmtp else 0, client.tls, client.user, new.env_from,
            facts.from_address, facts.from_name, facts.to_header, facts.subject, facts.message_id, new.size, attachment,
            _pack((facts.hops, facts.body_at, facts.parts, facts.depth, facts.problems)), b"", new.received,
            new.body_object, new.body_hash,
        )  # fmt: skip
        if not new.body_object:
            bodies += (first, new.body)
        ledger.add(new.origin, len(given))
        message = Message(
            first, client, new.env_from, facts, new.size, new.received, new.body, new.body_object, new.body_hash
        )
        accepted.append(Accepted(message, tuple(given), lease_until is not None))
    run_chunks(tx, sql.insert_messages, len(sql.MESSAGE_COLUMNS), messages)
    run_chunks(tx, sql.insert_bodies, 2, bodies)
    run_chunks(tx, sql.insert_entries, len(sql.ENTRY_COLUMNS), entries)
    return accepted


def event(tx: Tx, entry: int, at: Millis, kind: str, queue: int, info: int | None, actor: str = "") -> None:
    tx.run(sql.insert_events(1), (entry, at, kind, queue, info, actor))


def move(tx: Tx, infos: Infos, moved: Moved) -> Action | bool | None:
    """False if the lease was lost; otherwise the action that a person has asked for meanwhile, or None."""
    row = tx.row(
        ENTRY_MOVE,
        (
            codes.QUEUE[moved.queue], infos.id(tx, moved.info), moved.attempts, moved.at, moved.next_attempt,
            moved.entry, moved.lease,
        ),
    )  # fmt: skip
    return False if row is None else codes.action(row[0])


def wait(tx: Tx, infos: Infos, waited: Waited) -> bool:
    """False if the lease was lost. A person's request is carried out now, because the lease ends."""
    asked = tx.row(ENTRY_REQUEST, {"entry": waited.entry, "lease": waited.lease})
    if asked is None:
        return False
    queue, from_queue, at, info = waited.queue, waited.from_queue, waited.next_attempt, waited.info
    kind, actor = waited.kind, ""
    request = asked[0]
    if request is not None:
        match honoured(codes.action(request), queue):
            case Held(text):
                queue, from_queue, info, kind, actor = Queue.HELD, queue, text, "held", "request"
            case Due():
                at, actor = waited.at, "request"
    number, info_id = codes.QUEUE[queue], infos.id(tx, info)
    tx.run(
        ENTRY_WAIT,
        (
            number, codes.QUEUE[from_queue] if from_queue else None, info_id, waited.attempts, at, waited.label,
            f" {waited.waived}" if waited.waived else "", waited.entry, waited.lease,
        ),
    )  # fmt: skip
    event(tx, waited.entry, waited.at, kind, number, info_id, actor)
    if waited.verdicts:
        tx.run(MESSAGE_VERDICTS, {"verdicts": _pack(waited.verdicts), "entry": waited.entry})
    return True


def end(
    tx: Tx, ids: IdGiver, infos: Infos, ledger: LedgerLines, ends: Sequence[EndedEntry],
    next_attempt: Callable[[Millis], Millis],
) -> tuple[list[EndedEntry], list[str]]:  # fmt: skip
    """Move entries to the history and accept their notices. Returns the ends whose lease was lost, and the stored
    bodies to delete after the commit."""
    lost: list[EndedEntry] = []
    if _copy_to_history(tx, ends) != len(ends):
        ends, lost = _held_ones(tx, ends)
    run_chunks(tx, sql.delete_entries, 1, [ended.entry for ended in ends])
    messages = list({ended.message: None for ended in ends})
    run_chunks(tx, sql.delete_messages, 1, messages)
    run_chunks(tx, sql.delete_bodies, 1, messages)
    for ended in ends:
        ledger.add(ended.outcome)
    notices = [(ended.notice, None) for ended in ends if ended.notice is not None]
    if notices:
        insert(tx, ids, infos, ledger, notices, next_attempt)
    objects = {ended.message: ended.body_object for ended in ends if ended.body_object}
    if objects:
        for part in _chunks(1, list(objects)):
            for (ident,) in tx.rows(sql.messages_left(len(part)), part):
                objects.pop(ident, None)
    return lost, list(objects.values())


def _copy_to_history(tx: Tx, ends: Sequence[EndedEntry]) -> int:
    """Returns how many were copied: those that still had their lease."""
    values: list[Any] = []
    for ended in ends:
        values += (
            ended.entry, ended.lease, codes.QUEUE[ended.queue], ended.attempts, ended.label,
            codes.OUTCOME[ended.outcome], ended.at, ended.reply, ended.events,
        )  # fmt: skip
    return run_chunks(tx, sql.insert_history, 9, values)


def _held_ones(tx: Tx, ends: Sequence[EndedEntry]) -> tuple[list[EndedEntry], list[EndedEntry]]:
    """Which of a batch were not copied: (those that still had their lease, those that had lost it)."""
    kept: list[EndedEntry] = []
    lost: list[EndedEntry] = []
    for ended in ends:
        row = tx.row(ENTRY_LEASED, {"entry": ended.entry, "lease": ended.lease})
        (lost if row is None else kept).append(ended)
    return kept, lost
