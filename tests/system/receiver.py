"""The next hop: takes mail over SMTP and has it on disk before it answers, so that what it took is beyond doubt."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.system.next_hop import NextHop


@dataclass(frozen=True)
class Taken:
    sender: str
    recipients: tuple[str, ...]
    content: bytes  # without dot stuffing


class Receiver(NextHop):
    """`taken` only grows."""

    def __init__(self, record: Path) -> None:
        super().__init__()
        self.taken: list[Taken] = []
        self._grown = threading.Condition()
        self._record = os.open(record, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def __exit__(self, *reason: object) -> None:
        super().__exit__(*reason)
        os.close(self._record)

    def wait_until(self, condition: Callable[[list[Taken]], bool], limit: float) -> bool:
        """Whether it came true in time; looked at whenever something was taken."""
        with self._grown:
            return self._grown.wait_for(lambda: condition(self.taken), limit)

    async def _content(
        self, sender: str, recipients: tuple[str, ...], content: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        await self._receive(Taken(sender, recipients, content))
        writer.write(f"250 2.0.0 taken as {len(self.taken)}\r\n".encode())
        return True

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
