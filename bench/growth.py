"""`python -m bench.growth`: how much disk space a million messages take, in the queue and later in the history.

Both go through the store's own path, without a gateway: messages of `bench.people` are accepted with a lease and end as
delivered, one in ten after a deferral, with the events that `worker` records; the queue comes from `bench.fill`. It
counts the pages in use, table by table.

Promises: 100,000 of each, scaled. Fails: as `bench.fill`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import apsw
import click

from bench import duel
from bench.fill import fill
from bench.people import World
from postroom.clock import MINUTE, SECOND, Millis, SystemClock
from postroom.model import Outcome, Queue
from postroom.rules.lifecycle import DELIVERY_INFO
from postroom.settings import Settings
from postroom.store import Accepted, EndedEntry, NewMessage, Store, Waited, open_store, pack_events
from postroom.store.engine import Tx
from postroom.store.queue import apply

MIB = 1024 * 1024
BATCH = 1_000
DEFERRED = 0.1
REPLY = "250 2.0.0 Ok: queued as 4bXkTq1Zx9z2"


class Passing:
    """Mail that comes in and is delivered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chance = random.Random(2026)
        self._world = World(self._chance, real_sizes=True)

    def run(self, messages: int, progress: Callable[[int], None]) -> None:
        for done in range(0, messages, BATCH):
            number = min(BATCH, messages - done)
            accepted = self._store.write_now(partial(self._accept, number))
            self._store.write_now(partial(self._end, accepted))
            progress(done + number)

    def _accept(self, number: int, tx: Tx) -> list[Accepted]:
        now, recorder = SystemClock().now(), self._store._recorder
        news: list[tuple[NewMessage, Millis | None]] = [
            (self._world.message(now, Queue.PROCESSING, 1), now + MINUTE) for _ in range(number)
        ]
        return apply.insert(tx, self._store._engine.ids, recorder.infos, recorder.ledger, news, lambda at: at)

    def _end(self, accepted: list[Accepted], tx: Tx) -> None:
        now, recorder = SystemClock().now(), self._store._recorder
        ends = []
        for one in accepted:
            (entry,) = one.entries
            lease, attempts = entry, 1
            events = pack_events([(now, "moved", Queue.DELIVERY.value, "")])
            if self._chance.random() < DEFERRED:
                reason = f"421 4.7.0 Try again later, closing connection. ({self._chance.getrandbits(64):x})"
                apply.wait(
                    tx, recorder.infos,
                    Waited(entry, lease, Queue.DELIVERY, None, reason, 1, now + MINUTE, 0, now, "deferred"),
                )  # fmt: skip
                lease, attempts, events = self._store._engine.ids.next(), 2, b""
                tx.rows("UPDATE entry SET lease = ?, locked_until = ? WHERE id = ?", (lease, now, entry))
                recorder.infos.id(tx, DELIVERY_INFO)
            ends.append(
                EndedEntry(
                    entry, lease, one.message.id, Queue.DELIVERY, Outcome.DELIVERED, REPLY, attempts, 0, now + SECOND,
                    events
                )
            )  # fmt: skip
        lost, _ = apply.end(tx, self._store._engine.ids, recorder.infos, recorder.ledger, ends, lambda at: at)
        assert not lost


def sizes(data: Path) -> dict[str, float]:
    """Bytes in use, by table with its indexes, without free pages."""
    connection = apsw.Connection(str(data / "postroom.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        owners = {
            str(name): str(table) for name, table in connection.execute("SELECT name, tbl_name FROM sqlite_master")
        }
        found: dict[str, float] = {}
        for name, size in connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            owner = owners.get(name, name)
            found[owner] = found.get(owner, 0) + size
        return found
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="How much disk space a million messages take.")
    parser.add_argument(
        "--messages", type=int, default=100_000, help="messages to measure; the result is scaled to a million (100,000)"
    )
    chosen = parser.parse_args()
    if chosen.messages < BATCH:
        parser.error(f"--messages must be at least {BATCH}")
    duel.RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="growth-", dir=duel.RESULTS) as name:
        passed, queued = Path(name, "passed"), Path(name, "queued")
        store = open_store(Settings(data=str(passed)))
        try:
            with click.progressbar(length=chosen.messages, label="Passing", file=sys.stderr) as bar:
                Passing(store).run(chosen.messages, lambda done: bar.update(done - bar.pos))
        finally:
            store.close()
        with click.progressbar(length=chosen.messages, label="Queueing", file=sys.stderr) as bar:
            fill(queued, chosen.messages, real_sizes=True, progress=lambda done: bar.update(done - bar.pos))
        figures = {"passed": _per_million(passed, chosen.messages), "queued": _per_million(queued, chosen.messages)}
    print("\nMiB per million, by table with its indexes\n")
    for what, words in (("passed", "delivered messages, one recipient each"), ("queued", "queued entries")):
        tables = sorted(figures[what].items(), key=lambda pair: -pair[1])
        shown = ", ".join(f"{table} {size:,.0f}" for table, size in tables if size >= 1)
        print(f"  {sum(figures[what].values()):7,.0f}  {words} ({shown})")
    path = duel.RESULTS / "growth.json"
    document = {"what": "growth", "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "mib_per_million": figures}
    path.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _per_million(data: Path, messages: int) -> dict[str, float]:
    return {table: size / MIB * 1_000_000 / messages for table, size in sizes(data).items()}


if __name__ == "__main__":
    sys.exit(main())
