"""Encryption and signing with one 32-byte key that lives beside the database, never inside it.

Promises: a sealed text opens only with the key file that sealed it and only in the context it was sealed for. Each
purpose has its own key, so that a token of one kind never passes for another. The key file is created once, with mode
0600, and never replaced. Fails: EnvironmentFailed naming the key file when it cannot be read, is not 32 bytes, is
readable by others, or does not match what it should open.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from postroom.errors import EnvironmentFailed

KEY_NAME = "secrets.key"
_KEY_BYTES = 32
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: random nonces of 96 bits
_VERSION = b"\x01"


class Sealer:
    """Seals and opens with one master key, and derives keys for other purposes from it (HKDF, RFC 5869)."""

    __slots__ = ("_aead", "_master", "_origin")

    def __init__(self, master: bytes, origin: str = "the key in memory") -> None:
        assert len(master) == _KEY_BYTES
        self._master = master
        self._origin = origin
        self._aead = AESGCM(self.key("postroom.seal"))

    def __repr__(self) -> str:
        return f"Sealer({self._origin})"

    @classmethod
    def at(cls, directory: Path | str) -> Sealer:
        """The sealer of a data directory."""
        return cls.from_file(Path(directory) / KEY_NAME)

    @classmethod
    def from_file(cls, path: Path) -> Sealer:
        """The sealer of a key file; creates the file when it is absent."""
        try:
            return cls(_read_key(path), str(path))
        except FileNotFoundError:
            _make_key(path)
        except OSError as problem:
            raise EnvironmentFailed(f"cannot read the key file {path}: {problem.strerror}") from problem
        return cls(_read_key(path), str(path))

    def key(self, purpose: str, length: int = 32) -> bytes:
        """The key of one purpose: always the same for this master key, unrelated to any other purpose's."""
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=purpose.encode()).derive(self._master)

    def seal(self, data: bytes, context: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, data, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        if sealed[:1] == _VERSION and len(sealed) > _NONCE_BYTES:
            with contextlib.suppress(InvalidTag):
                return self._aead.decrypt(sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :], context)
        raise EnvironmentFailed(
            f"a sealed secret does not open with {self._origin}: the key file and the database do not belong together; "
            "put the key file back that this database was made with"
        )


def _read_key(path: Path) -> bytes:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(_KEY_BYTES + 1)
    if mode & 0o077:
        raise EnvironmentFailed(f"the key file {path} is open to others (mode {mode & 0o777:o}): chmod 600 {path}")
    if len(key) != _KEY_BYTES:
        raise EnvironmentFailed(f"the key file {path} is damaged: expected {_KEY_BYTES} bytes, found {len(key)}")
    return key


def _make_key(path: Path) -> None:
    """Never half there: written aside, synced, then linked. Of two processes that start at once, one wins."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(aside, secrets.token_bytes(_KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
        sync_directory(path.parent)
    except OSError as problem:
        raise EnvironmentFailed(
            f"cannot make the key file {path}: {problem.strerror}; check its directory, rights and disk"
        ) from problem
    finally:
        aside.unlink(missing_ok=True)


def write_private(path: Path, data: bytes) -> None:
    """Writes a new file that only this user can read; durable on return. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Makes a directory for this user alone, and its parents; all survive a power cut. Raises OSError."""
    made = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in {path.parent, *(place.parent for place in made)}:
        with contextlib.suppress(PermissionError):  # a directory that we may not read is not ours
            sync_directory(place)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
