"""Simulated power cuts: traces the real gateway under load, cuts its disk at any point and opens what is left.

`Recording` runs the gateway life after life under strace and shows that the model of the disk agrees with the disk.
`Examination` takes one cut: the store opens, is whole, has every message that was acknowledged before the cut (queued
with its bytes, or ended), labels what may have been delivered, and its ledger agrees. What is wrong stands in
`problems`.
"""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, combinations
from pathlib import Path

import apsw
from bench.gateway import Gateway

from postroom.errors import StoreUnusable
from postroom.model import Entry, Filter, Label, Outcome
from postroom.settings import Settings
from postroom.store.codes import OUTCOME
from postroom.store.find.reader import Reader
from postroom.store.store import open_store
from postroom.telemetry import Log
from tests.crash.agreement import LIMIT, disagreements
from tests.crash.campaign import SETTINGS, launching
from tests.crash.disk import CALLS, REBUILT, Chance, Disk, Everything, Fate, Nothing, put, unended
from tests.crash.fickle import TAKES, Fickle
from tests.crash.load import Key, Load, mail_of, notice_key, recipients_of
from tests.crash.moments import NONE
from tests.system.conftest import eventually
from tests.system.receiver import subject_of

ROOM = 1 << 30  # bytes: a small memory file system would look like a full disk to the gateway
_ACK = re.compile(rb"(?:^|\n)250 2\.0\.0 ([0-9a-f]+) queued\r\n")
_END_OF_DATA = re.compile(rb"\r\n\.\r\n")


