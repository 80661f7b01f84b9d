"""Protects bodies from deletion while a backup copies them: hard links in a directory of their own in the bodies' root.

Promises: what is pinned can be read until `close`, whatever the gateway deletes meanwhile. One backup runs at a time (a
lock in the root). Pins that a killed backup left are removed by the next backup and by the gateway. A file system
without hard links gets copies instead. `hold` returns the names of bodies that are gone.
Fails: EnvironmentFailed when another backup runs or a pin cannot be made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from postroom.errors import EnvironmentFailed
from postroom.store.bodies import Bodies, is_body_name

PREFIX = "pins-"
LOCK_NAME = "backup.lock"
# what link(2) says where it cannot
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class Pins:
    """`with Pins(bodies) as pins: ...`"""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        lock = _lock(bodies.root)
        if lock is None:
            raise EnvironmentFailed(f"another backup of {bodies.root} is under way: wait until it has ended")
        self._lock = lock
        self.sizes: dict[str, int] = {}  # of what is pinned, by name
        try:
            _remove_all(bodies.root)
            self._place = bodies.root / f"{PREFIX}{secrets.token_hex(8)}"
            self._place.mkdir(mode=0o700)
        except OSError as problem:
            os.close(lock)
            raise EnvironmentFailed(f"cannot pin bodies below {bodies.root}: {problem.strerror}") from problem

    def __enter__(self) -> Pins:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything."""
        shutil.rmtree(self._place, ignore_errors=True)
        os.close(self._lock)

    def path(self, name: str) -> Path:
        return self._place / name.replace("/", "-")

    def hold(self, names: Iterable[str]) -> list[str]:
        """Pin what is not pinned yet; returns the names of those that are gone."""
        gone = []
        for name in names:
            if not is_body_name(name):  # of a damaged row: there is no such file
                gone.append(name)
            elif name not in self.sizes:
                pin = self.path(name)
                try:
                    _pin(self._bodies.path(name), pin)
                    self.sizes[name] = pin.stat().st_size
                except FileNotFoundError:
                    gone.append(name)
                except OSError as problem:
                    raise EnvironmentFailed(f"cannot pin the body {name}: {problem.strerror}") from problem
        return gone


def remove_left_overs(root: Path) -> int:
    """Remove the pins of backups that were killed; how many there were. Nothing while a backup runs."""
    try:
        if not any(name.startswith(PREFIX) for name in os.listdir(root)):
            return 0
        lock = _lock(root)
    except (OSError, EnvironmentFailed):
        return 0  # asked again later
    if lock is None:
        return 0
    try:
        return _remove_all(root)
    finally:
        os.close(lock)


def _pin(body: Path, pin: Path) -> None:
    try:
        os.link(body, pin)
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        with open(body, "rb") as source, open(pin, "xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)


def _lock(root: Path) -> int | None:
    """The descriptor that holds the lock until it is closed; None: another backup has it."""
    try:
        descriptor = os.open(root / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise EnvironmentFailed(f"cannot write below {root}: {problem.strerror}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_all(root: Path) -> int:
    found = [root / name for name in os.listdir(root) if name.startswith(PREFIX)]
    for place in found:
        with contextlib.suppress(OSError):
            shutil.rmtree(place)
    return len(found)
