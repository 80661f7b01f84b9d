"""A client on a real socket that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import socket
import struct

from postroom.smtp_in.server import SmtpServer
from tests.smtp_in.dialogue import ENVELOPE

READ_TIMEOUT = 30  # seconds; a test that needs it has failed
OPENED: list[Peer] = []  # closed behind each test


class Peer:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, server: SmtpServer, source: str = "127.0.0.1") -> Peer:
        place = server.addresses[0]
        reader, writer = await asyncio.open_connection(place.host, place.port, local_addr=(source, 0))
        peer = cls(reader, writer)
        OPENED.append(peer)
        return peer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> str:
        """One whole reply; its last line."""
        while True:
            line = (await asyncio.wait_for(self.reader.readline(), READ_TIMEOUT)).decode("ascii")
            if line[3:4] != "-":
                return line.removesuffix("\r\n")

    async def ask(self, data: bytes) -> str:
        await self.say(data)
        return await self.reply()

    async def greeted(self) -> Peer:
        assert (await self.reply()).startswith("220 ")
        assert (await self.ask(b"EHLO peer.example\r\n")).startswith("250 ")
        return self

    async def in_data(self) -> Peer:
        await self.say(ENVELOPE)
        assert [(await self.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
        return self

    async def until_end(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), READ_TIMEOUT)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Be gone at once, without the polite end of TCP."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
