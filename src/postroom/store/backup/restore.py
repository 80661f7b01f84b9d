"""`postroom restore`: a store from a backup, at a place where there is none.

Promises: nothing is written before every file of the backup has been found sound; the database gets its name last, when
everything it needs is synced. Whatever waits in the restored store may have been delivered after the backup was taken,
so each entry is labelled "may have been delivered", its lease is ended, and its timeline says so; with `hold` each
waits for a person. The ledger stays as it was: nothing is created, nothing ends.
Fails: EnvironmentFailed with what is wrong and the remedy; what an interrupted restore left is overwritten by the next
one from the same backup.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from postroom.clock import Clock, Millis
from postroom.errors import EnvironmentFailed, StoreUnusable
from postroom.model import Action, Label, Queue
from postroom.sealing import make_directory, sync_directory
from postroom.settings import Settings
from postroom.store import codes
from postroom.store.backup import manifest
from postroom.store.backup.manifest import BODIES, DATABASE, SECRETS, Manifest
from postroom.store.bodies import Bodies, bodies_path
from postroom.store.engine import FAILURE, Tx, named
from postroom.store.find.reader import Reader
from postroom.store.logs import audit
from postroom.store.plans.book import DONE
from postroom.store.queue.apply import Infos
from postroom.store.sqlite import copying
from postroom.store.sqlite.connections import database_path, lock_directory

SLICE = 10_000  # entries of one transaction
_REMAINS = ("-wal", "-shm", "-journal")
_CANNOT_WRITE: tuple[type[Exception], ...] = (OSError, *FAILURE)

Progress = Callable[[int, int], None]


class Restored(msgspec.Struct, frozen=True, rename="camel"):
    """What came back."""

    data: str
    taken_at: str
    entries: int
    labelled: int
    held: int  # of them, those that wait for a person
    bodies: int
    missing_bodies: tuple[str, ...]
    secrets: bool
    ledger_difference: int


def restore(
    backup: Path, settings: Settings, *, clock: Clock, hold: bool, actor: str,
    progress: Progress = lambda done, total: None,
) -> Restored:  # fmt: skip
    """Make the store that `settings` name from the directory `backup`."""
    found = manifest.read(backup)
    newest = copying.newest_schema()
    if found.schema > newest:
        raise EnvironmentFailed(
            f"{backup} has schema {found.schema}, this Postroom knows up to {newest}: "
            f"it was made by release {found.release}; restore it with that one or a later one"
        )
    database, bodies = database_path(settings), bodies_path(settings)
    total = 2 * found.bytes
    _verify(backup, found, lambda done: progress(done, total))
    with _target(settings, database, bodies, found, backup):
        aside = database.with_name(f"{database.name}.restoring")
        try:
            _copy(backup, found, Path(settings.data), aside, bodies, lambda done: progress(found.bytes + done, total))
            labelled, held, difference = _label(aside, clock.now(), found, hold=hold, actor=actor)
            _take_name(aside, database)
        except _CANNOT_WRITE as problem:
            why = getattr(problem, "strerror", None) or str(problem)
            raise EnvironmentFailed(f"cannot write the restored store at {database.parent}: {why}") from problem
        finally:
            _remove(aside)
    return Restored(
        settings.data, found.taken_at, found.entries, labelled, held, found.bodies, found.missing_bodies, found.secrets,
        difference,
    )  # fmt: skip


def _verify(backup: Path, found: Manifest, progress: Callable[[int], None]) -> None:
    damaged = []
    done = 0
    for file in found.files:
        try:
            if manifest.hash_of(backup / file.path) != (file.size, file.sha256):
                damaged.append(f"{file.path}: its bytes are not those that were written")
        except OSError as problem:
            damaged.append(f"{file.path}: {problem.strerror}")
        done += file.size
        progress(done)
    if damaged:
        more = f" (and {len(damaged) - 5} more)" if len(damaged) > 5 else ""
        raise EnvironmentFailed(
            f"the backup {backup} is damaged, nothing was restored: {'; '.join(damaged[:5])}{more}; take another backup"
        )


# -- the place


@contextmanager
def _target(settings: Settings, database: Path, bodies: Path, found: Manifest, backup: Path) -> Iterator[None]:
    """The place, made and locked, so that no gateway starts there meanwhile. Refused when it holds parts of a store."""
    for path in (database, *(database.with_name(database.name + ending) for ending in _REMAINS)):
        if path.exists():
            raise StoreUnusable(
                f"there is a store at {path} already: stop its gateway and move {path.parent} away, "
                "or give another --data"
            )
    key = Path(settings.data, SECRETS)
    if found.secrets and key.exists() and key.read_bytes() != (backup / SECRETS).read_bytes():
        raise StoreUnusable(f"there is another secrets key at {key}: move it away, or give another --data")
    known = {file.path for file in found.files}
    foreign = [name for name in Bodies(bodies, create=False).names() if f"{BODIES}/{name}" not in known]
    if foreign:
        raise StoreUnusable(
            f"{bodies} holds {len(foreign)} bodies of another store: move it away, or give another --data"
        )
    locks: list[int] = []
    try:
        for directory in (Path(settings.data), database.parent):
            make_directory(directory)
        Bodies(bodies)
        locks = [lock_directory(directory) for directory in {database.parent, bodies}]
        yield
    except OSError as problem:
        raise EnvironmentFailed(f"cannot make the store's place at {database.parent}: {problem.strerror}") from problem
    finally:
        for lock in locks:
            os.close(lock)


def _copy(
    backup: Path, found: Manifest, data: Path, aside: Path, bodies: Path, progress: Callable[[int], None]
) -> None:
    """Every file, synced. The database only under a name that no gateway opens."""
    _remove(aside)
    done = 0
    directories = {data, bodies, *(bodies / f"{number:02x}" for number in range(256))}
    for file in found.files:
        if file.path == DATABASE:
            path = aside
        elif file.path == SECRETS:
            path = data / SECRETS
        else:
            path = bodies / file.path.removeprefix(f"{BODIES}/")
        path.unlink(missing_ok=True)
        _copy_file(backup / file.path, path)
        if manifest.hash_of(path) != (file.size, file.sha256):
            raise EnvironmentFailed(
                f"{path} is not what was written: the disk below {path.parent} does not keep what it is given"
            )
        done += file.size
        progress(done)
    for directory in directories:
        sync_directory(directory)


def _copy_file(source: Path, path: Path) -> None:
    with open(source, "rb") as file, open(path, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as copy:
        while piece := file.read(manifest.PIECE):
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())


def _take_name(aside: Path, database: Path) -> None:
    descriptor = os.open(aside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(aside, database)
    sync_directory(database.parent)


def _remove(aside: Path) -> None:
    for ending in ("", *_REMAINS):
        with contextlib.suppress(OSError):
            aside.with_name(aside.name + ending).unlink(missing_ok=True)


# -- what waits in it


def _label(database: Path, now: Millis, found: Manifest, *, hold: bool, actor: str) -> tuple[int, int, int]:
    """(entries labelled, entries that wait for a person now, the ledger's difference)."""
    with copying.opened(database) as tx:
        tx.run(_SESSIONS_END)  # one that was ended after the instant must not come back
        tx.run(_TOKENS_END)
        after = labelled = 0
        while ids := [ident for (ident,) in tx.rows(_IDS, {"after": after, "size": SLICE})]:
            _label_slice(tx, ids[0], ids[-1], now, found.taken_at, hold=hold, actor=actor)
            after = ids[-1]
            labelled += len(ids)
        created, ended, queued = Reader(tx).ledger()
        held = int(tx.rows(_COUNT_HELD, {"held": _HELD})[0][0])
        audit.add(tx, at=now, actor=actor, kind="store.restore", detail=f"as it was at {found.taken_at}")
    return labelled, held, sum(created.values()) - sum(ended.values()) - queued


_HELD = codes.QUEUE[Queue.HELD]
_SESSIONS_END = named("backup.end_sessions", "DELETE FROM console_session")
_TOKENS_END = named("backup.end_tokens", "DELETE FROM oauth_token")
_IDS = named("backup.ids", "SELECT id FROM entry WHERE id > :after ORDER BY id LIMIT :size")
_COUNT_HELD = named("backup.count_held", "SELECT count(*) FROM entry WHERE queue = :held")
_FREE = named(
    "backup.free",
    "UPDATE entry SET label = label | :label, next_attempt = CASE WHEN lease IS NULL THEN next_attempt ELSE :now END, "
    "locked_until = NULL, lease = NULL, strikes = 0 WHERE id BETWEEN :first AND :last",
)
# What a plan was about to end may have been undone since: it is held, and can go back to the queue it was in before.
_BEFORE = (
    "coalesce((SELECT CASE p.queue WHEN :held THEN p.from_queue ELSE p.queue END FROM plan AS q JOIN plan_entry AS p "
    "ON p.plan = q.id AND p.entry = entry.id WHERE q.state IN ('applying', 'applied', 'undoing', 'ending') "
    "AND p.state = :done ORDER BY q.id DESC LIMIT 1), :processing)"
)
_HOLD = named(
    "backup.hold",
    "UPDATE entry SET queue = :held, info_id = :info, "
    f"from_queue = CASE queue WHEN :leaving THEN {_BEFORE} ELSE queue END "
    "WHERE id BETWEEN :first AND :last AND queue <> :held "
    "AND (:hold OR queue = :leaving OR request IN (:asked, :refused))",
)
_FORGET_REQUESTS = named("backup.forget_requests", "UPDATE entry SET request = NULL WHERE id BETWEEN :first AND :last")
_TELL = named(
    "backup.tell",
    "INSERT INTO event (entry_id, at, kind, queue, info_id, actor) "
    "SELECT id, :now, 'restored', queue, :info, :actor FROM entry WHERE id BETWEEN :first AND :last",
)


def _label_slice(tx: Tx, first: int, last: int, now: Millis, taken_at: str, *, hold: bool, actor: str) -> None:
    within = {"first": first, "last": last}
    with tx.snapshot():
        info = Infos().id(tx, f"Restored from a backup taken at {taken_at}: may have been delivered since")
        tx.run(_FREE, {"label": int(Label.MAYBE_DELIVERED), "now": now, **within})
        # What a person asked for while the entry was worked on is not forgotten: they see it in held, and decide again.
        tx.run(
            _HOLD,
            {
                "held": _HELD, "leaving": codes.LEAVING, "processing": codes.QUEUE[Queue.PROCESSING], "done": DONE,
                "info": info, "hold": hold, "asked": codes.ACTION[Action.HOLD],
                "refused": codes.ACTION[Action.REJECT], **within,
            },
        )  # fmt: skip
        tx.run(_FORGET_REQUESTS, within)
        tx.run(_TELL, {"now": now, "info": info, "actor": actor, **within})
