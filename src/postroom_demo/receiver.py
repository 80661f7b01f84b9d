"""A next hop with realistic behaviour: an SMTP server (RFC 5321) whose replies follow a script.

    who                            what happens
    former.employee@, nobody@      550 no such user: refused for good
    full.mailbox@                  452 mailbox full, every time
    anyone@blocked.example.net     554 refused for policy
    anyone@greylist.example.org    451 until GREYLISTED after the first attempt, then accepted
    anyone@busy.example.com        421 and the connection ends, for the first two attempts of each sender
    anyone@slow.example.net        accepted, after SLOW
    everybody else                 accepted

Sometimes it also drops the connection, each time at another stage (`HANG_UPS`); one is after the final dot, so that the
sender does not know the result. Promises: counts mail, but keeps none; the same transactions in the same order get the
same replies. Fails: OSError when it cannot listen.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from postroom_demo.journal import Journal

GREYLISTED = 40.0  # seconds
SLOW = 4.0  # seconds
HANG_UPS = ("greeting", "rcpt", "data", "mail", "dot")  # in this order, one in each HANG_UP_EVERY sessions
HANG_UP_EVERY = 17
LONGEST_LINE = 1 << 20  # of a message; RFC 5321 4.5.3.1.6 allows 1000, real mail does not keep to it
REMEMBERED = 10_000  # (sender, recipient) pairs
IDLE = 300.0  # seconds (RFC 5321 4.5.3.2.7)

_PATH = re.compile(rb"(?:MAIL FROM|RCPT TO):\s*<([^<>]*)>", re.IGNORECASE)


@dataclass(slots=True)
class Counts:
    sessions: int = 0
    accepted: int = 0  # recipients, as everywhere here
    deferred: int = 0
    refused: int = 0
    hung_up: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    ends: bool = False  # the connection, after it
    wait: float = 0.0  # seconds before the message is acknowledged


class _HungUp(Exception):
    """The script says: now."""


class Receiver:
    """`now` gives seconds; `hang_ups` says for a session (from 1) at which stage it is cut, or ""."""

    def __init__(
        self,
        *,
        journal: Journal | None = None,
        now: Callable[[], float] | None = None,
        hang_ups: Callable[[int], str] | None = None,
    ) -> None:
        self.counts = Counts()
        self._journal = journal or Journal()
        self._now = now or asyncio.get_running_loop().time
        self._hang_ups = hang_ups or scripted_hang_up
        self._first_seen: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port, which is only news when 0 was asked for."""
        self._server = await asyncio.start_server(self._session, host, port, limit=LONGEST_LINE)
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    # -- the script

    def answer(self, sender: str, recipient: str) -> Reply:
        """The reply to a recipient; counts the attempt."""
        local, _, domain = recipient.lower().rpartition("@")
        first, attempts = self._attempt(sender.lower(), recipient.lower())
        if local in ("former.employee", "nobody"):
            return Reply(f"550 5.1.1 <{recipient}>: user unknown")
        if local == "full.mailbox":
            return Reply("452 4.2.2 mailbox full, try again later")
        if domain == "blocked.example.net":
            return Reply("554 5.7.1 message refused by the policy of this site")
        if domain == "greylist.example.org" and self._now() - first < GREYLISTED:
            return Reply("451 4.7.1 greylisted, try again in a minute")
        if domain == "busy.example.com" and attempts <= 2:
            return Reply("421 4.3.2 too many connections, closing", ends=True)
        return Reply("250 2.1.5 recipient ok", wait=SLOW if domain == "slow.example.net" else 0.0)

    def _attempt(self, sender: str, recipient: str) -> tuple[float, int]:
        first, attempts = self._first_seen.get((sender, recipient), (self._now(), 0))
        self._first_seen[sender, recipient] = (first, attempts + 1)
        self._first_seen.move_to_end((sender, recipient))
        if len(self._first_seen) > REMEMBERED:
            self._first_seen.popitem(last=False)
        return first, attempts + 1

    # -- the protocol

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        self.counts.sessions += 1
        conversation = _Conversation(self, reader, writer, self._hang_ups(self.counts.sessions))
        try:
            await conversation.talk()
        except _HungUp as stage:
            self.counts.hung_up += 1
            self._journal.note("receiver", f"hung up at {stage}")
            writer.transport.abort()  # a reset, not a polite end
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._sessions.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def note(self, text: str) -> None:
        self._journal.note("receiver", text)


