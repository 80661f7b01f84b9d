"""A damaged store: one clear error with the remedy, or the affected entry is held and shown and the rest goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bench.gateway import Gateway

from postroom import facts
from postroom.model import Client, Recipient, Route
from postroom.settings import Settings
from postroom.store.damage import BODY_GONE, ENTRY_UNREADABLE, UNREADABLE
from postroom.store.records import NewMessage
from postroom.store.store import open_store
from tests.store.conftest import accepted
from tests.system.conftest import SETTINGS, Starter, eventually, route_to
from tests.system.receiver import Receiver, subject_of
from tests.system.wire import Sender, a_mail

PAUSED = "\n[processing]\npaused = true\n"
POSTROOM = Path(sys.executable).with_name("postroom")


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    return subprocess.run([POSTROOM, *words], capture_output=True, text=True, env=environment, timeout=120)


def verified(data: Path, *words: str, exit_code: int = 0) -> dict[str, Any]:
    done = run("verify", "--data", data, "--json", *words)
    assert done.returncode == exit_code, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


# -- a store that cannot be opened


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one small and one large mail."""
    data = tmp_path_factory.mktemp("sound") / "data"
    store = open_store(Settings(data=str(data)))
    try:
        for content in (a_mail("small"), a_mail("large", 200_000)):
            found = facts.scan(content)
            name = store.bodies.put(content) if len(content) > 128 * 1024 else ""
            accepted(
                store,
                NewMessage(
                    Client(ip="127.0.0.1"), "alice@corp.example", (Recipient("bob@corp.example", Route.INTERNAL),),
                    found,
                    len(content), 1, None if name else content, name, sha256(content[found.body_at :]).digest(),
                ),
            )  # fmt: skip
    finally:
        store.close()
    return data


def _schema(number: int) -> Callable[[Path], None]:
    def change(data: Path) -> None:
        with contextlib.closing(sqlite3.connect(data / "postroom.db")) as database:
            database.execute(f"PRAGMA user_version={number}")

    return change


def _of_something_else(data: Path) -> None:
    (data / "postroom.db").unlink()
    shutil.rmtree(data / "bodies")
    with contextlib.closing(sqlite3.connect(data / "postroom.db")) as database:
        database.execute("CREATE TABLE songs (title TEXT)")


def _directory(data: Path) -> None:
    (data / "postroom.db").unlink()
    (data / "postroom.db").mkdir()


def _gone(data: Path) -> None:
    (data / "postroom.db").unlink()


def _truncate(size: int) -> Callable[[Path], None]:
    return lambda data: os.truncate(data / "postroom.db", size)


def _scribble(data: Path) -> None:
    with (data / "postroom.db").open("r+b") as file:
        file.write(b"this is no database, and never was one: ")


def _log_is_a_directory(data: Path) -> None:
    (data / "postroom.db-wal").mkdir()


