"""`manifest.json` of a backup: what it holds, and the list of its files with their sizes and hashes.

Promises: `read` returns only what is complete and well formed; every path in it stays inside the backup.
Fails: EnvironmentFailed with the directory and what is wrong with it.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import msgspec

from postroom.clock import Millis
from postroom.errors import EnvironmentFailed

FORMAT = 1
NAME = "manifest.json"
DATABASE = "postroom.db"
SECRETS = "secrets.key"
BODIES = "bodies"
PIECE = 1 << 20
_BODY = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{30}")


class File(msgspec.Struct, frozen=True):
    path: str  # DATABASE, SECRETS or BODIES/xx/name
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    release: str
    schema: int
    instant: Millis  # everything is as it was then
    taken_at: str  # the same for people
    entries: int
    messages: int
    history: int
    bodies: int
    bytes: int  # of all files
    ledger_difference: int
    secrets: bool  # whether SECRETS is among the files
    missing_bodies: tuple[str, ...]  # that the store itself had lost
    files: tuple[File, ...]


def encode(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read(directory: Path) -> Manifest:
    try:
        data = (directory / NAME).read_bytes()
    except FileNotFoundError as problem:
        raise EnvironmentFailed(
            f"{directory} is not a backup: it has no {NAME}; give the directory that postroom backup made"
        ) from problem
    except OSError as problem:
        raise EnvironmentFailed(f"cannot read the backup {directory}: {problem.strerror}") from problem
    try:
        found = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as problem:
        raise EnvironmentFailed(f"the backup {directory} is damaged: {NAME}: {problem}") from problem
    if found.format > FORMAT:
        raise EnvironmentFailed(
            f"{directory} was made by the newer release {found.release}: restore it with that release"
        )
    paths = [file.path for file in found.files]
    wrong = [path for path in paths if not _ours(path)]
    if wrong or len(set(paths)) != len(paths) or DATABASE not in paths or found.secrets != (SECRETS in paths):
        raise EnvironmentFailed(
            f"the backup {directory} is damaged: {NAME} lists {wrong[0] if wrong else 'its files'!r}"
        )
    return found


def is_body(path: str) -> bool:
    directory, _, name = path.partition("/")
    return directory == BODIES and _BODY.fullmatch(name) is not None


def _ours(path: str) -> bool:
    return path in (DATABASE, SECRETS) or is_body(path)


def hash_of(path: Path) -> tuple[int, str]:
    """(size, SHA-256) of a file. Raises OSError."""
    found, size = sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
            size += len(piece)
    return size, found.hexdigest()