class _Conversation:
    """One connection, command by command; what the peer pipelines waits in the reader (RFC 2920)."""

    def __init__(
        self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hang_up: str
    ) -> None:
        self._receiver = receiver
        self._reader = reader
        self._writer = writer
        self._hang_up = hang_up
        self._sender: str | None = None
        self._recipients: list[Reply] = []

    async def talk(self) -> None:
        self._cut("greeting")
        await self._say("220 mx.receiver.example ESMTP scripted receiver of the demo")
        while line := await self._line():
            verb = line[:4].upper().rstrip()
            if verb == b"QUIT":
                await self._say("221 2.0.0 bye")
                return
            if verb == b"EHLO":
                await self._say("250-mx.receiver.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES")
            elif verb in (b"HELO", b"RSET", b"NOOP"):
                self._forget()
                await self._say("250 2.0.0 ok")
            elif verb == b"MAIL":
                await self._mail(line)
            elif verb == b"RCPT":
                if await self._rcpt(line):
                    return
            elif verb == b"DATA":
                await self._data()
            else:
                await self._say("502 5.5.1 not a command of this server")

    async def _mail(self, line: bytes) -> None:
        self._cut("mail")
        path = _PATH.match(line)
        if path is None:
            return await self._say("501 5.5.4 expected MAIL FROM:<address>")
        self._forget()
        self._sender = path[1].decode("utf-8", "replace")
        await self._say("250 2.1.0 ok")

    async def _rcpt(self, line: bytes) -> bool:
        """True when the connection has ended."""
        path = _PATH.match(line)
        if self._sender is None or path is None:
            await self._say("503 5.5.1 expected MAIL FROM:<address>, then RCPT TO:<address>")
            return False
        self._cut("rcpt")
        recipient = path[1].decode("utf-8", "replace")
        reply = self._receiver.answer(self._sender, recipient)
        counts = self._receiver.counts
        if reply.text[0] == "2":
            self._recipients.append(reply)
        else:
            counts.deferred += reply.text[0] == "4"
            counts.refused += reply.text[0] == "5"
            self._receiver.note(f"{reply.text} (from <{self._sender}> to <{recipient}>)")
        await self._say(reply.text)
        return reply.ends

    async def _data(self) -> None:
        if not self._recipients:
            return await self._say("554 5.5.1 no valid recipients")  # RFC 5321 3.3: also after pipelined RCPTs
        await self._say("354 end with <CRLF>.<CRLF>")
        self._cut("data")
        size = 0
        while (line := await self._raw_line()) != b".\r\n":
            size += len(line)
        self._cut("dot")
        await asyncio.sleep(max(reply.wait for reply in self._recipients))
        self._receiver.counts.accepted += len(self._recipients)
        await self._say(f"250 2.0.0 taken, {size} bytes for {len(self._recipients)}")
        self._forget()

    def _forget(self) -> None:
        self._sender, self._recipients = None, []

    def _cut(self, stage: str) -> None:
        if self._hang_up == stage:
            raise _HungUp(stage)

    async def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")
        await self._writer.drain()

    async def _line(self) -> bytes:
        """A command, or nothing at the end of the connection."""
        async with asyncio.timeout(IDLE):
            return (await self._reader.readline()).rstrip(b"\r\n")

    async def _raw_line(self) -> bytes:
        async with asyncio.timeout(IDLE):
            return await self._reader.readuntil(b"\n")


def scripted_hang_up(session: int) -> str:
    """The stage at which the n-th session (from 1) is cut; the first ones never are."""
    turn, rest = divmod(session, HANG_UP_EVERY)
    return HANG_UPS[(turn - 1) % len(HANG_UPS)] if turn and not rest else ""
