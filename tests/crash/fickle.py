"""A next hop of many moods, and its log: what it took is in `taken`, whatever it answered.

It takes most mail; defers some at the final dot and some recipients at RCPT; refuses recipients called refused-*; cuts the
connection after the final dot, having taken the message or not, with its 250 on the way or not; and is slow now and then.
Which of these is decided by the message, the attempt and the seed, not by the time.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from tests.crash.load import Key, mail_of
from tests.system.receiver import LARGEST, below_received, subject_of

MOODS = (
    ("take", 78), ("defer", 10), ("slow", 4), ("cut, taken", 3), ("cut, not taken", 2), ("cut behind the 250", 3),
)  # fmt: skip
TAKES = frozenset({"take", "slow", "cut, taken", "cut behind the 250"})
BUSY = 0.03  # of the recipients


class Fickle:
    """Runs in its own thread on a free port; `taken` and `problems` only grow."""

    def __init__(self, seed: int) -> None:
        self.odds: Sequence[tuple[str, int]] = MOODS
        self.taken: Counter[Key] = Counter()
        self.twice: list[Key] = []  # in the order in which it became so
        self.moods: Counter[str] = Counter()
        self.answers: dict[str, list[str]] = {}  # subject -> the moods it met, in order
        self.problems: list[str] = []
        self.address = ("127.0.0.1", 0)
        self._seed = seed
        self._attempts: Counter[str] = Counter()
        self._grown = threading.Condition()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fickle")

    def __enter__(self) -> Fickle:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)

    def wait_until(self, condition: Callable[[Counter[Key]], bool], limit: float) -> bool:
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
        recipients = list[str]()
        writer.write(b"220 fickle.example ESMTP\r\n")
        while not writer.is_closing():  # what was pipelined can still be read after the gateway's death
            line = await reader.readuntil(b"\r\n")
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-fickle.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n")
            elif verb == b"MAIL":
                recipients = []
                writer.write(b"250 2.1.0 Ok\r\n")
            elif verb == b"RCPT":
                writer.write(self._to(line.partition(b"<")[2].partition(b">")[0].decode(), recipients))
            elif verb == b"DATA" and recipients:
                writer.write(b"354 Go ahead\r\n")
                content = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                if not await self._content((b"\r\n" + content).replace(b"\r\n..", b"\r\n.")[2:], recipients, writer):
                    return
            elif verb == b"DATA":
                writer.write(b"554 5.5.1 No recipients\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 Bye\r\n")
                return
            else:
                writer.write(b"250 2.0.0 Ok\r\n")

    def _to(self, recipient: str, accepted: list[str]) -> bytes:
        if recipient.startswith("refused-"):
            return b"550 5.1.1 Nobody of this name\r\n"
        if self._chance("RCPT " + recipient).random() < BUSY:
            return b"450 4.2.1 Mailbox busy, try later\r\n"
        accepted.append(recipient)
        return b"250 2.1.5 Ok\r\n"

    async def _content(self, content: bytes, recipients: list[str], writer: asyncio.StreamWriter) -> bool:
        """False = the connection is to be cut."""
        subject = subject_of(content)
        moods, weights = zip(*self.odds, strict=True)
        mood = self._chance(subject).choices(moods, weights)[0]
        self.moods[mood] += 1
        self.answers.setdefault(subject, []).append(mood)
        if mood == "defer":
            writer.write(b"451 4.3.0 Not now\r\n")
            return True
        if mood == "cut, not taken":
            return False
        if mood == "slow":
            await asyncio.sleep(0.05)
        self._take(subject, content, recipients)
        if mood == "cut, taken":
            return False
        writer.write(b"250 2.0.0 Taken\r\n")
        return mood != "cut behind the 250"

    def _chance(self, what: str) -> random.Random:
        """Other dice for each attempt."""
        self._attempts[what] += 1
        return random.Random(f"{self._seed} {what} {self._attempts[what]}")

    def _take(self, subject: str, content: bytes, recipients: list[str]) -> None:
        if not subject.startswith("Not delivered: "):  # notices are the gateway's own words
            found, sent = below_received(content), mail_of(subject)
            if found != sent:
                digests = " but ".join(hashlib.sha256(text).hexdigest()[:16] for text in (found, sent))
                self.problems.append(f"{subject}: {len(found)} bytes came, {len(sent)} were sent ({digests})")
        with self._grown:
            for recipient in recipients:
                key = (subject, recipient)
                self.taken[key] += 1
                if self.taken[key] == 2:
                    self.twice.append(key)
            self._grown.notify_all()
