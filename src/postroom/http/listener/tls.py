"""HTTPS: the certificate of the HTTP port, reloaded when its files change.

Promises: TLS 1.2 or newer. A changed pair is used from the next connection on, after both files were unchanged for one
look, so that no half-written file is read. A pair that does not match keeps the old one in force, with one error in the
log; the audit log records both cases.
Fails: EnvironmentFailed at the start names the file and the problem; afterwards never.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509

from postroom.errors import EnvironmentFailed
from postroom.http.door.trail import Trail
from postroom.settings import HttpTls
from postroom.store import logs
from postroom.telemetry import Log

LOOK_EVERY = 3.0  # seconds; a renewed certificate has weeks

_Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """`context`: the server's TLS context; the certificate is chosen for each connection."""

    def __init__(self, tls: HttpTls, data: str, log: Log, trail: Trail | None = None) -> None:
        """`trail`: the audit trail for changes; None: only the log."""
        self._trail = trail
        self._files = (Path(data) / tls.certificate, Path(data) / tls.key)
        self._log = log
        self._loaded = self._seen = self._stamp()
        try:
            self.context, expires = self._load()
        except (OSError, ValueError) as problem:
            raise EnvironmentFailed(
                f"cannot use [http.tls] certificate {self._files[0]} with key {self._files[1]}: {_words(problem)}"
            ) from problem
        self._current = self.context
        self.context.sni_callback = self._choose
        self._tell(expires)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()

    def look(self) -> bool:
        """Look at the files; whether a new pair is in force."""
        before, self._seen = self._seen, self._stamp()
        if self._seen in (self._loaded, ()) or self._seen != before:
            return False
        self._loaded = self._seen  # logged once, also when it does not match
        try:
            self._current, expires = self._load()
        except (OSError, ValueError) as problem:
            self._log.error(
                "http_certificate_refused", certificate=str(self._files[0]), key=str(self._files[1]),
                problem=_words(problem), kept="the one before",
            )  # fmt: skip
            self._note(logs.FAILED, _words(problem))
            return False
        self._tell(expires)
        self._note(logs.DONE, f"expires {_utc(expires)}")
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called by OpenSSL at every handshake, also when the client names no host."""
        connection.context = self._current

    def _stamp(self) -> _Stamp:
        """A mark that changes when the files do; empty while one of them is missing."""
        try:
            found = [file.stat() for file in self._files]
        except OSError:
            return ()
        return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in found)

    def _load(self) -> tuple[ssl.SSLContext, datetime]:
        certificate, key = self._files
        expires = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(["http/1.1"])
        # Without the callback OpenSSL would ask for the password of a locked key at the terminal, and wait.
        context.load_cert_chain(certificate, key, password=lambda: b"")
        return context, expires

    def _tell(self, expires: datetime) -> None:
        self._log.info("http_certificate", certificate=str(self._files[0]), expires=_utc(expires))

    def _note(self, outcome: str, detail: str) -> None:
        if self._trail is not None:
            what = f"[http.tls] {self._files[0].name}"
            self._trail.note("settings.reload", outcome=outcome, what=what, detail=detail, logged=True)


def _utc(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLError):  # an OSError as well
        if problem.reason == "KEY_VALUES_MISMATCH":
            return "the key belongs to another certificate"
        return f"the key cannot be read, or is locked by a password ({problem.reason or 'not PEM'})"
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}: {problem.filename or ''}".rstrip(": ")
    return "the certificate is not a PEM file"
