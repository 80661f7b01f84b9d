"""What a backlog took of the disk is given back after it has drained."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from tests.system.conftest import SETTINGS, Starter, eventually, route_to
from tests.system.receiver import Receiver
from tests.system.wire import Sender, a_mail

MESSAGES = 1_600
LARGE = 20  # of them, with a body that is a file
SENDERS = 4
SIZE = 24_000
MIB = 1024 * 1024
SPARE = 8 * MIB  # stays free inside the file (store/keep/upkeep.py), and one page in twenty
SHORT = '\n[retention]\nhistory = "1 second"\n'
PAUSED = "\n[processing]\npaused = true\n"


def test_the_file_is_small_again_after_a_backlog_has_drained(
    starting: Starter, receiver: Receiver, tmp_path: Path
) -> None:
    gateway = starting(PAUSED, data=tmp_path / "data")
    database = gateway.data / "postroom.db"
    began = database.stat().st_size
    assert queue_up(gateway.smtp) == []
    assert gateway.queued() == MESSAGES
    assert gateway.stop() == 0  # the log is in the file now
    full = database.stat().st_size
    assert full > began + MESSAGES * SIZE // 2
    assert len(bodies(gateway.data)) == LARGE

    gateway.config.write_text(SETTINGS + SHORT + route_to(receiver))
    gateway.start()
    assert receiver.wait_until(lambda taken: len(taken) == MESSAGES, 120), "the backlog drains"
    eventually(lambda: gateway.queued() == 0, "the queue is empty", 60)
    bound = began + SPARE + 2 * MIB
    eventually(lambda: database.stat().st_size <= bound, f"the file shrinks from {full:,} to {bound:,} bytes", 90)
    eventually(lambda: bodies(gateway.data) == [], "the files of large bodies go", 60)
    eventually(lambda: rows(database, "history") == rows(database, "event") == 0, "the history is forgotten", 60)
    assert gateway.metrics()["postroom_ledger_difference"] == 0
    assert gateway.stop() == 0
    assert not (gateway.data / "postroom.db-wal").exists()


def queue_up(address: tuple[str, int]) -> list[str]:
    """Over several connections at once; what went wrong."""
    problems: list[str] = []

    def send(first: int) -> None:
        with Sender(address) as sender:
            for number in range(first, MESSAGES, SENDERS):
                size = 300_000 if number % (MESSAGES // LARGE) == 0 else SIZE
                reply = sender.mail(a_mail(f"space-{number}", size), "bob@corp.example")
                if not reply.startswith(b"250 "):
                    problems.append(f"{number}: {reply!r}")

    threads = [threading.Thread(target=send, args=(first,)) for first in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return problems


def bodies(data: Path) -> list[Path]:
    return [path for path in (data / "bodies").glob("??/*") if path.is_file()]


def rows(database: Path, table: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
