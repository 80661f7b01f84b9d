"""`postroom verify` on messages and their bodies: every body is read and hashed, and its header scanned again.

Promises: bytes that are not those accepted are never called right; the entries of such a message are held and marked.
Columns about the header follow the bytes, because the bytes are what is delivered.
Fails: database errors pass through.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from postroom import facts
from postroom.errors import EnvironmentFailed
from postroom.ids import id_time, public_id
from postroom.model import Facts, Label, Priority, Queue, Route, Verdict
from postroom.rules.lifecycle import QUEUED_INFO
from postroom.store import codes
from postroom.store.bodies import Bodies, body_problem, is_body_name
from postroom.store.damage import (
    BODY_CHANGED,
    BODY_GONE,
    NOBODY,
    RECIPIENT_LOST,
    RESTORED_STATE,
)
from postroom.store.engine import Tx, named
from postroom.store.fold import search_text
from postroom.store.queue import statements as sql
from postroom.store.verify.rows import (
    HELD,
    Column,
    Finding,
    Ground,
    Left,
    Mending,
    Row,
    TableCheck,
    assignments,
    hold_entry,
    ledger_difference,
    marked,
    plain,
    read_rows,
)

_NUMBERS = ("id", "esmtp", "size", "attachment", "received")
_BLOBS = ("facts", "verdicts", "body_hash")
_ENVELOPE = ("remote_ip", "remote_name", "helo", "tls", "auth_user", "env_from", "body_object")
_HEADER = ("from_address", "from_name", "to_header", "subject", "message_id", "attachment")
_PACKED = ("hops", "body_at", "parts", "depth", "problems")
_COLUMNS = tuple(
    [Column(f"m.{name}", int if name in _NUMBERS else bytes if name in _BLOBS else str) for name in sql.MESSAGE_COLUMNS]
)
_TAIL = "FROM message AS m WHERE m.id BETWEEN :first AND :last ORDER BY m.id"
_decode_facts = msgspec.msgpack.Decoder(tuple[int, int, int, int, tuple[str, ...]]).decode
_decode_verdicts = msgspec.msgpack.Decoder(tuple[Verdict, ...]).decode
_pack = msgspec.msgpack.Encoder().encode

_HAS_ENTRY = named("verify.message_has_entry", "SELECT 1 FROM entry WHERE message_id = :message LIMIT 1")
_BYTES = named("verify.body", "SELECT bytes FROM body WHERE message_id = :message")
_ENTRIES = named(
    "verify.entries_of_message",
    "SELECT e.id, e.queue, i.text FROM entry AS e LEFT JOIN info AS i ON i.id = e.info_id "
    "WHERE e.message_id = :message",
)
_BYTES_DROP = named("verify.drop_body", "DELETE FROM body WHERE message_id = :message")
_VERDICTS_FORGET = named("verify.forget_verdicts", "UPDATE message SET verdicts = x'' WHERE id = :message")
_FACTS_SET = named(
    "verify.set_facts", f"UPDATE message SET {assignments((*_HEADER, 'size', 'facts'))} WHERE id = :message"
)
_OBJECT = named("verify.body_object", "SELECT CAST(body_object AS BLOB) FROM message WHERE id = :message")
_MESSAGE_DROP = named("verify.drop_message", "DELETE FROM message WHERE id = :message")
_NEXT_ENDED = named("verify.next_ended", "SELECT message_id FROM history WHERE id >= :message ORDER BY id LIMIT 1")
_ID_TAKEN = named(
    "verify.entry_id_taken",
    "SELECT 1 FROM entry WHERE id = :entry UNION ALL SELECT 1 FROM history WHERE id = :entry",
)
_MESSAGE_BETWEEN = named("verify.message_between", "SELECT 1 FROM message WHERE id > :message AND id <= :entry")
_ALONE = named(
    "verify.bodies_alone",
    "SELECT b.message_id, length(b.bytes) FROM body AS b LEFT JOIN message AS m ON m.id = b.message_id "
    "WHERE b.message_id BETWEEN :first AND :last AND m.id IS NULL",
)


class Body(NamedTuple):
    """What is stored of a message's bytes."""

    data: bytes | None
    why: str  # there is none
    extra: bool = False  # a row beside the file
    later: bool = False  # only just now: its disk or its rights are in the way


