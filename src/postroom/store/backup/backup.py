"""`postroom backup`: the store as it was at one instant, taken while a gateway serves it.

The database is copied from a connection whose read transaction is open from the first page to the last, so that no
writer can make the copy begin again. Bodies are pinned (pins.py) before the transaction and again after it, until every
body that the snapshot names is held. Everything is written into a directory beside the target, synced, and renamed at
the end.

Promises: a directory with the target's name is a complete backup. The backup does not wait for the gateway's writer,
and the writer waits only for the milliseconds of a last attempt to pin bodies that come and go too fast. A backup that
is killed at any time leaves no target, and the next run removes what it left.
Fails: EnvironmentFailed with the place and the remedy; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from postroom import __version__
from postroom.clock import Clock, Millis
from postroom.errors import EnvironmentFailed
from postroom.sealing import make_directory, sync_directory, write_private
from postroom.store.backup import manifest
from postroom.store.backup.manifest import BODIES, DATABASE, PIECE, SECRETS, File, Manifest
from postroom.store.backup.pins import Pins
from postroom.store.engine import FAILURE, FULL, Tx, named
from postroom.store.find.reader import Reader
from postroom.store.logs import audit
from postroom.store.sqlite import copying
from postroom.store.sqlite.copying import Source
from postroom.store.store import Store
from postroom.telemetry import stamp

TRIES = 5  # to pin what the snapshot names without stopping the writer
SYNC_AT_ONCE = 64  # body files written before they are synced together
_OBJECTS = named("backup.objects", "SELECT body_object FROM message WHERE body_object <> ''")
_MESSAGES = named("backup.messages", "SELECT count(*) FROM message")
_HISTORY = named("backup.history", "SELECT count(*) FROM history")
_CANNOT_WRITE: tuple[type[Exception], ...] = (OSError, *FULL)

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)


def back_up(
    store: Store, target: Path, *, clock: Clock, key: Path | None = None, progress: Progress = lambda done, total: None
) -> Manifest:
    """Write a backup of the store to the directory `target`. `key`: the secrets key, when it is to be in it."""
    target = target.resolve()
    with _partial(target) as place, Pins(store.bodies) as pins:
        source = Source(store.path)
        try:
            instant, missing = _snapshot(store, source, pins, clock)
            made = _write(source, place, pins, key, instant, missing, progress)
        finally:
            source.close()
        try:
            os.rename(place, target)
            sync_directory(target.parent)
        except OSError as problem:
            raise EnvironmentFailed(f"cannot give the backup its name {target}: {problem.strerror}") from problem
    return made


def add_to_audit(tx: Tx, target: Path, *, at: Millis, actor: str, with_key: bool) -> None:
    """The line in the audit log of the store that was backed up."""
    detail = "with the secrets key" if with_key else ""
    audit.add(tx, at=at, actor=actor, kind="store.backup", what=str(target), detail=detail)


# -- one instant


def _snapshot(store: Store, source: Source, pins: Pins, clock: Clock) -> tuple[Millis, tuple[str, ...]]:
    """Open the transaction that is copied and pin every body it names: (its instant, bodies that were lost already)."""
    pins.hold(store.bodies.names())  # nearly all of them, while there is no hurry
    for _ in range(TRIES):
        instant, gone = _try(source, pins, clock)
        if not gone:
            return instant, ()
        source.let_go()
        pins.hold(store.bodies.names())
    # Mail passes faster than we look. Bodies are deleted only after the commit that ends their message: while we hold
    # the write lock, what a snapshot names stays where it is, unless it was gone before.
    instant, gone = store.write_now(lambda _tx: _try(source, pins, clock))
    return instant, tuple(gone)


def _try(source: Source, pins: Pins, clock: Clock) -> tuple[Millis, list[str]]:
    source.hold()
    names = _objects(source)  # the first read: the snapshot is this instant
    instant = clock.now()
    return instant, pins.hold(names)


def _objects(source: Source) -> list[str]:
    return [name for (name,) in source.tx.rows(_OBJECTS)]


# -- writing


def _write(
    source: Source, place: Path, pins: Pins, key: Path | None, instant: Millis, missing: Sequence[str],
    progress: Progress,
) -> Manifest:  # fmt: skip
    names = [name for name in _objects(source) if name in pins.sizes]
    size = source.size()
    total = size + sum(pins.sizes[name] for name in names)
    try:
        _copy_database(source, place / DATABASE, lambda done: progress(done, total))
        files = [_listed(place, DATABASE)]
        if key is not None:
            _copy_key(key, place / SECRETS)
            files.append(_listed(place, SECRETS))
        lost, done = list(missing), size
        for file in _copy_bodies(names, pins, place / BODIES, lost):
            files.append(file)
            done += file.size
            progress(done, total)
        made = _described(source, files, instant, lost, with_key=key is not None)
        write_private(place / manifest.NAME, manifest.encode(made))
        for directory in {path.parent for path in place.rglob("*")}:
            sync_directory(directory)
    except _CANNOT_WRITE as problem:
        raise _unwritten(place, problem, total) from problem
    except FAILURE as problem:
        raise EnvironmentFailed(f"the database could not be copied to {place}: {problem}") from problem
    return made


def _copy_database(source: Source, path: Path, done: Callable[[int], None]) -> None:
    """Page by page, then checked: a backup that is damaged must not look like a sound one."""
    source.copy(path, done)
    os.chmod(path, 0o600)
    _sync_file(path)
    if found := copying.flaw(path):
        raise EnvironmentFailed(f"the store is damaged ({found}): postroom verify says more; an older backup is whole")


def _copy_key(key: Path, path: Path) -> None:
    try:
        data = key.read_bytes()
    except OSError as problem:
        raise EnvironmentFailed(f"cannot read the key file {key}: {problem.strerror}") from problem
    write_private(path, data)


def _copy_bodies(names: Sequence[str], pins: Pins, place: Path, lost: list[str]) -> Iterator[File]:
    """Copy each body; it is yielded when it is synced. What cannot be read is added to `lost`."""
    place.mkdir(mode=0o700)
    for at in range(0, len(names), SYNC_AT_ONCE):
        copied: list[tuple[Path, File]] = []
        for name in names[at : at + SYNC_AT_ONCE]:
            path = place / name
            path.parent.mkdir(exist_ok=True, mode=0o700)
            file = _copied(pins.path(name), path, f"{BODIES}/{name}")
            if file is None:
                lost.append(name)
            else:
                copied.append((path, file))
        for path, _ in copied:  # together: the first sync writes most of the others' bytes as well
            _sync_file(path)
        yield from (file for _, file in copied)


def _copied(body: Path, path: Path, listed: str) -> File | None:
    """None: its bytes cannot be read. The database still has what its header said."""
    found, size = sha256(), 0
    with open(path, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as copy:
        try:
            for piece in _pieces(body):
                found.update(piece)
                size += len(piece)
                _put(copy.fileno(), piece)
        except _Unwritable as problem:
            raise problem.why from None
        except OSError:
            path.unlink()
            return None
    return File(listed, size, found.hexdigest())


def _pieces(body: Path) -> Iterator[bytes]:
    with open(body, "rb", buffering=0) as source:
        while piece := source.read(PIECE):
            yield piece


class _Unwritable(Exception):
    """Tells a failing target from a failing source."""

    def __init__(self, why: OSError) -> None:
        self.why = why


def _put(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as problem:
        raise _Unwritable(problem) from problem


def _described(
    source: Source, files: Sequence[File], instant: Millis, lost: Sequence[str], *, with_key: bool
) -> Manifest:
    created, ended, queued = Reader(source.tx).ledger()
    messages, history = [int(source.tx.rows(statement)[0][0]) for statement in (_MESSAGES, _HISTORY)]
    return Manifest(
        format=manifest.FORMAT, release=__version__, schema=source.schema(), instant=instant,
        taken_at=stamp(instant), entries=queued, messages=messages, history=history,
        bodies=sum(manifest.is_body(file.path) for file in files), bytes=sum(file.size for file in files),
        ledger_difference=sum(created.values()) - sum(ended.values()) - queued, secrets=with_key,
        missing_bodies=tuple(lost), files=tuple(files),
    )  # fmt: skip


def _listed(place: Path, name: str) -> File:
    size, digest = manifest.hash_of(place / name)
    return File(name, size, digest)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritten(place: Path, problem: Exception, total: int) -> EnvironmentFailed:
    full = isinstance(problem, FULL) or getattr(problem, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
    why = getattr(problem, "strerror", None) or str(problem)
    with contextlib.suppress(OSError):
        if full:
            state = os.statvfs(place)
            free = state.f_bavail * state.f_frsize + sum(path.stat().st_size for path in place.rglob("*"))
            why = f"the disk is full: it takes {(total >> 20) + 1} MiB, there were {free >> 20} MiB free"
    return EnvironmentFailed(f"cannot write the backup below {place.parent}: {why}")


# -- the directory


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """An empty directory beside the target; gone at the end unless it was renamed."""
    _check_target(target)
    with contextlib.ExitStack() as held:
        try:
            make_directory(target.parent)
            _remove_left_overs(target)
            place = target.with_name(f"{target.name}.partial-{secrets.token_hex(4)}")
            place.mkdir(mode=0o700)
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # while it is locked, it is not a left-over
        except OSError as problem:
            raise EnvironmentFailed(f"cannot write the backup beside {target}: {problem.strerror}") from problem
        held.callback(shutil.rmtree, place, ignore_errors=True)
        yield place


def _check_target(target: Path) -> None:
    try:
        if any(target.iterdir()):
            raise EnvironmentFailed(f"{target} is not empty: give a directory that is not there yet")
    except FileNotFoundError:
        pass
    except NotADirectoryError as problem:
        raise EnvironmentFailed(f"{target} is a file: give a directory that is not there yet") from problem
    except OSError as problem:
        raise EnvironmentFailed(f"cannot look at {target}: {problem.strerror}") from problem


def _remove_left_overs(target: Path) -> None:
    """What a run for the same target left when it was killed."""
    for place in target.parent.glob(f"{_literal(target.name)}.partial-????????"):
        with contextlib.suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(descriptor)


def _literal(name: str) -> str:
    """For a glob: brackets, stars and question marks as themselves."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def as_json(made: Manifest) -> dict[str, object]:
    """For programs, without the list of files."""
    found: dict[str, object] = msgspec.to_builtins(made)
    del found["files"]
    return found
