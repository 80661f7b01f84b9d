"""Large bodies: one file each, durable before its row exists.

Promises: `put` returns only after the file and its directory are synced, so a row never names bytes that a power cut can
take. A put whose row never came leaves an orphan, collected after a start. Fails: EnvironmentFailed naming the
file. Names are random, spread over 256 directories made beforehand, so one directory sync is enough.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from postroom.errors import EnvironmentFailed

_OURS = re.compile(r"[0-9a-f]{32}")
INLINE_BODY = 128 * 1024  # bytes; larger ones are files (architecture: accept = one commit below this)


class Bodies:
    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        if create:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for number in range(256):
                (root / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
            for directory in (root, root.parent):  # or a power cut could take the directories with what is in them
                _sync(directory)

    def put(self, data: bytes) -> str:
        """Keep the bytes; the name to find them by."""
        token = secrets.token_hex(16)
        name = f"{token[:2]}/{token}"
        path = self.root / name
        try:
            with open(path, "xb", opener=lambda p, f: os.open(p, f, 0o600)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _sync(path.parent)
        except OSError as problem:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise EnvironmentFailed(f"cannot keep a message body at {path}: {problem.strerror}") from problem
        return name

    def path(self, name: str) -> Path:
        assert "/" in name, name
        assert ".." not in name, name
        return self.root / name

    def read(self, name: str) -> bytes:
        try:
            return self.path(name).read_bytes()
        except OSError as problem:
            raise EnvironmentFailed(f"cannot read the message body {self.path(name)}: {problem.strerror}") from problem

    def delete(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self.path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Everything kept here. Only files that are named as `put` names them: others are not ours."""
        return [
            f"{directory}/{file}"
            for directory in (f"{number:02x}" for number in range(256))
            for file in (os.listdir(self.root / directory) if (self.root / directory).is_dir() else ())
            if _OURS.fullmatch(file) and file.startswith(directory)
        ]


def _sync(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
