"""Kill after kill on one data directory, and after each the question whether anything is lost.

Promises checked after every restart: what was acknowledged is queued, or the next hop has it; what the next hop has
twice was labelled before it went out again; the ledger agrees. At the end: everything acknowledged has come, byte for
byte, nothing is left in the queue, and the history tells it. Fails: what is wrong stands in `problems`; the data
directory stays.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.gateway import Gateway, GatewayFailed

from postroom.model import Label, Outcome
from postroom.store.codes import OUTCOME
from tests.crash import older
from tests.crash.agreement import LIMIT, disagreements, rows
from tests.crash.fickle import Fickle
from tests.crash.load import Key, Load, notice_key, recipients_of
from tests.crash.moments import MOMENTS, NONE

LAUNCHER = Path(__file__).with_name("moments.py")
FROM_OUTSIDE = "at random"
DRAIN = 180.0
OLD = 1_600_000_000_000  # milliseconds UTC: older than any retention
MOST = 1000  # mails of each sender in one life
PLANTED = 600  # ended entries of long ago, for the reaper
# Few entries in hand, so that some mail goes straight on in memory and some by way of the queue
SETTINGS = """\
[gateway]
hostname = "gw.corp.example"
internal_domains = ["corp.example"]

[retry.processing]
waits = ["100 milliseconds", "500 milliseconds"]

[retry.delivery]
waits = ["100 milliseconds", "300 milliseconds"]
attempts = 0

[limits]
active_entries = 32

[retention]
history = "30 days"

