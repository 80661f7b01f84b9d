"""A data directory as the first release leaves it: schema 2, with mail in the queue.

Written with plain SQL: it stays as it is when the product's own statements change, for released migrations never do.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from hashlib import sha256
from pathlib import Path

import msgspec

from postroom.store.fold import search_text
from postroom.store.sqlite.schema import migrations
from tests.crash.load import ALICE, mail_of, recipients_of

RELEASED = 2
MESSAGES = 24
LEASE = 60_000  # milliseconds
PROCESSING, DELIVERY = 0, 2
LARGE = 150_000


def make(data: Path) -> list[str]:
    """The subjects of what waits there."""
    data.mkdir(parents=True, mode=0o700)
    subjects = [f"crash older {number} {LARGE if number % 8 == 3 else 2000}" for number in range(MESSAGES)]
    with contextlib.closing(sqlite3.connect(data / "postroom.db", isolation_level=None)) as database:
        database.execute("PRAGMA auto_vacuum=INCREMENTAL")
        database.execute("PRAGMA journal_mode=WAL")
        for number, _, text in migrations()[:RELEASED]:
            database.executescript(text)
            database.execute(f"PRAGMA user_version={number}")
        database.execute("BEGIN")
        info = database.execute("INSERT INTO info (text, folded) VALUES ('Queued', 'queued') RETURNING id").fetchone()[
            0
        ]
        entries, now = 0, int(time.time() * 1000)
        for number, subject in enumerate(subjects):
            entries += _keep(database, data, number, subject, info, now)
        database.execute("INSERT INTO ledger VALUES (1, 'accepted', ?)", (entries,))
        database.execute("COMMIT")
    return subjects


def _keep(database: sqlite3.Connection, data: Path, number: int, subject: str, info: int, now: int) -> int:
    """One message with its entries; every fifth one is being delivered."""
    content, recipients = mail_of(subject), recipients_of(subject)
    first = (now + number << 20) + 1
    at = content.index(b"\r\n\r\n") + 4
    name = _file(data, number, content) if len(content) > 128 * 1024 else ""
    words = (ALICE, ALICE, "Alice", "Bob <bob@corp.example>", subject)
    facts = msgspec.msgpack.encode((0, at, 1, 0, ()))
    database.execute(
        f"INSERT INTO message VALUES ({','.join('?' * 20)})",
        (
            first, "127.0.0.1", "", "sender", 1, "", "", *words[:4], subject, "", len(content), 0, facts, b"", now,
            name,
            sha256(content[at:]).digest(),
        ),
    )  # fmt: skip
    if not name:
        database.execute("INSERT INTO body VALUES (?, ?)", (first, content))
    leased = number % 5 == 4
    for place, recipient in enumerate(recipients):
        ident = first + place
        search = search_text(ALICE, ALICE, "Alice", recipient, "", words[3], subject, "127.0.0.1")
        database.execute(
            f"INSERT INTO entry VALUES ({','.join('?' * 27)})",
            (
                ident, first, DELIVERY if leased else PROCESSING, None, 2, recipient, "", 0, info, 1 if leased else 0,
                now,
                now, now + LEASE if leased else None, ident + 1000 if leased else None, 0, 0, None, "", *words,
                "127.0.0.1", len(content), 0, search,
            ),
        )  # fmt: skip
    return len(recipients)


def _file(data: Path, number: int, content: bytes) -> str:
    token = f"{number:02x}" * 16
    path = data / "bodies" / token[:2] / token
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(content)
    os.chmod(path, 0o600)
    return f"{token[:2]}/{token}"