class Recording:
    """`live` some times, then ask. The directory may be anywhere; only what is below it is looked at."""

    def __init__(self, strace: str, directory: Path, seed: int, spoiled: str = NONE) -> None:
        self.root = (directory / "disk").resolve()
        self.root.mkdir(parents=True)
        self.fickle = Fickle(seed)
        self.load = Load()
        self.ends: list[int] = []  # the line behind each life
        self._strace = strace
        self._directory = directory
        self._spoiled = spoiled
        self.disk = Disk(self.root)
        self._traces: list[
            tuple[list[str], tuple[int, ...]]
        ] = []  # with the calls that happened though they never ended

    def live(self, name: str, mails: int, end: Callable[[Gateway], None]) -> None:
        """One life: so many mails of each sender, then its end."""
        host, port = self.fickle.address
        output = self._directory / f"trace-{name}"
        gateway = Gateway(self._directory / name, SETTINGS.format(host=host, port=port), data=self.root / "data")
        gateway.program = self._traced(output)
        gateway.start()
        pid = gateway.pid
        try:
            self.load.begin(name, gateway.smtp, mails)
            self.load.join()
            end(gateway)
        finally:
            gateway.kill()
        self._read(output, pid)

    def command(self, name: str, *arguments: str | Path) -> None:
        """One life of a command."""
        output = self._directory / f"trace-{name}"
        done = subprocess.Popen(
            [*self._traced(output), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = done.communicate(timeout=LIMIT)
        assert done.returncode == 0, said.decode()
        self._read(output, done.pid)

    def _traced(self, output: Path) -> list[str | Path]:
        """-DD: strace is our grandchild, so that a kill meets the gateway alone and the trace is written to its end."""
        return [
            self._strace, "-DD", "-f", "-yy", "--seccomp-bpf", "-s", "1048576", "-e", f"trace={CALLS}", "-o", output,
            *launching(spoiled=self._spoiled),
        ]  # fmt: skip

    def _read(self, output: Path, pid: int) -> None:
        last = re.compile(rf"^{pid} +\+\+\+ (exited|killed)", re.MULTILINE)
        eventually(lambda: last.search(_tail(output)) is not None, "strace has written everything", LIMIT)
        self._add(output.read_text().splitlines())
        output.unlink()

    def _add(self, lines: list[str]) -> None:
        """Calls in which a life was killed have happened or not: the disk tells."""
        found = {
            str(path.relative_to(self.root)): None if path.is_dir() else path.read_bytes()
            for path in self.root.rglob("*")
            if not path.name.endswith(REBUILT)
        }
        doubtful = unended(lines)
        assert len(doubtful) < 8, "more threads than the gateway has"
        for happened in chain.from_iterable(combinations(doubtful, number) for number in range(len(doubtful) + 1)):
            disk = Disk(self.root)
            for before, choice in [*self._traces, (lines, happened)]:
                disk.play(before, choice)
            living = disk.living()
            if living == found:
                break
        assert not disk.unknown, disk.unknown[:5]
        differing = {path for path in living.keys() | found.keys() if living.get(path, b"?") != found.get(path, b"?")}
        assert not differing, f"the model of the disk is wrong about {sorted(differing)[:5]}"
        self._traces.append((lines, happened))
        self.disk = disk
        self.ends.append(disk.lines)

    # -- what was said when

    @cached_property
    def acknowledgements(self) -> list[tuple[int, str]]:
        """After the last life: (line at which the 250 began to leave, subject), in order."""
        found = [
            (line, self.load.ids[match[1]])
            for stream, line_at in self._streams()
            for match in _ACK.finditer(stream)
            if match[1] in self.load.ids  # else it was written, but its sender has not seen it any more
            for line in [line_at(match.end() - 1)]
        ]
        return sorted(found)

    @cached_property
    def final_dots(self) -> dict[str, list[int]]:
        """Subject -> the lines at which a final dot of it began to leave, in order."""
        found: dict[str, list[int]] = defaultdict(list)
        for stream, line_at in self._streams():
            begin = 0
            for match in _END_OF_DATA.finditer(stream):
                found[subject_of(stream[begin : match.end()])].append(line_at(match.end() - 1))
                begin = match.end()
        return {subject: sorted(lines) for subject, lines in found.items()}

    def _streams(self) -> Iterator[tuple[bytes, Callable[[int], int]]]:
        """What went over each connection, and which line sent the byte at an offset. A port may be used again: a stream
        is of one life."""
        pieces: dict[tuple[int, str], list[tuple[int, bytes]]] = defaultdict(list)
        for said in self.disk.said:
            life = sum(said.begin >= end for end in self.ends)
            pieces[life, said.peer].append((said.begin, said.data))
        for parts in pieces.values():
            yield b"".join([data for _, data in parts]), _locator(parts)


def _locator(parts: list[tuple[int, bytes]]) -> Callable[[int], int]:
    def line_at(offset: int) -> int:
        for line, data in parts:
            if offset < len(data):
                return line
            offset -= len(data)
        raise AssertionError("beyond the end")

    return line_at


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        return file.read().decode(errors="replace")


class Examination:
    """One cut at line `at`. Makes `place` and leaves it there."""

    def __init__(self, recording: Recording, at: int, fate: Fate, place: Path) -> None:
        self.problems: list[str] = []
        self._recording = recording
        self._at = at
        self._place = place
        put(recording.disk.after_cut(at, fate), place)
        self.acked = [subject for line, subject in recording.acknowledgements if line < at]

    def look(self) -> None:
        """Open it as the gateway would, and ask for everything."""
        try:
            store = open_store(Settings(data=str(self._place / "data")), log=Log(io.StringIO()))
        except StoreUnusable as problem:
            self.problems.append(f"the store cannot be opened: {problem}")
            return
        try:
            reader = store.read_now()
            [(whole,)] = reader.tx.rows("PRAGMA integrity_check(3)")
            self._expect(whole == "ok", f"integrity_check: {whole}")
            self.problems += disagreements(store.path)
            self._look_at_key(reader)
            entries = reader.find(Filter(), limit=1_000_000)
            history = dict(self._history(reader))
            self._look_for_acknowledged({(entry.subject, entry.recipient) for entry in entries}, history)
            for entry in entries:
                self._look_at_body(reader, entry, store.bodies.read)
            self._look_at_labels(entries)
        except apsw.Error as problem:
            self.problems.append(f"the store cannot be read: {type(problem).__name__}: {problem}")
        finally:
            store.close()

    def go_on(self) -> None:
        """Start the real gateway on it; it delivers what is left."""
        host, port = self._recording.fickle.address
        settings = SETTINGS.format(host=host, port=port)
        with Gateway(self._place / "life", settings, data=self._place / "data") as gateway:
            eventually(lambda: gateway.queued() == 0, "the queue is empty", 2 * LIMIT)
            self._expect(gateway.metrics()["postroom_ledger_difference"] == 0, "the ledger differs after going on")
        self._expect(" bug=yes" not in gateway.log.read_text(), "the log has a bug")
        taken = self._recording.fickle.taken
        for key in self._keys():
            self._expect(self._due(key) in taken, f"acknowledged, and not delivered: {key}")

    def _expect(self, true: bool, otherwise: str) -> None:
        if not true:
            self.problems.append(otherwise)

    def _keys(self) -> list[Key]:
        return [(subject, recipient) for subject in self.acked for recipient in recipients_of(subject)]

    @staticmethod
    def _due(key: Key) -> Key:
        """What the next hop gets because of it: the mail, or our notice to its sender."""
        return notice_key(key[0]) if key[1].startswith("refused-") else key

    def _look_at_key(self, reader: Reader) -> None:
        """What is sealed with a key is of no use without it."""
        if reader.tx.rows("SELECT 1 FROM app"):
            left = self._place / "data/secrets.key"
            there = left.read_bytes() if left.exists() else b""
            self._expect(
                there == self._recording.disk.living()["data/secrets.key"], "the key of the stored secrets is gone"
            )
            self._expect((self._place / "data/admin.json").exists(), "the administrator is there, admin.json is gone")

    @staticmethod
    def _history(reader: Reader) -> Iterator[tuple[Key, int]]:
        for subject, recipient, outcome in reader.tx.rows("SELECT subject, recipient, outcome FROM history"):
            yield (subject, recipient), outcome

    def _look_for_acknowledged(self, queued: set[Key], history: dict[Key, int]) -> None:
        taken = self._recording.fickle.taken
        for key in self._keys():
            if key in queued:
                continue
            outcome = history.get(key)
            if outcome is None:
                self.problems.append(f"acknowledged, and neither queued nor ended: {key}")
            elif outcome == OUTCOME[Outcome.BOUNCED]:
                notice = notice_key(key[0])
                self._expect(notice in queued or notice in history, f"bounced without a notice: {key}")
            else:
                self._expect(key in taken, f"ended, but the next hop never had it: {key}")

    def _look_at_body(self, reader: Reader, entry: Entry, read: Callable[[str], bytes]) -> None:
        message = reader.message(entry.message_id)
        if message is None:
            self.problems.append(f"an entry without its message: {entry.subject}")
            return
        try:
            content = read(message.body_object) if message.body_object else message.body
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is what we look for
            self.problems.append(f"the body of {entry.subject}: {problem}")
            return
        if not entry.subject.startswith("Not delivered: "):
            self._expect(content == mail_of(entry.subject), f"other bytes than were sent: {entry.subject}")

    def _look_at_labels(self, entries: list[Entry]) -> None:
        """Of messages with one recipient, whose attempts are one behind the other, so that their answers are known."""
        dots, answers = self._recording.final_dots, self._recording.fickle.answers
        for entry in entries:
            subject = entry.subject
            sent, heard = dots.get(subject, []), answers.get(subject, [])
            alone = subject.startswith("crash ") and len(recipients_of(subject)) == 1
            if not alone or len(sent) > len(heard):  # the last one was never heard: the gateway had died
                continue
            had_it = any(line < self._at and mood in TAKES for line, mood in zip(sent, heard, strict=False))
            labelled = bool(entry.label & Label.MAYBE_DELIVERED)
            self._expect(labelled or not had_it, f"delivered before the cut, queued after it, not labelled: {subject}")


def when_idle(gateway: Gateway) -> None:
    eventually(lambda: gateway.queued() == 0, "everything is delivered", 2 * LIMIT)


def stopped(gateway: Gateway) -> None:
    """As an operator stops it, in the middle of its work."""
    assert gateway.stop() == 0


def killed(gateway: Gateway) -> None:
    """With nothing under way: the log of SQLite is left, and the next life reads it."""
    when_idle(gateway)
    gateway.kill()


def record(recording: Recording, mails: int) -> None:
    """Three lives: so many mails of each sender in each, and different ends."""
    for name, end in (("first", stopped), ("second", killed), ("third", stopped)):
        recording.live(name, mails, end)


def cuts(recording: Recording, number: int, chance: random.Random) -> Iterator[tuple[int, str, Fate]]:
    """Where to cut and what becomes of the rest: every second one right behind a 250, the others behind any change."""
    acknowledged = [line + 1 for line, _ in recording.acknowledgements]
    changed = recording.disk.changes()
    fates: list[tuple[str, Fate]] = [
        ("nothing else is kept", Nothing()),
        ("some of the rest is kept", Chance(chance)),
        ("some of the rest is kept", Chance(chance)),
        ("all is kept", Everything()),
    ]
    for at in range(number):
        name, fate = fates[at // 2 % len(fates)]
        yield chance.choice(changed if at % 2 else acknowledged), name, fate


def examine(
    recording: Recording, number: int, chance: random.Random, tell: Callable[[int], None] = lambda done: None
) -> tuple[int, list[str]]:
    """So many cuts; on the last one the real gateway goes on. (acknowledged messages looked for, problems)"""
    looked_for = 0
    problems: list[str] = []
    for done, (at, name, fate) in enumerate(cuts(recording, number, chance), 1):
        with in_memory() as place:
            examination = Examination(recording, at, fate, place / "cut")
            examination.look()
            if done == number and not examination.problems:
                examination.go_on()
        looked_for += len(examination.acked)
        problems += [f"cut {done} at line {at}, {name}: {problem}" for problem in examination.problems]
        tell(done)
    return looked_for, problems


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory where nothing has to be fast on a disk: each cut makes and forgets some three hundred names."""
    shared = Path("/dev/shm")
    roomy = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > ROOM
    with tempfile.TemporaryDirectory(dir=shared if roomy else None) as place:
        yield Path(place)
