"""Statements that write whole batches of messages, entries and history, and parts that plans and repairs use as well.
Every other statement is in the file that runs it.

Statements for several rows take the number of rows: one statement for many rows makes the writer's thread release and
take back the interpreter less often, which it does at every step of a statement. Their values are positional; so are
those of the parts, which plans put into statements of their own.
"""

from __future__ import annotations

from functools import cache

from postroom.model import Label
from postroom.store.engine import Statement, named

MESSAGE_COLUMNS = (
    "id", "remote_ip", "remote_name", "helo", "esmtp", "tls", "auth_user", "env_from", "from_address", "from_name",
    "to_header", "subject", "message_id", "size", "attachment", "facts", "verdicts", "received", "body_object",
    "body_hash",
)  # fmt: skip
ENTRY_COLUMNS = (
    "id", "message_id", "queue", "from_queue", "route", "recipient", "recipient_name", "priority", "info_id",
    "attempts", "since", "next_attempt", "locked_until", "lease", "strikes", "label", "request", "waived", "env_from",
    "from_address", "from_name", "to_header", "subject", "remote_ip", "size", "attachment", "search",
)  # fmt: skip
_COPIED = (
    "message_id", "route", "recipient", "recipient_name", "priority", "env_from", "from_address", "from_name",
    "to_header", "subject", "remote_ip", "size", "attachment",
)  # fmt: skip

# What an action sets: of one entry in actions.py, of a slice of a plan in plans/steps.py.
HOLD_SET = "queue = ?, from_queue = entry.queue, info_id = ?"
RELEASE_SET = "queue = entry.from_queue, from_queue = NULL, info_id = ?, since = ?, next_attempt = ?"
SHIFT_SET = "queue = ?, priority = ?, info_id = ?"


def _rows(columns: int, rows: int) -> str:
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


def _ids(rows: int) -> str:
    return ",".join("?" * rows)


@cache
def insert_messages(rows: int) -> Statement:
    columns = ", ".join(MESSAGE_COLUMNS)
    text = f"INSERT INTO message ({columns}) VALUES {_rows(len(MESSAGE_COLUMNS), rows)}"
    return named("queue.insert_messages", text)


@cache
def insert_bodies(rows: int) -> Statement:
    return named("queue.insert_bodies", f"INSERT INTO body (message_id, bytes) VALUES {_rows(2, rows)}")


@cache
def insert_entries(rows: int) -> Statement:
    columns = ", ".join(ENTRY_COLUMNS)
    text = f"INSERT INTO entry ({columns}) VALUES {_rows(len(ENTRY_COLUMNS), rows)}"
    return named("queue.insert_entries", text)


@cache
def insert_events(rows: int) -> Statement:
    text = f"INSERT INTO event (entry_id, at, kind, queue, info_id, actor) VALUES {_rows(6, rows)}"
    return named("queue.insert_events", text)


@cache
def insert_history(rows: int) -> Statement:
    """Rows of (entry, lease, queue, attempts, label, outcome, ended, reply, events). The rest is copied from the entry;
    nothing is copied for an entry that has another lease by now."""
    copied = ", ".join(_COPIED)
    text = (
        f"INSERT INTO history (id, queue, attempts, label, outcome, ended, reply, events, header_id, {copied}) "
        f"SELECT e.id, v.column3, v.column4, e.label | v.column5, v.column6, v.column7, v.column8, v.column9, "
        f"coalesce((SELECT m.message_id FROM message AS m WHERE m.id = e.message_id), ''), "
        f"{', '.join('e.' + name for name in _COPIED)} "
        f"FROM (VALUES {_rows(9, rows)}) AS v CROSS JOIN entry AS e WHERE e.id = v.column1 AND e.lease = v.column2 "
        # Only a damaged store has the row already. The entry must end all the same, or it is delivered again and again.
        f"ON CONFLICT (id) DO UPDATE SET label = history.label | excluded.label | {int(Label.MAYBE_DELIVERED)}, "
        "queue = excluded.queue, attempts = excluded.attempts, outcome = excluded.outcome, ended = excluded.ended, "
        "reply = excluded.reply, events = excluded.events"
    )
    return named("queue.insert_history", text)


@cache
def delete_entries(rows: int) -> Statement:
    return named("queue.delete_entries", f"DELETE FROM entry WHERE id IN ({_ids(rows)})")


@cache
def delete_messages(rows: int) -> Statement:
    text = (
        f"DELETE FROM message WHERE id IN ({_ids(rows)}) "
        "AND NOT EXISTS (SELECT 1 FROM entry AS e WHERE e.message_id = message.id)"
    )
    return named("queue.delete_messages", text)


@cache
def delete_bodies(rows: int) -> Statement:
    text = (
        f"DELETE FROM body WHERE message_id IN ({_ids(rows)}) "
        "AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = body.message_id)"
    )
    return named("queue.delete_bodies", text)


@cache
def messages_left(rows: int) -> Statement:
    return named("queue.messages_left", f"SELECT id FROM message WHERE id IN ({_ids(rows)})")


@cache
def ledger_add(rows: int) -> Statement:
    text = (
        f"INSERT INTO ledger (connection, kind, number) VALUES {_rows(3, rows)} "
        "ON CONFLICT (connection, kind) DO UPDATE SET number = ledger.number + excluded.number"
    )
    return named("queue.ledger_add", text)
