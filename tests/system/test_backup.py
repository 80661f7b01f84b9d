"""`postroom backup` beside a gateway under load, and what a gateway makes of the restored store."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.gateway import Gateway

from postroom.model import Label
from postroom_client import AuthenticationError, Client, Credentials
from tests.system.command import LIMIT, done, run
from tests.system.conftest import Starter, cannot, eventually, need, route_to
from tests.system.receiver import Receiver, Taken, below_received, subject_of
from tests.system.wire import Sender, a_mail

SENDERS = 3
LARGE = 200_000


def body_of(subject: str) -> bytes:
    """Every fourth has a body that is a file of its own."""
    return a_mail(subject, LARGE if int(subject.rpartition("-")[2]) % 4 == 0 else 1500)


class Load:
    """Mail that is delivered at once, and mail whose destination does not answer, until `stop`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.acked: set[str] = set()
        self.problems: list[str] = []
        self._grown = threading.Condition()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n, address)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        with self._grown:
            before = len(self.acked)
            grown = self._grown.wait_for(lambda: len(self.acked) >= before + more or self.problems, LIMIT)
            assert grown, "the load stands still"
            assert not self.problems

    def stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(LIMIT)
        assert not self.problems

    def _send(self, name: int, address: tuple[str, int]) -> None:
        with Sender(address) as sender:
            for number in range(100_000):
                if self._ending.is_set():
                    return
                subject = f"{'parked' if number % 3 == 0 else 'passing'}-{name}-{number}"
                recipient = "carol@parked.example" if number % 3 == 0 else "bob@corp.example"
                reply = sender.mail(body_of(subject), recipient)
                with self._grown:
                    if reply.startswith(b"250 "):
                        self.acked.add(subject)
                    else:
                        self.problems.append(f"{subject}: {reply!r}")
                    self._grown.notify_all()
                if self.problems:
                    return


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that nobody listens at, for as long as the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def parked_at(address: str) -> str:
    return f'\n[[delivery.routes]]\ndomain = "parked.example"\nhost = "{address}"\n'


def rows(database: Path, statement: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def right(taken: Taken) -> bool:
    return below_received(taken.content) == body_of(subject_of(taken.content))


def test_a_backup_under_load_restores_to_what_was_there_at_its_instant(
    starting: Starter, receiver: Receiver, nobody: str, tmp_path: Path
) -> None:
    gateway = starting(parked_at(nobody) + route_to(receiver))
    load = Load(gateway.smtp)
    try:
        load.wait_for(120)
        before = set(load.acked)
        made = done("backup", tmp_path / "copy", "--data", gateway.data)
        load.wait_for(30)  # the gateway has not noticed
    finally:
        load.stop()
    assert made["missingBodies"] == []
    assert made["ledgerDifference"] == 0
    assert [name for name in os.listdir(gateway.data / "bodies") if name.startswith("pins-")] == []

    told = done("restore", tmp_path / "copy", "--data", tmp_path / "new")
    assert told["labelled"] == told["entries"] == made["entries"] > 0
    database = tmp_path / "new" / "postroom.db"
    waiting = {subject for (subject,) in rows(database, "SELECT subject FROM entry")}
    ended = {subject for (subject,) in rows(database, "SELECT subject FROM history")}
    assert before <= waiting | ended, "acknowledged before the backup began, and neither waiting nor ended in it"
    assert not waiting & ended
    assert {subject for subject in before if subject.startswith("parked")} <= waiting

    verified = run("verify", "--data", tmp_path / "new")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    with Receiver(tmp_path / "received again") as again:
        restored = starting(route_to(again), data=tmp_path / "new")
        # Those that would wait longer.
        run("queue", "retry", "--queue", "delivery", "--yes", "--data", tmp_path / "new")
        arrived = again.wait_until(lambda taken: waiting <= {subject_of(one.content) for one in taken}, LIMIT)
        assert arrived, "restored, but never delivered"
        assert all(right(one) for one in again.taken), "delivered with other bytes than were acknowledged"
        eventually(lambda: restored.queued() == 0, "the queue is empty", LIMIT)
        assert restored.metrics()["postroom_ledger_difference"] == 0
        assert restored.stop() == 0
    labels = dict(rows(database, "SELECT subject, label FROM history"))
    assert all(labels[subject] & Label.MAYBE_DELIVERED for subject in waiting)


KILLED = """\
import os, signal, sys
from postroom.store.backup import backup
from postroom.cli import main

def dies(*given):
    os.kill(os.getpid(), signal.SIGKILL)

backup._copy_bodies = dies
main(prog_name="postroom")
"""


def test_a_killed_backup_leaves_no_backup_and_the_next_one_cleans_up(
    starting: Starter, nobody: str, tmp_path: Path
) -> None:
    gateway = starting(parked_at(nobody))
    with Sender(gateway.smtp) as sender:
        assert sender.mail(a_mail("kept", LARGE), "carol@parked.example").startswith(b"250 ")
    copy, bodies = tmp_path / "copies" / "copy", gateway.data / "bodies"
    killed = run("backup", copy, "--data", gateway.data, program=[sys.executable, "-c", KILLED])
    assert killed.returncode == -9
    assert not copy.exists()
    assert [path.name.split("-")[0] for path in copy.parent.iterdir()] == ["copy.partial"]
    assert [name for name in os.listdir(bodies) if name.startswith("pins-")]

    assert done("backup", copy, "--data", gateway.data)["bodies"] == 1
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]
    assert not [name for name in os.listdir(bodies) if name.startswith("pins-")]