class Messages(TableCheck):
    name = "messages"
    table = "message"
    slice = 100  # bodies of up to 128 KiB each are read with them

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        found: list[Finding] = []
        for row in _rows(tx, first, last):
            found += _look(tx, ground, row)
        return found

    def mend(self, mending: Mending, finding: Finding) -> str:
        return _MENDS[finding.kind](mending, finding)


def _rows(tx: Tx, first: int, last: int) -> list[Row]:
    return read_rows(tx, _COLUMNS, _TAIL, {"first": first, "last": last})


def _named(row: Row) -> dict[str, Any]:
    return dict(zip(sql.MESSAGE_COLUMNS, row.values, strict=True))


def _look(tx: Tx, ground: Ground, row: Row) -> list[Finding]:
    message = _named(row)
    ident = message["id"]
    found: list[Finding] = []
    broken = [sql.MESSAGE_COLUMNS[number] for number in row.broken]
    if bad := [name for name in broken if name in _ENVELOPE or name in ("esmtp", "received")]:
        found.append(Finding("message-text", ident, f"not readable: {', '.join(bad)}"))
    if not tx.row(_HAS_ENTRY, {"message": ident}):
        found.append(Finding("message-alone", ident, "no entry is for it"))
    try:
        _decode_verdicts(message["verdicts"] or b"\x90")
    except (msgspec.DecodeError, ValueError):
        found.append(Finding("message-verdicts", ident, "its verdicts cannot be read"))
    if "body_object" in broken:
        return found
    body = _body_of(tx, ground.bodies, message)
    if body.data is None:
        noted = not body.later and _all_marked(tx, ident)
        kind = "body-unread" if body.later else "body-missing"
        return [*found, Finding(kind, ident, body.why, name=message["body_object"], noted=noted)]
    return found + _compare(tx, message, body, broken)


def _body_of(tx: Tx, bodies: Bodies, message: dict[str, Any]) -> Body:
    rows = tx.rows(_BYTES, {"message": message["id"]})
    name = message["body_object"]
    if not name:
        data = rows[0][0] if rows else None
        return Body(data, "") if isinstance(data, bytes) else Body(None, "it has neither a row nor a file of bytes")
    why, later = body_problem(bodies, name, message["size"])
    if later or not is_body_name(name):
        return Body(None, why, bool(rows), later)
    try:
        return Body(bodies.read(name), "", bool(rows))
    except EnvironmentFailed as problem:
        return Body(
            None, str(problem), bool(rows), isinstance(problem.__cause__, OSError) and not _gone(problem.__cause__)
        )


def _gone(problem: OSError) -> bool:
    return isinstance(problem, FileNotFoundError | IsADirectoryError)


def _compare(tx: Tx, message: dict[str, Any], body: Body, broken: list[str]) -> list[Finding]:
    """A body that is there, against what the row says of it."""
    data, ident, name = body.data, message["id"], message["body_object"]
    assert data is not None
    scanned = facts.scan(data)
    known = message["body_hash"]
    same = not known or known == sha256(memoryview(data)[scanned.body_at :]).digest()
    if not same or (not known and len(data) != message["size"]):
        kind = "body-size" if len(data) != message["size"] else "body-changed"
        what = f"{len(data)} bytes, accepted were {message['size']}" if kind == "body-size" else "its hash differs"
        return [Finding(kind, ident, what, name=name, noted=_all_marked(tx, ident))]
    found = []
    if body.extra:
        found.append(Finding("body-twice", ident, "a row of bytes beside its file", name=name))
    told = _told(message, scanned, len(data))
    if told or {*_HEADER, "facts", "size"} & set(broken):
        found.append(Finding("message-facts", ident, f"not as its bytes say: {plain(told)}"))
    return found


def _told(message: dict[str, Any], scanned: Facts, size: int) -> dict[str, Any]:
    """Columns that do not agree with the bytes, as they are stored."""
    told = {name: message[name] for name in _HEADER if message[name] != getattr(scanned, name)}
    if message["size"] != size:
        told["size"] = message["size"]
    try:
        packed: tuple[Any, ...] = _decode_facts(message["facts"])
    except (msgspec.DecodeError, ValueError):
        return {**told, "facts": "not readable"}
    right = tuple([getattr(scanned, name) for name in _PACKED])
    return told | {name: mine for name, mine, its in zip(_PACKED, packed, right, strict=True) if mine != its}


