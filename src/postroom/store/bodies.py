"""Large bodies: one file each, durable before its row exists.

Promises: `put` returns only after the file and its directory are synced, so a row never names bytes that a power cut can
take. A put whose row never came leaves an orphan, collected at start. Fails: EnvironmentFailed naming the
file. Names are random, spread over 256 directories made beforehand, so one directory sync is enough.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from postroom.errors import EnvironmentFailed

INLINE_BODY = 128 * 1024  # bytes; larger ones are files (architecture: accept = one commit below this)


class Bodies:
    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.root = root
        if create:
            for number in range(256):
                (root / f"{number:02x}").mkdir(parents=True, exist_ok=True, mode=0o700)

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
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
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

    def names(self) -> Iterator[str]:
        for directory in sorted(self.root.iterdir()) if self.root.exists() else ():
            if directory.is_dir():
                for file in sorted(directory.iterdir()):
                    yield f"{directory.name}/{file.name}"
