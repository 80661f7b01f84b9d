"""The feed: a steady stream of mail to the gateway.

`Script` decides what is sent when (pure: a seed gives the same mail in the same order), `post` speaks SMTP, `Feed`
combines the two.
Promises: every template comes once per round, in a new order each round; the infected message and the held one only now
and then; sometimes a mailshot of more than ten identical messages. When the gateway defers a message or does not
answer, the feed continues with the next one. Fails: never, once its corpus is loaded; refused messages are counted and
noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from postroom_demo.corpus import Mail, Template, load
from postroom_demo.journal import Journal

RATE = 3.0  # messages a second
MAILSHOT_EVERY = 75  # messages
MAILSHOT_SIZE = 24
RARE = ("infected", "nested")  # names of what comes seldom: one is rejected by the scanner, one is held
OPENING = "archive"  # what the scanner cannot scan at once comes first: it stays in the queue while that fills
RARE_EVERY = 4  # rounds of the corpus
SEND_TIMEOUT = 20.0  # seconds for one whole transaction
PATIENCE = 1.0  # seconds before the next try, when the gateway did not take a message


class Refused(Exception):
    """The gateway did not accept a message; the text is its reply."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One message and how long to wait before it."""

    after: float
    mail: Mail


class Script:
    """What is sent, in which order."""

    def __init__(self, templates: tuple[Template, ...], *, seed: int, rate: float) -> None:
        self._source = random.Random(seed)
        self._rate = rate
        self._steady = [item for item in templates if item.route != "mailshot" and not _rare(item)]
        self._rare = [item for item in templates if _rare(item)]
        self._mailshots = [item for item in templates if item.route == "mailshot"]

    def postings(self, now: Callable[[], datetime]) -> Iterator[Posting]:
        """Endless. Gaps vary by half around the average, so that none is long."""
        for sent, template in enumerate(self._order(), start=1):
            yield Posting(self._source.uniform(0.5, 1.5) / self._rate, template.fill(self._source, now()))
            if sent % MAILSHOT_EVERY == MAILSHOT_EVERY // 3 and self._mailshots:
                yield from self._mailshot(self._source.choice(self._mailshots), now)

    def _order(self) -> Iterator[Template]:
        turn = 0
        while True:
            turn += 1
            deck = list(self._steady)
            self._source.shuffle(deck)
            if turn == 1:
                deck.sort(key=lambda template: OPENING not in template.name)
            if turn % RARE_EVERY == 1:
                deck[len(deck) // 4 : len(deck) // 4] = self._rare
            yield from deck

    def _mailshot(self, template: Template, now: Callable[[], datetime]) -> Iterator[Posting]:
        campaign = str(self._source.randint(100, 999))
        for _ in range(MAILSHOT_SIZE):
            # identical but for the recipient: that is what makes it a mailshot
            yield Posting(0.1 / self._rate, template.fill(self._source, now(), campaign=campaign))


def _rare(template: Template) -> bool:
    return any(word in template.name for word in RARE)


class Feed:
    """Posts what the script says until it is cancelled."""

    def __init__(self, script: Script, host: str, port: int, *, journal: Journal | None = None) -> None:
        self._script = script
        self._host = host
        self._port = port
        self._journal = journal or Journal()
        self.taken = 0
        self.not_taken = 0

    async def run(self) -> None:
        for posting in self._script.postings(lambda: datetime.now(UTC)):
            await asyncio.sleep(posting.after)
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await post(self._host, self._port, posting.mail)
            except (Refused, OSError, TimeoutError, EOFError, ValueError) as problem:
                self.not_taken += 1
                self._journal.note("feed", f"{posting.mail.name} not taken: {problem or type(problem).__name__}")
                await asyncio.sleep(PATIENCE)
            else:
                self.taken += 1


def make_feed(host: str, port: int, *, seed: int, rate: float, journal: Journal) -> Feed:
    """The feed with the demo's own corpus."""
    return Feed(Script(load(), seed=seed, rate=rate), host, port, journal=journal)


async def post(host: str, port: int, mail: Mail) -> str:
    """One message over one connection; the reply to the final dot. Refused when the gateway says no."""
    async with _connection(host, port, _source_address(mail.sender)) as (reader, writer):
        await _expect(reader, "2")
        features = await _command(reader, writer, "EHLO feed.demo.example", "2")
        eight_bit = " BODY=8BITMIME" if "8BITMIME" in features.upper() and not mail.content.isascii() else ""
        await _command(reader, writer, f"MAIL FROM:<{mail.sender}>{eight_bit}", "2")
        for recipient in mail.recipients:
            await _command(reader, writer, f"RCPT TO:<{recipient}>", "2")
        await _command(reader, writer, "DATA", "3")
        content = mail.content if mail.content.endswith(b"\r\n") else mail.content + b"\r\n"
        # RFC 5321 4.5.2: a line that begins with a dot gets one more
        writer.write((b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        reply = await _expect(reader, "2")
        with contextlib.suppress(OSError, EOFError, Refused):  # it is taken, whatever comes now
            await _command(reader, writer, "QUIT", "2")
        return reply


@contextlib.asynccontextmanager
async def _connection(
    host: str, port: int, source: tuple[str, int] | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    try:
        reader, writer = await asyncio.open_connection(host, port, local_addr=source)
    except OSError:
        if source is None:
            raise
        # Not every system lets a program call from any address of 127.0.0.0/8.
        reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _source_address(sender: str) -> tuple[str, int]:
    """Each sending domain calls from its own loopback address, so that there is something to tell apart."""
    digest = hashlib.sha256(sender.rpartition("@")[2].encode()).digest()
    return f"127.{1 + digest[0] % 200}.{digest[1]}.{1 + digest[2] % 254}", 0


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: str, wanted: str) -> str:
    writer.write(line.encode() + b"\r\n")
    return await _expect(reader, wanted)


async def _expect(reader: asyncio.StreamReader, wanted: str) -> str:
    """A reply, possibly of several lines (RFC 5321 4.2.1)."""
    lines: list[str] = []
    while True:
        line = (await reader.readuntil(b"\n")).decode("utf-8", "replace").rstrip()
        lines.append(line)
        if line[3:4] != "-":
            break
    if not line.startswith(wanted):
        raise Refused(line)
    return "\n".join(lines)
