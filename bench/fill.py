"""`python -m bench.fill --data DIR --entries N`: a realistic queue of N entries, to test with many.

Writes through the store's own insert path in large transactions, while no gateway runs. The queue is skewed as real
queues are: the mail comes from `bench.people`, most of it is recent; most reasons to wait are shared, some belong to a
single entry. The same seed makes the same queue; its times end now.

Promises: the ledger adds up, nothing is leased, entries say what their messages say. By default a message claims the
size of real mail although its body is short; `--sizes real` claims the true size. Fails: one line and status 1 when the
directory already has a queue or a gateway works there.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from bisect import bisect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.people import World
from postroom import facts
from postroom.clock import DAY, HOUR, MINUTE, SECOND, Millis, SystemClock
from postroom.errors import PostroomError
from postroom.model import Label, Queue
from postroom.settings import Settings
from postroom.store import Accepted, NewMessage, Store, codes, open_store
from postroom.store.engine import Tx
from postroom.store.find.reader import ENTRIES_ALL
from postroom.store.queue import apply
from postroom.store.queue import statements as sql

SPAN = 7 * DAY
BATCH = 5_000  # entries of one transaction
MIX = {"processing": 60, "delivery": 22, "held": 10, "bulk_processing": 6, "system": 2}
FRESH = {Queue.PROCESSING: 0.3, Queue.BULK: 0.7, Queue.DELIVERY: 0.1, Queue.SYSTEM: 0.3}  # never tried
RECIPIENTS = (1.4, 20.5)  # of a message, of a mailing: the shares are of entries
UPDATE = (
    "UPDATE entry SET queue = ?, from_queue = ?, info_id = ?, attempts = ?, since = ?, next_attempt = ?, label = ? "
    "WHERE id = ?"
)

# Reasons to wait, as our checks, our SMTP client and next hops word them, each with its share; {id} makes a text
# unique, as the replies of large providers are.
CHECKING = {
    "Antivirus scanner is not answering (connection refused)": 40,
    "Antivirus scanner is not answering (timeout)": 22,
    "Antivirus scanner is not answering (timeout while connecting)": 14,
    "Antivirus scanner closed the connection without an answer": 12,
    "Antivirus scanner answered with an error; the log has its reply": 10,
    "Interrupted: the gateway stopped while this was being worked on": 2,
}
SENDING = {
    "connect to mx1.{domain}:25: timed out": 26,
    "connect to mx1.{domain}:25: Connection refused": 14,
    "451 4.7.1 Greylisted, please try again in 5 minutes": 16,
    "421 4.7.0 Try again later, closing connection. ({id})": 9,
    "452 4.2.2 The recipient's mailbox is over quota": 12,
    "450 4.1.8 Sender address rejected: domain not found": 5,
    "connection to mx2.{domain}:25 lost while waiting for the reply to the content": 8,
    "No route to the destination": 4,
    "451 4.3.0 Temporary server error, please try again later": 6,
}
HOLDING = {
    "Header is larger than 262144 bytes": 34,
    f"MIME structure is suspect: {facts.TOO_MANY_PARTS}": 22,
    f"MIME structure is suspect: {facts.TOO_DEEP}": 16,
    "Held by a person": 18,
    "May have been delivered: the attempt ended without a result; held for a person": 4,
    "Antivirus scanner is not answering (connection refused)": 6,  # until the retry schedule ended
}


class Moments:
    """The clock of a filling: every id moves it from a week ago to now, in ever smaller steps: most mail is recent."""

    def __init__(self, begin: Millis, number: int) -> None:
        self._begin, self._number = begin, number
        self.given = 0

    def at(self, position: int) -> Millis:
        return self._begin + int(SPAN * min(1.0, position / self._number) ** 0.6)

    def now(self) -> Millis:
        self.given += 1
        return self.at(self.given)


class Filling:
    """One filling of one store."""

    def __init__(self, store: Store, moments: Moments, end: Millis, world: World, chance: random.Random) -> None:
        self._store = store
        self._moments = moments
        self._end = end
        self._world = world
        self._chance = chance

    def run(self, entries: int, mix: dict[str, int], progress: Callable[[int], None]) -> None:
        left, queues = entries, [Queue(name) for name in mix]
        shares = [share / RECIPIENTS[queue is Queue.BULK] for queue, share in zip(queues, mix.values(), strict=True)]
        while left:
            wanted = self._chance.choices(queues, weights=shares, k=min(left, BATCH))
            left -= self._store.write_now(partial(self._write, wanted, min(left, BATCH)))
            progress(entries - left)

    def _write(self, wanted: list[Queue], number: int, tx: Tx) -> int:
        """One transaction: so many entries, in the queues that still need some."""
        recorder = self._store._recorder
        news: list[tuple[NewMessage, Millis | None]] = []
        queues: list[Queue] = []
        position, left = self._moments.given + 1, number
        for queue in wanted:
            if not left:
                break
            born = Queue.PROCESSING if queue is Queue.HELD else queue
            new = self._world.message(self._moments.at(position), born, left)
            news.append((new, None))
            queues.append(queue)
            position += len(new.recipients)
            left -= len(new.recipients)
        accepted = apply.insert(
            tx, self._store._engine.ids, recorder.infos, recorder.ledger, news, lambda received: received
        )
        updates: list[Any] = []
        events: list[Any] = []
        for queue, one in zip(queues, accepted, strict=True):
            self._live(tx, queue, one, updates, events)
        tx.many(UPDATE, updates)
        tx.many(sql.insert_events(1), events)
        return number

    def _live(self, tx: Tx, queue: Queue, one: Accepted, updates: list[Any], events: list[Any]) -> None:
        """What has happened to a message's entries since we accepted it."""
        chance, received = self._chance, one.message.received
        number = codes.QUEUE[queue]
        for entry in one.entries:
            if chance.random() < FRESH.get(queue, 0):
                continue
            age = max(SECOND, self._end - received)
            if queue is Queue.HELD:
                at = received + min(age, chance.randrange(20 * SECOND))
                info = self._info(tx, HOLDING)
                updates.append((number, codes.QUEUE[Queue.PROCESSING], info, 1, received, at, 0, entry))
                events.append((entry, at, "held", number, info, ""))
                continue
            checked = queue in (Queue.PROCESSING, Queue.BULK)
            attempts = 1 + min(int(chance.expovariate(0.15)), age // MINUTE)
            label = Label.MAYBE_DELIVERED if not checked and chance.random() < 0.005 else Label.NONE
            since = received if checked else received + min(age, chance.randrange(5 * SECOND))
            due = self._end + chance.randrange(5 * MINUTE if checked else 4 * HOUR)
            info = self._info(tx, CHECKING if checked else SENDING)
            updates.append((number, None, info, attempts, since, due, int(label), entry))
            for attempt in range(max(1, attempts - 1), attempts + 1):
                events.append((entry, since + age * attempt // (attempts + 1), "deferred", number, info, ""))

    def _info(self, tx: Tx, reasons: dict[str, int]) -> int:
        texts, shares = _spread(tuple(reasons.items()))
        text = texts[bisect(shares, self._chance.random() * shares[-1])]
        if "{" in text:
            text = text.format(domain=self._world.domain(), id=f"{self._chance.getrandbits(64):x}")
        return self._store._recorder.infos.id(tx, text)


_SPREAD: dict[Any, tuple[list[str], list[int]]] = {}


def _spread(reasons: tuple[tuple[str, int], ...]) -> tuple[list[str], list[int]]:
    if reasons not in _SPREAD:
        _SPREAD[reasons] = ([text for text, _ in reasons], list(itertools.accumulate(share for _, share in reasons)))
    return _SPREAD[reasons]


def fill(
    data: Path, entries: int, *, seed: int = 2026, mix: dict[str, int] | None = None, real_sizes: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> None:  # fmt: skip
    """Queues so many entries in the store of this data directory; PostroomError when it already has a queue."""
    end = SystemClock().now()
    moments = Moments(end - SPAN, entries)
    chance = random.Random(seed)
    store = open_store(Settings(data=str(data)), clock=moments)
    try:
        if store.read_now().tx.rows(ENTRIES_ALL)[0][0]:
            raise PostroomError(f"{data} has a queue already: give an empty directory")
        Filling(store, moments, end, World(chance, real_sizes=real_sizes), chance).run(entries, mix or MIX, progress)
        created, ended, queued = store.read_now().ledger()
        if queued != entries or sum(created.values()) - sum(ended.values()) != queued:
            raise RuntimeError(f"the ledger does not add up: {created}, {ended}, {queued} queued")
    finally:
        store.close()


def parsed_mix(text: str) -> dict[str, int]:
    """processing=60,held=40"""
    mix = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name not in MIX or not share.isdecimal():
            raise argparse.ArgumentTypeError(f"{part!r}: expected QUEUE=SHARE of {', '.join(MIX)}")
        mix[name] = int(share)
    if not sum(mix.values()):
        raise argparse.ArgumentTypeError("no queue has a share")
    return mix


def main() -> int:
    parser = argparse.ArgumentParser(description="Queue many realistic entries in an empty data directory.")
    parser.add_argument("--data", type=Path, required=True, help="the data directory, as for postroom serve --data")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries to queue (1,000,000)")
    parser.add_argument("--seed", type=int, default=2026, help="the same seed makes the same queue (2026)")
    parser.add_argument(
        "--queue-mix",
        type=parsed_mix,
        default=MIX,
        metavar="QUEUE=SHARE,...",
        help="entries of each queue (mostly processing)",
    )
    parser.add_argument(
        "--sizes", choices=("spread", "real"), default="spread", help="sizes that messages claim (spread)"
    )
    chosen = parser.parse_args()
    if chosen.entries < 1:
        parser.error("--entries must be at least 1")
    begin = time.perf_counter()
    try:
        with click.progressbar(length=chosen.entries, label="Queueing", file=sys.stderr) as bar:
            fill(
                chosen.data, chosen.entries, seed=chosen.seed, mix=chosen.queue_mix, real_sizes=chosen.sizes == "real",
                progress=lambda done: bar.update(done - bar.pos),
            )  # fmt: skip
    except PostroomError as problem:
        print(f"fill: {problem}", file=sys.stderr)
        return 1
    seconds = time.perf_counter() - begin
    size = (chosen.data / "postroom.db").stat().st_size
    print(
        f"{chosen.entries:,} entries in {seconds:.0f} s ({chosen.entries / seconds:,.0f} a second), {size >> 20:,} MiB",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
