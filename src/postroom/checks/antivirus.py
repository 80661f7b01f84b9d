"""Check "antivirus": asks clamd (the ClamAV daemon) with its INSTREAM command, over a Unix or TCP socket.

Promises: a message passes only when clamd answered OK for all of its bytes; at most `antivirus.concurrency` scans run
at once, for at most `antivirus.timeout` each; large messages are read in pieces, off the event loop. While the scanner
is away, each message still says why it waits, and messages in line do not each wait for their own timeout.
Fails: without a clear answer (refused, timeout, closed, an error reply, size limit of clamd exceeded) the verdict is
`retry`, and its info names the reason. An unreadable body is OSError, which the runner turns into a retry. The log has
one line when the scanner goes away and one when it is back. A wrong address is SettingsError, at the start.

Protocol (clamd(8), "INSTREAM"): `zINSTREAM` NUL, then pieces of a 4-byte big-endian length and that many bytes, ended
by a piece of length 0; the answer ends with NUL: `stream: OK`, `stream: NAME FOUND`, or `... ERROR`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from pathlib import Path

from postroom.checks.verdicts import CheckedMessage, passed, reject, retry
from postroom.errors import SettingsError
from postroom.model import Verdict
from postroom.settings import Antivirus
from postroom.telemetry import Log

PIECE = 256 * 1024
MAX_REPLY = 4 * 1024
CONNECT_TIMEOUT = 5.0  # seconds; the scanner is near, or it is not there

_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")
_AWAY = "Antivirus scanner is not answering"


class _NoAnswer(Exception):
    """The scanner gave no verdict; the text is for people. `away`: it could not be reached."""

    def __init__(self, info: str, *, away: bool = False) -> None:
        super().__init__(info)
        self.info = info
        self.away = away


class AntivirusCheck:
    name = "antivirus"

    def __init__(self, settings: Antivirus, log: Log) -> None:
        self._unix, self._tcp = _parsed(settings.address)
        self._address = settings.address
        self._timeout = settings.timeout / 1000
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._log = log
        self._passed = passed(self.name)
        self._times_away = 0  # how often it could not be reached
        self._away: Verdict | None = None  # the last such verdict, until it answers again

    def inspect(self, work: CheckedMessage) -> Coroutine[None, None, Verdict]:
        return self._inspect(work)

    async def _inspect(self, work: CheckedMessage) -> Verdict:
        before = self._times_away
        async with self._slots:
            if self._away is not None and self._times_away != before:
                return self._away  # found away while this one stood in line
            try:
                async with asyncio.timeout(self._timeout):
                    reply = await self._scan(work.content)
            except TimeoutError:
                return self._missing(_NoAnswer(f"{_AWAY} (timeout)"))
            except _NoAnswer as failure:
                return self._missing(failure)
            if self._away is not None:
                self._away = None
                self._log.info("antivirus_back", address=self._address)
            return self._verdict(reply)

    def _missing(self, failure: _NoAnswer) -> Verdict:
        verdict = retry(self.name, failure.info)
        if self._away is None:
            self._log.warning("antivirus_away", address=self._address, info=failure.info)
            self._away = verdict
        if failure.away:
            self._away = verdict
            self._times_away += 1
        return verdict

    def _verdict(self, reply: str) -> Verdict:
        status = reply.removeprefix("stream: ")
        if status == "OK":
            return self._passed
        if status.endswith(" FOUND"):
            name = _UNPRINTABLE.sub(" ", status.removesuffix(" FOUND")).strip()[:100]
            return reject(self.name, f"554 5.7.1 Virus found: {name}")
        if "size limit exceeded" in status:
            return retry(self.name, "Antivirus scanner refuses messages of this size (StreamMaxLength of clamd)")
        self._log.warning("antivirus_error", address=self._address, reply=reply[:200])
        return retry(self.name, "Antivirus scanner answered with an error; the log has its reply")

    async def _scan(self, content: bytes | Path) -> str:
        reader, writer = await self._connect()
        # Read while writing: clamd answers and hangs up in the middle when a message is over its limit.
        answer = asyncio.ensure_future(_reply(reader))
        try:
            await _send(writer, content, answer)
            return await answer
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)
            writer.transport.abort()  # nothing of ours is left to be sent

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if self._unix:
                    return await asyncio.open_unix_connection(self._unix, limit=MAX_REPLY)
                return await asyncio.open_connection(*self._tcp, limit=MAX_REPLY)
        except TimeoutError:
            raise _NoAnswer(f"{_AWAY} (timeout while connecting)", away=True) from None
        except ConnectionRefusedError:
            raise _NoAnswer(f"{_AWAY} (connection refused)", away=True) from None
        except FileNotFoundError:
            raise _NoAnswer(f"{_AWAY} (its socket does not exist)", away=True) from None
        except PermissionError:
            raise _NoAnswer(f"{_AWAY} (no permission to use its socket)", away=True) from None
        except OSError as error:
            raise _NoAnswer(f"{_AWAY} ({error.strerror or type(error).__name__})", away=True) from None


async def _send(writer: asyncio.StreamWriter, content: bytes | Path, answer: asyncio.Future[str]) -> None:
    """Sends the command and the pieces; stops when the answer comes early. A lost connection shows in `answer`."""
    try:
        writer.write(b"zINSTREAM\0")
        async with aclosing(_pieces(content)) as pieces:
            async for piece in pieces:
                if answer.done():
                    return
                writer.writelines((len(piece).to_bytes(4, "big"), piece))
                await writer.drain()
        writer.write(b"\0\0\0\0")
        await writer.drain()
    except ConnectionError:
        return


async def _pieces(content: bytes | Path) -> AsyncGenerator[bytes | memoryview, None]:
    """The pieces of a message; none is empty, because an empty piece ends the stream."""
    if isinstance(content, bytes):
        view = memoryview(content)
        for at in range(0, len(view), PIECE):
            yield view[at : at + PIECE]
        return
    file = await asyncio.to_thread(content.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()


async def _reply(reader: asyncio.StreamReader) -> str:
    try:
        reply = await reader.readuntil(b"\0")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise _NoAnswer("Antivirus scanner answered with an error; its reply was cut") from None
        raise _NoAnswer("Antivirus scanner closed the connection without an answer") from None
    except asyncio.LimitOverrunError:
        raise _NoAnswer("Antivirus scanner answered with what is not a reply of clamd") from None
    except ConnectionError:
        raise _NoAnswer("Antivirus scanner closed the connection without an answer") from None
    return reply[:-1].decode("utf-8", "replace").strip()


def _parsed(address: str) -> tuple[str, tuple[str, int]]:
    """(socket path, ("", 0)) or ("", (host, port))."""
    if "/" in address:
        return address.removeprefix("unix:"), ("", 0)
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and port.isascii() and 0 < int(port) < 65536):
        raise SettingsError(
            [f'antivirus.address: "{address}" is not an address of clamd; expected a socket path or HOST:PORT']
        )
    return "", (host.strip("[]"), int(port))