[[delivery.routes]]
domain = "*"
host = "{host}:{port}"
"""


def launching(name: str = NONE, nth: int = 0, spoiled: str = NONE) -> list[str | Path]:
    """What to run in place of `postroom`. -P: nothing of the tests may stand in for a module of the product."""
    return [sys.executable, "-P", LAUNCHER, name, str(nth), spoiled, "--"]


class Campaign:
    """`kill` again and again, then `finish`; everything wrong is in `problems`."""

    def __init__(self, directory: Path, seed: int, spoiled: str = NONE) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()  # killed from outside, because the moment did not come
        self.load = Load()
        self.fickle = Fickle(seed)
        self.labelled = 0
        self._problems: list[str] = []
        self._directory = directory
        self._spoiled = spoiled
        self._outstanding: set[Key] = set()  # acknowledged, not yet seen with the next hop
        self._counted = 0  # of load.acked
        self._twice = 0  # of fickle.twice
        self._planted = 0
        self._life = 0
        self._backup = directory  # the last one

    @contextlib.contextmanager
    def running(self) -> Iterator[Campaign]:
        with self.fickle:
            host, port = self.fickle.address
            self.gateway = Gateway(self._directory, SETTINGS.format(host=host, port=port))
            try:
                yield self
            finally:
                self.gateway.kill()

    @property
    def problems(self) -> list[str]:
        return self._problems + self.load.problems + self.fickle.problems

    def complain(self, problem: str) -> None:
        self._problems.append(problem)

    def schedule(self, kills: int) -> list[str]:
        """Every moment in turn, in an order of its own each round, and as many at random times as of two moments."""
        names = [*MOMENTS, FROM_OUTSIDE, FROM_OUTSIDE]
        order: list[str] = []
        while len(order) < kills:
            order += self.chance.sample(names, len(names))
        return order[:kills]

    # -- one kill

    def kill(self, name: str) -> None:
        """One life, ended at this moment; what it left is looked at by the next one."""
        phase = MOMENTS[name].phase if name in MOMENTS else FROM_OUTSIDE
        self._life += 1
        self.kills[name] += 1
        if phase == "migration":
            self._kill_migration(name)
        elif phase == "start":
            self._kill_start(name)
        elif phase == "backup":
            self._kill_backup(name)
        else:
            self._kill_under_load(name, phase)

    def _kill_under_load(self, name: str, phase: str) -> None:
        """Where a pass does not come, because the machine has other things to do, the first one is waited for."""
        if self._dies_under_load(name, phase, self._fuse(name) if name in MOMENTS else self._program()):
            return
        if not self._dies_under_load(name, phase, self._program(name, 1)):
            self.missed[name] += 1

    def _dies_under_load(self, name: str, phase: str, program: Sequence[str | Path]) -> bool:
        """By itself, or from outside where that is meant."""
        self._life += 1  # its mail has names of its own
        try:
            self._start(program)
        except GatewayFailed:  # there was enough to do before the doors were open
            self._was_killed(name, self.gateway.status)
            return True
        self._check()
        self.load.begin(str(self._life), self.gateway.smtp, MOST)
        if phase == FROM_OUTSIDE:
            self.load.wait_for(self.chance.randint(1, 80), LIMIT)
            self.gateway.wait_for_end(self.chance.random() * 0.02)
            self.gateway.kill()
            died = True
        else:
            if phase == "stop":
                self.load.wait_for(self.chance.randint(1, 40), LIMIT)
                self.load.will_stop()
                self.gateway.ask_to_stop()
            died = self._died(name)
        self.load.join()
        return died

    def _kill_start(self, name: str) -> None:
        """A life before it leaves leases behind; then a start, which dies. With few leases, not every pass comes."""
        for program in (self._fuse(name), self._program(name, 1)):
            self._kill_under_load("between the remote 250 and its record", "load")
            try:
                self._start(program)
            except GatewayFailed:
                self._was_killed(name, self.gateway.status)
                return
            self.gateway.kill()
        self.missed[name] += 1

    def _kill_migration(self, name: str) -> None:
        """A directory of its own: the newest older schema, or none at all, brought up, killed, brought up again."""
        migrating = Campaign(self._directory / f"migration-{self._life}", self.chance.getrandbits(32))
        with migrating.running():
            kept = older.make(migrating.gateway.data) if self.chance.random() < 0.7 else []
            migrating.load.acked += kept
            for program in (migrating._fuse(name), migrating._program(name, 1)):
                try:
                    migrating._start(program)
                except GatewayFailed:
                    self._was_killed(name, migrating.gateway.status)
                    break
                migrating.gateway.kill()
            else:
                self.missed[name] += 1
            migrating.finish()
        self._problems += [f"{name}: {problem}" for problem in migrating.problems]

    def _kill_backup(self, name: str) -> None:
        """The command is killed beside the gateway, which is killed then while another backup is being made."""
        self._start(self._program())
        self._check()
        self.load.begin(str(self._life), self.gateway.smtp, MOST)
        with self._backing_up(self._fuse(name)) as command:
            self._was_killed(name, command.wait(LIMIT))
        with self._backing_up(self._program()) as command:
            self.gateway.wait_for_end(self.chance.random() * 0.8)
            self.gateway.kill()
            self._look_at_backup(command.wait(LIMIT))
        self.load.join()

    @contextlib.contextmanager
    def _backing_up(self, program: Sequence[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
        self._backup = self._directory / f"backup-{self._life}"
        with self.gateway.log.open("ab") as log:
            command = subprocess.Popen(
                [*program, "backup", self._backup, "--config", self.gateway.config, "--data", self.gateway.data],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield command
        finally:
            command.kill()
            command.wait()
            shutil.rmtree(self._backup, ignore_errors=True)

    def _look_at_backup(self, status: int) -> None:
        """It is whole, or not there."""
        if status == 0:
            database = self._backup / "postroom.db"
            [(whole,)] = rows(database, "PRAGMA integrity_check")
            wrong = disagreements(database) + ([] if whole == "ok" else [whole])
            self._problems += [f"life {self._life}, its backup: {what}" for what in wrong]
        elif self._backup.exists():
            self._problems.append(f"life {self._life}: a backup that failed with status {status} is there")

    def _fuse(self, name: str) -> Sequence[str | Path]:
        return self._program(name, self.chance.randint(1, MOMENTS[name].among))

    def _program(self, name: str = NONE, nth: int = 0) -> Sequence[str | Path]:
        return launching(name, nth, self._spoiled)

    def _start(self, program: Sequence[str | Path]) -> None:
        self.gateway.program = program
        self.gateway.start()

    def _died(self, name: str) -> bool:
        status = None
        until = time.monotonic() + LIMIT
        while status is None and time.monotonic() < until:
            if MOMENTS[name].phase == "planted":  # and again: what is freed may be used anew before it is given back
                self._plant()
            status = self.gateway.wait_for_end(1.0)
        if status is None:
            self.gateway.kill()
            return False
        self._was_killed(name, status)
        return True

    def _was_killed(self, name: str, status: int | None) -> None:
        if status != -signal.SIGKILL:
            said = self.gateway.log.read_text()[-3000:]
            self._problems.append(
                f"life {self._life}, {name}: ended with status {status} instead of being killed:\n{said}"
            )
            raise GatewayFailed(self._problems[-1])

    def _plant(self) -> None:
        """Something for the reaper, written beside the running gateway as its commands write."""
        first = (OLD << 20) + self._planted
        self._planted += PLANTED
        columns = [name for (name,) in self._rows("SELECT name FROM pragma_table_info('history')")]
        given = {"id": "value", "outcome": "0", "ended": str(OLD), "events": "X''", "message_id": "value"}
        text = {"env_from", "from_address", "subject", "recipient", "recipient_name", "from_name", "to_header"}
        values = [given.get(name, "'long ago'" if name in text | {"remote_ip", "reply"} else "0") for name in columns]
        statement = (
            f"WITH RECURSIVE series(value) AS (SELECT {first} UNION ALL SELECT value + 1 FROM series LIMIT {PLANTED}) "
            f"INSERT INTO history ({', '.join(columns)}) SELECT {', '.join(values)} FROM series"
        )
        with (
            contextlib.closing(sqlite3.connect(self._database, timeout=LIMIT)) as database,
            database,
        ):
            database.execute(statement)
            texts = [(f"said once, {first + number}",) for number in range(PLANTED)]
            database.executemany("INSERT INTO info (text, folded) VALUES (?1, ?1)", texts)

    # -- looking

    def _check(self) -> None:
        """Right after a start, while it delivers. Reads the queue first: what has left it is with the next hop."""
        new, self._counted = self.load.acked[self._counted :], len(self.load.acked)
        self._outstanding |= {(subject, recipient) for subject in new for recipient in recipients_of(subject)}
        twice = self.fickle.twice[self._twice :]
        self._twice += len(twice)
        queued = {(subject, recipient) for subject, recipient in self._rows("SELECT subject, recipient FROM entry")}
        missing = []
        for key in list(self._outstanding):
            if key in queued:
                continue
            if self._has_come(key):
                self._outstanding.discard(key)
            elif notice_key(key[0]) not in queued or not key[1].startswith("refused-"):
                missing.append(key)
        self._complain("acknowledged, but neither queued nor delivered", missing)
        self._complain("delivered twice without a word", self._unlabelled(twice))
        self._problems += [f"life {self._life}: {what}" for what in disagreements(self._database)]

    def _has_come(self, key: Key) -> bool:
        return (notice_key(key[0]) if key[1].startswith("refused-") else key) in self.fickle.taken

    def _unlabelled(self, keys: list[Key]) -> list[Key]:
        """The label is committed before the second delivery begins, so it can be asked for at any time after."""
        if not keys:
            return []
        labels = {
            (subject, recipient): label
            for table in ("entry", "history")  # in this order: an entry may move on between the two
            for subject, recipient, label in self._rows(f"SELECT subject, recipient, label FROM {table}")
        }
        return [key for key in keys if not labels.get(key, 0) & Label.MAYBE_DELIVERED]

    def _complain(self, what: str, keys: Sequence[Key]) -> None:
        if keys:
            self._problems.append(f"life {self._life}: {len(keys)} {what}, among them {sorted(keys)[:3]}")

    @property
    def _database(self) -> Path:
        return self.gateway.data / "postroom.db"

    def _rows(self, statement: str) -> list[tuple]:
        return rows(self._database, statement)

    # -- the end

    def finish(self) -> None:
        """A last life that nobody kills: it delivers everything, and the history tells the whole story."""
        self._start(self._program())
        self._check()
        until = time.monotonic() + DRAIN
        while (left := self.gateway.queued()) and time.monotonic() < until:
            time.sleep(0.05)
        if left:
            sample = self._rows(
                "SELECT e.queue, e.subject, e.recipient, e.attempts, e.label, i.text FROM entry e "
                "JOIN info i ON i.id = e.info_id LIMIT 3"
            )
            self._problems.append(f"{left} entries are left in the queue, among them {sample}")
        self._check()
        self._complain("acknowledged, never delivered", [key for key in self._outstanding if not self._has_come(key)])
        if self.gateway.metrics()["postroom_ledger_difference"]:
            self._problems.append("the ledger differs by what /metrics says")
        if self.kills["backup command"]:
            with self._backing_up(self._program()) as command:
                status = command.wait(LIMIT)
                self._look_at_backup(status)
            if status:
                self._problems.append(f"the last backup failed with status {status}")
        self._verify()
        if self.gateway.stop() != 0:
            self._problems.append("the last stop failed")
        self._read_history()
        self._read_log()

    def _verify(self) -> None:
        """`postroom verify`, beside the gateway."""
        command = [*self._program(), "verify", "--json", "--config", self.gateway.config, "--data", self.gateway.data]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DRAIN)
        if done.returncode:
            said = done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:]
            self._problems.append(f"postroom verify, status {done.returncode}: {said}")

    def _read_history(self) -> None:
        ends: dict[Key, tuple[int, int]] = {}
        again = []
        for subject, recipient, label, outcome in self._rows(
            f"SELECT subject, recipient, label, outcome FROM history WHERE ended > {OLD}"
        ):
            key = (subject, recipient)
            if key in ends:
                again.append(key)
            ends[key] = (label, outcome)
        self._complain("in the history twice", again)
        wrong = [
            key
            for key, (_, outcome) in ends.items()
            if outcome != OUTCOME[Outcome.BOUNCED if key[1].startswith("refused-") else Outcome.DELIVERED]
        ]
        self._complain("ended in another way than the next hop said", wrong)
        acked = {(subject, recipient) for subject in self.load.acked for recipient in recipients_of(subject)}
        self._complain("acknowledged, but not in the history", sorted(acked - ends.keys()))
        self._complain("delivered, but not in the history", sorted(self.fickle.taken.keys() - ends.keys()))
        unlabelled = [key for key in self.fickle.twice if not ends.get(key, (0, 0))[0] & Label.MAYBE_DELIVERED]
        self._complain("delivered twice, and the history does not say so", unlabelled)
        self.labelled = sum(1 for label, _ in ends.values() if label & Label.MAYBE_DELIVERED)

    def _read_log(self) -> None:
        bugs = [line for line in self.gateway.log.read_text().splitlines() if "Traceback" in line or " bug=yes" in line]
        if bugs:
            self._problems.append(f"the log has {len(bugs)} bugs, the first: {bugs[0][:500]}")
