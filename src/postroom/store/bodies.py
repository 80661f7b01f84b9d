"""Large bodies: one file each, durable before its row exists.

Promises: `put` returns only after the file and its directory are synced, so a row never names bytes that a power cut can
take. A put whose row never came leaves an orphan, collected by upkeep, which never takes one that is `in_flight`. Fails:
EnvironmentFailed naming the file. Names are random, spread over 256 directories made beforehand, so one directory sync is enough.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed, StoreUnusable
from postroom.sealing import make_directory
from postroom.settings import Settings

_OURS = re.compile(r"[0-9a-f]{32}")
INLINE_BODY = 128 * 1024  # bytes; larger ones are files (architecture: accept = one commit below this)


class Bodies:
    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        self.in_flight: set[str] = set()  # put by this process, their row not known to be committed yet
        self.doubtful: set[str] = set()  # of these: the commit failed, which does not prove that it never comes back
        if create:
            try:
                make_directory(root)
                for number in range(256):
                    (root / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
                for directory in (root, root.parent):  # or a power cut could take the directories with what is in them
                    _sync(directory)
            except OSError as problem:
                raise StoreUnusable(
                    f"cannot keep bodies in {root}: {problem.filename}: {problem.strerror}; check [store] bodies, its rights "
                    "and disk"
                ) from problem

    def put(self, data: bytes) -> str:
        """Keep the bytes; the name to find them by."""
        token = secrets.token_hex(16)
        name = f"{token[:2]}/{token}"
        path = self.root / name
        self.in_flight.add(name)  # first: whoever sees the file must find it here, too
        try:
            with open(path, "xb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _sync(path.parent)
        except OSError as problem:
            self.delete(name)
            raise EnvironmentFailed(f"cannot keep a message body at {path}: {problem.strerror}") from problem
        return name

    def path(self, name: str) -> Path:
        if not is_body_name(name):  # a damaged row may say anything, and this name may be deleted
            raise EnvironmentFailed(f"{name!r} is not the name of a message body")
        return self.root / name

    def read(self, name: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except OSError as problem:
            raise EnvironmentFailed(f"cannot read the message body {self.path(name)}: {problem.strerror}") from problem

    def delete(self, name: str) -> None:
        with contextlib.suppress(OSError, EnvironmentFailed):
            self.path(name).unlink(missing_ok=True)
        self.settled(name)

    def settled(self, name: str) -> None:
        """Its row is committed, or will never be."""
        self.in_flight.discard(name)
        self.doubtful.discard(name)

    def doubt(self, name: str) -> None:
        """Its commit failed: upkeep finds out what became of it."""
        self.doubtful.add(name)

    def names(self) -> list[str]:
        """Everything kept here. Only files that are named as `put` names them: others are not ours."""
        return [name for number in range(256) for name in self.names_in(f"{number:02x}")]

    def names_in(self, directory: str, before: Millis | None = None) -> list[str]:
        """What one of the 256 directories holds; `before`: only what was written before this time."""
        names = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / directory) as files:
            for file in files:
                if _OURS.fullmatch(file.name) and file.name.startswith(directory):
                    with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                        if before is None or file.stat().st_mtime * 1000 < before:
                            names.append(f"{directory}/{file.name}")
        return names


def is_body_name(name: object) -> bool:
    """Whether `put` gives such names."""
    if not isinstance(name, str):
        return False
    directory, _, file = name.partition("/")
    return bool(_OURS.fullmatch(file)) and file[:2] == directory


def _sync(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def bodies_path(settings: Settings) -> Path:
    url = settings.store.bodies
    if not url.startswith("file:///"):
        raise StoreUnusable(f"[store] bodies {url!r}: expected file:///DIRECTORY (relative to --data)")
    return Path(settings.data, url.removeprefix("file:///")).absolute()


def body_problem(bodies: Bodies, name: str, size: int) -> tuple[str, bool]:
    """(why this file cannot be the body that was accepted, whether that may be for now only); ("", False) = nothing speaks
    against it. Does not read it."""
    if not is_body_name(name):
        return f"{name}: not the name of a body", False
    path = bodies.path(name)
    try:
        state = os.stat(path)
    except OSError as problem:
        return f"{name}: {problem.strerror}", not (isinstance(problem, FileNotFoundError) and path.parent.is_dir())
    if not stat.S_ISREG(state.st_mode):
        return f"{name}: not a file", False
    return ("", False) if state.st_size == size else (f"{name}: {state.st_size} bytes, accepted were {size}", False)