def test_a_gateway_removes_the_pins_of_a_killed_backup(starting: Starter, nobody: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    pins = data / "bodies" / "pins-0badc0de"
    pins.mkdir(parents=True)
    (pins / "half").write_text("half")
    starting(parked_at(nobody), data=data)
    eventually(lambda: not pins.exists(), "the pins are gone", LIMIT)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        cannot("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        [need("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        cannot(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("what", ["the bodies", "the database"])
def test_a_backup_to_a_full_disk_says_so_and_leaves_nothing(
    starting: Starter, nobody: str, tiny_disk: Path, what: str
) -> None:
    gateway = starting(parked_at(nobody))
    size, number = (LARGE, 6) if what == "the bodies" else (100_000, 15)
    with Sender(gateway.smtp) as sender:
        for at in range(number):
            assert sender.mail(a_mail(f"kept {at}", size), "carol@parked.example").startswith(b"250 ")
    ended = run("backup", tiny_disk / "copy", "--data", gateway.data)
    assert ended.returncode == 1
    assert "the disk is full: it takes " in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert os.listdir(tiny_disk) == []


def test_a_store_restored_without_its_secrets_key_starts_and_says_what_does_not_work(
    starting: Starter, nobody: str, tmp_path: Path
) -> None:
    gateway = starting(parked_at(nobody))
    first = json.loads((gateway.data / "admin.json").read_text())
    done("backup", tmp_path / "copy", "--data", gateway.data)
    done("restore", tmp_path / "copy", "--data", tmp_path / "new")
    assert listed(gateway, first) == 0

    restored = starting(parked_at(nobody), data=tmp_path / "new")
    assert "applications_unusable number=1 names=administrator" in restored.log.read_text()
    with pytest.raises(AuthenticationError) as refused:
        listed(restored, first)
    assert refused.value.status == 401
    new = done("app", "create", "--name", "again", "--role", "administrator", "--data", tmp_path / "new")
    assert listed(restored, new) == 0
    assert not (tmp_path / "new" / "admin.json").exists(), "the people are still there, with their passwords"


def listed(gateway: Gateway, keys: dict[str, str]) -> int:
    """How many messages the vendor-compatible API shows to an application."""
    host, port = gateway.http
    credentials = Credentials(keys["appId"], keys["appKey"], keys["accessKey"], keys["secretKey"])
    with Client(f"http://{host}:{port}", credentials) as client:
        return len(list(client.find_processing_messages()))
