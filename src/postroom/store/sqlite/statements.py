"""Every statement on messages and entries, by name. Hand-written, one text for both engines.

Multi-row forms take their row count as an argument: one statement for many rows keeps the number of times the writer
thread gives up and takes back the interpreter low (each step of a statement is one such exchange).
"""

from __future__ import annotations

from functools import cache

from postroom.model import Label

MESSAGE_COLUMNS = (
    "id", "remote_ip", "remote_name", "helo", "esmtp", "tls", "auth_user", "env_from", "from_address", "from_name",
    "to_header", "subject", "message_id", "size", "attachment", "facts", "verdicts", "received", "body_object",
    "body_hash",
)  # fmt: skip
ENTRY_COLUMNS = (
    "id", "message_id", "queue", "from_queue", "route", "recipient", "recipient_name", "priority", "info_id",
    "attempts", "since", "next_attempt", "locked_until", "lease", "strikes", "label", "request", "waived", "env_from", "from_address",
    "from_name", "to_header", "subject", "remote_ip", "size", "attachment", "search",
)  # fmt: skip
_COPIED = (
    "message_id", "route", "recipient", "recipient_name", "priority", "env_from", "from_address", "from_name",
    "to_header", "subject", "remote_ip", "size", "attachment",
)  # fmt: skip


def _rows(columns: int, rows: int) -> str:
    return ",".join(["(" + ",".join("?" * columns) + ")"] * rows)


@cache
def insert_messages(rows: int) -> str:
    return f"INSERT INTO message ({', '.join(MESSAGE_COLUMNS)}) VALUES {_rows(len(MESSAGE_COLUMNS), rows)}"


@cache
def insert_bodies(rows: int) -> str:
    return f"INSERT INTO body (message_id, bytes) VALUES {_rows(2, rows)}"


@cache
def insert_entries(rows: int) -> str:
    return f"INSERT INTO entry ({', '.join(ENTRY_COLUMNS)}) VALUES {_rows(len(ENTRY_COLUMNS), rows)}"


@cache
def insert_events(rows: int) -> str:
    return f"INSERT INTO event (entry_id, at, kind, queue, info_id, actor) VALUES {_rows(6, rows)}"


@cache
def insert_history(rows: int) -> str:
    """Rows of (entry, lease, queue, attempts, label, outcome, ended, reply, events): copies the rest from the entry,
    and copies nothing for an entry whose lease is no longer this one."""
    copied = ", ".join(_COPIED)
    return (
        f"INSERT INTO history (id, queue, attempts, label, outcome, ended, reply, events, header_id, {copied}) "
        f"SELECT e.id, v.column3, v.column4, e.label | v.column5, v.column6, v.column7, v.column8, v.column9, "
        f"coalesce((SELECT m.message_id FROM message AS m WHERE m.id = e.message_id), ''), "
        f"{', '.join('e.' + name for name in _COPIED)} "
        f"FROM (VALUES {_rows(9, rows)}) AS v CROSS JOIN entry AS e WHERE e.id = v.column1 AND e.lease = v.column2 "
        # Only in a damaged store is it there already. It ends all the same: else it would be delivered again and again.
        f"ON CONFLICT (id) DO UPDATE SET label = history.label | excluded.label | {int(Label.MAYBE_DELIVERED)}, "
        "queue = excluded.queue, attempts = excluded.attempts, outcome = excluded.outcome, ended = excluded.ended, "
        "reply = excluded.reply, events = excluded.events"
    )


@cache
def delete_entries(rows: int) -> str:
    return f"DELETE FROM entry WHERE id IN ({','.join('?' * rows)})"


@cache
def delete_messages(rows: int) -> str:
    return (
        f"DELETE FROM message WHERE id IN ({','.join('?' * rows)}) "
        "AND NOT EXISTS (SELECT 1 FROM entry AS e WHERE e.message_id = message.id)"
    )


@cache
def delete_bodies(rows: int) -> str:
    return (
        f"DELETE FROM body WHERE message_id IN ({','.join('?' * rows)}) "
        "AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = body.message_id)"
    )


@cache
def ledger_add(rows: int) -> str:
    return (
        f"INSERT INTO ledger (connection, kind, number) VALUES {_rows(3, rows)} "
        "ON CONFLICT (connection, kind) DO UPDATE SET number = ledger.number + excluded.number"
    )


@cache
def still_there(rows: int) -> str:
    return f"SELECT id FROM message WHERE id IN ({','.join('?' * rows)})"


INFO_ADD = (
    "INSERT INTO info (text, folded, used) VALUES (?, ?, (SELECT number FROM upkeep WHERE what = 'sweep')) "
    "ON CONFLICT (text) DO UPDATE SET used = excluded.used RETURNING id"
)

