"""A scripted SMTP receiver: `answer` decides each reply, by default everything is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from postroom.settings import Address

HANG_UP = "hang up"
SILENCE = "silence"  # no reply, now or later


@dataclass
class Step:
    """What is to be answered: the how-manieth connection, the how-manieth message on it, the verb, the line."""

    connection: int
    message: int
    verb: str
    line: str = ""


@dataclass
class Taken:
    """One content that came in whole, and whether it was accepted."""

    connection: int
    sender: str
    recipients: list[str]
    content: bytes
    accepted: bool = False


Answer = Callable[[Step], str | None]


@asynccontextmanager
async def served(server: asyncio.Server) -> AsyncIterator[Address]:
    """The address of a server that is closed at the end, also of a test that fails."""
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


@dataclass
class Receiver:
    answer: Answer = lambda step: None
    extensions: tuple[str, ...] = ("PIPELINING", "SIZE 10000000", "8BITMIME", "ENHANCEDSTATUSCODES")
    taken: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    peak: int = 0

    async def __aenter__(self) -> Receiver:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 24)
        self.address = Address("127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *problem: object) -> None:
        self._stop.set()
        self._server.close()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    @property
    def accepted(self) -> list[Taken]:
        return [taken for taken in self.taken if taken.accepted]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            await self._talk(self.connections, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()
            self._tasks.discard(task)

    async def _talk(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        message, sender, recipients = 1, "", []
        if not await self._say(writer, Step(connection, 0, "GREETING"), "220 receiver.example ESMTP"):
            return
        while True:
            line = (await reader.readuntil(b"\r\n")).decode().removesuffix("\r\n")
            self.commands.append(line)
            verb = line[:4]
            step = Step(connection, message, verb, line)
            if verb == "EHLO":
                lines = ["receiver.example", *self.extensions]
                default = "\r\n".join([f"250{'-' if text != lines[-1] else ' '}{text}" for text in lines])
            else:
                default = {"DATA": "354 go on", "QUIT": "221 2.0.0 bye"}.get(verb, "250 2.1.0 fine")
            if (reply := await self._say(writer, step, default)) is None:
                return
            if verb == "MAIL":
                sender, recipients = line[11:].partition(">")[0], []
            elif verb == "RCPT" and reply.startswith("2"):
                recipients.append(line[9:-1])
            elif verb == "QUIT":
                return
            elif reply.startswith("354"):
                taken = Taken(connection, sender, recipients, await self._content(reader))
                self.taken.append(taken)
                step = Step(connection, message, "CONTENT")
                reply = self.answer(step) or "250 2.0.0 kept"
                taken.accepted = reply.startswith("2")
                if await self._say(writer, step, reply) is None:
                    return
                message += 1

    async def _content(self, reader: asyncio.StreamReader) -> bytes:
        lines = []
        while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    async def _say(self, writer: asyncio.StreamWriter, step: Step, default: str) -> str | None:
        reply = (self.answer(step) if step.verb != "CONTENT" else None) or default
        if reply == HANG_UP:
            return None
        if reply == SILENCE:
            await self._stop.wait()
            return None
        writer.write(reply.encode() + b"\r\n")
        await writer.drain()
        return reply
