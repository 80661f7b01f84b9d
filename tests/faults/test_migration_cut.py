"""The power fails while a store of the first release, with mail in its queue, is brought up to date."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from bench.gateway import Gateway

from postroom.model import Filter
from postroom.settings import Settings
from postroom.store.sqlite.schema import migrations
from postroom.store.store import open_store
from postroom.telemetry import Log
from tests.crash import older
from tests.crash.agreement import LIMIT, disagreements
from tests.crash.campaign import launching
from tests.crash.disk import Chance, Everything, Fate, Nothing, put
from tests.crash.load import mail_of, recipients_of
from tests.crash.powercut import Recording, in_memory
from tests.system.conftest import SETTINGS, need

SEED = 20_261_122
CUTS = 24
PAUSED = SETTINGS + "\n[processing]\npaused = true\n[delivery]\npaused = true\n"
# The old store, with everything of it on the disk: what had been there for long before the power failed.
MAKE = """
import os, sys
from pathlib import Path
from tests.crash import older
data = Path(sys.argv[1])
older.make(data)
for path in [data.parent, data, *data.rglob("*")]:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
"""


def recorded(tmp_path: Path) -> tuple[Recording, list[str]]:
    """Two lives: the old store is made; the gateway brings it up to date, and is killed when it is ready. With the
    syncs of the log in the second one."""
    recording = Recording(need("strace"), tmp_path, SEED)
    with recording.fickle:  # nobody: nothing leaves
        return recording, live_twice(recording, tmp_path)


def live_twice(recording: Recording, tmp_path: Path) -> list[str]:
    data, trace = recording.root / "data", tmp_path / "trace"
    launcher = launching()
    tracing = recording._traced(trace)[: -len(launcher)]
    made = subprocess.Popen([*tracing, sys.executable, "-c", MAKE, data], stdin=subprocess.DEVNULL)
    assert made.wait(LIMIT) == 0
    recording._read(trace, made.pid)
    gateway = Gateway(tmp_path / "life", PAUSED, data=data)
    gateway.program = [*tracing, *launcher]
    gateway.start()
    pid = gateway.pid
    gateway.kill()
    recording._read(trace, pid)
    lines, _ = recording._traces[-1]
    return [line for line in lines if re.search(r"fdatasync\(\d+<[^>]*-wal>", line)]


def cuts(recording: Recording) -> Iterator[tuple[int, Fate]]:
    """While the store was brought up to date, and until the gateway was ready."""
    chance = random.Random(SEED)
    within = [line for line in recording.disk.changes() if line > recording.ends[0]]
    fates: list[Fate] = [Nothing(), Chance(chance), Everything(), Chance(chance)]
    for number in range(CUTS):
        yield within[len(within) * number // CUTS], fates[number % len(fates)]


def examined(data: Path) -> tuple[int, list[str]]:
    """(schema before this start, what is wrong after it)."""
    before = apsw.Connection(str(data / "postroom.db"))
    schema = int(before.pragma("user_version"))  # type: ignore[arg-type]
    before.close()
    store = open_store(Settings(data=str(data)), log=Log(io.StringIO()))
    try:
        reader = store.read_now()
        problems = disagreements(store.path)
        [(whole,)] = reader.tx.rows("PRAGMA integrity_check(3)")
        if whole != "ok":
            problems.append(whole)
        if reader.tx.connection.pragma("user_version") != migrations()[-1][0]:
            problems.append("not brought up to date")
        found = reader.find(Filter(), limit=1000)
        wanted = {
            (subject, recipient)
            for number in range(older.MESSAGES)
            for subject in [f"crash older {number} {older.LARGE if number % 8 == 3 else 2000}"]
            for recipient in recipients_of(subject)
        }
        missing = wanted - {(entry.subject, entry.recipient) for entry in found}
        problems += [f"lost: {one}" for one in sorted(missing)]
        for entry in found:
            message = reader.message(entry.message_id)
            content = message and (store.bodies.read(message.body_object) if message.body_object else message.body)
            if content != mail_of(entry.subject):
                problems.append(f"other bytes: {entry.subject}")
    finally:
        store.close()
    return schema, problems


@pytest.mark.system
def test_a_power_cut_while_a_store_is_brought_up_to_date_takes_nothing(tmp_path: Path) -> None:
    recording, synced = recorded(tmp_path)
    assert len(synced) >= len(migrations()) - older.RELEASED, "each step is a commit of its own"
    schemas = set()
    for at, fate in cuts(recording):
        with in_memory() as place:
            put(recording.disk.after_cut(at, fate), place / "cut")
            schema, problems = examined(place / "cut/data")
            assert not problems, f"cut at line {at}, {type(fate).__name__}"
            schemas.add(schema)
    assert len(schemas) > 2, "the cuts fall between the steps"
