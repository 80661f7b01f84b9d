"""The next hop: takes mail over SMTP and has it on disk before it answers, so that what it took is beyond doubt."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LARGEST = 128 * 1024 * 1024


@dataclass(frozen=True)
class Taken:
    sender: str
    recipients: tuple[str, ...]
    content: bytes  # without dot stuffing


class Receiver:
    """Runs in its own thread on a free port; `taken` only grows."""

    def __init__(self, record: Path) -> None:
        self.taken: list[Taken] = []
        self.address = ("127.0.0.1", 0)
        self._record = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._grown = threading.Condition()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="receiver")

    def __enter__(self) -> Receiver:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        os.close(self._record)

    def wait_until(self, condition: Callable[[list[Taken]], bool], limit: float) -> bool:
        """Whether it came true in time; looked at whenever something was taken."""
        with self._grown:
            return self._grown.wait_for(lambda: condition(self.taken), limit)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        sessions: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._session(reader, writer))
            sessions.add(task)
            task.add_done_callback(sessions.discard)

        server = await asyncio.start_server(begin, "127.0.0.1", 0, limit=LARGEST)
        self.address = server.sockets[0].getsockname()
        self._ready.set()
        await self._ended.wait()
        server.close()
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
        writer.write(b"220 receiver.example ESMTP\r\n")
        while True:
            line = await reader.readuntil(b"\r\n")
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-receiver.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
            elif verb == b"MAIL":
                sender, recipients = _path(line), []
                writer.write(b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                recipients.append(_path(line))
                writer.write(b"250 2.1.5 Ok\r\n")
            elif verb == b"DATA":
                writer.write(b"354 Go ahead\r\n")
                content = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                await self._receive(Taken(sender, tuple(recipients), _unstuffed(content)))
                writer.write(f"250 2.0.0 taken as {len(self.taken)}\r\n".encode())
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")

    async def _receive(self, taken: Taken) -> None:
        """All that happens before the answer to the final dot."""
        self._take(taken)

    def _take(self, taken: Taken) -> None:
        os.write(self._record, b"%d\n%s" % (len(taken.content), taken.content))
        os.fsync(self._record)
        with self._grown:
            self.taken.append(taken)
            self._grown.notify_all()


def subject_of(content: bytes) -> str:
    """The first Subject field (the mail of these tests has it on one line)."""
    return content.partition(b"\r\nSubject: ")[2].partition(b"\r\n")[0].decode()


def below_received(content: bytes) -> bytes:
    """Everything below the first header field, which must be the one Received field that the gateway adds."""
    assert content.startswith(b"Received: "), content[:100]
    end = content.index(b"\r\n") + 2
    while content[end : end + 1] in (b" ", b"\t"):
        end = content.index(b"\r\n", end) + 2
    return content[end:]


def _path(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode()


def _unstuffed(content: bytes) -> bytes:
    return (b"\r\n" + content).replace(b"\r\n..", b"\r\n.")[2:]
