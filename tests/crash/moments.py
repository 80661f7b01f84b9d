"""`moments.py MOMENT NTH SPOILED -- serve --data ...`: the real gateway, made to kill itself at a named moment.

The product knows nothing of this: functions are wrapped from outside, statements are watched on their way to SQLite,
and at the NTH pass through the moment the process sends itself SIGKILL. With no moment ("none") it only works at a pace
at which a short run meets everything: checkpoints after some pages, upkeep all the time.

A moment is one line of MOMENTS; add one there, and every run has it. A name that the product no longer has fails the
start.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import re
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import apsw

import postroom.store.bodies
import postroom.store.sqlite.checkpoint
from postroom.http.listener import server as http_server
from postroom.model import Origin
from postroom.rules import lifecycle
from postroom.smtp_in import body as smtp_in_body
from postroom.smtp_in import receive, server
from postroom.smtp_out import connection, pool, session
from postroom.store import store
from postroom.store.backup import backup, pins
from postroom.store.engine import Tx
from postroom.store.keep import upkeep
from postroom.store.queue import apply
from postroom.store.sqlite import connections, engine, search_index, writer
from postroom.work import worker

NONE = "none"
WRITER = "postroom-writer"
CHECKPOINTER = "postroom-checkpoint"
SEARCH = "postroom-search"
STARTER = "MainThread"  # until the writer runs, all SQL is of the start
SPREAD = 0.003  # seconds: about the time of what is to be interrupted


class Fuse:
    """Burns at the NTH call, from whatever thread."""

    def __init__(self, nth: int) -> None:
        self._left = nth
        self._lock = threading.Lock()

    def __call__(self) -> None:
        if self._passed():
            die()

    def soon(self) -> None:
        """The same, but in the middle of what follows."""
        if self._passed():
            threading.Thread(target=_die_within, args=(random.random() * SPREAD,)).start()

    def _passed(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left == 0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_within(seconds: float) -> None:
    time.sleep(seconds)
    die()


# -- where a fuse is laid

Lay = Callable[[Fuse], None]
Where = Callable[..., bool]


def always(*_: Any) -> bool:
    return True


def before(owner: Any, name: str, where: Where = always) -> Lay:
    return lambda fuse: _wrap(
        owner, name, lambda arguments: where(*arguments) and fuse(), lambda arguments, result: None
    )


def after(owner: Any, name: str, where: Where = lambda arguments, result: True) -> Lay:
    return lambda fuse: _wrap(
        owner, name, lambda arguments: None, lambda arguments, result: where(arguments, result) and fuse()
    )


def flushed(owner: Any, name: str) -> Lay:
    """After it, and after the event loop has written what it said."""

    def burn(fuse: Fuse) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_later(0.001, fuse))

    return lambda fuse: _wrap(owner, name, lambda arguments: None, lambda arguments, result: burn(fuse))


def _wrap(owner: Any, name: str, first: Callable[[Any], Any], then: Callable[[Any, Any], Any]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        first(arguments)
        result = original(*arguments, **named)
        then(arguments, result)
        return result

    setattr(owner, name, wrapped)
    handlers = session._HANDLERS  # the session's table was made before this
    session._HANDLERS = tuple([wrapped if handler is original else handler for handler in handlers])


def statement(thread: str, pattern: str, *, amid: bool = False) -> Lay:
    """Before a statement of this thread begins, or `amid` its work."""
    seen = re.compile(pattern)

    def lay(fuse: Fuse) -> None:
        def watch(_cursor: Any, text: str, _values: Any) -> bool:
            if threading.current_thread().name == thread and seen.match(text):
                fuse.soon() if amid else fuse()
            return True

        class Watched(apsw.Connection):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                super().__init__(*arguments, **named)
                self.exec_trace = watch

        apsw.Connection = Watched  # type: ignore[misc]

    return lay


def checkpoint(thread: str, *, amid: bool) -> Lay:
    """In a checkpoint, or when it has just been made."""

    def lay(fuse: Fuse) -> None:
        class Watched(apsw.Connection):
            def wal_checkpoint(self, *arguments: Any, **named: Any) -> tuple[int, int]:
                mine = threading.current_thread().name == thread
                if mine and amid:
                    fuse.soon()
                result = super().wal_checkpoint(*arguments, **named)
                if mine and not amid:
                    fuse()
                return result

        apsw.Connection = Watched  # type: ignore[misc]

    return lay


def body_sync(*, done: bool) -> Lay:
    """A body's file is written: before it is synced, or `done`, when its name is not."""

    def is_body(arguments: tuple[int]) -> bool:
        regular = stat.S_ISREG(os.fstat(arguments[0]).st_mode)
        return regular and "/bodies/" in os.readlink(f"/proc/self/fd/{arguments[0]}")

    if done:
        return after(os, "fsync", lambda arguments, result: is_body(arguments))
    return before(os, "fsync", lambda descriptor: is_body((descriptor,)))