def _all_marked(tx: Tx, ident: int) -> bool:
    rows = tx.rows(_ENTRIES, {"message": ident})
    return bool(rows) and all(marked(queue, info) for _, queue, info in rows)


# -- mending


def _hold_all(mending: Mending, finding: Finding, text: str) -> str:
    """Every entry of the message that is not held and marked yet. All or none: they share one transaction."""
    held = 0
    for ident, queue, info in mending.tx.rows(_ENTRIES, {"message": finding.id}):
        if not marked(queue, info):
            hold_entry(mending, ident, text)
            held += 1
    if not held:
        raise Left("no entry is for it: mended as soon as it has one again; run this again")
    return f"{held} {'entry' if held == 1 else 'entries'} held for a person, marked"


def _mend_gone(mending: Mending, finding: Finding) -> str:
    return _hold_all(mending, finding, BODY_GONE)


def _leave_unread(mending: Mending, finding: Finding) -> str:
    raise Left(
        "nothing says that it is damaged: check the disk and the rights of the directory of bodies, run this again"
    )


def _mend_changed(mending: Mending, finding: Finding) -> str:
    return _hold_all(mending, finding, BODY_CHANGED)


def _mend_twice(mending: Mending, finding: Finding) -> str:
    mending.tx.run(_BYTES_DROP, {"message": finding.id})
    return "the row is deleted; the file is what its message names"


def _mend_text(mending: Mending, finding: Finding) -> str:
    """The entries know the envelope as well; of the rest, what can be read is kept."""
    (row,) = _rows(mending.tx, finding.id, finding.id)
    message = _named(row)
    fixes: dict[str, Any] = {}
    for name in [sql.MESSAGE_COLUMNS[number] for number in row.broken]:
        if name == "body_object":
            raise Left("which file holds its bytes can no longer be told; restore a backup")
        if name in _ENVELOPE:
            fixes[name] = _from_entries(mending, finding.id, name) or message[name]
        elif name == "received":
            fixes[name] = id_time(finding.id)
        elif name == "esmtp":
            fixes[name] = 1
    mending.tx.run(f"UPDATE message SET {assignments(fixes)} WHERE id = :id", {**fixes, "id": finding.id})
    return f"now {plain(fixes)}"


def _from_entries(mending: Mending, ident: int, name: str) -> str:
    if name not in ("remote_ip", "env_from"):
        return ""
    column = Column(f"e.{name}", str)
    rows = read_rows(mending.tx, (column,), "FROM entry AS e WHERE e.message_id = :message", {"message": ident})
    return next((row.values[0] for row in rows if not row.broken), "")


def _mend_verdicts(mending: Mending, finding: Finding) -> str:
    mending.tx.run(_VERDICTS_FORGET, {"message": finding.id})
    return "forgotten: its checks run again"


def _mend_facts(mending: Mending, finding: Finding) -> str:
    (row,) = _rows(mending.tx, finding.id, finding.id)
    data = _body_of(mending.tx, mending.ground.bodies, _named(row)).data
    if data is None:
        raise Left("its body is gone meanwhile: run this again")
    scanned = facts.scan(data)
    values = {**_header(scanned), "size": len(data), "facts": _packed(scanned), "message": finding.id}
    mending.tx.run(_FACTS_SET, values)
    return "written again from its bytes"


def _header(scanned: Facts) -> dict[str, Any]:
    return {name: getattr(scanned, name) for name in _HEADER}


def _packed(scanned: Facts) -> bytes:
    return _pack(tuple([getattr(scanned, name) for name in _PACKED]))


def _mend_alone(mending: Mending, finding: Finding) -> str:
    """Left over when its entries have ended and the ledger misses none; otherwise its entry was lost."""
    if _has_ended(mending, finding.id) and ledger_difference(mending.tx) <= 0:
        ((name,),) = mending.tx.rows(_OBJECT, {"message": finding.id})
        mending.tx.run(_MESSAGE_DROP, {"message": finding.id})
        mending.tx.run(_BYTES_DROP, {"message": finding.id})
        if name:
            mending.objects.append(bytes(name).decode(errors="replace"))
        return "deleted: its entries have ended, and the ledger misses none"
    return _entry_again(mending, finding.id)


