"""A scripted clamd: speaks the INSTREAM protocol over real sockets and checks the framing of what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

Script = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One client, after its command."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.pieces: list[int] = []

    async def content(self, limit: int | None = None) -> bytes:
        """Every piece up to the empty one, or until more than `limit` bytes have come."""
        received = b""
        while length := int.from_bytes(await self.reader.readexactly(4), "big"):
            self.pieces.append(length)
            received += await self.reader.readexactly(length)
            if limit is not None and len(received) > limit:
                break
        return received

    async def say(self, reply: bytes) -> None:
        self.writer.write(reply)
        await self.writer.drain()


class Clamd:
    """`async with Clamd(script, path)`: serves each connection with the script; without a path on a TCP port."""

    def __init__(self, script: Script, path: str = "") -> None:
        self._script = script
        self._path = path
        self.address = path
        self.connections: list[Connection] = []
        self.wrong: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Clamd:
        if self._path:
            self._server: asyncio.Server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if error is None:
            assert self.wrong == []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        try:
            command = await reader.readuntil(b"\0")
            if command != b"zINSTREAM\0":
                self.wrong.append(f"command {command!r}")
            await self._script(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went: its right
        finally:
            self._tasks.discard(task)
            writer.close()