def on_every(*lays: Lay) -> Lay:
    """One fuse at several places: burns at the NTH of them, in the order they are passed."""

    def lay(fuse: Fuse) -> None:
        for one in lays:
            one(fuse)

    return lay


# -- the moments


@dataclass(frozen=True)
class Moment:
    phase: str  # when it is passed: "load", "planted" (load, and much to forget), "start" (of a store with leases), ...
    among: int  # NTH is one of the first so many passes
    lay: Lay


def is_notice(_cursor: Any, _ids: Any, _infos: Any, _tally: Any, news: Any, _next: Any) -> bool:
    return any(new.origin is Origin.NOTICE for new, _ in news)


def unfinished(_arguments: Any, result: int) -> bool:
    return result < 0


MOMENTS: dict[str, Moment] = {
    # a message comes
    "mid-DATA": Moment("load", 30, after(smtp_in_body.BodyReader, "feed", unfinished)),
    "body written, not synced": Moment("load", 4, body_sync(done=False)),
    "body synced, its name not": Moment("load", 4, body_sync(done=True)),
    "body durable, before its row": Moment("load", 4, after(postroom.store.bodies.Bodies, "put")),
    "inside a transaction": Moment("load", 200, statement(WRITER, "")),
    "before commit": Moment("load", 40, statement(WRITER, "COMMIT")),
    "amid commit": Moment("load", 40, statement(WRITER, "COMMIT", amid=True)),
    "after commit, before its answers": Moment("load", 40, before(engine.Sqlite, "_committed")),
    "answers on the loop": Moment("load", 40, before(writer.Writer, "_run_answers")),
    "250 said": Moment("load", 60, flushed(receive._Handover, "kept")),
    # it goes on
    "claim": Moment("load", 4, statement(WRITER, "UPDATE entry SET attempts")),
    "claimed, not begun": Moment("load", 4, before(worker.Worker, "_take")),
    "move to delivery": Moment("load", 4, statement(WRITER, r"UPDATE entry SET queue = \?, info_id")),
    "354 received": Moment("load", 60, before(session.Session, "_on_data")),
    "content on its way": Moment("load", 8, before(connection.Connection, "_body_read")),
    "before the final dot is sent": Moment("load", 4, before(session.Session, "content_sent")),
    "final dot sent": Moment("load", 60, flushed(session.Session, "_await_verdict")),
    "between the remote 250 and its record": Moment("load", 60, before(session.Session, "_on_dot")),
    "result handed to the writer": Moment("load", 60, after(store.Store, "end")),
    "result written, not committed": Moment("load", 40, after(apply, "end")),
    "deferral written, not committed": Moment("load", 8, after(apply, "wait")),
    "bounce: notice accepted, not committed": Moment("load", 2, after(apply, "insert", lambda a, _: is_notice(*a))),
    "body about to be deleted": Moment("load", 4, before(postroom.store.bodies.Bodies, "delete")),
    # beside it
    "checkpoint": Moment("load", 5, checkpoint(CHECKPOINTER, amid=True)),
    "checkpoint made": Moment("load", 5, checkpoint(CHECKPOINTER, amid=False)),
    "checkpoint between transactions": Moment("load", 2, checkpoint(WRITER, amid=True)),
    "history forgotten": Moment("planted", 3, statement(WRITER, "DELETE FROM history")),
    "incremental vacuum": Moment("planted", 1, statement(WRITER, "PRAGMA incremental_vacuum", amid=True)),
    "sweep of infos begun": Moment("planted", 1, before(upkeep, "_delete_unused")),
    "infos deleted": Moment("planted", 2, statement(WRITER, "DELETE FROM info")),
    "counters following": Moment("load", 3, statement(WRITER, "UPDATE counted")),
    "search index being made": Moment("load", 20, statement(SEARCH, "(?!BEGIN|SELECT)")),
    "search index filling": Moment("load", 4, statement(SEARCH, "INSERT INTO ix", amid=True)),
    "search index filled, not committed": Moment("load", 4, after(search_index.Filling, "_note")),
    "search index swept": Moment(
        "load", 2, statement(SEARCH, "DELETE FROM ix|INSERT INTO ix .ix. VALUES .'delete-all", amid=True)
    ),
    "backup command": Moment(
        "backup",
        8,
        on_every(
            before(pins.Pins, "__init__"),
            after(pins.Pins, "__init__"),
            after(pins.Pins, "hold"),
            before(backup, "_copy_database"),
            after(backup, "_copy_database"),
            before(backup, "write_private"),
            before(os, "rename"),
            after(os, "rename"),
            before(pins.Pins, "close"),
        ),
    ),
    # the start and the end
    "start": Moment("start", 30, statement(STARTER, "")),
    "recovery": Moment("start", 3, statement(STARTER, "UPDATE entry")),
    "recovery made, not committed": Moment("start", 1, statement(STARTER, "COMMIT")),
    "recovery committed": Moment("start", 1, after(engine.Sqlite, "prepare")),
    "migration": Moment("migration", 30, statement(STARTER, "")),
    "stop": Moment(
        "stop",
        7,
        on_every(
            before(server.SmtpServer, "stop"),
            before(pool.Pool, "close"),
            before(worker.Worker, "stop"),
            before(http_server.HttpServer, "stop"),
            before(search_index.Filler, "stop"),
            before(writer.Writer, "stop"),
            before(postroom.store.sqlite.checkpoint.Checkpointer, "stop"),
        ),
    ),
}