def _has_ended(mending: Mending, ident: int) -> bool:
    """Whether the history knows an entry of it: ids of one message follow each other."""
    return mending.tx.row(_NEXT_ENDED, {"message": ident}) == (ident,)


def _entry_again(mending: Mending, ident: int) -> str:
    tx, now = mending.tx, mending.ground.now
    (row,) = _rows(tx, ident, ident)
    message = _named(row)
    entry = ident
    while tx.row(_ID_TAKEN, {"entry": entry}):
        entry += 1
    if tx.row(_MESSAGE_BETWEEN, {"message": ident, "entry": entry}):
        raise Left("there is no id left for an entry of it; restore a backup")
    values = {
        "id": entry, "message_id": ident, "queue": HELD, "from_queue": codes.QUEUE[Queue.PROCESSING],
        "route": codes.ROUTE[Route.EXTERNAL], "recipient": NOBODY, "recipient_name": "",
        "priority": codes.PRIORITY[Priority.NORMAL], "info_id": mending.infos.id(tx, QUEUED_INFO), "attempts": 0,
        "since": now, "next_attempt": now, "locked_until": None, "lease": None, "strikes": 0, "label": 0,
        "request": None, "waived": "",
        **{name: message[name] for name in sql.ENTRY_COLUMNS if name in message and name not in ("id", "message_id")},
        "search": search_text(
            message["env_from"], message["from_address"], message["from_name"], NOBODY, "", message["to_header"],
            message["subject"], message["remote_ip"],
        ),
    }  # fmt: skip
    tx.run(sql.insert_entries(1), [values[name] for name in sql.ENTRY_COLUMNS])
    hold_entry(mending, entry, RECIPIENT_LOST, label=int(Label.MAYBE_DELIVERED))
    return f"has a held entry {public_id(entry)} again, for {NOBODY}: the recipient is lost"


_MENDS = {
    "message-alone": _mend_alone,
    "message-text": _mend_text,
    "message-verdicts": _mend_verdicts,
    "message-facts": _mend_facts,
    "body-missing": _mend_gone,
    "body-unread": _leave_unread,
    "body-size": _mend_changed,
    "body-changed": _mend_changed,
    "body-twice": _mend_twice,
}


class BodyRows(TableCheck):
    """Bytes whose message is not there."""

    name = "bodies"
    table = "body"
    _id = "message_id"

    def look(self, tx: Tx, ground: Ground, first: int, last: int) -> list[Finding]:
        rows = tx.rows(_ALONE, {"first": first, "last": last})
        return [Finding("body-alone", ident, f"{length} bytes without a message") for ident, length in rows]

    def mend(self, mending: Mending, finding: Finding) -> str:
        ident = finding.id
        entries = [entry for entry, _, _ in mending.tx.rows(_ENTRIES, {"message": ident})]
        if not entries and _has_ended(mending, ident) and ledger_difference(mending.tx) <= 0:
            mending.tx.run(_BYTES_DROP, {"message": ident})
            return "deleted: its entries have ended, and the ledger misses none"
        _message_again(mending, ident)
        if not entries:
            return f"its message is made from it again, and {_entry_again(mending, ident)}"
        for entry in entries:
            hold_entry(mending, entry, RESTORED_STATE)
        return "its message is made from it again; its entries are held for a person"


def _message_again(mending: Mending, ident: int) -> None:
    """A row for bytes that have lost theirs: the header gives most of it, an entry knows sender and client."""
    ((data,),) = mending.tx.rows(_BYTES, {"message": ident})
    data = data if isinstance(data, bytes) else str(data).encode()
    scanned = facts.scan(data)
    values = {
        "id": ident, "remote_ip": _from_entries(mending, ident, "remote_ip"), "remote_name": "", "helo": "", "esmtp": 1,
        "tls": "", "auth_user": "", "env_from": _from_entries(mending, ident, "env_from") or scanned.from_address,
        **_header(scanned), "size": len(data), "facts": _packed(scanned), "verdicts": b"", "received": id_time(ident),
        "body_object": "", "body_hash": sha256(memoryview(data)[scanned.body_at :]).digest(),
    }  # fmt: skip
    mending.tx.run(sql.insert_messages(1), [values[name] for name in sql.MESSAGE_COLUMNS])