ENTRY_MOVE = (
    "UPDATE entry SET queue = ?, info_id = ?, attempts = ?, since = ?, next_attempt = ? WHERE id = ? AND lease = ? "
    "RETURNING request"
)
ENTRY_WAIT = (
    "UPDATE entry SET queue = ?, from_queue = ?, info_id = ?, attempts = ?, next_attempt = ?, label = label | ?, "
    "locked_until = NULL, lease = NULL, strikes = 0, request = NULL, waived = waived || ? WHERE id = ? AND lease = ?"
)
ENTRY_REQUEST = "SELECT request, queue FROM entry WHERE id = ? AND lease = ?"
MESSAGE_VERDICTS = "UPDATE message SET verdicts = ? WHERE id = (SELECT message_id FROM entry WHERE id = ?)"

# Claiming: by queue and by the time an entry is due, which is the end of its lease or else its next attempt.
ENTRY_DUE = (
    "SELECT id, message_id, recipient, attempts, since, lease, strikes, waived, request FROM entry "
    "WHERE queue = ? AND coalesce(locked_until, next_attempt) <= ? "
    "ORDER BY coalesce(locked_until, next_attempt) LIMIT ?"
)
ENTRY_CLAIM = (
    "UPDATE entry SET attempts = ?, next_attempt = ?, locked_until = ?, lease = ?, strikes = ?, label = label | ? "
    "WHERE id = ?"
)
ENTRY_UNLEASE = (
    "UPDATE entry SET next_attempt = ?, locked_until = NULL, lease = NULL, strikes = ?, label = label | ?, "
    "queue = ?, from_queue = ?, info_id = ?, request = NULL WHERE id = ?"
)
# What is due last, downwards; a time that many entries share is gone through by id.
ENTRY_PUT_OFF = (
    "SELECT id, coalesce(locked_until, next_attempt), attempts, since, next_attempt, lease FROM entry WHERE queue = ? "
    "AND coalesce(locked_until, next_attempt) > ? AND coalesce(locked_until, next_attempt) <= ? "
    "AND (coalesce(locked_until, next_attempt) < ? OR id < ?) "
    "ORDER BY coalesce(locked_until, next_attempt) DESC, id DESC LIMIT ?"
)
ENTRY_RESCHEDULE = "UPDATE entry SET next_attempt = ?, since = ? WHERE id = ?"
HORIZON_SET = (
    "INSERT INTO upkeep (what, number) VALUES (?, ?) ON CONFLICT (what) DO UPDATE SET number = excluded.number"
)
LEASE_RENEW = "UPDATE entry SET locked_until = ? WHERE id = ? AND lease = ?"
# "(lease IS NOT NULL) = TRUE" in these words stands in the index entry_due: with a full queue, reading the rows for it took
# seconds. Leases that still run at a start, found by when they would end; those that have ended are found by the claim.
LEASED = (
    "SELECT id, lease, strikes, attempts, since, request FROM entry WHERE queue = ? "
    "AND coalesce(locked_until, next_attempt) BETWEEN ? AND ? AND (lease IS NOT NULL) = TRUE"
)

ENTRY_STATE = "SELECT queue, from_queue, lease, message_id, attempts, since FROM entry WHERE id = ?"
ENTRY_TAKE = "UPDATE entry SET lease = ?, locked_until = ? WHERE id = ? AND lease IS NULL"
MESSAGE_NOTED = (
    "SELECT m.env_from, e.recipient, e.route, m.subject, m.received, m.body_object FROM entry AS e "
    "JOIN message AS m ON m.id = e.message_id WHERE e.id = ?"
)
BODY_START = "SELECT substr(bytes, 1, ?) FROM body WHERE message_id = ?"
ENTRY_RETRY_NOW = "UPDATE entry SET next_attempt = min(?, max(next_attempt, ?)) WHERE id = ?"  # never put off
# What an action sets: of one entry here, of a slice of a plan in plan_steps.py.
HOLD_SET = "queue = ?, from_queue = entry.queue, info_id = ?"
RELEASE_SET = "queue = entry.from_queue, from_queue = NULL, info_id = ?, since = ?, next_attempt = ?"
SHIFT_SET = "queue = ?, priority = ?, info_id = ?"
ENTRY_HOLD = f"UPDATE entry SET {HOLD_SET} WHERE id = ?"
ENTRY_RELEASE = f"UPDATE entry SET {RELEASE_SET} WHERE id = ?"
ENTRY_SHIFT = f"UPDATE entry SET {SHIFT_SET} WHERE id = ?"
ENTRY_ASK = "UPDATE entry SET request = ? WHERE id = ?"

