"""A next hop that speaks SMTP in a thread of its own; what it says to each recipient and message is its subclass's.

Promises: a free port of loopback, known inside `with`; content comes without dot stuffing; a sender that dies in the
middle of it is no failure.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import Self

LARGEST = 128 * 1024 * 1024
LIMIT = 30.0  # seconds for a thread to begin or to end
TAKEN = b"250 2.1.5 Ok\r\n"


class NextHop(ABC):
    """`with NextHop() as running: running.address`."""

    name = "receiver"

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=self.name)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(LIMIT)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(LIMIT)

    def _to(self, recipient: str) -> bytes:
        """The reply to RCPT; what begins with 2 accepts."""
        return TAKEN

    @abstractmethod
    async def _content(
        self, sender: str, recipients: tuple[str, ...], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answers the final dot; False = the connection is to be cut."""

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        sessions: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._session(reader, writer))
            sessions.add(task)
            task.add_done_callback(sessions.discard)

        listening = await asyncio.start_server(begin, "127.0.0.1", 0, limit=LARGEST)
        self.address = listening.sockets[0].getsockname()
        self._ready.set()
        await self._ended.wait()
        listening.close()
        for task in sessions:
            task.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway was killed in the middle of it
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender, recipients = "", list[str]()
        writer.write(f"220 {self.name}.example ESMTP\r\n".encode())
        while not writer.is_closing():  # what was pipelined can still be read after the gateway's death
            line = await reader.readuntil(b"\r\n")
            verb = line[:4].upper()
            if verb == b"EHLO":
                capabilities = b"250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n"
                writer.write(f"250-{self.name}.example\r\n".encode() + capabilities)
            elif verb == b"MAIL":
                sender, recipients = _path(line), []
                writer.write(b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                recipient = _path(line)
                reply = self._to(recipient)
                recipients += [recipient] if reply.startswith(b"2") else []
                writer.write(reply)
            elif verb == b"DATA" and recipients:
                writer.write(b"354 Go ahead\r\n")
                content = _unstuffed((await reader.readuntil(b"\r\n.\r\n"))[:-3])
                if not await self._content(sender, tuple(recipients), content, writer):
                    return
            elif verb == b"DATA":
                writer.write(b"554 5.5.1 No recipients\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


def _unstuffed(content: bytes) -> bytes:
    return (b"\r\n" + content).replace(b"\r\n..", b"\r\n.")[2:]