# -- what a test of the tests needs: a product that breaks its promise


def _without_commit_sync() -> None:
    original = connections.writing

    def writing(path: Any) -> apsw.Connection:
        made = original(path)
        made.execute("PRAGMA synchronous=OFF")
        return made

    connections.writing = writing


def _without_name_sync() -> None:
    postroom.store.bodies._sync = lambda path: None


def _without_body_sync() -> None:
    original = os.fsync
    os.fsync = lambda descriptor: (
        None if "/bodies/" in os.readlink(f"/proc/self/fd/{descriptor}") else original(descriptor)
    )


def _without_labels() -> None:
    lifecycle.lost_lease_label = lambda queue, *, born: 0


def _without_deferred() -> None:
    def wait(tx: Tx, _infos: Any, waited: Any) -> bool:
        tx.run("DELETE FROM entry WHERE id = ?", (waited.entry,))
        return True

    apply.wait = wait


SPOILED: dict[str, Callable[[], None]] = {
    "deferred mail dropped": _without_deferred,
    "labels forgotten": _without_labels,
    "commits not synced": _without_commit_sync,
    "names of bodies not synced": _without_name_sync,
    "bodies not synced": _without_body_sync,
}


PACE: dict[str, float] = {
    "CHECKPOINT_PAGES": 60,
    "RESTART_PAGES": 60,  # so that the writer's own share comes with every checkpoint, however busy the machine is
    "DISK_LOOK": 0.1,  # seconds
    "REAP_EVERY": 0.2,
    "SPARE": 8,  # pages
    "SPARE_SHARE": 1_000_000,
    "SWEEP_EVERY": 0.2,
    "GROWN_MUCH": 1,  # texts
    "ORPHANS_EVERY": 0.5,
    "search_index.IDLE": 0.05,
    "search_index.ENDED_LEAST": 1,
    "ORPHAN_AGE": 100,  # milliseconds; what is under way is known as such
}


def at_test_pace() -> None:
    """Rare things come often; nothing else differs."""
    for place, value in PACE.items():
        module, _, name = place.rpartition(".")
        homes = [
            home
            for called, home in sys.modules.items()
            if called.startswith("postroom.") and called.endswith(module) and hasattr(home, name)
        ]
        assert homes, f"no module has {place} any more"
        for home in homes:
            setattr(home, name, value)
    filler = search_index.Filler.__init__
    assert filler.__kwdefaults__ is not None
    filler.__kwdefaults__["behind"] = 0.02  # seconds until an entry is taken in


def main() -> None:
    name, nth, spoiled, border, *arguments = sys.argv[1:]
    assert border == "--", sys.argv
    importlib.import_module("postroom.app")  # the command line loads it later, when its constants can still be changed
    at_test_pace()
    if spoiled != NONE:
        SPOILED[spoiled]()
    if name != NONE:
        MOMENTS[name].lay(Fuse(int(nth)))
    from postroom.cli import main as command_line

    command_line(arguments)


if __name__ == "__main__":
    main()