def _bodies_are_a_file(data: Path) -> None:
    shutil.rmtree(data / "bodies")
    (data / "bodies").write_text("")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_schema(9999), ["has schema 9999", "newer release", "start that release, or restore a backup"]),
        (_of_something_else, ["is an SQLite file of something else", "give another --data or [store] url"]),
        (_directory, ["is a directory", "[store] url"]),
        (_truncate(0), ["is empty", "message bodies", "restore a backup"]),
        (_gone, ["is gone", "1 message bodies", "restore a backup"]),
        (_truncate(8 * 4096), ["the store is damaged", "restore a backup", ".recover"]),
        (_truncate(50), ["postroom.db", "restore"]),
        (_scribble, ["is not a Postroom store", "restore it from a backup"]),
        (_log_is_a_directory, ["postroom.db-wal", "Is a directory", "check its rights and disk"]),
        (_bodies_are_a_file, ["cannot keep bodies in", "check [store] bodies"]),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) else value[0],
)
def test_a_store_that_cannot_be_used_is_named_with_the_remedy_and_left_alone(
    sound: Path, tmp_path: Path, spoil: Callable[[Path], None], says: list[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(sound, data)
    spoil(data)
    before = contents(data)
    done = run("serve", "--data", data, "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("postroom: ")
    assert [words for words in says if words not in lines[0]] == [], lines[0]
    after = contents(data)
    assert {name: content for name, content in after.items() if name in before} == before, "it was changed all the same"


def contents(data: Path) -> dict[str, bytes]:
    """What a refusal may not change (it may make directories, the lock and a secrets key)."""
    return {path.name: path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize(
    ("setting", "says"),
    [('url = "mysql://localhost/mail"', "sqlite:///"), ('bodies = "ftp://localhost/mail"', "file:///")],
)
def test_an_address_of_no_store_is_refused_with_what_was_expected(tmp_path: Path, setting: str, says: str) -> None:
    config = tmp_path / "postroom.toml"
    config.write_text(f"[store]\n{setting}\n")
    for command in (("serve",), ("verify",)):
        done = run(*command, "--config", config, "--data", tmp_path / "data")
        assert done.returncode in (1, 2)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_commands_say_the_same_of_a_damaged_store(sound: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(sound, data)
    os.truncate(data / "postroom.db", 8 * 4096)
    for command in (("verify",), ("queue", "list")):
        done = run(*command, "--data", data)
        assert done.returncode == 1
        assert "the store is damaged" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_damaged_log_is_not_taken_for_an_empty_one(starting: Starter) -> None:
    """After a kill only the log has the acknowledged mail; SQLite would skip a log whose header it does not know."""
    gateway = starting(PAUSED)
    with Sender(gateway.smtp) as sender:
        assert sender.mail(a_mail("acknowledged"), "bob@corp.example").startswith(b"250 ")
    gateway.kill()
    log = gateway.data / "postroom.db-wal"
    whole = log.read_bytes()
    log.write_bytes(b"\0\1\2\3" + whole[4:])
    done = run(
        "serve", "--config", gateway.config, "--data", gateway.data, "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0"
    )
    assert done.returncode == 1
    assert "postroom.db-wal is damaged" in done.stderr
    assert log.read_bytes()[4:] == whole[4:]
    log.write_bytes(whole)
    gateway.start()
    assert gateway.queued() == 1
    assert verified(gateway.data)["counts"] == {}


# -- damage in the store of a gateway that serves


def test_what_cannot_be_read_is_held_and_shown_and_everything_else_is_delivered(
    starting: Starter, receiver: Receiver
) -> None:
    gateway = starting(PAUSED + route_to(receiver))
    names = ["gone", "half-written", "no bytes", "no recipient", "no sender", "sound", "sound and large"]
    with Sender(gateway.smtp) as sender:
        for name in names:
            size = 200_000 if name in ("gone", "half-written", "sound and large") else 2_000
            assert sender.mail(a_mail(name, size), "bob@corp.example").startswith(b"250 ")
    assert gateway.stop() == 0
    with contextlib.closing(sqlite3.connect(gateway.data / "postroom.db", isolation_level=None)) as database:
        ids = dict(database.execute("SELECT subject, id FROM entry").fetchall())
        files = dict(database.execute("SELECT subject, body_object FROM message").fetchall())
        database.execute("DELETE FROM body WHERE message_id = ?", (ids["no bytes"],))
        database.execute("UPDATE entry SET recipient = CAST(x'ff40' AS TEXT) WHERE id = ?", (ids["no recipient"],))
        database.execute("UPDATE message SET env_from = CAST(x'ff40' AS TEXT) WHERE id = ?", (ids["no sender"],))
    (gateway.data / "bodies" / files["gone"]).unlink()
    os.truncate(gateway.data / "bodies" / files["half-written"], 150_000)

    gateway.config.write_text(SETTINGS + route_to(receiver))
    gateway.start()
    assert receiver.wait_until(lambda taken: len(taken) >= 2, 60)
    eventually(lambda: gateway.metrics()['postroom_queue_entries{queue="held"}'] == 5, "the five are held", 60)
    eventually(lambda: gateway.queued() == 5, "the others have left", 60)
    assert {subject_of(one.content) for one in receiver.taken} == {"sound", "sound and large"}
    assert gateway.metrics()["postroom_unreadable_total"] == 5
    log = gateway.log.read_text()
    assert log.count(" error message_unreadable ") == 4
    assert log.count(" error entry_unreadable ") == 1
    assert "accepted were" in log

    listed = run("queue", "list", "--queue", "held", "--json", "--data", gateway.data)
    shown = {entry["subject"]: entry["info"] for entry in json.loads(listed.stdout)}
    assert shown == {
        "gone": BODY_GONE, "half-written": BODY_GONE, "no bytes": UNREADABLE, "no recipient": ENTRY_UNREADABLE,
        "no sender": UNREADABLE,
    }  # fmt: skip
    every = [format(ids[name], "x") for name in shown]
    assert run("queue", "show", *every, "--data", gateway.data).returncode == 0
    found = verified(gateway.data, exit_code=1)
    assert {"entry-text", "message-text"} <= set(found["counts"])
    assert found["serving"]
    repaired = verified(gateway.data, "--repair")
    assert repaired["ok"]
    assert verified(gateway.data)["wrong"] == 0
    assert gateway.metrics()["postroom_ledger_difference"] == 0
    assert gateway.queued() == 5, "a repair lost something"


# -- a proof while the queue moves


class Load:
    """Senders that go on until they are told to stop; every message must be taken."""

    def __init__(self, gateway: Gateway, senders: int) -> None:
        self._address = gateway.smtp
        self._ending = threading.Event()
        self.sent = 0
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(senders)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(60)
        assert self.problems == []

    def _send(self, number: int) -> None:
        try:
            with Sender(self._address) as sender:
                for serial in range(3_000):
                    if self._ending.is_set():
                        return
                    size = 150_000 if serial % 20 == 0 else 2_000
                    many = [f"r{one}@corp.example" for one in range(1 + serial % 3)]
                    reply = sender.mail(a_mail(f"load {number} {serial}", size), *many)
                    if not reply.startswith(b"250 "):
                        self.problems.append(repr(reply))
                        return
                    with self._lock:
                        self.sent += 1
        except OSError as problem:
            self.problems.append(repr(problem))


def test_nothing_looks_wrong_while_a_gateway_takes_and_delivers_mail(starting: Starter, receiver: Receiver) -> None:
    gateway = starting(route_to(receiver))
    with Load(gateway, 3) as load:
        eventually(lambda: load.sent > 20 or bool(load.problems), "mail flows", 60)
        for words in ((), ("--deep",), ("--repair",)):
            report = verified(gateway.data, *words)
            assert report["serving"]
            assert report["ok"], report["findings"]
            assert report["repaired"] == 0, report["findings"]
            sent = load.sent
            eventually(lambda before=sent: load.sent > before or bool(load.problems), "mail still flows", 60)
    eventually(lambda: gateway.queued() == 0, "everything is delivered", 120)
    report = verified(gateway.data)
    assert report["counts"] == {}
    assert report["rows"] > load.sent, "the history was not looked at"