PAUSE_ADD = "INSERT INTO pause (scope, since, actor) VALUES (?, ?, ?) ON CONFLICT (scope) DO NOTHING RETURNING scope"
PAUSE_DROP = "DELETE FROM pause WHERE scope = ? RETURNING scope"
PAUSES = "SELECT scope, since, actor FROM pause"

ENTRY_READ = (
    "SELECT e.id, e.message_id, e.queue, e.from_queue, e.route, e.recipient, e.recipient_name, e.priority, i.text, "
    "e.attempts, e.next_attempt, e.locked_until, e.lease, e.strikes, e.label, e.env_from, e.from_address, e.from_name, "
    "e.to_header, e.subject, e.remote_ip, e.size, e.attachment FROM entry AS e LEFT JOIN info AS i ON i.id = e.info_id "
)
HISTORY_READ = (
    "SELECT id, message_id, queue, route, recipient, env_from, from_address, subject, remote_ip, size, attachment, "
    "attempts, label, outcome, ended, reply FROM history "
)
MESSAGE_READ = f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM message WHERE id = ?"
BODY_READ = "SELECT bytes FROM body WHERE message_id = ?"
EVENT_READ = (
    "SELECT v.at, v.kind, v.queue, coalesce(i.text, ''), v.actor FROM event AS v "
    "LEFT JOIN info AS i ON i.id = v.info_id WHERE v.entry_id = ? ORDER BY v.id"
)
LOCKED_COUNTS = (
    "SELECT count(*) FROM entry WHERE queue = ? AND coalesce(locked_until, next_attempt) BETWEEN ? AND ? "
    "AND (lease IS NOT NULL) = TRUE"
)
LEDGER_READ = "SELECT kind, sum(number) FROM ledger GROUP BY kind"
ENTRIES_ALL = "SELECT count(*) FROM entry"
LAST_ID = "SELECT max(coalesce((SELECT max(id) FROM entry), 0), coalesce((SELECT max(id) FROM history), 0))"
OBJECTS_USED = "SELECT body_object FROM message WHERE body_object <> ''"
OBJECTS_NAMED = (
    "SELECT body_object FROM message WHERE body_object || '' <> ''"  # from the rows, whatever the index says
)
HISTORY_OLD = "SELECT id, ended FROM history WHERE id > ? AND id < ? ORDER BY id LIMIT ?"

# The sweep of the info dictionary (upkeep.py): which ids are in use, a slice of rows at a time, by primary key.
ENTRY_INFOS = (
    "SELECT info_id, max(id) FROM (SELECT id, info_id FROM entry WHERE id > ? ORDER BY id LIMIT ?) AS slice "
    "GROUP BY info_id"
)
EVENT_INFOS = (
    "SELECT info_id, max(id) FROM (SELECT id, info_id FROM event WHERE id > ? ORDER BY id LIMIT ?) AS slice "
    "GROUP BY info_id"
)
INFO_OLD = "SELECT id FROM info WHERE id > ? AND used < ? ORDER BY id LIMIT ?"
UPKEEP_GET = "SELECT number FROM upkeep WHERE what = ?"
UPKEEP_SET = "UPDATE upkeep SET number = ? WHERE what = ?"
SESSIONS_OVER = "SELECT 1 FROM console_session WHERE expires <= ? LIMIT 1"
SESSIONS_END = "DELETE FROM console_session WHERE expires <= ?"
PROVE = "UPDATE upkeep SET number = number + 1 WHERE what = 'proof'"  # (the same value again would write nothing)
SWEEP_NEXT = "UPDATE upkeep SET number = number + 1 WHERE what = 'sweep' RETURNING number"


@cache
def objects_used(rows: int) -> str:
    """The condition is the partial index's own: without it the index could not be used."""
    return f"SELECT body_object FROM message WHERE body_object IN ({','.join('?' * rows)}) AND body_object <> ''"


@cache
def forget_infos(rows: int) -> str:
    """Rows of ids, then the sweep's number. The newest stays, so that no id is ever given again: the search index knows texts by it."""
    newest = "(SELECT max(id) FROM info)"
    return f"DELETE FROM info WHERE id IN ({','.join('?' * rows)}) AND used < ? AND id < {newest}"


@cache
def forget_history(rows: int) -> str:
    return f"DELETE FROM history WHERE id IN ({','.join('?' * rows)})"


@cache
def forget_events(rows: int) -> str:
    return f"DELETE FROM event WHERE entry_id IN ({','.join('?' * rows)})"
