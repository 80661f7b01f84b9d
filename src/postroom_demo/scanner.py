"""A scanner that speaks clamd's protocol: PING, VERSION, INSTREAM, in a session or one command per connection.

Its script: a scan takes about a second; a message with MARKER is infected; the first two scans of a zip archive fail;
now and then it is down for some seconds (`follow`). Promises: the same bytes take the same time and get the same
verdict.
Fails: OSError when it cannot listen, or cannot listen again after being down.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict

from postroom_demo.journal import Journal

MARKER = (
    b"harmless stand-in for a virus"  # not the industry's test string: real scanners shall leave this project alone
)
VIRUS = "Demo.Harmless.StandIn"
ARCHIVE = b'.zip"'
ARCHIVE_FAILURES = 2
LARGEST = 64 << 20  # bytes of one stream
LARGEST_CHUNK = 16 << 20
REMEMBERED = 1000  # archives
IDLE = 120.0  # seconds


class Scanner:
    """`seconds` is what a scan takes, on average."""

    def __init__(self, *, seconds: float = 1.0, journal: Journal | None = None) -> None:
        self.seconds = seconds
        self.scans = 0
        self.found = 0
        self.port = 0
        self._host = ""
        self._journal = journal or Journal()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        self._archives: OrderedDict[bytes, int] = OrderedDict()

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which is only news when 0 was asked for."""
        self._server = await asyncio.start_server(self._session, host, port)
        self._host = host
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Away: connections are refused, those under way are cut."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    @property
    def up(self) -> bool:
        return self._server is not None

    async def follow(self, *, up: float, down: float) -> None:
        """Up for `up` seconds, down for `down`, endlessly."""
        while True:
            await asyncio.sleep(up)
            self._journal.note("scanner", f"away for {down:g} s")
            await self.close()
            await asyncio.sleep(down)
            await self.start(self._host, self.port)
            self._journal.note("scanner", "back")

    # -- verdicts

    def verdict(self, content: bytes) -> str:
        """What clamd would say of a stream; counts the scan."""
        self.scans += 1
        if MARKER in content:
            self.found += 1
            return f"stream: {VIRUS} FOUND"
        if ARCHIVE in content and self._fails_on_archive(content):
            return "stream: Can't allocate memory ERROR"
        return "stream: OK"

    def _fails_on_archive(self, content: bytes) -> bool:
        key = hashlib.sha256(content).digest()
        number = self._archives.get(key, 0) + 1
        self._archives[key] = number
        self._archives.move_to_end(key)
        if len(self._archives) > REMEMBERED:
            self._archives.popitem(last=False)
        return number <= ARCHIVE_FAILURES

    def duration(self, content: bytes) -> float:
        """0.6 to 1.4 times the average, by content."""
        return self.seconds * (0.6 + 0.8 * hashlib.sha256(content).digest()[0] / 255)

    # -- the protocol

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await self._talk(reader, writer)
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._sessions.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """`zCMD\\0`, `nCMD\\n` or `CMD\\n`; in an IDSESSION replies carry the number of their command."""
        numbered, number = False, 0
        while True:
            async with asyncio.timeout(IDLE):
                command, end = await _command(reader)
            if command == b"IDSESSION":
                numbered = True
                continue
            if command in (b"END", b""):
                return
            number += 1
            reply = await self._obey(command, reader)
            prefix = f"{number}: " if numbered else ""
            writer.write(f"{prefix}{reply}".encode() + end)
            await writer.drain()
            if not numbered:
                return

    async def _obey(self, command: bytes, reader: asyncio.StreamReader) -> str:
        match command:
            case b"PING":
                return "PONG"
            case b"VERSION":
                return "ClamAV 1.4.0/27000/scripted scanner of the demo"
            case b"INSTREAM":
                content = await _stream(reader)
                if content is None:
                    return "INSTREAM size limit exceeded. ERROR"
                await asyncio.sleep(self.duration(content))
                reply = self.verdict(content)
                if not reply.endswith("OK"):
                    self._journal.note("scanner", reply)
                return reply
        return "UNKNOWN COMMAND"


async def _command(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """(command, how its reply ends); an empty command at the end of the connection."""
    first = await reader.read(1)
    if not first:
        return b"", b""
    end = b"\0" if first == b"z" else b"\n"
    rest = await reader.readuntil(end)
    text = rest if first in b"zn" else first + rest
    return text.rstrip(b"\0\r\n"), end


async def _stream(reader: asyncio.StreamReader) -> bytes | None:
    """Chunks of a 32-bit length and bytes, up to a length of 0; None when it is too large."""
    chunks: list[bytes] = []
    size = 0
    while True:
        async with asyncio.timeout(IDLE):
            length = int.from_bytes(await reader.readexactly(4), "big")
            if not length:
                return b"".join(chunks)
            size += length
            if length > LARGEST_CHUNK or size > LARGEST:
                return None
            chunks.append(await reader.readexactly(length))
