"""Large bodies: one file each, on the disk before its row exists.

Promises: `put` returns only after the file and its directory are synced, so no row names bytes that a power cut can
take. A file whose row never came is an orphan; upkeep deletes it, but never while it is `in_flight`. Names are random
and spread over 256 directories that exist beforehand, so that syncing one directory is enough. Fails:
EnvironmentFailed, with the name of the file.
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
INLINE_BODY = 128 * 1024  # bytes; smaller bodies are in the database, so that one commit accepts a message


class Bodies:
    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        self.in_flight: set[str] = set()  # written by this process; the commit of their row is not known yet
        self.doubtful: set[str] = set()  # those whose commit failed; it may still reappear after a crash
        if create:
            try:
                make_directory(root)
                for number in range(256):
                    (root / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
                for directory in (root, root.parent):  # so that a power cut cannot take the directories
                    _sync(directory)
            except OSError as problem:
                raise StoreUnusable(
                    f"cannot keep bodies in {root}: {problem.filename}: {problem.strerror}; check [store] bodies, its "
                    "rights and disk"
                ) from problem

    def put(self, data: bytes) -> str:
        """Store the bytes. Returns their name."""
        token = secrets.token_hex(16)
        name = f"{token[:2]}/{token}"
        path = self.root / name
        self.in_flight.add(name)  # first: upkeep must find it here once it sees the file
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
        if not is_body_name(name):  # a damaged row may say anything, and this file may be deleted
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
        """The row is committed, or will never be."""
        self.in_flight.discard(name)
        self.doubtful.discard(name)

    def doubt(self, name: str) -> None:
        """The commit failed: upkeep finds out whether the row exists."""
        self.doubtful.add(name)

    def names(self) -> list[str]:
        """All bodies: files named as `put` names them. Other files are not ours."""
        return [name for number in range(256) for name in self.names_in(f"{number:02x}")]

    def names_in(self, directory: str, before: Millis | None = None) -> list[str]:
        """The bodies in one of the 256 directories; `before`: only those written before this time."""
        names = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / directory) as files:
            for file in files:
                if _OURS.fullmatch(file.name) and file.name.startswith(directory):
                    with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                        if before is None or file.stat().st_mtime * 1000 < before:
                            names.append(f"{directory}/{file.name}")
        return names


def is_body_name(name: object) -> bool:
    """Whether `put` could have given this name."""
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
    """Why this file cannot be the body that was accepted, and whether that may be only for now; ("", False) if it looks
    right. Does not read the file."""
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
